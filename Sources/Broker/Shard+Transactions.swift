import Glibc
import IO
import STOMP
import Slabs

// Transactions: frames are checked and kept when they arrive, and applied all or not at all at COMMIT. What a COMMIT
// needs at the queues is reserved first, with other workers too; only when everything has room is anything applied.
extension Shard {
    // MARK: BEGIN and ABORT

    mutating func begin(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        recordAllowance -= 1
        guard let name = nameOfTransaction(session) else { return .done }
        if !findTransaction(session, name).isNone {
            failFrame(
                session, "Transaction already started",
                "transaction '\(printable(name))' is already open on this connection")
            return .done
        }
        if Int(session.pointee.transactionCount) >= limits.transactionsPerConnectionMax {
            counters.limits.count(.transactionsPerConnection)
            failFrame(
                session, "Too many transactions",
                "a connection may have \(limits.transactionsPerConnectionMax) open transactions "
                    + "(limits.transactions-per-connection-max)")
            return .done
        }
        let handle: Handle<Transaction> = transactions.allocate()
        let block = handle.isNone ? 0 : memory.blocks.allocate(byteCount: name.count)
        guard block != 0 else {
            if !handle.isNone { transactions.free(handle.index) }
            failFrame(session, "Out of memory", "no room for another transaction")
            return .done
        }
        memcpy(memory.blocks.base(block), name.baseAddress!, name.count)
        let transaction = transactions[handle.index]
        transaction.pointee.session = session.pointee.index
        transaction.pointee.name = block
        transaction.pointee.nameByteCount = UInt32(name.count)
        transaction.pointee.timer = timers.schedule(
            at: now &+ UInt64(limits.transactionMillisecondsMax) &* 1_000_000, kind: TimerKind.transaction.rawValue,
            owner: handle.slot)
        session.pointee.transactions.push(handle.index, in: transactions)
        session.pointee.transactionCount += 1
        confirm(session)
        return .done
    }

    mutating func abort(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        recordAllowance -= 1
        let index = transactionOfFrame(session)
        if index.isNone { return .done }
        abort(session, index)
        confirm(session)
        return .done
    }

    /// Forgets a transaction. What it acknowledged waits for acknowledgement again.
    mutating func abort(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>) {
        if transactions[index].pointee.settlementCount > 0 { unmarkDeliveries(index) }
        unlinkTransaction(session, index)
        freeTransaction(index)
    }

    private mutating func unmarkDeliveries(_ index: Index<Transaction>) {
        var stepCount = 0
        var cursor = KeptCursor()
        while advance(&cursor, in: index) {
            stepCount += 1 + subscriptions.unmark(keptFrame(cursor.frame).pointee.delivery, index)
        }
        cursor = KeptCursor()
        while advance(&cursor, in: index) { subscriptions.finishUnmarking(keptFrame(cursor.frame).pointee.delivery) }
        chargeForSteps(stepCount)
    }

    private mutating func unlinkTransaction(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>) {
        let transaction = transactions[index]
        let wasOpen = session.pointee.transactions.remove(index, in: transactions)
        invariant(wasOpen, "a transaction is among those of its session")
        session.pointee.transactionCount -= 1
        timers.cancel(transaction.pointee.timer)
        transaction.pointee.timer = 0
    }

    private mutating func freeTransaction(_ index: Index<Transaction>) {
        memory.blocks.release(transactions[index].pointee.name)
        var block = transactions[index].pointee.frames
        while block != 0 {
            let next = nextKeptBlock(block).pointee
            memory.blocks.release(block)
            block = next
        }
        transactions.free(index)
    }

    private mutating func nameOfTransaction(_ session: UnsafeMutablePointer<Session>) -> UnsafeRawBufferPointer? {
        guard let name = frame.value(.transaction, into: scratch.value, version: session.pointee.version),
            name.count > 0
        else {
            failFrame(session, "Missing header", "the frame needs a transaction header that is not empty")
            return nil
        }
        return name
    }

    /// The open transaction that the frame names. None: it was answered with ERROR.
    mutating func transactionOfFrame(_ session: UnsafeMutablePointer<Session>) -> Index<Transaction> {
        guard let name = nameOfTransaction(session) else { return .none }
        let index = findTransaction(session, name)
        if index.isNone {
            failFrame(
                session, "Unknown transaction", "transaction '\(printable(name))' is not open on this connection")
        }
        return index
    }

