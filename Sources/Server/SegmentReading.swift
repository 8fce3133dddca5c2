import Drivers
import Glibc
public import Journal

/// Reads whole segments, one after the other, into memory that is used again.
public struct SegmentBuffer: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0

    /// Bytes of one read(2): after each, `progress` is told.
    private static let readByteCount = 4 << 20
    private static let blockByteCount = DirectAccess.blockByteCount

    public init() {}

    deinit { base?.deallocate() }

    /// Reads the file of a segment.
    ///
    /// - Parameters:
    ///   - syncs: what the kernel has of the file is brought to stable storage and forgotten first. After the crash of a
    ///     broker the kernel may have bytes that the disk has not; after a failed sync it may even take them for written
    ///     (fsync(2)). What is read then is what the disk has.
    ///   - progress: is told how many bytes more were read; false: stop.
    /// - Returns: the bytes, until the next call. nil: `progress` stopped it.
    public mutating func read(
        _ name: SegmentName, in directory: borrowing StorageDirectory, syncs: Bool = false,
        progress: (Int) -> Bool = { _ in true }
    ) throws(StorageError) -> UnsafeRawBufferPointer? {
        let path = "\(directory.path)/\(name)"
        let flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW
        // Past the page cache where the file system lets us (tmpfs does since Linux 6.6): four times as fast on the disk of
        // Bench/NOTES.md.
        var file = openat(directory.descriptor, name.description, flags | DirectAccess.openFlag)
        if file < 0, errno == EINVAL { file = openat(directory.descriptor, name.description, flags) }
        guard file >= 0 else { throw StorageDirectory.failure(path, "cannot be opened", errno) }
        defer { close(file) }
        var information = stat()
        guard fstat(file, &information) == 0 else { throw StorageDirectory.failure(path, "cannot be read", errno) }
        guard information.st_mode & S_IFMT == S_IFREG else {
            throw StorageError(description: "\(path) is not a regular file")
        }
        if syncs {
            guard fdatasync(file) == 0 else { throw StorageDirectory.failure(path, "cannot be synced", errno) }
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)
        }
        // What is behind the greatest segment is nothing of ours.
        let byteCount = min(Int(information.st_size), JournalFormat.segmentByteCountMax)
        posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL)
        // Whole blocks: the last one reaches beyond the end of the file.
        let wholeByteCount = (byteCount + Self.blockByteCount - 1) / Self.blockByteCount * Self.blockByteCount
        grow(to: wholeByteCount)
        var offset = 0
        while offset < byteCount {
            let wanted = min(Self.readByteCount, wholeByteCount - offset)
            let count = min(pread(file, base! + offset, wanted, off_t(offset)), byteCount - offset)
            if count < 0, errno == EINTR { continue }
            // The file system takes only other sizes, or the last read ended within a block.
            if count < 0, errno == EINVAL, readsThroughCache(file) { continue }
            guard count >= 0 else { throw StorageDirectory.failure(path, "cannot be read at byte \(offset)", errno) }
            if count == 0 { break }
            offset += count
            guard progress(count) else { return nil }
        }
        return UnsafeRawBufferPointer(start: base, count: offset)
    }

    /// From now on the file is read through the page cache. False: it was already.
    private func readsThroughCache(_ file: Int32) -> Bool {
        let flags = fcntl(file, F_GETFL)
        guard flags >= 0, flags & DirectAccess.openFlag != 0 else { return false }
        return fcntl(file, F_SETFL, flags & ~DirectAccess.openFlag) == 0
    }

    private mutating func grow(to byteCount: Int) {
        guard byteCount > capacity || base == nil else { return }
        base?.deallocate()
        capacity = max(byteCount, Self.blockByteCount)
        base = .allocate(byteCount: capacity, alignment: Self.blockByteCount)
    }
}

/// Reads single records, in windows: messages are asked for nearly in the order in which they are on disk, except for those
/// that were copied.
struct RecordWindows: ~Copyable {
    private struct Window {
        var base: UnsafeMutableRawPointer
        var capacity: Int
        var name: SegmentName?
        var offset = 0
        var byteCount = 0
        var usedAt = 0
    }

    private static let windowCount = 4
    private static let windowByteCount = 256 << 10

    private let directory: Int32
    private let path: String
    private var windows: [Window]
    private var file: (name: SegmentName, descriptor: Int32)?
    private var time = 0

    init(_ directory: borrowing StorageDirectory) {
        self.directory = directory.descriptor
        path = directory.path
        windows = (0..<Self.windowCount).map { _ in
            Window(
                base: .allocate(byteCount: Self.windowByteCount, alignment: 4096), capacity: Self.windowByteCount)
        }
    }

    deinit {
        for window in windows { window.base.deallocate() }
        if let file { close(file.descriptor) }
    }

    /// The record of a message. It is valid until the next call.
    mutating func read(_ message: LiveMessage, in segment: RecoveredSegment) throws(StorageError) -> Record {
        let offset = segment.offset(of: message.position)
        var window = try window(segment.name, offset, byteCount: JournalFormat.unitByteCount)
        let byteCount = RecordReader.byteCount(ofRecordAt: windows[window].base + (offset - windows[window].offset))
        window = try self.window(segment.name, offset, byteCount: min(byteCount, segment.byteCount - offset))
        let bytes = UnsafeRawBufferPointer(start: windows[window].base, count: windows[window].byteCount)
        do throws(RecordDamage) {
            return try RecordReader.read(
                bytes, at: offset - windows[window].offset, position: message.position, worker: message.worker,
                magic: segment.recordMagic)
        } catch {
            throw StorageError(
                description: "\(path)/\(segment.name), byte \(offset): \(error). It was intact a moment ago")
        }
    }

    /// The window that holds these bytes.
    private mutating func window(
        _ name: SegmentName, _ offset: Int, byteCount: Int
    ) throws(StorageError) -> Int {
        time += 1
        if let found = windows.firstIndex(where: {
            $0.name == name && $0.offset <= offset && offset + byteCount <= $0.offset + $0.byteCount
        }) {
            windows[found].usedAt = time
            return found
        }
        let oldest = windows.indices.min { windows[$0].usedAt < windows[$1].usedAt }!
        try load(oldest, name, offset, byteCount: byteCount)
        return oldest
    }

    private mutating func load(
        _ index: Int, _ name: SegmentName, _ offset: Int, byteCount: Int
    ) throws(StorageError) {
        if byteCount > windows[index].capacity {
            windows[index].base.deallocate()
            windows[index].base = .allocate(byteCount: byteCount, alignment: 4096)
            windows[index].capacity = byteCount
        }
        windows[index].name = nil
        let file = try open(name)
        var loaded = 0
        while loaded < windows[index].capacity {
            let count = pread(
                file, windows[index].base + loaded, windows[index].capacity - loaded, off_t(offset + loaded))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                throw StorageDirectory.failure("\(path)/\(name)", "cannot be read at byte \(offset)", errno)
            }
            if count == 0 { break }
            loaded += count
        }
        guard loaded >= byteCount else {
            throw StorageError(description: "\(path)/\(name) became shorter while it was read")
        }
        windows[index].name = name
        windows[index].offset = offset
        windows[index].byteCount = loaded
        windows[index].usedAt = time
    }

    private mutating func open(_ name: SegmentName) throws(StorageError) -> Int32 {
        if let file, file.name == name { return file.descriptor }
        if let file { close(file.descriptor) }
        file = nil
        let descriptor = openat(directory, name.description, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            throw StorageDirectory.failure("\(path)/\(name)", "cannot be opened", errno)
        }
        file = (name, descriptor)
        return descriptor
    }
}
