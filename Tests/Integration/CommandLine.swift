import TestSupport
import Testing

/// The commands beside `serve`, run as a shell runs them.
extension Interoperability {
    @Suite("Command line")
    struct CommandLine {
        private func stampede(_ arguments: String..., input: String? = nil) throws -> ChildProcess {
            var options = ChildProcess.Options()
            options.standardInput = input.map { Array($0.utf8) }
            return try ChildProcess(BuildDirectory.path(of: "stampede"), arguments, options)
        }

        @Test func `--version prints a version`() throws {
            let process = try stampede("--version")
            #expect(try process.waitForExit() == .exited(0))
            #expect(process.outputLines.count == 1)
            #expect(process.outputLines.first?.firstMatch(of: /\d+\.\d+/) != nil)
        }

        @Test(arguments: drivers)
        func `sink sends lines, and tap prints them`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess.shared(BrokerProcess.Settings(driver))
            let queue = unique("/queue/lines")
            let lines = (0..<1000).map { "line \($0)" }
            let sink = try stampede(
                "sink", queue, "--host", "127.0.0.1:\(broker.port)", input: lines.joined(separator: "\n") + "\n")
            #expect(try sink.waitForExit() == .exited(0), "\(sink.errorLines)")
            let tap = try stampede("tap", queue, "--host", "127.0.0.1:\(broker.port)", "--count", "1000")
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            #expect(tap.outputLines == lines)
            // Acknowledged as it was printed: nothing is left.
            let client = try RawClient(broker, .v1_2)
            try client.subscribe(to: queue)
            try client.expectNothing()
        }

        @Test(arguments: drivers)
        func `tap prints frames`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess.shared(BrokerProcess.Settings(driver))
            let queue = unique("/queue/frames")
            try RawClient(broker, .v1_2).perform("SEND", ["destination": queue, "foo": "bar"], body: "hello")
            let tap = try stampede("tap", queue, "--host", "127.0.0.1:\(broker.port)", "--count", "1", "--frames")
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            let text = String(decoding: tap.outputBytes, as: UTF8.self)
            #expect(text.hasPrefix("MESSAGE\n") && text.contains("\nfoo:bar\n") && text.hasSuffix("\n\nhello\0\n"))
        }

        @Test(arguments: drivers)
        func `tap reads the log of a topic`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver, file: "destinations:\n  - match: /topic/log.#\n    log-messages-max: 100\n"))
            let client = try RawClient(broker, .v1_2)
            for number in 0..<5 { try client.publish(to: "/topic/log.a", "\(number)") }
            let host = "127.0.0.1:\(broker.port)"
            for (start, lines) in [("first", ["0", "1", "2", "3", "4"]), ("3", ["3", "4"]), ("last", ["4"])] {
                let tap = try stampede(
                    "tap", "/topic/log.a", "--from", start, "--count", "\(lines.count)", "--host", host)
                #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
                #expect(tap.outputLines == lines)
            }
            let tap = try stampede("tap", "/topic/log.a", "--from", "@0", "--count", "5", "--host", host)
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            #expect(tap.outputLines.count == 5)
            let refused = try stampede("tap", "/topic/other", "--from", "first", "--host", host)
            #expect(try refused.waitForExit() == .exited(1))
            #expect(refused.errorLines.joined().contains("keeps no log"), "\(refused.errorLines)")
            let wrong = try stampede("tap", "/topic/log.a", "--from", "yesterday", "--host", host)
            #expect(try wrong.waitForExit() == .exited(2))
        }

        @Test(arguments: drivers)
        func `sink says what the broker refuses`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess.shared(BrokerProcess.Settings(driver))
            let sink = try stampede("sink", "/nowhere/a", "--host", "127.0.0.1:\(broker.port)", input: "line\n")
            #expect(try sink.waitForExit() == .exited(1))
            #expect(sink.errorLines.first?.contains("destination") == true, "\(sink.errorLines)")
        }
    }
}
