import Broker
import Permissions
import STOMP
import Testing

/// What hosts may use, and who may use them.
@Suite("Virtual hosts: limits and users")
struct HostAccessTests {
    private static func withHosts(
        shards: Int = 1, _ change: (inout BrokerOptions) -> Void = { _ in }, _ body: (TestBroker) throws -> Void
    ) rethrows {
        try withBroker(shards: shards, HostTests.options(change), body)
    }

    // MARK: Limits

    @Test("A host has so many connections, of all workers together", arguments: [1, 3])
    func connections(shards: Int) throws {
        try Self.withHosts(shards: shards) {
            $0.hosts[1].connectionCountMax = 2
        } _: { broker in
            let first = HostTests.connect(broker, to: "shop")
            HostTests.connect(broker, to: "shop", on: shards - 1)
            HostTests.connect(broker, to: "/", on: shards - 1)
            let third = broker.accept(on: shards - 1)
            third.send(.connect, [("accept-version", "1.2"), ("host", "shop")])
            let error = try #require(third.expectError("Too many connections"))
            #expect(error.text.contains("the virtual host 'shop' may have 2 connections"))
            #expect(broker.counters.limits[.hostConnections] == 1)
            first.confirmed(.disconnect)
            HostTests.connect(broker, to: "shop")
            #expect(broker.shard(0).pointee.hostFigures().map(\.connectionCount) == [1, 2, 0])
        }
    }

    @Test("A host has so many subscriptions, of all kinds together", arguments: [1, 3])
    func subscriptions(shards: Int) throws {
        try Self.withHosts(shards: shards) {
            $0.hosts[1].subscriptionCountMax = 3
        } _: { broker in
            let first = HostTests.connect(broker, to: "shop")
            first.subscribe("/topic/a", id: "1")
            first.subscribe("/queue/a", id: "2")
            let second = HostTests.connect(broker, to: "shop", on: shards - 1)
            second.subscribe("/topic/a", id: "1", ack: "client")
            broker.run()
            let other = HostTests.connect(broker, to: "blog", on: shards - 1)
            for id in 0..<5 { other.subscribe("/topic/a", id: "\(id)") }
            second.subscribe("/topic/b", id: "2")
            let error = try #require(second.expectError("Too many subscriptions"))
            #expect(error.text.contains("the virtual host 'shop' may have 3 subscriptions"))
            #expect(broker.counters.limits[.hostSubscriptions] == 1)
            #expect(broker.shard(0).pointee.hostFigures().map(\.subscriptionCount) == [0, 2, 5])
            first.confirmed(.unsubscribe, [("id", "1")])
            #expect(broker.shard(0).pointee.hostFigures().map(\.subscriptionCount) == [0, 1, 5])
        }
    }

    @Test("The clients of a host that send more than it may are not read for a while", arguments: [true, false])
    func rates(ofFrames: Bool) {
        Self.withHosts {
            if ofFrames { $0.hosts[1].framesPerSecondMax = 10 } else { $0.hosts[1].bytesPerSecondMax = 1024 }
        } _: { broker in
            let reader = HostTests.connect(broker, to: "shop")
            reader.subscribe("/topic/a")
            let clients = (0..<2).map { _ in HostTests.connect(broker, to: "shop") }
            let other = HostTests.connect(broker, to: "/")
            other.subscribe("/topic/a")
            broker.run()
            for number in 0..<20 {
                clients[number % 2].publish("/topic/a", String(repeating: "x", count: 100))
                other.publish("/topic/a", "y")
                broker.run()
            }
            #expect(other.bodies().count == 20, "another host is not slowed")
            let count = reader.bodies().count
            #expect((4..<16).contains(count), "\(count)")
            #expect(broker.counters.clientsSlowed > 0)
            broker.advance(milliseconds: 10_000)
            #expect(reader.bodies().count == 20 - count, "all of it comes in the end")
        }
    }

    // MARK: Users

