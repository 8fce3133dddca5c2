import Slabs

/// Finds a header name among those the broker knows: one multiplication, and in most cases one comparison.
///
/// Open addressing over four times as many places as names, so that most unknown ones are told at the first. A name is
/// compared by its length, its first eight octets and its last eight; the few that are longer than sixteen are compared in
/// full. The table is built once, with the frame that owns it, because a lazily initialised global would be checked at each
/// use.
@usableFromInline
struct HeaderNameTable: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var head: UInt64
        var tail: UInt64
        var byteCount: UInt8
        var name: HeaderName
    }

    private static var placeCount: Int { 256 }
    private static var placeShift: UInt64 { 56 }
    private static var nameByteCountMax: Int { 25 }

    private let entries: UnsafeMutablePointer<Entry>

    init() {
        invariant(HeaderName.allCases.count <= 64, "more header names than bits in a frame's mark")
        entries = .allocate(capacity: Self.placeCount)
        entries.initialize(
            repeating: Entry(head: 0, tail: 0, byteCount: 0, name: .other), count: Self.placeCount)
        for name in HeaderName.allCases where name.text.utf8CodeUnitCount > 0 { insert(name, name.text) }
        for text in HeaderName.sendOptions { insert(.sendOption, text) }
    }

    deinit { entries.deallocate() }

    private func insert(_ name: HeaderName, _ spelling: StaticString) {
        let text = UnsafeRawPointer(spelling.utf8Start)
        let byteCount = spelling.utf8CodeUnitCount
        invariant(byteCount <= Self.nameByteCountMax, "a known header name is longer than the longest looked for")
        let head = Self.head(text, byteCount, readable: byteCount)
        let tail = byteCount > 8 ? text.word(byteCount - 8) : 0
        var place = Self.place(head, tail)
        while entries[place].byteCount != 0 { place = (place + 1) % Self.placeCount }
        entries[place] = Entry(head: head, tail: tail, byteCount: UInt8(byteCount), name: name)
    }

    /// The known name that the `byteCount` octets at `bytes` spell. `readable`: how many octets may be read there.
    @inline(__always)
    func name(_ bytes: UnsafeRawPointer, _ byteCount: Int, readable: Int) -> HeaderName {
        let head = Self.head(bytes, byteCount, readable: readable)
        let tail = byteCount > 8 ? bytes.word(byteCount &- 8) : 0
        let entry = entries + Self.place(head, tail)
        if _fastPath(entry.pointee.head == head && entry.pointee.tail == tail && byteCount <= 16)
            && Int(entry.pointee.byteCount) == byteCount
        {
            return entry.pointee.name
        }
        return nameFurtherOn(bytes, byteCount, head, tail)
    }

    /// As `name`, where the first place does not decide it. Apart, so that the caller keeps its registers.
    @inline(never)
    private func nameFurtherOn(
        _ bytes: UnsafeRawPointer, _ byteCount: Int, _ head: UInt64, _ tail: UInt64
    ) -> HeaderName {
        var place = Self.place(head, tail)
        while true {
            let entry = entries[place]
            if entry.byteCount == 0 { return .other }
            if entry.head == head && entry.tail == tail && Int(entry.byteCount) == byteCount
                && (byteCount <= 16 || Self.isSpelled(entry.name, bytes, byteCount))
            {
                return entry.name
            }
            place = (place + 1) % Self.placeCount
        }
    }

    /// The first eight octets, or all there are with zeros behind them.
    @inline(__always)
    private static func head(_ bytes: UnsafeRawPointer, _ byteCount: Int, readable: Int) -> UInt64 {
        if byteCount >= 8 { return bytes.word(0) }
        if _fastPath(readable >= 8) {
            return bytes.word(0) & ((1 &<< UInt64(truncatingIfNeeded: byteCount &* 8)) &- 1)
        }
        return shortHead(bytes, byteCount)
    }

    @inline(never)
    private static func shortHead(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
        var head: UInt64 = 0
        for index in 0..<byteCount { head |= UInt64(bytes.byte(index)) &<< UInt64(index &* 8) }
        return head
    }

    @inline(__always)
    private static func place(_ head: UInt64, _ tail: UInt64) -> Int {
        // The multiplier is the golden ratio of 2^64: it spreads octets over the upper bits.
        let mixed = (head ^ (tail &<< 1)) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed &>> placeShift)
    }

    @inline(never)
    private static func isSpelled(_ name: HeaderName, _ bytes: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        if name == .sendOption {
            return HeaderName.sendOptions.contains {
                $0.utf8CodeUnitCount == byteCount && isSpelled(UnsafeRawPointer($0.utf8Start), bytes, byteCount)
            }
        }
        return isSpelled(UnsafeRawPointer(name.text.utf8Start), bytes, byteCount)
    }

    private static func isSpelled(_ text: UnsafeRawPointer, _ bytes: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        for index in 8..<byteCount where bytes.byte(index) != text.byte(index) { return false }
        return true
    }
}
