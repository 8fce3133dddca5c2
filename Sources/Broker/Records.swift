import Slabs
import STOMP

/// Where a connection stands. Each event in each state is decided in `Shard+Connections.swift` and
/// `Shard+Commands.swift`.
enum SessionState: UInt8, BitwiseCopyable {
    /// Accepted; only CONNECT or STOMP is welcome.
    case fresh
    /// CONNECTED was sent.
    case connected
    /// Nothing more is processed (DISCONNECT, ERROR, end of file); the output is flushed.
    case ending
    /// The output is flushed and shut down; what still arrives is read and thrown away, so that no reset eats it.
    case lingering
    /// `.close` was submitted; the slot is freed by `.closed`.
    case closing
}

struct SessionFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt32
    /// On the list of sessions that gained output in this turn.
    static let dirty = SessionFlags(rawValue: 1 << 0)
    /// Parsing waits for an answer of another worker, for room in a queue, or for memory.
    static let suspended = SessionFlags(rawValue: 1 << 1)
    /// The socket was full; `.writable` is due.
    static let awaitsWritable = SessionFlags(rawValue: 1 << 2)
    /// The kernel reads from the output's first segments (zero-copy).
    static let zeroCopyInFlight = SessionFlags(rawValue: 1 << 3)
    /// The send of the last exchange was not taken whole; `sendResult` says how far it came.
    static let sendIncomplete = SessionFlags(rawValue: 1 << 4)
    /// The peer ended its sending side.
    static let peerEnded = SessionFlags(rawValue: 1 << 5)
    /// On the list of sessions to be cut at the end of this turn.
    static let doomed = SessionFlags(rawValue: 1 << 6)
    /// Receiving is paused in the driver.
    static let receivePaused = SessionFlags(rawValue: 1 << 7)
    /// Its queue consumers are paused because output waits.
    static let consumersPaused = SessionFlags(rawValue: 1 << 8)
    /// The output's last segment is a block of this session's own with room at its end.
    static let tailIsOwn = SessionFlags(rawValue: 1 << 9)
    /// Has (or had) a topic subscription: cut, rather than left alone, when it stops reading.
    static let hasTopics = SessionFlags(rawValue: 1 << 10)
    /// Suspended until its pending operations are over; the frame will be parsed again then.
    static let awaitsPending = SessionFlags(rawValue: 1 << 11)
    /// Its subscriptions are in `subscriptionIndex`.
    static let isIndexed = SessionFlags(rawValue: 1 << 12)
    /// The connection has failed: what waits in its output will not be sent.
    static let isBroken = SessionFlags(rawValue: 1 << 13)
    /// Room for the next SEND was reserved at another worker's queue.
    static let hasReservation = SessionFlags(rawValue: 1 << 14)
    /// Speaks 1.2 and has named a message by its message-id: its deliveries are in `deliveryTable`, too.
    static let namesMessages = SessionFlags(rawValue: 1 << 15)
    /// Has sent `persistent:true`, and the log has said what that is worth.
    static let hasAskedForPersistence = SessionFlags(rawValue: 1 << 16)
    /// Ended by DISCONNECT or a drain: its consumers did not fail.
    static let hasLeft = SessionFlags(rawValue: 1 << 17)
}

/// One connection: what remains while it idles. Everything else is borrowed while bytes are in flight.
struct Session: SlabRecord {
    var generation: UInt32
    var index: Index<Session>
    var state: SessionState
    var version: Version
    var flags: SessionFlags
    var subscriptionCount: UInt16
    var transactionCount: UInt16

    /// A frame cut short: `PartialInput`, then the bytes. 0: none.
    var input: BlockIndex
    var inputByteCount: UInt32

