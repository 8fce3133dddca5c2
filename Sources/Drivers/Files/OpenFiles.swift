internal import CURing
import Glibc
import IO
import Slabs

/// The files and directories that a core has opened, and the operations on them. Decides which system calls to make, in
/// the order that `Submission+Files.swift` promises, and what their results mean.
///
/// It makes no system call itself. The io_uring driver turns each `FileCall` into a request; the helper thread of the
/// epoll driver makes one call after the other. So both drivers share all decisions about files.
///
/// ```
/// submit(_:) -> queued behind a sync? -> nextCall() ... finished(_:_:) -> a completion
///                                           ^                |
///                                           +----------------+ a short write, EINTR
/// ```
///
/// A handle takes 32 B and an operation under way 48 B. The memory is not released before the end. Complexity: O(1),
/// except for an append that was written in part: it searches its `iovec`s for the first unwritten byte.
struct OpenFiles: ~Copyable {
    /// One handle. `generation` 0: not in use.
    struct File: BitwiseCopyable {
        var generation: UInt32 = 0
        /// -1: not open yet.
        var descriptor: Int32 = -1
        /// Operations that are not answered, queued ones included.
        var operationCount: Int32 = 0
        /// Changes that were begun and are not answered.
        var changeCount: Int32 = 0
        /// The queue: a sync or close that waits for other operations, and the operations behind it. 0: empty.
        var firstInLine: UInt32 = 0
        var lastInLine: UInt32 = 0
        /// -errno of the first sync that failed. 0: none failed.
        var syncFailure: Int32 = 0
        var isDirectory = false
        var isClosing = false
    }

    struct Operation: BitwiseCopyable {
        var submission: Submission
        var doneByteCount: Int32 = 0
        /// Attempts in a row that were interrupted or refused.
        var attemptCount: UInt32 = 0
        /// The next operation in the queue, or the next free index.
        var next: UInt32 = 0
    }

    /// How often a call that was interrupted, or could not be made, is repeated before the error is reported.
    static let attemptCountMax = 100

    /// Index 0 means "none" in both.
    private var files = Batch<File>(capacity: 16)
    private var operations = Batch<Operation>(capacity: 16)
    private var freeOperation: UInt32 = 0
    private var calls = Batch<FileCall>(capacity: 16)
    private var callHead = 0
    /// Operations that are not answered, of all handles.
    private(set) var busyCount = 0

    init() {
        files.append(File())
        operations.append(Operation(submission: Submission(.closeFile)))
    }

    /// Takes a submission. Appends the completions of operations that are answered at once.
    mutating func submit(_ submission: Submission, _ completions: inout Batch<Completion>) {
        check(submission)
        switch submission.kind {
        case .openDirectory: begin(submission.connection, isDirectory: true)
        case .createFile, .openFile: begin(submission.connection, isDirectory: false)
        case .closeFile: files[Int(submission.connection.index)].isClosing = true
        default: break
        }
        let place = takePlace(for: submission)
        let owner = submission.owner
        files[owner].operationCount += 1
        guard submission.order != .none else { return start(place) }
        if files[owner].firstInLine == 0 {
            files[owner].firstInLine = place
        } else {
            operations[Int(files[owner].lastInLine)].next = place
        }
        files[owner].lastInLine = place
        advance(owner, &completions)
    }

    /// The next system call to make. nil: none at present.
    mutating func nextCall() -> FileCall? {
        guard callHead < calls.count else {
            calls.removeAll()
            callHead = 0
            return nil
        }
        callHead += 1
        return calls[callHead - 1]
    }

    /// Takes the result of a call. Appends the answer if the operation is complete, and the answers of queued
    /// operations that are refused at once because of it.
    ///
    /// - Parameter result: a count, a descriptor, or -errno.
    mutating func finished(_ place: UInt32, _ result: Int32, _ completions: inout Batch<Completion>) {
        let submission = operations[Int(place)].submission
        guard result >= 0 else { return failed(place, result, &completions) }
        operations[Int(place)].attemptCount = 0
        switch submission.kind {
        case .openDirectory, .createFile, .openFile:
            files[Int(submission.connection.index)].descriptor = result
            answer(place, 0, &completions)
        case .appendFile, .appendFileDurably:
            // A write of 0 bytes without an error is treated as an error. Repeating it might never end.
            guard result > 0 else { return failed(place, -EIO, &completions) }
            transferred(place, result, &completions)
        case .readFile: transferred(place, result, &completions)
        default: answer(place, 0, &completions)
        }
    }

