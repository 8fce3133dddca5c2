import TestSupport
import Testing

/// STOMP 1.2, sections "ACK" and "NACK".
@Suite("ACK and NACK")
struct AcknowledgeSection {
    /// A subscriber of a queue of its own that holds the messages "1" to "count", none acknowledged.
    private func holder(
        _ driver: DriverUnderTest, _ version: ProtocolVersion = .v1_2, of count: Int, ack: String = "client-individual"
    ) throws -> (client: RawClient, messages: [Frame], queue: String) {
        let queue = unique("/queue/acknowledge")
        let client = try driver.client(version)
        try client.subscribe(to: queue, ack: ack)
        for index in 1...count { try client.publish(to: queue, "\(index)") }
        let messages = try (1...count).map { try client.expectMessage("\($0)") }
        return (client, messages, queue)
    }

    /// What another subscriber finds in the queue.
    private func expectLeft(
        _ bodies: [String], in queue: String, _ driver: DriverUnderTest, _ fileID: String = #fileID, _ line: Int = #line
    ) throws {
        let next = try driver.client()
        try next.subscribe(to: queue)
        for body in bodies { try next.expectMessage(body, [:], fileID, line) }
        try next.expectNothing(fileID, line)
    }

    // MARK: ACK

    /// "Any messages received from such a subscription will not be considered to have been consumed until the message
    /// has been acknowledged via an ACK."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["client", "client-individual"]))
    func `An acknowledged message is consumed`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, ack: String)
    ) throws {
        let (client, messages, queue) = try holder(driver, example.version, of: 1, ack: example.ack)
        try client.acknowledge(messages[0])
        try client.disconnect()
        try expectLeft([], in: queue, driver)
    }

    /// 1.2: "The ACK frame MUST include an id header matching the ack header of the MESSAGE being acknowledged."
    @Test(arguments: drivers, ["ACK", "NACK"])
    func `In 1.2 an acknowledgement without id is an ERROR`(on driver: DriverUnderTest, _ command: String) throws {
        let (client, messages, queue) = try holder(driver, of: 1)
        let id = try #require(messages[0]["message-id"])
        try client.send(command, ["message-id": id, "subscription": "0", "receipt": "1"])
        try client.expectError("id", receipt: "1")
        try expectLeft(["1"], in: queue, driver)
    }

    /// A tolerance: some clients of 1.2 send what 1.1 asks for as `id`, and other brokers take it.
    @Test(arguments: drivers, ["client", "client-individual"])
    func `In 1.2 a message-id is as good an id as the ack header's value`(
        on driver: DriverUnderTest, _ ack: String
    ) throws {
        let (client, messages, queue) = try holder(driver, of: 4, ack: ack)
        let ids = try messages.map { try #require($0["message-id"]) }
        try client.perform("ACK", ["id": ids[0]])
        try client.acknowledge(messages[1])
        try client.perform("NACK", ["id": ids[2], "requeue": "false"])
        // What is delivered from now on is found by its message-id too.
        try client.publish(to: queue, "5")
        let last = try client.expectMessage("5")
        try client.perform("ACK", ["id": #require(last["message-id"])])
        try client.disconnect()
        try expectLeft(ack == "client" ? [] : ["4"], in: queue, driver)
    }

    @Test(arguments: drivers)
    func `In 1.2 a message-id that is settled or of another connection is an ERROR`(on driver: DriverUnderTest) throws {
        let (client, messages, _) = try holder(driver, of: 1)
        let id = try #require(messages[0]["message-id"])
        let stranger = try driver.client()
        try stranger.send("ACK", ["id": id, "receipt": "1"])
        try stranger.expectError("no message with the id", receipt: "1")
        try client.perform("ACK", ["id": id])
        try client.send("ACK", ["id": id, "receipt": "1"])
        try client.expectError("no message with the id", receipt: "1")
    }

    /// 1.1: "ACK has two REQUIRED headers: message-id ... and subscription".
    @Test(arguments: drivers, pairs(["ACK", "NACK"], ["message-id", "subscription"]))
    func `In 1.1 an acknowledgement without one of its two headers is an ERROR`(
        on driver: DriverUnderTest, _ example: (command: String, missing: String)
    ) throws {
        let (client, messages, queue) = try holder(driver, .v1_1, of: 1)
        let (name, value) = try #require(client.acknowledgement(of: messages[0]).first { $0.key != example.missing })
        try client.send(example.command, [name: value, "receipt": "1"])
        try client.expectError(receipt: "1")
        try expectLeft(["1"], in: queue, driver)
    }

    /// 1.1: subscription "MUST be set to match the value of the subscription's id header".
    @Test(arguments: drivers, ["ACK", "NACK"])
    func `In 1.1 an acknowledgement must name the right subscription`(
        on driver: DriverUnderTest, _ command: String
    ) throws {
        let (client, messages, queue) = try holder(driver, .v1_1, of: 1)
        try client.subscribe(to: unique("/queue/acknowledge"), id: "other", ack: "client")
        let id = try #require(messages[0]["message-id"])
        try client.send(command, ["message-id": id, "subscription": "other", "receipt": "1"])
        try client.expectError(receipt: "1")
        try expectLeft(["1"], in: queue, driver)
    }

    /// 1.0: "ACK has one required header, message-id".
    @Test(arguments: drivers)
    func `In 1.0 an ACK without message-id is an ERROR`(on driver: DriverUnderTest) throws {
        let (client, _, queue) = try holder(driver, .v1_0, of: 1)
        try client.send("ACK", ["id": "1", "subscription": "0", "receipt": "1"])
        try client.expectError("message-id", receipt: "1")
        try expectLeft(["1"], in: queue, driver)
    }

    /// 1.0 names no subscription, so the message is looked for in all of the connection.
    @Test(arguments: drivers)
    func `In 1.0 message-id alone finds the message among several subscriptions`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let queues = [unique("/queue/acknowledge"), unique("/queue/acknowledge"), unique("/queue/acknowledge")]
        for (id, queue) in queues.enumerated() { try client.subscribe(to: queue, id: "\(id)", ack: "client") }
        for queue in queues { try client.publish(to: queue, queue) }
        let messages = try queues.map { try client.expectMessage($0) }
        for message in messages.reversed() { try client.acknowledge(message) }
        try client.disconnect()
        for queue in queues { try expectLeft([], in: queue, driver) }
    }

    /// An unknown id is an ERROR.
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["ACK", "NACK"]))
    func `An acknowledgement of an unknown id is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let (client, _, queue) = try holder(driver, example.version, of: 1)
        try client.send(
            example.command, ["id": "no such", "message-id": "no such", "subscription": "0", "receipt": "1"])
        try client.expectError(receipt: "1")
        try expectLeft(["1"], in: queue, driver)
    }

    @Test(arguments: drivers, ["", " ", "0", "-1", "18446744073709551615", "99999999999999999999999", "1,1", "a:b"])
    func `Odd ids are unknown ids`(on driver: DriverUnderTest, _ id: String) throws {
        let (client, _, queue) = try holder(driver, of: 1)
        try client.send("ACK", ["id": id, "receipt": "1"])
        try client.expectError(receipt: "1")
        try expectLeft(["1"], in: queue, driver)
    }

    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["ACK", "NACK"]))
    func `A message can be acknowledged once`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let (client, messages, queue) = try holder(driver, example.version, of: 1)
        try client.acknowledge(messages[0])
        try client.send(example.command, client.acknowledgement(of: messages[0]))
        try client.expectError()
        try expectLeft([], in: queue, driver)
    }

    @Test(arguments: drivers)
    func `What a cumulative ACK took is acknowledged`(on driver: DriverUnderTest) throws {
        let (client, messages, queue) = try holder(driver, of: 3, ack: "client")
        try client.acknowledge(messages[2])
        try client.send("ACK", client.acknowledgement(of: messages[1]))
        try client.expectError()
        try expectLeft([], in: queue, driver)
    }

    /// The `ack` value belongs to the connection it was sent to.
    @Test(arguments: drivers, ["ACK", "NACK"])
    func `Another connection's message cannot be acknowledged`(on driver: DriverUnderTest, _ command: String) throws {
        let (holder, messages, _) = try holder(driver, of: 1)
        let thief = try driver.client()
        try thief.subscribe(to: unique("/queue/acknowledge"), ack: "client-individual")
        try thief.send(command, thief.acknowledgement(of: messages[0]))
        try thief.expectError()
        try holder.acknowledge(messages[0])
    }

    /// "using client or client-individual acknowledgment"
    @Test(arguments: drivers, [ProtocolVersion.v1_0, .v1_1])
    func `An ACK of a message that needs none is an ERROR`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let (client, messages, _) = try holder(driver, version, of: 1, ack: "auto")
        try client.send("ACK", client.acknowledgement(of: messages[0]))
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `Messages may be acknowledged in any order one by one`(on driver: DriverUnderTest) throws {
        let (client, messages, queue) = try holder(driver, of: 9)
        for index in [4, 8, 0, 7, 1, 6, 2, 5] { try client.acknowledge(messages[index]) }
        try client.disconnect()
        try expectLeft(["4"], in: queue, driver)
    }

    /// "id (REQUIRED)": an opaque text; the client need not understand it, only repeat it.
    @Test(arguments: drivers)
    func `The ack values of one connection differ`(on driver: DriverUnderTest) throws {
        let (_, messages, _) = try holder(driver, of: 10)
        #expect(Set(messages.map { $0["ack"] }).count == 10)
    }

    /// Acknowledging frees the place for the next message.
    @Test(arguments: drivers, ["client", "client-individual"])
    func `An ACK brings the next message where the prefetch count is reached`(
        on driver: DriverUnderTest, _ ack: String
    ) throws {
        let queue = unique("/queue/acknowledge")
        let client = try driver.client()
        try client.perform("SUBSCRIBE", ["id": "0", "destination": queue, "ack": ack, "prefetch-count": "2"])
        try client.publish(to: queue, "1", "2", "3")
        let first = try client.expectMessage("1")
        try client.expectMessage("2")
        try client.expectNothing()
        try client.acknowledge(first)
        try client.expectMessage("3")
    }

    // MARK: NACK

    /// "It is used to tell the server that the client did not consume the message. The server can then either send the
    /// message to a different client, discard it, or put it in a dead letter queue." Here: back to the queue.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A refused message is delivered again`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let (client, messages, queue) = try holder(driver, version, of: 1)
        try client.reject(messages[0])
        let again = try client.expectMessage("1", ["redelivered": "true", "destination": queue])
        #expect(again["message-id"] == messages[0]["message-id"])
        try client.acknowledge(again)
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `A refused message may go to another client`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/acknowledge")
        let clients = [try driver.client(), try driver.client()]
        for client in clients {
            try client.perform(
                "SUBSCRIBE",
                ["id": "0", "destination": queue, "ack": "client-individual", "prefetch-count": "1"])
        }
        try clients[0].publish(to: queue, "1", "2")
        let held = try clients.map { try $0.expectMessage() }
        #expect(Set(held.map(\.text)) == ["1", "2"])
        try clients[1].send("UNSUBSCRIBE", ["id": "0"])
        try clients[0].acknowledge(held[0])
        try clients[0].expectMessage(held[1].text, ["redelivered": "true"])
    }

    /// "NACK applies either to one single message (if the subscription's ack mode is client-individual) ..."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `In client-individual mode NACK is for one message`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let (client, messages, queue) = try holder(driver, version, of: 3)
        try client.reject(messages[1])
        try client.acknowledge(client.expectMessage("2", ["redelivered": "true"]))
        try client.expectNothing()
        try client.acknowledge(messages[0])
        try client.acknowledge(messages[2])
        try client.disconnect()
        try expectLeft([], in: queue, driver)
    }

    /// "... or to all messages sent before and not yet ACK'ed or NACK'ed (if the subscription's ack mode is client)."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `In client mode NACK is cumulative`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let (client, messages, _) = try holder(driver, version, of: 4, ack: "client")
        try client.acknowledge(messages[0])
        try client.reject(messages[2])
        try client.expectMessage("2", ["redelivered": "true"])
        let third = try client.expectMessage("3", ["redelivered": "true"])
        try client.expectNothing()
        try client.acknowledge(third)
    }

    /// Kept in order until acknowledged: a message that comes back goes before those not yet delivered.
    @Test(arguments: drivers)
    func `A refused message comes before those not yet delivered`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/acknowledge")
        let client = try driver.client()
        try client.perform(
            "SUBSCRIBE", ["id": "0", "destination": queue, "ack": "client-individual", "prefetch-count": "1"])
        try client.publish(to: queue, "1", "2")
        try client.reject(client.expectMessage("1"))
        try client.acknowledge(client.expectMessage("1", ["redelivered": "true"]))
        try client.acknowledge(client.expectMessage("2"))
    }

    /// 1.0 knows no NACK; clients send it nevertheless.
    @Test(arguments: drivers)
    func `NACK is tolerated in 1_0`(on driver: DriverUnderTest) throws {
        let (client, messages, _) = try holder(driver, .v1_0, of: 1, ack: "client")
        try client.reject(messages[0])
        try client.expectMessage("1", ["redelivered": "true"])
    }

    @Test(arguments: drivers)
    func `A topic's message may be refused`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/acknowledge")
        try client.subscribe(to: topic, ack: "client-individual")
        try client.publish(to: topic, "hello")
        try client.reject(client.expectMessage("hello"))
        try client.publish(to: topic, "next")
        try client.acknowledge(client.expectMessage("next"))
    }
}