    /// Segments that wait to be sent.
    var output: Fifo<SegmentLink>
    var outputByteCount: UInt32
    /// Bytes of the send in flight, and its result where it fell short.
    var sendByteCount: UInt32
    var sendResult: Int32
    /// Deliveries of `auto` subscriptions that wait until their bytes are with the kernel, first to last.
    var flights: Fifo<FlightLink>
    /// The login that CONNECT named, cut to `loginByteCountMax`, for the log alone. 0: none.
    var login: BlockIndex
    /// Line ends before CONNECT, which count against the limit of what comes before it.
    var lineEndByteCount: UInt32
    /// Bytes ever appended to the output: the position that flights wait for.
    var outputPosition: UInt64
    /// What the log calls this connection: a number that no other connection of the process gets.
    var number: UInt64

    var subscriptions: Chain<SubscriptionLink>
    var transactions: Stack<TransactionLink>
    /// Temporary destinations of this connection.
    var temporaries: Stack<TemporaryLink>
    /// Operations and receipts that wait for other workers, first to last.
    var pendings: Fifo<PendingLink>
    /// Workers with letters of this session that no barrier has confirmed yet. None: none.
    var remoteSet: Index<RemoteSet>
    /// The destination of the last SEND: most publishers stay with one.
    var lastDestination: Handle<Destination>

    /// Heart-beat intervals in milliseconds. 0: none.
    var sendInterval: UInt32
    var receiveInterval: UInt32
    /// Times in milliseconds of the shard's clock, wrapping (compare differences).
    var lastReceived: UInt32
    var lastSent: UInt32
    /// When the state began; while output waits: when the socket last took a byte.
    var since: UInt32
    var lastProgress: UInt32
    /// The session's one timer: due when the earliest of its deadlines may be.
    var timer: UInt32
    var timerAt: UInt32

    var handle: Handle<Session> { Handle(index: index, generation: generation) }
    /// What the driver calls this connection.
    var slot: Slot { handle.slot }
}

/// Heads the block of a frame cut short.
struct PartialInput: BitwiseCopyable {
    var parser: ParserState
    /// When the frame's first byte arrived, in milliseconds of the shard's clock.
    var since: UInt32
    /// The block is on the list of large ones, between those of these sessions.
    var isListed = false
    /// It may grow though such blocks have taken their share of the memory: it has waited for its turn.
    var isAdmitted = false
    var next = Index<Session>.none
    var previous = Index<Session>.none

    /// The bytes begin here, on a 16-byte boundary.
    static var byteCount: Int { (MemoryLayout<PartialInput>.size + 15) & ~15 }
}

/// A run of bytes that waits in a session's output. Owns one reference to its block.
struct Segment: SlabRecord {
    var generation: UInt32
    /// In the session's output.
    var link: SingleLink<Segment>
    var block: BlockIndex
    var offset: UInt32
    var byteCount: UInt32
    var unused: UInt32
}

enum SegmentLink: SinglyLinked {
    static subscript(segment: UnsafeMutablePointer<Segment>) -> SingleLink<Segment> {
        get { segment.pointee.link }
        set { segment.pointee.link = newValue }
    }
}

enum AckMode: UInt8, BitwiseCopyable {
    case auto, client, clientIndividual
}

struct SubscriptionFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// Waits for other workers before it counts.
    static let pending = SubscriptionFlags(rawValue: 1 << 0)
    /// Takes from a queue (its own, where it is an acknowledging topic subscription).
    static let isConsumer = SubscriptionFlags(rawValue: 1 << 1)
}

/// One SUBSCRIBE.
struct Subscription: SlabRecord {
    var generation: UInt32
    var session: Index<Session>
    /// Among the session's.
    var link: DoubleLink<Subscription>
    /// Topic or pattern, queue, or the local stand-in of another worker's queue.
    var destination: Index<Destination>
    var group: Index<Group>
    /// Place in the group's members; of an acknowledging topic subscription among the destination's bound queues.
    var position: UInt32
    /// At the queue's owner.
    var consumer: Handle<Consumer>
    /// Deliveries that are not acknowledged yet, in the order of delivery.
    var deliveries: List<DeliveryLink>
    /// Of an acknowledging topic subscription: the destination (kind `subscriptionQueue`) that has the queue between topic
    /// and subscriber.
    var ownQueue: Index<Destination>
    /// How much it takes before it acknowledges.
    var window: Window
    var ackMode: AckMode
    var flags: SubscriptionFlags
    var unused: UInt16
}

