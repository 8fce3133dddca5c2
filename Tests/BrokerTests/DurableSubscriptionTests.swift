import Broker
import FakeKernel
import STOMP
import Testing

/// Topic subscriptions that outlive their consumers, in the words of RabbitMQ and of ActiveMQ.
@Suite("Durable subscriptions")
struct DurableSubscriptionTests {
    private static let shared = [("durable", "true"), ("auto-delete", "false")]
    private static let named = [("activemq.subscriptionName", "orders")]
    private static let persistent = [("persistent", "true")]

    private func connect(_ broker: TestBroker, on shard: Int = 0, clientID: String) -> Client {
        let client = broker.accept(on: shard)
        client.connect(clientID: clientID)
        return client
    }

    private func subscribe(
        _ client: Client, _ topic: String, id: String = "s", ack: String = "auto", _ headers: [(String, String)]
    ) {
        client.confirmed(.subscribe, [("destination", topic), ("id", id), ("ack", ack)] + headers)
    }

    private func publish(_ client: Client, _ topic: String, _ bodies: String..., headers: [(String, String)] = []) {
        for body in bodies { client.confirmed(.send, [("destination", topic)] + headers, body) }
    }

    // MARK: Both dialects

    @Test("What is published while the subscriber is away comes when it is back", arguments: [1, 2, 4], [true, false])
    func away(shards: Int, isNamed: Bool) {
        withBroker(shards: shards) { broker in
            let headers = isNamed ? Self.named : Self.shared
            let publisher = broker.connect(on: shards - 1)
            publish(publisher, "/topic/a", "before")
            for (round, shard) in [0, shards - 1, 0].enumerated() {
                let client = connect(broker, on: shard, clientID: "c")
                subscribe(client, "/topic/a", headers)
                if round > 0 {
                    let messages = client.messages()
                    #expect(messages.map(\.text) == ["1", "2"])
                    #expect(messages.allSatisfy { $0["destination"] == "/topic/a" && $0["subscription"] == "s" })
                    #expect(messages.allSatisfy { $0["redelivered"] == nil })
                }
                publish(publisher, "/topic/a", "live")
                #expect(client.bodies() == ["live"])
                if round == 1 { client.confirmed(.unsubscribe, [("id", "s")]) }
                client.confirmed(.disconnect)
                publish(publisher, "/topic/a", "1", "2")
            }
            let client = connect(broker, clientID: "c")
            subscribe(client, "/topic/a", headers)
            #expect(client.bodies() == ["1", "2"])
            client.confirmed(.unsubscribe, [("id", "s")] + headers)
            publish(publisher, "/topic/a", "3")
            subscribe(client, "/topic/a", headers)
            #expect(client.bodies() == [])
            client.confirmed(.unsubscribe, [("id", "s")] + headers)
        }
    }

    @Test("Each acknowledgement mode works; what was not acknowledged comes again", arguments: [1, 3], [true, false])
    func acknowledgement(shards: Int, isNamed: Bool) {
        withBroker(shards: shards) { broker in
            let headers = isNamed ? Self.named : Self.shared
            let publisher = broker.connect(on: shards - 1)
            for (mode, expected) in [("client", ["3"]), ("client-individual", ["1", "3"])] {
                let first = connect(broker, clientID: "c")
                subscribe(first, "/topic/a.*", ack: mode, headers)
                publish(publisher, "/topic/a.b", "1", "2", "3")
                let messages = first.messages()
                #expect(messages.map(\.text) == ["1", "2", "3"])
                first.ack(messages[1])
                first.confirmed(.disconnect)
                let second = connect(broker, on: shards - 1, clientID: "c")
                subscribe(second, "/topic/a.*", ack: mode, headers)
                let again = second.messages()
                #expect(again.map(\.text) == expected)
                #expect(again.allSatisfy { $0["redelivered"] == "true" && $0["destination"] == "/topic/a.b" })
                second.ack(again.last!, nack: true)
                broker.run()
                let third = second.messages()
                #expect(third.last?.text == "3")
                second.confirmed(.unsubscribe, [("id", "s")] + headers)
                second.confirmed(.disconnect)
            }
        }
    }

