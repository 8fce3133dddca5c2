import Glibc
import IO
import STOMP
import Slabs

// Operations that wait for other workers, and the order of receipts.
//
// A session's frames are applied in order here, but what they send to other workers' queues takes effect there later. So
// a RECEIPT that follows such frames first sends a barrier to each of these workers: messages between two workers stay in
// order, so its answer says that everything before it was applied. Receipts leave in the order of their frames.
extension Shard {
    /// A pending operation at the end of the session's list. nil: no memory, and ERROR was sent.
    mutating func makePending(
        _ session: UnsafeMutablePointer<Session>, _ kind: PendingKind, receipt: UnsafeRawBufferPointer?
    ) -> Index<PendingOperation>? {
        let index: Index<PendingOperation> = pendings.allocate().index
        var block: BlockIndex = 0
        if !index.isNone, let receipt {
            block = memory.blocks.allocate(byteCount: receipt.count)
            if block == 0 { pendings.free(index) }
        }
        guard !index.isNone, receipt == nil || block != 0 else {
            failFrame(session, "Out of memory", "the broker has reached its memory limit")
            return nil
        }
        let pending = pendings[index]
        pending.pointee.session = session.pointee.index
        pending.pointee.kind = kind
        if let receipt {
            memcpy(memory.blocks.base(block), receipt.baseAddress!, receipt.count)
            pending.pointee.receipt = block
            pending.pointee.receiptByteCount = UInt32(receipt.count)
        }
        session.pointee.pendings.append(index, in: pendings)
        return index
    }

    func receiptOfPending(_ index: Index<PendingOperation>) -> UnsafeRawBufferPointer? {
        let pending = pendings[index]
        guard pending.pointee.receipt != 0 else { return nil }
        return UnsafeRawBufferPointer(
            start: UnsafeRawPointer(memory.blocks.base(pending.pointee.receipt)),
            count: Int(pending.pointee.receiptByteCount))
    }

    private mutating func freePending(_ index: Index<PendingOperation>) {
        if pendings[index].pointee.receipt != 0 { memory.blocks.release(pendings[index].pointee.receipt) }
        pendings.free(index)
    }

    /// Takes an operation that will not be carried out off its session's list, unless the session's end already did.
    mutating func unlinkPending(_ session: UnsafeMutablePointer<Session>, _ index: Index<PendingOperation>) {
        if session.pointee.pendings.remove(index, in: pendings) { freePending(index) }
    }

    /// The session ends: its first pending operation is forgotten; answers to it will be stale.
    mutating func dropPending(_ session: UnsafeMutablePointer<Session>) {
        let index = session.pointee.pendings.first
        let pending = pendings[index]
        session.pointee.pendings.removeFirst(in: pendings)
        switch pending.pointee.kind {
        case .receipt, .remoteReservation: break
        case .subscribe: leaveRegistration(index)
        case .commit:
            let transaction = pending.pointee.transaction
            release(session, transaction, count: pending.pointee.reservedFrameCount)
            releaseElsewhere(transaction)
        case .send: dropReservation(index)
        }
        if index == commitReceipt { commitReceipt = .none }
        freePending(index)
    }

    /// The session of a SEND that waits for room, or was granted it, ends.
    private mutating func dropReservation(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        if pending.isGranted {
            returnGranted(index)
            if Int(pending.peer) == self.index { roomIsFree(pending.queue) }
        } else if Int(pending.peer) != self.index {
            cancelReservation(index)
        } else if let queue = queues.find(pending.queue) {
            queue.pointee.blocked.remove(index, in: pendings)
            // Who waited behind it may need less.
            roomIsFree(pending.queue)
        }
    }

    // MARK: Receipts

    /// RECEIPT for a frame that follows others which are not confirmed yet.
    mutating func confirmLater(_ session: UnsafeMutablePointer<Session>, _ id: UnsafeRawBufferPointer) {
        guard let pending = makePending(session, .receipt, receipt: id) else { return }
        finishPending(session, pending)
    }

