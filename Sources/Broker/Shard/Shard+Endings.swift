import Glibc
import IO
import STOMP
import Slabs

// A connection's end: with an ERROR or without one, at once or when its output is flushed, and what goes with it.
extension Shard {
    /// Answers with ERROR and ends the connection: nothing behind the faulty frame is processed.
    mutating func fail(
        _ session: UnsafeMutablePointer<Session>, _ message: StaticString, _ explanation: String,
        receipt: UnsafeRawBufferPointer? = nil
    ) {
        guard session.pointee.state.isOpen else { return }
        notice(.protocolError, session: session.pointee.index, "\(message): \(explanation)")
        // What was routed to this session before the fault leaves before the ERROR.
        flushEncodings(of: session)
        writeError(session, message, explanation, receipt: receipt)
        end(session)
    }

    /// Processes nothing more; flushes; then shuts down.
    mutating func end(_ session: UnsafeMutablePointer<Session>, _ end: ConsumerEnd = .failed) {
        guard session.pointee.state.isOpen else { return }
        if end == .left { session.pointee.flags.insert(.hasLeft) }
        detach(session, keepsUnsent: true)
        session.pointee.state = .ending
        session.pointee.since = clock
        if sessions.resumeReceiving(session) {
            // So that a full receive buffer does not turn the close into a reset.
            submissions.append(Submission(.resumeReceive, connection: session.pointee.slot))
        }
        arm(session, after: UInt32(limits.lingerMillisecondsMax))
        output.markDirty(session)
    }

    /// The output of an ending session is with the kernel.
    mutating func outputEnded(_ session: UnsafeMutablePointer<Session>) {
        if !session.pointee.subscriptions.isEmpty { detach(session) }
        if session.pointee.flags.contains(.peerEnded) { return close(session) }
        session.pointee.state = .lingering
        // The time to read is that of the last byte. A drain does not give it again to those who have had it.
        session.pointee.since = isDraining ? session.pointee.lastProgress : clock
        let elapsed = clock &- session.pointee.since
        let patience = UInt32(limits.lingerMillisecondsMax)
        guard elapsed < patience else { return close(session) }
        arm(session, after: patience - elapsed)
        submissions.append(Submission(.shutdownWrite, connection: session.pointee.slot))
    }

    mutating func close(_ session: UnsafeMutablePointer<Session>, reset: Bool = false) {
        guard session.pointee.state != .closing else { return }
        if !session.pointee.subscriptions.isEmpty {
            // Its output was never flushed.
            session.pointee.flags.insert(.isBroken)
            detach(session)
        }
        session.pointee.state = .closing
        timers.cancel(session.pointee.timer)
        session.pointee.timer = 0
        if session.pointee.flags.contains(.awaitsWritable) { recordAllowance -= Self.recordsPerFullSocket }
        submissions.append(
            Submission(.close, connection: session.pointee.slot, value: reset ? 1 : 0))
    }

    /// What the kernel has not sent by then it frees buffer by buffer: a megabyte takes a quarter of a millisecond.
    private static var recordsPerFullSocket: Int { 32 }

    /// Disconnects a session at the end of the turn; safe while the members of its encoding are walked.
    ///
    /// - Parameter limit: which one it is that its output, or what it does not acknowledge, has reached.
    ///   The subscription is one of `encoding`; none: of no single one.
    mutating func disconnectSoon(
        _ session: UnsafeMutablePointer<Session>, for limit: LimitKind, encoding: Index<SharedEncoding> = .none
    ) {
        sessions.disconnectSoon(session, for: limit, encoding: encoding.isNone ? router.flushed : encoding)
    }

    /// Disconnects those who read too slowly: there is no room to tell them why, but the log does. Who is left when the
    /// turn's allowance is used up is disconnected in the next one.
    mutating func disconnectSlow() {
        guard sessions.hasSlow else { return }
        repeat {
            if let slow = sessions.nextSlow() { cut(slow) }
        } while sessions.hasSlow && recordAllowance > 0
    }

    private mutating func cut(_ slow: SlowSession) {
        guard let session = sessions.find(slow.session), session.pointee.state != .closing else { return }
        counters.slowConsumers &+= 1
        counters.limits.count(slow.limit)
        noticeSlowConsumer(session, slow.limit, encoding: slow.encoding)
        session.pointee.flags.insert(.isBroken)
        detach(session)
        dropOutput(session)
        close(session, reset: true)
    }

    /// Takes a session out of everything but its own output: subscriptions, transactions, temporary destinations,
    /// pending operations, input. What it had not acknowledged returns to its queues.
    ///
    /// - Parameter keepsUnsent: Subscriptions to queues stay, paused, while messages of theirs wait in the output: it is
    ///   not decided yet whether these are delivered. They are when the kernel has them (`acknowledgeSent` tells of those of
    ///   `auto`, `outputEnded` of all), and where it never takes them they return unseen.
    mutating func detach(_ session: UnsafeMutablePointer<Session>, keepsUnsent: Bool = false) {
        // When the broker drains, it is not the consumers that fail.
        let end: ConsumerEnd = isDraining || session.pointee.flags.contains(.hasLeft) ? .left : .failed
        recordAllowance -= Int(session.pointee.subscriptionCount)
        let byteCountBefore = memory.blocks.byteCountInUse
        while !session.pointee.pendings.isEmpty { dropPending(session) }
        while !session.pointee.transactions.isEmpty { abort(session, session.pointee.transactions.first) }
        // Else what one subscription lets go would be given to the next, or to itself, before that ends too.
        if !session.pointee.subscriptions.isEmpty { pauseConsumers(session) }
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            let next = subscriptions.next(after: index)
            if !keepsUnsent || !hasUnsentDeliveries(index) { unsubscribe(session, index, end) }
            index = next
        }
        if session.pointee.subscriptions.isEmpty { subscriptions.dropUnsent(session) }
        while !session.pointee.temporaries.isEmpty { removeTemporary(session) }
        if gate.isOn { gate.leave(session.pointee.index) }
        if hosts.isOn { hosts.leave(session.pointee.index) }
        pendings.forgetMarked(session)
        sessions.stopParsing(session, memory: &memory)
        chargeForFreed(since: byteCountBefore)
    }

    /// What others hold too costs nothing to let go: the memory that is free now is what has taken time.
    mutating func chargeForFreed(since byteCountBefore: Int) {
        recordAllowance -= max(byteCountBefore - memory.blocks.byteCountInUse, 0) / Self.bytesPerRecord
    }

    /// So many bytes that a connection leaves behind take as long to free as a record.
    private static var bytesPerRecord: Int { 32 * 1024 }

    mutating func closed(_ session: UnsafeMutablePointer<Session>) {
        invariant(session.pointee.state == .closing, "only a connection that was closed reports that it is closed")
        dropOutput(session, isReleased: true)
        timers.cancel(session.pointee.timer)
        counters.connectionsClosed &+= 1
        let listener = session.pointee.listener
        if gate.isOn { gate.leave(session.pointee.index) }
        if hosts.isOn { hosts.leave(session.pointee.index) }
        if session.pointee.flags.contains(.hasClientID) { durables.setClientID(nil, of: session.pointee.index) }
        sessions.remove(session.pointee.index, memory: &memory)
        leaveListener(listener)
        reportLoad()
    }
}
