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

    public init() {}

    public static var tokenAlgorithms: [String] { SharedSecretToken.Algorithm.allCases.map(\.rawValue) }

    var usesTokens: Bool { !tokenSecretFile.isEmpty }
    var usesWebTokens: Bool { !jwtKeyFile.isEmpty || !jwtSecretFile.isEmpty || !jwtKeySetFile.isEmpty }

    /// Clients are asked who they are.
    public var isOn: Bool { !usersFile.isEmpty || usesTokens || usesWebTokens }

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
        ]
    }
}
