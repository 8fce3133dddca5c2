import Glibc

/// The IP addresses with the same first bits: "10.0.0.0/8", "fd00::/8", or one address: "192.0.2.1".
public struct Network: Sendable, Hashable, CustomStringConvertible {
    /// The first address, 4 or 16 bytes in network order. The bits after the prefix are 0.
    public let bytes: [UInt8]
    public let prefixBitCount: Int

    static let allowed = "an IP address, or a network such as 10.0.0.0/8 or \"fd00::/8\""

    /// nil: it is no network, or has bits after its prefix, as 10.0.0.1/8 has.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let isVersion6 = parts[0].contains(":")
        var bytes = [UInt8](repeating: 0, count: isVersion6 ? 16 : 4)
        guard inet_pton(isVersion6 ? AF_INET6 : AF_INET, String(parts[0]), &bytes) == 1 else { return nil }
        var prefixBitCount = bytes.count * 8
        if parts.count == 2 {
            guard parts[1].utf8.allSatisfy({ (48...57).contains($0) }), let count = Int(parts[1]),
                count <= prefixBitCount
            else { return nil }
            prefixBitCount = count
        }
        for bit in prefixBitCount..<bytes.count * 8 where bytes[bit / 8] & (0x80 >> UInt8(bit % 8)) != 0 { return nil }
        self.bytes = bytes
        self.prefixBitCount = prefixBitCount
    }

    public var description: String {
        let isVersion6 = bytes.count == 16
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        _ = inet_ntop(isVersion6 ? AF_INET6 : AF_INET, bytes, &text, socklen_t(text.count))
        let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return prefixBitCount == bytes.count * 8 ? address : "\(address)/\(prefixBitCount)"
    }
}
