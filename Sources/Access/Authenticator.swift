public import Permissions

/// Who may connect: one reading of the users file and of all keys. Immutable; a reload makes another.
///
/// The first that knows the client decides, of those that its listener accepts.
///
/// - With `login`: the users file, where it has a hash for it; a login of the form of a shared-secret token; a passcode of
///   the form of a JSON Web Token; the login service, for all others. What the connection proves is not looked at, as
///   RabbitMQ has it: so a client with a certificate may be another user. Where the listener accepts nothing that takes a
///   login, `login` must be the user that the connection proves, and `passcode` is not looked at, as ActiveMQ has it.
/// - Without `login`: a JSON Web Token in `passcode`; the certificate; the system user at the other end of a Unix socket;
///   and without `passcode`, the anonymous roles. Who has shown a certificate is its user, or nobody.
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
    private let certificates: CertificateLogin?
    private let systemUsers: SystemUserLogin?
    /// Whom to ask about logins that are left `unknown`. nil: nobody.
    package let service: LoginService?
    private let serviceTakesAny: Bool
    /// All that there are.
    private let kinds: Set<AuthenticatorKind>
    /// By listener: those of `kinds` that it accepts.
    private let accepted: [Set<AuthenticatorKind>]

    private init(_ parts: AuthenticatorParts, _ table: AccessTable, _ settings: AccessSettings, warnings: [String]) {
        self.table = table
        self.warnings = warnings
        var hashes: [[UInt8]: PasswordHash] = [:]
        for (name, user) in parts.users.users { hashes[Array(name.utf8)] = user.hash }
        self.hashes = hashes
        decoys = hashes.values.sorted { $0.text < $1.text }
        decoyKey = (0..<32).map { _ in .random(in: 0...255) }
        sharedSecret = parts.sharedSecret
        webTokens = parts.webTokens
        certificates =
            settings.usesCertificates
            ? CertificateLogin(field: settings.certificateField, takesAny: !settings.certificateRoles.isEmpty) : nil
        systemUsers = parts.systemUsers
        service = parts.service
        serviceTakesAny = !settings.serviceRoles.isEmpty
        let kinds = parts.kinds(settings)
        self.kinds = kinds
        accepted = settings.listeners.map { $0.authenticators?.intersection(kinds) ?? kinds }
    }

    private func accepted(on listener: Int) -> Set<AuthenticatorKind> {
        accepted.indices.contains(listener) ? accepted[listener] : kinds
    }

    /// Whether that login's passcode is checked against a slow hash: its answer is worth remembering, and a remembered one
    /// is good there.
    public func usesHash(_ credentials: Credentials) -> Bool {
        hashes[credentials.login] != nil && accepted(on: credentials.listener).contains(.users)
    }

    /// What a client is told that is refused. Where passwords of users are looked at, each refusal of a login sounds the same,
    /// or it would tell which names have one. Who has a token may leave the login out, and hears what is wrong with it. Whom the
    /// login service has allowed has guessed nothing.
    public func told(_ refusal: LoginRefusal, _ credentials: Credentials) -> LoginRefusal {
        let mayTell =
            credentials.login.isEmpty || hashes.isEmpty || refusal == .serviceNamesNoRole
            || !accepted(on: credentials.listener).contains(.users)
        return mayTell || !refusal.isClientsFault ? refusal.general : .wrongLogin
    }

    /// Decides about a client. Takes milliseconds where a password is hashed, and as long where a name is unknown.
    public func decide(
        _ credentials: Credentials, wallMilliseconds: UInt64, _ scratch: borrowing CryptScratch
    ) -> Decision {
        let accepted = accepted(on: credentials.listener)
        if credentials.login.isEmpty { return decideWithoutLogin(credentials, accepted, wallMilliseconds) }
        guard accepted.contains(where: \.takesLogin) else { return decideProven(credentials, accepted) }
        let asksUsers = accepted.contains(.users)
        if asksUsers, let hash = hashes[credentials.login] {
            guard hash.matches(credentials.passcode, scratch) else {
                return .refused(credentials.passcode.isEmpty ? .noPasscode : .wrongPasscode)
            }
            return .allowed(AccessIdentity(user: credentials.login, source: .user))
        }
        let decision = decideWithoutHash(credentials, accepted, wallMilliseconds)
        if asksUsers, case .refused = decision { spendTime(credentials, scratch) }
        return decision
    }

    private func decideWithoutHash(
        _ credentials: Credentials, _ accepted: Set<AuthenticatorKind>, _ wallMilliseconds: UInt64
    ) -> Decision {
        if accepted.contains(.token),
            let decision = sharedSecret?.decide(credentials, wallMilliseconds: wallMilliseconds)
        {
            return decision
        }
        if let decision = decideByToken(credentials, accepted, wallMilliseconds) { return decision }
        let name = String(validating: credentials.login, as: UTF8.self)
        guard accepted.contains(.http), let name, UsersFile.problem(ofUserName: name) == nil else {
            return .refused(reasonOfUnknown(credentials, accepted))
        }
        return .unknown
    }

    /// For the log: why nothing here knows that login.
    private func reasonOfUnknown(_ credentials: Credentials, _ accepted: Set<AuthenticatorKind>) -> LoginRefusal {
        if accepted.contains(.users), table.hasUser(credentials.login) { return .loginWithoutHash }
        if accepted.contains(.token) { return .neitherUserNorToken }
        if accepted.contains(.users) || accepted.contains(.http) { return .unknownLogin }
        return credentials.passcode.isEmpty ? .noPasscode : .passcodeIsNoToken
    }

    /// Whether a remembered answer of the service would be good there.
    public func asksService(_ credentials: Credentials) -> Bool {
        !credentials.login.isEmpty && accepted(on: credentials.listener).contains(.http) && !usesHash(credentials)
    }

    /// The service has allowed a login, with these tags.
    package func decide(_ credentials: Credentials, tags: [String]) -> Decision {
        let roles = tags.filter { table.hasRole($0) }
        guard serviceTakesAny || !roles.isEmpty || table.hasUser(credentials.login) else {
            return .refused(.serviceNamesNoRole)
        }
        // Where the service was asked about the host too, it has decided.
        let host = service?.virtualHost == nil ? nil : credentials.host
        return .allowed(AccessIdentity(user: credentials.login, source: .service, roles: roles, host: host))
    }

    /// nil: the passcode is no JSON Web Token, or none is taken.
    private func decideByToken(
        _ credentials: Credentials, _ accepted: Set<AuthenticatorKind>, _ wallMilliseconds: UInt64
    ) -> Decision? {
        guard accepted.contains(.jwt), let webTokens, WebTokenAuthenticator.looksLikeToken(credentials.passcode) else {
            return nil
        }
        return webTokens.decide(credentials, wallMilliseconds: wallMilliseconds, hasRole: table.hasRole)
    }

    private func decideWithoutLogin(
        _ credentials: Credentials, _ accepted: Set<AuthenticatorKind>, _ wallMilliseconds: UInt64
    ) -> Decision {
        if let decision = decideByToken(credentials, accepted, wallMilliseconds) { return decision }
        let proven = decideByConnection(credentials, accepted)
        if case .allowed = proven { return proven }
        // Whoever shows a certificate has said who it is. A system user has not: every client of a Unix socket is one.
        if accepted.contains(.certificate), credentials.certificate != nil { return proven }
        if credentials.passcode.isEmpty, accepted.contains(.anonymous) {
            return .allowed(AccessIdentity(user: [], source: .anonymous))
        }
        if case .refused(.noLogin) = proven, accepted.contains(.jwt), !credentials.passcode.isEmpty {
            return .refused(.noLoginNoToken)
        }
        return proven
    }

    /// There is a login, and nothing here looks at logins.
    private func decideProven(_ credentials: Credentials, _ accepted: Set<AuthenticatorKind>) -> Decision {
        let decision = decideByConnection(credentials, accepted)
        if case .allowed(let identity) = decision, identity.user != credentials.login {
            return .refused(.loginIsNotProven)
        }
        if case .refused(.noLogin) = decision { return .refused(.loginIsNotProven) }
        return decision
    }

    /// By what the connection proves: a certificate, or a system user. The two do not meet.
    private func decideByConnection(_ credentials: Credentials, _ accepted: Set<AuthenticatorKind>) -> Decision {
        if accepted.contains(.certificate), let names = credentials.certificate, let certificates {
            return certificates.decide(names, table)
        }
        if accepted.contains(.uid), let number = credentials.systemUser, let systemUsers {
            return systemUsers.decide(number, table)
        }
        return .refused(accepted == [.certificate] ? .noCertificate : .noLogin)
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
        var loading = AuthenticatorLoading(settings: settings, limits: limits)
        let parts = loading.parts()
        guard loading.problems.isEmpty else { throw AccessError(problems: loading.problems) }
        return Authenticator(parts, parts.table(settings), settings, warnings: loading.warnings)
    }
}

