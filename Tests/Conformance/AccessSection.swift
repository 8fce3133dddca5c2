import CAccess
import Glibc
import TestSupport
import Testing

/// Who may connect, and what they may do: a broker with a users file.
@Suite("Access")
struct Access {
    /// Of "secret", as RabbitMQ hashes it: quick, so that many tests are.
    private static let quickHash = "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"
    /// Of "secret", by crypt(3).
    private static let slowHash =
        "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"

    private static let users = """
        users:
          alice: {hash: "\(quickHash)", roles: [client]}
          bob: {hash: "\(slowHash)", roles: [service]}
          guest: {hash: "\(quickHash)", roles: []}
        roles:
          client:
            publish: ["/topic/out.#", "/queue/service", "/queue/{user}.#"]
            subscribe: ["/topic/in.#", "/queue/{user}.#"]
            deny: {subscribe: "/topic/in.secret.#"}
          service:
            publish: "#"
            subscribe: "#"

        """

    private static let sharedFile = Result { try TemporaryFile(holding: users, suffix: ".yaml") }

    private static let failures = ["access.failure-delay-ms": "1"]

    /// The broker that the tests share which do not change the file.
    private func broker(_ driver: DriverUnderTest) throws -> BrokerProcess {
        let values = Self.failures.merging(["access.users": try Self.sharedFile.get().path]) { $1 }
        return try .shared(BrokerProcess.Settings(driver, workers: 2, values))
    }

    private func client(
        _ broker: BrokerProcess, _ login: String = "alice", _ passcode: String = "secret",
        _ version: ProtocolVersion = .v1_2, _ fileID: String = #fileID, _ line: Int = #line
    ) throws -> RawClient {
        try RawClient(broker, version, ["login": login, "passcode": passcode], fileID, line)
    }

    private func connect(_ broker: BrokerProcess, _ headers: KeyValuePairs<String, String>) throws -> RawClient {
        let client = try RawClient(broker)
        var text = "CONNECT\naccept-version:1.2\nhost:h\n"
        for (name, value) in headers { text += "\(name):\(value)\n" }
        try client.send(text + "\n\0")
        return client
    }

    // MARK: Who

    @Test(arguments: drivers, ["alice", "bob"])
    func `The right passcode lets in, once and again`(on driver: DriverUnderTest, _ user: String) throws {
        let broker = try broker(driver)
        for version in ProtocolVersion.allCases { try client(broker, user, "secret", version).disconnect() }
    }

    /// The words are the same whether or not a user exists.
    @Test(
        arguments: drivers,
        [
            ("alice", "wrong"), ("alice", ""), ("bob", "wrong"), ("nobody", "secret"), ("alice ", "secret"),
            ("Alice", "secret"),
        ])
    func `A wrong login gets ERROR and the end`(
        on driver: DriverUnderTest, _ login: (user: String, passcode: String)
    ) throws {
        let client = try connect(try broker(driver), ["login": login.user, "passcode": login.passcode])
        let error = try client.expectError("access refused")
        #expect(error.text.contains("the login is unknown, or the passcode is wrong"), "\(error)")
    }

    @Test(arguments: drivers)
    func `Without a login there is no session`(on driver: DriverUnderTest) throws {
        try connect(try broker(driver), [:]).expectError("access refused")
        try connect(try broker(driver), ["passcode": "secret"]).expectError("access refused")
    }

    @Test(arguments: drivers)
    func `Frames behind CONNECT wait for the answer, and are not processed where it is no`(
        on driver: DriverUnderTest
    ) throws {
        let broker = try broker(driver)
        let client = try RawClient(broker)
        try client.send(
            "CONNECT\naccept-version:1.2\nlogin:alice\npasscode:secret\n\n\0SEND\ndestination:/topic/out\nreceipt:r\n\nx\0"
        )
        try client.expectConnected(.v1_2)
        try client.expectReceipt("r")
        let other = try RawClient(broker)
        try other.send(
            "CONNECT\naccept-version:1.2\nlogin:alice\npasscode:wrong\n\n\0SEND\ndestination:/topic/out\nreceipt:r\n\nx\0"
        )
        try other.expectError("access refused")
    }

