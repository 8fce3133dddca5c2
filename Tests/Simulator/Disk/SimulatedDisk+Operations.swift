import Glibc
import IO
import Slabs

// What each operation does when its time has come.
extension SimulatedDisk {
    /// Returns the value of the answer, or nil if there is more to do.
    func carryOut(_ place: Int, _ worker: Int, _ now: UInt64) -> Int32? {
        let submission = workers[worker].operations[place].submission
        let number = workers[worker].operations[place].number
        let index = submission.connection.index
        checkName(of: workers[worker].operations[place])
        switch submission.kind {
        case .openDirectory: return openDirectory(workers[worker].operations[place].name, index, worker)
        case .createFile, .openFile: return openFile(workers[worker].operations[place], worker)
        case .deleteFile: return delete(workers[worker].operations[place], worker)
        case .renameFile: return rename(workers[worker].operations[place], worker)
        case .closeFile: return 0
        default: break
        }
        guard let handle = workers[worker].handles[index] else { return -EBADF }
        switch submission.kind {
        case .appendFile, .appendFileDurably: return append(place, handle, worker)
        case .readFile: return read(place, handle, worker)
        case .allocateFile: return allocate(submission, handle, number)
        default: return sync(submission, handle, number, worker)
        }
    }

    private func checkName(of operation: Operation) {
        let isSame = operation.newName.isEmpty || newName(of: operation.submission) == operation.newName
        if !operation.name.isEmpty, !isSame || name(of: operation.submission) != operation.name {
            violate("\(operation.submission.kind) of '\(operation.name)': the name was changed while it was under way")
        }
    }

    // MARK: Names

    private func openDirectory(_ path: String, _ index: UInt32, _ worker: Int) -> Int32 {
        guard let directory = directories[path] else { return -ENOENT }
        if strikes(.openFailed) { return -random.pick([EIO, EMFILE, EACCES]) }
        workers[worker].handles[index]?.directory = directory
        return 0
    }

    private func openFile(_ operation: Operation, _ worker: Int) -> Int32 {
        let submission = operation.submission
        guard let directory = workers[worker].handles[submission.directory.index]?.directory else { return -EBADF }
        let known = directory.entries[operation.name]
        if submission.kind == .openFile {
            guard let known else { return -ENOENT }
            if strikes(.openFailed) { return -random.pick([EIO, EMFILE, ENFILE]) }
            workers[worker].handles[submission.connection.index]?.file = known
            workers[worker].handles[submission.connection.index]?.isDirect = submission.value == 2
            return 0
        }
        if known != nil { return -EEXIST }
        if strikes(.createFailed) { return -random.pick([EIO, ENOSPC, EMFILE, EDQUOT]) }
        workers[worker].handles[submission.connection.index]?.file = create(operation, in: directory)
        workers[worker].handles[submission.connection.index]?.isDirect = submission.value == 1
        return 0
    }

    @discardableResult
    func create(_ operation: Operation, in directory: SimulatedDirectory) -> SimulatedFile {
        let file = SimulatedFile()
        files.append(file)
        directory.set(operation.name, file, number: operation.number)
        return file
    }

    private func delete(_ operation: Operation, _ worker: Int) -> Int32 {
        guard let directory = workers[worker].handles[operation.submission.connection.index]?.directory else {
            return -EBADF
        }
        guard directory.entries[operation.name] != nil else { return -ENOENT }
        if strikes(.deleteFailed) { return -random.pick([EIO, EROFS]) }
        directory.set(operation.name, nil, number: operation.number)
        forgetFilesWithoutNames()
        return 0
    }

