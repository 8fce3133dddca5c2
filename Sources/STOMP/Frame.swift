import Slabs

/// A parsed frame: a view of bytes that belong to the caller, with the table of their headers.
///
/// One frame is filled again and again: it allocates its tables once. It is valid until the next call of the parser
/// with it, and as long as the bytes it points into stay where they are.
///
///     base                         headersOffset              bodyOffset
///      |                            |                          |
///      \n \n  S E N D \n            a:b\n c:d\n            \n  octets NUL
///     '------------------------------ byteCount -----------------------'
@frozen
public struct Frame: ~Copyable {
    /// The first of the bytes that were parsed; every offset counts from here.
    public internal(set) var base: UnsafeRawPointer
    public internal(set) var command: Command
    /// SEND, MESSAGE or ERROR with a content-length: the body may hold NUL.
    public internal(set) var hasContentLength: Bool
    /// The header block means the same in every version and may be copied as it is: no escape, no colon in a value, no
    /// backslash, no carriage return (not in line ends either), nothing trimmed.
    public internal(set) var isPlain: Bool
    public internal(set) var fieldCount: Int
    /// The first header's first octet.
    public internal(set) var headersOffset: Int
    /// Up to and with the last header's line end; without the empty line.
    public internal(set) var headersByteCount: Int
    public internal(set) var bodyOffset: Int
    /// Octets of the body; 0 where a frame that carries none had one (1.0).
    public internal(set) var bodyByteCount: Int
    /// Octets consumed: line ends and NULs before the command, the frame, and its NUL.
    public internal(set) var byteCount: Int

    @usableFromInline var fields: UnsafeMutablePointer<HeaderField>
    /// For each known name the index of its first field; meaningful only where the name's bit is in `knownNames`, so
    /// that nothing has to be cleared between frames.
    @usableFromInline var knownFields: UnsafeMutablePointer<UInt16>
    @usableFromInline var knownNames: UInt64
    @usableFromInline let names: HeaderNameTable
    public let fieldCountMax: Int

    /// - Parameter headerCountMax: the number of headers the frame has room for; parsing needs limits that allow no more.
    public init(headerCountMax: Int) {
        invariant(headerCountMax >= 0 && headerCountMax <= 0xFFFF, "a frame counts its headers in 16 bits")
        fieldCountMax = headerCountMax
        fields = .allocate(capacity: max(headerCountMax, 1))
        knownFields = .allocate(capacity: 64)
        knownFields.initialize(repeating: 0, count: 64)
        names = HeaderNameTable()
        knownNames = 0
        base = UnsafeRawPointer(fields)
        command = .connect
        hasContentLength = false
        isPlain = true
        fieldCount = 0
        headersOffset = 0
        headersByteCount = 0
        bodyOffset = 0
        bodyByteCount = 0
        byteCount = 0
    }

    deinit {
        fields.deallocate()
        knownFields.deallocate()
    }

    /// The header at `index`, in the order of the frame. Repeated headers are all there.
    @inlinable @inline(__always)
    public func field(_ index: Int) -> HeaderField {
        assert(index >= 0 && index < fieldCount, "no such header")
        return fields[index]
    }

    /// The raw octets of a field's name.
    @inlinable
    public func rawName(of field: HeaderField) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + Int(field.nameOffset), count: Int(field.nameCount))
    }

    /// The raw octets of a field's value.
    @inlinable @inline(__always)
    public func rawValue(of field: HeaderField) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + Int(field.valueOffset), count: Int(field.valueCount))
    }

    /// The octets of the body.
    @inlinable
    public var body: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + bodyOffset, count: bodyByteCount) }

    @inlinable @inline(__always)
    public func has(_ name: HeaderName) -> Bool { knownNames & name.bit != 0 }

    /// Whether the frame holds a header of any of the names whose bits are set.
    @inlinable
    public func hasAny(_ bits: UInt64) -> Bool { knownNames & bits != 0 }

    /// The first field of that name (STOMP 1.2, section Repeated Header Entries: the first counts).
    @inlinable
    public func firstField(_ name: HeaderName) -> HeaderField? {
        has(name) ? fields[Int(knownFields[Int(name.rawValue)])] : nil
    }

    /// The raw octets of the first header of that name.
    @inlinable @inline(__always)
    public func rawValue(_ name: HeaderName) -> UnsafeRawBufferPointer? {
        guard has(name) else { return nil }
        return rawValue(of: fields[Int(knownFields[Int(name.rawValue)])])
    }

    /// The value of the first header of that name as its sender meant it.
    ///
    /// - Parameter scratch: room for `headerByteCountMax` octets; the result stands there if the value was escaped, and
    ///   in the frame's own bytes otherwise.
    /// - Parameter version: that of the connection; 1.0 has no escapes.
    @inlinable
    public func value(
        _ name: HeaderName, into scratch: UnsafeMutableRawPointer, version: Version
    ) -> UnsafeRawBufferPointer? {
        guard let field = firstField(name) else { return nil }
        let raw = rawValue(of: field)
        guard version != .v1_0 && field.flags.contains(.valueIsEscaped) else { return raw }
        return UnsafeRawBufferPointer(start: scratch, count: unescape(raw, into: scratch))
    }

    /// The value of the first header of that name as a number: digits alone.
    public func integer(_ name: HeaderName) -> HeaderInteger {
        guard let raw = rawValue(name) else { return .absent }
        guard let number = decimal(raw.baseAddress.unsafelyUnwrapped, raw.count) else { return .malformed }
        return .value(number)
    }
}
