import Broker
import Testing

/// How many queues one client may fill that nobody subscribes to.
@Suite("Queues that a client fills")
struct HolderTests {
    private static func options(_ count: Int = 2, _ policy: (inout DestinationPolicy) -> Void = { _ in })
        -> BrokerOptions
    {
        TestBroker.options {
            $0.limits.destinationsPerConnectionMax = count
            var all = DestinationPolicy(pattern: "/queue/#")
            policy(&all)
            $0.destinationPolicies = [all]
        }
    }

    /// So many names of queues that the last of so many workers holds.
    private static func names(_ broker: TestBroker, _ shards: Int) -> [String] {
        broker.queueNames(ownedBy: shards - 1)
    }

    @Test("At its limit a client is refused another, by SEND and by COMMIT; others are not", arguments: [1, 2])
    func limit(shards: Int) {
        withBroker(shards: shards, queued: 3, Self.options()) { broker in
            let names = Self.names(broker, shards)
            let client = broker.connect(on: 0)
            for name in names.prefix(2) { client.confirmed(.send, [("destination", name)], "x") }
            // More messages for the same queues are welcome.
            client.confirmed(.send, [("destination", names[0])], "more")
            client.send(.begin, [("transaction", "t")])
            client.publish(names[2], "x", [("transaction", "t")])
            client.publish(names[0], "not either", [("transaction", "t")])
            client.send(.commit, [("transaction", "t"), ("receipt", "c")])
            let error = client.expectError("Too many destinations", receipt: "c")
            #expect(error?.text.contains("limits.destinations-per-connection-max") == true)
            let other = broker.connect(on: 0)
            other.confirmed(.send, [("destination", names[0])], "of another")
            other.confirmed(.send, [("destination", "/topic/t")], "x")
            for name in names[2..<4] { other.confirmed(.send, [("destination", name)], "x") }
            other.send(.send, [("destination", names[4]), ("receipt", "r")], "x")
            other.expectError("Too many destinations", receipt: "r")
            let notices = broker.notices.filter { $0.kind == .tooManyDestinations }
            #expect(notices.count == 2)
            #expect(Set(notices.map { $0.client?.number }).count == 2)
            let consumer = broker.connect(on: 0)
            consumer.subscribe(names[0])
            #expect(consumer.bodies() == ["x", "more", "of another"])
        }
    }

    @Test("Several refusals of another worker are one ERROR, and one line in the log")
    func refusedTogether() {
        withBroker(shards: 2, queued: 1, Self.options(1)) { broker in
            let names = Self.names(broker, 2)
            let client = broker.connect(on: 0)
            client.confirmed(.send, [("destination", names[0])], "x")
            for name in names[1..<5] { client.publish(name, "x") }
            client.expectError("Too many destinations")
            #expect(broker.counters.limits[.destinationsPerConnection] == 1)
            #expect(broker.notices.count { $0.kind == .tooManyDestinations } == 1)
        }
    }

    @Test("Under the policy block a client at its limit is refused, and does not wait", arguments: [1, 2])
    func block(shards: Int) {
        withBroker(shards: shards, queued: 2, Self.options { $0.overflow = .block }) { broker in
            let names = Self.names(broker, shards)
            let client = broker.connect(on: 0)
            for name in names.prefix(2) { client.confirmed(.send, [("destination", name)], "x") }
            client.send(.send, [("destination", names[2]), ("receipt", "r")], "x")
            client.expectError("Too many destinations", receipt: "r")
        }
    }

    @Test("A queue counts while it has messages and no consumer", arguments: [1, 2])
    func consumers(shards: Int) {
        withBroker(shards: shards, queued: 2, Self.options()) { broker in
            let names = Self.names(broker, shards)
            let client = broker.connect(on: 0)
            let consumer = broker.connect(on: 0)
            for name in names.prefix(2) { client.confirmed(.send, [("destination", name)], "x") }
            // Emptied: it counts no more.
            consumer.confirmed(.subscribe, [("destination", names[0]), ("id", "0")])
            #expect(consumer.bodies() == ["x"])
            consumer.confirmed(.unsubscribe, [("id", "0")])
            client.confirmed(.send, [("destination", names[2])], "x")
            // Subscribed to: neither.
            consumer.confirmed(
                .subscribe, [("destination", names[2]), ("id", "2"), ("ack", "client-individual")])
            #expect(consumer.bodies() == ["x"])
            client.confirmed(.send, [("destination", names[3])], "x")
            // The consumer leaves, and the message is still there.
            consumer.confirmed(.unsubscribe, [("id", "2")])
            client.send(.send, [("destination", names[4]), ("receipt", "r")], "x")
            client.expectError("Too many destinations", receipt: "r")
            consumer.confirmed(.subscribe, [("destination", names[2]), ("id", "2")])
            #expect(consumer.bodies() == ["x"])
        }
    }

