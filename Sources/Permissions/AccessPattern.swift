/// A set of destinations: a name, or a name with wildcards, made ready to be compared.
///
/// Levels are separated by `.` and `/`, which count as the same, as they do when the broker compares topics with patterns.
/// `*` stands for one level; `#`, `>` and `**` stand for any number of levels, none included. Other levels are literal.
///
/// A pattern is a nondeterministic automaton of at most 128 states, one bit each, that reads a name level by level:
///
///     /topic/a.*.#.b      state   0 -""-> 1 -topic-> 2 -a-> 3 -*-> 4 -b-> 5
///                                                                  ^ stays (loops)
///
/// Neighbouring wildcards are one run: its single levels come first, and its last state stays. So `#.*` and `*.#` are the
/// same automaton.
///
/// Complexity: every comparison takes the levels of the name times the levels of the pattern at most, and allocates nothing.
public struct AccessPattern: Sendable {
    /// Levels of a pattern: one state less than a word has bits.
    public static let levelCountMax = 127

    /// The bytes of all literal levels, one behind the other.
    private var literals: [UInt8] = []
    /// By state: where the literal begins that leads on from it. A single wildcard has an empty place.
    private var places: [Place] = []
    /// States that any level leads on from.
    private var singles: UInt128 = 0
    /// States that any level leaves where they are.
    private var loops: UInt128 = 0
    /// States of a run with a "many": a "many" of a subscription is within what they take.
    private var absorbs: UInt128 = 0

    private struct Place: BitwiseCopyable {
        var start: Int32
        var count: Int32
    }

    /// The state in which a name has been read that belongs to the set.
    private var last: Int { places.count }
    private var end: UInt128 { 1 << UInt128(last) }
    /// All states.
    private var all: UInt128 { end | (end - 1) }

    /// One level of a pattern.
    enum Level {
        case literal([UInt8])
        case single
        case many
    }

    /// nil: it has more than `levelCountMax` levels.
    init?(_ levels: [Level]) {
        guard levels.count <= Self.levelCountMax else { return nil }
        var run: (start: Int, isMany: Bool)?
        func finish(_ pattern: inout AccessPattern) {
            guard let (start, isMany) = run else { return }
            if isMany {
                for state in start...pattern.last { pattern.absorbs |= 1 << UInt128(state) }
                pattern.loops |= 1 << UInt128(pattern.last)
            }
            run = nil
        }
        for level in levels {
            switch level {
            case .literal(let bytes):
                finish(&self)
                places.append(Place(start: Int32(literals.count), count: Int32(bytes.count)))
                literals += bytes
            case .single:
                run = run ?? (last, false)
                singles |= 1 << UInt128(last)
                places.append(Place(start: 0, count: 0))
            case .many:
                run = (run?.start ?? last, true)
            }
        }
        finish(&self)
    }

    // MARK: Comparing

    /// Whether the destination of that name belongs to the set. Wildcards in the name are ordinary characters.
    public func contains(_ name: UnsafeRawBufferPointer) -> Bool {
        var states: UInt128 = 1
        var levels = Levels(of: name)
        while states != 0, let level = levels.next() { states = after(states, literal: level) }
        return states & end != 0
    }

    /// Whether every name that a subscription's pattern may match belongs to the set.
    ///
    /// It may say no where the truth is yes, but never the other way round: a "many" of the subscription has to lie within
    /// one run of wildcards here.
    public func contains(pattern: UnsafeRawBufferPointer) -> Bool {
        var states: UInt128 = 1
        var levels = Levels(of: pattern)
        while states != 0, let level = levels.next() {
            switch Levels.wildcard(level) {
            case .literal: states = after(states, literal: level)
            case .single: states = states & loops | (states & singles) << 1
            case .many: states &= absorbs
            }
        }
        return states & end != 0
    }

    /// Whether some name that a subscription's pattern may match belongs to the set. Exact.
    public func intersects(pattern: UnsafeRawBufferPointer) -> Bool {
        var states: UInt128 = 1
        var levels = Levels(of: pattern)
        while states != 0, let level = levels.next() {
            switch Levels.wildcard(level) {
            case .literal: states = after(states, literal: level)
            case .single: states = states & loops | (states << 1) & all
            // Any number of levels leads from a state to every later one.
            case .many: states = all & ~((1 << UInt128(states.trailingZeroBitCount)) - 1)
            }
        }
        return states & end != 0
    }

    private func after(_ states: UInt128, literal level: UnsafeRawBufferPointer) -> UInt128 {
        var next = states & loops | (states & singles) << 1
        var rest = states & ~singles & ~end
        while rest != 0 {
            let state = rest.trailingZeroBitCount
            rest &= rest - 1
            if isLiteral(places[state], level) { next |= 1 << UInt128(state + 1) }
        }
        return next
    }

    private func isLiteral(_ place: Place, _ level: UnsafeRawBufferPointer) -> Bool {
        guard Int(place.count) == level.count else { return false }
        for offset in 0..<level.count where literals[Int(place.start) + offset] != level[offset] { return false }
        return true
    }
}

/// The levels of a name, first to last: the one before the first separator, the one behind it, and so on.
struct Levels: IteratorProtocol {
    enum Wildcard {
        case literal, single, many
    }

    private var rest: UnsafeRawBufferPointer?

    init(of name: UnsafeRawBufferPointer) { rest = name }

    mutating func next() -> UnsafeRawBufferPointer? {
        guard let bytes = rest else { return nil }
        var end = 0
        while end < bytes.count, !Self.isSeparator(bytes[end]) { end += 1 }
        rest = end < bytes.count ? UnsafeRawBufferPointer(rebasing: bytes[(end + 1)...]) : nil
        return UnsafeRawBufferPointer(rebasing: bytes[..<end])
    }

    static func isSeparator(_ byte: UInt8) -> Bool { byte == UInt8(ascii: ".") || byte == UInt8(ascii: "/") }

    static func wildcard(_ level: UnsafeRawBufferPointer) -> Wildcard {
        if level.count == 1 {
            if level[0] == UInt8(ascii: "*") { return .single }
            if level[0] == UInt8(ascii: "#") || level[0] == UInt8(ascii: ">") { return .many }
        }
        let isMany = level.count == 2 && level[0] == UInt8(ascii: "*") && level[1] == UInt8(ascii: "*")
        return isMany ? .many : .literal
    }
}
