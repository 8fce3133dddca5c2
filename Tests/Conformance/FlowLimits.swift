import TestSupport
import Testing

/// Slow consumers, fast publishers and full queues: "Memory is bounded ... at the limit a documented policy acts".
@Suite("Flow limits")
struct FlowLimits {
    private static let configuration = """
        destinations:
          - match: /queue/rejecting/#
            messages-max: 5
          - match: /queue/small/#
            bytes-max: 4KiB
          - match: /queue/dropping/#
            messages-max: 5
            overflow: drop-oldest
            dead-letter: ""
          - match: /queue/blocking/#
            messages-max: 5
            overflow: block

        """

    private func broker(_ driver: DriverUnderTest) throws -> BrokerProcess {
        try driver.broker([:], file: Self.configuration)
    }

    /// Policy `reject`, the default: what was accepted stays, what is not is refused and said so.
    @Test(arguments: drivers)
    func `A full queue refuses a SEND`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/rejecting/a")
        let client = try RawClient(broker, .v1_2)
        for index in 0..<5 { try client.publish(to: queue, "\(index)") }
        try client.send("SEND", ["destination": queue, "receipt": "1"], body: "one too many")
        try client.expectError("full", receipt: "1")
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue)
        for index in 0..<5 { try reader.expectMessage("\(index)") }
        try reader.expectNothing()
        try reader.publish(to: queue, "room again")
        try reader.expectMessage("room again")
    }

    @Test(arguments: drivers)
    func `A queue may be full by bytes`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/small/a")
        let client = try RawClient(broker, .v1_2)
        try client.publish(to: queue, String(repeating: "x", count: 3000))
        try client.send("SEND", ["destination": queue, "receipt": "1"], body: String(repeating: "x", count: 3000))
        try client.expectError("full", receipt: "1")
    }

    /// A message that its consumer has not acknowledged is still the queue's.
    @Test(arguments: drivers)
    func `Unacknowledged messages count as the queue's`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/rejecting/b")
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue, ack: "client")
        let client = try RawClient(broker, .v1_2)
        for index in 0..<5 { try client.publish(to: queue, "\(index)") }
        let messages = try (0..<5).map { try reader.expectMessage("\($0)") }
        try client.send("SEND", ["destination": queue], body: "one too many")
        try client.expectError("full")
        try reader.acknowledge(messages[4])
        try reader.publish(to: queue, "room again")
        try reader.expectMessage("room again")
    }

    /// COMMIT is all or nothing.
    @Test(arguments: drivers)
    func `A COMMIT that does not fit is refused as a whole`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/rejecting/c")
        let other = unique("/queue/elsewhere")
        let client = try RawClient(broker, .v1_2)
        for index in 0..<3 { try client.publish(to: queue, "\(index)") }
        try client.perform("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": other, "transaction": "t"], body: "first")
        for _ in 0..<3 { try client.perform("SEND", ["destination": queue, "transaction": "t"], body: "too many") }
        try client.send("COMMIT", ["transaction": "t", "receipt": "1"])
        try client.expectError("full", receipt: "1")
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: other, id: "other")
        try reader.expectNothing()
        try reader.subscribe(to: queue, id: "queue")
        for index in 0..<3 { try reader.expectMessage("\(index)") }
        try reader.expectNothing()
    }

    @Test(arguments: drivers)
    func `A full queue may drop its oldest message`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/dropping/a")
        let client = try RawClient(broker, .v1_2)
        for index in 0..<8 { try client.publish(to: queue, "\(index)") }
        try client.subscribe(to: queue)
        for index in 3..<8 { try client.expectMessage("\(index)") }
        try client.expectNothing()
    }

    /// Policy `block`: the publisher is not read until there is room, and loses nothing.
    @Test(arguments: drivers)
    func `A full queue may make its publisher wait`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/blocking/a")
        let client = try RawClient(broker, .v1_2)
        for index in 0..<50 {
            try client.send("SEND", ["destination": queue, "receipt": "\(index)"], body: "\(index)")
        }
        for index in 0..<5 { try client.expectReceipt("\(index)") }
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue, ack: "client-individual")
        for index in 0..<50 { try reader.acknowledge(reader.expectMessage("\(index)")) }
        for index in 5..<50 { try client.expectReceipt("\(index)") }
    }

    /// Its connection is told to have failed though it is not read.
    @Test(arguments: drivers)
    func `A publisher that waits for room and is reset gives its place up`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/blocking/b")
        let client = try RawClient(broker, .v1_2)
        for index in 0..<5 { try client.publish(to: queue, "\(index)") }
        let waiting = try RawClient(broker, .v1_2)
        try waiting.send("SEND", ["destination": "/topic/none", "receipt": "before"])
        try waiting.send("SEND", ["destination": queue], body: "never accepted")
        try waiting.expectReceipt("before")
        waiting.abort()
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue)
        for index in 0..<5 { try reader.expectMessage("\(index)") }
        try reader.publish(to: queue, "next")
        try reader.expectMessage("next")
    }

    /// Publishers wait while messages fill the memory; consumers, who make room, are served all the same.
    @Test(arguments: drivers)
    func `Consumers drain a broker whose memory is full`(on driver: DriverUnderTest) throws {
        // Much more than the 4 MiB that one turn may receive: what came with the frame that has to wait counts too.
        let broker = try driver.broker(["limits.message-memory-bytes": "64MiB"])
        let queue = unique("/queue/memory")
        let publishers = try (0..<2).map { _ in try RawClient(broker, .v1_2) }
        let filling = String(repeating: "x", count: 950_000)
        let countEach = 34
        for (number, publisher) in publishers.enumerated() {
            for index in 0..<countEach {
                try publisher.send(
                    "SEND", ["destination": queue, "receipt": "\(index)"], body: "\(number) \(index) \(filling)")
            }
        }
        _ = try #require(broker.process.errorLine { $0.contains("publishers are not read") })
        let consumer = try RawClient(broker, .v1_2)
        try consumer.perform(
            "SUBSCRIBE", ["id": "0", "destination": queue, "ack": "client-individual", "prefetch-count": "1"])
        var seen = Set<String>()
        for _ in 0..<2 * countEach {
            let message = try consumer.expectMessage()
            seen.insert(message.text.split(separator: " ").prefix(2).joined(separator: " "))
            try consumer.acknowledge(message)
        }
        #expect(seen.count == 2 * countEach)
        for publisher in publishers { for index in 0..<countEach { try publisher.expectReceipt("\(index)") } }
    }

    /// Topic: a subscriber that does not read is disconnected; the publisher and the others go on.
    @Test(arguments: drivers)
    func `A topic's subscriber that does not read is cut`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.output-bytes": "2MiB"])
        let topic = unique("/topic/flow")
        let sleeper = try RawClient(broker, .v1_2, receiveBufferByteCount: 4096)
        try sleeper.subscribe(to: topic)
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: topic)
        let publisher = try RawClient(broker, .v1_2)
        let body = [UInt8](repeating: 120, count: 100_000)
        // 20 MB: more than its limit and what the kernel's buffers take.
        for _ in 0..<200 {
            try publisher.perform("SEND", ["destination": topic], body: body)
            #expect(try reader.expectMessage().body.count == body.count)
        }
        try sleeper.expectCut()
        try publisher.publish(to: topic, "end")
        try reader.expectMessage("end")
    }

    /// Queue: nothing more is dispatched to a consumer that does not read; it is not cut while it may yet read, and
    /// others get what it does not.
    @Test(arguments: drivers)
    func `A queue's consumer that does not read gets no more`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.output-bytes": "2MiB"])
        let queue = unique("/queue/flow")
        let sleeper = try RawClient(broker, .v1_2, receiveBufferByteCount: 4096)
        try sleeper.perform(
            "SUBSCRIBE", ["id": "0", "destination": queue, "ack": "client-individual", "prefetch-count": "1000"])
        let publisher = try RawClient(broker, .v1_2)
        let body = [UInt8](repeating: 120, count: 100_000)
        for _ in 0..<200 { try publisher.perform("SEND", ["destination": queue], body: body) }
        let reader = try RawClient(broker, .v1_2)
        try reader.subscribe(to: queue, ack: "client-individual")
        try reader.acknowledge(reader.expectMessage())
        // The sleeper wakes and is served.
        for _ in 0..<5 { try sleeper.acknowledge(sleeper.expectMessage()) }
    }

    /// The other half of that limit: a topic's subscriber may not be in the way for long either.
    @Test(arguments: drivers)
    func `A topic's subscriber that takes nothing for too long is cut`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.output-stall-ms": "300"])
        let topic = unique("/topic/flow")
        let sleeper = try RawClient(broker, .v1_2, receiveBufferByteCount: 4096)
        try sleeper.subscribe(to: topic, id: "topic")
        // Reading would be progress, so a message that the sleeper holds tells when it was cut: another gets it.
        let queue = unique("/queue/flow")
        try sleeper.subscribe(to: queue, id: "queue", ack: "client")
        let publisher = try RawClient(broker, .v1_2)
        try publisher.publish(to: queue, "inheritance")
        try sleeper.expectMessage("inheritance")
        // 6 MB: more than the kernel's buffers take, and less than the 8 MiB that may wait.
        let body = [UInt8](repeating: 120, count: 500_000)
        for _ in 0..<12 { try publisher.perform("SEND", ["destination": topic], body: body) }
        try publisher.subscribe(to: queue)
        try publisher.expectMessage("inheritance", ["redelivered": "true"])
        try sleeper.expectCut()
    }

    @Test(arguments: drivers)
    func `The number of destinations is bounded`(on driver: DriverUnderTest) throws {
        let broker = try driver.broker(["limits.destinations-max": "10"])
        let client = try RawClient(broker, .v1_2)
        for index in 0..<10 { try client.send("SEND", ["destination": "/queue/bounded-\(index)"], body: "x") }
        try client.send("SEND", ["destination": "/queue/bounded-10", "receipt": "1"], body: "x")
        try client.expectError("destination", receipt: "1")
        // Those that exist are open to all, and topics have room of their own.
        let other = try RawClient(broker, .v1_2)
        try other.subscribe(to: "/topic/bounded", id: "topic")
        try other.publish(to: "/topic/bounded", "y")
        try other.expectMessage("y")
        try other.subscribe(to: "/queue/bounded-3")
        try other.expectMessage("x")
    }

    @Test(arguments: drivers, [1, 2])
    func `One client cannot take all destinations`(on driver: DriverUnderTest, _ workers: Int) throws {
        let broker = try BrokerProcess(.init(driver, workers: workers))
        let client = try RawClient(broker, .v1_2)
        // A thousand of each worker are its own to fill.
        for index in 0...1000 * workers {
            try client.send("SEND", ["destination": "/queue/taken-\(index)"], body: "x")
        }
        let error = try client.expectError("Too many destinations")
        #expect(error.text.contains("limits.destinations-per-connection-max"), "\(error.text)")
        let other = try RawClient(broker, .v1_2)
        for index in 0..<20 {
            try other.publish(to: "/queue/free-\(index)", "x")
            try other.perform("SEND", ["destination": "/topic/free-\(index)"], body: "x")
        }
        // What was taken is there for those who want it.
        try other.subscribe(to: "/queue/taken-0")
        try other.expectMessage("x")
        let line = try #require(try broker.process.errorLine { $0.contains("too many destinations") })
        #expect(line.contains("limits.destinations-per-connection-max"), "\(line)")
        #expect(line.contains("warning") && line.contains("address=127.0.0.1:"), "\(line)")
    }
}
