internal import Glibc
internal import Slabs

/// The record of each connection, by the index of its slot: 4 bytes, which a plain connection's are zeros and take no
/// memory where there are no others near it.
struct PlaceTable: ~Copyable {
    private let base: UnsafeMutablePointer<UInt32>
    private let count: Int

    init(countMax: Int) throws(SlabError) {
        let byteCount = countMax * MemoryLayout<UInt32>.stride
        let address = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let address, address != MAP_FAILED else { throw .addressSpaceRefused(byteCount: byteCount, errno: errno) }
        base = address.bindMemory(to: UInt32.self, capacity: countMax)
        count = countMax
    }

    deinit { munmap(base, count * MemoryLayout<UInt32>.stride) }

    subscript(index: UInt32) -> UInt32 {
        @inline(__always) get { Int(index) < count ? base[Int(index)] : 0 }
        nonmutating set {
            invariant(Int(index) < count, "a connection's index is in the table")
            base[Int(index)] = newValue
        }
    }
}
