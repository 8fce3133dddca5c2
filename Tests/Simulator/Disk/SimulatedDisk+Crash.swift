import IO
import Slabs

// The end of everything that has files open, and what it leaves.
extension SimulatedDisk {
    /// The process ends: what the kernel has taken stays, and may still be lost when the machine stops later. An
    /// operation under way is carried out, or in part, or not. Bytes that a failed sync threw away are gone. (A kernel
    /// may show them until it needs their memory, to programs that cannot know that they are on no disk.)
    func crashProcess(workerCount: Int) {
        count(.processCrash)
        for (operation, worker) in begunOperations() {
            guard random.chance(500) else { continue }
            leave(operation, worker, bytes: { $0.prefix(random.range(0...$0.count)) })
        }
        forgetHandles(workerCount)
        evict()
    }

    /// The process ends when it has nothing more to do.
    func endProcess(workerCount: Int) {
        // What is under way all the same is carried out.
        for (operation, worker) in begunOperations() { leave(operation, worker, bytes: { $0 }) }
        forgetHandles(workerCount)
        evict()
    }

    private func evict() {
        for path in directories.keys.sorted() { directories[path]!.evict() }
        for file in files { file.evict() }
        forgetFilesWithoutNames()
    }

    /// The machine stops: what was synced stays, and of the rest what `keeps` says; nil: it is random.
    func crashMachine(workerCount: Int, _ keeps: CrashChoice? = nil) {
        count(.machineCrash)
        // A change under way is like any other that was not synced: each part of it is on the disk or is not.
        for (operation, worker) in begunOperations() { leave(operation, worker, bytes: { $0 }) }
        forgetHandles(workerCount)
        var fates = CrashFates(&random)
        let keeps = keeps ?? { [self] in fates.keeps($1, &random) }
        for path in directories.keys.sorted() {
            let loss = directories[path]!.crash(keeps)
            count(.creationDropped, loss.creationDroppedCount)
            count(.deletionDropped, loss.deletionDroppedCount)
            count(.renameDropped, loss.renameDroppedCount)
            count(.entriesReordered, loss.reorderedCount)
        }
        forgetFilesWithoutNames()
        let losses = files.map { $0.crash(keeps) }
        for loss in losses {
            count(.writeDropped, loss.droppedCount)
            count(.writeTorn, loss.tornCount)
            count(.growthDropped, loss.growthDroppedCount)
        }
        if let firstLost = losses.flatMap(\.lost).min() {
            count(.writesReordered, losses.flatMap(\.kept).count { $0 > firstLost })
        }
    }

    /// In the order of submission.
    private func begunOperations() -> [(operation: Operation, worker: Int)] {
        var begun: [(operation: Operation, worker: Int)] = []
        for worker in workers.indices {
            for operation in workers[worker].operations where operation.isBegun { begun.append((operation, worker)) }
        }
        return begun.sorted { $0.operation.number < $1.operation.number }
    }

    /// Carries a change out as far as it got.
    private func leave(_ operation: Operation, _ worker: Int, bytes: (ArraySlice<UInt8>) -> ArraySlice<UInt8>) {
        let submission = operation.submission
        let handle = workers[worker].handles[submission.owner.index]
        switch submission.kind {
        case .appendFile, .appendFileDurably:
            let piece = bytes(operation.bytes[operation.doneByteCount...])
            guard !piece.isEmpty, let file = handle?.file else { return }
            file.write(piece, at: submission.byteCount + operation.doneByteCount, number: operation.number)
        case .allocateFile:
            handle?.file?.allocate(to: submission.byteCount + Int(submission.value), number: operation.number)
        case .createFile:
            guard let directory = handle?.directory, directory.entries[operation.name] == nil else { return }
            create(operation, in: directory)
        case .deleteFile:
            guard let directory = handle?.directory, directory.entries[operation.name] != nil else { return }
            directory.set(operation.name, nil, number: operation.number)
        case .renameFile:
            guard let directory = handle?.directory, directory.entries[operation.name] != nil else { return }
            directory.rename(operation.name, to: operation.newName, number: operation.number)
        default: break
        }
    }

    private func forgetHandles(_ workerCount: Int) {
        workers = Array(repeating: Worker(), count: workerCount)
        forgetFilesWithoutNames()
    }

    /// What has to be unsynced, or under way.
    enum Moment: CaseIterable { case any, write, writes, creation, deletion, rename, entries }

    func isAt(_ moment: Moment) -> Bool {
        func countUnderWay(_ kinds: Submission.Kind...) -> Int {
            workers.reduce(0) { sum, worker in
                sum + worker.operations.count { $0.isBegun && kinds.contains($0.submission.kind) }
            }
        }
        let entries = directories.values.reduce(0) { $0 + $1.unsynced.count }
        let writes = files.reduce(0) { sum, file in sum + file.unsynced.count { !$0.bytes.isEmpty } }
        switch moment {
        case .any: return true
        case .write: return writes + countUnderWay(.appendFile, .appendFileDurably) > 0
        case .writes: return writes + countUnderWay(.appendFile, .appendFileDurably) > 1
        case .entries: return entries + countUnderWay(.createFile, .deleteFile, .renameFile) > 1
        case .creation:
            let unsynced = directories.values.contains { $0.unsynced.contains { $0.file != nil } }
            return unsynced || countUnderWay(.createFile) > 0
        case .rename:
            let unsynced = directories.values.contains { $0.unsynced.contains { $0.formerName != nil } }
            return unsynced || countUnderWay(.renameFile) > 0
        case .deletion:
            let unsynced = directories.values.contains { $0.unsynced.contains { $0.file == nil } }
            return unsynced || countUnderWay(.deleteFile) > 0
        }
    }

    // MARK: Between two lives

    /// The names in a directory, in order.
    func names(in path: String) -> [String] { directories[path]?.entries.keys.sorted() ?? [] }

    /// Brings everything to stable storage that programs see, as who reads it and relies on it has to.
    func syncEverything() {
        for path in directories.keys.sorted() { directories[path]!.sync { _ in true } }
        for file in files { file.sync { _ in true } }
        forgetFilesWithoutNames()
    }

    func withBytes(of name: String, in path: String, _ body: (UnsafeRawBufferPointer) -> Void) {
        directories[path]?.entries[name]?.bytes.withUnsafeBytes(body)
    }

    /// What no program has written is on stable storage.
    func overwrite(_ name: String, in path: String, with bytes: [UInt8], at offset: Int) {
        guard let file = directories[path]?.entries[name] else { return }
        file.write(bytes[...], at: offset, number: 0)
        file.sync { $0.number == 0 }
    }

    func contents(of name: String, in path: String) -> [UInt8]? { directories[path]?.entries[name]?.bytes }
}
