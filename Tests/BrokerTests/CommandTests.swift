import Broker
import STOMP
import Testing

struct FaultyFrame: CustomTestStringConvertible, Sendable {
    var command: Command
    var headers: [[String]]
    var message: String
    var version = Version.v1_2

    var testDescription: String { "\(command) \(headers) in \(version.text)" }
}

private let faultyFrames: [FaultyFrame] = [
    FaultyFrame(command: .send, headers: [], message: "Missing destination"),
    FaultyFrame(command: .subscribe, headers: [["id", "1"]], message: "Missing destination"),
    FaultyFrame(command: .subscribe, headers: [["destination", "/topic/t"]], message: "Missing header"),
    FaultyFrame(
        command: .subscribe, headers: [["destination", "/topic/t"]], message: "Missing header", version: .v1_1),
    FaultyFrame(
        command: .subscribe, headers: [["destination", "/topic/t"], ["id", "1"], ["ack", "maybe"]],
        message: "Invalid ack mode"),
    FaultyFrame(
        command: .subscribe, headers: [["destination", "/topic/t"], ["id", "taken"]],
        message: "Duplicated subscription identifier"),
    FaultyFrame(
        command: .subscribe, headers: [["destination", "/topic/t"], ["id", "1"], ["selector", "a = 1"]],
        message: "Selectors are not supported"),
    FaultyFrame(
        command: .subscribe, headers: [["destination", "/topic/t"], ["id", "1"], ["filter", "a=1"]],
        message: "Selectors are not supported"),
    FaultyFrame(
        command: .subscribe, headers: [["destination", "/queue/"], ["id", "1"]], message: "Invalid destination"),
    FaultyFrame(command: .unsubscribe, headers: [["id", "1"]], message: "Subscription not found"),
    FaultyFrame(command: .unsubscribe, headers: [], message: "Missing header"),
    FaultyFrame(command: .begin, headers: [], message: "Missing header"),
    FaultyFrame(command: .begin, headers: [["transaction", ""]], message: "Missing header"),
    FaultyFrame(command: .commit, headers: [["transaction", "none"]], message: "Unknown transaction"),
    FaultyFrame(command: .abort, headers: [["transaction", "none"]], message: "Unknown transaction"),
    FaultyFrame(command: .ack, headers: [], message: "Missing header"),
    FaultyFrame(command: .nack, headers: [], message: "Missing header"),
    FaultyFrame(command: .unsubscribe, headers: [], message: "Missing header", version: .v1_0),
    FaultyFrame(command: .ack, headers: [["id", "x"]], message: "Message not found"),
    FaultyFrame(command: .ack, headers: [], message: "Missing header", version: .v1_0),
    FaultyFrame(command: .nack, headers: [["id", "x"], ["requeue", "maybe"]], message: "Invalid header"),
    FaultyFrame(command: .nack, headers: [["message-id", "x"]], message: "Missing header", version: .v1_1),
]

@Suite("Commands of a session that is CONNECTED")
struct CommandTests {
    @Test(
        "A faulty frame is answered with ERROR and the end, and nothing behind it is processed", arguments: faultyFrames
    )
    func faults(fault: FaultyFrame) {
        withBroker { broker in
            let witness = broker.connect()
            witness.subscribe("/topic/witness")
            let client = broker.connect(fault.version)
            client.subscribe("/topic/mine", id: "taken")
            client.publish("/topic/witness", "before")
            client.send(fault.command, fault.headers.map { ($0[0], $0[1]) } + [("receipt", "r")])
            client.publish("/topic/witness", "behind")
            client.expectError(fault.message, receipt: "r")
            #expect(witness.bodies() == ["before"])
        }
    }

