import Glibc
import TestSupport
import Testing

/// Listeners: Unix sockets, and options of one listener.
extension Integration {
    @Suite("Listeners")
    struct Listeners {
        private static let socket = "broker.sock"

        /// A broker on a free port and on a Unix socket in `directory`.
        private func broker(
            _ driver: DriverUnderTest, workers: Int, in directory: TemporaryDirectory, options: String = ""
        ) throws -> BrokerProcess {
            let url = "unix:\(directory.path)/\(Self.socket)\(options)"
            return try BrokerProcess(
                BrokerProcess.Settings(driver, workers: workers, address: "127.0.0.1:0,\(url)"))
        }

        private func stampede(_ arguments: [String], input: String? = nil) throws -> ChildProcess {
            var options = ChildProcess.Options()
            options.standardInput = input.map { Array($0.utf8) }
            return try ChildProcess(BuildDirectory.path(of: "stampede"), arguments, options)
        }

        @Test(arguments: drivers, [1, 2])
        func `Clients of a Unix socket and of TCP speak with each other`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let directory = try TemporaryDirectory()
            let broker = try broker(driver, workers: workers, in: directory)
            let path = "\(directory.path)/\(Self.socket)"
            #expect(broker.readyLine.contains("unix:\(path)"), "\(broker.readyLine)")
            let local = try (0..<8).map { _ in try RawClient(unix: path, .v1_2) }
            let remote = try RawClient(broker, .v1_2)
            for client in local { try client.subscribe(to: "/topic/news") }
            try remote.publish(to: "/topic/news", "hello")
            for client in local { try client.expectMessage("hello") }
            try remote.subscribe(to: "/queue/back")
            for client in local { try client.publish(to: "/queue/back", "here") }
            for _ in local { try remote.expectMessage("here") }
            for client in local { try client.disconnect() }
        }

        @Test(arguments: drivers, [1, 2])
        func `tap and sink take the URL of a Unix socket`(on driver: DriverUnderTest, _ workers: Int) throws {
            let directory = try TemporaryDirectory()
            let broker = try broker(driver, workers: workers, in: directory)
            let url = "unix:\(directory.path)/\(Self.socket)"
            let lines = (0..<500).map { "line \($0)" }
            let sink = try stampede(
                ["sink", "/queue/lines", "--url", url, "--persistent"], input: lines.joined(separator: "\n"))
            #expect(try sink.waitForExit() == .exited(0), "\(sink.errorLines)")
            let tap = try stampede(["tap", "/queue/lines", "--url", url, "--count", "500"])
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            #expect(tap.outputLines == lines)
            withExtendedLifetime(broker) {}
        }

