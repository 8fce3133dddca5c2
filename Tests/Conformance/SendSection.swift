import TestSupport
import Testing

/// STOMP 1.2, section "SEND".
@Suite("SEND")
struct SendSection {
    /// "The SEND frame sends a message to a destination in the messaging system."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["/queue/send", "/topic/send"]))
    func `A message sent to a destination reaches its subscriber`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, destination: String)
    ) throws {
        let destination = unique(example.destination)
        let subscriber = try driver.client(example.version)
        try subscriber.subscribe(to: destination)
        try driver.client(example.version).publish(to: destination, "hello queue a\n")
        try subscriber.expectMessage("hello queue a\n", ["destination": destination])
    }

    /// "It has one REQUIRED header, destination."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `SEND without a destination is an ERROR`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.sendFaulty("SEND\nfoo:bar\n\nbody\0")
        try client.expectError("Missing destination")
    }

    /// A destination that names nothing.
    @Test(
        arguments: drivers,
        [
            "", "/", "/queue", "/queue/", "/topic", "/topic/", "//queue/a", "/queues/a", "/exchange/other/a",
            "/foo/bar",
            "/temp-queue/", "/QUEUE/a",
        ])
    func `SEND to an impossible destination is an ERROR`(on driver: DriverUnderTest, _ destination: String) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\ndestination:\(destination)\n\nbody\0")
        try client.expectError("Unknown destination", "Invalid destination", "Missing destination")
    }

    @Test(
        arguments: drivers,
        ["/queue/a\\nb", "/topic/a\\rb", "/queue/\u{1}", "/topic/a\u{1b}[2J", "/queue/a\u{7f}", "/topic/\t"])
    func `A control byte in a destination is an ERROR`(on driver: DriverUnderTest, _ destination: String) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\ndestination:\(destination)\n\nbody\0")
        try client.expectError("Invalid destination")
    }

    /// Wildcards are for subscriptions: a message has one destination. Nor could anybody subscribe to such a queue.
    @Test(
        arguments: drivers,
        ["/topic/a.*", "/topic/a.#", "/topic/>", "/topic/a/**", "/topic/*/b", "/queue/a.*", "/queue/a.#", "/queue/A.>"])
    func `SEND to a wildcard is an ERROR`(on driver: DriverUnderTest, _ destination: String) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\ndestination:\(destination)\n\nbody\0")
        try client.expectError("Invalid destination")
    }

    /// "If the server cannot successfully process the SEND frame for any reason, the server MUST send the client an
    /// ERROR frame and then close the connection."
    @Test(arguments: drivers)
    func `A refused SEND takes nothing back that was accepted before`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/send")
        let client = try driver.client()
        try client.send("SEND", ["destination": queue], body: "accepted")
        try client.send("SEND", ["receipt": "7"], body: "refused")
        try client.send("SEND", ["destination": queue], body: "behind a fault")
        try client.expectError("Missing destination", receipt: "7")
        let subscriber = try driver.client()
        try subscriber.subscribe(to: queue)
        try subscriber.expectMessage("accepted")
        try subscriber.expectNothing()
    }

    @Test(arguments: drivers)
    func `A refused SEND is nothing to other connections`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/send")
        let other = try driver.client()
        try other.subscribe(to: topic)
        let client = try driver.client()
        try client.send("SEND", [:], body: "refused")
        try client.expectError()
        try other.publish(to: topic, "still here")
        try other.expectMessage("still here")
    }

    /// "An application MAY add any arbitrary user defined headers to the SEND frame. ... The user defined headers MUST
    /// be passed through in the MESSAGE frame."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `User headers are passed through`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/send")
        try client.subscribe(to: topic)
        try client.send(
            "SEND",
            [
                "a": "1", "destination": topic, "correlation-id": "c-7", "priority": "9", "persistent": "true",
                "b": "2",
                "X-Odd_Name.1!": "~", "login": "user header here", "id": "user's own", "host": "h", "version": "9.9",
            ], body: "x")
        let message = try client.expectMessage(
            "x",
            [
                "a": "1", "correlation-id": "c-7", "priority": "9", "persistent": "true", "b": "2",
                "X-Odd_Name.1!": "~",
                "login": "user header here", "id": "user's own", "host": "h", "version": "9.9",
            ])
        #expect(message.values(of: "a") == ["1"])
    }

    @Test(arguments: drivers)
    func `User headers keep their order`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/send")
        try client.subscribe(to: topic)
        try client.send(
            "SEND", ["z": "1", "destination": topic, "a": "2", "m": "3", "content-type": "text/plain", "b": "4"],
            body: "x")
        let message = try client.expectMessage("x")
        #expect(message.headers.map(\.name).filter { ["z", "a", "m", "b"].contains($0) } == ["z", "a", "m", "b"])
    }

    /// What the broker says in a MESSAGE is the broker's to say: a publisher cannot forge an `ack`, an identifier or a
    /// redelivery.
    @Test(arguments: drivers, ["subscription", "message-id", "ack", "redelivered", "delivery-count"])
    func `A publisher cannot forge the broker's headers`(on driver: DriverUnderTest, _ name: String) throws {
        let client = try driver.client()
        let topic = unique("/topic/send")
        try client.subscribe(to: topic, id: "real")
        try client.send("SEND\ndestination:\(topic)\n\(name):forged\n\nx\0")
        let message = try client.expectMessage("x", ["subscription": "real"])
        #expect(!message.values(of: name).contains("forged"))
    }

    /// They speak about the SEND frame, not about the message.
    @Test(arguments: drivers)
    func `receipt and transaction are not passed through`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/send")
        try client.subscribe(to: topic)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": topic, "transaction": "t"], body: "x")
        try client.perform("COMMIT", ["transaction": "t"])
        let message = try client.expectMessage("x")
        #expect(message["receipt"] == nil)
        #expect(message["transaction"] == nil)
    }

    /// The message's content-length is that of its body, in octets, whatever the publisher wrote or left out.
    @Test(arguments: drivers)
    func `MESSAGE has one content-length, the body's`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/send")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\ncontent-length:0005\n\nhello\0")
        #expect(try client.expectMessage("hello").values(of: "content-length") == ["5"])
    }

    /// Guarantee: messages of one publisher to one destination reach each subscriber in the order they were sent.
    @Test(arguments: drivers, ["/queue/send", "/topic/send"])
    func `Messages keep their order`(on driver: DriverUnderTest, _ prefix: String) throws {
        let destination = unique(prefix)
        let subscriber = try driver.client()
        try subscriber.subscribe(to: destination)
        let publisher = try driver.client()
        for index in 0..<1000 { try publisher.send("SEND", ["destination": destination], body: "\(index)") }
        for index in 0..<1000 { try subscriber.expectMessage("\(index)") }
    }

    /// A RECEIPT to SEND means accepted and routed, even where nobody listens.
    @Test(arguments: drivers)
    func `A message to a topic without subscribers is accepted and gone`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/send")
        let client = try driver.client()
        try client.publish(to: topic, "unheard")
        try client.subscribe(to: topic)
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `A message to a queue without subscribers waits`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/send")
        try driver.client().publish(to: queue, "one", "two", "three")
        let client = try driver.client()
        try client.subscribe(to: queue)
        for body in ["one", "two", "three"] { try client.expectMessage(body) }
        try client.expectNothing()
    }

    /// "SEND supports a transaction header which allows for transactional sends."
    @Test(arguments: drivers)
    func `SEND in an unknown transaction is an ERROR`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/send")
        let client = try driver.client()
        try client.send("SEND", ["destination": queue, "transaction": "none", "receipt": "1"], body: "x")
        try client.expectError("transaction", receipt: "1")
        let witness = try driver.client()
        try witness.subscribe(to: queue)
        try witness.expectNothing()
    }

    /// "STOMP treats this destination as an opaque string": names may hold anything printable.
    @Test(
        arguments: drivers,
        ["/queue/a b", "/queue/a,b;c=d?e&f", "/queue/über/straße", "/queue/a/b/c.d-e_f", "/queue/%2F", "/queue/a\\cb"])
    func `A destination's name may hold any printable text`(on driver: DriverUnderTest, _ name: String) throws {
        let client = try driver.client()
        try client.send("SUBSCRIBE\nid:0\ndestination:\(name)\n\n\0SEND\ndestination:\(name)\n\nhello\0")
        let message = try client.expectMessage("hello")
        #expect(message.headerLines.contains("destination:\(name)"))
    }
}
