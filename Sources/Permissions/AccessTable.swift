/// The roles of all users, as one reading of the users file and of the configuration gives them. Immutable, and shared by
/// all shards; a reload makes another.
public final class AccessTable: Sendable {
    /// The roles of those whom the users file does not name, by how they have proved who they are. Names of roles; nil: they
    /// may not connect.
    public struct DefaultRoles: Sendable {
        /// Users of tokens with a shared secret.
        public var token: [String]? = []
        /// Where a JSON Web Token itself says nothing of what it allows.
        public var jwt: [String]? = []
        public var certificate: [String]?
        public var systemUser: [String]?
        /// Those of whom the service that allowed them names no role.
        public var service: [String]?
        /// Clients without a login.
        public var anonymous: [String]?

        public init() {}
    }

    private let roles: [String: AccessRules]
    /// The names of the roles of each user of the users file.
    private let users: [[UInt8]: [String]]
    /// Of users whose entry has limits of its own.
    private let quotas: [[UInt8]: QuotaRules]
    /// Of users whose entry names virtual hosts.
    private let hosts: [[UInt8]: [String]]
    private let defaults: DefaultRoles
    /// What listeners restrict, by `ListenerID`. nil, or none of that number: nothing.
    private let listeners: [ListenerRules?]
    private let usesClientIDs: Bool
    /// Clients are not asked who they are: all may do what their listener lets them.
    public let isForAnybody: Bool

    /// - Parameters:
    ///   - quotas: of users whose entries have some.
    ///   - hosts: of users whose entries name virtual hosts.
    ///   - listeners: by `ListenerID`. nil: that listener restricts nothing.
    public init(
        roles: [String: AccessRules], users: [[UInt8]: [String]], quotas: [[UInt8]: QuotaRules] = [:],
        hosts: [[UInt8]: [String]] = [:], defaults: DefaultRoles = DefaultRoles(), listeners: [ListenerRules?] = []
    ) {
        self.roles = roles
        self.users = users
        self.quotas = quotas
        self.hosts = hosts
        self.defaults = defaults
        self.listeners = listeners
        isForAnybody = false
        usesClientIDs =
            roles.values.contains(where: \.usesClientID) || listeners.contains { $0?.usesClientID == true }
    }

    /// For a broker that asks nobody who they are, and has listeners that restrict their clients.
    public init(forAnybodyOn listeners: [ListenerRules?]) {
        roles = [:]
        users = [:]
        quotas = [:]
        hosts = [:]
        defaults = DefaultRoles()
        self.listeners = listeners
        isForAnybody = true
        usesClientIDs = listeners.contains { $0?.usesClientID == true }
    }

    /// Nobody may do anything.
    public static let empty = AccessTable(roles: [:], users: [:])

    public func hasRole(_ name: String) -> Bool { roles[name] != nil }

    /// The users file names that user.
    public func hasUser(_ name: [UInt8]) -> Bool { users[name] != nil }

    /// Clients of the same name may differ in what they may do.
    public func dependsOnClientID(_ identity: AccessIdentity) -> Bool {
        usesClientIDs || identity.rules?.usesClientID == true
    }

    /// Clients of the same name may do less on that listener than elsewhere.
    public func restricts(listener: Int) -> Bool { rules(ofListener: listener) != nil }

    private func rules(ofListener listener: Int) -> ListenerRules? {
        listeners.indices.contains(listener) ? listeners[listener] : nil
    }

    /// What the client may do. nil: it may not be connected any more.
    ///
    /// - Parameter listener: where it came in. nil: where nothing is restricted.
    public func permissions(of identity: AccessIdentity, clientID: [UInt8]?, listener: Int? = nil) -> PermissionSet? {
        guard var rules = rules(of: identity) else { return nil }
        if let own = identity.rules { rules.append(own) }
        return PermissionSet(
            rules, user: identity.user, clientID: clientID, within: listener.flatMap { self.rules(ofListener: $0) },
            limits: UserLimits(own: quotas[identity.user], roles: rules.map(\.quota)),
            hosts: hosts(of: identity, rules))
    }

    /// What a user's own entry says counts; else all that its roles name, and its token.
    private func hosts(of identity: AccessIdentity, _ rules: [AccessRules]) -> [String]? {
        if namesUser(identity), let own = hosts[identity.user] { return own }
        let named = rules.compactMap(\.hosts)
        return named.isEmpty ? nil : named.flatMap { $0 }
    }

    /// The entry of that name in the users file is the client's.
    private func namesUser(_ identity: AccessIdentity) -> Bool {
        switch identity.source {
        case .user, .token, .certificate, .systemUser, .service: true
        case .jwt, .anonymous, .anybody: false
        }
    }

    private func rules(of identity: AccessIdentity) -> [AccessRules]? {
        if identity.source == .anybody { return isForAnybody ? [.everything] : nil }
        return roleNames(of: identity)?.compactMap { roles[$0] }
    }

    private func roleNames(of identity: AccessIdentity) -> [String]? {
        switch identity.source {
        case .user: users[identity.user]
        case .token: users[identity.user] ?? defaults.token
        case .jwt: identity.roles.isEmpty && identity.rules == nil ? defaults.jwt : identity.roles
        case .certificate: users[identity.user] ?? defaults.certificate
        case .systemUser: users[identity.user] ?? defaults.systemUser
        case .service: users[identity.user] ?? (identity.roles.isEmpty ? defaults.service : identity.roles)
        case .anonymous: defaults.anonymous
        case .anybody: nil
        }
    }
}
