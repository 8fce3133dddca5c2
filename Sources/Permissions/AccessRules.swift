/// What a client may ask for.
public enum AccessAction: UInt8, CaseIterable, Sendable {
    /// SEND.
    case publish
    /// SUBSCRIBE. A subscription's pattern has to lie within what is allowed.
    case subscribe
    /// To use a destination that no entry of `destinations` names, and temporary destinations.
    case create

    /// As the users file spells it.
    public var key: String {
        switch self {
        case .publish: "publish"
        case .subscribe: "subscribe"
        case .create: "create"
        }
    }

    public var patternKind: PatternTemplate.Kind { self == .create ? .creation : .destination }
}

/// What a role, or a token by itself, allows and denies.
public struct AccessRules: Sendable, Equatable {
    public var publish: [PatternTemplate] = []
    public var subscribe: [PatternTemplate] = []
    /// nil: whatever may be used may be created, and temporary destinations.
    public var create: [PatternTemplate]?
    public var denyPublish: [PatternTemplate] = []
    public var denySubscribe: [PatternTemplate] = []
    public var denyCreate: [PatternTemplate] = []
    /// How much its users may use.
    public var quota = QuotaRules()
    /// The virtual hosts that its users may use, "*" for all. nil: it says nothing.
    public var hosts: [String]?

    public init() {}

    static let everything: AccessRules = {
        let all = try! PatternTemplate("#", .destination, nameByteCountMax: 1, levelCountMax: 1)
        var rules = AccessRules()
        rules.publish = [all]
        rules.subscribe = [all]
        return rules
    }()

    public subscript(allowed action: AccessAction) -> [PatternTemplate] {
        get {
            switch action {
            case .publish: publish
            case .subscribe: subscribe
            case .create: create ?? []
            }
        }
        set {
            switch action {
            case .publish: publish = newValue
            case .subscribe: subscribe = newValue
            case .create: create = newValue
            }
        }
    }

    public subscript(denied action: AccessAction) -> [PatternTemplate] {
        get {
            switch action {
            case .publish: denyPublish
            case .subscribe: denySubscribe
            case .create: denyCreate
            }
        }
        set {
            switch action {
            case .publish: denyPublish = newValue
            case .subscribe: denySubscribe = newValue
            case .create: denyCreate = newValue
            }
        }
    }

    /// Some pattern names `{client-id}`.
    public var usesClientID: Bool {
        AccessAction.allCases.contains { action in
            self[allowed: action].contains(where: \.usesClientID)
                || self[denied: action].contains(where: \.usesClientID)
        }
    }
}

/// What a listener lets its clients do at most, whoever they are: something has to be allowed here and by a role.
public struct ListenerRules: Sendable, Equatable {
    public var publish: [PatternTemplate]
    public var subscribe: [PatternTemplate]

    public init(publish: [PatternTemplate], subscribe: [PatternTemplate]) {
        self.publish = publish
        self.subscribe = subscribe
    }

    var usesClientID: Bool { publish.contains(where: \.usesClientID) || subscribe.contains(where: \.usesClientID) }
}

/// Who a client is, as an authenticator found it.
public final class AccessIdentity: Sendable {
    public enum Source: String, Sendable {
        /// The users file knows the name, and the passcode was right.
        case user
        /// A token with a shared secret, named after its user.
        case token
        /// A JSON Web Token.
        case jwt
        /// A certificate that the client has shown in its handshake.
        case certificate
        /// The system user at the other end of a Unix socket.
        case systemUser = "uid"
        /// A service that was asked by HTTP.
        case service = "http"
        /// The client has named no login.
        case anonymous
        /// Nobody is asked who clients are; only their listener restricts them.
        case anybody
    }

    /// Bytes of a user's name: what is kept of a login.
    public static let nameByteCountMax = 128

    /// The name, as it is compared. Empty for `anonymous` and `anybody`.
    public let user: [UInt8]
    public let source: Source
    /// What the token names, or the service. The roles of others are in the table, so that a reload changes them.
    public let roles: [String]
    /// What the token allows by itself.
    public let rules: AccessRules?
    /// When the session ends, in milliseconds since the epoch. 0: never.
    public let expiresAt: UInt64
    /// The virtual host that a service has allowed, whatever the table says. nil: it was not asked.
    public let host: String?

    /// Every client of a broker that asks nobody.
    public static let anybody = AccessIdentity(user: [], source: .anybody)

    public init(
        user: [UInt8], source: Source, roles: [String] = [], rules: AccessRules? = nil, expiresAt: UInt64 = 0,
        host: String? = nil
    ) {
        self.user = user
        self.source = source
        self.roles = roles
        self.rules = rules
        self.expiresAt = expiresAt
        self.host = host
    }
}