enum SubscriptionLink: DoublyLinked {
    static subscript(subscription: UnsafeMutablePointer<Subscription>) -> DoubleLink<Subscription> {
        get { subscription.pointee.link }
        set { subscription.pointee.link = newValue }
    }
}

struct GroupFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    static let dirty = GroupFlags(rawValue: 1 << 0)
}

/// Subscribers whose MESSAGEs are the same, byte for byte: same destination, same subscription id, same version.
///
/// The block at `prefix` holds the group's key (destination, version, kind, id), behind it the first bytes of each MESSAGE,
/// `MESSAGE\nsubscription:ID\nmessage-id:` (without the subscription where SUBSCRIBE gave no id), and behind these
/// `\ndestination:NAME` for messages that do not carry their own; of a pattern's group that part is empty, for the topic
/// differs from message to message.
struct Group: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    /// Among the destination's.
    var link: DoubleLink<Group>
    var prefix: BlockIndex
    var keyByteCount: UInt32
    var prefixByteCount: UInt32
    var nameByteCount: UInt16
    var version: Version
    var flags: GroupFlags
    /// Subscriptions that use this encoding and are no members: consumers of queues, and those that are still pending.
    var nonMemberCount: UInt32
    /// The bytes that this turn's messages have been encoded to, not yet given to the members.
    var run: BlockIndex
    /// What the last turn needed: the next run is allocated as large.
    var runByteCountExpected: UInt32
    var members: RecordArray<Member>
}

/// A subscription of a group, and its session, which a message goes to without a look at the subscription.
struct Member: BitwiseCopyable {
    var session: Index<Session>
    var subscription: Index<Subscription>
}

enum GroupLink: DoublyLinked {
    static subscript(group: UnsafeMutablePointer<Group>) -> DoubleLink<Group> {
        get { group.pointee.link }
        set { group.pointee.link = newValue }
    }
}

enum DestinationKind: UInt8, BitwiseCopyable {
    /// A topic's exact name.
    case topic
    /// Topic names with wildcards.
    case pattern
    /// A queue, its messages with this worker.
    case queue
    /// A queue of another worker.
    case remoteQueue
    /// The queue of one acknowledging topic subscription; it has no name of its own.
    case subscriptionQueue
}

enum Interest: UInt8, BitwiseCopyable {
    case none, registering, registered
}

/// A destination as this worker sees it.
struct Destination: SlabRecord {
    var generation: UInt32
    var name: BlockIndex
    var nameByteCount: UInt16
    var kind: DestinationKind
    var interest: Interest
    /// The worker that holds the queue.
    var owner: UInt16
    /// Made by a `/temp-…` name: goes with its connection.
    var isTemporary: Bool
    /// Remote queue: its policy makes publishers wait for room.
    var blocks: Bool
    var groups: Chain<GroupLink>
    /// Local subscriptions, members and consumers.
    var subscriptionCount: UInt32
    var queue: Index<Queue>
    /// Counts registrations with other workers, so that a late answer to an earlier one is recognised.
    var interestEpoch: UInt32
    var answersDue: UInt32
    /// SUBSCRIBEs that wait for the registration.
    var waiting: Chain<WaitLink>
    /// Among those that nobody needs and that may be forgotten, while it `isIdle`.
    var idleLink: DoubleLink<Destination>
    var isIdle: Bool
    /// Pattern: among all patterns.
    var patternLink: DoubleLink<Destination>
    /// Temporary destination: among those of its connection.
    var temporaryLink: SingleLink<Destination>
    /// Other workers with subscribers, one bit each.
    var remoteLow: UInt64
    var remoteHigh: UInt64
    /// Topic: the patterns that match it. Pattern: the topics.
    var matches: RecordArray<Match>
    /// Queues of acknowledging subscriptions that are bound to this topic or pattern.
    var bound: RecordArray<BoundQueue>

