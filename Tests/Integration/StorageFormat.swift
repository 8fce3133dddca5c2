import Glibc
import TestSupport
import Testing

/// A store that a broker left behind is read by every later one.
extension Integration {
    @Suite("Format of the store")
    struct StorageFormat {
        private static func settings(_ driver: DriverUnderTest, _ folder: String) -> BrokerProcess.Settings {
            BrokerProcess.Settings(
                driver, workers: 2,
                [
                    "storage.directory": folder, "storage.segment-bytes": "64KiB", "storage.staged-bytes": "64KiB",
                    "limits.body-bytes": "4KiB", "limits.headers-bytes": "2KiB", "limits.header-bytes": "1KiB",
                    "limits.transaction-bytes": "16KiB", "limits.frames-per-transaction-max": "20",
                    "limits.linger-ms": "50", "limits.drain-timeout-ms": "100",
                ])
        }

        private static func publish(_ client: RawClient, _ body: String, to queue: String) throws {
            try client.perform(
                "SEND", ["destination": "/queue/\(queue)", "persistent": "true", "colour": "a:b"], body: body)
        }

        /// Three runs of a broker: one that is killed, one that ends in order, one that is killed.
        private static func leaveStore(in folder: String, _ driver: DriverUnderTest) throws {
            var broker = try BrokerProcess(settings(driver, folder))
            var client = try RawClient(broker, .v1_2)
            for number in 1...5 { try publish(client, "first run, \(number)", to: "plain") }
            try client.send("BEGIN", ["transaction": "t"])
            for queue in ["one", "two", "three", "four"] {
                try client.send(
                    "SEND", ["destination": "/queue/\(queue)", "persistent": "true", "transaction": "t"],
                    body: "in a transaction")
            }
            try client.perform("COMMIT", ["transaction": "t"])
            try client.perform(
                "SEND", ["destination": "/queue/limited", "persistent": "true", "x-max-length": "1"], body: "alone")
            broker.process.signal(SIGKILL)
            _ = try broker.process.waitForExit()

            broker = try BrokerProcess(settings(driver, folder))
            client = try RawClient(broker, .v1_2)
            try client.subscribe(to: "/queue/plain", ack: "client-individual")
            try client.acknowledge(try client.expectMessage("first run, 1"))
            try client.reject(try client.expectMessage("first run, 2"))
            try client.disconnect()
            try publish(client: broker, "second run", to: "plain")
            #expect(try broker.terminate() == .exited(0))

            broker = try BrokerProcess(settings(driver, folder))
            client = try RawClient(broker, .v1_2)
            try publish(client, "third run", to: "plain")
            try client.subscribe(to: "/queue/three", ack: "client-individual")
            try client.acknowledge(try client.expectMessage("in a transaction"))
            broker.process.signal(SIGKILL)
            _ = try broker.process.waitForExit()
        }

        private static func publish(client broker: BrokerProcess, _ body: String, to queue: String) throws {
            let client = try RawClient(broker, .v1_2)
            try publish(client, body, to: queue)
            try client.disconnect()
        }

        /// What such a store holds.
        private static func expectStore(in folder: String, _ driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(settings(driver, folder))
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: "/queue/plain", id: "plain")
            for number in 2...5 {
                let message = try client.expectMessage("first run, \(number)")
                #expect(message["colour"] == "a:b")
                #expect(message["redelivered"] == "true")
            }
            try client.expectMessage("second run")
            try client.expectMessage("third run")
            for queue in ["one", "two", "four"] {
                try client.subscribe(to: "/queue/\(queue)", id: queue)
                try client.expectMessage("in a transaction")
            }
            try client.subscribe(to: "/queue/three", id: "three")
            try client.expectNothing()
            // The queue still has the limit that its first user asked for.
            try client.send("SEND", ["destination": "/queue/limited", "persistent": "true"], body: "too much")
            try client.expectError()
            #expect(try broker.terminate() == .exited(0))
        }

        /// STAMPEDE_KEEP_STORE names a folder, which must not be there, to which the store is copied: to be added to
        /// `Tests/StorageFormats` when there is a new version of the format.
        @Test(arguments: drivers)
        func `What one broker stored another one finds`(on driver: DriverUnderTest) throws {
            let folder = try TemporaryFolder()
            try Self.leaveStore(in: folder.path, driver)
            if let kept = getenv("STAMPEDE_KEEP_STORE").map({ String(cString: $0) }) {
                try Self.copy(folder.path, to: kept)
            }
            try Self.expectStore(in: folder.path, driver)
        }

        @Test(arguments: drivers, [1, 2])
        func `Stores of each version of the format that there was are read`(
            on driver: DriverUnderTest, version: Int
        ) throws {
            let folder = try TemporaryFolder()
            try Self.copy("\(BuildDirectory.package)/Tests/StorageFormats/\(version)", to: "\(folder.path)/store")
            try Self.expectStore(in: "\(folder.path)/store", driver)
            // An older program does not understand what this one has written.
            let format = try TemporaryFile.contents(of: "\(folder.path)/store/format")
            #expect(format == "stampede-storage 2\n")
        }

        private static func copy(_ source: String, to target: String) throws {
            let process = try ChildProcess("cp", ["-r", "--sparse=always", source, target])
            #expect(try process.waitForExit() == .exited(0), "\(process.errorLines)")
        }
    }
}
