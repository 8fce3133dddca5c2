import Slabs

enum PendingKind: UInt8, BitwiseCopyable {
    /// A RECEIPT that waits for barriers.
    case receipt
    /// A SUBSCRIBE or DISCONNECT that is parsed again when its RECEIPT may leave: what it does may not come before.
    case gate
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
    /// Among those who wait for a destination's registration, for room in a queue, or for the log.
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
    var refusal: UInt8
    /// It is carried out, as far as this worker is concerned: `ReceiptOrder` alone holds it back.
    var isReady: Bool
    /// `send`: there is room, and it is kept for this one.
    var isGranted: Bool
    /// Somebody is asked whether the client may.
    var awaitsPermission: Bool
    /// It is among those that wait for the log.
    var awaitsLog: Bool
    /// `send`, `remoteReservation`: the worker at the other end, which holds the queue or has the publisher; this one where
    /// it has both.
    var peer: UInt16
    /// The queue, with its owner; none while it is another worker's that has not answered.
    var queue: Handle<Queue>
    /// The room that is asked for.
    var byteCount: UInt32

    /// `receipt`, `gate`: it leaves when the log is durable up to here. 0: it depends on no record.
    var position: LogPosition {
        get {
            assert(kind == .receipt || kind == .gate, "only a RECEIPT waits for the log")
            return UInt64(subjectDetail) << 32 | UInt64(subject)
        }
        set {
            assert(kind == .receipt || kind == .gate, "only a RECEIPT waits for the log")
            subject = UInt32(truncatingIfNeeded: newValue)
            subjectDetail = UInt32(newValue >> 32)
        }
    }

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

/// Other workers, one bit each: those that a session has sent something to.
struct RemoteSet: SlabRecord {
    var generation: UInt32
    var unused: UInt32
    var low: UInt64
    var high: UInt64
    var holders: PeerSet
}
