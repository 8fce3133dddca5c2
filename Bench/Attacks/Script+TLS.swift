// Attacks on TLS. They need no cryptography of their own: the broker does its part of a handshake after any hello.
extension Script {
    init(ofTLS attack: Attack) {
        self.init()
        switch attack {
        case .handshakes:
            // Random bytes in place of the encrypted end of the handshake: the broker has done all its work by then.
            opening = { Self.hello($0) + Self.record(type: 23, [UInt8](repeating: 0x5A, count: 64)) }
        case .halfHandshakes:
            opening = { connection in
                let hello = Self.hello(connection)
                return Array(hello.prefix([hello.count, 1, hello.count / 2, hello.count - 1][connection % 4]))
            }
            piece = { connection, number in
                // Those whose hello is whole go on with a record that never ends; a quarter says nothing more.
                let rest = [Self.record(type: 23, [UInt8](repeating: 0, count: 1000)), [], [], []][connection % 4]
                return number < rest.count ? [rest[number]] : []
            }
            bytesPerSecond = 1
        default:
            // Each byte of the message in a record of its own. It says that it has more than any hello may have.
            let head: [UInt8] = [1, 0, 0x3F, 0xF0]
            opening = { _ in head.flatMap { Self.record(type: 22, [$0]) } }
            let records = Array(repeatElement(Self.record(type: 22, [3]), count: 4000).joined())
            piece = { _, _ in records }
        }
    }

    /// | type 1 B | version 2 B | length 2 B | payload |
    private static func record(type: UInt8, _ payload: [UInt8]) -> [UInt8] {
        [type, 3, 3] + short(payload.count) + payload
    }

    private static func short(_ count: Int) -> [UInt8] { [UInt8(count >> 8), UInt8(count & 0xFF)] }

    private static func `extension`(_ type: Int, _ content: [UInt8]) -> [UInt8] {
        short(type) + short(content.count) + content
    }

    /// A hello of TLS 1.3 (RFC 8446, section 4.1.2), or of TLS 1.2 by every third connection.
    private static func hello(_ connection: Int) -> [UInt8] {
        var random = [UInt8](repeating: 0x11, count: 32)
        for place in 0..<8 { random[place] = UInt8(truncatingIfNeeded: connection >> (8 * place)) }
        let ciphers: [UInt8] = [0x13, 0x01, 0x13, 0x02, 0x13, 0x03, 0xC0, 0x2B, 0xC0, 0x2F, 0xC0, 0x2C, 0xC0, 0x30]
        var extensions = `extension`(10, short(4) + [0, 0x1D, 0, 0x17])  // Groups: X25519, P-256.
        extensions += `extension`(13, short(8) + [4, 3, 8, 4, 4, 1, 5, 3])  // Signatures: ECDSA, RSA-PSS, RSA.
        if connection % 3 != 2 {
            extensions += `extension`(43, [4, 3, 4, 3, 3])  // Versions: 1.3, 1.2.
            let point: [UInt8] = [9] + [UInt8](repeating: 0, count: 31)
            extensions += `extension`(51, short(36) + [0, 0x1D] + short(32) + point)  // The share of X25519.
        }
        var body: [UInt8] = [3, 3] + random + [0] + short(ciphers.count) + ciphers + [1, 0]
        body += short(extensions.count) + extensions
        return record(type: 22, [1, 0] + short(body.count) + body)
    }
}
