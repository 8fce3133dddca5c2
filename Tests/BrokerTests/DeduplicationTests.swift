import Broker
import FakeKernel
import STOMP
import Testing

/// Messages that are taken once, by `x-deduplication-id`.
@Suite("Deduplication")
struct DeduplicationTests {
    private static let persistent = [("persistent", "true")]

    private static func send(_ client: Client, _ queue: String, id: String, _ body: String, stored: Bool = false) {
        client.confirmed(
            .send, [("destination", queue), ("x-deduplication-id", id)] + (stored ? persistent : []), body)
    }

    private static func options(milliseconds: Int = 10_000, countMax: Int = 100) -> BrokerOptions {
        TestBroker.options {
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.deduplicationMilliseconds = milliseconds
            policy.deduplicationCountMax = countMax
            $0.destinationPolicies = [policy]
        }
    }

    @Test("A second message with the id is confirmed and not delivered, until the time is over", arguments: [1, 3])
    func window(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            let client = broker.connect()
            let consumer = broker.connect(on: shards - 1)
            for queue in ["/queue/a", "/queue/b", "/queue/c"] {
                consumer.subscribe(queue, id: queue)
                Self.send(client, queue, id: "1", "first")
                Self.send(client, queue, id: "1", "second")
                Self.send(client, queue, id: "2", "third")
            }
            let messages = consumer.messages()
            for queue in ["/queue/a", "/queue/b", "/queue/c"] {
                #expect(messages.filter { $0["destination"] == queue }.map(\.text) == ["first", "third"])
            }
            #expect(messages.allSatisfy { $0["x-deduplication-id"] != nil })
            #expect(broker.counters.messagesDeduplicated == 3)
            broker.advance(milliseconds: 9000)
            Self.send(client, "/queue/a", id: "1", "fourth")
            #expect(consumer.bodies() == [])
            broker.advance(milliseconds: 2000)
            Self.send(client, "/queue/a", id: "1", "fifth")
            #expect(consumer.bodies() == ["fifth"])
        }
    }

    @Test("Beyond the number of ids the oldest is forgotten; of other queues none is")
    func count() {
        withBroker(Self.options(countMax: 2)) { broker in
            let client = broker.connect()
            client.subscribe("/queue/a")
            client.subscribe("/queue/b", id: "b")
            Self.send(client, "/queue/b", id: "1", "b")
            for id in ["1", "2", "3", "3", "2", "1"] { Self.send(client, "/queue/a", id: id, id) }
            Self.send(client, "/queue/b", id: "1", "b")
            let bodies = client.takeFrames().map(\.text)
            #expect(bodies == ["b", "1", "2", "3", "1"])
        }
    }

    @Test("A message that was not taken leaves its id to the next")
    func refused() {
        var options = Self.options()
        options.destinationPolicies[0].queueMessageCountMax = 1
        withBroker(options) { broker in
            let client = broker.connect()
            client.publish("/queue/a", "0")
            client.publish("/queue/a", "1", [("x-deduplication-id", "1"), ("receipt", "r")])
            client.expectError("Queue full", receipt: "r")
            let other = broker.connect()
            other.subscribe("/queue/a")
            #expect(other.bodies() == ["0"])
            Self.send(other, "/queue/a", id: "1", "1")
            #expect(other.bodies() == ["1"])
            other.send(.unsubscribe, [("id", "0")])
            other.publish("/queue/a", "2")
            // A full queue does not keep a second one from being confirmed.
            Self.send(other, "/queue/a", id: "1", "again")
            other.subscribe("/queue/a")
            #expect(other.bodies() == ["2"])
        }
    }

    @Test("In a transaction an id counts from COMMIT on", arguments: [1, 3])
    func transactions(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            let client = broker.connect()
            client.subscribe("/queue/a", id: "a")
            client.subscribe("/queue/b", id: "b")
            for (end, body) in [(Command.abort, "1"), (.commit, "2"), (.commit, "3")] {
                client.confirmed(.begin, [("transaction", "t")])
                for queue in ["/queue/a", "/queue/b"] {
                    for _ in 0..<2 {
                        client.publish(queue, body, [("transaction", "t"), ("x-deduplication-id", "1")])
                    }
                }
                client.confirmed(end, [("transaction", "t")])
            }
            #expect(client.takeFrames().map(\.text) == ["2", "2"])
        }
    }

    @Test("Ids are compared as they are, whatever the version and the escapes")
    func escapes() {
        withBroker(Self.options()) { broker in
            let old = broker.connect(.v1_0)
            let new = broker.connect(.v1_2)
            let consumer = broker.connect()
            consumer.subscribe("/queue/a")
            Self.send(old, "/queue/a", id: "a:b", "1")
            Self.send(new, "/queue/a", id: "a:b", "2")
            Self.send(new, "/queue/a", id: "a\\b", "3")
            #expect(consumer.messages().map(\.text) == ["1", "3"])
        }
    }

    @Test("Topics refuse it, and so are ids that are empty or too long")
    func headers() {
        withBroker(Self.options()) { broker in
            for (destination, id, message) in [
                ("/topic/a", "1", "Unsupported header"), ("/queue/a", "", "Invalid header"),
                ("/queue/a", String(repeating: "x", count: 257), "Invalid header"),
            ] {
                let client = broker.connect()
                client.publish(destination, "", [("x-deduplication-id", id)])
                client.expectError(message)
            }
            let client = broker.connect(.v1_0)
            Self.send(client, "/queue/a", id: String(repeating: ":", count: 256), "long")
            client.subscribe("/queue/a")
            #expect(client.bodies() == ["long"])
        }
    }

    @Test("Where the window is 0 the header means nothing")
    func off() {
        withBroker(Self.options(milliseconds: 0)) { broker in
            let client = broker.connect()
            for _ in 0..<2 { Self.send(client, "/queue/a", id: "1", "x") }
            client.subscribe("/queue/a")
            #expect(client.bodies() == ["x", "x"])
        }
    }

    @Test("There are as many ids as the limit says", arguments: [1, 3])
    func limit(shards: Int) {
        var options = Self.options()
        options.limits.deduplicationIDCountMax = 2
        withBroker(shards: shards, options) { broker in
            let client = broker.connect()
            client.subscribe("/queue/a")
            for id in ["1", "2", "3"] { Self.send(client, "/queue/a", id: id, id) }
            #expect(client.takeFrames().map(\.text) == ["1", "2", "3"])
            let same = (0..<200).map { "/queue/n\($0)" }.first {
                broker.owner(ofQueue: $0) == broker.owner(ofQueue: "/queue/a")
            }!
            client.publish(same, "", [("x-deduplication-id", "1"), ("receipt", "r")])
            client.expectError("Too many deduplication ids", receipt: "r")
        }
    }

    @Test("Of delayed messages the id counts when they are taken")
    func delayed() {
        withBroker(Self.options()) { broker in
            let client = broker.connect()
            client.subscribe("/queue/a")
            for _ in 0..<2 {
                client.confirmed(
                    .send, [("destination", "/queue/a"), ("x-deduplication-id", "1"), ("x-delay", "3000")], "x")
            }
            broker.advance(milliseconds: 4000)
            #expect(client.bodies() == ["x"])
        }
    }

    // MARK: Stored

    @Test("The RECEIPT of the second waits until the first is on stable storage")
    func receipt() {
        let broker = StoreFixture.start(FakeDisk())
        let client = broker.connect()
        let other = broker.connect()
        broker.holdDisk()
        for (sender, receipt) in [(client, "1"), (other, "2")] {
            sender.publish("/queue/a", "x", Self.persistent + [("x-deduplication-id", "1"), ("receipt", receipt)])
            broker.run()
        }
        #expect(client.takeFrames().isEmpty && other.takeFrames().isEmpty)
        while broker.stepDisk() {}
        #expect(client.takeFrames().compactMap { $0["receipt-id"] } == ["1"])
        #expect(other.takeFrames().compactMap { $0["receipt-id"] } == ["2"])
    }

    @Test("Ids survive a crash, also those of messages that were acknowledged", arguments: [1, 3], [1, 2])
    func restart(before: Int, after: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: before)
        var client = broker.connect()
        client.subscribe("/queue/a", ack: "client-individual")
        Self.send(client, "/queue/a", id: "1", "acknowledged", stored: true)
        let first = client.messages()[0]
        client.confirmed(.ack, [("id", first["ack"]!)])
        client.confirmed(.unsubscribe, [("id", "0")])
        Self.send(client, "/queue/a", id: "2", "there", stored: true)
        Self.send(client, "/queue/b", id: "1", "other", stored: true)
        Self.send(client, "/queue/a", id: "3", "in memory")
        // Twice: the second life says it again.
        for _ in 0..<2 { broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: after) }
        client = broker.connect()
        for id in ["1", "2", "3"] { Self.send(client, "/queue/a", id: id, "again \(id)", stored: true) }
        client.subscribe("/queue/a")
        #expect(client.bodies() == ["there", "again 3"])
    }

    @Test("Ids of a transaction survive with it, and not without", arguments: [true, false])
    func transactionRestart(isCommitted: Bool) {
        var broker = StoreFixture.start(FakeDisk(), shards: 3)
        var client = broker.connect()
        let queues = ["/queue/a", "/queue/b", "/queue/c", "/queue/d"]
        client.confirmed(.begin, [("transaction", "t")])
        for queue in queues {
            client.publish(queue, "1", Self.persistent + [("transaction", "t"), ("x-deduplication-id", "1")])
        }
        if isCommitted {
            client.confirmed(.commit, [("transaction", "t")])
        } else {
            broker.run()
        }
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: 2)
        client = broker.connect()
        for queue in queues {
            Self.send(client, queue, id: "1", "2", stored: true)
            client.subscribe(queue, id: queue)
        }
        #expect(client.bodies() == Array(repeating: isCommitted ? "1" : "2", count: 4))
    }

    @Test("Ids outlive the segments that said so, while they are known")
    func carried() {
        var broker = StoreFixture.start(FakeDisk()) {
            $0.destinationPolicies = Self.options(milliseconds: 60_000).destinationPolicies
        }
        var client = broker.connect()
        client.subscribe("/queue/a")
        for id in 0..<20 { Self.send(client, "/queue/a", id: "\(id)", "x", stored: true) }
        for _ in 0..<400 {
            client.publish("/queue/a", String(repeating: "x", count: 4000), Self.persistent)
            broker.run()
            _ = client.takeFrames()
        }
        broker.advance(milliseconds: 1000)
        #expect(broker.disk.contents(afterPowerCut: false).count < 8)
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true)) {
            $0.destinationPolicies = Self.options(milliseconds: 60_000).destinationPolicies
        }
        client = broker.connect()
        client.subscribe("/queue/a")
        for id in 0..<21 { Self.send(client, "/queue/a", id: "\(id)", "again \(id)", stored: true) }
        #expect(client.takeFrames().map(\.text) == ["again 20"])
        broker.advance(milliseconds: 70_000)
        #expect(broker.disk.contents(afterPowerCut: false).count < 8)
    }
}
