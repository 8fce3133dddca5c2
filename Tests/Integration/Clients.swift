import TestSupport
import Testing

private let commonCases = [
    "publish_and_subscribe", "ack_auto", "ack_client", "ack_client_individual", "transactions", "receipts",
    "temporary_queues", "binary_bodies", "unicode_headers", "errors",
]

/// Existing clients, unchanged, against a real broker.
extension Interoperability {
    @Suite("Clients")
    struct Clients {
        /// Heart-beats that a test can wait for, and tolerant enough for a busy machine.
        private func broker(_ driver: DriverUnderTest) throws -> BrokerProcess {
            try .shared(
                BrokerProcess.Settings(
                    driver,
                    [
                        "limits.heart-beat-send-ms": "200", "limits.heart-beat-receive-ms": "200",
                        "limits.heart-beat-tolerance-percent": "500",
                    ]))
        }

        @Test(
            .enabled(if: ClientProgram.stompPy.isInstalled, "stomp.py 8 or 9 is missing: run Config/setup tests"),
            arguments: drivers, pairs(ProtocolVersion.allCases, commonCases))
        func `stomp_py works`(
            on driver: DriverUnderTest, _ example: (version: ProtocolVersion, name: String)
        ) throws {
            try ClientProgram.stompPy.run(example.name, example.version, on: broker(driver))
        }

        /// As it stands there, but for the port: every run prints its message, and leaves none to the next.
        @Test(
            .enabled(if: ClientProgram.stompPy.isInstalled, "stomp.py 8 or 9 is missing: run Config/setup tests"),
            arguments: drivers)
        func `The README's example in Python works`(on driver: DriverUnderTest) throws {
            let readme = try TemporaryFile.contents(of: "\(BuildDirectory.package)/README.md")
            let lines = readme.split(separator: "\n", omittingEmptySubsequences: false)
            let start = try #require(lines.firstIndex { $0.hasPrefix("    import ") })
            let example = lines[start...].prefix { $0.isEmpty || $0.hasPrefix("    ") }.map { $0.dropFirst(4) }
            let broker = try BrokerProcess(BrokerProcess.Settings(driver))
            let program = example.joined(separator: "\n").replacing("61613", with: "\(broker.port)")
            for _ in 0..<5 { try ClientProgram.stompPy.run(program: program, prints: ["two coffees"]) }
            let counters = try broker.counters()
            #expect(counters["messages-acknowledged"] == 5)
            #expect(try broker.terminate() == .exited(0))
            #expect(!broker.process.errorLines.contains { $0.contains("undelivered") })
        }

        @Test(
            .enabled(if: ClientProgram.stompPy.isInstalled, "stomp.py 8 or 9 is missing: run Config/setup tests"),
            arguments: drivers, ProtocolVersion.withEscapes)
        func `stomp_py exchanges heart-beats`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
            try ClientProgram.stompPy.run("heart_beats", version, on: broker(driver))
        }

        @Test(
            .enabled(if: ClientProgram.rubyStomp.isInstalled, "ruby-stomp is missing: run Config/setup tests"),
            arguments: drivers, pairs(ProtocolVersion.allCases, commonCases))
        func `ruby-stomp works`(
            on driver: DriverUnderTest, _ example: (version: ProtocolVersion, name: String)
        ) throws {
            try ClientProgram.rubyStomp.run(example.name, example.version, on: broker(driver))
        }

        @Test(
            .enabled(if: ClientProgram.rubyStomp.isInstalled, "ruby-stomp is missing: run Config/setup tests"),
            arguments: drivers, ProtocolVersion.withEscapes)
        func `ruby-stomp exchanges heart-beats`(on driver: DriverUnderTest, _ version: ProtocolVersion) throws {
            try ClientProgram.rubyStomp.run("heart_beats", version, on: broker(driver))
        }

        @Test(
            .enabled(if: ClientProgram.phpStomp.isInstalled, "php-stomp is missing: run Config/setup tests"),
            arguments: drivers, pairs(ProtocolVersion.allCases, commonCases))
        func `php-stomp works`(
            on driver: DriverUnderTest, _ example: (version: ProtocolVersion, name: String)
        ) throws {
            try ClientProgram.phpStomp.run(example.name, example.version, on: broker(driver))
        }
    }
}