    private func findTransaction(
        _ session: UnsafeMutablePointer<Session>, _ name: UnsafeRawBufferPointer
    ) -> Index<Transaction> {
        var index = session.pointee.transactions.first
        while !index.isNone {
            let transaction = transactions[index]
            if Int(transaction.pointee.nameByteCount) == name.count,
                memcmp(memory.blocks.base(transaction.pointee.name), name.baseAddress!, name.count) == 0
            {
                return index
            }
            index = TransactionStack.next(after: index, in: transactions)
        }
        return .none
    }

    // MARK: Frames in a transaction

    /// `KeptFrame`, then the frame's bytes.
    struct KeptFrame {
        var byteCount: UInt32
        /// The room that is reserved for it at another worker's queue. 0: none.
        var reservedByteCount: UInt32 = 0
        var queue = Handle<Queue>.none
        var owner: UInt16 = 0
        /// What ACK or NACK is for.
        var delivery = Handle<Delivery>.none

        static var headByteCount: Int { 32 }
        /// Frames begin on 16-byte boundaries.
        static func stride(_ byteCount: Int) -> Int { headByteCount + (byteCount + 15) & ~15 }
    }

    /// SEND, ACK or NACK with a `transaction` header: checked now, applied at COMMIT. `delivery` is what ACK or NACK is for.
    mutating func keepInTransaction(
        _ session: UnsafeMutablePointer<Session>, delivery: Handle<Delivery> = .none
    ) -> FrameOutcome {
        let index = transactionOfFrame(session)
        if index.isNone { return .done }
        let transaction = transactions[index]
        let byteCount = frame.byteCount
        if Int(transaction.pointee.frameCount) >= limits.framesPerTransactionMax
            || Int(transaction.pointee.framesByteCount) + byteCount > limits.transactionByteCountMax
        {
            counters.limits.count(.transactionSize)
            failFrame(
                session, "Transaction too large",
                "a transaction may hold \(limits.framesPerTransactionMax) frames and "
                    + "\(limits.transactionByteCountMax) bytes (limits.frames-per-transaction-max, "
                    + "limits.transaction-bytes); this one is aborted")
            return .done
        }
        if frame.command == .send {
            // Whatever can be wrong with it ends the session now rather than half-way through the COMMIT.
            guard !destinationForSend(session, frame.rawValue(.destination)!).isNone, expiryOfFrame(session) != nil,
                !frame.has(.replyTo) || replyDestination(session) != nil
            else { return .done }
        } else {
            transaction.pointee.settlementCount += 1
        }
        guard let place = roomForKept(index, byteCount: KeptFrame.stride(byteCount)) else {
            failFrame(session, "Out of memory", "the broker has reached its memory limit")
            return .done
        }
        place.assumingMemoryBound(to: KeptFrame.self).initialize(
            to: KeptFrame(byteCount: UInt32(byteCount), delivery: delivery))
        memcpy(place + KeptFrame.headByteCount, frame.base, byteCount)
        transaction.pointee.framesByteCount += UInt32(KeptFrame.stride(byteCount))
        transaction.pointee.frameCount += 1
        confirm(session)
        return .done
    }

    private static var keptBlockByteCountMin: Int { 1024 }
    /// Larger blocks are mapped one by one: to grow by these costs page faults for megabytes at a time.
    private static var keptBlockByteCountMax: Int { 64 * 1024 }

    /// Room behind the last frame of a transaction. Nil: no memory.
    private mutating func roomForKept(_ index: Index<Transaction>, byteCount: Int) -> UnsafeMutableRawPointer? {
        let transaction = transactions[index]
        let last = transaction.pointee.lastFrames
        if last != 0, memory.blocks.used(last) + byteCount <= memory.blocks.capacity(last) {
            defer { memory.blocks.setUsed(last, memory.blocks.used(last) + byteCount) }
            return memory.blocks.base(last) + memory.blocks.used(last)
        }
        let wanted = min(
            max(Int(transaction.pointee.framesByteCount), Self.keptBlockByteCountMin), Self.keptBlockByteCountMax)
        let block = memory.allocateBulk(byteCount: max(KeptCursor.start + byteCount, wanted))
        guard block != 0 else { return nil }
        nextKeptBlock(block).initialize(to: 0)
        memory.blocks.setUsed(block, KeptCursor.start + byteCount)
        if last != 0 { nextKeptBlock(last).pointee = block } else { transaction.pointee.frames = block }
        transaction.pointee.lastFrames = block
        return memory.blocks.base(block) + KeptCursor.start
    }

