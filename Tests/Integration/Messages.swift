import Glibc
import TestSupport
import Testing

/// What the programs say when something is not as it should be: what it is, and what to do.
extension Integration {
    @Suite("Messages")
    struct Messages {
        @Test(
            arguments: drivers,
            [
                ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"), ("POST /queue HTTP/1.1\r\n", "HTTP"),
                ("CONNECT x:443 HTTP/1.1\r\n", "HTTP"),
                ("GET / HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n", "WebSocket"), ("\u{16}\u{3}\u{1}", "TLS"),
                ("\u{10}\u{10}\0\u{4}MQTT\u{4}", "MQTT"), ("AMQP\0\0\u{9}\u{1}", "AMQP"),
                ("hello\n", "written in capitals"),
            ])
        func `What is no STOMP is told what it is`(
            on driver: DriverUnderTest, _ example: (bytes: String, name: String)
        ) throws {
            let client = try RawClient(BrokerProcess.shared(BrokerProcess.Settings(driver)))
            try client.send(example.bytes)
            let error = try client.expectError("Bad command")
            let text = String(decoding: error.body, as: UTF8.self)
            #expect(text.contains(example.name) && text.contains("STOMP port"), "\(text)")
        }

        @Test(arguments: drivers, [1, 2])
        func `A frame beyond a limit is told the key and its value`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver, workers: workers, ["limits.body-bytes": "1KiB", "limits.headers-max": "10"]))
            let examples = [
                (
                    "SEND\ndestination:/topic/a\ncontent-length:1025\n\n", "Body too long",
                    "The limit is 1024 (limits.body-bytes)."
                ),
                (
                    "SEND\n" + String(repeating: "a:b\n", count: 11) + "\n\0", "Too many headers",
                    "The limit is 10 (limits.headers-max)."
                ),
            ]
            for (frame, message, key) in examples {
                let client = try RawClient(broker, .v1_2)
                try client.send(frame)
                let text = String(decoding: try client.expectError(message).body, as: UTF8.self)
                #expect(text.contains(key), "\(text)")
            }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers, [1, 2])
        func `The ready line names version, configuration file and capacity`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let settings = BrokerProcess.Settings(
                driver, workers: workers, file: "limits: {connections-max: 20}\n")
            let broker = try BrokerProcess(settings)
            #expect(broker.readyLine.firstMatch(of: /version=\d+\.\d+/) != nil, "\(broker.readyLine)")
            #expect(broker.readyLine.firstMatch(of: /config=\S+\.yaml/) != nil, "\(broker.readyLine)")
            #expect(broker.readyLine.contains(" connections-max=\(20 * workers) "), "\(broker.readyLine)")
            // Who sets a limit knows it.
            #expect(!broker.process.errorLines.contains { $0.contains("there is room") })
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A small RLIMIT_NOFILE earns a warning`(
            on driver: DriverUnderTest
        ) throws {
            var settings = BrokerProcess.Settings(driver)
            settings.descriptorCountMax = 64
            let broker = try BrokerProcess(settings)
            let line = try #require(try broker.process.errorLine { $0.contains("there is room for only ") })
            #expect(line.contains("warning") && line.contains("RLIMIT_NOFILE is 64"), "\(line)")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers, [1, 2])
        func `Who is refused for want of room is refused for a reason with a name`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(driver, workers: workers, ["limits.connections-max": "1"]))
            let clients = try (0..<workers).map { _ in try RawClient(broker, .v1_2) }
            try RawClient(broker).expectCut()
            let reason = "full (1 connections each: limits.connections-max)"
            _ = try #require(try broker.process.errorLine { $0.contains(reason) })
            withExtendedLifetime(clients) {}
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `Too little address space is one line that says what to raise`(on driver: DriverUnderTest) throws {
            let stampede = BuildDirectory.path(of: "stampede")
            let process = try ChildProcess(
                "sh",
                [
                    "-c", "ulimit -v 600000; exec \"$0\" serve --listen 127.0.0.1:0 --driver \(driver.rawValue)",
                    stampede,
                ])
            #expect(try process.waitForExit() == .exited(1))
            let line = try #require(process.errorLines.last)
            #expect(line.contains("address space") && line.contains("ulimit -v"), "\(process.errorLines)")
            #expect(!line.contains("addressSpaceRefused"), "\(line)")
        }

        /// 0: all went well; 1: it could not run, or something was wrong; 2: the command line is wrong.
        @Test(arguments: [
            ("stampede", ["--version"], 0), ("stampede", ["tap", "/topic/a", "--host", "127.0.0.1:9"], 1),
            ("stampede", ["serve", "--unknown"], 2),
            ("stampede-bench", ["--help"], 0), ("stampede-bench", ["run", "queue", "--port", "9"], 1),
            ("stampede-bench", ["run", "--unknown"], 2), ("stampede-bench", ["run", "queue", "--window", "3"], 2),
            ("stampede-simulate", ["--seeds", "1..2"], 0),
            ("stampede-simulate", ["--seeds", "1..2", "--require-strikes", "1000000"], 1),
            ("stampede-simulate", ["--seeds", "2..1"], 2), ("stampede-simulate", ["--unknown"], 2),
        ])
        func `All programs use the same exit codes`(
            _ example: (program: String, arguments: [String], code: Int32)
        ) throws {
            let process = try ChildProcess(BuildDirectory.path(of: example.program), example.arguments)
            #expect(try process.waitForExit() == .exited(example.code), "\(process.errorLines)")
        }

        @Test func `stampede-bench says that there is no server`() throws {
            let process = try ChildProcess(BuildDirectory.path(of: "stampede-bench"), ["run", "queue", "--port", "9"])
            #expect(try process.waitForExit() == .exited(1))
            #expect(process.errorLines.count == 1 && process.errorLines[0].contains("no server answers on 127.0.0.1:9"))
            #expect(process.outputLines.isEmpty)
        }

        @Test(arguments: drivers)
        func `tap with a count leaves the rest as it was`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess.shared(BrokerProcess.Settings(driver))
            let queue = unique("/queue/tapped")
            let client = try RawClient(broker, .v1_2)
            for body in ["1", "2"] { try client.perform("SEND", ["destination": queue], body: body) }
            let arguments = ["tap", queue, "--host", "127.0.0.1:\(broker.port)", "--count", "1"]
            let tap = try ChildProcess(BuildDirectory.path(of: "stampede"), arguments)
            #expect(try tap.waitForExit() == .exited(0))
            #expect(tap.outputLines == ["1"])
            try client.subscribe(to: queue)
            try client.expectMessage("2")
        }
    }
}
