import Broker
import FakeKernel
import STOMP
import Testing

/// Durable subscriptions in the log: what a RECEIPT waits for, and what a crash leaves.
@Suite("Durable subscriptions that are stored")
struct DurableSubscriptionStorageTests {
    private static let durable = [("durable", "true")]
    private static let persistent = [("persistent", "true")]

    private func receipts(_ client: Client) -> [String] { client.takeFrames().compactMap { $0["receipt-id"] } }

    private func subscribe(_ client: Client, _ topic: String, id: String = "s", ack: String = "auto") {
        client.confirmed(.subscribe, [("destination", topic), ("id", id), ("ack", ack)] + Self.durable)
    }

    private func name(_ topic: String, id: String = "s") -> String { "/dsub/id/\(id)" + topic }

    @Test("The RECEIPT of the first SUBSCRIBE waits for the log; that of the next does not")
    func subscribeWaits() {
        let broker = StoreFixture.start(FakeDisk())
        let first = broker.connect()
        let second = broker.connect()
        let publisher = broker.connect()
        broker.holdDisk()
        first.subscribe("/topic/a", id: "s", Self.durable + [("receipt", "1")])
        second.subscribe("/topic/a", id: "s", Self.durable + [("receipt", "2")])
        publisher.publish("/topic/a", "early")
        broker.run()
        #expect(receipts(first) == [] && receipts(second) == [])
        #expect(broker.stepDisk())
        #expect(first.takeFrames().map(\.command) == [.receipt, .message])
        #expect(receipts(second) == ["2"])
        let third = broker.connect()
        third.subscribe("/topic/a", id: "s", Self.durable + [("receipt", "3")])
        broker.run()
        #expect(receipts(third) == ["3"])
    }