    private func rename(_ operation: Operation, _ worker: Int) -> Int32 {
        guard let directory = workers[worker].handles[operation.submission.connection.index]?.directory else {
            return -EBADF
        }
        guard directory.entries[operation.name] != nil else { return -ENOENT }
        if directory.entries[operation.newName] != nil {
            violate("rename of '\(operation.name)' to '\(operation.newName)': another file has that name")
        }
        if strikes(.renameFailed) { return -random.pick([EIO, ENOSPC, EROFS, EPERM]) }
        directory.rename(operation.name, to: operation.newName, number: operation.number)
        count(.segmentReused)
        return 0
    }

    /// A file that has no name, and will have none after a crash, is its handles'.
    func forgetFilesWithoutNames() {
        var named: Set<ObjectIdentifier> = []
        for directory in directories.values {
            for file in directory.entries.values { named.insert(ObjectIdentifier(file)) }
            for file in directory.durableEntries.values { named.insert(ObjectIdentifier(file)) }
            for change in directory.unsynced { if let file = change.file { named.insert(ObjectIdentifier(file)) } }
        }
        files.removeAll { !named.contains(ObjectIdentifier($0)) }
    }

    // MARK: Bytes

    private func append(_ place: Int, _ handle: Handle, _ worker: Int) -> Int32? {
        let operation = workers[worker].operations[place]
        let submission = operation.submission
        guard let file = handle.file else { return -EBADF }
        let isDurable = submission.kind == .appendFileDurably
        if isDurable, handle.syncFailure < 0 { return handle.syncFailure }
        let total = operation.bytes.count
        if handle.isDirect { checkBlocks(of: submission) }
        if strikes(.appendFailed) {
            writeSome(of: operation, to: file)
            if isDurable { workers[worker].handles[submission.connection.index]?.syncFailure = -EIO }
            return -EIO
        }
        var end = total
        if total - operation.doneByteCount > 1, strikes(.shortWrite) {
            end = operation.doneByteCount + random.range(1...total - operation.doneByteCount - 1)
        }
        let offset = submission.byteCount
        let hasRoom = reserve(offset + operation.doneByteCount..<offset + end, of: file)
        if !hasRoom || strikes(.appendWithoutSpace) {
            if !hasRoom { count(.appendWithoutSpace) }
            if hasRoom { writeSome(of: operation, to: file) }
            return -random.pick([ENOSPC, EDQUOT])
        }
        let piece = operation.bytes[operation.doneByteCount..<end]
        file.write(piece, at: offset + operation.doneByteCount, number: operation.number)
        workers[worker].operations[place].doneByteCount = end
        guard end == total else { return nil }
        if Self.bytes(of: submission) != operation.bytes {
            violate("append at \(offset): the bytes were changed while it was under way")
        }
        if isDurable, skipsSync?(false) != true { file.sync { $0.number == operation.number } }
        return Int32(total)
    }

    /// The kernel refuses writes past the page cache that are not of whole sectors, in memory or on the disk.
    private func checkBlocks(of submission: Submission) {
        let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
        let numbers = (0..<Int(submission.peer)).flatMap {
            [Int(bitPattern: vectors[$0].iov_base), vectors[$0].iov_len]
        }
        let sector = SimulatedFile.sectorByteCount
        guard (numbers + [submission.byteCount]).allSatisfy({ $0 % sector == 0 }) else {
            return violate("append at \(submission.byteCount): past the page cache, but not of whole sectors")
        }
    }

    /// An append fails: any part of its bytes may have been written, in any order.
    private func writeSome(of operation: Operation, to file: SimulatedFile) {
        let rest = operation.bytes[operation.doneByteCount...]
        guard !rest.isEmpty, random.chance(500) else { return }
        let first = rest.startIndex + random.below(rest.count)
        let end = random.range(first + 1...rest.endIndex)
        let offset = operation.submission.byteCount
        guard reserve(offset + first..<offset + end, of: file) else { return }
        file.write(rest[first..<end], at: offset + first, number: operation.number)
    }

