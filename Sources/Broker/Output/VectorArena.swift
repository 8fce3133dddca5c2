import Glibc
import Slabs

/// The `iovec`s of one poll. Address space is reserved once, so that a pointer into it stays valid.
struct VectorArena: ~Copyable {
    static let perSendMax = 64
    static let capacityMax = 1 << 18
    private let base: UnsafeMutablePointer<iovec>
    private let capacity: Int
    private var count = 0

    init(capacity: Int = Self.capacityMax) throws(SlabError) {
        let byteCount = capacity * MemoryLayout<iovec>.stride
        let address = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let address, address != MAP_FAILED else { throw .addressSpaceRefused(byteCount: byteCount, errno: errno) }
        base = address.bindMemory(to: iovec.self, capacity: capacity)
        self.capacity = capacity
    }

    deinit { munmap(base, capacity * MemoryLayout<iovec>.stride) }

    mutating func removeAll() { count = 0 }

    /// Room for the vectors of one send, or nil when this poll has enough. `commit` keeps what was filled.
    func reserve() -> UnsafeMutablePointer<iovec>? {
        count + Self.perSendMax <= capacity ? base + count : nil
    }

    mutating func commit(_ n: Int) { count += n }
}
