public import Permissions

/// The ways in which clients prove who they are, by the names that `listeners[].authenticators` has for them.
public enum AuthenticatorKind: String, Sendable, CaseIterable {
    /// Name and password of the users file.
    case users
    /// A token with a shared secret.
    case token
    /// A JSON Web Token.
    case jwt
    /// A certificate that the client has shown in the handshake of TLS.
    case certificate
    /// The system user at the other end of a Unix socket.
    case uid
    /// A service that is asked by HTTP.
    case http
    /// None: the anonymous roles.
    case anonymous

    /// It looks at `login` and `passcode`.
    var takesLogin: Bool {
        switch self {
        case .users, .token, .jwt, .http: true
        case .certificate, .uid, .anonymous: false
        }
    }
}

/// What access has to know of a listener.
public struct ListenerAccess: Sendable, Equatable {
    /// For the places of problems: "listeners[1]".
    public var path: String
    /// Those that its clients may use. nil: all that there are.
    public var authenticators: Set<AuthenticatorKind>?
    /// What its clients may do at most. nil: whatever their roles allow.
    public var rules: ListenerRules?

    public init(path: String, authenticators: Set<AuthenticatorKind>? = nil, rules: ListenerRules? = nil) {
        self.path = path
        self.authenticators = authenticators
        self.rules = rules
    }
}
