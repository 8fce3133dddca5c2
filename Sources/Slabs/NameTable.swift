/// A table from byte strings to numbers that are not 0, such as destinations by name.
///
/// It uses open addressing with linear probing and is at most three quarters full. Removal moves the following entries
/// back, so there are no tombstones. An entry takes 24 bytes and points to the key. The caller owns the bytes of the
/// key, which must stay valid and must not move while the key is in the table. The hash is seeded, so that clients
/// cannot choose names that collide.
///
/// The table doubles when it is full and halves when less than an eighth is used. An empty table takes no memory. All
/// operations take constant time on average.
@frozen
public struct NameTable: ~Copyable {
    @frozen @usableFromInline
    struct Entry: BitwiseCopyable {
        @usableFromInline var key: UnsafeRawPointer
        @usableFromInline var hash: UInt64
        @usableFromInline var byteCount: UInt32
        /// 0: the entry is empty, and so are its other fields.
        @usableFromInline var value: UInt32
    }

    @usableFromInline let hasher: ByteHash
    @usableFromInline var entries: UnsafeMutablePointer<Entry>?
    /// The number of entries, a power of two, minus one. 0: there are none.
    @usableFromInline var mask: Int
    @usableFromInline var storedCount: Int

    @usableFromInline static var capacityMin: Int { 8 }

    /// An empty table. `seed` should be unknown to the clients who choose the keys.
    public init(seed: UInt64) {
        hasher = ByteHash(seed: seed)
        entries = nil
        mask = 0
        storedCount = 0
    }

    @inlinable deinit { entries?.deallocate() }

    /// How many keys are in the table.
    @inlinable public var count: Int { storedCount }

    /// How many entries the table has, empty ones included. It bounds the argument of `entry(_:)`.
    @inlinable public var capacity: Int { entries == nil ? 0 : mask &+ 1 }

    /// The value of entry `position` (0 ..< `capacity`), or 0 if it is empty. For walks over all values.
    ///
    /// `insert` and `remove` move entries, so they must not be called during a walk.
    @inlinable
    public func entry(_ position: Int) -> UInt32 {
        guard let entries, position >= 0 && position <= mask else { return 0 }
        return entries[position].value
    }

    /// The hash of a key in this table, for callers that use it several times.
    @inlinable
    public func hash(_ key: UnsafeRawPointer, _ byteCount: Int) -> UInt64 { hasher(key, byteCount) }

    /// The value of a key. 0: the key is not in the table.
    @inlinable
    public func find(_ key: UnsafeRawPointer, _ byteCount: Int) -> UInt32 {
        find(key, byteCount, hash: hasher(key, byteCount))
    }

    /// The value of a key whose hash is known. 0: the key is not in the table.
    @inlinable
    public func find(_ key: UnsafeRawPointer, _ byteCount: Int, hash: UInt64) -> UInt32 {
        guard let entries else { return 0 }
        return entries[position(key, byteCount, hash: hash, in: entries)].value
    }

    /// The position of a key, or of the empty entry where it would be inserted.
    @inlinable
    func position(
        _ key: UnsafeRawPointer, _ byteCount: Int, hash: UInt64, in entries: UnsafeMutablePointer<Entry>
    ) -> Int {
        var position = Int(truncatingIfNeeded: hash) & mask
        while true {
            let entry = entries + position
            if entry.pointee.value == 0 { return position }
            if entry.pointee.hash == hash && Int(entry.pointee.byteCount) == byteCount
                && Self.areEqual(entry.pointee.key, key, byteCount)
            {
                return position
            }
            position = (position &+ 1) & mask
        }
    }

    /// Adds a key that is not in the table. `value` is not 0.
    public mutating func insert(_ key: UnsafeRawPointer, _ byteCount: Int, value: UInt32) {
        insert(key, byteCount, hash: hasher(key, byteCount), value: value)
    }

