import TestSupport
import Testing

/// Real proxies between clients and broker.
extension Interoperability {
    @Suite("Proxies")
    struct Proxies {
        private var files: TestCertificates { .shared }
        private var trust: [String: String] { ["CA": files.file("ca.pem")] }

        // MARK: nginx

        /// nginx ends TLS, and passes WebSockets on.
        private func nginx(port: UInt16, to broker: UInt16) throws -> ProxyProgram {
            try ProxyProgram(
                .nginx,
                """
                daemon off;
                master_process off;
                pid FOLDER/nginx.pid;
                error_log stderr warn;
                events {}
                http {
                    access_log off;
                    client_body_temp_path FOLDER/body;
                    proxy_temp_path FOLDER/proxy;
                    fastcgi_temp_path FOLDER/fastcgi;
                    uwsgi_temp_path FOLDER/uwsgi;
                    scgi_temp_path FOLDER/scgi;
                    server {
                        listen 127.0.0.1:\(port) ssl;
                        ssl_certificate \(files.file("server.pem"));
                        ssl_certificate_key \(files.file("server.key"));
                        location /messages {
                            proxy_pass http://127.0.0.1:\(broker)/ws;
                            proxy_http_version 1.1;
                            proxy_set_header Upgrade $http_upgrade;
                            proxy_set_header Connection "upgrade";
                            proxy_set_header Host $http_host;
                            proxy_read_timeout 60s;
                        }
                    }
                }

                """, ports: [port])
        }

