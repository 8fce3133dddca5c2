import Glibc
import IO
import Slabs

/// A file system in memory, and the part of the drivers that reaches it: it carries out the file submissions of all
/// workers as `Submission+Files.swift` promises, and no better.
///
/// Each operation takes a random time, so that operations overtake each other wherever the contract permits it. Where
/// the contract leaves a choice, the seed decides. A change that was not synced is on stable storage only by luck
/// (`SimulatedFile`, `SimulatedDirectory`).
///
///     submit -> queued behind a sync or the changes before it -> begun, due at a time -> a part, ... -> answered
///
/// A submission that breaks the rules of `Submission+Files.swift` is a `violation`.
final class SimulatedDisk {
    static let blockByteCount = 4096

    /// A file or directory that a worker has open, or is opening or closing.
    struct Handle {
        let slot: Slot
        var file: SimulatedFile?
        var directory: SimulatedDirectory?
        var isOpen = false
        var isClosing = false
        var isReadOnly = false
        /// Its appends consist of whole sectors.
        var isDirect = false
        /// -errno of the first sync that failed. 0: none failed.
        var syncFailure: Int32 = 0
    }

    /// An operation that is not answered.
    struct Operation {
        /// Counts the submissions of all workers.
        let number: Int
        let submission: Submission
        /// The name or path, and the bytes of an append, as they were when they were submitted.
        var name = ""
        var newName = ""
        var bytes: [UInt8] = []
        var isBegun = false
        /// When its next part, or its end, is due. Monotonic nanoseconds.
        var due: UInt64 = 0
        var doneByteCount = 0
    }

    struct Worker {
        var handles: [UInt32: Handle] = [:]
        /// In the order of submission.
        var operations: [Operation] = []
    }

    var workers: [Worker]
    var directories: [String: SimulatedDirectory] = [:]
    /// Every file that has a name, on stable storage or as programs see it, in the order of creation.
    var files: [SimulatedFile] = []
    var random: Random
    /// Chances in thousandths, by `StorageFault`.
    var faults = [Int](repeating: 0, count: StorageFault.allCases.count)
    var faultCounts = [Int](repeating: 0, count: StorageFault.allCases.count)
    /// Blocks that files may have, all together.
    var blockCountMax = Int.max
    /// A planted bug: whether a sync, or what a durable append promises, is left out and answered with success.
    var skipsSync: ((_ isOfDirectory: Bool) -> Bool)?
    /// How long an operation, or a part of it, may take, in nanoseconds.
    var durations: [Int] = [0, 0, 10_000, 50_000, 1_000_000]
    private(set) var violation: String?
    private var submissionCount = 0

    init(workerCount: Int, seed: UInt64) {
        workers = Array(repeating: Worker(), count: workerCount)
        random = Random(seed: seed)
    }

    func makeDirectory(_ path: String) { directories[path] = SimulatedDirectory() }

    func violate(_ text: @autoclosure () -> String) { if violation == nil { violation = text() } }

    func count(_ fault: StorageFault, _ times: Int = 1) { faultCounts[fault.rawValue] += times }

    func strikes(_ fault: StorageFault) -> Bool {
        guard random.chance(faults[fault.rawValue]) else { return false }
        count(fault)
        return true
    }

    /// Whether operations of the worker are under way.
    func isBusy(_ worker: Int) -> Bool { !workers[worker].operations.isEmpty }

    /// When something is due for the worker. nil: nothing is under way.
    func nextDue(_ worker: Int) -> UInt64? { workers[worker].operations.lazy.filter(\.isBegun).map(\.due).min() }

    // MARK: Submissions

    /// - Parameter now: monotonic nanoseconds.
    func submit(_ submission: Submission, of worker: Int, now: UInt64) {
        guard check(submission, worker) else { return }
        let index = submission.connection.index
        submissionCount += 1
        var operation = Operation(number: submissionCount, submission: submission)
        switch submission.kind {
        case .openDirectory, .createFile, .openFile:
            var handle = Handle(slot: submission.connection)
            handle.isReadOnly = submission.kind == .openFile && submission.value == 1
            workers[worker].handles[index] = handle
            operation.name = name(of: submission)
        case .deleteFile: operation.name = name(of: submission)
        case .renameFile:
            operation.name = name(of: submission)
            operation.newName = newName(of: submission)
        case .appendFile, .appendFileDurably: operation.bytes = Self.bytes(of: submission)
        case .readFile:
            // The buffer is the disk's until the answer.
            memset(UnsafeMutableRawPointer(mutating: submission.pointer!), 0xA5, Int(submission.value))
        case .closeFile: workers[worker].handles[index]?.isClosing = true
        default: break
        }
        workers[worker].operations.append(operation)
        begin(worker, now)
    }

    private func check(_ submission: Submission, _ worker: Int) -> Bool {
        guard let fault = fault(of: submission, workers[worker]) else { return violation == nil }
        violate("\(submission.kind) of file \(submission.connection.index): \(fault)")
        return false
    }

