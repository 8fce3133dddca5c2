import Testing

@testable import Slabs

@Suite struct BlockPoolTests {
    @Test func `size classes rise and the smallest that fits is chosen`() {
        let sizes = (0..<SizeClass.count).map(SizeClass.byteCount)
        #expect(sizes.prefix(8) == [64, 128, 256, 384, 512, 768, 1024, 1536])
        #expect(sizes.last == 128 << 20)
        #expect(sizes[SizeClass.arenaClassCount - 1] == 64 << 10)
        #expect(zip(sizes, sizes.dropFirst()).allSatisfy { $0 < $1 })
        #expect(SizeClass.holding(0) == 0 && SizeClass.holding(1) == 0)
        for (sizeClass, size) in sizes.enumerated() {
            #expect(SizeClass.holding(size) == sizeClass)
            if size < SizeClass.byteCountMax { #expect(SizeClass.holding(size + 1) == sizeClass + 1) }
        }
    }

    @Test func `a block lives as long as it has references`() throws {
        var pool = try BlockPool(byteCountMax: 1 << 20)
        let block = pool.allocate(byteCount: 300)
        #expect(block != 0)
        let fresh = [pool.capacity(block), pool.referenceCount(block), pool.used(block), pool.byteCountInUse]
        #expect(fresh == [384, 1, 0, 384])
        #expect(UInt(bitPattern: pool.base(block)) % 16 == 0)
        pool.setUsed(block, 299)
        pool.retain(block)
        pool.retain(block, count: 10)
        pool.retain(block, count: 0)
        let shared = [pool.referenceCount(block), pool.used(block)]
        #expect(shared == [12, 299])
        for _ in 0..<11 { pool.release(block) }
        let last = [pool.referenceCount(block), pool.byteCountInUse]
        #expect(last == [1, 384])
        pool.release(block)
        let byteCount = pool.byteCountInUse
        #expect(byteCount == 0)
    }

    @Test func `the block freed last is reused first`() throws {
        var pool = try BlockPool(byteCountMax: 1 << 20)
        let blocks = (0..<5).map { _ in pool.allocate(byteCount: 64) }
        pool.release(blocks[3])
        pool.release(blocks[1])
        let reused = [pool.allocate(byteCount: 1), pool.allocate(byteCount: 64)]
        #expect(reused == [blocks[1], blocks[3]])
    }

    @Test func `the pool refuses what goes over its limit or 128 MiB`() throws {
        var pool = try BlockPool(byteCountMax: 1000)
        let blocks = (0..<3).map { _ in pool.allocate(byteCount: 200) }
        #expect(blocks.allSatisfy { $0 != 0 })
        let refused = [pool.allocate(byteCount: 233), pool.allocate(byteCount: 1 << 20)]
        #expect(refused == [0, 0], "232 bytes are left")
        let small = pool.allocate(byteCount: 128)
        #expect(small != 0)
        pool.release(blocks[0])
        let again = pool.allocate(byteCount: 256)
        #expect(again != 0)

        var large = try BlockPool(byteCountMax: 1 << 30)
        let outOfRange = [large.allocate(byteCount: 128 << 20 + 1), large.allocate(byteCount: -1)]
        #expect(outOfRange == [0, 0])
        let largest = large.allocate(byteCount: 128 << 20)
        #expect(largest != 0)
        large.base(largest).storeBytes(of: 7, toByteOffset: 128 << 20 - 1, as: UInt8.self)
        large.release(largest)
    }

    @Test func `a large block grows with its bytes, and a small one does not`() throws {
        var pool = try BlockPool(byteCountMax: 64 << 20)
        let block = pool.allocate(byteCount: 1 << 20)
        pool.base(block).storeBytes(of: 7, toByteOffset: 1 << 20 - 1, as: UInt8.self)
        let grew = pool.extend(block, byteCount: 5 << 20)
        #expect(grew)
        let (capacity, used) = (pool.capacity(block), pool.byteCountInUse)
        #expect(capacity >= 5 << 20 && used == capacity)
        let byte = pool.base(block).load(fromByteOffset: 1 << 20 - 1, as: UInt8.self)
        #expect(byte == 7)
        pool.base(block).storeBytes(of: 8, toByteOffset: capacity - 1, as: UInt8.self)
        let isTooLarge = pool.extend(block, byteCount: 65 << 20)
        #expect(!isTooLarge)
        pool.release(block)
        let small = pool.allocate(byteCount: 1000)
        let smallGrew = pool.extend(small, byteCount: 100_000)
        #expect(!smallGrew)
        pool.release(small)
    }

    @Test func `large blocks freed a moment ago are reused`() throws {
        var pool = try BlockPool(byteCountMax: 64 << 20)
        let blocks = (0..<20).map { _ in pool.allocate(byteCount: 1 << 20) }
        let lastBase = pool.base(blocks[19])
        for block in blocks { pool.release(block) }
        // What is not kept goes bit by bit.
        for _ in 0..<10 { pool.unmapSome() }
        let cached = [pool.largeCache.count, pool.largeCache.byteCount]
        #expect(cached == [16, 16 << 20])
        let block = pool.allocate(byteCount: 1 << 20)
        let base = pool.base(block)
        #expect(base == lastBase)
        pool.trim()
        let left = pool.largeCache.count
        #expect(left == 0)
    }

    @Test func `empty arenas are given back but for a spare and one of each class`() throws {
        var pool = try BlockPool(byteCountMax: 64 << 20)
        var blocks: [BlockIndex] = []
        for _ in 0..<200 {
            for byteCount in [4096, 16384, 65536] { blocks.append(pool.allocate(byteCount: byteCount)) }
        }
        let arenaCount = pool.arenas.liveCount
        #expect(arenaCount > 30)
        for block in blocks { pool.release(block) }
        let waitingCount = pool.arenas.liveCount
        #expect(waitingCount == arenaCount, "they wait")
        pool.unmapSome()
        let nextCount = pool.arenas.liveCount
        #expect(nextCount == arenaCount - 2, "they go bit by bit")
        var turnCount = 1
        while pool.hasToUnmap {
            pool.unmapSome()
            turnCount += 1
        }
        #expect(turnCount < arenaCount)
        let keptCount = pool.arenas.liveCount
        #expect(keptCount <= 3 + 2)
        pool.trim()
        let left = [pool.arenas.liveCount, pool.records.liveCount, pool.records.residentByteCountEstimate]
        #expect(left == [0, 0, 0])
    }

    @Test func `an empty arena makes way for one of its class that is in use`() throws {
        var pool = try BlockPool(byteCountMax: 64 << 20)
        let blocks = (0..<16).map { _ in pool.allocate(byteCount: 65536) }
        let full = [pool.arenas.liveCount, Int(pool.roomyArenas[18])]
        #expect(full == [2, 0])
        for block in blocks[..<8] { pool.release(block) }
        let withLoneEmptyHead = pool.spareArenaCount
        #expect(withLoneEmptyHead == 0)
        pool.release(blocks[8])
        let after = [pool.spareArenaCount, Int(pool.roomyArenas[18])]
        #expect(after == [1, Int(pool.records[blocks[9]].pointee.arena)])
        let reused = pool.allocate(byteCount: 65536)
        #expect(reused == blocks[8])
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `random blocks keep their bytes and never overlap`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let byteCountMax = 8 << 20
        var pool = try BlockPool(byteCountMax: byteCountMax)
        var live: [(block: BlockIndex, references: Int, mark: UInt64)] = []
        var inUse = 0
        for step in 0..<20_000 {
            let allocationShare = step / 4_000 % 2 == 0 ? 6 : 3
            switch generator.below(10) {
            case 0..<allocationShare:
                let byteCount = 1 + generator.below(1 << (4 + generator.below(15)))
                let block = pool.allocate(byteCount: byteCount)
                let size = SizeClass.byteCount(SizeClass.holding(byteCount))
                try #require((block == 0) == (inUse + size > byteCountMax))
                if block == 0 { continue }
                try #require(pool.capacity(block) == size && pool.used(block) == 0)
                inUse += size
                let mark = generator.next()
                // The ends of a block are where it would meet its neighbours.
                pool.base(block).storeBytes(of: mark, as: UInt64.self)
                pool.base(block).storeBytes(of: mark, toByteOffset: size - 8, as: UInt64.self)
                pool.setUsed(block, byteCount)
                live.append((block, 1, mark))
            case 9 where !live.isEmpty:
                let position = generator.below(live.count)
                pool.retain(live[position].block)
                live[position].references += 1
            default:
                guard !live.isEmpty else { continue }
                let position = generator.below(live.count)
                let (block, references, mark) = live[position]
                let size = pool.capacity(block)
                try #require(pool.referenceCount(block) == references)
                try #require(pool.base(block).load(as: UInt64.self) == mark)
                try #require(pool.base(block).load(fromByteOffset: size - 8, as: UInt64.self) == mark)
                pool.release(block)
                live[position].references -= 1
                if references == 1 {
                    inUse -= size
                    live.swapAt(position, live.count - 1)
                    live.removeLast()
                }
            }
            if step % 5_000 == 4_999 { pool.trim() }
            try #require(pool.byteCountInUse == inUse)
        }
        for (block, references, _) in live { for _ in 0..<references { pool.release(block) } }
        pool.trim()
        let left = [pool.byteCountInUse, pool.arenas.liveCount, pool.records.liveCount]
        #expect(left == [0, 0, 0])
    }

    @Test func `releasing a block twice stops the process`() async {
        await #expect(processExitsWith: .failure) {
            var pool = try BlockPool(byteCountMax: 1 << 20)
            let block = pool.allocate(byteCount: 64)
            pool.release(block)
            pool.release(block)
        }
    }
}
