extension BlockPool {
    @usableFromInline @inline(never)
    mutating func allocateLarge(_ sizeClass: Int) -> BlockIndex {
        storedReserveChangeCount &+= 1
        let capacity = SizeClass.byteCount(sizeClass)
        let slot = records.allocate()
        guard !slot.isNone else { return 0 }
        guard let base = largeCache.take(sizeClass) ?? Pages.map(byteCount: capacity) else {
            records.free(slot.index)
            return 0
        }
        let record = records[slot.index]
        record.pointee.base = base
        record.pointee.origin = UInt32(sizeClass)
        record.pointee.referenceCount = 1
        storedByteCountInUse += capacity
        return slot.index
    }

    @usableFromInline @inline(never)
    mutating func releaseLarge(_ block: BlockIndex) {
        storedReserveChangeCount &+= 1
        let record = records[block].pointee
        records.free(block)
        largeCache.put(record.base, sizeClass: record.sizeClass)
    }
}

extension BlockPool {
    /// Makes a large block larger, in place or by moving its pages, without copying. Its base may change.
    ///
    /// - Returns: false if the block is not large or there is no memory. Then the block is unchanged.
    public mutating func extend(_ block: BlockIndex, byteCount: Int) -> Bool {
        let record = records[block]
        let sizeClass = record.pointee.sizeClass
        guard sizeClass >= SizeClass.arenaClassCount, byteCount <= SizeClass.byteCountMax else { return false }
        let newClass = SizeClass.holding(byteCount)
        let (before, after) = (SizeClass.byteCount(sizeClass), SizeClass.byteCount(newClass))
        guard newClass > sizeClass, storedByteCountInUse + after - before <= byteCountMax,
            let base = Pages.remap(record.pointee.base, byteCount: before, to: after)
        else { return false }
        record.pointee.base = base
        record.pointee.origin = UInt32(newClass)
        storedByteCountInUse += after - before
        return true
    }

    /// Unmaps a part of the freed memory that the pool does not keep. Called once a turn, because unmapping a large
    /// amount at once would take too long (50 us for an arena, and several times that in a memory control group).
    @inlinable
    public mutating func unmapSome() {
        if largeCache.isOverfull { largeCache.removeSome() }
        if hasArenasToUnmap { unmapSomeArenas() }
    }

    /// Whether `unmapSome` has memory to unmap.
    @inlinable public var hasToUnmap: Bool { largeCache.isOverfull || hasArenasToUnmap }

    @inlinable var hasArenasToUnmap: Bool { spareArenaCount > keptSpareArenaCount }
}

/// The mappings of large blocks that were freed last. They are kept because a new mapping causes a page fault for every
/// 4 KiB.
@frozen @usableFromInline
struct LargeBlockCache: ~Copyable {
    @frozen @usableFromInline
    struct Entry: BitwiseCopyable {
        @usableFromInline var base: UnsafeMutableRawPointer
        @usableFromInline var sizeClass: Int
    }

    private static var entryCountMax: Int { 256 }
    /// The most bytes kept. A block larger than half of this is not kept.
    @usableFromInline static var byteCountMax: Int { 16 << 20 }
    /// The most bytes in the cache: those that are kept and those that wait to be unmapped.
    private static var overfullByteCountMax: Int { 64 << 20 }
    /// The bytes that are unmapped at a time.
    private static var someByteCount: Int { 2 << 20 }

    /// The mappings, from the oldest to the newest.
    @usableFromInline let entries: UnsafeMutablePointer<Entry>
    @usableFromInline var count: Int
    @usableFromInline var byteCount: Int

    @usableFromInline
    init() {
        entries = .allocate(capacity: Self.entryCountMax)
        count = 0
        byteCount = 0
    }

    @inlinable
    deinit {
        for position in 0..<count {
            Pages.unmap(entries[position].base, byteCount: SizeClass.byteCount(entries[position].sizeClass))
        }
        entries.deallocate()
    }

    /// Removes and returns the newest mapping of a class. The caller owns it.
    mutating func take(_ sizeClass: Int) -> UnsafeMutableRawPointer? {
        var position = count - 1
        while position >= 0 {
            if entries[position].sizeClass == sizeClass { return remove(at: position) }
            position -= 1
        }
        return nil
    }

    /// Takes ownership of a mapping. Unmaps it if it is too large, and the oldest ones if there are too many.
    mutating func put(_ base: UnsafeMutableRawPointer, sizeClass: Int) {
        let newByteCount = SizeClass.byteCount(sizeClass)
        guard newByteCount <= Self.byteCountMax / 2 else {
            Pages.unmap(base, byteCount: newByteCount)
            return
        }
        while count == Self.entryCountMax || byteCount + newByteCount > Self.overfullByteCountMax { removeOldest() }
        (entries + count).initialize(to: Entry(base: base, sizeClass: sizeClass))
        count += 1
        byteCount += newByteCount
    }

    @inlinable var isOverfull: Bool { byteCount > Self.byteCountMax }

    @usableFromInline @inline(never)
    mutating func removeSome() { remove(downTo: Self.byteCountMax, byteCountMax: Self.someByteCount) }

    /// Unmaps the oldest mappings until `keptByteCount` bytes are left or about `byteCountMax` bytes are unmapped.
    mutating func remove(downTo keptByteCount: Int, byteCountMax: Int) {
        let before = byteCount
        while byteCount > keptByteCount, before - byteCount < byteCountMax { removeOldest() }
    }

    private mutating func removeOldest() {
        let unmappedByteCount = SizeClass.byteCount(entries[0].sizeClass)
        Pages.unmap(remove(at: 0), byteCount: unmappedByteCount)
    }

    private mutating func remove(at position: Int) -> UnsafeMutableRawPointer {
        let entry = entries[position]
        count -= 1
        byteCount -= SizeClass.byteCount(entry.sizeClass)
        (entries + position).update(from: entries + position + 1, count: count - position)
        return entry.base
    }
}
