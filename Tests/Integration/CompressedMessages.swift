import TestSupport
import Testing

/// Clients whose libraries compress messages, on listeners that do (permessage-deflate).
extension Interoperability {
    @Suite("Compressed messages")
    struct CompressedMessages {
        /// How a listener compresses.
        enum Way: String, CaseIterable {
            case frugal = ""
            case withContext = ", compression-context: true"
            case withSmallContext = ", compression-context: true, compression-window-bits: 10"
        }

        private static let files = TestCertificates.shared

        private func broker(_ driver: DriverUnderTest, _ way: Way) throws -> BrokerProcess {
            try BrokerProcess(
                BrokerProcess.Settings(
                    driver,
                    ["tls.certificate": Self.files.file("server.pem"), "tls.key": Self.files.file("server.key")],
                    file: """
                        listeners:
                          - {url: "ws://127.0.0.1:0", compression: true\(way.rawValue)}
                          - {url: "wss://127.0.0.1:0", compression: true\(way.rawValue)}

                        """, address: ""))
        }

        private func run(
            _ program: ClientProgram, _ name: String, _ driver: DriverUnderTest, _ way: Way, schemes: [String]
        ) throws {
            let broker = try broker(driver, way)
            for scheme in schemes {
                try program.run(
                    "\(scheme)://localhost:\(broker.port(of: scheme))/ws", name,
                    environment: ["CA": Self.files.file("ca.pem"), "COMPRESSION": "1"])
            }
            let counters = try broker.counters()
            #expect(counters["websocket-errors", default: 0] == (name == "bad_utf8" ? schemes.count : 0))
            if name != "bad_utf8" {
                #expect(counters["inflated-to-bytes", default: 0] > 0)
                #expect(counters["deflated-to-bytes", default: .max] < counters["deflated-from-bytes", default: 0])
            }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            .enabled(if: ClientProgram.websockets.isInstalled, "python3-websockets is missing: run Config/setup tests"),
            arguments: drivers, Way.allCases)
        func `Python's websockets works`(on driver: DriverUnderTest, _ way: Way) throws {
            try run(.websockets, "conversation", driver, way, schemes: ["ws", "wss"])
            try run(.websockets, "long_messages", driver, way, schemes: ["ws", "wss"])
        }

        @Test(
            .enabled(if: ClientProgram.nodeWS.isInstalled, "node-ws is missing: run Config/setup tests"),
            arguments: drivers, Way.allCases)
        func `Node's ws works`(on driver: DriverUnderTest, _ way: Way) throws {
            try run(.nodeWS, "conversation", driver, way, schemes: ["ws", "wss"])
            try run(.nodeWS, "long_messages", driver, way, schemes: ["ws", "wss"])
            try run(.nodeWS, "bad_utf8", driver, way, schemes: ["ws"])
        }

        @Test(
            .enabled(if: ClientProgram.browser.isInstalled, "chromium is missing: run Config/setup tests"),
            arguments: drivers, [Way.frugal, .withContext])
        func `A browser works`(on driver: DriverUnderTest, _ way: Way) throws {
            let broker = try broker(driver, way)
            let profile = try TemporaryFolder()
            let lines = try ClientProgram.browser.run(
                "ws://localhost:\(broker.port(of: "ws"))/ws", "localhost", "0", profile.path)
            #expect(lines.last == "done v12.stomp 1000 true", "\(lines)")
            let counters = try broker.counters()
            #expect(counters["inflated-to-bytes", default: 0] > 200_000)
            #expect(counters["deflated-from-bytes", default: 0] > 200_000)
            #expect(counters["deflated-to-bytes", default: .max] < 100_000)
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
