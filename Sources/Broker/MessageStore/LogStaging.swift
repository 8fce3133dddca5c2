import Glibc
import Journal
import Slabs
import IO

/// A part of the log that is in memory: what is appended together, or waits for that.
struct StagedPiece: BitwiseCopyable {
    /// A multiple of the block size in memory and in the segment.
    var base: UnsafeMutableRawPointer
    var byteCountMax: Int
    /// Bytes at `base` that are the piece's before it, or were appended before: a block is written as a whole.
    var headByteCount: Int
    /// Of the records behind them.
    var writer: RecordWriter
    /// The segment that it goes to, and where in it the first record goes.
    var sequence: UInt32
    var offset: Int
    /// Where its mark goes. -1: it has none.
    var markOffset: Int

    /// Of head and records.
    var endOffset: Int { headByteCount + writer.byteCount }
}

/// The end of the log: records that are not on stable storage yet.
///
///     segment:  | header | mark | records ... | mark | records ... | end | not used |
///               '------ piece ---------------'------ piece --------------'
///
/// Records gather in a piece until it is submitted, or full; then the next begins. A piece ends with its segment at the
/// latest. Pieces wait in order; several that follow each other in one segment go out together.
///
/// **Blocks** (`StorageOptions.blockByteCount`). Appends that go past the page cache consist of whole blocks. A block that
/// an append fills in part is zero behind the last record, and is written again by the next append, which so begins with
/// bytes that are on the disk already: the same ones, so that a write that a crash tears there changes nothing.
///
/// What holds: a piece has room for the end of its segment; what is submitted is not changed until it is answered.
struct LogStaging: ~Copyable {
    /// Buffers of pieces. Larger records have one of their own.
    private static var pieceByteCount: Int { 1 << 20 }
    private static var sparesMax: Int { 3 }
    /// An append has so many bytes at most, or one piece.
    private static var appendByteCountMax: Int { 4 << 20 }
    private static var vectorCountMax: Int { 64 }

    private let life: UInt32
    private let worker: UInt16
    private let workerCount: UInt16
    private let segmentByteCount: Int
    private let recordMagic: UInt32
    private let blockByteCount: Int
    /// The last block that was submitted, as far as it is filled.
    private let tail: UnsafeMutableRawPointer
    /// Oldest first. The first `submittedCount` are under way.
    private var pieces = Batch<StagedPiece>(capacity: 16)
    private(set) var submittedCount = 0
    private var spares = Batch<UnsafeMutableRawPointer>(capacity: 16)
    let vectors: UnsafeMutablePointer<iovec>
    /// Where the next record goes, if no piece is open.
    private(set) var sequence: UInt32 = 0
    private(set) var offset = 0
    /// Of all pieces.
    private(set) var byteCount = 0
    /// The last piece takes no more records.
    private var isSealed = true

    init(_ options: borrowing StorageOptions, worker: Int, workerCount: Int) {
        life = options.life
        self.worker = UInt16(worker)
        self.workerCount = UInt16(workerCount)
        segmentByteCount = options.segmentByteCount
        recordMagic = options.recordMagic
        blockByteCount = options.blockByteCount
        invariant(
            blockByteCount > 0 && blockByteCount & (blockByteCount - 1) == 0 && blockByteCount <= 4096
                && segmentByteCount % blockByteCount == 0,
            "a block is a power of two up to 4096, and a segment consists of whole ones")
        tail = .allocate(byteCount: blockByteCount, alignment: 16)
        vectors = .allocate(capacity: Self.vectorCountMax)
    }

    deinit {
        for index in 0..<pieces.count { pieces[index].base.deallocate() }
        for index in 0..<spares.count { spares[index].deallocate() }
        vectors.deallocate()
        tail.deallocate()
    }

    var isEmpty: Bool { pieces.isEmpty }

    /// Behind the last record.
    var endOffset: Int { Int(sequence) * segmentByteCount + offset }
    var endPosition: LogPosition { JournalFormat.position(life: life, offset: endOffset) }

    /// The segment of the oldest record that is not on stable storage; where there is none, of the next record.
    var firstSequence: UInt32 { pieces.isEmpty ? sequence : pieces[0].sequence }

    // MARK: Records

