/// Why a client may not connect, as the log has it. What is told of names and passcodes is the same whether or not a name is
/// known: see `general` and `Authenticator.told`.
public enum LoginRefusal: Error, Sendable, CaseIterable {
    case noLogin
    case noLoginNoToken
    case noCertificate
    // What clients hear as `wrongLogin`.
    case wrongLogin
    case unknownLogin
    case loginWithoutHash
    case neitherUserNorToken
    case passcodeIsNoToken
    case noPasscode
    case wrongPasscode
    case wrongProof
    // What clients hear as `badToken`.
    case badToken
    case malformedToken
    case unknownAlgorithm
    case criticalExtension
    case noKeyOfAlgorithm
    case unknownKey
    case wrongSignature
    case tokenExpired
    case tokenNotYetValid
    case wrongIssuer
    case wrongAudience
    case noAudienceConfigured
    // What clients hear as `unusableToken`.
    case unusableToken
    case noExpiry
    case badStart
    case badSubject
    case badGrant
    case badPattern
    case loginIsNotSubject
    case loginIsNotProven
    case unusableCertificate
    case unknownCertificate
    case unknownSystemUser
    case unknownRole
    case serviceFailed
    case serviceDenied
    case serviceNamesNoRole
    case tooManyWaiting
    case clientIDTooLong

    /// A guess may be behind it, so the answer waits, and longer each time.
    public var isClientsFault: Bool {
        switch self {
        case .serviceFailed, .tooManyWaiting: false
        default: true
        }
    }

    /// The refusal whose explanation a client hears: several reasons have one.
    public var general: LoginRefusal {
        switch self {
        case .unknownLogin, .loginWithoutHash, .neitherUserNorToken, .passcodeIsNoToken, .noPasscode, .wrongPasscode,
            .wrongProof:
            .wrongLogin
        case .malformedToken, .unknownAlgorithm, .criticalExtension, .noKeyOfAlgorithm, .unknownKey, .wrongSignature:
            .badToken
        case .noExpiry, .badStart, .badSubject, .badGrant, .badPattern: .unusableToken
        default: self
        }
    }

    /// For the log, and for the ERROR that of `general`.
    public var explanation: StaticString {
        switch self {
        case .noLogin: "this broker wants a login and a passcode in CONNECT"
        case .noLoginNoToken:
            "without a login the passcode has to be a JSON Web Token (three parts in base64url, with dots between them)"
        case .noCertificate: "this listener wants a certificate of the client"
        case .wrongLogin: "the login is unknown, or the passcode is wrong"
        case .unknownLogin: "nobody has this login"
        case .loginWithoutHash: "the users file has no hash for this login, so no passcode is right"
        case .neitherUserNorToken: "nobody has this login, and it is no token's (USER EPOCH NONCE)"
        case .passcodeIsNoToken: "the passcode is no JSON Web Token, and nothing else is accepted here"
        case .noPasscode: "the passcode is missing"
        case .wrongPasscode: "the passcode is wrong"
        case .wrongProof: "the passcode does not belong to the token in the login: another secret, or another algorithm"
        case .tokenExpired: "the token has expired"
        case .tokenNotYetValid: "the token is not valid yet (nbf)"
        case .wrongIssuer: "the token is of another issuer (iss)"
        case .wrongAudience: "the token is for another audience (aud)"
        case .noAudienceConfigured: "the token is for an audience (aud), and this broker has none (access.jwt.audience)"
        case .loginIsNotSubject: "the login is not the token's subject (sub); leave it out, or send the same"
        case .loginIsNotProven:
            "this listener takes no logins: leave login out, or name the user that the connection proves"
        case .unusableCertificate:
            "the client's certificate has no name of the kind that names users here (access.certificate.user-from)"
        case .unknownCertificate: "no user has the name in the client's certificate"
        case .unknownSystemUser: "no user stands for the system user at the other end of the socket"
        case .unknownRole: "the token names a role that this broker does not have"
        case .serviceFailed: "the service that decides about logins gave no answer that can be used; try again later"
        case .serviceDenied: "the service that decides about logins has denied this one"
        case .serviceNamesNoRole: "the service that decides about logins named no role of this broker"
        case .tooManyWaiting: "too many logins from this address wait to be checked; try again later"
        case .clientIDTooLong: "client-id has more than 256 bytes"
        default: tokenExplanation
        }
    }

    /// Of JSON Web Tokens that are wrong in themselves.
    private var tokenExplanation: StaticString {
        switch self {
        case .malformedToken: "the token in the passcode is malformed"
        case .unknownAlgorithm: "the token's algorithm (alg) is none of HS256, RS256, ES256 and EdDSA"
        case .criticalExtension: "the token has critical extensions (crit), which this broker does not know"
        case .noKeyOfAlgorithm: "no key of access.jwt is of the token's algorithm (alg)"
        case .unknownKey: "no key of access.jwt has the token's key id (kid)"
        case .wrongSignature: "no key of access.jwt has signed the token"
        case .noExpiry: "the token has no exp, or one that is no time"
        case .badStart: "the token's nbf is no time"
        case .badSubject: "the token has no sub of 1 to 128 bytes without control characters"
        case .badGrant: "the token's claim that grants access (access.jwt.claim) has a member or value that is unknown"
        case .badPattern: "the token's claim that grants access (access.jwt.claim) has a pattern that is wrong"
        case .unusableToken:
            "the token needs sub (1 to 128 bytes), exp, and in the claim that grants access roles or patterns that are right"
        default: "the token in the passcode is malformed, or no key of this broker has signed it"
        }
    }
}
