import Glibc
import TestSupport
import Testing

/// Who clients are by what their connection proves, and what their listener lets them do.
extension Integration {
    @Suite("Access of listeners")
    struct ListenerAccess {
        private var certificates: TestCertificates { .shared }

        /// Of "secret", as RabbitMQ hashes it: quick.
        private static let hash = "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"

        private static let users = """
            users:
              alice: {hash: "\(hash)", roles: [client], system-users: [\(getuid())]}
              bob: {hash: "\(hash)", roles: [client]}
            roles:
              client: {publish: "/queue/{user}.#", subscribe: ["/queue/{user}.#", "/topic/#"]}

            """

        private static let usersFile = Result { try TemporaryFile(holding: users, suffix: ".yaml") }

        private func stampede(_ arguments: [String], input: String? = nil) throws -> ChildProcess {
            var options = ChildProcess.Options()
            options.standardInput = input.map { Array($0.utf8) }
            return try ChildProcess(BuildDirectory.path(of: "stampede"), arguments, options)
        }

        private func port(_ scheme: String, of broker: BrokerProcess) throws -> String {
            let ready = broker.readyLine
            let match = try #require(ready.firstMatch(of: try Regex("\(scheme)://127\\.0\\.0\\.1:(\\d+)")))
            return String(try #require(match[1].substring))
        }

        /// A broker with TLS that takes certificates of clients, and passwords.
        private func broker(
            _ driver: DriverUnderTest, workers: Int = 2, _ values: [String: String] = [:], listeners: String
        ) throws -> BrokerProcess {
            var values = values
            values["access.users"] = try Self.usersFile.get().path
            values["access.failure-delay-ms"] = "1"
            if listeners.contains("stomps://") || listeners.contains("wss://") {
                values["tls.certificate"] = certificates.file("server.pem")
                values["tls.key"] = certificates.file("server.key")
                values["tls.client-certificates"] = "optional"
                values["tls.client-ca"] = certificates.file("ca.pem")
                values["access.certificate.user-from"] = values["access.certificate.user-from"] ?? "cn"
            }
            return try BrokerProcess(
                BrokerProcess.Settings(driver, workers: workers, values, file: listeners, address: ""))
        }

        private var alice: [String] {
            [
                "--ca", certificates.file("ca.pem"), "--certificate", certificates.file("alice.pem"), "--key",
                certificates.file("alice.key"),
            ]
        }

        /// Sends a line and returns what went wrong. nil: nothing.
        private func sink(_ destination: String, _ url: String, _ options: [String]) throws -> String? {
            let sink = try stampede(["sink", destination, "--url", url] + options, input: "line")
            return try sink.waitForExit() == .exited(0) ? nil : sink.errorLines.joined(separator: "\n")
        }

        // MARK: Certificates

        private static let tls = "listeners: [\"stomps://127.0.0.1:0\", \"wss://127.0.0.1:0\"]\n"

        @Test(arguments: drivers, ["stomps", "wss"])
        func `A certificate is a login, with the roles of the user whose name it has`(
            on driver: DriverUnderTest, _ scheme: String
        ) throws {
            let broker = try broker(driver, listeners: Self.tls)
            let url = "\(scheme)://localhost:\(try port(scheme, of: broker))"
            #expect(try sink("/queue/alice.1", url, alice) == nil)
            let tap = try stampede(["tap", "/queue/alice.1", "--url", url, "--count", "1"] + alice)
            #expect(try tap.waitForExit() == .exited(0), "\(tap.errorLines)")
            #expect(tap.outputLines == ["line"])
            let refused = try #require(try sink("/queue/bob.1", url, alice))
            #expect(refused.contains("user 'alice' may not SEND to '/queue/bob.1'"), "\(refused)")
            let line = try broker.process.errorLine { $0.contains("access refused") }
            #expect(line?.contains("user 'alice'") == true, "\(line ?? "")")
            let nobody = try #require(try sink("/queue/alice.1", url, ["--ca", certificates.file("ca.pem")]))
            #expect(nobody.contains("wants a login"), "\(nobody)")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A login beside a certificate decides, as it does with RabbitMQ`(on driver: DriverUnderTest) throws {
            let broker = try broker(driver, listeners: Self.tls)
            let port = try port("stomps", of: broker)
            let passcode = try TemporaryFile(holding: "secret")
            let options = alice + ["--passcode-file", passcode.path]
            #expect(try sink("/queue/bob.1", "stomps://bob@localhost:\(port)", options) == nil)
            #expect(try sink("/queue/alice.1", "stomps://bob@localhost:\(port)", options) != nil)
            let wrong = try TemporaryFile(holding: "wrong")
            let refused = try sink(
                "/queue/alice.1", "stomps://alice@localhost:\(port)", alice + ["--passcode-file", wrong.path])
            #expect(refused?.contains("the passcode is wrong") == true, "\(refused ?? "")")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            arguments: drivers,
            [
                ("san-email", "alice@example.org"), ("san-uri", "urn:user:alice"), ("san-dns", "a.example.org"),
                ("dn", "CN=alice,O=Example"),
            ])
        func `A configured field of the certificate is the user`(
            on driver: DriverUnderTest, _ field: (name: String, user: String)
        ) throws {
            let users = """
                users: {"\(field.user)": {roles: [client]}}
                roles: {client: {publish: /queue/only}}
                """
            let file = try TemporaryFile(holding: users, suffix: ".yaml")
            let text = "listeners: \"stomps://127.0.0.1:0\"\naccess: {users: \(file.path)}\n"
            let broker = try BrokerProcess(
                BrokerProcess.Settings(
                    driver,
                    [
                        "tls.certificate": certificates.file("server.pem"), "tls.key": certificates.file("server.key"),
                        "tls.client-certificates": "required", "tls.client-ca": certificates.file("ca.pem"),
                        "access.certificate.user-from": field.name,
                    ], file: text, address: ""))
            let url = "stomps://localhost:\(broker.port)"
            #expect(try sink("/queue/only", url, alice) == nil)
            #expect(try sink("/queue/other", url, alice)?.contains("user '\(field.user)' may not") == true)
        }

        @Test(arguments: drivers)
        func `A listener for certificates alone takes no password, and a resumed session is the same client`(
            on driver: DriverUnderTest
        ) throws {
            let broker = try broker(
                driver, listeners: "listeners: [{url: \"stomps://127.0.0.1:0\", authenticators: certificate}]\n")
            let url = "stomps://localhost:\(broker.port)"
            #expect(try sink("/queue/alice.1", url, alice) == nil)
            let passcode = try TemporaryFile(holding: "secret")
            let bob = try sink(
                "/queue/bob.1", "stomps://bob@localhost:\(broker.port)",
                alice + ["--passcode-file", passcode.path])
            #expect(bob?.contains("takes no logins") == true, "\(bob ?? "")")
            let own = try sink(
                "/queue/alice.1", "stomps://alice@localhost:\(broker.port)",
                alice + ["--passcode-file", passcode.path])
            #expect(own == nil)
            let without = try sink("/queue/alice.1", url, ["--ca", certificates.file("ca.pem")])
            #expect(without?.contains("wants a certificate") == true, "\(without ?? "")")
            let conversation =
                "CONNECT\naccept-version:1.2\nhost:/\n\n\0SEND\ndestination:/queue/alice.1\n\nx\0"
                + "DISCONNECT\nreceipt:bye\n\n\0"
            var options = ChildProcess.Options()
            options.standardInput = Array(conversation.utf8)
            let directory = try TemporaryDirectory()
            for session in ["-sess_out", "-sess_in"] {
                let client = try ChildProcess(
                    "openssl",
                    [
                        "s_client", "-connect", "127.0.0.1:\(broker.port)", "-CAfile", certificates.file("ca.pem"),
                        "-ign_eof", "-tls1_2", "-cert", certificates.file("alice.pem"), "-key",
                        certificates.file("alice.key"), session, "\(directory.path)/session",
                    ], options)
                _ = try client.waitForExit()
                #expect(client.outputLines.contains("receipt-id:bye"), "\(client.outputLines)")
                #expect(
                    client.outputLines.contains { $0.hasPrefix(session == "-sess_in" ? "Reused" : "New") },
                    "\(client.outputLines)")
            }
            #expect(try broker.terminate() == .exited(0))
        }

