import TestSupport
import Testing

/// WebSocket and the PROXY protocol on real sockets.
extension Interoperability {
    @Suite("Transports")
    struct Transports {
        @Test(
            .enabled(if: ClientProgram.websockets.isInstalled, "python3-websockets is missing: run Config/setup tests"),
            arguments: drivers, ["conversation", "bound_version", "long_messages", "origins"])
        func `Python's websockets works`(on driver: DriverUnderTest, _ name: String) throws {
            let broker = try BrokerProcess.shared(
                BrokerProcess.Settings(driver, workers: 2, address: "ws://127.0.0.1:0,127.0.0.1:0"))
            try ClientProgram.websockets.run("ws://127.0.0.1:\(broker.port)/ws", name)
        }

        private static func proxied(_ driver: DriverUnderTest, by networks: String) -> BrokerProcess.Settings {
            BrokerProcess.Settings(
                driver, ["limits.connections-per-address-max": "2", "log.level": "info"],
                file: """
                    listeners:
                      - url: 127.0.0.1:0
                        proxy-protocol: \(networks)

                    """, address: "")
        }

        private static let header = "PROXY TCP4 198.51.100.9 192.0.2.1 5000 61613\r\n"

        @Test(arguments: drivers, ["true", "[127.0.0.0/8]"])
        func `The address that a proxy names counts and is logged`(
            on driver: DriverUnderTest, _ networks: String
        ) throws {
            let broker = try BrokerProcess(Self.proxied(driver, by: networks))
            var clients: [RawClient] = []
            for _ in 0..<2 {
                let client = try RawClient(broker)
                try client.send(Self.header)
                try client.connect(.v1_2)
                clients.append(client)
            }
            // The third of one address is one too many; one of another address is not.
            let third = try RawClient(broker)
            try third.send(Self.header + "CONNECT\naccept-version:1.2\nhost:localhost\n\n\0")
            try third.expectCut()
            let other = try RawClient(broker)
            try other.send("PROXY TCP6 2001:db8::9 ::1 5 6\r\n")
            try other.connect(.v1_1)
            try other.send("NONSENSE\n\n\0")
            try other.expectError()
            let line = try broker.process.errorLine { $0.contains("protocol error") || $0.contains("NONSENSE") }
            #expect(line?.contains("address=[2001:db8::9]:5") == true && line?.contains("proxy=127.0.0.1:") == true)
            let refusal = try broker.process.errorLine { $0.contains("too many connections from this address") }
            #expect(refusal?.contains("address=198.51.100.9:5000") == true)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `Without a PROXY header, or from a stranger, nobody comes in`(on driver: DriverUnderTest) throws {
            let proxied = try BrokerProcess(Self.proxied(driver, by: "true"))
            let client = try RawClient(proxied)
            try client.send("CONNECT\naccept-version:1.2\nhost:localhost\n\n\0")
            try client.expectCut()
            #expect(try proxied.process.errorLine { $0.contains("does not begin with a PROXY header") } != nil)
            #expect(try proxied.terminate() == .exited(0))

            let broker = try BrokerProcess(Self.proxied(driver, by: "[10.0.0.0/8, \"fd00::/8\"]"))
            let stranger = try RawClient(broker)
            try stranger.send(Self.header + "CONNECT\naccept-version:1.2\nhost:localhost\n\n\0")
            try stranger.expectCut()
            #expect(try broker.process.errorLine { $0.contains("is not accepted from this address") } != nil)
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