    /// The operation is carried out, as far as this worker is concerned: it is answered when its turn comes and the
    /// other workers have confirmed what was sent to them.
    mutating func finishPending(_ session: UnsafeMutablePointer<Session>, _ index: Index<PendingOperation>) {
        let pending = pendings[index]
        pending.pointee.kind = .receipt
        pending.pointee.isReady = true
        pending.pointee.answersDue = 0
        if !session.pointee.remoteSet.isNone {
            let set = remoteSets[session.pointee.remoteSet].pointee
            remoteSets.free(session.pointee.remoteSet)
            session.pointee.remoteSet = .none
            forEachPeer(low: set.low, high: set.high) { shard, peer in
                shard.pendings[index].pointee.answersDue += 1
                shard.sendBarrier(to: peer, index)
            }
        }
        advancePending(session)
    }

    mutating func barrierAnswered(_ handle: Handle<PendingOperation>) {
        guard let pending = pendings.find(handle) else {
            counters.stalePeerMessages &+= 1
            return
        }
        pending.pointee.answersDue -= 1
        guard pending.pointee.answersDue == 0 else { return }
        let session = sessions[pending.pointee.session]
        advancePending(session)
        // Not in `advancePending`: while frames are parsed, those behind this one are still to come.
        endIfPeerHasEnded(session)
    }

    /// Sends the receipts whose turn has come.
    private mutating func advancePending(_ session: UnsafeMutablePointer<Session>) {
        while case let index = session.pointee.pendings.first, !index.isNone {
            let pending = pendings[index]
            guard pending.pointee.isReady, pending.pointee.answersDue == 0 else { return }
            if let id = receiptOfPending(index) { writeReceipt(session, id) }
            session.pointee.pendings.removeFirst(in: pendings)
            freePending(index)
        }
        if session.pointee.flags.contains(.awaitsPending) {
            session.pointee.flags.remove(.awaitsPending)
            resumeSoon(session)
        }
    }

    /// The frame under the parser is applied only after everything before it is confirmed.
    mutating func retryAfterPending(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        suspend(session)
        session.pointee.flags.insert(.awaitsPending)
        if !session.pointee.remoteSet.isNone {
            guard let pending = makePending(session, .receipt, receipt: nil) else { return .done }
            finishPending(session, pending)
        }
        return .retry
    }

    // MARK: Interest in topics

    /// Whether this worker hears of what others publish to the topic or pattern. If not yet, the session waits, and its
    /// subscription counts when all have agreed.
    mutating func isInterested(
        _ index: Index<Destination>, _ session: UnsafeMutablePointer<Session>, _ subscription: Index<Subscription>
    ) -> Bool {
        if shardCount == 1 || destinations[index].pointee.interest == .registered { return true }
        guard let pending = makePending(session, .subscribe, receipt: frame.rawValue(.receipt)) else { return false }
        pendings[pending].pointee.subscription = subscription
        destinations[waitingFor: index].prepend(pending, in: pendings)
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
            return
        }
        guard destinations.agree(to: handle.index) else { return }
        while case let pending = destinations[handle.index].pointee.waiting.first, !pending.isNone {
            destinations[waitingFor: handle.index].remove(pending, in: pendings)
            finishSubscribe(pending, consumer: .none)
        }
        updateIdle(handle.index)
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
            subscriptions[subscription].pointee.flags.remove(.pending)
            subscriptions[subscription].pointee.consumer = consumer
            let shouldPause = session.pointee.flags.contains(.consumersPaused)
            if shouldPause != isPaused { setConsumerPaused(subscription, shouldPause) }
        }
        resumeSoon(session)
    }

    private mutating func leaveRegistration(_ index: Index<PendingOperation>) {
        let subscription = pendings[index].pointee.subscription
        let destination = subscriptions[subscription].pointee.destination
        // The owner of a queue is asked without a registration.
        guard destinations[destination].pointee.kind != .remoteQueue else { return }
        destinations[waitingFor: destination].remove(index, in: pendings)
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

    /// A worker that hears of this topic cannot take more now. Mutating, or the shard would be copied to call it.
    mutating func peersAreFull(_ index: Index<Destination>) -> Bool {
        let hearers = destinations.peers(of: index)
        if hearers.isEmpty { return false }
        for peer in 0..<shardCount where hearers.contains(peer) && fabric.isFullForTopics(peer) { return true }
        return false
    }
}
