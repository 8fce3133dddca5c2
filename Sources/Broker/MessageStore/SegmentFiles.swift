import Glibc
import IO
import Journal
import Slabs

/// The files of a log of this life: which one is written, and the next one, which is made ahead.
///
/// A new segment is made in steps, each answered before the next: created, its name synced and its space reserved, its first
/// part filled with zeros, and all of that synced. Only then are records appended, so that what is on the disk of a segment
/// with a record is never shorter than the segment. More zeros are written ahead of the records: a block that was written
/// before is on stable storage without a change of the file's metadata.
///
/// Where space cannot be reserved (EOPNOTSUPP), all of the segment is filled before it is used.
///
/// A segment that is needed no more becomes the next one, if there is one when it is made: it gets the new name, and keeps
/// its bytes. Recovery tells them from this segment's by their positions. What was filled of it need not be filled again,
/// which is half of all bytes that would be written.
struct SegmentFiles: ~Copyable {
    /// Zeros are written so far ahead of the records.
    private static var filledAheadByteCount: Int { 8 << 20 }
    private static var fillByteCount: Int { 1 << 20 }
    private static var zeroByteCount: Int { 64 << 10 }
    private static var fillVectorCount: Int { fillByteCount / zeroByteCount }

    /// Tokens of syncs.
    enum SyncToken {
        /// Of a directory: a segment's name is there.
        static let made = 1
        /// Of a directory: a segment's name is gone.
        static let removed = 2
        /// Of a segment: what was filled.
        static let filled = 3
        /// Of a segment: an append.
        static let appended = 4
        /// Of a segment: what was appended since the last one.
        static let interval = 5
    }

    enum Stage: UInt8, BitwiseCopyable {
        /// There is none.
        case none
        case creating
        /// A segment that is needed no more is getting its name.
        case renaming
        /// It has its name, and is being opened.
        case opening
        /// Its name is being synced, and its space reserved.
        case reserving
        case filling
        case syncing
        case ready
    }

    struct File: BitwiseCopyable {
        var sequence: UInt32 = 0
        var stage = Stage.none
        /// Answers that are due in this stage.
        var answersDue: UInt8 = 0
        var isReserved = false
        /// Zeros, or records, are below.
        var filledByteCount = 0
        /// Zeros are being written up to here.
        var fillGoal = 0
    }

    private let life: UInt32
    private let worker: UInt16
    private let segmentByteCount: Int
    private let isDirect: Bool
    /// Segments that are needed no more may be used again.
    private(set) var reusesSegments: Bool
    private(set) var isOpen = false
    private var isOpening = false
    private(set) var current = File()
    private(set) var ahead = File()
    /// A write of zeros to this segment is under way.
    private var isFilling = false
    private var fillingSequence: UInt32 = 0
    private var fillingEnd = 0
    /// The first sequence that was not made yet.
    private(set) var nextSequence: UInt32 = 0
    /// Making the next segment has failed for want of space. It is tried again.
    private(set) var isShort = false
    /// Another segment would exceed the limit.
    private(set) var isAtLimit = false
    /// Of each segment from the first one that is left to the one before the current one: what was filled of it.
    private var filledByteCounts = Batch<Int>(capacity: 16)
    /// Names for submissions, one behind the other: they stay until the answer.
    private let name: UnsafeMutableRawPointer
    private let formerName: UnsafeMutableRawPointer
    private let path: UnsafeMutablePointer<CChar>
    /// `fillVectorCount` vectors, then the zeros that all of them point to. nil: nothing was filled yet.
    private var zeroVectors: UnsafeMutablePointer<iovec>?

    static var directory: Slot { Slot(index: 1, generation: 1) }

    init(_ options: borrowing StorageOptions, worker: Int) {
        life = options.life
        self.worker = UInt16(worker)
        segmentByteCount = options.segmentByteCount
        isDirect = options.blockByteCount > 1
        reusesSegments = options.reusesSegments
        let nameByteCount = SegmentName.byteCount + 1
        formerName = .allocate(byteCount: 2 * nameByteCount, alignment: 16)
        name = formerName + nameByteCount
        path = .allocate(capacity: options.directory.count + 1)
        for (index, byte) in options.directory.enumerated() { path[index] = CChar(bitPattern: byte) }
        path[options.directory.count] = 0
    }

