/// What a role, or a user's own entry, says of how much its users may use. nil: it says nothing. 0: there is no limit.
public struct QuotaRules: Sendable, Equatable {
    public var connectionCountMax: Int?
    public var subscriptionsPerConnectionMax: Int?
    public var framesPerSecondMax: Int?
    public var bytesPerSecondMax: Int?

    public init() {}

    /// As the users file spells them.
    public static var keys: [(name: String, field: any WritableKeyPath<QuotaRules, Int?> & Sendable, isBytes: Bool)] {
        [
            ("connections-max", \.connectionCountMax, false),
            ("subscriptions-per-connection-max", \.subscriptionsPerConnectionMax, false),
            ("frames-per-second-max", \.framesPerSecondMax, false),
            ("bytes-per-second-max", \.bytesPerSecondMax, true),
        ]
    }

    var isEmpty: Bool { self == QuotaRules() }
}

/// How much a user may use. 0: there is no limit.
public struct UserLimits: Sendable, Equatable {
    /// Of all workers together.
    public var connectionCountMax = 0
    public var subscriptionsPerConnectionMax = 0
    /// Of all connections together. Beyond, they are not read.
    public var framesPerSecondMax = 0
    public var bytesPerSecondMax = 0

    public init() {}

    /// What a user's own entry says counts; else the most that one of its roles gives, among those that speak of it.
    public init(own: QuotaRules?, roles: [QuotaRules]) {
        func limit(_ field: KeyPath<QuotaRules, Int?>) -> Int {
            if let own = own?[keyPath: field] { return own }
            let limits = roles.compactMap { $0[keyPath: field] }
            return limits.contains(0) ? 0 : limits.max() ?? 0
        }
        connectionCountMax = limit(\.connectionCountMax)
        subscriptionsPerConnectionMax = limit(\.subscriptionsPerConnectionMax)
        framesPerSecondMax = limit(\.framesPerSecondMax)
        bytesPerSecondMax = limit(\.bytesPerSecondMax)
    }

    /// Something of the user has to be counted.
    public var isCounted: Bool { connectionCountMax > 0 || hasRate }
    public var hasRate: Bool { framesPerSecondMax > 0 || bytesPerSecondMax > 0 }
}
