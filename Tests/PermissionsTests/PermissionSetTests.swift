import Testing

@testable import Permissions

/// Roles put together for one client.
@Suite("Permission sets")
struct PermissionSetTests {
    private func rules(_ fill: (inout AccessRules) -> Void) -> AccessRules {
        var rules = AccessRules()
        fill(&rules)
        return rules
    }

    private func patterns(_ texts: String...) -> [PatternTemplate] {
        texts.map { try! PatternTemplate($0, .creation, nameByteCountMax: 256, levelCountMax: 32) }
    }

    private func allows(_ set: PermissionSet, _ action: AccessAction, _ name: String, isPattern: Bool = false) -> Bool {
        var name = name
        return name.withUTF8 {
            let bytes = UnsafeRawBufferPointer($0)
            return isPattern ? set.allows(action, pattern: bytes) : set.allows(action, bytes)
        }
    }

    @Test("Nothing is allowed that no role allows")
    func nothing() {
        let set = PermissionSet([AccessRules()], user: [], clientID: nil)
        #expect(!allows(set, .publish, "/topic/a"))
        #expect(!allows(set, .subscribe, "/topic/a"))
        #expect(allows(set, .create, "/temp-queue/a"), "a role that does not speak of it may create what it may use")
        #expect(!allows(PermissionSet([], user: [], clientID: nil), .create, "/temp-queue/a"))
    }

    @Test("Deny beats allow, of whichever role, and for each pattern that meets it")
    func deny() {
        let first = rules {
            $0.publish = patterns("/topic/#")
            $0.subscribe = patterns("/topic/#")
        }
        let second = rules {
            $0.denySubscribe = patterns("/topic/secret.#")
            $0.denyPublish = patterns("/topic/secret.#")
            $0.create = []
        }
        let set = PermissionSet([first, second], user: [], clientID: nil)
        #expect(allows(set, .publish, "/topic/news"))
        #expect(!allows(set, .publish, "/topic/secret"))
        #expect(!allows(set, .subscribe, "/topic/#", isPattern: true))
        #expect(!allows(set, .subscribe, "/topic/*", isPattern: true))
        #expect(allows(set, .subscribe, "/topic/news.#", isPattern: true))
        #expect(allows(set, .create, "/topic/x"), "one role lets it create")
    }

    @Test("A role that lists what may be created allows nothing else")
    func create() {
        let set = PermissionSet(
            [rules { $0.create = patterns("/queue/a.#", "/temp-queue/#") }], user: [], clientID: nil)
        #expect(allows(set, .create, "/queue/a.b"))
        #expect(!allows(set, .create, "/queue/b"))
        #expect(allows(set, .create, "/temp-queue/x"))
        #expect(!allows(set, .create, "/temp-topic/x"))
    }

    @Test("A denied pattern that cannot be compared denies all")
    func incomparable() {
        let name = Array(repeating: "a", count: 64).joined(separator: ".")
        let role = rules {
            $0.publish = patterns("/topic/#")
            $0.denyPublish = patterns("/topic/{user}.{user}.{user}")
        }
        #expect(!allows(PermissionSet([role], user: Array(name.utf8), clientID: nil), .publish, "/topic/b"))
        #expect(allows(PermissionSet([role], user: [0x61], clientID: nil), .publish, "/topic/b"))
    }

    @Test("The table knows who may be connected, and with which roles")
    func table() throws {
        let reader = rules { $0.subscribe = patterns("/topic/#") }
        let writer = rules { $0.publish = patterns("/queue/{user}") }
        let table = AccessTable(
            roles: ["reader": reader, "writer": writer], users: [Array("alice".utf8): ["writer"]],
            tokenRoles: ["reader"], jwtRoles: [], anonymousRoles: nil)
        func set(_ user: String, _ source: AccessIdentity.Source, _ roles: [String] = []) -> PermissionSet? {
            table.permissions(of: AccessIdentity(user: Array(user.utf8), source: source, roles: roles), clientID: nil)
        }
        let alice = try #require(set("alice", .user))
        #expect(allows(alice, .publish, "/queue/alice") && !allows(alice, .publish, "/queue/bob"))
        #expect(set("bob", .user) == nil)
        #expect(set("", .anonymous) == nil)
        let token = try #require(set("bob", .token))
        #expect(allows(token, .subscribe, "/topic/x") && !allows(token, .publish, "/queue/bob"))
        let known = try #require(set("alice", .token))
        #expect(allows(known, .publish, "/queue/alice") && !allows(known, .subscribe, "/topic/x"))
        let web = try #require(set("carol", .jwt, ["reader", "unknown"]))
        #expect(allows(web, .subscribe, "/topic/x"))
        #expect(!allows(try #require(set("carol", .jwt)), .subscribe, "/topic/x"))
    }
}
