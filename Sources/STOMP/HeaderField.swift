/// One header of a parsed frame: where its name and value stand, as raw (still escaped) octets.
///
/// Offsets count from the frame's `base`. In STOMP 1.0 the octets are those left after trimming.
@frozen
public struct HeaderField: BitwiseCopyable, Sendable {
    public var nameOffset: UInt32
    public var valueOffset: UInt32
    public var nameCount: UInt16
    public var valueCount: UInt16
    public var known: HeaderName
    public var flags: HeaderFlags

    @inlinable
    public init(
        nameOffset: UInt32, valueOffset: UInt32, nameCount: UInt16, valueCount: UInt16, known: HeaderName,
        flags: HeaderFlags
    ) {
        self.nameOffset = nameOffset
        self.valueOffset = valueOffset
        self.nameCount = nameCount
        self.valueCount = valueCount
        self.known = known
        self.flags = flags
    }
}

/// What a header holds that is written differently in different versions. Empty: its octets mean the same in all.
@frozen
public struct HeaderFlags: OptionSet, BitwiseCopyable, Sendable {
    public var rawValue: UInt8

    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The name holds an escape sequence (1.1, 1.2).
    @inlinable public static var nameIsEscaped: HeaderFlags { HeaderFlags(rawValue: 1) }
    /// The value holds an escape sequence (1.1, 1.2).
    @inlinable public static var valueIsEscaped: HeaderFlags { HeaderFlags(rawValue: 2) }
    /// The value holds a colon that is not escaped.
    @inlinable public static var valueHasColon: HeaderFlags { HeaderFlags(rawValue: 4) }
    /// Name or value holds a backslash that stands for itself (1.0, CONNECT).
    @inlinable public static var hasBackslash: HeaderFlags { HeaderFlags(rawValue: 8) }
    /// Name or value holds a carriage return that stands for itself (1.0, 1.1, CONNECT).
    @inlinable public static var hasCarriageReturn: HeaderFlags { HeaderFlags(rawValue: 16) }
}

/// A header read as a number.
@frozen
public enum HeaderInteger: Equatable, Sendable {
    case absent
    /// There, but not digits alone, or more than 64 bits hold.
    case malformed
    case value(UInt64)
}
