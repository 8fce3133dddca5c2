import Broker
import Permissions

/// What the clients of a run may do, and when that changes: drawn from the seed, in runs of the mode `permissions`.
struct AccessPlan {
    /// What one user may do, as patterns.
    struct User {
        var publish: [String]
        var subscribe: [String]
        var denyPublish: [String]
        var denySubscribe: [String]

        /// By trying: a name belongs to a pattern, or it does not.
        func mayPublish(to name: String) -> Bool {
            !denyPublish.contains { Self.matches($0, name) } && publish.contains { Self.matches($0, name) }
        }

        func maySubscribe(to name: String) -> Bool {
            !denySubscribe.contains { Self.matches($0, name) } && subscribe.contains { Self.matches($0, name) }
        }

        /// A subscription that the broker has to allow: to a name, or to just what is allowed, if nothing is denied.
        func certainlyMaySubscribe(to destination: String) -> Bool {
            let isPattern = destination.contains { "*#>".contains($0) }
            return isPattern
                ? denySubscribe.isEmpty && subscribe.contains(destination) : maySubscribe(to: destination)
        }

        private static func matches(_ pattern: String, _ name: String) -> Bool {
            pattern == "#" || pattern == "/queue/#" && name.hasPrefix("/queue/") || TopicName.matches(pattern, name)
        }

        var rules: AccessRules {
            func templates(_ texts: [String]) -> [PatternTemplate] {
                texts.map { try! PatternTemplate($0, .destination, nameByteCountMax: 256, levelCountMax: 32) }
            }
            var rules = AccessRules()
            rules.publish = templates(publish)
            rules.subscribe = templates(subscribe)
            rules.denyPublish = templates(denyPublish)
            rules.denySubscribe = templates(denySubscribe)
            return rules
        }
    }

    static let names = ["anna", "ben", "carl"]
    /// Empties the queues in the end, and may do anything.
    static let drainer = "drainer"

    private(set) var tables: [(users: [String: User], table: AccessTable)] = []

    init(_ random: inout Random, topics: [String], patterns: [String], queues: [String]) {
        for _ in 0..<random.range(1...4) {
            var users: [String: User] = [:]
            for name in Self.names {
                // A user is removed now and then.
                if !tables.isEmpty, random.chance(100) { continue }
                func some(_ share: Int, of texts: [String]) -> [String] { texts.filter { _ in random.chance(share) } }
                users[name] = User(
                    publish: some(600, of: topics + queues) + some(200, of: patterns + ["/queue/#", "#"]),
                    subscribe: some(500, of: topics + queues) + some(400, of: patterns)
                        + some(200, of: ["/queue/#", "#"]),
                    denyPublish: some(80, of: topics + queues + patterns),
                    denySubscribe: some(60, of: topics + queues + patterns))
            }
            users[Self.drainer] = User(publish: ["#"], subscribe: ["#"], denyPublish: [], denySubscribe: [])
            var roles: [String: AccessRules] = [:]
            var names: [[UInt8]: [String]] = [:]
            for (name, user) in users {
                roles[name] = user.rules
                names[Array(name.utf8)] = [name]
            }
            tables.append((users, AccessTable(roles: roles, users: names)))
        }
    }
}

/// Which tables were in force when.
struct AccessHistory {
    let plan: AccessPlan
    /// Numbers of tables, with the step at which the first worker got each.
    private var began: [(table: Int, step: Int)] = [(0, 0)]
    /// The step at which the last worker had the newest one. `.max`: not yet.
    private var settled: [Int] = [0]

    init(_ plan: AccessPlan) { self.plan = plan }

    mutating func begin(_ table: Int, step: Int) {
        began.append((table, step))
        settled.append(.max)
    }

    mutating func settle(step: Int) { if settled[settled.count - 1] == .max { settled[settled.count - 1] = step } }

    private var newest: Int { began[began.count - 1].table }

    /// nil: there is no such user any more.
    func user(_ name: String) -> AccessPlan.User? { plan.tables[newest].users[name] }

    /// Whether some table allowed it that was in force since that step.
    func allowed(since step: Int, _ name: String, _ question: (AccessPlan.User) -> Bool) -> Bool {
        for place in began.indices.reversed() {
            if let user = plan.tables[began[place].table].users[name], question(user) { return true }
            // Before all workers had this one, the one before was in force too.
            if settled[place] < step { return false }
        }
        return false
    }
}

extension Oracle {
    /// Neither may a client send what it may not, nor another read what it may not.
    func checkAccess(_ message: Message, _ destination: String, _ subscription: Subscription, _ peer: Peer) {
        guard let access, !subscription.isTemporary else { return }
        let since = message.issuedStep
        if !access.allowed(since: since, peer.user, { $0.maySubscribe(to: destination) }) {
            violate("client \(peer.id): message \(message.number) for \(destination) was not permitted to \(peer.user)")
        }
        guard !message.destination.hasPrefix("/reply-"), !message.destination.hasPrefix("/temp-") else { return }
        let publisher = users[message.publisher] ?? ""
        if !access.allowed(since: since, publisher, { $0.mayPublish(to: message.destination) }) {
            violate("message \(message.number) to \(message.destination) was not permitted to \(publisher)")
        }
    }
}

extension Simulation {
    /// Whether the client does it: what it may do, and now and then what it may not.
    func dares(_ peer: Peer, _ isAllowed: (AccessPlan.User) -> Bool) -> Bool {
        guard let access = oracle.access, !peer.isDrainer else { return true }
        if let user = access.user(peer.user), isAllowed(user) { return true }
        guard accessRandom.chance(60) else { return false }
        peer.mayBeRefused = true
        return true
    }

    /// Who the client says it is.
    func drawUser(_ peer: Peer) {
        guard oracle.access != nil else { return }
        peer.user = peer.isDrainer ? AccessPlan.drainer : accessRandom.pick(AccessPlan.names)
        if !peer.isDrainer, accessRandom.chance(100) {
            peer.expiresAt = wallMilliseconds + UInt64(accessRandom.pick([10, 200, 3000]))
        }
        if oracle.access?.user(peer.user) == nil { peer.mayBeRefused = true }
        oracle.users[peer.id] = peer.user
    }

    /// The operator changes what users may do; workers hear of it one by one.
    func changeAccess() {
        guard let access = oracle.access, nextTables.allSatisfy({ $0 == nil }), accessRandom.chance(8) else { return }
        let table = accessRandom.below(access.plan.tables.count)
        for index in 0..<scenario.shardCount { nextTables[index] = table }
        for index in 0..<scenario.shardCount { workers[index].isWoken = true }
        oracle.access?.begin(table, step: oracle.step)
        // What they have subscribed to, and what is under way, may not be allowed any more.
        for peer in peers where !peer.isDrainer { peer.mayBeRefused = true }
    }

    /// The worker has the new table from its next turn on.
    func giveTable(_ index: Int) {
        guard let access = oracle.access, let table = nextTables[index] else { return }
        nextTables[index] = nil
        if canary != .ignoreReload { shards[index].replaceAccess(access.plan.tables[table].table) }
        // Its turn comes at once: nothing of this step is decided by the old one.
        if nextTables.allSatisfy({ $0 == nil }) { oracle.access?.settle(step: oracle.step) }
    }
}
