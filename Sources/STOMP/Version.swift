/// The versions of the protocol that Stampede speaks.
///
/// They differ in line ends, in the escaping of headers, in which headers a frame needs, and in heart-beats.
public enum Version: UInt8, Comparable, BitwiseCopyable, Sendable, CaseIterable {
    case v1_0 = 0
    case v1_1 = 1
    case v1_2 = 2

    /// As the `version` and `accept-version` headers spell it.
    public var text: StaticString {
        switch self {
        case .v1_0: "1.0"
        case .v1_1: "1.1"
        case .v1_2: "1.2"
        }
    }

    @inlinable
    public static func < (left: Version, right: Version) -> Bool { left.rawValue < right.rawValue }
}

/// Versions of the protocol: bit n for version 1.n.
public struct VersionSet: OptionSet, BitwiseCopyable, Sendable {
    public let rawValue: UInt8

    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let all = VersionSet(rawValue: 0b111)

    @inlinable
    public func contains(_ version: Version) -> Bool { rawValue & 1 << version.rawValue != 0 }

    /// As the `version` header of an ERROR lists them.
    public var text: StaticString {
        switch rawValue & Self.all.rawValue {
        case 0b000: ""
        case 0b001: "1.0"
        case 0b010: "1.1"
        case 0b011: "1.0,1.1"
        case 0b100: "1.2"
        case 0b101: "1.0,1.2"
        case 0b110: "1.1,1.2"
        default: "1.0,1.1,1.2"
        }
    }
}

/// The `accept-version` header of CONNECT: "1.0,1.1,2.0".
///
/// Source: STOMP 1.1 and 1.2, section Protocol Negotiation.
public enum AcceptVersion {
    /// The highest version in `list` that Stampede speaks too, or nil where there is none.
    ///
    /// Spaces and tabs around the commas are tolerated; what is no version at all is passed over. A CONNECT without
    /// the header means 1.0, which is for the caller to decide.
    public static func highestCommon(_ list: UnsafeRawBufferPointer) -> Version? {
        var best: Version?
        var start = 0
        while start <= list.count {
            var end = start
            while end < list.count && list[end] != Byte.comma { end += 1 }
            if let version = version(list, start, end), best.map({ $0 < version }) ?? true { best = version }
            start = end + 1
        }
        return best
    }

    /// The same, but for one of `versions`.
    public static func highestCommon(_ list: UnsafeRawBufferPointer, among versions: VersionSet) -> Version? {
        if versions == .all { return highestCommon(list) }
        return Version.allCases.last { versions.contains($0) && names(list, $0) }
    }

    private static func names(_ list: UnsafeRawBufferPointer, _ wanted: Version) -> Bool {
        list.split(separator: Byte.comma).contains { version(list, $0.startIndex, $0.endIndex) == wanted }
    }

    private static func version(_ list: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Version? {
        var start = start
        var end = end
        while start < end && isBlank(list[start]) { start += 1 }
        while start < end && isBlank(list[end - 1]) { end -= 1 }
        guard end - start == 3, list[start] == Byte.one, list[start + 1] == Byte.dot,
            list[start + 2] >= Byte.zero
        else { return nil }
        return Version(rawValue: list[start + 2] - Byte.zero)
    }
}