/// The authenticator of certificates that clients have shown in the handshake of TLS.
struct CertificateLogin: Sendable {
    let field: CertificateField
    /// Those whom the users file does not name have roles, too.
    let takesAny: Bool

    func decide(_ names: CertificateNames, _ table: AccessTable) -> Decision {
        guard let user = field.user(of: names) else { return .refused(.unusableCertificate) }
        guard takesAny || table.hasUser(user) else { return .refused(.unknownCertificate) }
        return .allowed(AccessIdentity(user: user, source: .certificate))
    }
}

/// The authenticator of system users.
struct SystemUserLogin: Sendable {
    /// By the system's number: the user of the users file.
    let users: [UInt32: [UInt8]]
    /// Those who are nobody in the users file have roles, too, and are called as the system calls them.
    let takesAny: Bool

    func decide(_ number: UInt32, _ table: AccessTable) -> Decision {
        if let user = users[number] { return .allowed(AccessIdentity(user: user, source: .systemUser)) }
        guard takesAny else { return .refused(.unknownSystemUser) }
        let name = Array((SystemUsers.name(of: number) ?? "\(number)").utf8)
        // A user of the broker is somebody else, though the system has a user of that name: `system-users` names who is.
        guard !table.hasUser(name), name.count <= AccessIdentity.nameByteCountMax else {
            return .refused(.unknownSystemUser)
        }
        return .allowed(AccessIdentity(user: name, source: .systemUser))
    }
}
