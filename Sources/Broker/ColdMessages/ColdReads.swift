import Glibc
import IO
import Journal
import Slabs

/// A part of a segment that is being read.
struct ColdRead: BitwiseCopyable {
    enum Stage: UInt8, BitwiseCopyable {
        case free, opening, reading, closing
    }

    var stage = Stage.free
    var generation: UInt32 = 0
    /// Whose messages are read.
    var cold = Handle<ColdQueue>.none
    /// They are to be written again, not to be given out.
    var isForCompaction = false
    /// As in `ColdPlace`.
    var segment: UInt32 = 0
    /// In the segment's file.
    var offset = 0
    var byteCount = 0
    var buffer: UnsafeMutableRawPointer?
    var capacity = 0
}

/// Reads of segments, a few at a time. The file is opened for each and closed behind it: half a megabyte takes a hundred
/// times as long, and no file stays open that somebody else has removed.
///
///     opening --> reading --> closing --> free
struct ColdReads: ~Copyable {
    enum Answer: Equatable {
        case nothing
        /// So many bytes were read: `take` the read, then `finish` it.
        case read(Int, byteCount: Int)
        /// The read is over: errno.
        case failed(Int, Int32)
        /// There is room for another.
        case closed
    }

    /// Reads under way at a time.
    static var countMax: Int { 8 }
    /// Slots of files: those of the log are below.
    private static var firstSlotIndex: UInt32 { 128 }
    private static var nameByteCount: Int { 64 }

    private let reads: UnsafeMutablePointer<ColdRead>
    /// Of each read: they stay until the answer.
    private let names: UnsafeMutableRawPointer
    private(set) var busyCount = 0
    private var spares = Batch<UnsafeMutableRawPointer>(capacity: 16)
    /// Of the buffers that are kept.
    private var spareByteCount = 0

    init() {
        reads = .allocate(capacity: Self.countMax)
        reads.initialize(repeating: ColdRead(), count: Self.countMax)
        names = .allocate(byteCount: Self.countMax * Self.nameByteCount, alignment: 16)
    }

    deinit {
        for index in 0..<Self.countMax { reads[index].buffer?.deallocate() }
        for index in 0..<spares.count { spares[index].deallocate() }
        reads.deallocate()
        names.deallocate()
    }

    subscript(_ index: Int) -> ColdRead { reads[index] }

    var hasRoom: Bool { busyCount < Self.countMax }

    static func isOurs(_ slot: Slot) -> Bool {
        slot.index >= firstSlotIndex && slot.index < firstSlotIndex + UInt32(countMax)
    }

    private func slot(_ index: Int) -> Slot {
        Slot(index: Self.firstSlotIndex + UInt32(index), generation: reads[index].generation)
    }

    /// Begins a read. There has to be room.
    ///
    /// - Parameters:
    ///   - range: in the file `name`.
    ///   - usualByteCount: buffers of this size are used again.
    mutating func start(
        _ range: Range<Int>, of name: SegmentName, _ segment: UInt32, for cold: Handle<ColdQueue>,
        isForCompaction: Bool = false, usualByteCount: Int, _ submissions: inout Batch<Submission>
    ) {
        guard let index = (0..<Self.countMax).first(where: { reads[$0].stage == .free }) else {
            return invariant(false, "there is room for a read")
        }
        busyCount += 1
        var read = ColdRead(
            stage: .opening, generation: reads[index].generation % 0xFF_FFFF + 1, cold: cold,
            isForCompaction: isForCompaction, segment: segment, offset: range.lowerBound, byteCount: range.count)
        read.capacity = max(range.count, usualByteCount)
        if read.capacity == spareByteCount, !spares.isEmpty {
            read.buffer = spares.removeLast()
        } else {
            read.buffer = .allocate(byteCount: read.capacity, alignment: 4096)
        }
        reads[index] = read
        let text = names + index * Self.nameByteCount
        name.write(to: text)
        submissions.append(
            .openFile(
                UnsafePointer(text.assumingMemoryBound(to: CChar.self)), in: SegmentFiles.directory, as: slot(index),
                isReadOnly: true))
    }

    mutating func answered(_ completion: Completion, _ submissions: inout Batch<Submission>) -> Answer {
        let index = Int(completion.connection.index - Self.firstSlotIndex)
        switch completion.kind {
        case .fileOpened:
            guard completion.value == 0, let buffer = reads[index].buffer else {
                // There is nothing to close.
                reads[index].stage = .free
                busyCount -= 1
                return .failed(index, -completion.value)
            }
            reads[index].stage = .reading
            submissions.append(
                .read(reads[index].byteCount, of: slot(index), at: reads[index].offset, into: buffer))
            return .nothing
        case .fileRead:
            reads[index].stage = .closing
            submissions.append(.closeFile(slot(index)))
            if completion.value < 0 { return .failed(index, -completion.value) }
            return .read(index, byteCount: Int(completion.value))
        case .fileClosed:
            reads[index].stage = .free
            busyCount -= 1
            return .closed
        default: return .nothing
        }
    }

    /// The bytes are used no more.
    mutating func finish(_ index: Int, usualByteCount: Int) {
        guard let buffer = reads[index].buffer else { return }
        if reads[index].capacity == usualByteCount, spares.count < Self.countMax {
            if spareByteCount != usualByteCount { trim() }
            spareByteCount = usualByteCount
            spares.append(buffer)
        } else {
            buffer.deallocate()
        }
        reads[index].buffer = nil
    }

    /// Gives the memory of buffers back that are not in use.
    mutating func trim() {
        for index in 0..<spares.count { spares[index].deallocate() }
        spares.removeAll()
    }
}
