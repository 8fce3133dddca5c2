internal import COctets

/// How a version writes header lines.
@usableFromInline
struct HeaderRules: OptionSet, BitwiseCopyable, Sendable {
    @usableFromInline var rawValue: UInt8

    @usableFromInline @inline(__always)
    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Backslash begins an escape sequence.
    static var escapes: HeaderRules { HeaderRules(rawValue: 1) }
    /// `\r` is among them.
    static var escapesCarriageReturn: HeaderRules { HeaderRules(rawValue: 2) }
    /// Lines may end with CR LF.
    static var acceptsCarriageReturnLineFeed: HeaderRules { HeaderRules(rawValue: 4) }
    /// A carriage return elsewhere is an error; without this rule it is an octet like any other.
    static var refusesCarriageReturn: HeaderRules { HeaderRules(rawValue: 8) }
    /// Blanks around names and values are none of theirs.
    static var trims: HeaderRules { HeaderRules(rawValue: 16) }

    /// The rules of a frame. 1.0 has LF only, but trims, which makes CR LF harmless at the end of a header; so it is
    /// accepted at the end of the other lines too, where telnet sends it.
    @inline(__always)
    init(_ command: Command, _ version: Version) {
        if command.precedesVersion {
            self = .acceptsCarriageReturnLineFeed
            return
        }
        switch version {
        case .v1_0: self = .trims | .acceptsCarriageReturnLineFeed
        case .v1_1: self = .escapes
        case .v1_2: self = .escapes | .escapesCarriageReturn | .acceptsCarriageReturnLineFeed | .refusesCarriageReturn
        }
    }

    /// Both. An array literal would be a constant to the optimiser only: a debug build would allocate it for each frame,
    /// and allocations are counted there too.
    @inline(__always)
    static func | (first: HeaderRules, second: HeaderRules) -> HeaderRules {
        HeaderRules(rawValue: first.rawValue | second.rawValue)
    }
}

enum HeaderScan {
    /// The empty line is found; the body begins at the offset.
    case end(bodyOffset: Int)
    case incomplete
    case failed(FrameError.Code, offset: Int)
}

extension Frame {
    /// Scans all header lines if they are complete and plain: LF ends each, and there is no escape, no second colon and no
    /// control character. Where the body begins; 0 where the headers are not like that, incomplete or at fault, which
    /// `scanHeaders` finds out.
    ///
    /// Nearly all frames are plain, and what this needs for them nearly fits the registers: parsing a SEND with two headers
    /// and an ACK takes 740 instructions, and 1,400 with `scanHeaders`.
    @inline(__always)
    mutating func scanPlainHeaders(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, from headersOffset: Int, limits: FrameLimits
    ) -> Int {
        let fields = self.fields
        let fieldCountMax = limits.headerCountMax
        var knownNames: UInt64 = 0
        var fieldCount = 0
        var lineOffset = headersOffset
        var colonOffset = 0
        var blockOffset = headersOffset
        while blockOffset &+ 16 <= byteCount {
            var octets = octets_significant(bytes + blockOffset)
            while octets != 0 {
                let offset = blockOffset &+ octets.trailingZeroBitCount
                octets &= octets &- 1
                let byte = bytes.byte(offset)
                if byte == Byte.colon && colonOffset == 0 {
                    colonOffset = offset
                    continue
                }
                guard byte == Byte.lineFeed else { return 0 }
                if offset == lineOffset {
                    guard lineOffset &- headersOffset <= limits.headersByteCountMax else { return 0 }
                    self.knownNames = knownNames & ~HeaderName.other.bit
                    self.fieldCount = fieldCount
                    isPlain = true
                    self.headersOffset = headersOffset
                    headersByteCount = lineOffset &- headersOffset
                    return offset &+ 1
                }
                guard colonOffset > lineOffset, offset &- lineOffset <= limits.headerByteCountMax,
                    fieldCount < fieldCountMax
                else { return 0 }
                let name = names.name(bytes + lineOffset, colonOffset &- lineOffset, readable: byteCount &- lineOffset)
                if knownNames & name.bit == 0 {
                    knownNames |= name.bit
                    knownFields[Int(name.rawValue)] = UInt16(truncatingIfNeeded: fieldCount)
                }
                fields[fieldCount] = HeaderField(
                    nameOffset: UInt32(truncatingIfNeeded: lineOffset),
                    valueOffset: UInt32(truncatingIfNeeded: colonOffset &+ 1),
                    nameCount: UInt16(truncatingIfNeeded: colonOffset &- lineOffset),
                    valueCount: UInt16(truncatingIfNeeded: offset &- colonOffset &- 1), known: name, flags: [])
                fieldCount &+= 1
                lineOffset = offset &+ 1
                colonOffset = 0
            }
            blockOffset &+= 16
        }
        return 0
    }

