import Broker
import FakeKernel
import Glibc
import IO
import STOMP
import Testing

/// Messages that leave memory: in the log alone until their turn comes.
@Suite("Messages in the log alone")
struct ColdMessageTests {
    private static let persistent = [("persistent", "true")]

    /// All that comes to a queue with two ready messages leaves memory.
    private static func start(
        _ disk: FakeDisk = FakeDisk(), shards: Int = 1, readByteCountMax: Int = 1000,
        _ change: (inout BrokerOptions) -> Void = { _ in }
    ) -> TestBroker {
        StoreFixture.start(disk, shards: shards) {
            $0.storage?.cold.fillPercent = 0
            $0.storage?.cold.readyCountMin = 2
            $0.storage?.cold.readByteCountMax = readByteCountMax
            $0.storage?.cold.aheadByteCountMax = 60
            $0.limits.prefetchCountMax = 5
            change(&$0)
        }
    }

    private func counts(_ broker: TestBroker, _ queue: String = "/queue/a") -> [Int] {
        let shard = broker.shard(broker.owner(ofQueue: queue))
        let counts = shard.pointee.coldCounts(ofQueue: queue)
        return [counts.ready, counts.cold, counts.behind]
    }

    private static func texts(_ numbers: ClosedRange<Int>) -> [String] { numbers.map { "\($0)" } }

    private func fill(_ client: Client, _ numbers: ClosedRange<Int>, _ headers: [(String, String)] = persistent) {
        for number in numbers { client.publish("/queue/a", "\(number)", headers) }
        client.broker.settle()
    }

    /// Takes and acknowledges messages until none comes. Returns their bodies.
    private func drain(_ client: Client, atMost count: Int = .max) -> [String] {
        var bodies: [String] = []
        while bodies.count < count, case let messages = client.messages(), !messages.isEmpty {
            for message in messages {
                bodies.append(message.text)
                client.ack(message)
            }
        }
        client.broker.run()
        return bodies
    }

