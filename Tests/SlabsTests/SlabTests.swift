import Testing

@testable import Slabs

struct SmallRecord: SlabRecord {
    var generation: UInt32
    var link: UInt32
    var value: UInt64
}

/// A size that fills whole pages only with many records.
struct OddRecord: SlabRecord {
    var generation: UInt32
    var tag: UInt32
    var words: (UInt64, UInt64, UInt64, UInt64)
}

@Suite struct SlabTests {
    @Test func `indices count from 1 and records come filled with zeros`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 10)
        for expected in 1...3 as ClosedRange<UInt32> {
            let slot = slab.allocate()
            #expect(slot == Slot(index: expected, generation: 1))
            let record = slab[slot.index]
            #expect(record.pointee.link == 0 && record.pointee.value == 0)
            record.pointee.link = .max
            record.pointee.value = .max
        }
        slab.free(2)
        let again = slab.allocate()
        #expect(again == Slot(index: 2, generation: 2))
        let record = slab.pointer(2).pointee
        #expect(record.generation == 2 && record.link == 0 && record.value == 0)
        let handle = slab.slot(2)
        #expect(handle == again)
    }

    @Test func `a full slab allocates none until a record is freed`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 5000)
        for index in 1...5000 as ClosedRange<UInt32> {
            let slot = slab.allocate()
            try #require(slot.index == index)
        }
        let refused = slab.allocate()
        #expect(refused.isNone)
        slab.free(4999)
        slab.free(17)
        let indices = [slab.allocate().index, slab.allocate().index, slab.allocate().index]
        #expect(indices == [17, 4999, 0], "the lower chunk has precedence")
        let liveCount = slab.liveCount
        #expect(liveCount == 5000)
    }

    @Test func `a slab for no records is full and one of a negative count is refused`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 0)
        let slot = slab.allocate()
        #expect(slot.isNone)
        #expect(throws: SlabError.sizeOutOfRange(-1)) { _ = try Slab<SmallRecord>(recordCountMax: -1) }
        #expect(throws: SlabError.sizeOutOfRange(1 << 32)) { _ = try Slab<SmallRecord>(recordCountMax: 1 << 32) }
    }

    @Test func `a slot is found in its life only`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 100)
        let first = slab.allocate()
        let found = slab.find(first)
        #expect(found == slab.pointer(first.index))
        slab.free(first.index)
        let stale = slab.find(first)
        #expect(stale == nil)
        let second = slab.allocate()
        #expect(second.index == first.index)
        let lives = [slab.isLive(first), slab.isLive(second)]
        #expect(lives == [false, true])
    }

    @Test func `forged slots are not found`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 100)
        let slot = slab.allocate()
        slab.free(slot.index)
        let deadWord = slab.place(slot.index).load(as: UInt32.self)
        let forgeries = [
            Slot.none,
            Slot(index: 0, generation: 1),
            Slot(index: slot.index, generation: 0),
            // The generation that the place will have next, with and without the mark of the dead.
            Slot(index: slot.index, generation: deadWord & Generation.max),
            Slot(index: slot.index, generation: deadWord),
            Slot(index: 50, generation: 0),
            Slot(index: 50, generation: 1),
            Slot(index: 101, generation: 1),
            Slot(index: .max, generation: 1),
        ]
        for forgery in forgeries {
            let isFound = slab.find(forgery) != nil
            #expect(!isFound, "\(forgery)")
        }
    }

    @Test func `generations wrap from the greatest to 1`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 100)
        slab.chunks[0].spentGenerations = Generation.max - 2
        var generations: [UInt32] = []
        for _ in 0..<4 {
            let slot = slab.allocate()
            generations.append(slot.generation)
            slab.free(slot.index)
        }
        #expect(generations == [0xFF_FFFE, 0xFF_FFFF, 1, 2])
    }

    @Test(arguments: [0, 5, Generation.max - 3])
    func `slots from before a chunk was given back stay stale`(spentGenerations: UInt32) throws {
        var generator = SeededGenerator(seed: UInt64(spentGenerations))
        var slab = try Slab<OddRecord>(recordCountMax: 3 * Slab<OddRecord>.placesPerChunk)
        for chunk in 0..<3 { slab.chunks[chunk].spentGenerations = spentGenerations }
        var stale: Set<Slot> = []
        var live: [Slot] = []
        // Places are reused unequally often.
        for _ in 0..<20_000 {
            if live.isEmpty || generator.below(5) < 3 {
                let slot = slab.allocate()
                if slot.isNone { break }
                try #require(stale.insert(slot).inserted, "a slot is handed out once")
                live.append(slot)
            } else {
                live.swapAt(generator.below(live.count), live.count - 1)
                slab.free(live.removeLast().index)
            }
        }
        for slot in live { slab.free(slot.index) }
        slab.trim()
        let residentByteCount = slab.residentByteCountEstimate
        #expect(residentByteCount == 0)
        let count = live.count
        for _ in 0..<count {
            let slot = slab.allocate()
            try #require(!stale.contains(slot), "a fresh slot is told from all before")
        }
        let foundCount = stale.count { slot in slab.find(slot) != nil }
        #expect(foundCount == 0)
    }

    @Test func `high chunks fall empty after a burst and are given back`() throws {
        let chunkPlaces = Slab<SmallRecord>.placesPerChunk
        var slab = try Slab<SmallRecord>(recordCountMax: 10 * chunkPlaces)
        var slots: [Slot] = []
        for _ in 0..<(8 * chunkPlaces) { slots.append(slab.allocate()) }
        let burstByteCount = slab.residentByteCountEstimate
        // All but every 100th end; then each record is replaced once, as sessions and subscriptions are over time.
        for (position, slot) in slots.enumerated() where position % 100 != 0 { slab.free(slot.index) }
        for (position, slot) in slots.enumerated() where position % 100 == 0 {
            slots[position] = slab.allocate()
            slab.free(slot.index)
        }
        slab.trim()
        let byteCount = slab.residentByteCountEstimate
        #expect(byteCount < burstByteCount / 4)
        let touchedChunkCount = slab.touchedChunkCount
        #expect(touchedChunkCount <= 2)
        let areLive = stride(from: 0, to: slots.count, by: 100).allSatisfy { slab.isLive(slots[$0]) }
        #expect(areLive)
    }

    @Test func `a walk visits every live record`() throws {
        var slab = try Slab<SmallRecord>(recordCountMax: 20_000)
        for _ in 0..<15_000 { _ = slab.allocate() }
        var expected = Set(1...15_000 as ClosedRange<UInt32>)
        for index in stride(from: 1, through: 15_000, by: 3) as StrideThrough<UInt32> {
            slab.free(index)
            expected.remove(index)
        }
        for index in 5_000..<10_000 as Range<UInt32> where expected.remove(index) != nil { slab.free(index) }
        var visited: Set<UInt32> = []
        var index = slab.nextLive(after: 0)
        while index != 0 && visited.count <= expected.count {
            visited.insert(index)
            index = slab.nextLive(after: index)
        }
        #expect(visited == expected)
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `random operations agree with a dictionary`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let recordCountMax = 6_000
        var slab = try Slab<OddRecord>(recordCountMax: recordCountMax)
        var model: [Slot: UInt64] = [:]
        var live: [Slot] = []
        var dead: [Slot] = []
        for step in 0..<30_000 {
            // Bursts: the share of allocations changes with time.
            let allocationShare = step / 6_000 % 2 == 0 ? 8 : 2
            if generator.below(10) < allocationShare {
                let slot = slab.allocate()
                try #require(slot.isNone == (live.count == recordCountMax))
                if slot.isNone { continue }
                let words = slab[slot.index].pointee.words
                try #require(words.0 == 0 && words.3 == 0 && model[slot] == nil)
                let value = generator.next()
                slab[slot.index].pointee.words.3 = value
                model[slot] = value
                live.append(slot)
            } else if !live.isEmpty {
                live.swapAt(generator.below(live.count), live.count - 1)
                let slot = live.removeLast()
                try #require(slab.find(slot)?.pointee.words.3 == model[slot])
                slab.free(slot.index)
                dead.append(slot)
            }
            if !dead.isEmpty {
                let isFound = slab.isLive(dead[generator.below(dead.count)])
                try #require(!isFound)
            }
            if step % 1_000 == 0 { slab.trim() }
            try #require(slab.liveCount == live.count)
        }
        for slot in live { try #require(slab.find(slot)?.pointee.words.3 == model[slot]) }
    }

    @Test func `freeing a record twice stops the process`() async {
        await #expect(processExitsWith: .failure) {
            var slab = try Slab<SmallRecord>(recordCountMax: 10)
            let slot = slab.allocate()
            slab.free(slot.index)
            slab.free(slot.index)
        }
    }
}
