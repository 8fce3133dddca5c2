/// A message for a queue, as it is written and as it is read. The pointers belong to the caller: to the blocks of the
/// broker's memory, or to a segment's bytes.
///
/// Payload:
///
///      0  identity          u64   of the message-id
///      8  expiresAt         u64   wall-clock milliseconds; 0: never
///     16  orderKey          u64
///     24  originalPosition  u64   0 unless isCopy
///     32  originalWorker    u16
///     34  failureCount      u16
///     36  queueNameByteCount u16
///     38  moreFlags         u16   the upper eight `RecordFlags`
///     40  headersByteCount  u32
///     44  bodyByteCount     u32
///     48  queue name; then the content: header lines, LF, body, NUL, LF
///
/// The record's `flags` are the lower eight `RecordFlags`, its `detail` is the field of that name.
public struct MessageRecord: BitwiseCopyable {
    /// The canonical name, "/queue/orders"; of a message that a topic keeps (`isLogged`, `isRetained`) the topic's.
    public var queueName: UnsafeRawBufferPointer
    public var identity: UInt64
    public var expiresAt: UInt64
    public var flags: RecordFlags
    /// Deliveries that ended without acknowledgement.
    public var failureCount: UInt16
    /// The position of the message's first record, by which it stands in its queue. 0 when it is written: its own.
    public var orderKey: UInt64
    /// With `.isCopy`: the record whose place this one takes.
    public var original: MessageReference
    /// With `.isLogged`, `.isDelayed` or `.isDeduplicated`: when the broker took the message (wall-clock milliseconds).
    /// Else 0.
    public var detail: UInt64 = 0
    /// Header lines as in STOMP 1.2, LF, body, NUL, LF: `contentByteCount` bytes.
    public var content: UnsafeRawPointer
    public var headersByteCount: Int
    public var bodyByteCount: Int

    public init(
        queueName: UnsafeRawBufferPointer, identity: UInt64, expiresAt: UInt64, flags: RecordFlags,
        content: UnsafeRawPointer, headersByteCount: Int, bodyByteCount: Int
    ) {
        self.queueName = queueName
        self.identity = identity
        self.expiresAt = expiresAt
        self.flags = flags
        self.content = content
        self.headersByteCount = headersByteCount
        self.bodyByteCount = bodyByteCount
        failureCount = 0
        orderKey = 0
        original = MessageReference(position: 0, worker: 0)
    }

    @inlinable
    public var contentByteCount: Int { headersByteCount &+ bodyByteCount &+ 3 }

    /// What the content of a record of `recordByteCount` bytes takes at most, 63 bytes more than it does: the rest is
    /// known without reading it.
    public static func contentByteCountMax(recordByteCount: Int, queueNameByteCount: Int) -> Int {
        recordByteCount - JournalFormat.headerByteCount - fixedByteCount - queueNameByteCount
    }

    /// What its record takes of the log.
    @inlinable
    public var recordByteCount: Int {
        JournalFormat.recordByteCount(payloadByteCount: 48 &+ queueName.count &+ contentByteCount)
    }

    static let fixedByteCount = 48
}

/// What a queue was made with.
///
/// Payload: messageCountMax u64, byteCountMax u64, messageMillisecondsMax u64 (each UInt64.max: not limited by request),
/// overflow u16, queueNameByteCount u16, deadLetterByteCount u16, zero u16; queue name; dead-letter destination.
public struct QueueRecord: BitwiseCopyable {
    public var queueName: UnsafeRawBufferPointer
    public var messageCountMax = UInt64.max
    public var byteCountMax = UInt64.max
    public var messageMillisecondsMax = UInt64.max
    /// 0: not asked for; else the broker's `OverflowPolicy` and 1.
    public var overflow: UInt16 = 0
    /// The canonical name; none: empty.
    public var deadLetterName = UnsafeRawBufferPointer(start: nil, count: 0)

    public init(queueName: UnsafeRawBufferPointer) { self.queueName = queueName }

    @inlinable
    public var recordByteCount: Int {
        JournalFormat.recordByteCount(payloadByteCount: 32 &+ queueName.count &+ deadLetterName.count)
    }

