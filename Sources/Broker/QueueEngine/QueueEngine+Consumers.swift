import Slabs

// Consumers, in turn, and what they are given.
extension QueueEngine {
    // MARK: Consumers

    /// None: there are as many as there may be. Who has prefetch takes part in the turns from now on.
    mutating func addConsumer(
        to index: Index<Queue>, shard: Int, subscription: Handle<Subscription>, _ window: Window,
        isSelective: Bool = false
    ) -> Handle<Consumer> {
        let handle: Handle<Consumer> = consumerRecords.allocate()
        if handle.isNone { return .none }
        let queue = queueRecords[index]
        let consumer = consumerRecords[handle.index]
        consumer.pointee.queue = index
        consumer.pointee.subscription = subscription
        consumer.pointee.shard = UInt16(shard)
        consumer.pointee.credit = window.messageCount
        consumer.pointee.byteCountMax = window.byteCount
        queue.pointee.consumers.prepend(handle.index, in: consumerRecords)
        queue.pointee.consumerCount += 1
        if isSelective { makeCursor(handle.index) }
        if queue.pointee.isHeld { updateHold(index) }
        takeTurn(handle.index)
        return handle
    }

    /// A consumer gets no more. What it has is its own until `takeFrom` has given all of it back; then `free`.
    mutating func detach(_ index: Index<Consumer>) {
        let queue = queueRecords[consumerRecords[index].pointee.queue]
        leaveTurn(index)
        queue.pointee.consumers.remove(index, in: consumerRecords)
        queue.pointee.consumerCount -= 1
        if consumerRecords[index].pointee.flags.contains(.selective) { removeCursor(index) }
    }

    /// The oldest entry that a consumer which leaves has not acknowledged, now nobody's. None: it has none.
    mutating func takeFrom(_ index: Index<Consumer>) -> Index<Entry> {
        consumerRecords[index].pointee.unacked.popFirst(in: entryRecords)
    }

    /// A consumer that was detached and has nothing.
    mutating func free(_ index: Index<Consumer>) { consumerRecords.free(index) }

    /// Joins the end of those whose turn comes, if there is free prefetch.
    @inline(__always)
    private mutating func takeTurn(_ index: Index<Consumer>) {
        if !consumerRecords[index].pointee.hasTurn { joinTurns(index) }
    }

    private mutating func joinTurns(_ index: Index<Consumer>) {
        let consumer = consumerRecords[index]
        guard !consumer.pointee.flags.contains(.paused), consumer.pointee.credit > 0,
            consumer.pointee.unackedByteCount < consumer.pointee.byteCountMax,
            !consumer.pointee.flags.contains(.selective) || !cursor(of: index).pointee.entry.isNone
        else { return }
        consumer.pointee.hasTurn = true
        queueRecords[consumer.pointee.queue].pointee.turns.append(index, in: consumerRecords)
    }

    private mutating func leaveTurn(_ index: Index<Consumer>) {
        let consumer = consumerRecords[index]
        guard consumer.pointee.hasTurn else { return }
        queueRecords[consumer.pointee.queue].pointee.turns.remove(index, in: consumerRecords)
        consumer.pointee.hasTurn = false
    }

    mutating func pause(_ index: Index<Consumer>) {
        consumerRecords[index].pointee.flags.insert(.paused)
        leaveTurn(index)
    }

    mutating func resume(_ index: Index<Consumer>) {
        consumerRecords[index].pointee.flags.remove(.paused)
        takeTurn(index)
    }

    // MARK: Selective consumers

    private mutating func makeCursor(_ index: Index<Consumer>) {
        let handle: Handle<Cursor> = cursorRecords.allocate()
        invariant(!handle.isNone, "there is a cursor for each consumer")
        let queue = queueRecords[consumerRecords[index].pointee.queue]
        cursorRecords[handle.index].pointee.consumer = index
        cursorRecords[handle.index].pointee.entry = queue.pointee.ready.first
        queue.pointee.cursors.prepend(handle.index, in: cursorRecords)
        cursorsByConsumer[index] = handle.index
        consumerRecords[index].pointee.flags.insert(.selective)
    }

    private mutating func removeCursor(_ index: Index<Consumer>) {
        guard let cursor = cursorsByConsumer.removeValue(forKey: index) else { return }
        queueRecords[consumerRecords[index].pointee.queue].pointee.cursors.remove(cursor, in: cursorRecords)
        cursorRecords.free(cursor)
    }