    private static func access(
        role: [String]? = nil, user: [String]? = nil, _ change: (inout BrokerOptions) -> Void = { _ in }
    ) -> (options: BrokerOptions, table: AccessTable) {
        var rules = AccessTests.rules(publish: ["/topic/{user}.#"], subscribe: ["/topic/{user}.#"])
        rules.hosts = role
        let table = AccessTable(
            roles: ["role": rules], users: [Array("alice".utf8): ["role"]],
            hosts: user.map { [Array("alice".utf8): $0] } ?? [:])
        let options = HostTests.options {
            $0.authentication = .external
            $0.access = table
            change(&$0)
        }
        return (options, table)
    }

    /// Connects as alice. nil: it was refused.
    private static func connect(_ broker: TestBroker, to host: String?, allowed: String? = nil) -> Client? {
        let client = broker.accept()
        client.send(
            .connect, [("accept-version", "1.2"), ("login", "alice")] + (host.map { [("host", $0)] } ?? []))
        broker.run()
        for question in broker.shard(0).pointee.takeQuestions() {
            #expect(question.host == (host == "blog" ? "blog.example.org" : host ?? "/"))
            let identity = AccessIdentity(
                user: question.login ?? [], source: allowed == nil ? .user : .service, host: allowed)
            broker.shard(0).pointee.answer([
                AuthenticationAnswer(allowing: question.connection, as: identity, clientID: question.clientID)
            ])
        }
        broker.turn(0)
        broker.run()
        let frame = client.frame()
        if frame?.command == .connected { return client }
        #expect(frame?["message"] == "Access refused")
        #expect(frame?.text.contains("user 'alice' may not use the virtual host") == true)
        return nil
    }

    @Test(
        "A user may use the hosts of its entry, else those of its roles, else the default host",
        arguments: [
            (nil, nil, ["/", nil]), (["shop"], nil, ["shop"]), (["shop"], ["blog.example.org"], ["blog"]),
            (["*"], nil, ["/", "shop", "blog", nil]), (["shop", "/"], nil, ["/", "shop", nil]), (["*"], [], []),
        ] as [([String]?, [String]?, [String?])])
    func users(_ role: [String]?, _ user: [String]?, _ allowed: [String?]) {
        withBroker(Self.access(role: role, user: user).options) { broker in
            for host in ["/", "shop", "blog", nil] as [String?] {
                let client = Self.connect(broker, to: host)
                #expect((client != nil) == allowed.contains(host), "\(host ?? "nil")")
            }
            #expect(broker.counters.loginsRefused == UInt64(4 - allowed.count))
        }
    }

    @Test("Patterns of roles are about names without their host")
    func patterns() {
        withBroker(Self.access(role: ["*"]).options) { broker in
            for host in ["/", "shop"] {
                let client = Self.connect(broker, to: host)!
                client.subscribe("/topic/alice.#", id: "p")
                client.subscribe("/topic/alice.x", id: "t")
                client.confirmed(.send, [("destination", "/topic/alice.x")], "x")
                #expect(client.bodies() == ["x", "x"])
                client.subscribe("/topic/#", id: "all")
                let error = client.expectError("Access refused")
                #expect(error?.text.contains(host == "/" ? "'/topic/#'" : "'/topic/# (host shop)'") == true)
            }
        }
    }

    @Test("A service's word about a host is enough, for that host")
    func service() {
        withBroker(Self.access(role: ["shop"]).options) { broker in
            #expect(Self.connect(broker, to: "blog", allowed: "blog.example.org") != nil)
            #expect(Self.connect(broker, to: "shop", allowed: "shop") != nil)
            #expect(Self.connect(broker, to: "/", allowed: "blog.example.org") == nil)
        }
    }

    @Test("Who may use a host no more after a reload is disconnected")
    func reload() {
        let (options, _) = Self.access(role: ["shop", "/"])
        withBroker(options) { broker in
            let stays = Self.connect(broker, to: "/")!
            let goes = Self.connect(broker, to: "shop")!
            AccessTests().replace(broker, Self.access(role: ["/"]).table)
            goes.expectError("Access refused")
            stays.confirmed(.send, [("destination", "/topic/alice.x")])
            #expect(broker.shard(0).pointee.hostFigures().map(\.connectionCount) == [1, 0, 0])
        }
    }
}
