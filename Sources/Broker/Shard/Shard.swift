public import IO
import STOMP
public import Slabs

/// The core of one worker: sessions, destinations, queues, timers. A deterministic state machine that makes no system
/// call, reads no clock and starts no thread.
///
/// `turn` takes the completions of a poll and the time, applies them, and leaves the next poll's submissions in
/// `submissions`. The shard is driven by exactly one thread; it talks to other shards only through the fabric's mailboxes.
///
/// It is composed of parts, each in a folder beside this one. The shard holds the turn and carries what one part says to the
/// next. Its files, in the order in which a byte meets them: `Shard+Connections` (accept, receive), `Shard+Commands` (which
/// command), `Shard+Send`, `Shard+Subscribe`, `Shard+Acknowledgement`, `Shard+Transactions` and `Shard+Commit`,
/// `Shard+Topics`, `Shard+TopicLogs`, `Shard+DurableSubscriptions`, `Shard+Queues`, `Shard+Deliveries`, `Shard+Output` (what
/// is sent), `Shard+Peers` (other workers),
/// `Shard+Timers`, `Shard+Endings`.
public struct Shard: ~Copyable {
    public let index: Int
    public let shardCount: Int
    let options: BrokerOptions
    let limits: Limits
    let frameLimits: FrameLimits
    let fabric: Fabric
    let policies: PolicyTable
    let listeners: ListenerTable

    // Records
    var sessions: SessionTable
    var subscriptions: SubscriptionTable
    var router: TopicRouter
    var destinations: DestinationDirectory
    var queues: QueueEngine<FirstInFirstOut>
    var topicLogs: TopicLogs
    var durables = DurableSubscriptions()
    var relays = Relays()
    var transactions: TransactionTable
    var pendings: ReceiptOrder
    var store: MessageStore
    var cold: ColdMessages
    var memory: MemoryBudget
    var delays: DelayTable
    var deduplication: DeduplicationTable
    /// What was last told to the other workers.
    private var toldFullLimit: LimitKind?
    private var hasToldFullForTopics = false
    var timers: TimerWheel
    let identity: SessionIdentity
    /// Who the sessions are, and what they may do.
    var gate: AccessGate
    /// Which hosts there are, and whose each session is.
    var hosts: HostTable

    // Work of this turn
    var output: Output
    /// Queues that gained messages while another was dispatched: their turn is next.
    var queuesToDispatch = Batch<Handle<Queue>>(capacity: 16)
    var isDispatching = false
    var peers: PeerLink
    /// Records that may still be made or removed in this turn; what is under way is finished, so it may fall below 0.
    var recordAllowance = 0
    /// Steps of searches that are not charged as a record yet.
    private var stepCount = 0

    // The frame under the parser, and room to unescape
    var frame: Frame
    var frameError = FrameError()
    let scratch: Scratch

    // What is stored
    /// What was asked of queues whose messages are stored, when they were made.
    var queueArguments: [Index<Queue>: QueueArguments] = [:]
    /// Another worker's part of a transaction, while it is read, and one that is within it.
    var remoteParts: [OpenGroup] = []
    /// Messages that were refused, or failed too often, in a transaction: they go to their dead-letter destinations behind
    /// it.
    var deadLettersDue: [DueDeadLetter] = []
    /// Messages that failed too often, while the owner of their dead-letter queue is asked for room.
    var deadLettersAsked: [Handle<Entry>: DueDeadLetter] = [:]
    /// Room that the dead letter which moves now was granted there.
    var deadLetterRoom: DeadLetterAnswer?
    /// The frame that a COMMIT applies has room in this queue of another worker.
    var roomElsewhere: Handle<Queue> = .none
    var storeEnding = StoreEnding.none
    var storeChecks = 0
    /// The log cannot be written any more: see `StorageOptions.onError`. Stored, as `hasNotices` is.
    public internal(set) var hasStorageFailed = false

    // Time, given by the caller of `turn`
    var now: UInt64
    /// `now` in milliseconds, wrapping.
    var clock: UInt32
    var wallMilliseconds: UInt64

    /// The time as parts are told it.
    var moment: Moment {
        @inline(__always) get { Moment(now: now, clock: clock, wallMilliseconds: wallMilliseconds) }
    }

