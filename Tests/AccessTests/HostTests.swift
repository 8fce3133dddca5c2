import Foundation
import Permissions
import Testing

@testable import Access

/// Which virtual hosts users may use, as files, tokens and services say it.
@Suite("Virtual hosts of users")
struct HostTests {
    private static let text = """
        users:
          alice: {hash: "\(UsersFileTests.hash)", roles: [one, two]}
          bob: {hash: "\(UsersFileTests.hash)", roles: one, hosts: blog}
          carol: {hash: "\(UsersFileTests.hash)", roles: [two], hosts: []}
          dave: {hash: "\(UsersFileTests.hash)", roles: [none]}
        roles:
          one: {publish: "#", hosts: [shop]}
          two: {publish: "#", hosts: ["*"]}
          none: {publish: "#"}

        """

    private func load(
        _ text: String, hosts: [String] = ["shop", "blog"], _ change: (inout AccessSettings) -> Void = { _ in }
    ) throws -> AccessTable {
        let file = FileManager.default.temporaryDirectory.appending(path: "hosts-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: file) }
        try text.write(to: file, atomically: true, encoding: .utf8)
        var settings = AccessSettings()
        settings.usersFile = file.path
        settings.hosts = hosts
        change(&settings)
        return try Authenticator.load(settings, UsersFileTests.limits).table
    }

    private func allowed(_ table: AccessTable, _ identity: AccessIdentity) -> [String] {
        let permissions = table.permissions(of: identity, clientID: nil)
        return ["/", "shop", "blog"].filter { permissions?.allows(host: $0, isDefault: $0 == "/") == true }
    }

    @Test(
        "A user's own entry counts; else its roles; else the default host",
        arguments: [("alice", ["/", "shop", "blog"]), ("bob", ["blog"]), ("carol", []), ("dave", ["/"])])
    func users(_ name: String, _ expected: [String]) throws {
        let table = try load(Self.text)
        #expect(allowed(table, AccessIdentity(user: Array(name.utf8), source: .user)) == expected)
        #expect(allowed(table, AccessIdentity(user: Array(name.utf8), source: .certificate)) == expected)
    }

    @Test("Others have the hosts of their roles")
    func roles() throws {
        let table = try load(Self.text) { $0.anonymousRoles = "one" }
        #expect(allowed(table, AccessIdentity(user: [], source: .anonymous)) == ["shop"])
        // A token's user is nobody in the users file.
        #expect(allowed(table, AccessIdentity(user: Array("bob".utf8), source: .jwt, roles: ["none"])) == ["/"])
        #expect(allowed(table, AccessIdentity(user: Array("eve".utf8), source: .service, roles: ["one"])) == ["shop"])
    }

    @Test("A token may name hosts beside its patterns")
    func tokens() throws {
        let value = try #require(JSONValue(Array(#"{"publish":["/topic/#"],"hosts":["shop"]}"#.utf8)))
        let grant = try WebTokenAuthenticator.grant(value, UsersFileTests.limits)
        #expect(grant.rules.hosts == ["shop"])
        let table = try load(Self.text)
        let identity = AccessIdentity(user: Array("x".utf8), source: .jwt, rules: grant.rules)
        #expect(allowed(table, identity) == ["shop"])
        for wrong in [#"{"hosts":1}"#, #"{"hosts":[1]}"#, #"{"hosts":{}}"#] {
            let value = try #require(JSONValue(Array(wrong.utf8)))
            #expect(throws: LoginRefusal.badGrant) {
                _ = try WebTokenAuthenticator.grant(value, UsersFileTests.limits)
            }
        }
    }

    @Test(
        "A host that the configuration does not have is told with its place",
        arguments: [
            (["shop"], "users.bob.hosts: unknown virtual host \"blog\": allowed: \"shop\""),
            ([], "roles.one.hosts: unknown virtual host \"shop\": the configuration has no hosts"),
        ])
    func unknown(_ hosts: [String], _ expected: String) {
        let error = #expect(throws: AccessError.self) { _ = try load(Self.text, hosts: hosts) }
        let found = error?.problems.map(\.description) ?? []
        #expect(found.contains { $0.contains(expected) }, "\(found)")
    }

    @Test("The standard host is always there")
    func standard() throws {
        let text = Self.text.replacing("hosts: blog", with: "hosts: /").replacing(
            "hosts: [shop]", with: "hosts: [\"/\"]")
        let table = try load(text, hosts: [])
        #expect(allowed(table, AccessIdentity(user: Array("bob".utf8), source: .user)) == ["/"])
    }

    @Test("What is no list of names is an error")
    func malformed() {
        #expect(throws: AccessError.self) { _ = try load(Self.text.replacing("hosts: blog", with: "hosts: {a: b}")) }
    }

    @Test("The service is asked about the host, in escapes")
    func service() throws {
        let url = try #require(ServiceURL("http://127.0.0.1/vhost"))
        let service = LoginService(user: url, virtualHost: url, method: .post)
        let request = String(
            decoding: service.virtualHostRequest(
                url, login: Array("alice".utf8), address: "192.0.2.1", tags: [], host: "a/b c"), as: UTF8.self)
        #expect(request.hasSuffix("username=alice&vhost=a%2Fb%20c&ip=192.0.2.1&tags="))
    }
}
