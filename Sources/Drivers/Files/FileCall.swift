internal import CURing
import Glibc

/// One system call of a file operation. An operation needs several if the kernel transfers its bytes in parts.
struct FileCall: BitwiseCopyable {
    enum Kind: UInt8 {
        /// openat(2) with `flags`, in the directory `descriptor`.
        case open
        /// `count` `iovec`s at `pointer`; `flags` are those of pwritev2(2).
        case writeVector
        /// `count` bytes at `pointer`; `flags` are those of pwritev2(2).
        case write
        case read
        case allocate
        /// fdatasync(2).
        case syncData
        /// fsync(2).
        case sync
        /// unlinkat(2), in the directory `descriptor`.
        case delete
        /// renameat(2), in the directory `descriptor`, to the name that is `offset` bytes behind `pointer`.
        case rename
        case close
    }

    var kind: Kind
    /// The index of the operation in `OpenFiles`. The result is returned with it.
    var operation: UInt32
    var descriptor: Int32
    var flags: Int32 = 0
    var count: Int32 = 0
    var offset: Int = 0
    var pointer: UnsafeRawPointer?

    /// Makes the call. It may block until the disk is done.
    ///
    /// - Returns: a count, a descriptor, or -errno.
    func make() -> Int32 {
        switch kind {
        case .open: file_open(descriptor, pointer, flags)
        case .writeVector: Int32(file_write_vector(descriptor, pointer, count, Int64(offset), flags))
        case .write:
            withUnsafePointer(to: iovec(iov_base: UnsafeMutableRawPointer(mutating: pointer), iov_len: Int(count))) {
                Int32(file_write_vector(descriptor, $0, 1, Int64(offset), flags))
            }
        case .read: Int32(file_read(descriptor, UnsafeMutableRawPointer(mutating: pointer), Int(count), Int64(offset)))
        case .allocate: file_allocate(descriptor, Int64(offset), Int64(count))
        case .syncData: file_sync_data(descriptor)
        case .sync: file_sync(descriptor)
        case .delete: file_delete(descriptor, pointer)
        case .rename: file_rename(descriptor, pointer, pointer.map { $0 + offset })
        case .close: file_close(descriptor)
        }
    }
}
