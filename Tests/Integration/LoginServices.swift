import Glibc
import TestSupport
import Testing

/// A service that decides about logins (`access.http`): what it says, and what happens when it says nothing.
extension Integration {
    @Suite("Login services", .enabled(if: access("/usr/bin/python3", X_OK) == 0, "python3 is missing"))
    struct LoginServices {
        private static let users = """
            users:
              bob: {hash: "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz", roles: [reader]}
            roles:
              reader: {publish: "/queue/{user}", subscribe: "/queue/{user}"}
              guest: {publish: "/queue/guests"}

            """

        private static let usersFile = Result { try TemporaryFile(holding: users, suffix: ".yaml") }

        /// The service, and its port.
        private struct Service {
            let process: ChildProcess
            let port: String
            let scheme: String

            init(certificate: String? = nil) throws {
                var arguments = ["\(BuildDirectory.package)/Tests/Integration/clients/login_service.py"]
                if let certificate {
                    let files = TestCertificates.shared
                    arguments += [files.file("\(certificate).pem"), files.file("\(certificate).key")]
                }
                scheme = certificate == nil ? "http" : "https"
                process = try ChildProcess("/usr/bin/python3", arguments)
                port = try #require(try process.errorLine { _ in true })
            }

            func url(_ path: String, host: String = "127.0.0.1") -> String { "\(scheme)://\(host):\(port)\(path)" }

            /// Questions about users, so far.
            var questions: [String] { process.outputLines.filter { !$0.isEmpty } }

            /// Waits until there are so many: it tells of them on its own time.
            func questions(atLeast count: Int) -> [String] {
                process.outputLines(atLeast: count).filter { !$0.isEmpty }
            }
        }

        private func broker(
            _ driver: DriverUnderTest, _ service: Service, _ values: [String: String] = [:], workers: Int = 2
        ) throws -> BrokerProcess {
            var all = ["access.users": try Self.usersFile.get().path, "access.failure-delay-ms": "1"]
            all["access.http.user-path"] = service.url("/user")
            return try BrokerProcess(
                BrokerProcess.Settings(driver, workers: workers, all.merging(values) { $1 }))
        }

        private func connect(_ broker: BrokerProcess, _ login: String, _ passcode: String = "secret") throws
            -> RawClient
        {
            let client = try RawClient(broker)
            try client.send("CONNECT\naccept-version:1.2\nhost:h\nlogin:\(login)\npasscode:\(passcode)\n\n\0")
            return client
        }

        private func explanation(_ broker: BrokerProcess, _ login: String, _ passcode: String = "secret") throws
            -> String
        {
            try connect(broker, login, passcode).expectError("access refused").text
        }

        @Test(arguments: drivers, ["post", "get"])
        func `The service decides, and its tags are roles`(on driver: DriverUnderTest, _ method: String) throws {
            let service = try Service()
            let broker = try broker(driver, service, ["access.http.method": method])
            for _ in 0..<3 {
                let alice = try connect(broker, "alice")
                try alice.expectConnected(.v1_2)
                try alice.perform("SEND", ["destination": "/queue/alice"], body: "x")
                try alice.send("SEND", ["destination": "/queue/guests"], body: "x")
                try alice.expectError("access refused")
            }
            let verb = method.uppercased()
            #expect(
                service.questions(atLeast: 1) == ["\(verb) /user username=alice&password=secret"],
                "the answer is remembered")
            // It sounds as for those whom the users file knows, and the log has the reason.
            #expect(try explanation(broker, "alice", "wrong").contains("the passcode is wrong"))
            #expect(try explanation(broker, "locked").contains("the passcode is wrong"))
            #expect(try broker.process.errorLine { $0.contains("has denied this one") } != nil)
            #expect(try explanation(broker, "plain").contains("named no role"))
            // The users file knows bob.
            try connect(broker, "bob").expectConnected(.v1_2)
            #expect(try explanation(broker, "bob", "wrong").contains("the passcode is wrong"))
            #expect(!service.questions.contains { $0.contains("bob") })
            for _ in 0..<3 { try connect(broker, "chunked").expectConnected(.v1_2) }
            #expect(try broker.terminate() == .exited(0))
            #expect(!broker.process.errorLines.contains { $0.contains("secret") || $0.contains("password=") })
        }

