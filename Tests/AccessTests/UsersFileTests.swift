import Permissions
import Testing

@testable import Access

/// The users file, read and changed.
@Suite("The users file")
struct UsersFileTests {
    static let limits = PatternLimits(nameByteCountMax: 256, levelCountMax: 32)
    static let hash = "$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"
    static let otherHash = "$rabbitmq$BQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz"
    static let text = """
        # Who may connect.
        users:
          alice:   # of the news desk
            hash: "\(hash)"  # changed in May
            roles: [publisher, reader]

          # Robots
          bob:
            hash: '\(hash)'
            roles: reader
          "c d":
            roles: []
        # What they may do.
        roles:
          publisher:
            publish: ["/topic/news.#", "/queue/{user}.#"]
            create: []
          reader:
            subscribe: "/topic/#"
            deny: {subscribe: ["/topic/audit.#"]}

        """

    private func read(_ text: String) throws -> UsersFile { try UsersFile(text, name: "users.yaml", Self.limits) }

    private func problems(_ text: String) -> [String] {
        do throws(AccessError) {
            _ = try UsersFile(text, name: "u", Self.limits)
            return []
        } catch {
            return error.problems.map(\.description)
        }
    }

    @Test("Limits are read, of users and of roles")
    func limits() throws {
        let text = """
            users:
              a: {roles: r, limits: {connections-max: 2, frames-per-second-max: 0}}
            roles:
              r:
                limits: {connections-max: 10, subscriptions-per-connection-max: 5, bytes-per-second-max: 64KiB}
            """
        let file = try read(text)
        #expect(file.users["a"]?.quota.connectionCountMax == 2 && file.users["a"]?.quota.framesPerSecondMax == 0)
        #expect(file.users["a"]?.quota.bytesPerSecondMax == nil)
        let role = try #require(file.roles["r"]?.quota)
        #expect(role.connectionCountMax == 10 && role.subscriptionsPerConnectionMax == 5)
        #expect(role.bytesPerSecondMax == 65_536 && role.framesPerSecondMax == nil)
    }

    @Test(
        "A limit that is no number, or out of range, is told with its place",
        arguments: [
            ("connections-max: -1", "found \"-1\"; allowed: a whole number"), ("connections-max: 1KiB", "whole number"),
            ("connections-max: 2000000000", "whole number"), ("bytes-per-second-max: 100", "at least 1KiB"),
            ("bytes-per-second-max: 9999999999GiB", "at least 1KiB"), ("bytes-per-second-max: []", "found a list"),
            ("connections: 5", "unknown key \"connections\"; allowed: connections-max"),
        ])
    func wrongLimits(_ limit: String, _ reason: String) {
        for text in ["users: {a: {limits: {\(limit)}}}", "roles: {a: {limits: {\(limit)}}}"] {
            let found = problems(text)
            #expect(found.count == 1 && found[0].contains(".a.limits") && found[0].contains(reason), "\(found)")
        }
        #expect(problems("roles: {a: {limits: 5}}").first?.contains("a mapping with the keys connections-max") == true)
    }