    @Test(arguments: drivers)
    func `No line of the log holds a passcode, and each refusal is counted`(on driver: DriverUnderTest) throws {
        let file = try TemporaryFile(holding: Self.users, suffix: ".yaml")
        let broker = try BrokerProcess(
            .init(driver, Self.failures.merging(["access.users": file.path, "log.level": "trace"]) { $1 }))
        for _ in 0..<3 {
            try connect(broker, ["login": "alice", "passcode": "hunter2"]).expectError("access refused")
        }
        let alice = try client(broker)
        try alice.send("SEND", ["destination": "/queue/not-hers"], body: "x")
        try alice.expectError("access refused")
        let counters = try broker.counters()
        #expect(counters["logins-refused"] == 3 && counters["access-refused"] == 1, "\(counters)")
        let refused = try #require(try broker.process.errorLine { $0.contains("access refused") })
        #expect(refused.contains("login=alice") && refused.contains("/queue/not-hers"), "\(refused)")
        #expect(try broker.terminate() == .exited(0))
        let lines = broker.process.errorLines
        #expect(lines.contains { $0.contains("login refused: the passcode is wrong") && $0.contains("login=alice") })
        #expect(!lines.contains { $0.contains("hunter2") || $0.contains("passcode:") || $0.contains(Self.quickHash) })
    }

    // MARK: What

    /// What alice does, and whether she may.
    struct Deed: Sendable, CustomTestStringConvertible {
        var command: String
        var destination: String
        var isAllowed: Bool
        var headers: [String: String] = [:]

        var testDescription: String { "\(command) \(destination) \(headers.keys.sorted())" }
    }

    private static let deeds: [Deed] =
        [
            ("/topic/out", true), ("/topic/out.a/b", true), ("/queue/service", true), ("/queue/alice.1", true),
            ("/topic/in", false), ("/queue/bob.1", false), ("/queue/other", false), ("/topic/outside", false),
            ("out", true), ("in", false), ("/exchange/amq.topic/in", false), ("/amq/queue/other", false),
            ("/temp-queue/mine", true), ("/temp-topic/mine", true),
        ].map { Deed(command: "SEND", destination: $0.0, isAllowed: $0.1) }
        + [
            ("/topic/in", true), ("/topic/in.a.*", true), ("/topic/in.open.#", true), ("/queue/alice.1", true),
            ("/topic/in.#", false), ("/topic/in.secret", false), ("/topic/in.*", false), ("/topic/#", false),
            ("/topic/out", false), ("/queue/service", false), ("/temp-queue/mine", true), ("/temp-topic/mine", true),
            ("/reply-queue/0-1-1-0000000000000000-x", false),
        ].map { Deed(command: "SUBSCRIBE", destination: $0.0, isAllowed: $0.1) }
        + [
            Deed(
                command: "SEND", destination: "/queue/service", isAllowed: true, headers: ["reply-to": "/temp-queue/r"]),
            Deed(
                command: "SEND", destination: "/queue/service", isAllowed: true, headers: ["reply-to": "/queue/alice.r"]
            ),
            Deed(command: "SEND", destination: "/queue/service", isAllowed: true, headers: ["reply-to": "/topic/in.r"]),
            Deed(
                command: "SEND", destination: "/queue/service", isAllowed: false, headers: ["reply-to": "/queue/admin"]),
            Deed(
                command: "SEND", destination: "/queue/alice.d", isAllowed: false,
                headers: ["x-dead-letter-routing-key": "admin"]),
            Deed(command: "SEND", destination: "/queue/service", isAllowed: true, headers: ["user-id": "alice"]),
            Deed(command: "SEND", destination: "/queue/service", isAllowed: false, headers: ["user-id": "bob"]),
            Deed(command: "SEND", destination: "/queue/other", isAllowed: false, headers: ["transaction": "t"]),
            Deed(command: "SEND", destination: "/queue/service", isAllowed: true, headers: ["transaction": "t"]),
        ]

    @Test(arguments: drivers, deeds)
    func `A client does what its roles allow, and nothing else`(on driver: DriverUnderTest, _ deed: Deed) throws {
        let client = try client(try broker(driver))
        if deed.headers["transaction"] != nil { try client.perform("BEGIN", ["transaction": "t"]) }
        var text = "\(deed.command)\ndestination:\(deed.destination)\nreceipt:r\n"
        if deed.command == "SUBSCRIBE" { text += "id:0\n" }
        for (name, value) in deed.headers { text += "\(name):\(value)\n" }
        try client.send(text + "\n\0")
        if deed.isAllowed {
            try client.expectReceipt("r")
        } else {
            try client.expectError("access refused", receipt: "r")
        }
    }

