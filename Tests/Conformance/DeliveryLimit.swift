import TestSupport
import Testing

/// What counts towards the delivery limit of a queue (`deliveries-max`), and what does not.
///
/// A consumer's window holds up to 1,000 messages. Those that lie in it when the consumer leaves were not refused by
/// anybody: they come again, as often as it takes.
@Suite("Delivery limit")
struct DeliveryLimit {
    enum End: String, CaseIterable, Sendable {
        case unsubscribe, disconnect, reset, halfClose
    }

    private func end(_ client: RawClient, _ end: End) throws {
        switch end {
        case .unsubscribe:
            try client.perform("UNSUBSCRIBE", ["id": "0"])
            try client.disconnect()
        case .disconnect: try client.disconnect()
        case .reset: client.abort()
        case .halfClose:
            client.finishSending()
            try client.expectClose()
        }
    }

    private func broker(_ driver: DriverUnderTest, workers: Int, _ file: String = "") throws -> BrokerProcess {
        try BrokerProcess(.init(driver, workers: workers, file: file))
    }

    /// Thirty messages, fourteen consumers that take one each and leave: sixteen messages are left, and none is dead.
    @Test(arguments: drivers, pairs([1, 2], End.allCases))
    func `What lies in a window is not used up by consumers that leave`(
        on driver: DriverUnderTest, _ example: (workers: Int, end: End)
    ) throws {
        let broker = try broker(driver, workers: example.workers)
        let queue = unique("/queue/backlog")
        let publisher = try RawClient(broker, .v1_2)
        for index in 0..<30 { try publisher.publish(to: queue, "\(index)") }
        for round in 0..<14 {
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: queue, ack: "client-individual")
            var message = try client.expectMessage()
            // With two workers the messages may return one by one, in order.
            while message.text != "\(round)" { message = try client.expectMessage() }
            try client.acknowledge(message)
            if example.end == .halfClose || example.end == .unsubscribe || example.end == .disconnect {
                for _ in 0..<(29 - round) { try client.expectMessage() }
            }
            try end(client, example.end)
        }
        let last = try RawClient(broker, .v1_2)
        try last.subscribe(to: queue, ack: "client-individual")
        for index in 14..<30 { try last.expectMessage("\(index)") }
        try last.subscribe(to: "/queue/DLQ", id: "dead")
        try last.expectNothing()
    }

    /// Of a consumer whose connection is lost the oldest message counts, for it may be what the consumer failed with.
    @Test(arguments: drivers, [1, 2])
    func `A message whose consumers fail again and again is a dead letter, and its neighbours are not`(
        on driver: DriverUnderTest, _ workers: Int
    ) throws {
        let broker = try broker(driver, workers: workers)
        let queue = unique("/queue/poison")
        let publisher = try RawClient(broker, .v1_2)
        for body in ["poison", "good"] { try publisher.publish(to: queue, body) }
        for round in 0..<10 {
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: queue, ack: "client-individual")
            let poison = try client.expectMessage("poison")
            #expect(poison["delivery-count"] == (round == 0 ? nil : "\(round + 1)"))
            try client.expectMessage("good")
            client.abort()
        }
        try publisher.subscribe(to: "/queue/DLQ", id: "dead")
        try publisher.expectMessage("poison", ["dead-letter-reason": "delivery-limit", "original-destination": queue])
        let last = try RawClient(broker, .v1_2)
        try last.subscribe(to: queue)
        try last.expectMessage("good", ["redelivered": "true", "delivery-count": "11"])
        try publisher.expectNothing()
    }

    @Test(arguments: drivers, [1, 2])
    func `NACK counts always`(on driver: DriverUnderTest, _ workers: Int) throws {
        let broker = try broker(driver, workers: workers)
        let queue = unique("/queue/refused")
        let client = try RawClient(broker, .v1_2)
        try client.publish(to: queue, "refused")
        try client.subscribe(to: queue, ack: "client-individual")
        for _ in 0..<10 { try client.reject(client.expectMessage("refused")) }
        try client.expectNothing()
        try client.subscribe(to: "/queue/DLQ", id: "dead")
        try client.expectMessage("refused", ["dead-letter-reason": "delivery-limit"])
    }

    /// A queue whose dead letters would go to itself has no limit: nothing is deleted by being read.
    @Test(arguments: drivers, pairs([1, 2], End.allCases))
    func `A dead-letter queue may be looked at as often as one likes`(
        on driver: DriverUnderTest, _ example: (workers: Int, end: End)
    ) throws {
        let broker = try broker(driver, workers: example.workers)
        try expectKept(broker, "/queue/DLQ", example.end)
    }

    @Test(
        arguments: drivers,
        pairs([1, 2], ["dead-letter: \"\"", "dead-letter: /queue/kept"]))
    func `A queue whose dead letters have nowhere to go has no limit`(
        on driver: DriverUnderTest, _ example: (workers: Int, policy: String)
    ) throws {
        let file = "destinations:\n  - match: /queue/kept\n    deliveries-max: 2\n    \(example.policy)\n"
        let broker = try broker(driver, workers: example.workers, file)
        try expectKept(broker, "/queue/kept", .reset)
        let client = try RawClient(broker, .v1_2)
        try client.perform(
            "SUBSCRIBE",
            ["destination": "/queue/kept", "id": "0", "ack": "client-individual", "prefetch-count": "1"])
        for _ in 0..<12 { try client.reject(client.expectMessage("0")) }
    }

    private func expectKept(_ broker: BrokerProcess, _ queue: String, _ end: End) throws {
        let publisher = try RawClient(broker, .v1_2)
        for index in 0..<5 { try publisher.publish(to: queue, "\(index)") }
        for _ in 0..<12 {
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: queue, ack: "client")
            for index in 0..<5 { try client.expectMessage("\(index)") }
            try self.end(client, end)
        }
        let last = try RawClient(broker, .v1_2)
        try last.subscribe(to: queue, ack: "client")
        for index in 0..<5 { try last.expectMessage("\(index)") }
        try last.disconnect()
    }

    /// A consumer that reads nothing and resets: what did not fit into its socket was never delivered.
    @Test(arguments: drivers, [1, 2])
    func `What never left the broker does not count as delivered`(on driver: DriverUnderTest, _ workers: Int) throws {
        let broker = try broker(driver, workers: workers)
        let queue = unique("/queue/large")
        let publisher = try RawClient(broker, .v1_2)
        let rest = String(repeating: "x", count: 200_000)
        for index in 0..<30 { try publisher.perform("SEND", ["destination": queue], body: "\(index) " + rest) }
        let deaf = try RawClient(broker, .v1_2, receiveBufferByteCount: 4096)
        try deaf.send("SUBSCRIBE", ["id": "0", "destination": queue, "ack": "client-individual"])
        // The broker has given it more than its socket takes.
        let deadline = Deadline()
        while try broker.counters(workers: workers)["messages-delivered", default: 0] < 20 {
            try #require(!deadline.isOver)
        }
        deaf.abort()
        let next = try RawClient(broker, .v1_2)
        try next.subscribe(to: queue)
        // Those that the deaf one was never given may come before those that return.
        var marked: [Int] = []
        var unmarked: [Int] = []
        for _ in 0..<30 {
            let message = try next.expectMessage()
            let number = try #require(message.text.split(separator: " ").first.flatMap { Int($0) })
            #expect((message["redelivered"] == nil) == (message["delivery-count"] == nil))
            if message["redelivered"] == "true" { marked.append(number) } else { unmarked.append(number) }
        }
        // Each came once, and it is the first ones that the kernel had taken.
        #expect((marked + unmarked).sorted() == Array(0..<30))
        #expect(marked == Array(0..<marked.count))
        // The kernel takes what `io.unsent-bytes` lets it, a megabyte; the broker had 4 MiB ready to send.
        #expect(marked.count < 20)
    }
}
