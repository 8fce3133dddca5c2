/// A message that lives, as recovery hands it to the shard that owns its queue: in the order of its queue, and once. What
/// it points to is valid during the call.
public struct RecoveredMessage: BitwiseCopyable {
    /// By this name its acknowledgement has to be written.
    public var reference: MessageReference
    /// Name, identity, expiry, flags, order key and content. `failureCount` is the newest, and `.isRedelivered` says
    /// whether the message may have been delivered before.
    public var record: MessageRecord

    public init(reference: MessageReference, record: MessageRecord) {
        self.reference = reference
        self.record = record
    }
}

/// What the broker has to know of a segment of an earlier run: it frees the file when nothing in it lives.
public struct RecoveredSegment: BitwiseCopyable, Sendable {
    public var name: SegmentName
    /// The file's size.
    public var byteCount: Int
    /// Records that pin it: messages that live, and the newest record of each queue.
    public var liveMessageCount: Int
    public var liveQueueCount: Int
    /// Where it begins in the log.
    public var position: UInt64
    /// With which its records begin.
    public var recordMagic: UInt32

    public init(
        name: SegmentName, byteCount: Int, liveMessageCount: Int = 0, liveQueueCount: Int = 0, position: UInt64,
        recordMagic: UInt32 = JournalFormat.magic
    ) {
        self.name = name
        self.byteCount = byteCount
        self.liveMessageCount = liveMessageCount
        self.liveQueueCount = liveQueueCount
        self.position = position
        self.recordMagic = recordMagic
    }

    /// Where a record of this segment begins in its file.
    public func offset(of position: UInt64) -> Int {
        Int(truncatingIfNeeded: position &- self.position) &* JournalFormat.unitByteCount
    }
}