    @Test(arguments: drivers)
    func `A reply goes to its temporary queue, whoever answers`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let service = try client(broker, "bob")
        try service.subscribe(to: "/queue/service")
        let alice = try client(broker)
        try alice.perform("SEND", ["destination": "/queue/service", "reply-to": "/temp-queue/x"], body: "ask")
        // Other cases have sent to this queue too.
        var request = try service.expectMessage()
        while request.text != "ask" { request = try service.expectMessage() }
        try service.perform("SEND", ["destination": try #require(request["reply-to"])], body: "answer")
        try alice.expectMessage("answer")
        let guest = try client(broker, "guest")
        try guest.send("SUBSCRIBE", ["destination": request["reply-to"] ?? "", "id": "0"])
        try guest.expectError("access refused")
    }

    @Test(arguments: drivers)
    func `Who has no role may connect, and that is all`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        for destination in ["/topic/out", "/temp-queue/x"] {
            let guest = try client(broker, "guest")
            try guest.perform("BEGIN", ["transaction": "t"])
            try guest.send("SUBSCRIBE", ["destination": destination, "id": "0"])
            try guest.expectError("access refused")
        }
    }

    @Test(arguments: drivers)
    func `ACK is for what a client was given itself`(on driver: DriverUnderTest) throws {
        let broker = try broker(driver)
        let queue = unique("/queue/alice.ack")
        let alice = try client(broker)
        try alice.subscribe(to: queue, ack: "client-individual")
        try alice.publish(to: queue, "x")
        let message = try alice.expectMessage("x")
        let bob = try client(broker, "bob")
        try bob.send("ACK", ["id": message["ack"] ?? ""])
        try bob.expectError("message not found")
        try alice.acknowledge(message)
    }

    // MARK: After a reload

    private func reload(_ broker: BrokerProcess, _ text: String) throws {
        let before = broker.process.errorLines.count { $0.contains(text) }
        broker.process.signal(SIGHUP)
        var seen = 0
        _ = try broker.process.errorLine { line in
            if line.contains(text) { seen += 1 }
            return seen > before
        }
    }

    @Test(arguments: drivers, [1, 2])
    func `SIGHUP puts another users file into force, for those who are connected too`(
        on driver: DriverUnderTest, _ workers: Int
    ) throws {
        let file = try TemporaryFile(holding: Self.users, suffix: ".yaml")
        let broker = try BrokerProcess(
            .init(driver, workers: workers, Self.failures.merging(["access.users": file.path]) { $1 }))
        let sender = try client(broker)
        try sender.publish(to: "/topic/out", "before")
        let reader = try client(broker)
        try reader.subscribe(to: "/topic/in")
        let unchanged = try client(broker, "bob")
        let leaver = try client(broker, "guest")
        try file.replace(
            with: """
                users:
                  alice: {hash: "\(Self.quickHash)", roles: [client]}
                  bob: {hash: "\(Self.slowHash)", roles: [service]}
                roles:
                  client: {publish: /queue/new}
                  service: {publish: "#", subscribe: "#"}
                """)
        try reload(broker, "read again")
        try reader.expectError("access refused")
        try leaver.expectError("access refused")
        try sender.send("SEND", ["destination": "/topic/out"], body: "after")
        try sender.expectError("access refused")
        try client(broker).publish(to: "/queue/new", "allowed now")
        try connect(broker, ["login": "guest", "passcode": "secret"]).expectError("access refused")
        try unchanged.subscribe(to: "/queue/new")
        try unchanged.expectMessage("allowed now")
    }

    @Test(arguments: drivers)
    func `A wrong file changes nothing, and the log says why`(on driver: DriverUnderTest) throws {
        let file = try TemporaryFile(holding: Self.users, suffix: ".yaml")
        let broker = try BrokerProcess(.init(driver, ["access.users": file.path]))
        let alice = try client(broker)
        try file.replace(with: "users:\n  alice:\n    hash: \"\(Self.quickHash)\"\n    roles: [clint]\n")
        try reload(broker, "stay as they were")
        let line = try #require(try broker.process.errorLine { $0.contains("unknown role") })
        #expect(line.contains("\(file.path):2: users.alice.roles: unknown role") && line.contains("clint"), "\(line)")
        try alice.publish(to: "/topic/out", "as before")
        try client(broker, "bob").disconnect()
    }

    @Test(
        arguments: drivers,
        [
            ("users: [", "not YAML"), ("users: {a: {roles: x}}", "unknown role"),
            ("roles: {r: {publish: a}}", "cannot match"),
        ])
    func `A broker with a wrong users file does not start`(
        on driver: DriverUnderTest, _ example: (text: String, problem: String)
    ) throws {
        let file = try TemporaryFile(holding: example.text, suffix: ".yaml")
        let process = try BrokerProcess.start(.init(driver, ["access.users": file.path]))
        #expect(try process.waitForExit() == .exited(2))
        #expect(process.errorLines.contains { $0.contains("\(file.path):") && $0.contains(example.problem) })
    }

