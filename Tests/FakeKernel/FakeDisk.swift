internal import Glibc
public import IO
internal import Slabs

/// A directory of files for the shards of a `FakeKernel`.
///
/// It keeps apart what the kernel has of a file and what is on stable storage, so a test can look at either as a crash of the
/// process or of the machine would leave it. Operations are carried out in the order of their submission, at once or, while
/// it `isHeld`, one by one as the test says. Errors are given out in order to the operations of their kind.
public final class FakeDisk {
    public struct File {
        /// What the kernel has, and what is on stable storage.
        public var bytes: [UInt8] = []
        public var durableBytes: [UInt8] = []
        /// Written past the page cache.
        var isDirect = false
    }

    public struct Failure {
        public var kind: Submission.Kind
        public var errno: Int32

        public init(_ kind: Submission.Kind, _ errno: Int32) {
            self.kind = kind
            self.errno = errno
        }
    }

    struct Operation {
        var submission: Submission
        var shard: Int
    }

    /// Files by what they are called, and by what they are called on stable storage.
    private var names: [String: Int] = [:]
    private var durableNames: [String: Int] = [:]
    private var files: [File] = []
    /// The open files of each shard, by the index of their slot. -1: the directory.
    private var handles: [Int: [UInt32: Int]] = [:]
    private var operations: [Operation] = []
    public var isHeld = false
    /// Operations of this shard wait, and those of others overtake them.
    public var stalledShard: Int?
    public var failures: [Failure] = []
    /// What was carried out, in order.
    public private(set) var log: [Submission.Kind] = []
    public private(set) var syncCount = 0
    /// Bytes of all files together, at most.
    public var byteCountMax = Int.max

    public init() {}

    public var fileNames: [String] { names.keys.sorted() }
    public var pendingKinds: [Submission.Kind] { operations.map(\.submission.kind) }

    /// The files as a crash of the machine leaves them, of the process otherwise.
    public func contents(afterPowerCut: Bool) -> [String: [UInt8]] {
        (afterPowerCut ? durableNames : names).mapValues {
            afterPowerCut ? files[$0].durableBytes : files[$0].bytes
        }
    }

    /// A crash: another broker begins with what is left.
    public func restarted(afterPowerCut: Bool) -> FakeDisk {
        let disk = FakeDisk()
        for (name, bytes) in contents(afterPowerCut: afterPowerCut) {
            disk.names[name] = disk.files.count
            disk.files.append(File(bytes: bytes, durableBytes: bytes))
        }
        disk.durableNames = disk.names
        return disk
    }

    /// Changes a file, as a disk that decays.
    public func corrupt(_ name: String, at offset: Int) { if let file = names[name] { files[file].bytes[offset] ^= 1 } }

    // MARK: Operations

    func submit(_ submission: Submission, of shard: Int) {
        operations.append(Operation(submission: submission, shard: shard))
    }

    /// Carries out the next operation, and returns its answer and whose it is. nil: there is none.
    public func step() -> (answer: Completion, shard: Int)? {
        guard let next = operations.firstIndex(where: { $0.shard != stalledShard }) else { return nil }
        let operation = operations.remove(at: next)
        let submission = operation.submission
        log.append(submission.kind)
        var value: Int32
        if let place = failures.firstIndex(where: { $0.kind == submission.kind }) {
            value = -failures.remove(at: place).errno
        } else {
            value = carryOut(submission, operation.shard)
        }
        if value > 0, submission.kind != .readFile { value = submission.value }
        return (
            Completion(
                Self.answer(to: submission.kind), connection: submission.connection, value: value,
                pointer: submission.pointer, address: UInt64(bitPattern: Int64(submission.byteCount))), operation.shard
        )
    }

    private static func answer(to kind: Submission.Kind) -> Completion.Kind {
        switch kind {
        case .openDirectory, .createFile, .openFile: .fileOpened
        case .appendFile, .appendFileDurably: .fileAppended
        case .readFile: .fileRead
        case .allocateFile: .fileAllocated
        case .syncFile: .fileSynced
        case .deleteFile: .fileDeleted
        case .renameFile: .fileRenamed
        default: .fileClosed
        }
    }

