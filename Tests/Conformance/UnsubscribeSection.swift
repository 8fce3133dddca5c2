import TestSupport
import Testing

/// STOMP 1.2, section "UNSUBSCRIBE".
@Suite("UNSUBSCRIBE")
struct UnsubscribeSection {
    /// "Once the subscription is removed the STOMP connections will no longer receive messages from that subscription."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["/topic/unsubscribe", "/queue/unsubscribe"]))
    func `After UNSUBSCRIBE no more messages come`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, prefix: String)
    ) throws {
        let client = try driver.client(example.version)
        let destination = unique(example.prefix)
        try client.subscribe(to: destination, id: "x")
        try client.publish(to: destination, "before")
        try client.expectMessage("before")
        try client.perform("UNSUBSCRIBE", ["id": "x"])
        try client.publish(to: destination, "after")
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `UNSUBSCRIBE ends one subscription and no other`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/unsubscribe")
        for id in ["a", "b", "c"] { try client.subscribe(to: topic, id: id) }
        try client.perform("UNSUBSCRIBE", ["id": "b"])
        try client.publish(to: topic, "hello")
        let first = try client.expectMessage("hello")
        let second = try client.expectMessage("hello")
        #expect(Set([first["subscription"], second["subscription"]]) == ["a", "c"])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `Another connection's subscription with the same id stays`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/unsubscribe")
        let leaving = try driver.client()
        let staying = try driver.client()
        for client in [leaving, staying] { try client.subscribe(to: topic, id: "0") }
        try leaving.perform("UNSUBSCRIBE", ["id": "0"])
        try leaving.publish(to: topic, "hello")
        try staying.expectMessage("hello")
        try leaving.expectNothing()
    }

    /// "an id header MUST be included in the frame"
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `UNSUBSCRIBE without an id is an ERROR`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.subscribe(to: "/topic/a", id: "0")
        try client.sendFaulty("UNSUBSCRIBE\ndestination:/topic/a\nreceipt:1\n\n\0")
        try client.expectError("id", receipt: "1")
    }

    /// "This header MUST match the subscription identifier of an existing subscription."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `UNSUBSCRIBE of an unknown id is an ERROR`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.subscribe(to: "/topic/a", id: "0")
        try client.sendFaulty("UNSUBSCRIBE\nid:1\nreceipt:1\n\n\0")
        try client.expectError("subscription", receipt: "1")
    }

    @Test(arguments: drivers)
    func `UNSUBSCRIBE twice is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.subscribe(to: "/topic/a", id: "0")
        try client.perform("UNSUBSCRIBE", ["id": "0"])
        try client.sendFaulty("UNSUBSCRIBE\nid:0\nreceipt:1\n\n\0")
        try client.expectError(receipt: "1")
    }

    /// What was delivered and not acknowledged is not consumed.
    @Test(arguments: drivers, ["client", "client-individual"])
    func `UNSUBSCRIBE gives unacknowledged messages back`(on driver: DriverUnderTest, _ ack: String) throws {
        let queue = unique("/queue/unsubscribe")
        let first = try driver.client()
        try first.subscribe(to: queue, ack: ack)
        try first.publish(to: queue, "1", "2", "3")
        let messages = try (1...3).map { try first.expectMessage("\($0)") }
        try first.acknowledge(messages[0])
        try first.perform("UNSUBSCRIBE", ["id": "0"])
        let second = try driver.client()
        try second.subscribe(to: queue)
        for body in ["2", "3"] { try second.expectMessage(body, ["redelivered": "true"]) }
        try second.expectNothing()
    }

    @Test(arguments: drivers)
    func `The connection may subscribe again and gets them itself`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/unsubscribe")
        let client = try driver.client()
        try client.subscribe(to: queue, ack: "client")
        try client.publish(to: queue, "hello")
        try client.expectMessage("hello")
        try client.perform("UNSUBSCRIBE", ["id": "0"])
        try client.subscribe(to: queue, ack: "client")
        try client.acknowledge(client.expectMessage("hello", ["redelivered": "true"]))
    }

    /// The subscription that could have acknowledged is gone, and the message may be another's already.
    @Test(arguments: drivers)
    func `An ACK after UNSUBSCRIBE is an ERROR`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/unsubscribe")
        let client = try driver.client()
        try client.subscribe(to: queue, ack: "client")
        try client.publish(to: queue, "hello")
        let message = try client.expectMessage("hello")
        try client.perform("UNSUBSCRIBE", ["id": "0"])
        try client.send("ACK", client.acknowledgement(of: message))
        try client.expectError()
    }

    /// 1.0: "It requires either a destination header or an id header".
    @Test(arguments: drivers)
    func `In 1.0 UNSUBSCRIBE may name the destination`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let topic = unique("/topic/unsubscribe")
        try client.perform("SUBSCRIBE", ["destination": topic])
        try client.publish(to: topic, "before")
        try client.expectMessage("before")
        try client.perform("UNSUBSCRIBE", ["destination": topic])
        try client.publish(to: topic, "after")
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `In 1.0 UNSUBSCRIBE of an unknown destination is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        try client.perform("SUBSCRIBE", ["destination": "/topic/a"])
        try client.sendFaulty("UNSUBSCRIBE\ndestination:/topic/b\nreceipt:1\n\n\0")
        try client.expectError(receipt: "1")
    }

    @Test(arguments: drivers)
    func `In 1.0 UNSUBSCRIBE of nothing is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        try client.sendFaulty("UNSUBSCRIBE\nreceipt:1\n\n\0")
        try client.expectError(receipt: "1")
    }
}
