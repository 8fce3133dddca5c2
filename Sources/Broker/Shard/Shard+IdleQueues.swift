import Slabs

// Queues that nobody uses end after a while: what is empty has nothing to lose but what its first user asked of it; one with
// messages ends only where its policy says so.
extension Shard {
    /// Makes sure that the queue is looked at when it may have been idle for long enough.
    mutating func armIdle(_ index: Index<Queue>) {
        let milliseconds = patience(index)
        guard milliseconds != 0, destinations[queues[index].pointee.destination].pointee.kind == .queue else { return }
        queues.armIdle(index, after: milliseconds, &timers, now: now)
    }

    /// For how long the queue, as it is now, may go unused (milliseconds). 0: for ever.
    @inline(__always)
    private func patience(_ index: Index<Queue>) -> UInt32 {
        let policy = policies[queues[index].pointee.policy]
        return UInt32(
            clamping: destinations[queues[index].pointee.destination].pointee.isIdle
                ? policy.idleMillisecondsMax : policy.idleWithMessagesMillisecondsMax)
    }

    mutating func idleTimerFired(_ handle: Handle<Queue>) {
        guard let queue = queues.find(handle) else { return }
        let index = handle.index
        if destinations[queue.pointee.destination].pointee.marks.contains(.durableQueue) {
            return durableTimerFired(index)
        }
        queues.disarmIdle(index, &timers, hasFired: true)
        let milliseconds = patience(index)
        // One that is in use is looked at when it becomes idle.
        if milliseconds == 0 { return }
        let elapsed = clock &- queue.pointee.lastUsed
        guard isUnused(index), elapsed >= milliseconds else {
            let rest = elapsed < milliseconds ? milliseconds - elapsed : milliseconds
            return queues.armIdle(index, after: rest, &timers, now: now)
        }
        let destination = queue.pointee.destination
        recordAllowance -= 1
        guard dropUnused(index) else { return queues.armIdle(index, after: 1, &timers, now: now) }
        remove(destination)
    }

    /// Nobody consumes from it, waits for room in it, or was promised room, and no connection owns it.
    private mutating func isUnused(_ index: Index<Queue>) -> Bool {
        let queue = queues[index]
        return queue.pointee.consumerCount == 0
            && Int(queue.pointee.ready.count) + coldCounts(index).all == Int(queue.pointee.messageCount)
            && queue.pointee.blocked.isEmpty && !destinations[queue.pointee.destination].pointee.isTemporary
    }

    /// So many messages are dropped in a turn at most: to release one takes a cache miss or two.
    private static var dropsPerTurnMax: Int { 1024 }

    /// Drops the messages of a queue that nobody uses. False: some are left, for a later turn.
    private mutating func dropUnused(_ index: Index<Queue>) -> Bool {
        let queue = queues[index]
        let messageCount = Int(queue.pointee.ready.count) + coldCounts(index).all
        if messageCount == 0 { return true }
        let isWhole = messageCount <= Self.dropsPerTurnMax
        // Closed before its last message goes, or it would become idle and have its time anew.
        if isWhole { queues.close(index) }
        let count = dropSome(index)
        counters.messagesDropped &+= UInt64(count)
        notice(
            .messagesDropped,
            "\(count) of \(destinationText(queue.pointee.destination)): nobody used it for "
                + "\(policies[queue.pointee.policy].idleWithMessagesMillisecondsMax) ms (idle-expires-with-messages-ms)"
        )
        return isWhole
    }

    /// Drops the oldest messages of a queue, as many as may be in a turn. Returns how many.
    mutating func dropSome(_ index: Index<Queue>) -> Int {
        var count = dropReady(index, atMost: Self.dropsPerTurnMax)
        count += dropCold(index, atMost: Self.dropsPerTurnMax - count)
        return count + dropReady(index, atMost: Self.dropsPerTurnMax - count)
    }
}
