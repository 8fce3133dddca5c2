import Glibc
import Testing

@testable import Slabs

/// Memory of this process that is resident now, in bytes: the second field of /proc/self/statm (see proc(5)).
private func residentByteCount() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, 256, file) != nil else { return 0 }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
}

private struct LargeRecord: SlabRecord {
    var generation: UInt32
    var tag: UInt32
    var words: InlineArray<127, UInt64>
}

/// One after the other: each looks at the memory of the whole process, of which other suites take little.
@Suite(.serialized) struct ResidentMemoryTests {
    @Test func `given-back chunks lower the resident memory of the process`() throws {
        let recordCount = 64 * 1024
        var slab = try Slab<LargeRecord>(recordCountMax: recordCount)
        let before = residentByteCount()
        for index in 0..<recordCount {
            let slot = slab.allocate()
            slab[slot.index].pointee.words[126] = UInt64(index)
        }
        let burst = residentByteCount()
        #expect(burst - before > 48 << 20, "64 MiB of records are resident")
        for index in 1...UInt32(recordCount) { slab.free(index) }
        slab.trim()
        let after = residentByteCount()
        #expect(burst - after > 48 << 20, "and are not any more")
        let slot = slab.allocate()
        let last = slab[slot.index].pointee.words[126]
        #expect(last == 0)
    }

    @Test func `a trimmed pool lowers the resident memory of the process`() throws {
        var pool = try BlockPool(byteCountMax: 256 << 20)
        let before = residentByteCount()
        var blocks: [BlockIndex] = []
        for byteCount in [16384, 1 << 20] {
            for _ in 0..<((32 << 20) / byteCount) {
                let block = pool.allocate(byteCount: byteCount)
                pool.base(block).initializeMemory(as: UInt8.self, repeating: 1, count: byteCount)
                blocks.append(block)
            }
        }
        let burst = residentByteCount()
        #expect(burst - before > 48 << 20)
        for block in blocks { pool.release(block) }
        pool.trim()
        let after = residentByteCount()
        #expect(burst - after > 48 << 20)
    }
}
