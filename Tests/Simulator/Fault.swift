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
    /// The parcels of a turn vanish from a mailbox.
    case loseParcel = "lose-parcel"
    /// Two sends of one connection in one exchange.
    case doubleSend = "double-send"
    /// Messages get in without being published: a message is taken twice from the publisher's socket.
    case repeatReceived = "repeat-received"
    /// `.closed` never comes: the session is never freed.
    case loseClosed = "lose-closed"
    /// Heart-beats of the broker do not arrive.
    case loseHeartBeats = "lose-heart-beats"
}
