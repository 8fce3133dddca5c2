import TestSupport
import Testing

/// STOMP 1.2, section "Size Limits": "If these limits are exceeded the server SHOULD send the client an ERROR frame and
/// then close the connection." The limits are the broker's defaults.
@Suite("Size limits")
struct SizeLimitsSection {
    // MARK: Frames

    @Test(arguments: drivers)
    func `A command line of more than 64 bytes is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        // No line end: the limit acts on what is there, not on what may come.
        try client.send(String(repeating: "A", count: 65))
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `A frame may have 64 headers`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/limits")
        try client.subscribe(to: topic)
        let headers = (0..<63).map { "h\($0):\($0)\n" }.joined()
        try client.send("SEND\ndestination:\(topic)\n\(headers)\nhello\0")
        let message = try client.expectMessage("hello")
        for index in 0..<63 { #expect(message["h\(index)"] == "\(index)") }
    }

    @Test(arguments: drivers)
    func `A frame with 65 headers is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let headers = (0..<64).map { "h\($0):\($0)\n" }.joined()
        try client.sendFaulty("SEND\ndestination:/topic/a\n\(headers)\nhello\0")
        try client.expectError()
    }

    /// Without an end of headers, so that an attacker cannot make the broker keep on reading.
    @Test(arguments: drivers)
    func `Headers without end are an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("SEND\ndestination:/topic/a\n" + String(repeating: "foo:bar\n", count: 2000))
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `A header may have 8000 bytes`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/limits")
        try client.subscribe(to: topic)
        let value = String(repeating: "v", count: 7990)
        try client.send("SEND\ndestination:\(topic)\nfoo:\(value)\n\nhello\0")
        try client.expectMessage("hello", ["foo": value])
    }

    @Test(arguments: drivers, [true, false])
    func `A header of more than 8 KiB is an ERROR`(on driver: DriverUnderTest, _ isName: Bool) throws {
        let client = try driver.client()
        let long = String(repeating: "v", count: 8193)
        try client.send("SEND\ndestination:/topic/a\n" + (isName ? long : "foo:\(long)"))
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `Headers may have 32000 bytes together`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/limits")
        try client.subscribe(to: topic)
        let value = String(repeating: "v", count: 7900)
        try client.send("SEND\ndestination:\(topic)\n" + (0..<4).map { "h\($0):\(value)\n" }.joined() + "\nhello\0")
        let message = try client.expectMessage("hello")
        for index in 0..<4 { #expect(message["h\(index)"] == value) }
    }

    @Test(arguments: drivers)
    func `Headers of more than 32 KiB together are an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let value = String(repeating: "v", count: 7000)
        try client.sendFaulty(
            "SEND\ndestination:/topic/a\n" + (0..<5).map { "h\($0):\(value)\n" }.joined() + "\nhello\0")
        try client.expectError()
    }

    @Test(arguments: drivers, [true, false])
    func `A body may have 1 MiB`(on driver: DriverUnderTest, _ hasLength: Bool) throws {
        let client = try driver.client()
        let topic = unique("/topic/limits")
        try client.subscribe(to: topic)
        let body = [UInt8](repeating: 120, count: 1 << 20)
        try client.send(
            "SEND", hasLength ? ["destination": topic, "content-length": "\(1 << 20)"] : ["destination": topic],
            body: body)
        let message = try client.expectMessage(nil, ["content-length": "\(1 << 20)"])
        #expect(message.body == body)
    }

    /// The content-length alone is enough: no byte of the body is waited for.
    @Test(arguments: drivers, [(1 << 20) + 1, 1 << 31, 1 << 32, Int.max])
    func `A content-length of more than 1 MiB is an ERROR at once`(on driver: DriverUnderTest, _ length: Int) throws {
        let client = try driver.client()
        try client.send("SEND\ndestination:/topic/a\ncontent-length:\(length)\nreceipt:1\n\n")
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `A body of more than 1 MiB without content-length is an ERROR`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send(Array("SEND\ndestination:/topic/a\n\n".utf8) + [UInt8](repeating: 120, count: (1 << 20) + 1))
        try client.expectError()
    }

    @Test(arguments: drivers, ["SEND", "SUBSCRIBE"])
    func `A destination of more than 256 bytes is an ERROR`(on driver: DriverUnderTest, _ command: String) throws {
        let client = try driver.client()
        let fine = unique("/queue/limits").padding(to: 256)
        try client.perform(command, ["destination": fine, "id": "0"])
        try client.send(command, ["destination": fine + "n", "id": "1", "receipt": "1"])
        try client.expectError("destination", receipt: "1")
    }

    /// A refused client is no trouble to others, and costs no more than its limits.
    @Test(arguments: drivers)
    func `Other connections go on while one is refused`(on driver: DriverUnderTest) throws {
        let other = try driver.client()
        let topic = unique("/topic/limits")
        try other.subscribe(to: topic)
        for _ in 0..<10 {
            let client = try driver.client()
            try client.send(String(repeating: "A", count: 100_000))
            try client.expectError()
            try other.publish(to: topic, "hello")
            try other.expectMessage("hello")
        }
    }

    // MARK: Before CONNECTED

    @Test(
        arguments: drivers,
        [
            Fault("line ends", String(repeating: "\n", count: 9000)),
            Fault("NULs", String(repeating: "\0", count: 9000)),
            Fault(
                "headers",
                "CONNECT\naccept-version:1.2\n"
                    + String(repeating: "foo:\(String(repeating: "x", count: 1000))\n", count: 9)),
            Fault("a header", "CONNECT\nlogin:" + String(repeating: "x", count: 9000)),
        ])
    func `More than 8 KiB before CONNECTED are an ERROR`(on driver: DriverUnderTest, _ fault: Fault) throws {
        let client = try driver.connection()
        try client.send(fault.text)
        try client.expectError()
    }

    @Test(arguments: drivers)
    func `A CONNECT may have 7 KiB`(on driver: DriverUnderTest) throws {
        let client = try driver.connection()
        try client.send("CONNECT\naccept-version:1.2\nhost:x\npasscode:\(String(repeating: "x", count: 7000))\n\n\0")
        try client.expectConnected(.v1_2)
    }

    /// The limit ends with CONNECT's NUL.
    @Test(arguments: drivers)
    func `Much may be pipelined behind CONNECT`(on driver: DriverUnderTest) throws {
        let client = try driver.connection()
        let topic = unique("/topic/limits")
        let sends = (0..<200).map { "SEND\ndestination:\(topic)\n\n\($0) \(String(repeating: "x", count: 500))\0" }
            .joined()
        try client.send("CONNECT\naccept-version:1.2\nhost:x\n\n\0SUBSCRIBE\nid:0\ndestination:\(topic)\n\n\0" + sends)
        try client.expectConnected(.v1_2)
        for index in 0..<200 { #expect(try client.expectMessage().text.hasPrefix("\(index) ")) }
    }

    @Test(arguments: drivers)
    func `A client that does not CONNECT in time is cut`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.connect-timeout-ms": "200"])
        let silent = try RawClient(broker)
        let slow = try RawClient(broker)
        try slow.send("CONNECT\n")
        try silent.expectCut()
        try slow.expectCut()
        // One that is connected is not.
        let connected = try RawClient(broker, .v1_2)
        try RawClient(broker).expectCut()
        try connected.expectNothing()
    }

    @Test(arguments: drivers)
    func `A frame that is not finished in time is an ERROR`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.frame-timeout-ms": "1000"])
        let client = try RawClient(broker, .v1_2)
        try client.send("SEND\ndestination:/topic/a\n\nunfinished")
        try client.expectError()
    }

    // MARK: Connections

    @Test(arguments: drivers)
    func `A connection may have 1000 subscriptions, and no more`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        let topic = unique("/topic/limits")
        try client.send((0..<1000).map { "SUBSCRIBE\nid:\($0)\ndestination:\(topic)\n\n\0" }.joined())
        try client.perform("SEND", ["destination": topic], body: "for all")
        var ids: Set<String> = []
        for _ in 0..<1000 { ids.insert(try client.expectMessage("for all")["subscription"] ?? "") }
        #expect(ids.count == 1000)
        try client.send("SUBSCRIBE", ["id": "one too many", "destination": topic, "receipt": "1"])
        try client.expectError("subscription", receipt: "1")
    }

    @Test(arguments: drivers)
    func `Ended subscriptions do not count`(on driver: DriverUnderTest) throws {
        let topic = unique("/topic/limits")
        let client = try driver.client()
        for _ in 0..<3 {
            try client.send((0..<1000).map { "SUBSCRIBE\nid:\($0)\ndestination:\(topic)\n\n\0" }.joined())
            try client.send((0..<1000).map { "UNSUBSCRIBE\nid:\($0)\n\n\0" }.joined())
            try client.expectNothing()
        }
    }

    @Test(arguments: drivers)
    func `A connection may have 16 transactions, and no more`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        for index in 0..<16 { try client.perform("BEGIN", ["transaction": "\(index)"]) }
        try client.send("BEGIN", ["transaction": "one too many", "receipt": "1"])
        try client.expectError("transaction", receipt: "1")
    }

    @Test(arguments: drivers)
    func `A transaction may have 1000 frames, and no more`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/limits")
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        for index in 0..<1000 { try client.send("SEND", ["destination": queue, "transaction": "t"], body: "\(index)") }
        try client.perform("COMMIT", ["transaction": "t"])
        try client.perform("BEGIN", ["transaction": "t"])
        for index in 0..<1000 { try client.send("SEND", ["destination": queue, "transaction": "t"], body: "\(index)") }
        try client.send("SEND", ["destination": queue, "transaction": "t", "receipt": "1"], body: "one too many")
        try client.expectError("transaction", receipt: "1")
        let reader = try driver.client()
        try reader.subscribe(to: queue)
        for index in 0..<1000 { try reader.expectMessage("\(index)") }
        try reader.expectNothing()
    }

    @Test(arguments: drivers)
    func `A transaction may have 8 MiB, and no more`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/limits")
        let client = try driver.client()
        try client.perform("BEGIN", ["transaction": "t"])
        let body = [UInt8](repeating: 120, count: 1 << 20)
        for _ in 0..<7 { try client.perform("SEND", ["destination": queue, "transaction": "t"], body: body) }
        try client.send("SEND", ["destination": queue, "transaction": "t"], body: body)
        try client.send("SEND", ["destination": queue, "transaction": "t"], body: body)
        try client.expectError("transaction")
        let reader = try driver.client()
        try reader.subscribe(to: queue)
        try reader.expectNothing()
    }

    @Test(arguments: drivers)
    func `A transaction that grows too old is an ERROR and aborted`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.transaction-timeout-ms": "200"])
        let queue = unique("/queue/limits")
        let client = try RawClient(broker, .v1_2)
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": queue, "transaction": "t"], body: "never")
        try client.expectError("transaction")
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue)
        try reader.expectNothing()
    }

    @Test(arguments: drivers)
    func `Limits are configuration`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker([
            "limits.headers-max": "8", "limits.body-bytes": "256", "limits.subscriptions-per-connection-max": "2",
            "limits.destination-name-bytes": "32", "limits.destination-levels-max": "3",
        ])
        let faults = [
            "SEND\ndestination:/topic/a\n\((0..<8).map { "h\($0):x\n" }.joined())\n\0",
            "SEND\ndestination:/topic/a\ncontent-length:257\n\n",
            (0..<3).map { "SUBSCRIBE\nid:\($0)\ndestination:/topic/a\n\n\0" }.joined(),
            "SEND\ndestination:/topic/\(String(repeating: "x", count: 32))\n\n\0",
            "SEND\ndestination:/topic/a.b.c.d\n\n\0", "SUBSCRIBE\nid:1\ndestination:/topic/a.b.c.#\n\n\0",
        ]
        for fault in faults {
            let client = try RawClient(broker, .v1_2)
            try client.send(fault)
            try client.expectError()
        }
    }
}

extension String {
    /// The text, made `count` bytes long.
    fileprivate func padding(to count: Int) -> String {
        self + String(repeating: "n", count: count - utf8.count)
    }
}