    @Test(
        "A queue beyond memory is given out in order, and nothing of it is left", arguments: [1, 3],
        [64, 1000, 1 << 20])
    func inOrder(shards: Int, readByteCountMax: Int) {
        let broker = Self.start(shards: shards, readByteCountMax: readByteCountMax)
        let publisher = broker.connect()
        fill(publisher, 1...300)
        let filled = counts(broker)
        #expect(filled[1] > 200 && filled[2] == 0)
        #expect(broker.counters.messagesCooled > 200)
        let consumer = broker.connect(on: shards - 1)
        consumer.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(consumer, atMost: 100).prefix(100) == Self.texts(1...100)[...])
        // What comes meanwhile is behind all of it.
        fill(publisher, 301...320)
        let rest = drain(consumer)
        #expect(rest.last == "320" && rest.count >= 215)
        #expect(counts(broker) == [0, 0, 0])
        broker.finish()
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == [])
    }

    @Test("What is not in its file yet is taken from memory, while the disk hangs", arguments: [1, 4096])
    func staged(blockByteCount: Int) {
        let broker = Self.start { $0.storage?.blockByteCount = blockByteCount }
        let publisher = broker.connect()
        publisher.confirmed(.send, [("destination", "/queue/b")] + Self.persistent, "first")
        broker.holdDisk()
        fill(publisher, 1...50)
        let consumer = broker.connect()
        consumer.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(consumer) == Self.texts(1...50))
    }

    @Test("Messages that are not persistent leave memory too, in their order, and end with the broker")
    func transient() {
        var broker = Self.start()
        var client = broker.connect()
        for number in 1...40 { client.publish("/queue/a", "\(number)", number % 2 == 0 ? Self.persistent : []) }
        broker.settle()
        #expect(counts(broker)[1] > 30)
        broker = Self.start(broker.disk.restarted(afterPowerCut: false))
        client = broker.connect()
        #expect(counts(broker)[1] > 10)
        client.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(client) == stride(from: 2, through: 40, by: 2).map { "\($0)" })
        broker.finish()

        broker = Self.start()
        client = broker.connect()
        fill(client, 1...40, [])
        client.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(client) == Self.texts(1...40))
        broker.finish()
    }

    @Test(
        "After a crash a queue beyond memory stays on the disk, and is given out in order", arguments: [1, 2], [1, 3])
    func restart(before: Int, after: Int) {
        var broker = Self.start(shards: before)
        var client = broker.connect()
        fill(client, 1...200)
        for life in 1...3 {
            broker = Self.start(broker.disk.restarted(afterPowerCut: life % 2 == 0), shards: after)
            #expect(counts(broker).reduce(0, +) >= 200)
            client = broker.connect()
            fill(client, 1000 + life * 10...1003 + life * 10)
        }
        client.subscribe("/queue/a", ack: "client-individual")
        let first = client.messages()
        #expect(first.allSatisfy { $0["redelivered"] == "true" })
        for message in first { client.ack(message) }
        let bodies = first.map(\.text) + drain(client)
        var expected = Self.texts(1...200)
        for life in 1...3 { expected += Self.texts(1000 + life * 10...1003 + life * 10) }
        #expect(bodies == expected)
        broker.finish()
    }

    @Test("A message that is refused comes back before those on the disk; after its last chance it is a dead letter")
    func refused() {
        let broker = Self.start {
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.deliveryCountMax = 3
            $0.destinationPolicies = [policy]
        }
        let client = broker.connect()
        fill(client, 1...50)
        client.subscribe("/queue/a", ack: "client-individual")
        var seen: [String] = []
        while case let messages = client.messages(), !messages.isEmpty {
            for message in messages {
                seen.append(message.text)
                client.ack(message, nack: message.text == "7")
            }
        }
        #expect(seen.filter { $0 == "7" }.count == 3)
        #expect(seen.filter { $0 != "7" } == Self.texts(1...50).filter { $0 != "7" })
        client.subscribe("/queue/DLQ", id: "d")
        #expect(client.bodies() == ["7"])
        broker.finish()
    }

    @Test("Messages whose time is over are found when they are read, and are dead letters where others are")
    func expired() {
        let broker = Self.start {
            var policy = DestinationPolicy(pattern: "/queue/a")
            policy.deadLettersExpired = true
            $0.destinationPolicies = [policy]
        }
        let client = broker.connect()
        for number in 1...60 {
            client.publish("/queue/a", "\(number)", Self.persistent + (number % 3 == 0 ? [] : [("ttl", "100")]))
        }
        broker.run()
        broker.advance(milliseconds: 200)
        client.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(client) == stride(from: 3, through: 60, by: 3).map { "\($0)" })
        client.subscribe("/queue/DLQ", id: "d", ack: "client-individual")
        #expect(drain(client).count == 40)
        broker.finish()
    }

    @Test("A transaction's messages have their place behind those on the disk, and leave memory after them")
    func transactions() {
        let broker = Self.start()
        let client = broker.connect()
        fill(client, 1...10)
        for transaction in 1...4 {
            client.send(.begin, [("transaction", "t")])
            for number in 0..<5 {
                client.publish(
                    "/queue/a", "\(transaction * 100 + number)",
                    [("transaction", "t")] + (number == 3 ? [] : Self.persistent))
            }
            client.confirmed(.commit, [("transaction", "t")])
        }
        #expect(counts(broker)[2] == 0)
        client.subscribe("/queue/a", ack: "client-individual")
        var expected = Self.texts(1...10)
        for transaction in 1...4 { expected += Self.texts(transaction * 100...transaction * 100 + 4) }
        #expect(drain(client) == expected)
        broker.finish()
    }

    @Test("Where the oldest make room, they are read first; what exceeds the queue's limit goes")
    func dropOldest() {
        let broker = Self.start {
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.overflow = .dropOldest
            policy.queueMessageCountMax = 20
            policy.deadLetterDestination = ""
            $0.destinationPolicies = [policy]
        }
        let client = broker.connect()
        fill(client, 1...100)
        client.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(client) == Self.texts(81...100))
        broker.finish()
    }

    @Test("Two full queues that are each other's dead-letter queue come to rest", arguments: [1, 2])
    func circle(shards: Int) {
        let broker = Self.start(shards: shards) {
            $0.storage?.cold.readyCountMin = 1
            $0.storage?.cold.aheadByteCountMax = 1
        }
        let client = broker.connect()
        let names = (0..<2).map { broker.queueNames(ownedBy: $0 % shards)[$0] }
        for (name, other) in zip(names, names.reversed()) {
            let limits = [("x-max-length", "2"), ("x-overflow", "drop-head"), ("x-dead-letter-routing-key", other)]
            for number in 1...2 { client.publish(name, "\(number)", Self.persistent + limits) }
        }
        broker.settle()
        for name in names { #expect(counts(broker, name)[1] == 1) }
        client.publish(names[0], "3", Self.persistent)
        broker.kernel.run(turnCountMax: 1000)
        #expect(broker.counters.messagesDropped == 1)
        for name in names {
            client.subscribe(name, id: name, ack: "client-individual")
            #expect(drain(client) == (name == names[0] ? ["2", "3"] : ["1", "2"]))
        }
        broker.finish()
    }

    @Test("A durable subscription that is full has its oldest messages make room, whatever overflow says")
    func durable() {
        let broker = Self.start {
            var policy = DestinationPolicy(pattern: "/topic/#")
            policy.overflow = .reject
            policy.queueMessageCountMax = 20
            policy.deadLetterDestination = "/queue/dead"
            $0.destinationPolicies = [policy]
        }
        let name = "/dsub/id/0/topic/a"
        let subscription = [
            ("destination", "/topic/a"), ("id", "0"), ("ack", "client-individual"), ("durable", "true"),
        ]
        let client = broker.connect()
        client.confirmed(.subscribe, subscription)
        client.confirmed(.unsubscribe, [("id", "0")])
        let publisher = broker.connect()
        for number in 1...100 {
            publisher.confirmed(.send, [("destination", "/topic/a")] + Self.persistent, "\(number)")
        }
        broker.settle()
        #expect(counts(broker, name)[1] > 0)
        client.confirmed(.subscribe, subscription)
        #expect(drain(client) == Self.texts(81...100))
        #expect(counts(broker, "/queue/dead") == [0, 0, 0])
    }

    @Test("What an earlier life may have given out when it was due says so, also where it went to the disk since")
    func delayedAndRedelivered() {
        var broker = Self.start()
        var client = broker.connect()
        fill(client, 1...20)
        // Due before the next life begins.
        broker.stepWallClock(milliseconds: -10_000)
        client.confirmed(.send, [("destination", "/queue/a"), ("x-delay", "5000")] + Self.persistent, "due")
        broker = Self.start(broker.disk.restarted(afterPowerCut: true))
        broker.kernel.turn(0)
        broker.advance(milliseconds: 100)
        #expect(broker.audit().delayedMessages == 0)
        #expect(counts(broker)[1] > 10 && counts(broker)[2] == 0)
        client = broker.connect()
        client.subscribe("/queue/a", ack: "client-individual")
        var messages: [ClientFrame] = []
        while case let next = client.messages(), !next.isEmpty {
            messages += next
            for message in next { client.ack(message) }
        }
        #expect(messages.map(\.text) == Self.texts(1...20) + ["due"])
        #expect(messages.allSatisfy { $0["redelivered"] == "true" })
        broker.finish()
    }

    @Test("A queue that nobody uses loses what it has on the disk, too")
    func idle() {
        let broker = Self.start {
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.idleWithMessagesMillisecondsMax = 1000
            policy.queueMessageCountMax = 10_000
            $0.destinationPolicies = [policy]
        }
        let client = broker.connect()
        fill(client, 1...3000)
        broker.advance(milliseconds: 5000)
        #expect(counts(broker) == [0, 0, 0])
        #expect(broker.counters.messagesDropped == 3000)
        broker.finish()
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == [])
    }

    @Test("A damaged message is told of and not given out, nor is what is behind it; other queues go on")
    func damage() {
        let broker = Self.start()
        let client = broker.connect()
        fill(client, 1...20)
        client.publish("/queue/b", "other", Self.persistent)
        broker.run()
        let name = broker.disk.fileNames.first { $0.hasSuffix(".log") }!
        let bytes = broker.disk.contents(afterPowerCut: false)[name]!
        let content = Array("\n\n17\0".utf8)
        let place = bytes.indices.dropLast(8).first { Array(bytes[$0..<$0 + content.count]) == content }
        guard let place else {
            Issue.record("the message is not in the segment")
            return
        }
        broker.disk.corrupt(name, at: place + 2)
        client.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(client) == Self.texts(1...16))
        broker.advance(milliseconds: 5000)
        let notices = broker.notices.filter { $0.kind == .storageFailed }
        #expect(notices.count == 1)
        #expect(notices.first?.text.contains("checksum is wrong") == true)
        #expect(notices.first?.text.contains(name) == true)
        client.subscribe("/queue/b", id: "b")
        #expect(client.bodies() == ["other"])
        // The disk had it right, after all.
        broker.disk.corrupt(name, at: place + 2)
        broker.advance(milliseconds: 1000)
        #expect(drain(client) == Self.texts(17...20))
        broker.finish()
    }

    @Test("A read that fails is tried again", arguments: [Submission.Kind.openFile, .readFile], [EIO, EMFILE])
    func failedRead(kind: Submission.Kind, errno: Int32) {
        let broker = Self.start()
        let client = broker.connect()
        fill(client, 1...20)
        broker.disk.failures = (0..<3).map { _ in .init(kind, errno) }
        client.subscribe("/queue/a", ack: "client-individual")
        var bodies = drain(client)
        #expect(bodies.count < 20)
        for _ in 0..<10 {
            broker.advance(milliseconds: 300)
            bodies += drain(client)
        }
        #expect(bodies == Self.texts(1...20))
        #expect(broker.disk.failures.isEmpty)
        #expect(!broker.notices.contains { $0.kind == .storageFailed })
        broker.finish()
    }

    @Test("Messages on the disk are written again, so that the segments that they pin may go", arguments: [1, 2])
    func compaction(lives: Int) {
        var broker = Self.start()
        var client = broker.connect()
        // One in three messages of these segments stays.
        for number in 1...150 {
            client.publish("/queue/a", "\(number)", Self.persistent)
            client.publish("/queue/b", String(repeating: "x", count: 4000), Self.persistent)
        }
        broker.settle()
        if lives == 2 {
            broker = Self.start(broker.disk.restarted(afterPowerCut: true))
            client = broker.connect()
        }
        let other = broker.connect()
        other.subscribe("/queue/b", ack: "client-individual")
        #expect(drain(other).count == 150)
        for _ in 0..<400 {
            other.publish("/queue/b", String(repeating: "x", count: 4000), Self.persistent)
            _ = drain(other)
            broker.advance(milliseconds: 20)
        }
        let copied = broker.shard(0).pointee.coldCopyCount
        #expect(copied > 100)
        #expect(broker.disk.fileNames.count < 10)
        fill(client, 151...155)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true))
        client = broker.connect()
        client.subscribe("/queue/a", ack: "client-individual")
        #expect(drain(client) == Self.texts(1...155))
        broker.finish()
    }
}
