import Glibc

/// Memory whose end is the end of a page with an inaccessible page behind it: an octet read too far ends the process.
final class GuardedOctets {
    private static let pageByteCount = 4096
    private let start: UnsafeMutableRawPointer
    fileprivate let capacity: Int
    /// What `scramble` needs to touch: the octets that were placed last.
    private var placedByteCount = 0

    init(capacity: Int) {
        let page = Self.pageByteCount
        self.capacity = (capacity + page - 1) / page * page
        let mapped = mmap(nil, self.capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapped, mapped != MAP_FAILED, mprotect(mapped + self.capacity, page, PROT_NONE) == 0 else {
            fatalError("no memory for a test")
        }
        start = mapped
    }

    deinit { munmap(start, capacity + Self.pageByteCount) }

    fileprivate var end: UnsafeMutableRawPointer { start + capacity }

    /// Copies the octets so that the last stands directly before the guard.
    func place(_ octets: UnsafeRawBufferPointer) -> UnsafeRawPointer {
        precondition(octets.count <= capacity, "more octets than were planned for")
        placedByteCount = max(placedByteCount, octets.count)
        let target = end - octets.count
        if let source = octets.baseAddress { target.copyMemory(from: source, byteCount: octets.count) }
        return UnsafeRawPointer(target)
    }

    /// Makes what was placed unrecognisable, as a buffer that has gone back to its pool is.
    func scramble() {
        memset(end - placedByteCount, 0x3A, placedByteCount)
        placedByteCount = 0
    }
}

extension GuardedOctets {
    /// Room for so many octets directly before the guard: an octet written too far ends the process.
    func room(_ byteCount: Int) -> UnsafeMutableRawPointer {
        precondition(byteCount <= capacity, "more octets than were planned for")
        return end - byteCount
    }
}
