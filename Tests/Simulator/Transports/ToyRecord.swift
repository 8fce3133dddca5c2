/// Records of the cipher that stands in the place of TLS. From outside they look like those of TLS (RFC 8446, section
/// 5.1), so that what looks at them before the engine sees what it expects:
///
///     | type 1 | 3 | 3 | byte count 2 | payload                              before the keys are known
///     | type 1 | 3 | 3 | byte count 2 | octets XOR key stream | checksum 4   afterwards
///
/// It keeps no secret and costs next to nothing. But each octet depends on the key, the direction and the number of the
/// record, and the checksum on all of them: whatever is lost, doubled, moved or sent in clear text is noticed.
enum ToyRecord {
    enum Kind {
        static let alert: UInt8 = 21
        static let handshake: UInt8 = 22
        static let data: UInt8 = 23
    }

    /// The first octet of a handshake message. Its length follows, in three octets.
    enum Message {
        static let clientHello: UInt8 = 1
        static let serverHello: UInt8 = 2
        static let ticket: UInt8 = 4
        static let retry: UInt8 = 6
        static let finished: UInt8 = 20
    }

    static let headerByteCount = 5
    static let checksumByteCount = 4
    static let closeNotify: [UInt8] = [1, 0]
    static let handshakeFailure: [UInt8] = [2, 40]

    static func plain(_ kind: UInt8, _ payload: some Collection<UInt8>) -> [UInt8] {
        [kind, 3, 3, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)] + payload
    }

    static func message(_ kind: UInt8, _ body: some Collection<UInt8>) -> [UInt8] {
        [kind, UInt8(body.count >> 16), UInt8(body.count >> 8 & 0xFF), UInt8(body.count & 0xFF)] + body
    }

    /// The record at `start`: its type, and where its payload is. nil: it is not whole yet.
    static func next(_ bytes: [UInt8], at start: Int) -> (kind: UInt8, payload: Range<Int>)? {
        guard bytes.count - start >= headerByteCount else { return nil }
        let first = start + headerByteCount
        let end = first + (Int(bytes[start + 3]) << 8 | Int(bytes[start + 4]))
        return bytes.count >= end ? (bytes[start], first..<end) : nil
    }

    static func mixed(_ value: UInt64) -> UInt64 {
        var value = value &+ 0x9E37_79B9_7F4A_7C15
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    static func octets(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    static func number(_ octets: some Collection<UInt8>) -> UInt64 {
        octets.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}

/// The key of one direction, and the number of its next record.
struct ToyKey {
    private let key: UInt64
    private var count: UInt64 = 0

    /// Of a handshake's two numbers.
    init(_ client: UInt64, _ server: UInt64, isOfServer: Bool) {
        key = ToyRecord.mixed(ToyRecord.mixed(client) ^ server) ^ (isOfServer ? 0x5345_5256 : 0x434C_4945)
    }

    /// What proves that an end of the connection has the key.
    var proof: [UInt8] { ToyRecord.octets(ToyRecord.mixed(key ^ 0x5052_4F4F_46)) }

    /// Encrypts or decrypts in place, and returns the checksum of the octets as they were or are in clear text.
    private func apply(_ octets: UnsafeMutableRawBufferPointer, isEncrypting: Bool) -> UInt32 {
        let start = ToyRecord.mixed(key &+ count)
        var sum = start
        var position = 0
        while position < octets.count {
            let byteCount = min(8, octets.count - position)
            let stream = ToyRecord.mixed(start &+ UInt64(position))
            var clear: UInt64 = 0
            for place in 0..<byteCount {
                let octet = octets[position + place]
                let other = octet ^ UInt8(truncatingIfNeeded: stream >> (8 * UInt64(place)))
                octets[position + place] = other
                clear |= UInt64(isEncrypting ? octet : other) << (8 * UInt64(place))
            }
            sum = (sum ^ clear) &* 0x9E37_79B9_7F4A_7C15
            sum ^= sum >> 29
            position += 8
        }
        return UInt32(truncatingIfNeeded: sum ^ UInt64(octets.count))
    }

    /// A record with these octets.
    mutating func seal(_ kind: UInt8, _ octets: UnsafeRawBufferPointer) -> [UInt8] {
        let byteCount = octets.count + ToyRecord.checksumByteCount
        var record: [UInt8] = [kind, 3, 3, UInt8(byteCount >> 8), UInt8(byteCount & 0xFF)]
        record += octets
        let sum = record.withUnsafeMutableBytes {
            apply(UnsafeMutableRawBufferPointer(rebasing: $0[ToyRecord.headerByteCount...]), isEncrypting: true)
        }
        count += 1
        for place in 0..<4 { record.append(UInt8(truncatingIfNeeded: (sum ^ UInt32(kind)) >> (8 * UInt32(place)))) }
        return record
    }

    mutating func seal(_ kind: UInt8, _ octets: [UInt8]) -> [UInt8] { octets.withUnsafeBytes { seal(kind, $0) } }

    /// What a record holds. nil: it was not sealed with this key as the next one.
    mutating func open(_ kind: UInt8, _ payload: ArraySlice<UInt8>) -> [UInt8]? {
        guard payload.count >= ToyRecord.checksumByteCount else { return nil }
        var clear = Array(payload.dropLast(ToyRecord.checksumByteCount))
        let sum = clear.withUnsafeMutableBytes { apply($0, isEncrypting: false) }
        count += 1
        let expected = UInt32(truncatingIfNeeded: ToyRecord.number(payload.suffix(ToyRecord.checksumByteCount)))
        return sum ^ UInt32(kind) == expected ? clear : nil
    }
}
