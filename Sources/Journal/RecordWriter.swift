import CJournal
import Slabs

/// Writes records one behind the other into the caller's memory. It allocates nothing.
///
/// The caller has to leave room: each method says how many bytes it writes, and a record that does not fit stops the
/// process. It also has to see to it that no record crosses the end of a segment: `byteCountMax` ends there at the latest.
///
///     var writer = RecordWriter(at: base, byteCountMax: room, position: position, worker: 0)
///     let mark = writer.reserveMark()
///     let reference = writer.write(message)       // position of the record
///     writer.write(acknowledged: settled)
///     writer.writeMark(at: mark, durable: durable, firstSequence: first)      // when it is submitted
///     // base ..< base + writer.byteCount is to be appended.
public struct RecordWriter: BitwiseCopyable {
    @usableFromInline let base: UnsafeMutableRawPointer
    public let byteCountMax: Int
    public let worker: UInt16
    /// With which records begin, but for a segment's header.
    private let magic: UInt32
    /// Where `base` stands in the log.
    public let firstPosition: UInt64
    /// What is written: a multiple of `JournalFormat.unitByteCount`.
    public private(set) var byteCount = 0
    /// Where the head of the open part is. -1: none.
    private var partOffset = -1
    /// Of its head.
    private var partPayloadByteCount = 0

    /// - Parameters:
    ///   - base: `byteCountMax` bytes of the caller's, which need not be cleared.
    ///   - position: where they go in the log.
    ///   - magic: `SegmentHeader.recordMagic` of the segment.
    public init(
        at base: UnsafeMutableRawPointer, byteCountMax: Int, position: UInt64, worker: UInt16,
        magic: UInt32 = JournalFormat.magic
    ) {
        self.base = base
        self.byteCountMax = byteCountMax
        self.worker = worker
        self.magic = magic
        firstPosition = position
    }

    /// Of the next record.
    @inlinable public var position: UInt64 { firstPosition &+ UInt64(byteCount &>> 6) }

    /// Whether a record, or several, of so many bytes fit.
    @inlinable public func hasRoom(_ byteCount: Int) -> Bool { byteCount <= byteCountMax &- self.byteCount }

    // MARK: Messages

    /// Writes `message.recordByteCount` bytes. Returns the message's name.
    public mutating func write(_ message: MessageRecord) -> MessageReference {
        let reference = MessageReference(position: position, worker: worker)
        let (payloadByteCount, next) = beginMessage(message)
        next.copyMemory(from: message.content, byteCount: message.contentByteCount)
        end(
            .message, flags: UInt8(truncatingIfNeeded: message.flags.rawValue), detail: message.detail,
            payloadByteCount: payloadByteCount)
        return reference
    }

    /// The same of a message whose content is not in one piece: `extra` and `headers` are its header lines, together
    /// `message.headersByteCount` bytes, and `body` its body. `message.content` is not used.
    public mutating func write(
        _ message: MessageRecord, extra: UnsafeRawBufferPointer, headers: UnsafeRawPointer, body: UnsafeRawPointer
    ) -> MessageReference {
        let reference = MessageReference(position: position, worker: worker)
        var (payloadByteCount, next) = beginMessage(message)
        next.copy(extra)
        next.copy(UnsafeRawBufferPointer(start: headers, count: message.headersByteCount - extra.count))
        next.storeBytes(of: UInt8(ascii: "\n"), as: UInt8.self)
        next += 1
        next.copy(UnsafeRawBufferPointer(start: body, count: message.bodyByteCount))
        next.storeBytes(of: 0, as: UInt8.self)
        next.storeBytes(of: UInt8(ascii: "\n"), toByteOffset: 1, as: UInt8.self)
        end(
            .message, flags: UInt8(truncatingIfNeeded: message.flags.rawValue), detail: message.detail,
            payloadByteCount: payloadByteCount)
        return reference
    }

