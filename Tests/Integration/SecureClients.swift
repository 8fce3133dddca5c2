import IO
import TestSupport
import Testing

extension BrokerProcess {
    /// The port of the listener of that scheme, on 127.0.0.1.
    func port(of scheme: String) throws -> UInt16 {
        let pattern = try Regex("(?:^|[=,\"])\(scheme)://127\\.0\\.0\\.1:(\\d+)", as: (Substring, Substring).self)
        let match = try #require(readyLine.firstMatch(of: pattern), "\(readyLine)")
        return try #require(UInt16(match.1))
    }
}

/// Existing clients, unchanged, over TLS.
extension Interoperability {
    @Suite("Clients over TLS")
    struct SecureClients {
        private var files: TestCertificates { .shared }

        /// A broker with TLS on `schemes`, and nothing else.
        private func broker(
            _ driver: DriverUnderTest, _ schemes: String, _ values: [String: String] = [:]
        ) throws -> BrokerProcess {
            let pair = ["tls.certificate": files.file("server.pem"), "tls.key": files.file("server.key")]
            let address = schemes.split(separator: ",").map { "\($0)://127.0.0.1:0" }.joined(separator: ",")
            return try BrokerProcess(
                BrokerProcess.Settings(driver, workers: 2, pair.merging(values) { $1 }, address: address))
        }

        private static let cases = [
            "publish_and_subscribe", "ack_client_individual", "transactions", "binary_bodies", "unicode_headers",
            "errors",
        ]

        @Test(
            .enabled(if: ClientProgram.stompPy.isInstalled, "stomp.py 8 or 9 is missing: run Config/setup tests"),
            arguments: drivers, pairs([ProtocolVersion.v1_0, .v1_2], cases))
        func `stomp_py works with a certificate of its own`(
            on driver: DriverUnderTest, _ example: (version: ProtocolVersion, name: String)
        ) throws {
            let broker = try broker(
                driver, "stomps", ["tls.client-certificates": "required", "tls.client-ca": files.file("ca.pem")])
            let environment = [
                "TRANSPORT": "stomps", "CA": files.file("ca.pem"), "CERTIFICATE": files.file("alice.pem"),
                "KEY": files.file("alice.key"),
            ]
            try ClientProgram.stompPy.run(example.name, example.version, on: broker, environment: environment)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            .enabled(if: ClientProgram.rubyStomp.isInstalled, "ruby-stomp is missing: run Config/setup tests"),
            arguments: drivers, pairs([ProtocolVersion.v1_0, .v1_2], cases))
        func `ruby-stomp works`(
            on driver: DriverUnderTest, _ example: (version: ProtocolVersion, name: String)
        ) throws {
            let broker = try broker(driver, "stomps")
            try ClientProgram.rubyStomp.run(
                example.name, example.version, on: broker, environment: ["CA": files.file("ca.pem")])
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            .enabled(if: ClientProgram.phpStompTLS.isInstalled, "php-stomp is missing, or has no TLS, like Debian's"),
            arguments: drivers, pairs([ProtocolVersion.v1_0, .v1_2], cases))
        func `php-stomp works`(
            on driver: DriverUnderTest, _ example: (version: ProtocolVersion, name: String)
        ) throws {
            let broker = try broker(driver, "stomps")
            try ClientProgram.phpStompTLS.run(
                example.name, example.version, on: broker, environment: ["SCHEME": "ssl"])
            #expect(try broker.terminate() == .exited(0))
        }

        /// stomp.py reads in a thread of its own. With a ticket at the end of the handshake, one connection in some
        /// hundred lost its CONNECT (`TLSEngine.writeTicket`).
        @Test(
            .enabled(if: ClientProgram.stompPy.isInstalled, "stomp.py 8 or 9 is missing: run Config/setup tests"),
            arguments: drivers)
        func `stomp_py connects again and again, and loses no CONNECT`(on driver: DriverUnderTest) throws {
            let broker = try broker(driver, "stomps")
            let program = """
                import stomp
                host = [("localhost", \(broker.port))]
                for _ in range(100):
                    connection = stomp.Connection12(host)
                    connection.set_ssl(host, ca_certs="\(files.file("ca.pem"))")
                    connection.connect(wait=True)
                    connection.disconnect()
                print("done")
                """
            try ClientProgram.stompPy.run(program: program, prints: ["done"])
            #expect(try broker.terminate() == .exited(0))
        }

        // MARK: WebSocket

        private func uri(_ broker: BrokerProcess, _ scheme: String) throws -> String {
            "\(scheme)://localhost:\(try broker.port(of: scheme))/ws"
        }

        private var trust: [String: String] { ["CA": files.file("ca.pem")] }

        @Test(
            .enabled(if: ClientProgram.stompPyWeb.isInstalled, "stomp.py 8.1 is missing: run Config/setup tests"),
            arguments: drivers,
            pairs(
                ["ws", "wss"],
                [
                    "publish_and_subscribe", "ack_client_individual", "transactions", "receipts", "temporary_queues",
                    "unicode_headers", "errors",
                ]))
        func `WSStompConnection of stomp_py works`(
            on driver: DriverUnderTest, _ example: (scheme: String, name: String)
        ) throws {
            let broker = try broker(driver, "ws,wss")
            try ClientProgram.stompPyWeb.run(
                example.name, .v1_2, port: broker.port(of: example.scheme),
                environment: trust.merging(["TRANSPORT": example.scheme]) { $1 })
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            .enabled(if: ClientProgram.websockets.isInstalled, "python3-websockets is missing: run Config/setup tests"),
            arguments: drivers, ["conversation", "bound_version", "long_messages"])
        func `Python's websockets works over TLS`(on driver: DriverUnderTest, _ name: String) throws {
            let broker = try broker(driver, "wss")
            try ClientProgram.websockets.run(uri(broker, "wss"), name, environment: trust)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            .enabled(
                if: ClientProgram.webSocketClient.isInstalled, "python3-websocket is missing: run Config/setup tests"),
            arguments: drivers, pairs(["ws", "wss"], ["conversation", "long_messages", "origins", "errors"]))
        func `Python's websocket-client works`(
            on driver: DriverUnderTest, _ example: (scheme: String, name: String)
        ) throws {
            let broker = try broker(driver, "ws,wss")
            try ClientProgram.webSocketClient.run(uri(broker, example.scheme), example.name, environment: trust)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            .enabled(if: ClientProgram.nodeWS.isInstalled, "node-ws is missing: run Config/setup tests"),
            arguments: drivers, pairs(["ws", "wss"], ["conversation", "long_messages", "origins", "bad_utf8"]))
        func `Node's ws works`(on driver: DriverUnderTest, _ example: (scheme: String, name: String)) throws {
            let broker = try broker(driver, "ws,wss")
            try ClientProgram.nodeWS.run(uri(broker, example.scheme), example.name, environment: trust)
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
