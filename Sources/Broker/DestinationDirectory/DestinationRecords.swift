import Slabs

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
    /// The worker that holds the queue; of a topic whose messages are sequenced, the one that does it.
    var owner: UInt16
    /// Made by a `/temp-…` name: goes with its connection.
    var isTemporary: Bool
    /// Remote queue: its policy makes publishers wait for room.
    var blocks: Bool
    var encodings: EncodingChain
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
    /// Of a queue, here or with another worker, and of a topic that is sequenced: which of its messages are stored, of the
    /// topic's those that it keeps.
    var storage: StoragePolicy
    /// Topic: all that is sent to it goes through its owner, for it has a log, or somebody has used `retain`.
    var isSequenced: Bool
    /// Topic: its policy is to keep a log.
    var isLogged: Bool
    /// Topic, with its owner: its log.
    var log: Index<TopicLog>
    /// Topic: what it retains.
    var retained: Index<RetainedMessage>
    var marks: DestinationMarks
    /// Pattern: among all patterns.
    var patternLink: DoubleLink<Destination>
    /// Temporary destination: among those of its connection.
    var temporaryLink: SingleLink<Destination>
    /// Other workers with subscribers.
    var remote: PeerSet
    /// Topic: the patterns that match it. Pattern: the topics.
    var matches: RecordArray<Match>
    /// Queues of acknowledging subscriptions that are bound to this topic or pattern.
    var bound: RecordArray<BoundQueue>

    /// It keeps messages of its own: it is never forgotten.
    @inline(__always)
    var keepsMessages: Bool { log.rawValue | retained.rawValue != 0 }

    /// A message to it is stored.
    func stores(isPersistent: Bool) -> Bool { storage == .always || storage == .byHeader && isPersistent }
}

struct DestinationMarks: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// The queue of a durable subscription, or the stand-in of one that another worker holds.
    static let durableQueue = DestinationMarks(rawValue: 1 << 0)
    /// A topic or pattern of which some worker has durable subscriptions.
    static let hasDurable = DestinationMarks(rawValue: 1 << 1)
}

/// Workers, one bit each.
struct PeerSet: BitwiseCopyable {
    private(set) var low: UInt64 = 0
    private(set) var high: UInt64 = 0

    static var countMax: Int { 128 }
    var isEmpty: Bool { low | high == 0 }
    var count: Int { low.nonzeroBitCount + high.nonzeroBitCount }

    func contains(_ peer: Int) -> Bool { (peer < 64 ? low >> UInt64(peer) : high >> UInt64(peer - 64)) & 1 == 1 }

    mutating func set(_ peer: Int, _ isMember: Bool) {
        let bit: UInt64 = 1 << UInt64(peer & 63)
        if peer < 64 {
            low = isMember ? low | bit : low & ~bit
        } else {
            high = isMember ? high | bit : high & ~bit
        }
    }

    /// Some worker is in both.
    func meets(_ other: PeerSet) -> Bool { low & other.low | high & other.high != 0 }

    mutating func formUnion(_ other: PeerSet) {
        low |= other.low
        high |= other.high
    }
}

/// A topic that a pattern matches, or the other way round.
struct Match: BitwiseCopyable {
    var destination: Index<Destination>
    /// Where that one has this one among its matches.
    var position: UInt32
}

/// The queue of an acknowledging topic subscription, or of a durable one.
struct BoundQueue: BitwiseCopyable {
    /// Of kind `subscriptionQueue`; of a durable subscription: `queue`.
    var destination: Index<Destination>
    /// None: it is durable.
    var subscription: Index<Subscription>
}
