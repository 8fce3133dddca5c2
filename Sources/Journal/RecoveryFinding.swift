/// How many intact records there are of each kind.
public struct RecordCounts: Equatable, Sendable {
    public var messageCount = 0
    /// Messages that acknowledgements name.
    public var acknowledgedCount = 0
    /// What says something of messages or queues, beside these.
    public var otherCount = 0

    public init() {}

    public var total: Int { messageCount + acknowledgedCount + otherCount }

    mutating func add(_ record: Record) {
        switch record.type {
        case .message: messageCount += 1
        case .acknowledgement: acknowledgedCount += record.referenceCount
        case .failureCount, .queueMade, .queueRemoved, .subscriptionMade, .subscriptionRemoved, .topicOffsets,
            .transactionPart, .transactionEnd, .deduplication:
            otherCount += 1
        case .segmentHeader, .segmentEnd, .mark, .cleanEnd, .skip: break
        }
    }
}

/// Something that is not as it was written.
public struct RecoveryFinding: Equatable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        /// The last append of a log is incomplete: nobody was promised anything of it. It is cut.
        case tornTail = "torn-tail"
        /// Bytes that were on stable storage are not as they were. Nothing behind them is used before that is mended.
        case hole
        /// A segment's format is newer than this program.
        case newerFormat = "newer-format"
    }

    public var kind: Kind
    /// From here on the log is not used.
    public var segment: SegmentName
    public var offset: Int
    /// Where the damage is: at `offset`, or behind it in the same part of a transaction.
    public var damagedOffset: Int
    public var damage: RecordDamage
    /// Intact records of this log behind the damage.
    public var behind = RecordCounts()
    /// The first of them.
    public var nextSegment: SegmentName?
    public var nextOffset = 0
    /// Of the log's segments; 0: no header tells.
    var segmentByteCount = 0
    var workerCount: UInt16 = 1
    /// nil: no header tells.
    var recordMagic: UInt32?

    public init(kind: Kind, segment: SegmentName, offset: Int, damagedOffset: Int, damage: RecordDamage) {
        self.kind = kind
        self.segment = segment
        self.offset = offset
        self.damagedOffset = damagedOffset
        self.damage = damage
    }

    mutating func describeLog(_ log: LogState) {
        segmentByteCount = log.segmentByteCount
        workerCount = log.workerCount
        recordMagic = log.recordMagic
    }

    /// The broker does not start.
    public var isFatal: Bool { kind != .tornTail }

    /// One line, without the directory's name.
    public var description: String {
        let place = "\(segment), byte \(damagedOffset): \(damage)"
        let counts = "\(behind.messageCount) messages and \(behind.acknowledgedCount) acknowledgements"
        switch kind {
        case .tornTail where damage == .unfinished:
            return "\(place). It was being made when the broker ended, or it has been cut"
        case .tornTail:
            return "\(place). The last write was cut off by a crash; no receipt was sent for it. It is not used, with "
                + "\(counts) behind it"
        case .hole:
            return "\(place). This had been written completely: the disk or something else has changed it. Behind it "
                + "are \(counts) that are intact"
        case .newerFormat: return "\(segment): the format is newer than this program; use the program that wrote it"
        }
    }
}