    @Test("Users and roles are read")
    func reading() throws {
        let file = try read(Self.text)
        #expect(file.userNames == ["alice", "bob", "c d"])
        #expect(file.users["alice"]?.hash?.text == Self.hash && file.users["bob"]?.hash?.text == Self.hash)
        #expect(file.users["c d"]?.hash == nil)
        #expect(file.roles(ofUser: "alice") == ["publisher", "reader"] && file.roles(ofUser: "bob") == ["reader"])
        #expect(file.roles["publisher"]?.publish.map(\.text) == ["/topic/news.#", "/queue/{user}.#"])
        #expect(file.roles["publisher"]?.create == [] && file.roles["reader"]?.create == nil)
        #expect(file.roles["reader"]?.denySubscribe.map(\.text) == ["/topic/audit.#"])
        #expect(file.method(ofUser: "alice") == "rabbitmq" && file.method(ofUser: "c d") == "none")
        for nothing in ["", "# nothing", "users:\nroles:\n", "{}", "~"] { #expect(try read(nothing).users.isEmpty) }
    }

    @Test(
        "What is wrong is told with its line, its key and what would be right",
        arguments: [
            ("users: {a: {roles: [x]}}", "u:1: users.a.roles: unknown role \"x\"; allowed: none is defined"),
            ("roles:\n  r:\nusers:\n  a:\n    roles: q", "u:4: users.a.roles: unknown role \"q\"; allowed: r"),
            ("users:\n  a:\n    hash: secret", "u:3: users.a.hash: is no password hash; allowed: yescrypt"),
            ("users:\n  a:\n    password: x", "u:3: users.a: passwords are not kept here; allowed: hash"),
            (
                "users:\n  a:\n    role: x",
                "u:3: users.a: unknown key \"role\"; allowed: hash, roles, limits, hosts, system-users"
            ),
            ("users:\n  a:\n  b:\n  a:", "given more than once: \"a\"; allowed: each name once"),
            ("users: [a]", "u:1: users: found a list; allowed: a mapping of names"),
            (
                "users:\n  a: x",
                "u:2: users.a: found \"x\"; allowed: a mapping with the keys hash, roles, limits, hosts, system-users"
            ),
            ("user:\n", "u:1: unknown key \"user\"; allowed: users, roles"),
            ("- a", "u:1: found a list; allowed: a mapping with the keys users and roles"),
            ("roles:\n  r:\n    publish: [\"/topic/a*\"]", "u:3: roles.r.publish: \"/topic/a*\" cannot match"),
            ("roles:\n  r:\n    publish: \"/tpic/a\"", "u:3: roles.r.publish: \"/tpic/a\" cannot match"),
            (
                "roles:\n  r:\n    admin: []",
                "u:3: roles.r: unknown key \"admin\"; allowed: publish, subscribe, create, deny, limits, hosts"
            ),
            ("roles:\n  r:\n    deny: []", "u:3: roles.r.deny: found a list"),
            ("roles:\n  r:\n    deny:\n      all: x", "u:4: roles.r.deny: unknown key \"all\""),
            (
                "roles:\n  r:\n    subscribe: [/topic/a.b]\n    deny: {subscribe: /topic/a.*}",
                "u:2: roles.r.subscribe: \"/topic/a.b\" cannot match: deny has \"/topic/a.*\""
            ),
            ("roles:\n  \"a b\":\n", "a role's name has no commas or spaces"),
            ("users:\n  \" a\":\n    roles: []", "u:2: users. a: the name has control characters, or spaces"),
            ("users:\n  a: {roles: [1, {}]}\nroles: {\"1\": }", "users.a.roles[1]: found a mapping; allowed: text"),
            ("users: {", "not YAML"), ("\ta: b", "not YAML"),
        ])
    func wrong(_ text: String, _ expected: String) {
        let found = problems(text)
        #expect(found.contains { $0.contains(expected) }, "\(found)")
    }

    @Test("All problems are told at once, in the order of the lines")
    func all() {
        let found = problems("users:\n  a: x\n  b: {hash: y}\nroles:\n  r: {publish: z}\n")
        #expect(found.map { $0.prefix(3) } == ["u:2", "u:3", "u:5"])
    }

    // MARK: Changing

    private func edit(_ text: String = text) throws -> UsersFileText {
        try UsersFileText(text, name: "users.yaml", Self.limits)
    }

    @Test("A password changes in its place; all else stays, comments included")
    func setHash() throws {
        var users = try edit()
        try users.setHash(try PasswordHash(Self.otherHash), of: "alice")
        let place = "alice:   # of the news desk\n    hash: \""
        let changed = Self.text.replacing(place + Self.hash, with: place + Self.otherHash)
        #expect(users.text == changed && changed != Self.text)
        try users.setHash(try PasswordHash(Self.otherHash), of: "bob")
        #expect(!users.text.contains(Self.hash))
        try users.setHash(try PasswordHash(Self.hash), of: "c d")
        #expect(users.text.contains("  \"c d\":\n    hash: \"\(Self.hash)\"\n    roles: []\n"))
        #expect(throws: UsersFileText.Failure.self) { try users.setHash(try PasswordHash(Self.hash), of: "x") }
    }

    @Test("A new user comes behind the others, and goes without a trace")
    func addAndRemove() throws {
        var users = try edit()
        try users.add("dora@example.org", try PasswordHash(Self.hash), roles: ["reader"])
        #expect(
            users.text.contains(
                "    roles: []\n  \"dora@example.org\":\n    hash: \"\(Self.hash)\"\n    roles: [reader]\n# What they may do."
            ))
        #expect(users.file.roles(ofUser: "dora@example.org") == ["reader"])
        try users.remove("dora@example.org")
        #expect(users.text == Self.text)
        try users.remove("alice")
        #expect(users.file.userNames == ["bob", "c d"] && users.text.contains("  # Robots\n  bob:"))
        try users.remove("bob")
        try users.remove("c d")
        #expect(users.file.userNames.isEmpty && users.text.contains("# Who may connect.\nusers:\n"))
        try users.add("eve", try PasswordHash(Self.hash), roles: [])
        #expect(users.file.userNames == ["eve"])
    }