    /// The rule that a submission breaks.
    private func fault(of submission: Submission, _ worker: Worker) -> String? {
        let slot = submission.connection
        let handles = worker.handles
        guard slot.index < UInt32(Submission.fileIndexMax), slot.generation != 0 else { return "no slot of a file" }
        switch submission.kind {
        case .openDirectory, .createFile, .openFile:
            if handles[slot.index] != nil { return "the slot is in use" }
            guard submission.pointer != nil else { return "without a name" }
            if submission.kind == .openDirectory { return nil }
            guard let directory = handles[submission.directory.index], directory.slot == submission.directory,
                directory.isOpen, !directory.isClosing, directory.directory != nil
            else { return "the directory is not open" }
            return nil
        default: break
        }
        guard let handle = handles[slot.index], handle.slot == slot else { return "there is none" }
        guard handle.isOpen else { return "it is not open yet" }
        guard !handle.isClosing else { return "it is being closed" }
        switch submission.kind {
        case .deleteFile, .renameFile:
            if submission.kind == .renameFile, submission.newName == nil { return "without a new name" }
            if handle.directory == nil { return "it is no directory" }
            return submission.pointer == nil ? "without a name" : nil
        case .syncFile, .closeFile: return nil
        case .appendFile, .appendFileDurably, .readFile, .allocateFile:
            guard handle.file != nil else { return "it is no file" }
            guard submission.value > 0, submission.byteCount >= 0 else { return "no bytes, or an offset below 0" }
            if submission.kind == .readFile { return submission.pointer == nil ? "without a buffer" : nil }
            if handle.isReadOnly { return "it is open for reading only" }
            return submission.kind == .allocateFile ? nil : faultOfAppend(submission, worker.operations)
        default: return "no submission of a file"
        }
    }

    private func faultOfAppend(_ submission: Submission, _ operations: [Operation]) -> String? {
        guard submission.pointer != nil, (1...Submission.fileVectorCountMax).contains(Int(submission.peer)) else {
            return "no vectors, or too many"
        }
        let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
        let sum = (0..<Int(submission.peer)).reduce(0) { $0 + vectors[$1].iov_len }
        guard sum == Int(submission.value) else { return "its vectors have \(sum) bytes, not \(submission.value)" }
        let range = submission.byteCount..<submission.byteCount + sum
        let isOverlapping = operations.contains { other in
            let start = other.submission.byteCount
            return other.submission.connection == submission.connection && !other.bytes.isEmpty
                && range.overlaps(start..<start + other.bytes.count)
        }
        return isOverlapping ? "another append to the same place is under way" : nil
    }

    func name(of submission: Submission) -> String {
        String(cString: submission.pointer!.assumingMemoryBound(to: CChar.self))
    }

    func newName(of submission: Submission) -> String {
        String(cString: submission.newName!.assumingMemoryBound(to: CChar.self))
    }

    static func bytes(of submission: Submission) -> [UInt8] {
        let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(submission.value))
        for place in 0..<Int(submission.peer) {
            let piece = UnsafeRawBufferPointer(start: vectors[place].iov_base, count: vectors[place].iov_len)
            bytes.append(contentsOf: piece)
        }
        return bytes
    }

    // MARK: Order

    /// Begins every operation that may begin.
    func begin(_ worker: Int, _ now: UInt64) {
        for place in workers[worker].operations.indices where !workers[worker].operations[place].isBegun {
            guard mayBegin(place, workers[worker].operations) else { continue }
            workers[worker].operations[place].isBegun = true
            workers[worker].operations[place].due = now + duration()
        }
    }

    func duration() -> UInt64 {
        if strikes(.slowOperation) { return UInt64(random.range(1...300)) * 1_000_000 }
        return UInt64(random.pick(durations))
    }

    /// Whether the earlier operations of the same handle let this one begin.
    private func mayBegin(_ place: Int, _ operations: [Operation]) -> Bool {
        let submission = operations[place].submission
        let owner = submission.owner
        for earlier in operations[..<place] where earlier.submission.owner == owner {
            switch submission.order {
            case .none: return true
            case .change: if earlier.submission.kind == .syncFile, !earlier.isBegun { return false }
            case .sync: if earlier.submission.order == .change { return false }
            case .close: return false
            }
        }
        return true
    }

    // MARK: Answers

    /// Carries out what is due and appends the answers.
    func collect(_ worker: Int, now: UInt64, _ completions: inout Batch<Completion>) {
        while true {
            let due = workers[worker].operations.indices.filter {
                workers[worker].operations[$0].isBegun && workers[worker].operations[$0].due <= now
            }
            guard !due.isEmpty else { return }
            let place = random.pick(due)
            guard let value = carryOut(place, worker, now) else {
                // A part was done. The rest takes time, however short.
                workers[worker].operations[place].due = now + max(duration(), 1)
                continue
            }
            let submission = workers[worker].operations.remove(at: place).submission
            finish(submission, value, worker)
            completions.append(
                Completion(
                    submission.answer, connection: submission.connection, value: value, pointer: submission.pointer,
                    address: UInt64(bitPattern: Int64(submission.byteCount))))
            begin(worker, now)
        }
    }

    private func finish(_ submission: Submission, _ value: Int32, _ worker: Int) {
        let index = submission.connection.index
        switch submission.kind {
        case .openDirectory, .createFile, .openFile:
            if value < 0 { workers[worker].handles[index] = nil } else { workers[worker].handles[index]?.isOpen = true }
        case .closeFile: workers[worker].handles[index] = nil
        default: break
        }
    }
}

/// What a submission waits for. The drivers have a table of their own (`FileOrder`); this one is here to check it.
enum SimulatedOrder { case none, change, sync, close }

extension Submission {
    /// The handle in whose line the operation is.
    var owner: Slot { kind == .createFile || kind == .openFile ? directory : connection }

    var order: SimulatedOrder {
        switch kind {
        case .createFile, .deleteFile, .renameFile, .appendFile, .appendFileDurably, .allocateFile: .change
        case .syncFile: .sync
        case .closeFile: .close
        default: .none
        }
    }

    var answer: Completion.Kind {
        switch kind {
        case .appendFile, .appendFileDurably: .fileAppended
        case .readFile: .fileRead
        case .allocateFile: .fileAllocated
        case .syncFile: .fileSynced
        case .deleteFile: .fileDeleted
        case .renameFile: .fileRenamed
        case .closeFile: .fileClosed
        default: .fileOpened
        }
    }
}
