public import Permissions

/// Who may connect: one reading of the users file and of all keys. Immutable; a reload makes another.
///
/// The first that knows the name decides: the users file, where it has a hash for it; a login of the form of a shared-secret
/// token; a passcode of the form of a JSON Web Token; and without login and passcode, the anonymous roles.
public final class Authenticator: Sendable {
    /// What the clients that are let in may do.
    public let table: AccessTable
    /// What the log should hear of it: files that others may read.
    public let warnings: [String]
    private let hashes: [[UInt8]: PasswordHash]
    /// Those to spend time on where a name has none: of the users, so that an unknown name takes as long as theirs.
    private let decoys: [PasswordHash]
    private let decoyKey: [UInt8]
    private let sharedSecret: SharedSecretToken?
    private let webTokens: WebTokenAuthenticator?
    private let allowsAnonymous: Bool

    private init(
        table: AccessTable, hashes: [[UInt8]: PasswordHash], sharedSecret: SharedSecretToken?,
        webTokens: WebTokenAuthenticator?, allowsAnonymous: Bool, warnings: [String]
    ) {
        self.table = table
        self.hashes = hashes
        decoys = hashes.values.sorted { $0.text < $1.text }
        decoyKey = (0..<32).map { _ in .random(in: 0...255) }
        self.sharedSecret = sharedSecret
        self.webTokens = webTokens
        self.allowsAnonymous = allowsAnonymous
        self.warnings = warnings
    }

    /// Whether that login's passcode is checked against a slow hash: its answer is worth remembering.
    public func usesHash(_ credentials: Credentials) -> Bool { hashes[credentials.login] != nil }

    /// Decides about a client. Takes milliseconds where a password is hashed, and as long where a name is unknown.
    public func decide(
        _ credentials: Credentials, wallMilliseconds: UInt64, _ scratch: borrowing CryptScratch
    ) -> Decision {
        if let hash = hashes[credentials.login] {
            guard hash.matches(credentials.passcode, scratch) else { return .refused(.wrongLogin) }
            return .allowed(AccessIdentity(user: credentials.login, source: .user))
        }
        let decision = decideWithoutHash(credentials, wallMilliseconds)
        if case .refused = decision, !credentials.login.isEmpty { spendTime(credentials, scratch) }
        return decision
    }

    private func decideWithoutHash(_ credentials: Credentials, _ wallMilliseconds: UInt64) -> Decision {
        if let decision = sharedSecret?.decide(credentials, wallMilliseconds: wallMilliseconds) { return decision }
        if let webTokens, WebTokenAuthenticator.looksLikeToken(credentials.passcode) {
            return webTokens.decide(credentials, wallMilliseconds: wallMilliseconds, hasRole: table.hasRole)
        }
        guard credentials.login.isEmpty else { return .refused(.wrongLogin) }
        guard credentials.passcode.isEmpty, allowsAnonymous else { return .refused(.noLogin) }
        return .allowed(AccessIdentity(user: [], source: .anonymous))
    }

    /// The same name always gets the same decoy, as a user always has the same hash.
    private func spendTime(_ credentials: Credentials, _ scratch: borrowing CryptScratch) {
        guard !decoys.isEmpty else { return }
        let digest = Digest.hmacSHA256(credentials.login, key: decoyKey)
        let number = digest.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        _ = decoys[Int(number % UInt64(decoys.count))].matches(credentials.passcode, scratch)
    }

    // MARK: Reading

    /// Reads all files that the settings name.
    ///
    /// - Throws: all problems, each with its place and what would be right.
    public static func load(_ settings: AccessSettings, _ limits: PatternLimits) throws(AccessError) -> Authenticator {
        var loading = Loading(settings: settings, limits: limits)
        let users = loading.users()
        let sharedSecret = loading.sharedSecret()
        let webTokens = loading.webTokens()
        loading.check(users)
        guard loading.problems.isEmpty else { throw AccessError(problems: loading.problems) }
        var hashes: [[UInt8]: PasswordHash] = [:]
        var roles: [[UInt8]: [String]] = [:]
        for (name, user) in users.users {
            hashes[Array(name.utf8)] = user.hash
            roles[Array(name.utf8)] = user.roles
        }
        let anonymousRoles = AccessSettings.names(settings.anonymousRoles)
        let table = AccessTable(
            roles: users.roles, users: roles, tokenRoles: AccessSettings.names(settings.tokenRoles),
            jwtRoles: AccessSettings.names(settings.jwtRoles),
            anonymousRoles: anonymousRoles.isEmpty ? nil : anonymousRoles)
        return Authenticator(
            table: table, hashes: hashes, sharedSecret: sharedSecret, webTokens: webTokens,
            allowsAnonymous: !anonymousRoles.isEmpty, warnings: loading.warnings)
    }
}