    /// The writer that has room for records of so many bytes, which stay together.
    ///
    /// - Parameter milliseconds: wall-clock time, for the header of a segment.
    mutating func room(_ byteCount: Int, _ milliseconds: UInt64) -> UnsafeMutablePointer<RecordWriter> {
        let end = RecordWriter.emptyByteCount
        if isSealed || !last.pointee.writer.hasRoom(byteCount + end) {
            if segmentByteCount - offset < RecordWriter.markByteCount + byteCount + end { endSegment() }
            openPiece(byteCount, milliseconds)
        } else if segmentByteCount - offset < byteCount + end {
            endSegment()
            openPiece(byteCount, milliseconds)
        }
        return writer
    }

    /// To be called when records have been written to `room`.
    mutating func didWrite() {
        let written = last.pointee.offset + last.pointee.writer.byteCount
        byteCount += written - offset
        offset = written
    }

    private var last: UnsafeMutablePointer<StagedPiece> { pieces.base + (pieces.count - 1) }

    /// Of the last piece. To be had in a constant before it is written through: with the thread sanitizer, Swift 6.3 makes
    /// invalid code of a write through a computed pointer here.
    private var writer: UnsafeMutablePointer<RecordWriter> {
        let offset = MemoryLayout<StagedPiece>.offset(of: \StagedPiece.writer)!
        return (UnsafeMutableRawPointer(last) + offset).assumingMemoryBound(to: RecordWriter.self)
    }

    private mutating func openPiece(_ byteCount: Int, _ milliseconds: UInt64, hasMark: Bool = true) {
        let isFirst = offset == 0
        let needed =
            (isFirst ? RecordWriter.segmentHeaderByteCount : 0) + (hasMark ? RecordWriter.markByteCount : 0) + byteCount
            + RecordWriter.emptyByteCount
        invariant(needed <= segmentByteCount - offset || byteCount == 0, "a record fits in a segment")
        let headByteCount = offset & (blockByteCount - 1)
        let size = (max(headByteCount + needed, Self.pieceByteCount) + blockByteCount - 1) & ~(blockByteCount - 1)
        var base: UnsafeMutableRawPointer?
        if size == Self.pieceByteCount, !spares.isEmpty { base = spares.removeLast() }
        let piece = base ?? .allocate(byteCount: size, alignment: 4096)
        pieces.append(
            StagedPiece(
                base: piece, byteCountMax: size, headByteCount: headByteCount,
                writer: RecordWriter(
                    at: piece + headByteCount, byteCountMax: min(size - headByteCount, segmentByteCount - offset),
                    position: endPosition, worker: worker, magic: recordMagic),
                sequence: sequence, offset: offset, markOffset: -1))
        isSealed = false
        let writer = self.writer
        if isFirst {
            writer.pointee.write(
                SegmentHeader(
                    life: life, worker: worker, workerCount: workerCount, sequence: sequence,
                    segmentByteCount: segmentByteCount, milliseconds: milliseconds, recordMagic: recordMagic))
        }
        if hasMark { last.pointee.markOffset = writer.pointee.reserveMark() }
        didWrite()
    }

    /// The log goes on in the next segment.
    private mutating func endSegment() {
        if offset < segmentByteCount {
            if isSealed { openPiece(0, 0, hasMark: false) }
            let writer = self.writer
            writer.pointee.writeSegmentEnd()
            didWrite()
        }
        isSealed = true
        sequence += 1
        offset = 0
    }

    /// Makes sure that there is something to append: a mark.
    mutating func makeMark(_ milliseconds: UInt64) { _ = room(0, milliseconds) }

    /// The last record of the log. Everything before it is on stable storage.
    mutating func writeCleanEnd(_ milliseconds: UInt64) {
        invariant(isEmpty, "the log is on stable storage when it ends")
        if segmentByteCount - offset < RecordWriter.emptyByteCount * 2 { endSegment() }
        // The header of a segment that begins with this is not on stable storage yet.
        let durable = endPosition
        if isSealed { openPiece(0, milliseconds, hasMark: false) }
        let writer = self.writer
        writer.pointee.writeCleanEnd(durable: durable)
        didWrite()
        isSealed = true
    }

    // MARK: Reading

    /// Where in a segment the records begin that are here, and not in its file yet. `.max`: all are in the file.
    func firstOffset(in sequence: UInt32) -> Int {
        guard !pieces.isEmpty, sequence >= pieces[0].sequence else { return .max }
        return sequence == pieces[0].sequence ? pieces[0].offset : 0
    }

