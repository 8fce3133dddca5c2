import IO
import STOMP
import Slabs

// COMMIT. What it needs at the queues is kept for it first, with other workers too; only when everything has room is
// anything applied. What a frame's check has found is with the frame (`CheckedCommand`): only SENDs are parsed again, when
// they are applied.
extension Shard {
    mutating func commit(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        let index = transactionOfFrame(context)
        if index.isNone { return .done }
        guard gate.hasPassed(session.pointee.index) else {
            // The permissions have changed, and its frames are not looked at yet.
            suspend(session)
            resumeSoon(session)
            return .retry
        }
        if isDraining {
            failFrame(context, "Shutting down", "the broker is shutting down; the transaction is aborted")
            return .done
        }
        // One that only acknowledges makes room.
        if memoryIsFull(context), transactions[index].pointee.frameCount > transactions[index].pointee.settlementCount {
            return waitForRoom(context)
        }
        guard fitsStore(context, index) else { return .done }
        recordAllowance -= 1 + Int(transactions[index].pointee.frameCount) / Self.framesPerRecord
        // The frames of the transaction take the place of COMMIT under the parser.
        guard let pending = makePending(context, .commit, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings.setTransaction(index, of: pending)
        let kept = FrameContext(session, commit: pending)
        // Where it fails, ERROR ends the session, and with it the pending operation gives back what was kept for it.
        guard keepRoom(kept, index, pending) else { return .done }
        if pendings[pending].pointee.answersDue > 0 {
            suspend(session)
            return .done
        }
        applyCommit(session, pending)
        return .done
    }

    /// So many frames of a transaction take as long as a record.
    private static var framesPerRecord: Int { 4 }

    // MARK: Room

    /// Has room kept for each of the frames. False: something cannot be had, and ERROR was sent.
    private mutating func keepRoom(
        _ context: FrameContext, _ index: Index<Transaction>, _ pending: Index<PendingOperation>
    ) -> Bool {
        let session = context.session
        var cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            switch kept.pointee.command {
            case .send(let send):
                let target = destination(context, of: send, kept)
                if target.isNone { return false }
                if target != send.destination.index || !destinations.isLive(send.destination) {
                    transactions.setDestination(destinations.handle(target), of: cursor.frame, memory)
                }
                switch destinations[target].pointee.kind {
                case .queue:
                    guard keepRoom(context, at: target, for: send, pending) else { return false }
                    let room = KeptRoom(
                        queue: queues.handle(destinations[target].pointee.queue), owner: UInt16(self.index))
                    transactions.keepRoom(room, for: cursor.frame, memory)
                case .remoteQueue:
                    requestRoom(
                        session, target, pending, of: Int(destinations[target].pointee.owner), for: send,
                        frame: cursor.frame)
                    pendings.expectAnswer(pending)
                case .topic:
                    guard keepRoom(context, atTopic: target, for: send, pending, frame: cursor.frame),
                        admitsToDurables(context, target, send)
                    else { return false }
                case .pattern, .subscriptionQueue: break
                }
            case .settlement(let delivery, _):
                guard !subscriptions.isLive(delivery) else { continue }
                parse(session, kept)
                failUnknownMessage(context)
                return false
            }
        }
        return true
    }

    /// Where a kept SEND goes. None: it was answered with ERROR.
    private mutating func destination(
        _ context: FrameContext, of send: CheckedSend, _ kept: UnsafePointer<KeptFrame>
    ) -> Index<Destination> {
        let session = context.session
        if !send.asksForMore, destinations.isLive(send.destination) { return send.destination.index }
        parse(session, kept)
        // First, for it may forget a destination that nobody needs yet to make room.
        if frame.has(.replyTo), replyDestination(context) == nil { return .none }
        return destinationForSend(context, frame.rawValue(.destination)!)
    }

    /// Keeps room in a queue of this worker. False: it has none, and ERROR was sent.
    private mutating func keepRoom(
        _ context: FrameContext, at target: Index<Destination>, for send: CheckedSend,
        _ pending: Index<PendingOperation>
    ) -> Bool {
        let session = context.session
        let queue = queues[destinations[target].pointee.queue]
        if destinations[target].pointee.isIdle, let refusal = queues.refusal(of: holder(session), limits) {
            failDestination(context, refusal)
            return false
        }
        guard canReserve(destinations[target].pointee.queue, byteCount: Int(send.byteCount)) else {
            counters.limits.count(.queue)
            fail(
                session, "Queue full",
                "\(destinationText(target)) has no room for the transaction; none of it was applied",
                receipt: receiptOfPending(pending))
            return false
        }
        if !send.needs.isEmpty,
            let refusal = refusalOfOptions(send.needs, Int(send.byteCount), of: nameOf(target))
        {
            return refuseCommit(context, refusal)
        }
        if stores(destinations[target].pointee.queue, isPersistent: send.isPersistent),
            !admitsToStore(context, byteCount: Int(send.byteCount))
        {
            return false
        }
        queues.reserve(destinations[target].pointee.queue, byteCount: Int(send.byteCount))
        updateIdle(target)
        if queue.pointee.messageCount == 1 { hold(queues.handle(destinations[target].pointee.queue), holder(session)) }
        return true
    }

    /// Asks whoever has to take more of a message for a topic than to publish it: the worker that keeps the topic's log, what
    /// it retains, or what waits for its time. False: this worker cannot, and ERROR was sent.
    private mutating func keepRoom(
        _ context: FrameContext, atTopic target: Index<Destination>, for send: CheckedSend,
        _ pending: Index<PendingOperation>, frame: UInt64
    ) -> Bool {
        let topic = destinations[target]
        guard
            send.needs.contains(.isDelayed)
                || topic.pointee.isSequenced && (topic.pointee.isLogged || send.needs.contains(.isRetained))
        else { return true }
        let owner = destinations.owner(ofQueue: nameOf(target))
        guard owner == index else {
            requestRoom(context.session, target, pending, of: owner, for: send, frame: frame)
            pendings.expectAnswer(pending)
            return true
        }
        guard let refusal = refusalAtTopic(target, send) else { return true }
        return refuseCommit(context, refusal)
    }