    var hasRemote: Bool { remoteLow | remoteHigh != 0 }
}

enum IdleLink: DoublyLinked {
    static subscript(destination: UnsafeMutablePointer<Destination>) -> DoubleLink<Destination> {
        get { destination.pointee.idleLink }
        set { destination.pointee.idleLink = newValue }
    }
}

enum PatternLink: DoublyLinked {
    static subscript(destination: UnsafeMutablePointer<Destination>) -> DoubleLink<Destination> {
        get { destination.pointee.patternLink }
        set { destination.pointee.patternLink = newValue }
    }
}

enum TemporaryLink: SinglyLinked {
    static subscript(destination: UnsafeMutablePointer<Destination>) -> SingleLink<Destination> {
        get { destination.pointee.temporaryLink }
        set { destination.pointee.temporaryLink = newValue }
    }
}

typealias IdleList = List<IdleLink>
typealias PatternChain = Chain<PatternLink>
typealias TemporaryStack = Stack<TemporaryLink>

/// A topic that a pattern matches, or the other way round.
struct Match: BitwiseCopyable {
    var destination: Index<Destination>
    /// Where that one has this one among its matches.
    var position: UInt32
}

/// The queue of an acknowledging topic subscription.
struct BoundQueue: BitwiseCopyable {
    /// Of kind `subscriptionQueue`.
    var destination: Index<Destination>
    var subscription: Index<Subscription>
}

/// A queue, with its owner.
struct Queue: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    /// Messages that no consumer has, in order.
    var ready: EntryList
    var readyCount: UInt32
    /// Ready and unacknowledged messages, and room promised to transactions.
    var messageCount: UInt32
    var byteCount: UInt64
    /// All consumers, and those with free prefetch in the order of their turns.
    var consumers: Chain<ConsumerLink>
    var turns: List<TurnLink>
    var consumerCount: UInt32
    /// Publishers that wait for room (policy `block`).
    var blocked: List<WaitLink>
    /// Index into the shard's table of policies.
    var policy: UInt32
    var messageCountMax: UInt32
    var deliveryCountMax: UInt32
    /// A ready message beside which the next one that returns belongs, if these return in order. None: none is known.
    var returnHint: Index<Entry>
    var byteCountMax: UInt64
    var messageMillisecondsMax: UInt64
    /// The dead-letter destination that its first user asked for, rather than the policy's. 0: none.
    var deadLetter: BlockIndex
    var deadLetterByteCount: UInt32
    var overflow: OverflowPolicy
    var isClosed: Bool
    /// It counts against its holder's limit: it has messages and no consumer.
    var isHeld: Bool
    /// Who sent the first of the messages that it holds. None: it is empty, or a dead letter was the first.
    var holder: QueueHolder
    /// Fires when the queue may have been idle for as long as its policy allows. 0: none.
    var idleTimer: UInt32
    /// When a message came in, the last consumer left, or the last message (milliseconds of the shard's clock).
    var lastUsed: UInt32
}

enum EntryState: UInt8, BitwiseCopyable {
    case ready, delivered
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
    /// Order within the queue.
    var order: UInt64
}

enum EntryLink: DoublyLinked {
    static subscript(entry: UnsafeMutablePointer<Entry>) -> DoubleLink<Entry> {
        get { entry.pointee.link }
        set { entry.pointee.link = newValue }
    }
}

typealias EntryList = List<EntryLink>

/// Heads a stored message's block.
struct StoredMessage: BitwiseCopyable {
    var headersByteCount: UInt32
    var bodyByteCount: UInt32
    var isPlain: Bool
    var carriesDestination: Bool

