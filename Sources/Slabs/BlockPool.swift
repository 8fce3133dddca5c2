/// Names a block of a `BlockPool`. 0: none.
public typealias BlockIndex = UInt32

/// What a pool knows of a block: 24 bytes, apart from the block's data.
@frozen @usableFromInline
struct BlockRecord: SlabRecord {
    @usableFromInline var generation: UInt32
    /// 0: the block is in its arena's free list.
    @usableFromInline var referenceCount: UInt32
    @usableFromInline var base: UnsafeMutableRawPointer
    /// Of a live block: the owner's word. Of a free one: the next in its arena's free list.
    @usableFromInline var used: UInt32
    /// The arena in the upper 24 bits (0: mapped by itself), the size class in the lower 8.
    @usableFromInline var origin: UInt32

    @inlinable var sizeClass: Int { Int(origin & 0xFF) }
    @inlinable var arena: UInt32 { origin &>> 8 }
}

/// A mapping that blocks of one size are carved from.
@frozen @usableFromInline
struct Arena: SlabRecord {
    @usableFromInline var generation: UInt32
    @usableFromInline var sizeClass: UInt32
    @usableFromInline var base: UnsafeMutableRawPointer
    /// Head of the list of free blocks, linked by `BlockRecord.used`. The block freed last is reused first.
    @usableFromInline var firstFree: UInt32
    @usableFromInline var liveCount: UInt32
    @usableFromInline var carvedCount: UInt32
    /// 1: no block is free, and the arena is not in the list of its class.
    @usableFromInline var isFull: UInt32
    /// Neighbours in the list of arenas of this class that have room, or (`next`) in the list of spare arenas.
    @usableFromInline var next: UInt32
    @usableFromInline var previous: UInt32
}

/// Reference-counted blocks of bytes: messages, and whatever else outlives the turn it was written in.
///
/// A block's data is 64-byte aligned and exactly the size of its class: 64, 128, 256, 384, 512, 768, ... to 128 MiB.
/// Blocks up to 64 KiB are carved from arenas of 512 KiB, one class each; larger ones are mapped one by one, and up
/// to 16 MiB of those that were freed last are kept. A block and its record stay together while their arena lives, so allocation
/// is a pop from a free list and release a push.
///
/// Memory: live blocks hold at most `byteCountMax` bytes. Arenas may hold up to twice as much when live blocks are
/// spread thinly over many; `unmapSome` gives arenas without live blocks back, except for one of each class, one spare for
/// any class, and a quarter more of those in use. `trim` gives back these too.
///
/// Not thread-safe; a pool may be moved to another thread. Blocks still live when the pool ends are gone.
@frozen
public struct BlockPool: ~Copyable {
    @usableFromInline var records: Slab<BlockRecord>
    @usableFromInline var arenas: Slab<Arena>
    /// For each class in arenas: the head of its list of arenas with room.
    @usableFromInline let roomyArenas: UnsafeMutablePointer<UInt32>
    @usableFromInline var largeCache: LargeBlockCache
    @usableFromInline var spareArena: UInt32
    @usableFromInline var spareArenaCount: Int
    @usableFromInline var storedByteCountInUse: Int
    @usableFromInline let storedByteCountMax: Int
    @usableFromInline var storedReserveChangeCount: UInt32

    @inlinable static var arenaByteCount: Int { 512 << 10 }
    private static let arenaCountMax = 0xFF_FFFF

    /// Reserves address space for the records of blocks that hold `byteCountMax` bytes together.
    public init(byteCountMax: Int) throws(SlabError) {
        guard byteCountMax >= 0 else { throw .sizeOutOfRange(byteCountMax) }
        let arenaCountMax = min(
            Self.arenaCountMax, byteCountMax / Self.arenaByteCount * 2 + SizeClass.arenaClassCount + 1)
        let blockCountMax = min(Int(UInt32.max) - 1, arenaCountMax * (Self.arenaByteCount / SizeClass.byteCount(0)))
        let newRecords = try Slab<BlockRecord>(recordCountMax: blockCountMax)
        let newArenas = try Slab<Arena>(recordCountMax: arenaCountMax)
        records = newRecords
        arenas = newArenas
        roomyArenas = .allocate(capacity: SizeClass.arenaClassCount)
        roomyArenas.initialize(repeating: 0, count: SizeClass.arenaClassCount)
        largeCache = LargeBlockCache()
        spareArena = 0
        spareArenaCount = 0
        storedByteCountInUse = 0
        storedByteCountMax = byteCountMax
        storedReserveChangeCount = 0
    }

    @inlinable deinit { unmapAll() }

    @usableFromInline
    func unmapAll() {
        var block = records.nextLive(after: 0)
        while block != 0 {
            let record = records[block].pointee
            if record.arena == 0 { Pages.unmap(record.base, byteCount: SizeClass.byteCount(record.sizeClass)) }
            block = records.nextLive(after: block)
        }
        var arena = arenas.nextLive(after: 0)
        while arena != 0 {
            Pages.unmap(arenas[arena].pointee.base, byteCount: Self.arenaByteCount)
            arena = arenas.nextLive(after: arena)
        }
        roomyArenas.deallocate()
    }

    /// Bytes that live blocks hold (their capacities, not what is used of them).
    @inlinable public var byteCountInUse: Int { storedByteCountInUse }

