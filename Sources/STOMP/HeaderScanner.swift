internal import COctets

enum HeaderScan {
    /// The empty line is found; the body begins at the offset.
    case end(bodyOffset: Int)
    case incomplete
    case failed(FrameError.Code, offset: Int)
}

extension Frame {
    /// Scans header lines from where `state` stands, sixteen octets at a time, and fills the table of fields.
    ///
    /// All octets that can end or alter anything are found in one pass (see `significantOctets`), and each is dealt
    /// with once. On `.incomplete` the state is brought up to date; fields that were found in an earlier call are not in
    /// the table then, which is why the caller scans again from the first header when the last has arrived.
    mutating func scanHeaders(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, limits: FrameLimits, state: inout ParserState
    ) -> HeaderScan {
        var lines = HeaderLines(bytes, byteCount, limits, from: state)
        let result = scan(&lines, from: Int(state.scanOffset))
        knownNames = lines.knownNames & ~HeaderName.other.bit
        fieldCount = lines.fieldCount
        isPlain = lines.isPlain
        headersOffset = lines.headersOffset
        headersByteCount = lines.lineOffset &- lines.headersOffset
        switch result {
        case .end:
            return result
        case .failed(_, let offset):
            guard let exceeded = lines.limitExceeded(before: offset) else { return result }
            return .failed(exceeded, offset: lines.lineOffset)
        case .incomplete:
            if let exceeded = lines.limitExceededSoFar { return .failed(exceeded, offset: lines.lineOffset) }
            lines.save(to: &state)
            return .incomplete
        }
    }

    /// Deals with one significant octet after the other, until one ends the scan or none is left.
    @inline(__always)
    private mutating func scan(_ lines: inout HeaderLines, from start: Int) -> HeaderScan {
        let bytes = lines.bytes
        let byteCount = lines.byteCount
        var blockOffset = start
        var octets = significantOctets(bytes, blockOffset, byteCount)
        while true {
            while octets == 0 {
                blockOffset &+= 16
                if blockOffset >= byteCount { return .incomplete }
                octets = significantOctets(bytes, blockOffset, byteCount)
            }
            let offset = blockOffset &+ octets.trailingZeroBitCount
            octets &= octets &- 1
            let end: HeaderScan?
            switch bytes.byte(offset) {
            case Byte.colon: end = lines.passColon(at: offset)
            case Byte.lineFeed: end = endLine(&lines, at: offset)
            case Byte.backslash: end = lines.passBackslash(at: offset)
            case Byte.carriageReturn: end = lines.passCarriageReturn(at: offset)
            case Byte.nul: end = .failed(.nulInHeaders, offset: offset)
            // Another control character, which the search for the significant ones cannot tell apart.
            default: end = nil
            }
            if let end { return end }
        }
    }

    /// A line feed ends a header line, which becomes a field, or with nothing before it the headers.
    @inline(__always)
    private mutating func endLine(_ lines: inout HeaderLines, at offset: Int) -> HeaderScan? {
        let lineEnd = lines.contentEnd(ofLineEndingAt: offset)
        if lineEnd == lines.lineOffset { return .end(bodyOffset: offset &+ 1) }
        if let fault = lines.fault(lineEnd: lineEnd, nextLineOffset: offset &+ 1) {
            return .failed(fault, offset: lines.lineOffset)
        }
        var field = lines.field(lineEnd: lineEnd)
        if lines.rules.contains(.trims) && field.hasBlanksAround(lines.bytes) && field.trim(lines.bytes) {
            lines.isPlain = false
            if field.nameCount == 0 { return .failed(.headerWithoutName, offset: lines.lineOffset) }
        }
        if !lines.flags.isEmpty || lineEnd != offset { lines.isPlain = false }
        append(&field, to: &lines)
        lines.beginLine(at: offset &+ 1)
        return nil
    }

    /// Finds out whether the field's name is a known one, and puts the field into the table.
    @inline(__always)
    private mutating func append(_ field: inout HeaderField, to lines: inout HeaderLines) {
        let nameOffset = Int(field.nameOffset)
        field.known = names.name(
            lines.bytes + nameOffset, Int(field.nameCount), readable: lines.byteCount &- nameOffset)
        let bit = field.known.bit
        if lines.knownNames & bit == 0 {
            lines.knownNames |= bit
            knownFields[Int(field.known.rawValue)] = UInt16(truncatingIfNeeded: lines.fieldCount)
        }
        fields[lines.fieldCount] = field
        lines.fieldCount &+= 1
    }
}

/// Header lines, and how far they are scanned.
///
/// Its functions are there for the reader: all are inlined into one loop, which holds these values in registers.
private struct HeaderLines {
    let bytes: UnsafeRawPointer
    let byteCount: Int
    let limits: FrameLimits
    let rules: HeaderRules
    let headersOffset: Int
    /// Where the line begins that has not ended yet.
    var lineOffset: Int
    /// The colon behind that line's name; 0 before it is found.
    var colonOffset: Int
    /// What that line holds.
    var flags: HeaderFlags
    /// The second octet of an escape sequence is no beginning of another.
    var escapeEnd = 0
    /// Everything before this is scanned, once the octets have run out.
    var scanEnd: Int
    var fieldCount: Int
    var knownNames: UInt64 = 0
    var isPlain = true

    @inline(__always)
    init(_ bytes: UnsafeRawPointer, _ byteCount: Int, _ limits: FrameLimits, from state: ParserState) {
        self.bytes = bytes
        self.byteCount = byteCount
        self.limits = limits
        rules = state.rules
        headersOffset = Int(state.headersOffset)
        lineOffset = Int(state.lineOffset)
        colonOffset = Int(state.colonOffset)
        flags = state.flags
        scanEnd = byteCount
        fieldCount = Int(state.fieldCount)
    }

