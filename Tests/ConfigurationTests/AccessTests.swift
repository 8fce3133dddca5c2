import Access
import Foundation
import Testing

@testable import Configuration

/// The keys of `access`, and the commands that have to do with users.
@Suite("Access in the configuration and on the command line")
struct AccessConfigurationTests {
    private let stampede: Executable
    private let folder: URL

    init() throws {
        stampede = try Executable()
        folder = FileManager.default.temporaryDirectory.appending(path: "users-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func path(_ name: String) -> String { folder.appending(path: name).path }

    private func user(_ arguments: [String], input: String = "") throws -> Executable.Outcome {
        try stampede.run(["user"] + arguments + ["--file", path("users.yaml")], input: input)
    }

    private func text() throws -> String { try String(contentsOfFile: path("users.yaml"), encoding: .utf8) }

    @Test(
        "A key that has no effect without another one is an error",
        arguments: [
            ("access: {anonymous-roles: guest}", "access.anonymous-roles"),
            ("access: {threads: 4}", "access.threads"),
            ("access: {users: u.yaml, token: {roles: guest}}", "access.token.roles"),
            ("access: {users: u.yaml, jwt: {issuer: x}}", "access.jwt.issuer"),
            ("access: {users: u.yaml, certificate: {roles: x}}", "access.certificate.roles"),
            ("access: {users: u.yaml, certificate: {user-from: cn}}", "access.certificate.user-from"),
            ("access: {users: u.yaml, uid: {roles: x}}", "access.uid.roles"),
            ("listeners: {url: \"127.0.0.1:1\", authenticators: users}", "listeners.authenticators"),
        ])
    func ineffective(_ yaml: String, _ key: String) {
        do throws(ConfigurationError) {
            _ = try EffectiveSettings.load(yaml: yaml)
            Issue.record("no error")
        } catch {
            #expect(error.problems.count == 1)
            #expect(error.problems[0].path == key && error.problems[0].text.contains("has no effect"))
        }
    }

    @Test("A token needs room in CONNECT")
    func room() {
        #expect(throws: ConfigurationError.self) {
            try EffectiveSettings.load(yaml: "access: {jwt: {key-file: k}}\nlimits: {pre-connect-bytes: 1KiB}")
        }
    }

    @Test("stampede config reads the files of access, and says what is wrong in them")
    func config() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        try "users:\n  a: {roles: nobody}\n".write(toFile: path("users.yaml"), atomically: true, encoding: .utf8)
        let outcome = try stampede.run(["config", "--set", "access.users=\(path("users.yaml"))"])
        #expect(outcome.exitCode == 2)
        #expect(
            outcome.errorLines.count == 1
                && outcome.error.contains("users.yaml:2: users.a.roles: unknown role \"nobody\""))
        let missing = try stampede.run(["config", "--set", "access.users=/nowhere"])
        #expect(missing.exitCode == 2)
        #expect(missing.error.hasPrefix("stampede: --set: access.users: /nowhere: cannot be read: No such file"))
        let roles = "roles:\n  a: {}\n  pub: {hosts: [shop]}\n"
        try roles.write(toFile: path("users.yaml"), atomically: true, encoding: .utf8)
        let file = """
            listeners:
              - url: 127.0.0.1:0
                authenticators: [users]
            access: {users: \(path("users.yaml")), anonymous-roles: guest}
            """
        try file.write(toFile: path("stampede.yaml"), atomically: true, encoding: .utf8)
        let places = try stampede.run(["config", "--config", path("stampede.yaml")]).errorLines
        let name = path("stampede.yaml")
        #expect(
            places.contains { $0.contains("\(name):3: listeners[0].authenticators: found users, but") }, "\(places)")
        #expect(places.contains { $0.contains("\(name):4: access.anonymous-roles: unknown role \"guest\"") })
        #expect(places.contains { $0.contains("users.yaml:3: roles.pub.hosts: unknown virtual host") })
    }

    @Test("Users are added, listed, changed and removed, and the file stays its owner's alone")
    func users() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let added = try user(["add", "alice", "--role", "publisher", "--password-stdin"], input: "secret\n")
        #expect(added.exitCode == 0 && added.output == "", "\(added.error)")
        #expect(try user(["add", "bob", "--password-stdin"], input: "other").exitCode == 0)
        let list = try user(["list"])
        #expect(list.output == "alice\tyescrypt\tpublisher\nbob\tyescrypt\t\n" && list.exitCode == 0)
        let mode = try FileManager.default.attributesOfItem(atPath: path("users.yaml"))[.posixPermissions] as? Int
        #expect(mode == 0o600)
        let before = try text()
        #expect(!before.contains("secret") && before.hasPrefix("# Who may connect"))
        #expect(try user(["passwd", "alice", "--password-stdin"], input: "new\n").exitCode == 0)
        let after = try text()
        #expect(after != before && after.split(separator: "\n").count == before.split(separator: "\n").count)
        let file = try UsersFile(after, name: "u", PatternLimits(nameByteCountMax: 256, levelCountMax: 32))
        #expect(file.userNames == ["alice", "bob"] && file.roles(ofUser: "alice") == ["publisher"])
        #expect(try user(["remove", "bob"]).exitCode == 0)
        #expect(try user(["list"]).output == "alice\tyescrypt\tpublisher\n")
    }

    @Test("What cannot be done is said in one line, and nothing is changed")
    func refused() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let none = try user(["list"])
        #expect(none.exitCode == 1 && none.error.contains("there is no such file"))
        _ = try user(["add", "alice", "--role", "r", "--password-stdin"], input: "secret\n")
        let before = try text()
        for (arguments, input, reason) in [
            (["add", "alice", "--password-stdin"], "x\n", "already"),
            (["add", "b", "--role", "q", "--password-stdin"], "x\n", "no role"),
            (["add", "b", "--password-stdin"], "\n", "empty"),
            (["add", "b", "--password-stdin"], "a\u{7}\n", "control"),
            (["passwd", "b", "--password-stdin"], "x\n", "no user"), (["remove", "b"], "", "no user"),
            (["add", " b", "--password-stdin"], "x\n", "spaces"),
        ] {
            let outcome = try user(arguments, input: input)
            #expect(outcome.exitCode == 1 && outcome.output == "", "\(arguments)")
            #expect(outcome.errorLines.count == 1 && outcome.error.contains(reason), "\(outcome.error)")
        }
        let terminal = try user(["add", "b"], input: "x\nx\n")
        #expect(terminal.exitCode == 2 && terminal.error.contains("--password-stdin"))
        #expect(try text() == before)
        let arguments = ["user", "add", "a", "--password-stdin", "--file", "/nowhere/users.yaml"]
        let nowhere = try stampede.run(arguments, input: "secret\n")
        #expect(nowhere.exitCode == 1 && nowhere.error.hasPrefix("stampede: /nowhere/users.yaml: cannot be written"))
        try "users: [".write(toFile: path("users.yaml"), atomically: true, encoding: .utf8)
        let broken = try user(["remove", "alice"])
        #expect(broken.exitCode == 2 && broken.error.contains("not YAML"))
    }

    @Test("The example of a users file is right, and no file of its own is needed beside it")
    func example() throws {
        let example = SchemaTests.reference.deletingLastPathComponent().appending(path: "users.yaml").path
        let outcome = try stampede.run(["config", "--set", "access.users=\(example)"])
        #expect(outcome.exitCode == 0, "\(outcome.error)")
        let list = try stampede.run(["user", "list", "--file", example])
        #expect(list.output == "alice\tyescrypt\tpublisher,reader\nbob\tyescrypt\tworker\n")
    }
}
