import CAccess

/// A password as the users file keeps it: what it was hashed to, never the password.
///
///     $y$j9T$SALT$HASH         yescrypt, through crypt(3); $gy$ is its GOST variant
///     $2b$12$SALTHASH          bcrypt; $2a$ and $2y$ too
///     $6$rounds=N$SALT$HASH    SHA-512; the rounds may be missing
///     $rabbitmq$BASE64         RabbitMQ's salted SHA-256, as in its definitions file: 4 bytes of salt, then the digest
public struct PasswordHash: Sendable, Equatable {
    /// Why a text is no hash.
    public struct Failure: Error, Equatable, Sendable {
        public let reason: String
    }

    private enum Form: Sendable, Equatable {
        case crypt
        case rabbitMQ(salt: [UInt8], digest: [UInt8])
    }

    /// As it is in the users file. Not a secret like a password, but not for the log either.
    public let text: String
    private let form: Form

    static let allowed = "yescrypt ($y$), bcrypt ($2b$), SHA-512 ($6$), or RabbitMQ's ($rabbitmq$ and its base64 text)"
    private static let rabbitMQPrefix = "$rabbitmq$"
    /// One more bit of bcrypt's cost doubles the time; 14 takes a second.
    static let bcryptCostMax = 14
    /// A second, about.
    static let sha512RoundsMax = 1_000_000
    private static let byteCountMax = 384

    public init(_ text: String) throws(Failure) {
        self.text = text
        if text.hasPrefix(Self.rabbitMQPrefix) {
            guard let bytes = Base64.decode(Array(text.utf8.dropFirst(Self.rabbitMQPrefix.utf8.count))),
                bytes.count == 36
            else { throw Failure(reason: "$rabbitmq$ is followed by base64 text of 36 bytes, as RabbitMQ exports it") }
            form = .rabbitMQ(salt: Array(bytes[..<4]), digest: Array(bytes[4...]))
            return
        }
        form = .crypt
        let parts = text.split(separator: "$", omittingEmptySubsequences: false).map(String.init)
        let isShort = text.utf8.count <= Self.byteCountMax
        guard isShort, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), parts.count >= 4, parts[0].isEmpty else {
            throw Failure(reason: "is no password hash; allowed: \(Self.allowed); stampede user passwd makes one")
        }
        switch parts[1] {
        case "y", "gy": break
        case "2a", "2b", "2y":
            guard let cost = Int(parts[2]), cost <= Self.bcryptCostMax else {
                throw Failure(reason: "has a cost above \(Self.bcryptCostMax): to check it would take too long")
            }
        case "6":
            if parts[2].hasPrefix("rounds=") {
                guard let rounds = Int(parts[2].dropFirst(7)), rounds <= Self.sha512RoundsMax else {
                    throw Failure(
                        reason: "has more than \(Self.sha512RoundsMax) rounds: to check it would take too long")
                }
            }
        default:
            throw Failure(reason: "uses the method $\(parts[1])$; allowed: \(Self.allowed)")
        }
        guard caccess_crypt_knows(text) else {
            throw Failure(reason: "is cut off, or crypt(3) of this machine does not know its method $\(parts[1])$")
        }
    }

    /// Hashes a new password: yescrypt with the machine's default cost. nil: crypt(3) failed, for the password is longer
    /// than 511 bytes, or there is no memory.
    public static func make(for password: [UInt8]) -> PasswordHash? {
        var setting = [CChar](repeating: 0, count: byteCountMax)
        guard caccess_crypt_setting("$y$", 0, &setting, setting.count) else { return nil }
        let scratch = CryptScratch()
        guard let text = scratch.hash(password, setting: setting) else { return nil }
        return try? PasswordHash(text)
    }

    /// Whether that password was hashed. Takes milliseconds, and for yescrypt 16 MiB of memory meanwhile.
    public func matches(_ password: [UInt8], _ scratch: borrowing CryptScratch) -> Bool {
        switch form {
        case .rabbitMQ(let salt, let digest):
            return Digest.areEqual(Digest.sha256(salt + password), digest)
        case .crypt:
            let expected = Array(text.utf8)
            guard let hash = scratch.hash(password, setting: text.utf8CString.map { $0 }) else { return false }
            return Digest.areEqual(Array(hash.utf8), expected)
        }
    }
}

/// The memory that crypt(3) works in: 32 KiB, of one thread.
public struct CryptScratch: ~Copyable {
    private let bytes: UnsafeMutableRawPointer

    public init() { bytes = .allocate(byteCount: caccess_crypt_scratch_size(), alignment: 16) }

    deinit { bytes.deallocate() }

    /// nil: the password has a NUL, or is too long for the method.
    fileprivate func hash(_ password: [UInt8], setting: [CChar]) -> String? {
        guard !password.contains(0) else { return nil }
        var phrase = password + [0]
        defer { caccess_clear(&phrase, phrase.count) }
        var result = [CChar](repeating: 0, count: 400)
        let isHashed = phrase.withUnsafeBufferPointer { phrase in
            phrase.withMemoryRebound(to: CChar.self) {
                caccess_crypt($0.baseAddress!, setting, bytes, &result, result.count)
            }
        }
        guard isHashed, let end = result.firstIndex(of: 0) else { return nil }
        return String(decoding: result[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