    private func nextKeptBlock(_ block: BlockIndex) -> UnsafeMutablePointer<BlockIndex> {
        memory.blocks.base(block).assumingMemoryBound(to: BlockIndex.self)
    }

    // MARK: COMMIT

    mutating func commit(_ session: UnsafeMutablePointer<Session>) -> FrameOutcome {
        let index = transactionOfFrame(session)
        if index.isNone { return .done }
        if isDraining {
            failFrame(session, "Shutting down", "the broker is shutting down; the transaction is aborted")
            return .done
        }
        // One that only acknowledges makes room.
        if memoryIsFull, transactions[index].pointee.frameCount > transactions[index].pointee.settlementCount {
            return waitForRoom(session)
        }
        recordAllowance -= 1 + Int(transactions[index].pointee.frameCount) / Self.framesPerRecord
        // The frames of the transaction are parsed again and take the place of COMMIT under the parser.
        guard let pending = makePending(session, .commit, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings[pending].pointee.transaction = index
        commitReceipt = pending
        defer { commitReceipt = .none }
        // Where it fails, ERROR ends the session, and with it the pending operation gives back what was reserved.
        guard reserve(session, index, pending) else { return .done }
        if pendings[pending].pointee.answersDue > 0 {
            suspend(session)
            return .done
        }
        applyCommit(session, pending)
        return .done
    }

    /// So many frames of a transaction take as long as a record.
    private static var framesPerRecord: Int { 4 }

    /// Goes through the kept frames and reserves what each needs; the pending operation counts them.
    /// False: something cannot be had, and ERROR was sent.
    private mutating func reserve(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>,
        _ pending: Index<PendingOperation>
    ) -> Bool {
        var cursor = KeptCursor()
        while parseKept(session, index, &cursor) {
            switch frame.command {
            case .send:
                // First, for it may forget a destination that nobody needs yet to make room.
                if frame.has(.replyTo), replyDestination(session) == nil { return false }
                let target = destinationForSend(session, frame.rawValue(.destination)!)
                if target.isNone { return false }
                if destinations[target].pointee.kind == .queue {
                    let queue = queues[destinations[target].pointee.queue]
                    if destinations[target].pointee.isIdle,
                        let refusal = queues.refusal(of: holder(session), limits)
                    {
                        failDestination(session, refusal)
                        return false
                    }
                    guard canReserve(destinations[target].pointee.queue, byteCount: frame.reservedByteCount) else {
                        counters.limits.count(.queue)
                        fail(
                            session, "Queue full",
                            "\(destinationText(target)) has no room for the transaction; none of it was applied",
                            receipt: receiptOfPending(pending))
                        return false
                    }
                    queues.reserve(destinations[target].pointee.queue, byteCount: frame.reservedByteCount)
                    updateIdle(target)
                    if queue.pointee.messageCount == 1 {
                        hold(queues.handle(destinations[target].pointee.queue), holder(session))
                    }
                } else if destinations[target].pointee.kind == .remoteQueue {
                    requestRoom(session, target, pending, frame: cursor.frame)
                    pendings[pending].pointee.answersDue += 1
                }
            case .ack, .nack:
                if deliveryOfKept(session, keptFrame(cursor.frame).pointee.delivery).isNone { return false }
            case .connect, .stomp, .subscribe, .unsubscribe, .begin, .commit, .abort, .disconnect, .connected,
                .message, .receipt, .error:
                invariant(false, "only SEND, ACK and NACK are kept in a transaction")
            }
            pendings[pending].pointee.reservedFrameCount += 1
        }
        return true
    }

    /// Gives the local reservations of the first `count` frames back.
    mutating func release(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>, count: UInt32) {
        var cursor = KeptCursor()
        var left = count
        while left > 0, parseKept(session, index, &cursor) {
            left -= 1
            if frame.command == .send { roomIsFree(releaseReservation(session)) }
        }
    }

    /// Gives back what the SEND under the parser reserved at a local queue, which is returned.
    private mutating func releaseReservation(_ session: UnsafeMutablePointer<Session>) -> Handle<Queue> {
        let target = quietDestination(session)
        guard !target.isNone, destinations[target].pointee.kind == .queue else { return .none }
        let queue = queues.handle(destinations[target].pointee.queue)
        returnRoom(queue, byteCount: UInt64(frame.reservedByteCount))
        return queue
    }

    /// The destination of the SEND under the parser, which was found before and is held by a reservation.
    private mutating func quietDestination(_ session: UnsafeMutablePointer<Session>) -> Index<Destination> {
        let name = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
        return destinationWithoutError(session, name)
    }

    /// Everything has room: applies the frames in order, then answers COMMIT.
    mutating func applyCommit(_ session: UnsafeMutablePointer<Session>, _ pending: Index<PendingOperation>) {
        let index = pendings[pending].pointee.transaction
        // From here on neither time nor the end of the session aborts it, and each frame gives its reservation back
        // just before it takes the room.
        pendings[pending].pointee.kind = .receipt
        unlinkTransaction(session, index)
        commitReceipt = pending
        isApplyingCommit = true
        var cursor = KeptCursor()
        while parseKept(session, index, &cursor) {
            switch frame.command {
            case .send:
                let kept = keptFrame(cursor.frame).pointee
                let queue = releaseReservation(session)
                if session.pointee.state == .connected {
                    counters.messagesReceived &+= 1
                    _ = sendNow(session)
                }
                if !queue.isNone { roomIsFree(queue) }
                if session.pointee.state != .connected, kept.reservedByteCount != 0 {
                    // Out of memory half-way: what was not sent takes no room.
                    unreserveAtOwner(Int(kept.owner), kept.queue, byteCount: kept.reservedByteCount)
                }
            case .ack, .nack:
                guard session.pointee.state == .connected else { continue }
                let delivery = deliveryOfKept(session, keptFrame(cursor.frame).pointee.delivery)
                if !delivery.isNone {
                    settleFrame(delivery, accepts: frame.command == .ack, transaction: index)
                }
            case .connect, .stomp, .subscribe, .unsubscribe, .begin, .commit, .abort, .disconnect, .connected,
                .message, .receipt, .error:
                invariant(false, "only SEND, ACK and NACK are kept in a transaction")
            }
        }
        isApplyingCommit = false
        commitReceipt = .none
        freeTransaction(index)
        if session.pointee.state == .connected { finishPending(session, pending) }
    }

    /// Parses the kept frame behind the cursor, which moves on to it. False: there is none.
    private mutating func parseKept(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>, _ cursor: inout KeptCursor
    ) -> Bool {
        guard advance(&cursor, in: index) else { return false }
        let kept = keptFrame(cursor.frame)
        var state = ParserState()
        let result = parseFrame(
            UnsafeRawPointer(kept) + KeptFrame.headByteCount, Int(kept.pointee.byteCount),
            version: session.pointee.version, expectsConnect: false, limits: frameLimits, state: &state, frame: &frame,
            error: &frameError)
        invariant(result == .frame, "a kept frame was parsed before")
        return true
    }

    /// Moves on to the next frame of a transaction. False: there is none.
    mutating func advance(_ cursor: inout KeptCursor, in index: Index<Transaction>) -> Bool {
        if cursor.block == 0 {
            cursor.block = transactions[index].pointee.frames
            cursor.next = KeptCursor.start
        } else if cursor.next == memory.blocks.used(cursor.block) {
            cursor.block = nextKeptBlock(cursor.block).pointee
            cursor.next = KeptCursor.start
        }
        guard cursor.block != 0 else { return false }
        cursor.offset = cursor.next
        cursor.next += KeptFrame.stride(Int(keptFrame(cursor.frame).pointee.byteCount))
        return true
    }

    /// The frame that a cursor's `frame` tells.
    func keptFrame(_ frame: UInt64) -> UnsafeMutablePointer<KeptFrame> {
        (memory.blocks.base(BlockIndex(frame >> 32)) + Int(frame & 0xFFFF_FFFF)).assumingMemoryBound(to: KeptFrame.self)
    }
}

/// A place among the frames of a transaction.
struct KeptCursor {
    /// 0: before the first frame.
    var block: BlockIndex = 0
    /// Of the frame that was reached last, and behind it.
    var offset = 0
    var next = 0

    /// Frames begin here, on a 16-byte boundary.
    static var start: Int { 16 }
    /// Block and offset.
    var frame: UInt64 { UInt64(block) << 32 | UInt64(offset) }
}
