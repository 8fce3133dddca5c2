import Testing

@testable import Transports

@Suite("The PROXY protocol")
struct ProxyHeaderTests {
    static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
    static let version4: [UInt8] = [192, 0, 2, 1, 198, 51, 100, 1, 0xC3, 0x50, 0xF0, 0xAD]
    static let version6: [UInt8] =
        [0x20, 0x01, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11) + [1]
        + [UInt8](repeating: 0, count: 15) + [1] + [0xC3, 0x50, 0xF0, 0xAD]

    static func binary(_ command: UInt8, _ family: UInt8, _ rest: [UInt8]) -> [UInt8] {
        signature + [command, family, UInt8(rest.count >> 8), UInt8(rest.count & 0xFF)] + rest
    }

    static func parse(_ bytes: [UInt8]) -> ProxyHeader { withBytes(bytes) { ProxyHeader($0) } }

    /// The header with a checksum that fits.
    static func withChecksum(_ family: UInt8, _ addresses: [UInt8]) -> [UInt8] {
        var bytes = binary(0x21, family, addresses + [0x04, 0, 1, 0, 0x03, 0, 4, 0, 0, 0, 0])
        let field = bytes.count - 4..<bytes.count
        let sum = withBytes(bytes) { ProxyHeader.checksum($0, without: field) }
        for (place, shift) in zip(field, [24, 16, 8, 0]) { bytes[place] = UInt8(sum >> UInt32(shift) & 0xFF) }
        return bytes
    }

