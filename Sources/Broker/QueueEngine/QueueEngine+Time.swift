import Slabs

// What time and limits do to a queue.
extension QueueEngine {
    // MARK: Time

    /// A timer says that an entry's time may be over. True: it is ready and has to be taken out. `isLast`: time makes no
    /// difference any more.
    mutating func expires(
        _ handle: Handle<Entry>, _ timers: inout TimerWheel, at moment: Moment, isLast: Bool
    ) -> Bool {
        guard let entry = entryRecords.find(handle) else { return false }
        entry.pointee.timer = 0
        if isLast { return false }
        // The wall clock may have been set back since.
        if entry.pointee.expiresAt > moment.wallMilliseconds {
            scheduleExpiry(handle, &timers, at: moment)
            return false
        }
        // One that is with a consumer is looked at again when it comes back.
        return entry.pointee.state == .ready
    }

    mutating func scheduleExpiry(_ handle: Handle<Entry>, _ timers: inout TimerWheel, at moment: Moment) {
        let entry = entryRecords[handle.index]
        // No timer is further away than this (34 years), whatever a client asks for: it is set again then.
        // One of an earlier life may be past its time.
        let rest = entry.pointee.expiresAt - min(entry.pointee.expiresAt, moment.wallMilliseconds)
        let milliseconds = min(rest, 1 << 40)
        entry.pointee.timer = timers.schedule(
            at: moment.now &+ milliseconds &* 1_000_000, kind: TimerKind.entry.rawValue, owner: handle.slot)
    }

    /// Makes sure that the queue is looked at when it may have been idle for so long.
    ///
    /// One timer for a queue, which keeps running when the queue is used again: a use costs no timer. When it fires, it is
    /// set anew for what is left.
    mutating func armIdle(
        _ index: Index<Queue>, after milliseconds: UInt32, _ timers: inout TimerWheel, now: UInt64,
        isClosing: Bool = false
    ) {
        let queue = queueRecords[index]
        guard queue.pointee.idleTimer == 0, !queue.pointee.isClosed || isClosing else { return }
        queue.pointee.idleTimer = timers.schedule(
            at: now &+ UInt64(milliseconds) &* 1_000_000, kind: TimerKind.idleQueue.rawValue,
            owner: queueRecords.handle(index).slot)
        if queue.pointee.idleTimer != 0 { idleTimerCount += 1 }
    }

    /// The queue's timer has fired, or is to be forgotten.
    mutating func disarmIdle(_ index: Index<Queue>, _ timers: inout TimerWheel, hasFired: Bool = false) {
        let queue = queueRecords[index]
        guard queue.pointee.idleTimer != 0 else { return }
        if !hasFired { timers.cancel(queue.pointee.idleTimer) }
        queue.pointee.idleTimer = 0
        idleTimerCount -= 1
    }

    // MARK: What is stored

    /// Ready messages that are stored. Time is linear in them.
    func storedCount(_ index: Index<Queue>) -> Int {
        var count = 0
        var entry = queueRecords[index].pointee.ready.first
        while !entry.isNone {
            if entryRecords[entry].pointee.isStored { count += 1 }
            entry = EntryList.next(after: entry, in: entryRecords)
        }
        return count
    }

    // MARK: Who fills queues

    /// Why the client may not fill another queue. nil: it may.
    func refusal(of holder: QueueHolder, _ limits: Limits) -> Refusal? { holders.refusal(of: holder, limits) }

    /// The client has sent the first of the queue's messages, or was promised room for it.
    mutating func hold(_ index: Index<Queue>, by holder: QueueHolder) {
        let queue = queueRecords[index]
        guard queue.pointee.messageCount > 0 else { return }
        if queue.pointee.isHeld { holders.leave(queue.pointee.holder) }
        queue.pointee.isHeld = false
        queue.pointee.holder = holder
        updateHold(index)
    }

    /// To be called when a queue got its first message or lost its last, and when consumers came or went.
    mutating func updateHold(_ index: Index<Queue>) {
        let queue = queueRecords[index]
        let isHeld =
            queue.pointee.messageCount > 0 && queue.pointee.consumerCount == 0 && !queue.pointee.holder.isNobody
            && !queue.pointee.isClosed
        if isHeld != queue.pointee.isHeld {
            queue.pointee.isHeld = isHeld
            if isHeld { holders.enter(queue.pointee.holder) } else { holders.leave(queue.pointee.holder) }
        }
        if queue.pointee.messageCount == 0 { queue.pointee.holder = .nobody }
    }
}
