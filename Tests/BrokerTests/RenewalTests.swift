import Broker
import Permissions
import STOMP
import Slabs
import Testing

/// A newer token for a session that ends with one.
@Suite("Renewal of tokens")
struct RenewalTests {
    private static let options = AccessTests.options(AccessTests.usual)

    private func rules(_ publish: [String], _ subscribe: [String] = []) -> AccessRules {
        AccessTests.rules(publish: publish, subscribe: subscribe)
    }

    private func token(
        _ broker: TestBroker, seconds: Int, _ user: String = "alice", _ rules: AccessRules? = nil
    ) -> AccessIdentity {
        let time = broker.kernel.wallMilliseconds + UInt64(seconds * 1000)
        return AccessIdentity(
            user: Array(user.utf8), source: .jwt,
            rules: rules ?? self.rules(["/topic/out", "/queue/a"], ["/topic/in"]),
            expiresAt: time)
    }

    private func answer(_ broker: TestBroker, _ identity: AccessIdentity?) -> AuthenticationQuestion? {
        let questions = broker.shard(0).pointee.takeQuestions()
        #expect(questions.count == 1)
        for question in questions {
            broker.shard(0).pointee.answer([
                identity.map {
                    AuthenticationAnswer(allowing: question.connection, as: $0, clientID: question.clientID)
                }
                    ?? AuthenticationAnswer(refusing: question.connection, because: "the token is no good")
            ])
        }
        broker.turn(0)
        broker.run()
        return questions.first
    }

    private func connect(_ broker: TestBroker, _ identity: AccessIdentity) -> Client {
        let client = broker.accept()
        client.send(.connect, [("accept-version", "1.2"), ("host", "h"), ("passcode", "old"), ("client-id", "c")])
        broker.run()
        #expect(answer(broker, identity)?.isRenewal == false)
        #expect(client.frame()?.command == .connected)
        return client
    }

    private func renew(_ client: Client, _ value: String = "Bearer new") {
        client.send(.send, [("destination", "/control/renew"), ("authorization", value), ("receipt", "r")])
    }

    @Test(
        "A session goes on with its new token, and ends with that one", arguments: ["Bearer new", "new", "bearer new"])
    func renewing(_ value: String) throws {
        try withBroker(Self.options) { broker in
            let client = connect(broker, token(broker, seconds: 10))
            client.confirmed(.send, [("destination", "/topic/out")], "before")
            broker.advance(milliseconds: 8_000)
            renew(client, value)
            client.publish("/topic/out", "behind it", [("receipt", "next")])
            broker.run()
            #expect(client.frame() == nil, "what is behind it waits")
            let question = try #require(answer(broker, token(broker, seconds: 20)))
            #expect(question.passcode == Array("new".utf8) && question.login == nil && question.isRenewal)
            #expect(question.clientID == Array("c".utf8))
            #expect(client.frame()?["receipt-id"] == "r")
            #expect(client.frame()?["receipt-id"] == "next")
            broker.advance(milliseconds: 15_000)
            client.confirmed(.send, [("destination", "/topic/out")], "still")
            broker.advance(milliseconds: 6_000)
            client.expectError("Token expired")
        }
    }

    @Test("What the new token allows holds from then on")
    func permissions() {
        withBroker(Self.options) { broker in
            let client = connect(broker, token(broker, seconds: 10))
            client.confirmed(.send, [("destination", "/topic/out")], "x")
            renew(client)
            broker.run()
            _ = answer(broker, token(broker, seconds: 10, "alice", rules(["/topic/other"])))
            #expect(client.frame()?["receipt-id"] == "r")
            client.confirmed(.send, [("destination", "/topic/other")], "x")
            client.publish("/topic/out", "x")
            client.expectError("Access refused")
        }
    }

    @Test("A subscription that the new token does not allow ends the session")
    func subscriptions() {
        withBroker(Self.options) { broker in
            let client = connect(broker, token(broker, seconds: 10))
            client.confirmed(.subscribe, [("destination", "/topic/in"), ("id", "0")])
            renew(client)
            broker.run()
            _ = answer(broker, token(broker, seconds: 10, "alice", rules(["/topic/out"])))
            client.expectError("Access refused")
        }
    }

    @Test("A token that is refused, of another user, or without an end renews nothing", arguments: [0, 1, 2])
    func refused(_ example: Int) {
        withBroker(Self.options) { broker in
            let client = connect(broker, token(broker, seconds: 10))
            renew(client)
            broker.run()
            let other = token(broker, seconds: 10, "bob")
            let endless = AccessIdentity(user: Array("alice".utf8), source: .user)
            _ = answer(broker, [nil, other, endless][example])
            client.expectError("Access refused")
            #expect(broker.counters.loginsRefused == 1)
        }
    }

    @Test(
        "Who has no token, or brings none, gets ERROR; the old one ends the session while the new one is decided about")
    func wrong() {
        withBroker(Self.options) { broker in
            let password = AccessTests().connect(broker)
            renew(password)
            password.expectError("No token to renew", receipt: "r")
            let empty = connect(broker, token(broker, seconds: 10))
            empty.send(.send, [("destination", "/control/renew"), ("receipt", "r")])
            empty.expectError("Missing header", receipt: "r")
            let kept = connect(broker, token(broker, seconds: 10))
            kept.send(.begin, [("transaction", "t")])
            kept.send(
                .send, [("destination", "/control/renew"), ("authorization", "x"), ("transaction", "t")])
            kept.expectError("Unknown destination")
            let late = connect(broker, token(broker, seconds: 10))
            renew(late)
            broker.advance(milliseconds: 11_000)
            late.expectError("Token expired")
            _ = answer(broker, token(broker, seconds: 10))
        }
    }

    @Test("Without users it is no destination")
    func without() {
        withBroker { broker in
            let client = broker.connect()
            renew(client)
            client.expectError("Unknown destination", receipt: "r")
        }
    }
}
