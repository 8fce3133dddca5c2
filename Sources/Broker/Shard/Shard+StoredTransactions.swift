import Journal
import Slabs

// COMMIT of what is stored: the records of a transaction count together, in the logs of all workers that have some.
extension Shard {
    /// The parts of a transaction that is being applied.
    struct StoredParts: BitwiseCopyable {
        /// 0: one worker has all of it.
        var transaction: UInt64
        var participants: PeerSet
        /// This worker's part, if it has one.
        var group: OpenGroup?
    }

    /// Whether the log of this worker takes what the transaction has to store in queues of its own. False: it was answered
    /// with ERROR.
    mutating func admitsToStore(_ context: FrameContext, byteCount: Int) -> Bool {
        switch admission(byteCount, of: context.session) {
        case .open, .wait: true
        case .hostIsFull: refuseCommit(context, .hostStorage)
        case .full, .failed, .tooLarge: refuseCommit(context, refusalOfStore(byteCount))
        }
    }

    /// What is stored of a transaction lies in one segment. False: it does not fit, and ERROR was sent.
    mutating func fitsStore(_ context: FrameContext, _ index: Index<Transaction>) -> Bool {
        guard store.isEnabled else { return true }
        // Most are so small that nobody has to look.
        let transaction = transactions[index]
        let roughly = Int(transaction.pointee.framesByteCount) * 2 + Int(transaction.pointee.frameCount) * 2048
        if transaction.pointee.settlementCount == 0, !durables.isUsed, store.fitsSegment(roughly) { return true }
        if store.fitsSegment(storedByteCountMax(index)) { return true }
        failFrame(
            context, "Transaction too large",
            "what a transaction stores has to fit into a segment (storage.segment-bytes); none of it was applied")
        return false
    }

    /// What a record has beside the message and the name of its queue, at most.
    private static var recordOverheadByteCount: Int { JournalFormat.recordByteCount(payloadByteCount: 64) }

