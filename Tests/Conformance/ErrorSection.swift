import TestSupport
import Testing

/// STOMP 1.2, section "ERROR".
@Suite("ERROR")
struct ErrorSection {
    /// "The ERROR frame SHOULD contain a message header with a short description of the error, and the body MAY contain
    /// more detailed information". "ERROR frames SHOULD include a content-length header and a content-type header if a
    /// body is present."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `ERROR has a message, and a body that explains`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.send("SEND\nfoo:bar\n\nbody\0")
        let error = try client.expectError()
        #expect(error["message"]?.isEmpty == false)
        #expect(error["content-type"]?.hasPrefix("text/plain") == true)
        #expect(error["content-length"] == "\(error.body.count)")
        #expect(!error.body.isEmpty)
    }

    /// "In this case, it MUST then close the connection just after sending the ERROR frame."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `After ERROR the connection is closed in order`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.send("FOO\n\n\0")
        _ = try client.expect("ERROR")
        try client.expectClose()
    }

    /// "if the frame included a receipt header, the ERROR frame SHOULD set the receipt-id header to match"
    @Test(
        arguments: drivers,
        [
            Fault("SEND", "SEND\nreceipt:message-12345\n\n\0"),
            Fault("SUBSCRIBE", "SUBSCRIBE\nid:0\nreceipt:message-12345\n\n\0"),
            Fault("UNSUBSCRIBE", "UNSUBSCRIBE\nid:none\nreceipt:message-12345\n\n\0"),
            Fault("BEGIN", "BEGIN\nreceipt:message-12345\n\n\0"),
            Fault("COMMIT", "COMMIT\ntransaction:none\nreceipt:message-12345\n\n\0"),
            Fault("ABORT", "ABORT\ntransaction:none\nreceipt:message-12345\n\n\0"),
            Fault("ACK", "ACK\nid:none\nreceipt:message-12345\n\n\0"),
            Fault("NACK", "NACK\nid:none\nreceipt:message-12345\n\n\0"),
            Fault("CONNECT", "CONNECT\naccept-version:1.2\nhost:x\nreceipt:message-12345\n\n\0"),
        ])
    func `ERROR carries receipt-id where the frame asked for one`(on driver: DriverUnderTest, _ fault: Fault) throws {
        let client = try driver.client()
        try client.send(fault.text)
        if fault.name == "CONNECT" {
            // A CONNECT gets no RECEIPT, so naming it in the ERROR is the broker's choice.
            try client.expectError()
        } else {
            try client.expectError(receipt: "message-12345")
        }
    }

    @Test(arguments: drivers)
    func `ERROR carries no receipt-id where the frame asked for none`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("BEGIN\ntransaction:t\nreceipt:1\n\n\0SEND\nfoo:bar\n\n\0")
        try client.expectReceipt("1")
        #expect(try client.expectError()["receipt-id"] == nil)
    }

    /// A refused frame gets an ERROR instead of its RECEIPT, not both.
    @Test(arguments: drivers)
    func `A refused frame gets no RECEIPT`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("SEND\nreceipt:1\n\n\0")
        try client.expect("ERROR", ["receipt-id": "1"])
        try client.expectClose()
    }

    /// Frames behind a faulty one are not processed.
    @Test(arguments: drivers)
    func `What follows a faulty frame has no effect`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/error")
        let client = try driver.client()
        try client.send("FOO\n\n\0SEND\ndestination:\(queue)\nreceipt:1\n\nbehind\0DISCONNECT\nreceipt:2\n\n\0")
        try client.expectError("Bad command")
        let witness = try driver.client()
        try witness.subscribe(to: queue)
        try witness.expectNothing()
    }

    /// What was accepted before stays accepted, and its answers are not lost.
    @Test(arguments: drivers)
    func `What preceded a faulty frame is processed and answered`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/error")
        let client = try driver.client()
        let sends = (0..<100).map { "SEND\ndestination:\(queue)\nreceipt:\($0)\n\n\($0)\0" }.joined()
        try client.send(sends + "FOO\n\n\0")
        for index in 0..<100 { try client.expectReceipt("\(index)") }
        try client.expectError("Bad command")
        let reader = try driver.client()
        try reader.subscribe(to: queue)
        for index in 0..<100 { try reader.expectMessage("\(index)") }
    }

    /// Unread bytes in the broker's socket buffer would turn its close into a reset that eats the ERROR.
    @Test(arguments: drivers)
    func `Much behind a faulty frame does not eat the ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("FOO\n\n\0" + String(repeating: "SEND\ndestination:/topic/a\n\nx\0", count: 5000))
        try client.expectError("Bad command")
    }

    @Test(arguments: drivers)
    func `An ERROR ends the subscriptions and gives messages back`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/error")
        let client = try driver.client()
        try client.subscribe(to: queue, ack: "client")
        try client.publish(to: queue, "hello")
        try client.expectMessage("hello")
        try client.send("FOO\n\n\0")
        try client.expectError()
        let next = try driver.client()
        try next.subscribe(to: queue)
        try next.expectMessage("hello", ["redelivered": "true"])
    }

    /// The server's own commands are not for clients.
    @Test(arguments: drivers, ["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"])
    func `A server command from a client is an ERROR`(on driver: DriverUnderTest, _ command: String) throws {
        let topic = unique("/topic/error")
        let witness = try driver.client()
        try witness.subscribe(to: topic)
        let client = try driver.client()
        try client.send(
            command,
            ["version": "1.2", "destination": topic, "message-id": "1", "subscription": "0", "receipt-id": "1"],
            body: "x")
        try client.expectError("Bad command")
        try witness.expectNothing()
    }

    /// Texts that clients know from RabbitMQ.
    @Test(
        arguments: drivers,
        [
            (Fault("an unknown command", "FOO\n\n\0"), "Bad command"),
            (Fault("SEND without destination", "SEND\n\nx\0"), "Missing destination"),
            (Fault("SUBSCRIBE without destination", "SUBSCRIBE\nid:0\n\n\0"), "Missing destination"),
            (Fault("an unknown kind of destination", "SEND\ndestination:/foo/bar\n\nx\0"), "Unknown destination"),
            (Fault("a wildcard in SEND", "SEND\ndestination:/topic/*\n\nx\0"), "Invalid destination"),
            (Fault("an empty destination", "SEND\ndestination:\n\nx\0"), "Invalid destination"),
            (Fault("a kind without a name", "SEND\ndestination:/queue/\n\nx\0"), "Invalid destination"),
            (Fault("SUBSCRIBE without id", "SUBSCRIBE\ndestination:/topic/a\n\n\0"), "Missing header"),
            (Fault("UNSUBSCRIBE without id", "UNSUBSCRIBE\n\n\0"), "Missing header"),
            (Fault("ACK without id", "ACK\n\n\0"), "Missing header"),
            (Fault("NACK without id", "NACK\n\n\0"), "Missing header"),
            (Fault("BEGIN without transaction", "BEGIN\n\n\0"), "Missing header"),
            (Fault("COMMIT without transaction", "COMMIT\n\n\0"), "Missing header"),
            (Fault("ABORT without transaction", "ABORT\n\n\0"), "Missing header"),
            (
                Fault(
                    "an id twice",
                    "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0SUBSCRIBE\nid:0\ndestination:/topic/b\n\n\0"),
                "Duplicated subscription identifier"
            ),
        ])
    func `The message header has the text that clients know`(
        on driver: DriverUnderTest, _ example: (fault: Fault, message: String)
    ) throws {
        let client = try driver.client()
        try client.send(example.fault.text)
        #expect(try client.expectError()["message"] == example.message)
    }

    /// Client bytes in the answer are cut and escaped: an ERROR is small, and its headers cannot be forged.
    @Test(arguments: drivers)
    func `An ERROR does not echo much of what the client sent`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("SEND\ndestination:/foo/\(String(repeating: "x", count: 5000))\n\nx\0")
        let error = try client.expectError("destination")
        #expect(error.body.count < 2048)
        #expect((error["message"] ?? "").utf8.count < 512)
    }

    @Test(arguments: drivers)
    func `An ERROR in 1_0 cannot be forged through a value`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_2)
        try client.send("ACK\nid:x\\nforged\\cyes\\n\\n\\n\n\n\0")
        #expect(try client.expectError()["forged"] == nil)
    }
}
