import Broker
import FakeKernel
import STOMP
import Testing

/// What outlives its client, with several hosts.
@Suite("Virtual hosts and features")
struct HostFeatureTests {
    private static let persistent = [("persistent", "true")]

    private static func withHosts(
        shards: Int = 1, queued: Int = 0, _ change: (inout BrokerOptions) -> Void = { _ in },
        _ body: (TestBroker) throws -> Void
    ) rethrows {
        try withBroker(shards: shards, queued: queued, HostTests.options(change), body)
    }

    // MARK: What is kept

    @Test("Durable subscriptions of the same name are others with each host", arguments: [1, 2, 4], [true, false])
    func durable(shards: Int, isNamed: Bool) {
        let headers = isNamed ? [("activemq.subscriptionName", "s")] : [("durable", "true"), ("auto-delete", "false")]
        Self.withHosts(shards: shards) { broker in
            for pattern in ["/topic/a.x", "/topic/a.*"] {
                for client in HostTests.clients(broker, clientID: "c") {
                    client.confirmed(.subscribe, [("destination", pattern), ("id", "s")] + headers)
                    client.confirmed(.disconnect)
                }
                for (place, client) in HostTests.clients(broker).enumerated() {
                    client.confirmed(.send, [("destination", "/topic/a.x")], "\(place)")
                }
                for (place, client) in HostTests.clients(broker, clientID: "c").enumerated() {
                    client.confirmed(.subscribe, [("destination", pattern), ("id", "s")] + headers)
                    let messages = client.messages()
                    #expect(messages.map(\.text) == ["\(place)"])
                    #expect(messages.map { $0["destination"] } == ["/topic/a.x"])
                    client.confirmed(.unsubscribe, [("destination", pattern), ("id", "s")] + headers)
                    client.confirmed(.disconnect)
                }
            }
        }
    }

    @Test("The end of one host's durable subscription is not the end of another's", arguments: [true, false])
    func durableEnds(isNamed: Bool) {
        let headers = isNamed ? [("activemq.subscriptionName", "s")] : [("durable", "true"), ("auto-delete", "false")]
        let all = [("destination", "/topic/a"), ("id", "s")] + headers
        Self.withHosts { broker in
            for client in HostTests.clients(broker, clientID: "c") {
                client.confirmed(.subscribe, all)
                client.confirmed(.disconnect)
            }
            HostTests.connect(broker, to: "shop", clientID: "c").confirmed(.unsubscribe, all)
            for client in HostTests.clients(broker) { client.confirmed(.send, [("destination", "/topic/a")], "x") }
            for (host, expected) in [("/", ["x"]), ("shop", []), ("blog", ["x"])] {
                let client = HostTests.connect(broker, to: host, clientID: "d\(host)")
                guard !isNamed else { continue }
                client.confirmed(.subscribe, all)
                #expect(client.bodies() == expected)
                client.confirmed(.unsubscribe, all)
            }
            guard isNamed else { return }
            for (host, expected) in [("/", ["x"]), ("blog", ["x"])] {
                let client = HostTests.connect(broker, to: host, clientID: "c")
                client.confirmed(.subscribe, all)
                #expect(client.bodies() == expected)
                client.confirmed(.unsubscribe, all)
            }
        }
    }

    @Test("Each host has a log of its own, from offset 0 on", arguments: [1, 2, 4])
    func logs(shards: Int) {
        Self.withHosts(shards: shards) {
            var policy = DestinationPolicy(pattern: "/topic/log.#")
            policy.logMessageCountMax = 10
            $0.destinationPolicies = [policy]
        } _: { broker in
            for (place, client) in HostTests.clients(broker).enumerated() {
                for number in 0..<3 {
                    client.confirmed(.send, [("destination", "/topic/log.a")], "\(place) \(number)")
                }
            }
            for (place, client) in HostTests.clients(broker).enumerated() {
                client.subscribe("/topic/log.a", [("x-stream-offset", "first")])
                let messages = client.messages()
                #expect(messages.map(\.text) == (0..<3).map { "\(place) \($0)" })
                #expect(messages.map { $0["x-stream-offset"] } == ["0", "1", "2"])
                #expect(messages.allSatisfy { $0["destination"] == "/topic/log.a" })
            }
        }
    }