    private func read(_ place: Int, _ handle: Handle, _ worker: Int) -> Int32? {
        let operation = workers[worker].operations[place]
        let submission = operation.submission
        guard let file = handle.file else { return -EBADF }
        if strikes(.readFailed) { return -EIO }
        let start = submission.byteCount + operation.doneByteCount
        let available = max(0, min(Int(submission.value) - operation.doneByteCount, file.bytes.count - start))
        var count = available
        if available > 1, strikes(.shortRead) { count = random.range(1...available - 1) }
        if count > 0 {
            let target = UnsafeMutableRawPointer(mutating: submission.pointer!) + operation.doneByteCount
            _ = file.bytes.withUnsafeBytes { memcpy(target, $0.baseAddress! + start, count) }
        }
        workers[worker].operations[place].doneByteCount += count
        return count < available ? nil : Int32(operation.doneByteCount + count)
    }

    private func allocate(_ submission: Submission, _ handle: Handle, _ number: Int) -> Int32 {
        guard let file = handle.file else { return -EBADF }
        let end = submission.byteCount + Int(submission.value)
        if strikes(.allocateFailed) { return -random.pick([EIO, ENOSPC, EDQUOT, EOPNOTSUPP]) }
        guard reserve(submission.byteCount..<end, of: file) else {
            count(.allocateFailed)
            return -ENOSPC
        }
        file.allocate(to: end, number: number)
        return 0
    }

    /// Gives the file the blocks of a range. False: the disk is full.
    private func reserve(_ range: Range<Int>, of file: SimulatedFile) -> Bool {
        let first = range.lowerBound / Self.blockByteCount
        let last = (range.upperBound - 1) / Self.blockByteCount
        let more = (first...last).filter { !file.blocks.contains($0) }
        if more.isEmpty { return true }
        if blockCountMax < .max, blockCount + more.count > blockCountMax { return false }
        file.take(more)
        return true
    }

    /// Blocks of all files that have a name or are open.
    var blockCount: Int {
        var counted: Set<ObjectIdentifier> = []
        var sum = 0
        func add(_ file: SimulatedFile?) {
            if let file, counted.insert(ObjectIdentifier(file)).inserted { sum += file.blocks.count }
        }
        for directory in directories.values { for file in directory.entries.values { add(file) } }
        for worker in workers { for handle in worker.handles.values { add(handle.file) } }
        return sum
    }

    // MARK: Stable storage

    private func sync(_ submission: Submission, _ handle: Handle, _ number: Int, _ worker: Int) -> Int32 {
        if handle.syncFailure < 0 { return handle.syncFailure }
        if skipsSync?(handle.directory != nil) == true { return 0 }
        guard strikes(handle.directory == nil ? .syncFailed : .directorySyncFailed) else {
            handle.file?.sync { $0.number < number }
            handle.directory?.sync { $0.number < number }
            return 0
        }
        let result = -random.pick([EIO, EIO, ENOSPC, EDQUOT])
        fail(handle, result)
        // Of the changes some were written, some are lost without a further word, and some are still to be written.
        let numbers = (handle.file?.unsynced.map(\.number) ?? []) + (handle.directory?.unsynced.map(\.number) ?? [])
        let written = Set(numbers.filter { $0 < number && random.chance(333) })
        handle.file?.sync { written.contains($0.number) }
        handle.directory?.sync { written.contains($0.number) }
        count(.bytesForgotten, handle.file?.forget { $0.number < number && random.chance(500) } ?? 0)
        count(.bytesForgotten, handle.directory?.forget { $0.number < number && random.chance(500) } ?? 0)
        return result
    }

    /// All who have it open are told by their next sync (errseq_t of Linux), and who opens it later is not.
    private func fail(_ handle: Handle, _ result: Int32) {
        for worker in workers.indices {
            for (index, other) in workers[worker].handles where other.syncFailure == 0 {
                let isSame = handle.file.map { $0 === other.file } ?? (handle.directory === other.directory)
                if isSame { workers[worker].handles[index]!.syncFailure = result }
            }
        }
    }
}
