import Slabs

/// How names of destinations tell hosts apart.
///
///     /topic/news                      of the standard host
///     \u{1}shop\u{1}/topic/news        of the host `shop`
///
/// The whole is the canonical name, in the directory, in peer messages and in the log. So two hosts never have a destination
/// in common, and patterns need no rule of their own: the first level of every name and pattern is literal, and it is empty
/// with the standard host, and begins with the mark with others. No client can write the mark, for control characters are not
/// allowed in destinations. Clients, policies and permissions see what is behind the prefix alone.
enum HostName {
    static var mark: UInt8 { 1 }

    /// The most that a prefix takes.
    static var prefixByteCountMax: Int { HostOptions.nameByteCountMax + 2 }

    /// What a host's names begin with. Empty for the standard host.
    static func prefix(_ name: String) -> [UInt8] {
        name == HostOptions.standardName ? [] : [mark] + Array(name.utf8) + [mark]
    }

    /// The bytes of the prefix of a canonical name. 0: it is of the standard host, or empty.
    @inline(__always)
    static func prefixByteCount(_ name: UnsafeRawBufferPointer) -> Int {
        guard name.count > 0, name[0] == mark else { return 0 }
        return hostedPrefixByteCount(name)
    }

    @inline(never)
    private static func hostedPrefixByteCount(_ name: UnsafeRawBufferPointer) -> Int {
        guard let end = name.dropFirst().firstIndex(of: mark) else { return 0 }
        return end + 1
    }

    /// The host of a canonical name. nil: the standard one.
    static func host(of name: UnsafeRawBufferPointer) -> String? {
        let count = prefixByteCount(name)
        guard count > 2 else { return nil }
        return String(decoding: name[1..<count - 1], as: UTF8.self)
    }
}

/// A canonical name as clients see it: without its host.
@inline(__always)
func visible(_ name: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    let count = HostName.prefixByteCount(name)
    return count == 0 ? name : UnsafeRawBufferPointer(rebasing: name[count...])
}

/// A canonical name for the log and for ERROR: "/queue/orders", or "/queue/orders (host shop)".
func nameText(_ name: UnsafeRawBufferPointer) -> String {
    let count = HostName.prefixByteCount(name)
    if count == 0 { return printable(name) }
    let host = printable(UnsafeRawBufferPointer(rebasing: name[1..<count - 1]))
    return "\(printable(UnsafeRawBufferPointer(rebasing: name[count...]))) (host \(host))"
}
