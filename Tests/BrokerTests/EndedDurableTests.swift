import Broker
import FakeKernel
import STOMP
import Testing

/// Durable subscriptions that end with many messages.
@Suite("The end of durable subscriptions")
struct EndedDurableTests {
    private static let persistent = [("persistent", "true")]
    private static let named = [("activemq.subscriptionName", "n")]
    private static let queue = "/dsub/client/c/n"
    private static let dropsPerTurnMax = 1024

    /// All that comes to a queue with two ready messages leaves memory.
    private static func start(_ disk: FakeDisk, shards: Int = 1, isCold: Bool = true) -> TestBroker {
        StoreFixture.start(disk, shards: shards) {
            if isCold {
                $0.storage?.cold.fillPercent = 0
                $0.storage?.cold.readyCountMin = 2
                $0.storage?.cold.aheadByteCountMax = 60
            }
            var policy = DestinationPolicy(pattern: "/topic/#")
            policy.deadLettersExpired = true
            $0.destinationPolicies = [policy]
        }
    }

    private func connect(_ broker: TestBroker, on shard: Int = 0) -> Client {
        let client = broker.accept(on: shard)
        client.connect(clientID: "c")
        return client
    }

    /// Messages of the subscription, wherever they are.
    private func count(_ broker: TestBroker) -> Int {
        let counts = broker.shard(broker.owner(ofQueue: Self.queue)).pointee.coldCounts(ofQueue: Self.queue)
        return counts.ready + counts.cold + counts.behind
    }

    /// A subscription to /topic/old with so many messages, whose client is away.
    private func fill(_ broker: TestBroker, _ messageCount: Int, _ headers: [(String, String)] = persistent) {
        let client = connect(broker)
        client.confirmed(.subscribe, [("destination", "/topic/old"), ("id", "s")] + Self.named)
        client.confirmed(.disconnect)
        let publisher = broker.connect()
        for number in 1...messageCount { publisher.publish("/topic/old", "\(number)", headers) }
        broker.settle()
        #expect(count(broker) == messageCount)
    }

    @Test("Its messages go some in a turn; after a crash they are nobody's", arguments: [1, 2], [false, true])
    func someInATurn(shards: Int, isCold: Bool) {
        var broker = Self.start(FakeDisk(), shards: shards, isCold: isCold)
        fill(broker, 5000)
        let client = connect(broker)
        client.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        var counts = [5000, count(broker)]
        #expect(counts[1] > 0, "some are left for later turns")
        let crashed = broker.disk.restarted(afterPowerCut: true)
        while counts.last! > 0, counts.count < 100 {
            broker.advance(milliseconds: 1)
            counts.append(count(broker))
        }
        for (before, after) in zip(counts, counts.dropFirst()) { #expect(before - after <= Self.dropsPerTurnMax) }
        #expect(counts.last == 0)
        broker.settle()
        broker.finish()
        for disk in [crashed, broker.disk.restarted(afterPowerCut: true)] {
            broker = Self.start(disk, shards: 3 - shards, isCold: isCold)
            let next = connect(broker)
            next.confirmed(.subscribe, [("destination", "/topic/old"), ("id", "s")] + Self.named)
            #expect(next.bodies() == [])
            next.confirmed(.unsubscribe, [("id", "s")] + Self.named)
            broker.finish()
        }
    }

    @Test("Another of its name waits until they are dropped, and gets none of them", arguments: [1, 2], [0, 1])
    func another(shards: Int, place: Int) {
        let broker = Self.start(FakeDisk(), shards: shards)
        fill(broker, 3000)
        let client = connect(broker, on: place % shards)
        // It replaces the first one.
        client.send(.subscribe, [("destination", "/topic/new"), ("id", "s"), ("receipt", "1")] + Self.named)
        let publisher = broker.connect()
        publisher.publish("/topic/new", "early", Self.persistent)
        broker.run()
        #expect(count(broker) > 0 && client.frame() == nil)
        broker.advance(milliseconds: 10)
        #expect(client.frame()?["receipt-id"] == "1")
        publisher.confirmed(.send, [("destination", "/topic/new")] + Self.persistent, "late")
        publisher.confirmed(.send, [("destination", "/topic/old")] + Self.persistent, "elsewhere")
        #expect(client.bodies() == ["late"])
        client.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        broker.finish()
    }

    @Test("One that ends while it waits leaves nothing, and another may follow")
    func endedWhileItWaits() {
        let broker = Self.start(FakeDisk())
        fill(broker, 3000)
        let client = connect(broker)
        client.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        client.send(.subscribe, [("destination", "/topic/new"), ("id", "s"), ("receipt", "1")] + Self.named)
        broker.run()
        client.reset()
        broker.run()
        let other = connect(broker)
        other.send(.unsubscribe, [("id", "s"), ("receipt", "2")] + Self.named)
        other.expectError("Durable subscription in use", receipt: "2")
        broker.advance(milliseconds: 10)
        let last = connect(broker)
        last.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        last.confirmed(.subscribe, [("destination", "/topic/last"), ("id", "s")] + Self.named)
        last.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        broker.finish()
    }

    @Test("What another of its name has after a crash is never what the first one had", arguments: [false, true])
    func crash(isCold: Bool) {
        let broker = Self.start(FakeDisk(), isCold: isCold)
        fill(broker, 3000)
        let client = connect(broker)
        broker.holdDisk()
        client.send(.subscribe, [("destination", "/topic/new"), ("id", "s"), ("receipt", "1")] + Self.named)
        broker.run()
        var (oldCount, newCount, stepCount) = (0, 0, 0)
        while newCount < 2, stepCount < 100 {
            stepCount += 1
            if !broker.stepDisk() || stepCount % 3 == 0 { broker.advance(milliseconds: 1) }
            let contents = broker.disk.contents(afterPowerCut: true)
            var topics: [String] = []
            for queue in StoreFixture.recover(contents, #_sourceLocation).queues {
                queue.withSubscription { topics.append(String(decoding: $0.topic, as: UTF8.self)) }
            }
            if topics == ["/topic/new"] {
                newCount += 1
                #expect(StoreFixture.bodies(Self.queue, in: contents) == [])
            } else {
                oldCount += 1
            }
        }
        #expect(oldCount > 2 && newCount > 0)
        broker.disk.isHeld = false
        broker.advance(milliseconds: 10)
        #expect(client.frame()?["receipt-id"] == "1")
    }

    @Test("Messages that expire meanwhile go to no dead-letter queue")
    func expiry() {
        let broker = Self.start(FakeDisk(), isCold: false)
        fill(broker, 4000, Self.persistent + [("ttl", "100")])
        broker.advance(milliseconds: 85)
        let client = connect(broker)
        client.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        #expect(count(broker) > 0)
        broker.kernel.advance(milliseconds: 200, deadlineCountMax: 0)
        broker.advance(milliseconds: 200)
        #expect(broker.counters.messagesDeadLettered == 0)
        broker.finish()
    }
}
