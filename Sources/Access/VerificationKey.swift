import CAccess

/// How a JSON Web Token is signed (RFC 7518, RFC 8037). The key decides which one it can verify: a token cannot choose.
enum SignatureAlgorithm: String, CaseIterable, Sendable {
    case hs256 = "HS256"
    case rs256 = "RS256"
    case es256 = "ES256"
    case edDSA = "EdDSA"
}

/// A key that verifies tokens, of exactly one algorithm.
package final class VerificationKey: @unchecked Sendable {
    /// Bytes of a shared secret: those of the digest (RFC 7518, section 3.2).
    static let secretByteCountMin = 32

    let algorithm: SignatureAlgorithm
    /// Its name in a key set. nil: it has none, and is tried for every token.
    let name: String?
    private let secret: [UInt8]
    /// Immutable; OpenSSL lets threads share it.
    private let key: OpaquePointer?

    /// A shared secret.
    package init(secret: [UInt8], name: String? = nil) {
        algorithm = .hs256
        self.name = name
        self.secret = secret
        key = nil
    }

    /// Takes over a public key. nil: there is none, or of a kind that verifies no token.
    private init?(_ key: OpaquePointer?, name: String?) {
        guard let key else { return nil }
        switch caccess_key_kind(key) {
        case CACCESS_KEY_RSA: algorithm = .rs256
        case CACCESS_KEY_P256: algorithm = .es256
        case CACCESS_KEY_ED25519: algorithm = .edDSA
        default:
            caccess_key_free(key)
            return nil
        }
        self.key = key
        self.name = name
        secret = []
    }

    deinit { caccess_key_free(key) }

    func verifies(_ bytes: [UInt8], signature: [UInt8]) -> Bool {
        guard let key else { return Digest.areEqual(Digest.hmacSHA256(bytes, key: secret), signature) }
        return caccess_key_verifies(key, bytes, bytes.count, signature, signature.count)
    }

    // MARK: Reading

    /// A public key in PEM, or why it is none.
    package static func read(pem text: [UInt8]) -> Result<VerificationKey, KeyFailure> {
        let written = String(decoding: text, as: UTF8.self)
        if written.contains("PRIVATE KEY") {
            return .failure("is a private key; allowed: its public key (openssl pkey -pubout)")
        }
        if written.contains("BEGIN CERTIFICATE") {
            return .failure("is a certificate; allowed: its public key (openssl x509 -pubkey -noout)")
        }
        guard let key = caccess_key_from_pem(text, text.count) else {
            return .failure("is no public key; allowed: PEM (BEGIN PUBLIC KEY)")
        }
        guard let made = VerificationKey(key, name: nil) else {
            return .failure("is of no kind that can verify tokens; allowed: RSA of 2048 bits or more, P-256, Ed25519")
        }
        return .success(made)
    }

    /// A key set (RFC 7517), or why it is none. Keys for encryption and of other kinds are passed over, as section 5 says.
    package static func read(keySet text: [UInt8]) -> Result<[VerificationKey], KeyFailure> {
        guard let set = JSONValue(text), case .list(let members)? = set["keys"] else {
            return .failure("is no key set; allowed: a JSON object with a list `keys` (RFC 7517)")
        }
        guard members.count <= keyCountMax else { return .failure("has more than \(keyCountMax) keys") }
        var keys: [VerificationKey] = []
        for (index, member) in members.enumerated() {
            if let use = member["use"]?.text, use != "sig" { continue }
            guard let type = member["kty"]?.text else { return .failure("keys[\(index)] has no kty") }
            let key: VerificationKey?
            switch type {
            case "RSA", "EC", "OKP":
                if type == "EC", member["crv"]?.text != "P-256" { continue }
                if type == "OKP", member["crv"]?.text != "Ed25519" { continue }
                key = publicKey(member, type)
            case "oct": key = sharedKey(member)
            default: continue
            }
            guard let key else {
                return .failure(
                    """
                    keys[\(index)] is no good \(type) key; allowed: RSA (n, e) of 2048 bits or more, P-256 (x, y), Ed25519 \
                    (x), oct (k) of \(secretByteCountMin) bytes or more
                    """)
            }
            if let algorithm = member["alg"]?.text, algorithm != key.algorithm.rawValue { continue }
            keys.append(key)
        }
        guard !keys.isEmpty else { return .failure("has no key that can verify HS256, RS256, ES256 or EdDSA") }
        return .success(keys)
    }

    private static let keyCountMax = 32

    private static func publicKey(_ member: JSONValue, _ type: String) -> VerificationKey? {
        let key: OpaquePointer?
        switch type {
        case "RSA":
            guard let n = bytes(member, "n"), let e = bytes(member, "e"), n.count <= 2048, e.count <= 8 else {
                return nil
            }
            key = caccess_key_from_rsa(n, n.count, e, e.count)
        case "EC":
            guard let x = bytes(member, "x"), let y = bytes(member, "y"), x.count == 32, y.count == 32 else {
                return nil
            }
            key = caccess_key_from_p256(x, y)
        default:
            guard let x = bytes(member, "x"), x.count == 32 else { return nil }
            key = caccess_key_from_ed25519(x)
        }
        return VerificationKey(key, name: member["kid"]?.text)
    }

    private static func sharedKey(_ member: JSONValue) -> VerificationKey? {
        guard let secret = bytes(member, "k"), secret.count >= secretByteCountMin else { return nil }
        return VerificationKey(secret: secret, name: member["kid"]?.text)
    }

    private static func bytes(_ member: JSONValue, _ name: String) -> [UInt8]? {
        member[name]?.text.flatMap { Base64.decode(Array($0.utf8), .url) }
    }
}

/// Why a key cannot be used: what was found and what is allowed.
package struct KeyFailure: Error, ExpressibleByStringInterpolation {
    package let reason: String

    package init(stringLiteral reason: String) { self.reason = reason }
}
