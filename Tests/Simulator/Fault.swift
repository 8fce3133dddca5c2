/// What may go wrong. Each has its own probability in each run, drawn from the seed, and is counted when it strikes.
public enum Fault: Int, CaseIterable, Sendable {
    // Network
    case readOfOneByte, readSplit, shortSend, sendWouldBlock, sendFailed, reset, halfClose, closeUnread
    // Completions
    case completionsReordered, completionDelayed, completionAfterClose, staleCompletion, pauseHonouredLate
    case closedLate, releaseLate
    // Resources
    case acceptFailed, handOffFailed, mailboxOverfull, memoryLimitReached, connectionRefused
    // Time
    case spuriousWake, workerStall, clockJump
    // Peers
    case neverReads, unfinishedFrame, garbage, wrongFrame, neverConnects
    // The operator
    case drain
}

/// A bug that is planted on purpose, in the simulator's own layer, to prove that the oracle would find it in the core.
public enum Canary: String, CaseIterable, Sendable {
    /// A byte of a send never reaches the client.
    case dropByte = "drop-byte"
    /// A byte of a send is another one.
    case flipByte = "flip-byte"
    /// A whole MESSAGE is sent twice.
    case duplicateMessage = "duplicate-message"
    /// A whole MESSAGE is not sent.
    case loseMessage = "lose-message"
    /// A RECEIPT is not sent.
    case loseReceipt = "lose-receipt"
    /// Two frames of a connection change places.
    case swapFrames = "swap-frames"
    /// A worker is not woken although its mailbox was filled.
    case loseWake = "lose-wake"
    /// The batches of a turn vanish from a mailbox.
    case loseBatch = "lose-batch"
    /// Two sends of one connection in one poll.
    case doubleSend = "double-send"
    /// Messages get in without being published: a message is taken twice from the publisher's socket.
    case repeatReceived = "repeat-received"
    /// `.closed` never comes: the session is never freed.
    case loseClosed = "lose-closed"
    /// Heart-beats of the broker do not arrive.
    case loseHeartBeats = "lose-heart-beats"
    /// The wall clock that the broker is told stands still: nothing expires.
    case neverExpire = "never-expire"
    /// The wall clock that the broker is told runs too fast: messages expire early.
    case expireEarly = "expire-early"
    /// A first delivery says `redelivered:true`.
    case falseRedelivery = "false-redelivery"
    /// `delivery-count` is too low.
    case wrongDeliveryCount = "wrong-delivery-count"
    /// The broker does not know how often a message may be delivered.
    case endlessRedelivery = "endless-redelivery"
    /// The broker gives a message up after one failure, whatever the limit.
    case hastyDeadLetters = "hasty-dead-letters"
    /// What is sent to a temporary queue is lost.
    case loseReply = "lose-reply"
    /// A part of a transaction without RECEIPT is lost.
    case splitCommit = "split-commit"
    /// The messages that a drain leaves behind are not reported.
    case hideUndelivered = "hide-undelivered"
    /// The broker does not know the limit of connections per address.
    case admitAll = "admit-all"
    /// The broker does not know the limit of patterns.
    case admitPatterns = "admit-patterns"
    /// The broker lets clients in before they are allowed to.
    case askNobody = "ask-nobody"
    /// The broker does not know what clients may do.
    case permitAll = "permit-all"
    /// The broker does not hear that clients may do something else than before.
    case ignoreReload = "ignore-reload"
    /// RECEIPTs wait for nothing.
    case confirmUnasked = "confirm-unasked"
    /// The broker takes the log for durable before it is.
    case confirmUndurable = "confirm-undurable"
    /// The broker takes a client for permitted before that is decided.
    case permitEarly = "permit-early"
    /// The broker does not know how many queues a client may fill.
    case fillAll = "fill-all"
    /// The broker drops the messages of queues that were used a moment ago.
    case hastyIdleness = "hasty-idleness"
    /// The broker refuses newcomers at a rate that nobody limited.
    case refuseSome = "refuse-some"
    /// The broker does not know a consumer's window.
    case ignoreWindow = "ignore-window"
    /// The broker is told that the log is on stable storage before it is.
    case confirmUnsynced = "confirm-unsynced"
    /// A directory is not synced.
    case loseDirectorySync = "lose-directory-sync"
    /// Recovery takes what an earlier life left behind the log's end for the log's.
    case believeOldRecords = "believe-old-records"
    /// A segment is removed although a promise depends on it.
    case loseSegment = "lose-segment"
    /// Recovery relies on bytes that only the kernel has.
    case recoverUnsynced = "recover-unsynced"
    /// A message of a log does not reach a client.
    case skipOffset = "skip-offset"
    /// The broker does not know which offsets earlier lives have given out.
    case reuseOffsets = "reuse-offsets"
    /// What a topic retains is not given to new subscribers.
    case loseRetained = "lose-retained"
    /// The broker is asked for shorter delays than its clients believe.
    case releaseEarly = "release-early"
    /// Delayed messages are not restored.
    case loseDelayed = "lose-delayed"
    /// Ids by which messages are taken once are not restored.
    case forgetIDs = "forget-ids"
    /// After a restart, workers do not know of the durable subscriptions of others.
    case forgetInterest = "forget-interest"
    /// A RECEIPT waits for the owner of a topic, and not for workers that store what it has passed on.
    case forgetHolders = "forget-holders"
    /// A message in the log alone is forgotten.
    case forgetCold = "forget-cold"
    /// Messages in the log alone come back in another order.
    case disorderCold = "disorder-cold"
    /// The broker does not know of virtual hosts.
    case mergeHosts = "merge-hosts"
    /// Limits of what hosts store are not looked at.
    case forgetHostStorage = "forget-host-storage"
    /// A byte is lost where a send was cut short.
    case dropAtCut = "drop-at-cut"
    /// The layers do not hear that a send ahead of a poll was cut short.
    case loseEarlyAnswer = "lose-early-answer"
    /// What is decrypted, and was not taken at once, waits for the next bytes of the client.
    case forgetDecrypted = "forget-decrypted"
    /// A pong does not reach its client.
    case losePong = "lose-pong"
    /// A record is not encrypted.
    case sendClearText = "send-clear-text"
    /// The core is told another address than a proxy has named.
    case forgeAddress = "forge-address"
    /// An invariant is broken.
    case breakInvariant = "break-invariant"
    /// A turn never ends.
    case hang

