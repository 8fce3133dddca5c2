import Slabs

/// A queue, with its owner.
struct Queue: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    /// Messages that no consumer has.
    var ready: ReadyEntries
    /// Ready and unacknowledged messages, and room promised to transactions.
    var messageCount: UInt32
    var byteCount: UInt64
    /// All consumers, and those with free prefetch in the order of their turns.
    var consumers: ConsumerChain
    var turns: TurnList
    var consumerCount: UInt32
    /// Publishers that wait for room (policy `block`).
    var blocked: List<WaitLink>
    /// Index into the shard's table of policies.
    var policy: UInt32
    var messageCountMax: UInt32
    var deliveryCountMax: UInt32
    /// Those of consumers that may not take every message.
    var cursors: CursorChain
    var byteCountMax: UInt64
    var messageMillisecondsMax: UInt64
    /// The dead-letter destination that its first user asked for, rather than the policy's. 0: none.
    var deadLetter: BlockIndex
    var deadLetterByteCount: UInt16
    var overflow: OverflowPolicy
    var isClosed: Bool
    /// Who sent the first of the messages that it holds; of a dead letter, who sent the first of the queue that it was in.
    /// Nobody: it is empty.
    var holder: QueueHolder
    /// It counts against its holder's limit: it has messages and no consumer.
    var isHeld: Bool
    /// Which of its messages are stored.
    var storage: StoragePolicy
    /// Of a subscription that reads the log of a topic: who hears of what leaves the queue. None: it is another queue.
    var intake: Index<LogIntake>
    /// Fires when the queue may have been idle for as long as its policy allows. 0: none.
    var idleTimer: UInt32
    /// When a message came in, the last consumer left, or the last message (milliseconds of the shard's clock).
    var lastUsed: UInt32
    /// Its messages that are in the log alone, behind the ready ones. None: there are none, nor any behind them.
    var cold: Index<ColdQueue>
    /// Messages are read back when fewer are ready. 0: no message is in the log alone.
    var readyCountMin: UInt32
    /// Messages in memory behind those that are in the log alone, in order: until they are there too, or come to be ready.
    var behind: EntryList
    /// A message that comes is looked at: it may have to go behind those in the log, or leave memory.
    var mayBeCold: Bool
}

enum EntryState: UInt8, BitwiseCopyable {
    case ready, delivered
    /// In `Queue.behind`.
    case behind
    /// On no list: it is about to move, and nobody is given it.
    case leaving
}

/// A message in a queue.
struct Entry: SlabRecord {
    var generation: UInt32
    /// In the queue's list of ready messages or in its consumer's of unacknowledged ones, as `state` says.
    var link: DoubleLink<Entry>
    var queue: Index<Queue>
    /// `StoredMessage`, then header lines, LF, body, NUL, LF.
    var message: BlockIndex
    /// Who has it, while it is delivered.
    var consumer: Index<Consumer>
    var identity: UInt64
    /// Wall-clock milliseconds. 0: never.
    var expiresAt: UInt64
    var timer: UInt32
    /// What the message counts against limits.
    var byteCount: UInt32
    /// How often it was delivered, as far as clients may have seen it: MESSAGE's `delivery-count`.
    var deliveryCount: UInt16
    /// How often a consumer refused it or failed with it: what the delivery limit counts.
    var failureCount: UInt16
    var state: EntryState
    var isRedelivered: Bool
    /// It is in the log, or is about to be: its block says where.
    var isStored: Bool
    /// Order within the queue.
    var order: UInt64
}

/// Heads a stored message's block.
struct StoredMessage: BitwiseCopyable {
    var headersByteCount: UInt32
    var bodyByteCount: UInt32
    var marks: MessageMarks
    /// It is in the log: `StoredPlace` is behind the content.
    var isStored: Bool { marks.contains(.isPersistent) }

    static var byteCount: Int { 16 }
    /// Where the place in the log is, from the begin of the block.
    static func placeOffset(contentByteCount: Int) -> Int { (byteCount + contentByteCount + 7) & ~7 }

    /// Header lines, LF, body, NUL, LF.
    var contentByteCount: Int { Int(headersByteCount) &+ Int(bodyByteCount) &+ 3 }
}

/// A queue's consumer, with the queue's owner; its session may live with another worker.
struct Consumer: SlabRecord {
    var generation: UInt32
    var queue: Index<Queue>
    /// With the worker `shard`.
    var subscription: Handle<Subscription>
    /// Among the queue's consumers.
    var link: DoubleLink<Consumer>
    /// In the order of turns, while it `hasTurn`.
    var turnLink: DoubleLink<Consumer>
    /// Messages that it has and has not acknowledged, in the order of delivery.
    var unacked: EntryList
    var credit: UInt32
    var unackedByteCount: UInt32
    var byteCountMax: UInt32
    var shard: UInt16
    var hasTurn: Bool
    var flags: ConsumerFlags
}

struct ConsumerFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    static let paused = ConsumerFlags(rawValue: 1 << 0)
    /// It may not take every message: it has a cursor.
    static let selective = ConsumerFlags(rawValue: 1 << 1)
}

/// How far a consumer that may not take every message has looked through the ready ones.
struct Cursor: SlabRecord {
    var generation: UInt32
    var consumer: Index<Consumer>
    /// Among the queue's.
    var link: DoubleLink<Cursor>
    /// What it is offered next. None: it was offered all that are ready.
    var entry: Index<Entry>
}
