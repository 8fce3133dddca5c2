import Broker
import FakeKernel
import Glibc
import IO
import Journal
import STOMP
import Testing

/// Where features of the store meet: what a RECEIPT has promised is there after the end of the broker.
@Suite("Storage: features that meet")
struct StorageLossTests {
    private static let persistent = [("persistent", "true")]
    private static let named = [("activemq.subscriptionName", "n")]

    private func receipts(_ client: Client) -> [String] { client.takeFrames().compactMap { $0["receipt-id"] } }

    private func connect(_ broker: TestBroker, on shard: Int = 0, clientID: String) -> Client {
        let client = broker.accept(on: shard)
        client.connect(clientID: clientID)
        return client
    }

    // MARK: Deduplication

    @Test(
        "The RECEIPT of the second waits for the transaction that brought the first, with all workers",
        arguments: [0, 1, 2])
    func duplicateOfTransaction(shard: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: 3)
        let (committer, again, queue) = commitAndSendAgain(broker, on: shard)
        #expect(receipts(again) == [] && receipts(committer) == [])
        broker.disk.stalledShard = nil
        while broker.stepDisk() {}
        #expect(receipts(committer) == ["t"] && receipts(again) == ["2"])
        #expect(StoreFixture.bodies(queue, in: broker.disk.contents(afterPowerCut: true)) == ["x"])
        broker.disk.isHeld = false
    }

    @Test(
        "Where that transaction will never be complete the second is refused, and the third is taken",
        arguments: [0, 1], [false, true])
    func duplicateOfFailedTransaction(shard: Int, isCold: Bool) {
        let broker = StoreFixture.start(FakeDisk(), shards: 3) {
            $0.storage?.onError = .refuse
            if isCold { Self.leaveMemory(&$0) }
        }
        let early = isCold ? (1...20).map(String.init) : []
        let filler = broker.connect()
        for body in early { filler.publish(broker.queueNames(ownedBy: 1)[0], body, Self.persistent) }
        broker.settle()
        let (committer, again, queue) = commitAndSendAgain(broker, on: shard)
        if isCold {
            let counts = broker.shard(1).pointee.coldCounts(ofQueue: queue)
            #expect(counts.behind == 0 && counts.cold > 10, "it is in the log alone")
        }
        broker.disk.stalledShard = nil
        broker.disk.failures = [.init(.appendFileDurably, EIO)]
        while broker.stepDisk() {}
        again.expectError("Storage failed", receipt: "2")
        committer.expectError("Storage failed", receipt: "t")
        let third = broker.connect(on: shard)
        third.publish(queue, "x", Self.persistent + [("x-deduplication-id", "1"), ("receipt", "3")])
        broker.run()
        while broker.stepDisk() {}
        #expect(receipts(third) == ["3"])
        #expect(StoreFixture.bodies(queue, in: broker.disk.contents(afterPowerCut: true)) == early + ["x"])
        broker.disk.isHeld = false
    }

    /// A transaction of workers 1 and 2, the second of which does not get on; then a client of `shard` sends again what the
    /// first has of it.
    private func commitAndSendAgain(
        _ broker: TestBroker, on shard: Int
    ) -> (committer: Client, again: Client, queue: String) {
        let (queue, other) = (broker.queueNames(ownedBy: 1)[0], broker.queueNames(ownedBy: 2)[0])
        let (committer, again) = (broker.connect(), broker.connect(on: shard))
        broker.holdDisk()
        broker.disk.stalledShard = 2
        committer.send(.begin, [("transaction", "t")])
        committer.publish(queue, "x", Self.persistent + [("x-deduplication-id", "1"), ("transaction", "t")])
        committer.publish(other, "y", Self.persistent + [("transaction", "t")])
        committer.send(.commit, [("transaction", "t"), ("receipt", "t")])
        broker.run()
        while broker.stepDisk() {}
        again.publish(queue, "x", Self.persistent + [("x-deduplication-id", "1"), ("receipt", "2")])
        broker.run()
        while broker.stepDisk() {}
        return (committer, again, queue)
    }

    /// All that comes to a queue with two ready messages leaves memory.
    private static func leaveMemory(_ options: inout BrokerOptions) {
        options.storage?.cold.fillPercent = 0
        options.storage?.cold.readyCountMin = 2
        options.storage?.cold.readByteCountMax = 1000
        options.storage?.cold.aheadByteCountMax = 60
    }

    @Test("The id of a message that is in the log only for want of memory is not known to the next life")
    func transientID() {
        func start(_ disk: FakeDisk) -> TestBroker { StoreFixture.start(disk, Self.leaveMemory) }
        var broker = start(FakeDisk())
        var client = broker.connect()
        for number in 1...20 { client.publish("/queue/a", "\(number)", Self.persistent) }
        broker.settle()
        client.send(.begin, [("transaction", "t")])
        client.publish("/queue/a", "first", [("x-deduplication-id", "1"), ("transaction", "t")])
        client.confirmed(.commit, [("transaction", "t")])
        broker.settle()
        let counts = broker.shard(0).pointee.coldCounts(ofQueue: "/queue/a")
        #expect(counts.behind == 0 && counts.cold > 10, "it is in the log")
        broker = start(broker.disk.restarted(afterPowerCut: true))
        client = broker.connect()
        client.confirmed(
            .send, [("destination", "/queue/a"), ("x-deduplication-id", "1")] + Self.persistent, "second")
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)).last == "second")
    }

    // MARK: Durable subscriptions

    @Test("A durable subscription that another one replaces leaves it no messages, wherever the log breaks off")
    func replaced() throws {
        let broker = StoreFixture.start(FakeDisk())
        let publisher = broker.connect()
        var client = connect(broker, clientID: "c")
        client.confirmed(.subscribe, [("destination", "/topic/old"), ("id", "s")] + Self.named)
        client.confirmed(.disconnect)
        for number in 1...5 {
            publisher.confirmed(.send, [("destination", "/topic/old")] + Self.persistent, "\(number)")
        }
        broker.settle()
        let before = broker.disk.contents(afterPowerCut: true)
        client = connect(broker, clientID: "c")
        client.confirmed(.subscribe, [("destination", "/topic/new"), ("id", "s")] + Self.named)
        broker.settle()
        let after = broker.disk.contents(afterPowerCut: true)
        let file = try #require(after.keys.first { before[$0] != after[$0] })
        let (old, new) = (try #require(before[file]), try #require(after[file]))
        let unit = JournalFormat.unitByteCount
        var (oldCount, newCount) = (0, 0)
        for end in stride(from: 0, through: new.count, by: unit) where new[..<end] != old[..<end] || end == 0 {
            var torn = after
            torn[file] = Array(new[..<end] + old[end...])
            let state = StoreFixture.recover(torn, #_sourceLocation)
            let topics = state.queues.compactMap { queue -> String? in
                var topic: String?
                queue.withSubscription { topic = String(decoding: $0.topic, as: UTF8.self) }
                return topic
            }
            let name = try #require(state.queues.first { $0.isDurableSubscription || !$0.name.isEmpty }).name
            let bodies = StoreFixture.bodies(String(decoding: name, as: UTF8.self), in: torn)
            if topics == ["/topic/new"] {
                newCount += 1
                #expect(bodies == [], "at \(end)")
            } else {
                oldCount += 1
            }
        }
        #expect(oldCount > 0 && newCount > 0)
    }

    @Test("An ACK and the end of a durable subscription in one turn are both confirmed", arguments: [1, 2])
    func acknowledgedAndEnded(shards: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: shards)
        for shard in 0..<shards {
            let away = connect(broker, clientID: "c")
            away.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "s")] + Self.named)
            away.confirmed(.disconnect)
            let client = connect(broker, on: shard, clientID: "c")
            for destination in ["/topic/a", "/queue/a"] {
                client.confirmed(.send, [("destination", destination)] + Self.persistent, "x")
            }
            client.confirmed(.subscribe, [("destination", "/queue/a"), ("id", "0"), ("ack", "client-individual")])
            let message = client.messages()[0]
            client.send(.ack, [("id", message["ack"]!), ("receipt", "1")])
            client.send(.unsubscribe, [("id", "s"), ("receipt", "2")] + Self.named)
            client.publish("/queue/b", "y", Self.persistent + [("receipt", "3")])
            broker.run()
            #expect(receipts(client) == ["1", "2", "3"])
            client.confirmed(.disconnect)
        }
    }

    @Test("A clock that is behind for one life ends no durable subscription in the next")
    func clockBehind() {
        let day = 86_400_000
        func start(_ disk: FakeDisk) -> TestBroker {
            StoreFixture.start(disk) {
                var policy = DestinationPolicy(pattern: "/topic/#")
                policy.durableMillisecondsMax = day
                $0.destinationPolicies = [policy]
            }
        }
        var broker = start(FakeDisk())
        broker.advance(milliseconds: 10 * day)
        var client = connect(broker, clientID: "c")
        client.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "s")] + Self.named)
        client.confirmed(.disconnect)
        broker.connect().confirmed(.send, [("destination", "/topic/a")] + Self.persistent, "kept")
        // Ten days behind, then right.
        for days in [0, 10] {
            broker.settle()
            broker = start(broker.disk.restarted(afterPowerCut: true))
            broker.advance(milliseconds: days * day)
        }
        client = connect(broker, clientID: "c")
        client.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "s")] + Self.named)
        #expect(client.bodies() == ["kept"])
    }

    // MARK: Limits that were lowered

    @Test("Retained messages that a lower limit has no room for are an error at the start, and are not lost")
    func retained() {
        var refusals = 0
        func start(_ disk: FakeDisk, limit: Int) -> TestBroker {
            StoreFixture.start(disk) {
                $0.limits.retainedMessageCountMax = limit
            } judge: {
                if $0 == .tooManyRetained { refusals += 1 }
            }
        }
        var broker = start(FakeDisk(), limit: 10)
        let client = broker.connect()
        for number in 0..<5 {
            client.confirmed(
                .send, [("destination", "/topic/a.\(number)"), ("retain", "set")] + Self.persistent, "\(number)")
        }
        broker = start(broker.disk.restarted(afterPowerCut: true), limit: 1)
        #expect(refusals == 3, "with one worker there is room for two")
        broker.settle()
        broker = start(broker.disk.restarted(afterPowerCut: true), limit: 10)
        let subscriber = broker.connect()
        subscriber.subscribe("/topic/a.*")
        #expect(subscriber.bodies().sorted() == ["0", "1", "2", "3", "4"])
    }

    @Test("A message of an earlier life is kept where a segment has room for it with what a dead letter has more")
    func largerThanSegments() {
        var options = StorageOptions(directory: [1], life: 1)
        options.segmentByteCount = 1 << 20
        #expect(options.canKeep((1 << 20) - 4096))
        #expect(!options.canKeep((1 << 20) - 2048))
        #expect(!options.canKeep(3 << 20))
    }

    // MARK: Failures

    @Test("A transaction whose first worker can store nothing holds up no RECEIPT of the others")
    func failedCoordinator() {
        let broker = StoreFixture.start(FakeDisk(), shards: 2) { $0.storage?.onError = .refuse }
        let (failing, healthy) = (broker.queueNames(ownedBy: 0)[0], broker.queueNames(ownedBy: 1)[0])
        let client = broker.connect(on: 0)
        client.confirmed(.send, [("destination", failing)] + Self.persistent, "x")
        client.confirmed(.subscribe, [("destination", failing), ("id", "0"), ("ack", "client-individual")])
        let message = client.messages()[0]
        broker.disk.failures = [.init(.appendFileDurably, EIO)]
        let other = broker.connect(on: 0)
        other.publish(failing, "y", Self.persistent + [("receipt", "y")])
        other.expectError("Storage failed", receipt: "y")
        client.send(.begin, [("transaction", "t")])
        client.send(.ack, [("id", message["ack"]!), ("transaction", "t")])
        client.publish(healthy, "z", Self.persistent + [("transaction", "t")])
        client.send(.commit, [("transaction", "t")])
        broker.run()
        let consumer = broker.connect(on: 1)
        consumer.confirmed(.subscribe, [("destination", healthy), ("id", "0"), ("ack", "client-individual")])
        let moved = consumer.messages()
        for message in moved { consumer.send(.nack, [("id", message["ack"]!), ("requeue", "false")]) }
        broker.run()
        let publisher = broker.connect(on: 1)
        publisher.confirmed(.send, [("destination", healthy)] + Self.persistent, "confirmed")
        #expect(StoreFixture.bodies(healthy, in: broker.disk.contents(afterPowerCut: true)) == ["confirmed"])
    }
}
