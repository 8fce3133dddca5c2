import Permissions
import Yams

/// The users file: who there is, what their passwords were hashed to, and what roles may do.
///
///     users:
///       alice:
///         hash: "$y$j9T$..."
///         roles: [publisher]
///         system-users: [www-data, 1001]
///     roles:
///       publisher:
///         publish: ["/topic/news.#", "/queue/{user}.#"]
///         subscribe: ["/topic/#"]
///         create: []
///         deny:
///           subscribe: ["/topic/audit.#"]
///         limits:
///           connections-max: 10
///           bytes-per-second-max: 64KiB
///         hosts: [shop, blog]
///
/// `users.NAME.roles` is a list of names of roles, or one alone. `users.NAME.hash` may be missing where tokens prove who a
/// user is. The `limits` of a user's entry take precedence over those of its roles. `system-users` names users of the
/// machine: a process of one of them is this user when it connects to a Unix socket. A role's keys are lists of patterns,
/// or one alone. `hosts` names the virtual hosts that a user, or a role's users, may use, `"*"` for all; a user's own takes
/// precedence, and where neither says anything, it is the default host alone.
public struct UsersFile: Sendable {
    struct User: Sendable {
        /// nil: no password lets in.
        var hash: PasswordHash?
        var roles: [String]
        /// Names or numbers of users of the machine.
        var systemUsers: [String] = []
        var quota = QuotaRules()
        /// Virtual hosts. nil: its roles say.
        var hosts: [String]?
        var line: Int
    }

    private(set) var users: [String: User] = [:]
    private(set) var roles: [String: AccessRules] = [:]
    private(set) var roleLines: [String: Int] = [:]
    let name: String

    public var userNames: [String] { users.keys.sorted() }
    public var roleNames: [String] { roles.keys.sorted() }

    /// The roles of a user. nil: there is no such user.
    public func roles(ofUser name: String) -> [String]? { users[name]?.roles }

    /// "yescrypt", "bcrypt", "sha512", "rabbitmq" or "none". nil: there is no such user.
    public func method(ofUser name: String) -> String? {
        guard let user = users[name] else { return nil }
        guard let text = user.hash?.text else { return "none" }
        return text.hasPrefix("$r")
            ? "rabbitmq" : text.hasPrefix("$6") ? "sha512" : text.hasPrefix("$2") ? "bcrypt" : "yescrypt"
    }

    init(name: String) { self.name = name }

    /// Reads the text of a file.
    ///
    /// - Parameter name: for the places of problems.
    /// - Throws: all problems, in the order of their lines.
    public init(_ text: String, name: String, _ limits: PatternLimits) throws(AccessError) {
        var walk = UsersFileWalk(file: UsersFile(name: name), limits: limits)
        do {
            if let root = try Yams.compose(yaml: text) { walk.read(root) }
        } catch {
            let (line, text) = Self.explain(error)
            throw AccessError(problems: [AccessProblem(name, line: line, text)])
        }
        guard walk.problems.isEmpty else {
            let sorted = walk.problems.enumerated().sorted {
                ($0.element.line, $0.offset) < ($1.element.line, $1.offset)
            }
            throw AccessError(
                problems: sorted.map {
                    AccessProblem(name, line: $0.element.line, path: $0.element.path, $0.element.text)
                })
        }
        self = walk.file
    }

    private static func explain(_ error: any Error) -> (line: Int, text: String) {
        switch error {
        case YamlError.scanner(_, let problem, let mark, _), YamlError.parser(_, let problem, let mark, _),
            YamlError.composer(_, let problem, let mark, _):
            (mark.line, "not YAML: \(problem) in column \(mark.column)")
        case YamlError.duplicatedKeysInMapping(let names, let context):
            (
                context.mark.line,
                "given more than once: \(names.map(quoted).joined(separator: ", ")); allowed: each name once"
            )
        default: (1, "not YAML")
        }
    }

    /// Why a text cannot be a user's name. nil: it can.
    public static func problem(ofUserName name: String) -> String? {
        let byteCount = name.utf8.count
        guard (1...AccessIdentity.nameByteCountMax).contains(byteCount) else {
            return "has \(byteCount) bytes; allowed: 1 to \(AccessIdentity.nameByteCountMax)"
        }
        let hasControls = name.unicodeScalars.contains { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) }
        // The protocol cannot carry them in a header of CONNECT, or a client would see another name than the operator.
        guard !hasControls, name.first != " ", name.last != " " else {
            return "has control characters, or spaces at its ends; allowed: any others"
        }
        return nil
    }
}

/// Visits the nodes of a users file, keeps what is right and reports all else.
private struct UsersFileWalk {
    var file: UsersFile
    let limits: PatternLimits
    var problems: [(line: Int, path: String, text: String)] = []
    private var patternCount = 0

    private static let patternsPerRoleMax = 1000

    init(file: UsersFile, limits: PatternLimits) {
        self.file = file
        self.limits = limits
    }