    struct Good: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]
        var source: String?
    }

    static let good: [Good] = [
        Good(
            testDescription: "line, IPv4", bytes: Array("PROXY TCP4 192.0.2.1 198.51.100.1 50000 61613\r\n".utf8),
            source: "192.0.2.1:50000"),
        Good(
            testDescription: "line, IPv6", bytes: Array("PROXY TCP6 2001:db8::1 ::1 50000 0\r\n".utf8),
            source: "[2001:db8::1]:50000"),
        Good(
            testDescription: "the longest line",
            bytes: Array(
                ("PROXY UNKNOWN ffff:f...f:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535".padding(to: 105)
                    + "\r\n").utf8), source: nil),
        Good(testDescription: "line, unknown", bytes: Array("PROXY UNKNOWN\r\n".utf8), source: nil),
        Good(testDescription: "binary, IPv4", bytes: binary(0x21, 0x11, version4), source: "192.0.2.1:50000"),
        Good(testDescription: "binary, IPv6", bytes: binary(0x21, 0x21, version6), source: "[2001:db8::1]:50000"),
        Good(
            testDescription: "binary, Unix", bytes: binary(0x21, 0x31, [UInt8](repeating: 7, count: 216)), source: nil),
        Good(testDescription: "binary, unspecified", bytes: binary(0x21, 0x00, [1, 2, 3]), source: nil),
        Good(testDescription: "binary, local", bytes: binary(0x20, 0x00, []), source: nil),
        Good(testDescription: "binary, local, with rest", bytes: binary(0x20, 0xFF, [9, 9, 9, 9]), source: nil),
        Good(
            testDescription: "binary, with values",
            bytes: binary(0x21, 0x11, version4 + [0x01, 0, 2, 0x68, 0x32] + [0x20, 0, 0] + [0x04, 0, 3, 0, 0, 0]),
            source: "192.0.2.1:50000"),
        Good(testDescription: "binary, checksum", bytes: withChecksum(0x11, version4), source: "192.0.2.1:50000"),
        Good(
            testDescription: "binary, checksum, IPv6", bytes: withChecksum(0x21, version6),
            source: "[2001:db8::1]:50000"),
        Good(
            testDescription: "the longest binary",
            bytes: binary(0x21, 0x11, version4 + [0x04, 0x0F, 0xE1] + [UInt8](repeating: 0, count: 0xFE1)),
            source: "192.0.2.1:50000"),
    ]

    @Test(arguments: good)
    func `a header is read when it is whole, and not before`(_ header: Good) {
        #expect(
            Self.parse(header.bytes)
                == .complete(byteCount: header.bytes.count, source: header.source.flatMap { ClientAddress($0) }))
        for count in 0..<header.bytes.count {
            #expect(Self.parse(Array(header.bytes[..<count])) == .incomplete, "\(count) bytes")
        }
        let behind = header.bytes + Array("CONNECT\n".utf8)
        #expect(
            Self.parse(behind)
                == .complete(byteCount: header.bytes.count, source: header.source.flatMap { ClientAddress($0) }))
    }

    struct Bad: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]
        var fault: ProxyHeader.Fault

        init(_ text: String, _ fault: ProxyHeader.Fault) {
            testDescription = text
            bytes = Array(text.utf8)
            self.fault = fault
        }

        init(_ name: String, _ bytes: [UInt8], _ fault: ProxyHeader.Fault) {
            testDescription = name
            self.bytes = bytes
            self.fault = fault
        }
    }

    static let bad: [Bad] = [
        Bad("CONNECT\n", .missing), Bad("PROXI", .missing), Bad("\r\n\r\n\0\r\nQUIX", .missing), Bad("\n", .missing),
        Bad("PROXY TCP4\r\n", .line), Bad("PROXY \r\n", .line), Bad("PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n", .line),
        Bad("PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n", .line),
        Bad("PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n", .line),
        Bad("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n", .line),
        Bad("PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", .line),
        Bad("PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n", .line),
        Bad("PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n", .line),
        Bad("PROXY TCP4 192.0.2.1 198.51.100.1 -1 2\r\n", .line),
        Bad("PROXY TCP4 192.0.2.1 198.51.100.1 1 \r\n", .line),
        Bad("PROXY TCP4 2001:db8::1 ::1 1 2\r\n", .line), Bad("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", .line),
        Bad("PROXY TCP4 192.0.2.1\0 198.51.100.1 1 2\r\n", .line),
        Bad("PROXY UNKNOWN " + String(repeating: "x", count: 93), .line),
        Bad("a command that is none", binary(0x22, 0x11, version4), .command),
        Bad("version 1 in binary", binary(0x11, 0x11, version4), .command),
        Bad("UDP", binary(0x21, 0x12, version4), .family), Bad("family 4", binary(0x21, 0x41, version4), .family),
        Bad("short of addresses", binary(0x21, 0x11, Array(version4.dropLast())), .length),
        Bad("short of IPv6 addresses", binary(0x21, 0x21, version4), .length),
        Bad("short of Unix addresses", binary(0x21, 0x31, version6), .length),
        Bad("a value that is cut", binary(0x21, 0x11, version4 + [0x04, 0, 2, 0]), .length),
        Bad("a value without a length", binary(0x21, 0x11, version4 + [0x04, 0]), .length),
        Bad("a checksum of 3", binary(0x21, 0x11, version4 + [0x03, 0, 3, 0, 0, 0]), .length),
        Bad("a wrong checksum", binary(0x21, 0x11, version4 + [0x03, 0, 4, 0, 0, 0, 0]), .checksum),
        Bad("two checksums", withChecksum(0x11, version4 + [0x03, 0, 4, 0, 0, 0, 0]), .length),
        Bad(
            "as many checksums as fit",
            binary(0x21, 0x11, version4 + (0..<580).flatMap { _ in [0x03, 0, 4, 0, 0, 0, 0] as [UInt8] }), .length),
        Bad("too long", signature + [0x21, 0x11, 0xFF, 0xFF], .tooLong),
        Bad("too long by one", signature + [0x21, 0x11, 0x0F, 0xF1], .tooLong),
    ]

    @Test(arguments: bad)
    func `what is wrong is told`(_ header: Bad) {
        #expect(Self.parse(header.bytes) == .malformed(header.fault))
        #expect(!header.fault.explanation.description.isEmpty)
    }

    @Test func `any flipped bit is found by the checksum`() {
        let bytes = Self.withChecksum(0x11, Self.version4)
        for place in 16..<28 {
            for bit in 0..<8 {
                var flipped = bytes
                flipped[place] ^= 1 << UInt8(bit)
                #expect(Self.parse(flipped) == .malformed(.checksum), "byte \(place), bit \(bit)")
            }
        }
    }

    @Test func `the checksum is CRC-32C`() {
        // RFC 3720, appendix B.4: 32 bytes of zeros.
        let sum = withBytes([UInt8](repeating: 0, count: 32)) { ProxyHeader.checksum($0, without: 0..<0) }
        #expect(sum == 0x8A91_36AA)
    }
}