    @Test("A queue that was filled while it had a consumer counts when that has left")
    func consumerFirst() {
        withBroker(queued: 3, Self.options()) { broker in
            let client = broker.connect()
            let consumer = broker.connect()
            for index in 0..<3 {
                consumer.subscribe("/queue/\(index)", id: "\(index)", ack: "client-individual")
                broker.run()
                client.confirmed(.send, [("destination", "/queue/\(index)")], "x")
            }
            consumer.confirmed(.disconnect)
            client.send(.send, [("destination", "/queue/3"), ("receipt", "r")], "x")
            client.expectError("Too many destinations", receipt: "r")
        }
    }

    @Test("What expires, and what a transaction gives back, counts no more", arguments: [1, 2])
    func release(shards: Int) {
        withBroker(shards: shards, queued: 2, Self.options()) { broker in
            let names = Self.names(broker, shards)
            let client = broker.connect(on: 0)
            for name in names.prefix(2) { client.confirmed(.send, [("destination", name), ("ttl", "50")], "x") }
            broker.advance(milliseconds: 100)
            for name in names[2..<4] { client.confirmed(.send, [("destination", name)], "x") }
            // Expired on arrival.
            let other = broker.connect(on: 0)
            for name in names[4..<8] { other.confirmed(.send, [("destination", name), ("expires", "1")], "x") }
        }
    }

    @Test("Temporary queues have a limit of their own")
    func temporary() {
        withBroker(queued: 1, Self.options(1)) { broker in
            let client = broker.connect()
            for index in 0..<3 { client.confirmed(.send, [("destination", "/temp-queue/\(index)")], "x") }
            client.confirmed(.send, [("destination", "/queue/0")], "x")
            client.send(.send, [("destination", "/queue/1"), ("receipt", "r")], "x")
            client.expectError("Too many destinations", receipt: "r")
        }
    }

    @Test("A queue of dead letters counts for who sent what is dead", arguments: [1, 2])
    func deadLetters(shards: Int) {
        withBroker(shards: shards, queued: 3, Self.options(1) { $0.deadLetterDestination = "" }) { broker in
            let client = broker.connect(on: 0)
            let consumer = broker.connect(on: 0)
            // Both with the last worker: each worker counts its own.
            let names = Self.names(broker, shards)
            for index in 0..<3 {
                consumer.confirmed(
                    .subscribe,
                    [
                        ("destination", names[index]), ("id", "\(index)"), ("ack", "client-individual"),
                        ("x-dead-letter-routing-key", names[index + 4]),
                    ])
                // It has a consumer, so it may be sent to whatever the client has filled.
                client.confirmed(.send, [("destination", names[index])], "x")
                let message = consumer.messages()[0]
                consumer.confirmed(.nack, [("id", message["ack"]!), ("requeue", "false")])
            }
            client.send(.send, [("destination", names[3]), ("receipt", "r")], "x")
            client.expectError("Too many destinations", receipt: "r")
            let other = broker.connect(on: 0)
            other.confirmed(.subscribe, [("destination", names[4]), ("id", "0"), ("ack", "client-individual")])
            #expect(other.bodies() == ["x"])
        }
    }

    @Test("The connections of an address share a limit where there is one", arguments: [1, 2])
    func addresses(shards: Int) {
        let options = TestBroker.options {
            $0.limits.destinationsPerAddressMax = 3
            var blocking = DestinationPolicy(pattern: "/queue/#")
            blocking.overflow = .block
            $0.destinationPolicies = [blocking]
        }
        withBroker(shards: shards, queued: 4, options) { broker in
            let names = Self.names(broker, shards)
            func client(_ address: UInt64) -> Client {
                let client = broker.accept(on: 0, address: address)
                client.connect()
                return client
            }
            for name in names.prefix(3) { client(7).confirmed(.send, [("destination", name)], "x") }
            let last = client(7)
            last.send(.send, [("destination", names[3]), ("receipt", "r")], "x")
            let error = last.expectError("Too many destinations", receipt: "r")
            #expect(error?.text.contains("limits.destinations-per-address-max") == true)
            let committer = client(7)
            committer.send(.begin, [("transaction", "t")])
            committer.publish(names[3], "x", [("transaction", "t")])
            committer.send(.commit, [("transaction", "t"), ("receipt", "c")])
            committer.expectError("Too many destinations", receipt: "c")
            client(8).confirmed(.send, [("destination", names[3])], "x")
        }
    }

