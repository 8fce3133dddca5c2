import TestSupport
import Testing

/// STOMP 1.2, section "STOMP Frames", and its section "Augmented BNF".
@Suite("STOMP Frames")
struct FramesSection {
    /// "The frame starts with a command string terminated by an end-of-line (EOL)"; EOL = [CR] LF.
    @Test(arguments: drivers)
    func `In 1.2 lines may end with CR LF`(on driver: DriverUnderTest) throws {
        let client = try driver.connection()
        try client.send("CONNECT\r\naccept-version:1.2\r\nhost:x\r\n\r\n\0")
        try client.expectConnected(.v1_2)
        let topic = unique("/topic/frames")
        try client.send("SUBSCRIBE\r\nid:0\r\ndestination:\(topic)\r\nreceipt:s\r\n\r\n\0\r\n")
        try client.expectReceipt("s")
        try client.send("SEND\r\ndestination:\(topic)\r\nfoo:bar\r\n\r\nbody\r\n\0\r\n")
        try client.expectMessage("body\r\n", ["foo": "bar", "destination": topic])
    }

    /// EOL = [CR] LF: each line chooses for itself.
    @Test(arguments: drivers)
    func `In 1.2 line ends may be mixed within a frame`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("BEGIN\r\ntransaction:a\nreceipt:1\r\n\n\0")
        try client.expectReceipt("1")
        try client.send("ABORT\ntransaction:a\r\nreceipt:2\n\r\n\0")
        try client.expectReceipt("2")
    }

    /// The version is not known before CONNECT is read, so its line ends cannot be held against a client.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `CONNECT may have CR LF line ends in every version`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.connection()
        try client.send("CONNECT\r\naccept-version:\(version)\r\nhost:x\r\n\r\n\0\r\n")
        try client.expectConnected(version)
        try client.expectNothing()
    }

    /// 1.1: "a command string terminated by a newline"; CR is not part of its grammar.
    @Test(arguments: drivers)
    func `In 1_1 a command with a CR is no command`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_1)
        try client.sendFaulty("BEGIN\r\ntransaction:a\r\n\r\n\0")
        try client.expectError()
    }

    /// A tolerance: 1.0 trims its lines, and a CR at their end goes with the spaces.
    @Test(arguments: drivers)
    func `In 1_0 lines may end with CR LF`(on driver: DriverUnderTest) throws {
        let client = try driver.client(.v1_0)
        let topic = unique("/topic/frames")
        try client.send("SUBSCRIBE\r\ndestination:\(topic)\r\nid:0\r\nreceipt:1\r\n\r\n\0")
        try client.expectReceipt("1")
        try client.send("SEND\r\ndestination:\(topic)\r\nfoo:bar\r\n\r\nbody\0")
        try client.expectMessage("body", ["foo": "bar", "destination": topic])
    }

    /// "The NULL octet can be optionally followed by multiple EOLs."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Any number of line feeds may stand between frames`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        for count in [0, 1, 2, 1000] {
            try client.send("BEGIN\ntransaction:\(count)\nreceipt:\(count)\n\n\0")
            try client.send(String(repeating: "\n", count: count))
            try client.expectReceipt("\(count)")
        }
        try client.expectNothing()
    }

    /// frame = ... NULL *( EOL ), EOL = [CR] LF
    @Test(arguments: drivers)
    func `CR LF between frames is a line end too`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("\r\n\r\n\n\r\nBEGIN\ntransaction:a\nreceipt:1\n\n\0\r\n\r\n")
        try client.expectReceipt("1")
        try client.expectNothing()
    }

    /// A tolerance: some clients end a frame with two NULs.
    @Test(arguments: drivers)
    func `A stray NUL between frames is skipped`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("\0BEGIN\ntransaction:a\nreceipt:1\n\n\0\0\n\0\nABORT\ntransaction:a\nreceipt:2\n\n\0")
        try client.expectReceipt("1")
        try client.expectReceipt("2")
    }

    /// "All commands and header names referenced in this document are case sensitive."
    @Test(arguments: drivers, ["send", "Send", "sEND", "begin", "disconnect"])
    func `Commands are case sensitive`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try driver.client()
        try client.sendFaulty("\(command)\ndestination:/topic/a\ntransaction:a\n\n\0")
        try client.expectError("Bad command")
    }

    @Test(arguments: drivers, ["connect", "Connect", "stomp"])
    func `CONNECT is case sensitive`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try driver.connection()
        try client.sendFaulty("\(command)\naccept-version:1.2\nhost:x\n\n\0")
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `Header names are case sensitive`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.sendFaulty("SEND\nDestination:/topic/a\n\nbody\0")
        try client.expectError("Missing destination")
    }

    @Test(arguments: drivers)
    func `A user header that differs from a standard one by case is the user's`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/frames")
        try client.subscribe(to: topic)
        try client.send("SEND", ["destination": topic, "Content-Length": "3", "RECEIPT": "no"], body: "hello")
        try client.expectMessage("hello", ["Content-Length": "3", "RECEIPT": "no"])
        try client.expectNothing()
    }

    /// command = client-command | server-command
    @Test(arguments: drivers, ["FOO", "SENDX", "SEN", "", " SEND", "SEND ", "\u{7f}", "SEND:"])
    func `A command outside the grammar is an ERROR`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try driver.client()
        // An empty command line is a line end between frames, so the next line is taken for the command.
        try client.sendFaulty("\(command)\ndestination:/topic/a\n\nbody\0")
        try client.expectError("Bad command")
    }

    /// header = header-name ":" header-value; header-name = 1*<any OCTET except CR or LF or ":">
    @Test(
        arguments: drivers,
        [
            Fault("no colon", "SEND\ndestination:/topic/a\nfoo\n\n\0"),
            Fault("an empty name", "SEND\ndestination:/topic/a\n:foo\n\n\0"),
            Fault("only a colon", "SEND\ndestination:/topic/a\n:\n\n\0"),
            Fault("only a space", "SEND\ndestination:/topic/a\n \n\n\0"),
            Fault("NUL instead of the blank line", "SEND\ndestination:/topic/a\nfoo:bar\n\0"),
            Fault("NUL within a header line", "SEND\ndestination:/topic/a\nfoo:b\0ar\n\n\0"),
        ])
    func `A header line outside the grammar is an ERROR`(on driver: DriverUnderTest, _ fault: Fault) throws {
        let client = try driver.client()
        try client.sendFaulty(fault.text)
        try client.expectError()
    }

    /// header-value = *<any OCTET ...>: none at all is fine.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A header value may be empty`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/frames")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\nfoo:\n\nbody\0")
        try client.expectMessage("body", ["foo": ""])
    }

    /// "Following the command are zero or more header entries".
    @Test(arguments: drivers)
    func `A frame may have no header at all`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("DISCONNECT\n\n\0")
        try client.expectClose()
    }

    /// A tolerance: the header is split at its first colon.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A raw colon in a value belongs to the value`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.client(version)
        let topic = unique("/topic/frames")
        try client.subscribe(to: topic)
        try client.send("SEND\ndestination:\(topic)\nurl:http://x:80/:\n\nbody\0")
        try client.expectMessage("body", ["url": "http://x:80/:"])
    }

    /// STOMP runs over a stream: how its bytes are cut into segments means nothing.
    @Test(arguments: drivers, [1, 2, 3, 7, 64])
    func `Frames may arrive in pieces of any size`(on driver: DriverUnderTest, _ count: Int) throws {
        let client = try driver.connection()
        let topic = unique("/topic/frames")
        try client.send(
            "CONNECT\naccept-version:1.2\nhost:x\n\n\0\nSUBSCRIBE\nid:0\ndestination:\(topic)\n\n\0\n"
                + "SEND\r\ndestination:\(topic)\r\nfoo:a\\cb\r\ncontent-length:5\r\n\r\nab\0cd\0\r\n",
            inPiecesOf: count)
        try client.expectConnected(.v1_2)
        let message = try client.expectMessage(nil, ["foo": "a:b", "destination": topic])
        #expect(message.body == Array("ab\0cd".utf8))
    }

    @Test(arguments: drivers)
    func `Many frames may arrive in one piece`(on driver: DriverUnderTest) throws {
        let client = try driver.connection()
        let topic = unique("/topic/frames")
        let sends = (0..<500).map { "SEND\ndestination:\(topic)\n\n\($0)\0" }.joined()
        try client.send(
            "CONNECT\naccept-version:1.2\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:\(topic)\n\n\0\(sends)")
        try client.expectConnected(.v1_2)
        for index in 0..<500 { try client.expectMessage("\(index)") }
    }

    /// A convention: some clients split the stream at NUL LF.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Every frame of the broker is followed by exactly one LF`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.connection()
        let topic = unique("/topic/frames")
        try client.send(
            "CONNECT\naccept-version:\(version)\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:\(topic)\nreceipt:1\n\n\0"
                + "SEND\ndestination:\(topic)\nreceipt:2\n\nbody\0SEND\n\nno destination\0")
        let text = String(decoding: try client.remainingBytes(), as: UTF8.self)
        // CONNECTED, RECEIPT, MESSAGE and RECEIPT in either order, ERROR: and behind the last LF nothing.
        let pieces = text.components(separatedBy: "\0\n")
        #expect(pieces.count == 6)
        #expect(pieces.last == "")
        for (piece, commands) in zip(
            pieces, [["CONNECTED"], ["RECEIPT"], ["MESSAGE", "RECEIPT"], ["MESSAGE", "RECEIPT"], ["ERROR"]])
        {
            #expect(commands.contains { piece.hasPrefix($0 + "\n") }, "\(piece)")
        }
    }

    /// "Line ends" of the broker: LF in every version, which 1.2 clients must take too.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `The broker ends its lines with LF alone`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.connection()
        try client.send("CONNECT\r\naccept-version:\(version)\r\nhost:x\r\n\r\n\0FOO\n\n\0")
        #expect(try !client.remainingBytes().contains(UInt8(ascii: "\r")))
    }
}

extension String {
    fileprivate func components(separatedBy separator: String) -> [String] {
        split(separator: separator, omittingEmptySubsequences: false).map(String.init)
    }
}
