import Glibc
import TestSupport
import Testing

/// Delayed messages, known ids and counts of deliveries survive the end of the broker, whatever ends it.
extension Integration {
    @Suite("Durable delays")
    struct DurableDelays {
        private static func settings(
            _ driver: DriverUnderTest, _ folder: TemporaryFolder, workers: Int
        ) -> BrokerProcess.Settings {
            BrokerProcess.Settings(
                driver, workers: workers,
                [
                    "storage.directory": folder.path, "storage.segment-bytes": "256KiB",
                    "limits.body-bytes": "16KiB", "limits.headers-bytes": "8KiB", "limits.transaction-bytes": "64KiB",
                    "limits.frames-per-transaction-max": "100", "limits.linger-ms": "50",
                    "limits.drain-timeout-ms": "100",
                ])
        }

        private static func end(_ broker: BrokerProcess, byKill: Bool) throws {
            if byKill {
                broker.process.signal(SIGKILL)
                #expect(try broker.process.waitForExit() == .killed(signal: SIGKILL))
            } else {
                #expect(try broker.terminate() == .exited(0))
            }
        }

        @Test(arguments: drivers, [true, false])
        func `Delayed messages whose RECEIPT came are there after the end, for queues and topics`(
            on driver: DriverUnderTest, byKill: Bool
        ) throws {
            let folder = try TemporaryFolder()
            var broker = try BrokerProcess(Self.settings(driver, folder, workers: 3))
            let client = try RawClient(broker, .v1_2)
            for number in 0..<6 {
                // Those that are due meanwhile come at once.
                try client.perform(
                    "SEND",
                    [
                        "destination": "/queue/held-\(number % 3)", "persistent": "true",
                        "x-delay": "\(1 + number * 20)",
                    ],
                    body: "\(number)")
            }
            try client.perform(
                "SEND", ["destination": "/topic/held", "persistent": "true", "x-delay": "2000"], body: "topic")
            try client.perform("SEND", ["destination": "/queue/held-0", "x-delay": "5000"], body: "not persistent")
            try Self.end(broker, byKill: byKill)
            broker = try BrokerProcess(Self.settings(driver, folder, workers: 2))
            let reader = try RawClient(broker, .v1_2)
            try reader.subscribe(to: "/topic/held", id: "t")
            for queue in 0..<3 {
                try reader.subscribe(to: "/queue/held-\(queue)", id: "\(queue)")
                // In the order in which they were due.
                try reader.expectMessage("\(queue)")
                try reader.expectMessage("\(queue + 3)")
            }
            try reader.expectMessage("topic", ["destination": "/topic/held"])
            try reader.expectNothing()
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers, [true, false])
        func `A known id is known after the end`(on driver: DriverUnderTest, byKill: Bool) throws {
            let folder = try TemporaryFolder()
            var broker = try BrokerProcess(Self.settings(driver, folder, workers: 3))
            for round in 0..<3 {
                let client = try RawClient(broker, .v1_2)
                for number in 0...round {
                    try client.perform(
                        "SEND",
                        ["destination": "/queue/once", "persistent": "true", "x-deduplication-id": "\(number)"],
                        body: "\(number) in round \(round)")
                }
                try client.subscribe(to: "/queue/once", ack: "client-individual")
                let message = try client.expectMessage("\(round) in round \(round)")
                try client.acknowledge(message)
                try client.expectNothing()
                try Self.end(broker, byKill: byKill)
                broker = try BrokerProcess(Self.settings(driver, folder, workers: 1 + round))
            }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers, [true, false])
        func `Counts of deliveries go on after the end, up to the dead-letter queue`(
            on driver: DriverUnderTest, byKill: Bool
        ) throws {
            let folder = try TemporaryFolder()
            var broker = try BrokerProcess(Self.settings(driver, folder, workers: 2))
            let client = try RawClient(broker, .v1_2)
            try client.perform("SEND", ["destination": "/queue/failing", "persistent": "true"], body: "fails")
            // Ten failures, in three lives.
            for (life, failures) in [4, 4, 2].enumerated() {
                let consumer = try RawClient(broker, .v1_2)
                try consumer.subscribe(to: "/queue/failing", ack: "client-individual")
                var message = try consumer.expectMessage("fails")
                for failure in 0..<failures {
                    let count = life * 4 + failure + 1
                    #expect((message["redelivered"] == "true") == (count > 1))
                    if count > 1 { #expect(message["delivery-count"] == "\(count)") }
                    try consumer.send("NACK", ["id": message["ack"] ?? "", "receipt": "n"])
                    // It comes again before the disk has the count.
                    if count < 10 { message = try consumer.expectMessage("fails") }
                    try consumer.expectReceipt("n")
                }
                try Self.end(broker, byKill: byKill)
                broker = try BrokerProcess(Self.settings(driver, folder, workers: 2))
            }
            let reader = try RawClient(broker, .v1_2)
            try reader.subscribe(to: "/queue/DLQ")
            try reader.expectMessage("fails", ["dead-letter-reason": "delivery-limit"])
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `Limits of a queue hold for what an earlier life left, and the ERROR tells them`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            var broker = try BrokerProcess(Self.settings(driver, folder, workers: 2))
            let client = try RawClient(broker, .v1_2)
            let limits: KeyValuePairs<String, String> = [
                "destination": "/queue/limited", "persistent": "true", "x-max-length": "3",
            ]
            for number in 0..<2 { try client.perform("SEND", limits, body: "\(number)") }
            try client.perform(
                "SEND",
                ["destination": "/queue/limited", "persistent": "true", "x-max-length": "3", "x-delay": "600000"],
                body: "delayed")
            try Self.end(broker, byKill: true)
            broker = try BrokerProcess(Self.settings(driver, folder, workers: 1))
            let other = try RawClient(broker, .v1_2)
            try other.send("SEND", ["destination": "/queue/limited", "persistent": "true", "receipt": "r"], body: "x")
            let error = try other.expectError("queue full", receipt: "r")
            #expect(error.text.contains("3 messages") || error.text.contains("messages-max"), "\(error)")
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