    @Test("Queues full of messages leave topics their room, and the other way round", arguments: [1, 2])
    func rooms(shards: Int) {
        withBroker(shards: shards, queued: 3, TestBroker.options { $0.limits.destinationCountMax = 4 }) { broker in
            let names = Self.names(broker, shards)
            let client = broker.connect(on: shards - 1)
            for name in names.prefix(4) { client.confirmed(.send, [("destination", name)], "x") }
            for index in 0..<4 {
                client.confirmed(.subscribe, [("destination", "/topic/\(index)"), ("id", "\(index)")])
                client.publish("/topic/\(index)", "\(index)")
                #expect(client.bodies() == ["\(index)"])
            }
            client.confirmed(.send, [("destination", names[0])], "y")
            client.confirmed(.send, [("destination", "/topic/unused")], "x")
            let other = broker.connect(on: shards - 1)
            other.subscribe(names[0])
            #expect(other.bodies() == ["x", "y"])
            client.send(.send, [("destination", names[4]), ("receipt", "r")], "x")
            client.expectError("Too many destinations", receipt: "r")
        }
    }

    @Test("A queue that nobody uses is forgotten, with what its first user asked of it")
    func idleExpiry() {
        let options = Self.options {
            $0.idleMillisecondsMax = 1_000
            $0.deadLetterDestination = ""
        }
        withBroker(options) { broker in
            let client = broker.connect()
            func fill(_ count: Int) {
                for _ in 0..<count { client.confirmed(.send, [("destination", "/queue/a")], "x") }
            }
            func drain() -> Int {
                client.subscribe("/queue/a")
                let count = client.bodies().count
                client.confirmed(.unsubscribe, [("id", "0")])
                return count
            }
            client.confirmed(
                .send, [("destination", "/queue/a"), ("x-max-length", "3"), ("x-overflow", "drop-head")], "x")
            fill(9)
            #expect(drain() == 3)
            // Used again in time, it is what it was.
            broker.advance(milliseconds: 900)
            fill(9)
            broker.advance(milliseconds: 2_000)
            #expect(drain() == 3)
            broker.advance(milliseconds: 900)
            fill(9)
            #expect(drain() == 3)
            broker.advance(milliseconds: 1_100)
            fill(9)
            #expect(drain() == 9)
        }
    }

    @Test(
        "A queue with messages that nobody uses goes where its policy says so, and at no time else", arguments: [1, 2])
    func idleExpiryWithMessages(shards: Int) {
        let options = Self.options(10) { $0.idleWithMessagesMillisecondsMax = 1_000 }
        withBroker(shards: shards, options) { broker in
            let name = Self.names(broker, shards)[0]
            let client = broker.connect(on: 0)
            func dropped() -> UInt64 { broker.shard(shards - 1).pointee.counters.messagesDropped }
            for _ in 0..<3 {
                client.confirmed(.send, [("destination", name)], "x")
                broker.advance(milliseconds: 700)
            }
            #expect(dropped() == 0)
            // A consumer that has taken some, and its leaving, are uses.
            client.confirmed(
                .subscribe, [("destination", name), ("id", "0"), ("ack", "client-individual"), ("prefetch-count", "2")])
            broker.advance(milliseconds: 5_000)
            #expect(client.bodies() == ["x", "x"])
            client.confirmed(.unsubscribe, [("id", "0")])
            broker.advance(milliseconds: 700)
            #expect(dropped() == 0)
            broker.advance(milliseconds: 400)
            #expect(dropped() == 3)
            let notice = broker.notices.last { $0.kind == .messagesDropped }
            #expect(notice?.text.contains("3 of \(name): nobody used it") == true)
            client.confirmed(.subscribe, [("destination", name), ("id", "0")])
            #expect(client.bodies() == [])
        }
    }

    @Test("Many messages of a queue that nobody uses go over several turns, and all of them")
    func manyDropped() {
        withBroker(Self.options(10) { $0.idleWithMessagesMillisecondsMax = 1_000 }) { broker in
            let client = broker.connect()
            for _ in 0..<3_000 { client.publish("/queue/a", "x") }
            client.confirmed(.send, [("destination", "/queue/a")], "x")
            broker.advance(milliseconds: 1_100)
            #expect(broker.counters.messagesDropped == 3_001)
            #expect(broker.shard(0).pointee.audit().queuedMessages == 0)
        }
    }
}