    deinit {
        formerName.deallocate()
        path.deallocate()
        if let zeroVectors { UnsafeMutableRawPointer(zeroVectors).deallocate() }
    }

    /// What a segment is called in submissions. Its place is used again for the 64th segment after it.
    static func slot(_ sequence: UInt32) -> Slot { Slot(index: 2 + sequence % 64, generation: sequence / 64 + 1) }

    /// Records may be appended to the log below this offset.
    var availableEnd: Int {
        if ahead.stage == .ready { return (Int(ahead.sequence) + 1) * segmentByteCount }
        return current.stage == .ready ? (Int(current.sequence) + 1) * segmentByteCount : 0
    }

    /// Segments of this life that were made.
    var madeCount: Int { Int(nextSequence) }

    // MARK: Making segments

    mutating func open(_ submissions: inout Batch<Submission>) {
        guard !isOpen, !isOpening else { return }
        isOpening = true
        submissions.append(.openDirectory(path, as: Self.directory))
    }

    /// Makes the next segment, if there is none ahead.
    ///
    /// - Parameters:
    ///   - spare: the first segment that is left. It is needed no more.
    ///   - isAtLimit: the limit allows no other.
    ///   - isNeeded: it is made all the same.
    /// - Returns: whether `spare` becomes the next one.
    mutating func makeAhead(
        from spare: UInt32?, isAtLimit: Bool, isNeeded: Bool, _ submissions: inout Batch<Submission>
    ) -> Bool {
        guard isOpen, ahead.stage == .none, !isShort else { return false }
        self.isAtLimit = isAtLimit && spare == nil
        guard isNeeded || !self.isAtLimit else { return false }
        SegmentName(life: life, worker: worker, sequence: nextSequence).write(to: name)
        if let spare {
            ahead = File(sequence: nextSequence, stage: .renaming, filledByteCount: filledByteCounts[0])
            SegmentName(life: life, worker: worker, sequence: spare).write(to: formerName)
            submissions.append(
                .rename(
                    UnsafePointer(formerName.assumingMemoryBound(to: CChar.self)),
                    to: UnsafePointer(name.assumingMemoryBound(to: CChar.self)), in: Self.directory))
            return true
        }
        ahead = File(sequence: nextSequence, stage: .creating)
        submissions.append(
            .createFile(
                UnsafePointer(name.assumingMemoryBound(to: CChar.self)), in: Self.directory,
                as: Self.slot(nextSequence), isDirect: isDirect))
        return false
    }

    /// The log goes on in the next segment, which is ready: nothing more is written to the one before.
    mutating func moveOn(_ submissions: inout Batch<Submission>) {
        invariant(ahead.stage == .ready, "the log goes on in a segment that is ready")
        if current.stage == .ready {
            submissions.append(.closeFile(Self.slot(current.sequence)))
            filledByteCounts.append(current.filledByteCount)
        }
        current = ahead
        ahead = File()
    }

    /// Writes zeros where they are due, one piece at a time.
    ///
    /// - Parameter written: up to here the current segment has records, or will have.
    mutating func fill(written: Int, _ submissions: inout Batch<Submission>) {
        guard !isFilling else { return }
        if current.stage == .ready {
            if current.filledByteCount - written < Self.filledAheadByteCount / 2 {
                current.fillGoal = min(segmentByteCount, written + Self.filledAheadByteCount)
            }
            if current.filledByteCount < current.fillGoal { return fillPiece(of: current, &submissions) }
        }
        guard ahead.stage == .filling, !isShort else { return }
        ahead.fillGoal = ahead.isReserved ? min(segmentByteCount, Self.filledAheadByteCount) : segmentByteCount
        if ahead.filledByteCount < ahead.fillGoal { return fillPiece(of: ahead, &submissions) }
        ahead.stage = .syncing
        submissions.append(.sync(Self.slot(ahead.sequence), token: SyncToken.filled))
    }