    private var blockPeak = 0
    private var backlog = Backlog()
    private var isTrimming: Bool {
        get { backlog.contains(.trim) }
        set { if newValue { backlog.insert(.trim) } else { backlog.remove(.trim) } }
    }
    /// When the memory that is kept for the next burst goes back to the kernel, unless it is used before (monotonic
    /// nanoseconds). `.max`: none is kept that went unused so far.
    private var restsAt: UInt64 = .max
    private var reserveChangesSeen: UInt32 = 0

    var nextIdentity: UInt64 = 0
    var acceptTimer: UInt32 = 0
    var roomTimer: UInt32 = 0
    /// Of what is too old in the logs of topics, and of retained messages that have expired.
    var logTimer: UInt32 = 0
    var delayTimer: UInt32 = 0
    /// When it fires (wall-clock milliseconds).
    var delayTimerAt: UInt64 = 0
    var deduplicationTimer: UInt32 = 0
    var drainIsRequested = false
    var isDraining = false
    var drainTimer: UInt32 = 0
    var drainSince: UInt32 = 0
    var drainIsOver = false
    /// The drain is over and so is everything that came of it, here and with the other shards: the worker may end.
    public internal(set) var isDrained = false
    var quietChecks = 0
    var restChecks = 0

    /// What the driver has to do next.
    public var submissions = Batch<Submission>(capacity: 4096)
    /// When the next turn is due though nothing happens (monotonic nanoseconds). 0: at once; `.max`: never. Stored, as
    /// `hasNotices` is.
    public private(set) var deadline: UInt64 = .max
    public internal(set) var counters = Counters()
    var notices: [Notice] = []
    /// `takeNotices` has something to tell. Stored, for a computed property that another module reads costs a copy of the shard.
    public internal(set) var hasNotices = false
    var questions: [AuthenticationQuestion] = []
    /// `takeQuestions` has something to ask. Stored, as `hasNotices` is.
    public internal(set) var hasQuestions = false
    var answers: [AuthenticationAnswer] = []
    /// There are answers, or a walk over all sessions goes on: one look in each turn for both.
    var hasAccessWork: Bool {
        get { backlog.contains(.access) }
        set { if newValue { backlog.insert(.access) } else { backlog.remove(.access) } }
    }
    var receiptQuestions: [ReceiptQuestion] = []
    var noticeAllowance = NoticeAllowance()
    var noticeTimer: UInt32 = 0

