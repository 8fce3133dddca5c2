import Glibc
import Testing

@testable import Slabs

/// Bytes of whole pages that are resident; 0 of what is not mapped. See mincore(2).
private func residentByteCount(_ base: UnsafeMutableRawPointer, _ byteCount: Int) -> Int {
    let pageByteCount = sysconf(Int32(_SC_PAGESIZE))
    var pages = [UInt8](repeating: 0, count: byteCount / pageByteCount)
    guard mincore(base, byteCount, &pages) == 0 else {
        #expect(errno == ENOMEM)
        return 0
    }
    return pages.count { $0 & 1 == 1 } * pageByteCount
}

private struct LargeRecord: SlabRecord {
    var generation: UInt32
    var tag: UInt32
    var words: InlineArray<127, UInt64>
}

@Suite struct ResidentMemoryTests {
    @Test func `given-back chunks lower the resident memory of the process`() throws {
        let recordCount = 64 * 1024
        var slab = try Slab<LargeRecord>(recordCountMax: recordCount)
        func resident() -> Int { residentByteCount(slab.base, recordCount * MemoryLayout<LargeRecord>.size) }
        #expect(resident() == 0)
        for index in 0..<recordCount {
            let slot = slab.allocate()
            slab[slot.index].pointee.words[126] = UInt64(index)
        }
        #expect(resident() == 64 << 20, "64 MiB of records are resident")
        for index in 1...UInt32(recordCount) { slab.free(index) }
        slab.trim()
        #expect(resident() == 0, "and are not any more")
        let slot = slab.allocate()
        let last = slab[slot.index].pointee.words[126]
        #expect(last == 0)
    }

    @Test func `a trimmed pool lowers the resident memory of the process`() throws {
        var pool = try BlockPool(byteCountMax: 256 << 20)
        var blocks: [BlockIndex] = []
        var areas: [(base: UnsafeMutableRawPointer, byteCount: Int)] = []
        func resident() -> Int { areas.reduce(0) { $0 + residentByteCount($1.base, $1.byteCount) } }
        for byteCount in [16384, 1 << 20] {
            for _ in 0..<((32 << 20) / byteCount) {
                let block = pool.allocate(byteCount: byteCount)
                pool.base(block).initializeMemory(as: UInt8.self, repeating: 1, count: byteCount)
                blocks.append(block)
                areas.append((pool.base(block), byteCount))
            }
        }
        #expect(resident() == 64 << 20)
        for block in blocks { pool.release(block) }
        pool.trim()
        // Other suites may have mapped theirs to some of the same addresses meanwhile.
        #expect(resident() < 32 << 20)
    }
}
