import Glibc
import TestSupport
import Testing

/// A kernel, or a container, that forbids io_uring.
extension Integration {
    @Suite("Fallback")
    struct Fallback {
        /// Container runtimes answer EPERM, old kernels ENOSYS.
        private static let refusals = [(EPERM, "EPERM"), (ENOSYS, "ENOSYS")]

        #if URing
            @Test(arguments: refusals)
            func `Where io_uring is forbidden, auto says why and serves with epoll`(
                _ refusal: (errno: Int32, name: String)
            ) throws {
                let broker = try BrokerProcess(
                    BrokerProcess.Settings(.epoll, workers: 2, ioUringErrno: refusal.errno, driverArgument: "auto"))
                #expect(broker.readyLine.contains("epoll"))
                let reasons = broker.process.errorLines.filter { $0.contains(refusal.name) }
                #expect(reasons.count == 1, "\(broker.process.errorLines)")
                let client = try RawClient(broker, .v1_2)
                try client.subscribe(to: "/queue/a", ack: "client")
                try client.publish(to: "/queue/a", "hello")
                try client.acknowledge(client.expectMessage("hello"))
                try client.disconnect()
                #expect(try broker.terminate() == .exited(0))
            }

            @Test(arguments: refusals)
            func `Where io_uring is forbidden, insisting on it is exit code 1 and one line`(
                _ refusal: (errno: Int32, name: String)
            ) throws {
                let process = try BrokerProcess.start(
                    BrokerProcess.Settings(.uring, ioUringErrno: refusal.errno))
                #expect(try process.waitForExit() == .exited(1))
                #expect(process.errorLines.count == 1, "\(process.errorLines)")
                #expect(process.errorLines.first?.contains(refusal.name) == true, "\(process.errorLines)")
            }

            @Test(arguments: refusals)
            func `Where io_uring is forbidden, probe says so and chooses epoll`(
                _ refusal: (errno: Int32, name: String)
            ) throws {
                var options = ChildProcess.Options()
                options.ioUringErrno = refusal.errno
                let process = try ChildProcess(BuildDirectory.path(of: "stampede"), ["probe"], options)
                #expect(try process.waitForExit() == .exited(0))
                let text = process.outputLines.joined(separator: "\n")
                #expect(text.contains(refusal.name), "\(text)")
                #expect(text.firstMatch(of: /(?m)^.*(choose|driver).*epoll/) != nil, "\(text)")
            }

            /// Of locked memory, in which the kernel counts rings: enough for one of the workers, or for some.
            private static let remedies = ["ulimit -l", "io.uring.sq-entries", "io.uring.cq-entries", "io.workers"]

            @Test(.enabled(if: DriverUnderTest.uring.absenceReason == nil, "no io_uring here"), arguments: [1, 4])
            func `Without memory for every worker's ring, auto says why and serves with epoll`(ringCount: Int) throws {
                var settings = BrokerProcess.Settings(
                    .epoll, workers: 8, ["limits.linger-ms": "50"], driverArgument: "auto")
                settings.lockedByteCountMax = ringCount << 20
                let broker = try BrokerProcess(settings)
                #expect(broker.readyLine.contains("epoll"))
                let reasons = broker.process.errorLines.filter { $0.contains("ENOMEM") }
                #expect(reasons.count == 1, "\(broker.process.errorLines)")
                for remedy in Self.remedies { #expect(reasons.first?.contains(remedy) == true, "\(reasons)") }
                let clients = try (0..<16).map { _ in try RawClient(broker, .v1_2) }
                for client in clients { try client.subscribe(to: "/topic/a") }
                try clients[0].publish(to: "/topic/a", "hello")
                for client in clients { try client.expectMessage("hello") }
                for client in clients { try client.disconnect() }
                #expect(try broker.terminate() == .exited(0))
            }

            @Test(.enabled(if: DriverUnderTest.uring.absenceReason == nil, "no io_uring here"))
            func `Without memory for every worker's ring, insisting on it is exit code 1 and one line`() throws {
                var settings = BrokerProcess.Settings(.uring, workers: 8)
                settings.lockedByteCountMax = 4 << 20
                let process = try BrokerProcess.start(settings)
                #expect(try process.waitForExit() == .exited(1))
                #expect(process.errorLines.count == 1, "\(process.errorLines)")
                for remedy in Self.remedies {
                    #expect(process.errorLines.first?.contains(remedy) == true, "\(process.errorLines)")
                }
            }

            @Test(.enabled(if: DriverUnderTest.uring.absenceReason == nil, "no io_uring here"))
            func `Where io_uring works, probe and auto choose it`() throws {
                let process = try ChildProcess(BuildDirectory.path(of: "stampede"), ["probe"])
                #expect(try process.waitForExit() == .exited(0))
                let text = process.outputLines.joined(separator: "\n")
                #expect(text.firstMatch(of: /(?m)^.*(choose|driver).*uring/) != nil, "\(text)")
                let broker = try BrokerProcess(BrokerProcess.Settings(.uring, driverArgument: "auto"))
                #expect(broker.readyLine.contains("uring"))
            }
        #else
            @Test func `The epoll build has no io_uring, and says so`() throws {
                let process = try ChildProcess(
                    BuildDirectory.path(of: "stampede"), ["serve", "--listen", "127.0.0.1:0", "--driver", "uring"])
                #expect(try process.waitForExit() != .exited(0))
                #expect(process.errorLines.count == 1, "\(process.errorLines)")
                let broker = try BrokerProcess(BrokerProcess.Settings(.epoll, driverArgument: "auto"))
                #expect(broker.readyLine.contains("epoll"))
            }
        #endif
    }
}
