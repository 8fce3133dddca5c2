import Permissions

/// The reading of the files that the settings name.
struct AuthenticatorLoading {
    let settings: AccessSettings
    let limits: PatternLimits
    var problems: [AccessProblem] = []
    var warnings: [String] = []

    private static let secretByteCountMin = 16

    init(settings: AccessSettings, limits: PatternLimits) {
        self.settings = settings
        self.limits = limits
    }

    mutating func parts() -> AuthenticatorParts {
        var parts = AuthenticatorParts(users: users())
        parts.sharedSecret = sharedSecret()
        parts.webTokens = webTokens()
        parts.service = service()
        guard problems.isEmpty else { return parts }
        parts.systemUsers = systemUsers(parts.users)
        checkRoles(parts.users)
        checkHosts(parts.users)
        checkHashes(parts.users)
        checkListeners(parts)
        return parts
    }

    /// The bytes of a file. nil: there is none, or it was reported.
    private mutating func file(_ path: String, _ key: String, isSecret: Bool) -> AccessFile? {
        if path.isEmpty { return nil }
        switch AccessFile.read(path) {
        case .success(let file):
            if isSecret, let exposure = file.exposure { warnings.append("\(path): \(exposure)") }
            return file
        case .failure(let failure):
            report(key, path, failure.reason)
            return nil
        }
    }

    private mutating func report(_ key: String, _ file: String, _ text: String) {
        problems.append(AccessProblem(key: key, "\(file): \(text)"))
    }

    private mutating func users() -> UsersFile {
        let path = settings.usersFile
        guard let file = file(path, "access.users", isSecret: true) else { return UsersFile(name: path) }
        guard let text = String(validating: file.bytes, as: UTF8.self) else {
            report("access.users", path, "is not UTF-8 text")
            return UsersFile(name: path)
        }
        do throws(AccessError) {
            return try UsersFile(text, name: path, limits)
        } catch {
            problems += error.problems
            return UsersFile(name: path)
        }
    }

    private mutating func sharedSecret() -> SharedSecretToken? {
        let key = "access.token.secret-file"
        guard let file = file(settings.tokenSecretFile, key, isSecret: true),
            let algorithm = SharedSecretToken.Algorithm(rawValue: settings.tokenAlgorithm)
        else { return nil }
        guard file.secret.count >= Self.secretByteCountMin else {
            report(
                key, settings.tokenSecretFile,
                "found \(file.secret.count) bytes of secret; allowed: at least \(Self.secretByteCountMin)")
            return nil
        }
        return SharedSecretToken(
            secret: file.secret, algorithm: algorithm, milliseconds: UInt64(settings.tokenMilliseconds))
    }

    private mutating func webTokens() -> WebTokenAuthenticator? {
        guard settings.usesWebTokens else { return nil }
        var keys: [VerificationKey] = []
        if let file = file(settings.jwtKeyFile, "access.jwt.key-file", isSecret: false) {
            switch VerificationKey.read(pem: file.bytes) {
            case .success(let key): keys.append(key)
            case .failure(let failure): report("access.jwt.key-file", settings.jwtKeyFile, failure.reason)
            }
        }
        if let file = file(settings.jwtSecretFile, "access.jwt.secret-file", isSecret: true) {
            let least = VerificationKey.secretByteCountMin
            if file.secret.count >= least {
                keys.append(VerificationKey(secret: file.secret))
            } else {
                report(
                    "access.jwt.secret-file", settings.jwtSecretFile,
                    "found \(file.secret.count) bytes of secret; allowed: at least \(least) (RFC 7518, section 3.2)")
            }
        }
        if let file = file(settings.jwtKeySetFile, "access.jwt.jwks-file", isSecret: false) {
            switch VerificationKey.read(keySet: file.bytes) {
            case .success(let set):
                keys += set
                if let exposure = file.exposure, set.contains(where: { $0.algorithm == .hs256 }) {
                    warnings.append("\(settings.jwtKeySetFile): holds a shared secret (oct), and \(exposure)")
                }
            case .failure(let failure): report("access.jwt.jwks-file", settings.jwtKeySetFile, failure.reason)
            }
        }
        return WebTokenAuthenticator(
            keys: keys, issuer: settings.jwtIssuer.isEmpty ? nil : settings.jwtIssuer,
            audience: settings.jwtAudience.isEmpty ? nil : settings.jwtAudience, claim: settings.jwtClaim,
            limits: limits)
    }

    /// nil: no system user is anybody here.
    private mutating func systemUsers(_ users: UsersFile) -> SystemUserLogin? {
        var numbers: [UInt32: [UInt8]] = [:]
        for (name, user) in users.users.sorted(by: { $0.value.line < $1.value.line }) {
            func report(_ text: String) {
                problems.append(
                    AccessProblem(
                        settings.usersFile, line: user.line, path: "users.\(name).system-users", text))
            }
            for systemUser in user.systemUsers {
                guard let number = SystemUsers.number(of: systemUser) else {
                    report("this machine has no user \(quoted(systemUser)); allowed: names of its users, or numbers")
                    continue
                }
                if let other = numbers[number], other != Array(name.utf8) {
                    let other = String(decoding: other, as: UTF8.self)
                    report("\(quoted(systemUser)) is the user \(quoted(other)) already; allowed: one user for each")
                }
                numbers[number] = Array(name.utf8)
            }
        }
        let takesAny = !settings.systemUserRoles.isEmpty
        return numbers.isEmpty && !takesAny ? nil : SystemUserLogin(users: numbers, takesAny: takesAny)
    }

