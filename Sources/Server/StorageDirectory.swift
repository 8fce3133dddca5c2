import Drivers
import Glibc
public import Journal

/// What is wrong with a store, and what to do about it: one line.
public struct StorageError: Error, CustomStringConvertible {
    public let description: String
}

/// A directory of segments, locked for this process.
///
///     lock                           flock(2); holds the number of the process
///     format                         "stampede-storage 2": who wrote it, and the version of the format
///     life                           the number of the last run, written before it delivers anything
///     LLLLLLLL-WWWW-SSSSSSSS.log     segments, see `SegmentName`
///
/// Other names are left alone.
public struct StorageDirectory: ~Copyable, Sendable {
    /// Absolute, without symbolic links.
    public let path: String
    let descriptor: Int32
    private let lock: Int32

    /// How the directory is used.
    public enum Use: Sendable {
        /// By a broker: it is made where it is not there, and must be writable.
        case broker
        /// By `stampede storage repair`: it must be there.
        case repair
        /// By `stampede storage verify` and `dump`: nothing in it changes.
        case inspection
    }

    private init(path: String, descriptor: Int32, lock: Int32) {
        self.path = path
        self.descriptor = descriptor
        self.lock = lock
    }

    /// Opens and locks the directory.
    public static func open(_ path: String, for use: Use) throws(StorageError) -> StorageDirectory {
        if use == .broker { try make(path) }
        guard let resolved = realpath(path, nil) else { throw failure(path, "cannot be opened", errno) }
        defer { free(resolved) }
        let absolute = String(cString: resolved)
        let descriptor = Glibc.open(absolute, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path, "cannot be opened", errno) }
        let lock: Int32
        do throws(StorageError) {
            lock = try Self.lock(descriptor, path, use)
        } catch {
            close(descriptor)
            throw error
        }
        let directory = StorageDirectory(path: absolute, descriptor: descriptor, lock: lock)
        try directory.checkFormat(use)
        return directory
    }

    deinit {
        if lock >= 0 { close(lock) }
        close(descriptor)
    }

    static func failure(_ path: String, _ what: String, _ number: Int32) -> StorageError {
        StorageError(description: "\(path) \(what): \(String(cString: strerror(number)))")
    }

    /// Makes the directory and those above it, for this user alone.
    private static func make(_ path: String) throws(StorageError) {
        var information = stat()
        if stat(path, &information) == 0 { return }
        var parent = "."
        if let slash = path.lastIndex(of: "/") { parent = slash == path.startIndex ? "/" : String(path[..<slash]) }
        if parent != ".", parent != "/" { try make(parent) }
        guard mkdir(path, 0o700) == 0 else {
            if errno == EEXIST { return }
            throw failure(path, "cannot be made", errno)
        }
        // Its name has to be on stable storage too. Some file systems cannot do that, and need not be asked.
        let descriptor = Glibc.open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        if fsync(descriptor) != 0, errno != EINVAL { throw failure(parent, "cannot be synced", errno) }
    }

    // MARK: Lock

    /// Returns the descriptor that holds the lock; -1: there is nothing to lock, and it is only looked at.
    private static func lock(_ directory: Int32, _ path: String, _ use: Use) throws(StorageError) -> Int32 {
        let flags = use == .inspection ? O_RDONLY : O_RDWR | O_CREAT
        let lock = openat(directory, "lock", flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if lock < 0 {
            if use == .inspection, errno == ENOENT { return -1 }
            throw failure(path, "cannot be written (file lock)", errno)
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let number = errno
            defer { close(lock) }
            guard number == EWOULDBLOCK else { throw failure(path, "cannot be locked (file lock)", number) }
            throw StorageError(
                description: "\(path) is in use by \(holder(lock)); two processes never share a store")
        }
        guard use != .inspection else { return lock }
        let line = Array("\(getpid())\n".utf8)
        guard ftruncate(lock, 0) == 0, pwrite(lock, line, line.count, 0) == line.count else {
            defer { close(lock) }
            throw failure(path, "cannot be written (file lock)", errno)
        }
        return lock
    }

    private static func holder(_ lock: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = pread(lock, &bytes, bytes.count, 0)
        let digits = bytes.prefix(max(count, 0)).prefix { 0x30...0x39 ~= $0 }
        return digits.isEmpty ? "another process" : "process \(String(decoding: digits, as: UTF8.self))"
    }

    // MARK: Format

    private static let formatPrefix = "stampede-storage "
    private static let formatLine = "\(formatPrefix)\(JournalFormat.version)\n"

    private func checkFormat(_ use: Use) throws(StorageError) {
        let text: String? = try contents(of: "format")
        if text == Self.formatLine { return }
        if let text {
            let first = text.prefix { !$0.isNewline }
            let version = first.hasPrefix(Self.formatPrefix) ? UInt16(first.dropFirst(Self.formatPrefix.count)) : nil
            if let version, 1..<JournalFormat.version ~= version, text == "\(first)\n" { return }
            throw StorageError(
                description: first.hasPrefix(Self.formatPrefix)
                    ? "\(path) has the format \"\(first)\"; this program knows \"\(Self.formatLine.dropLast())\" "
                        + "and nothing newer: use the program that wrote it"
                    : "\(path)/format is not a store's: found \"\(first.prefix(40))\"")
        }
        guard try segmentNames().isEmpty else {
            if use != .broker { return }
            throw StorageError(
                description: "\(path) has segments and no file \"format\"; "
                    + "`stampede storage repair \(path)` writes it again")
        }
        guard use == .broker else {
            throw StorageError(description: "\(path) is not a store: it has neither segments nor a file \"format\"")
        }
        try writeFormat()
    }

    /// Before the first segment of this version: an older program would not understand it.
    func raiseFormat() throws(StorageError) {
        let text: String? = try contents(of: "format")
        if text != Self.formatLine { try writeFormat() }
    }

    /// Writes the file `format`, durably.
    func writeFormat() throws(StorageError) { try writeDurably(Array(Self.formatLine.utf8), to: "format") }

    /// The number of the last run. 0: there was none. One that cannot be read is taken for a run that left nothing else.
    func lifeBegun(lifeMax: UInt32) throws(StorageError) -> UInt32 {
        guard let text = try contents(of: "life") else { return 0 }
        guard text.last == "\n", let life = UInt32(text.dropLast()), life <= JournalFormat.lifeMax else {
            return lifeMax + 1
        }
        return life
    }

    /// Writes the number of this run, durably: it may deliver messages and end before it has written anything else.
    func begin(life: UInt32) throws(StorageError) {
        try raiseFormat()
        try writeDurably(Array("\(life)\n".utf8), to: "life")
    }

    var hasFormat: Bool { faccessat(descriptor, "format", F_OK, 0) == 0 }

    /// Writes a new file under another name, and renames it.
    func writeDurably(_ bytes: [UInt8], to name: String) throws(StorageError) {
        let temporary = "\(name).new"
        let file = openat(descriptor, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Self.failure(path, "cannot be written (file \(temporary))", errno) }
        defer { close(file) }
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(file, $0.baseAddress! + offset, $0.count - offset)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Self.failure(path, "cannot be written (file \(temporary))", errno) }
            offset += count
        }
        guard fsync(file) == 0, renameat(descriptor, temporary, descriptor, name) == 0, fsync(descriptor) == 0 else {
            throw Self.failure(path, "cannot be written (file \(name))", errno)
        }
    }

    /// Whether segments can be written past the page cache.
    func takesDirectWrites() -> Bool { DirectAccess.arePossible(in: descriptor) }

    private func contents(of name: String) throws(StorageError) -> String? {
        let file = openat(descriptor, name, O_RDONLY | O_CLOEXEC)
        if file < 0 {
            guard errno == ENOENT else { throw Self.failure(path, "cannot be read (file \(name))", errno) }
            return nil
        }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = pread(file, &bytes, bytes.count, 0)
        guard count >= 0 else { throw Self.failure(path, "cannot be read (file \(name))", errno) }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    // MARK: Segments

    /// In the order in which recovery reads them.
    public func segmentNames() throws(StorageError) -> [SegmentName] {
        let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let entries = fdopendir(copy) else {
            throw Self.failure(path, "cannot be listed", errno)
        }
        defer { closedir(entries) }
        var names: [SegmentName] = []
        while true {
            errno = 0
            guard let entry = readdir(entries) else { break }
            let text = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let name = SegmentName(fileName: text) { names.append(name) }
        }
        guard errno == 0 else { throw Self.failure(path, "cannot be listed", errno) }
        return names.sorted()
    }
}
