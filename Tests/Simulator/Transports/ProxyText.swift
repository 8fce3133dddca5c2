import Transports

/// A PROXY header of either version, and the address that it names.
struct ProxyText {
    let header: [UInt8]
    /// As the core is to be told. 0: none.
    let address: UInt64

    init(header: [UInt8], address: UInt64) {
        self.header = header
        self.address = address
    }

    /// - Parameter address: an IPv4 address. 0: the header names any, or none.
    init(_ address: UInt64, _ random: inout Random) {
        if address == 0, random.chance(300) {
            self = random.pick([
                ProxyText(header: Array("PROXY UNKNOWN\r\n".utf8), address: 0),
                ProxyText(header: Array("PROXY UNKNOWN 1 2 3\r\n".utf8), address: 0),
                ProxyText(header: Self.signature + [0x20, 0, 0, 0], address: 0),
                ProxyText(header: Self.signature + [0x21, 0, 0, 3, 4, 0, 0], address: 0),
            ])
            return
        }
        var client = ClientAddress(
            version4: UInt32(address == 0 ? 0x0A00_0000 + random.below(1 << 16) : Int(address)), port: 50_000)
        if address == 0, random.chance(400) {
            // Each in a network of its own: those of one count as one client.
            let number = UInt64(random.below(1 << 16))
            client = ClientAddress(version6: 0x2001_0DB8 << 32 | number, number, port: 50_000)
        }
        let isText = random.chance(500)
        self.init(header: isText ? Self.line(client) : Self.binary(client, &random), address: client.originAddress)
    }

    static func wrong(_ random: inout Random) -> ProxyText {
        ProxyText(
            header: random.pick([
                Array("PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n".utf8), Array("CONNECT\naccept-version:1.2\n\n\0".utf8),
                [UInt8](repeating: 0x50, count: 200),
                Self.signature + [0x31, 0x11, 0, 12] + [UInt8](repeating: 1, count: 12),
                Self.signature + [0x21, 0x11, 0, 3, 1, 2, 3],
            ]), address: 0)
    }

    private static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]

    private static func line(_ client: ClientAddress) -> [UInt8] {
        let other = client.isIPv6 ? "2001:db8::1" : "192.0.2.1"
        let text = "PROXY \(client.isIPv6 ? "TCP6" : "TCP4") \(client.host) \(other) \(client.port) 61613\r\n"
        return Array(text.utf8)
    }

    private static func binary(_ client: ClientAddress, _ random: inout Random) -> [UInt8] {
        func octets(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
        }
        var rest: [UInt8]
        if client.isIPv6 {
            rest = octets(client.high, 8) + octets(client.low, 8) + octets(0, 16)
        } else {
            rest = octets(client.low, 4) + octets(0xC000_0201, 4)
        }
        rest += octets(UInt64(client.port), 2) + octets(61_613, 2)
        // Padding, as a proxy may add it (PP2_TYPE_NOOP).
        let padding = random.pick([0, 0, 1, 300])
        if padding > 0 { rest += [0x04] + octets(UInt64(padding), 2) + [UInt8](repeating: 0, count: padding) }
        return signature + [0x21, client.isIPv6 ? 0x21 : 0x11] + octets(UInt64(rest.count), 2) + rest
    }
}