    private mutating func fillPiece(of file: File, _ submissions: inout Batch<Submission>) {
        let byteCount = min(Self.fillByteCount, segmentByteCount - file.filledByteCount)
        let vectorCount = (byteCount + Self.zeroByteCount - 1) / Self.zeroByteCount
        let zeroVectors = zeroVectors ?? Self.makeZeros()
        self.zeroVectors = zeroVectors
        zeroVectors[vectorCount - 1].iov_len = byteCount - (vectorCount - 1) * Self.zeroByteCount
        isFilling = true
        fillingSequence = file.sequence
        fillingEnd = file.filledByteCount + byteCount
        submissions.append(
            .append(
                zeroVectors, vectorCount: vectorCount, byteCount: byteCount, to: Self.slot(file.sequence),
                at: file.filledByteCount))
    }

    private static func makeZeros() -> UnsafeMutablePointer<iovec> {
        let vectorsByteCount = 4096
        let base = UnsafeMutableRawPointer.allocate(byteCount: vectorsByteCount + zeroByteCount, alignment: 4096)
        let zeros = base + vectorsByteCount
        memset(zeros, 0, zeroByteCount)
        let vectors = base.bindMemory(to: iovec.self, capacity: fillVectorCount)
        vectors.initialize(repeating: iovec(iov_base: zeros, iov_len: zeroByteCount), count: fillVectorCount)
        return vectors
    }

    // MARK: Removing segments

    /// The first segment that is left is gone, or has become another one.
    mutating func forgetFirst() { filledByteCounts.removeFirst(1) }

    /// Removes the name of a segment, of this life or another.
    ///
    /// - Parameter name: where the name is kept until the answer.
    mutating func remove(
        _ segment: SegmentName, _ name: UnsafeMutableRawPointer, _ submissions: inout Batch<Submission>
    ) {
        segment.write(to: name)
        submissions.append(
            .delete(UnsafePointer(name.assumingMemoryBound(to: CChar.self)), in: Self.directory))
    }

    mutating func syncRemoval(_ submissions: inout Batch<Submission>) {
        submissions.append(.sync(Self.directory, token: SyncToken.removed))
    }

    // MARK: Answers

    enum Outcome {
        case nothing
        /// A step is done: more may be submitted.
        case progress
        /// Space is short. It is tried again later.
        case short
        /// The log cannot go on: errno, and what failed.
        case failed(Int32, StaticString)
    }

    func isFill(_ completion: Completion) -> Bool {
        zeroVectors != nil && completion.pointer == zeroVectors.map { UnsafeRawPointer($0) }
    }

    static func isShortage(_ errorNumber: Int32) -> Bool {
        [ENOSPC, EDQUOT, EFBIG, ENOMEM, EMFILE, ENFILE].contains(errorNumber)
    }

    mutating func opened(_ completion: Completion, _ submissions: inout Batch<Submission>) -> Outcome {
        let errorNumber = -min(completion.value, 0)
        if completion.connection == Self.directory {
            isOpening = false
            if errorNumber != 0 { return .failed(errorNumber, "the directory cannot be opened") }
            isOpen = true
            return .progress
        }
        guard ahead.stage == .creating || ahead.stage == .opening else { return .nothing }
        if errorNumber != 0 {
            guard Self.isShortage(errorNumber) else {
                return .failed(
                    errorNumber, ahead.stage == .opening ? "a segment cannot be opened" : "a segment cannot be created")
            }
            if ahead.stage == .creating { ahead = File() }
            isShort = true
            return .short
        }
        submissions.append(.sync(Self.directory, token: SyncToken.made))
        if ahead.stage == .opening {
            // It has its space. A file system may want the same again to answer that (xfs), and the disk may be full.
            ahead.isReserved = true
            ahead.answersDue = 1
        } else {
            nextSequence += 1
            ahead.answersDue = 2
            submissions.append(.allocate(segmentByteCount, of: Self.slot(ahead.sequence), at: 0))
        }
        ahead.stage = .reserving
        return .nothing
    }

