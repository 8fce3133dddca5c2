import Slabs

// Messages that failed too often, and whose dead-letter queue another worker holds. If there is no room such a message stays
// in its queue, so its owner is asked first. Meanwhile nobody is given the message; in the log nothing of it has changed but
// how often it failed.
//
//     queue's worker                       owner of the dead-letter queue
//       DeadLetterRequest        --->        keeps room, if there is any
//                                <---        DeadLetterAnswer
//       QueuePublication         --->        takes the room
//
// Refused, the message goes back to its place. If it has gone with its queue, the room is returned.
extension Shard {
    // MARK: With the queue's worker

    /// Asks for room. False: no other worker has to be asked, or it has granted it.
    ///
    /// - Parameter transaction: the move does not count unless this one does. 0: there is none.
    mutating func asksForRoom(_ index: Index<Entry>, reason: StaticString, behind transaction: UInt64) -> Bool {
        guard shardCount > 1, deadLetterRoom == nil else { return false }
        let queue = queues[index].pointee.queue
        let target = deadLetterTarget(queue)
        guard !target.isNone, destinations[target].pointee.kind == .remoteQueue else { return false }
        let entry = queues[index].pointee
        // It gains two lines, one with the escaped name of its queue.
        let byteCount = Int(entry.byteCount) + 2 * nameOf(queues[queue].pointee.destination).count + 128
        let isPersistent = memory.stored(entry.message, identity: 0, expiresAt: 0).isPersistent
        queues.setAside(index)
        if entry.isStored { countFailureOfStored(index) }
        let handle = queues.handle(index)
        deadLettersAsked[handle] = DueDeadLetter(
            entry: handle, reason: reason, isKeptOtherwise: true, transaction: transaction)
        peers.write(
            DeadLetterRequest(
                entry: handle, holder: queues[queue].pointee.holder, byteCount: UInt32(byteCount),
                isPersistent: isPersistent),
            to: Int(destinations[target].pointee.owner), name: nameOf(target))
        readBackIfFew(queue)
        return true
    }

    mutating func deadLetterAnswered(_ answer: DeadLetterAnswer, from peer: Int) {
        if let asked = deadLettersAsked.removeValue(forKey: answer.entry) {
            let entry = asked.entry.index
            let queue = queues[entry].pointee.queue
            chargeForSteps(queues.putBack(entry))
            let expiresAt = queues[entry].pointee.expiresAt
            deadLetterRoom = answer.queue.isNone ? nil : answer
            if expiresAt != 0, expiresAt <= wallMilliseconds {
                expire(entry)
            } else if deadLetterRoom != nil {
                let isIncomplete = store.part(asked.transaction)?.pointee.isIncomplete ?? false
                deadLetter(
                    entry, reason: asked.reason, isKeptOtherwise: true,
                    behind: isIncomplete ? asked.transaction : 0)
            }
            let wasTaken = deadLetterRoom == nil
            deadLetterRoom = nil
            if !queues[queue].pointee.turns.isEmpty { dispatch(queue) }
            if wasTaken { return }
        }
        if !answer.queue.isNone { unreserveAtOwner(peer, answer.queue, byteCount: answer.byteCount) }
    }

    /// Messages that wait for an answer go back to their places: those of a queue that ends, or all.
    mutating func endAsking(of queue: Index<Queue>? = nil) {
        for asked in Array(deadLettersAsked.values) {
            guard queue == nil || queues[asked.entry.index].pointee.queue == queue else { continue }
            deadLettersAsked[asked.entry] = nil
            _ = queues.putBack(asked.entry.index)
        }
    }

    // MARK: With the owner of the dead-letter queue

    mutating func deadLetterRequested(
        _ request: DeadLetterRequest, _ name: UnsafeRawBufferPointer, from peer: Int
    ) {
        var answer = DeadLetterAnswer(entry: request.entry, queue: .none, byteCount: request.byteCount)
        let index = queueForElsewhere(name)
        if !index.isNone, case let queue = destinations[index].pointee.queue, !queue.isNone,
            takes(request, in: queue)
        {
            queues.reserve(queue, byteCount: Int(request.byteCount))
            updateIdle(index)
            if queues[queue].pointee.messageCount == 1 { hold(queues.handle(queue), request.holder) }
            answer.queue = queues.handle(queue)
        }
        peers.write(answer, to: peer)
    }

    /// It drives no other out, and may take of what the log keeps in reserve.
    private mutating func takes(_ request: DeadLetterRequest, in queue: Index<Queue>) -> Bool {
        let byteCount = Int(request.byteCount)
        guard queues.hasRoom(queue, byteCount: byteCount), memory.hasStore(byteCount) else { return false }
        if stores(queue, isPersistent: request.isPersistent), case .tooLarge = store.admission(byteCount) {
            return false
        }
        return true
    }
}
