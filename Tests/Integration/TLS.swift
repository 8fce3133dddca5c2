import Glibc
import IO
import TestSupport
import Testing

/// TLS: real clients, certificates, and what goes wrong with them.
extension Interoperability {
    @Suite("TLS")
    struct TLS {
        private var files: TestCertificates { .shared }

        /// A broker with listeners for STOMP and for WebSockets, both over TLS.
        private func broker(
            _ driver: DriverUnderTest, workers: Int = 2, _ values: [String: String] = [:],
            certificate: String = "server"
        ) throws -> BrokerProcess {
            var values = values
            values["tls.certificate"] = values["tls.certificate"] ?? files.file("\(certificate).pem")
            values["tls.key"] = values["tls.key"] ?? files.file("\(certificate).key")
            return try BrokerProcess(
                BrokerProcess.Settings(
                    driver, workers: workers, values, address: "stomps://127.0.0.1:0,wss://127.0.0.1:0"))
        }

        /// The port of the WebSocket listener.
        private func webPort(of broker: BrokerProcess) throws -> String {
            let match = try #require(broker.readyLine.firstMatch(of: /wss:\/\/127\.0\.0\.1:(\d+)/))
            return String(match.1)
        }

        private func program(_ name: String, _ arguments: [String], input: String? = nil) throws -> ChildProcess {
            var options = ChildProcess.Options()
            options.standardInput = input.map { Array($0.utf8) }
            return try ChildProcess(name, arguments, options)
        }

        private func stampede(_ arguments: [String], input: String? = nil) throws -> ChildProcess {
            try program(BuildDirectory.path(of: "stampede"), arguments, input: input)
        }

        private static let conversation =
            "CONNECT\naccept-version:1.2\nhost:/\n\n\0DISCONNECT\nreceipt:bye\n\n\0"

        /// What `openssl s_client` prints of a short conversation.
        private func sClient(_ broker: BrokerProcess, _ arguments: [String] = []) throws -> ChildProcess {
            let client = try program(
                "openssl",
                [
                    "s_client", "-connect", "127.0.0.1:\(broker.port)", "-CAfile", files.file("ca.pem"), "-ign_eof",
                    "-verify_return_error", "-servername", "localhost",
                ] + arguments, input: Self.conversation)
            _ = try client.waitForExit()
            return client
        }

        private func isServed(_ client: ChildProcess) -> Bool {
            client.outputLines.contains("CONNECTED") && client.outputLines.contains("receipt-id:bye")
        }

        // MARK: Clients

