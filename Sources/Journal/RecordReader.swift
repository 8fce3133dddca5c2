import CJournal

/// A record whose checksum is right and whose payload has the shape of its type. The payload belongs to the bytes that
/// were read.
public struct Record: BitwiseCopyable {
    public var type: RecordType
    public var flags: UInt8
    public var worker: UInt16
    public var position: UInt64
    public var detail: UInt64
    public var payload: UnsafeRawBufferPointer

    /// With header and the zeros behind.
    @inlinable
    public var byteCount: Int { JournalFormat.recordByteCount(payloadByteCount: payload.count) }
    @inlinable
    public var reference: MessageReference { MessageReference(position: position, worker: worker) }
}

/// Why bytes that should be a record are none.
public enum RecordDamage: UInt8, BitwiseCopyable, Error, Sendable, CaseIterable, CustomStringConvertible {
    /// Zeros, or a whole record of another place, worker or life: nothing was written here in this life.
    case vacant
    /// The bytes are not the beginning of a record of this place. A segment that is used again holds such bytes behind
    /// the log's end.
    case foreign
    /// The length leads beyond the segment's end.
    case length
    /// The record was begun here, and is not as it was written.
    case checksum
    /// A type that this version does not know, or one that does not belong there.
    case type
    /// The payload has not the shape of its type.
    case payload
    /// The file ends, and it is shorter than its header says.
    case truncated
    /// The file is not there.
    case missing
    /// The file has no header and is shorter than a segment: it was being made.
    case unfinished

    public var description: String {
        switch self {
        case .vacant: "nothing was written there"
        case .foreign: "the bytes are not a record's"
        case .length: "a record's length leads too far"
        case .checksum: "a record's checksum is wrong"
        case .type: "a record is of a type that does not belong there"
        case .payload: "a record's content has not the shape of its type"
        case .truncated: "the file is shorter than its header says"
        case .missing: "the file is missing"
        case .unfinished: "the file is shorter than a segment and has no header"
        }
    }

    /// A record was begun there.
    var isRecord: Bool { self != .vacant && self != .foreign }
}

/// Reads records from bytes that may be anything.
public enum RecordReader {
    /// The record at `offset`, a multiple of 64, of a segment's bytes.
    ///
    /// - Parameters:
    ///   - position: the record's place in the log; nil: what the record says is believed.
    ///   - worker: whose log it is.
    ///   - magic: with which it begins; nil: with whatever.
    public static func read(
        _ bytes: UnsafeRawBufferPointer, at offset: Int, position: UInt64?, worker: UInt16,
        magic: UInt32? = JournalFormat.magic
    ) throws(RecordDamage) -> Record {
        guard offset >= 0, offset <= bytes.count - JournalFormat.unitByteCount, let base = bytes.baseAddress else {
            throw .vacant
        }
        let header = base + offset
        let ownPosition = header.little(8, UInt64.self)
        let ownWorker = header.little(20, UInt16.self)
        let isRecord =
            if let magic {
                header.little(0, UInt32.self) == magic
            } else {
                position == nil || position == ownPosition
            }
        guard isRecord else {
            if position == ownPosition, ownPosition != 0 { throw .checksum }
            throw isZero(header) ? RecordDamage.vacant : RecordDamage.foreign
        }
        // Of a record whose position has one wrong bit nobody else knows either: it is taken for damage, not for what
        // another life left behind.
        let isHere = position.map { ($0 ^ ownPosition).nonzeroBitCount <= 1 } ?? true
        let payloadByteCount = Int(header.little(16, UInt32.self))
        let recordByteCount = JournalFormat.recordByteCount(payloadByteCount: payloadByteCount)
        guard recordByteCount <= bytes.count - offset else {
            throw isHere ? RecordDamage.length : RecordDamage.foreign
        }
        guard cjournal_crc32c(0, header + 8, recordByteCount - 8) == header.little(4, UInt32.self) else {
            throw isHere ? RecordDamage.checksum : RecordDamage.foreign
        }
        guard ownWorker == worker, position == nil || position == ownPosition else { throw .vacant }
        guard let type = RecordType(rawValue: header.little(22, UInt8.self)) else { throw .type }
        let record = Record(
            type: type, flags: header.little(23, UInt8.self), worker: ownWorker, position: ownPosition,
            detail: header.little(24, UInt64.self),
            payload: UnsafeRawBufferPointer(start: header + JournalFormat.headerByteCount, count: payloadByteCount))
        guard record.hasShape else { throw .payload }
        return record
    }

