import IO
import Slabs

/// A message that a client composed, and what became of it as far as clients can see.
final class Message {
    enum State {
        /// In a transaction whose COMMIT was not written.
        case kept
        /// Written to the socket; its fate is open.
        case issued
        /// A RECEIPT said that it is processed.
        case confirmed
        /// An ERROR said that it is not, or its transaction was aborted.
        case refused
    }

    let number: Int
    let publisher: Int
    /// The canonical name.
    let destination: String
    /// As SEND named it, and as MESSAGE does.
    let written: String
    let isQueue: Bool
    let bodyByteCount: Int
    /// What its header `x-text` says; nil: it has none.
    let text: String?
    /// Life that its SEND asked for: milliseconds from then, or (absolute) wall-clock milliseconds.
    var life: UInt64?
    var expiryIsAbsolute = false
    /// Wall-clock milliseconds before which it must not expire, and from which on it must not be delivered.
    var expiryEarliest = UInt64.max
    var expiryLatest = UInt64.max
    /// Its SEND asked to wait for so long, in milliseconds. nil: it did not.
    var delay: UInt64?
    /// It said when rather than for how long.
    var delayIsAbsolute = false
    /// Wall-clock milliseconds before which it must not be delivered.
    var dueEarliest: UInt64 = 0
    /// It has an `x-deduplication-id`.
    var isDeduplicated = false
    var state = State.kept
    /// Position among the publisher's messages to this destination.
    var sequence = 0
    var issuedStep = 0
    var confirmedStep = 0
    /// The subscription that has it and has not acknowledged it.
    weak var holder: Subscription?
    var deliveries = 0
    /// As a dead letter it is a new message of another queue.
    var deliveriesOfDeadLetter = 0
    /// All its bytes went to a subscriber who does not acknowledge.
    var wasTakenAutomatically = false
    /// Who got it last.
    weak var lastTaker: Peer?
    /// It was with a client behind a cipher whose connection broke off: the broker may not know that it got there.
    var countsAreOff = false
    /// ACK was written (and its transaction, if any, committed).
    var ackIsIssued = false
    /// The client who wrote it last.
    var acknowledger = 0
    var ackIsConfirmed = false
    /// How often a consumer may have refused it or failed with it, and who certainly has, unless the broker had ended them
    /// before: while it was a message of its first queue.
    var failuresPossible = 0
    var certainRefusers: [Refuser] = []
    /// The subscription whose NACK was written and has not been seen to be processed.
    weak var refuser: Subscription?
    /// NACK with `requeue:false` was written.
    var wasRejected = false
    /// `reply-to` of its SEND, and as its first receiver saw it.
    var askedReply: String?
    var replyName: String?
    weak var transaction: Transaction?
    // Of runs in which the broker crashes
    /// Its SEND said `persistent:true`.
    var isPersistent = false
    // Of runs with logs of topics
    /// What its SEND says with `retain`.
    var retain: RetainChange?
    /// Its offset, once somebody has seen it. -1: nobody has.
    var offset = -1
    /// The broker's life in which it was written; 0: it was not.
    var brokerLife = 0
    /// The RECEIPT of its own SEND or COMMIT has come, and that of its own ACK.
    var isPromised = false
    var ackIsPromised = false
    /// The last life in which it was delivered.
    var lifeOfDelivery = 0
    /// When the broker crashed somebody may have had it for good.
    var mayBeGone = false
    /// The next life did not find it.
    var isLost = false
    /// A life that had it did not end in order: it may have been delivered.
    var wasInCrash = false

    init(
        number: Int, publisher: Int, destination: String, written: String, isQueue: Bool, bodyByteCount: Int,
        text: String?
    ) {
        self.number = number
        self.publisher = publisher
        self.destination = destination
        self.written = written
        self.isQueue = isQueue
        self.bodyByteCount = bodyByteCount
        self.text = text
    }

    /// Not owned: it may have come to hold the message again.
    struct Refuser { unowned let subscription: Subscription }

    /// Every body differs from every other of more than a few bytes, and holds NULs unless it must not.
    func byte(_ position: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: number &* 131 &+ position &* (number % 7 + 1)) | (bodyHasNULs ? 0 : 1)
    }

    /// Such a body needs a content-length.
    var bodyHasNULs: Bool { number % 3 != 0 }
}

enum AckMode: String { case auto, client, individual = "client-individual" }

final class Subscription {
    enum State { case issued, confirmed, unsubscribed, ended }

