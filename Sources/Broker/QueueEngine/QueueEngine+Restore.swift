import Journal
import Slabs

// Messages of earlier lives.
extension QueueEngine {
    /// Puts a message of an earlier life into its queue, at its place: whatever the queue's limits are now.
    mutating func restore(
        _ index: Index<Queue>, _ recovered: RecoveredMessage, _ place: StoredPlace, _ memory: inout MemoryBudget,
        _ timers: inout TimerWheel, at moment: Moment
    ) -> RestoreOutcome {
        let record = recovered.record
        let message = Message(of: record, isPersistent: true)
        let handle: Handle<Entry> = entryRecords.allocate()
        if handle.isNone { return .tooMany }
        let block = memory.storeForLog(message)
        guard block != 0 else {
            entryRecords.free(handle.index)
            return .noMemory
        }
        memory.place(of: block).pointee = place
        let entry = entryRecords[handle.index]
        entry.pointee.queue = index
        entry.pointee.message = block
        entry.pointee.identity = record.identity
        entry.pointee.expiresAt = record.expiresAt
        entry.pointee.byteCount = UInt32(message.contentByteCount)
        entry.pointee.isStored = true
        entry.pointee.order = place.orderKey
        entry.pointee.failureCount = record.failureCount
        entry.pointee.isRedelivered = record.flags.contains(.isRedelivered)
        // So that the next delivery says that it is not the first.
        if entry.pointee.isRedelivered { entry.pointee.deliveryCount = max(record.failureCount, 1) }
        let queue = queueRecords[index]
        queue.pointee.messageCount += 1
        queue.pointee.byteCount += UInt64(entry.pointee.byteCount)
        queue.pointee.lastUsed = moment.clock
        _ = putBack(handle.index)
        if record.expiresAt != 0 { scheduleExpiry(handle, &timers, at: moment) }
        return .restored
    }

    /// An earlier life may have delivered it: its next delivery says so.
    mutating func markSeen(_ index: Index<Entry>) {
        let entry = entryRecords[index]
        entry.pointee.isRedelivered = true
        entry.pointee.deliveryCount = max(entry.pointee.deliveryCount, 1)
    }
}

extension Message {
    /// As it was written to the log.
    init(of record: MessageRecord, isPersistent: Bool) {
        self.init(
            headers: record.content, headersByteCount: record.headersByteCount,
            body: record.content + record.headersByteCount + 1, bodyByteCount: record.bodyByteCount,
            isPlain: record.flags.contains(.isPlain), carriesDestination: record.flags.contains(.carriesDestination),
            isPersistent: isPersistent, identity: record.identity, expiresAt: record.expiresAt)
    }
}
