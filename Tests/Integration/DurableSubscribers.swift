import Glibc
import TestSupport
import Testing

/// Durable topic subscriptions survive the end of the broker, whatever ends it.
extension Integration {
    @Suite("Durable subscribers")
    struct DurableSubscribers {
        private static func settings(_ driver: DriverUnderTest, _ folder: TemporaryFolder, workers: Int)
            -> BrokerProcess.Settings
        {
            BrokerProcess.Settings(
                driver, workers: workers,
                [
                    "storage.directory": folder.path, "storage.segment-bytes": "256KiB",
                    "limits.body-bytes": "16KiB", "limits.headers-bytes": "8KiB", "limits.transaction-bytes": "64KiB",
                    "limits.frames-per-transaction-max": "100", "limits.linger-ms": "50",
                ])
        }

        private static func publish(_ client: RawClient, _ body: String, to topic: String) throws {
            try client.perform("SEND", ["destination": topic, "persistent": "true"], body: body)
        }

        @Test(arguments: drivers, [1, 3])
        func `After kill -9 a durable subscription has what was promised, and misses nothing that comes then`(
            on driver: DriverUnderTest, workers: Int
        ) throws {
            let folder = try TemporaryFolder()
            var broker = try BrokerProcess(Self.settings(driver, folder, workers: workers))
            let named: KeyValuePairs = [
                "id": "1", "destination": "/topic/kept.*", "activemq.subscriptionName": "n", "ack": "client-individual",
            ]
            let shared: KeyValuePairs = [
                "id": "s", "destination": "/topic/kept.a", "durable": "true", "ack": "client-individual",
            ]
            let first = try RawClient(broker, .v1_2, ["client-id": "c"])
            try first.perform("SUBSCRIBE", named)
            try first.perform("SUBSCRIBE", shared)
            let publisher = try RawClient(broker, .v1_2)
            for number in 0..<5 { try Self.publish(publisher, "\(number)", to: "/topic/kept.a") }
            for _ in 0..<10 {
                let message = try first.nextFrame()
                if message.text == "0" { try first.acknowledge(message) }
            }
            broker.process.signal(SIGKILL)
            #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
            broker = try BrokerProcess(Self.settings(driver, folder, workers: workers == 1 ? 2 : 1))
            let next = try RawClient(broker, .v1_2)
            try Self.publish(next, "next", to: "/topic/kept.a")
            let second = try RawClient(broker, .v1_2, ["client-id": "c"])
            for headers in [named, shared] {
                try second.perform("SUBSCRIBE", headers)
                for body in ["1", "2", "3", "4"] { try second.expectMessage(body, ["redelivered": "true"]) }
                try second.expectMessage("next", ["destination": "/topic/kept.a"])
                try second.expectNothing()
            }
            try second.disconnect()
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `After kill -9 durable subscriptions have what topics with logs, and such as retain, promised`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            let topics = ["/topic/log.a", "/topic/state"]
            let ids = (0..<6).map { "s\($0)" }
            var bodies: [String] = []
            for round in 0..<8 {
                var settings = Self.settings(driver, folder, workers: 2 + round % 3)
                settings.file = "destinations:\n  - match: /topic/log.#\n    log-messages-max: 1000\n"
                let broker = try BrokerProcess(settings)
                if round == 0 {
                    for topic in topics {
                        let client = try RawClient(broker, .v1_2)
                        for id in ids {
                            try client.perform("SUBSCRIBE", ["id": id, "destination": topic, "durable": "true"])
                        }
                        try client.disconnect()
                    }
                }
                let publisher = try RawClient(broker, .v1_2)
                for number in 0...round * 3 {
                    let body = "\(round)-\(number)"
                    for topic in topics {
                        try publisher.perform(
                            "SEND",
                            [
                                "destination": topic, "persistent": "true",
                                "retain": topic == "/topic/state" || number % 2 == 0 ? "set" : "remove",
                            ], body: body)
                    }
                    bodies.append(body)
                }
                broker.process.signal(SIGKILL)
                #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
            }
            let broker = try BrokerProcess(Self.settings(driver, folder, workers: 2))
            for topic in topics {
                for id in ids {
                    let client = try RawClient(broker, .v1_2)
                    try client.perform("SUBSCRIBE", ["id": id, "destination": topic, "durable": "true"])
                    for body in bodies { try client.expectMessage(body) }
                    try client.expectNothing()
                    try client.disconnect()
                }
            }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `The log tells of a durable subscription that went unused for too long`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            var settings = Self.settings(driver, folder, workers: 2)
            settings.file = """
                destinations:
                  - match: /topic/short.#
                    durable-subscription-expires-ms: 1000
                """
            let broker = try BrokerProcess(settings)
            let client = try RawClient(broker, .v1_2)
            try client.perform("SUBSCRIBE", ["id": "s", "destination": "/topic/short.a", "durable": "true"])
            try client.perform("UNSUBSCRIBE", ["id": "s"])
            try Self.publish(client, "lost", to: "/topic/short.a")
            let line = try #require(try broker.process.errorLine { $0.contains("durable subscription expired") })
            #expect(line.contains("/dsub/id/s/topic/short.a to /topic/short.a, with 1 messages"), "\(line)")
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
