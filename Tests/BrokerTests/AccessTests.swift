import Broker
import IO
import Permissions
import STOMP
import Slabs
import Testing

/// What clients may do, with identities that a test gives them.
@Suite("Access")
struct AccessTests {
    static func patterns(_ texts: [String]) -> [PatternTemplate] {
        texts.map { try! PatternTemplate($0, .creation, nameByteCountMax: 256, levelCountMax: 32) }
    }

    static func rules(
        publish: [String] = [], subscribe: [String] = [], create: [String]? = nil, denySubscribe: [String] = []
    ) -> AccessRules {
        var rules = AccessRules()
        rules.publish = patterns(publish)
        rules.subscribe = patterns(subscribe)
        rules.create = create.map(patterns)
        rules.denySubscribe = patterns(denySubscribe)
        return rules
    }

    /// One role, of the user alice.
    static func table(_ rules: AccessRules, users: [String] = ["alice"]) -> AccessTable {
        AccessTable(
            roles: ["role": rules], users: Dictionary(uniqueKeysWithValues: users.map { (Array($0.utf8), ["role"]) }))
    }

    static func options(
        _ table: AccessTable, _ change: (inout BrokerOptions) -> Void = { _ in }
    ) -> BrokerOptions {
        TestBroker.options {
            $0.authentication = .external
            $0.access = table
            change(&$0)
        }
    }

    /// What alice may do in most tests: it can send to what it cannot read, and the other way round.
    static let usual = table(
        rules(
            publish: ["/topic/out.#", "/queue/out", "/queue/{user}.#"], subscribe: ["/topic/in.#", "/queue/in"],
            denySubscribe: ["/topic/in.secret.#"]))

    @discardableResult
    func connect(
        _ broker: TestBroker, as user: String = "alice", clientID: String? = nil, expiresAt: UInt64 = 0,
        version: Version = .v1_2, on shard: Int = 0
    ) -> Client {
        let client = broker.accept(on: shard)
        client.version = version
        client.send(
            .connect,
            [("accept-version", "\(version.text)"), ("host", "h"), ("login", user)]
                + (clientID.map { [("client-id", $0)] } ?? []))
        broker.run()
        let questions = broker.shard(shard).pointee.takeQuestions()
        #expect(questions.count == 1)
        for question in questions {
            let identity = AccessIdentity(user: question.login ?? [], source: .user, expiresAt: expiresAt)
            broker.shard(shard).pointee.answer([
                AuthenticationAnswer(
                    allowing: question.connection, as: identity, clientID: question.clientID)
            ])
        }
        broker.turn(shard)
        broker.run()
        #expect(client.frame()?.command == .connected)
        return client
    }

    func replace(_ broker: TestBroker, _ table: AccessTable) {
        for shard in 0..<broker.kernel.shardCount {
            broker.shard(shard).pointee.replaceAccess(table)
            broker.turn(shard)
        }
        broker.run()
    }

    // MARK: Commands

    @Test(
        "SEND goes where it may, and nowhere else",
        arguments: [
            ("/topic/out", true), ("/topic/out.a", true), ("/topic/in", false), ("/queue/out", true),
            ("/queue/in", false), ("/queue/alice.x", true), ("/queue/bob.x", false),
            ("/exchange/amq.topic/out.a", true),
            ("/exchange/amq.topic/in", false), ("/amq/queue/out", true), ("/amq/queue/in", false), ("out.a", true),
            ("in.a", false),
        ])
    func send(_ destination: String, _ isAllowed: Bool) throws {
        try withBroker(queued: isAllowed && destination.contains("queue") ? 1 : 0, Self.options(Self.usual)) { broker in
            let client = connect(broker)
            client.send(.send, [("destination", destination), ("receipt", "r")], "x")
            if isAllowed {
                broker.run()
                #expect(client.frame()?["receipt-id"] == "r")
            } else {
                client.expectError("Access refused", receipt: "r")
                #expect(broker.counters.accessRefused == 1)
                let notice = try #require(broker.notices.first { $0.kind == .accessRefused })
                #expect(notice.client?.login == "alice" && notice.destination.hasPrefix("/"))
                #expect(broker.shard(0).pointee.destinationCount == 0, "nothing was made")
            }
        }
    }

    @Test(
        "SUBSCRIBE takes what lies within its patterns and meets no denied one",
        arguments: [
            ("/topic/in", true), ("/topic/in.a", true), ("/topic/in.#", false), ("/topic/in.open.#", true),
            ("/topic/in.*", false), ("/topic/in.secret", false), ("/topic/in.secret.x", false), ("/topic/#", false),
            ("/topic/out", false), ("/queue/in", true), ("/queue/out", false), ("/topic/in.*.x", false),
            ("/topic/in.a.*", true),
        ])
    func subscribe(_ destination: String, _ isAllowed: Bool) {
        withBroker(Self.options(Self.usual)) { broker in
            let client = connect(broker)
            client.subscribe(destination, [("receipt", "r")])
            if isAllowed {
                broker.run()
                #expect(client.frame()?["receipt-id"] == "r")
            } else {
                client.expectError("Access refused", receipt: "r")
            }
        }
    }