    /// What the record at `header` says that it takes: `JournalFormat.headerByteCount` bytes have to be there. It may not be
    /// true.
    public static func byteCount(ofRecordAt header: UnsafeRawPointer) -> Int {
        JournalFormat.recordByteCount(payloadByteCount: Int(header.little(16, UInt32.self)))
    }

    /// The first intact record at `start` or behind it, of a segment that begins at `basePosition` in the log.
    ///
    /// - Parameter magic: as in `read`.
    static func next(
        _ bytes: UnsafeRawBufferPointer, from start: Int, basePosition: UInt64, worker: UInt16, magic: UInt32?
    ) -> (record: Record, offset: Int)? {
        var offset = start
        while offset <= bytes.count - JournalFormat.unitByteCount {
            let position = basePosition &+ UInt64(offset / JournalFormat.unitByteCount)
            // Before the checksum: there may be many that were written for another place.
            if (bytes.baseAddress! + offset).little(8, UInt64.self) == position,
                let record = try? read(bytes, at: offset, position: position, worker: worker, magic: magic)
            {
                return (record, offset)
            }
            offset += JournalFormat.unitByteCount
        }
        return nil
    }

    /// Whether a unit is all zeros.
    private static func isZero(_ unit: UnsafeRawPointer) -> Bool {
        var bits: UInt64 = 0
        for word in 0..<8 { bits |= unit.little(8 * word, UInt64.self) }
        return bits == 0
    }
}

extension Record {
    /// Of a `.message` record, which it has to be.
    public var message: MessageRecord {
        let base = payload.baseAddress!
        let nameByteCount = Int(base.little(36, UInt16.self))
        var message = MessageRecord(
            queueName: UnsafeRawBufferPointer(start: base + MessageRecord.fixedByteCount, count: nameByteCount),
            identity: base.little(0, UInt64.self), expiresAt: base.little(8, UInt64.self),
            flags: RecordFlags(rawValue: UInt16(flags) | base.little(38, UInt16.self) << 8),
            content: base + MessageRecord.fixedByteCount + nameByteCount,
            headersByteCount: Int(base.little(40, UInt32.self)), bodyByteCount: Int(base.little(44, UInt32.self)))
        message.orderKey = base.little(16, UInt64.self)
        message.original = MessageReference(
            position: base.little(24, UInt64.self), worker: base.little(32, UInt16.self))
        message.failureCount = base.little(34, UInt16.self)
        message.detail = detail
        return message
    }

    /// Of an `.acknowledgement` or `.failureCount` record: how many messages it names.
    public var referenceCount: Int { payload.count / MessageReference.byteCount }

    public func reference(at index: Int) -> MessageReference {
        let base = payload.baseAddress! + index * MessageReference.byteCount
        return MessageReference(position: base.little(0, UInt64.self), worker: base.little(8, UInt16.self))
    }

    /// Of a `.queueMade` record.
    public var queue: QueueRecord { Self.queue(of: payload.baseAddress!) }

    static func queue(of base: UnsafeRawPointer) -> QueueRecord {
        let nameByteCount = Int(base.little(26, UInt16.self))
        let name = base + QueueRecord.fixedByteCount
        var queue = QueueRecord(queueName: UnsafeRawBufferPointer(start: name, count: nameByteCount))
        queue.messageCountMax = base.little(0, UInt64.self)
        queue.byteCountMax = base.little(8, UInt64.self)
        queue.messageMillisecondsMax = base.little(16, UInt64.self)
        queue.overflow = base.little(24, UInt16.self)
        queue.deadLetterName = UnsafeRawBufferPointer(
            start: name + nameByteCount, count: Int(base.little(28, UInt16.self)))
        return queue
    }

    /// Of a `.deduplication` record.
    public var deduplication: DeduplicationRecord {
        let base = payload.baseAddress!
        let nameByteCount = Int(base.little(0, UInt16.self))
        let name = DeduplicationRecord.fixedByteCount
        return DeduplicationRecord(
            destination: UnsafeRawBufferPointer(start: base + name, count: nameByteCount),
            id: UnsafeRawBufferPointer(start: base + name + nameByteCount, count: payload.count - name - nameByteCount),
            acceptedAt: detail)
    }