    /// Closes every descriptor. No operation may be under way.
    mutating func closeEverything() {
        invariant(busyCount == 0, "files are closed while something is under way")
        for index in 1..<files.count where files[index].descriptor >= 0 { close(files[index].descriptor) }
        files.keepFirst(1)
    }

    // MARK: - Handles

    /// Stops the process if the submission is a programmer error.
    private func check(_ submission: Submission) {
        switch submission.kind {
        case .openDirectory: return
        case .createFile, .openFile, .deleteFile, .renameFile:
            expectOpen(submission.ownerSlot, isDirectory: true)
        case .appendFile, .appendFileDurably:
            expectOpen(submission.connection, isDirectory: false)
            invariant(
                (1...Submission.fileVectorCountMax).contains(Int(submission.peer)) && submission.value > 0,
                "an append has no bytes, or too many vectors")
            invariant(submission.byteCount >= 0, "an append has an offset before the file's begin")
        case .readFile, .allocateFile:
            expectOpen(submission.connection, isDirectory: false)
            invariant(submission.value > 0, "a file operation has no bytes")
            invariant(submission.byteCount >= 0, "a file operation has an offset before the file's begin")
        case .syncFile, .closeFile:
            let index = Int(submission.connection.index)
            expectOpen(submission.connection, isDirectory: index < files.count && files[index].isDirectory)
        default: invariant(false, "not a file's submission")
        }
    }

    private func expectOpen(_ slot: Slot, isDirectory: Bool) {
        let index = Int(slot.index)
        invariant(
            index > 0 && index < files.count && files[index].generation == slot.generation && slot.generation != 0,
            "a file that is not open")
        invariant(files[index].descriptor >= 0, "a file was used before it was open")
        invariant(!files[index].isClosing, "a file was used after its close")
        invariant(files[index].isDirectory == isDirectory, "a file was used as a directory, or a directory as a file")
    }

    private mutating func begin(_ slot: Slot, isDirectory: Bool) {
        let index = Int(slot.index)
        invariant(index > 0 && index < Submission.fileIndexMax, "a file's slot index exceeds the driver's table")
        while files.count <= index { files.append(File()) }
        invariant(slot.generation != 0, "a file's slot has no generation")
        invariant(files[index].generation == 0, "a file's slot was used again before its close")
        files[index].generation = slot.generation
        files[index].isDirectory = isDirectory
    }

    private mutating func takePlace(for submission: Submission) -> UInt32 {
        busyCount += 1
        let place = freeOperation
        guard place != 0 else {
            operations.append(Operation(submission: submission))
            return UInt32(operations.count - 1)
        }
        freeOperation = operations[Int(place)].next
        operations[Int(place)] = Operation(submission: submission)
        return place
    }

    // MARK: - Order

    /// Starts operations from the front of the queue until one has to wait.
    private mutating func advance(_ owner: Int, _ completions: inout Batch<Completion>) {
        while case let place = files[owner].firstInLine, place != 0 {
            let submission = operations[Int(place)].submission
            switch submission.order {
            case .none, .change: break
            case .afterChanges: if files[owner].changeCount > 0 { return }
            case .afterEverything: if files[owner].operationCount > 1 { return }
            }
            files[owner].firstInLine = operations[Int(place)].next
            if submission.promisesDurability, files[owner].syncFailure < 0 {
                report(place, files[owner].syncFailure, &completions)
                files[owner].operationCount -= 1
                continue
            }
            if submission.order == .change { files[owner].changeCount += 1 }
            start(place)
        }
    }

