import Glibc

/// A record that can live in a `Slab`: fixed in size, free of references, movable as bytes.
public protocol SlabRecord: BitwiseCopyable {
    /// The life of the place the record is in. The first stored property of the record (offset 0; the record has at
    /// least 8 bytes). Written by the slab only.
    var generation: UInt32 { get set }
}

/// How the first word of a place tells which life it is in.
///
///     0                    never used since its memory was fresh
///     1 ... 0xFF_FFFF      live, and this is its generation
///     dead | generation    free, and this is the generation of its next life
@frozen @usableFromInline
enum Generation {
    @inlinable static var max: UInt32 { 0xFF_FFFF }
    @inlinable static var dead: UInt32 { 0x8000_0000 }

    @inlinable @inline(__always)
    static func isLive(_ word: UInt32) -> Bool { word &- 1 < max }

    /// The generation after `generation`, which wraps from the greatest to 1.
    @inlinable @inline(__always)
    static func next(_ generation: UInt32) -> UInt32 { generation == max ? 1 : generation &+ 1 }

    /// The generation that comes `distance` steps after `generation`.
    static func advanced(_ generation: UInt32, by distance: UInt32) -> UInt32 {
        (generation - 1 + distance) % max + 1
    }

    /// How many steps after `base` `generation` comes.
    static func distance(from base: UInt32, to generation: UInt32) -> UInt32 {
        generation >= base ? generation - base : generation + max - base
    }
}

/// What a slab knows of one chunk: a run of places whose memory is given back together.
@frozen @usableFromInline
struct SlabChunk: BitwiseCopyable {
    /// Head of the list of free places, linked through bytes 4..<8 of each. 0: none.
    @usableFromInline var firstFree: UInt32
    @usableFromInline var liveCount: UInt32
    /// Places from the chunk's first that were used since its memory was fresh.
    @usableFromInline var carvedCount: UInt32
    /// Generations that handles to the chunk's places may hold from before its memory was given back. A fresh place
    /// begins one after them.
    @usableFromInline var spentGenerations: UInt32
}

/// Records of one type at stable addresses, named by `Index` and told apart over time by generations (`Handle`).
///
/// The address space for `recordCountMax` records is reserved at the start; memory is touched record by record as they
/// are used. Places are grouped in chunks of about 64 KiB. The lowest chunk with room serves the next allocation, so
/// that after a burst the high chunks fall empty and `trim` can give them back to the kernel.
///
///     | place 0, never used | 1 | 2 | ... | chunk 1 ... | chunk n | SlabChunk x n | a bit per chunk: has room |
///
/// Generations outlive the memory: a chunk that is given back restarts beyond every generation it has handed out, so a
/// stale `Handle` is recognised (until a place has been reused 16,777,215 times).
///
/// `allocate`, `free` and `find` take constant time. Not thread-safe; a slab may be moved to another thread.
@frozen
public struct Slab<Record: SlabRecord>: ~Copyable {
    @usableFromInline let base: UnsafeMutableRawPointer
    @usableFromInline let chunks: UnsafeMutablePointer<SlabChunk>
    /// Bit c of the words says that chunk c has room.
    @usableFromInline let roomWords: UnsafeMutablePointer<UInt64>
    @usableFromInline let chunkCount: Int
    /// One more than `recordCountMax`: index 0 means "none", and its place stays zero so that nothing is found there.
    @usableFromInline let placeCount: Int
    /// The lowest chunk with room; `chunkCount` when the slab is full.
    @usableFromInline var roomiest: Int
    /// Chunks below this one may have been touched; those from it on have not.
    @usableFromInline var touchedChunkCount: Int
    /// Chunks that hold memory and no live record.
    @usableFromInline var emptyChunkCount: Int
    @usableFromInline var carvedPlaceCount: Int
    @usableFromInline let mappedByteCount: Int

    @usableFromInline var storedLiveCount: Int

