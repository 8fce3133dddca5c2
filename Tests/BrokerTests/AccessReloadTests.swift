import Broker
import IO
import Permissions
import STOMP
import Slabs
import Testing

// What changes while a client is connected: transactions that are open, other tables, names, time.
extension AccessTests {
    // MARK: Transactions

    @Test("A frame of a transaction is checked when it comes: nothing of it is applied")
    func transactions() {
        withBroker(Self.options(Self.usual)) { broker in
            let client = connect(broker)
            client.confirmed(.begin, [("transaction", "t")])
            client.confirmed(.send, [("destination", "/queue/out"), ("transaction", "t")], "x")
            client.send(.send, [("destination", "/queue/in"), ("transaction", "t")], "x")
            client.send(.commit, [("transaction", "t")])
            client.expectError("Access refused")
            #expect(broker.audit().entries == 0)
        }
    }

    @Test("What was allowed when it came is not applied when it is not allowed at COMMIT", arguments: [true, false])
    func transactionAfterReload(_ isAllowedStill: Bool) {
        withBroker(queued: isAllowedStill ? 1 : 0, Self.options(Self.usual)) { broker in
            let client = connect(broker)
            client.confirmed(.begin, [("transaction", "t")])
            client.confirmed(.send, [("destination", "/queue/out"), ("transaction", "t")], "x")
            client.send(.commit, [("transaction", "t"), ("receipt", "c")])
            broker.shard(0).pointee.replaceAccess(
                Self.table(Self.rules(publish: isAllowedStill ? ["/queue/out"] : ["/queue/other"])))
            broker.run()
            if isAllowedStill {
                #expect(client.frame()?["receipt-id"] == "c")
            } else {
                client.expectError("Access refused")
            }
        }
    }

    // MARK: After a reload

    @Test("After a reload the next SEND is checked anew, also to the same destination")
    func sendAfterReload() {
        withBroker(queued: 2, Self.options(Self.usual)) { broker in
            let (first, second) = (connect(broker), connect(broker))
            first.confirmed(.send, [("destination", "/queue/out")], "x")
            second.confirmed(.send, [("destination", "/queue/out")], "x")
            replace(broker, Self.table(Self.rules(publish: ["/queue/other"])))
            first.publish("/queue/out", "y")
            first.expectError("Access refused")
            second.publish("/queue/in", "y")
            second.expectError("Access refused")
        }
    }

    @Test("A subscription that is allowed no more ends with its connection; others stay")
    func subscriptionAfterReload() {
        withBroker(Self.options(Self.usual)) { broker in
            let clients = (0..<3).map { _ in connect(broker) }
            clients[0].confirmed(.subscribe, [("destination", "/topic/in.a.*"), ("id", "0")])
            clients[1].confirmed(.subscribe, [("destination", "/queue/in"), ("id", "0")])
            clients[2].confirmed(.subscribe, [("destination", "/topic/in.b"), ("id", "0"), ("ack", "client")])
            replace(broker, Self.table(Self.rules(publish: ["/topic/#"], subscribe: ["/queue/in"])))
            clients[0].expectError("Access refused")
            clients[2].expectError("Access refused")
            clients[1].confirmed(.send, [("destination", "/topic/in.b")], "now it may")
            #expect(broker.counters.accessRefused == 2)
        }
    }

    @Test("Who is removed from the file is not connected any more; who gains a role has it at once")
    func usersAfterReload() {
        withBroker(queued: 1, Self.options(Self.table(Self.rules(), users: ["alice", "bob"]))) { broker in
            let (alice, bob) = (connect(broker), connect(broker, as: "bob"))
            replace(broker, Self.table(Self.rules(publish: ["/queue/a"]), users: ["alice"]))
            bob.expectError("Access refused")
            alice.confirmed(.send, [("destination", "/queue/a")], "x")
            #expect(broker.counters.loginsRefused == 1)
        }
    }