    /// Adds a key that is not in the table and whose hash is known. `value` is not 0.
    public mutating func insert(_ key: UnsafeRawPointer, _ byteCount: Int, hash: UInt64, value: UInt32) {
        invariant(value != 0, "a value of a name table is not 0")
        if (storedCount + 1) * 4 > capacity * 3 { resize(to: max(Self.capacityMin, capacity * 2)) }
        let entries = entries.unsafelyUnwrapped
        let position = position(key, byteCount, hash: hash, in: entries)
        invariant(entries[position].value == 0, "a key is inserted once")
        entries[position] = Entry(key: key, hash: hash, byteCount: UInt32(byteCount), value: value)
        storedCount += 1
    }

    /// Removes a key and returns its value. 0: the key was not in the table.
    public mutating func remove(_ key: UnsafeRawPointer, _ byteCount: Int) -> UInt32 {
        remove(key, byteCount, hash: hasher(key, byteCount))
    }

    /// Removes a key whose hash is known and returns its value. 0: the key was not in the table.
    public mutating func remove(_ key: UnsafeRawPointer, _ byteCount: Int, hash: UInt64) -> UInt32 {
        guard let entries else { return 0 }
        let position = position(key, byteCount, hash: hash, in: entries)
        let value = entries[position].value
        guard value != 0 else { return 0 }
        close(position, in: entries)
        storedCount -= 1
        if storedCount * 8 < capacity { resize(to: capacity / 2) }
        return value
    }

    /// Empties an entry, and moves back the following entries whose search passes it.
    private mutating func close(_ position: Int, in entries: UnsafeMutablePointer<Entry>) {
        var hole = position
        var follower = (hole + 1) & mask
        while entries[follower].value != 0 {
            // An entry may move to the hole if the hole is not before the position of its hash.
            let home = Int(truncatingIfNeeded: entries[follower].hash) & mask
            if (follower - home) & mask >= (follower - hole) & mask {
                entries[hole] = entries[follower]
                hole = follower
            }
            follower = (follower + 1) & mask
        }
        entries[hole].value = 0
    }

    /// Moves all entries to a table of `newCapacity` entries, a power of two. Below `capacityMin` the table is freed.
    private mutating func resize(to newCapacity: Int) {
        guard newCapacity >= Self.capacityMin || storedCount == 0 else { return }
        let oldEntries = entries
        let oldCapacity = capacity
        if newCapacity < Self.capacityMin {
            entries = nil
            mask = 0
        } else {
            let newEntries = UnsafeMutablePointer<Entry>.allocate(capacity: newCapacity)
            UnsafeMutableRawPointer(newEntries).initializeMemory(
                as: UInt8.self, repeating: 0, count: newCapacity * MemoryLayout<Entry>.stride)
            entries = newEntries
            mask = newCapacity - 1
        }
        guard let oldEntries else { return }
        for old in 0..<oldCapacity where oldEntries[old].value != 0 {
            var position = Int(truncatingIfNeeded: oldEntries[old].hash) & mask
            while entries.unsafelyUnwrapped[position].value != 0 { position = (position + 1) & mask }
            entries.unsafelyUnwrapped[position] = oldEntries[old]
        }
        oldEntries.deallocate()
    }

    /// Whether two strings of the same length are equal. It compares words, because for short names this is faster than
    /// a call of memcmp.
    @inlinable @inline(__always)
    static func areEqual(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        if byteCount >= 8 {
            var offset = 0
            while offset < byteCount &- 8 {
                if ByteHash.word(a, offset) != ByteHash.word(b, offset) { return false }
                offset &+= 8
            }
            return ByteHash.word(a, byteCount &- 8) == ByteHash.word(b, byteCount &- 8)
        }
        var offset = 0
        while offset < byteCount {
            if a.load(fromByteOffset: offset, as: UInt8.self) != b.load(fromByteOffset: offset, as: UInt8.self) {
                return false
            }
            offset &+= 1
        }
        return true
    }
}

// Only the table uses the memory of its pointer, and keys are only read, so the table may move to another thread.
extension NameTable: @unchecked Sendable {}
