public import Journal
import Schedules

/// A record, or bytes that are none, as `stampede storage dump` shows it. Fields that a type does not have are nil.
public struct DumpedRecord: Encodable, Sendable {
    public var segment: String
    /// Where it is in the file, and how many bytes it takes.
    public var byte: Int
    public var bytes: Int
    /// A name of `RecordType`; "nothing": bytes that are no record.
    public var type: String
    /// "LIFE:OFFSET@WORKER": the record's name in acknowledgements.
    public var name: String?
    /// What the bytes are, if they are no record.
    public var damage: String?
    public var queue: String?
    /// The virtual host of `queue`, and of `topic`. nil: the standard one.
    public var host: String?
    /// Of a durable subscription.
    public var topic: String?
    /// Of a durable subscription: when its last consumer left it (wall-clock milliseconds). nil: it had one.
    public var lastUsed: UInt64?
    public var identity: UInt64?
    /// Wall-clock milliseconds.
    public var expires: UInt64?
    public var failures: Int?
    /// Of a message that waits for its time: when it is due (wall-clock milliseconds), and how often again; -1: for ever.
    public var due: UInt64?
    public var repeats: Int?
    /// The id by which a message is taken once.
    public var deduplicationID: String?
    /// When the broker took it (wall-clock milliseconds).
    public var accepted: UInt64?
    public var isRedelivered: Bool?
    /// Of a copy: the record whose place it takes.
    public var replaces: String?
    public var headers: String?
    public var body: [UInt8]?
    public var bodyBytes: Int?
    /// Of acknowledgements: the records' names.
    public var of: [String]?
    public var transaction: UInt64?
    public var parts: Int?
    /// Of a part of a transaction: transactions without which it does not count.
    public var conditions: [UInt64]?
    /// Up to where the log was on stable storage: "LIFE:OFFSET".
    public var durable: String?
    public var firstSegment: UInt32?
    public var workers: Int?
    public var version: Int?
    /// Of the log of the topic that `queue` names: below which number its offsets may have been given out.
    public var offsetEnd: UInt64?
    /// Of a message that a topic keeps: "log" or "retained".
    public var keptAs: String?
    /// Of one in a log: wall-clock milliseconds, when it came there.
    public var logged: UInt64?

    private enum CodingKeys: String, CodingKey {
        case segment, byte, bytes, type, name, damage, queue, host, topic, identity, expires, failures, headers, body
        case of, transaction, parts, conditions, durable, workers, version, replaces, logged, due, repeats, accepted
        case offsetEnd = "offset-end"
        case keptAs = "kept-as"
        case deduplicationID = "deduplication-id"
        case isRedelivered = "redelivered"
        case bodyBytes = "body-bytes"
        case lastUsed = "last-used"
        case firstSegment = "first-segment"
    }

    init(_ segment: SegmentName, _ item: SegmentScan.Item, contents: Bool) {
        self.segment = segment.description
        switch item {
        case .other(let range, let damage):
            byte = range.lowerBound
            bytes = range.count
            type = "nothing"
            self.damage = damage.description
        case .record(let record, let offset):
            byte = offset
            bytes = record.byteCount
            type = "\(record.type)"
            name = Self.text(record.reference)
            describe(record, contents: contents)
            separateHost()
        }
    }

    /// Names are shown as clients write them.
    private mutating func separateHost() {
        guard let name = queue.map({ StoredName($0.utf8) }) else { return }
        (queue, host) = (name.text, name.host)
        topic = topic.map { StoredName($0.utf8).text }
    }

    private static func text(_ position: UInt64) -> String {
        "\(JournalFormat.life(of: position)):\(JournalFormat.offset(of: position))"
    }

    private static func text(_ reference: MessageReference) -> String {
        "\(text(reference.position))@\(reference.worker)"
    }

