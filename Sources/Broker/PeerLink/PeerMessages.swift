import Slabs

// One type for each kind of message between workers. Handles belong to the worker that is named beside them: the asker (who
// subscribes, sends or waits) or the owner (who holds the queue).

// MARK: Topics

/// The asker wants to hear what is published to a topic or pattern. Payload: its name. Answered by `InterestAnswer`.
struct InterestRequest: PeerMessage {
    static var kind: PeerMessageKind { .interestRequest }
    /// The asker's.
    var destination: Handle<Destination>
    /// Counts the asker's requests for this destination.
    var epoch: UInt32
    var isPattern: Bool
    /// Durable subscriptions to it that the asker holds: what is published is to be stored there. At most; a request that
    /// says less follows when the last one ends.
    var durableCount: UInt32
}

struct InterestAnswer: PeerMessage {
    static var kind: PeerMessageKind { .interestAnswer }
    /// As in the request.
    var destination: Handle<Destination>
    var epoch: UInt32
    /// There is no memory for it, or patterns and topics match too often.
    var isRefused: Bool
}

/// The asker needs to hear of it no more. Payload: the name.
struct InterestWithdrawal: PeerMessage {
    static var kind: PeerMessageKind { .interestWithdrawal }
}

/// A message for the subscribers of a worker that has asked for it. Payload: `MessagePayload`. Where that worker keeps it for
/// durable subscriptions, and cannot, it is answered by `PublicationRefusal`.
struct TopicPublication: PeerMessage {
    static var kind: PeerMessageKind { .topicPublication }
    /// Who sent it, of the asker's. None: nobody hears what becomes of it, and the payload has no receipt.
    var sender = Handle<Session>.none
    /// It is of a COMMIT, which may take of what is kept in reserve.
    var isCommitted = false
}

// MARK: Messages to queues

/// A message for a queue of the owner. Payload: `MessagePayload`. Answered by `PublicationRefusal`, or not at all.
struct QueuePublication: PeerMessage {
    static var kind: PeerMessageKind { .queuePublication }
    /// Who sent it, of the asker's; of a dead letter, who is held to account for the queue that it was in.
    var sender: QueueHolder
    /// What was reserved for it at the owner, in `room`.
    var byteCount: UInt32
    /// None: nothing was, for there was no such queue.
    var room: Handle<Queue>
    /// Limits on what there may be were asked before.
    var isReserved: Bool
    /// Nobody hears what becomes of it.
    var isDeadLetter: Bool
}

/// The owner has not taken a message. Payload: the receipt that its SEND asked for; empty: none.
struct PublicationRefusal: PeerMessage {
    static var kind: PeerMessageKind { .publicationRefusal }
    /// As in `QueuePublication`.
    var session: Handle<Session>
    var refusal: Refusal
}

/// What a client asks of a queue if its use of it is the first; that use follows. Payload: `QueueRequest`, the name of the
/// dead-letter destination, the queue's name.
struct QueueProperties: PeerMessage {
    static var kind: PeerMessageKind { .queueProperties }
}

// MARK: Consumers

/// A subscription of the asker's to a queue of the owner. Payload: the queue's name. Answered by `ConsumerAnswer`.
struct ConsumerRequest: PeerMessage {
    static var kind: PeerMessageKind { .consumerRequest }
    /// Both the asker's.
    var subscription: Handle<Subscription>
    var pending: Handle<PendingOperation>
    var window: Window
    /// Its session has not read what it has already.
    var isPaused: Bool
}

struct ConsumerAnswer: PeerMessage {
    static var kind: PeerMessageKind { .consumerAnswer }
    /// As in the request.
    var pending: Handle<PendingOperation>
    /// The owner's. None: refused.
    var consumer: Handle<Consumer>
    var refusal: Refusal
    /// As in the request.
    var isPaused: Bool
}

/// A consumer leaves. What it held returns to the queue.
struct ConsumerRemoval: PeerMessage {
    static var kind: PeerMessageKind { .consumerRemoval }
    /// The owner's.
    var consumer: Handle<Consumer>
    var held: HeldMessages
}

/// A consumer gets no more, or some again.
struct ConsumerPause: PeerMessage {
    static var kind: PeerMessageKind { .consumerPause }
    /// The owner's.
    var consumer: Handle<Consumer>
    var isPaused: Bool
}

