import Journal
import Slabs

// Queues of which a part is in the log alone (`ColdMessages`):
//
//     ready (entries)  |  cold (places in the log)  |  behind (entries)
//
// What is behind the cold messages waits there until it is in the log too (`takeBehind`), or until no cold message is left
// (`endCold`).
extension QueueEngine {
    /// Messages of the queue are in the log alone from now on.
    mutating func beginCold(_ index: Index<Queue>, _ cold: Index<ColdQueue>, readyCountMin: UInt32) {
        let queue = queueRecords[index]
        queue.pointee.cold = cold
        queue.pointee.readyCountMin = readyCountMin
        queue.pointee.mayBeCold = true
    }

    mutating func readBack(_ index: Index<Queue>, below readyCountMin: UInt32) {
        queueRecords[index].pointee.readyCountMin = readyCountMin
    }

    /// A message that is in the log alone counts as one of so many bytes.
    mutating func addCold(_ index: Index<Queue>, byteCount: Int, clock: UInt32) {
        let queue = queueRecords[index]
        queue.pointee.messageCount += 1
        queue.pointee.byteCount += UInt64(byteCount)
        queue.pointee.lastUsed = clock
    }

    mutating func removeCold(_ index: Index<Queue>, byteCount: Int) {
        let queue = queueRecords[index]
        queue.pointee.messageCount -= 1
        queue.pointee.byteCount -= UInt64(byteCount)
    }

    /// Puts a message that was read back behind the ready ones.
    ///
    /// - Parameters:
    ///   - place: where it is stored. nil: it is so no more.
    ///   - coldByteCount: what it counted as until now.
    mutating func warm(
        _ index: Index<Queue>, _ record: MessageRecord, _ place: StoredPlace?, coldByteCount: Int,
        _ memory: inout MemoryBudget, _ timers: inout TimerWheel, at moment: Moment
    ) -> Index<Entry>? {
        let message = Message(of: record, isPersistent: place != nil)
        let handle: Handle<Entry> = entryRecords.allocate()
        if handle.isNone { return nil }
        let block = place != nil ? memory.storeForLog(message) : memory.store(message)
        guard block != 0 else {
            entryRecords.free(handle.index)
            return nil
        }
        if let place { memory.place(of: block).pointee = place }
        let queue = queueRecords[index]
        let lastUsed = queue.pointee.lastUsed
        removeCold(index, byteCount: coldByteCount)
        fill(
            handle.index, index, message, block, expiresAt: record.expiresAt, isStored: place != nil, clock: lastUsed)
        let entry = entryRecords[handle.index]
        entry.pointee.failureCount = record.failureCount
        entry.pointee.isRedelivered = record.flags.contains(.isRedelivered)
        if entry.pointee.isRedelivered { entry.pointee.deliveryCount = max(record.failureCount, 1) }
        Order.insert(handle.index, into: &queue.pointee.ready, in: entryRecords)
        if !queue.pointee.cursors.isEmpty { offer(handle.index) }
        if record.expiresAt != 0 { scheduleExpiry(handle, &timers, at: moment) }
        return handle.index
    }

    // MARK: Behind the cold ones

    /// As `enqueue`, behind the messages that are in the log alone.
    ///
    /// - Parameter mayExceed: the queue's limits do not count.
    mutating func enqueueBehind(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer, isStored: Bool, expiresAt: UInt64,
        _ memory: inout MemoryBudget, clock: UInt32
    ) -> Admission {
        let handle: Handle<Entry> = entryRecords.allocate()
        if handle.isNone { return .noMemory }
        let block = isStored ? memory.storeForLog(message, extra: extra) : memory.store(message, extra: extra)
        guard block != 0 else {
            entryRecords.free(handle.index)
            return .noMemory
        }
        fill(handle.index, index, message, block, expiresAt: expiresAt, isStored: isStored, clock: clock)
        entryRecords[handle.index].pointee.state = .behind
        queueRecords[index].pointee.behind.append(handle.index, in: entryRecords)
        return .queued(handle.index)
    }

    /// The first of the entries behind the cold messages has become one of these, and counts as one of so many bytes.
    mutating func freeBehind(_ index: Index<Queue>, coldByteCount: Int, _ memory: inout MemoryBudget) {
        let queue = queueRecords[index]
        let first = queue.pointee.behind.popFirst(in: entryRecords)
        let entry = entryRecords[first]
        queue.pointee.byteCount += UInt64(coldByteCount)
        queue.pointee.byteCount -= UInt64(entry.pointee.byteCount)
        memory.blocks.release(entry.pointee.message)
        entryRecords.free(first)
    }

    /// No message is in the log alone any more: those behind are ready.
    mutating func endCold(_ index: Index<Queue>, _ timers: inout TimerWheel, at moment: Moment) {
        let queue = queueRecords[index]
        queue.pointee.cold = .none
        queue.pointee.readyCountMin = 0
        queue.pointee.mayBeCold = queue.pointee.storage != .never
        while case let index = queue.pointee.behind.popFirst(in: entryRecords), !index.isNone {
            let entry = entryRecords[index]
            entry.pointee.state = .ready
            // What was read back meanwhile is before it.
            entry.pointee.order = nextOrder
            nextOrder &+= 1
            Order.insert(index, into: &queue.pointee.ready, in: entryRecords)
            if !queue.pointee.cursors.isEmpty { offer(index) }
            if entry.pointee.expiresAt != 0 { scheduleExpiry(entryRecords.handle(index), &timers, at: moment) }
        }
    }

    /// How many entries are behind the cold messages, and how many of them are stored. Time is linear in them.
    func behindCounts(_ index: Index<Queue>) -> (all: Int, stored: Int) {
        var counts = (all: 0, stored: 0)
        var entry = queueRecords[index].pointee.behind.first
        while !entry.isNone {
            counts.all += 1
            if entryRecords[entry].pointee.isStored { counts.stored += 1 }
            entry = EntryList.next(after: entry, in: entryRecords)
        }
        return counts
    }
}