    private mutating func describe(_ record: Record, contents: Bool) {
        switch record.type {
        case .message: describe(record.message, contents: contents)
        case .acknowledgement: of = (0..<record.referenceCount).map { Self.text(record.reference(at: $0)) }
        case .failureCount:
            of = [Self.text(record.reference(at: 0))]
            failures = Int(record.detail)
        case .queueMade: queue = String(decoding: record.queue.queueName, as: UTF8.self)
        case .deduplication:
            queue = String(decoding: record.deduplication.destination, as: UTF8.self)
            deduplicationID = String(decoding: record.deduplication.id, as: UTF8.self)
            accepted = record.deduplication.acceptedAt
        case .topicOffsets:
            queue = String(decoding: record.payload, as: UTF8.self)
            offsetEnd = record.detail
        case .queueRemoved, .subscriptionRemoved: queue = String(decoding: record.payload, as: UTF8.self)
        case .subscriptionMade:
            queue = String(decoding: record.subscription.name, as: UTF8.self)
            topic = String(decoding: record.subscription.topic, as: UTF8.self)
            if record.subscription.lastUsed != .max { lastUsed = record.subscription.lastUsed }
        case .transactionPart:
            transaction = record.transaction
            parts = Int(record.partCount)
            if !record.conditions.isEmpty {
                conditions = [record.conditions.first, record.conditions.second].filter { $0 != 0 }
            }
        case .transactionEnd: transaction = record.detail
        case .mark:
            durable = record.durable.map { Self.text($0) }
            firstSegment = record.firstSequence
        case .cleanEnd: durable = record.durable.map { Self.text($0) }
        case .segmentHeader:
            workers = Int(record.segmentHeader.workerCount)
            version = Int(record.segmentHeader.version)
        case .segmentEnd: break
        case .skip: bytes = Int(record.detail)
        }
    }

    private mutating func describe(_ message: MessageRecord, contents: Bool) {
        queue = String(decoding: message.queueName, as: UTF8.self)
        identity = message.identity
        if message.expiresAt != 0 { expires = message.expiresAt }
        if message.failureCount != 0 { failures = Int(message.failureCount) }
        if message.flags.contains(.isRedelivered) { isRedelivered = true }
        if message.detail != 0 { accepted = message.detail }
        if message.flags.contains(.isDelayed) {
            let line = ScheduleLine(message.content, byteCount: message.headersByteCount)
            due = line?.schedule.dueAt
            repeats = line.map { Int($0.schedule.repeats) }
        }
        if message.flags.contains(.isDeduplicated) {
            let id = DeduplicationHeader.value(in: message.content, byteCount: message.headersByteCount)
            deduplicationID = id.map { String(decoding: $0, as: UTF8.self) }
        }
        if message.flags.contains(.isCopy) { replaces = Self.text(message.original) }
        if message.flags.contains(.isRetained) { keptAs = "retained" }
        if message.flags.contains(.isLogged) {
            keptAs = "log"
            logged = message.detail
        }
        bodyBytes = message.bodyByteCount
        guard contents else { return }
        let content = UnsafeRawBufferPointer(start: message.content, count: message.contentByteCount)
        headers = String(decoding: content.prefix(message.headersByteCount), as: UTF8.self)
        body = Array(content.dropFirst(message.headersByteCount + 1).prefix(message.bodyByteCount))
    }
}

extension StorageDirectory {
    /// Goes through the segments in order, record by record, damaged places included.
    ///
    /// - Parameters:
    ///   - segment: that alone; nil: all.
    ///   - contents: with the messages' headers and bodies.
    ///   - show: false: stop.
    public borrowing func dump(
        segment: SegmentName?, contents: Bool, _ show: (DumpedRecord) -> Bool
    ) throws(StorageError) {
        var buffer = SegmentBuffer()
        for name in try segmentNames() where segment == nil || segment == name {
            guard let bytes = try buffer.read(name, in: self) else { return }
            var scan = SegmentScan(name, bytes)
            while let item = scan.next() {
                guard show(DumpedRecord(name, item, contents: contents)) else { return }
            }
        }
    }
}