    /// Of a `.subscriptionMade` record.
    public var subscription: SubscriptionRecord { Self.subscription(of: payload.baseAddress!) }

    static func subscription(of base: UnsafeRawPointer) -> SubscriptionRecord {
        let nameByteCount = Int(base.little(10, UInt16.self))
        let name = base + SubscriptionRecord.fixedByteCount
        return SubscriptionRecord(
            name: UnsafeRawBufferPointer(start: name, count: nameByteCount),
            topic: UnsafeRawBufferPointer(start: name + nameByteCount, count: Int(base.little(12, UInt16.self))),
            dialect: base.little(8, UInt16.self), lastUsed: base.little(0, UInt64.self))
    }

    /// Of a `.segmentHeader` record.
    public var segmentHeader: SegmentHeader {
        let base = payload.baseAddress!
        var header = SegmentHeader(
            life: JournalFormat.life(of: position), worker: worker, workerCount: base.little(2, UInt16.self),
            sequence: base.little(8, UInt32.self), segmentByteCount: Int(base.little(4, UInt32.self)),
            milliseconds: base.little(16, UInt64.self))
        header.version = base.little(0, UInt16.self)
        if header.version > 1 { header.recordMagic = base.little(12, UInt32.self) ^ JournalFormat.magic }
        return header
    }

    /// Of a `.transactionPart` record.
    public var transaction: UInt64 { payload.baseAddress!.little(0, UInt64.self) }
    public var partCount: UInt16 { payload.baseAddress!.little(8, UInt16.self) }
    public var conditions: PartConditions {
        let base = payload.baseAddress!
        return PartConditions(
            payload.count >= 20 ? base.little(12, UInt64.self) : 0,
            payload.count >= 28 ? base.little(20, UInt64.self) : 0)
    }

    /// Of a `.mark` record.
    public var firstSequence: UInt32 { payload.baseAddress!.little(0, UInt32.self) }

    /// Up to where the log was on stable storage, by a `.mark` or `.cleanEnd` record.
    public var durable: UInt64? { type == .mark || type == .cleanEnd ? detail : nil }

    /// Lengths within the payload lead to its end and no further.
    fileprivate var hasShape: Bool {
        switch type {
        case .segmentHeader: payload.count == SegmentHeader.byteCount
        case .segmentEnd, .cleanEnd, .transactionEnd: payload.count == 0
        case .skip: payload.count == 0 && detail > 0 && detail % UInt64(JournalFormat.unitByteCount) == 0
        case .mark: payload.count == 4
        case .message:
            payload.count >= MessageRecord.fixedByteCount && message.queueName.count > 0
                && message.contentByteCount
                    == payload.count - MessageRecord.fixedByteCount - message.queueName.count
        case .acknowledgement: payload.count > 0 && payload.count % MessageReference.byteCount == 0
        case .failureCount: payload.count == MessageReference.byteCount && detail <= UInt16.max
        case .queueMade:
            payload.count >= QueueRecord.fixedByteCount && queue.queueName.count > 0
                && queue.queueName.count + queue.deadLetterName.count
                    == payload.count - QueueRecord.fixedByteCount
        case .subscriptionMade:
            payload.count >= SubscriptionRecord.fixedByteCount && subscription.name.count > 0
                && subscription.topic.count > 0
                && subscription.name.count + subscription.topic.count
                    == payload.count - SubscriptionRecord.fixedByteCount
        case .queueRemoved, .subscriptionRemoved, .topicOffsets: payload.count > 0 && payload.count <= UInt16.max
        case .transactionPart: [12, 20, 28].contains(payload.count) && partCount > 0
        case .deduplication:
            payload.count > DeduplicationRecord.fixedByteCount && payload.baseAddress!.little(0, UInt16.self) > 0
                && payload.count > DeduplicationRecord.fixedByteCount + Int(payload.baseAddress!.little(0, UInt16.self))
        }
    }
}

extension UnsafeRawPointer {
    @inline(__always)
    func little<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: Value.Type) -> Value {
        Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}