    // MARK: RabbitMQ

    @Test("All who use an id and a destination share one subscription", arguments: [1, 3])
    func competing(shards: Int) {
        withBroker(shards: shards) { broker in
            let clients = (0..<3).map { broker.connect(on: $0 % shards) }
            for client in clients {
                subscribe(client, "/topic/a", ack: "client", Self.shared + [("prefetch-count", "1")])
            }
            subscribe(clients[0], "/topic/a", id: "other", [("persistent", "true")])
            let publisher = broker.connect(on: shards - 1)
            publish(publisher, "/topic/a", "1", "2", "3")
            var got: [String] = []
            for client in clients { got += client.messages().filter { $0["subscription"] == "s" }.map(\.text) }
            #expect(got.sorted() == ["1", "2", "3"])
            // A client that does not know of the others must not end it.
            clients[0].send(.unsubscribe, [("id", "s"), ("durable", "true"), ("receipt", "r")])
            clients[0].expectError("Durable subscription in use", receipt: "r")
            clients[1].confirmed(.disconnect)
            clients[2].confirmed(.unsubscribe, [("id", "s"), ("durable", "true")])
            let last = broker.connect()
            last.confirmed(
                .unsubscribe, [("id", "other"), ("destination", "/topic/a"), ("persistent", "true")])
            last.send(.unsubscribe, [("id", "other"), ("destination", "/topic/a"), ("durable", "true")])
            last.expectError("Durable subscription not found")
        }
    }

    // MARK: ActiveMQ

    @Test("A named subscription has one consumer at a time, and belongs to its client-id", arguments: [1, 3])
    func single(shards: Int) {
        withBroker(shards: shards) { broker in
            let first = connect(broker, clientID: "a")
            subscribe(first, "/topic/t", Self.named)
            let other = connect(broker, on: shards - 1, clientID: "b")
            subscribe(other, "/topic/t", Self.named)
            let second = connect(broker, on: shards - 1, clientID: "a")
            second.send(
                .subscribe,
                [("destination", "/topic/t"), ("id", "9"), ("durable-subscription-name", "orders"), ("receipt", "r")])
            second.expectError("Durable subscription in use", receipt: "r")
            let third = connect(broker, on: shards - 1, clientID: "a")
            third.send(.unsubscribe, [("id", "9"), ("durable-subscriber-name", "orders")])
            third.expectError("Durable subscription in use")
            publish(other, "/topic/t", "x")
            #expect(first.bodies() == ["x"] && other.bodies() == ["x"])
            for (client, name) in [(first, "a"), (other, "b")] {
                client.confirmed(.disconnect)
                let last = connect(broker, clientID: name)
                last.confirmed(.unsubscribe, [("id", "s")] + Self.named)
            }
        }
    }

    @Test("Another destination under the same name replaces the subscription", arguments: [1, 3])
    func replaced(shards: Int) {
        withBroker(shards: shards) { broker in
            let publisher = broker.connect(on: shards - 1)
            var client = connect(broker, clientID: "a")
            subscribe(client, "/topic/t", Self.named)
            client.confirmed(.disconnect)
            publish(publisher, "/topic/t", "old")
            client = connect(broker, clientID: "a")
            subscribe(client, "/topic/u", Self.named)
            publish(publisher, "/topic/t", "not this")
            publish(publisher, "/topic/u", "new")
            #expect(client.bodies() == ["new"])
            client.confirmed(.unsubscribe, [("id", "s")] + Self.named)
        }
    }

    // MARK: Refused

