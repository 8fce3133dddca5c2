import Glibc
import TestSupport
import Testing

/// A disk that is full, and one that fails.
extension Integration {
    @Suite("Failures of the store")
    struct StorageFailures {
        private static func settings(
            _ driver: DriverUnderTest, _ folder: String, _ others: [String: String] = [:]
        ) -> BrokerProcess.Settings {
            let values = [
                "storage.directory": folder, "storage.segment-bytes": "64KiB", "storage.staged-bytes": "64KiB",
                "limits.body-bytes": "4KiB", "limits.headers-bytes": "2KiB", "limits.header-bytes": "1KiB",
                "limits.transaction-bytes": "16KiB", "limits.frames-per-transaction-max": "20",
                "limits.linger-ms": "50", "limits.drain-timeout-ms": "500",
            ]
            return BrokerProcess.Settings(driver, workers: 1, values.merging(others) { $1 })
        }

        private static let headers: KeyValuePairs = [
            "destination": "/queue/full", "persistent": "true", "receipt": "r",
        ]
        private static let body = String(repeating: "x", count: 4000)

        /// Publishes until a RECEIPT does not come. Returns how many came, and what came instead; nil: the end.
        private static func fill(_ client: RawClient, atMost count: Int) throws -> (count: Int, frame: Frame?) {
            for number in 0..<count {
                try client.send("SEND", headers, body: body)
                let frame = try client.nextFrameOrEnd()
                guard let frame, frame.command == "RECEIPT" else { return (number, frame) }
            }
            throw Failure("the store takes all", at: Place(#fileID, #line))
        }

        @Test func `A limit that has no room for two segments of each worker is an error, with what would be right`()
            throws
        {
            let folder = try TemporaryFolder()
            var options = ChildProcess.Options()
            options.environment["HOME"] = folder.path
            let process = try ChildProcess(
                BuildDirectory.path(of: "stampede"),
                [
                    "serve", "--listen", "127.0.0.1:0", "--set", "storage.directory=\(folder.path)/store", "--set",
                    "storage.enabled=true", "--set", "storage.bytes-max=512MiB", "--set",
                    "storage.segment-bytes=128MiB", "--set", "io.workers=3",
                ], options)
            #expect(try process.waitForExit() == .exited(2))
            let text = process.errorLines.joined()
            #expect(text.contains("storage.bytes-max") && text.contains("at least 768MiB"), "\(text)")
        }

        @Test(arguments: drivers)
        func `At storage.bytes-max a SEND is refused, and taken again when consumers have made room`(
            on driver: DriverUnderTest
        ) throws {
            let folder = try TemporaryFolder()
            let broker = try BrokerProcess(Self.settings(driver, folder.path, ["storage.bytes-max": "1MiB"]))
            for _ in 0..<2 {
                let (count, frame) = try Self.fill(try RawClient(broker, .v1_2), atMost: 600)
                #expect(count > 100)
                #expect(frame?["message"] == "Disk full", "\(String(describing: frame))")
                let consumer = try RawClient(broker, .v1_2)
                // What is not stored goes on.
                try consumer.publish(to: "/queue/other", "not stored")
                try consumer.subscribe(to: "/queue/full", ack: "client-individual")
                for _ in 0..<count { try consumer.acknowledge(try consumer.expectMessage()) }
                try consumer.disconnect()
            }
            #expect(folder.names().count < 20, "\(folder.names())")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `When the directory is gone the broker ends, unless it is to refuse`(on driver: DriverUnderTest) throws {
            for policy in ["stop", "refuse"] {
                let folder = try TemporaryFolder()
                let path = "\(folder.path)/store"
                let broker = try BrokerProcess(Self.settings(driver, path, ["storage.on-error": policy]))
                let client = try RawClient(broker, .v1_2)
                try client.perform("SEND", ["destination": "/queue/full", "persistent": "true"], body: "taken")
                #expect(rename(path, "\(path)-away") == 0)
                for name in folder.names() where name != "store-away" { Issue.record("\(name)") }
                try Self.removeAll(in: "\(path)-away")
                if policy == "stop" {
                    // The end may cut what was on its way.
                    _ = try? Self.fill(client, atMost: 600)
                    #expect(try broker.process.waitForExit() == .exited(1))
                    #expect(broker.process.errorLines.contains { $0.contains("critical") && $0.contains("on-error") })
                } else {
                    let (_, frame) = try Self.fill(client, atMost: 600)
                    #expect(frame?.command == "ERROR")
                    let other = try RawClient(broker, .v1_2)
                    try other.publish(to: "/queue/other", "not stored")
                    try other.subscribe(to: "/queue/other")
                    try other.expectMessage("not stored")
                    #expect(try broker.terminate() == .exited(0))
                }
            }
        }

        /// The directory itself goes: segments that are open go on, new ones cannot be made.
        private static func removeAll(in path: String) throws {
            let process = try ChildProcess("rm", ["-rf", path])
            #expect(try process.waitForExit() == .exited(0))
        }
    }
}
