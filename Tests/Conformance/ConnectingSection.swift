import TestSupport
import Testing

/// STOMP 1.2, section "Connecting": "CONNECT or STOMP Frame", "CONNECTED Frame", "Protocol Negotiation".
@Suite("Connecting")
struct ConnectingSection {
    // MARK: CONNECT or STOMP Frame

    /// "STOMP servers MUST handle a STOMP frame in the same manner as a CONNECT frame."
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["CONNECT", "STOMP"]))
    func `CONNECT and STOMP open a session`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let client = try driver.connection()
        try client.send("\(example.command)\naccept-version:\(example.version)\nhost:localhost\n\n\0")
        try client.expectConnected(example.version)
        try client.expectNothing()
    }

    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A client may send no heart-beat, login or passcode`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        try driver.client(version).expectNothing()
    }

    /// Until users are configured, any login is accepted.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `Any login is accepted while no users are configured`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        try driver.client(version, ["login": "guest", "passcode": "guest"]).expectNothing()
        try driver.client(version, ["login": "", "passcode": ""]).expectNothing()
    }

    /// "If this header does not match a known virtual host, servers supporting virtual hosting MAY select a default
    /// virtual host": there are none here, so any name will do.
    @Test(arguments: drivers, ["localhost", "/", "no.such.host.example", "", "a b", "127.0.0.1:61613"])
    func `Any host is accepted`(on driver: DriverUnderTest, _ host: String) throws {
        let client = try driver.connection()
        try client.send("CONNECT\naccept-version:1.2\nhost:\(host)\n\n\0")
        try client.expectConnected(.v1_2)
    }

    /// A tolerance: `host` is the client's duty in 1.1 and 1.2, yet many leave it out.
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `A missing host is tolerated`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.connection()
        try client.send("CONNECT\naccept-version:\(version)\n\n\0")
        try client.expectConnected(version)
    }

    @Test(arguments: drivers)
    func `Unknown headers of CONNECT are ignored`(on driver: DriverUnderTest) throws {
        try driver.client(.v1_2, ["client-id": "me", "foo": "bar", "destination": "/queue/a"]).expectNothing()
    }

    /// "Any client frame other than CONNECT MAY specify a receipt header."
    @Test(arguments: drivers, ["CONNECT", "STOMP"])
    func `CONNECT gets no RECEIPT`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try driver.connection()
        try client.send("\(command)\naccept-version:1.2\nhost:x\nreceipt:1\n\n\0")
        let connected = try client.expectConnected(.v1_2)
        #expect(connected["receipt-id"] == nil)
        try client.expectNothing()
    }

    /// Line ends are heart-beats, and a client may send them early.
    @Test(arguments: drivers, ["\n", "\r\n", "\n\n\n\r\n", "\0", "\0\n\0"])
    func `Line ends and stray NULs before CONNECT are skipped`(on driver: DriverUnderTest, _ text: String) throws {
        let client = try driver.connection()
        try client.send(text + "CONNECT\naccept-version:1.2\nhost:x\n\n\0")
        try client.expectConnected(.v1_2)
    }

    /// The state machine: before CONNECTED only CONNECT and STOMP.
    @Test(arguments: drivers)
    func `Nothing else is done before CONNECT`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/connecting")
        let witness = try driver.client()
        try witness.subscribe(to: topic)
        let client = try driver.connection()
        try client.send("SEND\ndestination:\(topic)\n\nhello\0CONNECT\naccept-version:1.2\nhost:x\n\n\0")
        try client.expectError()
        try witness.expectNothing()
    }

    /// "Close at the first unknown command, before anything else is read": a web page, a TLS client, a scanner.
    @Test(
        arguments: drivers,
        [
            Fault("HTTP", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nCONNECT\naccept-version:1.2\n\n\0"),
            Fault("HTTP, only its first line", "GET / HTTP/1.1\r\n"),
            Fault("TLS", "\u{16}\u{3}\u{1}\u{0}\u{c8}\u{1}\u{0}\u{0}\u{c4}\u{3}\u{3}\n"),
            Fault("SSH", "SSH-2.0-OpenSSH_9.2\r\n"),
            Fault("AMQP", "AMQP\u{0}\u{0}\u{9}\u{1}\n"),
            Fault("Redis", "*1\r\n$4\r\nPING\r\n"),
        ])
    func `Another protocol is refused at its first line`(on driver: DriverUnderTest, _ fault: Fault) throws {
        let client = try driver.connection()
        try client.send(fault.text)
        try client.expectError()
    }

    /// Frames sent right behind CONNECT, in the same packet, are processed.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A client need not wait for CONNECTED`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let client = try driver.connection()
        let topic = unique("/topic/connecting")
        try client.send(
            "CONNECT\naccept-version:\(version)\nhost:x\n\n\0"
                + "SUBSCRIBE\nid:0\ndestination:\(topic)\nreceipt:1\n\n\0"
                + "SEND\ndestination:\(topic)\n\nhello\0")
        try client.expectConnected(version)
        try client.expectReceipt("1")
        try client.expectMessage("hello")
    }

    /// What is pipelined behind CONNECT is read in the version that CONNECT chose.
    @Test(arguments: drivers)
    func `Frames behind CONNECT are decoded in the negotiated version`(on driver: DriverUnderTest) throws {
        for (version, meant) in [(ProtocolVersion.v1_0, "a\\cb"), (.v1_2, "a:b")] {
            let client = try driver.connection()
            let topic = unique("/topic/connecting")
            try client.send(
                "CONNECT\naccept-version:\(version)\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:\(topic)\n\n\0"
                    + "SEND\ndestination:\(topic)\nfoo:a\\cb\n\nhello\0")
            try client.expectConnected(version)
            #expect(try client.expectMessage("hello")["foo"] == meant)
        }
    }

    // MARK: CONNECTED Frame

    /// "STOMP 1.2 servers MUST set the following headers: version". The convention adds the others, for 1.0 too, since
    /// some clients wait for `session` for ever.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `CONNECTED carries version, session, server and heart-beat`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let connected = try driver.connection().connect(version)
        #expect(connected["version"] == version.rawValue)
        #expect(connected["session"]?.isEmpty == false)
        #expect(connected["server"]?.isEmpty == false)
        #expect(connected["heart-beat"]?.wholeMatch(of: /\d+,\d+/) != nil)
        #expect(connected.body.isEmpty)
    }

    /// "session: A session identifier that uniquely identifies the session."
    @Test(arguments: drivers)
    func `Sessions have different identifiers`(on driver: DriverUnderTest) throws {
        var sessions: Set<String> = []
        for _ in 0..<20 {
            sessions.insert(try #require(driver.connection().connect(.v1_2)["session"]))
        }
        #expect(sessions.count == 20)
    }

    /// server = name ["/" version] *(comment)
    @Test(arguments: drivers)
    func `server is a name and a version`(on driver: DriverUnderTest) throws {
        let server = try #require(driver.connection().connect(.v1_2)["server"])
        #expect(server.wholeMatch(of: /[A-Za-z][^\/ ]*(\/[^\/ ]+)?( .*)?/) != nil, "\(server)")
    }

    // MARK: Protocol Negotiation

    /// "If the accept-version header is missing, it means that the client only supports version 1.0 of the protocol."
    @Test(arguments: drivers, ["CONNECT", "STOMP"])
    func `Without accept-version the session is 1.0`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try driver.connection()
        try client.send("\(command)\nlogin: guest\npasscode: guest\n\n\0")
        try client.expectConnected(.v1_0)
    }

    /// "The protocol that will be used for the rest of the session will be the highest protocol version that both the
    /// client and server have in common."
    @Test(
        arguments: drivers,
        [
            ("1.0", ProtocolVersion.v1_0), ("1.1", .v1_1), ("1.2", .v1_2), ("1.0,1.1", .v1_1), ("1.0,1.1,1.2", .v1_2),
            ("1.0,1.1,2.0", .v1_1), ("1.0,1.2", .v1_2), ("1.1,1.2", .v1_2), ("1.0,2.0,2.1", .v1_0), ("1.2,1.3", .v1_2),
            ("1.0,1.3,10.0", .v1_0), ("0.9,1.0", .v1_0),
        ])
    func `The highest common version is chosen`(
        on driver: DriverUnderTest, _ example: (accepted: String, chosen: ProtocolVersion)
    ) throws {
        let client = try driver.connection()
        try client.send("CONNECT\naccept-version:\(example.accepted)\nhost:x\n\n\0")
        try client.expectConnected(example.chosen)
    }

    /// "It SHOULD be set to a comma separated list of incrementing STOMP protocol versions": not every client does.
    @Test(arguments: drivers, ["1.2,1.1,1.0", "1.1,1.2,1.0", "1.0, 1.1, 1.2", " 1.2", "1.2 ", "1.2,", "1.2,1.2"])
    func `A list in another order, or with spaces, is understood`(
        on driver: DriverUnderTest, _ accepted: String
    ) throws {
        let client = try driver.connection()
        try client.send("CONNECT\naccept-version:\(accepted)\nhost:x\n\n\0")
        try client.expectConnected(.v1_2)
    }

    /// "If the client and server do not share any common protocol versions, then the server MUST respond with an ERROR
    /// frame similar to the following and then close the connection."
    @Test(arguments: drivers, ["2.0", "1.3", "0.9,2.0", "", "1", "1.2.0", "12", "one", "11.2", "1.22", ","])
    func `Without a common version: ERROR with ours`(on driver: DriverUnderTest, _ accepted: String) throws {
        let client = try driver.connection()
        try client.sendFaulty("CONNECT\naccept-version:\(accepted)\nhost:x\n\n\0")
        let error = try client.expectError("Supported versions are")
        let versions = try #require(error["version"]).split(separator: ",").sorted()
        #expect(versions == ["1.0", "1.1", "1.2"])
        #expect(error["content-type"] == "text/plain")
    }

    /// The chosen version rules the session: 1.2's `ack` header is there in 1.2 alone.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `The session is conducted in the chosen version`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        let queue = unique("/queue/connecting")
        try client.subscribe(to: queue, ack: "client")
        try client.publish(to: queue, "hello")
        let message = try client.expectMessage("hello")
        #expect((message["ack"] != nil) == (version == .v1_2))
        try client.acknowledge(message)
    }

    /// "The server can reject any connection attempt"; CONNECT is only good for the first frame.
    @Test(arguments: drivers, pairs(ProtocolVersion.allCases, ["CONNECT", "STOMP"]))
    func `A second CONNECT is an ERROR`(
        on driver: DriverUnderTest, _ example: (version: ProtocolVersion, command: String)
    ) throws {
        let client = try driver.client(example.version)
        try client.sendFaulty("\(example.command)\naccept-version:1.2\nhost:x\n\n\0")
        try client.expectError()
    }
}
