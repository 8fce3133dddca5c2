import TestSupport
import Testing

/// STOMP 1.2, section "Body", and "Header content-length" and "Header content-type" of "Standard Headers".
@Suite("Body")
struct BodySection {
    /// "If a content-length header is included, this number of octets MUST be read, regardless of whether or not there
    /// are NULL octets in the body."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A body with content-length may hold NULs`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        let body = Array(UInt8.min...UInt8.max) + [0, 0, 0]
        try client.send("SEND", ["destination": topic, "content-length": "\(body.count)"], body: body)
        let message = try client.expectMessage(nil, ["content-length": "\(body.count)"])
        #expect(message.body == body)
    }

    /// 1.0: "if a content-length is not specified, the first null byte encountered signals the end of the frame."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A body without content-length ends at the first NUL`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\n\none\0SEND\ndestination:\(topic)\n\ntwo\n\n\0")
        try client.expectMessage("one", ["content-length": "3"])
        try client.expectMessage("two\n\n", ["content-length": "5"])
    }

    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A body may be empty`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND", ["destination": topic])
        try client.send("SEND", ["destination": topic, "content-length": "0"])
        try client.expectMessage("", ["content-length": "0"])
        try client.expectMessage("", ["content-length": "0"])
    }

    /// "The frame still needs to be terminated with a NULL octet."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Behind content-length octets anything but NUL is an ERROR`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.sendFaulty("SEND\ndestination:/topic/a\ncontent-length:4\n\nhello\0")
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `Behind an empty body anything but NUL is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\ndestination:/topic/a\ncontent-length:0\n\nx\0")
        try client.expectError()
    }

    @Test(
        arguments: drivers,
        [
            "+5", "-5", "5 ", " 5", "0x5", "five", "", "5.0", "5,5", "18446744073709551621",
            "99999999999999999999999999",
            "-18446744073709551611", "٥",
        ])
    func `A content-length that is not digits, or not a number, is an ERROR`(
        on driver: DriverUnderTest, _ value: String
    ) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\ndestination:/topic/a\ncontent-length:\(value)\n\nhello\0")
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `A content-length may have leading zeros`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\ncontent-length:005\n\nhello\0")
        try client.expectMessage("hello")
    }

    /// 1.0: its values are trimmed.
    @Test(arguments: drivers)
    func `In 1.0 a content-length may have spaces around it`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\ncontent-length: 5 \n\nhe\0lo\0")
        #expect(try client.expectMessage().body == Array("he\0lo".utf8))
    }

    /// "Only the SEND, MESSAGE, and ERROR frames MAY have a body. All other frames MUST NOT have a body."
    @Test(arguments: drivers, pairs(ProtocolVersion.withEscapes, framesWithBody))
    func `A body where none is allowed is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, fault: Fault)
    ) throws {
        let client = try driver.client(example.version)
        try client.sendFaulty(example.fault.text)
        try client.expectError()
    }

    @Test(arguments: drivers, pairs(ProtocolVersion.withEscapes, ["CONNECT", "STOMP"]))
    func `A body in CONNECT is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let client = try driver.connection()
        try client.sendFaulty("\(example.command)\naccept-version:\(example.version)\nhost:x\n\nbody\0")
        try client.expectError()
    }

    /// 1.0: "The body of the SUBSCRIBE command is ignored."
    @Test(arguments: drivers)
    func `In 1.0 the body of SUBSCRIBE is ignored`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let topic = unique("/topic/body")
        try client.send("SUBSCRIBE\nid:0\ndestination:\(topic)\nreceipt:1\n\nignored\0")
        try client.expectReceipt("1")
        try client.send("SEND", ["destination": topic], body: "hello")
        try client.expectMessage("hello")
    }

    /// A tolerance: a PHP client echoes the MESSAGE's content-length in its ACK, which has no body.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `content-length is ignored on a frame without body`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        let queue = unique("/queue/body")
        try client.send("SUBSCRIBE\nid:0\ndestination:\(queue)\nack:client\ncontent-length:17\nreceipt:1\n\n\0")
        try client.expectReceipt("1")
        try client.send("SEND", ["destination": queue], body: "hello")
        let message = try client.expectMessage("hello")
        let id = client.acknowledgement(of: message).map { "\($0.key):\($0.value)\n" }.joined()
        try client.send("ACK\n\(id)content-length:5\nreceipt:2\n\n\0")
        try client.expectReceipt("2")
        try client.send("DISCONNECT\ncontent-length:nonsense\nreceipt:3\n\n\0")
        try client.expectReceipt("3")
        try client.expectClose()
    }

    /// "this number of octets": not letters.
    @Test(arguments: drivers)
    func `content-length counts octets`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND", ["destination": topic, "content-length": "8"], body: "日本é")
        try client.expectMessage("日本é", ["content-length": "8"])
    }

    /// MESSAGE: "SHOULD include a content-length header and a content-type header if a body is present". The type is
    /// the publisher's to know.
    @Test(
        arguments: drivers,
        [
            "text/plain", "text/html;charset=utf-16", "application/xml;charset=utf-8", "application/octet-stream",
        ])
    func `content-type is passed on as it is`(on driver: DriverUnderTest, _ type: String) throws {
        let client = try driver.client()
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND", ["destination": topic, "content-type": type], body: "x")
        try client.expectMessage("x", ["content-type": type])
    }

    /// "Otherwise, the receiver SHOULD consider the body to be a binary blob": so the broker invents no type.
    @Test(arguments: drivers)
    func `Without a content-type of the publisher the MESSAGE has none`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        try client.send("SEND", ["destination": topic], body: "x")
        #expect(try client.expectMessage("x")["content-type"] == nil)
    }

    /// The type says how clients are to read the body; the broker does not read it.
    @Test(arguments: drivers)
    func `A body that is not what its content-type says is passed on`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/body")
        try client.subscribe(to: topic)
        let body: [UInt8] = [0xff, 0xfe, 0x80, 0x0d, 0x0a]
        try client.send("SEND", ["destination": topic, "content-type": "text/plain"], body: body)
        #expect(try client.expectMessage().body == body)
    }
}

/// Frames that would be right without their body, in 1.1 and 1.2.
private let framesWithBody = [
    Fault("SUBSCRIBE", "SUBSCRIBE\nid:0\ndestination:/topic/a\n\nbody\0"),
    Fault("UNSUBSCRIBE", "SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0UNSUBSCRIBE\nid:0\n\nbody\0"),
    Fault("BEGIN", "BEGIN\ntransaction:a\n\nbody\0"),
    Fault("COMMIT", "BEGIN\ntransaction:a\n\n\0COMMIT\ntransaction:a\n\nbody\0"),
    Fault("ABORT", "BEGIN\ntransaction:a\n\n\0ABORT\ntransaction:a\n\nbody\0"),
    Fault("DISCONNECT", "DISCONNECT\n\nbody\0"),
]