    @Test("A publisher's RECEIPT waits for the log of the worker that keeps the message", arguments: [1, 2])
    func publisherWaits(shards: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: shards)
        let owner = broker.owner(ofQueue: name("/topic/a"))
        let client = broker.connect()
        subscribe(client, "/topic/a")
        let publisher = broker.connect(on: shards - 1 - owner)
        broker.holdDisk()
        publisher.publish("/topic/a", "1", Self.persistent + [("receipt", "1")])
        publisher.publish("/topic/b", "2", Self.persistent + [("receipt", "2")])
        broker.run()
        #expect(client.bodies() == ["1"], "a delivery does not wait for the disk")
        #expect(receipts(publisher) == [])
        while broker.stepDisk() {}
        #expect(receipts(publisher) == ["1", "2"])
        let other = broker.connect(on: shards - 1 - owner)
        other.publish("/topic/a", "3", [("receipt", "3")])
        other.publish("/topic/b", "4", Self.persistent + [("receipt", "4")])
        broker.run()
        #expect(receipts(other) == ["3", "4"], "what is not stored waits for no disk")
    }

    @Test("A worker that has no memory for the topic of a message that it is to store refuses it")
    func noMemory() {
        let broker = StoreFixture.start(FakeDisk(), shards: 2) { $0.limits.messageMemoryByteCountMax = 512 << 10 }
        let owner = broker.owner(ofQueue: name("/topic/#"))
        let client = broker.connect()
        subscribe(client, "/topic/#")
        client.confirmed(.disconnect)
        let publisher = broker.connect(on: 1 - owner)
        publisher.confirmed(.send, [("destination", "/topic/a")] + Self.persistent, "taken")
        // Frames that are cut short take all that is left.
        for byteCount in [4000, 2000, 1000, 500, 200, 100, 50] {
            var before = 0
            repeat {
                before = broker.shard(owner).pointee.blockByteCount
                broker.accept(on: owner).write("CONNECT\nx:" + String(repeating: "x", count: byteCount))
                broker.run()
            } while broker.shard(owner).pointee.blockByteCount > before
        }
        publisher.publish("/topic/b", "lost", Self.persistent + [("receipt", "r")])
        publisher.expectError("Out of memory", receipt: "r")
    }

    @Test(
        "After a crash the subscription and its stored messages are there, and nothing is missed", arguments: [1, 3],
        [1, 2])
    func restart(before: Int, after: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: before)
        var client = broker.connect()
        for id in ["s", "t", "u"] { subscribe(client, "/topic/a.*", id: id, ack: "client") }
        client.confirmed(.disconnect)
        var publisher = broker.connect(on: before - 1)
        for body in ["1", "2"] {
            publisher.confirmed(.send, [("destination", "/topic/a.b")] + Self.persistent, body)
        }
        publisher.confirmed(.send, [("destination", "/topic/a.b")], "in memory")
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: after)
        publisher = broker.connect(on: after - 1)
        publisher.confirmed(.send, [("destination", "/topic/a.c")] + Self.persistent, "3")
        for id in ["s", "t", "u"] {
            client = broker.connect()
            subscribe(client, "/topic/a.*", id: id, ack: "client")
            let messages = client.messages()
            #expect(messages.map(\.text) == ["1", "2", "3"], "\(id)")
            #expect(messages.map { $0["redelivered"] } == ["true", "true", nil])
            #expect(messages.map { $0["destination"] } == ["/topic/a.b", "/topic/a.b", "/topic/a.c"])
            client.ack(messages[1])
            client.confirmed(.disconnect)
        }
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: before)
        client = broker.connect()
        subscribe(client, "/topic/a.*", ack: "client")
        #expect(client.bodies() == ["3"])
        for id in ["s", "t", "u"] {
            client.confirmed(
                .unsubscribe, [("id", id), ("destination", "/topic/a.*")] + Self.durable)
        }
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: after)
        broker.run()
        #expect((0..<after).allSatisfy { broker.audit($0).bindings == 0 && broker.audit($0).entries == 0 })
        broker.finish()
    }

    @Test("A COMMIT to a topic with durable subscriptions of several workers is there as a whole or not at all")
    func transaction() {
        let broker = StoreFixture.start(FakeDisk(), shards: 3)
        let client = broker.connect()
        let ids = (0..<12).map { "s\($0)" }
        for id in ids { subscribe(client, "/topic/#", id: id) }
        #expect(Set(ids.map { broker.owner(ofQueue: name("/topic/#", id: $0)) }).count == 3)
        client.confirmed(.disconnect)
        let publisher = broker.connect(on: 1)
        broker.holdDisk()
        publisher.send(.begin, [("transaction", "t")])
        for body in ["1", "2"] {
            publisher.publish("/topic/a", body, Self.persistent + [("transaction", "t")])
        }
        publisher.publish("/queue/q", "3", Self.persistent + [("transaction", "t")])
        publisher.send(.commit, [("transaction", "t"), ("receipt", "c")])
        broker.run()
        var partial = 0
        repeat {
            let contents = broker.disk.contents(afterPowerCut: true)
            let found = ids.map { StoreFixture.bodies(name("/topic/#", id: $0), in: contents) }
            let isWhole = found.allSatisfy { $0 == ["1", "2"] }
            #expect(isWhole || found.allSatisfy(\.isEmpty), "\(found)")
            #expect(StoreFixture.bodies("/queue/q", in: contents) == (isWhole ? ["3"] : []))
            if !isWhole { partial += 1 }
        } while broker.stepDisk()
        #expect(receipts(publisher) == ["c"] && partial > 1)
    }

    @Test("A subscription whose record is at the front of the log is written again, and the segment goes")
    func compaction() {
        var broker = StoreFixture.start(FakeDisk())
        let client = broker.connect()
        subscribe(client, "/topic/a")
        client.confirmed(.disconnect)
        let publisher = broker.connect()
        let consumer = broker.connect()
        consumer.subscribe("/queue/q")
        for _ in 0..<600 {
            publisher.confirmed(
                .send, [("destination", "/queue/q")] + Self.persistent, String(repeating: "x", count: 1000))
        }
        #expect(consumer.bodies().count == 600)
        broker.run()
        let names = broker.disk.contents(afterPowerCut: false).keys
        #expect(names.count < 9, "\(names)")
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
        #expect(broker.audit().bindings == 1)
    }
}