extension String {
    fileprivate func padding(to count: Int) -> String { self + String(repeating: " ", count: count - self.count) }
}

@Suite("Addresses of clients")
struct ClientAddressTests {
    @Test func `texts are read and written`() {
        for text in ["192.0.2.1:50000", "[2001:db8::1]:1", "[::]:0", "255.255.255.255:65535"] {
            #expect(ClientAddress(text)?.description == text)
        }
        for text in ["192.0.2.1", "2001:db8::1:5", "[192.0.2.1]:5", "host:5", "1.2.3.4:65536", "1.2.3.4:", ""] {
            #expect(ClientAddress(text) == nil, "\(text)")
        }
    }

    @Test func `an address has the number that drivers give it`() {
        #expect(ClientAddress("192.0.2.1:5")?.originAddress == 0xC000_0201)
        #expect(ClientAddress("[::ffff:192.0.2.1]:5")?.originAddress == 0xC000_0201)
        // FNV-1a of the octets, folded, with the 48th bit set: of a global address the first eight, else all.
        func key(_ octets: [UInt64]) -> UInt64 {
            let hash = octets.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ $1) &* 0x100_0000_01b3 }
            return (hash ^ hash >> 47) & (1 << 47 - 1) | 1 << 47
        }
        let network: [UInt64] = [0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0]
        for address in ["[2001:db8::1]:9", "[2001:db8::2:0:0:1]:9"] {
            #expect(ClientAddress(address)?.originAddress == key(network))
        }
        #expect(ClientAddress("[2001:db8:0:1::1]:9")?.originAddress == key(network.dropLast() + [1]))
        #expect(ClientAddress("[fd00::1]:9")?.originAddress == key([0xFD] + Array(repeating: 0, count: 14) + [1]))
    }

    @Test func `a range holds the addresses with its prefix`() throws {
        let cases: [(String, String, Bool)] = [
            ("10.0.0.0/8", "10.255.0.1:1", true), ("10.0.0.0/8", "11.0.0.1:1", false),
            ("0.0.0.0/0", "203.0.113.9:1", true), ("0.0.0.0/0", "[::1]:1", false), ("192.0.2.7", "192.0.2.7:9", true),
            ("192.0.2.7", "192.0.2.6:9", false), ("10.0.0.0/8", "[::ffff:10.1.2.3]:1", true),
            ("2001:db8::/32", "[2001:db8:ffff::1]:1", true), ("2001:db8::/32", "[2001:db9::1]:1", false),
            ("::/0", "[fe80::1]:1", true), ("fe80::/65", "[fe80::7fff:1:1:1]:1", true),
            ("fe80::/65", "[fe80::8fff:1:1:1]:1", false), ("::1", "[::1]:1", true),
        ]
        for (range, address, isIn) in cases {
            let contains = try #require(AddressRange(range)).contains(try #require(ClientAddress(address)))
            #expect(contains == isIn, "\(range) \(address)")
        }
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "host/8", "10.0.0.0/8/8", ""] {
            #expect(AddressRange(text) == nil, "\(text)")
        }
    }
}
