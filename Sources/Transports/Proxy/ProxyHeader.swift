/// What a proxy says of the connection that it passes on, before its first byte: the PROXY protocol, versions 1 and 2.
///
/// Version 1 is a line of at most 107 bytes:
///
///     PROXY TCP4 192.0.2.1 198.51.100.1 50000 61613\r\n
///     PROXY UNKNOWN\r\n
///
/// Version 2 is binary:
///
///     | 12 bytes: 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | version and command: 1 | family and protocol: 1 |
///     | byte count of the rest: 2, the more significant first | addresses: 12, 36 or 216 | TLVs: 3 + n each |
///
/// Source: Willy Tarreau, "The PROXY protocol, versions 1 & 2" (haproxy's doc/proxy-protocol.txt).
public enum ProxyHeader: Equatable, Sendable {
    /// More bytes are needed.
    case incomplete
    /// The header has `byteCount` bytes. `source` is the client; nil: the proxy speaks for itself (LOCAL), or does not
    /// know (UNKNOWN, UNSPEC), or the client came by a Unix socket. Then the connection's own peer is the client.
    case complete(byteCount: Int, source: ClientAddress?)
    /// The connection does not begin with a header, or with a wrong one.
    case malformed(Fault)

    public enum Fault: Equatable, Sendable {
        /// The first bytes are those of neither version.
        case missing
        case tooLong
        /// Version 1: the line is not as it should be.
        case line
        /// Version 2: neither version 2, LOCAL nor PROXY.
        case command
        /// Version 2: a family or protocol that no stream has.
        case family
        /// Version 2: it ends within the addresses or within a TLV, or has two checksums.
        case length
        /// Version 2: the CRC-32C is wrong.
        case checksum

        public var explanation: StaticString {
            switch self {
            case .missing: "the connection does not begin with a PROXY header, which this listener demands"
            case .tooLong: "the PROXY header is longer than 4,096 bytes"
            case .line: "the line of the PROXY header is malformed"
            case .command: "the version or command of the PROXY header is unknown"
            case .family: "the address family of the PROXY header is not TCP over IPv4 or IPv6, or a Unix stream"
            case .length: "the length of the PROXY header does not fit what it holds"
            case .checksum: "the checksum of the PROXY header is wrong"
            }
        }
    }

    /// The longest header that is read. Proxies send some tens of bytes, and some thousand with a client's certificate.
    public static var byteCountMax: Int { 4096 }
    /// Version 1, with its line end.
    private static var lineByteCountMax: Int { 107 }
    private static var fixedByteCount: Int { 16 }

    /// Reads the header at the start of `bytes`, all that was received so far.
    public init(_ bytes: UnsafeRawBufferPointer) {
        if Self.begins(bytes, with: Self.signature) {
            self = bytes.count < Self.fixedByteCount ? .incomplete : Self.binary(bytes)
        } else if Self.begins(bytes, with: Self.word) {
            self = Self.line(bytes)
        } else {
            self = .malformed(.missing)
        }
    }

    private static let signature: [UInt8] = [
        0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
    ]
    private static let word = Array("PROXY ".utf8)

    /// Whether the bytes are those, as far as there are any.
    private static func begins(_ bytes: UnsafeRawBufferPointer, with start: [UInt8]) -> Bool {
        zip(bytes, start).allSatisfy { $0 == $1 }
    }

    // MARK: Version 1

    private static func line(_ bytes: UnsafeRawBufferPointer) -> ProxyHeader {
        let line = bytes.prefix(lineByteCountMax)
        guard let lineFeed = line.firstIndex(of: 0x0A) else {
            return line.count < lineByteCountMax ? .incomplete : .malformed(.line)
        }
        guard lineFeed > 0, line[lineFeed - 1] == 0x0D else { return .malformed(.line) }
        let words = line[..<(lineFeed - 1)].split(separator: 0x20, omittingEmptySubsequences: false)
        guard words.count >= 2 else { return .malformed(.line) }
        // What follows is to be ignored.
        if words[1].elementsEqual("UNKNOWN".utf8) { return .complete(byteCount: lineFeed + 1, source: nil) }
        let isIPv6 = words[1].elementsEqual("TCP6".utf8)
        guard isIPv6 || words[1].elementsEqual("TCP4".utf8), words.count == 6,
            let source = address(words[2], isIPv6: isIPv6, port: words[4]),
            address(words[3], isIPv6: isIPv6, port: words[5]) != nil
        else { return .malformed(.line) }
        return .complete(byteCount: lineFeed + 1, source: source)
    }

