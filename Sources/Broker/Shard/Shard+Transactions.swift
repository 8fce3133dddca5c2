import IO
import STOMP
import Slabs

// Transactions: frames are checked and kept when they arrive, and applied all or not at all at COMMIT (`Shard+Commit`).
extension Shard {
    // MARK: BEGIN and ABORT

    mutating func begin(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        recordAllowance -= 1
        guard let name = nameOfTransaction(context) else { return .done }
        switch transactions.begin(session, named: name, &memory) {
        case .begun(let transaction):
            let timer = timers.schedule(
                at: now &+ UInt64(limits.transactionMillisecondsMax) &* 1_000_000,
                kind: TimerKind.transaction.rawValue, owner: transaction.slot)
            transactions.setTimer(timer, of: transaction.index)
            confirm(context)
        case .exists:
            failFrame(
                context, "Transaction already started",
                "transaction '\(printable(name))' is already open on this connection")
        case .tooMany:
            counters.limits.count(.transactionsPerConnection)
            failFrame(
                context, "Too many transactions",
                "a connection may have \(limits.transactionsPerConnectionMax) open transactions "
                    + "(limits.transactions-per-connection-max)")
        case .noMemory: failFrame(context, "Out of memory", "no room for another transaction")
        }
        return .done
    }

    mutating func abort(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        recordAllowance -= 1
        let index = transactionOfFrame(context)
        if index.isNone { return .done }
        abort(session, index)
        confirm(context)
        return .done
    }

    /// Forgets a transaction. What it acknowledged waits for acknowledgement again.
    mutating func abort(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>) {
        if transactions[index].pointee.settlementCount > 0 { unmarkDeliveries(index) }
        closeTransaction(session, index)
        transactions.free(index, &memory)
    }

    /// Neither time nor the end of the session aborts it from here on.
    mutating func closeTransaction(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>) {
        timers.cancel(transactions.close(session, index))
    }

    private mutating func unmarkDeliveries(_ index: Index<Transaction>) {
        var stepCount = 0
        var cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            stepCount += 1
            guard case .settlement(let delivery, _) = kept.pointee.command else { continue }
            stepCount += subscriptions.unmark(delivery, index)
        }
        cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            if case .settlement(let delivery, _) = kept.pointee.command { subscriptions.finishUnmarking(delivery) }
        }
        chargeForSteps(stepCount)
    }

    private mutating func nameOfTransaction(_ context: FrameContext) -> UnsafeRawBufferPointer? {
        let session = context.session
        guard let name = frame.value(.transaction, into: scratch.value, version: session.pointee.version),
            name.count > 0
        else {
            failFrame(context, "Missing header", "the frame needs a transaction header that is not empty")
            return nil
        }
        return name
    }

    /// The open transaction that the frame names. None: it was answered with ERROR.
    mutating func transactionOfFrame(_ context: FrameContext) -> Index<Transaction> {
        let session = context.session
        guard let name = nameOfTransaction(context) else { return .none }
        let index = transactions.find(name, of: session, memory)
        if index.isNone {
            failFrame(
                context, "Unknown transaction", "transaction '\(printable(name))' is not open on this connection")
        }
        return index
    }

    mutating func transactionTimerFired(_ handle: Handle<Transaction>) {
        guard let session = transactions.timerFired(handle) else { return }
        counters.limits.count(.transactionTimeout)
        fail(
            sessions[session], "Transaction too old",
            "a transaction may be open for \(limits.transactionMillisecondsMax) ms "
                + "(limits.transaction-timeout-ms); this one is aborted")
    }

    // MARK: Frames in a transaction

    /// SEND with a `transaction` header: checked now, applied at COMMIT.
    mutating func keepSend(_ context: FrameContext) -> FrameOutcome {
        let index = transactionWithRoom(context)
        if index.isNone { return .done }
        if gate.knowsUsers, frame.has(.userId), !admitsUserID(context) { return .done }
        // Whatever can be wrong with it ends the session now rather than half-way through the COMMIT.
        let target = destinationForSend(context, frame.rawValue(.destination)!)
        if target.isNone { return .done }
        var needs = SendNeeds()
        if frame.has(.retain) {
            guard let retain = retainOfFrame(context), mayRetain(context, target) else { return .done }
            needs = retain == .set ? [.changesRetained, .isRetained] : .changesRetained
        }
        var send = CheckedSend(
            destination: destinations.handle(target), byteCount: UInt32(frame.reservedByteCount),
            asksForMore: destinations[target].pointee.isTemporary || frame.has(.replyTo)
                || frame.hasAny(QueueRequest.bits),
            isPersistent: store.isEnabled && frame.has(.persistent) && asksForPersistence(context.session),
            needs: needs)
        guard expiryOfFrame(context) != nil, !frame.has(.replyTo) || replyDestination(context) != nil else {
            return .done
        }
        if frame.has(.sendOption) {
            guard let options = optionsOfFrame(context, for: target) else { return .done }
            send.delayOwner = delayOwner(options, target, isPersistent: send.isPersistent)
            send.needs.formUnion(SendNeeds(options.options))
        }
        keep(context, .send(send), in: index)
        return .done
    }

    /// ACK or NACK with a `transaction` header, which names `delivery`. False: it was answered with ERROR.
    mutating func keepSettlement(
        _ context: FrameContext, of delivery: Handle<Delivery>, _ settlement: Settlement
    ) -> Bool {
        let session = context.session
        let index = transactionWithRoom(context)
        if index.isNone { return false }
        keep(context, .settlement(delivery, settlement), in: index)
        return session.pointee.state == .connected
    }

    /// The transaction that the frame names, if it may hold the frame, too. None: it was answered with ERROR.
    private mutating func transactionWithRoom(_ context: FrameContext) -> Index<Transaction> {
        let index = transactionOfFrame(context)
        if index.isNone || transactions.hasRoom(index, byteCount: frame.byteCount) { return index }
        counters.limits.count(.transactionSize)
        failFrame(
            context, "Transaction too large",
            "a transaction may hold \(limits.framesPerTransactionMax) frames and "
                + "\(limits.transactionByteCountMax) bytes (limits.frames-per-transaction-max, "
                + "limits.transaction-bytes); this one is aborted")
        return .none
    }

    private mutating func keep(
        _ context: FrameContext, _ command: CheckedCommand, in index: Index<Transaction>
    ) {
        let bytes = UnsafeRawBufferPointer(start: frame.base, count: frame.byteCount)
        guard transactions.keep(bytes, command, in: index, &memory) else {
            return failFrame(context, "Out of memory", "the broker has reached its memory limit")
        }
        confirm(context)
    }
}
