import TestSupport
import Testing

/// A real browser: pages that may connect, and pages that may not.
extension Interoperability {
    @Suite("Browsers", .enabled(if: ClientProgram.browser.isInstalled, "chromium is missing: run Config/setup tests"))
    struct Browsers {
        private func broker(_ driver: DriverUnderTest, origins: String = "[]") throws -> BrokerProcess {
            let files = TestCertificates.shared
            return try BrokerProcess(
                BrokerProcess.Settings(
                    driver,
                    [
                        "tls.certificate": files.file("server.pem"), "tls.key": files.file("server.key"),
                        "log.level": "info",
                    ],
                    file: """
                        listeners:
                          - {url: "ws://127.0.0.1:0", origins: \(origins)}
                          - {url: "wss://127.0.0.1:0", origins: \(origins)}

                        """, address: ""))
        }

        /// Opens a page of `host` that speaks with the broker. Returns the page's origin, and what it has reported.
        private func visit(
            _ host: String, port: UInt16 = 0, _ broker: BrokerProcess, _ scheme: String
        ) throws -> [String] {
            let profile = try TemporaryFolder()
            let lines = try ClientProgram.browser.run(
                "\(scheme)://localhost:\(broker.port(of: scheme))/ws", host, "\(port)", profile.path)
            try #require(lines.count == 2, "\(lines)")
            return lines
        }

        private static let success = "done v12.stomp 1000 true"
        private static let refusal = "opening - 1006 false"

        @Test(arguments: drivers, ["ws", "wss"])
        func `A page of the broker's own host has a conversation`(on driver: DriverUnderTest, _ scheme: String) throws {
            let broker = try broker(driver)
            #expect(try visit("localhost", broker, scheme)[1] == Self.success)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A page of a site that is configured has a conversation`(on driver: DriverUnderTest) throws {
            let port = try freePort()
            let broker = try broker(driver, origins: "[\"http://*.example.org:\(port)\"]")
            #expect(try visit("shop.example.org", port: port, broker, "ws")[1] == Self.success)
            // Where sites are configured, they are the only ones.
            #expect(try visit("localhost", broker, "ws")[1] == Self.refusal)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers, ["ws", "wss"])
        func `A page of a stranger is refused, and told of in the log`(
            on driver: DriverUnderTest, _ scheme: String
        ) throws {
            let broker = try broker(driver)
            let lines = try visit("evil.example", broker, scheme)
            #expect(lines[1] == Self.refusal)
            let line = try broker.process.errorLine { $0.contains("may not connect (listeners[].origins)") }
            #expect(line?.contains("pages of the origin \(lines[0])") == true, "\(line ?? "")")
            #expect(line?.contains("address=127.0.0.1:") == true, "\(line ?? "")")
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