    @Test("A user that is there, a role that is not, and a name that cannot be are refused")
    func refused() throws {
        var users = try edit()
        let hash = try PasswordHash(Self.hash)
        for (name, roles) in [("alice", []), ("x", ["nobody"]), ("", []), ("a\nb", []), (" x", [])] {
            #expect(throws: UsersFileText.Failure.self) { try users.add(name, hash, roles: roles) }
        }
        #expect(throws: UsersFileText.Failure.self) { try users.remove("x") }
        #expect(users.text == Self.text)
    }

    @Test(
        "Names of every kind come out as they went in",
        arguments: [
            "a", "true", "null", "1", "1.5", "~", "a: b", "#a", "a #b", "\"a\"", "it's", "a\\b", "é", "{a}", "*",
        ])
    func names(_ name: String) throws {
        var users = try edit()
        try users.add(name, try PasswordHash(Self.hash), roles: ["reader"])
        #expect(users.file.roles(ofUser: name) == ["reader"])
        try users.setHash(try PasswordHash(Self.otherHash), of: name)
        try users.remove(name)
        #expect(users.text == Self.text)
    }

    @Test(
        "A password changes within braces too",
        arguments: [
            ("users:\n  a: {hash: \"OLD\", roles: [r]}  # a\nroles: {r: {}}\n", nil),
            ("users: {a: {roles: [r], hash: OLD}}\nroles: {r: {}}\n", nil),
            ("users: {a: {hash: 'OLD',\n  roles: [r]}, b: {hash: OLD}}\nroles: {r: {}}\n", nil),
            (
                "users:\n  a: {roles: [r]}\nroles: {r: {}}\n",
                "users:\n  a: {hash: \"NEW\", roles: [r]}\nroles: {r: {}}\n"
            ),
            ("users: {b: {}, a: {}}\n", "users: {b: {}, a: {hash: \"NEW\"}}\n"),
        ])
    func braces(_ text: String, _ expected: String?) throws {
        let new = try PasswordHash(Self.otherHash)
        let old = text.replacing("OLD", with: Self.hash)
        var users = try edit(old)
        try users.setHash(new, of: "a")
        let place = ["\"OLD\"", "'OLD'"].first { text.contains($0) } ?? "OLD"
        let changed = text.replacing(place, with: "\"NEW\"", maxReplacements: 1)
        #expect(
            users.text
                == (expected ?? changed).replacing("OLD", with: Self.hash).replacing("NEW", with: Self.otherHash))
        #expect(users.file.users["a"]?.hash?.text == Self.otherHash)
    }

    @Test("A file in another style is left alone, with what to do")
    func flowStyle() throws {
        var users = try edit("users: {a: {hash: \"\(Self.hash)\"}}\n")
        let hash = try PasswordHash(Self.otherHash)
        #expect(throws: UsersFileText.Failure.self) { try users.add("b", hash, roles: []) }
        #expect(throws: UsersFileText.Failure.self) { try users.remove("a") }
    }

    @Test(
        "A file whose lines end in another way is left alone, with what to do",
        arguments: ["\r\n", "\r", "\u{85}", "\u{2028}"])
    func otherLineEnds(_ end: String) throws {
        let text = "users:\n  a:\n    hash: \"\(Self.hash)\"\n".replacing("\n", with: end)
        guard var users = try? edit(text) else { return }
        let hash = try PasswordHash(Self.otherHash)
        for change in 0..<3 {
            let failure = #expect(throws: UsersFileText.Failure.self) {
                switch change {
                case 0: try users.setHash(hash, of: "a")
                case 1: try users.add("b", hash, roles: [])
                default: try users.remove("a")
                }
            }
            #expect(failure?.reason.contains("line feed") == true)
        }
        #expect(users.text == text)
    }

    @Test("A new file has its roles, which allow nothing yet")
    func newFile() throws {
        var users = try edit(UsersFileText.new(roles: ["publisher"]))
        try users.add("alice", try PasswordHash(Self.hash), roles: ["publisher"])
        #expect(users.file.roles["publisher"]?.publish == [])
        #expect(users.file.userNames == ["alice"])
        var empty = try edit("")
        try empty.add("alice", try PasswordHash(Self.hash), roles: [])
        #expect(empty.text == "users:\n  alice:\n    hash: \"\(Self.hash)\"\n    roles: []\n")
    }
}
