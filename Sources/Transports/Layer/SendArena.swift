internal import Glibc
internal import Slabs

/// Memory for the vectors and headers of one poll: address space is reserved once, so that pointers into it stay valid.
struct SendArena: ~Copyable {
    static let vectorCountMax = 1 << 21
    static let headerCountMax = 1 << 20
    /// What a burst took beyond this goes back to the kernel.
    private static let keptByteCount = 1 << 20
    static let headerStride = 16

    let vectors: UnsafeMutablePointer<iovec>
    let headers: UnsafeMutableRawPointer
    private(set) var vectorCount = 0
    private(set) var headerCount = 0
    private let byteCount: Int

    init() throws(SlabError) {
        let vectorByteCount = Self.vectorCountMax * MemoryLayout<iovec>.stride
        byteCount = vectorByteCount + Self.headerCountMax * Self.headerStride
        let address = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let address, address != MAP_FAILED else { throw .addressSpaceRefused(byteCount: byteCount, errno: errno) }
        vectors = address.bindMemory(to: iovec.self, capacity: Self.vectorCountMax)
        headers = address + vectorByteCount
    }

    deinit { munmap(vectors, byteCount) }

    /// The poll that used them is over.
    mutating func removeAll() {
        let vectorByteCount = vectorCount * MemoryLayout<iovec>.stride
        if vectorByteCount > Self.keptByteCount { madvise(vectors, vectorByteCount, MADV_DONTNEED) }
        if headerCount * Self.headerStride > Self.keptByteCount {
            madvise(headers, headerCount * Self.headerStride, MADV_DONTNEED)
        }
        vectorCount = 0
        headerCount = 0
    }

    @inline(__always)
    func hasRoom(vectorCount: Int, headerCount: Int) -> Bool {
        self.vectorCount + vectorCount <= Self.vectorCountMax && self.headerCount + headerCount <= Self.headerCountMax
    }

    @inline(__always)
    mutating func append(_ base: UnsafeRawPointer, _ byteCount: Int) {
        vectors[vectorCount] = iovec(iov_base: UnsafeMutableRawPointer(mutating: base), iov_len: byteCount)
        vectorCount += 1
    }

    /// A vector whose bytes are written later.
    @inline(__always)
    mutating func appendHeader() -> (vector: Int, bytes: UnsafeMutableRawPointer) {
        let bytes = headers + headerCount * Self.headerStride
        headerCount += 1
        append(bytes, 0)
        return (vectorCount - 1, bytes)
    }

    /// A vector whose bytes are written later, and room for a note beside them, which is not sent.
    @inline(__always)
    mutating func appendNotedHeader() -> (vector: Int, bytes: UnsafeMutableRawPointer) {
        let header = appendHeader()
        headerCount += 1
        return header
    }

    @inline(__always)
    func isHeader(_ pointer: UnsafeRawPointer) -> Bool {
        pointer >= UnsafeRawPointer(headers) && pointer < headers + headerCount * Self.headerStride
    }
}
