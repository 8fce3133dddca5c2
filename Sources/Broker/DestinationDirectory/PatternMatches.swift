import Slabs

/// The patterns of a `DestinationDirectory`, and which of its topics each of them matches.
///
/// A topic has every pattern that matches it among its `matches`, and each of these the topic, with their places in each
/// other's, so that they part in constant time. To find them takes a comparison with each topic, or each pattern, when a
/// pattern or a topic comes; to publish then takes none.
struct PatternMatches: ~Copyable {
    private var patterns = PatternChain()
    private(set) var patternCount = 0
    /// Pairs of a topic and a pattern that matches it.
    private(set) var count = 0

    /// To compare a pattern with a topic means to fetch a record and its name.
    private static var stepsPerComparison: Int { 2 }
    /// So many of their levels are compared in the time of a step.
    private static var levelsPerStep: Int { 8 }

    /// A new pattern meets all topics. Returns the steps that this took.
    mutating func add(
        pattern: Index<Destination>, in records: borrowing Slab<Destination>, names: borrowing NameTable,
        memory: borrowing MemoryBudget
    ) -> Int {
        let own = Self.name(of: records[pattern], in: memory)
        var comparisonCount = 0
        var levelCount = 0
        var middle = Wildcard.Middle()
        for place in 0..<names.capacity {
            let topic = Index<Destination>(names.entry(place))
            guard !topic.isNone, records[topic].pointee.kind == .topic else { continue }
            comparisonCount += 1
            let name = Self.name(of: records[topic], in: memory)
            if Wildcard.matches(own, name, &middle, levelCount: &levelCount) {
                match(pattern: pattern, topic: topic, in: records)
            }
        }
        patternCount += 1
        patterns.prepend(pattern, in: records)
        return comparisonCount * Self.stepsPerComparison + levelCount / Self.levelsPerStep
    }

    /// A new topic meets all patterns. Returns the steps that this took.
    mutating func add(
        topic: Index<Destination>, in records: borrowing Slab<Destination>, memory: borrowing MemoryBudget
    ) -> Int {
        let own = Self.name(of: records[topic], in: memory)
        var comparisonCount = 0
        var levelCount = 0
        var middle = Wildcard.Middle()
        var pattern = patterns.first
        while !pattern.isNone {
            comparisonCount += 1
            middle.reset()
            let name = Self.name(of: records[pattern], in: memory)
            if Wildcard.matches(name, own, &middle, levelCount: &levelCount) {
                match(pattern: pattern, topic: topic, in: records)
            }
            pattern = PatternChain.next(after: pattern, in: records)
        }
        return comparisonCount * Self.stepsPerComparison + levelCount / Self.levelsPerStep
    }

    /// A topic or a pattern parts from what it matches. (Other destinations match nothing.)
    mutating func remove(_ index: Index<Destination>, in records: borrowing Slab<Destination>) {
        let record = records[index]
        for i in 0..<record.pointee.matches.count { unmatch(record.pointee.matches[i], in: records) }
        record.pointee.matches.deallocate()
        guard record.pointee.kind == .pattern else { return }
        patternCount -= 1
        patterns.remove(index, in: records)
    }

    private mutating func match(
        pattern: Index<Destination>, topic: Index<Destination>, in records: borrowing Slab<Destination>
    ) {
        count += 1
        let placeInPattern = records[pattern].pointee.matches.count
        let placeInTopic = records[topic].pointee.matches.append(
            Match(destination: pattern, position: placeInPattern))
        _ = records[pattern].pointee.matches.append(Match(destination: topic, position: placeInTopic))
    }

    private mutating func unmatch(_ match: Match, in records: borrowing Slab<Destination>) {
        count -= 1
        let other = records[match.destination]
        if let moved = other.pointee.matches.swapRemove(at: match.position) {
            records[moved.destination].pointee.matches[moved.position].position = match.position
        }
    }

    /// Topics and patterns have one.
    private static func name(
        of record: UnsafeMutablePointer<Destination>, in memory: borrowing MemoryBudget
    ) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: UnsafeRawPointer(memory.blocks.base(record.pointee.name)), count: Int(record.pointee.nameByteCount))
    }
}