    /// What the records of a transaction take, at most.
    private mutating func storedByteCountMax(_ index: Index<Transaction>) -> Int {
        var byteCount = RecordWriter.partByteCount + Self.recordOverheadByteCount
        var cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            switch kept.pointee.command {
            case .send(let send):
                if durables.isUsed { byteCount += durableByteCountMax(of: send) }
                let destination = destinations.find(send.destination)
                guard send.delayOwner != 0 || destination?.pointee.stores(isPersistent: send.isPersistent) ?? true
                else {
                    continue
                }
                let nameByteCount = destination.map { Int($0.pointee.nameByteCount) }
                byteCount +=
                    Int(send.byteCount) + (nameByteCount ?? limits.destinationNameByteCountMax)
                    + Self.recordOverheadByteCount
            case .settlement(let delivery, let settlement):
                guard subscriptions.isLive(delivery) else { continue }
                let subscription = subscriptions[subscriptions[delivery.index].pointee.subscription]
                guard subscription.pointee.flags.contains(.givesStored) else { continue }
                // One of `client` mode is for all before it, too.
                var count = 1
                var other = subscription.pointee.deliveries.first
                while subscription.pointee.ackMode == .client, !other.isNone, other != delivery.index {
                    count += 1
                    other = subscriptions.next(after: other)
                }
                byteCount += count * (settlement == .acknowledged ? 10 : RecordWriter.acknowledgementByteCount(1))
            }
        }
        return byteCount
    }

    /// A transaction is about to be applied: opens its parts. nil: it stores nothing.
    mutating func beginParts(
        _ index: Index<Transaction>, _ session: UnsafeMutablePointer<Session>
    ) -> StoredParts? {
        let participants = participants(index, session)
        if participants.isEmpty { return nil }
        var parts = StoredParts(transaction: 0, participants: participants, group: nil)
        if participants.count > 1 { parts.transaction = store.beginTransaction(participants) }
        peers.keepsTogether = true
        markParts(participants, session)
        tellParts(parts, isEnd: false)
        if participants.contains(self.index) { parts.group = beginGroup() }
        return parts
    }

    /// The RECEIPT waits for all parts, for without one of them none counts: also for one that comes to have nothing in it.
    private mutating func markParts(_ participants: PeerSet, _ session: UnsafeMutablePointer<Session>) {
        let own = index
        forEachPeer(low: participants.low, high: participants.high) { shard, peer in
            session.pointee.flags.insert(peer == own ? .hasStored : .hasStoredElsewhere)
            if peer != own { shard.markRemote(session, peer) }
        }
    }

    mutating func endParts(_ parts: StoredParts) {
        // First: the end of the group moves what is due to dead-letter destinations, in transactions of their own.
        tellParts(parts, isEnd: true)
        peers.keepsTogether = false
        if let group = parts.group {
            endGroup(group, transaction: parts.transaction, partCount: UInt16(parts.participants.count))
        }
    }

    /// - Parameter holdsReceipts: see `OpenPart.holdsReceipts`.
    mutating func tellParts(_ parts: StoredParts, isEnd: Bool, holdsReceipts: Bool = false) {
        let message = TransactionPart(
            transaction: parts.transaction, partCount: UInt16(parts.participants.count), isEnd: isEnd,
            holdsReceipts: holdsReceipts)
        let own = index
        forEachPeer(low: parts.participants.low, high: parts.participants.high) { shard, peer in
            if peer != own { shard.peers.write(message, to: peer) }
        }
    }

    /// The workers that may have something of the transaction to store.
    private mutating func participants(
        _ index: Index<Transaction>, _ session: UnsafeMutablePointer<Session>
    ) -> PeerSet {
        var participants = PeerSet()
        var cursor = KeptCursor()
        while let kept = transactions.next(&cursor, in: index, memory) {
            switch kept.pointee.command {
            case .send(let send):
                if send.delayOwner != 0 { participants.set(Int(send.delayOwner) - 1, true) }
                if durables.isUsed, send.delayOwner == 0 {
                    participants.formUnion(storingWorkers(of: send, kept, session))
                }
                guard let destination = destinations.find(send.destination) else {
                    // It was forgotten meanwhile, and is made again.
                    if !kept.pointee.room.queue.isNone { participants.set(Int(kept.pointee.room.owner), true) }
                    continue
                }
                // One that stores nothing is asked by no RECEIPT whether its part is durable, and must not have one.
                if send.isStored(by: destination) {
                    participants.set(holder(of: destination), true)
                }
            case .settlement(let delivery, _):
                guard subscriptions.isLive(delivery) else { continue }
                let subscription = subscriptions[subscriptions[delivery.index].pointee.subscription]
                if subscription.pointee.flags.contains(.givesStored) {
                    participants.set(holder(of: destinations[subscription.pointee.destination]), true)
                }
            }
        }
        return participants
    }

    /// The worker that holds a queue, or what a topic keeps.
    private mutating func holder(of destination: UnsafePointer<Destination>) -> Int {
        destination.pointee.kind == .remoteQueue || destination.pointee.isSequenced
            ? Int(destination.pointee.owner) : index
    }

    // MARK: With other workers

    /// Another worker's transaction has a part here. It comes as a whole: see `PeerLink.keepsTogether`.
    mutating func transactionPart(_ part: TransactionPart, from peer: Int) {
        guard store.isEnabled else { return }
        if !part.isEnd {
            // Within the part of a COMMIT there may be that of a message that it drives out to its dead-letter destination.
            remoteParts.append(beginGroup())
        } else if let group = remoteParts.popLast() {
            endGroup(
                group, transaction: part.transaction, partCount: part.partCount, holdsReceipts: part.holdsReceipts)
            if store.hasFailed, part.partCount > 1 {
                tell(.failed, of: part.transaction, to: MessageStore.coordinator(of: part.transaction))
            }
        }
    }

    /// The log has failed: those whose transactions have a part in it will wait in vain.
    mutating func failTransactions() {
        for place in 0..<store.openParts.count where store.openParts[place].state == .written {
            let transaction = store.openParts[place].transaction
            tell(.failed, of: transaction, to: MessageStore.coordinator(of: transaction))
        }
    }

    mutating func transactionStep(_ message: TransactionStep) {
        switch message.step {
        case .complete:
            store.complete(message.transaction)
            // What depends on it may be durable since.
            advanceTransactions()
            confirmStored()
        case .failed:
            if let part = store.part(message.transaction)?.pointee, !part.isGivenUp {
                if part.holdsDuplicates { failWhatWaits() }
                if part.hasIDs { forgetIDs(of: part) }
            }
            if MessageStore.coordinator(of: message.transaction) == index { failWhatWaits() }
            giveUp(message.transaction)
            confirmStored()
        case .forget: store.forget(message.transaction)
        case .durable, .ended:
            guard let next = store.answered(message.step, of: message.transaction) else { return }
            forEachPeer(low: next.participants.low, high: next.participants.high) { shard, peer in
                shard.tell(next.step, of: message.transaction, to: peer)
            }
        }
    }

    /// The transaction will never be complete. Its coordinator tells the other participants, and so do those of transactions
    /// that depend on it: nobody's RECEIPT waits for one of them any more.
    mutating func giveUp(_ transaction: UInt64) {
        if MessageStore.coordinator(of: transaction) == index, let others = store.giveUpCommit(transaction) {
            let own = index
            forEachPeer(low: others.low, high: others.high) { shard, peer in
                if peer != own { shard.tell(.failed, of: transaction, to: peer) }
            }
        }
        for dependent in store.giveUp(transaction) { giveUp(dependent) }
    }

    /// What has become durable brings transactions a step on.
    mutating func advanceTransactions() {
        while let (transaction, step) = store.nextStep() {
            tell(step, of: transaction, to: MessageStore.coordinator(of: transaction))
        }
    }

    private mutating func tell(_ step: CommitStep, of transaction: UInt64, to worker: Int) {
        let message = TransactionStep(transaction: transaction, step: step)
        if worker == index { transactionStep(message) } else { peers.write(message, to: worker) }
    }
}
