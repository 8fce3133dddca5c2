import Glibc
import TestSupport
import Testing

/// What the log tells an operator.
extension Integration {
    @Suite("Reports")
    struct Reports {
        @Test(arguments: drivers)
        func `The counters at SIGUSR1 and at the end are those of the driver too`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2))
            let counters = try broker.counters(workers: 2)
            #expect(counters["completion-queue-overflows"] == 0)
            #expect(counters["receive-buffers-exhausted"] == 0)
            #expect(counters["log-lines-suppressed"] == 0)
            #expect(try broker.terminate() == .exited(0))
            let last = try #require(broker.process.errorLines.last { $0.contains("stopped") })
            for name in ["completion-queue-overflows", "receive-buffers-exhausted", "log-lines-suppressed"] {
                #expect(last.contains(" \(name)=0"), "\(last)")
            }
        }

        #if URing
            @Test(.enabled(if: DriverUnderTest.uring.absenceReason == nil, "no io_uring here"))
            func `Receives that found no buffer are in the report`() throws {
                let broker = try BrokerProcess(
                    BrokerProcess.Settings(
                        .uring,
                        [
                            "io.uring.receive-mode": "multishot", "io.uring.receive-buffers.count": "16",
                            "limits.linger-ms": "50",
                        ]))
                let clients = try (0..<64).map { _ in try RawClient(broker, .v1_2) }
                // All of them have something to say when the broker looks next.
                broker.process.signal(SIGSTOP)
                for client in clients { try client.send("SEND", ["destination": "/topic/a"], body: "hello") }
                broker.process.signal(SIGCONT)
                for client in clients { try client.expectNothing() }
                #expect(try broker.counters()["receive-buffers-exhausted"] ?? 0 > 0)
                #expect(try broker.terminate() == .exited(0))
                let last = try #require(broker.process.errorLines.last { $0.contains("stopped") })
                #expect(last.firstMatch(of: /\breceive-buffers-exhausted=[1-9]/) != nil, "\(last)")
            }
        #endif

        @Test(arguments: drivers)
        func `What there was too much of for the log is counted`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(driver, ["limits.connections-per-address-max": "1", "limits.linger-ms": "50"]))
            let client = try RawClient(broker, .v1_2)
            let refusedCount = 60
            for _ in 0..<refusedCount { try RawClient(broker).expectCut() }
            let suppressedCount = try #require(try broker.counters()["log-lines-suppressed"])
            let lines = broker.process.errorLines.filter { $0.contains("connection refused") }
            let summary = try #require(
                try broker.process.errorLine { $0.contains("lines like this within a second") })
            #expect(summary.contains("connection refused: "), "\(summary)")
            let refusals = lines.filter { !$0.contains("lines like this") }
            #expect(refusals.count + suppressedCount == refusedCount)
            #expect(refusals.allSatisfy { $0.contains("address=127.0.0.1:") }, "\(refusals)")
            // Who was never taken in has no number.
            #expect(!lines.contains { $0.contains("connection=") })
            try client.disconnect()
        }

        @Test(arguments: drivers)
        func `The line about a slow consumer names the client, its subscription and the destination`(
            on driver: DriverUnderTest
        ) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, ["limits.output-bytes": "2MiB"]))
            let sleeper = try RawClient(broker, .v1_2, receiveBufferByteCount: 4096)
            try sleeper.subscribe(to: "/topic/a")
            let publisher = try RawClient(broker, .v1_2)
            let body = [UInt8](repeating: 120, count: 100_000)
            for _ in 0..<200 { try publisher.perform("SEND", ["destination": "/topic/a"], body: body) }
            try sleeper.expectCut()
            let line = try #require(try broker.process.errorLine { $0.contains("slow consumer disconnected") })
            for field in [
                /\bconnection=[1-9]/, /\baddress=127\.0\.0\.1:[0-9]+/, /\bsession=session-/,
                /\bdestination=\/topic\/a\b/, /\bsubscription=[^ ]/,
            ] { #expect(line.firstMatch(of: field) != nil, "\(line)") }
        }

        @Test(arguments: drivers)
        func `Where there are several listeners, a line names the one where the client came in, with either worker`(
            on driver: DriverUnderTest
        ) throws {
            // The second client is handed on: each worker has room for one.
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver, workers: 2, ["limits.connections-max": "1"], address: "127.0.0.1:0,127.0.0.2:0"))
            let clients = try (0..<2).map { _ in try RawClient(broker, .v1_2) }
            for client in clients { try client.send("SEND", [:]) }
            var workers: Set<Substring> = []
            for _ in clients {
                let line = try #require(
                    try broker.process.errorLine { line in
                        guard line.contains("protocol error"), let match = line.firstMatch(of: /worker=([0-9])/) else {
                            return false
                        }
                        return !workers.contains(match.1)
                    })
                workers.insert(try #require(line.firstMatch(of: /worker=([0-9])/)).1)
                #expect(line.contains("listener=127.0.0.1:\(broker.port) "), "\(line)")
            }
        }

        @Test(arguments: drivers)
        func `A line about a client has a number that no other has, and its login but not its passcode`(
            on driver: DriverUnderTest
        ) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver))
            var numbers: Set<Substring> = []
            for count in 1...3 {
                let client = try RawClient(broker)
                try client.send(
                    "CONNECT", ["accept-version": "1.2", "host": "h", "login": "alice", "passcode": "secret-word"])
                try client.send("SEND", [:])
                let line = try #require(
                    try broker.process.errorLine {
                        guard $0.contains("protocol error"), let match = $0.firstMatch(of: /connection=([0-9]+)/) else {
                            return false
                        }
                        return !numbers.contains(match.1)
                    })
                numbers.insert(try #require(line.firstMatch(of: /connection=([0-9]+)/)).1)
                #expect(line.contains("login=alice"), "\(line)")
                #expect(!line.contains("secret-word"))
                #expect(numbers.count == count)
                client.close()
            }
        }

        @Test(arguments: drivers)
        func `At SIGUSR1 the totals come first, then each worker's figures`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, workers: 2))
            _ = try broker.counters(workers: 2)
            let lines = broker.process.errorLines.filter { $0.contains("connections-now=") }
            #expect(lines.count == 3)
            #expect(lines.first?.contains("counters of all workers") == true, "\(lines)")
        }
    }
}