    @Test(
        "Each frame but CONNECT is confirmed in order, on any number of workers", arguments: [1, 2, 8], Version.allCases
    )
    func receipts(shards: Int, version: Version) {
        withBroker(shards: shards) { broker in
            let client = broker.connect(version, on: shards - 1)
            var expected: [String] = []
            func send(_ command: Command, _ headers: [(String, String)], _ body: String = "") {
                expected.append("\(expected.count)")
                client.send(command, headers + [("receipt", expected.last!)], body)
            }
            for round in 0..<5 {
                send(.subscribe, [("destination", "/queue/q\(round)"), ("id", "q\(round)"), ("ack", "client")])
                send(.subscribe, [("destination", "/topic/t\(round)"), ("id", "t\(round)")])
                send(.begin, [("transaction", "x")])
                send(.send, [("destination", "/queue/other\(round)"), ("transaction", "x"), ("ttl", "1000")], "x")
                send(.send, [("destination", "/topic/none")], "x")
                send(.send, [("destination", "/queue/else\(round)"), ("ttl", "1000")], "x")
                send(round % 2 == 0 ? .commit : .abort, [("transaction", "x")])
                send(.unsubscribe, [("id", "q\(round)"), ("destination", "/queue/q\(round)")])
                send(.unsubscribe, [("id", "t\(round)"), ("destination", "/topic/t\(round)")])
            }
            send(.disconnect, [])
            broker.run()
            #expect(client.takeFrames().map { $0["receipt-id"] } == expected)
            #expect(client.socket.isWriteShutDown)
            broker.advance(milliseconds: 2_000)
        }
    }

    @Test("A RECEIPT for SEND means that another connection finds the message, wherever it is", arguments: [2, 8])
    func receiptOfSend(shards: Int) {
        withBroker(shards: shards) { broker in
            let sender = broker.connect(on: 0)
            for queue in 0..<16 {
                sender.send(.send, [("destination", "/queue/q\(queue)"), ("receipt", "r")], "x")
                // The workers run in a fixed order, each once, until the receipt is there.
                var isConfirmed = false
                for turn in 0..<40 where !isConfirmed {
                    broker.turn(turn % shards)
                    isConfirmed = sender.frame() != nil
                }
                #expect(isConfirmed)
                let owner = (0..<shards).reduce(0) { $0 + broker.audit($1).entries }
                #expect(owner == queue + 1)
            }
            let reader = broker.connect(on: shards - 1)
            for queue in 0..<16 { reader.subscribe("/queue/q\(queue)", id: "\(queue)") }
            #expect(reader.messages().count == 16)
        }
    }

    @Test(
        "A connection that dies while its SUBSCRIBE waits leaves nothing", arguments: 0...8,
        ["/topic/t", "/topic/#", "/queue/a", "/queue/b", "/queue/c"])
    func diesWhileSubscribing(turns: Int, destination: String) {
        withBroker(shards: 4) { broker in
            let client = broker.connect(on: 1)
            let other = broker.connect(on: 1)
            client.subscribe(destination)
            other.subscribe(destination)
            for turn in 0..<turns { broker.turn((turn + 1) % 4) }
            client.reset()
            broker.run()
            broker.connect(on: 2).publish(destination == "/topic/#" ? "/topic/x" : destination, "x")
            #expect(other.bodies() == ["x"])
        }
    }

    @Test("Subscriptions are bounded", arguments: [1, 2])
    func tooManySubscriptions(shards: Int) {
        let options = TestBroker.options { $0.limits.subscriptionsPerConnectionMax = 5 }
        withBroker(shards: shards, options) { broker in
            let client = broker.connect()
            for id in 0..<5 { client.subscribe("/topic/t", id: "\(id)") }
            client.send(.subscribe, [("destination", "/topic/t"), ("id", "5"), ("receipt", "r")])
            client.expectError("Too many subscriptions", receipt: "r")
        }
    }

    @Test("An ending connection has time to read what is due to it while it reads")
    func readsToTheEnd() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/topic/t")
            broker.run()
            client.socket.room = 0
            for index in 0..<10 { client.publish("/topic/t", "\(index)" + String(repeating: "x", count: 10_000)) }
            client.hangUp()
            broker.run()
            for _ in 0..<9 {
                broker.advance(milliseconds: 2_000)
                #expect(!client.socket.isClosed)
                client.socket.room = 10_300
                broker.run()
            }
            client.socket.room = .max
            #expect(client.messages().count == 10)
            #expect(client.socket.isClosed)

            let stuck = broker.connect()
            stuck.subscribe("/topic/t")
            broker.run()
            stuck.socket.room = 0
            stuck.publish("/topic/t", "x")
            stuck.send(.disconnect)
            broker.advance(milliseconds: 3_100)
            #expect(stuck.socket.isClosed)
        }
    }
}
