import Permissions
import Testing

@testable import Access

/// JSON Web Tokens: what lets in, and each reason that keeps out.
@Suite("JSON Web Tokens")
struct WebTokenTests {
    private static let secret = Array("0123456789abcdef0123456789abcdef".utf8)
    private static let now: UInt64 = 1_800_000_000_000
    static let limits = PatternLimits(nameByteCountMax: 256, levelCountMax: 32)

    private static func key(_ pem: String) throws -> VerificationKey {
        try VerificationKey.read(pem: Array(pem.utf8)).get()
    }

    private static func authenticator(
        _ keys: [VerificationKey], issuer: String? = nil, audience: String? = "stampede"
    ) -> WebTokenAuthenticator {
        WebTokenAuthenticator(keys: keys, issuer: issuer, audience: audience, claim: "stampede", limits: limits)
    }

    private static func token(_ claims: String, header: String = #"{"alg":"HS256"}"#) -> String {
        let parts = [header, claims].map { String(decoding: Base64.encode(Array($0.utf8), .url), as: UTF8.self) }
        let signed = "\(parts[0]).\(parts[1])"
        let signature = Base64.encode(Digest.hmacSHA256(Array(signed.utf8), key: secret), .url)
        return "\(signed).\(String(decoding: signature, as: UTF8.self))"
    }

    private func decide(
        _ token: String, login: String = "", _ authenticator: WebTokenAuthenticator? = nil
    ) -> Result<AccessIdentity, LoginRefusal> {
        let authenticator = authenticator ?? Self.authenticator([VerificationKey(secret: Self.secret)])
        let credentials = Credentials(login: Array(login.utf8), passcode: Array(token.utf8))
        switch authenticator.decide(credentials, wallMilliseconds: Self.now, hasRole: { $0 == "reader" }) {
        case .allowed(let identity): return .success(identity)
        case .refused(let refusal): return .failure(refusal)
        case .unknown: return .failure(.serviceFailed)
        }
    }

    private func refusal(_ token: String, login: String = "") -> LoginRefusal? {
        if case .failure(let refusal) = decide(token, login: login) { refusal } else { nil }
    }

