import Slabs

// Destinations that nobody needs are kept while there is room, for they may be used again.
extension Shard {
    /// Forgets destinations nobody needs until there is room for one more.
    mutating func makeRoomForQueue() -> Bool {
        while queues.liveCount - subscriptionQueueCount >= limits.destinationCountMax {
            // A destination that COMMIT has checked may have made way since for another of the same transaction. It is
            // made again, if need be beyond the limit: half a transaction would be worse.
            guard !idleQueues.isEmpty else { return isApplyingCommit }
            remove(idleQueues.first)
        }
        return true
    }

    /// The same for a topic, a pattern, or the stand-in of another worker's queue. They do not share their room with
    /// queues, which keep theirs as long as they hold messages.
    ///
    /// - Parameter isUnused: nobody subscribes to it, and it makes way for the next. Such a one does not count: it may be
    ///   one too many.
    mutating func makeRoomForOther(isUnused: Bool) -> Bool {
        while otherCount >= limits.destinationCountMax {
            guard !idleOthers.isEmpty else { return isUnused || isApplyingCommit }
            remove(idleOthers.first)
        }
        return true
    }

    /// Room for a destination of that name, which this worker does not know yet. `isUnused` as above.
    mutating func makeRoom(
        _ name: UnsafeRawBufferPointer, isQueue: Bool, isUnused: Bool
    ) -> Bool {
        isQueue && ownerOfQueue(name) == index ? makeRoomForQueue() : makeRoomForOther(isUnused: isUnused)
    }

    private var otherCount: Int { destinations.liveCount - queues.liveCount }

    /// A SEND has made it, beyond the limit, and so far nobody needs it.
    func isOneTooMany(_ index: Index<Destination>) -> Bool {
        let destination = destinations[index]
        return destination.pointee.isIdle && destination.pointee.queue.isNone && otherCount > limits.destinationCountMax
    }

    /// Forgets destinations nobody needs until patterns and topics match so few times that there may be another.
    mutating func makeRoomForMatches() -> Bool {
        let matchCountMax = limits.destinationCountMax * Limits.matchesPerDestinationMax
        var candidate = matchCount >= matchCountMax ? idleOthers.first : .none
        var stepCount = 0
        while !candidate.isNone, matchCount >= matchCountMax {
            let next = IdleList.next(after: candidate, in: destinations)
            if destinations[candidate].pointee.matches.count > 0 {
                recordAllowance -= 1
                remove(candidate)
            }
            candidate = next
            stepCount += 1
        }
        chargeForSteps(stepCount)
        return matchCount < matchCountMax
    }

    func isNeeded(_ index: Index<Destination>) -> Bool { destinations[index].pointee.isTemporary || isInUse(index) }

    /// Whether anything depends on the destination: subscriptions, messages, or who waits for it.
    func isInUse(_ index: Index<Destination>) -> Bool {
        let destination = destinations[index]
        if destination.pointee.subscriptionCount != 0 || destination.pointee.hasRemote
            || destination.pointee.interest != .none || !destination.pointee.groups.isEmpty
            || !destination.pointee.waiting.isEmpty
        {
            return true
        }
        guard !destination.pointee.queue.isNone else { return false }
        let queue = queues[destination.pointee.queue]
        return queue.pointee.messageCount != 0 || queue.pointee.consumerCount != 0 || !queue.pointee.blocked.isEmpty
    }

    /// To be called whenever a reason to keep the destination came or went. May remove a pattern.
    mutating func updateIdle(_ index: Index<Destination>) {
        let destination = destinations[index]
        if destination.pointee.kind == .subscriptionQueue { return }
        let needed = isNeeded(index)
        if destination.pointee.kind == .pattern {
            if !needed { remove(index) }
            return
        }
        if needed == destination.pointee.isIdle {
            if needed { leaveIdle(index) } else { becomeIdle(index) }
        }
    }

    mutating func becomeIdle(_ index: Index<Destination>) {
        let destination = destinations[index]
        destination.pointee.isIdle = true
        if destination.pointee.queue.isNone {
            idleOthers.append(index, in: destinations)
        } else {
            idleQueues.append(index, in: destinations)
            queues.use(destination.pointee.queue, clock: clock)
            armIdle(destination.pointee.queue)
        }
    }

    mutating func leaveIdle(_ index: Index<Destination>) {
        destinations[index].pointee.isIdle = false
        if destinations[index].pointee.queue.isNone {
            idleOthers.remove(index, in: destinations)
        } else {
            idleQueues.remove(index, in: destinations)
        }
    }
}