    /// The keys are in order: the configuration has checked them.
    private func service() -> LoginService? {
        guard let user = ServiceURL(settings.serviceUserURL),
            let method = LoginService.Method(rawValue: settings.serviceMethod)
        else { return nil }
        return LoginService(user: user, virtualHost: ServiceURL(settings.serviceVirtualHostURL), method: method)
    }

    // MARK: What the files say of each other

    private mutating func checkRoles(_ users: UsersFile) {
        for (key, names) in settings.roleKeys {
            for name in names where users.roles[name] == nil {
                let file = settings.usersFile.isEmpty ? "access.users names no file" : "\(settings.usersFile) has none"
                problems.append(AccessProblem(key: key, "unknown role \(quoted(name)): \(file) of this name"))
            }
        }
    }

    /// A host that is not there is a slip of the pen, or a restriction that would be none.
    private mutating func checkHosts(_ users: UsersFile) {
        let known = Set(settings.hosts + ["/", "*"])
        let names = settings.hosts.prefix(20).map(quoted).joined(separator: ", ")
        let allowed = names.isEmpty ? "the configuration has no hosts" : "allowed: \(names)"
        func check(_ names: [String]?, line: Int?, _ path: String) {
            for name in names ?? [] where !known.contains(name) {
                problems.append(
                    AccessProblem(
                        settings.usersFile, line: line, path: path, "unknown virtual host \(quoted(name)): \(allowed)"))
            }
        }
        for (name, user) in users.users.sorted(by: { $0.value.line < $1.value.line }) {
            check(user.hosts, line: user.line, "users.\(name).hosts")
        }
        for name in users.roleNames {
            check(users.roles[name]?.hosts, line: users.roleLines[name], "roles.\(name).hosts")
        }
    }

    private mutating func checkHashes(_ users: UsersFile) {
        guard !settings.usesTokens, !settings.usesWebTokens, !settings.usesCertificates, !settings.usesService else {
            return
        }
        for (name, user) in users.users.sorted(by: { $0.value.line < $1.value.line })
        where user.hash == nil && user.systemUsers.isEmpty {
            problems.append(
                AccessProblem(
                    settings.usersFile, line: user.line, path: "users.\(name)",
                    "has no hash, so nobody can connect as this user; run stampede user passwd \(name)"))
        }
    }

    private mutating func checkListeners(_ parts: AuthenticatorParts) {
        let kinds = parts.kinds(settings)
        for listener in settings.listeners {
            for kind in AuthenticatorKind.allCases
            where listener.authenticators?.contains(kind) == true && !kinds.contains(kind) {
                problems.append(
                    AccessProblem(
                        key: "\(listener.path).authenticators", "found \(kind.rawValue), but \(kind.whyMissing)"))
            }
        }
    }
}

/// What is read from files and keys.
struct AuthenticatorParts {
    var users: UsersFile
    var sharedSecret: SharedSecretToken?
    var webTokens: WebTokenAuthenticator?
    var systemUsers: SystemUserLogin?
    var service: LoginService?

    init(users: UsersFile) { self.users = users }

    /// The ways there are to prove who one is.
    func kinds(_ settings: AccessSettings) -> Set<AuthenticatorKind> {
        let all: [(AuthenticatorKind, Bool)] = [
            (.users, users.users.values.contains { $0.hash != nil }), (.token, sharedSecret != nil),
            (.jwt, webTokens != nil), (.certificate, settings.usesCertificates), (.uid, systemUsers != nil),
            (.http, service != nil),
            (.anonymous, !settings.anonymousRoles.isEmpty),
        ]
        return Set(all.filter(\.1).map(\.0))
    }

    func table(_ settings: AccessSettings) -> AccessTable {
        func roles(_ list: String) -> [String]? {
            let names = AccessSettings.names(list)
            return names.isEmpty ? nil : names
        }
        var defaults = AccessTable.DefaultRoles()
        defaults.token = AccessSettings.names(settings.tokenRoles)
        defaults.jwt = AccessSettings.names(settings.jwtRoles)
        defaults.certificate = roles(settings.certificateRoles)
        defaults.systemUser = roles(settings.systemUserRoles)
        defaults.service = roles(settings.serviceRoles)
        defaults.anonymous = roles(settings.anonymousRoles)
        return AccessTable(
            roles: users.roles,
            users: Dictionary(uniqueKeysWithValues: users.users.map { (Array($0.utf8), $1.roles) }),
            quotas: Dictionary(uniqueKeysWithValues: users.users.map { (Array($0.utf8), $1.quota) }),
            hosts: Dictionary(
                uniqueKeysWithValues: users.users.compactMap { name, user in
                    user.hosts.map { (Array(name.utf8), $0) }
                }),
            defaults: defaults, listeners: settings.listenerRules)
    }
}

extension AuthenticatorKind {
    /// Completes "found users, but ".
    fileprivate var whyMissing: String {
        switch self {
        case .users: "no user of access.users has a hash"
        case .token: "access.token.secret-file names no file"
        case .jwt: "access.jwt has no key"
        case .certificate: "access.certificate.user-from is none"
        case .uid: "access.users has no user with system-users, and access.uid.roles is empty"
        case .http: "access.http.user-path is empty"
        case .anonymous: "access.anonymous-roles is empty"
        }
    }
}