    @Test(
        "A token that OpenSSL has signed lets in, by a key of its algorithm and by no other",
        arguments: [
            (WebTokenFixtures.rs256, WebTokenFixtures.rsa), (WebTokenFixtures.es256, WebTokenFixtures.p256),
            (WebTokenFixtures.edDSA, WebTokenFixtures.ed25519),
        ])
    func signatures(_ token: String, _ pem: String) throws {
        let authenticator = Self.authenticator([try Self.key(pem)], issuer: "https://issuer.example")
        let identity = try decide(token, login: "alice", authenticator).get()
        #expect(identity.user == Array("alice".utf8) && identity.source == .jwt)
        #expect(identity.expiresAt == 4_102_444_800_000)
        #expect(identity.rules?.publish.map(\.text) == ["/topic/{user}.#"])
        for other in [WebTokenFixtures.rsa, WebTokenFixtures.p256, WebTokenFixtures.ed25519] where other != pem {
            #expect(throws: LoginRefusal.noKeyOfAlgorithm) {
                try decide(token, Self.authenticator([try Self.key(other)])).get()
            }
        }
        // Each byte of it is signed.
        var bytes = Array(token.utf8)
        for place in stride(from: 0, to: bytes.count, by: 7) where bytes[place] != UInt8(ascii: ".") {
            let right = bytes[place]
            bytes[place] = right == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
            if case .success = decide(String(decoding: bytes, as: UTF8.self), authenticator) {
                Issue.record("a change at \(place) was not noticed")
            }
            bytes[place] = right
        }
    }

    @Test("A key set finds the key by its name; keys for encryption are passed over")
    func keySet() throws {
        let keys = try VerificationKey.read(keySet: Array(WebTokenFixtures.keySet.utf8)).get()
        #expect(keys.map(\.algorithm) == [.rs256, .es256, .edDSA])
        for token in [WebTokenFixtures.rs256, WebTokenFixtures.es256, WebTokenFixtures.edDSA] {
            #expect(try decide(token, Self.authenticator(keys)).get().user == Array("alice".utf8))
        }
    }

    @Test("The example of RFC 7515, appendix A.1, has the signature that it says")
    func rfc7515() throws {
        let secret =
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
        let set = #"{"keys":[{"kty":"oct","k":"\#(secret)"}]}"#
        let key = try #require(try VerificationKey.read(keySet: Array(set.utf8)).get().first)
        let signed =
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
            + "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        let signature = Base64.decode(Array("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".utf8), .url)!
        #expect(key.verifies(Array(signed.utf8), signature: signature))
    }

    @Test("The algorithm is the key's: none, and one of another kind of key, are refused")
    func algorithms() throws {
        let claims = #"{"sub":"a","exp":1900000000,"aud":"stampede"}"#
        #expect(refusal(Self.token(claims)) == nil)
        for (header, reason) in [
            (#"{"alg":"none"}"#, LoginRefusal.unknownAlgorithm), (#"{"alg":"None"}"#, .unknownAlgorithm),
            (#"{"alg":"HS512"}"#, .unknownAlgorithm), (#"{"alg":"RS256"}"#, .noKeyOfAlgorithm),
            (#"{"alg":"hs256"}"#, .unknownAlgorithm), ("{}", .unknownAlgorithm),
            (#"{"alg":["HS256"]}"#, .unknownAlgorithm),
            (#"{"alg":"HS256","crit":["exp"],"exp":1}"#, .criticalExtension), (#"["HS256"]"#, .malformedToken),
            (#"{"alg":"HS256","alg":"none"}"#, .malformedToken),
        ] {
            #expect(refusal(Self.token(claims, header: header)) == reason, "\(header)")
            #expect(reason.general == .badToken)
        }
        let unsigned = Self.token(claims, header: #"{"alg":"none"}"#).split(separator: ".")
        #expect(refusal("\(unsigned[0]).\(unsigned[1]).") == .unknownAlgorithm)
        // The public key as a shared secret: it is none.
        let signed = Self.token(claims)
        #expect(throws: LoginRefusal.noKeyOfAlgorithm) {
            try decide(signed, Self.authenticator([try Self.key(WebTokenFixtures.rsa)])).get()
        }
        for malformed in ["", "..", Self.token(claims) + ".x", Self.token(claims) + "="] {
            #expect(refusal(malformed) == .malformedToken, "\(malformed)")
        }
        let other = Self.authenticator([VerificationKey(secret: Self.secret.reversed())])
        #expect(throws: LoginRefusal.wrongSignature) { try decide(signed, other).get() }
        let named = Self.authenticator([VerificationKey(secret: Self.secret, name: "a")])
        let foreign = Self.token(claims, header: #"{"alg":"HS256","kid":"b"}"#)
        #expect(throws: LoginRefusal.unknownKey) { try decide(foreign, named).get() }
    }

    @Test(
        "Each claim that is wrong keeps out, with its reason",
        arguments: [
            (#"{"sub":"a","exp":1799999999,"aud":"stampede"}"#, LoginRefusal.tokenExpired),
            (#"{"sub":"a","exp":1800000000,"aud":"stampede"}"#, .tokenExpired),
            (#"{"sub":"a","aud":"stampede"}"#, .noExpiry),
            (#"{"sub":"a","exp":"1900000000","aud":"stampede"}"#, .noExpiry),
            (#"{"sub":"a","exp":1900000000,"nbf":"x","aud":"stampede"}"#, .badStart),
            (#"{"sub":"a","exp":1900000000,"nbf":1800000061,"aud":"stampede"}"#, .tokenNotYetValid),
            (#"{"sub":"a","exp":1900000000,"aud":"other"}"#, .wrongAudience),
            (#"{"sub":"a","exp":1900000000,"aud":["other"]}"#, .wrongAudience),
            (#"{"sub":"a","exp":1900000000,"aud":1}"#, .wrongAudience),
            (#"{"sub":"a","exp":1900000000}"#, .wrongAudience),
            (#"{"exp":1900000000,"aud":"stampede"}"#, .badSubject),
            (#"{"sub":"","exp":1900000000,"aud":"stampede"}"#, .badSubject),
            (#"{"sub":"a\n","exp":1900000000,"aud":"stampede"}"#, .badSubject),
            (#"{"sub":"a","exp":1900000000,"aud":"stampede","stampede":"writer"}"#, .unknownRole),
            (#"{"sub":"a","exp":1900000000,"aud":"stampede","stampede":7}"#, .badGrant),
            (#"{"sub":"a","exp":1900000000,"aud":"stampede","stampede":{"publich":[]}}"#, .badGrant),
            (#"{"sub":"a","exp":1900000000,"aud":"stampede","stampede":{"publish":["/topic/a*"]}}"#, .badPattern),
            (#"{"sub":"a","exp":1900000000,"aud":"stampede","stampede":{"deny":{"x":[]}}}"#, .badGrant),
            (#"["sub"]"#, .malformedToken), ("not json", .malformedToken),
        ])
    func claims(_ claims: String, _ expected: LoginRefusal) { #expect(refusal(Self.token(claims)) == expected) }

    @Test("What a token allows comes from its claim, or from the configuration")
    func grants() throws {
        func identity(_ grant: String) throws -> AccessIdentity {
            try decide(Self.token(#"{"sub":"a","exp":1900000000,"nbf":1800000060,"aud":"stampede"\#(grant)}"#)).get()
        }
        let plain = try identity("")
        #expect(plain.roles.isEmpty && plain.rules == nil)
        #expect(try identity(#","stampede":["reader"]"#).roles == ["reader"])
        #expect(try identity(#","stampede":"reader"}"#.dropLast().description).roles == ["reader"])
        let rules = try #require(
            try identity(#","stampede":{"subscribe":"/topic/#","deny":{"subscribe":["/topic/x"]}}"#).rules)
        #expect(rules.subscribe.map(\.text) == ["/topic/#"] && rules.denySubscribe.map(\.text) == ["/topic/x"])
        #expect(rules.create == nil)
        #expect(try identity(#","stampede":{"publish":[],"create":[]}"#).rules?.create == [])
    }

    @Test("A login beside a token is its subject, or none")
    func login() {
        let token = Self.token(#"{"sub":"a","exp":1900000000,"aud":"stampede"}"#)
        #expect(refusal(token, login: "a") == nil)
        #expect(refusal(token, login: "b") == .loginIsNotSubject)
    }

    @Test("An issuer that is configured has to be the token's; without an audience, tokens have none")
    func issuer() {
        let key = VerificationKey(secret: Self.secret)
        let token = Self.token(#"{"sub":"a","exp":1900000000,"iss":"x"}"#)
        #expect(throws: LoginRefusal.wrongIssuer) {
            try decide(token, Self.authenticator([key], issuer: "y", audience: nil)).get()
        }
        #expect((try? decide(token, Self.authenticator([key], issuer: "x", audience: nil)).get()) != nil)
        let audience = Self.token(#"{"sub":"a","exp":1900000000,"aud":"x"}"#)
        #expect(throws: LoginRefusal.noAudienceConfigured) {
            try decide(audience, Self.authenticator([key], audience: nil)).get()
        }
    }

    @Test("A key that verifies no token is refused, with what would be right")
    func keys() {
        func reason(_ pem: String) -> String? {
            if case .failure(let failure) = VerificationKey.read(pem: Array(pem.utf8)) { failure.reason } else { nil }
        }
        #expect(reason("")?.contains("no public key") == true)
        #expect(reason("-----BEGIN PRIVATE KEY-----")?.contains("private key") == true)
        #expect(reason("-----BEGIN CERTIFICATE-----")?.contains("certificate") == true)
        #expect(reason(WebTokenFixtures.shortRSA)?.contains("2048") == true)
        #expect(reason(WebTokenFixtures.p384)?.contains("P-256") == true)
        for set in [
            "", "[]", "{}", #"{"keys":{}}"#, #"{"keys":[]}"#, #"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            #"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#, #"{"keys":[{"n":"AQAB"}]}"#,
        ] {
            guard case .failure = VerificationKey.read(keySet: Array(set.utf8)) else {
                Issue.record("\(set)")
                continue
            }
        }
    }
}