    /// Writes a message's payload up to its content. Returns where that goes.
    @inline(__always)
    private func beginMessage(
        _ message: MessageRecord
    ) -> (payloadByteCount: Int, content: UnsafeMutableRawPointer) {
        let payloadByteCount = MessageRecord.fixedByteCount + message.queueName.count + message.contentByteCount
        let payload = begin(payloadByteCount: payloadByteCount)
        payload.storeLittle(message.identity, at: 0)
        payload.storeLittle(message.expiresAt, at: 8)
        payload.storeLittle(message.orderKey == 0 ? position : message.orderKey, at: 16)
        let isCopy = message.flags.contains(.isCopy)
        payload.storeLittle(isCopy ? message.original.position : 0, at: 24)
        let worker = UInt64(isCopy ? message.original.worker : 0)
        payload.storeLittle(
            worker | UInt64(message.failureCount) << 16 | UInt64(UInt16(message.queueName.count)) << 32
                | UInt64(message.flags.rawValue >> 8) << 48, at: 32)
        payload.storeLittle(
            UInt64(UInt32(message.headersByteCount)) | UInt64(UInt32(message.bodyByteCount)) << 32, at: 40)
        var next = payload + MessageRecord.fixedByteCount
        next.copy(message.queueName)
        return (payloadByteCount, next)
    }

    /// What a record of so many acknowledgements takes.
    public static func acknowledgementByteCount(_ count: Int) -> Int {
        JournalFormat.recordByteCount(payloadByteCount: count * MessageReference.byteCount)
    }

    /// These messages are of no more use. Writes `acknowledgementByteCount(count)` bytes.
    public mutating func write(acknowledged references: UnsafeBufferPointer<MessageReference>) {
        let payloadByteCount = references.count * MessageReference.byteCount
        let payload = begin(payloadByteCount: payloadByteCount)
        var offset = 0
        for reference in references {
            payload.storeLittle(reference.position, at: offset)
            payload.storeLittle(reference.worker, at: offset + 8)
            offset += MessageReference.byteCount
        }
        end(.acknowledgement, payloadByteCount: payloadByteCount)
    }

    /// This message is of no more use. Writes `acknowledgementByteCount(1)` bytes.
    public mutating func write(acknowledged reference: MessageReference) {
        withUnsafePointer(to: reference) { write(acknowledged: UnsafeBufferPointer(start: $0, count: 1)) }
    }

    /// Deliveries of a message that ended without acknowledgement; 0 with `isRedelivered` of the message alone. Writes
    /// `acknowledgementByteCount(1)` bytes.
    public mutating func write(failureCount: UInt16, of reference: MessageReference) {
        let payload = begin(payloadByteCount: MessageReference.byteCount)
        payload.storeLittle(reference.position, at: 0)
        payload.storeLittle(reference.worker, at: 8)
        end(.failureCount, detail: UInt64(failureCount), payloadByteCount: MessageReference.byteCount)
    }

    // MARK: Queues

    /// Writes `queue.recordByteCount` bytes. A later record of the same name counts instead.
    public mutating func write(queueMade queue: QueueRecord) {
        let payloadByteCount = QueueRecord.fixedByteCount + queue.queueName.count + queue.deadLetterName.count
        let payload = begin(payloadByteCount: payloadByteCount)
        payload.storeLittle(queue.messageCountMax, at: 0)
        payload.storeLittle(queue.byteCountMax, at: 8)
        payload.storeLittle(queue.messageMillisecondsMax, at: 16)
        payload.storeLittle(queue.overflow, at: 24)
        payload.storeLittle(UInt16(queue.queueName.count), at: 26)
        payload.storeLittle(UInt16(queue.deadLetterName.count), at: 28)
        payload.storeLittle(UInt16(0), at: 30)
        var next = payload + QueueRecord.fixedByteCount
        next.copy(queue.queueName)
        next.copy(queue.deadLetterName)
        end(.queueMade, payloadByteCount: payloadByteCount)
    }

    /// What the queue was made with is forgotten. It says nothing of messages. Writes
    /// `JournalFormat.recordByteCount(payloadByteCount: name.count)` bytes.
    public mutating func write(queueRemoved name: UnsafeRawBufferPointer) {
        var next = begin(payloadByteCount: name.count)
        next.copy(name)
        end(.queueRemoved, payloadByteCount: name.count)
    }

    /// Offsets of the topic's log below `offset` may have been given out: the next life begins there, or behind the last
    /// message that lives. A later record of the same name counts instead. Writes
    /// `JournalFormat.recordByteCount(payloadByteCount: name.count)` bytes.
    public mutating func write(topicOffsets name: UnsafeRawBufferPointer, below offset: UInt64) {
        var next = begin(payloadByteCount: name.count)
        next.copy(name)
        end(.topicOffsets, detail: offset, payloadByteCount: name.count)
    }

    // MARK: Deduplication

