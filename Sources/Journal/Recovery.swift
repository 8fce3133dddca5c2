/// Finds out of the segments of a directory what lives.
///
///     var recovery = Recovery()
///     for name in names.sorted() { recovery.read(name, bytesOfTheFile) }
///     let state = recovery.finish()
///     // state.findings: damage; state.messages: what lives, in order.
///
/// Segments are given in the order of their names: an acknowledgement comes behind its message in one log, or is in a log
/// of a later life. The bytes are used during the call alone. Memory: 8 bytes for each message that lives at a time,
/// twice that at most; 12 more for each that was copied forward; and the names of their queues.
///
/// **Where a log ends.** At the first place without an intact record of this place. What is behind it decides:
///
/// - a mark that says that this place had been on stable storage: a *hole*, and the broker must not start;
/// - no such mark, but a record that was begun, or intact records: a *torn tail*, the last append of a crashed broker. It
///   is cut as a whole, and told of;
/// - else the log's end.
///
/// Zeros and what the segment held before in place of a record are no exception: a disk may lose a write.
public struct Recovery: ~Copyable {
    var segments: [SegmentContents] = []
    var logs: [LogState] = []
    var queues = QueueNames()
    var transactions: [UInt64: TransactionState] = [:]
    /// Those of them that have conditions.
    var conditionalTransactions: Set<UInt64> = []
    /// Acknowledgements in logs that are read before that of the message, which is of the same life.
    var early: Set<MessageReference> = []
    var counts = RecordCounts()
    var deduplication: DeduplicationRecovery
    /// Of few messages, by `LiveMessages.key`: how often each was delivered and not acknowledged, if that is known; and the
    /// number of its queue, if it is too large for an entry.
    var failures: [UInt64: UInt16] = [:]
    var queueNumbers: [UInt64: UInt32] = [:]
    private var findings: [RecoveryFinding] = []
    /// Of the segment under way: the position of its first byte.
    private var basePosition: UInt64 = 0

    /// - Parameter idsSince: ids of messages that were taken earlier are left out (wall-clock milliseconds). `.max`: all are.
    public init(idsSince: UInt64 = .max) { deduplication = DeduplicationRecovery(since: idsSince) }

    /// Reads the next segment, all bytes of its file.
    public mutating func read(_ name: SegmentName, _ bytes: UnsafeRawBufferPointer) {
        openLog(name)
        let log = logs.count - 1
        if !segments.isEmpty { segments[segments.count - 1].shrink() }
        segments.append(SegmentContents(name: name, byteCount: bytes.count))
        logs[log].segmentCount += 1
        let isMissing = name.sequence != logs[log].nextSequence
        logs[log].nextSequence = name.sequence &+ 1
        if logs[log].end == nil, isMissing {
            let missing = SegmentName(life: name.life, worker: name.worker, sequence: previous(of: segments.count - 1))
            end(missing, at: 0, .missing, isHole: true)
        }
        guard logs[log].end == nil else { return scanBehind(name, bytes, from: 0) }
        readFromStart(name, bytes)
    }

    /// The sequence that should have come in place of that of the newest segment.
    private func previous(of index: Int) -> UInt32 { segments[index - 1].name.sequence &+ 1 }

    private mutating func openLog(_ name: SegmentName) {
        if let last = logs.last, last.life == name.life, last.worker == name.worker { return }
        logs.append(LogState(name, firstSegment: segments.count))
    }

    // MARK: Segments

    private mutating func readFromStart(_ name: SegmentName, _ bytes: UnsafeRawBufferPointer) {
        let log = logs.count - 1
        let header: SegmentHeader
        do throws(RecordDamage) {
            header = try Self.header(of: bytes, name, segmentByteCount: logs[log].segmentByteCount)
        } catch {
            let isShort = bytes.count < max(JournalFormat.segmentByteCountMin, logs[log].segmentByteCount)
            end(name, at: 0, error == .vacant && isShort ? .unfinished : error)
            return scanBehind(name, bytes, from: JournalFormat.unitByteCount)
        }
        guard header.version <= JournalFormat.version else {
            end(name, at: 0, .vacant)
            logs[log].end?.kind = .newerFormat
            return
        }
        logs[log].segmentByteCount = header.segmentByteCount
        logs[log].workerCount = header.workerCount
        logs[log].recordMagic = header.recordMagic
        segments[segments.count - 1].recordMagic = header.recordMagic
        logs[log].isClean = false
        basePosition = header.position
        let isTruncated = bytes.count < header.segmentByteCount
        let segment = UnsafeRawBufferPointer(rebasing: bytes.prefix(header.segmentByteCount))
        readRecords(name, segment, from: RecordWriter.segmentHeaderByteCount)
        if isTruncated {
            if logs[log].end == nil { end(name, at: bytes.count & ~(JournalFormat.unitByteCount - 1), .truncated) }
            logs[log].end?.kind = .hole
            logs[log].end?.damage = .truncated
        }
    }

