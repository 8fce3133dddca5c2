import Slabs

// Destinations that nobody needs are kept while there is room, for they may be used again.
extension Shard {
    /// Forgets queues nobody needs until there is room for one more.
    ///
    /// - Parameter mayExceed: A destination that COMMIT has checked may have made way since for another of the same
    ///   transaction. It is made again, if need be beyond the limit: half a transaction would be worse.
    mutating func makeRoomForQueue(mayExceed: Bool = false) -> Bool {
        while !destinations.hasRoomForQueue {
            let oldest = destinations.oldestIdleQueue
            if oldest.isNone { return mayExceed }
            remove(oldest)
        }
        return true
    }

    /// The same for a topic, a pattern, or the stand-in of another worker's queue.
    ///
    /// - Parameter isUnused: nobody subscribes to it, and it makes way for the next. Such a one does not count: it may be
    ///   one too many.
    mutating func makeRoomForOther(isUnused: Bool, mayExceed: Bool = false) -> Bool {
        destinations.makeRoomForOther(memory: &memory) || isUnused || mayExceed
    }

    /// Room for a destination of that name, which this worker does not know yet. `isUnused` and `mayExceed` as above.
    mutating func makeRoom(
        _ name: UnsafeRawBufferPointer, isQueue: Bool, isUnused: Bool, mayExceed: Bool = false
    ) -> Bool {
        isQueue && destinations.owner(ofQueue: name) == index
            ? makeRoomForQueue(mayExceed: mayExceed) : makeRoomForOther(isUnused: isUnused, mayExceed: mayExceed)
    }

    /// Forgets topics nobody needs until patterns and topics match so few times that there may be another.
    mutating func makeRoomForMatches() -> Bool {
        let room = destinations.makeRoomForMatches(memory: &memory)
        recordAllowance -= room.removedCount
        chargeForSteps(room.stepCount)
        return room.hasRoom
    }

    @inline(__always)
    func isNeeded(_ index: Index<Destination>) -> Bool { destinations[index].pointee.isTemporary || isInUse(index) }

    /// Whether anything depends on the destination: subscriptions, messages, or who waits for it.
    @inline(__always)
    func isInUse(_ index: Index<Destination>) -> Bool {
        if destinations.isInUse(index) { return true }
        let queueIndex = destinations[index].pointee.queue
        if queueIndex.isNone { return false }
        let queue = queues[queueIndex]
        if destinations[index].pointee.marks.contains(.durableQueue) { return true }
        return queue.pointee.messageCount != 0 || queue.pointee.consumerCount != 0 || !queue.pointee.blocked.isEmpty
    }

    /// To be called whenever a reason to keep the destination came or went. May remove a pattern.
    mutating func updateIdle(_ index: Index<Destination>) {
        if destinations[index].pointee.kind == .subscriptionQueue { return }
        let queue = destinations.updateIdle(index, isNeeded: isNeeded(index), memory: &memory)
        if queue.isNone { return }
        queues.use(queue, clock: clock)
        armIdle(queue)
    }
}
