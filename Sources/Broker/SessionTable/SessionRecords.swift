import IO
import STOMP
import Slabs

/// Where a connection stands. Each event in each state is decided in `Shard+Connections.swift`,
/// `Shard+Endings.swift` and `Shard+Commands.swift`.
enum SessionState: UInt8, BitwiseCopyable {
    /// Accepted; only CONNECT or STOMP is welcome.
    case fresh
    /// CONNECT was sent; somebody is asked whether the client may.
    case authenticating
    /// CONNECTED was sent.
    case connected
    /// Nothing more is processed (DISCONNECT, ERROR, end of file); the output is flushed.
    case ending
    /// The output is flushed and shut down; what still arrives is read and thrown away, so that no reset eats it.
    case lingering
    /// `.close` was submitted; the slot is freed by `.closed`.
    case closing

    /// Frames are read, now or when what they wait for is there.
    var isOpen: Bool {
        switch self {
        case .fresh, .authenticating, .connected: true
        case .ending, .lingering, .closing: false
        }
    }
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
    /// The send of the last poll was not taken whole; `sendResult` says how far it came.
    static let sendIncomplete = SessionFlags(rawValue: 1 << 4)
    /// The peer ended its sending side.
    static let peerEnded = SessionFlags(rawValue: 1 << 5)
    /// It reads too slowly, or there is no memory for its output: it is disconnected at the end of the turn.
    static let slow = SessionFlags(rawValue: 1 << 6)
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
    /// The RECEIPT of the frame that is parsed again has met its conditions.
    static let receiptIsCleared = SessionFlags(rawValue: 1 << 18)
    /// Has stored something in a queue of this worker since its last RECEIPT.
    static let hasStored = SessionFlags(rawValue: 1 << 19)
    /// The same of other workers.
    static let hasStoredElsewhere = SessionFlags(rawValue: 1 << 20)
    /// Its sends are copied: its listener is not plain TCP.
    static let copiesSends = SessionFlags(rawValue: 1 << 21)
    /// CONNECT had a `client-id`, and `DurableSubscriptions` has it.
    static let hasClientID = SessionFlags(rawValue: 1 << 22)
    /// Suspended, until its newer token is decided about.
    static let isRenewing = SessionFlags(rawValue: 1 << 28)
    /// It was, and the frame that brought it is parsed again.
    static let isRenewed = SessionFlags(rawValue: 1 << 29)
    /// Its user may send so many frames or bytes a second.
    static let hasRate = SessionFlags(rawValue: 1 << 30)
    /// Suspended, because its user has sent more.
    static let isSlowed = SessionFlags(rawValue: 1 << 31)
    /// After a frame there may be a reason to stop.
    static let pauses: SessionFlags = [.suspended, .hasRate]
}

/// One connection: what remains while it idles. Everything else is borrowed while bytes are under way.
struct Session: SlabRecord {
    var generation: UInt32
    var index: Index<Session>
    var state: SessionState
    var version: Version
    /// That accepted the connection, with whichever worker.
    var listener: ListenerID
    /// That CONNECT may negotiate: all, unless the client's transport has agreed on one.
    var versions: VersionSet
    var flags: SessionFlags
    var subscriptionCount: UInt16
    var transactionCount: UInt16

    /// A frame cut short: `PartialInput`, then the bytes. 0: none.
    var input: BlockIndex
    var inputByteCount: UInt32

    /// Segments that wait to be sent.
    var output: SegmentFifo
    var outputByteCount: UInt32
    /// Bytes of the send under way, and its result where it fell short.
    var sendByteCount: UInt32
    var sendResult: Int32
    /// Deliveries of `auto` subscriptions that wait until their bytes are with the kernel, first to last.
    var unsentDeliveries: UnsentFifo
    /// The login that CONNECT named, cut to `LoginTable.byteCountMax`, for the log alone. 0: none.
    var login: BlockIndex
    /// Line ends before CONNECT, which count against the limit of what comes before it.
    var lineEndByteCount: UInt32
    /// Bytes ever appended to the output: the position that unsent deliveries wait for.
    var outputPosition: UInt64
    /// What the log calls this connection: a number that no other connection of the process gets.
    var number: UInt64

    var subscriptions: SubscriptionChain
    var transactions: TransactionStack
    /// Temporary destinations of this connection.
    var temporaries: TemporaryStack
    /// Operations and receipts that wait for other workers, first to last.
    var pendings: PendingFifo
    /// Workers with peer messages of this session that no barrier has confirmed yet. None: none.
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
