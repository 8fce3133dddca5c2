import Glibc

/// Topic patterns: levels are separated by `.` or `/`; `*` stands for one level, `#`, `>` and `**` for any number of
/// levels, none included. Other uses of these characters are ordinary.
enum Wildcard {
    static func isSeparator(_ byte: UInt8) -> Bool { byte == UInt8(ascii: ".") || byte == UInt8(ascii: "/") }

    static func levelEnd(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        var end = start
        while end < bytes.count, !isSeparator(bytes[end]) { end += 1 }
        return end
    }

    static func isSingle(_ b: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Bool {
        end - start == 1 && b[start] == UInt8(ascii: "*")
    }

    static func isMany(_ b: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Bool {
        if end - start == 1 { return b[start] == UInt8(ascii: "#") || b[start] == UInt8(ascii: ">") }
        return end - start == 2 && b[start] == UInt8(ascii: "*") && b[start + 1] == UInt8(ascii: "*")
    }

    static func isPattern(_ name: UnsafeRawBufferPointer) -> Bool {
        var start = 0
        while start <= name.count {
            let end = levelEnd(name, start)
            if isSingle(name, start, end) || isMany(name, start, end) { return true }
            start = end + 1
        }
        return false
    }

    static func levelCount(_ name: UnsafeRawBufferPointer) -> Int {
        var count = 1
        for byte in name where isSeparator(byte) { count += 1 }
        return count
    }

    /// Whether `pattern` matches `name`; both are canonical, prefix included.
    ///
    /// The levels before the first "many" and those behind the last are compared in place; `Middle` looks for what is
    /// between. In patterns that are too long for it that is done from left to right, where a "many" level only ever falls
    /// back to the last one seen, as in file name globs, and work is at most the product of both numbers of levels.
    ///
    /// - Parameters:
    ///   - middle: Of this pattern, or `reset()`; it is prepared where it is needed first.
    ///   - levelCount: Grows by the levels that were compared, or pairs of them.
    static func matches(
        _ pattern: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer, _ middle: inout Middle,
        levelCount: inout Int
    ) -> Bool {
        // A host's name may have separators and wildcards in it, which mean nothing there.
        let host = HostName.prefixByteCount(pattern)
        guard host == HostName.prefixByteCount(name), memcmp(pattern.baseAddress!, name.baseAddress!, host) == 0 else {
            levelCount += 1
            return false
        }
        let pattern = UnsafeRawBufferPointer(rebasing: pattern[host...])
        let name = UnsafeRawBufferPointer(rebasing: name[host...])
        var rest = Rest(pattern: pattern, name: name)
        if let outcome = rest.takeBeginning(levelCount: &levelCount) { return outcome }
        if let outcome = rest.takeEnd(levelCount: &levelCount) { return outcome }
        if !middle.isPrepared {
            middle.prepare(pattern, (rest.p, rest.pEnd))
            levelCount += middle.levelCount
        }
        if middle.isTooLong { return rest.isFoundFromLeft(levelCount: &levelCount) }
        return middle.isFound(in: name, (rest.n, rest.nEnd), of: pattern, levelCount: &levelCount)
    }

    /// What is left to compare of a pattern and a name, each from where its first level begins to where its last one ends;
    /// nothing where the end is before the beginning, for the separator between is gone.
    private struct Rest {
        let pattern: UnsafeRawBufferPointer
        let name: UnsafeRawBufferPointer
        var p = 0
        var pEnd: Int
        var n = 0
        var nEnd: Int

        @inline(__always)
        init(pattern: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) {
            self.pattern = pattern
            self.name = name
            pEnd = pattern.count
            nEnd = name.count
        }

        /// Takes off the levels before the pattern's first "many", where they are equal. nil: there is a "many".
        @inline(__always)
        mutating func takeBeginning(levelCount: inout Int) -> Bool? {
            while true {
                guard p <= pEnd else { return n > nEnd }
                let patternEnd = levelEnd(pattern, p)
                if isMany(pattern, p, patternEnd) { return nil }
                guard n <= nEnd else { return false }
                let nameEnd = levelEnd(name, n)
                levelCount += 1
                guard levelMatches(pattern, p, patternEnd, name, n, nameEnd) else { return false }
                p = patternEnd + 1
                n = nameEnd + 1
            }
        }

        /// Takes off the levels behind the pattern's last "many", and that one, where they are equal. nil: it is not the
        /// first one.
        @inline(__always)
        mutating func takeEnd(levelCount: inout Int) -> Bool? {
            while true {
                let patternStart = levelStart(pattern, pEnd, notBefore: p)
                if isMany(pattern, patternStart, pEnd) {
                    if patternStart == p { return true }
                    pEnd = patternStart - 1
                    return nil
                }
                guard n <= nEnd else { return false }
                let nameStart = levelStart(name, nEnd, notBefore: n)
                levelCount += 1
                guard levelMatches(pattern, patternStart, pEnd, name, nameStart, nEnd) else { return false }
                pEnd = patternStart - 1
                nEnd = nameStart - 1
            }
        }

        /// Looks for the levels of the pattern from left to right.
        mutating func isFoundFromLeft(levelCount: inout Int) -> Bool {
            var retryPattern = p
            var retryName = n
            while p <= pEnd {
                let patternEnd = levelEnd(pattern, p)
                if isMany(pattern, p, patternEnd) {
                    p = patternEnd + 1
                    retryPattern = p
                    retryName = n
                    continue
                }
                guard n <= nEnd else { return false }
                let nameEnd = levelEnd(name, n)
                levelCount += 1
                if levelMatches(pattern, p, patternEnd, name, n, nameEnd) {
                    p = patternEnd + 1
                    n = nameEnd + 1
                } else {
                    retryName = levelEnd(name, retryName) + 1
                    n = retryName
                    p = retryPattern
                }
            }
            return true
        }
    }

    /// Where the level that ends at `end` begins.
    private static func levelStart(_ bytes: UnsafeRawBufferPointer, _ end: Int, notBefore first: Int) -> Int {
        var start = end
        while start > first, !isSeparator(bytes[start - 1]) { start -= 1 }
        return start
    }

    private static func levelMatches(
        _ pattern: UnsafeRawBufferPointer, _ patternStart: Int, _ patternEnd: Int, _ name: UnsafeRawBufferPointer,
        _ nameStart: Int, _ nameEnd: Int
    ) -> Bool {
        let count = nameEnd - nameStart
        if isSingle(pattern, patternStart, patternEnd) { return true }
        guard patternEnd - patternStart == count else { return false }
        return count == 0 || memcmp(pattern.baseAddress! + patternStart, name.baseAddress! + nameStart, count) == 0
    }
}