    /// Reserves the address space for `recordCountMax` records and touches none of it.
    ///
    /// - Throws: `SlabError` when the count cannot be indexed or the kernel refuses the address space.
    public init(recordCountMax: Int) throws(SlabError) {
        invariant(MemoryLayout<Record>.size >= 8, "a record has room for its generation and a link")
        invariant(MemoryLayout<Record>.alignment <= 4096, "a record is aligned to a page at most")
        guard recordCountMax >= 0, recordCountMax < Int(UInt32.max) else {
            throw .sizeOutOfRange(recordCountMax)
        }
        let placeCount = recordCountMax + 1
        let chunkCount = (placeCount + Self.placesPerChunk - 1) >> Self.placesPerChunkShift
        let recordsByteCount = chunkCount * Self.chunkByteCount
        let chunksByteCount = chunkCount * MemoryLayout<SlabChunk>.stride
        let wordCount = (chunkCount + 63) >> 6
        let mappedByteCount = recordsByteCount + chunksByteCount + wordCount * MemoryLayout<UInt64>.stride
        guard let base = Pages.map(byteCount: mappedByteCount) else {
            throw .addressSpaceRefused(byteCount: mappedByteCount, errno: errno)
        }
        Pages.preferSmall(base, byteCount: mappedByteCount)
        self.base = base
        chunks = (base + recordsByteCount).bindMemory(to: SlabChunk.self, capacity: chunkCount)
        roomWords = (base + recordsByteCount + chunksByteCount).bindMemory(to: UInt64.self, capacity: wordCount)
        self.chunkCount = chunkCount
        self.placeCount = placeCount
        self.mappedByteCount = mappedByteCount
        roomiest = recordCountMax == 0 ? chunkCount : 0
        touchedChunkCount = 0
        emptyChunkCount = 0
        carvedPlaceCount = 0
        storedLiveCount = 0
        chunks[0].carvedCount = 1
        if recordCountMax > 0 {
            for chunk in 0..<chunkCount { roomWords[chunk >> 6] |= 1 << UInt64(chunk & 63) }
        }
    }

    @inlinable deinit { Pages.unmap(base, byteCount: mappedByteCount) }

    // MARK: Geometry

    /// A power of two, so that an index gives its chunk by a shift; as many as fill whole pages, and about 64 KiB.
    @inlinable static var placesPerChunkShift: Int {
        let stride = MemoryLayout<Record>.stride
        let wholePages = max(0, 12 - stride.trailingZeroBitCount)
        let wanted = Int.bitWidth - 1 - max(1, 65536 / stride).leadingZeroBitCount
        return max(wholePages, wanted)
    }
    @inlinable static var placesPerChunk: Int { 1 << placesPerChunkShift }
    @inlinable static var chunkByteCount: Int { MemoryLayout<Record>.stride << placesPerChunkShift }

    /// Places of a chunk: fewer in the last.
    @inlinable
    func placeCount(ofChunk chunk: Int) -> Int {
        min(Self.placesPerChunk, placeCount - chunk << Self.placesPerChunkShift)
    }

    @inlinable @inline(__always)
    func place(_ index: UInt32) -> UnsafeMutableRawPointer {
        base + Int(index) &* MemoryLayout<Record>.stride
    }

    // MARK: Sizes

    /// The most records there can be.
    @inlinable public var recordCountMax: Int { placeCount - 1 }

    /// Records that are allocated now.
    @inlinable public var liveCount: Int { storedLiveCount }

    /// About how many bytes of memory the records hold, in bytes: the places used since their memory was fresh.
    public var residentByteCountEstimate: Int { carvedPlaceCount * MemoryLayout<Record>.stride }

    // MARK: Records