        @Test(arguments: drivers)
        func `Users without tags have the roles of the configuration, and the virtual host is asked about`(
            on driver: DriverUnderTest
        ) throws {
            let service = try Service()
            let broker = try broker(
                driver, service, ["access.http.roles": "guest", "access.http.vhost-path": service.url("/vhost")])
            let plain = try connect(broker, "plain")
            try plain.expectConnected(.v1_2)
            try plain.perform("SEND", ["destination": "/queue/guests"], body: "x")
            #expect(try explanation(broker, "far").contains("the passcode is wrong"))
            #expect(
                service.questions(atLeast: 4) == [
                    "POST /user username=plain&password=secret",
                    "POST /vhost username=plain&vhost=%2F&ip=127.0.0.1&tags=",
                    "POST /user username=far&password=secret",
                    "POST /vhost username=far&vhost=%2F&ip=127.0.0.1&tags=reader",
                ])
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A connection that the service has closed is opened again`(on driver: DriverUnderTest) throws {
            let service = try Service()
            let broker = try broker(
                driver, service, ["access.http.remember-ms": "0", "access.http.connections-max": "1"], workers: 1)
            for _ in 0..<5 { try connect(broker, "closing").expectConnected(.v1_2) }
            for _ in 0..<5 { try connect(broker, "alice").expectConnected(.v1_2) }
            #expect(service.questions(atLeast: 10).count == 10, "\(service.questions)")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `A service that does not answer keeps nobody else waiting, and the log says so`(
            on driver: DriverUnderTest
        ) throws {
            let service = try Service()
            let broker = try broker(
                driver, service, ["access.http.timeout-ms": "1000", "access.http.connections-max": "2"], workers: 1)
            let slow = try (0..<2).map { _ in try connect(broker, "slow") }
            for _ in 0..<20 {
                // Both connections to the service are taken.
                try connect(broker, "bob").expectConnected(.v1_2)
            }
            for client in slow { #expect(try client.expectError("access refused").text.contains("try again later")) }
            let line = try broker.process.errorLine { $0.contains("the login service fails") }
            #expect(line?.contains("\(service.url("/user")): no answer in time") == true, "\(line ?? "")")
            // The next question goes through another connection.
            try connect(broker, "alice").expectConnected(.v1_2)
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(
            arguments: drivers,
            [("broken", "the status is 500"), ("odd", "the body is"), ("alice", "it cannot be reached")])
        func `An answer that cannot be used refuses, and the log has the reason`(
            on driver: DriverUnderTest, _ example: (user: String, reason: String)
        ) throws {
            let service = try Service()
            let values = example.user == "alice" ? ["access.http.user-path": "http://127.0.0.1:1/user"] : [:]
            let broker = try broker(driver, service, values)
            #expect(try explanation(broker, example.user).contains("gave no answer"))
            let line = try broker.process.errorLine { $0.contains("the login service fails") }
            #expect(line?.contains(example.reason) == true, "\(line ?? "")")
            #expect(try broker.terminate() == .exited(0))
        }

        @Test(arguments: drivers)
        func `With TLS the service's certificate is verified`(on driver: DriverUnderTest) throws {
            let service = try Service(certificate: "server")
            let ca = TestCertificates.shared.file("ca.pem")
            let trusted = try broker(driver, service, ["access.http.ca": ca], workers: 1)
            try connect(trusted, "alice").expectConnected(.v1_2)
            #expect(try trusted.terminate() == .exited(0))
            let other = try broker(
                driver, service, ["access.http.ca": TestCertificates.shared.file("other-ca.pem")], workers: 1)
            #expect(try explanation(other, "alice").contains("gave no answer"))
            let line = try other.process.errorLine { $0.contains("the login service fails") }
            #expect(line?.contains("certificate") == true, "\(line ?? "")")
            let misnamed = try Service(certificate: "web")
            let third = try broker(driver, misnamed, ["access.http.ca": ca], workers: 1)
            #expect(try explanation(third, "alice").contains("gave no answer"))
        }

        @Test(arguments: drivers)
        func `A listener may leave the service out`(on driver: DriverUnderTest) throws {
            let service = try Service()
            let users = try Self.usersFile.get().path
            let text = """
                listeners: {url: "127.0.0.1:0", authenticators: [users]}
                access: {users: \(users), failure-delay-ms: 1, http: {user-path: "\(service.url("/user"))"}}

                """
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, file: text, address: ""))
            #expect(try explanation(broker, "alice").contains("the passcode is wrong"))
            try connect(broker, "bob").expectConnected(.v1_2)
            #expect(service.questions.isEmpty)
        }

        @Test(
            arguments: [
                (["access.http.user-path": "http://192.0.2.1/user"], "others on the network could read"),
                (["access.http.user-path": "ftp://127.0.0.1/"], "allowed: \"\" (none), or a URL"),
                (["access.http.resource-path": "http://127.0.0.1/r"], "asked about logins, not about each destination"),
                (["access.http.vhost-path": "http://127.0.0.1/v"], "has no effect"),
                (
                    ["access.http.user-path": "https://127.0.0.1/", "access.http.ca": "/nowhere.pem"],
                    "access.http.ca: /nowhere.pem"
                ),
                (
                    ["access.http.user-path": "http://127.0.0.1/", "access.http.ca": "/nowhere.pem"],
                    "the service has no TLS"
                ),
            ])
        func `A broker does not start with a service that it cannot use`(
            _ values: [String: String], _ problem: String
        ) throws {
            let process = try BrokerProcess.start(
                .init(.epoll, values.merging(["access.users": try Self.usersFile.get().path]) { $1 }))
            #expect(try process.waitForExit() == .exited(2))
            let text = process.errorLines.joined(separator: "\n")
            #expect(text.contains(problem), "\(text)")
        }
    }
}
