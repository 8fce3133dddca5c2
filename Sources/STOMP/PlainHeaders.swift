internal import COctets

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
}