    @Test("What a topic retains is given to subscribers of its host, plain and by pattern", arguments: [1, 3])
    func retained(shards: Int) {
        Self.withHosts(shards: shards) { broker in
            for (place, client) in HostTests.clients(broker).enumerated() where place != 1 {
                client.confirmed(.send, [("destination", "/topic/price"), ("retain", "set")], "\(place)")
            }
            for (place, client) in HostTests.clients(broker).enumerated() {
                for (id, destination) in ["/topic/price", "/topic/*", "/topic/#"].enumerated() {
                    client.subscribe(destination, id: "\(id)", ack: id == 2 ? "client" : "auto")
                    let messages = client.messages()
                    #expect(messages.map(\.text) == (place == 1 ? [] : ["\(place)"]))
                    #expect(messages.allSatisfy { $0["destination"] == "/topic/price" })
                }
            }
            HostTests.connect(broker, to: "/").confirmed(
                .send, [("destination", "/topic/price"), ("retain", "remove")])
            let client = HostTests.connect(broker, to: "blog")
            client.subscribe("/topic/price")
            #expect(client.bodies() == ["2"])
        }
    }

    @Test("Delayed messages come to their own host", arguments: [1, 2, 4])
    func delayed(shards: Int) {
        Self.withHosts(shards: shards) { broker in
            let consumers = HostTests.clients(broker)
            for client in consumers {
                client.subscribe("/queue/a", id: "q")
                client.subscribe("/topic/a", id: "t")
                client.subscribe("/topic/*", id: "p")
            }
            for (place, client) in HostTests.clients(broker).enumerated() {
                for destination in ["/queue/a", "/topic/a"] {
                    client.confirmed(.send, [("destination", destination), ("x-delay", "500")], "\(place)")
                }
            }
            for client in consumers { #expect(client.bodies() == []) }
            broker.advance(milliseconds: 1000)
            for (place, client) in consumers.enumerated() {
                let messages = client.messages()
                #expect(messages.map(\.text) == Array(repeating: "\(place)", count: 3))
                #expect(Set(messages.compactMap { $0["destination"] }) == ["/queue/a", "/topic/a"])
            }
        }
    }

    @Test("An id that one host has seen is new with another", arguments: [1, 3])
    func deduplication(shards: Int) {
        Self.withHosts(shards: shards) {
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.deduplicationMilliseconds = 10_000
            $0.destinationPolicies = [policy]
        } _: { broker in
            let consumers = HostTests.clients(broker)
            for client in consumers { client.subscribe("/queue/a") }
            for (place, client) in HostTests.clients(broker).enumerated() {
                for _ in 0..<2 {
                    client.confirmed(.send, [("destination", "/queue/a"), ("x-deduplication-id", "1")], "\(place)")
                }
            }
            for (place, client) in consumers.enumerated() { #expect(client.bodies() == ["\(place)"]) }
            #expect(broker.counters.messagesDeduplicated == 3)
        }
    }

    @Test("Dead letters stay with their host: by policy and by argument", arguments: [1, 2, 4], [true, false])
    func deadLetters(shards: Int, byArgument: Bool) throws {
        try Self.withHosts(shards: shards) {
            var policy = DestinationPolicy(pattern: "/queue/work")
            policy.deliveryCountMax = 1
            policy.deadLetterDestination = byArgument ? "/queue/elsewhere" : "/queue/dead"
            $0.destinationPolicies = [policy]
        } _: { broker in
            let readers = HostTests.clients(broker)
            for client in readers { client.subscribe("/queue/dead", id: "dead") }
            for (place, client) in HostTests.clients(broker).enumerated() {
                client.subscribe(
                    "/queue/work", ack: "client", byArgument ? [("x-dead-letter-routing-key", "dead")] : [])
                client.publish("/queue/work", "\(place)")
                client.ack(try #require(client.messages().first), nack: true)
                broker.run()
            }
            for (place, client) in readers.enumerated() {
                let messages = client.messages()
                #expect(messages.map(\.text) == ["\(place)"])
                #expect(messages.map { $0["original-destination"] } == ["/queue/work"])
                #expect(messages.map { $0["destination"] } == ["/queue/dead"])
            }
        }
    }

    // MARK: Restarts

    @Test("A restart gives each host what is its own, and keeps what is of a host that is gone", arguments: [1, 3])
    func restart(shards: Int) {
        let disk = FakeDisk()
        let logged: (inout BrokerOptions) -> Void = {
            $0.hosts = HostTests.options().hosts
            var policy = DestinationPolicy(pattern: "/topic/log")
            policy.logMessageCountMax = 10
            policy.storage = .always
            $0.destinationPolicies = [policy]
        }
        var broker = StoreFixture.start(disk, shards: shards, logged)
        let durable = [("durable", "true"), ("auto-delete", "false")]
        for (place, client) in HostTests.clients(broker).enumerated() {
            client.confirmed(.subscribe, [("destination", "/topic/d.*"), ("id", "s")] + durable)
            client.confirmed(.unsubscribe, [("id", "s")])
            for destination in ["/queue/a", "/topic/d.x", "/topic/log"] {
                client.confirmed(.send, [("destination", destination)] + Self.persistent, "\(place)")
            }
            client.confirmed(
                .send, [("destination", "/topic/r"), ("retain", "set")] + Self.persistent, "\(place)")
            client.confirmed(
                .send, [("destination", "/queue/late"), ("x-delay", "5000")] + Self.persistent, "\(place)")
            client.send(
                .subscribe, [("destination", "/queue/arguments"), ("id", "x"), ("x-dead-letter-routing-key", "dead")])
            client.confirmed(.unsubscribe, [("id", "x")])
            client.confirmed(.send, [("destination", "/queue/arguments")] + Self.persistent, "\(place)")
        }
        // A life in which one of them is missing.
        broker = StoreFixture.start(disk, shards: shards) {
            logged(&$0)
            $0.hosts.removeLast()
        }
        let client = HostTests.connect(broker, to: "/")
        client.subscribe("/queue/a", ack: "client")
        #expect(client.bodies() == ["0"])
        let stranger = broker.accept()
        stranger.send(.connect, [("accept-version", "1.2"), ("host", "blog.example.org")])
        stranger.expectError("Bad CONNECT")

        broker = StoreFixture.start(disk, shards: shards, logged)
        for (place, client) in HostTests.clients(broker).enumerated() {
            client.confirmed(.subscribe, [("destination", "/topic/d.*"), ("id", "s")] + durable)
            for queue in ["a", "late", "arguments"] { client.subscribe("/queue/\(queue)", id: queue, ack: "client") }
            client.subscribe("/topic/*", id: "r")
            client.subscribe("/topic/log", id: "log", [("x-stream-offset", "first")])
            broker.advance(milliseconds: 6000)
            let messages = client.messages()
            #expect(messages.allSatisfy { $0.text == "\(place)" })
            #expect(Set(messages.compactMap { $0["subscription"] }) == ["s", "a", "late", "arguments", "r", "log"])
            let names = ["/topic/d.x", "/queue/a", "/queue/late", "/queue/arguments", "/topic/r", "/topic/log"]
            #expect(Set(messages.compactMap { $0["destination"] }) == Set(names))
            guard let message = messages.first(where: { $0["subscription"] == "arguments" }) else { continue }
            client.subscribe("/queue/dead", id: "dead")
            client.ack(message, nack: true)
        }
    }
}
