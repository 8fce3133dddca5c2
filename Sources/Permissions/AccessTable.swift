/// The roles of all users, as one reading of the users file and of the configuration gives them. Immutable, and shared by
/// all shards; a reload makes another.
public final class AccessTable: Sendable {
    private let roles: [String: AccessRules]
    /// The names of the roles of each user of the users file.
    private let users: [[UInt8]: [String]]
    private let tokenRoles: [String]
    private let jwtRoles: [String]
    /// nil: clients need a login.
    private let anonymousRoles: [String]?
    private let usesClientIDs: Bool

    /// - Parameters:
    ///   - tokenRoles: of users of tokens whom the users file does not name.
    ///   - jwtRoles: where the token itself says nothing of what it allows.
    ///   - anonymousRoles: of clients without a login. nil: they may not connect.
    public init(
        roles: [String: AccessRules], users: [[UInt8]: [String]], tokenRoles: [String] = [], jwtRoles: [String] = [],
        anonymousRoles: [String]? = nil
    ) {
        self.roles = roles
        self.users = users
        self.tokenRoles = tokenRoles
        self.jwtRoles = jwtRoles
        self.anonymousRoles = anonymousRoles
        usesClientIDs = roles.values.contains(where: \.usesClientID)
    }

    /// Nobody may do anything.
    public static let empty = AccessTable(roles: [:], users: [:])

    public func hasRole(_ name: String) -> Bool { roles[name] != nil }

    /// Clients of the same name may differ in what they may do.
    public func dependsOnClientID(_ identity: AccessIdentity) -> Bool {
        usesClientIDs || identity.rules?.usesClientID == true
    }

    /// What the client may do. nil: it may not be connected any more.
    public func permissions(of identity: AccessIdentity, clientID: [UInt8]?) -> PermissionSet? {
        guard let names = roleNames(of: identity) else { return nil }
        var rules = names.compactMap { roles[$0] }
        if let own = identity.rules { rules.append(own) }
        return PermissionSet(rules, user: identity.user, clientID: clientID)
    }

    private func roleNames(of identity: AccessIdentity) -> [String]? {
        switch identity.source {
        case .user: users[identity.user]
        case .token: users[identity.user] ?? tokenRoles
        case .jwt: identity.roles.isEmpty && identity.rules == nil ? jwtRoles : identity.roles
        case .anonymous: anonymousRoles
        }
    }
}
