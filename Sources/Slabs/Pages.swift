internal import CPages
import Glibc

/// Takes memory from the kernel and returns it, in whole pages. All memory of this module comes from here or from
/// `malloc`.
@usableFromInline
enum Pages {
    /// Maps pages of zeros. They take no memory until they are used. nil: refused, with `errno` set. See mmap(2).
    ///
    /// `MAP_NORESERVE`: a table reserves address space for its largest size and uses memory on demand. So the
    /// reservation must not count against the commit limit.
    static func map(byteCount: Int) -> UnsafeMutableRawPointer? {
        let address = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        return address == MAP_FAILED ? nil : address
    }

    /// Makes a mapping larger. If there is no room behind it, its pages move to another address; nothing is copied.
    /// nil: refused, and the mapping is unchanged. See mremap(2).
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

    /// Returns the memory of whole pages to the kernel and keeps their addresses. The pages are zeros afterwards.
    static func discard(_ address: UnsafeMutableRawPointer, byteCount: Int) {
        // A kernel with pages larger than 4 KiB refuses a range that does not consist of whole pages (EINVAL). The
        // caller relies on zeros, so they are written. The memory is not returned in that case.
        if madvise(address, byteCount, MADV_DONTNEED) != 0 { memset(address, 0, byteCount) }
    }

    /// Asks for small pages. A huge page would make 2 MiB resident at the first use, and khugepaged would bring
    /// discarded memory back. A kernel without huge pages refuses, which does no harm.
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