    /// Words of the check that has to find it; empty: more than one may.
    public var evidence: String {
        switch self {
        case .neverExpire: "after its expiry"
        case .expireEarly: "lost by"
        case .falseRedelivery: "redelivered for the first time"
        case .wrongDeliveryCount: "delivery-count"
        case .endlessRedelivery: "times, the limit is"
        case .hastyDeadLetters: "is a dead letter after"
        case .loseReply: "lost by temporary queues"
        case .splitCommit: "of its messages appeared"
        case .hideUndelivered: "undelivered"
        case .admitAll: "of address"
        case .admitPatterns: "different patterns"
        case .askNobody: "before it was allowed"
        case .permitAll, .ignoreReload: "was not permitted to"
        case .confirmUnasked: "before anybody was asked"
        case .confirmUndurable: "before it was durable"
        case .permitEarly: "before it was permitted"
        case .fillAll: "that nobody subscribes to"
        case .hastyIdleness: "lost by queues"
        case .refuseSome: "refused for no reason"
        case .ignoreWindow: "window is"
        case .skipOffset: "is missing before"
        case .reuseOffsets: "and is"
        case .loseRetained: "and was not given message"
        case .dropByte, .flipByte, .duplicateMessage, .loseMessage, .loseReceipt, .swapFrames, .loseWake, .loseBatch,
            .doubleSend, .repeatReceived, .loseClosed, .loseHeartBeats, .breakInvariant, .hang, .loseDirectorySync,
            .believeOldRecords, .loseSegment, .recoverUnsynced, .forgetIDs, .forgetCold, .dropAtCut, .loseEarlyAnswer,
            .forgetDecrypted:
            ""
        case .losePong: "got no pong"
        case .sendClearText: "was not encrypted"
        case .forgeAddress: "its proxy has named"
        case .releaseEarly: "before it was due"
        case .loseDelayed: "lost by"
        case .mergeHosts: " came as "
        case .forgetHostStorage: "and may have"
        case .disorderCold: "after a later one"
        case .confirmUnsynced: "was promised"
        case .forgetInterest: "never reached durable"
        case .forgetHolders: "was promised to durable"
        }
    }

    /// Only a broker that stores messages has it.
    public var isOfStorage: Bool {
        switch self {
        case .confirmUnsynced, .loseDirectorySync, .believeOldRecords, .loseSegment, .recoverUnsynced, .reuseOffsets,
            .loseDelayed, .forgetIDs, .forgetInterest, .forgetHolders, .forgetCold, .disorderCold, .forgetHostStorage:
            true
        default: false
        }
    }

    /// In which runs it shows.
    public var mode: Simulation.Mode {
        switch self {
        case .permitAll, .ignoreReload: .permissions
        case .skipOffset, .reuseOffsets, .loseRetained: .logs
        case .releaseEarly, .loseDelayed, .forgetIDs: .delays
        case .forgetInterest: .durable
        case .forgetHolders: .mixed
        case .mergeHosts, .forgetHostStorage: .hosts
        case .dropAtCut, .loseEarlyAnswer, .forgetDecrypted, .losePong, .sendClearText, .forgeAddress: .transports
        default: .plain
        }
    }

    /// It ends the process, or keeps it from ending: only a campaign survives it.
    public var isDeadly: Bool { self == .breakInvariant || self == .hang }
}