    /// The header of the segment with that name, in the log with that size of segments (0: not known).
    static func header(
        of bytes: UnsafeRawBufferPointer, _ name: SegmentName, segmentByteCount: Int
    ) throws(RecordDamage) -> SegmentHeader {
        let expected =
            segmentByteCount == 0
            ? nil : JournalFormat.position(life: name.life, offset: Int(name.sequence) * segmentByteCount)
        let record = try RecordReader.read(bytes, at: 0, position: expected, worker: name.worker)
        guard record.type == .segmentHeader else { throw .type }
        let header = record.segmentHeader
        // The position alone names life and sequence, once the size is known.
        guard header.life == name.life, header.sequence == name.sequence else { throw .vacant }
        guard header.version > JournalFormat.version || header.isConsistent(record.position) else { throw .payload }
        return header
    }

    private mutating func readRecords(_ name: SegmentName, _ bytes: UnsafeRawBufferPointer, from start: Int) {
        var offset = start
        while offset < bytes.count {
            let damage: RecordDamage
            do throws(RecordDamage) {
                let record = try self.record(bytes, at: offset)
                switch record.type {
                case .segmentEnd: return
                case .segmentHeader: throw .type
                case .skip:
                    guard record.detail <= UInt64(bytes.count - offset) else { throw .length }
                    offset += Int(record.detail)
                case .transactionPart:
                    let end = offset + record.byteCount
                    guard record.detail <= UInt64(bytes.count - end), record.detail % 64 == 0 else { throw .length }
                    if let (inner, damage) = damageOfPart(bytes, from: end, byteCount: Int(record.detail)) {
                        self.end(name, at: offset, damage, damagedOffset: inner)
                        return scanBehind(name, bytes, from: inner + JournalFormat.unitByteCount)
                    }
                    applyPart(record, bytes, from: end)
                    offset = end + Int(record.detail)
                default:
                    apply(record, unit: UInt32(offset / JournalFormat.unitByteCount), transaction: nil)
                    offset += record.byteCount
                }
                continue
            } catch { damage = error }
            end(name, at: offset, damage)
            return scanBehind(name, bytes, from: offset + JournalFormat.unitByteCount)
        }
    }

    func record(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RecordDamage) -> Record {
        try RecordReader.read(
            bytes, at: offset, position: basePosition &+ UInt64(offset / JournalFormat.unitByteCount),
            worker: logs[logs.count - 1].worker, magic: logs[logs.count - 1].recordMagic)
    }

    /// The first place in a part of a transaction that is not as it should be.
    private func damageOfPart(
        _ bytes: UnsafeRawBufferPointer, from start: Int, byteCount: Int
    ) -> (offset: Int, damage: RecordDamage)? {
        var offset = start
        while offset < start + byteCount {
            do throws(RecordDamage) {
                let record = try self.record(bytes, at: offset)
                guard record.type.isAllowedInPart else { throw .type }
                guard offset + record.byteCount <= start + byteCount else { throw .length }
                offset += record.byteCount
            } catch { return (offset, error) }
        }
        return nil
    }

    // MARK: Where a log ends

    private mutating func end(
        _ name: SegmentName, at offset: Int, _ damage: RecordDamage, damagedOffset: Int? = nil, isHole: Bool = false
    ) {
        logs[logs.count - 1].end = RecoveryFinding(
            kind: isHole ? .hole : .tornTail, segment: name, offset: offset, damagedOffset: damagedOffset ?? offset,
            damage: damage)
    }

