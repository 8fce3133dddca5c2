internal import CURing
import Glibc

/// Reads and writes past the page cache (O_DIRECT of open(2)).
public enum DirectAccess {
    /// What offsets, lengths and addresses are multiples of: every disk takes that.
    public static let blockByteCount = 4096

    /// O_DIRECT, for open(2): Swift's Glibc does not name it.
    public static let openFlag = file_direct

    /// Whether a new file in a directory can be written so. It is tried, with a file that is removed afterwards: file systems
    /// refuse it when the file is opened, or when it is written.
    public static func arePossible(in directory: Int32) -> Bool {
        let name = "direct.probe"
        let file = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | file_direct, 0o600)
        guard file >= 0 else { return false }
        defer {
            close(file)
            unlinkat(directory, name, 0)
        }
        let block = UnsafeMutableRawPointer.allocate(byteCount: blockByteCount, alignment: blockByteCount)
        defer { block.deallocate() }
        block.initializeMemory(as: UInt8.self, repeating: 0, count: blockByteCount)
        return pwrite(file, block, blockByteCount, 0) == blockByteCount
    }
}
