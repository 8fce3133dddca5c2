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
public enum RecordDamage: UInt8, Error, Sendable, CaseIterable {
    /// Zeros, or a whole record of another place, worker or life: nothing was written here.
    case vacant
    /// Neither zeros nor a record's beginning.
    case foreign
    /// The length leads beyond the segment's end.
    case length
    case checksum
    /// A type that this version does not know.
    case type
    /// The payload has not the shape of its type.
    case payload
    /// A record of a part of a transaction lies beyond the part's end, or is of a type that no part holds.
    case part

    public var description: String {
        switch self {
        case .vacant: "nothing was written there"
        case .foreign: "the bytes are not a record's"
        case .length: "the record's length leads beyond the end of the segment"
        case .checksum: "the checksum is wrong"
        case .type: "the record's type is unknown"
        case .payload: "the record's content has not the shape of its type"
        case .part: "a record does not belong in the part of a transaction in which it is"
        }
    }
}

/// Reads records from bytes that may be anything.
public enum RecordReader {
    /// The record at `offset`, a multiple of 64, of a segment's bytes.
    ///
    /// - Parameters:
    ///   - position: the record's place in the log; nil: what the record says is believed.
    ///   - worker: whose log it is.
    public static func read(
        _ bytes: UnsafeRawBufferPointer, at offset: Int, position: UInt64?, worker: UInt16
    ) throws(RecordDamage) -> Record {
        guard offset >= 0, offset <= bytes.count - JournalFormat.headerByteCount, let base = bytes.baseAddress else {
            throw .vacant
        }
        let header = base + offset
        guard header.little(0, UInt32.self) == JournalFormat.magic else {
            throw isZero(bytes, at: offset) ? RecordDamage.vacant : RecordDamage.foreign
        }
        let payloadByteCount = Int(header.little(16, UInt32.self))
        let ownPosition = header.little(8, UInt64.self)
        let ownWorker = header.little(20, UInt16.self)
        let isElsewhere = ownWorker != worker || position.map { $0 != ownPosition } ?? false
        guard payloadByteCount <= bytes.count - offset - JournalFormat.headerByteCount else {
            throw .length
        }
        let checksum = cjournal_crc32c(0, header + 8, JournalFormat.headerByteCount - 8 + payloadByteCount)
        guard checksum == header.little(4, UInt32.self) else { throw .checksum }
        // Only a whole record is believed to be another's: a flipped bit of the position is damage.
        guard !isElsewhere else { throw .vacant }
        guard let type = RecordType(rawValue: header.little(22, UInt8.self)) else { throw .type }
        let record = Record(
            type: type, flags: header.little(23, UInt8.self), worker: ownWorker, position: ownPosition,
            detail: header.little(24, UInt64.self),
            payload: UnsafeRawBufferPointer(start: header + JournalFormat.headerByteCount, count: payloadByteCount))
        guard record.hasShape else { throw .payload }
        return record
    }

    /// Whether the unit at `offset` is all zeros.
    private static func isZero(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        let end = min(offset + JournalFormat.unitByteCount, bytes.count)
        return !bytes[offset..<end].contains { $0 != 0 }
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
            flags: RecordFlags(rawValue: flags), content: base + MessageRecord.fixedByteCount + nameByteCount,
            headersByteCount: Int(base.little(40, UInt32.self)), bodyByteCount: Int(base.little(44, UInt32.self)))
        message.orderKey = base.little(16, UInt64.self)
        message.original = MessageReference(
            position: base.little(24, UInt64.self), worker: base.little(32, UInt16.self))
        message.failureCount = base.little(34, UInt16.self)
        return message
    }

    /// Of an `.acknowledgement` or `.failureCount` record: how many messages it names.
    public var referenceCount: Int { payload.count / MessageReference.byteCount }

    public func reference(at index: Int) -> MessageReference {
        let base = payload.baseAddress! + index * MessageReference.byteCount
        return MessageReference(position: base.little(0, UInt64.self), worker: base.little(8, UInt16.self))
    }

    /// Of a `.queueMade` record.
    public var queue: QueueRecord {
        let base = payload.baseAddress!
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

    /// Of a `.segmentHeader` record.
    public var segmentHeader: SegmentHeader {
        let base = payload.baseAddress!
        var header = SegmentHeader(
            life: JournalFormat.life(of: position), worker: worker, workerCount: base.little(2, UInt16.self),
            sequence: base.little(8, UInt32.self), segmentByteCount: Int(base.little(4, UInt32.self)),
            milliseconds: base.little(16, UInt64.self))
        header.version = base.little(0, UInt16.self)
        return header
    }

    /// Of a `.transactionPart` record.
    public var transaction: UInt64 { payload.baseAddress!.little(0, UInt64.self) }
    public var partCount: UInt16 { payload.baseAddress!.little(8, UInt16.self) }

    /// Of a `.mark` record.
    public var firstSequence: UInt32 { payload.baseAddress!.little(0, UInt32.self) }

    /// Up to where the log was on stable storage, by a `.mark` or `.cleanEnd` record.
    public var durable: UInt64? { type == .mark || type == .cleanEnd ? detail : nil }

    /// Lengths within the payload lead to its end and no further.
    fileprivate var hasShape: Bool {
        switch type {
        case .segmentHeader: payload.count == SegmentHeader.byteCount
        case .segmentEnd, .cleanEnd, .transactionEnd: payload.count == 0
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
        case .queueRemoved: payload.count > 0 && payload.count <= UInt16.max
        case .transactionPart: payload.count == 12 && partCount > 0
        }
    }
}

extension UnsafeRawPointer {
    @inline(__always)
    func little<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _ type: Value.Type) -> Value {
        Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}
