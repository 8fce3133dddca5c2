import Glibc

extension Wildcard {
    /// The levels of a pattern between its first "many" and its last, made ready to be looked for in one name after the other:
    /// in all places at once, a bit for each level, in time that grows with the levels of the name and the different ones of
    /// the pattern, whatever either looks like (Baeza-Yates and Gonnet, "A New Approach to Text Searching", 1992; a "many" lets
    /// the bit before it stay).
    struct Middle {
        /// As many as a word has bits. What has more `isTooLong`.
        static let levelCountMax = 64

        private(set) var isPrepared = false
        private(set) var isTooLong = false
        private(set) var levelCount = 0
        /// Bit i: a "many" precedes level i, so that it may come anywhere behind what precedes that.
        private var anywhere: UInt64 = 0
        /// Bit i: level i is `*`.
        private var singles: UInt64 = 0
        private var literalCount = 0
        /// Of each different level its last eight octets, where it lies in the pattern, and bit i where it is level i.
        private var words = InlineArray<64, UInt64>(repeating: 0)
        private var places = InlineArray<64, Place>(repeating: Place(start: 0, count: 0))
        private var bits = InlineArray<64, UInt64>(repeating: 0)
        /// Which of them level i is.
        private var literalOfLevel = InlineArray<64, UInt8>(repeating: 0)

        private struct Place: BitwiseCopyable {
            var start: Int32
            var count: Int32
        }

        /// Another pattern comes.
        mutating func reset() { isPrepared = false }

        /// - Parameter range: from where the first "many" begins to where the level before the last one ends.
        mutating func prepare(_ pattern: UnsafeRawBufferPointer, _ range: (start: Int, end: Int)) {
            isPrepared = true
            isTooLong = false
            (levelCount, literalCount, anywhere, singles) = (0, 0, 0, 0)
            var isAnywhere = false
            var start = range.start
            while start <= range.end {
                let (end, word) = Self.level(of: pattern, start, notBeyond: range.end)
                if isMany(pattern, start, end) {
                    isAnywhere = true
                } else {
                    guard levelCount < Self.levelCountMax else {
                        isTooLong = true
                        return
                    }
                    if isAnywhere { anywhere |= 1 << levelCount }
                    isAnywhere = false
                    if isSingle(pattern, start, end) {
                        singles |= 1 << levelCount
                    } else {
                        add(levelCount, word, pattern, start, end)
                    }
                    levelCount += 1
                }
                start = end + 1
            }
        }

        private mutating func add(
            _ level: Int, _ word: UInt64, _ pattern: UnsafeRawBufferPointer, _ start: Int, _ end: Int
        ) {
            var literal = 0
            while literal < literalCount, !isLiteral(literal, word, pattern, start, end, of: pattern) { literal += 1 }
            if literal == literalCount {
                words[literal] = word
                places[literal] = Place(start: Int32(start), count: Int32(end - start))
                bits[literal] = 0
                literalCount += 1
            }
            bits[literal] |= 1 << level
            literalOfLevel[level] = UInt8(literal)
        }

        /// Whether they are in `name`, in this order. (It mutates nothing, but would be called with a copy if it said so.)
        ///
        /// - Parameters:
        ///   - range: from where the first level to look at begins to where the last one ends.
        ///   - nameLevelCount: Grows by the levels that were looked at.
        mutating func isFound(
            in name: UnsafeRawBufferPointer, _ range: (start: Int, end: Int), of pattern: UnsafeRawBufferPointer,
            levelCount nameLevelCount: inout Int
        ) -> Bool {
            guard levelCount > 0 else { return true }
            let last: UInt64 = 1 << (levelCount - 1)
            // Bit i: all before level i has been found, and the next level of the name may be it.
            var awaited: UInt64 = 1
            var start = range.start
            while start <= range.end {
                let (end, word) = Self.level(of: name, start, notBeyond: range.end)
                nameLevelCount += 1
                var equal = singles
                // Either the levels that it may be, or all that there are: whichever are fewer.
                var rest = awaited & ~singles
                if rest.nonzeroBitCount < literalCount {
                    while rest != 0 {
                        let level = rest.trailingZeroBitCount
                        if isLiteral(Int(literalOfLevel[unchecked: level]), word, name, start, end, of: pattern) {
                            equal |= 1 << level
                        }
                        rest &= rest - 1
                    }
                } else {
                    for literal in 0..<literalCount where isLiteral(literal, word, name, start, end, of: pattern) {
                        equal |= bits[unchecked: literal]
                        break
                    }
                }
                let found = awaited & equal
                if found & last != 0 { return true }
                awaited = found << 1 | awaited & anywhere
                start = end + 1
            }
            return false
        }

        /// Where the level that begins there ends, and its last eight octets, or as many as it has.
        @inline(__always)
        private static func level(
            of bytes: UnsafeRawBufferPointer, _ start: Int, notBeyond limit: Int
        ) -> (end: Int, word: UInt64) {
            var word: UInt64 = 0
            var end = start
            while end < limit, !isSeparator(bytes[end]) {
                word = word << 8 | UInt64(bytes[end])
                end += 1
            }
            return (end, word)
        }

        /// Whether a level is that literal.
        ///
        /// - Parameter word: what `level` says of it.
        @inline(__always)
        private mutating func isLiteral(
            _ literal: Int, _ word: UInt64, _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int,
            of pattern: UnsafeRawBufferPointer
        ) -> Bool {
            guard words[unchecked: literal] == word else { return false }
            let place = places[unchecked: literal]
            let count = end - start
            guard Int(place.count) == count else { return false }
            return count <= 8
                || memcmp(pattern.baseAddress! + Int(place.start), bytes.baseAddress! + start, count - 8) == 0
        }
    }
}