    static let fixedByteCount = 32
}

/// A durable subscription to a topic.
///
/// Payload: lastUsed u64, dialect u16, nameByteCount u16, topicByteCount u16, zero u16; name; topic.
public struct SubscriptionRecord: BitwiseCopyable {
    /// The name of the queue that keeps its messages, "/dsub/client/CLIENT/NAME".
    public var name: UnsafeRawBufferPointer
    /// The canonical name of the topic, or a pattern.
    public var topic: UnsafeRawBufferPointer
    /// The broker's `DurableDialect`.
    public var dialect: UInt16
    /// When its last consumer left it (wall-clock milliseconds). `.max`: it had one.
    public var lastUsed: UInt64

    public init(
        name: UnsafeRawBufferPointer, topic: UnsafeRawBufferPointer, dialect: UInt16, lastUsed: UInt64
    ) {
        self.name = name
        self.topic = topic
        self.dialect = dialect
        self.lastUsed = lastUsed
    }

    @inlinable
    public var recordByteCount: Int {
        JournalFormat.recordByteCount(payloadByteCount: 16 &+ name.count &+ topic.count)
    }

    static let fixedByteCount = 16
}

/// What a part of a transaction depends on beside the transaction's other parts: it does not count unless these transactions
/// do. 0: none.
///
/// A message may move on before the transaction that brought it is known to be complete. Its move counts no earlier.
public struct PartConditions: BitwiseCopyable, Equatable, Sendable {
    public var first: UInt64
    public var second: UInt64

    public init(_ first: UInt64 = 0, _ second: UInt64 = 0) {
        self.first = first == 0 ? second : first
        self.second = first == 0 || first == second ? 0 : second
    }

    public var isEmpty: Bool { first == 0 && second == 0 }

    public func contains(_ transaction: UInt64) -> Bool { first == transaction || second == transaction }

    /// This one is fulfilled.
    public mutating func remove(_ transaction: UInt64) {
        self = PartConditions(first == transaction ? 0 : first, second == transaction ? 0 : second)
    }

    var count: Int { (first == 0 ? 0 : 1) + (second == 0 ? 0 : 1) }
}

/// What the first record of a segment says.
///
/// Payload: version u16, workerCount u16, segmentByteCount u32, sequence u32, zero u32, milliseconds u64 (wall clock, when
/// the segment was begun).
public struct SegmentHeader: BitwiseCopyable, Equatable, Sendable {
    public var version = JournalFormat.version
    public var life: UInt32
    public var worker: UInt16
    public var workerCount: UInt16
    public var sequence: UInt32
    public var segmentByteCount: Int
    public var milliseconds: UInt64
    /// With which the other records of the segment begin.
    public var recordMagic: UInt32

    public init(
        life: UInt32, worker: UInt16, workerCount: UInt16, sequence: UInt32, segmentByteCount: Int,
        milliseconds: UInt64, recordMagic: UInt32 = JournalFormat.magic
    ) {
        self.life = life
        self.worker = worker
        self.workerCount = workerCount
        self.sequence = sequence
        self.segmentByteCount = segmentByteCount
        self.milliseconds = milliseconds
        self.recordMagic = recordMagic
    }

    /// Where the segment begins.
    public var position: UInt64 {
        JournalFormat.position(life: life, offset: Int(sequence) * segmentByteCount)
    }

    static let byteCount = 24

    /// Whether the numbers are within their bounds and lead to the position at which the header is.
    func isConsistent(_ ownPosition: UInt64) -> Bool {
        guard
            JournalFormat.segmentByteCountMin...JournalFormat.segmentByteCountMax ~= segmentByteCount,
            segmentByteCount % JournalFormat.unitByteCount == 0, workerCount > 0
        else { return false }
        let (offset, overflows) = Int(sequence).multipliedReportingOverflow(by: segmentByteCount)
        guard !overflows, offset >> JournalFormat.unitShift < 1 << JournalFormat.offsetBitCount else { return false }
        return position == ownPosition
    }
}