    // MARK: Tokens

    private static let secret = "0123456789abcdef0123456789abcdef"

    private static func base64URL(_ bytes: [UInt8]) -> String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let part = Array(bytes[start..<min(start + 3, bytes.count)])
            let bits = part.reduce(0) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - part.count))
            for place in 0...part.count { text.append(letters[Int(bits >> UInt32(18 - 6 * place)) & 63]) }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func token(_ claims: String, algorithm: String = "HS256") -> String {
        let signed = [#"{"alg":"\#(algorithm)"}"#, claims].map { base64URL(Array($0.utf8)) }.joined(separator: ".")
        var digest = [UInt8](repeating: 0, count: 32)
        _ = caccess_hmac_sha256(secret, secret.utf8.count, signed, signed.utf8.count, &digest)
        return "\(signed).\(base64URL(digest))"
    }

    @Test(arguments: drivers)
    func `A token lets in until it expires, and then ends its session`(on driver: DriverUnderTest) throws {
        let file = try TemporaryFile(holding: Self.secret)
        let broker = try BrokerProcess(
            .init(driver, Self.failures.merging(["access.jwt.secret-file": file.path]) { $1 }))
        func claims(_ seconds: Int) -> String {
            #"{"sub":"alice","exp":\#(time(nil) + seconds),"stampede":{"publish":["/topic/{user}.#"]}}"#
        }
        let short = try connect(broker, ["passcode": Self.token(claims(3))])
        try short.expectConnected(.v1_2)
        let long = try connect(broker, ["login": "alice", "passcode": Self.token(claims(3600))])
        try long.expectConnected(.v1_2)
        try short.publish(to: "/topic/alice.a", "while it lasts")
        try short.expectError("token expired")
        try long.publish(to: "/topic/alice.a", "still")
        for wrong in [
            Self.token(claims(-1)), Self.token(claims(60), algorithm: "none"), Self.token(claims(60)) + "A",
            Self.token(#"{"sub":"alice","exp":4102444800,"aud":"another"}"#), "eyJ.e.x",
        ] {
            try connect(broker, ["login": "alice", "passcode": wrong]).expectError("access refused")
        }
        try long.send("SEND", ["destination": "/topic/bob.a"], body: "x")
        try long.expectError("access refused")
    }

    @Test(arguments: drivers)
    func `A newer token renews a session, and a wrong one ends it`(on driver: DriverUnderTest) throws {
        let file = try TemporaryFile(holding: Self.secret)
        let broker = try BrokerProcess(
            .init(driver, workers: 2, Self.failures.merging(["access.jwt.secret-file": file.path]) { $1 }))
        func token(_ seconds: Int, _ user: String = "alice") -> String {
            Self.token(#"{"sub":"\#(user)","exp":\#(time(nil) + seconds),"stampede":{"publish":["/topic/{user}.#"]}}"#)
        }
        let alice = try connect(broker, ["passcode": token(3)])
        try alice.expectConnected(.v1_2)
        let idle = try connect(broker, ["passcode": token(3)])
        try idle.expectConnected(.v1_2)
        try alice.perform("SEND", ["destination": "/control/renew", "authorization": "Bearer \(token(3600))"])
        try idle.expectError("token expired")
        try alice.publish(to: "/topic/alice.a", "longer than its first token")
        try alice.send("SEND", ["destination": "/control/renew", "authorization": token(3600, "bob")])
        try alice.expectError("access refused")
        for wrong in [token(-1), "eyJ.e.x", "secret"] {
            let client = try connect(broker, ["passcode": token(60)])
            try client.expectConnected(.v1_2)
            try client.send("SEND", ["destination": "/control/renew", "authorization": wrong])
            try client.expectError("access refused")
        }
    }

    // MARK: Floods

    @Test(arguments: drivers)
    func `Wrong logins by the thousand are all answered, and honest clients beside them`(
        on driver: DriverUnderTest
    ) throws {
        let broker = try BrokerProcess(
            .init(driver, Self.failures.merging(["access.users": try Self.sharedFile.get().path]) { $1 }))
        var wrongCount = 0
        for round in 0..<20 {
            let attackers = try (0..<100).map { number in
                try connect(broker, ["login": number % 2 == 0 ? "alice" : "nobody", "passcode": "guess-\(round)"])
            }
            let honest = try client(broker)
            try honest.publish(to: "/topic/out", "beside them")
            for attacker in attackers { try attacker.expectError("access refused") }
            wrongCount += attackers.count
            try honest.disconnect()
        }
        #expect(try broker.counters()["logins-refused"] == wrongCount)
    }
}