    /// ERROR for a COMMIT before anything is applied. Returns false.
    mutating func refuseCommit(_ context: FrameContext, _ refusal: Refusal) -> Bool {
        counters.messagesRefused &+= 1
        failRefused(
            context.session, refusal, "; none of the transaction was applied",
            receipt: receiptOfPending(context.commit))
        return false
    }

    /// Why this worker does not take what a COMMIT brings for one of its topics. nil: it does.
    private mutating func refusalAtTopic(_ index: Index<Destination>, _ send: CheckedSend) -> Refusal? {
        if send.needs.contains(.isDelayed) { return refusalToDelay(send, at: nameOf(index)) }
        if send.needs.contains(.isRetained), let refusal = refusalToRetain(index) { return refusal }
        return send.isStored(by: destinations[index]) ? refusalToStore(Int(send.byteCount), at: nameOf(index)) : nil
    }

    private mutating func refusalToDelay(_ send: CheckedSend, at name: UnsafeRawBufferPointer) -> Refusal? {
        if let refusal = refusalOfOptions(send.needs, Int(send.byteCount), of: name) { return refusal }
        return storesDelayed(name, isPersistent: send.isPersistent)
            ? refusalToStore(Int(send.byteCount), at: name) : nil
    }

    /// The same for another worker's client.
    mutating func refusalAtTopic(_ name: UnsafeRawBufferPointer, _ request: RoomRequest) -> Refusal? {
        var send = CheckedSend(
            destination: .none, byteCount: request.byteCount, asksForMore: false, isPersistent: request.isPersistent,
            needs: request.needs)
        if send.needs.contains(.isDelayed) { return refusalToDelay(send, at: name) }
        let index = topicForElsewhere(name)
        if index.isNone { return refusalOfDestination() }
        if !destinations[index].pointee.isSequenced { sequence(index) }
        defer { updateIdle(index) }
        send.destination = destinations.handle(index)
        return refusalAtTopic(index, send)
    }

    /// Gives back what is kept for the frames of a transaction: first here, then with other workers.
    mutating func returnRoom(ofTransaction index: Index<Transaction>) {
        var cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            if case .send(let send) = kept.pointee.command { roomIsFree(returnRoomHere(kept.pointee.room, of: send)) }
        }
        cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            if case .send(let send) = kept.pointee.command { returnRoomElsewhere(kept.pointee.room, of: send) }
        }
    }

    /// Gives room in a queue of this worker back, and returns the queue.
    private mutating func returnRoomHere(_ room: KeptRoom, of send: CheckedSend) -> Handle<Queue> {
        guard !room.queue.isNone, Int(room.owner) == index else { return .none }
        returnRoom(room.queue, byteCount: UInt64(send.byteCount))
        return room.queue
    }

    private mutating func returnRoomElsewhere(_ room: KeptRoom, of send: CheckedSend) {
        guard !room.queue.isNone, Int(room.owner) != index else { return }
        unreserveAtOwner(Int(room.owner), room.queue, byteCount: send.byteCount)
    }

    // MARK: Applying

    /// Everything has room: applies the frames in order, then answers COMMIT.
    mutating func applyCommit(_ session: UnsafeMutablePointer<Session>, _ pending: Index<PendingOperation>) {
        let index = pendings[pending].pointee.transaction
        // From here on neither time nor the end of the session aborts it, and each frame gives its room back just before
        // it takes it.
        pendings.beginToApply(pending)
        closeTransaction(session, index)
        let context = FrameContext(session, commit: pending, .committing)
        let parts = store.isEnabled ? beginParts(index, session) : nil
        var cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            switch kept.pointee.command {
            case .send(let send): apply(context, send, kept)
            case .settlement(let delivery, let settlement):
                // An earlier one of the same transaction may have settled it, too.
                guard session.pointee.state == .connected, subscriptions.isLive(delivery) else { continue }
                settleFrame(delivery.index, settlement, transaction: index)
            }
        }
        if let parts { endParts(parts) }
        transactions.free(index, &memory)
        if session.pointee.state == .connected { finishPending(session, pending) }
    }

    private mutating func apply(
        _ context: FrameContext, _ send: CheckedSend, _ kept: UnsafePointer<KeptFrame>
    ) {
        let session = context.session
        let queue = returnRoomHere(kept.pointee.room, of: send)
        if session.pointee.state == .connected {
            counters.messagesReceived &+= 1
            parse(session, kept)
            queues.granting = queue.index
            roomElsewhere = Int(kept.pointee.room.owner) == index ? .none : kept.pointee.room.queue
            _ = sendNow(context)
            roomElsewhere = .none
            queues.granting = .none
        }
        if !queue.isNone { roomIsFree(queue) }
        // Out of memory half-way: what was not sent takes no room.
        if session.pointee.state != .connected { returnRoomElsewhere(kept.pointee.room, of: send) }
    }

    mutating func parse(_ session: UnsafeMutablePointer<Session>, _ kept: UnsafePointer<KeptFrame>) {
        let bytes = TransactionTable.bytes(of: kept)
        var state = ParserState()
        let result = parseFrame(
            bytes.baseAddress!, bytes.count, version: session.pointee.version, expectsConnect: false,
            limits: frameLimits, state: &state, frame: &frame, error: &frameError)
        invariant(result == .frame, "a kept frame was parsed before")
    }
}