    @Test("To send where it just sent is not asked again; another destination is")
    func repeated() {
        withBroker(queued: 4, Self.options(Self.usual)) { broker in
            let client = connect(broker)
            for destination in ["/queue/out", "/queue/out", "/queue/alice.1", "/queue/out"] {
                client.confirmed(.send, [("destination", destination)], "x")
            }
            client.publish("/queue/in", "x")
            client.expectError("Access refused")
        }
    }

    @Test("A client without an identity may do nothing")
    func noIdentity() {
        withBroker(Self.options(Self.usual)) { broker in
            let client = broker.accept()
            client.send(.connect, [("accept-version", "1.2"), ("login", "alice")])
            broker.run()
            for question in broker.shard(0).pointee.takeQuestions() {
                broker.kernel.post(Completion(.authenticated, connection: question.connection), to: 0)
            }
            broker.run()
            #expect(client.frame()?.command == .connected)
            client.publish("/topic/out", "x")
            client.expectError("Access refused")
        }
    }

    @Test("A refused login and a user that is not in the table get ERROR, and are counted")
    func refusedLogins() {
        withBroker(Self.options(Self.usual)) { broker in
            for user in ["alice", "bob"] {
                let client = broker.accept()
                client.send(.connect, [("accept-version", "1.2"), ("login", user)])
                broker.run()
                for question in broker.shard(0).pointee.takeQuestions() {
                    let identity = AccessIdentity(user: Array("bob".utf8), source: .user)
                    broker.shard(0).pointee.answer([
                        user == "alice"
                            ? AuthenticationAnswer(refusing: question.connection, because: "no")
                            : AuthenticationAnswer(allowing: question.connection, as: identity, clientID: nil)
                    ])
                }
                broker.turn(0)
                client.expectError("Access refused")
            }
            #expect(broker.counters.loginsRefused == 2)
            #expect(broker.notices.count { $0.kind == .loginRefused } == 2)
        }
    }

    // MARK: Creating

    @Test("What a role may create is what it lists; a destination of the configuration is there already")
    func create() {
        let table = Self.table(
            Self.rules(publish: ["/queue/#"], subscribe: ["/topic/#", "/queue/#"], create: ["/queue/new.#"]))
        let options = Self.options(table) { $0.destinationPolicies = [DestinationPolicy(pattern: "/queue/made.#")] }
        withBroker(queued: 2, options) { broker in
            let client = connect(broker)
            client.confirmed(.send, [("destination", "/queue/new.1")], "x")
            client.confirmed(.send, [("destination", "/queue/made.1")], "x")
            client.publish("/queue/other", "x")
            client.expectError("Access refused")
            let second = connect(broker)
            second.subscribe("/topic/x")
            second.expectError("Access refused")
            let third = connect(broker)
            third.subscribe("/temp-queue/x")
            third.expectError("Access refused")
        }
    }

    @Test("Temporary destinations are their creator's, and who has the address may answer")
    func temporary() throws {
        let roles = [
            "client": Self.rules(publish: ["/queue/service"]), "service": Self.rules(subscribe: ["/queue/service"]),
        ]
        let table = AccessTable(
            roles: roles, users: [Array("alice".utf8): ["client"], Array("bob".utf8): ["service"]])
        try withBroker(Self.options(table)) { broker in
            let service = connect(broker, as: "bob")
            service.confirmed(.subscribe, [("destination", "/queue/service"), ("id", "0")])
            let client = connect(broker)
            client.confirmed(.subscribe, [("destination", "/temp-queue/a"), ("id", "0")])
            client.confirmed(.send, [("destination", "/temp-queue/a")], "own")
            #expect(client.bodies() == ["own"])
            client.publish("/queue/service", "ask", [("reply-to", "/temp-queue/b")])
            let request = try #require(service.messages().first)
            let address = try #require(request["reply-to"])
            service.confirmed(.send, [("destination", address)], "answer")
            #expect(client.bodies() == ["answer"])
            service.subscribe(address, id: "1")
            service.expectError("Access refused")
        }
    }

    @Test(
        "reply-to and a dead-letter queue name only what the sender could use itself",
        arguments: [
            ("reply-to", "/queue/out", true), ("reply-to", "/queue/in", true), ("reply-to", "/queue/admin", false),
            ("reply-to", "/topic/#", false), ("reply-to", "/unknown/a", true), ("reply-to", " /queue/admin", false),
            ("reply-to", "/queue/admin \t", false), ("reply-to", " ", true), ("reply-to", "admin", false),
            ("reply-to", "out", true), ("x-dead-letter-routing-key", "/queue/in", false),
            ("x-dead-letter-routing-key", "admin", false),
        ])
    func indirect(_ header: String, _ value: String, _ isAllowed: Bool) {
        // Bare names are those of topics.
        let options = Self.options(Self.usual) { $0.bareNamePrefix = "/topic/" }
        withBroker(queued: isAllowed ? 1 : 0, options) { broker in
            let client = connect(broker)
            client.publish("/queue/alice.1", "x", [(header, value), ("receipt", "r")])
            if isAllowed {
                broker.run()
                #expect(client.frame()?["receipt-id"] == "r")
            } else {
                client.expectError("Access refused", receipt: "r")
            }
        }
    }

