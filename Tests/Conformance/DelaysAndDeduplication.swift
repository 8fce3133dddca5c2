import Glibc
import TestSupport
import Testing

/// Messages that wait for their time, with the headers of ActiveMQ, Artemis and RabbitMQ; and such as are taken once.
@Suite("Delays and deduplication")
struct DelaysAndDeduplication {
    private static var nowMilliseconds: Int {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    /// https://activemq.apache.org/delay-and-schedule-message-delivery: AMQ_SCHEDULED_DELAY.
    @Test(arguments: drivers, ["/queue/delay", "/topic/delay"])
    func `A delayed message comes when it is due, behind what was sent later`(
        on driver: DriverUnderTest, _ prefix: String
    ) throws {
        let destination = unique(prefix)
        let client = try driver.client()
        try client.subscribe(to: destination)
        let sent = Self.nowMilliseconds
        try client.perform(
            "SEND", ["destination": destination, "AMQ_SCHEDULED_DELAY": "300", "k": "v"], body: "delayed")
        try client.perform("SEND", ["destination": destination], body: "at once")
        try client.expectMessage("at once")
        let message = try client.expectMessage("delayed", ["k": "v", "destination": destination])
        #expect(Self.nowMilliseconds >= sent + 300)
        #expect(message["AMQ_SCHEDULED_DELAY"] == nil)
    }

    /// Artemis, "Sending STOMP messages": AMQ_SCHEDULED_TIME. The plugin of RabbitMQ: x-delay.
    @Test(arguments: drivers, [false, true])
    func `A time and the header of RabbitMQ's plugin do the same`(on driver: DriverUnderTest, isTime: Bool) throws {
        let queue = unique("/queue/delay")
        let client = try driver.client()
        try client.subscribe(to: queue)
        let due = Self.nowMilliseconds + 200
        let header = isTime ? ("AMQ_SCHEDULED_TIME", "\(due)") : ("x-delay", "200")
        try client.perform("SEND", ["destination": queue, header.0: header.1], body: "delayed")
        try client.expectMessage("delayed")
        #expect(Self.nowMilliseconds >= due)
    }

    @Test(arguments: drivers, ["x-delay", "AMQ_SCHEDULED_DELAY", "AMQ_SCHEDULED_TIME"])
    func `Without a delay, or with a time that is past, a message comes at once`(
        on driver: DriverUnderTest, _ header: String
    ) throws {
        let queue = unique("/queue/delay")
        let client = try driver.client()
        try client.subscribe(to: queue)
        try client.perform("SEND", ["destination": queue, header: "0"], body: "at once")
        try client.expectMessage("at once")
    }

    /// ActiveMQ: AMQ_SCHEDULED_REPEAT is how often after the first.
    @Test(arguments: drivers)
    func `A message repeats, each time with a message-id of its own`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/delay")
        let client = try driver.client()
        try client.subscribe(to: queue)
        try client.perform(
            "SEND",
            [
                "destination": queue, "AMQ_SCHEDULED_DELAY": "10", "AMQ_SCHEDULED_PERIOD": "20",
                "AMQ_SCHEDULED_REPEAT": "2",
            ], body: "again")
        let ids = try (0..<3).map { _ in try client.expectMessage("again")["message-id"] }
        #expect(Set(ids).count == 3)
        try client.perform("SEND", ["destination": queue, "x-delay": "100"], body: "end")
        try client.expectMessage("end")
    }

    @Test(
        arguments: drivers,
        [
            ["x-delay": "-5"], ["x-delay": "soon"], ["AMQ_SCHEDULED_TIME": "5 pm"], ["AMQ_SCHEDULED_REPEAT": "3"],
            ["AMQ_SCHEDULED_PERIOD": "0"], ["AMQ_SCHEDULED_CRON": "every day"], ["AMQ_SCHEDULED_CRON": "0 0 30 2 *"],
            ["AMQ_SCHEDULED_CRON": "* * * * *", "x-delay": "5"], ["x-delay": "5", "AMQ_SCHEDULED_TIME": "5"],
            ["x-delay": "999999999999"],
        ])
    func `A schedule that is none is refused, and the ERROR says what would be right`(
        on driver: DriverUnderTest, _ headers: [String: String]
    ) throws {
        let client = try driver.client()
        var lines = "SEND\ndestination:/queue/delay\nreceipt:r\n"
        for (name, value) in headers { lines += "\(name):\(value)\n" }
        try client.send(Array((lines + "\n\0").utf8))
        let error = try client.expectError("bad schedule", receipt: "r")
        #expect(
            headers.keys.contains { error.text.contains($0) } || error.text.contains("limits.delay-max-ms"), "\(error)")
    }

    @Test(arguments: drivers)
    func `A delay begins with COMMIT`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/delay")
        let client = try driver.client()
        try client.subscribe(to: queue)
        try client.send("BEGIN", ["transaction": "t"])
        try client.perform("SEND", ["destination": queue, "transaction": "t", "x-delay": "100"], body: "delayed")
        try client.expectNothing()
        let committed = Self.nowMilliseconds
        try client.perform("COMMIT", ["transaction": "t"])
        try client.expectMessage("delayed")
        #expect(Self.nowMilliseconds >= committed + 100)
    }

    @Test(arguments: drivers)
    func `A second message with the same id is confirmed and not delivered`(on driver: DriverUnderTest) throws {
        let queue = unique("/queue/deduplication")
        let client = try driver.client()
        for (id, body) in [("1", "first"), ("1", "second"), ("2", "third"), ("1", "fourth")] {
            try client.perform("SEND", ["destination": queue, "x-deduplication-id": id], body: body)
        }
        try client.subscribe(to: queue)
        try client.expectMessage("first", ["x-deduplication-id": "1"])
        try client.expectMessage("third", ["x-deduplication-id": "2"])
        try client.expectNothing()
    }

    @Test(arguments: drivers)
    func `A topic refuses an id, for it would not remember it`(on driver: DriverUnderTest) throws {
        let client = try driver.client()
        try client.send("SEND", ["destination": "/topic/a", "x-deduplication-id": "1", "receipt": "r"])
        try client.expectError("unsupported header", receipt: "r")
    }
}