        // MARK: Unix sockets

        @Test(arguments: drivers, [1, 2])
        func `A system user is the user whose entry names it`(on driver: DriverUnderTest, _ workers: Int) throws {
            let directory = try TemporaryDirectory()
            let path = "\(directory.path)/s"
            let broker = try broker(
                driver, workers: workers, listeners: "listeners: [\"127.0.0.1:0\", \"unix:\(path)\"]\n")
            for _ in 0..<4 { #expect(try sink("/queue/alice.1", "unix:\(path)", []) == nil) }
            let refused = try sink("/queue/bob.1", "unix:\(path)", [])
            #expect(refused?.contains("user 'alice' may not") == true, "\(refused ?? "")")
            let passcode = try TemporaryFile(holding: "secret")
            #expect(
                try sink(
                    "/queue/bob.1", "unix:\(path)", ["--login", "bob", "--passcode-file", passcode.path]) == nil)
            let tcp = try sink("/queue/alice.1", "stomp://127.0.0.1:\(broker.port)", [])
            #expect(tcp?.contains("wants a login") == true, "\(tcp ?? "")")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A socket that takes passwords alone does not look at system users, and the other way round`(
            on driver: DriverUnderTest
        ) throws {
            let directory = try TemporaryDirectory()
            let broker = try broker(
                driver,
                listeners: """
                    listeners:
                      - 127.0.0.1:0
                      - {url: "unix:\(directory.path)/password", authenticators: [users]}
                      - {url: "unix:\(directory.path)/peer", authenticators: [uid]}

                    """)
            let passcode = try TemporaryFile(holding: "secret")
            let bob = ["--login", "bob", "--passcode-file", passcode.path]
            #expect(try sink("/queue/bob.1", "unix:\(directory.path)/password", bob) == nil)
            #expect(try sink("/queue/alice.1", "unix:\(directory.path)/password", []) != nil)
            #expect(try sink("/queue/alice.1", "unix:\(directory.path)/peer", []) == nil)
            #expect(try sink("/queue/bob.1", "unix:\(directory.path)/peer", bob)?.contains("takes no logins") == true)
            #expect(try broker.terminate() == .exited(0))
        }