    @Test(
        "What a durable subscription cannot be is an ERROR that says why",
        arguments: [
            ("/topic/a", ["durable": "true", "auto-delete": "true"], "auto-delete"),
            ("/topic/a", ["durable-subscriber-name": "n"], "client-id"),
            ("/topic/a", ["activemq.subscriptionName": ""], "1 to 256 bytes"),
            ("/temp-topic/a", ["durable": "true"], "temporary topic"),
            ("/topic/a", ["durable": "true", "x-max-length": "5"], "x-max-length"),
        ])
    func refused(destination: String, headers: [String: String], text: String) {
        withBroker { broker in
            let client = broker.connect()
            client.send(
                .subscribe,
                [("destination", destination), ("id", "1"), ("receipt", "r")] + headers.map { ($0.key, $0.value) })
            broker.run()
            let error = client.takeFrames().last
            #expect(error?.command == .error && error?["receipt-id"] == "r")
            #expect(error?.text.contains(text) == true, "\(error?.text ?? "")")
        }
    }

    @Test("In STOMP 1.0 a subscription without an id cannot be durable")
    func withoutID() {
        withBroker { broker in
            let client = broker.connect(.v1_0)
            client.send(.subscribe, [("destination", "/topic/a"), ("durable", "true")])
            client.expectError("Invalid durable subscription")
        }
    }

    @Test("UNSUBSCRIBE with durable headers of a subscription that is not is an ERROR")
    func notDurable() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/topic/a", id: "1")
            client.send(.unsubscribe, [("id", "1"), ("durable", "true")])
            client.expectError("Invalid durable subscription")
        }
    }

    // MARK: Limits

    @Test("A subscription that is full loses its oldest, and tells; the publisher is not refused", arguments: [1, 2])
    func full(shards: Int) {
        let options = TestBroker.options {
            var policy = DestinationPolicy(pattern: "/topic/#")
            policy.queueMessageCountMax = 2
            policy.queueByteCountMax = 1000
            $0.destinationPolicies = [policy]
        }
        withBroker(shards: shards, options) { broker in
            var client = broker.connect()
            subscribe(client, "/topic/a", Self.shared)
            client.confirmed(.disconnect)
            publish(broker.connect(on: shards - 1), "/topic/a", "1", "2", "3", "4")
            broker.run()
            #expect(broker.notices.count { $0.kind == .messagesDropped && $0.text.contains("/dsub/id/s/topic/a") } == 2)
            #expect(broker.counters.messagesDropped == 2)
            // One that is too large for it drives nothing out.
            publish(broker.connect(), "/topic/a", String(repeating: "x", count: 1000))
            broker.run()
            #expect(broker.counters.messagesDropped == 3)
            client = broker.connect()
            subscribe(client, "/topic/a", Self.shared)
            #expect(client.bodies() == ["3", "4"])
            client.confirmed(.unsubscribe, [("id", "s")] + Self.shared)
        }
    }

    @Test("A subscription that nobody uses for too long ends, and tells", arguments: [1, 2])
    func expired(shards: Int) {
        let options = TestBroker.options {
            var policy = DestinationPolicy(pattern: "/topic/#")
            policy.durableMillisecondsMax = 10_000
            $0.destinationPolicies = [policy]
        }
        withBroker(shards: shards, options) { broker in
            let client = broker.connect(on: shards - 1)
            subscribe(client, "/topic/a.#", Self.shared)
            broker.advance(milliseconds: 30_000)
            let publisher = broker.connect()
            publish(publisher, "/topic/a.b", "1")
            #expect(client.bodies() == ["1"])
            client.confirmed(.disconnect)
            publish(publisher, "/topic/a.b", "2")
            broker.advance(milliseconds: 9_000)
            #expect(!broker.notices.contains { $0.kind == .subscriptionExpired })
            broker.advance(milliseconds: 2_000)
            let told = broker.notices.filter { $0.kind == .subscriptionExpired }
            #expect(told.count == 1 && told.first?.text.contains("with 1 messages") == true)
        }
    }
}
