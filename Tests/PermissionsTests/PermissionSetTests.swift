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
        var defaults = AccessTable.DefaultRoles()
        defaults.token = ["reader"]
        let table = AccessTable(
            roles: ["reader": reader, "writer": writer], users: [Array("alice".utf8): ["writer"]],
            defaults: defaults)
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

    @Test(
        "Who is not in the users file has the roles of the way in which it came, or may not be connected",
        arguments: [AccessIdentity.Source.certificate, .systemUser])
    func defaults(_ source: AccessIdentity.Source) throws {
        let reader = rules { $0.subscribe = patterns("/topic/#") }
        let writer = rules { $0.publish = patterns("/queue/{user}") }
        let roles = ["reader": reader, "writer": writer]
        let users = [Array("alice".utf8): ["writer"]]
        let alice = AccessIdentity(user: Array("alice".utf8), source: source)
        let bob = AccessIdentity(user: Array("bob".utf8), source: source)
        let strict = AccessTable(roles: roles, users: users)
        #expect(allows(try #require(strict.permissions(of: alice, clientID: nil)), .publish, "/queue/alice"))
        #expect(strict.permissions(of: bob, clientID: nil) == nil)
        var defaults = AccessTable.DefaultRoles()
        if source == .certificate { defaults.certificate = ["reader"] } else { defaults.systemUser = ["reader"] }
        let open = AccessTable(roles: roles, users: users, defaults: defaults)
        let set = try #require(open.permissions(of: bob, clientID: nil))
        #expect(allows(set, .subscribe, "/topic/a") && !allows(set, .publish, "/queue/bob"))
        let known = try #require(open.permissions(of: alice, clientID: nil))
        #expect(allows(known, .publish, "/queue/alice") && !allows(known, .subscribe, "/topic/a"))
    }

    @Test("A listener takes away, and gives nothing")
    func listeners() throws {
        let role = rules {
            $0.publish = patterns("/queue/#")
            $0.subscribe = patterns("/topic/#")
            $0.denySubscribe = patterns("/topic/web.secret")
        }
        let web = ListenerRules(publish: patterns("/queue/{user}.#", "/topic/#"), subscribe: patterns("/topic/web.#"))
        let table = AccessTable(
            roles: ["role": role], users: [Array("alice".utf8): ["role"]], listeners: [nil, web])
        let alice = AccessIdentity(user: Array("alice".utf8), source: .user)
        for listener in [nil, 0, 7] as [Int?] {
            let set = try #require(table.permissions(of: alice, clientID: nil, listener: listener))
            #expect(allows(set, .publish, "/queue/bob") && allows(set, .subscribe, "/topic/a.#", isPattern: true))
        }
        #expect(table.restricts(listener: 1) && !table.restricts(listener: 0) && !table.restricts(listener: 2))
        let set = try #require(table.permissions(of: alice, clientID: nil, listener: 1))
        #expect(allows(set, .publish, "/queue/alice.x") && !allows(set, .publish, "/queue/bob"))
        #expect(!allows(set, .publish, "/topic/a"), "no role allows it")
        #expect(allows(set, .subscribe, "/topic/web.a") && !allows(set, .subscribe, "/topic/a"))
        #expect(!allows(set, .subscribe, "/topic/web.secret"))
        #expect(!allows(set, .subscribe, "/topic/#", isPattern: true))
        #expect(!allows(set, .subscribe, "/topic/web.#", isPattern: true), "it meets what is denied")
        #expect(allows(set, .subscribe, "/topic/web.a.#", isPattern: true))
        #expect(allows(set, .create, "/temp-queue/a"))
    }

    @Test("A user's own limits beat those of its roles, of which the most generous counts")
    func limits() throws {
        func quota(_ connections: Int?, _ bytes: Int? = nil) -> QuotaRules {
            var quota = QuotaRules()
            quota.connectionCountMax = connections
            quota.bytesPerSecondMax = bytes
            return quota
        }
        #expect(UserLimits(own: nil, roles: []) == UserLimits())
        #expect(UserLimits(own: nil, roles: [quota(nil), quota(5), quota(3)]).connectionCountMax == 5)
        #expect(UserLimits(own: nil, roles: [quota(0), quota(5)]).connectionCountMax == 0, "one gives any number")
        #expect(UserLimits(own: quota(2), roles: [quota(5, 1024)]).connectionCountMax == 2)
        #expect(UserLimits(own: quota(2), roles: [quota(5, 1024)]).bytesPerSecondMax == 1024)
        #expect(UserLimits(own: quota(0), roles: [quota(5)]).connectionCountMax == 0)
        #expect(!UserLimits(own: nil, roles: [quota(0)]).isCounted && UserLimits(own: quota(1), roles: []).isCounted)
        let role = rules { $0.quota = quota(7, 2048) }
        let table = AccessTable(
            roles: ["role": role], users: [Array("alice".utf8): ["role"], Array("bob".utf8): ["role"]],
            quotas: [Array("bob".utf8): quota(1)])
        func limits(_ user: String) throws -> UserLimits {
            try #require(table.permissions(of: AccessIdentity(user: Array(user.utf8), source: .user), clientID: nil))
                .limits
        }
        #expect(try limits("alice").connectionCountMax == 7 && limits("alice").hasRate)
        #expect(try limits("bob").connectionCountMax == 1 && limits("bob").bytesPerSecondMax == 2048)
    }

    @Test("Where nobody is asked, listeners alone restrict")
    func anybody() throws {
        let none = ListenerRules(publish: [], subscribe: patterns("/topic/news.#"))
        let table = AccessTable(forAnybodyOn: [nil, none])
        let somebody = AccessIdentity(user: [], source: .anybody)
        let free = try #require(table.permissions(of: somebody, clientID: nil, listener: 0))
        #expect(allows(free, .publish, "/queue/a") && allows(free, .subscribe, "/topic/#", isPattern: true))
        #expect(allows(free, .create, "/queue/a"))
        let bound = try #require(table.permissions(of: somebody, clientID: nil, listener: 1))
        #expect(!allows(bound, .publish, "/topic/news") && allows(bound, .subscribe, "/topic/news.#", isPattern: true))
        #expect(AccessTable.empty.permissions(of: somebody, clientID: nil, listener: 0) == nil)
    }
}