    mutating func read(_ root: Node) {
        if isNothing(root) { return }
        guard case .mapping(let mapping) = root else {
            return report(root, "", "found \(kind(of: root)); allowed: a mapping with the keys users and roles")
        }
        for (key, value) in mapping {
            switch key.string {
            case "users": forEach(value, "users") { $0.readUser($1, $2, $3) }
            case "roles": forEach(value, "roles") { $0.readRole($1, $2, $3) }
            default: report(key, "", "unknown key \(quoted(key.string ?? "")); allowed: users, roles")
            }
        }
        checkRoles()
    }

    private mutating func forEach(
        _ node: Node, _ path: String, _ read: (inout UsersFileWalk, String, Node, Node) -> Void
    ) {
        if isNothing(node) { return }
        guard case .mapping(let mapping) = node else {
            return report(node, path, "found \(kind(of: node)); allowed: a mapping of names")
        }
        for (key, value) in mapping {
            guard let name = key.scalar?.string else {
                report(key, path, "found \(kind(of: key)) as a name; allowed: text")
                continue
            }
            read(&self, name, key, value)
        }
    }

    // MARK: Users

    private mutating func readUser(_ name: String, _ key: Node, _ value: Node) {
        let path = "users.\(quoted(name).dropFirst().dropLast())"
        if let problem = UsersFile.problem(ofUserName: name) { return report(key, path, "the name \(problem)") }
        var user = UsersFile.User(hash: nil, roles: [], line: line(key))
        guard case .mapping(let mapping) = value else {
            return report(key, path, "found \(kind(of: value)); allowed: a mapping with the keys \(Self.userKeys)")
        }
        for (key, value) in mapping {
            switch key.string {
            case "hash": user.hash = hash(value, "\(path).hash")
            case "roles": user.roles = texts(value, "\(path).roles", "names of roles")
            case "limits": user.quota = quota(value, "\(path).limits")
            case "hosts": user.hosts = texts(value, "\(path).hosts", Self.hostsAllowed)
            case "system-users":
                user.systemUsers = texts(value, "\(path).system-users", "names or numbers of users of this machine")
            case "password", "passcode":
                report(key, path, "passwords are not kept here; allowed: hash, which stampede user passwd makes")
            default: report(key, path, "unknown key \(quoted(key.string ?? "")); allowed: \(Self.userKeys)")
            }
        }
        file.add(user, name)
    }

    private static let userKeys = "hash, roles, limits, hosts, system-users"
    private static let hostsAllowed = "names of virtual hosts, or \"*\""

    private mutating func hash(_ node: Node, _ path: String) -> PasswordHash? {
        guard let text = node.scalar?.string, !text.isEmpty else {
            report(node, path, "found \(kind(of: node)); allowed: \(PasswordHash.allowed)")
            return nil
        }
        do throws(PasswordHash.Failure) {
            return try PasswordHash(text)
        } catch {
            report(node, path, error.reason)
            return nil
        }
    }

    private mutating func checkRoles() {
        for (name, user) in file.users {
            for role in user.roles where file.roles[role] == nil {
                let known = file.roles.isEmpty ? "none is defined" : file.roleNames.prefix(20).joined(separator: ", ")
                problems.append((user.line, "users.\(name).roles", "unknown role \(quoted(role)); allowed: \(known)"))
            }
        }
    }

    // MARK: Roles

    private mutating func readRole(_ name: String, _ key: Node, _ value: Node) {
        let path = "roles.\(quoted(name).dropFirst().dropLast())"
        guard !name.isEmpty, !name.contains(","), !name.contains(" ") else {
            return report(key, path, "a role's name has no commas or spaces, and is not empty")
        }
        var rules = AccessRules()
        patternCount = 0
        if !isNothing(value) {
            guard case .mapping(let mapping) = value else {
                return report(
                    value, path, "found \(kind(of: value)); allowed: a mapping with the keys \(Self.roleKeys)")
            }
            for (key, value) in mapping {
                if let action = AccessAction.allCases.first(where: { $0.key == key.string }) {
                    rules[allowed: action] = patterns(value, "\(path).\(action.key)", action)
                } else if key.string == "limits" {
                    rules.quota = quota(value, "\(path).limits")
                } else if key.string == "hosts" {
                    rules.hosts = texts(value, "\(path).hosts", Self.hostsAllowed)
                } else if key.string == "deny" {
                    readDenied(value, "\(path).deny", &rules)
                } else {
                    report(key, path, "unknown key \(quoted(key.string ?? "")); allowed: \(Self.roleKeys)")
                }
            }
            checkDenied(rules, key, path)
        }
        file.add(rules, name, line: line(key))
    }

    private static let roleKeys = AccessAction.allCases.map(\.key).joined(separator: ", ") + ", deny, limits, hosts"