    /// Scans header lines from where `state` stands, sixteen octets at a time, and fills the table of fields.
    ///
    /// All octets that can end or alter anything are found in one pass (see `significantOctets`), and each is dealt
    /// with once. On `.incomplete` the state is brought up to date; fields that were found in an earlier call are not in
    /// the table then, which is why the caller scans again from the first header when the last has arrived.
    mutating func scanHeaders(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, limits: FrameLimits, state: inout ParserState
    ) -> HeaderScan {
        let rules = state.rules
        let headersOffset = Int(state.headersOffset)
        var lineOffset = Int(state.lineOffset)
        var colonOffset = Int(state.colonOffset)
        var flags = state.flags
        var fieldCount = Int(state.fieldCount)
        var knownNames: UInt64 = 0
        var isPlain = true
        /// The second octet of an escape sequence is no beginning of another.
        var escapeEnd = 0
        let fields = self.fields
        let knownFields = self.knownFields
        var result = HeaderScan.incomplete
        var scanEnd = byteCount

        var blockOffset = Int(state.scanOffset)
        var octets = significantOctets(bytes, blockOffset, byteCount)
        scan: while true {
            while octets == 0 {
                blockOffset &+= 16
                if blockOffset >= byteCount { break scan }
                octets = significantOctets(bytes, blockOffset, byteCount)
            }
            let offset = blockOffset &+ octets.trailingZeroBitCount
            octets &= octets &- 1
            let byte = bytes.byte(offset)

            if byte == Byte.colon {
                if colonOffset != 0 {
                    flags.insert(.valueHasColon)
                } else if offset == lineOffset {
                    result = .failed(.headerWithoutName, offset: offset)
                    break scan
                } else {
                    colonOffset = offset
                }
                continue
            }

            if byte == Byte.lineFeed {
                var lineEnd = offset
                if rules.contains(.acceptsCarriageReturnLineFeed) && lineEnd > lineOffset
                    && bytes.byte(lineEnd &- 1) == Byte.carriageReturn
                {
                    lineEnd &-= 1
                }
                if lineEnd == lineOffset {
                    result = .end(bodyOffset: offset &+ 1)
                    break scan
                }
                if let exceeded = limits.exceeded(
                    lineOffset: lineOffset, lineEnd: lineEnd, headersOffset: headersOffset, headersEnd: offset &+ 1)
                {
                    result = .failed(exceeded, offset: lineOffset)
                    break scan
                }
                if colonOffset == 0 {
                    let isEmptyInOtherVersions =
                        rules == [.escapes] && lineEnd == lineOffset &+ 1
                        && bytes.byte(lineOffset) == Byte.carriageReturn
                    result = .failed(
                        isEmptyInOtherVersions ? .lineEndNotInVersion : .headerWithoutColon, offset: lineOffset)
                    break scan
                }
                if fieldCount == limits.headerCountMax {
                    result = .failed(.tooManyHeaders, offset: lineOffset)
                    break scan
                }
                var field = HeaderField(
                    nameOffset: UInt32(truncatingIfNeeded: lineOffset),
                    valueOffset: UInt32(truncatingIfNeeded: colonOffset &+ 1),
                    nameCount: UInt16(truncatingIfNeeded: colonOffset &- lineOffset),
                    valueCount: UInt16(truncatingIfNeeded: lineEnd &- colonOffset &- 1),
                    known: .other, flags: flags)
                if rules.contains(.trims) && field.hasBlanksAround(bytes) && field.trim(bytes) {
                    isPlain = false
                    if field.nameCount == 0 {
                        result = .failed(.headerWithoutName, offset: lineOffset)
                        break scan
                    }
                }
                if !flags.isEmpty || lineEnd != offset { isPlain = false }
                let nameOffset = Int(field.nameOffset)
                field.known = names.name(
                    bytes + nameOffset, Int(field.nameCount), readable: byteCount &- nameOffset)
                let bit = field.known.bit
                if knownNames & bit == 0 {
                    knownNames |= bit
                    knownFields[Int(field.known.rawValue)] = UInt16(truncatingIfNeeded: fieldCount)
                }
                fields[fieldCount] = field
                fieldCount &+= 1
                lineOffset = offset &+ 1
                colonOffset = 0
                flags = []
                continue
            }

            switch byte {
            case Byte.backslash:
                guard rules.contains(.escapes) else {
                    flags.insert(.hasBackslash)
                    continue
                }
                if offset < escapeEnd { continue }
                if offset &+ 1 == byteCount {
                    scanEnd = offset
                    break scan
                }
                guard isEscape(bytes.byte(offset &+ 1), rules) else {
                    result = .failed(.undefinedEscape, offset: offset)
                    break scan
                }
                escapeEnd = offset &+ 2
                flags.insert(colonOffset == 0 ? .nameIsEscaped : .valueIsEscaped)
            case Byte.carriageReturn:
                if rules.contains(.acceptsCarriageReturnLineFeed) {
                    if offset &+ 1 == byteCount {
                        scanEnd = offset
                        break scan
                    }
                    if bytes.byte(offset &+ 1) == Byte.lineFeed { continue }
                }
                if rules.contains(.refusesCarriageReturn) {
                    result = .failed(.carriageReturnInHeader, offset: offset)
                    break scan
                }
                flags.insert(.hasCarriageReturn)
            case Byte.nul:
                result = .failed(.nulInHeaders, offset: offset)
                break scan
            default:
                // Another control character, which the search for the significant ones cannot tell apart.
                continue
            }
        }

        self.knownNames = knownNames & ~HeaderName.other.bit
        self.fieldCount = fieldCount
        self.isPlain = isPlain
        self.headersOffset = headersOffset
        self.headersByteCount = lineOffset &- headersOffset

        switch result {
        case .end: return result
        case .failed(_, let offset):
            // An octet at fault beyond a limit is one the limit has refused before.
            if let exceeded = limits.exceeded(
                lineOffset: lineOffset, lineEnd: offset &+ 1, headersOffset: headersOffset, headersEnd: offset &+ 1)
            {
                return .failed(exceeded, offset: lineOffset)
            }
            return result
        case .incomplete:
            // A carriage return at the end may belong to a line end, and with nothing before it to the empty line.
            let mayEnd =
                rules.contains(.acceptsCarriageReturnLineFeed) && byteCount > lineOffset
                && bytes.byte(byteCount &- 1) == Byte.carriageReturn
            let lineEnd = mayEnd ? byteCount &- 1 : byteCount
            let headersEnd = lineEnd == lineOffset ? lineOffset : byteCount
            if let exceeded = limits.exceeded(
                lineOffset: lineOffset, lineEnd: lineEnd, headersOffset: headersOffset, headersEnd: headersEnd)
            {
                return .failed(exceeded, offset: lineOffset)
            }
            state.lineOffset = UInt32(truncatingIfNeeded: lineOffset)
            state.colonOffset = UInt32(truncatingIfNeeded: colonOffset)
            state.scanOffset = UInt32(truncatingIfNeeded: scanEnd)
            state.fieldCount = UInt16(truncatingIfNeeded: fieldCount)
            state.flags = flags
            return .incomplete
        }
    }

