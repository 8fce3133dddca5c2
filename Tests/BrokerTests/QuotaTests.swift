import Broker
import IO
import Permissions
import STOMP
import Slabs
import Testing

/// How much users may use: connections, subscriptions, and frames and bytes a second.
@Suite("Limits of users")
struct QuotaTests {
    private static func table(_ change: (inout QuotaRules) -> Void) -> AccessTable {
        var rules = AccessTests.rules(publish: ["#"], subscribe: ["#"])
        change(&rules.quota)
        return AccessTable(
            roles: ["role": rules, "free": AccessTests.rules(publish: ["#"], subscribe: ["#"])],
            users: [Array("alice".utf8): ["role"], Array("bob".utf8): ["free"]])
    }

    private static func options(_ change: (inout QuotaRules) -> Void) -> BrokerOptions {
        AccessTests.options(table(change))
    }

    /// A client that has asked to be connected as a user, and has its answer.
    private func begin(_ broker: TestBroker, as user: String = "alice", on shard: Int = 0) -> Client {
        let client = broker.accept(on: shard)
        client.send(.connect, [("accept-version", "1.2"), ("host", "h"), ("login", user)])
        broker.run()
        for question in broker.shard(shard).pointee.takeQuestions() {
            let identity = AccessIdentity(user: question.login ?? [], source: .user)
            broker.shard(shard).pointee.answer([
                AuthenticationAnswer(allowing: question.connection, as: identity, clientID: question.clientID)
            ])
        }
        broker.turn(shard)
        broker.run()
        return client
    }

    private func connect(_ broker: TestBroker, as user: String = "alice", on shard: Int = 0) -> Client {
        let client = begin(broker, as: user, on: shard)
        #expect(client.frame()?.command == .connected)
        return client
    }

    // MARK: Connections

    @Test("A user has so many connections, of all workers together", arguments: [1, 2])
    func connections(_ shards: Int) throws {
        try withBroker(shards: shards, Self.options { $0.connectionCountMax = 2 }) { broker in
            let first = connect(broker)
            _ = connect(broker, on: shards - 1)
            for shard in 0..<shards {
                let third = begin(broker, on: shard)
                third.expectError("Too many connections")
                _ = connect(broker, as: "bob", on: shard)
            }
            #expect(broker.counters.loginsRefused == UInt64(shards))
            let notice = try #require(broker.notices.first { $0.kind == .loginRefused })
            #expect(notice.text.contains("user 'alice' may have 2 connections"))
            first.hangUp()
            broker.advance(milliseconds: 100)
            _ = connect(broker)
        }
    }

    @Test("A reload puts another limit into force for those who come; those who are there stay")
    func reload() {
        withBroker(Self.options { _ in }) { broker in
            for _ in 0..<3 { _ = connect(broker) }
            broker.shard(0).pointee.replaceAccess(Self.table { $0.connectionCountMax = 4 })
            broker.turn(0)
            broker.run()
            _ = connect(broker)
            begin(broker).expectError("Too many connections")
            broker.shard(0).pointee.replaceAccess(Self.table { $0.connectionCountMax = 1 })
            broker.turn(0)
            broker.run()
            begin(broker).expectError("Too many connections")
            broker.shard(0).pointee.replaceAccess(Self.table { _ in })
            broker.turn(0)
            broker.run()
            _ = connect(broker)
        }
    }

    // MARK: Subscriptions

    @Test("A connection of the user has so many subscriptions")
    func subscriptions() {
        withBroker(Self.options { $0.subscriptionsPerConnectionMax = 2 }) { broker in
            let alice = connect(broker)
            for id in ["0", "1"] { alice.confirmed(.subscribe, [("destination", "/topic/\(id)"), ("id", id)]) }
            alice.confirmed(.unsubscribe, [("id", "0")])
            alice.confirmed(.subscribe, [("destination", "/topic/0"), ("id", "0")])
            let bob = connect(broker, as: "bob")
            for id in ["0", "1", "2"] { bob.confirmed(.subscribe, [("destination", "/topic/\(id)"), ("id", id)]) }
            alice.subscribe("/topic/2", id: "2")
            alice.expectError("Too many subscriptions")
            // Each of these makes one.
            let other = connect(broker)
            for name in ["1", "2"] {
                other.confirmed(.send, [("destination", "/topic/9"), ("reply-to", "/temp-queue/\(name)")])
            }
            other.publish("/topic/9", "", [("reply-to", "/temp-queue/3")])
            other.expectError("Too many subscriptions")
            #expect(broker.counters.limits[.subscriptionsPerConnection] == 2)
        }
    }

    // MARK: Rates

    private func text(_ destination: String, count: Int, body: String = "x") -> String {
        String(repeating: "SEND\ndestination:\(destination)\n\n\(body)\0", count: count)
    }

