import Glibc

/// The IP addresses with the same first bits: "10.0.0.0/8", "fd00::/8", or one address: "192.0.2.1".
public struct Network: Sendable, Hashable, CustomStringConvertible {
    /// The first address, 4 or 16 bytes in network order. The bits after the prefix are 0.
    public let bytes: [UInt8]
    public let prefixBitCount: Int

    static let allowed = "an IP address, or a network such as 10.0.0.0/8 or \"fd00::/8\""

    /// nil: it is no network, or has bits after its prefix, as 10.0.0.1/8 has.
    public init?(_ text: String) {
        guard let (bytes, prefixBitCount) = Self.parse(text), Self.masked(bytes, prefixBitCount) == bytes else {
            return nil
        }
        self.bytes = bytes
        self.prefixBitCount = prefixBitCount
    }

    private init(bytes: [UInt8], prefixBitCount: Int) {
        self.bytes = Self.masked(bytes, prefixBitCount)
        self.prefixBitCount = prefixBitCount
    }

    /// Why a text that looks like a network is none, for an error. nil: it does not look like one, or is one.
    static func note(on text: String) -> String? {
        guard let (bytes, prefixBitCount) = parse(text), masked(bytes, prefixBitCount) != bytes else { return nil }
        let meant = Network(bytes: bytes, prefixBitCount: prefixBitCount)
        return ", which has bits behind the first \(prefixBitCount); the network is \(meant)"
    }

    /// The bits behind the prefix are 0.
    private static func masked(_ bytes: [UInt8], _ prefixBitCount: Int) -> [UInt8] {
        bytes.enumerated().map { index, byte in
            let kept = min(max(prefixBitCount - index * 8, 0), 8)
            return byte & ~UInt8(truncatingIfNeeded: 0xFF >> kept)
        }
    }

    private static func parse(_ text: String) -> (bytes: [UInt8], prefixBitCount: Int)? {
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
        return (bytes, prefixBitCount)
    }

    public var description: String {
        let isVersion6 = bytes.count == 16
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        _ = inet_ntop(isVersion6 ? AF_INET6 : AF_INET, bytes, &text, socklen_t(text.count))
        let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return prefixBitCount == bytes.count * 8 ? address : "\(address)/\(prefixBitCount)"
    }
}
