internal import CPages
import Glibc

/// Memory taken from, and given back to, the kernel in whole pages. Everything in this module that is not `malloc`ed
/// comes through here.
@usableFromInline
enum Pages {
    /// Pages of zeros, none of them touched, or nil with `errno` set. See mmap(2).
    ///
    /// `MAP_NORESERVE`: a table is reserved for its largest size and filled by demand, so the reservation must not
    /// count against the commit limit.
    static func map(byteCount: Int) -> UnsafeMutableRawPointer? {
        let address = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        return address == MAP_FAILED ? nil : address
    }

    /// Makes a mapping larger. Its pages move where there is no room behind it; nothing is copied. Nil: it is as it was.
    /// See mremap(2).
    static func remap(
        _ address: UnsafeMutableRawPointer, byteCount: Int, to newByteCount: Int
    ) -> UnsafeMutableRawPointer? {
        pages_remap(address, byteCount, newByteCount)
    }

    @usableFromInline
    static func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int) {
        let result = munmap(address, byteCount)
        invariant(result == 0, "what is unmapped was mapped")
    }

    /// Gives the memory of whole pages back and keeps their addresses: they read as zeros afterwards.
    static func discard(_ address: UnsafeMutableRawPointer, byteCount: Int) {
        // A kernel with pages larger than 4 KiB refuses a range that is not made of whole pages (EINVAL). The caller
        // relies on zeros, so they are written; the memory stays in that case.
        if madvise(address, byteCount, MADV_DONTNEED) != 0 { memset(address, 0, byteCount) }
    }

    /// Asks for small pages. A huge page would make 2 MiB resident at the first touch, and the kernel's collector of
    /// small pages would bring discarded memory back. A kernel without huge pages refuses, which is as good.
    static func preferSmall(_ address: UnsafeMutableRawPointer, byteCount: Int) {
        _ = madvise(address, byteCount, MADV_NOHUGEPAGE)
    }
}

/// Why a table could not be created.
public enum SlabError: Error, Equatable {
    /// The kernel refused the address space. `errno` as of mmap(2).
    case addressSpaceRefused(byteCount: Int, errno: Int32)
    /// The size asked for is negative or cannot be indexed with 32 bits.
    case sizeOutOfRange(Int)
}
