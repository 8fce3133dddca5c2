import Broker
import FakeKernel
import Glibc
import STOMP
import Testing

/// Messages that are stored: when a RECEIPT leaves, and what a crash leaves.
@Suite("Storage")
struct StorageTests {
    private func receipts(_ client: Client) -> [String] { client.takeFrames().compactMap { $0["receipt-id"] } }

    private static let persistent = [("persistent", "true")]

    @Test("The RECEIPT of a stored message waits until it is on stable storage; that of another does not")
    func receiptWaits() {
        let broker = StoreFixture.start(FakeDisk())
        let client = broker.connect()
        let other = broker.connect()
        broker.holdDisk()
        client.publish("/queue/a", "1", Self.persistent + [("receipt", "1")])
        broker.run()
        #expect(receipts(client) == [])
        #expect(broker.disk.pendingKinds == [.appendFileDurably])
        other.publish("/queue/b", "2", [("receipt", "2")])
        other.publish("/topic/b", "3", [("persistent", "true"), ("receipt", "3")])
        broker.run()
        #expect(receipts(other) == ["2", "3"])
        // What comes meanwhile gathers.
        client.publish("/queue/a", "4", Self.persistent + [("receipt", "4")])
        client.publish("/queue/b", "5", [("receipt", "5")])
        broker.run()
        #expect(broker.disk.pendingKinds == [.appendFileDurably])
        #expect(broker.stepDisk())
        #expect(receipts(client) == ["1"])
        #expect(broker.stepDisk())
        #expect(receipts(client) == ["4", "5"])
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == ["1", "4"])
        #expect(StoreFixture.bodies("/queue/b", in: broker.disk.contents(afterPowerCut: true)) == [])
    }

    @Test("Appends of whole blocks begin with what the block has already", arguments: [512, 4096])
    func wholeBlocks(_ blockByteCount: Int) {
        let broker = StoreFixture.start(FakeDisk()) { $0.storage?.blockByteCount = blockByteCount }
        let client = broker.connect()
        // Through several segments, with appends of one record and of more than a block.
        let bodies = (0..<200).map { "\($0) " + String(repeating: "x", count: $0 % 10 == 0 ? 9000 : $0 * 11) }
        for (index, body) in bodies.enumerated() {
            client.publish("/queue/a", body, Self.persistent + [("receipt", "\(index)")])
            if index % 3 == 0 { broker.run() }
        }
        broker.run()
        #expect(receipts(client) == bodies.indices.map(String.init))
        #expect(broker.disk.contents(afterPowerCut: true).count { $0.key.hasSuffix(".log") } > 3)
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == bodies)
    }

    @Test("An append and a sync behind it do as well as a durable append")
    func appendAndSync() {
        let broker = StoreFixture.start(FakeDisk()) { $0.storage?.commit = .appendAndSync }
        let client = broker.connect()
        broker.holdDisk()
        client.publish("/queue/a", "1", Self.persistent + [("receipt", "1")])
        broker.run()
        #expect(broker.disk.pendingKinds == [.appendFile])
        #expect(broker.stepDisk())
        #expect(receipts(client) == [] && broker.disk.pendingKinds == [.syncFile])
        #expect(broker.stepDisk())
        #expect(receipts(client) == ["1"])
    }

    @Test("With an interval the RECEIPT waits for the kernel alone, and the sync comes in time")
    func interval() {
        let broker = StoreFixture.start(FakeDisk()) { $0.storage?.sync = .interval(milliseconds: 50) }
        let client = broker.connect()
        broker.holdDisk()
        client.publish("/queue/a", "1", Self.persistent + [("receipt", "1")])
        broker.run()
        #expect(broker.disk.pendingKinds == [.appendFile])
        #expect(broker.stepDisk())
        #expect(receipts(client) == ["1"] && broker.disk.pendingKinds == [])
        broker.advance(milliseconds: 60)
        #expect(broker.disk.pendingKinds == [.syncFile])
        #expect(broker.stepDisk())
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == ["1"])
    }

    @Test("After a crash a stored message is delivered again, and says so", arguments: [1, 3], [1, 2])
    func restart(before: Int, after: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: before)
        var client = broker.connect()
        for number in 1...5 {
            client.confirmed(
                .send, [("destination", "/queue/a"), ("k\\c", "v\(number)")] + Self.persistent, "body \(number)")
        }
        client.confirmed(.send, [("destination", "/queue/b")], "in memory")
        client.confirmed(.send, [("destination", "/queue/b")] + Self.persistent, "stored")
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: after)
        #expect((0..<after).reduce(0) { $0 + broker.audit($1).entries } == 6)
        client = broker.connect()
        client.subscribe("/queue/a", ack: "client-individual")
        let messages = client.messages()
        #expect(messages.map(\.text) == (1...5).map { "body \($0)" })
        #expect(messages.map { $0["k\\c"] } == (1...5).map { "v\($0)" })
        #expect(messages.allSatisfy { $0["redelivered"] == "true" && $0["delivery-count"] == "2" })
        client.subscribe("/queue/b", id: "1")
        #expect(client.bodies() == ["stored"])
        broker.finish(queued: 5)
    }

    @Test("What an ACK with a RECEIPT confirmed is not delivered again", arguments: [1, 2])
    func acknowledged(shards: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: shards)
        var client = broker.connect()
        for number in 1...4 {
            client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "\(number)")
        }
        client.subscribe("/queue/a", ack: "client-individual")
        let messages = client.messages()
        client.confirmed(.ack, [("id", messages[1]["ack"]!)])
        client.confirmed(.nack, [("id", messages[2]["ack"]!)])
        #expect(client.bodies() == ["3"])
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: shards)
        client = broker.connect()
        client.subscribe("/queue/a")
        #expect(client.bodies() == ["1", "3", "4"])
        broker.finish()
        let restarted = broker.disk.restarted(afterPowerCut: false)
        #expect(StoreFixture.bodies("/queue/a", in: restarted.contents(afterPowerCut: true)) == [])
    }

    @Test("A broker that ends in order says so: what nobody was given is no redelivery")
    func cleanEnd() {
        var broker = StoreFixture.start(FakeDisk())
        var client = broker.connect()
        client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "given")
        client.subscribe("/queue/a", ack: "client")
        #expect(client.bodies() == ["given"])
        client.confirmed(.send, [("destination", "/queue/b")] + Self.persistent, "not given")
        client.hangUp()
        broker.run()
        broker.kernel.beginDrain()
        broker.advance(milliseconds: 20_000)
        let isDrained = broker.shard(0).pointee.isDrained
        #expect(isDrained)
        #expect(!broker.notices.contains { $0.kind == .undelivered })
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
        client = broker.connect()
        client.subscribe("/queue/a", id: "a")
        client.subscribe("/queue/b", id: "b")
        let messages = client.messages()
        #expect(messages.map(\.text) == ["given", "not given"])
        #expect(messages.map { $0["redelivered"] } == ["true", nil])
    }

    @Test("The limits that a queue's first user asked for survive with its messages")
    func arguments() {
        var broker = StoreFixture.start(FakeDisk())
        var client = broker.connect()
        let asked = [("x-max-length", "2"), ("x-overflow", "drop-head"), ("x-dead-letter-routing-key", "dead")]
        client.confirmed(.send, [("destination", "/queue/a")] + asked + Self.persistent, "1")
        for _ in 0..<2 {
            broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
            client = broker.connect()
            client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "2")
        }
        client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "3")
        client.subscribe("/queue/dead", id: "d")
        #expect(client.bodies() == ["1", "2"])
        client.subscribe("/queue/a", id: "a")
        #expect(client.bodies() == ["2", "3"])
    }
}
