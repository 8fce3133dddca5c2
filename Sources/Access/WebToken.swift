public import Permissions

/// JSON Web Tokens in the passcode (RFC 7519), signed (RFC 7515, compact form):
///
///     base64url(header) . base64url(claims) . base64url(signature)
///
/// What is checked, in this order: the form; that a key of the header's algorithm has signed it; exp, nbf, iss, aud; sub and
/// what the token allows. `alg: none`, critical extensions (`crit`) and an algorithm that is not the key's are refused.
package struct WebTokenAuthenticator: Sendable {
    /// One or more.
    let keys: [VerificationKey]
    /// nil: any issuer.
    let issuer: String?
    /// nil: tokens must have none.
    let audience: String?
    /// The claim that says what the token allows.
    let claim: String
    let limits: PatternLimits

    package init(
        keys: [VerificationKey], issuer: String?, audience: String?, claim: String, limits: PatternLimits
    ) {
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
        self.claim = claim
        self.limits = limits
    }

    /// Clocks differ: a token may be used this long before its `nbf`.
    private static let earlyMillisecondsMax: UInt64 = 60_000

    /// Whether a passcode is meant as a token: nothing else has this form.
    package static func looksLikeToken(_ passcode: [UInt8]) -> Bool {
        // {" in base64url
        passcode.starts(with: Array("eyJ".utf8)) && passcode.count { $0 == UInt8(ascii: ".") } == 2
    }

    package func decide(_ credentials: Credentials, wallMilliseconds: UInt64, hasRole: (String) -> Bool) -> Decision {
        do throws(LoginRefusal) {
            let claims = try verified(credentials.passcode)
            return .allowed(try identity(claims, credentials.login, wallMilliseconds, hasRole))
        } catch {
            return .refused(error)
        }
    }

    /// The claims of a token that a key has signed.
    private func verified(_ token: [UInt8]) throws(LoginRefusal) -> JSONValue {
        let parts = token.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Base64.decode(parts[0], .url).flatMap({ JSONValue($0) }),
            let signature = Base64.decode(parts[2], .url), case .object = header
        else { throw .malformedToken }
        guard let algorithm = header["alg"]?.text.flatMap({ SignatureAlgorithm(rawValue: $0) }) else {
            throw .unknownAlgorithm
        }
        guard header["crit"] == nil else { throw .criticalExtension }
        let able = keys.filter { $0.algorithm == algorithm }
        guard !able.isEmpty else { throw .noKeyOfAlgorithm }
        let name = header["kid"]?.text
        let named = able.filter { name == nil || $0.name == nil || $0.name == name }
        guard !named.isEmpty else { throw .unknownKey }
        let signed = Array(token[..<parts[1].endIndex])
        guard named.contains(where: { $0.verifies(signed, signature: signature) }) else { throw .wrongSignature }
        guard let claims = Base64.decode(parts[1], .url).flatMap({ JSONValue($0) }), case .object = claims else {
            throw .malformedToken
        }
        return claims
    }

    private func identity(
        _ claims: JSONValue, _ login: [UInt8], _ now: UInt64, _ hasRole: (String) -> Bool
    ) throws(LoginRefusal) -> AccessIdentity {
        guard let expiry = claims["exp"]?.milliseconds else { throw .noExpiry }
        guard expiry > now else { throw .tokenExpired }
        if let start = claims["nbf"] {
            guard let time = start.milliseconds else { throw .badStart }
            guard time <= now + Self.earlyMillisecondsMax else { throw .tokenNotYetValid }
        }
        if let issuer, claims["iss"]?.text != issuer { throw .wrongIssuer }
        // RFC 7519, section 4.1.3: who is not in `aud` has to reject the token.
        if let audiences = claims["aud"] {
            guard let audience else { throw .noAudienceConfigured }
            guard audiences.texts?.contains(audience) == true else { throw .wrongAudience }
        } else if audience != nil {
            throw .wrongAudience
        }
        guard let user = claims["sub"]?.text.map({ Array($0.utf8) }), !user.isEmpty,
            user.count <= AccessIdentity.nameByteCountMax, !user.contains(where: { $0 < 0x20 || $0 == 0x7F })
        else { throw .badSubject }
        guard login.isEmpty || login == user else { throw .loginIsNotSubject }
        guard let grant = claims[claim] else {
            return AccessIdentity(user: user, source: .jwt, expiresAt: expiry)
        }
        let (roles, rules) = try Self.grant(grant, limits)
        guard roles.allSatisfy(hasRole) else { throw .unknownRole }
        return AccessIdentity(user: user, source: .jwt, roles: roles, rules: rules, expiresAt: expiry)
    }

    // MARK: What a token allows

    private static let patternCountMax = 64

    /// `{"roles":["a"],"publish":["/topic/#"],"subscribe":[],"create":[],"deny":{"publish":[]},"hosts":["shop"]}`, or roles
    /// alone as a list of texts. What is not understood is refused: it may be a restriction.
    static func grant(
        _ value: JSONValue, _ limits: PatternLimits
    ) throws(LoginRefusal) -> (roles: [String], rules: AccessRules) {
        if let roles = value.texts { return (roles, AccessRules()) }
        guard case .object(let members) = value else { throw .badGrant }
        var rules = AccessRules()
        var roles: [String] = []
        // Else a token without patterns could create whatever its roles let it use, whatever they say of that.
        rules.create = []
        for (name, member) in members {
            if name == "roles" {
                guard let texts = member.texts else { throw .badGrant }
                roles = texts
            } else if name == "deny" {
                guard case .object(let denied) = member else { throw .badGrant }
                for (name, member) in denied {
                    guard let action = action(name) else { throw .badGrant }
                    rules[denied: action] = try patterns(member, action, limits)
                }
            } else if name == "hosts" {
                guard let texts = member.texts else { throw .badGrant }
                rules.hosts = texts
            } else if let action = action(name) {
                rules[allowed: action] = try patterns(member, action, limits)
            } else {
                throw .badGrant
            }
        }
        if members["create"] == nil, roles.isEmpty { rules.create = nil }
        return (roles, rules)
    }

    private static func action(_ name: String) -> AccessAction? { AccessAction.allCases.first { $0.key == name } }

    private static func patterns(
        _ value: JSONValue, _ action: AccessAction, _ limits: PatternLimits
    ) throws(LoginRefusal) -> [PatternTemplate] {
        guard let texts = value.texts, texts.count <= patternCountMax else { throw .badGrant }
        var patterns: [PatternTemplate] = []
        for text in texts {
            guard let pattern = try? limits.template(text, action) else { throw .badPattern }
            patterns.append(pattern)
        }
        return patterns
    }
}

/// What destinations can look like at all.
public struct PatternLimits: Sendable, Equatable {
    public var nameByteCountMax: Int
    public var levelCountMax: Int

    public init(nameByteCountMax: Int, levelCountMax: Int) {
        self.nameByteCountMax = nameByteCountMax
        self.levelCountMax = levelCountMax
    }

    /// - Throws: why the text is no pattern of destinations that could match one.
    public func template(_ text: String, _ action: AccessAction) throws(PatternTemplate.Failure) -> PatternTemplate {
        try PatternTemplate(
            text, action.patternKind, nameByteCountMax: nameByteCountMax, levelCountMax: levelCountMax)
    }
}
