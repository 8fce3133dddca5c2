import Glibc
import IO
import STOMP
import Slabs

// What sessions wait for, and the receipts that leave in the order of their frames (`ReceiptOrder`).
extension Shard {
    /// A pending operation at the end of the session's list. nil: no memory, and ERROR was sent.
    mutating func makePending(
        _ context: FrameContext, _ kind: PendingKind, receipt: UnsafeRawBufferPointer?
    ) -> Index<PendingOperation>? {
        let session = context.session
        let index = pendings.append(kind, of: session, receipt: receipt, &memory)
        if !index.isNone { return index }
        failFrame(context, "Out of memory", "the broker has reached its memory limit")
        return nil
    }

    @inline(__always)
    func receiptOfPending(_ index: Index<PendingOperation>) -> UnsafeRawBufferPointer? {
        pendings.receipt(of: index, memory)
    }

    /// Takes an operation that will not be carried out off its session's list, unless the session's end already did.
    mutating func unlinkPending(_ session: UnsafeMutablePointer<Session>, _ index: Index<PendingOperation>) {
        pendings.remove(index, of: session, &memory)
    }

    /// The session ends: its first pending operation is forgotten; answers to it will be stale.
    mutating func dropPending(_ session: UnsafeMutablePointer<Session>) {
        let index = pendings.takeFirst(of: session)
        let pending = pendings[index]
        switch pending.pointee.kind {
        case .receipt, .gate, .remoteReservation: break
        case .subscribe: leaveRegistration(index)
        case .commit: returnRoom(ofTransaction: pending.pointee.transaction)
        case .send: dropReservation(index)
        }
        pendings.free(index, &memory)
    }

    /// The session of a SEND that waits for room, or was granted it, ends.
    private mutating func dropReservation(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        if pending.isGranted {
            returnGranted(index)
            if Int(pending.peer) == self.index { roomIsFree(pending.queue) }
        } else if Int(pending.peer) != self.index {
            cancelReservation(index)
        } else if queues.isLive(pending.queue) {
            pendings.remove(index, from: &queues.waiting(for: pending.queue.index).pointee)
            // Who waited behind it may need less.
            roomIsFree(pending.queue)
        }
    }

    // MARK: Receipts

    /// RECEIPT for a frame that follows others which are not confirmed yet.
    mutating func confirmLater(_ context: FrameContext, _ id: UnsafeRawBufferPointer) {
        let session = context.session
        guard let pending = makePending(context, .receipt, receipt: id) else { return }
        finishPending(session, pending)
    }

    /// The operation is carried out, as far as this worker is concerned: it is answered when its turn comes, the other
    /// workers have confirmed what was sent to them, and its conditions are met.
    mutating func finishPending(_ session: UnsafeMutablePointer<Session>, _ index: Index<PendingOperation>) {
        let workers = pendings.finish(
            index, of: session, gathered: store.isEnabled ? store.gatheredPosition : nil,
            confirmed: store.confirmedPosition)
        // What it waits for may be of earlier turns.
        if pendings[index].pointee.awaitsLog { store.hasWork = true }
        let isStored = session.pointee.flags.contains(.hasStoredElsewhere)
        forEachPeer(low: workers.low, high: workers.high) { shard, peer in
            shard.sendBarrier(to: peer, index, isStored: isStored, holders: workers.holders)
        }
        session.pointee.flags.remove(.hasStoredElsewhere)
        if store.hasFailed, pendings[index].pointee.position > store.durablePosition {
            return failStored(session, receipt: receiptOfPending(index))
        }
        if pendings[index].pointee.awaitsPermission { ask(session, index, workers) }
        advancePending(session)
    }

    mutating func barrierAnswered(_ answer: BarrierAnswer) {
        let handle = answer.pending
        guard let pending = pendings.find(handle) else {
            counters.stalePeerMessages &+= 1
            return
        }
        if let refusal = answer.refusal {
            return failStored(
                sessions[pending.pointee.session], refusal, receipt: receiptOfPending(handle.index))
        }
        guard pendings.countAnswer(handle.index) else { return }
        conditionIsMet(sessions[pending.pointee.session])
    }

    /// One thing less is waited for.
    mutating func conditionIsMet(_ session: UnsafeMutablePointer<Session>) {
        advancePending(session)
        // Not in `advancePending`: while frames are parsed, those behind this one are still to come.
        endIfPeerHasEnded(session)
    }

    /// Sends the receipts whose turn has come.
    private mutating func advancePending(_ session: UnsafeMutablePointer<Session>) {
        while case let index = pendings.firstThatMayLeave(session), !index.isNone {
            if pendings[index].pointee.kind == .receipt, let id = receiptOfPending(index) { writeReceipt(session, id) }
            pendings.leave(session, &memory)
        }
        guard session.pointee.pendings.isEmpty else { return }
        if session.pointee.flags.contains(.awaitsPending) {
            session.pointee.flags.remove(.awaitsPending)
            resumeSoon(session)
        }
    }

