import TestSupport
import Testing

/// Queues: competing consumers, order, prefetch, redelivery. What the specifications leave to the server.
@Suite("Queues")
struct Queues {
    private func subscribe(
        _ client: RawClient, to queue: String, prefetch count: Int, header: String = "prefetch-count"
    ) throws {
        try client.perform(
            "SUBSCRIBE", ["id": "0", "destination": queue, "ack": "client-individual", header: "\(count)"])
    }

    /// Round robin by free prefetch.
    @Test(arguments: drivers)
    func `Consumers take turns`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let consumers = try (0..<4).map { _ in try driver.client() }
        for consumer in consumers { try subscribe(consumer, to: queue, prefetch: 10) }
        let publisher = try driver.client()
        for index in 0..<40 { try publisher.send("SEND", ["destination": queue], body: "\(index)") }
        var all: [Int] = []
        for consumer in consumers {
            let indices = try (0..<10).map { _ in Int(try consumer.expectMessage().text)! }
            #expect(indices == indices.sorted())
            all += indices
            try consumer.expectNothing()
        }
        #expect(all.sorted() == Array(0..<40))
    }

    /// One who is slow does not hold up those who are not.
    @Test(arguments: drivers)
    func `A consumer that is full is passed over`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let slow = try driver.client()
        try subscribe(slow, to: queue, prefetch: 1)
        let quick = try driver.client()
        try subscribe(quick, to: queue, prefetch: 100)
        let publisher = try driver.client()
        for index in 0..<20 { try publisher.publish(to: queue, "\(index)") }
        let held = try slow.expectMessage()
        try slow.expectNothing()
        for _ in 0..<19 { #expect(try quick.expectMessage().text != held.text) }
        try quick.expectNothing()
    }

    @Test(arguments: drivers)
    func `Messages that no consumer has room for wait in order`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let consumer = try driver.client()
        try subscribe(consumer, to: queue, prefetch: 1)
        let publisher = try driver.client()
        for index in 0..<20 { try publisher.publish(to: queue, "\(index)") }
        for index in 0..<20 {
            let message = try consumer.expectMessage("\(index)")
            try consumer.expectNothing()
            try consumer.acknowledge(message)
        }
    }

    /// The names that brokers' clients use for it.
    @Test(arguments: drivers, ["prefetch-count", "activemq.prefetchSize"])
    func `A consumer holds no more than it asked for`(on driver: DriverUnderTest, _ header: String) throws {
        let queue = unique("/queue/queues")
        let consumer = try driver.client()
        try subscribe(consumer, to: queue, prefetch: 3, header: header)
        try driver.client().publish(to: queue, "1", "2", "3", "4", "5")
        let messages = try (1...3).map { try consumer.expectMessage("\($0)") }
        try consumer.expectNothing()
        try consumer.acknowledge(messages[1])
        try consumer.expectMessage("4")
        try consumer.expectNothing()
    }

    /// `consumer-window-size` is a bound in bytes.
    @Test(arguments: drivers)
    func `A consumer may bound the bytes it holds`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let consumer = try driver.client()
        try subscribe(consumer, to: queue, prefetch: 10_000, header: "consumer-window-size")
        let publisher = try driver.client()
        let body = String(repeating: "x", count: 4000)
        for _ in 0..<10 { try publisher.publish(to: queue, body) }
        let first = try consumer.expectMessage(body)
        var held = 1
        while true {
            // The window lets at least two and at most three such messages out.
            try consumer.send("BEGIN", ["transaction": "t"])
            try consumer.send("ABORT", ["transaction": "t", "receipt": "r"])
            let frame = try consumer.nextFrame()
            if frame.command == "RECEIPT" { break }
            held += 1
            while try consumer.nextFrame().command != "RECEIPT" { held += 1 }
        }
        #expect((2...3).contains(held))
        try consumer.acknowledge(first)
        try consumer.expectMessage(body)
    }

    /// The default prefetch is finite.
    @Test(arguments: drivers)
    func `Without a prefetch count a consumer holds a thousand`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let publisher = try driver.client()
        for index in 0..<1100 { try publisher.send("SEND", ["destination": queue], body: "\(index)") }
        try publisher.expectNothing()
        let consumer = try driver.client()
        try consumer.subscribe(to: queue, ack: "client")
        var last: Frame?
        for index in 0..<1000 { last = try consumer.expectMessage("\(index)") }
        try consumer.expectNothing()
        try consumer.acknowledge(#require(last))
        for index in 1000..<1100 { try consumer.expectMessage("\(index)") }
    }

    /// Kept in order until acknowledged: what comes back goes before what waits, in its old order.
    @Test(arguments: drivers)
    func `Returned messages come first and in order`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let first = try driver.client()
        try subscribe(first, to: queue, prefetch: 4)
        let publisher = try driver.client()
        for index in 0..<8 { try publisher.publish(to: queue, "\(index)") }
        let held = try (0..<4).map { try first.expectMessage("\($0)") }
        try first.acknowledge(held[1])
        try first.expectMessage("4")
        try first.disconnect()
        let second = try driver.client()
        try subscribe(second, to: queue, prefetch: 100)
        for index in [0, 2, 3, 4, 5, 6, 7] {
            let message = try second.expectMessage("\(index)")
            #expect((message["redelivered"] == "true") == (index < 5))
        }
        try second.expectNothing()
    }

    @Test(arguments: drivers)
    func `Several messages that are refused come back in order`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let consumer = try driver.client()
        try consumer.subscribe(to: queue, ack: "client")
        try driver.client().publish(to: queue, "1", "2", "3", "4")
        let messages = try (1...4).map { try consumer.expectMessage("\($0)") }
        try consumer.reject(messages[3])
        for index in 1...4 { try consumer.expectMessage("\(index)", ["redelivered": "true", "delivery-count": "2"]) }
    }

    @Test(arguments: drivers)
    func `A newcomer gets what the others leave`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let first = try driver.client()
        try subscribe(first, to: queue, prefetch: 1)
        try driver.client().publish(to: queue, "1", "2", "3")
        try first.expectMessage("1")
        let second = try driver.client()
        try subscribe(second, to: queue, prefetch: 1)
        try second.expectMessage("2")
        try first.expectNothing()
    }

    @Test(arguments: drivers)
    func `auto and acknowledging consumers share a queue`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let automatic = try driver.client()
        try automatic.subscribe(to: queue)
        let careful = try driver.client()
        try subscribe(careful, to: queue, prefetch: 100)
        let publisher = try driver.client()
        for index in 0..<10 { try publisher.publish(to: queue, "\(index)") }
        // Wait until all are where they go, then count.
        var seen: [String] = []
        for client in [automatic, careful] {
            try client.send("BEGIN", ["transaction": "t", "receipt": "r"])
            while case let frame = try client.nextFrame(), frame.command == "MESSAGE" { seen.append(frame.text) }
        }
        #expect(seen.sorted() == (0..<10).map(String.init))
    }

    /// A queue and its messages outlive those who made it.
    @Test(arguments: drivers)
    func `A queue keeps its messages while nobody is there`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/queues")
        let publisher = try driver.client()
        try publisher.publish(to: queue, "1", "2")
        try publisher.disconnect()
        let reader = try driver.client()
        try subscribe(reader, to: queue, prefetch: 1)
        try reader.acknowledge(reader.expectMessage("1"))
        try reader.disconnect()
        let last = try driver.client()
        try last.subscribe(to: queue)
        try last.expectMessage("2")
        try last.expectNothing()
    }
}