    /// A segment that is needed no more has the next one's name. If that is not possible, new ones are made from now on.
    mutating func renamed(_ completion: Completion, _ submissions: inout Batch<Submission>) -> Outcome {
        guard completion.value == 0 else {
            reusesSegments = false
            ahead = File()
            return .progress
        }
        nextSequence += 1
        ahead.stage = .opening
        openAhead(&submissions)
        return .nothing
    }

    private func openAhead(_ submissions: inout Batch<Submission>) {
        submissions.append(
            .openFile(
                UnsafePointer(name.assumingMemoryBound(to: CChar.self)), in: Self.directory,
                as: Self.slot(ahead.sequence), isDirect: isDirect))
    }

    mutating func allocated(_ completion: Completion, _ submissions: inout Batch<Submission>) -> Outcome {
        guard ahead.stage == .reserving else { return .nothing }
        let errorNumber = -min(completion.value, 0)
        switch errorNumber {
        case 0: ahead.isReserved = true
        case EOPNOTSUPP, ENOSYS, EINVAL: ahead.isReserved = false
        case _ where Self.isShortage(errorNumber):
            isShort = true
            return .short
        default: return .failed(errorNumber, "space for a segment cannot be reserved")
        }
        return stepIsDone()
    }

    /// The segment ahead could not be opened, or its space was not to be had: tried again.
    mutating func retry(_ submissions: inout Batch<Submission>) {
        guard isShort else { return }
        isShort = false
        if ahead.stage == .opening { return openAhead(&submissions) }
        guard ahead.stage == .reserving, !ahead.isReserved else { return }
        submissions.append(.allocate(segmentByteCount, of: Self.slot(ahead.sequence), at: 0))
    }

    mutating func synced(_ completion: Completion) -> Outcome {
        let errorNumber = -min(completion.value, 0)
        if errorNumber != 0 { return .failed(errorNumber, "what was written cannot be brought to stable storage") }
        if completion.offset == SyncToken.made { return stepIsDone() }
        guard completion.offset == SyncToken.filled, ahead.stage == .syncing,
            completion.connection == Self.slot(ahead.sequence)
        else { return .nothing }
        ahead.stage = .ready
        isShort = false
        return .progress
    }

    private mutating func stepIsDone() -> Outcome {
        ahead.answersDue -= 1
        guard ahead.answersDue == 0 else { return .nothing }
        ahead.stage = .filling
        return .progress
    }

    mutating func filled(_ completion: Completion, _ submissions: inout Batch<Submission>) -> Outcome {
        isFilling = false
        if let zeroVectors {
            for index in 0..<Self.fillVectorCount { zeroVectors[index].iov_len = Self.zeroByteCount }
        }
        let errorNumber = -min(completion.value, 0)
        let isOfCurrent = current.stage == .ready && current.sequence == fillingSequence
        if errorNumber != 0 {
            guard Self.isShortage(errorNumber) else { return .failed(errorNumber, "a segment cannot be written") }
            if isOfCurrent {
                // Without zeros ahead it is slower, and no worse.
                current.filledByteCount = segmentByteCount
                return .progress
            }
            // The log may have gone on meanwhile, and left that segment behind.
            guard ahead.stage == .filling, ahead.sequence == fillingSequence else { return .progress }
            isShort = true
            return .short
        }
        if isOfCurrent {
            current.filledByteCount = max(current.filledByteCount, fillingEnd)
            if current.filledByteCount >= current.fillGoal {
                // On its own, so that an append to these blocks changes no metadata.
                submissions.append(.sync(Self.slot(current.sequence), token: SyncToken.filled))
            }
        } else if ahead.stage == .filling, ahead.sequence == fillingSequence {
            ahead.filledByteCount = max(ahead.filledByteCount, fillingEnd)
        }
        return .progress
    }
}