    private mutating func readDenied(_ node: Node, _ path: String, _ rules: inout AccessRules) {
        if isNothing(node) { return }
        guard case .mapping(let mapping) = node else {
            return report(
                node, path,
                "found \(kind(of: node)); allowed: a mapping with the keys \(AccessAction.allCases.map(\.key).joined(separator: ", "))"
            )
        }
        for (key, value) in mapping {
            if let action = AccessAction.allCases.first(where: { $0.key == key.string }) {
                rules[denied: action] = patterns(value, "\(path).\(action.key)", action)
            } else {
                report(key, path, "unknown key \(quoted(key.string ?? "")); allowed: publish, subscribe, create")
            }
        }
    }

    /// How much a user may use.
    private mutating func quota(_ node: Node, _ path: String) -> QuotaRules {
        var quota = QuotaRules()
        if isNothing(node) { return quota }
        let names = QuotaRules.keys.map(\.name).joined(separator: ", ")
        guard case .mapping(let mapping) = node else {
            report(node, path, "found \(kind(of: node)); allowed: a mapping with the keys \(names)")
            return quota
        }
        for (key, value) in mapping {
            guard let known = QuotaRules.keys.first(where: { $0.name == key.string }) else {
                report(key, path, "unknown key \(quoted(key.string ?? "")); allowed: \(names)")
                continue
            }
            if let number = value.scalar.flatMap({ Self.number($0.string, isBytes: known.isBytes) }) {
                quota[keyPath: known.field] = number
            } else {
                let what =
                    known.isBytes
                    ? "bytes, as in 65536 or 64KiB, at least 1KiB" : "a whole number up to \(Self.numberMax)"
                report(value, "\(path).\(known.name)", "found \(kind(of: value)); allowed: \(what), or 0 (no limit)")
            }
        }
        return quota
    }

    private static let numberMax = 1 << 30

    private static func number(_ text: String, isBytes: Bool) -> Int? {
        var digits = Substring(text)
        var unit = 1
        if isBytes,
            let suffix = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)].first(where: { text.hasSuffix($0.0) })
        {
            digits = digits.dropLast(3)
            unit = suffix.1
        }
        guard (1...10).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(digits)
        else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: unit)
        guard !overflow, isBytes ? product == 0 || (1 << 10...1 << 40).contains(product) : product <= numberMax else {
            return nil
        }
        return product
    }

    private mutating func patterns(_ node: Node, _ path: String, _ action: AccessAction) -> [PatternTemplate] {
        var patterns: [PatternTemplate] = []
        for (node, text) in nodes(node, path, "patterns of destinations") {
            do throws(PatternTemplate.Failure) {
                patterns.append(try limits.template(text, action))
            } catch {
                report(node, path, "\(quoted(text)) \(error.reason)")
            }
        }
        patternCount += patterns.count
        if patternCount > Self.patternsPerRoleMax {
            report(node, path, "a role has at most \(Self.patternsPerRoleMax) patterns; use fewer and wider ones")
        }
        return patterns
    }

    /// Deny beats allow: what is denied as a whole is allowed in vain.
    private mutating func checkDenied(_ rules: AccessRules, _ key: Node, _ path: String) {
        for action in AccessAction.allCases {
            for pattern in rules[allowed: action] {
                guard let wider = rules[denied: action].first(where: { pattern.isWithin($0) }) else { continue }
                report(
                    key, "\(path).\(action.key)",
                    "\(quoted(pattern.text)) cannot match: deny has \(quoted(wider.text)), and deny beats allow; remove one"
                )
            }
        }
    }

    // MARK: Pieces

    private mutating func texts(_ node: Node, _ path: String, _ what: String) -> [String] {
        nodes(node, path, what).map(\.text)
    }

    /// The items of a list of texts, or one text alone.
    private mutating func nodes(_ node: Node, _ path: String, _ what: String) -> [(node: Node, text: String)] {
        switch node {
        case .scalar(let scalar) where !isNothing(node): return [(node, scalar.string)]
        case .sequence(let items):
            var texts: [(Node, String)] = []
            for (index, item) in items.enumerated() {
                if let text = item.scalar?.string, !isNothing(item) {
                    texts.append((item, text))
                } else {
                    report(item, "\(path)[\(index)]", "found \(kind(of: item)); allowed: text")
                }
            }
            return texts
        case .scalar, .mapping, .alias:
            report(node, path, "found \(kind(of: node)); allowed: a list of \(what), [] for none")
            return []
        }
    }

    private func line(_ node: Node) -> Int { node.mark?.line ?? 1 }

    private mutating func report(_ node: Node, _ path: String, _ text: String) {
        problems.append((line(node), path, text))
    }

    private func isNothing(_ node: Node) -> Bool {
        guard case .scalar(let scalar) = node, scalar.style == .plain || scalar.style == .any else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    private func kind(of node: Node) -> String {
        switch node {
        case .scalar(let scalar): isNothing(node) ? "nothing" : quoted(scalar.string)
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }
}

extension UsersFile {
    fileprivate mutating func add(_ user: User, _ name: String) { users[name] = user }
    fileprivate mutating func add(_ rules: AccessRules, _ name: String, line: Int) {
        roles[name] = rules
        roleLines[name] = line
    }
}