    static var byteCount: Int { 16 }
    /// Header lines, LF, body, NUL, LF.
    var contentByteCount: Int { Int(headersByteCount) + 1 + Int(bodyByteCount) + 2 }
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
    var isPaused: Bool
}

enum ConsumerLink: DoublyLinked {
    static subscript(consumer: UnsafeMutablePointer<Consumer>) -> DoubleLink<Consumer> {
        get { consumer.pointee.link }
        set { consumer.pointee.link = newValue }
    }
}

enum TurnLink: DoublyLinked {
    static subscript(consumer: UnsafeMutablePointer<Consumer>) -> DoubleLink<Consumer> {
        get { consumer.pointee.turnLink }
        set { consumer.pointee.turnLink = newValue }
    }
}

/// A message on its way to a subscriber or waiting for its acknowledgement, with the session.
struct Delivery: SlabRecord {
    var generation: UInt32
    /// None: it has ended, and this is only on the session's list of flights still.
    var subscription: Index<Subscription>
    /// Among the subscription's.
    var link: DoubleLink<Delivery>
    /// Of an `auto` subscription: among the session's flights.
    var flightLink: SingleLink<Delivery>
    /// Of another, where ACK may name the message-id: in a chain of `DeliveryTable`.
    var chainLink: DoubleLink<Delivery>
    /// Acknowledged in this open transaction.
    var transaction: Index<Transaction>
    /// At the queue's owner.
    var entry: Handle<Entry>
    /// MESSAGE's message-id.
    var identity: UInt64
    /// The session's output position behind the MESSAGE's NUL.
    var position: UInt64
}

enum DeliveryLink: DoublyLinked {
    static subscript(delivery: UnsafeMutablePointer<Delivery>) -> DoubleLink<Delivery> {
        get { delivery.pointee.link }
        set { delivery.pointee.link = newValue }
    }
}

enum FlightLink: SinglyLinked {
    static subscript(delivery: UnsafeMutablePointer<Delivery>) -> SingleLink<Delivery> {
        get { delivery.pointee.flightLink }
        set { delivery.pointee.flightLink = newValue }
    }
}

enum DeliveryChainLink: DoublyLinked {
    static subscript(delivery: UnsafeMutablePointer<Delivery>) -> DoubleLink<Delivery> {
        get { delivery.pointee.chainLink }
        set { delivery.pointee.chainLink = newValue }
    }
}

typealias DeliveryList = List<DeliveryLink>
typealias DeliveryChain = Chain<DeliveryChainLink>
typealias SubscriptionChain = Chain<SubscriptionLink>
typealias GroupChain = Chain<GroupLink>

/// An open transaction: the frames received in it, in order.
struct Transaction: SlabRecord {
    var generation: UInt32
    var session: Index<Session>
    /// Among the session's.
    var link: SingleLink<Transaction>
    var name: BlockIndex
    var nameByteCount: UInt32
    /// Blocks of kept frames, first and last: the next block's index, then `KeptFrame` and the frame's bytes, of each frame.
    var frames: BlockIndex
    var lastFrames: BlockIndex
    var framesByteCount: UInt32
    var frameCount: UInt32
    /// ACK and NACK among the frames.
    var settlementCount: UInt32
    var timer: UInt32
}

enum TransactionLink: SinglyLinked {
    static subscript(transaction: UnsafeMutablePointer<Transaction>) -> SingleLink<Transaction> {
        get { transaction.pointee.link }
        set { transaction.pointee.link = newValue }
    }
}

enum PendingKind: UInt8, BitwiseCopyable {
    /// A RECEIPT that waits for barriers.
    case receipt
    /// A SUBSCRIBE that waits for other workers; its RECEIPT follows.
    case subscribe
    /// A COMMIT that waits for room at other workers' queues.
    case commit
    /// A SEND that waits for room in a queue; its session parses it again when it is granted. It holds what it was granted
    /// until then, and gives it back if the session ends before.
    case send
    /// With a queue's owner: another worker's request for room, which waits. It is of no session of this worker.
    case remoteReservation
}