    private func cursor(of index: Index<Consumer>) -> UnsafeMutablePointer<Cursor> {
        cursorRecords[cursorsByConsumer[index]!]
    }

    /// The entry is ready: those that were offered all that is behind it are offered it, and again what follows.
    mutating func offer(_ entry: Index<Entry>) {
        var index = queueRecords[entryRecords[entry].pointee.queue].pointee.cursors.first
        while !index.isNone {
            let cursor = cursorRecords[index]
            if cursor.pointee.entry.isNone || Order.precedes(entry, cursor.pointee.entry, in: entryRecords) {
                cursor.pointee.entry = entry
                takeTurn(cursor.pointee.consumer)
            }
            index = CursorChain.next(after: index, in: cursorRecords)
        }
    }

    /// The entry is about to leave the ready ones: cursors that stand at it go on to the next.
    mutating func moveCursors(from entry: Index<Entry>) {
        var index = queueRecords[entryRecords[entry].pointee.queue].pointee.cursors.first
        while !index.isNone {
            if cursorRecords[index].pointee.entry == entry { pass(cursorRecords[index].pointee.consumer) }
            index = CursorChain.next(after: index, in: cursorRecords)
        }
    }

    /// A selective consumer does not take the entry that it was offered, and is offered the next.
    mutating func pass(_ index: Index<Consumer>) {
        let cursor = cursor(of: index)
        cursor.pointee.entry = EntryList.next(after: cursor.pointee.entry, in: entryRecords)
        if cursor.pointee.entry.isNone { leaveTurn(index) }
    }

    // MARK: Dispatch

    /// What to do next for a queue. To be carried out, and asked again, until there is nothing.
    @inline(__always)
    mutating func next(_ index: Index<Queue>, wallMilliseconds: UInt64) -> Dispatch {
        let queue = queueRecords[index]
        let consumerIndex = queue.pointee.turns.first
        if queue.pointee.ready.isEmpty || consumerIndex.isNone { return .nothing }
        let consumer = consumerRecords[consumerIndex]
        let isSelective = consumer.pointee.flags.contains(.selective)
        let entryIndex = isSelective ? cursor(of: consumerIndex).pointee.entry : queue.pointee.ready.first
        let entry = entryRecords[entryIndex]
        if entry.pointee.expiresAt != 0, entry.pointee.expiresAt <= wallMilliseconds { return .expired(entryIndex) }
        if isSelective { return .examine(entryIndex, for: consumerIndex) }
        take(entryIndex, by: consumerIndex)
        return .deliver(entryIndex, to: consumerIndex)
    }

    /// Gives a ready entry to a consumer whose turn it is.
    @inline(__always)
    mutating func take(_ entryIndex: Index<Entry>, by consumerIndex: Index<Consumer>) {
        let entry = entryRecords[entryIndex]
        let consumer = consumerRecords[consumerIndex]
        takeOut(entryIndex)
        entry.pointee.state = .delivered
        entry.pointee.consumer = consumerIndex
        if entry.pointee.deliveryCount < .max { entry.pointee.deliveryCount += 1 }
        consumer.pointee.unacked.append(entryIndex, in: entryRecords)
        consumer.pointee.credit -= 1
        consumer.pointee.unackedByteCount += entry.pointee.byteCount
        if queueRecords[entry.pointee.queue].pointee.turns.last != consumerIndex || consumer.pointee.credit == 0
            || consumer.pointee.unackedByteCount >= consumer.pointee.byteCountMax
        {
            leaveTurn(consumerIndex)
            takeTurn(consumerIndex)
        }
    }

    /// Takes an entry from the consumer that has it, and gives the prefetch back. The entry is nobody's.
    @inline(__always)
    mutating func release(_ index: Index<Entry>) {
        let entry = entryRecords[index]
        let consumerIndex = entry.pointee.consumer
        let consumer = consumerRecords[consumerIndex]
        consumer.pointee.unacked.remove(index, in: entryRecords)
        consumer.pointee.credit += 1
        consumer.pointee.unackedByteCount -= entry.pointee.byteCount
        takeTurn(consumerIndex)
    }

    /// The same for a settlement, which may be late. False: the consumer does not have it, or has left.
    @inline(__always)
    mutating func release(_ handle: Handle<Entry>, from consumer: Handle<Consumer>) -> Bool {
        guard let entry = entryRecords.find(handle), entry.pointee.state == .delivered,
            consumerRecords.isLive(consumer), entry.pointee.consumer == consumer.index
        else { return false }
        release(handle.index)
        return true
    }
}
