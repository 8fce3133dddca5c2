import Broker
import Glibc
import IO
import STOMP
import Testing

/// RECEIPTs that wait for a log, and for somebody who is asked.
@Suite("Conditions of receipts")
struct ReceiptConditionTests {
    private static let options = TestBroker.options { $0.receiptConditions = .external }

    /// What is asked since the last call.
    private func questions(_ broker: TestBroker, _ shard: Int = 0) -> [ReceiptQuestion] {
        broker.run()
        return broker.shard(shard).pointee.takeReceiptQuestions()
    }

    private func makeDurable(_ broker: TestBroker, upTo position: LogPosition, _ shard: Int = 0) {
        broker.kernel.post(Completion(.durable, address: position), to: shard)
        broker.run()
    }

    private func decide(_ broker: TestBroker, _ question: ReceiptQuestion, _ isAllowed: Bool = true, _ shard: Int = 0) {
        broker.kernel.post(
            Completion(.permitted, connection: question.question, value: isAllowed ? 0 : -EACCES), to: shard)
        broker.run()
    }

    private func receipts(_ client: Client) -> [String?] { client.takeFrames().map { $0["receipt-id"] } }

    @Test("A RECEIPT waits for the log and for permission; what it confirms is applied before")
    func send() throws {
        try withBroker(queued: 2, Self.options) { broker in
            let client = broker.connect()
            client.publish("/queue/a", "1", [("receipt", "x")])
            client.publish("/queue/a", "2")
            let question = try #require(questions(broker).first)
            #expect(question.receipt == Array("x".utf8) && question.position == 1 && question.workers == [])
            #expect(broker.audit().entries == 2)
            decide(broker, question)
            #expect(client.frame() == nil)
            makeDurable(broker, upTo: 1)
            #expect(receipts(client) == ["x"])
            #expect(questions(broker).isEmpty)
        }
    }

    @Test("Other workers are waited for, too")
    func workers() throws {
        try withBroker(shards: 2, queued: 1, Self.options) { broker in
            let queue = broker.queueNames(ownedBy: 1)[0]
            let client = broker.connect(on: 0)
            client.publish(queue, "1", [("receipt", "x")])
            broker.turn(0)
            let question = try #require(broker.shard(0).pointee.takeReceiptQuestions().first)
            #expect(question.workers == [1])
            broker.kernel.post(Completion(.durable, address: 1), to: 0)
            broker.kernel.post(Completion(.permitted, connection: question.question), to: 0)
            broker.turn(0)
            #expect(client.frame() == nil)
            broker.run()
            #expect(receipts(client) == ["x"])
        }
    }

    @Test("Receipts leave in order, whatever is decided first")
    func order() {
        withBroker(Self.options) { broker in
            let client = broker.connect()
            client.send(.begin, [("transaction", "t"), ("receipt", "1")])
            client.publish("/topic/a", "1", [("transaction", "t"), ("receipt", "2")])
            client.send(.commit, [("transaction", "t"), ("receipt", "3")])
            let asked = questions(broker)
            #expect(asked.map(\.receipt) == ["1", "2", "3"].map { Array($0.utf8) })
            makeDurable(broker, upTo: 2)
            decide(broker, asked[2])
            decide(broker, asked[1])
            #expect(client.frame() == nil)
            decide(broker, asked[0])
            #expect(receipts(client) == ["1", "2"])
            makeDurable(broker, upTo: 3)
            #expect(receipts(client) == ["3"])
        }
    }

    @Test("SUBSCRIBE is applied when its RECEIPT may leave, which comes before the first MESSAGE", arguments: [1, 2])
    func subscribe(shards: Int) throws {
        try withBroker(shards: shards, Self.options) { broker in
            let publisher = broker.connect()
            let client = broker.connect()
            for destination in ["/queue/a", "/queue/b", "/topic/c"] {
                publisher.publish(destination, "before")
                broker.run()
                client.subscribe(destination, id: destination, [("receipt", destination)])
                client.publish(destination, "behind")
                let question = try #require(questions(broker).first)
                #expect(client.takeFrames().isEmpty)
                decide(broker, question)
                makeDurable(broker, upTo: question.position)
                let frames = client.takeFrames()
                #expect(frames.first?["receipt-id"] == destination)
                let expected = destination == "/topic/c" ? ["behind"] : ["before", "behind"]
                #expect(frames.dropFirst().map(\.text) == expected)
                #expect(questions(broker).isEmpty)
            }
            // Without a receipt nobody is asked.
            client.subscribe("/topic/d", id: "d")
            broker.run()
            publisher.publish("/topic/d", "1")
            #expect(client.bodies() == ["1"])
        }
    }

