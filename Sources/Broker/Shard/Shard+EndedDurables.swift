import Slabs

// Durable subscriptions that have ended, and whose messages are not all dropped yet: that takes many turns, for there may be
// millions. The log says that the subscription has ended, so after a crash its messages are nobody's.
//
// The queue keeps its name meanwhile. Another subscription of that name, which would inherit the messages after a crash, is
// not written to the log before they are acknowledged there: it is not open, and its consumers wait.
extension Shard {
    /// The queue of a durable subscription that has ended takes no more, and loses its messages, most of them in later turns.
    /// Returns how many there are.
    mutating func endQueue(ofDurable index: Index<Destination>) -> Int {
        // The subscription itself has waited for those of the one before.
        if durables.isEmptying(index) { return 0 }
        let queue = destinations[index].pointee.queue
        beginToClose(queue)
        let messageCount = Int(queues[queue].pointee.messageCount)
        durables.beginToEmpty(index)
        emptyDurable(index)
        return messageCount
    }

    /// Drops messages of a durable subscription that has ended, as many as there may be in a turn.
    mutating func emptyDurable(_ index: Index<Destination>) {
        // The next life drops the rest.
        guard storeEnding == .none else { return }
        recordAllowance -= 1
        let queue = destinations[index].pointee.queue
        _ = dropSome(queue)
        guard queues[queue].pointee.messageCount == 0 else {
            return queues.armIdle(queue, after: 1, &timers, now: now, isClosing: true)
        }
        durables.endEmptying(index)
        // Before the record of another of that name, which would inherit its messages.
        writeAcknowledgedNow()
        if durables[index] != nil { return replaceQueue(ofDurable: index) }
        destinations.setDurableQueue(false, index)
        remove(index)
    }

    /// Another subscription of that name has waited: it gets a queue of its own, and is opened as any other.
    private mutating func replaceQueue(ofDurable index: Index<Destination>) {
        removeQueue(destinations[index].pointee.queue)
        let wasMade = durables[index]!.topic.withUnsafeBytes { attachDurableQueue(to: index, topic: $0) }
        guard wasMade else { return refuseDurable(index) }
        writeDurable(index)
        if !store.isEnabled { durables.setRecorded(at: 0, of: index) }
        openDurables()
    }
}
