/// A hash table from the hashes of keys to numbers. The keys are stored elsewhere. Several numbers may have the same
/// hash, so the caller compares the keys:
///
///     var probe = index.probe(hash)
///     while case let candidate = index.next(&probe), candidate != 0 {
///         if isWanted(candidate) { return candidate }
///     }
///
/// It uses open addressing with linear probing and is at most three quarters full. Removal moves the following entries
/// back, so there are no tombstones. An entry takes 8 bytes. The table doubles when it is full and halves when less
/// than an eighth is used. An empty table takes no memory. All operations take constant time on average if the hashes
/// differ.
///
/// `NameTable` is for keys whose bytes do not move.
public struct HashIndex: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var hash: UInt32
        /// 0: the entry is empty.
        var value: UInt32
    }

    /// The position of a search.
    public struct Probe: BitwiseCopyable {
        fileprivate let hash: UInt32
        fileprivate var position: Int
    }

    private let hasher: ByteHash
    private var entries: UnsafeMutablePointer<Entry>?
    /// The number of entries, a power of two, minus one. 0: there are none.
    private var mask = 0
    /// How many numbers are in the table.
    public private(set) var count = 0

    private static var capacityMin: Int { 8 }
    private var capacity: Int { entries == nil ? 0 : mask + 1 }

    /// An empty index. `seed` should be unknown to the clients who choose the keys.
    public init(seed: UInt64) { hasher = ByteHash(seed: seed) }

    deinit { entries?.deallocate() }

    /// The hash of a key that consists of a number and bytes.
    public func hash(_ number: UInt32, _ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt32 {
        let mixed = hasher(bytes, byteCount) ^ UInt64(number) &* 0x9E37_79B9_7F4A_7C15
        return UInt32(truncatingIfNeeded: mixed ^ mixed >> 32)
    }

    public func probe(_ hash: UInt32) -> Probe { Probe(hash: hash, position: Int(hash) & mask) }

    /// The next number with the hash. 0: there are no more.
    public func next(_ probe: inout Probe) -> UInt32 {
        guard let entries else { return 0 }
        while true {
            let entry = entries[probe.position]
            if entry.value == 0 { return 0 }
            probe.position = (probe.position + 1) & mask
            if entry.hash == probe.hash { return entry.value }
        }
    }

    /// Adds a number, which must not be 0.
    public mutating func insert(_ hash: UInt32, _ value: UInt32) {
        invariant(value != 0, "a number in an index is not 0")
        if (count + 1) * 4 > capacity * 3 { resize(to: max(Self.capacityMin, capacity * 2)) }
        place(Entry(hash: hash, value: value))
        count += 1
    }

    /// Removes a number that was inserted with this hash.
    public mutating func remove(_ hash: UInt32, _ value: UInt32) {
        guard let entries else { return invariant(false, "what is removed is in the index") }
        var hole = Int(hash) & mask
        while entries[hole].value != value {
            invariant(entries[hole].value != 0, "what is removed is in the index")
            hole = (hole + 1) & mask
        }
        var follower = (hole + 1) & mask
        while entries[follower].value != 0 {
            // An entry may move to the hole if the hole is not before the position of its hash.
            let home = Int(entries[follower].hash) & mask
            if (follower - home) & mask >= (follower - hole) & mask {
                entries[hole] = entries[follower]
                hole = follower
            }
            follower = (follower + 1) & mask
        }
        entries[hole].value = 0
        count -= 1
        if count * 8 < capacity { resize(to: capacity / 2) }
    }

    private func place(_ entry: Entry) {
        guard let entries else { return }
        var position = Int(entry.hash) & mask
        while entries[position].value != 0 { position = (position + 1) & mask }
        entries[position] = entry
    }

    /// Moves all entries to a table of `newCapacity` entries, a power of two. Below `capacityMin` the table is freed.
    private mutating func resize(to newCapacity: Int) {
        guard newCapacity >= Self.capacityMin || count == 0 else { return }
        let (oldEntries, oldCapacity) = (entries, capacity)
        entries = nil
        mask = 0
        if newCapacity >= Self.capacityMin {
            let newEntries = UnsafeMutablePointer<Entry>.allocate(capacity: newCapacity)
            newEntries.initialize(repeating: Entry(hash: 0, value: 0), count: newCapacity)
            entries = newEntries
            mask = newCapacity - 1
        }
        guard let oldEntries else { return }
        for old in 0..<oldCapacity where oldEntries[old].value != 0 { place(oldEntries[old]) }
        oldEntries.deallocate()
    }
}

// Only the index uses the memory of its pointer, so the index may move to another thread.
extension HashIndex: @unchecked Sendable {}