    /// Looks for intact records of this log behind its end.
    private mutating func scanBehind(_ name: SegmentName, _ bytes: UnsafeRawBufferPointer, from start: Int) {
        let log = logs.count - 1
        guard var finding = logs[log].end, finding.kind != .newerFormat else { return }
        let segmentByteCount = logs[log].segmentByteCount == 0 ? bytes.count : logs[log].segmentByteCount
        let base = JournalFormat.position(life: name.life, offset: Int(name.sequence) &* segmentByteCount)
        let endPosition = JournalFormat.position(
            life: name.life, offset: Int(finding.segment.sequence) &* segmentByteCount &+ finding.damagedOffset)
        var offset = start
        while let (record, place) = RecordReader.next(
            bytes, from: offset, basePosition: base, worker: name.worker, magic: logs[log].recordMagic)
        {
            if finding.nextSegment == nil, record.type != .segmentHeader {
                finding.nextSegment = name
                finding.nextOffset = place
            }
            finding.behind.add(record)
            if let durable = record.durable, durable > endPosition { finding.kind = .hole }
            offset = place + record.byteCount
        }
        logs[log].end = finding
    }

    // MARK: The end

    /// What lives, when all segments are read.
    ///
    /// - Parameter lifeBegun: the last life that began to deliver. It may have made no segment before it ended: then all
    ///   messages may have been delivered.
    public consuming func finish(lifeBegun: UInt32 = 0) -> RecoveredState {
        resolveTransactions()
        for log in logs {
            guard var finding = log.end else { continue }
            finding.describeLog(log)
            let isDamage = finding.damage.isRecord || finding.nextSegment != nil || finding.isFatal
            if isDamage { findings.append(finding) }
        }
        findNeededSegments()
        let lifeMax = logs.last?.life ?? 0
        let unclean = logs.last { !$0.isClean }?.life ?? 0
        let segments = recoveredSegments()
        return RecoveredState(
            findings: findings, queues: queues.all, segments: segments, unsealedTransactions: unsealedTransactions(),
            ids: deduplication.ids, lifeMax: max(lifeMax, lifeBegun), counts: counts,
            live: LiveMessages(
                self.segments, at: segments, failures: failures, queueNumbers: queueNumbers,
                redeliveredLifeMax: max(lifeBegun > lifeMax ? lifeBegun : unclean, newestLifeIfIncomplete)))
    }

    /// Segments of the newest life that its last marks say are needed.
    private mutating func findNeededSegments() {
        guard let life = logs.last?.life else { return }
        for log in logs where log.life == life {
            let first = segments[log.firstSegment].name
            guard first.sequence > log.firstSequenceNeeded, log.segmentByteCount != 0 else { continue }
            var missing = first
            missing.sequence = log.firstSequenceNeeded
            var finding = RecoveryFinding(kind: .hole, segment: missing, offset: 0, damagedOffset: 0, damage: .missing)
            finding.nextSegment = first
            finding.describeLog(log)
            findings.append(finding)
        }
    }

    private func recoveredSegments() -> [RecoveredSegment] {
        var result: [RecoveredSegment] = []
        for log in logs {
            for segment in segments[log.firstSegment..<log.firstSegment + log.segmentCount] {
                let offset = Int(segment.name.sequence) &* log.segmentByteCount
                result.append(
                    RecoveredSegment(
                        name: segment.name, byteCount: segment.byteCount, liveMessageCount: segment.liveMessageCount,
                        liveQueueCount: segment.liveQueueCount,
                        position: JournalFormat.position(life: log.life, offset: offset),
                        recordMagic: segment.recordMagic))
            }
        }
        return result
    }

    /// The newest life, if one of its workers has left no log that ended in order: it may have failed before it had made a
    /// segment, and what it delivered is marked nowhere. 0: all have. (What an older life left out, the next one has marked
    /// when it ended in order.)
    private var newestLifeIfIncomplete: UInt32 {
        guard let life = logs.last?.life else { return 0 }
        let newest = logs.filter { $0.life == life }
        let workerCount = newest.map { Int($0.workerCount) }.max() ?? 1
        return newest.count(where: \.isClean) < workerCount ? life : 0
    }
}
