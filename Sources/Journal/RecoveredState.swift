/// A queue that has messages, or was made with arguments; or a topic that keeps messages.
public struct RecoveredQueue: Sendable {
    public var name: [UInt8]
    /// The payload of the newest `queueMade` or, with `isSubscription`, `subscriptionMade`.
    var made: [UInt8]?
    var isSubscription = false
    public var messageCount = 0
    /// Of a topic with a log: below which number its offsets may have been given out. nil: it has none.
    public var offsetEnd: UInt64?

    /// Whether it was made with arguments.
    public var isMade: Bool { made != nil && !isSubscription }
    /// Whether it is a durable subscription's.
    public var isDurableSubscription: Bool { made != nil && isSubscription }

    /// What it was made with. The names that it points to are valid during the call.
    public func withRecord(_ body: (QueueRecord) -> Void) {
        guard isMade, let made else { return }
        made.withUnsafeBytes { body(Record.queue(of: $0.baseAddress!)) }
    }

    /// The durable subscription that it is of. The names that it points to are valid during the call.
    public func withSubscription(_ body: (SubscriptionRecord) -> Void) {
        guard isDurableSubscription, let made else { return }
        made.withUnsafeBytes { body(Record.subscription(of: $0.baseAddress!)) }
    }
}

/// What recovery found.
public struct RecoveredState: Sendable {
    /// Damage. If one is fatal, the rest does not count.
    public var findings: [RecoveryFinding]
    /// Some may have no message and no arguments.
    public var queues: [RecoveredQueue]
    /// By name.
    public var segments: [RecoveredSegment]
    /// Transactions that are complete, and of which a part would not be known to be so without the others. Each needs a
    /// `transactionEnd` in the new life, on stable storage before a segment is freed.
    public var unsealedTransactions: [UInt64]
    /// Of messages that were taken, whatever became of them, from the time on that recovery was told. In no order, and some
    /// may be there twice. Those that are still to be known are written again in the new life before a segment is freed.
    public var ids: [RecoveredID]
    /// The greatest life that there was; 0: none. The next life is greater.
    public var lifeMax: UInt32
    /// All intact records, up to the logs' ends.
    public var counts: RecordCounts
    /// What lives.
    public var live: LiveMessages

    /// Messages that live, without those in transactions of which parts are missing.
    public var liveMessageCount: Int { live.count }
    /// What lives, by order key: of few messages, for each takes 56 bytes here.
    public var messages: [LiveMessage] { live.sorted }
}

/// The queues' names, each once. Names without messages and arguments are forgotten from time to time.
struct QueueNames {
    struct Queue {
        var name: [UInt8]
        var made: [UInt8]?
        var isSubscription = false
        var madeSegment = 0
        var messageCount = 0
        var offsetEnd: UInt64?
        var offsetSegment = 0
        var isFree = false
    }

    private(set) var queues: [Queue] = []
    private var byName: [[UInt8]: UInt32] = [:]
    private var free: [UInt32] = []
    /// Forgets names when there are so many.
    private var sweepCount = 4096
    /// The last that was looked up: often the next too.
    private var recent: UInt32 = 0

    subscript(queue: UInt32) -> Queue {
        _read { yield queues[Int(queue)] }
        _modify { yield &queues[Int(queue)] }
    }

    mutating func find(_ name: UnsafeRawBufferPointer) -> UInt32 {
        if recent < queues.count, queues[Int(recent)].name.elementsEqual(name), !queues[Int(recent)].isFree {
            return recent
        }
        let key = [UInt8](name)
        if let queue = byName[key] {
            recent = queue
            return queue
        }
        if byName.count >= sweepCount { sweep() }
        recent = free.popLast() ?? UInt32(queues.count)
        if recent == queues.count { queues.append(Queue(name: key)) } else { queues[Int(recent)] = Queue(name: key) }
        byName[key] = recent
        return recent
    }

    private mutating func sweep() {
        for index in queues.indices where !queues[index].isFree {
            guard queues[index].messageCount == 0, queues[index].made == nil, queues[index].offsetEnd == nil else {
                continue
            }
            byName[queues[index].name] = nil
            queues[index] = Queue(name: [], isFree: true)
            free.append(UInt32(index))
        }
        sweepCount = max(4096, 2 * byName.count)
    }

    var all: [RecoveredQueue] {
        queues.map {
            RecoveredQueue(
                name: $0.name, made: $0.made, isSubscription: $0.isSubscription, messageCount: $0.messageCount,
                offsetEnd: $0.offsetEnd)
        }
    }
}