    /// The most bytes that live blocks may hold together.
    @inlinable public var byteCountMax: Int { storedByteCountMax }

    /// Differs from what it was when memory without live blocks was kept or used since. While it stays the same, `trim`
    /// takes nothing that is in use again a moment later.
    @inlinable public var reserveChangeCount: UInt32 { storedReserveChangeCount }

    // MARK: Life of a block

    /// Takes a block of at least `byteCount` bytes with one reference and `used` 0. Its bytes are undefined.
    ///
    /// 0 when the pool's limit is reached, when `byteCount` is over 128 MiB (or negative), or when the kernel refuses
    /// memory.
    @inlinable
    public mutating func allocate(byteCount: Int) -> BlockIndex {
        guard UInt(bitPattern: byteCount) <= UInt(SizeClass.byteCountMax) else { return 0 }
        let sizeClass = SizeClass.holding(byteCount)
        let capacity = SizeClass.byteCount(sizeClass)
        guard capacity <= storedByteCountMax &- storedByteCountInUse else { return 0 }
        guard sizeClass < SizeClass.arenaClassCount else { return allocateLarge(sizeClass) }
        let arenaIndex = roomyArenas[sizeClass]
        guard arenaIndex != 0 else { return allocateFromNewArena(sizeClass) }
        let arena = arenas[arenaIndex]
        let block = arena.pointee.firstFree
        guard block != 0 else { return carve(arenaIndex) }
        let record = records[block]
        let next = record.pointee.used
        arena.pointee.firstFree = next
        arena.pointee.liveCount &+= 1
        record.pointee.referenceCount = 1
        record.pointee.used = 0
        storedByteCountInUse &+= capacity
        if next == 0 { closeIfFull(arenaIndex) }
        return block
    }

    /// Adds a reference.
    @inlinable
    public mutating func retain(_ block: BlockIndex) {
        retain(block, count: 1)
    }

    /// Adds `count` references (0 or more).
    @inlinable
    public mutating func retain(_ block: BlockIndex, count: Int) {
        let record = records[block]
        let referenceCount = record.pointee.referenceCount
        invariant(referenceCount > 0, "the block that is retained is live")
        let (sum, overflows) = referenceCount.addingReportingOverflow(UInt32(truncatingIfNeeded: count))
        invariant(count >> 32 == 0 && !overflows, "a block has fewer than 2^32 references")
        record.pointee.referenceCount = sum
    }

    /// Drops a reference; with the last, the block is free.
    @inlinable
    public mutating func release(_ block: BlockIndex) {
        let record = records[block]
        let referenceCount = record.pointee.referenceCount
        invariant(referenceCount > 0, "the block that is released is live")
        record.pointee.referenceCount = referenceCount &- 1
        if referenceCount == 1 { recycle(block) }
    }

    @inlinable
    mutating func recycle(_ block: BlockIndex) {
        let record = records[block]
        let sizeClass = record.pointee.sizeClass
        let capacity = SizeClass.byteCount(sizeClass)
        storedByteCountInUse &-= capacity
        #if DEBUG
            // Whoever still reads the block finds nonsense at once.
            record.pointee.base.initializeMemory(as: UInt8.self, repeating: 0xDD, count: min(capacity, 4096))
        #endif
        guard sizeClass < SizeClass.arenaClassCount else { return releaseLarge(block) }
        let arenaIndex = record.pointee.arena
        let arena = arenas[arenaIndex]
        record.pointee.used = arena.pointee.firstFree
        arena.pointee.firstFree = block
        let liveCount = arena.pointee.liveCount &- 1
        arena.pointee.liveCount = liveCount
        if arena.pointee.isFull != 0 {
            reopen(arenaIndex)
        } else if liveCount == 0 && arena.pointee.next | arena.pointee.previous != 0 {
            // Another arena of the class has room, so this one is not needed.
            retire(arenaIndex)
        }
    }

    // MARK: A live block

    /// The block's first byte. Valid while the block has a reference.
    @inlinable @inline(__always)
    public func base(_ block: BlockIndex) -> UnsafeMutableRawPointer {
        assert(records[block].pointee.referenceCount > 0, "the block is live")
        return records[block].pointee.base
    }

    /// How many bytes the block has.
    @inlinable @inline(__always)
    public func capacity(_ block: BlockIndex) -> Int {
        SizeClass.byteCount(records[block].pointee.sizeClass)
    }

    /// How many references the block has; 0 for one that is free.
    @inlinable @inline(__always)
    public func referenceCount(_ block: BlockIndex) -> Int {
        Int(records[block].pointee.referenceCount)
    }

    /// A word of the owner's use, such as the bytes used so far. 0 in a new block.
    @inlinable @inline(__always)
    public func used(_ block: BlockIndex) -> Int {
        assert(records[block].pointee.referenceCount > 0, "the block is live")
        return Int(records[block].pointee.used)
    }

    /// Sets the word of the owner's use (0 ... 2^32 - 1).
    @inlinable @inline(__always)
    public func setUsed(_ block: BlockIndex, _ byteCount: Int) {
        assert(records[block].pointee.referenceCount > 0, "the block is live")
        records[block].pointee.used = UInt32(byteCount)
    }
}

// The pointers lead to memory that the pool alone owns, so it can be handed over whole.
extension BlockPool: @unchecked Sendable {}