        @Test(arguments: drivers, ["-tls1_3", "-tls1_2"])
        func `openssl s_client has a conversation`(on driver: DriverUnderTest, _ version: String) throws {
            let broker = try broker(driver)
            let client = try sClient(broker, [version, "-alpn", "stomp"])
            #expect(isServed(client), "\(client.outputLines) \(client.errorLines)")
            #expect(client.outputLines.contains { $0.contains("ALPN protocol: stomp") })
            #expect(!isServed(try sClient(broker, ["-tls1_1"])))
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `stomp.py shows a certificate, and exchanges messages of many sizes`(on driver: DriverUnderTest) throws {
            guard ClientProgram.stompPy.isInstalled else { return }
            let broker = try broker(
                driver, ["tls.client-certificates": "required", "tls.client-ca": files.file("ca.pem")])
            let program = """
                import queue, ssl, stomp
                class Listener(stomp.ConnectionListener):
                    def __init__(self): self.messages = queue.Queue()
                    def on_message(self, frame): self.messages.put(frame.body)
                host = [("localhost", \(broker.port))]
                connection = stomp.Connection12(host)
                connection.set_ssl(host, ca_certs="\(files.file("ca.pem"))", cert_file="\(files.file("alice.pem"))",
                    key_file="\(files.file("alice.key"))", ssl_version=ssl.PROTOCOL_TLS_CLIENT)
                listener = Listener()
                connection.set_listener("", listener)
                connection.connect(wait=True)
                connection.subscribe("/queue/tls", id="1", ack="auto")
                bodies = [chr(97 + i % 26) * (i * 1999) for i in range(100)]
                for body in bodies: connection.send("/queue/tls", body)
                print([listener.messages.get(timeout=20) for _ in bodies] == bodies)
                connection.disconnect()
                """
            try ClientProgram.stompPy.run(program: program, prints: ["True"])
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers, [1, 2])
        func `tap and sink speak TLS, with WebSocket and without`(on driver: DriverUnderTest, _ workers: Int) throws {
            let broker = try broker(driver, workers: workers)
            let urls = ["stomps://localhost:\(broker.port)", "wss://127.0.0.1:\(try webPort(of: broker))/ws"]
            let lines = (0..<300).map { "line \($0) " + String(repeating: "x", count: $0 * 37) }
            for (from, to) in [(urls[0], urls[1]), (urls[1], urls[0])] {
                let ca = ["--ca", files.file("ca.pem")]
                let sink = try stampede(
                    ["sink", "/queue/lines", "--url", from, "--persistent"] + ca, input: lines.joined(separator: "\n"))
                #expect(try sink.waitForExit() == .exited(0), "\(sink.errorLines)")
                let tap = try stampede(["tap", "/queue/lines", "--url", to, "--count", "300"] + ca)
                #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
                #expect(tap.outputLines == lines)
            }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A client verifies the broker, and the broker says why a handshake failed`(
            on driver: DriverUnderTest
        ) throws {
            let broker = try broker(driver)
            let url = ["--url", "stomps://localhost:\(broker.port)"]
            let stranger = try stampede(["sink", "/queue/a", "--ca", files.file("other-ca.pem")] + url, input: "x")
            #expect(try stranger.waitForExit() == .exited(1))
            #expect(stranger.errorLines.joined().contains("certificate is refused"), "\(stranger.errorLines)")
            let line = try broker.process.errorLine { $0.contains("TLS:") }
            #expect(line?.contains("unknown CA (alert 48)") == true, "\(line ?? "")")
            #expect(line?.contains("address=127.0.0.1:") == true && line?.contains("listener=stomps://") == true)
        }

        @Test(arguments: drivers)
        func `Whoever speaks no TLS is closed, and told of in the log`(on driver: DriverUnderTest) throws {
            let broker = try broker(driver)
            for text in ["CONNECT\n\n\0", "GET / HTTP/1.1\r\n\r\n"] {
                // Its address names two listeners, so the client's bytes go as they are.
                let client = try RawClient(broker)
                try client.send(text)
                try client.expectCut()
                let line = try broker.process.errorLine { $0.contains("does not speak TLS") }
                #expect(line != nil)
            }
        }

        @Test(arguments: drivers)
        func `Without the certificate that is required there is no session`(on driver: DriverUnderTest) throws {
            let broker = try broker(
                driver, ["tls.client-certificates": "required", "tls.client-ca": files.file("ca.pem")])
            #expect(!isServed(try sClient(broker)))
            let alice = ["-cert", files.file("alice.pem"), "-key", files.file("alice.key")]
            #expect(isServed(try sClient(broker, alice)))
            let stranger = ["-cert", files.file("stranger.pem"), "-key", files.file("stranger.key")]
            #expect(!isServed(try sClient(broker, stranger)))
        }

        @Test(arguments: drivers)
        func `The name that a client asks for chooses the certificate`(on driver: DriverUnderTest) throws {
            let pairs = ["web", "wild"].map { "\(files.file("\($0).pem")):\(files.file("\($0).key"))" }
            let broker = try broker(driver, ["tls.certificates": pairs.joined(separator: ",")])
            for (name, subject) in ["localhost": "server", "web.example.org": "web", "x.example.org": "wild"] {
                let client = try sClient(broker, ["-servername", name])
                #expect(client.outputLines.contains { $0.contains("subject=CN = \(subject)") }, "\(client.outputLines)")
            }
        }

        // MARK: Half handshakes

        @Test(arguments: drivers)
        func `Connections that never finish their handshake keep nobody out, and are closed in time`(
            on driver: DriverUnderTest
        ) throws {
            let broker = try broker(driver, workers: 1, ["limits.connect-timeout-ms": "1500"])
            // A hello that lacks its last bytes, or all but the first.
            let hello: [UInt8] = [22, 3, 1, 0, 200, 1, 0, 0, 196] + [UInt8](repeating: 3, count: 150)
            let idle = try (0..<200).map { _ in try RawClient(broker) }
            for (index, client) in idle.enumerated() { try client.send(Array(hello.prefix(1 + index % hello.count))) }
            #expect(isServed(try sClient(broker)))
            for client in idle { try client.expectCut() }
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A renegotiation of TLS 1_2 is refused, and ends the connection`(on driver: DriverUnderTest) throws {
            let broker = try broker(driver)
            // s_client takes a line that begins with R for the order to renegotiate.
            let client = try program(
                "openssl",
                ["s_client", "-connect", "127.0.0.1:\(broker.port)", "-CAfile", files.file("ca.pem"), "-tls1_2"],
                input: "R\n")
            _ = try client.waitForExit()
            #expect(client.errorLines.contains("RENEGOTIATING"), "\(client.errorLines)")
            let line = try broker.process.errorLine { $0.contains("renegotiation, which is refused") }
            #expect(line?.contains("address=127.0.0.1:") == true, "\(line ?? "")")
            #expect(isServed(try sClient(broker)))
            #expect(try broker.terminate() == .exited(0))
        }

        // MARK: Reload

        @Test(arguments: drivers)
        func `SIGHUP gives new connections the new certificate and keeps old connections`(
            on driver: DriverUnderTest
        ) throws {
            files.write(files.text(of: "server.pem"), to: "live-\(driver).pem")
            files.write(files.text(of: "server.key"), to: "live-\(driver).key")
            let broker = try broker(driver, certificate: "live-\(driver)")
            let ca = ["--ca", files.file("ca.pem"), "--url", "stomps://localhost:\(broker.port)"]
            let tap = try stampede(["tap", "/topic/news", "--count", "2", "-v"] + ca)
            _ = try tap.errorLine { $0.contains("subscribed") }
            func publish(_ text: String) throws {
                let sink = try stampede(["sink", "/topic/news"] + ca, input: text)
                #expect(try sink.waitForExit() == .exited(0), "\(sink.errorLines)")
            }
            try publish("one")

            // The key of another certificate: those in use are kept.
            files.write(files.text(of: "web.key"), to: "live-\(driver).key")
            broker.process.signal(SIGHUP)
            let refusal = try broker.process.errorLine { $0.contains("those in use are kept") }
            #expect(refusal?.contains("tls.key") == true && refusal?.contains("does not belong") == true)
            #expect(isServed(try sClient(broker)))

            files.write(files.text(of: "wild.pem"), to: "live-\(driver).pem")
            files.write(files.text(of: "wild.key"), to: "live-\(driver).key")
            broker.process.signal(SIGHUP)
            _ = try broker.process.errorLine { $0.contains("new connections get them") }
            let client = try sClient(broker)
            #expect(client.outputLines.contains { $0.contains("subject=CN = wild") }, "\(client.outputLines)")

            // The old connection is still there.
            files.write(files.text(of: "server.pem"), to: "live-\(driver).pem")
            files.write(files.text(of: "server.key"), to: "live-\(driver).key")
            broker.process.signal(SIGHUP)
            while !(try sClient(broker).outputLines.contains { $0.contains("subject=CN = server") }) {}
            try publish("two")
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            #expect(tap.outputLines == ["one", "two"])
            #expect(try broker.terminate() == .exited(0))
        }

        @Test func `A certificate that ends within 30 days is warned of`() throws {
            let broker = try broker(.epoll)
            let warning = try broker.process.errorLine { $0.contains("expires in") }
            #expect(warning?.contains("server.pem expires in 29 days") == true, "\(warning ?? "")")
        }

        @Test func `A key that others can read is warned of`() throws {
            files.write(files.text(of: "server.key"), to: "open.key")
            chmod(files.file("open.key"), 0o644)
            let warned = try broker(.epoll, ["tls.key": files.file("open.key")])
            #expect(try warned.process.errorLine { $0.contains("open.key: others than its owner can read") } != nil)
            #expect(try warned.terminate() == .exited(0))
            let broker = try broker(.epoll)
            #expect(!broker.process.errorLines.contains { $0.contains("others than its owner") })
        }

        // MARK: Starts that fail

        private static let badStarts: [(values: [String: String], texts: [String])] = {
            let files = TestCertificates.shared
            let (pem, key) = (files.file("server.pem"), files.file("server.key"))
            return [
                ([:], ["tls.certificate", "found none, but stomps://127.0.0.1:0 needs one"]),
                (["tls.certificate": pem, "tls.key": files.file("none.key")], ["--set: tls.key: ", "No such file"]),
                (
                    ["tls.certificate": pem, "tls.key": files.file("web.key")],
                    ["tls.key", "web.key", "does not belong"]
                ),
                (["tls.certificate": pem, "tls.key": files.file("encrypted.key")], ["tls.key", "openssl pkey"]),
                (["tls.certificate": key, "tls.key": pem], ["tls.certificate", "are certificate and key exchanged?"]),
                (["tls.certificate": pem], ["tls.certificate", "holds no private key; set tls.key"]),
                (
                    ["tls.certificate": pem, "tls.key": key, "tls.certificates": "\(pem):\(key)"],
                    ["tls.certificates[0]", "would never be used"]
                ),
                (
                    ["tls.certificate": pem, "tls.key": key, "tls.client-certificates": "required"],
                    ["tls.client-certificates", "tls.client-ca names no issuers"]
                ),
                (
                    ["tls.certificate": pem, "tls.key": key, "tls.client-ca": files.file("ca.pem")],
                    ["tls.client-ca", "has no effect"]
                ),
                (["tls.certificate": pem, "tls.key": key, "tls.version-min": "1.1"], ["tls.version-min", "1.2, 1.3"]),
            ]
        }()

        @Test(arguments: 0..<badStarts.count)
        func `The broker does not start with files that it cannot use`(_ index: Int) throws {
            let (values, texts) = Self.badStarts[index]
            let process = try BrokerProcess.start(
                BrokerProcess.Settings(.epoll, values, address: "stomps://127.0.0.1:0"))
            #expect(try process.waitForExit() == .exited(2))
            let text = process.errorLines.joined(separator: "\n")
            for expected in texts { #expect(text.contains(expected), "\(text)") }
        }

        @Test func `Keys of TLS without a listener that has it are an error`() throws {
            let process = try BrokerProcess.start(
                BrokerProcess.Settings(.epoll, ["tls.certificate": files.file("server.pem")]))
            #expect(try process.waitForExit() == .exited(2))
            #expect(process.errorLines.joined().contains("has no effect: no listener has TLS"))
        }
    }
}
