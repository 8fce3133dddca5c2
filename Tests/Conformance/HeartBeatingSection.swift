import TestSupport
import Testing

/// STOMP 1.1 and 1.2, section "Heart-beating". The broker of these cases offers and wants short intervals.
@Suite("Heart-beating")
struct HeartBeatingSection {
    /// Short enough for a test to see beats, long enough for a busy machine not to miss twice its tolerance.
    private static let quick = ["limits.heart-beat-send-ms": "200", "limits.heart-beat-receive-ms": "500"]

    private func client(
        _ driver: DriverUnderTest, _ version: ProtocolVersion = .v1_2, heartBeat: String?
    ) throws -> (client: RawClient, connected: Frame) {
        let client = try RawClient(driver.broker(Self.quick))
        let connected = try client.connect(version, heartBeat.map { ["heart-beat": $0] } ?? [:])
        return (client, connected)
    }

    /// "the heart-beat header MUST contain two positive integers separated by a comma"; `<sx>,<sy>`: what the server
    /// can do and what it would like.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `CONNECTED says what the broker offers and wants`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        #expect(try client(driver, version, heartBeat: "1000,1000").connected["heart-beat"] == "200,500")
    }

    /// "A missing heart-beat header MUST be treated the same way as a "heart-beat:0,0" header": the silent client lives
    /// on.
    @Test(arguments: drivers, [nil, "0,0"])
    func `A client without heart-beats may be silent`(on driver: DriverUnderTest, _ heartBeat: String?) throws {
        let (silent, _) = try client(driver, heartBeat: heartBeat)
        // Another client's negotiated silence is cut meanwhile: the proof that the time for it has passed, twice.
        for _ in 0..<2 { try client(driver, heartBeat: "500,0").client.expectCut() }
        try silent.expectNothing()
        #expect(silent.heartBeatCount == 0)
    }

    /// "if <cx> is 0 (the client cannot send heart-beats) ... then there will be none"
    @Test(arguments: drivers)
    func `A client that cannot send heart-beats is not expected to`(on driver: DriverUnderTest) throws {
        let (silent, _) = try client(driver, heartBeat: "0,200")
        for _ in 0..<5 { try silent.expectHeartBeat() }
        try client(driver, heartBeat: "500,0").client.expectCut()
        try silent.expectNothing()
    }

    /// "the sender MUST send new data over the network connection at least every <n> milliseconds; if the sender has no
    /// real STOMP frame to send, it MUST send an end-of-line (EOL)"
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `The broker sends line ends as heart-beats`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
        let (listener, _) = try client(driver, version, heartBeat: "0,200")
        for _ in 0..<5 { try listener.expectHeartBeat() }
    }

    /// A heart-beat stands between frames, not within one.
    @Test(arguments: drivers)
    func `Frames and heart-beats mix`(on driver: DriverUnderTest) throws {
        let (listener, _) = try client(driver, heartBeat: "0,100")
        let topic = unique("/topic/heart-beating")
        try listener.subscribe(to: topic)
        for index in 0..<5 {
            try listener.expectHeartBeat()
            try listener.send("SEND", ["destination": topic], body: "\(index)")
            try listener.expectMessage("\(index)")
        }
    }

    /// "if, inside a time window of at least <n> milliseconds, the receiver did not receive any new data, it CAN
    /// consider the connection as dead"
    @Test(arguments: drivers, ProtocolVersion.withEscapes)
    func `A client that promised heart-beats and is silent is cut`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        try client(driver, version, heartBeat: "500,0").client.expectCut()
    }

    /// MAX(<cx>,<sy>): a client that promises more often than the broker wants is held to what the broker wants.
    @Test(arguments: drivers)
    func `The slower of promise and wish counts`(on driver: DriverUnderTest) throws {
        let (slow, _) = try client(driver, heartBeat: "60000,0")
        let (quick, _) = try client(driver, heartBeat: "1,0")
        try quick.expectCut()
        // One that promised a beat a minute is not missed yet.
        try slow.expectNothing()
    }

    /// MAX(<sx>,<cy>): a client that wants to hear rarely is not bothered often.
    @Test(arguments: drivers)
    func `The broker sends no more often than the client wants`(on driver: DriverUnderTest) throws {
        let (rare, _) = try client(driver, heartBeat: "0,600000")
        let (often, _) = try client(driver, heartBeat: "0,200")
        for _ in 0..<5 { try often.expectHeartBeat() }
        try rare.expectNothing()
        #expect(rare.heartBeatCount == 0)
    }

    /// "any new data received over the network connection is an indication that the remote end is alive"
    @Test(arguments: drivers, ["\n", "\r\n", "BEGIN\ntransaction:a\n\n\0ABORT\ntransaction:a\n\n\0"])
    func `Any bytes of the client keep it alive`(on driver: DriverUnderTest, _ text: String) throws {
        // The broker's own beats, five to the client's interval, are this test's clock.
        let (live, _) = try client(driver, heartBeat: "500,100")
        for _ in 0..<15 {
            try live.expectHeartBeat()
            try live.send(text)
        }
        try live.expectNothing()
    }

    /// Any byte counts, within a frame too.
    @Test(arguments: drivers)
    func `A frame that comes slowly keeps the client alive`(on driver: DriverUnderTest) throws {
        let (live, _) = try client(driver, heartBeat: "500,100")
        for character in "BEGIN\ntransaction:a\nreceipt:1\n" {
            try live.expectHeartBeat()
            try live.send(String(character))
        }
        try live.send("\n\0")
        try live.expectReceipt("1")
    }

    /// The other connections of the broker are none of a dead client's business.
    @Test(arguments: drivers)
    func `A dead client's unacknowledged messages go to another`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/heart-beating")
        let (dying, _) = try client(driver, heartBeat: "500,0")
        try dying.subscribe(to: queue, ack: "client-individual")
        let (heir, _) = try client(driver, heartBeat: "0,0")
        try heir.publish(to: queue, "inheritance")
        try dying.expectMessage("inheritance")
        try heir.subscribe(to: queue, ack: "client-individual")
        try heir.acknowledge(heir.expectMessage("inheritance", ["redelivered": "true"]))
    }

    /// "the heart-beat header MUST contain two positive integers separated by a comma"
    @Test(
        arguments: drivers,
        ["", "1", "1000", "a,b", "-1,0", "0,-1", "1000,", ",1000", ",", "1,2,3", "1.5,2", "1000;1000"])
    func `A malformed heart-beat header is an ERROR`(on driver: DriverUnderTest, _ heartBeat: String) throws {
        let client = try driver.connection()
        try client.sendFaulty("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:\(heartBeat)\n\n\0")
        try client.expectError()
    }

    @Test(arguments: drivers, ["2147483647,2147483647", "4294967295,4294967295", "00000,00000"])
    func `Large and padded numbers are numbers`(on driver: DriverUnderTest, _ heartBeat: String) throws {
        try driver.client(.v1_2, ["heart-beat": heartBeat]).expectNothing()
    }

    @Test(arguments: drivers, ["18446744073709551616,1", "1,99999999999999999999999999"])
    func `Numbers beyond all bounds do no harm`(on driver: DriverUnderTest, _ heartBeat: String) throws {
        let client = try driver.connection()
        try client.send("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:\(heartBeat)\n\n\0")
        #expect(try ["CONNECTED", "ERROR"].contains(client.nextFrame().command))
        try driver.client().expectNothing()
    }

    /// A session with 1.0 may negotiate too: its CONNECTED carries the header, and "any byte counts".
    @Test(arguments: drivers)
    func `In 1.0 heart-beats are negotiated the same way`(on driver: DriverUnderTest) throws {
        let (listener, _) = try client(driver, .v1_0, heartBeat: "0,200")
        for _ in 0..<3 { try listener.expectHeartBeat() }
    }
}