    /// - Parameters:
    ///   - index: which shard of the fabric this is.
    ///   - options: what the operator has set; the same for all shards.
    ///   - fabric: what the shards of the broker share.
    ///   - now: monotonic nanoseconds.
    ///   - wallMilliseconds: milliseconds since the epoch; message identities begin there, so that they do not repeat
    ///     after a restart.
    ///   - connectionCountMax: what the driver's table holds.
    public init(
        index: Int, options: BrokerOptions, fabric: Fabric, connectionCountMax: Int, now: UInt64,
        wallMilliseconds: UInt64
    ) throws(SlabError) {
        let limits = options.limits.fitting(connectionCountMax: connectionCountMax)
        let shardCount = fabric.shardCount
        let capacity = ShardCapacity(limits, workerCount: shardCount)
        let clock = UInt32(truncatingIfNeeded: now / 1_000_000)
        let sessions = try SessionTable(
            limits, keepsAddresses: options.needsAddresses, worker: index, of: shardCount, clock: clock,
            seed: options.seed &+ 0xA24B_AED4_963E_E407)
        let output = try Output(limits, zeroCopyByteCountMin: options.zeroCopyByteCountMin)
        let router = try TopicRouter(limits, seed: options.seed &+ 0xD1B5_4A32_D192_ED03)
        let destinations = try DestinationDirectory(
            limits, worker: index, of: shardCount, seed: options.seed &+ 0x9E37_79B9_7F4A_7C15)
        let queues = try QueueEngine<FirstInFirstOut>(capacity)
        let topicLogs = try TopicLogs(limits, workerCount: shardCount)
        let subscriptions = try SubscriptionTable(
            capacity, seed: options.seed &+ 0x8CB9_2BA7_2F3D_8DD7, options.identityKey)
        let transactions = try TransactionTable(recordCountMax: capacity.transactionCount, limits)
        let pendings = try ReceiptOrder(sessionCountMax: capacity.sessionCount, options.receiptConditions)
        let memory = try MemoryBudget(limits)
        let delays = try DelayTable(limits)
        let deduplication = try DeduplicationTable(limits, seed: options.seed &+ 0x2545_F491_4F6C_DD1D)
        let timers = try TimerWheel(timerCountMax: capacity.timerCount, now: now)
        let cold = try ColdMessages(limits, isUsed: options.storage != nil)
        self.index = index
        self.options = options
        self.limits = limits
        self.fabric = fabric
        self.shardCount = shardCount
        frameLimits = FrameLimits(limits)
        policies = PolicyTable(options.destinationPolicies)
        listeners = ListenerTable(options.listeners)
        self.sessions = sessions
        self.output = output
        self.subscriptions = subscriptions
        self.router = router
        self.destinations = destinations
        self.queues = queues
        self.topicLogs = topicLogs
        self.transactions = transactions
        self.pendings = pendings
        hosts = HostTable(options.hosts, fallback: options.defaultHost, fabric.hostUsages)
        store = MessageStore(
            options.storage, hosts.storage(hasStore: options.storage != nil), worker: index, workerCount: shardCount,
            wallMilliseconds: wallMilliseconds)
        self.cold = cold
        self.memory = memory
        self.delays = delays
        self.deduplication = deduplication
        self.timers = timers
        identity = SessionIdentity(key: options.identityKey, worker: index)
        gate = AccessGate(options.access, fabric.userUsages)
        peers = PeerLink(index: index, fabric: fabric)
        frame = Frame(headerCountMax: limits.headerCountMax)
        scratch = Scratch(limits)
        (self.now, self.clock, self.wallMilliseconds) = (now, clock, wallMilliseconds)
        begin()
    }

    private mutating func begin() {
        invariant(index < shardCount, "a shard belongs to its fabric")
        // The highest octet is never 0: that is how ACK tells a message-id from an `ack` header's value.
        nextIdentity = UInt64(index + 1) << 56 | (wallMilliseconds << 12) & 0x00FF_FFFF_FFFF_FFFF
        if options.storage != nil { beginLog() }
        reportLoad()
    }

    /// One turn: applies `completions` and what else has become due at `now`, and leaves `submissions` for the driver.
    ///
    /// The submissions of the previous turn have been carried out by then; bytes they pointed to are released here.
    public mutating func turn(_ completions: borrowing Batch<Completion>, now: UInt64, wallMilliseconds: UInt64) {
        self.now = now
        self.wallMilliseconds = wallMilliseconds
        clock = UInt32(truncatingIfNeeded: now / 1_000_000)
        submissions.removeAll()
        recordAllowance = Self.recordsPerTurnMax

        endFailedSessions()
        finishSends(completions)
        readPeers()
        if hasAccessWork { doAccessWork() }
        for i in 0..<completions.count { apply(completions[i]) }
        timers.advance(to: now)
        while let expired = timers.popExpired() { timerFired(expired) }
        resumeSessions()
        if drainIsRequested { advanceDrain() }
        if topicLogs.hasWork { serveLogs() }
        if cold.hasWork { advanceCold() }
        finishOutput()
        advanceStore()
        tellWhetherFull()
        postBatches()
        if drainIsOver { awaitOthers() }
        trimAfterBurst()
        deadline = nextDeadline
    }

    /// Others stop sending to this worker's queues, and later to its subscribers, as its own publishers do, while messages
    /// fill its memory.
    private mutating func tellWhetherFull() {
        guard shardCount > 1 else { return }
        let percent = toldFullLimit != nil ? 95 : 100
        let fullLimit: LimitKind? =
            queuesFill(percent: percent) ? .queuedMessages : messagesFill(percent: percent) ? .messageMemory : nil
        let isFullForTopics = messagesFill(percent: MemoryBudget.topicPercentMax - (hasToldFullForTopics ? 5 : 0))
        guard fullLimit != toldFullLimit || isFullForTopics != hasToldFullForTopics else { return }
        // Where publishers of its own wait, the log says so already.
        if let fullLimit, toldFullLimit == nil, sessions.nobodyWaitsForRoom { noticeFull(fullLimit) }
        toldFullLimit = fullLimit
        hasToldFullForTopics = isFullForTopics
        fabric.reportMemory(shard: index, fullLimit: fullLimit, isFullForTopics: isFullForTopics)
    }

