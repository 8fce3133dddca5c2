import Broker
import FakeKernel
import Testing

/// COMMIT to a queue beyond memory whose oldest messages make room: what it was promised is taken, all of it.
@Suite("Messages in the log alone: COMMIT")
struct ColdCommitTests {
    private static let persistent = [("persistent", "true")]

    /// A queue holds 20 messages, and all but two ready ones of them leave memory.
    private static func start(shards: Int) -> TestBroker {
        StoreFixture.start(FakeDisk(), shards: shards) {
            $0.storage?.cold.fillPercent = 0
            $0.storage?.cold.readyCountMin = 2
            $0.storage?.cold.readByteCountMax = 1000
            $0.storage?.cold.aheadByteCountMax = 60
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.overflow = .dropOldest
            policy.queueMessageCountMax = 20
            policy.deadLetterDestination = ""
            $0.destinationPolicies = [policy]
        }
    }

    private static func texts(_ numbers: ClosedRange<Int>) -> [String] { numbers.map { "\($0)" } }

    private func coldCount(_ broker: TestBroker) -> Int {
        broker.shard(broker.owner(ofQueue: "/queue/a")).pointee.coldCounts(ofQueue: "/queue/a").cold
    }

    private func fill(_ client: Client, _ numbers: ClosedRange<Int>) {
        for number in numbers { client.publish("/queue/a", "\(number)", Self.persistent) }
        client.broker.settle()
    }

    /// Takes and acknowledges messages until none comes. Returns their bodies.
    private func take(_ client: Client) -> [String] {
        var bodies: [String] = []
        while case let messages = client.messages(), !messages.isEmpty {
            bodies += messages.map(\.text)
            for message in messages { client.ack(message) }
        }
        client.broker.run()
        return bodies
    }

    @Test("Where the oldest make room, COMMIT is not refused for a message that waits for its time", arguments: [1, 3])
    func dropOldestForDelayed(shards: Int) {
        let broker = Self.start(shards: shards)
        // Of a worker that owns the queue, and of one that does not.
        for index in 0..<shards {
            let client = broker.connect(on: index)
            fill(client, 1...20)
            client.send(.begin, [("transaction", "t")])
            // More than there are ready messages to drop at once.
            for number in 21...23 {
                client.publish("/queue/a", "\(number)", Self.persistent + [("transaction", "t")])
            }
            client.publish("/queue/a", "later", Self.persistent + [("transaction", "t"), ("x-delay", "1000")])
            client.confirmed(.commit, [("transaction", "t")])
            broker.settle()
            let consumer = broker.connect()
            consumer.subscribe("/queue/a", ack: "client-individual")
            #expect(take(consumer) == Self.texts(4...23))
            broker.advance(milliseconds: 1100)
            #expect(take(consumer) == ["later"])
            consumer.send(.disconnect)
            broker.run()
        }
        broker.finish()
    }

    @Test("What COMMIT was promised is kept, though what was to make room is with a consumer by then")
    func promisedRoom() {
        let broker = Self.start(shards: 2)
        let owner = broker.owner(ofQueue: "/queue/a")
        let other = broker.queueNames(ownedBy: 1 - owner)[0]
        let client = broker.connect(on: owner)
        let consumer = broker.connect(on: owner)
        consumer.subscribe("/queue/a", ack: "client-individual", [("prefetch-count", "15")])
        fill(client, 1...20)
        #expect(consumer.messages().count == 15)
        #expect(coldCount(broker) >= 3)
        client.send(.begin, [("transaction", "t")])
        for number in 21...30 {
            client.publish("/queue/a", "\(number)", Self.persistent + [("transaction", "t")])
        }
        client.publish(other, "other", Self.persistent + [("transaction", "t")])
        broker.run()
        client.send(.commit, [("transaction", "t"), ("receipt", "r")])
        // The other worker's answer waits while the last cold messages are read, and dropped.
        let second = broker.connect(on: owner)
        second.subscribe("/queue/a", ack: "client-individual")
        for _ in 0..<200 {
            broker.kernel.turn(owner)
            _ = broker.kernel.stepDisk()
        }
        #expect(coldCount(broker) == 0)
        broker.run()
        #expect(client.takeFrames().map { $0["receipt-id"] } == ["r"])
        // 15 are with the consumer: what exceeds the limit goes then, the oldest first.
        #expect(take(second) == Self.texts(26...30))
    }
}
