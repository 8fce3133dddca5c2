import Glibc

/// A driver's records of its connections, indexed by the core's slot index.
///
/// The table reserves address space for `countMax` records at once. The kernel adds memory when a record is first used.
/// So a record never moves, an unused record takes no memory, and a fresh record is all zeros. Complexity: always O(1).
struct ConnectionTable<Record: BitwiseCopyable>: ~Copyable {
    let countMax: Int
    let base: UnsafeMutablePointer<Record>
    private let byteCount: Int

    init(countMax: Int) throws(DriverError) {
        self.countMax = countMax
        byteCount = countMax * MemoryLayout<Record>.stride
        let memory = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let memory, memory != MAP_FAILED else {
            throw DriverError(
                .noMemory, errorNumber: errno,
                "no address space for \(byteCount >> 20) MiB of connection records: raise `ulimit -v`")
        }
        base = memory.bindMemory(to: Record.self, capacity: countMax)
    }

    deinit { munmap(base, byteCount) }
}

/// The core's slot indices are below this. It is twice the largest file table of a ring (2^20), so that slots may be
/// sparse. A worker reserves 32 MiB of address space, not of memory, for its table.
let connectionIndexMax = 1 << 21
