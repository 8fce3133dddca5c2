import TestSupport
import Testing

/// Topic subscriptions that outlive their connection, as clients of RabbitMQ and of ActiveMQ and Artemis ask for them. STOMP
/// itself knows none.
@Suite("Durable subscriptions")
struct DurableSubscriptions {
    /// The header by which each of them names a subscription; the misspelled one is what old clients send.
    private static let names = [
        "activemq.subscriptionName", "activemq.subcriptionName", "durable-subscription-name", "durable-subscriber-name",
    ]

    /// RabbitMQ, STOMP plugin, section "Durable Topic Subscriptions".
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["durable", "persistent"]))
    func `With durable or persistent and an id, a topic keeps messages for a client that is away`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, header: String)
    ) throws {
        let topic = unique("/topic/durable")
        let publisher = try driver.client()
        for round in 0..<2 {
            let client = try driver.client(example.version)
            try client.perform(
                "SUBSCRIBE", ["id": "s", "destination": topic, example.header: "true", "auto-delete": "false"])
            if round == 1 {
                for body in ["1", "2"] {
                    try client.expectMessage(body, ["destination": topic, "subscription": "s"])
                }
            }
            try publisher.publish(to: topic, "live")
            try client.expectMessage("live", ["destination": topic, "subscription": "s"])
            try client.disconnect()
            try publisher.publish(to: topic, "1", "2")
        }
        let last = try driver.client(example.version)
        try last.perform("SUBSCRIBE", ["id": "s", "destination": topic, example.header: "true"])
        for body in ["1", "2"] { try last.expectMessage(body) }
        try last.perform("UNSUBSCRIBE", ["id": "s", example.header: "true"])
        try publisher.publish(to: topic, "to nobody")
        try last.perform("SUBSCRIBE", ["id": "s", "destination": topic, example.header: "true"])
        try last.expectNothing()
        try last.perform("UNSUBSCRIBE", ["id": "s", example.header: "true"])
    }

    @Test(arguments: drivers)
    func `UNSUBSCRIBE without the durable headers ends the consuming only`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/durable")
        let client = try driver.client()
        try client.perform("SUBSCRIBE", ["id": "s", "destination": topic, "durable": "true"])
        try client.perform("UNSUBSCRIBE", ["id": "s"])
        try client.publish(to: topic, "kept")
        try client.expectNothing()
        try client.perform("SUBSCRIBE", ["id": "s", "destination": topic, "durable": "true"])
        try client.expectMessage("kept")
        try client.perform("UNSUBSCRIBE", ["id": "s", "durable": "true"])
    }

    @Test(arguments: drivers)
    func `All who use the same id and destination share the messages`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/durable")
        let clients = [try driver.client(), try driver.client()]
        for client in clients {
            try client.perform(
                "SUBSCRIBE",
                ["id": "s", "destination": topic, "durable": "true", "ack": "client", "prefetch-count": "1"])
        }
        try clients[0].publish(to: topic, "1", "2")
        let bodies = [try clients[0].expectMessage().text, try clients[1].expectMessage().text]
        #expect(bodies.sorted() == ["1", "2"])
        try clients[0].disconnect()
        // What its consumer had comes to the other.
        let first = try driver.client()
        try clients[1].send("UNSUBSCRIBE", ["id": "s"])
        try first.perform("SUBSCRIBE", ["id": "s", "destination": topic, "durable": "true", "ack": "client"])
        for _ in 0..<2 { try first.expectMessage(nil, ["redelivered": "true"]) }
        try first.perform("UNSUBSCRIBE", ["id": "s", "durable": "true"])
    }

    /// ActiveMQ, "Stomp extensions for JMS message semantics"; Artemis, "Durable Subscriptions" of its STOMP chapter.
    @Test(arguments: drivers, names)
    func `With client-id and a name, a topic keeps messages for a client that is away`(
        on driver: DriverUnderTest, _ header: String
    ) throws {
        let topic = unique("/topic/durable")
        let name = unique("name")
        let publisher = try driver.client()
        func client() throws -> RawClient { try driver.client(.v1_1, ["client-id": "client \(name)"]) }
        var reader = try client()
        try reader.perform("SUBSCRIBE", ["id": "1", "destination": topic, header: name, "ack": "client-individual"])
        try publisher.publish(to: topic, "1", "2")
        try reader.acknowledge(reader.expectMessage("1"))
        try reader.disconnect()
        try publisher.publish(to: topic, "3")
        reader = try client()
        // The id is the connection's affair.
        try reader.perform("SUBSCRIBE", ["id": "2", "destination": topic, header: name])
        try reader.expectMessage("2", ["destination": topic, "subscription": "2", "redelivered": "true"])
        #expect(try reader.expectMessage("3")["redelivered"] == nil)
        try reader.disconnect()
        reader = try client()
        try reader.perform("UNSUBSCRIBE", ["id": "2", header: name])
        try publisher.publish(to: topic, "4")
        try reader.perform("SUBSCRIBE", ["id": "2", "destination": topic, header: name])
        try reader.expectNothing()
        try reader.perform("UNSUBSCRIBE", ["id": "2", header: name])
    }

    /// As in JMS: "only one session at a time can have a TopicSubscriber for a particular durable subscription".
    @Test(arguments: drivers)
    func `A named subscription has one consumer at a time`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/durable")
        let clients = try (0..<3).map { _ in try driver.client(.v1_2, ["client-id": topic]) }
        try clients[0].perform("SUBSCRIBE", ["id": "1", "destination": topic, Self.names[0]: "n"])
        try clients[1].send(
            "SUBSCRIBE", ["id": "1", "destination": topic, Self.names[0]: "n", "receipt": "r"])
        try clients[1].expectError("in use", receipt: "r")
        try clients[2].send("UNSUBSCRIBE", ["id": "1", Self.names[0]: "n", "receipt": "r"])
        try clients[2].expectError("in use", receipt: "r")
        try clients[0].publish(to: topic, "still there")
        try clients[0].expectMessage("still there")
        try clients[0].perform("UNSUBSCRIBE", ["id": "1", Self.names[0]: "n"])
    }

    /// JMS 1.1, 6.11.1: a client changes a durable subscription by making one of the same name with another topic.
    @Test(arguments: drivers)
    func `Another topic under the same name replaces the subscription`(on driver: DriverUnderTest) throws {
        let topics = [unique("/topic/durable"), unique("/topic/durable")]
        let publisher = try driver.client()
        for (round, topic) in topics.enumerated() {
            let client = try driver.client(.v1_2, ["client-id": topics[0]])
            try client.perform("SUBSCRIBE", ["id": "1", "destination": topic, Self.names[1]: "n"])
            for topic in topics { try publisher.publish(to: topic, "to \(topic)") }
            try client.expectMessage("to \(topic)")
            try client.expectNothing()
            if round == 1 { try client.perform("UNSUBSCRIBE", ["id": "1", Self.names[1]: "n"]) }
            try client.disconnect()
            try publisher.publish(to: topics[0], "away")
        }
    }

    @Test(arguments: drivers, ["#", "*.b", "a.>"])
    func `A pattern may be durable too`(on driver: DriverUnderTest, _ pattern: String) throws {
        let root = unique("/topic/durable")
        let headers: KeyValuePairs = ["id": "s", "destination": "\(root).\(pattern)", "durable": "true"]
        let client = try driver.client()
        try client.perform("SUBSCRIBE", headers)
        try client.disconnect()
        let publisher = try driver.client()
        try publisher.publish(to: "\(root).a.b", "for all")
        try publisher.publish(to: "\(root)x", "for none")
        let back = try driver.client()
        try back.perform("SUBSCRIBE", headers)
        try back.expectMessage("for all", ["destination": "\(root).a.b"])
        try back.expectNothing()
        try back.perform("UNSUBSCRIBE", ["id": "s", "durable": "true"])
    }

    @Test(arguments: drivers)
    func `A message that a durable subscriber refuses comes again`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/durable")
        let client = try driver.client()
        try client.perform(
            "SUBSCRIBE", ["id": "s", "destination": topic, "durable": "true", "ack": "client-individual"])
        try client.publish(to: topic, "x")
        try client.reject(client.expectMessage("x"))
        try client.acknowledge(client.expectMessage("x", ["redelivered": "true"]))
        try client.perform("UNSUBSCRIBE", ["id": "s", "durable": "true"])
    }

    @Test(arguments: drivers)
    func `Messages of a transaction reach a durable subscription when it is committed`(
        on driver: DriverUnderTest
    ) throws {
        let topic = unique("/topic/durable")
        let client = try driver.client()
        try client.perform("SUBSCRIBE", ["id": "s", "destination": topic, "durable": "true"])
        try client.perform("UNSUBSCRIBE", ["id": "s"])
        for (name, end) in [("t1", "ABORT"), ("t2", "COMMIT")] {
            try client.send("BEGIN", ["transaction": name])
            for body in ["1", "2"] {
                try client.send(
                    "SEND", ["destination": topic, "transaction": name, "persistent": "true"], body: name + body)
            }
            try client.perform(end, ["transaction": name])
        }
        try client.perform("SUBSCRIBE", ["id": "s", "destination": topic, "durable": "true"])
        for body in ["t21", "t22"] { try client.expectMessage(body) }
        try client.expectNothing()
        try client.perform("UNSUBSCRIBE", ["id": "s", "durable": "true"])
    }

    /// What is asked for and cannot be is refused, not ignored.
    @Test(
        arguments: drivers,
        [
            ("SUBSCRIBE", ["destination": "/topic/a", "durable": "true", "auto-delete": "true"], "auto-delete"),
            ("SUBSCRIBE", ["destination": "/topic/a", "durable-subscription-name": ""], "1 to 256 bytes"),
            ("SUBSCRIBE", ["destination": "/temp-topic/a", "persistent": "true"], "temporary topic"),
            ("UNSUBSCRIBE", ["durable": "true"], "Subscription not found"),
            ("UNSUBSCRIBE", ["durable": "true", "destination": "/topic/nobody"], "not found"),
            ("UNSUBSCRIBE", ["durable": "true", "destination": "/queue/a"], "only subscriptions to topics"),
            ("UNSUBSCRIBE", ["activemq.subscriptionName": "n"], "needs a client-id"),
        ] as [(String, [String: String], String)])
    func `What cannot be a durable subscription is an ERROR`(
        on driver: DriverUnderTest, _ wish: (command: String, headers: [String: String], message: String)
    ) throws {
        let client = try driver.client()
        let lines = wish.headers.map { "\($0.key):\($0.value)\n" }.joined()
        try client.send("\(wish.command)\nid:1\nreceipt:1\n\(lines)\n\0")
        try client.expectError(wish.message, receipt: "1")
    }
}
