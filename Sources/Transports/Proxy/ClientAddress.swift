internal import Glibc

/// The IP address and port of a client.
@frozen
public struct ClientAddress: Hashable, BitwiseCopyable, Sendable, CustomStringConvertible {
    /// The address in the order of the network, as two numbers. IPv4: `low` holds it, and `high` is 0.
    public var high: UInt64
    public var low: UInt64
    public var port: UInt16
    public var isIPv6: Bool

    /// - Parameter version4: the four octets, the first one the most significant.
    public init(version4: UInt32, port: UInt16) {
        high = 0
        low = UInt64(version4)
        self.port = port
        isIPv6 = false
    }

    public init(version6 high: UInt64, _ low: UInt64, port: UInt16) {
        self.high = high
        self.low = low
        self.port = port
        isIPv6 = true
    }

    /// Reads "192.0.2.1:50000" or "[2001:db8::1]:50000". nil: neither.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if isBracketed { host = host.dropFirst().dropLast() }
        guard let address = ClientAddress(host: String(host), isIPv6: isBracketed, port: port) else { return nil }
        self = address
    }

    /// Reads an address as inet_pton(3) does. nil: it is none.
    init?(host: String, isIPv6: Bool, port: UInt16) {
        var octets: (UInt64, UInt64) = (0, 0)
        guard inet_pton(isIPv6 ? AF_INET6 : AF_INET, host, &octets) == 1 else { return nil }
        if isIPv6 {
            self.init(version6: UInt64(bigEndian: octets.0), UInt64(bigEndian: octets.1), port: port)
        } else {
            let octets = withUnsafeBytes(of: &octets) { $0.load(as: UInt32.self) }
            self.init(version4: UInt32(bigEndian: octets), port: port)
        }
    }

    /// The IPv4 address that an IPv6 one of the form ::ffff:192.0.2.1 stands for; else the address itself.
    public var unmapped: ClientAddress {
        guard isIPv6, high == 0, low >> 32 == 0xFFFF else { return self }
        return ClientAddress(version4: UInt32(truncatingIfNeeded: low), port: port)
    }

    /// "192.0.2.1:50000" or "[2001:db8::1]:50000".
    public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// The address without the port, as inet_ntop(3) writes it.
    public var host: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
            if isIPv6 {
                var octets = (high.bigEndian, low.bigEndian)
                inet_ntop(AF_INET6, &octets, text.baseAddress!, socklen_t(text.count))
            } else {
                var octets = UInt32(truncatingIfNeeded: low).bigEndian
                inet_ntop(AF_INET, &octets, text.baseAddress!, socklen_t(text.count))
            }
            return String(cString: text.baseAddress!)
        }
    }

    /// 2000::/3 (RFC 4291, section 2.4, and IANA's registry).
    private var isGlobal: Bool { isIPv6 && high >> 61 == 1 }

    /// The address in 48 bits, as drivers report that of an accepted connection (`ConnectionOrigin.address`): limits per
    /// address count a client once, whichever way it comes. The port has no part in it, nor have
    /// the last 64 bits of a global IPv6 address: they are the subscriber's to choose (RFC 6177).
    public var originAddress: UInt64 {
        let address = unmapped
        guard address.isIPv6 else { return address.low }
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for word in address.isGlobal ? [address.high] : [address.high, address.low] {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                hash = (hash ^ word >> shift & 0xFF) &* 0x100_0000_01b3
            }
        }
        return (hash ^ hash >> 47) & (1 << 47 - 1) | 1 << 47
    }
}

/// A range of addresses with a common prefix: "10.0.0.0/8", "2001:db8::/32", or one address.
public struct AddressRange: Hashable, Sendable, CustomStringConvertible {
    private let base: ClientAddress
    private let prefixBitCount: Int

    /// nil: it is not an address, not a length that fits, or bits are set behind the prefix.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let host = parts.first,
            let base = ClientAddress(host: String(host), isIPv6: host.contains(":"), port: 0)
        else { return nil }
        let bitCount = base.isIPv6 ? 128 : 32
        self.base = base
        guard parts.count == 2 else {
            prefixBitCount = bitCount
            return
        }
        guard !parts[1].isEmpty, parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let length = Int(parts[1]),
            length <= bitCount
        else { return nil }
        prefixBitCount = length
        guard contains(base), Self.masked(base, length) == base else { return nil }
    }

    public func contains(_ address: ClientAddress) -> Bool {
        let address = base.isIPv6 ? address : address.unmapped
        guard address.isIPv6 == base.isIPv6 else { return false }
        let masked = Self.masked(address, prefixBitCount)
        return masked.high == base.high && masked.low == base.low
    }

    private static func masked(_ address: ClientAddress, _ bitCount: Int) -> ClientAddress {
        guard address.isIPv6 else {
            let mask = bitCount == 0 ? 0 : UInt64(0xFFFF_FFFF) << UInt64(32 - bitCount) & 0xFFFF_FFFF
            return ClientAddress(version4: UInt32(address.low & mask), port: address.port)
        }
        let high = bitCount >= 64 ? UInt64.max : bitCount == 0 ? 0 : UInt64.max << UInt64(64 - bitCount)
        let low = bitCount <= 64 ? 0 : UInt64.max << UInt64(128 - bitCount)
        return ClientAddress(version6: address.high & high, address.low & low, port: address.port)
    }

    public var description: String { "\(base.host)/\(prefixBitCount)" }
}
