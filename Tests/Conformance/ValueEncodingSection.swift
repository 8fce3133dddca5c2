import TestSupport
import Testing

/// STOMP 1.1 and 1.2, section "Value Encoding"; what 1.0 has instead of it.
@Suite("Value Encoding")
struct ValueEncodingSection {
    /// "`\c` (octet 92 and 99) translates to `:`", and so on; "Conversely when encoding frame headers, the reverse
    /// transformation MUST be applied."
    @Test(
        arguments: drivers,
        [
            (ProtocolVersion.v1_1, "\\c", ":"), (.v1_1, "\\n", "\n"), (.v1_1, "\\\\", "\\"),
            (.v1_2, "\\c", ":"), (.v1_2, "\\n", "\n"), (.v1_2, "\\\\", "\\"), (.v1_2, "\\r", "\r"),
        ])
    func `A defined escape in a value is kept from publisher to subscriber`(
        on driver: DriverUnderTest, _ escape: (version: ProtocolVersion, written: String, meant: String)
    ) throws {
        let client = try driver.client(escape.version)
        let topic = unique("/topic/encoding")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\nfoo:a\(escape.written)b\n\n\0")
        let message = try client.expectMessage("")
        #expect(message["foo"] == "a\(escape.meant)b")
        #expect(message.headerLines.contains("foo:a\(escape.written)b"))
    }

    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `Escapes are decoded in header names too`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/encoding")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\na\\cb\\nc\\\\d:foo\n\n\0")
        #expect(try client.expectMessage("")["a:b\nc\\d"] == "foo")
    }

    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `A name written with escapes is the name it stands for`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/encoding\\c")
        try client.send("SUBSCRIBE\nid:a\\cb\ndestination:\(topic)\nreceipt:r\\\\1\n\n\0")
        try client.expectReceipt("r\\1")
        try client.send("SEND\ndestination:\(topic)\n\nbody\0")
        let message = try client.expectMessage("body", ["subscription": "a:b"])
        #expect(message.headerLines.contains("destination:\(topic)"))
        #expect(message.headerLines.contains("subscription:a\\cb"))
    }

    /// `\\n` is a backslash and the letter n, not a backslash and a line feed.
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `Escapes are decoded once, from the left`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/encoding")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\nfoo:\\\\n\\\\c\\\\\\\\\n\n\0")
        #expect(try client.expectMessage("")["foo"] == "\\n\\c\\\\")
    }

    /// "Undefined escape sequences such as `\t` (octet 92 and 116) MUST be treated as a fatal protocol error."
    @Test(arguments: drivers, ["\\t", "\\0", "\\N", "\\C", "\\ ", "\\:", "\\x41", "\\"])
    func `In 1.2 an undefined escape is fatal`(on driver: DriverUnderTest, _ escape: String) throws {
        let client = try driver.client(.v1_2)
        try client.sendFaulty("SEND\ndestination:/topic/a\nfoo:bar\(escape)\n\n\0")
        try client.expectError()
    }

    /// 1.1: "Undefined escape sequences such as `\r` (octet 92 and 114) MUST be treated as a fatal protocol error."
    @Test(arguments: drivers, ["\\r", "\\t", "\\"])
    func `In 1.1 an undefined escape is fatal, CR's among them`(on driver: DriverUnderTest, _ escape: String) throws {
        let client = try driver.client(.v1_1)
        try client.sendFaulty("SEND\ndestination:/topic/a\nfoo:bar\(escape)\n\n\0")
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `An undefined escape in a header name is fatal`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\ndestination:/topic/a\nfo\\o:bar\n\n\0")
        try client.expectError()
    }

    @Test(arguments: drivers, ["ACK\nid:a\\t\n\n\0", "DISCONNECT\nreceipt:a\\t\n\n\0", "BEGIN\ntransaction:\\q\n\n\0"])
    func `An undefined escape is fatal in every command`(on driver: DriverUnderTest, _ text: String) throws {
        let client = try driver.client()
        try client.sendFaulty(text)
        try client.expectError()
    }

    /// "The CONNECT and CONNECTED frames do not escape the carriage return, line feed or colon octets in order to
    /// remain backward compatible with STOMP 1.0."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `CONNECT is not decoded`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.connection()
        try client.send(
            "CONNECT\naccept-version:\(version)\nhost:C:\\temp\nlogin:DOMAIN\\user\npasscode:a\\tb\\\n\n\0")
        try client.expectConnected(version)
    }

    /// 1.0 has no escapes: a backslash is a backslash.
    @Test(arguments: drivers)
    func `In 1.0 a backslash is a letter like others`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let topic = unique("/topic/encoding")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\nfoo:C:\\temp\\new\\c\n\n\0")
        #expect(try client.expectMessage("")["foo"] == "C:\\temp\\new\\c")
    }

    /// What a value means is the same for every subscriber, whatever its version can write.
    @Test(
        arguments: drivers,
        [
            (ProtocolVersion.v1_0, "a\\b\\cd", ProtocolVersion.v1_2, "a\\b\\cd"),
            (.v1_0, "a\\b\\cd", .v1_1, "a\\b\\cd"),
            (.v1_0, "a:b", .v1_2, "a:b"),
            (.v1_1, "a\\cb\\nc\\\\d", .v1_2, "a:b\nc\\d"),
            (.v1_1, "a\rb", .v1_2, "a\rb"),
            (.v1_2, "a\\cb\\nc\\\\d", .v1_1, "a:b\nc\\d"),
            (.v1_2, "a\\rb", .v1_1, "a\rb"),
            (.v1_2, "a\\cb\\\\c", .v1_0, "a:b\\c"),
            (.v1_1, "a\\cb\\\\c", .v1_0, "a:b\\c"),
        ])
    func `A value means the same across versions`(
        on driver: DriverUnderTest,
        _ example: (from: ProtocolVersion, written: String, to: ProtocolVersion, meant: String)
    ) throws {
        let topic = unique("/topic/encoding")
        let subscriber = try driver.client(example.to)
        try subscriber.subscribe(to: topic)
        let publisher = try driver.client(example.from)
        try publisher.send("SEND\ndestination:\(topic)\nfoo:\(example.written)\n\nbody\0")
        #expect(try subscriber.expectMessage("body")["foo"] == example.meant)
    }

    /// 1.0 cannot write a line feed in a value: if the broker wrote it raw, a publisher could forge headers.
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `A line feed in a value cannot forge a header for a 1.0 subscriber`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let topic = unique("/topic/encoding")
        let subscriber = try driver.client(.v1_0)
        try subscriber.subscribe(to: topic)
        let publisher = try driver.client(version)
        try publisher.send("SEND\ndestination:\(topic)\nfoo:x\\nforged\\cyes\\n\\nforged body\n\nbody\0")
        let message = try subscriber.expectMessage("body")
        #expect(message["forged"] == nil)
        #expect(message["foo"]?.hasPrefix("x") == true)
    }

    /// "In STOMP 1.2, clients and servers MUST never trim or pad headers with spaces." 1.1 says the same.
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `Spaces in names and values are kept`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/encoding")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\n foo : bar  \nbaz: \n\n\0")
        let message = try client.expectMessage("")
        #expect(message[" foo "] == " bar  ")
        #expect(message["baz"] == " ")
        #expect(message["foo"] == nil)
    }

    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `A receipt's spaces are kept`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        try client.send("BEGIN\ntransaction:a\nreceipt: 1 \n\n\0")
        try client.expectReceipt(" 1 ")
    }

    /// A name with a space is another name.
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `A header name with a space is not the name without`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.sendFaulty("SEND\ndestination :/topic/a\n\n\0")
        try client.expectError("Missing destination")
    }

    /// 1.0: its own examples write `destination: /queue/foo`.
    @Test(arguments: drivers)
    func `In 1.0 names and values are trimmed`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let topic = unique("/topic/encoding")
        try client.send("SUBSCRIBE\nid: 7 \ndestination: \(topic)\nreceipt : 1\n\n\0")
        try client.expectReceipt("1")
        try client.send("SEND\ndestination: \(topic) \n foo :  bar \ncontent-length: 4\n\nbody\0")
        try client.expectMessage("body", ["subscription": "7", "foo": "bar", "destination": topic])
    }

    /// "The commands and headers are encoded in UTF-8."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Header names and values are UTF-8`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/Füße-🐎-日本")
        try client.send("SUBSCRIBE\nid:é\ndestination:\(topic)\nreceipt:ß\n\n\0")
        try client.expectReceipt("ß")
        try client.send("SEND\ndestination:\(topic)\nключ:значение 🐎\n\nплоть\0")
        try client.expectMessage("плоть", ["subscription": "é", "destination": topic, "ключ": "значение 🐎"])
    }

    @Test(arguments: drivers)
    func `An undecodable header value does no harm`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send(
            Array("SEND\ndestination:/topic/encoding\nfoo:".utf8) + [0xff, 0xfe, 0xc0, 0x80] + Array("\n\n\0".utf8))
        try driver.client().expectNothing()
    }
}
