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
        /// 0: it may send as many as it likes.
        var framesPerSecondMax = 0
        /// What the listener that it has come through allows at most. nil: it does not say.
        var listener: Listener?

        /// By trying: a name belongs to a pattern, or it does not.
        func mayPublish(to name: String) -> Bool {
            !denyPublish.contains { Self.matches($0, name) } && publish.contains { Self.matches($0, name) }
                && listener?.publish.contains { Self.matches($0, name) } != false
        }

        func maySubscribe(to name: String) -> Bool {
            !denySubscribe.contains { Self.matches($0, name) } && subscribe.contains { Self.matches($0, name) }
                && listener?.subscribe.contains { Self.matches($0, name) } != false
        }

        /// A subscription that the broker has to allow: to a name, or to just what is allowed, if nothing is denied.
        func certainlyMaySubscribe(to destination: String) -> Bool {
            let isPattern = destination.contains { "*#>".contains($0) }
            return isPattern
                ? denySubscribe.isEmpty && subscribe.contains(destination)
                    && listener?.subscribe.contains(destination) != false
                : maySubscribe(to: destination)
        }

        private static func matches(_ pattern: String, _ name: String) -> Bool {
            pattern == "#" || pattern == "/queue/#" && name.hasPrefix("/queue/") || TopicName.matches(pattern, name)
        }

        var rules: AccessRules {
            var rules = AccessRules()
            rules.publish = templates(publish)
            rules.subscribe = templates(subscribe)
            rules.denyPublish = templates(denyPublish)
            rules.denySubscribe = templates(denySubscribe)
            if framesPerSecondMax > 0 { rules.quota.framesPerSecondMax = framesPerSecondMax }
            return rules
        }
    }

    /// What clients of one listener may do at most.
    struct Listener {
        var publish: [String]
        var subscribe: [String]
    }

    private static func templates(_ texts: [String]) -> [PatternTemplate] {
        texts.map { try! PatternTemplate($0, .destination, nameByteCountMax: 256, levelCountMax: 32) }
    }

    static let names = ["anna", "ben", "carl"]
    /// Empties the queues in the end, and may do anything.
    static let drainer = "drainer"

    private(set) var tables: [(users: [String: User], table: AccessTable)] = []
    /// By the number of the listener; the first restricts nothing.
    let listeners: [Listener?]

    init(_ random: inout Random, topics: [String], patterns: [String], queues: [String]) {
        let listeners: [Listener?] = (0..<Peer.listenerCount).map { number in
            guard number > 0, random.chance(500) else { return nil }
            func some(of texts: [String]) -> [String] { texts.filter { _ in random.chance(700) } }
            return Listener(
                publish: some(of: topics + queues + ["/queue/#"]), subscribe: some(of: topics + queues + patterns))
        }
        self.listeners = listeners
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
                    denySubscribe: some(60, of: topics + queues + patterns),
                    framesPerSecondMax: random.pick([0, 0, 50, 1000]))
            }
            users[Self.drainer] = User(publish: ["#"], subscribe: ["#"], denyPublish: [], denySubscribe: [])
            var roles: [String: AccessRules] = [:]
            var names: [[UInt8]: [String]] = [:]
            for (name, user) in users {
                roles[name] = user.rules
                names[Array(name.utf8)] = [name]
            }
            let rules = listeners.map { listener in
                listener.map {
                    ListenerRules(publish: Self.templates($0.publish), subscribe: Self.templates($0.subscribe))
                }
            }
            tables.append((users, AccessTable(roles: roles, users: names, listeners: rules)))
        }
    }
}

// What follows from a plan.
extension AccessPlan {
    /// What a user may do who has come through that listener.
    func user(_ name: String, table: Int, listener: Int) -> User? {
        guard var user = tables[table].users[name] else { return nil }
        user.listener = listeners[listener]
        return user
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
    func user(_ name: String, listener: Int) -> AccessPlan.User? {
        plan.user(name, table: newest, listener: listener)
    }

    /// Whether some table allowed it that was in force since that step.
    func allowed(since step: Int, _ name: String, listener: Int, _ question: (AccessPlan.User) -> Bool) -> Bool {
        for place in began.indices.reversed() {
            if let user = plan.user(name, table: began[place].table, listener: listener), question(user) { return true }
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
        if !access.allowed(since: since, peer.user, listener: peer.listener, { $0.maySubscribe(to: destination) }) {
            violate("client \(peer.id): message \(message.number) for \(destination) was not permitted to \(peer.user)")
        }
        guard !message.destination.hasPrefix("/reply-"), !message.destination.hasPrefix("/temp-") else { return }
        let publisher = users[message.publisher] ?? ""
        let listener = listeners[message.publisher] ?? 0
        if !access.allowed(since: since, publisher, listener: listener, { $0.mayPublish(to: message.destination) }) {
            violate("message \(message.number) to \(message.destination) was not permitted to \(publisher)")
        }
    }
}

extension Simulation {
    /// Whether the client does it: what it may do, and now and then what it may not.
    func dares(_ peer: Peer, _ isAllowed: (AccessPlan.User) -> Bool) -> Bool {
        guard let access = oracle.access, !peer.isDrainer else { return true }
        if let user = access.user(peer.user, listener: peer.listener), isAllowed(user) { return true }
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
        if oracle.access?.user(peer.user, listener: peer.listener) == nil { peer.mayBeRefused = true }
        oracle.users[peer.id] = peer.user
        oracle.listeners[peer.id] = peer.listener
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