    @Test("Several workers have the new table, and thousands of connections are walked in pieces")
    func manyAfterReload() {
        let options = Self.options(Self.usual) { $0.limits.connectionCountMax = 3_000 }
        withBroker(shards: 2, connectionCountMax: 3_000, options) { broker in
            let clients = (0..<3_000).map { broker.accept(on: $0 % 5 == 0 ? 1 : 0) }
            for client in clients { client.send(.connect, [("accept-version", "1.2"), ("login", "alice")]) }
            broker.run()
            for shard in 0..<2 {
                let identity = AccessIdentity(user: Array("alice".utf8), source: .user)
                let answers = broker.shard(shard).pointee.takeQuestions().map {
                    AuthenticationAnswer(allowing: $0.connection, as: identity, clientID: nil)
                }
                broker.shard(shard).pointee.answer(answers)
                broker.turn(shard)
            }
            broker.run()
            for client in clients { #expect(client.frame()?.command == .connected) }
            for client in clients.suffix(10) {
                client.confirmed(.subscribe, [("destination", "/queue/in"), ("id", "0")])
            }
            replace(broker, Self.table(Self.rules(publish: ["/topic/#"])))
            for client in clients.suffix(10) { client.expectError("Access refused") }
            clients[0].confirmed(.send, [("destination", "/topic/new")], "x")
        }
    }

    // MARK: Identities

    @Test("A client-id in a pattern is the client's own")
    func clientID() {
        let table = Self.table(Self.rules(publish: ["/queue/{client-id}"]))
        withBroker(queued: 2, Self.options(table)) { broker in
            for name in ["c1", "c2"] {
                let client = connect(broker, clientID: name)
                client.confirmed(.send, [("destination", "/queue/\(name)")], "x")
                client.publish("/queue/c\(name == "c1" ? 2 : 1)", "x")
                client.expectError("Access refused")
            }
            let none = connect(broker)
            none.publish("/queue/c1", "x")
            none.expectError("Access refused")
        }
    }

    @Test("A token that expires ends its session, idle or not, and not before")
    func expiry() {
        withBroker(Self.options(Self.usual)) { broker in
            let wall = broker.kernel.wallMilliseconds
            let client = connect(broker, expiresAt: wall + 60_000)
            let other = connect(broker)
            broker.advance(milliseconds: 59_000)
            client.confirmed(.send, [("destination", "/topic/out")], "x")
            broker.advance(milliseconds: 1_100)
            client.expectError("Token expired")
            other.confirmed(.send, [("destination", "/topic/out")], "x")
            #expect(broker.counters.loginsRefused == 1)
            #expect(broker.notices.map(\.kind) == [.sessionExpired])
        }
    }

    @Test("A clock that is set forward makes a token expire with the session's next look at it")
    func clockStep() {
        withBroker(Self.options(Self.usual)) { broker in
            let client = connect(broker, expiresAt: broker.kernel.wallMilliseconds + 3_600_000)
            broker.stepWallClock(milliseconds: 3_590_000)
            broker.advance(milliseconds: 3_601_000)
            client.expectError("Token expired")
        }
    }

    @Test("What a client has shared and remembered goes with it")
    func leaving() {
        withBroker(Self.options(Self.usual)) { broker in
            for round in 0..<3 {
                let clients = (0..<20).map { connect(broker, clientID: "c\($0)-\(round)") }
                for client in clients { client.confirmed(.send, [("destination", "/topic/out")], "x") }
                #expect(broker.shard(0).pointee.accessCounts.sessions == 20)
                #expect(broker.shard(0).pointee.accessCounts.sets == 1, "the same name, the same permissions")
                for client in clients { client.reset() }
                broker.run()
                broker.advance(milliseconds: 100)
                #expect(broker.shard(0).pointee.accessCounts.sessions == 0)
                #expect(broker.shard(0).pointee.accessCounts.sets == 0)
            }
        }
    }
}
