import TestSupport
import Testing

/// STOMP 1.2, sections "DISCONNECT" and "Connection Lingering"; and the ends that are no DISCONNECT.
@Suite("DISCONNECT and the end of a connection")
struct DisconnectSection {
    /// "1. send a DISCONNECT frame with a receipt header set ... 2. wait for the RECEIPT frame response to the
    /// DISCONNECT ... 3. close the socket." "if the server closes its end of the socket too quickly, the client might
    /// never receive the expected RECEIPT": so it shuts down in order, without a reset.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `DISCONNECT is answered with its RECEIPT, then the connection ends`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.send("DISCONNECT\nreceipt:77\n\n\0")
        try client.expectReceipt("77")
        try client.expectClose()
    }

    /// 1.0: "DISCONNECT does a graceful disconnect from the server."
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `DISCONNECT without a receipt ends the connection`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let client = try driver.client(version)
        try client.send("DISCONNECT\n\n\0")
        try client.expectClose()
    }

    /// "the client is assured that all previous frames have been received by the server"
    @Test(arguments: drivers)
    func `Everything before DISCONNECT is processed`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/disconnect")
        let client = try driver.client()
        let sends = (0..<1000).map { "SEND\ndestination:\(queue)\n\n\($0)\0\n" }.joined()
        try client.send(sends + "DISCONNECT\nreceipt:77\n\n\0")
        try client.expectReceipt("77")
        let reader = try driver.client()
        try reader.subscribe(to: queue)
        for index in 0..<1000 { try reader.expectMessage("\(index)") }
    }

    /// The RECEIPT comes behind what was due before.
    @Test(arguments: drivers)
    func `The RECEIPT of DISCONNECT is the last frame`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/disconnect")
        let client = try driver.client()
        try client.subscribe(to: topic)
        let sends = (0..<100).map { "SEND\ndestination:\(topic)\nreceipt:\($0)\n\n\($0)\0\n" }.joined()
        try client.send(sends + "DISCONNECT\nreceipt:last\n\n\0")
        var frames: [Frame] = []
        while let frame = try client.nextFrameOrEnd() { frames.append(frame) }
        #expect(frames.count == 201)
        #expect(frames.last?["receipt-id"] == "last")
        #expect(frames.filter { $0.command == "MESSAGE" }.map(\.text) == (0..<100).map(String.init))
    }

    /// "Clients MUST NOT send any more frames after the DISCONNECT frame is sent." Those who do are not heard.
    @Test(arguments: drivers)
    func `Frames behind DISCONNECT are not processed`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/disconnect")
        let client = try driver.client()
        try client.send(
            "DISCONNECT\nreceipt:77\n\n\0SEND\ndestination:\(queue)\nreceipt:78\n\nlate\0FOO\n\n\0DISCONNECT\n\n\0")
        try client.expectReceipt("77")
        try client.expectClose()
        let witness = try driver.client()
        try witness.subscribe(to: queue)
        try witness.expectNothing()
    }

    /// Unread bytes in the broker's socket buffer would turn its close into a reset that eats the RECEIPT.
    @Test(arguments: drivers)
    func `Much behind DISCONNECT does not eat the RECEIPT`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("DISCONNECT\nreceipt:77\n\n\0" + String(repeating: "x", count: 200_000))
        try client.expectReceipt("77")
        try client.expectClose()
    }

    @Test(arguments: drivers)
    func `DISCONNECT ends the subscriptions`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/disconnect")
        let leaving = try driver.client()
        try leaving.subscribe(to: queue)
        try leaving.disconnect()
        let client = try driver.client()
        try client.publish(to: queue, "hello")
        try client.subscribe(to: queue)
        try client.expectMessage("hello")
    }

    /// "A client can disconnect from the server at anytime by closing the socket".
    @Test(arguments: drivers, [false, true])
    func `A closed socket ends the subscriptions`(on driver: DriverUnderTest, _ isReset: Bool) throws {
        let queue = unique("/queue/disconnect")
        let leaving = try driver.client()
        try leaving.subscribe(to: queue, ack: "client")
        if isReset { leaving.abort() } else { leaving.close() }
        let client = try driver.client()
        try client.publish(to: queue, "hello")
        try client.subscribe(to: queue)
        try client.expectMessage("hello")
    }

    /// A client that ends its sending side has all it sent processed, and what is due to it delivered.
    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `After half-close everything is processed and delivered`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let topic = unique("/topic/disconnect")
        let client = try driver.connection()
        try client.send(
            "CONNECT\naccept-version:\(version)\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:\(topic)\n\n\0"
                + "SEND\ndestination:\(topic)\n\none\0SEND\ndestination:\(topic)\nreceipt:1\n\ntwo\0")
        client.finishSending()
        try client.expectConnected(version)
        var rest: [Frame] = []
        while let frame = try client.nextFrameOrEnd() { rest.append(frame) }
        #expect(rest.filter { $0.command == "MESSAGE" }.map(\.text) == ["one", "two"])
        #expect(rest.filter { $0.command == "RECEIPT" }.map { $0["receipt-id"] } == ["1"])
        #expect(rest.count == 3)
    }

    /// Also where it is more than socket buffers hold.
    @Test(arguments: drivers)
    func `After half-close much is delivered`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/disconnect")
        let client = try driver.client()
        try client.subscribe(to: topic)
        let body = [UInt8](repeating: 120, count: 100_000)
        for _ in 0..<40 { try client.send("SEND", ["destination": topic], body: body) }
        client.finishSending()
        for _ in 0..<40 { #expect(try client.expectMessage().body.count == body.count) }
        try client.expectClose()
    }

    @Test(arguments: drivers)
    func `Half-close within a frame ends the connection`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/disconnect")
        let client = try driver.client()
        try client.send("SEND\ndestination:\(queue)\n\nunfini")
        client.finishSending()
        try client.expectCut()
        let witness = try driver.client()
        try witness.subscribe(to: queue)
        try witness.expectNothing()
    }

    @Test(arguments: drivers)
    func `Half-close before CONNECT ends the connection`(on driver: DriverUnderTest) throws {
        let client = try driver.connection()
        client.finishSending()
        try client.expectClose()
    }

    /// "STOMP servers must be able to support clients which rapidly connect and disconnect."
    @Test(arguments: drivers)
    func `Clients may come and go rapidly`(on driver: DriverUnderTest) throws {
        for index in 0..<300 {
            let client = try driver.connection()
            switch index % 6 {
            case 0: client.close()
            case 1: client.abort()
            case 2:
                try client.send("CONNECT\naccept-version:1.2\nhost:x\n\n\0")
                client.abort()
            case 3:
                try client.connect(.v1_2)
                client.close()
            case 4:
                try client.connect(.v1_2)
                try client.disconnect()
            default:
                try client.send("CONNECT\naccept-version:1.2\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0")
                client.close()
            }
        }
        try driver.client().expectNothing()
    }
}
