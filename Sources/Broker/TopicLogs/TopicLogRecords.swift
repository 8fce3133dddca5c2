import Slabs

/// What a SEND says of the message that its topic retains: the header `retain`.
enum RetainAction: UInt8, BitwiseCopyable {
    case none
    /// It takes the place of the one that is retained.
    case set
    /// The one that is retained is forgotten.
    case remove
}

/// Where a reader of a log begins: the header `x-stream-offset` of SUBSCRIBE.
enum LogStart: BitwiseCopyable {
    /// The oldest message that is there.
    case first
    /// The newest message that is there; where there is none, the next.
    case last
    /// What is published from now on.
    case next
    /// This offset; where it is gone, the first behind it; where it is still to come, the next message.
    case offset(UInt64)
    /// The first message that came into the log at this time or later (seconds since the epoch).
    case seconds(UInt64)
}

/// A message in the log of a topic.
struct LogEntry: BitwiseCopyable {
    var offset: UInt64
    /// When it came into the log (wall clock). It is not less than that of the entry before.
    var milliseconds: UInt64
    var identity: UInt64
    /// Wall-clock milliseconds. 0: never.
    var expiresAt: UInt64
    /// `StoredMessage`, then the content, which has the line `x-stream-offset`.
    var message: BlockIndex
    /// With `RetainAction.set`, until it is published: what the topic retains from then on. 0: nothing.
    var retained: BlockIndex
    var retain: RetainAction
    var isStored: Bool
}

/// The log of a topic, with the topic's owner: its last messages, by offset.
///
///     | trimmed | entries: published | entries: not published yet | `next` ...
///                                    ^ `published`
///
/// An offset that a client has seen is never another message's, crashes included: an entry is published when a record on
/// stable storage says that the next life begins behind its offset (`reserved`). Such records run ahead, so that publishing
/// waits for the first one alone.
struct TopicLog: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    var entries: LogRing
    /// Of the blocks of the entries.
    var byteCount: UInt64
    var countMax: UInt32
    var isDue: Bool
    /// `segment` holds a record.
    var hasRecord: Bool
    var byteCountMax: UInt64
    /// 0: entries may have any age.
    var millisecondsMax: UInt64
    /// Of the next message.
    var next: UInt64
    /// Entries with lower offsets have been published.
    var published: UInt64
    /// What entries with lower offsets would retain, and that waits to be published, is acknowledged already.
    var withdrawn: UInt64
    /// Lower offsets may be published.
    var reserved: UInt64
    /// What `reserved` becomes when the log of the worker is durable up to `reservingAt`. 0: no record is under way.
    var reserving: UInt64
    var reservingAt: LogPosition
    /// Entries wait for that since this deferral (`TopicLogs.deferralCount`). 0: none do.
    var deferredSince: UInt64
    /// How many offsets the next record reserves.
    var step: UInt64
    /// The segment of the newest record of offsets, which it pins.
    var segment: UInt32
    var readers: RecordArray<Index<LogReader>>
}

/// A subscription that reads a log, with the topic's owner; its session may live with another worker.
struct LogReader: SlabRecord {
    var generation: UInt32
    var log: Index<TopicLog>
    /// Of the first entry that it has not been given.
    var next: UInt64
    /// With the worker `shard`.
    var subscription: Handle<Subscription>
    /// Among the log's.
    var position: UInt32
    var shard: UInt16
    /// Messages, and bytes, that it was given and has not read.
    var unreadCount: UInt32
    var unreadByteCount: UInt64
}

/// A subscription that reads a log, with its session's worker. It has a queue of its own, which takes what the reader is
/// given; what leaves the queue is read.
struct LogIntake: SlabRecord {
    var generation: UInt32
    var isDue: Bool
    /// The topic's.
    var owner: UInt16
    /// At the owner.
    var reader: Handle<LogReader>
    /// What left the queue and the owner has not been told.
    var readCount: UInt32
    var readByteCount: UInt64
}

/// The message that a topic retains. Each worker has a copy, so that SUBSCRIBE is answered where it arrives.
struct RetainedMessage: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    /// `StoredMessage`, then the content, which has the line `retained:true`.
    var message: BlockIndex
    /// With the topic's owner.
    var isStored: Bool
    var identity: UInt64
    /// Wall-clock milliseconds. 0: never.
    var expiresAt: UInt64
}

/// A message that a topic keeps and that goes to the log of the worker.
struct KeptMessage: BitwiseCopyable {
    /// Its block, which has a `StoredPlace`.
    var message: BlockIndex
    var destination: Index<Destination>
    var identity: UInt64
    var expiresAt: UInt64
    /// When it came into the topic's log. 0: it is the retained one.
    var milliseconds: UInt64
}