    /// The bytes from a record on that is here.
    func bytes(_ sequence: UInt32, _ offset: Int) -> UnsafeRawBufferPointer? {
        for index in 0..<pieces.count {
            let piece = pieces[index]
            let place = offset - piece.offset
            if piece.sequence == sequence, place >= 0, place < piece.writer.byteCount {
                return UnsafeRawBufferPointer(
                    start: piece.base + piece.headByteCount + place, count: piece.writer.byteCount - place)
            }
        }
        return nil
    }

    // MARK: Appends

    /// What is to be appended next. nil: nothing.
    struct Append {
        var sequence: UInt32
        var offset: Int
        var byteCount: Int
        var pieceCount: Int
        var vectorCount: Int
    }

    /// What would go out now: the records. nil: nothing waits.
    var nextAppend: Append? {
        guard submittedCount == 0, !pieces.isEmpty else { return nil }
        var append = Append(
            sequence: pieces[0].sequence, offset: pieces[0].offset, byteCount: 0, pieceCount: 0, vectorCount: 0)
        for index in 0..<min(pieces.count, Self.vectorCountMax) {
            let piece = pieces.base + index
            guard piece.pointee.sequence == append.sequence,
                index == 0 || append.byteCount + piece.pointee.writer.byteCount <= Self.appendByteCountMax
            else { break }
            append.byteCount += piece.pointee.writer.byteCount
            append.pieceCount += 1
        }
        return append
    }

    /// The append is submitted: `vectors` say what it is.
    ///
    /// - Parameters:
    ///   - append: `nextAppend`; then the whole blocks that go out.
    ///   - durable: up to here the log is on stable storage.
    ///   - firstNeeded: the first segment that is needed.
    /// - Returns: whether there is a mark in it, which says so. The end of a segment may go out without one.
    mutating func submit(_ append: inout Append, durable: LogPosition, firstNeeded: UInt32) -> Bool {
        var hasMark = false
        submittedCount = append.pieceCount
        if submittedCount == pieces.count { isSealed = true }
        append.offset -= pieces[0].headByteCount
        append.byteCount = 0
        for index in 0..<submittedCount {
            let piece = pieces.base + index
            piece.pointee.base.copyMemory(from: tail, byteCount: piece.pointee.headByteCount)
            if piece.pointee.markOffset >= 0 {
                piece.pointee.writer.writeMark(
                    at: piece.pointee.markOffset, durable: durable, firstSequence: firstNeeded)
                hasMark = true
            }
            let byteCount = takeBlocks(of: piece.pointee, isLast: index == submittedCount - 1)
            if byteCount == 0 { continue }
            vectors[append.vectorCount] = iovec(iov_base: piece.pointee.base, iov_len: byteCount)
            append.vectorCount += 1
            append.byteCount += byteCount
        }
        return hasMark
    }

    /// Keeps the block that the piece fills in part, for whoever comes next.
    ///
    /// - Returns: how many of its bytes go out: with the last piece, that block too, and zeros to its end.
    private func takeBlocks(of piece: StagedPiece, isLast: Bool) -> Int {
        let filled = piece.endOffset & ~(blockByteCount - 1)
        let rest = piece.endOffset - filled
        if rest == 0 { return filled }
        tail.copyMemory(from: piece.base + filled, byteCount: rest)
        guard isLast else { return filled }
        memset(piece.base + piece.endOffset, 0, blockByteCount - rest)
        return filled + blockByteCount
    }

    /// The append is done with. Returns where the log is behind it.
    mutating func finishAppend() -> LogPosition {
        invariant(submittedCount > 0, "an append that is answered was submitted")
        var end = 0
        for index in 0..<submittedCount {
            let piece = pieces[index]
            end = Int(piece.sequence) * segmentByteCount + piece.offset + piece.writer.byteCount
            byteCount -= piece.writer.byteCount
            if piece.byteCountMax == Self.pieceByteCount, spares.count < Self.sparesMax {
                spares.append(piece.base)
            } else {
                piece.base.deallocate()
            }
        }
        pieces.removeFirst(submittedCount)
        submittedCount = 0
        return JournalFormat.position(life: life, offset: end)
    }
}