    /// The frame under the parser is applied only after everything before it is confirmed, and then when its own RECEIPT may
    /// leave.
    mutating func retryAfterPending(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        suspend(session)
        session.pointee.flags.insert(.awaitsPending)
        let isClear = pendings.isClear(session)
        if isClear || !session.pointee.remoteSet.isNone {
            guard
                let pending = makePending(
                    context, isClear ? .gate : .receipt, receipt: isClear ? frame.rawValue(.receipt) : nil)
            else { return .done }
            finishPending(session, pending)
        }
        return .retry
    }

    // MARK: Interest in topics

    /// Whether this worker hears of what others publish to the topic or pattern. If not yet, the session waits, and its
    /// subscription counts when all have agreed.
    mutating func isInterested(
        _ index: Index<Destination>, _ context: FrameContext, _ subscription: Index<Subscription>
    ) -> Bool {
        let session = context.session
        if shardCount == 1 || destinations[index].pointee.interest == .registered { return true }
        guard let pending = makePending(context, .subscribe, receipt: frame.rawValue(.receipt)) else { return false }
        pendings.setSubscription(subscription, of: pending)
        pendings.prepend(pending, to: &destinations[waitingFor: index])
        suspend(session)
        if destinations.register(index) {
            updateIdle(index)
            announceInterest(index)
        }
        return false
    }

    mutating func interestAnswered(_ answer: InterestAnswer) {
        let handle = answer.destination
        guard destinations.awaitsAnswer(handle, epoch: answer.epoch) else {
            counters.stalePeerMessages &+= 1
            return
        }
        if answer.isRefused {
            // Else a RECEIPT would promise what cannot be kept. The last of them takes the interest back.
            notice(
                .memoryLimit,
                "another worker could not record a subscription to \(destinationText(handle.index)): no memory, or its "
                    + "patterns and topics match too often (limits.patterns-max)")
            while let waiting = destinations.find(handle), !waiting.pointee.waiting.isEmpty {
                let pending = waiting.pointee.waiting.first
                fail(
                    sessions[pendings[pending].pointee.session], "Out of memory",
                    "another worker could not record the subscription: no memory, or its patterns and topics "
                        + "match too often; use fewer or narrower patterns",
                    receipt: receiptOfPending(pending))
            }
            return durablesRefused(handle)
        }
        guard destinations.agree(to: handle.index) else { return }
        if destinations[handle.index].pointee.marks.contains(.hasDurable) { durablesAgreed(handle.index) }
        // A pattern whose last subscriber ends for want of memory is gone.
        while let destination = destinations.find(handle) {
            let pending = destination.pointee.waiting.first
            if pending.isNone { return updateIdle(handle.index) }
            pendings.remove(pending, from: &destinations[waitingFor: handle.index])
            finishSubscribe(pending, consumer: .none)
        }
    }

    /// Other workers have agreed: RECEIPT, then the subscription counts, then parsing goes on.
    ///
    /// - Parameter isPaused: what the owner of the queue was told of the session's consumers.
    mutating func finishSubscribe(
        _ pending: Index<PendingOperation>, consumer: Handle<Consumer>, isPaused: Bool = false
    ) {
        let session = sessions[pendings[pending].pointee.session]
        let subscription = pendings[pending].pointee.subscription
        finishPending(session, pending)
        if consumer.isNone {
            activate(subscription)
        } else {
            subscriptions.activate(subscription)
            subscriptions.setConsumer(consumer, of: subscription)
            let shouldPause = session.pointee.flags.contains(.consumersPaused)
            if shouldPause != isPaused {
                if shouldPause { pauseConsumer(of: subscription) } else { resumeConsumer(of: subscription) }
            }
        }
        resumeSoon(session)
    }

    private mutating func leaveRegistration(_ index: Index<PendingOperation>) {
        let subscription = pendings[index].pointee.subscription
        let destination = subscriptions[subscription].pointee.destination
        // The owner of a queue, or of a log, is asked without a registration, and so is who holds a durable subscription.
        guard [.topic, .pattern].contains(destinations[destination].pointee.kind),
            !subscriptions[subscription].pointee.flags.contains(.readsLog)
        else { return }
        pendings.remove(index, from: &destinations[waitingFor: destination])
    }

    mutating func forEachPeer(low: UInt64, high: UInt64, _ body: (inout Shard, Int) -> Void) {
        var bits = low
        while bits != 0 {
            body(&self, bits.trailingZeroBitCount)
            bits &= bits - 1
        }
        bits = high
        while bits != 0 {
            body(&self, 64 + bits.trailingZeroBitCount)
            bits &= bits - 1
        }
    }
}