/// Something of a session that waits for other workers. Receipts leave in the order of their frames.
struct PendingOperation: SlabRecord {
    var generation: UInt32
    /// None, of a `remoteReservation`.
    var session: Index<Session>
    /// In the order of the session's operations.
    var link: SingleLink<PendingOperation>
    /// Among those who wait for a destination's registration or for room in a queue.
    var waitLink: DoubleLink<PendingOperation>
    var answersDue: UInt32
    /// The receipt's id, encoded. 0: no receipt was asked for.
    var receipt: BlockIndex
    var receiptByteCount: UInt32
    /// What it is about, as `kind` says: see the accessors below.
    private var subject: UInt32
    private var subjectDetail: UInt32
    var kind: PendingKind
    /// `commit`: why another worker has no room for one of its messages (`Refusal`). 0: none has refused.
    var refusal: UInt16
    /// Nothing but its place in the order holds it back.
    var isReady: Bool
    /// `send`: there is room, and it is kept for this one.
    var isGranted: Bool
    /// `send`, `remoteReservation`: the worker at the other end, which holds the queue or has the publisher; this one where
    /// it has both.
    var peer: UInt16
    /// The queue, with its owner; none while it is another worker's that has not answered.
    var queue: Handle<Queue>
    /// The room that is asked for.
    var byteCount: UInt32

    /// `subscribe`: what will count when the others have agreed.
    var subscription: Index<Subscription> {
        get {
            assert(kind == .subscribe, "only a SUBSCRIBE that waits is about a subscription")
            return Index(subject)
        }
        set {
            assert(kind == .subscribe, "only a SUBSCRIBE that waits is about a subscription")
            subject = newValue.rawValue
        }
    }

    /// `commit`: what is to be applied.
    var transaction: Index<Transaction> {
        get {
            assert(kind == .commit, "only a COMMIT that waits is about a transaction")
            return Index(subject)
        }
        set {
            assert(kind == .commit, "only a COMMIT that waits is about a transaction")
            subject = newValue.rawValue
        }
    }

    /// `commit`: how many of the transaction's frames have been gone through to reserve what they need.
    var reservedFrameCount: UInt32 {
        get {
            assert(kind == .commit, "only a COMMIT reserves for frames")
            return subjectDetail
        }
        set {
            assert(kind == .commit, "only a COMMIT reserves for frames")
            subjectDetail = newValue
        }
    }

    /// The same wait, with the worker at the other end: of a `send` the `remoteReservation`, once it was told of it (none
    /// before), and the other way round.
    var counterpart: Handle<PendingOperation> {
        get {
            assert(kind == .send || kind == .remoteReservation, "only who waits for room has a counterpart")
            return Handle(index: Index(subject), generation: subjectDetail)
        }
        set {
            assert(kind == .send || kind == .remoteReservation, "only who waits for room has a counterpart")
            subject = newValue.index.rawValue
            subjectDetail = newValue.generation
        }
    }
}

enum PendingLink: SinglyLinked {
    static subscript(pending: UnsafeMutablePointer<PendingOperation>) -> SingleLink<PendingOperation> {
        get { pending.pointee.link }
        set { pending.pointee.link = newValue }
    }
}

enum WaitLink: DoublyLinked {
    static subscript(pending: UnsafeMutablePointer<PendingOperation>) -> DoubleLink<PendingOperation> {
        get { pending.pointee.waitLink }
        set { pending.pointee.waitLink = newValue }
    }
}

/// Other workers, one bit each.
struct RemoteSet: SlabRecord {
    var generation: UInt32
    var unused: UInt32
    var low: UInt64
    var high: UInt64
}

/// What a timer belongs to (`TimerWheel.Expired.kind`).
enum TimerKind: UInt8 {
    case session = 1, entry, transaction, accept, room, drain, notices, idleQueue
}
