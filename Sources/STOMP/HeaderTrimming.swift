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

extension Frame {
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
