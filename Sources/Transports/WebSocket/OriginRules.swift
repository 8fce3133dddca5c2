/// Which web pages may open WebSockets to a listener, told by the `Origin` that their browser sends (RFC 6454).
///
/// Browsers let every page connect to every address that the visitor's machine can reach, so the page of a stranger would
/// use the visitor's place in the network. Programs that are no browsers send no `Origin`, and are not held up.
public struct OriginRules: Sendable, Equatable {
    /// Lower-case: "https://shop.example.org", or "https://*.example.org" for all hosts below it.
    private let patterns: [Pattern]
    /// What a page's host may be where there are no patterns. Lower-case, IPv6 in brackets.
    private let ownHosts: [[UInt8]]
    private let acceptsAddresses: Bool

    private struct Pattern: Sendable, Equatable {
        /// "https://" of "https://*.example.org"; all of a pattern without an asterisk.
        var start: [UInt8]
        /// ".example.org". nil: the origin has to be `start`.
        var end: [UInt8]?
    }

    /// - Parameters:
    ///   - origins: as they are configured. None: only pages of the listener's own host may connect.
    ///   - ownHosts: the host that the listener is bound to, and the names that it is known by.
    ///   - isUnspecified: the listener is bound to all addresses of its machine. Then the page may come from any IP
    ///     address, if the request went to the same one: a name may be made to mean any address (DNS rebinding), an
    ///     address may not.
    public init(origins: [String], ownHosts: [String] = [], isUnspecified: Bool = false) {
        patterns = origins.map { origin in
            let text = Self.lowered(origin.utf8)
            guard let asterisk = text.firstIndex(of: UInt8(ascii: "*")) else { return Pattern(start: text, end: nil) }
            return Pattern(start: Array(text[..<asterisk]), end: Array(text[(asterisk + 1)...]))
        }
        self.ownHosts = ownHosts.map { Self.lowered($0.utf8) }
        acceptsAddresses = isUnspecified
    }

    /// Whether a text can be a configured origin: a scheme, "://", a host, perhaps a port, and no path. An asterisk may
    /// stand for the first labels of the host.
    public static func isPattern(_ text: String) -> Bool {
        let octets = lowered(text.utf8)
        guard let (_, host, port) = parts(of: octets[...]), port.map({ !$0.isEmpty }) ?? true
        else { return false }
        if host.starts(with: "*.".utf8) { return isName(host.dropFirst(2)) }
        return isName(host) || isBracketed(host)
    }

    /// - Parameters:
    ///   - origin: the value of `Origin`.
    ///   - host: the value of `Host`.
    public func allow(_ origin: some Collection<UInt8>, host: some Collection<UInt8>) -> Bool {
        let origin = Self.lowered(origin)
        guard patterns.isEmpty else { return patterns.contains { Self.matches(origin, $0) } }
        guard let page = Self.parts(of: origin[...])?.host else { return false }
        if ownHosts.contains(where: { $0.elementsEqual(page) }) { return true }
        guard acceptsAddresses, Self.isAddress(page) else { return false }
        return Self.parts(ofAuthority: Self.lowered(host)[...])?.host.elementsEqual(page) ?? false
    }

    private static func matches(_ origin: [UInt8], _ pattern: Pattern) -> Bool {
        guard let end = pattern.end else { return origin == pattern.start }
        // At least one label in place of the asterisk, and nothing but labels.
        let count = pattern.start.count + end.count
        guard origin.count > count, origin.starts(with: pattern.start), origin.suffix(end.count).elementsEqual(end)
        else { return false }
        return isName(origin[pattern.start.count..<origin.count - end.count])
    }

    // MARK: Parts

    /// Of "scheme://host:port". nil: it is not of that form ("null" is not).
    private static func parts(
        of origin: ArraySlice<UInt8>
    ) -> (scheme: ArraySlice<UInt8>, host: ArraySlice<UInt8>, port: ArraySlice<UInt8>?)? {
        guard let colon = origin.firstIndex(of: UInt8(ascii: ":")), colon > origin.startIndex,
            origin[colon...].starts(with: "://".utf8),
            let (host, port) = parts(ofAuthority: origin[(colon + 3)...])
        else { return nil }
        return (origin[..<colon], host, port)
    }

    /// Of "host:port" or "[IPv6]:port"; the brackets belong to the host.
    private static func parts(
        ofAuthority text: ArraySlice<UInt8>
    ) -> (host: ArraySlice<UInt8>, port: ArraySlice<UInt8>?)? {
        let end: Int?
        if text.first == UInt8(ascii: "[") {
            guard let bracket = text.firstIndex(of: UInt8(ascii: "]")) else { return nil }
            end = bracket + 1
        } else {
            end = text.firstIndex(of: UInt8(ascii: ":"))
        }
        guard let end, end < text.endIndex else { return text.isEmpty ? nil : (text, nil) }
        let port = text[(end + 1)...]
        guard text[end] == UInt8(ascii: ":"), end > text.startIndex, port.allSatisfy(isDigit) else { return nil }
        return (text[..<end], port)
    }

    /// Letters, digits, hyphens and dots, and no empty label.
    private static func isName(_ text: ArraySlice<UInt8>) -> Bool {
        text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            !label.isEmpty
                && label.allSatisfy { isDigit($0) || (0x61...0x7A).contains($0) || $0 == 0x2D || $0 == 0x5F }
        }
    }

    private static func isBracketed(_ text: ArraySlice<UInt8>) -> Bool {
        text.count > 2 && text.first == UInt8(ascii: "[") && text.last == UInt8(ascii: "]")
    }

    private static func isAddress(_ host: ArraySlice<UInt8>) -> Bool {
        let isVersion6 = isBracketed(host)
        let text = String(decoding: isVersion6 ? host.dropFirst().dropLast() : host, as: UTF8.self)
        return ClientAddress(host: text, isIPv6: isVersion6, port: 0) != nil
    }

    private static func isDigit(_ octet: UInt8) -> Bool { (0x30...0x39).contains(octet) }

    private static func lowered(_ text: some Collection<UInt8>) -> [UInt8] {
        text.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
    }
}
