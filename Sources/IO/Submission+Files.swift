public import Slabs

/// The file operations that a core can submit: open, append, read, sync, and create, change and delete names.
///
/// **Handles.** The core chooses a slot for each file and directory, as it does for connections. Its index is below
/// `Submission.fileIndexMax`. The handle may be used from `.fileOpened` with `value` 0 to the submission of
/// `.closeFile`. Using it before or after is a programmer error and stops the process.
///
/// **Memory.** Names and paths (ending in a zero byte), `iovec` arrays, the bytes that they point to and read buffers
/// belong to the core. They stay valid and unchanged until the answer, which may come in a later `poll`. After the
/// driver is shut down, nothing uses them any more.
///
/// **Order.** Operations of different handles are not ordered. Operations of one handle are ordered as follows:
///
/// 1. A *change* is an append or an allocation in a file, or a create, rename or delete in a directory. Changes are not
///    ordered among each other, so the ranges of appends under way must not overlap.
/// 2. A sync begins when every change submitted before it, in this poll or an earlier one, is answered. Its own answer
///    comes after theirs. Changes submitted after the sync begin no earlier than the sync. The sync does not cover
///    them.
/// 3. A read is not ordered with anything. It sees the bytes of appends that were answered before it was submitted.
/// 4. A close begins when all other operations of the handle are answered. The close of a directory also waits for the
///    opening of files in it.
///
/// For a new file to survive a crash, the core submits `.createFile`, then `.syncFile` of the directory. Appended bytes
/// need a `.syncFile` of the file.
///
/// **Errors.** An append is answered when it is complete, or with an error: the driver continues after a short write.
/// After an error any part of the bytes may have been written. The same append may be submitted again. A sync is
/// carried out even if an append before it failed; it covers the appends that were answered with success. A failed sync
/// is final for its handle: the kernel may have dropped the bytes that it failed to write, and may report success the
/// next time (fsync(2)). So all later syncs and durable appends get the same errno without being tried. The driver
/// retries after EINTR and EAGAIN. `ErrnoDecision` of the drivers lists which errors may be temporary.
extension Submission {
    /// Slot indices of files are below this.
    public static let fileIndexMax = 1 << 16
    /// The most `iovec`s of an append (IOV_MAX).
    public static let fileVectorCountMax = 1024

    /// - Parameter path: absolute, or relative to the working directory.
    @inlinable
    public static func openDirectory(_ path: UnsafePointer<CChar>, as directory: Slot) -> Submission {
        Submission(.openDirectory, connection: directory, pointer: UnsafeRawPointer(path))
    }

    /// - Parameter isDirect: its appends go past the page cache (O_DIRECT of open(2)): their offsets, lengths and the
    ///   memory of their vectors are multiples of the block size of the file system.
    @inlinable
    public static func createFile(
        _ name: UnsafePointer<CChar>, in directory: Slot, as file: Slot, isDirect: Bool = false
    ) -> Submission {
        Submission(
            .createFile, connection: file, value: isDirect ? 1 : 0, pointer: UnsafeRawPointer(name),
            byteCount: packed(directory: directory))
    }

    /// - Parameter isDirect: as in `createFile`; not for a file that is open for reading only.
    @inlinable
    public static func openFile(
        _ name: UnsafePointer<CChar>, in directory: Slot, as file: Slot, isReadOnly: Bool = false,
        isDirect: Bool = false
    ) -> Submission {
        Submission(
            .openFile, connection: file, value: isReadOnly ? 1 : isDirect ? 2 : 0, pointer: UnsafeRawPointer(name),
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

    /// - Parameter token: returned in the answer; for example the position up to which the sync makes the log durable.
    @inlinable
    public static func sync(_ file: Slot, token: Int = 0) -> Submission {
        Submission(.syncFile, connection: file, byteCount: token)
    }

    @inlinable
    public static func delete(_ name: UnsafePointer<CChar>, in directory: Slot) -> Submission {
        Submission(.deleteFile, connection: directory, pointer: UnsafeRawPointer(name))
    }

    /// - Parameter newName: no file of the directory has it.
    @inlinable
    public static func rename(
        _ name: UnsafePointer<CChar>, to newName: UnsafePointer<CChar>, in directory: Slot
    ) -> Submission {
        Submission(
            .renameFile, connection: directory, pointer: UnsafeRawPointer(name),
            byteCount: UnsafeRawPointer(newName) - UnsafeRawPointer(name))
    }

    @inlinable
    public static func closeFile(_ file: Slot) -> Submission { Submission(.closeFile, connection: file) }

    /// For `.createFile` and `.openFile`: the directory.
    @inlinable
    public var directory: Slot {
        Slot(index: UInt32(truncatingIfNeeded: byteCount), generation: UInt32(truncatingIfNeeded: byteCount >> 32))
    }

    /// For `.renameFile`: the new name.
    @inlinable
    public var newName: UnsafeRawPointer? { pointer.map { $0 + byteCount } }

    @usableFromInline
    static func packed(directory: Slot) -> Int { Int(directory.generation) << 32 | Int(directory.index) }
}

extension Completion {
    /// For the answer to a file submission: the offset or token of the submission.
    @inlinable public var offset: Int { Int(truncatingIfNeeded: address) }
}
