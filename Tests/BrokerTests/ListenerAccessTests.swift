import Broker
import IO
import Permissions
import STOMP
import Slabs
import Testing

/// What a listener lets its clients do at most, with users and without.
@Suite("Access of listeners")
struct ListenerAccessTests {
    /// Listener 0 restricts nothing; listener 1 is for the web.
    private static let web = ListenerRules(
        publish: AccessTests.patterns(["/queue/{user}.#", "/queue/service"]),
        subscribe: AccessTests.patterns(["/topic/in.web.#", "/queue/in"]))

    private static func table(_ listeners: [ListenerRules?]) -> AccessTable {
        AccessTable(
            roles: [
                "role": AccessTests.rules(
                    publish: ["/queue/#", "/topic/out"], subscribe: ["/topic/in.#", "/queue/in"],
                    denySubscribe: ["/topic/in.web.secret"])
            ], users: [Array("alice".utf8): ["role"]], listeners: listeners)
    }

    private func connect(_ broker: TestBroker, listener: UInt8, asks: Bool = true) -> Client {
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: listener), address: 0)
        let client = broker.accept(address: origin.packed)
        client.send(.connect, [("accept-version", "1.2"), ("host", "h"), ("login", "alice")])
        broker.run()
        let questions = broker.shard(0).pointee.takeQuestions()
        #expect(questions.count == (asks ? 1 : 0))
        for question in questions {
            #expect(question.listener.rawValue == listener)
            let identity = AccessIdentity(user: question.login ?? [], source: .user)
            broker.shard(0).pointee.answer([
                AuthenticationAnswer(allowing: question.connection, as: identity, clientID: question.clientID)
            ])
        }
        broker.turn(0)
        broker.run()
        #expect(client.frame()?.command == .connected)
        return client
    }

    struct Deed: Sendable {
        var command: Command
        var destination: String
        /// On listener 0, and on listener 1.
        var isAllowed: (Bool, Bool)
        var headers: [(String, String)] = []
    }

    static let deeds = [
        Deed(command: .send, destination: "/queue/alice.1", isAllowed: (true, true)),
        Deed(command: .send, destination: "/queue/service", isAllowed: (true, true)),
        Deed(command: .send, destination: "/amq/queue/service", isAllowed: (true, true)),
        Deed(command: .send, destination: "/queue/bob", isAllowed: (true, false)),
        Deed(command: .send, destination: "/amq/queue/bob", isAllowed: (true, false)),
        Deed(command: .send, destination: "/topic/out", isAllowed: (true, false)),
        Deed(command: .send, destination: "/topic/in.web.a", isAllowed: (false, false)),
        Deed(command: .send, destination: "/temp-queue/a", isAllowed: (true, true)),
        Deed(
            command: .send, destination: "/queue/service", isAllowed: (true, false),
            headers: [("reply-to", "/queue/admin")]),
        Deed(
            command: .send, destination: "/queue/service", isAllowed: (true, true),
            headers: [("reply-to", "/queue/in")]),
        Deed(
            command: .send, destination: "/queue/service", isAllowed: (false, false),
            headers: [("x-dead-letter-routing-key", "other")]),
        Deed(
            command: .subscribe, destination: "/queue/in", isAllowed: (true, false),
            headers: [("x-dead-letter-routing-key", "other")]),
        Deed(
            command: .send, destination: "/queue/bob", isAllowed: (true, false), headers: [("transaction", "t")]),
        Deed(command: .subscribe, destination: "/queue/in", isAllowed: (true, true)),
        Deed(command: .subscribe, destination: "/topic/in.web.a", isAllowed: (true, true)),
        Deed(command: .subscribe, destination: "/topic/in.web.a.#", isAllowed: (true, true)),
        Deed(command: .subscribe, destination: "/topic/in.web.#", isAllowed: (false, false)),
        Deed(command: .subscribe, destination: "/topic/in.web.secret", isAllowed: (false, false)),
        Deed(command: .subscribe, destination: "/topic/in.other", isAllowed: (true, false)),
        Deed(command: .subscribe, destination: "/topic/in.other.#", isAllowed: (true, false)),
        Deed(command: .subscribe, destination: "/temp-queue/a", isAllowed: (true, true)),
    ]

    @Test("A client does what both its roles and its listener allow", arguments: 0..<deeds.count, [UInt8(0), 1])
    func matrix(_ index: Int, _ listener: UInt8) {
        let deed = Self.deeds[index]
        let isAllowed = listener == 0 ? deed.isAllowed.0 : deed.isAllowed.1
        let isLater = deed.headers.first?.0 == "transaction"
        let keeps = isAllowed && !isLater && deed.command == .send && deed.destination.contains("/queue/")
        withBroker(queued: keeps ? 1 : 0, AccessTests.options(Self.table([nil, Self.web]))) { broker in
            let client = connect(broker, listener: listener)
            if deed.headers.first?.0 == "transaction" { client.send(.begin, [("transaction", "t")]) }
            let id = deed.command == .subscribe ? [("id", "0")] : []
            client.send(deed.command, [("destination", deed.destination), ("receipt", "r")] + id + deed.headers)
            if isAllowed {
                broker.run()
                #expect(client.frame()?["receipt-id"] == "r")
            } else {
                client.expectError("Access refused", receipt: "r")
            }
        }
    }

    @Test("Clients of the same name on two listeners do not share what they may, after a reload either")
    func reload() {
        withBroker(queued: 2, AccessTests.options(Self.table([nil, Self.web]))) { broker in
            let inside = connect(broker, listener: 0)
            let outside = connect(broker, listener: 1)
            inside.confirmed(.send, [("destination", "/queue/bob")], "x")
            broker.shard(0).pointee.replaceAccess(Self.table([nil, Self.web]))
            broker.turn(0)
            broker.run()
            inside.confirmed(.send, [("destination", "/queue/bob")], "x")
            outside.publish("/queue/bob", "x")
            outside.expectError("Access refused")
        }
    }

    @Test("Without users a listener restricts too, and nobody is asked")
    func anybody() throws {
        let table = AccessTable(forAnybodyOn: [nil, Self.web])
        let options = TestBroker.options { $0.access = table }
        try withBroker(queued: 1, options) { broker in
            let inside = connect(broker, listener: 0, asks: false)
            inside.subscribe("/topic/#")
            inside.confirmed(.send, [("destination", "/topic/in.web.a"), ("user-id", "whoever")], "1")
            #expect(try #require(inside.messages().first)["user-id"] == "whoever", "names are nobody's business here")
            let outside = connect(broker, listener: 1, asks: false)
            outside.confirmed(.subscribe, [("destination", "/topic/in.web.#"), ("id", "0")])
            outside.confirmed(.send, [("destination", "/queue/service")], "2")
            outside.publish("/topic/in.web.a", "x")
            outside.expectError("Access refused")
            let notice = try #require(broker.notices.first { $0.kind == .accessRefused })
            #expect(notice.text.hasPrefix("a client without a login may not SEND"))
        }
    }
}
