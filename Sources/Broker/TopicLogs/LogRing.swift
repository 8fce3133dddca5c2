import Slabs

/// The entries of a topic's log, by offset: a ring that fits into a slab record. All zeros: an empty ring.
///
/// A copy does not own the memory: the record that holds the ring does, and calls `deallocate` before it is freed. Offsets
/// and times rise from entry to entry; offsets may have gaps. It grows and shrinks by factors of two; `append` and
/// `removeFirst` take constant time then, and a search takes the logarithm of the count.
struct LogRing: BitwiseCopyable {
    private var base: UnsafeMutablePointer<LogEntry>?
    /// A power of two, or 0.
    private var capacity: UInt32
    private var head: UInt32
    private(set) var count: UInt32

    private static var capacityMin: UInt32 { 8 }

    var isEmpty: Bool { count == 0 }

    init() {
        base = nil
        capacity = 0
        head = 0
        count = 0
    }

    private func place(_ index: UInt32) -> UnsafeMutablePointer<LogEntry> {
        base.unsafelyUnwrapped + Int((head &+ index) & (capacity &- 1))
    }

    /// The entry at a place, from the oldest (0) on.
    subscript(_ index: UInt32) -> LogEntry {
        get {
            assert(index < count, "the entry is in the ring")
            return place(index).pointee
        }
        nonmutating set { place(index).pointee = newValue }
    }

    mutating func append(_ entry: LogEntry) {
        if count == capacity { resize(to: max(Self.capacityMin, capacity * 2)) }
        place(count).initialize(to: entry)
        count += 1
    }

    /// Puts an entry where its offset belongs. False: there is one with that offset. The later its place, the less it takes.
    mutating func insert(_ entry: LogEntry) -> Bool {
        let index = index(atOrBehind: entry.offset)
        if index < count, self[index].offset == entry.offset { return false }
        append(entry)
        var hole = count - 1
        while hole > index {
            place(hole).pointee = place(hole - 1).pointee
            hole -= 1
        }
        place(index).pointee = entry
        return true
    }

    mutating func removeFirst() -> LogEntry {
        invariant(count > 0, "an entry that is removed is in the ring")
        let entry = place(0).pointee
        head = (head &+ 1) & (capacity &- 1)
        count -= 1
        if count < capacity / 4, capacity > Self.capacityMin { resize(to: capacity / 2) }
        return entry
    }

    /// The place of the first entry with this offset or a greater one; `count`: there is none.
    func index(atOrBehind offset: UInt64) -> UInt32 { firstIndex { $0.offset >= offset } }

    /// The same by time.
    func index(since milliseconds: UInt64) -> UInt32 { firstIndex { $0.milliseconds >= milliseconds } }

    /// Entries for which `isBehind` is true follow those for which it is not.
    @inline(__always)
    private func firstIndex(_ isBehind: (LogEntry) -> Bool) -> UInt32 {
        var low: UInt32 = 0
        var high = count
        while low < high {
            let middle = low + (high - low) / 2
            if isBehind(place(middle).pointee) { high = middle } else { low = middle + 1 }
        }
        return low
    }

    private mutating func resize(to newCapacity: UInt32) {
        let memory = UnsafeMutablePointer<LogEntry>.allocate(capacity: Int(newCapacity))
        for index in 0..<count { (memory + Int(index)).initialize(to: place(index).pointee) }
        base?.deallocate()
        base = memory
        capacity = newCapacity
        head = 0
    }

    mutating func deallocate() {
        base?.deallocate()
        self = LogRing()
    }
}