    private func carryOut(_ submission: Submission, _ shard: Int) -> Int32 {
        let slot = submission.connection.index
        lazy var name = String(cString: submission.pointer!.assumingMemoryBound(to: CChar.self))
        switch submission.kind {
        case .openDirectory:
            handles[shard, default: [:]][slot] = -1
            return 0
        case .createFile:
            if names[name] != nil { return -EEXIST }
            names[name] = files.count
            handles[shard, default: [:]][slot] = files.count
            files.append(File(isDirect: submission.value == 1))
            return 0
        case .openFile:
            guard let file = names[name] else { return -ENOENT }
            handles[shard, default: [:]][slot] = file
            return 0
        case .renameFile:
            let newName = String(cString: submission.newName!.assumingMemoryBound(to: CChar.self))
            guard let file = names.removeValue(forKey: name) else { return -ENOENT }
            names[newName] = file
            return 0
        case .deleteFile: return names.removeValue(forKey: name) == nil ? -ENOENT : 0
        case .closeFile:
            handles[shard]?[slot] = nil
            return 0
        default: break
        }
        guard let file = handles[shard]?[slot] else { return -EBADF }
        if submission.kind == .syncFile {
            syncCount += 1
            if file < 0 { durableNames = names } else { files[file].durableBytes = files[file].bytes }
            return 0
        }
        return change(submission, file)
    }

    private func change(_ submission: Submission, _ file: Int) -> Int32 {
        let offset = submission.byteCount
        if submission.kind == .allocateFile {
            return grow(file, to: Int(submission.value) + offset) ? 0 : -ENOSPC
        }
        let count = Int(submission.value)
        if submission.kind == .readFile {
            let bytes = files[file].bytes.dropFirst(offset).prefix(count)
            let target = UnsafeMutableRawPointer(mutating: submission.pointer!)
            bytes.withUnsafeBytes { if $0.count > 0 { memcpy(target, $0.baseAddress!, $0.count) } }
            return Int32(bytes.count)
        }
        guard grow(file, to: offset + count) else { return -ENOSPC }
        let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
        if files[file].isDirect, !Self.isOfWholeSectors(vectors, submission) { return -EINVAL }
        var place = offset
        for index in 0..<Int(submission.peer) {
            let bytes = UnsafeRawBufferPointer(start: vectors[index].iov_base, count: vectors[index].iov_len)
            files[file].bytes.replaceSubrange(place..<place + bytes.count, with: bytes)
            place += bytes.count
        }
        guard submission.kind == .appendFileDurably else { return submission.value }
        syncCount += 1
        if files[file].durableBytes.count < files[file].bytes.count {
            let missing = files[file].bytes.count - files[file].durableBytes.count
            files[file].durableBytes.append(contentsOf: [UInt8](repeating: 0, count: missing))
        }
        files[file].durableBytes.replaceSubrange(offset..<place, with: files[file].bytes[offset..<place])
        return submission.value
    }

    /// What the kernel asks of a write past the page cache.
    private static func isOfWholeSectors(_ vectors: UnsafePointer<iovec>, _ submission: Submission) -> Bool {
        (0..<Int(submission.peer)).allSatisfy {
            Int(bitPattern: vectors[$0].iov_base) % 512 == 0 && vectors[$0].iov_len % 512 == 0
        } && submission.byteCount % 512 == 0
    }

    private func grow(_ file: Int, to byteCount: Int) -> Bool {
        let missing = byteCount - files[file].bytes.count
        if missing <= 0 { return true }
        let used = Set(names.values).reduce(0) { $0 + files[$1].bytes.count }
        if used + missing > byteCountMax { return false }
        files[file].bytes.append(contentsOf: [UInt8](repeating: 0, count: missing))
        return true
    }
}