    @inline(__always)
    func save(to state: inout ParserState) {
        state.lineOffset = UInt32(truncatingIfNeeded: lineOffset)
        state.colonOffset = UInt32(truncatingIfNeeded: colonOffset)
        state.scanOffset = UInt32(truncatingIfNeeded: scanEnd)
        state.fieldCount = UInt16(truncatingIfNeeded: fieldCount)
        state.flags = flags
    }

    @inline(__always)
    mutating func beginLine(at offset: Int) {
        lineOffset = offset
        colonOffset = 0
        flags = []
    }

    // MARK: Within a line

    /// The first colon ends the name. Those that follow belong to the value.
    @inline(__always)
    mutating func passColon(at offset: Int) -> HeaderScan? {
        if colonOffset != 0 {
            flags.insert(.valueHasColon)
        } else if offset == lineOffset {
            return .failed(.headerWithoutName, offset: offset)
        } else {
            colonOffset = offset
        }
        return nil
    }

    @inline(__always)
    mutating func passBackslash(at offset: Int) -> HeaderScan? {
        guard rules.contains(.escapes) else {
            flags.insert(.hasBackslash)
            return nil
        }
        if offset < escapeEnd { return nil }
        if offset &+ 1 == byteCount { return stop(before: offset) }
        guard isEscape(bytes.byte(offset &+ 1)) else { return .failed(.undefinedEscape, offset: offset) }
        escapeEnd = offset &+ 2
        flags.insert(colonOffset == 0 ? .nameIsEscaped : .valueIsEscaped)
        return nil
    }

    @inline(__always)
    private func isEscape(_ byte: UInt8) -> Bool {
        byte == Byte.n || byte == Byte.c || byte == Byte.backslash
            || (byte == Byte.r && rules.contains(.escapesCarriageReturn))
    }

    @inline(__always)
    mutating func passCarriageReturn(at offset: Int) -> HeaderScan? {
        if rules.contains(.acceptsCarriageReturnLineFeed) {
            if offset &+ 1 == byteCount { return stop(before: offset) }
            if bytes.byte(offset &+ 1) == Byte.lineFeed { return nil }
        }
        if rules.contains(.refusesCarriageReturn) { return .failed(.carriageReturnInHeader, offset: offset) }
        flags.insert(.hasCarriageReturn)
        return nil
    }

    /// What the last octet means depends on the one that has not arrived.
    @inline(__always)
    private mutating func stop(before offset: Int) -> HeaderScan {
        scanEnd = offset
        return .incomplete
    }

    // MARK: At a line's end

    /// Where the content of the line ends whose line feed is at `offset`.
    @inline(__always)
    func contentEnd(ofLineEndingAt offset: Int) -> Int {
        let hasCarriageReturn =
            rules.contains(.acceptsCarriageReturnLineFeed) && offset > lineOffset
            && bytes.byte(offset &- 1) == Byte.carriageReturn
        return hasCarriageReturn ? offset &- 1 : offset
    }

    /// Why the line cannot be a header.
    @inline(__always)
    func fault(lineEnd: Int, nextLineOffset: Int) -> FrameError.Code? {
        if let exceeded = limits.exceeded(
            lineOffset: lineOffset, lineEnd: lineEnd, headersOffset: headersOffset, headersEnd: nextLineOffset)
        {
            return exceeded
        }
        if colonOffset == 0 {
            let isEmptyInOtherVersions =
                rules == [.escapes] && lineEnd == lineOffset &+ 1 && bytes.byte(lineOffset) == Byte.carriageReturn
            return isEmptyInOtherVersions ? .lineEndNotInVersion : .headerWithoutColon
        }
        return fieldCount == limits.headerCountMax ? .tooManyHeaders : nil
    }

    /// The line as a field whose name is not looked up yet.
    @inline(__always)
    func field(lineEnd: Int) -> HeaderField {
        HeaderField(
            nameOffset: UInt32(truncatingIfNeeded: lineOffset),
            valueOffset: UInt32(truncatingIfNeeded: colonOffset &+ 1),
            nameCount: UInt16(truncatingIfNeeded: colonOffset &- lineOffset),
            valueCount: UInt16(truncatingIfNeeded: lineEnd &- colonOffset &- 1),
            known: .other, flags: flags)
    }

    // MARK: At the end of the scan

    /// The limit that was exceeded before the octet at `offset` was found to be at fault: it has refused that octet.
    @inline(__always)
    func limitExceeded(before offset: Int) -> FrameError.Code? {
        limits.exceeded(
            lineOffset: lineOffset, lineEnd: offset &+ 1, headersOffset: headersOffset, headersEnd: offset &+ 1)
    }

    /// The limit that what has arrived exceeds already, whatever follows.
    @inline(__always)
    var limitExceededSoFar: FrameError.Code? {
        // A carriage return at the end may belong to a line end, and with nothing before it to the empty line.
        let mayEnd =
            rules.contains(.acceptsCarriageReturnLineFeed) && byteCount > lineOffset
            && bytes.byte(byteCount &- 1) == Byte.carriageReturn
        let lineEnd = mayEnd ? byteCount &- 1 : byteCount
        let headersEnd = lineEnd == lineOffset ? lineOffset : byteCount
        return limits.exceeded(
            lineOffset: lineOffset, lineEnd: lineEnd, headersOffset: headersOffset, headersEnd: headersEnd)
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
