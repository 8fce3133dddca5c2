import STOMP

/// What a stream of octets amounts to, frame by frame, as plain numbers: two readers agree if their journals are equal.
///
/// All offsets count from the beginning of the stream, so that equal offsets mean equal octets.
struct FrameJournal: ~Copyable {
    private let words: UnsafeMutablePointer<UInt64>
    private let capacity: Int
    private(set) var count = 0

    /// - Parameter byteCountMax: the longest stream. A frame takes 6 octets or more and 4 words, a header 3 and 2.
    init(byteCountMax: Int) {
        capacity = byteCountMax * 2 + 16
        words = .allocate(capacity: capacity)
    }

    deinit { words.deallocate() }

    mutating func clear() { count = 0 }

    private mutating func add(_ word: UInt64) {
        precondition(count < capacity, "a journal is longer than its stream allows")
        words[count] = word
        count += 1
    }

    private mutating func add(_ first: Int, _ second: Int) { add(UInt64(first) << 32 | UInt64(second)) }

    mutating func addFrame(
        _ command: Command, headersOffset: Int, headersByteCount: Int, bodyOffset: Int, bodyByteCount: Int, end: Int,
        hasContentLength: Bool, isPlain: Bool, fieldCount: Int
    ) {
        add(Int(command.rawValue) << 1 | (hasContentLength ? 1 : 0), fieldCount << 1 | (isPlain ? 1 : 0))
        add(headersOffset, headersByteCount)
        add(bodyOffset, bodyByteCount)
        add(1, end)
    }

    /// - Parameter base: the offset in the stream of what the field's offsets count from.
    mutating func add(_ field: HeaderField, base: Int = 0) {
        add(base + Int(field.nameOffset), base + Int(field.valueOffset))
        add(
            Int(field.nameCount) << 16 | Int(field.valueCount),
            Int(field.known.rawValue) << 8 | Int(field.flags.rawValue))
    }

    /// - Parameter receipt: the value of the faulty frame's `receipt` header, as far as it was read.
    mutating func addFailure(_ code: FrameError.Code, offset: Int, receipt: Range<Int>?) {
        add(2 << 8 | Int(code.rawValue), offset)
        add(receipt?.lowerBound ?? 0, receipt.map { $0.count + 1 } ?? 0)
    }

    /// The stream ends between two frames, or within one.
    mutating func addEnd(isPartial: Bool) { add(3, isPartial ? 1 : 0) }

    /// Where the journals part, or nil.
    func difference(from other: borrowing FrameJournal) -> String? {
        var place = 0
        while place < count, place < other.count, words[place] == other.words[place] { place += 1 }
        if place == count, place == other.count { return nil }
        return "word \(place): \(text(place)) instead of \(other.text(place))"
    }

    private func text(_ place: Int) -> String {
        guard place < count else { return "nothing" }
        return "(\(words[place] >> 32), \(words[place] & 0xFFFF_FFFF))"
    }
}