    struct Outstanding {
        var message: Message
        /// What ACK names: the `ack` header (1.2) or the message-id.
        var name: String
        /// The client has it when it has read so far.
        var end: Int
        /// The one that settles it, as far as its ACKs and NACKs reach.
        var transaction: Transaction?
    }

    let id: String
    /// SUBSCRIBE gave the id. If not, it is the destination, and MESSAGE does not repeat it.
    let isNamed: Bool
    unowned let peer: Peer
    let destination: String
    let isQueue: Bool
    let ackMode: AckMode
    let prefetch: Int
    /// Bytes that it takes before it acknowledges.
    let window: Int
    var state = State.issued
    var wantsReceipt = false
    var issuedStep = 0
    var confirmedStep = 0
    var outstanding: [Outstanding] = []
    /// Messages that were delivered.
    var seen: [UInt64] = []
    var lastSequence: [Int: Int] = [:]
    /// It reads a log. nil: it does not.
    var position: ReadPosition?
    /// Topics of which it was given the retained message, or one that was published meanwhile.
    var retainedTopics: Set<String> = []
    var liveTopics: Set<String> = []
    /// The durable subscription that it consumes from.
    var durable: DurableModel?

    init(
        id: String, isNamed: Bool = true, peer: Peer, destination: String, isQueue: Bool, ackMode: AckMode,
        prefetch: Int = .max, window: Int = .max
    ) {
        self.id = id
        self.isNamed = isNamed
        self.peer = peer
        self.destination = destination
        self.isQueue = isQueue
        self.ackMode = ackMode
        self.prefetch = prefetch
        self.window = window
    }

    func hasSeen(_ number: Int) -> Bool {
        number >> 6 < seen.count && seen[number >> 6] & (1 << UInt64(number & 63)) != 0
    }

    /// What ACK or NACK of the message at `place` settles, outside of a transaction (nil) or at its COMMIT: in `client`
    /// mode also what was delivered before, but for what another transaction is to settle.
    func settle(upTo place: Int, for transaction: Transaction?) -> [Message] {
        var settled: [Message] = []
        var kept: [Outstanding] = []
        for (position, held) in outstanding.enumerated() {
            let isNamed = position == place || (ackMode == .client && position < place)
            if isNamed, held.transaction === transaction { settled.append(held.message) } else { kept.append(held) }
        }
        outstanding = kept
        for message in settled where message.holder === self { message.holder = nil }
        return settled
    }

    func see(_ number: Int) {
        while seen.count <= number >> 6 { seen.append(0) }
        seen[number >> 6] |= 1 << UInt64(number & 63)
    }

    var isTemporary: Bool { destination.hasPrefix("/temp-") }

    /// Whether the broker may have given its unacknowledged messages to others.
    var hasLetGo: Bool { state == .unsubscribed || state == .ended || peer.isLeaving }
}

final class Transaction {
    enum State { case open, commitIssued, committed, aborted }

    /// An ACK or NACK, applied at COMMIT in the order of the frames: one may settle what a later one names.
    struct Settlement {
        unowned var subscription: Subscription
        /// What the frame names.
        var message: Message
        var kind: Kind

        enum Kind { case accepts, returns, rejects }
    }

    let name: String
    var state = State.open
    /// Its COMMIT asked for a RECEIPT.
    var wantsReceipt = false
    unowned let peer: Peer
    var messages: [Message] = []
    var settlements: [Settlement] = []
    /// Messages of queues that its COMMIT acknowledges.
    var acknowledged: [Message] = []
    /// The broker's life in which its COMMIT was written; 0: it was not.
    var brokerLife = 0

    init(name: String, peer: Peer) {
        self.name = name
        self.peer = peer
    }
}

/// A frame that was written and is not known to be processed.
struct Expectation {
    enum Kind {
        case plain
        case send(Message)
        case subscribe(Subscription)
        case unsubscribe(Subscription)
        case settle([Message])
        case commit(Transaction, acknowledged: [Message])
        case durable(DurableStep)
        case disconnect
    }

    var index: Int
    var wantsReceipt: Bool
    var kind: Kind
}

/// A connection with the client behind it: the two ends of a simulated socket.
final class Peer {
    enum Stage {
        /// In the listener's backlog.
        case waiting
        /// Reported to the core, which has not answered yet.
        case offered
        case adopted
        /// The core asked to close it.
        case closing
        case closed
    }

    enum Phase { case fresh, connecting, connected, failed, ended }