    /// Trims every field and looks its name up again: for a CONNECT that turns out to be one of STOMP 1.0. Returns where
    /// a header stands of whose name nothing is left.
    mutating func trimFields() -> Int? {
        knownNames = 0
        for index in 0..<fieldCount {
            if fields[index].trim(base) { isPlain = false }
            let field = fields[index]
            if field.nameCount == 0 { return Int(field.nameOffset) }
            let name = names.name(
                base + Int(field.nameOffset), Int(field.nameCount), readable: bodyOffset - Int(field.nameOffset))
            fields[index].known = name
            if name != .other && !has(name) {
                knownNames |= name.bit
                knownFields[Int(name.rawValue)] = UInt16(index)
            }
        }
        return nil
    }
}

extension FrameLimits {
    /// Which limit the headers exceed, of two the one that an octet crossed first.
    ///
    /// `lineEnd` is the end of the line's content, `headersEnd` that of all octets that belong to header lines.
    @inline(__always)
    func exceeded(
        lineOffset: Int, lineEnd: Int, headersOffset: Int, headersEnd: Int
    ) -> FrameError.Code? {
        let lineEndMax = lineOffset &+ headerByteCountMax
        let headersEndMax = headersOffset &+ headersByteCountMax
        if _fastPath(lineEnd <= lineEndMax && headersEnd <= headersEndMax) { return nil }
        if headersEnd > headersEndMax && (lineEnd <= lineEndMax || headersEndMax <= lineEndMax) {
            return .headersTooLong
        }
        return .headerTooLong
    }
}

