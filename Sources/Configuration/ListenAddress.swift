import Glibc

/// A TCP address to listen on: an IP address and a port.
///
/// It is written `127.0.0.1:61613`, `[::1]:61613` or `localhost:61613` (which means 127.0.0.1). Other names are not
/// resolved, because the address must not depend on a resolver. With port 0 the kernel chooses a free port.
public struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    /// An IPv4 or IPv6 address in its canonical text form, without brackets.
    public let host: String
    public let port: UInt16
    public let isIPv6: Bool

    /// - Parameter defaultPort: the port if `text` has none. nil: `text` must have one.
    public init?(_ text: String, defaultPort: UInt16? = nil) {
        var host = Substring(text)
        let port: UInt16
        if let defaultPort, host.hasPrefix("[") ? host.hasSuffix("]") : !host.contains(":") {
            port = defaultPort
        } else {
            guard let colon = text.lastIndex(of: ":"), let number = Self.port(text[text.index(after: colon)...]) else {
                return nil
            }
            port = number
            host = text[..<colon]
        }
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]") && host.count >= 2
        if isBracketed { host = host.dropFirst().dropLast() }
        let literal = host == "localhost" ? "127.0.0.1" : String(host)
        guard let canonical = Self.canonical(literal, family: isBracketed ? AF_INET6 : AF_INET) else { return nil }
        self.host = canonical
        self.port = port
        isIPv6 = isBracketed
    }

    public var description: String {
        isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Whether only this machine can connect to the address.
    public var isLoopback: Bool {
        isIPv6 ? host == "::1" : host.hasPrefix("127.")
    }

    /// The IPv4 address of `[::ffff:a.b.c.d]:PORT`, to which an IPv6 listener cannot be bound. nil: another address.
    var mappedVersion4: String? {
        let prefix = "::ffff:"
        guard isIPv6, host.hasPrefix(prefix), host.contains(".") else { return nil }
        return "\(host.dropFirst(prefix.count)):\(port)"
    }

    /// Whether the address stands for all addresses of the machine.
    public var isUnspecified: Bool { host == "0.0.0.0" || host == "::" }

    /// Only digits: `UInt16.init` would accept a sign too.
    private static func port(_ text: Substring) -> UInt16? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt16(text) : nil
    }

    /// The address as inet_ntop(3) writes it. nil: inet_pton(3) does not accept it.
    private static func canonical(_ literal: String, family: Int32) -> String? {
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { address -> String? in
            guard inet_pton(family, literal, address.baseAddress!) == 1 else { return nil }
            return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text -> String? in
                guard inet_ntop(family, address.baseAddress!, text.baseAddress!, socklen_t(text.count)) != nil else {
                    return nil
                }
                return String(cString: text.baseAddress!)
            }
        }
    }
}