        @Test(arguments: drivers, [1, 2])
        func `tap and sink speak WebSocket`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(driver, workers: workers, address: "127.0.0.1:0,ws://127.0.0.1:0"))
            let address = try #require(broker.readyLine.firstMatch(of: /ws:\/\/127\.0\.0\.1:\d+/)).0
            let lines = (0..<500).map { "line \($0) with an ä, and \(String(repeating: "x", count: $0))" }
            let sink = try stampede(
                ["sink", "/queue/lines", "--url", String(address)], input: lines.joined(separator: "\n"))
            #expect(try sink.waitForExit() == .exited(0), "\(sink.errorLines)")
            let tap = try stampede(["tap", "/queue/lines", "--url", "\(address)/stomp", "--count", "500"])
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            #expect(tap.outputLines == lines)
            let lost = try stampede(["tap", "/queue/lines", "--url", "\(address)/nowhere"])
            #expect(try lost.waitForExit() == .exited(1))
            #expect(lost.errorLines.first?.contains("404 Not Found") == true, "\(lost.errorLines)")
        }

        @Test(arguments: drivers)
        func `The socket has its mode, and is removed at the end of the broker`(on driver: DriverUnderTest) throws {
            let directory = try TemporaryDirectory()
            let broker = try broker(driver, workers: 2, in: directory, options: "?mode=0600")
            var status = stat()
            #expect(stat("\(directory.path)/\(Self.socket)", &status) == 0 && status.st_mode & 0o777 == 0o600)
            let client = try RawClient(unix: "\(directory.path)/\(Self.socket)", .v1_2)
            #expect(try broker.terminate() == .exited(0))
            #expect(!directory.contains(Self.socket))
            try client.expectCut()
        }

        @Test(arguments: drivers)
        func `A broker replaces the socket of one that was killed, and not that of one that lives`(
            on driver: DriverUnderTest
        ) throws {
            let directory = try TemporaryDirectory()
            let first = try broker(driver, workers: 1, in: directory)
            first.process.signal(SIGKILL)
            try first.process.waitForExit()
            #expect(directory.contains(Self.socket))
            let second = try broker(driver, workers: 1, in: directory)
            let third = try BrokerProcess.start(
                BrokerProcess.Settings(driver, address: "unix:\(directory.path)/\(Self.socket)"))
            #expect(try third.waitForExit() == .exited(1))
            #expect(third.errorLines.contains { $0.contains("another process listens there") }, "\(third.errorLines)")
            _ = try RawClient(unix: "\(directory.path)/\(Self.socket)", .v1_2)
            withExtendedLifetime(second) {}
        }

        @Test(arguments: drivers)
        func `A line about a client of a Unix socket names its user and process`(on driver: DriverUnderTest) throws {
            let directory = try TemporaryDirectory()
            let broker = try broker(driver, workers: 1, in: directory)
            let client = try RawClient(unix: "\(directory.path)/\(Self.socket)", .v1_2)
            try client.send("SEND", [:])
            let line = try #require(try broker.process.errorLine { $0.contains("protocol error") })
            #expect(line.contains("uid \(getuid()), gid \(getgid()), pid \(getpid())"), "\(line)")
            #expect(line.contains("listener=unix:\(directory.path)/\(Self.socket)"), "\(line)")
            #expect(!line.contains("address="), "\(line)")
        }

        @Test(arguments: drivers, [1, 2])
        func `A listener takes no more connections than its own limit`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let directory = try TemporaryDirectory()
            let path = "\(directory.path)/\(Self.socket)"
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver, workers: workers,
                    file: "listeners:\n  - 127.0.0.1:0\n  - {url: \"unix:\(path)\", connections-max: 2}\n", address: "")
            )
            let clients = try (0..<2).map { _ in try RawClient(unix: path, .v1_2) }
            #expect(throws: Failure.self) { _ = try RawClient(unix: path, .v1_2) }
            let line = try #require(try broker.process.errorLine { $0.contains("connection refused") })
            #expect(line.contains("the listener has 2 connections already"), "\(line)")
            _ = try RawClient(broker, .v1_2)
            try clients[0].disconnect()
            let counters = try broker.counters(workers: workers)
            #expect(counters["refused"] == 1 && counters["limit.connections-max"] == 1, "\(counters)")
        }

        @Test func `Where users have passwords, listeners without TLS that others can reach are warned of`() throws {
            let secret = try TemporaryFile(holding: String(repeating: "x", count: 48))
            let files = TestCertificates.shared
            let values = [
                "access.jwt.secret-file": secret.path, "tls.certificate": files.file("server.pem"),
                "tls.key": files.file("server.key"),
            ]
            let address = "127.0.0.1:0,0.0.0.0:0,ws://0.0.0.0:0,stomps://0.0.0.0:0,ws://127.0.0.1:0"
            let broker = try BrokerProcess(BrokerProcess.Settings(.epoll, values, address: address))
            let warnings = broker.process.errorLines.filter { $0.contains("travel in the clear") }
            #expect(warnings.count == 2, "\(warnings)")
            #expect(
                warnings.first?.contains(
                    """
                    warning  other machines can reach 0.0.0.0:0, where passwords and tokens travel in the clear; listen \
                    on stomps:// with tls.certificate, or on 127.0.0.1 behind a proxy that ends TLS
                    """) == true, "\(warnings)")
            #expect(warnings.last?.contains("ws://0.0.0.0:0") == true && warnings.last?.contains("wss://") == true)
            #expect(!broker.process.errorLines.contains { $0.contains("any login is accepted") })
            #expect(try broker.terminate() == .exited(0))
        }

        @Test func `A Unix socket that cannot be made ends the broker with the reason`() throws {
            let directory = try TemporaryDirectory()
            let broker = try BrokerProcess.start(
                BrokerProcess.Settings(.epoll, address: "unix:\(directory.path)/none/\(Self.socket)"))
            #expect(try broker.waitForExit() == .exited(1))
            #expect(broker.errorLines.contains { $0.contains("its directory does not exist") }, "\(broker.errorLines)")
        }
    }
}