    @Test(
        "Who says what a queue is like must be one who may create it, and one who may read it to have its messages moved",
        arguments: [
            ("/queue/mine.1", "x-dead-letter-routing-key", "/queue/mine.2", true),
            ("/queue/new.1", "x-dead-letter-routing-key", "/queue/mine.2", false),
            ("/queue/new.1", "x-max-length", "5", true), ("/queue/made.1", "x-max-length", "5", false),
            ("/queue/made.1", "x-overflow", "drop-head", false), ("/queue/made.1", "x-message-ttl", "5000", false),
            ("/queue/made.1", "x-dead-letter-routing-key", "/queue/mine.2", false),
            ("/queue/made.1", "note", "x", true),
        ], [1, 2])
    func arguments(_ frame: (queue: String, header: String, value: String, isAllowed: Bool), shards: Int) {
        let table = Self.table(
            Self.rules(
                publish: ["/queue/#"], subscribe: ["/queue/mine.#", "/queue/made.#"],
                create: ["/queue/mine.#", "/queue/new.#"]))
        let options = Self.options(table) { $0.destinationPolicies = [DestinationPolicy(pattern: "/queue/made.#")] }
        withBroker(shards: shards, queued: frame.isAllowed ? 1 : 0, options) { broker in
            for shard in 0..<(frame.isAllowed ? 1 : shards) {
                let client = connect(broker, on: shard)
                client.publish(frame.queue, "x", [(frame.header, frame.value), ("receipt", "r")])
                if frame.isAllowed {
                    broker.run()
                    #expect(client.frame()?["receipt-id"] == "r")
                } else {
                    client.expectError("Access refused", receipt: "r")
                }
            }
        }
    }

    @Test("Who may not read a topic cannot end a durable subscription to it by another of its name", arguments: [1, 2])
    func durableOfOther(shards: Int) {
        let roles = [
            "reader": Self.rules(publish: ["/topic/#"], subscribe: ["/topic/#"]),
            "stranger": Self.rules(subscribe: ["/topic/public"]),
        ]
        let table = AccessTable(
            roles: roles, users: [Array("alice".utf8): ["reader"], Array("bob".utf8): ["stranger"]])
        let name = ("activemq.subscriptionName", "n")
        withBroker(shards: shards, Self.options(table)) { broker in
            for place in 0..<shards {
                let topic = "/topic/secret-\(place)"
                let alice = connect(broker, clientID: "a\(place)", on: place)
                alice.confirmed(.subscribe, [("destination", topic), ("id", "s"), name])
                alice.confirmed(.disconnect)
                let bob = connect(broker, as: "bob", clientID: "a\(place)", on: shards - 1)
                bob.send(.subscribe, [("destination", "/topic/public"), ("id", "s"), name])
                broker.run()
                bob.expectError("Durable subscription of another destination")
                let again = connect(broker, clientID: "a\(place)")
                again.confirmed(.send, [("destination", topic)], "kept")
                again.confirmed(.subscribe, [("destination", topic), ("id", "s"), name])
                #expect(again.bodies() == ["kept"])
                again.confirmed(.unsubscribe, [("id", "s"), name])
            }
        }
    }

    @Test("user-id is the sender's own, or is refused; receivers see it", arguments: [Version.v1_0, .v1_1, .v1_2])
    func userID(_ version: Version) {
        let table = Self.table(Self.rules(publish: ["/queue/a"], subscribe: ["/queue/a"]))
        withBroker(Self.options(table)) { broker in
            let client = connect(broker, version: version)
            client.confirmed(.subscribe, [("destination", "/queue/a"), ("id", "0")])
            client.publish("/queue/a", "x", [("user-id", "alice")])
            #expect(client.messages().first?["user-id"] == "alice")
            client.send(.begin, [("transaction", "t")])
            client.publish("/queue/a", "x", [("user-id", "bob"), ("transaction", "t")])
            client.expectError("Access refused")
            let other = connect(broker)
            other.publish("/queue/a", "x", [("user-id", "alic")])
            other.expectError("Access refused")
        }
    }

    @Test("Without permissions a user-id passes as any header does")
    func userIDWithoutAccess() {
        withBroker { broker in
            let client = broker.connect()
            client.confirmed(.subscribe, [("destination", "/queue/a"), ("id", "0")])
            client.publish("/queue/a", "x", [("user-id", "anybody")])
            #expect(client.messages().first?["user-id"] == "anybody")
        }
    }
}
