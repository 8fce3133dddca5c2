/// The index of a block in a `BlockPool`. 0: none.
public typealias BlockIndex = UInt32

/// The record of a block: 24 bytes, apart from the data of the block.
@frozen @usableFromInline
struct BlockRecord: SlabRecord {
    @usableFromInline var generation: UInt32
    /// 0: the block is in its arena's free list.
    @usableFromInline var referenceCount: UInt32
    @usableFromInline var base: UnsafeMutableRawPointer
    /// For a live block: the word of its owner. For a free block: the next block in the free list of its arena.
    @usableFromInline var used: UInt32
    /// The arena in the upper 24 bits (0: the block has a mapping of its own), the size class in the lower 8.
    @usableFromInline var origin: UInt32

    @inlinable var sizeClass: Int { Int(origin & 0xFF) }
    @inlinable var arena: UInt32 { origin &>> 8 }
}

/// A mapping of 512 KiB that is divided into blocks of one size class.
@frozen @usableFromInline
struct Arena: SlabRecord {
    @usableFromInline var generation: UInt32
    @usableFromInline var sizeClass: UInt32
    @usableFromInline var base: UnsafeMutableRawPointer
    /// The first block of the free list, linked by `BlockRecord.used`. The block that was freed last is reused first.
    @usableFromInline var firstFree: UInt32
    @usableFromInline var liveCount: UInt32
    @usableFromInline var carvedCount: UInt32
    /// 1: the arena has no free block and is not in the list of its class.
    @usableFromInline var isFull: UInt32
    /// The links in the list of arenas of this class that have room; or `next` in the list of spare arenas.
    @usableFromInline var next: UInt32
    @usableFromInline var previous: UInt32
}

/// Reference-counted blocks of bytes, for messages and other data that outlives the turn in which it was written.
///
/// The data of a block is 64-byte aligned and has exactly the size of its class: 64, 128, 256, 384, 512, 768, ... to
/// 128 MiB. Blocks up to 64 KiB come from arenas of 512 KiB, each for one class. Larger blocks are mapped one by one;
/// up to 16 MiB of the mappings that were freed last are kept. A block keeps its record while its arena is in use, so
/// an allocation is a pop from a free list and a release is a push.
///
/// Memory: live blocks hold at most `byteCountMax` bytes. Arenas may hold up to twice as much if each has only few live
/// blocks. `unmapSome` returns arenas without live blocks to the kernel, except for one of each class, one spare for
/// all classes, and as many more as a quarter of those in use. `trim` returns these too.
///
/// Not thread-safe. A pool may be moved to another thread. The end of the pool frees all blocks, also live ones.
@frozen
public struct BlockPool: ~Copyable {
    @usableFromInline var records: Slab<BlockRecord>
    @usableFromInline var arenas: Slab<Arena>
    /// For each class with arenas: the first arena of its list of arenas with room.
    @usableFromInline let roomyArenas: UnsafeMutablePointer<UInt32>
    @usableFromInline var largeCache: LargeBlockCache
    @usableFromInline var spareArena: UInt32
    @usableFromInline var spareArenaCount: Int
    @usableFromInline var storedByteCountInUse: Int
    @usableFromInline let storedByteCountMax: Int
    @usableFromInline var storedReserveChangeCount: UInt32

    @inlinable static var arenaByteCount: Int { 512 << 10 }
    private static let arenaCountMax = 0xFF_FFFF

    /// Reserves address space for the records of as many blocks as `byteCountMax` bytes may need.
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

    /// Bytes of all live blocks: the sum of their capacities, not of the bytes used.
    @inlinable public var byteCountInUse: Int { storedByteCountInUse }

    /// The most bytes that all live blocks together may hold.
    @inlinable public var byteCountMax: Int { storedByteCountMax }

    /// Changes whenever the pool keeps memory without live blocks, or uses such memory again. While it does not change,
    /// `trim` returns only memory that the pool did not need in that time.
    @inlinable public var reserveChangeCount: UInt32 { storedReserveChangeCount }

    // MARK: Life of a block

    /// Allocates a block of at least `byteCount` bytes, with one reference and `used` 0. Its bytes are undefined.
    ///
    /// - Returns: 0 if the limit of the pool is reached, if `byteCount` is over 128 MiB or negative, or if the kernel
    ///   refuses memory.
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

    /// Removes a reference. The block is freed with its last reference.
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
            // Makes a use after the release visible.
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
            // Another arena of the class has room, so the class does not need this one.
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

    /// The size of the block in bytes.
    @inlinable @inline(__always)
    public func capacity(_ block: BlockIndex) -> Int {
        SizeClass.byteCount(records[block].pointee.sizeClass)
    }

    /// The number of references of the block. 0: it is free.
    @inlinable @inline(__always)
    public func referenceCount(_ block: BlockIndex) -> Int {
        Int(records[block].pointee.referenceCount)
    }

    /// A word for the owner of the block, such as the number of bytes used so far. 0 in a new block.
    @inlinable @inline(__always)
    public func used(_ block: BlockIndex) -> Int {
        assert(records[block].pointee.referenceCount > 0, "the block is live")
        return Int(records[block].pointee.used)
    }

    /// Sets the word for the owner (0 ... 2^32 - 1).
    @inlinable @inline(__always)
    public func setUsed(_ block: BlockIndex, _ byteCount: Int) {
        assert(records[block].pointee.referenceCount > 0, "the block is live")
        records[block].pointee.used = UInt32(byteCount)
    }
}

// Only the pool uses the memory of its pointers, so the pool may move to another thread.
extension BlockPool: @unchecked Sendable {}