    /// Writes `record.recordByteCount` bytes.
    public mutating func write(_ record: DeduplicationRecord) {
        let payloadByteCount = DeduplicationRecord.fixedByteCount + record.destination.count + record.id.count
        let payload = begin(payloadByteCount: payloadByteCount)
        payload.storeLittle(UInt16(record.destination.count), at: 0)
        payload.storeLittle(UInt16(0), at: 2)
        var next = payload + DeduplicationRecord.fixedByteCount
        next.copy(record.destination)
        next.copy(record.id)
        end(.deduplication, detail: record.acceptedAt, payloadByteCount: payloadByteCount)
    }

    // MARK: Durable subscriptions

    /// Writes `subscription.recordByteCount` bytes.
    public mutating func write(subscriptionMade subscription: SubscriptionRecord) {
        let payloadByteCount =
            SubscriptionRecord.fixedByteCount + subscription.name.count + subscription.topic.count
        let payload = begin(payloadByteCount: payloadByteCount)
        payload.storeLittle(subscription.lastUsed, at: 0)
        payload.storeLittle(subscription.dialect, at: 8)
        payload.storeLittle(UInt16(subscription.name.count), at: 10)
        payload.storeLittle(UInt16(subscription.topic.count), at: 12)
        payload.storeLittle(UInt16(0), at: 14)
        var next = payload + SubscriptionRecord.fixedByteCount
        next.copy(subscription.name)
        next.copy(subscription.topic)
        end(.subscriptionMade, payloadByteCount: payloadByteCount)
    }

    /// The subscription is gone, and its messages with it. Writes
    /// `JournalFormat.recordByteCount(payloadByteCount: name.count)` bytes.
    public mutating func write(subscriptionRemoved name: UnsafeRawBufferPointer) {
        var next = begin(payloadByteCount: name.count)
        next.copy(name)
        end(.subscriptionRemoved, payloadByteCount: name.count)
    }

    // MARK: Transactions

    /// Whatever the conditions.
    public static let partByteCount = JournalFormat.recordByteCount(payloadByteCount: 12 + 2 * 8)
    public static let emptyByteCount = JournalFormat.recordByteCount(payloadByteCount: 0)

    /// What is written from here to `endPart` counts together or not at all. It has to be one append, in one segment.
    /// Writes `partByteCount` bytes.
    ///
    /// - Parameters:
    ///   - transaction: unique in the directory; of no meaning where the transaction has one part and no conditions.
    ///   - partCount: in how many logs the transaction has a part, 1 or more.
    ///   - conditions: transactions without which this one does not count. Their parts in this log are in front of it.
    public mutating func beginPart(
        transaction: UInt64, partCount: UInt16, conditions: PartConditions = PartConditions()
    ) {
        invariant(partOffset < 0, "a part of a transaction begins within another")
        partOffset = byteCount
        partPayloadByteCount = 12 + 8 * conditions.count
        let payload = begin(payloadByteCount: partPayloadByteCount)
        payload.storeLittle(transaction, at: 0)
        payload.storeLittle(partCount, at: 8)
        payload.storeLittle(UInt16(0), at: 10)
        if conditions.first != 0 { payload.storeLittle(conditions.first, at: 12) }
        if conditions.second != 0 { payload.storeLittle(conditions.second, at: 20) }
        byteCount += Self.partByteCount
    }

    /// Completes the record that `beginPart` began. Writes nothing behind.
    public mutating func endPart() {
        invariant(partOffset >= 0, "no part of a transaction was begun")
        let end = byteCount
        byteCount = partOffset
        partOffset = -1
        self.end(
            .transactionPart, detail: UInt64(end - byteCount - Self.partByteCount),
            payloadByteCount: partPayloadByteCount)
        byteCount = end
    }

    /// All parts of a transaction are on stable storage. Writes `emptyByteCount` bytes.
    public mutating func write(transactionEnd transaction: UInt64) {
        _ = begin(payloadByteCount: 0)
        end(.transactionEnd, detail: transaction, payloadByteCount: 0)
    }

    // MARK: The log itself

    public static let segmentHeaderByteCount = JournalFormat.recordByteCount(payloadByteCount: SegmentHeader.byteCount)