/// A message of a queue for a consumer. Payload: `MessagePayload`, without name and receipt.
struct QueueDelivery: PeerMessage {
    static var kind: PeerMessageKind { .queueDelivery }
    /// The asker's.
    var subscription: Handle<Subscription>
    /// The owner's.
    var entry: Handle<Entry>
    /// How often it was delivered, this time included. 0: for the first time, as far as clients may know.
    var deliveryCount: UInt16
}

/// ACK or NACK of a delivery.
struct EntrySettlement: PeerMessage {
    static var kind: PeerMessageKind { .entrySettlement }
    /// Both the owner's.
    var entry: Handle<Entry>
    var consumer: Handle<Consumer>
    var settlement: Settlement
}

// MARK: Durable subscriptions

/// A client of the asker's wants to consume from a durable subscription of the owner, which is made if it is not there.
/// Payload: the name of the topic or pattern, then that of the subscription's queue. Answered by `ConsumerAnswer` when it is
/// on stable storage and all workers send what is published.
struct DurableRequest: PeerMessage {
    static var kind: PeerMessageKind { .durableRequest }
    /// Both the asker's.
    var subscription: Handle<Subscription>
    var pending: Handle<PendingOperation>
    var window: Window
    /// Its session has not read what it has already.
    var isPaused: Bool
    var dialect: DurableDialect
    var isPattern: Bool
    var topicByteCount: UInt16
}

/// A client of the asker's ends a durable subscription of the owner. Payload: as many bytes of the name of its queue, of the
/// topic (none: whichever it is), then the receipt that was asked for. Answered by `PublicationRefusal`, or not at all.
struct DurableRemoval: PeerMessage {
    static var kind: PeerMessageKind { .durableRemoval }
    /// The asker's.
    var session: Handle<Session>
    var nameByteCount: UInt16
    var topicByteCount: UInt16
}

// MARK: Receipts

/// Answered by `BarrierAnswer` when everything that the asker has written before is applied.
struct Barrier: PeerMessage {
    static var kind: PeerMessageKind { .barrier }
    /// The asker's.
    var pending: Handle<PendingOperation>
    /// Some of it may be stored, and has to be durable.
    var isStored = false
    /// Workers to which the owner has passed some of it on, and that store it: their logs have to be durable, too. Empty: there
    /// are none.
    var holders = PeerSet()
}

struct BarrierAnswer: PeerMessage {
    static var kind: PeerMessageKind { .barrierAnswer }
    /// As in the question.
    var pending: Handle<PendingOperation>
    /// What was to be stored may not be. nil: it is.
    var refusal: Refusal?
}

// MARK: Transactions that are stored

/// What the asker's transaction has for queues of the owner begins, or ends. What is between the two arrives in one batch.
struct TransactionPart: PeerMessage {
    static var kind: PeerMessageKind { .transactionPart }
    /// 0: there is no other part.
    var transaction: UInt64
    /// Workers that have a part.
    var partCount: UInt16
    var isEnd: Bool
    /// See `OpenPart.holdsReceipts`.
    var holdsReceipts = false
}

/// A transaction with parts in several logs has come a step on: see `MessageStore+Transactions`.
struct TransactionStep: PeerMessage {
    static var kind: PeerMessageKind { .transactionStep }
    var transaction: UInt64
    var step: CommitStep
}

// MARK: Room in queues

/// Room for one message: of a COMMIT, which is refused where there is none, or of a SEND, which waits. Payload: the name of the
/// queue, or with COMMIT of a topic that keeps something of it. Answered by `RoomAnswer`, before which may come `RoomWait`.
struct RoomRequest: PeerMessage {
    static var kind: PeerMessageKind { .roomRequest }
    /// The asker's.
    var session: Handle<Session>
    var pending: Handle<PendingOperation>
    /// Room in bytes, and in the highest bit whether the message is to be stored.
    private var byteCountAndFlag: UInt32
    /// As in `QueueHolder`.
    var address: UInt32
    /// `keptFrame`, and in its lowest bits, which are 0 in it, `needs`.
    private var keptFrameAndNeeds: UInt64

