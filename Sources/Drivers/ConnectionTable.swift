import Glibc

/// A driver's records of its connections, indexed by the core's slot index.
///
/// The address space for every index up to `countMax` is reserved at once and touched as used: a record never moves, an
/// unused one costs nothing, and a fresh one is all zeros. Complexity: O(1) without exception.
struct ConnectionTable<Record: BitwiseCopyable>: ~Copyable {
    /// Not bounded by `countMax` of connections: the core's slots may be sparse in a large slab.
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

/// Slots of 1 ... 2^24 can be adopted: 256 MiB of address space (not memory) a worker.
let connectionIndexMax = 1 << 24