    /// Takes a place for a record, filled with zeros except for its generation; `.none` when the slab is full.
    @inlinable
    mutating func allocate() -> Slot {
        if _slowPath(roomiest == chunkCount) { return .none }
        let chunk = chunks + roomiest
        let index = chunk.pointee.firstFree
        if index == 0 { return carve() }
        let place = place(index)
        let generation = place.load(as: UInt32.self) & Generation.max
        let next = place.load(fromByteOffset: 4, as: UInt32.self)
        if chunk.pointee.liveCount == 0 { emptyChunkCount &-= 1 }
        chunk.pointee.firstFree = next
        chunk.pointee.liveCount &+= 1
        storedLiveCount &+= 1
        place.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<Record>.size)
        place.storeBytes(of: generation, as: UInt32.self)
        if next == 0 { closeRoomiestIfFull() }
        return Slot(index: index, generation: generation)
    }

    /// Takes a place of the roomiest chunk that was never used since the chunk's memory was fresh, and so is zero.
    @inlinable @inline(never)
    mutating func carve() -> Slot {
        let chunk = chunks + roomiest
        let index = UInt32(truncatingIfNeeded: roomiest << Self.placesPerChunkShift) &+ chunk.pointee.carvedCount
        let generation = Generation.next(chunk.pointee.spentGenerations)
        place(index).storeBytes(of: generation, as: UInt32.self)
        chunk.pointee.carvedCount &+= 1
        chunk.pointee.liveCount &+= 1
        carvedPlaceCount &+= 1
        storedLiveCount &+= 1
        if roomiest >= touchedChunkCount { touchedChunkCount = roomiest &+ 1 }
        closeRoomiestIfFull()
        return Slot(index: index, generation: generation)
    }

    /// Moves on to the next chunk with room when the roomiest, whose free list is empty, is carved to its end.
    @inlinable
    mutating func closeRoomiestIfFull() {
        guard chunks[roomiest].carvedCount == placeCount(ofChunk: roomiest) else { return }
        var wordIndex = roomiest >> 6
        roomWords[wordIndex] &= ~(1 << UInt64(roomiest & 63))
        let wordCount = (chunkCount + 63) >> 6
        while wordIndex < wordCount {
            let word = roomWords[wordIndex]
            if word != 0 {
                roomiest = wordIndex << 6 + word.trailingZeroBitCount
                return
            }
            wordIndex += 1
        }
        roomiest = chunkCount
    }

    /// Ends the life of a record. Every slot that names it is stale from now on.
    @inlinable
    mutating func free(_ index: UInt32) {
        invariant(Int(index) < placeCount, "the record that is freed is in the slab")
        let place = place(index)
        let generation = place.load(as: UInt32.self)
        invariant(Generation.isLive(generation), "the record that is freed is live")
        #if DEBUG
            // Whoever still reads the record finds nonsense at once.
            (place + 8).initializeMemory(as: UInt8.self, repeating: 0xDD, count: MemoryLayout<Record>.size - 8)
        #endif
        let chunkIndex = Int(index) >> Self.placesPerChunkShift
        let chunk = chunks + chunkIndex
        let next = chunk.pointee.firstFree
        place.storeBytes(of: Generation.next(generation) | Generation.dead, as: UInt32.self)
        place.storeBytes(of: next, toByteOffset: 4, as: UInt32.self)
        chunk.pointee.firstFree = index
        if next == 0 { roomWords[chunkIndex >> 6] |= 1 << UInt64(chunkIndex & 63) }
        if chunkIndex < roomiest { roomiest = chunkIndex }
        let chunkLiveCount = chunk.pointee.liveCount &- 1
        chunk.pointee.liveCount = chunkLiveCount
        if chunkLiveCount == 0 { emptyChunkCount &+= 1 }
        storedLiveCount &-= 1
    }

    /// Where a live record is. Valid until the record is freed. Checked in debug builds only.
    @inlinable @inline(__always)
    func pointer(_ index: UInt32) -> UnsafeMutablePointer<Record> {
        assert(Int(index) < placeCount, "the index is in the slab")
        assert(Generation.isLive(place(index).load(as: UInt32.self)), "the record is live")
        return place(index).assumingMemoryBound(to: Record.self)
    }

    /// The same as `pointer(_:)`.
    @inlinable
    subscript(_ index: UInt32) -> UnsafeMutablePointer<Record> {
        @inline(__always) get { pointer(index) }
    }

    /// Where the record of `slot` is; nil when the slot is none, stale, or never was handed out.
    @inlinable @inline(__always)
    func find(_ slot: Slot) -> UnsafeMutablePointer<Record>? {
        isLive(slot) ? place(slot.index).assumingMemoryBound(to: Record.self) : nil
    }

    /// Whether the record of `slot` is in the life that `slot` was handed out for.
    @inlinable @inline(__always)
    func isLive(_ slot: Slot) -> Bool {
        Int(slot.index) < placeCount && Generation.isLive(slot.generation)
            && place(slot.index).load(as: UInt32.self) == slot.generation
    }

    /// The handle of a live record.
    @inlinable @inline(__always)
    func slot(_ index: UInt32) -> Slot {
        Slot(index: index, generation: pointer(index).pointee.generation)
    }

    /// The first live record after `index` (0: the first of all); 0 when there is none. Linear in the places between.
    ///
    /// Records may be allocated and freed during a walk; one allocated behind the walk is not visited.
    @usableFromInline
    func nextLive(after index: UInt32) -> UInt32 {
        var chunk = (Int(index) + 1) >> Self.placesPerChunkShift
        var place = (Int(index) + 1) & (Self.placesPerChunk - 1)
        while chunk < touchedChunkCount {
            if chunks[chunk].liveCount > 0 {
                while place < chunks[chunk].carvedCount {
                    let candidate = UInt32(chunk << Self.placesPerChunkShift + place)
                    if Generation.isLive(self.place(candidate).load(as: UInt32.self)) { return candidate }
                    place += 1
                }
            }
            place = 0
            chunk += 1
        }
        return 0
    }
}

// The pointers lead to memory that the slab alone owns, so it can be handed over whole.
extension Slab: @unchecked Sendable where Record: Sendable {}
