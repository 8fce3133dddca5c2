import Slabs

// Where a RECEIPT waits for more than other workers: for the log, and for somebody who is asked (`ReceiptConditions`).
extension Shard {
    public var hasReceiptQuestions: Bool { !receiptQuestions.isEmpty }

    /// What is asked since the last call.
    public mutating func takeReceiptQuestions() -> [ReceiptQuestion] {
        if receiptQuestions.isEmpty { return [] }
        let taken = receiptQuestions
        receiptQuestions.removeAll(keepingCapacity: true)
        return taken
    }

    mutating func ask(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<PendingOperation>, _ workers: ReceiptOrder.Workers
    ) {
        var question = ReceiptQuestion(
            question: pendings.handle(index).slot, connection: session.pointee.slot,
            receipt: receiptOfPending(index).map(Array.init) ?? [], position: pendings[index].pointee.position,
            workers: [])
        forEachPeer(low: workers.low, high: workers.high) { shard, peer in
            if peer != shard.index { question.workers.append(peer) }
        }
        receiptQuestions.append(question)
    }

    mutating func becameDurable(upTo position: LogPosition) {
        while case let index = pendings.popDurable(upTo: position), !index.isNone {
            conditionIsMet(sessions[pendings[index].pointee.session])
        }
    }

    mutating func permitted(_ handle: Handle<PendingOperation>, isAllowed: Bool) {
        guard let pending = pendings.find(handle), pending.pointee.awaitsPermission else {
            counters.staleCompletions &+= 1
            return
        }
        let session = sessions[pending.pointee.session]
        guard isAllowed else {
            // Those before it are not waited for: the client is not served any more.
            return fail(
                session, "Access refused", "the client may not do what this frame asks for",
                receipt: receiptOfPending(handle.index))
        }
        pendings.permit(handle.index)
        conditionIsMet(session)
    }
}