extension HeaderField {
    /// Whether name or value may need trimming, found out without a call.
    @inline(__always)
    func hasBlanksAround(_ bytes: UnsafeRawPointer) -> Bool {
        let name = Int(nameOffset)
        let value = Int(valueOffset)
        // Around an empty value stand the colon and the line's end; if that is CR LF, the alarm is false and harmless.
        return isBlank(bytes.byte(name)) || isBlank(bytes.byte(name &+ Int(nameCount) &- 1))
            || isBlank(bytes.byte(value)) || isBlank(bytes.byte(value &+ Int(valueCount) &- 1))
    }

    /// Takes blanks from both ends of name and value. Returns whether there were any.
    @inline(never)
    mutating func trim(_ bytes: UnsafeRawPointer) -> Bool {
        let before = nameCount &+ valueCount
        Self.trim(bytes, &nameOffset, &nameCount)
        Self.trim(bytes, &valueOffset, &valueCount)
        return nameCount &+ valueCount != before
    }

    private static func trim(_ bytes: UnsafeRawPointer, _ offset: inout UInt32, _ count: inout UInt16) {
        while count > 0 && isBlank(bytes.byte(Int(offset))) {
            offset &+= 1
            count &-= 1
        }
        while count > 0 && isBlank(bytes.byte(Int(offset) &+ Int(count) &- 1)) { count &-= 1 }
    }
}

@inline(__always)
private func isEscape(_ byte: UInt8, _ rules: HeaderRules) -> Bool {
    byte == Byte.n || byte == Byte.c || byte == Byte.backslash
        || (byte == Byte.r && rules.contains(.escapesCarriageReturn))
}

/// Marks, in bit i, the i-th of the sixteen octets at `offset` if it is a colon, a backslash or below 0x0E. Octets at and
/// behind `byteCount` are not marked.
@inline(__always)
private func significantOctets(_ bytes: UnsafeRawPointer, _ offset: Int, _ byteCount: Int) -> UInt32 {
    _fastPath(offset &+ 16 <= byteCount)
        ? octets_significant(bytes + offset) : lastSignificantOctets(bytes, offset, byteCount)
}

@inline(never)
private func lastSignificantOctets(_ bytes: UnsafeRawPointer, _ offset: Int, _ byteCount: Int) -> UInt32 {
    var marks: UInt32 = 0
    var index = byteCount
    while index > offset {
        index &-= 1
        let byte = bytes.byte(index)
        let isSignificant = byte == Byte.colon || byte == Byte.backslash || byte <= Byte.carriageReturn
        marks = marks &<< 1 | (isSignificant ? 1 : 0)
    }
    return marks
}
