import CAccess

/// Digests of OpenSSL, over bytes.
package enum Digest {
    static func sha1(_ bytes: [UInt8]) -> [UInt8] {
        digest(of: 20) { caccess_sha1(bytes, bytes.count, $0) }
    }

    static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        digest(of: 32) { caccess_sha256(bytes, bytes.count, $0) }
    }

    /// HMAC (RFC 2104) with SHA-256.
    package static func hmacSHA256(_ bytes: [UInt8], key: [UInt8]) -> [UInt8] {
        digest(of: 32) { caccess_hmac_sha256(key, key.count, bytes, bytes.count, $0) }
    }

    /// The library refuses SHA-1 only where the machine's policy forbids it; then nothing equals the digest.
    private static func digest(of byteCount: Int, _ compute: (UnsafeMutablePointer<UInt8>) -> Bool) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            count = compute(buffer.baseAddress!) ? byteCount : 0
        }
    }

    /// In a time that does not depend on where they differ.
    static func areEqual(_ first: [UInt8], _ second: [UInt8]) -> Bool {
        first.count == second.count && !first.isEmpty && caccess_equal(first, second, first.count)
    }
}

/// Text for bytes (RFC 4648).
package enum Base64 {
    package enum Alphabet {
        /// Section 4, with padding.
        case standard
        /// Section 5, without padding, as JSON Web Tokens have it.
        case url
    }

    private static let standard = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let url = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    private static let standardValues = values(of: standard)
    private static let urlValues = values(of: url)
    private static let none: UInt8 = 0xFF

    private static func values(of alphabet: [UInt8]) -> [UInt8] {
        var values = [UInt8](repeating: none, count: 256)
        for (value, byte) in alphabet.enumerated() { values[Int(byte)] = UInt8(value) }
        return values
    }

    package static func encode(_ bytes: some Collection<UInt8>, _ alphabet: Alphabet = .standard) -> [UInt8] {
        let letters = alphabet == .standard ? standard : url
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var bits: UInt32 = 0
        var bitCount = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            bitCount += 8
            while bitCount >= 6 {
                bitCount -= 6
                text.append(letters[Int(bits >> UInt32(bitCount)) & 63])
            }
        }
        if bitCount > 0 { text.append(letters[Int(bits << UInt32(6 - bitCount)) & 63]) }
        while alphabet == .standard, text.count % 4 != 0 { text.append(UInt8(ascii: "=")) }
        return text
    }

    /// Strict: one text for each sequence of bytes, so bits that are left over have to be zero. nil: it is no such text.
    package static func decode(_ text: some BidirectionalCollection<UInt8>, _ alphabet: Alphabet = .standard)
        -> [UInt8]?
    {
        var letters = text[...]
        if alphabet == .standard {
            guard letters.count % 4 == 0 else { return nil }
            for _ in 0..<2 where letters.last == UInt8(ascii: "=") { letters = letters.dropLast() }
        }
        guard letters.count % 4 != 1 else { return nil }
        let values = alphabet == .standard ? standardValues : urlValues
        var bytes: [UInt8] = []
        bytes.reserveCapacity(letters.count * 3 / 4)
        var bits: UInt32 = 0
        var bitCount = 0
        for letter in letters {
            let value = values[Int(letter)]
            guard value != none else { return nil }
            bits = bits << 6 | UInt32(value)
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
            }
        }
        return bits & ((1 << UInt32(bitCount)) - 1) == 0 ? bytes : nil
    }
}
