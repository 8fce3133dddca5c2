import Glibc

/// A record that can be in a `Slab`. It has a fixed size and no references, and can be moved as bytes.
public protocol SlabRecord: BitwiseCopyable {
    /// The generation of the place of the record. It must be the first stored property (offset 0), and the record must
    /// have at least 8 bytes. Only the slab writes it.
    var generation: UInt32 { get set }
}

/// The meaning of the first word of a place:
///
///     0                    unused since the memory came from the kernel
///     1 ... 0xFF_FFFF      live, with this generation
///     dead | generation    free; the next record gets this generation
@frozen @usableFromInline
enum Generation {
    @inlinable static var max: UInt32 { 0xFF_FFFF }
    @inlinable static var dead: UInt32 { 0x8000_0000 }

    @inlinable @inline(__always)
    static func isLive(_ word: UInt32) -> Bool { word &- 1 < max }

    /// The generation after `generation`. It wraps from the greatest to 1.
    @inlinable @inline(__always)
    static func next(_ generation: UInt32) -> UInt32 { generation == max ? 1 : generation &+ 1 }

    /// The generation `distance` steps after `generation`.
    static func advanced(_ generation: UInt32, by distance: UInt32) -> UInt32 {
        (generation - 1 + distance) % max + 1
    }

    /// The number of steps from `base` to `generation`.
    static func distance(from base: UInt32, to generation: UInt32) -> UInt32 {
        generation >= base ? generation - base : generation + max - base
    }
}

/// The record of one chunk: adjacent places whose memory is returned to the kernel together.
@frozen @usableFromInline
struct SlabChunk: BitwiseCopyable {
    /// The first free place. Free places are linked through their bytes 4..<8. 0: none.
    @usableFromInline var firstFree: UInt32
    @usableFromInline var liveCount: UInt32
    /// The number of places, from the first, that were used since the memory of the chunk came from the kernel.
    @usableFromInline var carvedCount: UInt32
    /// The highest generation that old handles to this chunk may hold from before its memory was returned. An unused
    /// place starts with the next generation.
    @usableFromInline var spentGenerations: UInt32
}

/// Records of one type at stable addresses. An `Index` names the place of a record. A `Handle` also holds the
/// generation, which tells whether the place still holds the same record.
///
/// The slab reserves address space for `recordCountMax` records at the start and uses memory on demand. Places are
/// grouped in chunks of about 64 KiB. An allocation takes the lowest chunk with room. So after a burst the high chunks
/// become empty, and `trim` can return them to the kernel.
///
///     | place 0, never used | 1 | 2 | ... | chunk 1 ... | chunk n | SlabChunk x n | a bit per chunk: has room |
///
/// A chunk whose memory was returned continues with a generation that it has not used yet. So a stale `Handle` is
/// always detected, until a place has been reused 16,777,215 times.
///
/// `allocate`, `free` and `find` take constant time. Not thread-safe. A slab may be moved to another thread.
@frozen
public struct Slab<Record: SlabRecord>: ~Copyable {
    @usableFromInline let base: UnsafeMutableRawPointer
    @usableFromInline let chunks: UnsafeMutablePointer<SlabChunk>
    /// Bit c is set if chunk c has room.
    @usableFromInline let roomWords: UnsafeMutablePointer<UInt64>
    @usableFromInline let chunkCount: Int
    /// `recordCountMax` + 1. Index 0 means "none". Its place stays zero, so that no record is found there.
    @usableFromInline let placeCount: Int
    /// The lowest chunk with room. `chunkCount`: the slab is full.
    @usableFromInline var roomiest: Int
    /// Only chunks below this one may have been used.
    @usableFromInline var touchedChunkCount: Int
    /// The number of chunks that have memory and no live records.
    @usableFromInline var emptyChunkCount: Int
    @usableFromInline var carvedPlaceCount: Int
    @usableFromInline let mappedByteCount: Int

    @usableFromInline var storedLiveCount: Int

    /// Reserves the address space for `recordCountMax` records. It takes no memory yet.
    ///
    /// - Throws: `SlabError` if the count does not fit an index or the kernel refuses the address space.
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

    /// The number of places of a chunk is a power of two, so that a shift of an index gives its chunk. The places fill
    /// whole pages, about 64 KiB.
    @inlinable static var placesPerChunkShift: Int {
        let stride = MemoryLayout<Record>.stride
        let wholePages = max(0, 12 - stride.trailingZeroBitCount)
        let wanted = Int.bitWidth - 1 - max(1, 65536 / stride).leadingZeroBitCount
        return max(wholePages, wanted)
    }
    @inlinable static var placesPerChunk: Int { 1 << placesPerChunkShift }
    @inlinable static var chunkByteCount: Int { MemoryLayout<Record>.stride << placesPerChunkShift }

    /// The number of places of a chunk. The last chunk may have fewer.
    @inlinable
    func placeCount(ofChunk chunk: Int) -> Int {
        min(Self.placesPerChunk, placeCount - chunk << Self.placesPerChunkShift)
    }

    @inlinable @inline(__always)
    func place(_ index: UInt32) -> UnsafeMutableRawPointer {
        base + Int(index) &* MemoryLayout<Record>.stride
    }

    // MARK: Sizes

    /// The most records that the slab can hold.
    @inlinable public var recordCountMax: Int { placeCount - 1 }

    /// The number of live records.
    @inlinable public var liveCount: Int { storedLiveCount }

    /// The approximate memory of the records, in bytes: all places that were used since their memory came from the
    /// kernel.
    public var residentByteCountEstimate: Int { carvedPlaceCount * MemoryLayout<Record>.stride }

    // MARK: Records

    /// Allocates a record of zeros, except for its generation. `.none`: the slab is full.
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

    /// Allocates an unused place of the chunk `roomiest`. Its memory is already zero.
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

    /// Called when the free list of the chunk `roomiest` is empty. If the chunk has no unused places either, `roomiest`
    /// becomes the next chunk with room.
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

    /// Frees a record. All slots that name it are stale from now on.
    @inlinable
    mutating func free(_ index: UInt32) {
        invariant(Int(index) < placeCount, "the record that is freed is in the slab")
        let place = place(index)
        let generation = place.load(as: UInt32.self)
        invariant(Generation.isLive(generation), "the record that is freed is live")
        #if DEBUG
            // Makes a use after the free visible.
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

    /// The address of a live record, valid until the record is freed. Only debug builds check that it is live.
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

    /// The address of the record of `slot`. nil: the slot is none, stale or invalid.
    @inlinable @inline(__always)
    func find(_ slot: Slot) -> UnsafeMutablePointer<Record>? {
        isLive(slot) ? place(slot.index).assumingMemoryBound(to: Record.self) : nil
    }

    /// Whether the record of `slot` was not freed since the slot was made.
    @inlinable @inline(__always)
    func isLive(_ slot: Slot) -> Bool {
        Int(slot.index) < placeCount && Generation.isLive(slot.generation)
            && place(slot.index).load(as: UInt32.self) == slot.generation
    }

    /// The slot of a live record.
    @inlinable @inline(__always)
    func slot(_ index: UInt32) -> Slot {
        Slot(index: index, generation: pointer(index).pointee.generation)
    }

    /// The first live record after `index` (0: the first record of the slab). 0: there are no more. Complexity: linear
    /// in the places between.
    ///
    /// Records may be allocated and freed during a walk. The walk does not visit a record that is allocated before its
    /// position.
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

// Only the slab uses the memory of its pointers, so the slab may move to another thread.
extension Slab: @unchecked Sendable where Record: Sendable {}
