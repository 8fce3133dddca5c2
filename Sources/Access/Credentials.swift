public import Permissions

/// What a client says of itself in CONNECT, as it is on the wire: the headers of CONNECT are not escaped. And what its
/// connection says of it. Empty headers count as none.
public struct Credentials: Sendable {
    public var login: [UInt8]
    /// A secret: not for the log.
    public var passcode: [UInt8]
    /// Where it came in: an index of `AccessSettings.listeners`.
    public var listener = 0
    /// Of the certificate that it has shown, and that was verified. nil: none.
    public var certificate: CertificateNames?
    /// The number of the system user at the other end of the Unix socket. nil: it is no such socket, or nobody knows.
    public var systemUser: UInt32?
    /// The virtual host that the client has chosen.
    public var host = "/"
    /// Where the client is: "192.0.2.1". nil: nobody knows, or nobody has to.
    public var address: String?

    public init(login: [UInt8]?, passcode: [UInt8]?) {
        self.login = login ?? []
        self.passcode = passcode ?? []
    }
}

/// Whether a client may connect.
public enum Decision: Sendable {
    case allowed(AccessIdentity)
    case refused(LoginRefusal)
    /// The login service has to be asked (`Authenticator.service`).
    case unknown
}

/// The login of xtomp's clients, whose passcode proves that they know a secret:
///
///     login:USER EPOCH NONCE          EPOCH is the time in seconds
///     passcode:BASE64                 of SHA-1(login + secret), or of HMAC-SHA-256(secret, login)
///
/// It can be used again, by whoever has seen it, until its time is over.
package struct SharedSecretToken: Sendable {
    package enum Algorithm: String, CaseIterable, Sendable {
        case sha1 = "sha1"
        case hmacSHA256 = "hmac-sha256"
    }

    let secret: [UInt8]
    let algorithm: Algorithm
    /// How far the time of a login may be from the broker's, either way.
    let milliseconds: UInt64

    package init(secret: [UInt8], algorithm: Algorithm, milliseconds: UInt64) {
        self.secret = secret
        self.algorithm = algorithm
        self.milliseconds = milliseconds
    }

    /// The parts of a login of this form; nil: it is of another form.
    package static func parse(_ login: [UInt8]) -> (user: [UInt8], seconds: UInt64)? {
        let parts = login.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, !parts[2].isEmpty, parts[0].count <= AccessIdentity.nameByteCountMax
        else { return nil }
        guard (1...12).contains(parts[1].count), parts[1].allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return (Array(parts[0]), parts[1].reduce(0) { $0 * 10 + UInt64($1 - 0x30) })
    }

    /// The passcode that belongs to a login.
    package func passcode(of login: [UInt8]) -> [UInt8] {
        switch algorithm {
        case .sha1: Base64.encode(Digest.sha1(login + secret))
        case .hmacSHA256: Base64.encode(Digest.hmacSHA256(login, key: secret))
        }
    }

    /// Nil: the login is of another form.
    package func decide(_ credentials: Credentials, wallMilliseconds: UInt64) -> Decision? {
        guard let (user, seconds) = Self.parse(credentials.login) else { return nil }
        guard Digest.areEqual(passcode(of: credentials.login), credentials.passcode) else {
            return .refused(credentials.passcode.isEmpty ? .noPasscode : .wrongProof)
        }
        let time = seconds * 1000
        let distance = time > wallMilliseconds ? time - wallMilliseconds : wallMilliseconds - time
        guard distance <= milliseconds else { return .refused(.tokenExpired) }
        return .allowed(AccessIdentity(user: user, source: .token))
    }
}