        @Test(
            .enabled(if: ProxyProgram.Kind.nginx.isInstalled, "nginx is missing: run Config/setup tests"),
            .enabled(if: ClientProgram.websockets.isInstalled, "python3-websockets is missing: run Config/setup tests"),
            .enabled(
                if: ClientProgram.webSocketClient.isInstalled, "python3-websocket is missing: run Config/setup tests"),
            arguments: drivers)
        func `nginx ends TLS and passes WebSockets on`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(driver, workers: 2, ["log.level": "info"], address: "ws://127.0.0.1:0"))
            let port = try freePort()
            let proxy = try nginx(port: port, to: broker.port)
            let uri = "wss://localhost:\(port)/messages"
            for name in ["conversation", "bound_version", "long_messages"] {
                try ClientProgram.websockets.run(uri, name, environment: trust)
            }
            // Its own Origin, which is the proxy's address, may connect; a stranger's may not.
            for name in ["conversation", "long_messages", "origins", "errors"] {
                try ClientProgram.webSocketClient.run(uri, name, environment: trust)
            }
            let line = try broker.process.errorLine { $0.contains("may not connect (listeners[].origins)") }
            #expect(line?.contains("http://evil.example") == true, "\(line ?? "")")
            withExtendedLifetime(proxy) {}
            #expect(try broker.terminate() == .exited(0))
        }

        // MARK: haproxy

        /// haproxy passes TCP on, ends TLS, and says who the client is.
        ///
        /// With TLS 1.3 it would send tickets at the end of the handshake, and stomp.py would lose a CONNECT now and then
        /// (`TLSEngine.writeTicket`).
        private func haproxy(
            plain: UInt16, secure: UInt16, web: UInt16, option: String, to broker: BrokerProcess
        ) throws -> ProxyProgram {
            files.write(files.text(of: "server.pem") + files.text(of: "server.key"), to: "haproxy.pem")
            return try ProxyProgram(
                .haproxy,
                """
                global
                    maxconn 200
                defaults
                    mode tcp
                    timeout connect 5s
                    timeout client 60s
                    timeout server 60s
                frontend plain
                    bind 127.0.0.1:\(plain)
                    default_backend stomp
                frontend secure
                    bind 127.0.0.1:\(secure) ssl crt \(files.file("haproxy.pem")) ssl-max-ver TLSv1.2
                    default_backend stomp
                frontend web
                    bind 127.0.0.1:\(web) ssl crt \(files.file("haproxy.pem"))
                    default_backend ws
                backend stomp
                    server broker 127.0.0.1:\(broker.port) \(option) check inter 100ms
                backend ws
                    server broker 127.0.0.1:\(try broker.port(of: "ws")) \(option)

                """, ports: [plain, secure, web])
        }

        /// A client with an address that is not the proxy's. Prints its port, and what the broker said.
        private static func stranger(port: UInt16) -> String {
            """
            import socket
            client = socket.create_connection(("127.0.0.1", \(port)), 20, ("127.0.0.7", 0))
            print(client.getsockname()[1])
            client.sendall(b"CONNECT\\naccept-version:1.2\\nhost:localhost\\n\\n\\0NONSENSE\\n\\n\\0")
            received = b""
            while True:
                piece = client.recv(4096)
                if not piece: break
                received += piece
            print(received.count(b"CONNECTED\\n"), received.count(b"ERROR\\n"))
            """
        }

        @Test(
            .enabled(if: ProxyProgram.Kind.haproxy.isInstalled, "haproxy is missing: run Config/setup tests"),
            arguments: drivers, ["send-proxy-v2", "send-proxy-v2-ssl-cn", "send-proxy"])
        func `haproxy says who the client is`(on driver: DriverUnderTest, _ option: String) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver, workers: 2, ["log.level": "info"],
                    file: """
                        listeners:
                          - {url: "127.0.0.1:0", proxy-protocol: 127.0.0.1}
                          - {url: "ws://127.0.0.1:0", proxy-protocol: true}

                        """, address: ""))
            let ports = try (0..<3).map { _ in try freePort() }
            let proxy = try haproxy(plain: ports[0], secure: ports[1], web: ports[2], option: option, to: broker)
            let python = try ChildProcess("/usr/bin/python3", ["-c", Self.stranger(port: ports[0])])
            #expect(try python.waitForExit() == .exited(0), "\(python.errorLines)")
            try #require(python.outputLines.count == 2, "\(python.outputLines)")
            #expect(python.outputLines[1] == "1 1")
            let line = try broker.process.errorLine { $0.contains("protocol error") }
            #expect(line?.contains("address=127.0.0.7:\(python.outputLines[0])") == true, "\(line ?? "")")
            #expect(line?.contains("proxy=127.0.0.1:") == true, "\(line ?? "")")

            if ClientProgram.stompPy.isInstalled {
                for name in ["publish_and_subscribe", "binary_bodies"] {
                    try ClientProgram.stompPy.run(
                        name, .v1_2, port: ports[1], environment: trust.merging(["TRANSPORT": "stomps"]) { $1 })
                    try ClientProgram.stompPy.run(name, .v1_2, port: ports[0])
                }
            }
            if ClientProgram.websockets.isInstalled {
                try ClientProgram.websockets.run("wss://localhost:\(ports[2])/ws", "conversation", environment: trust)
            }
            withExtendedLifetime(proxy) {}
            #expect(try broker.terminate() == .exited(0))
            // Its health checks reset their connections, perhaps before the broker has asked for their address.
            #expect(!broker.process.errorLines.contains { $0.contains("not accepted from this address") })
        }

        @Test(
            .enabled(if: ProxyProgram.Kind.haproxy.isInstalled, "haproxy is missing: run Config/setup tests"),
            arguments: drivers)
        func `A proxy that may not say who the client is serves nobody`(on driver: DriverUnderTest) throws {
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver, ["log.level": "info"],
                    file: """
                        listeners:
                          - {url: "127.0.0.1:0", proxy-protocol: 10.0.0.0/8}
                          - {url: "ws://127.0.0.1:0", proxy-protocol: true}

                        """, address: ""))
            let ports = try (0..<3).map { _ in try freePort() }
            let proxy = try haproxy(
                plain: ports[0], secure: ports[1], web: ports[2], option: "send-proxy-v2", to: broker)
            let python = try ChildProcess("/usr/bin/python3", ["-c", Self.stranger(port: ports[0])])
            #expect(try python.waitForExit() == .exited(0) || !python.errorLines.isEmpty)
            #expect(python.outputLines.last != "1 1")
            let line = try broker.process.errorLine { $0.contains("is not accepted from this address") }
            #expect(line?.contains("address=127.0.0.1:") == true, "\(line ?? "")")
            withExtendedLifetime(proxy) {}
            #expect(try broker.terminate() == .exited(0))
        }
    }
}
