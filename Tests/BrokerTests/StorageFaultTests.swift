import Broker
import FakeKernel
import Glibc
import IO
import STOMP
import Testing

/// A disk that fails, or is full.
@Suite("Storage faults")
struct StorageFaultTests {
    private static let persistent = [("persistent", "true")]

    private func send(_ client: Client, _ body: String, receipt: String, queue: String = "/queue/a") {
        client.publish(queue, body, Self.persistent + [("receipt", receipt)])
    }

    @Test(
        "After an error of the log no RECEIPT for something stored leaves, and what is in memory goes on",
        arguments: [Submission.Kind.appendFileDurably, .appendFile, .syncFile], [EIO, EROFS])
    func failed(kind: Submission.Kind, errno: Int32) {
        let broker = StoreFixture.start(FakeDisk()) {
            if kind != .appendFileDurably { $0.storage?.commit = .appendAndSync }
        }
        let publisher = broker.connect()
        let consumer = broker.connect()
        publisher.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "before")
        consumer.confirmed(.subscribe, [("destination", "/queue/a"), ("id", "0"), ("ack", "client-individual")])
        let message = consumer.messages()[0]
        broker.disk.failures = [.init(kind, errno)]
        send(publisher, "lost", receipt: "1")
        publisher.expectError("Storage failed", receipt: "1")
        let hasFailed = broker.shard(0).pointee.hasStorageFailed
        #expect(hasFailed)
        #expect(broker.notices.filter { $0.kind == .storageFailed }.count == 1)
        let other = broker.connect()
        other.confirmed(.send, [("destination", "/queue/b")], "memory")
        send(other, "refused", receipt: "2")
        other.expectError("Storage failed", receipt: "2")
        // An ACK is taken, and not confirmed.
        consumer.ack(message)
        #expect(consumer.bodies() == ["lost"])
        consumer.send(.disconnect, [("receipt", "3")])
        consumer.expectError("Storage failed", receipt: "3")
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)).contains("before"))
    }

    @Test(
        "A log that cannot be opened refuses what is to be stored",
        arguments: [Submission.Kind.openDirectory, .createFile, .allocateFile, .syncFile, .appendFile])
    func failedAtStart(kind: Submission.Kind) {
        let disk = FakeDisk()
        disk.failures = [.init(kind, EIO)]
        let broker = StoreFixture.start(disk)
        let client = broker.connect()
        send(client, "1", receipt: "1")
        client.expectError("Storage failed", receipt: "1")
    }

    @Test("Another worker's log that fails is an ERROR, too")
    func failedElsewhere() {
        let broker = StoreFixture.start(FakeDisk(), shards: 2)
        let queue = broker.queueNames(ownedBy: 1)[0]
        let client = broker.connect(on: 0)
        let second = broker.connect(on: 0)
        broker.disk.failures = [.init(.appendFileDurably, EIO)]
        send(client, "1", receipt: "1", queue: queue)
        client.expectError("Storage failed", receipt: "1")
        send(second, "2", receipt: "2", queue: queue)
        second.expectError("Storage failed", receipt: "2")
        let own = broker.connect(on: 0)
        own.confirmed(.send, [("destination", broker.queueNames(ownedBy: 0)[0])] + Self.persistent, "3")
    }

    @Test(
        "When a transaction can never be complete, nobody waits for it or for what depends on it", arguments: [0, 1, 2])
    func givenUp(owner: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: 3)
        let source = broker.queueNames(ownedBy: owner)[0]
        let deadLetters = Array("/queue/DLQ".utf8).withUnsafeBytes { Shard.owner(ofQueue: $0, shardCount: 3) }
        let failing = (0..<3).first { $0 != owner && $0 != deadLetters }!
        let publisher = broker.connect(on: (owner + 1) % 3)
        let consumer = broker.connect(on: owner)
        consumer.confirmed(.subscribe, [("destination", source), ("id", "0"), ("ack", "client-individual")])
        broker.run()
        broker.disk.stalledShard = failing
        publisher.send(.begin, [("transaction", "t")])
        for queue in [source, broker.queueNames(ownedBy: failing)[0]] {
            publisher.publish(queue, "1", Self.persistent + [("transaction", "t")])
        }
        publisher.send(.commit, [("transaction", "t"), ("receipt", "t")])
        consumer.send(.nack, [("id", consumer.messages()[0]["ack"]!), ("requeue", "false"), ("receipt", "n")])
        broker.run()
        #expect(consumer.frame() == nil && publisher.frame() == nil)
        broker.disk.failures = [.init(.appendFileDurably, EIO)]
        broker.disk.stalledShard = nil
        while broker.stepDisk() {}
        publisher.expectError("Storage failed", receipt: "t")
        #expect(consumer.frame()?["receipt-id"] == "n")
        consumer.confirmed(.send, [("destination", source)] + Self.persistent, "2")
        let contents = broker.disk.contents(afterPowerCut: true)
        #expect(StoreFixture.bodies("/queue/DLQ", in: contents) == [])
        #expect(StoreFixture.bodies(source, in: contents) == ["2"])
    }

    @Test("Where the disk is full SENDs are refused while consumers drain, and taken again when there is room")
    func full() {
        let disk = FakeDisk()
        disk.byteCountMax = 3 * StoreFixture.segmentByteCount
        let broker = StoreFixture.start(disk)
        var stored: [String] = []
        var client = broker.connect()
        for number in 0..<100 {
            let body = "\(number)-" + String(repeating: "x", count: 4000)
            send(client, body, receipt: "\(number)")
            broker.run()
            guard let frame = client.frame(), frame.command == .receipt else { break }
            stored.append(body)
        }
        #expect(stored.count > 20 && stored.count < 60)
        #expect(broker.notices.contains { $0.kind == .diskFull })
        client = broker.connect()
        send(client, String(repeating: "x", count: 4000), receipt: "x")
        client.expectError("Disk full", receipt: "x")
        // In memory there is room.
        client = broker.connect()
        client.confirmed(.send, [("destination", "/queue/b")], "memory")
        let consumer = broker.connect()
        consumer.subscribe("/queue/a", ack: "client-individual")
        let messages = consumer.messages()
        #expect(messages.map(\.text) == stored)
        for message in messages { consumer.confirmed(.ack, [("id", message["ack"]!)]) }
        broker.advance(milliseconds: 2_000)
        client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "again")
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == ["again"])
    }

    @Test("The limit of the store is like a disk that is full")
    func limit() {
        let broker = StoreFixture.start(FakeDisk()) { $0.storage?.byteCountMax = 2 * StoreFixture.segmentByteCount }
        let client = broker.connect()
        for number in 0..<60 { send(client, String(repeating: "x", count: 4000), receipt: "\(number)") }
        broker.run()
        let frames = client.takeFrames()
        // Most of two segments: the rest is for acknowledgements.
        #expect(frames.count > 20 && frames.count < 32)
        #expect(frames.last?["message"] == "Disk full" && frames.last?["receipt-id"] == "\(frames.count - 1)")
        #expect(broker.disk.fileNames.count == 2)
    }

    @Test("The operator hears of a full disk when it begins, once a minute, and when it is over")
    func notices() {
        let disk = FakeDisk()
        disk.byteCountMax = StoreFixture.segmentByteCount / 2
        let broker = StoreFixture.start(disk)
        func words() -> [String] {
            broker.notices.filter { $0.kind == .diskFull }.map {
                $0.text.contains("again") ? "over" : $0.text.contains("still") ? "still" : "begins"
            }
        }
        let client = broker.connect()
        broker.advance(milliseconds: 50_000)
        #expect(words() == ["begins"])
        broker.advance(milliseconds: 30_000)
        #expect(words() == ["begins", "still"])
        disk.byteCountMax = .max
        broker.advance(milliseconds: 1_000)
        #expect(words() == ["begins", "still", "over"])
        broker.advance(milliseconds: 100_000)
        #expect(words() == ["begins", "still", "over"])
        client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "1")
    }

    @Test(
        "What was taken before the disk turned out to be full is not confirmed, and the client hears so",
        arguments: [1, 2])
    func notConfirmed(shards: Int) {
        let disk = FakeDisk()
        disk.byteCountMax = StoreFixture.segmentByteCount / 2
        disk.isHeld = true
        let broker = StoreFixture.start(disk, shards: shards)
        let queue = broker.queueNames(ownedBy: shards - 1)[0]
        let client = broker.connect(on: 0)
        send(client, "1", receipt: "1", queue: queue)
        broker.run()
        disk.isHeld = false
        while broker.stepDisk() {}
        #expect(client.frame() == nil)
        broker.advance(milliseconds: 3_000)
        client.expectError("Disk full, not confirmed", receipt: "1")
        // It is in its queue all the same, and is stored when there is room.
        let consumer = broker.connect(on: 0)
        consumer.confirmed(.subscribe, [("destination", queue), ("id", "0"), ("ack", "client-individual")])
        #expect(consumer.bodies() == ["1"])
        disk.byteCountMax = .max
        broker.advance(milliseconds: 1_000)
        #expect(StoreFixture.bodies(queue, in: disk.contents(afterPowerCut: true)) == ["1"])
    }

    @Test("A broker ends on a full disk when its time is over, and says what is not stored")
    func drainOfFullDisk() {
        let disk = FakeDisk()
        disk.byteCountMax = StoreFixture.segmentByteCount / 2
        disk.isHeld = true
        let broker = StoreFixture.start(disk) { $0.limits.drainMillisecondsMax = 2_000 }
        let client = broker.connect()
        client.publish("/queue/a", "1", Self.persistent)
        broker.run()
        disk.isHeld = false
        client.hangUp()
        broker.run()
        broker.kernel.beginDrain()
        broker.advance(milliseconds: 1_500)
        let isEarly = broker.shard(0).pointee.isDrained
        #expect(!isEarly)
        broker.advance(milliseconds: 1_000)
        let isDrained = broker.shard(0).pointee.isDrained
        #expect(isDrained)
        let notice = broker.notices.first { $0.kind == .storageFailed }
        #expect(notice?.text.contains("1 messages among them") == true, "\(String(describing: notice))")
    }

    @Test("An append that finds no room is tried again")
    func shortAppend() {
        let broker = StoreFixture.start(FakeDisk())
        let client = broker.connect()
        broker.disk.failures = [.init(.appendFileDurably, ENOSPC), .init(.appendFileDurably, ENOSPC)]
        send(client, "1", receipt: "1")
        broker.run()
        #expect(client.frame() == nil)
        broker.advance(milliseconds: 1_000)
        #expect(client.frame()?["receipt-id"] == "1")
        let hasFailed = broker.shard(0).pointee.hasStorageFailed
        #expect(!hasFailed)
    }

    @Test("Publishers of stored messages wait while much waits for the disk, and those of others do not")
    func staged() {
        let broker = StoreFixture.start(FakeDisk()) { $0.storage?.stagedByteCountMax = 20_000 }
        let client = broker.connect()
        let other = broker.connect()
        broker.holdDisk()
        for number in 0..<20 { send(client, String(repeating: "x", count: 3000), receipt: "\(number)") }
        broker.run()
        #expect(broker.audit().entries < 10)
        other.confirmed(.send, [("destination", "/queue/b")], "memory")
        for _ in 0..<100 where client.takeFrames().last?["receipt-id"] != "19" { _ = broker.stepDisk() }
        #expect(broker.audit().entries == 21)
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)).count == 20)
    }

    @Test("A few messages that pin many segments are written again", arguments: [1, 2])
    func compaction(shards: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: shards)
        var client = broker.connect()
        let argument = [("x-max-length", "1000")]
        client.confirmed(.send, [("destination", "/queue/pin")] + argument + Self.persistent, "pin 1")
        client.subscribe("/queue/pin", ack: "client-individual")
        client.confirmed(.nack, [("id", client.messages()[0]["ack"]!)])
        for round in 0..<3 {
            client.subscribe("/queue/work", id: "work")
            for _ in 0..<200 {
                client.confirmed(
                    .send, [("destination", "/queue/work")] + Self.persistent, String(repeating: "x", count: 4000))
                _ = client.takeFrames()
            }
            broker.run()
            #expect(broker.disk.fileNames.count <= 7 * shards)
            broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: shards)
            client = broker.connect()
            client.confirmed(.send, [("destination", "/queue/pin")] + Self.persistent, "pin \(round + 2)")
        }
        client.subscribe("/queue/pin", ack: "client-individual")
        let messages = client.messages()
        #expect(messages.map(\.text) == ["pin 1", "pin 2", "pin 3", "pin 4"])
        #expect(messages.map { $0["redelivered"] } == ["true", "true", "true", nil])
    }
}