    /// Adds the next call of an operation to `calls`: its first, the next part, or a repetition.
    private mutating func start(_ place: UInt32) {
        let operation = operations[Int(place)]
        let submission = operation.submission
        let done = Int(operation.doneByteCount)
        var call = FileCall(
            kind: .close, operation: place, descriptor: files[submission.owner].descriptor, pointer: submission.pointer)
        switch submission.kind {
        case .openDirectory:
            call.kind = .open
            call.descriptor = AT_FDCWD
            call.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        case .createFile:
            call.kind = .open
            call.flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | (submission.value == 1 ? file_direct : 0)
        case .openFile:
            call.kind = .open
            call.flags =
                (submission.value == 1 ? O_RDONLY : O_RDWR) | O_CLOEXEC | (submission.value == 2 ? file_direct : 0)
        case .appendFile, .appendFileDurably:
            call.flags = submission.kind == .appendFileDurably ? file_write_durable : 0
            setRest(of: operation, &call)
        case .readFile:
            call.kind = .read
            call.pointer = submission.pointer.map { $0 + done }
            call.count = submission.value - operation.doneByteCount
            call.offset = submission.byteCount + done
        case .allocateFile:
            call.kind = .allocate
            call.count = submission.value
            call.offset = submission.byteCount
        case .syncFile: call.kind = files[submission.owner].isDirectory ? .sync : .syncData
        case .deleteFile: call.kind = .delete
        case .renameFile:
            call.kind = .rename
            call.offset = submission.byteCount
        default: break  // close
        }
        calls.append(call)
    }

    /// Fills in the part of an append that is not written yet. The rest of a vector that was written in part is one
    /// call of its own, because the array belongs to the core and must not be changed.
    private func setRest(of operation: Operation, _ call: inout FileCall) {
        let submission = operation.submission
        call.offset = submission.byteCount + Int(operation.doneByteCount)
        guard let pointer = submission.pointer else { return invariant(false, "an append has no vectors") }
        let vectors = pointer.assumingMemoryBound(to: iovec.self)
        let count = Int(submission.peer)
        var first = 0
        var skipped = Int(operation.doneByteCount)
        while first < count, skipped >= vectors[first].iov_len {
            skipped -= vectors[first].iov_len
            first += 1
        }
        invariant(first < count, "the vectors of an append hold fewer bytes than was said")
        if skipped > 0 {
            call.kind = .write
            call.pointer = UnsafeRawPointer(vectors[first].iov_base) + skipped
            call.count = Int32(vectors[first].iov_len - skipped)
        } else {
            call.kind = .writeVector
            call.pointer = UnsafeRawPointer(vectors + first)
            call.count = Int32(count - first)
        }
    }

    // MARK: - Outcomes

    private mutating func transferred(_ place: UInt32, _ byteCount: Int32, _ completions: inout Batch<Completion>) {
        let submission = operations[Int(place)].submission
        let done = operations[Int(place)].doneByteCount + byteCount
        invariant(done <= submission.value, "the kernel transferred more than was submitted")
        operations[Int(place)].doneByteCount = done
        // 0 bytes without an error: a read that has reached the end of the file.
        if done == submission.value || byteCount == 0 { return answer(place, done, &completions) }
        start(place)
    }

    /// - Parameter result: -errno.
    private mutating func failed(_ place: UInt32, _ result: Int32, _ completions: inout Batch<Completion>) {
        let submission = operations[Int(place)].submission
        let verdict = decision(for: submission.kernelOperation, errorNumber: -result)
        switch verdict {
        case .retry where operations[Int(place)].attemptCount < Self.attemptCountMax:
            operations[Int(place)].attemptCount += 1
            start(place)
        case .misuse: invariant(false, "the kernel refused a request on a file that should be ours")
        case .harmless: answer(place, 0, &completions)
        case .wait, .retry, .exhausted, .cancelled, .failed:
            // A durable append that found no room was not taken, so no bytes are lost.
            if submission.promisesDurability, verdict != .exhausted { files[submission.owner].syncFailure = result }
            answer(place, result, &completions)
        }
    }

    private mutating func answer(_ place: UInt32, _ value: Int32, _ completions: inout Batch<Completion>) {
        let submission = operations[Int(place)].submission
        let owner = submission.owner
        report(place, value, &completions)
        files[owner].operationCount -= 1
        if submission.order == .change { files[owner].changeCount -= 1 }
        let isGone = submission.answer == .fileClosed || submission.answer == .fileOpened && value < 0
        if isGone { files[Int(submission.connection.index)] = File() }
        advance(owner, &completions)
    }

    /// Appends the answer and frees the operation's index.
    private mutating func report(_ place: UInt32, _ value: Int32, _ completions: inout Batch<Completion>) {
        completions.append(operations[Int(place)].submission.answered(value))
        operations[Int(place)].next = freeOperation
        freeOperation = place
        busyCount -= 1
    }
}