    private static func address(
        _ host: Slice<UnsafeRawBufferPointer>, isIPv6: Bool, port: Slice<UnsafeRawBufferPointer>
    ) -> ClientAddress? {
        guard host.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), let port = self.port(port) else { return nil }
        return ClientAddress(host: String(decoding: host, as: UTF8.self), isIPv6: isIPv6, port: port)
    }

    /// 0 to 65535, without leading zeros.
    private static func port(_ digits: Slice<UnsafeRawBufferPointer>) -> UInt16? {
        guard let first = digits.first, digits.count <= 5, first != 0x30 || digits.count == 1 else { return nil }
        var port = 0
        for digit in digits {
            guard (0x30...0x39).contains(digit) else { return nil }
            port = port * 10 + Int(digit - 0x30)
        }
        return UInt16(exactly: port)
    }

    // MARK: Version 2

    private static func binary(_ bytes: UnsafeRawBufferPointer) -> ProxyHeader {
        let restByteCount = Int(bytes[14]) << 8 | Int(bytes[15])
        let byteCount = fixedByteCount + restByteCount
        guard bytes[12] == 0x20 || bytes[12] == 0x21 else { return .malformed(.command) }
        guard byteCount <= byteCountMax else { return .malformed(.tooLong) }
        guard bytes.count >= byteCount else { return .incomplete }
        // LOCAL: a health check of the proxy's own. All else of the header is to be ignored.
        if bytes[12] == 0x20 { return .complete(byteCount: byteCount, source: nil) }
        var source: ClientAddress?
        let addressByteCount: Int
        switch bytes[13] {
        case 0x00: return .complete(byteCount: byteCount, source: nil)
        case 0x11: addressByteCount = 12
        case 0x21: addressByteCount = 36
        case 0x31: addressByteCount = 216
        default: return .malformed(.family)
        }
        guard restByteCount >= addressByteCount else { return .malformed(.length) }
        if addressByteCount == 12 {
            source = ClientAddress(
                version4: UInt32(truncatingIfNeeded: number(bytes, 16, 4)),
                port: UInt16(truncatingIfNeeded: number(bytes, 24, 2)))
        } else if addressByteCount == 36 {
            source = ClientAddress(
                version6: number(bytes, 16, 8), number(bytes, 24, 8),
                port: UInt16(truncatingIfNeeded: number(bytes, 48, 2)))
        }
        let header = UnsafeRawBufferPointer(rebasing: bytes[..<byteCount])
        if let fault = faultOfTLVs(header, from: fixedByteCount + addressByteCount) { return .malformed(fault) }
        return .complete(byteCount: byteCount, source: source)
    }

    /// The type-length-values are passed over, but for the checksum (PP2_TYPE_CRC32C). There is one at most: it takes time
    /// for each byte of the header, and nobody knows the client yet.
    private static func faultOfTLVs(_ header: UnsafeRawBufferPointer, from start: Int) -> Fault? {
        var place = start
        var field: Range<Int>?
        while place < header.count {
            guard place + 3 <= header.count else { return .length }
            let byteCount = Int(header[place + 1]) << 8 | Int(header[place + 2])
            guard place + 3 + byteCount <= header.count else { return .length }
            if header[place] == 0x03 {
                guard byteCount == 4, field == nil else { return .length }
                field = place + 3..<place + 7
            }
            place += 3 + byteCount
        }
        guard let field else { return nil }
        let sum = UInt32(truncatingIfNeeded: number(header, field.lowerBound, 4))
        return sum == checksum(header, without: field) ? nil : .checksum
    }

    private static func number(_ bytes: UnsafeRawBufferPointer, _ place: Int, _ count: Int) -> UInt64 {
        (place..<place + count).reduce(0) { $0 << 8 | UInt64(bytes[$1]) }
    }

    /// The CRC-32C (RFC 4960, appendix B) of the header with zeros in place of the checksum.
    static func checksum(_ header: UnsafeRawBufferPointer, without field: Range<Int>) -> UInt32 {
        var sum: UInt32 = ~0
        for place in header.indices {
            sum ^= field.contains(place) ? 0 : UInt32(header[place])
            for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 0 ? 0 : 0x82F6_3B78) }
        }
        return ~sum
    }
}
