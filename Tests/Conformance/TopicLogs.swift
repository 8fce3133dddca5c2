import TestSupport
import Testing

/// Logs of topics, as RabbitMQ's STOMP plugin has them for streams (`x-stream-offset`), and retained messages, as ActiveMQ
/// Apollo has them.
@Suite("Topic logs and retained messages")
struct TopicLogs {
    private func broker(_ driver: DriverUnderTest) throws -> BrokerProcess {
        try driver.broker([:], file: "destinations:\n  - match: /topic/log.#\n    log-messages-max: 10\n")
    }

    private func read(
        _ client: RawClient, _ topic: String, from start: String, ack: String = "auto", id: String = "0"
    ) throws {
        try client.perform(
            "SUBSCRIBE", ["destination": topic, "id": id, "ack": ack, "x-stream-offset": start])
    }

    @Test(arguments: drivers)
    func `A log is replayed from where SUBSCRIBE says, and goes on live`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let topic = unique("/topic/log.starts")
        let publisher = try RawClient(broker, .v1_2)
        for number in 0..<12 { try publisher.publish(to: topic, "\(number)") }
        let starts = [("first", 2), ("last", 11), ("next", 12), ("offset=5", 5), ("offset=0", 2), ("timestamp=0", 2)]
        let readers = try starts.map { start, _ in
            let reader = try RawClient(broker, .v1_2)
            try read(reader, topic, from: start)
            return reader
        }
        try publisher.publish(to: topic, "12")
        for (reader, (_, first)) in zip(readers, starts) {
            for number in first...12 {
                try reader.expectMessage("\(number)", ["x-stream-offset": "\(number)", "destination": topic])
            }
            try reader.expectNothing()
        }
    }

    @Test(arguments: drivers, ["client", "client-individual"])
    func `Acknowledgements move a reader's window and remove nothing`(
        on driver: DriverUnderTest, _ ack: String
    ) throws {
        let broker = try broker(driver)
        let topic = unique("/topic/log.window")
        let publisher = try RawClient(broker, .v1_2)
        for number in 0..<6 { try publisher.publish(to: topic, "\(number)") }
        for _ in 0..<2 {
            let reader = try RawClient(broker, .v1_2)
            try reader.perform(
                "SUBSCRIBE",
                [
                    "destination": topic, "id": "0", "ack": ack, "prefetch-count": "1", "x-stream-offset": "first",
                ])
            for number in 0..<6 {
                let message = try reader.expectMessage("\(number)")
                try reader.expectNothing()
                if number % 2 == 0 { try reader.acknowledge(message) } else { try reader.reject(message) }
            }
            try reader.disconnect()
        }
    }

    @Test(arguments: drivers)
    func `What cannot be read is refused with ERROR that says what can`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        for (destination, start, text) in [
            ("/topic/plain", "first", "keeps no log"), ("/topic/log.*", "first", "pattern"),
            ("/queue/log.a", "first", "is a queue"), ("/topic/log.a", "yesterday", "offset=N"),
        ] {
            let client = try RawClient(broker, .v1_2)
            try client.send(
                "SUBSCRIBE", ["destination": destination, "id": "0", "x-stream-offset": start, "receipt": "r"])
            try client.expectError(text, receipt: "r")
        }
    }

    @Test(arguments: drivers, ProtocolVersion.allCases)
    func `A retained message is given to new subscribers, of patterns too`(
        on driver: DriverUnderTest, _ version: ProtocolVersion
    ) throws {
        let topic = unique("/topic/retained.a")
        let publisher = try driver.client()
        let early = try driver.client(version)
        try early.subscribe(to: topic)
        try publisher.perform("SEND", ["destination": topic, "retain": "set"], body: "old")
        try publisher.perform("SEND", ["destination": topic, "retain": "set", "k": "v"], body: "new")
        #expect(try early.expectMessage("old")["retained"] == nil)
        #expect(try early.expectMessage("new")["retained"] == nil)
        for (destination, ack) in [(topic, "auto"), (topic, "client"), ("/topic/retained.*", "auto")] {
            let late = try driver.client(version)
            try late.subscribe(to: destination, ack: ack)
            // Other cases retain there, too.
            var frame = try late.expectMessage(nil, ["retained": "true"])
            while frame["destination"] != topic { frame = try late.expectMessage(nil, ["retained": "true"]) }
            #expect(frame.text == "new" && frame["k"] == "v" && frame["retain"] == nil)
        }
        try publisher.perform("SEND", ["destination": topic, "retain": "remove"], body: "over")
        try early.expectMessage("over")
        let none = try driver.client(version)
        try none.subscribe(to: topic)
        try none.expectNothing()
    }

    @Test(arguments: drivers)
    func `retain has two values, and is for topics`(on driver: DriverUnderTest) throws {
        for (destination, value, text) in [
            ("/topic/retained", "yes", "set or remove"), ("/queue/retained", "set", "retains no message"),
            ("/temp-topic/retained", "set", "'/temp-topic/retained' retains no message"),
        ] {
            let client = try driver.client()
            try client.send("SEND", ["destination": destination, "retain": value, "receipt": "r"])
            try client.expectError(text, receipt: "r")
        }
    }
}
