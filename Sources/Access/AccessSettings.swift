public import Permissions

/// The section `access` of the configuration: who may connect, and where that is written. `Config/stampede.yaml` documents
/// each key.
public struct AccessSettings: Sendable, Equatable {
    /// Empty: there is none.
    public var usersFile = ""
    /// Names of roles, separated by commas. Empty: clients need a login.
    public var anonymousRoles = ""
    /// Threads that check passwords.
    public var threadCount = 2
    /// How long a password that was right is remembered. 0: not at all.
    public var rememberMilliseconds = 300_000
    /// How long the answer to a wrong login waits.
    public var failureDelayMilliseconds = 250

    public var tokenSecretFile = ""
    /// "sha1" or "hmac-sha256".
    public var tokenAlgorithm = "sha1"
    public var tokenMilliseconds = 60_000
    public var tokenRoles = ""

    public var jwtKeyFile = ""
    public var jwtSecretFile = ""
    public var jwtKeySetFile = ""
    /// Empty: any.
    public var jwtIssuer = ""
    /// Empty: none.
    public var jwtAudience = ""
    public var jwtClaim = "stampede"
    public var jwtRoles = ""

    public var certificateField = CertificateField.none
    public var certificateRoles = ""

    public var systemUserRoles = ""

    /// Empty: no service is asked.
    public var serviceUserURL = ""
    public var serviceVirtualHostURL = ""
    /// "post" or "get".
    public var serviceMethod = "post"
    /// The issuers of the service's certificate. Empty: those that the system trusts.
    public var serviceAuthoritiesFile = ""
    public var serviceRoles = ""
    public var serviceMilliseconds = 3_000
    public var serviceConnectionCountMax = 4
    public var serviceRememberMilliseconds = 60_000

    /// By `ListenerID`; derived from the section `listeners`.
    public var listeners: [ListenerAccess] = []
    /// The names of the virtual hosts; derived from the section `hosts`.
    public var hosts: [String] = []

    public init() {}

    public static var serviceMethods: [String] { LoginService.Method.allCases.map(\.rawValue) }

    public static var tokenAlgorithms: [String] { SharedSecretToken.Algorithm.allCases.map(\.rawValue) }

    var usesTokens: Bool { !tokenSecretFile.isEmpty }
    var usesWebTokens: Bool { !jwtKeyFile.isEmpty || !jwtSecretFile.isEmpty || !jwtKeySetFile.isEmpty }

    /// Certificates of clients are logins.
    public var usesCertificates: Bool { certificateField != .none }

    /// A service is asked about logins.
    public var usesService: Bool { !serviceUserURL.isEmpty }

    /// The service's certificate is verified.
    public var serviceUsesTLS: Bool {
        [serviceUserURL, serviceVirtualHostURL].contains { ServiceURL($0)?.isTLS == true }
    }

    /// Clients are asked who they are.
    public var isOn: Bool {
        !usersFile.isEmpty || usesTokens || usesWebTokens || usesCertificates || !systemUserRoles.isEmpty || usesService
    }

    /// The restrictions of listeners, by `ListenerID`. Empty: there are none.
    public var listenerRules: [ListenerRules?] {
        listeners.contains { $0.rules != nil } ? listeners.map(\.rules) : []
    }

    /// Names of roles in a list.
    static func names(_ list: String) -> [String] {
        list.split(separator: ",").map { String($0.drop { $0 == " " }) }
            .map { String($0.reversed().drop { $0 == " " }.reversed()) }.filter { !$0.isEmpty }
    }

    /// Keys of roles, with the names in each.
    var roleKeys: [(key: String, names: [String])] {
        [
            ("access.anonymous-roles", Self.names(anonymousRoles)), ("access.token.roles", Self.names(tokenRoles)),
            ("access.jwt.roles", Self.names(jwtRoles)),
            ("access.certificate.roles", Self.names(certificateRoles)),
            ("access.uid.roles", Self.names(systemUserRoles)), ("access.http.roles", Self.names(serviceRoles)),
        ]
    }
}