        // MARK: What listeners let their clients do

        @Test(arguments: drivers, [true, false])
        func `A listener's clients do what it lets them, with users and without`(
            on driver: DriverUnderTest, _ hasUsers: Bool
        ) throws {
            let listeners = """
                listeners:
                  - 127.0.0.1:0
                  - url: ws://127.0.0.1:0
                    publish: ["/queue/{user}.in", "/queue/open"]
                    subscribe: ["/topic/web.#"]

                """
            let broker =
                hasUsers
                ? try broker(driver, listeners: listeners)
                : try BrokerProcess(BrokerProcess.Settings(driver, workers: 2, file: listeners, address: ""))
            let passcode = try TemporaryFile(holding: "secret")
            let login = hasUsers ? ["--login", "alice", "--passcode-file", passcode.path] : []
            let own = hasUsers ? "/queue/alice.in" : "/queue/open"
            let web = "ws://127.0.0.1:\(try port("ws", of: broker))/ws"
            let plain = "stomp://127.0.0.1:\(broker.port)"
            #expect(try sink(own, web, login) == nil)
            #expect(try sink("/queue/alice.other", plain, login) == nil)
            #expect(try sink("/queue/alice.other", web, login)?.contains("may not SEND") == true)
            if hasUsers { #expect(try sink("/queue/open", web, login) != nil, "no role allows it") }
            let tap = try stampede(["tap", "/topic/#", "--url", web] + login)
            #expect(try tap.waitForExit() == .exited(1))
            #expect(tap.errorLines.joined().contains("may not SUBSCRIBE"), "\(tap.errorLines)")
            let counters = try broker.counters(workers: 2)
            #expect(counters["access-refused"] == (hasUsers ? 3 : 2), "\(counters)")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            arguments: [
                ("authenticators: [users]", "has no effect: nobody is asked"),
                ("publish: [nowhere]", "\"nowhere\" cannot match"),
                ("subscribe: [\"/topic/a*\"]", "a wildcard"),
            ])
        func `A broker does not start with options of a listener that mean nothing`(
            _ option: String, _ problem: String
        ) throws {
            let process = try BrokerProcess.start(
                .init(.epoll, file: "listeners:\n  - {url: \"127.0.0.1:0\", \(option)}\n", address: ""))
            #expect(try process.waitForExit() == .exited(2))
            let text = process.errorLines.joined(separator: "\n")
            #expect(text.contains(".yaml:2: listeners[0].") && text.contains(problem), "\(text)")
        }
    }
}