/// The reading of the files that the settings name.
private struct Loading {
    let settings: AccessSettings
    let limits: PatternLimits
    var problems: [AccessProblem] = []
    var warnings: [String] = []

    private static let secretByteCountMin = 16

    /// The bytes of a file. nil: there is none, or it was reported.
    private mutating func file(_ path: String, isSecret: Bool) -> AccessFile? {
        if path.isEmpty { return nil }
        switch AccessFile.read(path) {
        case .success(let file):
            if isSecret, file.isReadableByOthers {
                warnings.append("\(path): others than its owner can read or write it; chmod 600 \(path)")
            }
            return file
        case .failure(let failure):
            problems.append(AccessProblem(path, failure.reason))
            return nil
        }
    }

    mutating func users() -> UsersFile {
        let path = settings.usersFile
        guard let file = file(path, isSecret: true) else { return UsersFile(name: path) }
        guard let text = String(validating: file.bytes, as: UTF8.self) else {
            problems.append(AccessProblem(path, "is not UTF-8 text"))
            return UsersFile(name: path)
        }
        do throws(AccessError) {
            return try UsersFile(text, name: path, limits)
        } catch {
            problems += error.problems
            return UsersFile(name: path)
        }
    }

    mutating func sharedSecret() -> SharedSecretToken? {
        guard let file = file(settings.tokenSecretFile, isSecret: true),
            let algorithm = SharedSecretToken.Algorithm(rawValue: settings.tokenAlgorithm)
        else { return nil }
        guard file.secret.count >= Self.secretByteCountMin else {
            problems.append(
                AccessProblem(
                    settings.tokenSecretFile,
                    "found \(file.secret.count) bytes of secret; allowed: at least \(Self.secretByteCountMin)"))
            return nil
        }
        return SharedSecretToken(
            secret: file.secret, algorithm: algorithm, milliseconds: UInt64(settings.tokenMilliseconds))
    }

    mutating func webTokens() -> WebTokenAuthenticator? {
        guard settings.usesWebTokens else { return nil }
        var keys: [VerificationKey] = []
        if let file = file(settings.jwtKeyFile, isSecret: false) {
            switch VerificationKey.read(pem: file.bytes) {
            case .success(let key): keys.append(key)
            case .failure(let failure): problems.append(AccessProblem(settings.jwtKeyFile, failure.reason))
            }
        }
        if let file = file(settings.jwtSecretFile, isSecret: true) {
            let least = VerificationKey.secretByteCountMin
            if file.secret.count >= least {
                keys.append(VerificationKey(secret: file.secret))
            } else {
                problems.append(
                    AccessProblem(
                        settings.jwtSecretFile,
                        "found \(file.secret.count) bytes of secret; allowed: at least \(least) (RFC 7518, section 3.2)"
                    ))
            }
        }
        if let file = file(settings.jwtKeySetFile, isSecret: false) {
            switch VerificationKey.read(keySet: file.bytes) {
            case .success(let set):
                keys += set
                if file.isReadableByOthers, set.contains(where: { $0.algorithm == .hs256 }) {
                    warnings.append(
                        "\(settings.jwtKeySetFile): holds a shared secret (oct), and others can read or write it")
                }
            case .failure(let failure): problems.append(AccessProblem(settings.jwtKeySetFile, failure.reason))
            }
        }
        return WebTokenAuthenticator(
            keys: keys, issuer: settings.jwtIssuer.isEmpty ? nil : settings.jwtIssuer,
            audience: settings.jwtAudience.isEmpty ? nil : settings.jwtAudience, claim: settings.jwtClaim,
            limits: limits)
    }

    /// What the files say of each other.
    mutating func check(_ users: UsersFile) {
        guard problems.isEmpty else { return }
        for (key, names) in settings.roleKeys {
            for name in names where users.roles[name] == nil {
                let file = settings.usersFile.isEmpty ? "access.users names no file" : "\(settings.usersFile) has none"
                problems.append(AccessProblem(key, "unknown role \(quoted(name)): \(file) of this name"))
            }
        }
        let hasTokens = settings.usesTokens || settings.usesWebTokens
        for (name, user) in users.users.sorted(by: { $0.value.line < $1.value.line })
        where user.hash == nil && !hasTokens {
            problems.append(
                AccessProblem(
                    settings.usersFile, line: user.line, path: "users.\(name)",
                    "has no hash, so nobody can connect as this user; run stampede user passwd \(name)"))
        }
    }
}
