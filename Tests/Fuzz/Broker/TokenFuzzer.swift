import Access
import Permissions

/// Reads octets as what a client sends to prove who it is, or as what a login service says of it. The first octet says as
/// what.
final class TokenFuzzer {
    private let secret = Array("0123456789abcdef0123456789abcdef".utf8)
    private let limits = PatternLimits(nameByteCountMax: 256, levelCountMax: 32)
    private let webTokens: WebTokenAuthenticator
    private let sharedSecret: SharedSecretToken
    private static let now: UInt64 = 1_700_000_000_000

    init() {
        webTokens = WebTokenAuthenticator(
            keys: [VerificationKey(secret: secret)], issuer: nil, audience: nil, claim: "stampede", limits: limits)
        sharedSecret = SharedSecretToken(secret: secret, algorithm: .hmacSHA256, milliseconds: 60_000)
    }

    func check(_ octets: UnsafeRawBufferPointer) -> String? {
        guard let first = octets.first else { return nil }
        let bytes = Array(octets.dropFirst())
        switch first % 6 {
        case 0: return checkUnsigned(bytes)
        case 1: return checkSigned(bytes)
        case 2:
            _ = VerificationKey.read(keySet: bytes)
            return nil
        case 3: return checkLogin(bytes)
        case 4: return checkBase64(bytes)
        default: return checkAnswer(bytes)
        }
    }

    private func decide(_ token: [UInt8]) -> Decision {
        webTokens.decide(
            Credentials(login: nil, passcode: token), wallMilliseconds: Self.now, hasRole: { $0 == "role" })
    }

    /// What nobody has signed lets nobody in.
    private func checkUnsigned(_ token: [UInt8]) -> String? {
        if case .allowed = decide(token) { return "a token that nobody has signed lets in" }
        return nil
    }

    /// Any claims, signed: whoever gets in has a name, a time that is not over, and roles that there are.
    private func checkSigned(_ claims: [UInt8]) -> String? {
        let header = Base64.encode(Array(#"{"alg":"HS256"}"#.utf8), .url)
        let signed = header + [UInt8(ascii: ".")] + Base64.encode(claims, .url)
        let token = signed + [UInt8(ascii: ".")] + Base64.encode(Digest.hmacSHA256(signed, key: secret), .url)
        guard case .allowed(let identity) = decide(token) else { return nil }
        guard (1...AccessIdentity.nameByteCountMax).contains(identity.user.count) else {
            return "a client without a name"
        }
        guard identity.expiresAt > Self.now else { return "a token that has expired" }
        guard identity.roles.allSatisfy({ $0 == "role" }) else { return "a role that there is not" }
        // It can be put together and asked.
        let rules = identity.rules.map { [$0] } ?? []
        let permissions = PermissionSet(rules, user: identity.user, clientID: nil)
        let names = ["/topic/a.b", "/queue/a", "/topic/#"]
        for name in names {
            for action in AccessAction.allCases {
                let bytes = Array(name.utf8)
                let isAllowed = bytes.withUnsafeBytes { permissions.allows(action, pattern: $0) }
                if isAllowed, rules.isEmpty { return "\(name) is allowed by nothing" }
            }
        }
        return nil
    }

    private func checkLogin(_ login: [UInt8]) -> String? {
        let isOfForm = SharedSecretToken.parse(login) != nil
        let right = Credentials(login: login, passcode: sharedSecret.passcode(of: login))
        switch sharedSecret.decide(right, wallMilliseconds: Self.now) {
        case nil: return isOfForm ? "a login of the right form is not decided" : nil
        case .allowed(let identity)?: return login.starts(with: identity.user) ? nil : "another name than the login's"
        case .refused(.tokenExpired)?: return nil
        case .refused?, .unknown?: return "the right passcode is refused"
        }
    }

    /// An answer is read when enough of it is there, and what comes behind it does not change it.
    private func checkAnswer(_ bytes: [UInt8]) -> String? {
        guard let whole = try? HTTPResponse.parse(bytes, isEnd: false) else { return nil }
        guard (200...599).contains(whole.status), whole.body.count <= HTTPResponse.bodyByteCountMax else {
            return "an answer that is none"
        }
        if let verdict = try? LoginService.verdict(whole), case .allowed = verdict, !(200...201).contains(whole.status)
        {
            return "the status \(whole.status) lets in"
        }
        for count in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 64)) {
            let part: HTTPResponse?
            do throws(HTTPResponse.Failure) {
                part = try HTTPResponse.parse(Array(bytes[..<count]), isEnd: false)
            } catch {
                return "the first \(count) octets are wrong, and more are right: \(error.reason)"
            }
            if let part, part.body != whole.body || part.status != whole.status {
                return "more octets change an answer"
            }
        }
        return nil
    }

    private func checkBase64(_ text: [UInt8]) -> String? {
        for alphabet in [Base64.Alphabet.standard, .url] {
            guard let bytes = Base64.decode(text, alphabet) else { continue }
            if Base64.encode(bytes, alphabet) != text { return "two texts for the same octets" }
        }
        return nil
    }
}
