import TestSupport
import Testing

/// A shell pipe into netcat: no library at all, and half-close as the end of what it says.
extension Interoperability {
    @Suite("Netcat")
    struct Netcat {
        private static let isInstalled = (try? ChildProcess("nc", ["-h"]).waitForExit()) == .exited(0)

        /// What `printf conversation | nc -N 127.0.0.1 port` prints.
        private func netcat(_ conversation: String, _ driver: DriverUnderTest) throws -> [UInt8] {
            let broker = try BrokerProcess.shared(BrokerProcess.Settings(driver))
            var options = ChildProcess.Options()
            options.standardInput = Array(conversation.utf8)
            let process = try ChildProcess("nc", ["-N", "127.0.0.1", "\(broker.port)"], options)
            #expect(try process.waitForExit() == .exited(0))
            return process.outputBytes
        }

        @Test(.enabled(if: isInstalled, "netcat is missing: run Config/setup tests"), arguments: drivers)
        func `A pipe into netcat publishes and receives`(on driver: DriverUnderTest) throws {
            let topic = unique("/topic/netcat")
            let output = try netcat(
                "CONNECT\n\n\0\nSUBSCRIBE\ndestination:\(topic)\n\n\0\nSEND\ndestination:\(topic)\n\nhello\n\0\n",
                driver)
            let text = String(decoding: output, as: UTF8.self)
            #expect(text.hasPrefix("CONNECTED\n"))
            #expect(text.contains("MESSAGE\n") && text.hasSuffix("\n\nhello\n\0\n"))
        }

        /// What one leaves in a queue another finds.
        @Test(.enabled(if: isInstalled, "netcat is missing: run Config/setup tests"), arguments: drivers)
        func `One pipe fills a queue and another empties it`(on driver: DriverUnderTest) throws {
            let queue = unique("/queue/netcat")
            let sends = (0..<100).map { "SEND\ndestination:\(queue)\n\nline \($0)\0\n" }.joined()
            _ = try netcat("CONNECT\n\n\0\n" + sends, driver)
            let output = try netcat("CONNECT\n\n\0\nSUBSCRIBE\ndestination:\(queue)\n\n\0\n", driver)
            let bodies = output.split(separator: 0).compactMap {
                String(decoding: $0, as: UTF8.self).split(separator: "\n\n").last.map(String.init)
            }
            #expect(bodies.filter { $0.hasPrefix("line ") } == (0..<100).map { "line \($0)" })
        }

        @Test(.enabled(if: isInstalled, "netcat is missing: run Config/setup tests"), arguments: drivers)
        func `A pipe that talks nonsense gets an ERROR and ends`(on driver: DriverUnderTest) throws {
            #expect(try String(decoding: netcat("hello there\n\n\0", driver), as: UTF8.self).hasPrefix("ERROR\n"))
        }
    }
}
