/// Undoes the escapes of a header's raw octets, which the parser has found to be defined. Returns how many octets it
/// wrote; never more than it read.
///
/// Source: STOMP 1.2, section Value Encoding.
public func unescape(_ raw: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer) -> Int {
    guard let bytes = raw.baseAddress else { return 0 }
    var read = 0
    var written = 0
    while read < raw.count {
        var byte = bytes.byte(read)
        read += 1
        if byte == Byte.backslash && read < raw.count {
            byte = meaning(bytes.byte(read))
            read += 1
        }
        target.storeBytes(of: byte, toByteOffset: written, as: UInt8.self)
        written += 1
    }
    return written
}

/// What the octet behind a backslash stands for.
@inline(__always)
private func meaning(_ escaped: UInt8) -> UInt8 {
    switch escaped {
    case Byte.n: Byte.lineFeed
    case Byte.c: Byte.colon
    case Byte.r: Byte.carriageReturn
    default: Byte.backslash
    }
}

extension FrameWriter {
    /// The most octets that `count` octets take when they are escaped.
    @inlinable
    public static func escapedByteCountMax(_ count: Int) -> Int { count &* 2 }

    /// Writes a name or value as `version` encodes it.
    ///
    /// |          | LF   | colon | backslash | CR   |
    /// |----------|------|-------|-----------|------|
    /// | 1.0      | `\n` | raw   | raw       | raw  |
    /// | 1.1      | `\n` | `\c`  | `\\`      | raw  |
    /// | 1.2      | `\n` | `\c`  | `\\`      | `\r` |
    ///
    /// CONNECT and CONNECTED are written as in 1.0. That version cannot express a line feed: the two characters `\n` in
    /// its place keep the frame whole, and are what other brokers send. NUL cannot come out of a parsed header, and
    /// must not be in any other text.
    public mutating func writeEscaped(
        _ bytes: UnsafeRawPointer, _ count: Int, version: Version, isConnectFrame: Bool = false
    ) {
        let version = isConnectFrame ? .v1_0 : version
        for index in 0..<count { writeEscaped(bytes.byte(index), version) }
    }

    @inlinable
    public mutating func writeEscaped(
        _ bytes: UnsafeRawBufferPointer, version: Version, isConnectFrame: Bool = false
    ) {
        guard let start = bytes.baseAddress else { return }
        writeEscaped(start, bytes.count, version: version, isConnectFrame: isConnectFrame)
    }

    @inline(__always)
    private mutating func writeEscaped(_ byte: UInt8, _ version: Version) {
        let letter: UInt8
        switch byte {
        case Byte.lineFeed: letter = Byte.n
        case Byte.colon where version != .v1_0: letter = Byte.c
        case Byte.backslash where version != .v1_0: letter = Byte.backslash
        case Byte.carriageReturn where version == .v1_2: letter = Byte.r
        default:
            write(byte)
            return
        }
        write(Byte.backslash)
        write(letter)
    }

    /// Writes a header line, with its LF, that was received in one version as another encodes it.
    ///
    /// Takes at most `escapedByteCountMax(nameCount + valueCount) + 2` octets. A header whose flags are empty, which is
    /// nearly every one, is copied.
    public mutating func writeTranscoded(
        _ field: HeaderField, of frame: borrowing Frame, from: Version, to: Version
    ) {
        let name = frame.base + Int(field.nameOffset)
        let nameCount = Int(field.nameCount)
        let value = frame.base + Int(field.valueOffset)
        let valueCount = Int(field.valueCount)
        if field.flags.isEmpty {
            if field.valueOffset == field.nameOffset + UInt32(field.nameCount) + 1 {
                write(name, nameCount + 1 + valueCount)
            } else {
                write(name, nameCount)
                write(Byte.colon)
                write(value, valueCount)
            }
        } else {
            writeTranscoded(name, nameCount, isEscaped: field.flags.contains(.nameIsEscaped), to: to)
            write(Byte.colon)
            writeTranscoded(value, valueCount, isEscaped: field.flags.contains(.valueIsEscaped), to: to)
        }
        write(Byte.lineFeed)
    }

    private mutating func writeTranscoded(_ bytes: UnsafeRawPointer, _ count: Int, isEscaped: Bool, to: Version) {
        var read = 0
        while read < count {
            var byte = bytes.byte(read)
            read += 1
            if isEscaped && byte == Byte.backslash && read < count {
                byte = meaning(bytes.byte(read))
                read += 1
            }
            writeEscaped(byte, to)
        }
    }
}
