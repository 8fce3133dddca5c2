public import Slabs

/// What a core asks of files: append, read, sync, and the names in a directory.
///
/// **Handles.** The core chooses a slot for each file and directory, as it does for connections, below
/// `Submission.fileIndexMax`. The handle may be used from `.fileOpened` with `value` 0 to the submission of
/// `.closeFile`; to use it before or after is an error of the programmer and stops the process.
///
/// **Memory.** Names and paths (ending in a zero byte), `iovec` arrays, the bytes that they point to and read buffers
/// belong to the core and stay valid and unchanged until the answer, also beyond the `poll`. When the driver has
/// been shut down it uses none of them any more.
///
/// **Order.** Operations of different handles are not ordered. Of one handle:
///
/// 1. A *change* is an append or an allocation of a file, a create or a delete in a directory. Changes are not
///    ordered among each other: ranges of appends that are under way together do not overlap.
/// 2. A sync begins when every change submitted before it, in this poll or an earlier one, is answered. Its own
///    answer comes after theirs. Changes submitted after it begin no earlier than the sync, and it does not speak for
///    them.
/// 3. A read is not ordered with anything. It sees the bytes of appends that were answered before it was submitted.
/// 4. A close begins when everything else of the handle is answered. Directories wait for opens in them too.
///
/// To have a new file survive a crash: `.createFile`, `.syncFile` of the directory, and what is appended needs a
/// `.syncFile` of the file.
///
/// **Errors.** An append is whole or an error: the driver goes on after a short write. After an error any part of the
/// bytes may have been written; the same append may be submitted again. A sync is carried out although an append
/// before it failed: it speaks for those that were answered with success. A sync that failed is final for its handle:
/// the kernel may have dropped bytes that it failed to write and report success the next time (fsync(2)), so all
/// later syncs and durable appends get the same errno without being tried. EINTR and EAGAIN are retried by the
/// driver. Which errno may go away by itself is written in `ErrnoDecision` of the drivers.
extension Submission {
    /// Slot indices of files end below this.
    public static let fileIndexMax = 1 << 16
    /// `iovec`s of an append at most (IOV_MAX).
    public static let fileVectorCountMax = 1024

    /// - Parameter path: absolute, or relative to the working directory.
    @inlinable
    public static func openDirectory(_ path: UnsafePointer<CChar>, as directory: Slot) -> Submission {
        Submission(.openDirectory, connection: directory, pointer: UnsafeRawPointer(path))
    }

    @inlinable
    public static func createFile(
        _ name: UnsafePointer<CChar>, in directory: Slot, as file: Slot
    ) -> Submission {
        Submission(
            .createFile, connection: file, pointer: UnsafeRawPointer(name), byteCount: packed(directory: directory))
    }

    @inlinable
    public static func openFile(
        _ name: UnsafePointer<CChar>, in directory: Slot, as file: Slot, isReadOnly: Bool = false
    ) -> Submission {
        Submission(
            .openFile, connection: file, value: isReadOnly ? 1 : 0, pointer: UnsafeRawPointer(name),
            byteCount: packed(directory: directory))
    }

    /// - Parameters:
    ///   - vectors: `vectorCount` values of `iovec`.
    ///   - byteCount: the sum of their lengths, 1 ... 2^31 - 1.
    ///   - isDurable: the answer waits for stable storage.
    @inlinable
    public static func append(
        _ vectors: UnsafeRawPointer, vectorCount: Int, byteCount: Int, to file: Slot, at offset: Int,
        isDurable: Bool = false
    ) -> Submission {
        Submission(
            isDurable ? .appendFileDurably : .appendFile, connection: file, value: Int32(byteCount),
            peer: UInt16(vectorCount), pointer: vectors, byteCount: offset)
    }

    /// - Parameter byteCount: 1 ... 2^31 - 1.
    @inlinable
    public static func read(
        _ byteCount: Int, of file: Slot, at offset: Int, into buffer: UnsafeMutableRawPointer
    ) -> Submission {
        Submission(
            .readFile, connection: file, value: Int32(byteCount), pointer: UnsafeRawPointer(buffer), byteCount: offset)
    }

    /// - Parameter byteCount: 1 ... 2^31 - 1.
    @inlinable
    public static func allocate(_ byteCount: Int, of file: Slot, at offset: Int) -> Submission {
        Submission(.allocateFile, connection: file, value: Int32(byteCount), byteCount: offset)
    }

    /// - Parameter token: comes back in the answer, for example the log's position that the sync makes durable.
    @inlinable
    public static func sync(_ file: Slot, token: Int = 0) -> Submission {
        Submission(.syncFile, connection: file, byteCount: token)
    }

    @inlinable
    public static func delete(_ name: UnsafePointer<CChar>, in directory: Slot) -> Submission {
        Submission(.deleteFile, connection: directory, pointer: UnsafeRawPointer(name))
    }

    @inlinable
    public static func closeFile(_ file: Slot) -> Submission { Submission(.closeFile, connection: file) }

    /// Of `.createFile` and `.openFile`: the directory.
    @inlinable
    public var directory: Slot {
        Slot(index: UInt32(truncatingIfNeeded: byteCount), generation: UInt32(truncatingIfNeeded: byteCount >> 32))
    }

    @usableFromInline
    static func packed(directory: Slot) -> Int { Int(directory.generation) << 32 | Int(directory.index) }
}

extension Completion {
    /// Of a file's answer: the offset or token of its submission.
    @inlinable public var offset: Int { Int(truncatingIfNeeded: address) }
}
