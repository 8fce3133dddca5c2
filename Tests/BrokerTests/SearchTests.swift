import Broker
import STOMP
import Testing

/// Deliveries and places in queues are found without a walk over all there are.
@Suite("Searches")
struct SearchTests {
    /// A client with many acknowledging subscriptions to one topic, and what it was sent, by message and subscription.
    private struct Hoarder {
        var client: Client
        var messages: [ClientFrame]

        init(_ broker: TestBroker, _ version: Version, subscriptions: Int, messages: Int, ack: String) {
            client = broker.connect(version)
            for id in 0..<subscriptions { client.subscribe("/topic/t", id: "\(id)", ack: ack) }
            broker.run()
            let publisher = broker.connect()
            for index in 0..<messages { publisher.publish("/topic/t", "\(index)") }
            self.messages = client.messages()
            publisher.hangUp()
            broker.run()
        }
    }

    private static func deliveryCount(_ broker: TestBroker) -> Int { broker.audit().deliveries }

    /// What the last turn took of its allowance.
    private static func recordCount(_ broker: TestBroker) -> Int { broker.shard(0).pointee.chargedRecordCount }

    @Test("An ACK of 1.0 or 1.1 costs as much whatever else waits", arguments: [Version.v1_0, .v1_1])
    func acknowledging(version: Version) {
        withBroker { broker in
            let hoarder = Hoarder(broker, version, subscriptions: 60, messages: 60, ack: "client-individual")
            #expect(Self.deliveryCount(broker) == 3600)
            // The last message of each subscription, then all others.
            let last = hoarder.messages.filter { $0.text == "59" }
            let others = hoarder.messages.filter { $0.text != "59" }
            for message in last { hoarder.client.ack(message) }
            broker.turn(0)
            #expect(Self.deliveryCount(broker) == 3540)
            #expect(Self.recordCount(broker) < 16)
            for message in others.reversed() { hoarder.client.ack(message) }
            broker.run()
            #expect(Self.deliveryCount(broker) == 0)
            hoarder.client.ack(last[0])
            hoarder.client.expectError("Message not found")
        }
    }

    @Test("In 1.0 an ACK without a subscription is for one that has the message")
    func withoutSubscription() {
        withBroker { broker in
            let hoarder = Hoarder(broker, .v1_0, subscriptions: 3, messages: 2, ack: "client-individual")
            let other = Hoarder(broker, .v1_0, subscriptions: 1, messages: 0, ack: "client")
            let first = hoarder.messages.filter { $0.text == "0" }
            // One that is named, then any of the two that are left, then the last.
            hoarder.client.send(.ack, [("message-id", first[0]["message-id"]!), ("subscription", "1")])
            hoarder.client.send(.begin, [("transaction", "t")])
            hoarder.client.ack(first[0], [("transaction", "t")])
            hoarder.client.send(.commit, [("transaction", "t")])
            hoarder.client.confirmed(.nack, [("message-id", first[0]["message-id"]!)])
            #expect(Self.deliveryCount(broker) == 3)
            other.client.ack(first[0])
            other.client.expectError("Message not found")
            hoarder.client.send(.ack, [("message-id", first[0]["message-id"]!), ("subscription", "1")])
            hoarder.client.expectError("Message not found")
        }
    }

    @Test("COMMIT applies an ACK to what it was for when it came", arguments: Version.allCases)
    func subscriptionEnds(version: Version) {
        withBroker { broker in
            let hoarder = Hoarder(broker, version, subscriptions: 1, messages: 2, ack: "client-individual")
            hoarder.client.send(.begin, [("transaction", "t")])
            hoarder.client.ack(hoarder.messages[0], [("transaction", "t")])
            hoarder.client.send(.unsubscribe, [("id", "0")])
            hoarder.client.send(.commit, [("transaction", "t"), ("receipt", "r")])
            hoarder.client.expectError("Message not found", receipt: "r")
        }
    }

    @Test("ABORT costs as much as the ACKs in the transaction did", arguments: Version.allCases)
    func aborting(version: Version) {
        withBroker { broker in
            let hoarder = Hoarder(broker, version, subscriptions: 60, messages: 60, ack: "client-individual")
            for _ in 0..<4 {
                hoarder.client.send(.begin, [("transaction", "t")])
                hoarder.client.ack(hoarder.messages[1800], [("transaction", "t")])
                hoarder.client.send(.abort, [("transaction", "t")])
            }
            broker.turn(0)
            #expect(Self.recordCount(broker) < 16)
            #expect(broker.audit().transactions == 0)
            hoarder.client.ack(hoarder.messages[1800])
            broker.run()
            #expect(Self.deliveryCount(broker) == 3599)
        }
    }

    @Test("ABORT goes once over what many cumulative ACKs were for", arguments: Version.allCases)
    func abortingCumulative(version: Version) {
        withBroker { broker in
            let hoarder = Hoarder(broker, version, subscriptions: 1, messages: 200, ack: "client")
            hoarder.client.send(.begin, [("transaction", "t")])
            for message in hoarder.messages { hoarder.client.ack(message, [("transaction", "t")]) }
            broker.run()
            #expect(Self.marks(broker) == 200)
            hoarder.client.send(.abort, [("transaction", "t")])
            broker.turn(0)
            #expect(Self.marks(broker) == 0)
            #expect(Self.recordCount(broker) < 8)
        }
    }