    /// After a burst of connections or of messages, what it took goes back to the kernel: once when less than half of it
    /// is left, so that a steady state is never trimmed; and what is kept for the next one, once it went unused for a while.
    private mutating func trimAfterBurst() {
        if isTrimming {
            isTrimming = !memory.blocks.trim(byteCountMax: Self.trimByteCountPerTurnMax)
            reserveChangesSeen = memory.blocks.reserveChangeCount
        }
        memory.blocks.unmapSome()
        if memory.blocks.byteCountInUse > blockPeak { blockPeak = memory.blocks.byteCountInUse }
        let lostSessions = sessions.hasShrunk()
        let lostBlocks = blockPeak > Self.trimBlockByteCountMin && memory.blocks.byteCountInUse < blockPeak / 2
        let rests = now >= restsAt && memory.blocks.reserveChangeCount == reserveChangesSeen
        if lostSessions || rests { trimRecordsOfClients() }
        if lostBlocks || rests { trimMessages() }
        if memory.blocks.reserveChangeCount != reserveChangesSeen {
            reserveChangesSeen = memory.blocks.reserveChangeCount
            restsAt = now &+ Self.restNanoseconds
        } else if rests {
            restsAt = .max
        }
    }

    private mutating func trimRecordsOfClients() {
        sessions.trim()
        subscriptions.trimSubscriptions()
        router.trim()
        queues.trimConsumers()
        output.trim()
        timers.trim()
        transactions.trim()
        pendings.trim()
    }

    private mutating func trimMessages() {
        blockPeak = memory.blocks.byteCountInUse
        isTrimming = true
        queues.trimEntries()
        subscriptions.trimDeliveries()
        destinations.trim()
        queues.trimQueues()
    }

    /// A frame of a few bytes may make or remove records that take a thousand times as long as to parse it, and a client
    /// that leaves all of its own. After so many the others have their turn, or their messages would wait for all of one
    /// client's SUBSCRIBEs.
    static var recordsPerTurnMax: Int { 64 }
    /// A step of a search, from one record to the next, waits for memory at worst; so many take as long as a record.
    private static var stepsPerRecord: Int { 128 }

    /// Charges a search that may be long. What is less than a record is added up.
    mutating func chargeForSteps(_ count: Int) {
        stepCount += count
        recordAllowance -= stepCount / Self.stepsPerRecord
        stepCount %= Self.stepsPerRecord
    }

    /// Memory that nobody used for 5 s is not worth keeping: to have it again costs a page fault for every 4 KiB.
    private static var restNanoseconds: UInt64 { 5_000_000_000 }
    /// To unmap a page takes a tenth of a microsecond, or ten times as long in a memory control group.
    static var trimByteCountPerTurnMax: Int { 1 << 20 }
    private static var trimBlockByteCountMin: Int { 16 * 1024 * 1024 }

    @inline(__always)
    private var nextDeadline: UInt64 {
        if sessions.hasWork || output.dirtyCount > 0 || submissions.count > 0 || !backlog.isEmpty
            || memory.blocks.hasToUnmap || topicLogs.hasWork || cold.wantsTurn
        {
            return 0
        }
        return min(timers.nextDeadline ?? .max, min(restsAt, store.dueAt))
    }

    public var connectionCount: Int { sessions.liveCount }
    /// Bytes of messages and buffers in use.
    public var blockByteCount: Int { memory.blocks.byteCountInUse }

    mutating func takeIdentity() -> UInt64 {
        defer { nextIdentity &+= 1 }
        return nextIdentity
    }
}

/// What goes on in the next turn, one look for all of it.
private struct Backlog: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// Memory of messages goes back to the kernel.
    static let trim = Backlog(rawValue: 1 << 0)
    /// See `Shard.hasAccessWork`.
    static let access = Backlog(rawValue: 1 << 1)
}