    @Test("DISCONNECT ends the connection when its RECEIPT leaves, the last frame")
    func disconnect() throws {
        try withBroker(queued: 1, Self.options) { broker in
            let client = broker.connect()
            client.publish("/queue/a", "1", [("receipt", "1")])
            client.send(.disconnect, [("receipt", "2")])
            client.publish("/queue/a", "behind DISCONNECT")
            let first = try #require(questions(broker).first)
            #expect(first.receipt == Array("1".utf8))
            makeDurable(broker, upTo: first.position)
            decide(broker, first)
            #expect(receipts(client) == ["1"])
            let second = try #require(questions(broker).first)
            #expect(second.receipt == Array("2".utf8))
            decide(broker, second)
            #expect(client.frame() == nil && !client.socket.isWriteShutDown)
            makeDurable(broker, upTo: second.position)
            #expect(receipts(client) == ["2"])
            #expect(client.socket.isWriteShutDown)
        }
    }

    @Test("A frame that is not permitted is answered with ERROR, and the connection ends", arguments: 0..<3)
    func refused(place: Int) {
        withBroker(Self.options) { broker in
            let client = broker.connect()
            let other = broker.connect()
            for id in ["1", "2", "3"] { client.publish("/topic/a", id, [("receipt", id)]) }
            other.publish("/topic/a", "x", [("receipt", "x")])
            let asked = questions(broker)
            #expect(asked.count == 4)
            decide(broker, asked[place], false)
            client.expectError("Access refused", receipt: "\(place + 1)")
            // Too late for these.
            for question in asked.prefix(3) { decide(broker, question) }
            makeDurable(broker, upTo: 4)
            decide(broker, asked[3])
            #expect(receipts(other) == ["x"])
            #expect(broker.counters.staleCompletions >= 3)
        }
    }

    @Test("A SUBSCRIBE or DISCONNECT that is not permitted is not applied", arguments: ["SUBSCRIBE", "DISCONNECT"])
    func refusedGate(command: String) throws {
        try withBroker(Self.options) { broker in
            let client = broker.connect()
            client.write("\(command)\nid:0\ndestination:/topic/a\nreceipt:r\n\n\0")
            let question = try #require(questions(broker).first)
            #expect(broker.audit().subscriptions == 0)
            decide(broker, question, false)
            client.expectError("Access refused", receipt: "r")
        }
    }

    @Test("A client that leaves meanwhile leaves nothing behind", arguments: [true, false])
    func left(isReset: Bool) throws {
        try withBroker(queued: 1, Self.options) { broker in
            let client = broker.connect()
            client.publish("/queue/a", "1", [("receipt", "1")])
            client.subscribe("/topic/a", [("receipt", "2")])
            let first = try #require(questions(broker).first)
            if isReset { client.reset() } else { client.hangUp() }
            broker.run()
            #expect(broker.audit().sessions == (isReset ? 0 : 1))
            makeDurable(broker, upTo: first.position)
            decide(broker, first)
            let second = questions(broker)
            #expect(second.count == (isReset ? 0 : 1))
            for question in second {
                decide(broker, question)
                makeDurable(broker, upTo: question.position)
                #expect(receipts(client) == ["1", "2"])
            }
            #expect(broker.audit().sessions == 0 || client.socket.isWriteShutDown)
        }
    }

    @Test("A drain ends connections whose receipts nobody decides")
    func drain() {
        withBroker(Self.options) { broker in
            let client = broker.connect()
            client.publish("/topic/a", "1", [("receipt", "1")])
            #expect(questions(broker).count == 1)
            broker.kernel.beginDrain()
            broker.advance(milliseconds: 40_000)
            #expect(client.socket.isClosed)
        }
    }
}