    @Test("Of many frames at once a second's worth is processed, and the rest in its time; nothing is lost")
    func frames() throws {
        try withBroker(Self.options { $0.framesPerSecondMax = 10 }) { broker in
            let reader = connect(broker, as: "bob")
            reader.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "0")])
            let alice = connect(broker)
            alice.write(text("/topic/a", count: 40))
            broker.run()
            let first = reader.bodies().count
            #expect((10...12).contains(first), "\(first)")
            #expect(broker.counters.clientsSlowed > 0 && broker.counters.errorsSent == 0)
            let notice = try #require(broker.notices.first { $0.kind == .clientSlowed })
            #expect(notice.client?.login == "alice" && notice.text.hasPrefix("user 'alice' sends more"))
            broker.advance(milliseconds: 1000)
            let second = reader.bodies().count
            #expect((9...11).contains(second), "\(second)")
            broker.advance(milliseconds: 3000)
            #expect(first + second + reader.bodies().count == 40)
            // The log was told once.
            #expect(broker.notices.count { $0.kind == .clientSlowed } == 1)
            alice.confirmed(.send, [("destination", "/topic/a")], "later")
            #expect(reader.bodies() == ["later"])
        }
    }

    @Test("The connections of a user share its rate, and another user's are not slowed", arguments: [1, 2])
    func shared(_ shards: Int) {
        withBroker(shards: shards, Self.options { $0.framesPerSecondMax = 10 }) { broker in
            let reader = connect(broker, as: "bob")
            reader.confirmed(.subscribe, [("destination", "/topic/#"), ("id", "0")])
            let alices = (0..<2).map { connect(broker, on: $0 % shards) }
            let bob = connect(broker, as: "bob", on: shards - 1)
            for alice in alices { alice.write(text("/topic/a", count: 20)) }
            bob.write(text("/topic/b", count: 100, body: "bob"))
            broker.run()
            let bodies = reader.bodies()
            #expect(bodies.count { $0 == "bob" } == 100)
            let first = bodies.count { $0 == "x" }
            #expect((10...14).contains(first), "\(first)")
            broker.advance(milliseconds: 1000)
            let second = reader.bodies().count
            #expect((8...12).contains(second), "\(second)")
            broker.advance(milliseconds: 5000)
            #expect(first + second + reader.bodies().count == 40)
        }
    }

    @Test("Bytes count as they arrive, of frames that are not complete too")
    func bytes() {
        withBroker(Self.options { $0.bytesPerSecondMax = 1024 }) { broker in
            let reader = connect(broker, as: "bob")
            reader.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "0")])
            let alice = connect(broker)
            let body = String(repeating: "b", count: 5000)
            alice.write(text("/topic/a", count: 1, body: body) + text("/topic/a", count: 1, body: "after"))
            broker.run()
            let first = reader.bodies()
            broker.advance(milliseconds: 500)
            alice.write(text("/topic/a", count: 1, body: "waits"))
            broker.advance(milliseconds: 1000)
            #expect(!reader.bodies().contains("waits"), "five seconds' worth was sent")
            broker.advance(milliseconds: 10_000)
            #expect(first.count + reader.bodies().count <= 3)
            alice.confirmed(.send, [("destination", "/topic/a")], "done")
            #expect(reader.bodies().last == "done")
            #expect(broker.counters.errorsSent == 0)
        }
    }

    @Test("To connect again is no way around a rate")
    func reconnecting() {
        withBroker(Self.options { $0.framesPerSecondMax = 10 }) { broker in
            let reader = connect(broker, as: "bob")
            reader.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "0")])
            let first = connect(broker)
            first.write(text("/topic/a", count: 20))
            broker.run()
            first.reset()
            broker.run()
            let count = reader.bodies().count
            let second = connect(broker)
            second.write(text("/topic/a", count: 20))
            broker.run()
            #expect(reader.bodies().count <= 2, "\(count) frames were processed before")
            broker.advance(milliseconds: 5000)
            #expect(reader.bodies().count >= 18)
        }
    }

    @Test("A slow client's heart-beats are not missed, and its end is noticed when all is processed")
    func lives() {
        withBroker(queued: 30, Self.options { $0.framesPerSecondMax = 10 }) { broker in
            let alice = broker.accept()
            alice.send(
                .connect,
                [("accept-version", "1.2"), ("host", "h"), ("login", "alice"), ("heart-beat", "500,0")])
            broker.run()
            for question in broker.shard(0).pointee.takeQuestions() {
                let identity = AccessIdentity(user: question.login ?? [], source: .user)
                broker.shard(0).pointee.answer([
                    AuthenticationAnswer(allowing: question.connection, as: identity, clientID: nil)
                ])
            }
            broker.turn(0)
            alice.write(text("/queue/a", count: 30))
            alice.hangUp()
            broker.run()
            broker.advance(milliseconds: 4000)
            #expect(broker.counters.heartBeatsMissed == 0 && broker.counters.messagesReceived == 30)
            #expect(alice.socket.isClosed)
        }
    }

    @Test("A reload gives a rate, and takes it away again")
    func reloadedRates() {
        withBroker(Self.options { _ in }) { broker in
            let reader = connect(broker, as: "bob")
            reader.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "0")])
            let alice = connect(broker)
            alice.write(text("/topic/a", count: 100))
            #expect(reader.bodies().count == 100)
            broker.shard(0).pointee.replaceAccess(Self.table { $0.framesPerSecondMax = 10 })
            broker.turn(0)
            broker.run()
            alice.write(text("/topic/a", count: 100))
            #expect(reader.bodies().count < 20)
            broker.shard(0).pointee.replaceAccess(Self.table { _ in })
            broker.turn(0)
            broker.run()
            broker.advance(milliseconds: 1000)
            #expect(reader.bodies().count > 80, "the rest is not slowed any more")
        }
    }
}