    /// The first record of a segment. Writes `segmentHeaderByteCount` bytes.
    public mutating func write(_ header: SegmentHeader) {
        invariant(position == header.position && worker == header.worker, "a segment's header is out of place")
        let payload = begin(payloadByteCount: SegmentHeader.byteCount)
        payload.storeLittle(header.version, at: 0)
        payload.storeLittle(header.workerCount, at: 2)
        payload.storeLittle(UInt32(header.segmentByteCount), at: 4)
        payload.storeLittle(header.sequence, at: 8)
        payload.storeLittle(header.recordMagic ^ JournalFormat.magic, at: 12)
        payload.storeLittle(header.milliseconds, at: 16)
        end(.segmentHeader, payloadByteCount: SegmentHeader.byteCount)
    }

    /// The rest of the segment is not used. Writes `emptyByteCount` bytes.
    public mutating func writeSegmentEnd() {
        _ = begin(payloadByteCount: 0)
        end(.segmentEnd, payloadByteCount: 0)
    }

    public static let markByteCount = JournalFormat.recordByteCount(payloadByteCount: 4)

    /// Leaves room for a mark, `markByteCount` bytes: the first of what is to be appended. Returns where.
    public mutating func reserveMark() -> Int {
        let offset = byteCount
        _ = begin(payloadByteCount: 4)
        byteCount += Self.markByteCount
        return offset
    }

    /// Writes the mark when the append is submitted.
    ///
    /// - Parameters:
    ///   - durable: everything below this position of this log is on stable storage.
    ///   - firstSequence: the segments of this log from here on are needed. Those before are removed when this mark is on
    ///     stable storage, and no earlier: recovery takes the absence of others for damage.
    public mutating func writeMark(at offset: Int, durable: UInt64, firstSequence: UInt32) {
        let end = byteCount
        byteCount = offset
        let payload = begin(payloadByteCount: 4)
        payload.storeLittle(firstSequence, at: 0)
        self.end(.mark, detail: durable, payloadByteCount: 4)
        byteCount = end
    }

    /// The last record of a life that ends in order. Everything before it has to be on stable storage, `durable` as for a
    /// mark. Writes `emptyByteCount` bytes.
    public mutating func writeCleanEnd(durable: UInt64) {
        _ = begin(payloadByteCount: 0)
        end(.cleanEnd, detail: durable, payloadByteCount: 0)
    }

    /// The bytes from here to the next intact record are given up, `skippedByteCount` with this record. Writes
    /// `emptyByteCount` bytes.
    mutating func write(skip skippedByteCount: Int) {
        _ = begin(payloadByteCount: 0)
        end(.skip, detail: UInt64(skippedByteCount), payloadByteCount: 0)
    }

    // MARK: Records

    /// Returns where the payload goes, and clears what is left over at the record's end.
    private func begin(payloadByteCount: Int) -> UnsafeMutableRawPointer {
        let recordByteCount = JournalFormat.recordByteCount(payloadByteCount: payloadByteCount)
        invariant(hasRoom(recordByteCount), "no room for a record of the log")
        let record = base + byteCount
        let used = JournalFormat.headerByteCount + payloadByteCount
        (record + used).initializeMemory(as: UInt8.self, repeating: 0, count: recordByteCount - used)
        return record + JournalFormat.headerByteCount
    }

    /// Writes the header of the record whose payload is complete, and goes on behind it.
    ///
    /// Fields that share a word are written as one: the checksum reads words right behind, and a processor makes a load that
    /// several stores together would answer wait for all of them. That took half of the checksum's time.
    private mutating func end(_ type: RecordType, flags: UInt8 = 0, detail: UInt64 = 0, payloadByteCount: Int) {
        let record = base + byteCount
        record.storeLittle(type == .segmentHeader ? JournalFormat.magic : magic, at: 0)
        record.storeLittle(position, at: 8)
        record.storeLittle(
            UInt64(UInt32(payloadByteCount)) | UInt64(worker) << 32 | UInt64(type.rawValue) << 48
                | UInt64(flags) << 56, at: 16)
        record.storeLittle(detail, at: 24)
        let recordByteCount = JournalFormat.recordByteCount(payloadByteCount: payloadByteCount)
        record.storeLittle(cjournal_crc32c(0, record + 8, recordByteCount - 8), at: 4)
        byteCount += recordByteCount
    }
}

extension UnsafeMutableRawPointer {
    @inline(__always)
    func storeLittle<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }

    /// Copies bytes here, and goes on behind them.
    @inline(__always)
    mutating func copy(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        copyMemory(from: source, byteCount: bytes.count)
        self += bytes.count
    }
}
