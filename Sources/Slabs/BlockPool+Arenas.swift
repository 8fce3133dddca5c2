extension BlockPool {
    /// The number of blocks in an arena of `sizeClass`. The rest of the arena is not used.
    private static func blockCount(_ sizeClass: Int) -> Int {
        arenaByteCount / SizeClass.byteCount(sizeClass)
    }

    // MARK: Carving

    @usableFromInline @inline(never)
    mutating func allocateFromNewArena(_ sizeClass: Int) -> BlockIndex {
        let arenaIndex = takeArena()
        guard arenaIndex != 0 else { return 0 }
        arenas[arenaIndex].pointee.sizeClass = UInt32(sizeClass)
        roomyArenas[sizeClass] = arenaIndex
        return carve(arenaIndex)
    }

    /// Returns a spare arena or a new one, in no list and without blocks. 0: there is no more memory.
    private mutating func takeArena() -> UInt32 {
        storedReserveChangeCount &+= 1
        let spare = spareArena
        if spare != 0 {
            spareArena = arenas[spare].pointee.next
            spareArenaCount -= 1
            arenas[spare].pointee.next = 0
            return spare
        }
        let slot = arenas.allocate()
        guard !slot.isNone else { return 0 }
        guard let base = Pages.map(byteCount: Self.arenaByteCount) else {
            arenas.free(slot.index)
            return 0
        }
        arenas[slot.index].pointee.base = base
        return slot.index
    }

    /// Allocates a block that was never used, from an arena whose free list is empty.
    @usableFromInline @inline(never)
    mutating func carve(_ arenaIndex: UInt32) -> BlockIndex {
        let arena = arenas[arenaIndex]
        let sizeClass = Int(arena.pointee.sizeClass)
        let capacity = SizeClass.byteCount(sizeClass)
        let slot = records.allocate()
        guard !slot.isNone else { return 0 }
        let record = records[slot.index]
        record.pointee.base = arena.pointee.base + Int(arena.pointee.carvedCount) * capacity
        record.pointee.origin = arenaIndex << 8 | UInt32(sizeClass)
        record.pointee.referenceCount = 1
        arena.pointee.carvedCount += 1
        arena.pointee.liveCount += 1
        storedByteCountInUse += capacity
        closeIfFull(arenaIndex)
        return slot.index
    }

    // MARK: The lists of arenas with room

    /// Removes an arena with an empty free list from the list of its class if it has no unused blocks either.
    @usableFromInline
    mutating func closeIfFull(_ arenaIndex: UInt32) {
        let arena = arenas[arenaIndex]
        guard arena.pointee.carvedCount == Self.blockCount(Int(arena.pointee.sizeClass)) else { return }
        unlink(arenaIndex)
        arena.pointee.isFull = 1
    }

    /// Returns an arena that was full to the list of its class.
    ///
    /// It goes to the second position, so that the first arena serves the next allocations as before. If the first
    /// arena has no live blocks, it becomes a spare. So an arena without live blocks is in a list only if it is the
    /// only one there.
    @usableFromInline @inline(never)
    mutating func reopen(_ arenaIndex: UInt32) {
        let arena = arenas[arenaIndex]
        let sizeClass = Int(arena.pointee.sizeClass)
        arena.pointee.isFull = 0
        let head = roomyArenas[sizeClass]
        guard head != 0 else {
            roomyArenas[sizeClass] = arenaIndex
            return
        }
        let second = arenas[head].pointee.next
        arena.pointee.previous = head
        arena.pointee.next = second
        arenas[head].pointee.next = arenaIndex
        if second != 0 { arenas[second].pointee.previous = arenaIndex }
        if arenas[head].pointee.liveCount == 0 { retire(head) }
    }

    private mutating func unlink(_ arenaIndex: UInt32) {
        let arena = arenas[arenaIndex]
        let next = arena.pointee.next
        let previous = arena.pointee.previous
        if previous != 0 {
            arenas[previous].pointee.next = next
        } else {
            roomyArenas[Int(arena.pointee.sizeClass)] = next
        }
        if next != 0 { arenas[next].pointee.previous = previous }
        arena.pointee.next = 0
        arena.pointee.previous = 0
    }

    // MARK: Giving back

    /// Removes an arena without live blocks from its class. It becomes a spare for any class, until `unmapSome` unmaps
    /// it.
    @usableFromInline @inline(never)
    mutating func retire(_ arenaIndex: UInt32) {
        storedReserveChangeCount &+= 1
        unlink(arenaIndex)
        let arena = arenas[arenaIndex]
        invariant(arena.pointee.liveCount == 0, "an arena that is retired has no live block")
        var block = arena.pointee.firstFree
        while block != 0 {
            let next = records[block].pointee.used
            records.free(block)
            block = next
        }
        arena.pointee.firstFree = 0
        arena.pointee.carvedCount = 0
        arena.pointee.next = spareArena
        spareArena = arenaIndex
        spareArenaCount += 1
    }

    /// The number of spare arenas to keep: 1, plus a quarter of those in use. With them a changing load does not map
    /// and unmap arenas at each change.
    @usableFromInline var keptSpareArenaCount: Int { 1 + (arenas.liveCount - spareArenaCount) / 4 }

    /// The number of arenas that are unmapped at a time: 1 MiB.
    private static var someArenaCount: Int { (1 << 20) / arenaByteCount }

    @usableFromInline @inline(never)
    mutating func unmapSomeArenas() {
        unmapSpareArenas(keeping: keptSpareArenaCount, arenaCountMax: Self.someArenaCount)
    }

    private mutating func unmapSpareArenas(keeping count: Int, arenaCountMax: Int = .max) {
        var left = arenaCountMax
        while spareArenaCount > count, left > 0 {
            left -= 1
            let arenaIndex = spareArena
            spareArena = arenas[arenaIndex].pointee.next
            spareArenaCount -= 1
            Pages.unmap(arenas[arenaIndex].pointee.base, byteCount: Self.arenaByteCount)
            arenas.free(arenaIndex)
        }
    }

    /// Returns memory without live blocks to the kernel. For quiet periods after a burst.
    ///
    /// - Parameter byteCountMax: about how much to return. Unmapping some hundred MiB takes tens of milliseconds.
    /// - Returns: true if no more memory can be returned.
    @discardableResult
    public mutating func trim(byteCountMax: Int = .max) -> Bool {
        for sizeClass in 0..<SizeClass.arenaClassCount {
            let head = roomyArenas[sizeClass]
            if head != 0 && arenas[head].pointee.liveCount == 0 { retire(head) }
        }
        unmapSpareArenas(keeping: 0, arenaCountMax: max(1, byteCountMax / Self.arenaByteCount))
        largeCache.remove(downTo: 0, byteCountMax: byteCountMax)
        guard spareArenaCount == 0, largeCache.count == 0 else { return false }
        records.trim()
        arenas.trim()
        return true
    }
}
