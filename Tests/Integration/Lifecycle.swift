import Glibc
import TestSupport
import Testing

/// Starting, failing to start, and ending.
extension Integration {
    @Suite("Lifecycle")
    struct Lifecycle {
        private func connectSucceeds(_ broker: BrokerProcess) -> Bool { (try? RawClient(broker)) != nil }

        @Test(arguments: drivers)
        func `One ready line names address, driver and workers`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2))
            #expect(broker.readyLine.contains("127.0.0.1:\(broker.port)"))
            #expect(broker.readyLine.contains(driver.rawValue))
            #expect(broker.readyLine.firstMatch(of: /workers\D{0,3}2\b/) != nil, "\(broker.readyLine)")
            try RawClient(broker, .v1_2).expectNothing()
            #expect(broker.process.errorLines.filter { $0.contains("ready") }.count == 1)
            #expect(broker.process.outputBytes.isEmpty)
        }

        @Test(arguments: drivers, [SIGTERM, SIGINT, SIGQUIT])
        func `A signal ends an idle broker with exit code 0`(on driver: DriverUnderTest, _ signal: Int32) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2))
            broker.process.signal(signal)
            #expect(try broker.process.waitForExit() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A signal ends a broker with clients with exit code 0`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2))
            let clients = try (0..<20).map { _ in try RawClient(broker, .v1_2) }
            for client in clients { try client.subscribe(to: "/topic/a") }
            try clients[0].publish(to: "/topic/a", "the last")
            #expect(try broker.terminate() == .exited(0))
            for client in clients {
                try client.expectMessage("the last")
                try client.expectCut()
            }
        }

        /// A broker whose drain would take ten minutes: its subscriber does not read the seven messages of 1 MiB that it has.
        private func brokerWithSleeper(
            _ driver: DriverUnderTest
        ) throws -> (broker: BrokerProcess, sleeper: RawClient) {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, ["limits.drain-timeout-ms": "600000"]))
            let sleeper = try RawClient(broker, .v1_2, receiveBufferByteCount: 4096)
            try sleeper.subscribe(to: "/topic/a")
            let publisher = try RawClient(broker, .v1_2)
            let body = [UInt8](repeating: 120, count: 1 << 20)
            for _ in 0..<7 { try publisher.perform("SEND", ["destination": "/topic/a"], body: body) }
            return (broker, sleeper)
        }

        @Test(arguments: drivers, [SIGTERM, SIGINT])
        func `A second signal ends it at once`(on driver: DriverUnderTest, _ signal: Int32) throws {
            let (broker, sleeper) = try brokerWithSleeper(driver)
            broker.process.signal(signal)
            _ = try #require(broker.process.errorLine { $0.contains("drain") })
            #expect(broker.process.status == nil)
            broker.process.signal(signal)
            #expect(try broker.process.waitForExit() != .exited(0))
            withExtendedLifetime(sleeper) {}
        }

        /// SIGHUP means "reload" to everybody: who sends it must not lose the queues where there is nothing to read again.
        @Test(arguments: drivers, [1, 2])
        func `SIGHUP and SIGUSR2 end nothing, and SIGHUP is logged`(
            on driver: DriverUnderTest, _ workers: Int
        ) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: workers))
            let client = try RawClient(broker, .v1_2)
            try client.perform("SEND", ["destination": "/queue/kept"], body: "kept")
            broker.process.signal(SIGUSR2)
            broker.process.signal(SIGHUP)
            let line = try #require(try broker.process.errorLine { $0.contains("SIGHUP") })
            #expect(line.contains("warning") && line.contains("no effect"), "\(line)")
            try client.subscribe(to: "/queue/kept")
            try client.expectMessage("kept")
            #expect(!broker.process.errorLines.contains { $0.contains("draining") })
            #expect(try broker.terminate() == .exited(0))
        }

        /// What a supervisor or a shell sends after it has asked for the end.
        @Test(arguments: drivers, [SIGHUP, SIGQUIT, SIGUSR2])
        func `Only SIGTERM and SIGINT cut a drain short`(on driver: DriverUnderTest, _ second: Int32) throws {
            let (broker, sleeper) = try brokerWithSleeper(driver)
            broker.process.signal(SIGQUIT)
            let line = try #require(try broker.process.errorLine { $0.contains("drain") })
            #expect(line.contains("SIGQUIT"), "\(line)")
            broker.process.signal(second)
            for _ in 0..<7 { #expect(try sleeper.expectMessage().body.count == 1 << 20) }
            #expect(try broker.process.waitForExit() == .exited(0))
        }

        @Test(arguments: drivers)
        func `Under nohup SIGHUP stays ignored`(on driver: DriverUnderTest) throws {
            let process = try ChildProcess(
                "nohup",
                [
                    BuildDirectory.path(of: "stampede"), "serve", "--listen", "127.0.0.1:0", "--driver",
                    driver.rawValue,
                ])
            _ = try #require(try process.errorLine { $0.contains("ready") })
            // Of signals that wait, the least number is taken first: once SIGUSR1 is answered, SIGHUP has been.
            process.signal(SIGHUP)
            process.signal(SIGUSR1)
            _ = try #require(try process.errorLine { $0.contains("connections-now=") })
            process.signal(SIGTERM)
            #expect(try process.waitForExit() == .exited(0))
            #expect(process.errorLines.filter { $0.contains("draining") }.count == 1, "\(process.errorLines)")
            #expect(!process.errorLines.contains { $0.contains("SIGHUP") }, "\(process.errorLines)")
            #expect(process.errorLines.contains { $0.contains("draining signal=SIGTERM") }, "\(process.errorLines)")
        }

        @Test(arguments: drivers)
        func `While it drains it accepts nobody`(on driver: DriverUnderTest) throws {
            let (broker, sleeper) = try brokerWithSleeper(driver)
            broker.process.signal(SIGTERM)
            // A connection that the kernel had taken before it knew may still be made, and then ends.
            let deadline = Deadline()
            while connectSucceeds(broker) { try #require(!deadline.isOver, "it still accepts") }
            // The sleeper wakes, gets all that was due, and with it the drain is over.
            for _ in 0..<7 { #expect(try sleeper.expectMessage().body.count == 1 << 20) }
            #expect(try broker.process.waitForExit() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A new broker binds the port of the last at once`(on driver: DriverUnderTest) throws {
            var settings = BrokerProcess.Settings(driver, workers: 2)
            var broker = try BrokerProcess(settings)
            settings.address = "127.0.0.1:\(broker.port)"
            for isOrderly in [true, false, true] {
                // Open connections leave TIME_WAIT and worse behind.
                let clients = try (0..<10).map { _ in try RawClient(broker, .v1_2) }
                if isOrderly {
                    _ = try broker.terminate()
                } else {
                    broker.process.signal(SIGKILL)
                    try broker.process.waitForExit()
                }
                broker = try BrokerProcess(settings)
                try RawClient(broker, .v1_2).expectNothing()
                withExtendedLifetime(clients) {}
            }
        }

        /// Listeners of one process share their port among its workers; two brokers must not.
        @Test(arguments: drivers)
        func `A port that is taken is exit code 1 and one line`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2))
            let second = try BrokerProcess.start(
                BrokerProcess.Settings(driver, workers: 2, address: "127.0.0.1:\(broker.port)"))
            #expect(try second.waitForExit() == .exited(1))
            #expect(second.errorLines.count == 1, "\(second.errorLines)")
            #expect(second.errorLines.last?.contains("\(broker.port)") == true, "\(second.errorLines)")
            try RawClient(broker, .v1_2).expectNothing()
        }

        /// One line that says where, what was found and what is allowed.
        @Test(arguments: [
            (["limits.no-such-key": "1"], "", "no-such-key"),
            (["io.workers": "many"], "", "io.workers"),
            (["limits.body-bytes": "65MiB"], "", "limits.body-bytes"),
            ([:], "io:\n  wokers: 2\n", "wokers"),
            ([:], "limits:\n  body-bytes: [1]\n", "limits.body-bytes"),
            ([:], "io: {\n", ""),
        ])
        func `A bad configuration is exit code 2 and one line`(
            _ example: (values: [String: String], file: String, key: String)
        ) throws {
            let process = try BrokerProcess.start(
                BrokerProcess.Settings(.epoll, example.values, file: example.file))
            #expect(try process.waitForExit() == .exited(2))
            #expect(process.errorLines.count == 1, "\(process.errorLines)")
            #expect(process.errorLines.first?.contains(example.key) == true, "\(process.errorLines)")
        }

        @Test func `An address that cannot be bound is exit code 1 and one line`() throws {
            let process = try BrokerProcess.start(BrokerProcess.Settings(.epoll, address: "192.0.2.1:61613"))
            #expect(try process.waitForExit() == .exited(1))
            // The warning about an address that is not loopback comes first.
            #expect(process.errorLines.filter { $0.contains("error") }.count == 1, "\(process.errorLines)")
            #expect(process.errorLines.last?.contains("192.0.2.1:61613") == true)
        }

        /// While no users are configured, who reaches the listener is let in.
        @Test func `A listener that is not loopback earns a warning`() throws {
            let process = try BrokerProcess.start(BrokerProcess.Settings(.epoll, address: "0.0.0.0:0"))
            _ = try #require(process.errorLine { $0.contains("ready") })
            #expect(process.errorLines.contains { $0.contains("warning") && $0.contains("0.0.0.0") })
            process.signal(SIGTERM)
            #expect(try process.waitForExit() == .exited(0))
        }

        @Test(arguments: drivers)
        func `The log can be JSON, one object a line`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, logFormat: "json"))
            let client = try RawClient(broker, .v1_2)
            try client.send("FOO\u{1b}[2J\n\n\0")
            try client.expectError()
            _ = try broker.terminate()
            for line in broker.process.errorLines {
                #expect(line.hasPrefix("{") && line.hasSuffix("}"), "\(line)")
                #expect(!line.unicodeScalars.contains { $0.value < 0x20 }, "\(line)")
            }
        }

        /// Out of descriptors it refuses newcomers and keeps those who are in; and when some leave there is room again.
        @Test(arguments: drivers)
        func `Running out of descriptors refuses newcomers and keeps those who are in`(
            on driver: DriverUnderTest
        ) throws {
            var settings = BrokerProcess.Settings(driver)
            settings.descriptorCountMax = 160
            let broker = try BrokerProcess(settings)
            var clients: [RawClient] = []
            while clients.count < 200, let client = try? RawClient(broker, .v1_2) { clients.append(client) }
            try #require((16..<160).contains(clients.count), "\(clients.count)")
            for client in clients { try client.subscribe(to: "/topic/full") }
            try clients[0].publish(to: "/topic/full", "still here")
            for client in clients { try client.expectMessage("still here") }
            for _ in 0..<8 { try clients.removeLast().disconnect() }
            // The places are free once the broker has seen the clients' ends.
            let deadline = Deadline()
            while (try? RawClient(broker, .v1_2)) == nil { try #require(!deadline.isOver, "no room again") }
            for client in clients { try client.expectNothing() }
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
