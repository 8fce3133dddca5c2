import Broker
import FakeKernel
import STOMP
import Testing

/// Messages that failed too often, and whose dead-letter queue another worker holds.
@Suite("Room in the dead-letter queue of another worker")
struct DeadLetterRoomTests {
    private static let persistent = [("persistent", "true")]

    /// A message fails once; the dead-letter queue takes one.
    private static func change(_ options: inout BrokerOptions) {
        var all = DestinationPolicy(pattern: "/queue/#")
        all.deliveryCountMax = 1
        var dead = DestinationPolicy(pattern: "/queue/DLQ")
        dead.queueMessageCountMax = 1
        options.destinationPolicies = [dead, all]
    }

    private func queue(_ broker: TestBroker) -> String {
        broker.queueNames(ownedBy: 1 - broker.owner(ofQueue: "/queue/DLQ"))[0]
    }

    /// A broker with two messages in a queue whose dead letters are another worker's.
    private func start(isStored: Bool) -> (TestBroker, String) {
        let broker =
            isStored
            ? StoreFixture.start(FakeDisk(), shards: 2, Self.change)
            : TestBroker(shards: 2, TestBroker.options(Self.change))
        let queue = queue(broker)
        let publisher = broker.connect()
        for body in ["1", "2"] { publisher.confirmed(.send, [("destination", queue)] + Self.persistent, body) }
        return (broker, queue)
    }

    private func subscribe(_ client: Client, _ queue: String, id: String = "0") {
        client.confirmed(.subscribe, [("destination", queue), ("id", id), ("ack", "client-individual")])
    }

    @Test("While that is full the message stays in its queue; then it goes there", arguments: [0, 1], [false, true])
    func full(consumerShard: Int, isStored: Bool) {
        let (broker, queue) = start(isStored: isStored)
        let consumer = broker.connect(on: consumerShard)
        subscribe(consumer, queue)
        let messages = consumer.messages()
        for message in messages { consumer.ack(message, nack: true) }
        let second = consumer.messages()
        #expect(second.map(\.text) == ["2"], "it is back in its queue")
        #expect(broker.counters.messagesDropped == 0 && broker.counters.messagesDeadLettered == 1)
        let reader = broker.connect()
        subscribe(reader, "/queue/DLQ")
        var dead = reader.messages()
        #expect(dead.map(\.text) == ["1"])
        reader.confirmed(.ack, [("id", dead[0]["ack"]!)])
        consumer.confirmed(.nack, [("id", second[0]["ack"]!)])
        dead = reader.messages()
        #expect(dead.map(\.text) == ["2"] && dead.map { $0["dead-letter-reason"] } == ["delivery-limit"])
        reader.confirmed(.ack, [("id", dead[0]["ack"]!)])
        #expect(consumer.bodies() == [])
        broker.settle()
        broker.finish()
    }

    @Test("In a transaction too: what it refuses moves behind it, or stays", arguments: [false, true])
    func transaction(isStored: Bool) {
        let (broker, queue) = start(isStored: isStored)
        let consumer = broker.connect()
        subscribe(consumer, queue)
        consumer.send(.begin, [("transaction", "t")])
        for message in consumer.messages() { consumer.ack(message, [("transaction", "t")], nack: true) }
        consumer.publish("/queue/DLQ.other", "x", Self.persistent + [("transaction", "t")])
        consumer.confirmed(.commit, [("transaction", "t")])
        #expect(consumer.bodies() == ["2"])
        #expect(broker.counters.messagesDropped == 0)
        let reader = broker.connect()
        for name in ["/queue/DLQ", "/queue/DLQ.other"] { subscribe(reader, name, id: name) }
        let read = reader.messages()
        #expect(read.map(\.text).sorted() == ["1", "x"])
        for message in read { reader.confirmed(.ack, [("id", message["ack"]!)]) }
        broker.finish(queued: 1)
    }

    @Test("After a crash at any moment a message is in one of the two queues")
    func crash() {
        let broker = StoreFixture.start(FakeDisk(), shards: 2, Self.change)
        let queue = queue(broker)
        let publisher = broker.connect()
        for body in ["1", "2"] { publisher.confirmed(.send, [("destination", queue)] + Self.persistent, body) }
        let consumer = broker.connect()
        subscribe(consumer, queue)
        let messages = consumer.messages()
        broker.holdDisk()
        for message in messages { consumer.ack(message, nack: true) }
        broker.run()
        repeat {
            let contents = broker.disk.contents(afterPowerCut: true)
            let bodies = [queue, "/queue/DLQ"].flatMap { StoreFixture.bodies($0, in: contents) }
            #expect(bodies.sorted() == ["1", "2"])
        } while broker.stepDisk()
        broker.advance(milliseconds: 10)
        while broker.stepDisk() {}
        let contents = broker.disk.contents(afterPowerCut: true)
        #expect(StoreFixture.bodies("/queue/DLQ", in: contents) == ["1"])
        #expect(StoreFixture.bodies(queue, in: contents) == ["2"])
    }

    @Test("A queue that ends meanwhile takes its message with it, and gives the room back")
    func ended() {
        withBroker(shards: 2, TestBroker.options(Self.change)) { broker in
            let dead = broker.owner(ofQueue: "/queue/DLQ")
            let client = broker.connect(on: 1 - dead)
            client.subscribe("/temp-queue/a", ack: "client-individual")
            client.publish("/temp-queue/a", "1")
            for number in 1...10 {
                let messages = client.messages()
                #expect(messages.count == 1, "\(number)")
                for message in messages { client.ack(message, nack: true) }
            }
            // It has failed so often that it is to move: its owner has not answered yet.
            broker.turn(1 - dead)
            client.reset()
            broker.turn(1 - dead)
            broker.run()
            #expect(broker.audit(dead).queuedMessages == 0)
            #expect(broker.counters.messagesDeadLettered == 0)
        }
    }

    @Test("A message whose time ends meanwhile is told of once")
    func expired() {
        withBroker(shards: 2, TestBroker.options(Self.change)) { broker in
            let (queue, dead) = (queue(broker), broker.owner(ofQueue: "/queue/DLQ"))
            let client = broker.connect(on: 1 - dead)
            client.publish(queue, "1", [("ttl", "50")])
            subscribe(client, queue)
            for message in client.messages() { client.ack(message, nack: true) }
            broker.turn(1 - dead)
            broker.stepWallClock(milliseconds: 100)
            broker.run()
            #expect(broker.counters.messagesExpired == 1 && broker.counters.messagesDeadLettered == 0)
            #expect(broker.audit(dead).queuedMessages == 0)
        }
    }
}