    let id: Int
    // The broker's end
    var stage = Stage.waiting
    var shard: Int
    var slot = Slot.none
    var isReceiving = false
    var endIsReported = false
    var failureIsReported = false
    var awaitsWritable = false
    var zeroCopy: (pointer: UnsafeRawPointer, byteCount: Int, encodedSince: UInt64)?
    /// The last send was taken whole and was all there was: what the next one brings was written since.
    var isCaughtUp = true
    var isShutDown = false
    var wasReset = false
    /// The broker ended the connection without a word.
    var wasCut = false
    var lastExchange = 0
    let address: UInt64
    /// What carries the connection. nil: nothing, and there are no layers.
    var transport: ClientTransport?
    /// The core has ended the connection, and the layers may still have something to say.
    var coreHasEnded = false
    /// It had nothing left to send then, or something.
    var coreHasFlushed = false
    var coreHasDropped = false
    static let listenerCount = 3
    /// Where it comes in.
    var listener: Int
    // Bytes under way
    var incoming: [UInt8] = []
    var incomingRead = 0
    var socketByteCountMax = 65536
    var takenByteCount = 0
    var readByteCount = 0
    var decoder = WireDecoder()
    // The client's end
    /// The client sends no more: FIN.
    var clientEnded = false
    /// RST.
    var clientReset = false
    /// The client has gone; what is sent to it is lost.
    var clientIsGone = false

    /// Whether it may connect, once that is decided.
    var isAllowed: Bool?
    /// Who it says it is, and may be; and in wall-clock milliseconds until when. 0: for ever.
    var user = ""
    /// The virtual host that it is with, as the oracle names it. Empty: there are none, or it has not chosen.
    var host = ""
    var expiresAt: UInt64 = 0
    /// It has done, or begun, what it may not do, or may not do any more.
    var mayBeRefused = false
    /// Frames whose RECEIPT waits, by what they call it.
    var askedReceipts: [Int: AskedReceipt] = [:]

    // The client
    var phase = Phase.fresh
    var version = 12
    var readsNever = false
    var doesNotConnect = false
    var misbehaved = false
    var disconnectIsIssued = false
    var disconnectIsConfirmed = false
    var canPublish = true
    var canConsume = true
    var isDrainer = false
    var nextIndex = 1
    var expectations: [Expectation] = []
    var expectationHead = 0
    var subscriptions: [Subscription] = []
    var transactions: [Transaction] = []
    var transactionCount = 0
    var sendInterval = 0
    var receiveInterval = 0
    var lastBeat: UInt64 = 0
    var lastWire: UInt64 = 0
    var sequences: [String: Int] = [:]
    var replyNames: [String] = []
    var error: String?
    /// Position in bytes taken at which the last byte of CONNECTED is.
    var connectedEnd = Int.max

    init(id: Int, shard: Int, address: UInt64) {
        self.id = id
        self.shard = shard
        self.address = address
        listener = id % Self.listenerCount
    }

    /// The kernel may have something to tell of it.
    var mayComplete: Bool {
        stage == .closing || incomingRead < incoming.count || clientReset || (clientEnded && !endIsReported)
            || awaitsWritable || zeroCopy != nil
    }
    var unreadIncoming: Int { incoming.count - incomingRead }
    var space: Int { socketByteCountMax - (takenByteCount - readByteCount) }
    /// Both ends are done with it, or will be without the client's help.
    var isEnding: Bool {
        (clientIsGone || error != nil || disconnectIsIssued || isShutDown || transport?.hasEnded == true)
            && stage != .closed && stage != .waiting
    }
    /// The broker ended the connection, whether or not its ERROR got through.
    var wasEndedByBroker: Bool {
        error != nil || wasCut || ((stage == .closing || stage == .closed) && !isShutDown)
    }
    /// The client can still write.
    var canWrite: Bool {
        !clientEnded && !clientReset && !clientIsGone && stage != .closed && stage != .closing
            && transport?.hasEnded != true
    }
    /// The connection has no future, or may have none: the broker may have taken back what it held.
    var isLeaving: Bool { coreHasEnded || isLeavingByItself }
    var isLeavingByItself: Bool {
        disconnectIsIssued || clientEnded || clientReset || clientIsGone || error != nil || misbehaved
            || stage == .closing || stage == .closed || isShutDown || transport?.hasEnded == true
    }
    var hasExpectations: Bool {
        var position = expectationHead
        while position < expectations.count {
            if expectations[position].wantsReceipt { return true }
            position += 1
        }
        return false
    }
}