    init(
        session: Handle<Session>, pending: Handle<PendingOperation>, byteCount: UInt32, address: UInt32,
        keptFrame: UInt64, isPersistent: Bool = false, needs: SendNeeds = SendNeeds()
    ) {
        self.session = session
        self.pending = pending
        byteCountAndFlag = byteCount | (isPersistent ? 1 << 31 : 0)
        self.address = address
        invariant(keptFrame & SendNeeds.all == 0, "frames are kept on boundaries of 16 bytes")
        keptFrameAndNeeds = keptFrame | UInt64(needs.rawValue)
    }

    /// Where the asker keeps the frame of the transaction (`KeptCursor.frame`). 0: a SEND of its own.
    var keptFrame: UInt64 { keptFrameAndNeeds & ~SendNeeds.all }
    /// What a SEND of a transaction needs beside room.
    var needs: SendNeeds { SendNeeds(rawValue: UInt8(keptFrameAndNeeds & SendNeeds.all)) }

    var byteCount: UInt32 { byteCountAndFlag & ~(1 << 31) }
    /// The message says `persistent:true`.
    var isPersistent: Bool { byteCountAndFlag >> 31 == 1 }

    /// There is no hurry: a publisher waits, as its queue's policy wants it.
    var mayWait: Bool { keptFrame == 0 }
}

/// The request waits with the owner until the queue has room.
struct RoomWait: PeerMessage {
    static var kind: PeerMessageKind { .roomWait }
    /// The owner's: what cancels it.
    var reservation: Handle<PendingOperation>
    /// As in the request.
    var pending: Handle<PendingOperation>
}

struct RoomAnswer: PeerMessage {
    static var kind: PeerMessageKind { .roomAnswer }
    /// The owner's. None: refused, or the queue is gone and what is sent to it will be dropped.
    var queue: Handle<Queue>
    /// These three as in the request.
    var pending: Handle<PendingOperation>
    var keptFrame: UInt64
    var byteCount: UInt32
    /// nil: granted.
    var refusal: Refusal?

    init(
        queue: Handle<Queue>, pending: Handle<PendingOperation>, keptFrame: UInt64, byteCount: UInt32, refusal: Refusal?
    ) {
        self.queue = queue
        self.pending = pending
        self.keptFrame = keptFrame
        self.byteCount = byteCount
        self.refusal = refusal
    }

    /// No room in a queue: it is refused, or needs none.
    init(to request: RoomRequest, _ refusal: Refusal?) {
        self.init(
            queue: .none, pending: request.pending, keptFrame: request.keptFrame, byteCount: request.byteCount,
            refusal: refusal)
    }
}

/// A request that waits is withdrawn.
struct RoomCancellation: PeerMessage {
    static var kind: PeerMessageKind { .roomCancellation }
    /// The owner's.
    var reservation: Handle<PendingOperation>
}

/// Room that was granted is not needed.
struct RoomReturn: PeerMessage {
    static var kind: PeerMessageKind { .roomReturn }
    /// The owner's.
    var queue: Handle<Queue>
    var byteCount: UInt32
}

// MARK: Dead letters

/// Room for a message that failed too often, in its dead-letter queue, which is the owner's. Payload: the name of that queue.
/// Answered by `DeadLetterAnswer`.
struct DeadLetterRequest: PeerMessage {
    static var kind: PeerMessageKind { .deadLetterRequest }
    /// The asker's.
    var entry: Handle<Entry>
    /// Who is held to account for the queue that it is in.
    var holder: QueueHolder
    /// As in `RoomRequest`.
    private var byteCountAndFlag: UInt32

    init(entry: Handle<Entry>, holder: QueueHolder, byteCount: UInt32, isPersistent: Bool) {
        self.entry = entry
        self.holder = holder
        byteCountAndFlag = byteCount | (isPersistent ? 1 << 31 : 0)
    }

    var byteCount: UInt32 { byteCountAndFlag & ~(1 << 31) }
    /// The message says `persistent:true`.
    var isPersistent: Bool { byteCountAndFlag >> 31 == 1 }
}

struct DeadLetterAnswer: PeerMessage {
    static var kind: PeerMessageKind { .deadLetterAnswer }
    /// As in the request.
    var entry: Handle<Entry>
    /// The owner's. None: it has no room.
    var queue: Handle<Queue>
    /// As in the request.
    var byteCount: UInt32
}