    @Test("Cumulative ACKs in transactions that come and go are forgotten exactly", arguments: Version.allCases)
    func cumulative(version: Version) {
        withBroker { broker in
            let hoarder = Hoarder(broker, version, subscriptions: 2, messages: 40, ack: "client")
            // In 1.0 an ACK without a subscription might go to either.
            let bySubscription = (0..<2).map { id in hoarder.messages.filter { $0["subscription"] == "\(id)" } }
            var model = bySubscription.map { $0.map { _ in 0 } }
            var random = SplitMix(state: 3)
            var isOpen = [1: false, 2: false]
            func acknowledge(_ transaction: Int) {
                let id = random.next(2)
                let place = random.next(40)
                guard model[id][place] == 0 else { return }
                var headers = [("transaction", "\(transaction)")]
                if version == .v1_0 { headers.append(("subscription", "\(id)")) }
                hoarder.client.ack(bySubscription[id][place], headers)
                for earlier in 0...place where model[id][earlier] == 0 { model[id][earlier] = transaction }
            }
            for _ in 0..<600 {
                let transaction = 1 + random.next(2)
                if isOpen[transaction]! {
                    if random.next(4) != 0 {
                        acknowledge(transaction)
                        continue
                    }
                    hoarder.client.send(.abort, [("transaction", "\(transaction)")])
                    for id in 0..<2 {
                        for place in 0..<40 where model[id][place] == transaction { model[id][place] = 0 }
                    }
                } else {
                    hoarder.client.send(.begin, [("transaction", "\(transaction)")])
                }
                isOpen[transaction]!.toggle()
                broker.run()
                #expect(Self.marks(broker) == model.joined().filter { $0 != 0 }.count)
            }
            for transaction in 1...2 where isOpen[transaction]! {
                hoarder.client.send(.commit, [("transaction", "\(transaction)")])
            }
            broker.run()
            #expect(hoarder.client.takeFrames().isEmpty)
            #expect(Self.deliveryCount(broker) == model.joined().filter { $0 == 0 }.count)
            #expect(Self.marks(broker) == 0)
        }
    }

    /// Deliveries that are acknowledged in an open transaction.
    private static func marks(_ broker: TestBroker) -> Int { broker.shard(0).pointee.markedDeliveryCount }

    // MARK: Returning to a queue

    /// A client that has all of a queue's messages, and whose consumers are paused, so that what it lets go stays.
    private static func pausedConsumer(_ broker: TestBroker, messages count: Int) -> (Client, [ClientFrame]) {
        let client = broker.connect()
        for id in 0..<4 { client.subscribe("/queue/q", id: "\(id)", ack: "client-individual") }
        broker.run()
        let publisher = broker.connect()
        for index in 0..<count { publisher.publish("/queue/q", "\(index)") }
        let messages = client.messages()
        client.subscribe("/queue/large", id: "large")
        broker.run()
        client.socket.room = 0
        publisher.publish("/queue/large", String(repeating: "x", count: 60_000))
        publisher.publish("/queue/large", String(repeating: "x", count: 60_000))
        broker.run()
        publisher.hangUp()
        broker.run()
        return (client, messages)
    }

    private static func options() -> BrokerOptions {
        TestBroker.options {
            $0.limits.outputByteCountMax = 100_000
            $0.limits.outputStallMillisecondsMax = 3_600_000
        }
    }

    /// The orders of a queue's ready messages, as they are in the list.
    private static func orders(_ broker: TestBroker, _ name: String) -> [UInt64] {
        broker.shard(0).pointee.readyOrders(ofQueue: name)
    }

    @Test("Messages that return one by one in order take no search", arguments: [false, true])
    func returningInOrder(isDescending: Bool) {
        withBroker(queued: 2000, Self.options()) { broker in
            let (client, messages) = Self.pausedConsumer(broker, messages: 2000)
            #expect(messages.count == 2000)
            let odd = stride(from: 1, to: 2000, by: 2).map { messages[$0] }
            let even = stride(from: 0, to: 2000, by: 2).map { messages[$0] }
            for half in [odd, even] {
                for message in isDescending ? half.reversed() : half { client.ack(message, nack: true) }
                broker.turn(0)
                // Some steps for each of the second half, and one way through all of the first.
                #expect(Self.recordCount(broker) < 32)
            }
            let orders = Self.orders(broker, "/queue/q")
            #expect(orders.count == 2000 && orders == orders.sorted())
            client.socket.room = .max
        }
    }

    @Test("Messages that return in any order take their places, and a long search ends the client's turn")
    func returningInAnyOrder() {
        let broker = TestBroker(Self.options())
        var (client, messages) = Self.pausedConsumer(broker, messages: 1500)
        #expect(messages.count == 1500)
        var random = SplitMix(state: 11)
        for index in messages.indices.dropFirst() {
            messages.swapAt(index, random.next(index + 1))
        }
        var returned = 0
        var rejected = 0
        var frames = ""
        for message in messages {
            switch random.next(8) {
            case 0: frames += "ACK\nid:\(message["ack"]!)\n\n\0"
            case 1:
                frames += "NACK\nid:\(message["ack"]!)\nrequeue:false\n\n\0"
                rejected += 1
            default:
                frames += "NACK\nid:\(message["ack"]!)\n\n\0"
                returned += 1
            }
        }
        client.write(frames)
        broker.turn(0)
        #expect(Self.orders(broker, "/queue/q").count < returned)
        broker.run()
        let orders = Self.orders(broker, "/queue/q")
        #expect(orders.count == returned && orders == orders.sorted())
        #expect(broker.shard(0).pointee.auditQueues() == nil)
        // Whoever comes next gets them as they were sent.
        client.reset()
        broker.run()
        let other = broker.connect()
        other.subscribe("/queue/q", id: "1")
        let numbers = other.messages().compactMap { Int($0.text) }
        #expect(numbers.count == returned && numbers == numbers.sorted())
        // The two large ones too are queued again.
        broker.finish(queued: rejected + 2)
    }
}
