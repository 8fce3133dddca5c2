import TestSupport
import Testing

/// STOMP 1.2, section "MESSAGE", and "Repeated Header Entries".
@Suite("MESSAGE")
struct MessageSection {
    /// "this destination header SHOULD be identical to the one used in the corresponding SEND frame."
    @Test(
        arguments: drivers,
        ["/queue/message", "/topic/message", "/amq/queue/message", "/exchange/amq.topic/message", "bare"])
    func `MESSAGE carries the destination of the SEND`(on driver: DriverUnderTest, _ prefix: String) throws {
        let destination = unique(prefix)
        let client = try driver.client()
        try client.subscribe(to: destination)
        try client.publish(to: destination, "hello")
        try client.expectMessage("hello", ["destination": destination])
    }

    /// Always: `subscription`, `message-id`, `destination`, `content-length`.
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["auto", "client", "client-individual"]))
    func `MESSAGE carries subscription, message-id, destination and content-length`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, ack: String)
    ) throws {
        let queue = unique("/queue/message")
        let client = try driver.client(example.version)
        try client.subscribe(to: queue, id: "sub", ack: example.ack)
        try client.publish(to: queue, "hello")
        let message = try client.expectMessage(
            "hello", ["subscription": "sub", "destination": queue, "content-length": "5"])
        #expect(message["message-id"]?.isEmpty == false)
    }

    /// "a message-id header with a unique identifier for that message"
    @Test(arguments: drivers)
    func `Messages have different identifiers`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let destinations = [unique("/queue/message"), unique("/queue/message"), unique("/topic/message")]
        for (id, destination) in destinations.enumerated() { try client.subscribe(to: destination, id: "\(id)") }
        var ids: Set<String> = []
        for _ in 0..<20 {
            for destination in destinations {
                try client.publish(to: destination, "same")
                ids.insert(try #require(client.expectMessage("same")["message-id"]))
            }
        }
        #expect(ids.count == 60)
    }

    @Test(arguments: drivers)
    func `A message keeps its identifier when it is delivered again`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/message")
        let client = try driver.client()
        try client.subscribe(to: queue, ack: "client")
        try client.publish(to: queue, "hello")
        let first = try client.expectMessage("hello")
        client.abort()
        let next = try driver.client()
        try next.subscribe(to: queue, ack: "client")
        #expect(try next.expectMessage("hello")["message-id"] == first["message-id"])
    }

    /// 1.2: "If the message is received from a subscription that requires explicit acknowledgment (either client or
    /// client-individual mode) then the MESSAGE frame MUST also contain an ack header". Elsewhere there is none.
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["auto", "client", "client-individual"]))
    func `MESSAGE carries ack exactly where the subscription acknowledges, in 1_2`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, ack: String)
    ) throws {
        let queue = unique("/queue/message")
        let client = try driver.client(example.version)
        try client.subscribe(to: queue, ack: example.ack)
        try client.publish(to: queue, "hello")
        let ack = try client.expectMessage("hello")["ack"]
        #expect((ack != nil) == (example.version == .v1_2 && example.ack != "auto"))
        #expect(ack != "")
    }

    /// Convention: `redelivered` where it is.
    @Test(arguments: drivers)
    func `MESSAGE carries redelivered and the count at the second delivery`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/message")
        let client = try driver.client()
        try client.subscribe(to: queue, ack: "client-individual")
        try client.publish(to: queue, "hello")
        let first = try client.expectMessage("hello")
        #expect(first["redelivered"] == nil || first["redelivered"] == "false")
        try client.reject(first)
        let second = try client.expectMessage("hello", ["redelivered": "true", "delivery-count": "2"])
        try client.reject(second)
        try client.expectMessage("hello", ["redelivered": "true", "delivery-count": "3"])
    }

    /// Each header of the broker's stands once.
    @Test(arguments: drivers)
    func `The broker's headers stand once`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/message")
        let client = try driver.client()
        try client.subscribe(to: queue, ack: "client-individual")
        try client.send(
            "SEND", ["destination": queue, "content-length": "5", "content-type": "text/plain"], body: "hello")
        try client.reject(client.expectMessage("hello"))
        let message = try client.expectMessage("hello")
        for name in [
            "subscription", "message-id", "destination", "content-length", "content-type", "ack", "redelivered",
            "delivery-count",
        ] {
            #expect(message.values(of: name).count == 1, "\(name)")
        }
    }

    /// One body, many subscribers with different versions, modes and identifiers: each gets its own header and the same
    /// body.
    @Test(arguments: drivers)
    func `Subscribers of all versions and modes get the same message`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/message")
        var subscribers: [(client: RawClient, id: String)] = []
        for version in ProtocolVersion.allCases {
            for (ack, id) in [("auto", "0"), ("client", "a longer id"), ("client-individual", "0"), ("auto", "0")] {
                let client = try driver.client(version)
                try client.subscribe(to: topic, id: id, ack: ack)
                subscribers.append((client, id))
            }
        }
        let body = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
        let publisher = try driver.client()
        for index in 0..<10 {
            try publisher.send(
                "SEND", ["destination": topic, "index": "\(index)", "content-length": "\(body.count)"], body: body)
        }
        for (client, id) in subscribers {
            for index in 0..<10 {
                #expect(try client.expectMessage(nil, ["subscription": id, "index": "\(index)"]).body == body)
            }
        }
    }

    // MARK: Repeated Header Entries

    /// "If a client or a server receives repeated frame header entries, only the first header entry SHOULD be used as
    /// the value of header entry."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Of repeated headers the first counts`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/message")
        try client.send(
            "SUBSCRIBE\nid:first\nid:second\ndestination:\(topic)\ndestination:/topic/other\nack:auto\nack:nonsense\n"
                + "receipt:1\nreceipt:2\n\n\0")
        try client.expectReceipt("1")
        try client.send(
            "SEND\ndestination:\(topic)\ndestination:/nonsense\ncontent-length:5\ncontent-length:3\n"
                + "foo:World\nfoo:Hello\n\nhello\0"
        )
        let message = try client.expectMessage("hello", ["subscription": "first", "destination": topic])
        #expect(message["foo"] == "World")
        try client.expectNothing()
    }

    /// "Subsequent values are only used to maintain a history of state changes of the header": they may be kept, in
    /// order.
    @Test(arguments: drivers)
    func `Repeated user headers keep their order`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/message")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\nfoo:1\nbar:x\nfoo:2\nfoo:3\n\n\0")
        #expect(try client.expectMessage("").values(of: "foo") == ["1", "2", "3"])
    }

    @Test(arguments: drivers)
    func `Of repeated headers of CONNECT the first counts`(on driver: DriverUnderTest) throws {
        let client = try driver.connection()
        try client.send(
            "CONNECT\naccept-version:1.1\naccept-version:1.2\nhost:a\nhost:b\nheart-beat:0,0\nheart-beat:x\n\n\0")
        try client.expectConnected(.v1_1)
    }

    @Test(arguments: drivers)
    func `Of repeated transaction headers the first counts`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("BEGIN\ntransaction:a\ntransaction:b\nreceipt:1\n\n\0COMMIT\ntransaction:a\nreceipt:2\n\n\0")
        try client.expectReceipt("1")
        try client.expectReceipt("2")
    }
}
