/// What one client may do: the patterns of its roles, with its name and client-id in them. Immutable; clients of the same
/// name share one.
public final class PermissionSet: Sendable {
    private struct Patterns: Sendable {
        var allowed: [AccessPattern] = []
        var denied: [AccessPattern] = []
        var deniesAll = false
        /// Whatever is not denied.
        var allowsAll = false
    }

    private let publish: Patterns
    private let subscribe: Patterns
    private let create: Patterns
    /// Where the client came in restricts it to these. nil: it does not.
    private let outerPublish: [AccessPattern]?
    private let outerSubscribe: [AccessPattern]?
    /// How much the client's user may use.
    public let limits: UserLimits
    /// Virtual hosts, "*" for all. nil: the default host alone.
    private let hosts: [String]?

    /// - Parameters:
    ///   - rules: what one allows is allowed, unless another one denies it.
    ///   - listener: nothing else is allowed, whatever `rules` say. nil: there is no such restriction.
    ///   - hosts: the virtual hosts that the client may use, "*" for all. nil: the default host alone.
    public init(
        _ rules: [AccessRules], user: [UInt8], clientID: [UInt8]?, within listener: ListenerRules? = nil,
        limits: UserLimits = UserLimits(), hosts: [String]? = nil
    ) {
        self.limits = limits
        self.hosts = hosts
        func patterns(_ action: AccessAction) -> Patterns {
            var patterns = Patterns()
            for rule in rules {
                for template in rule[allowed: action] {
                    if let pattern = template.pattern(user: user, clientID: clientID, isDeny: false) {
                        patterns.allowed.append(pattern)
                    }
                }
                for template in rule[denied: action] {
                    if let pattern = template.pattern(user: user, clientID: clientID, isDeny: true) {
                        patterns.denied.append(pattern)
                    } else {
                        // A name of so many levels cannot be compared.
                        patterns.deniesAll = true
                    }
                }
                if action == .create, rule.create == nil { patterns.allowsAll = true }
            }
            return patterns
        }
        publish = patterns(.publish)
        subscribe = patterns(.subscribe)
        create = patterns(.create)
        func outer(_ templates: [PatternTemplate]?) -> [AccessPattern]? {
            templates.map { $0.compactMap { $0.pattern(user: user, clientID: clientID, isDeny: false) } }
        }
        outerPublish = outer(listener?.publish)
        outerSubscribe = outer(listener?.subscribe)
    }

    private func outer(of action: AccessAction) -> [AccessPattern]? {
        switch action {
        case .publish: outerPublish
        case .subscribe: outerSubscribe
        // What may be made but neither written nor read is of no use to anybody.
        case .create: nil
        }
    }

    private func patterns(of action: AccessAction) -> Patterns {
        switch action {
        case .publish: publish
        case .subscribe: subscribe
        case .create: create
        }
    }

    /// Whether the client may use a virtual host.
    ///
    /// - Parameter isDefault: clients that name no host are there.
    public func allows(host: String, isDefault: Bool) -> Bool {
        guard let hosts else { return isDefault }
        return hosts.contains(host) || hosts.contains("*")
    }

    /// Whether the client may do it with the destination of that canonical name.
    public func allows(_ action: AccessAction, _ name: UnsafeRawBufferPointer) -> Bool {
        let patterns = patterns(of: action)
        if patterns.deniesAll || patterns.denied.contains(where: { $0.contains(name) }) { return false }
        if let outer = outer(of: action), !outer.contains(where: { $0.contains(name) }) { return false }
        return patterns.allowsAll || patterns.allowed.contains { $0.contains(name) }
    }

    /// Whether the client may subscribe to (or create) that pattern: all that it may match is allowed, by one pattern, and
    /// nothing of it is denied.
    public func allows(_ action: AccessAction, pattern: UnsafeRawBufferPointer) -> Bool {
        let patterns = patterns(of: action)
        if patterns.deniesAll || patterns.denied.contains(where: { $0.intersects(pattern: pattern) }) { return false }
        if let outer = outer(of: action), !outer.contains(where: { $0.contains(pattern: pattern) }) { return false }
        return patterns.allowsAll || patterns.allowed.contains { $0.contains(pattern: pattern) }
    }
}
