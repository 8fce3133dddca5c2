import Slabs

// Queues that nobody uses end after a while: what is empty has nothing to lose but what its first user asked of it; one with
// messages ends only where its policy says so.
extension Shard {
    /// Makes sure that the queue is looked at when it may have been idle for long enough.
    ///
    /// One timer for a queue, which keeps running when the queue is used again: a use costs no timer. When it fires, it is
    /// set anew for what is left.
    mutating func armIdle(_ index: Index<Queue>) {
        let queue = queues[index]
        guard queue.pointee.idleTimer == 0, !queue.pointee.isClosed else { return }
        let milliseconds = patience(queue)
        guard milliseconds != 0, destinations[queue.pointee.destination].pointee.kind == .queue else { return }
        scheduleIdle(index, after: milliseconds)
    }

    private mutating func scheduleIdle(_ index: Index<Queue>, after milliseconds: UInt32) {
        let timer = timers.schedule(
            at: now &+ UInt64(milliseconds) &* 1_000_000, kind: TimerKind.idleQueue.rawValue,
            owner: queues.handle(index).slot)
        queues[index].pointee.idleTimer = timer
        if timer != 0 { idleTimerCount += 1 }
    }

    mutating func cancelIdle(_ queue: UnsafeMutablePointer<Queue>) {
        guard queue.pointee.idleTimer != 0 else { return }
        timers.cancel(queue.pointee.idleTimer)
        queue.pointee.idleTimer = 0
        idleTimerCount -= 1
    }

    /// For how long the queue, as it is now, may go unused (milliseconds). 0: for ever.
    private func patience(_ queue: UnsafeMutablePointer<Queue>) -> UInt32 {
        let policy = policies[queue.pointee.policy]
        return UInt32(
            clamping: destinations[queue.pointee.destination].pointee.isIdle
                ? policy.idleMillisecondsMax : policy.idleWithMessagesMillisecondsMax)
    }

    mutating func idleTimerFired(_ handle: Handle<Queue>) {
        guard let queue = queues.find(handle) else { return }
        queue.pointee.idleTimer = 0
        idleTimerCount -= 1
        let milliseconds = patience(queue)
        // One that is in use is looked at when it becomes idle.
        if milliseconds == 0 { return }
        let elapsed = clock &- queue.pointee.lastUsed
        guard isUnused(queue), elapsed >= milliseconds else {
            return scheduleIdle(handle.index, after: elapsed < milliseconds ? milliseconds - elapsed : milliseconds)
        }
        let destination = queue.pointee.destination
        recordAllowance -= 1
        guard dropUnused(handle.index) else { return scheduleIdle(handle.index, after: 1) }
        remove(destination)
    }

    /// Nobody consumes from it, waits for room in it, or was promised room, and no connection owns it.
    private func isUnused(_ queue: UnsafeMutablePointer<Queue>) -> Bool {
        queue.pointee.consumerCount == 0 && queue.pointee.readyCount == queue.pointee.messageCount
            && queue.pointee.blocked.isEmpty && !destinations[queue.pointee.destination].pointee.isTemporary
    }

    /// So many messages are dropped in a turn at most: to release one takes a cache miss or two.
    private static var dropsPerTurnMax: Int { 1024 }

    /// Drops the messages of a queue that nobody uses. False: some are left, for a later turn.
    private mutating func dropUnused(_ index: Index<Queue>) -> Bool {
        let queue = queues[index]
        if queue.pointee.ready.isEmpty { return true }
        let isWhole = Int(queue.pointee.readyCount) <= Self.dropsPerTurnMax
        if isWhole {
            // Closed before its last message goes, or it would become idle and have its time anew.
            queue.pointee.isClosed = true
            updateHold(queue)
        }
        let count = dropReady(queue, atMost: Self.dropsPerTurnMax)
        counters.messagesDropped &+= UInt64(count)
        notice(
            .messagesDropped,
            "\(count) of \(destinationText(queue.pointee.destination)): nobody used it for "
                + "\(policies[queue.pointee.policy].idleWithMessagesMillisecondsMax) ms (idle-expires-with-messages-ms)"
        )
        return isWhole
    }
}
