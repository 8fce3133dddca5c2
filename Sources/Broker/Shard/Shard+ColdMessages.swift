public import Journal
import Slabs

// Messages that leave memory: they are in the log alone until their turn comes.
//
// When the memory for messages is half full, what comes to a queue that holds some ready messages is written to the log at
// once and kept as a place there (`ColdMessages`). All that comes behind goes the same way, so that the order stays: what is
// not to be stored too, marked as such. Where that cannot be done now (a group of records is open, the disk is full), a
// message waits in memory behind the cold ones (`Queue.behind`).
//
//     ready (entries)  |  cold (places in the log)  |  behind (entries)
//
// The first cold messages are read back when few are ready: see `Shard+ColdReading`.
extension Shard {
    // MARK: Going cold

    /// Puts a message behind those of its queue that are in the log alone, or makes it the first of these. nil: the queue
    /// has none, and the message is to stay in memory. false: no room.
    @inline(never)
    mutating func enqueueCold(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer, isStored: Bool
    ) -> Bool? {
        let queue = queues[index]
        if queue.pointee.cold.isNone, !becomesCold(index) { return nil }
        let expiresAt = queues.expiry(of: message, in: index, at: moment)
        if expiresAt != 0, expiresAt <= wallMilliseconds {
            counters.messagesExpired &+= 1
            return true
        }
        guard takes(index, byteCount: message.contentByteCount) else { return false }
        queues.granting = .none
        if writesCold(index, extra.count + message.contentByteCount, isStored: isStored) {
            writeCold(index, message, extra: extra, isStored: isStored, expiresAt: expiresAt)
        } else {
            let admission = queues.enqueueBehind(
                index, message, extra: extra, isStored: isStored, expiresAt: expiresAt, &memory, clock: clock)
            guard case .queued(let entry) = admission else { return false }
            if isStored { keepNew(entry, message) }
            cold.list(queue.pointee.cold)
        }
        if queue.pointee.messageCount == 1 { updateIdle(queue.pointee.destination) }
        if isOver(index) { cold.list(queue.pointee.cold) }
        readBackIfFew(index)
        return true
    }

    /// Whether the next message of a queue leaves memory, and with it all that follow.
    private mutating func becomesCold(_ index: Index<Queue>) -> Bool {
        guard store.isEnabled, !store.hasFailed, !store.hasEnded, hasEnoughReady(index) else { return false }
        return beginCold(index)
    }

    /// Memory is short, and the queue has so many messages there that consumers do not wait for the disk.
    private mutating func hasEnoughReady(_ index: Index<Queue>) -> Bool {
        let options = store.options.cold
        let queue = queues[index]
        guard Int(queue.pointee.ready.count) >= options.readyCountMin, messagesFill(percent: options.fillPercent) else {
            return false
        }
        return Int(queue.pointee.ready.count)
            >= aheadCount(byteCount: queue.pointee.byteCount, count: queue.pointee.messageCount)
            || messagesFill(percent: Self.fillPercentToReadAhead)
    }

    private mutating func beginCold(_ index: Index<Queue>) -> Bool {
        guard store.hasSegmentNumbers else { return false }
        let coldIndex = cold.begin(index, nameByteCount: nameOf(queues[index].pointee.destination).count)
        if coldIndex.isNone { return false }
        queues.beginCold(index, coldIndex, readyCountMin: 1)
        return true
    }

    /// The message can be written to the log now, without being in memory.
    private mutating func writesCold(_ index: Index<Queue>, _ byteCount: Int, isStored: Bool) -> Bool {
        let queue = queues[index]
        guard !store.isGrouping, !store.hasFailed, !store.hasEnded, queue.pointee.behind.isEmpty,
            queue.pointee.storage != .never, cold.hasRoom(queue.pointee.cold)
        else { return false }
        // Of one that is stored, somebody has asked.
        if isStored { return true }
        if case .open = store.admission(byteCount) { return true }
        return false
    }

    private mutating func writeCold(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer, isStored: Bool, expiresAt: UInt64
    ) {
        if isStored, !queueArguments.isEmpty { writeArguments(of: index) }
        var flags = RecordFlags()
        if message.isPlain { flags.insert(.isPlain) }
        if message.carriesDestination { flags.insert(.carriesDestination) }
        if !isStored { flags.insert(.isTransient) }
        var record = MessageRecord(
            queueName: nameOf(queues[index].pointee.destination), identity: message.identity, expiresAt: expiresAt,
            flags: flags, content: message.headers, headersByteCount: extra.count + message.headersByteCount,
            bodyByteCount: message.bodyByteCount)
        if isStored, message.options.contains(.isDeduplicated) {
            record.flags.insert(.isDeduplicated)
            record.detail = wallMilliseconds
        }
        let reference = store.write(record, extra: extra, headers: message.headers, body: message.body)
        addCold(index, store.coldPlace(reference.position, byteCount: record.recordByteCount), isTransient: !isStored)
    }

    private mutating func addCold(_ index: Index<Queue>, _ place: ColdPlace, isTransient: Bool) {
        let coldIndex = queues[index].pointee.cold
        cold.append(place, to: coldIndex, isTransient: isTransient)
        queues.addCold(index, byteCount: cold.byteCount(of: place, in: coldIndex), clock: clock)
        counters.messagesCooled &+= 1
    }

    // MARK: What waits behind

    /// So many entries become cold in a turn at most.
    private static var movesPerTurnMax: Int { 4096 }

    /// Entries that wait behind the cold ones become cold too, as far as they are in the log or can be written to it.
    mutating func moveBehind(_ index: Index<Queue>) {
        let coldIndex = queues[index].pointee.cold
        for _ in 0..<Self.movesPerTurnMax {
            let entry = queues[index].pointee.behind.first
            guard !entry.isNone, !store.hasFailed, !store.hasEnded, queues[index].pointee.storage != .never,
                cold.hasRoom(coldIndex)
            else { return }
            guard let place = placeOfBehind(entry) else { return cold.block(coldIndex) }
            let isTransient = !queues[entry].pointee.isStored
            cold.append(place, to: coldIndex, isTransient: isTransient)
            queues.freeBehind(index, coldByteCount: cold.byteCount(of: place, in: coldIndex), &memory)
            counters.messagesCooled &+= 1
        }
        if !queues[index].pointee.behind.isEmpty { cold.list(coldIndex) }
    }

    /// nil: it cannot be written now.
    private mutating func placeOfBehind(_ entry: Index<Entry>) -> ColdPlace? {
        if queues[entry].pointee.isStored {
            let place = memory.place(of: queues[entry].pointee.message).pointee
            return place.position == 0 ? nil : store.coldPlace(place)
        }
        var record = record(of: entry)
        guard case .open = store.admission(record.recordByteCount) else { return nil }
        record.flags.insert(.isTransient)
        // The next life does not have the message, and so must not know its id.
        record.flags.remove(.isDeduplicated)
        record.detail = 0
        return store.coldPlace(store.write(record).position, byteCount: record.recordByteCount)
    }

    // MARK: Limits

    /// The queue takes a message beyond its limits: its oldest are to make room, and have to be read first.
    mutating func mayExceed(_ index: Index<Queue>, _ byteCount: Int) -> Bool {
        let queue = queues[index]
        return queue.pointee.overflow == .dropOldest && !queue.pointee.cold.isNone
            && UInt64(byteCount) <= queue.pointee.byteCountMax
    }

    /// The oldest messages are to be dropped.
    mutating func isOver(_ index: Index<Queue>) -> Bool {
        let queue = queues[index]
        guard queue.pointee.overflow == .dropOldest else { return false }
        // In the log each counts as up to 63 bytes more than it is.
        let slack = queue.pointee.cold.isNone ? 0 : UInt64(cold[queue.pointee.cold].pointee.count) * 63
        return queue.pointee.messageCount > queue.pointee.messageCountMax
            || queue.pointee.byteCount > queue.pointee.byteCountMax + slack
    }

    /// Drops the oldest ready messages while there are more than may be.
    mutating func dropSurplus(_ index: Index<Queue>) {
        if destinations[queues[index].pointee.destination].pointee.marks.contains(.durableQueue) {
            return dropSurplusOfDurable(index)
        }
        while !queues[index].pointee.isClosed, isOver(index), case let first = queues[index].pointee.ready.first,
            !first.isNone
        {
            deadLetter(first, reason: "maxlen")
        }
    }

    // MARK: The end of a queue, or of its cold part

    /// Drops messages that are in the log alone, the oldest first, at most so many, without reading them. Returns how many.
    mutating func dropCold(_ index: Index<Queue>, atMost countMax: Int = .max) -> Int {
        let coldIndex = queues[index].pointee.cold
        if coldIndex.isNone { return 0 }
        let host = store.hosts.number(of: nameOf(queues[index].pointee.destination))
        var count = 0
        while count < countMax, let place = cold.first(coldIndex) {
            let byteCount = cold.byteCount(of: place, in: coldIndex)
            cold.removeFirst(coldIndex, isTransient: nil)
            queues.removeCold(index, byteCount: byteCount)
            store.acknowledge(store.segment(place.segment).stored(at: place, host: host))
            count += 1
        }
        if cold[coldIndex].pointee.count == 0 { endCold(index) }
        return count
    }

    /// All messages of the queue are in memory.
    mutating func endCold(_ index: Index<Queue>) {
        let coldIndex = queues[index].pointee.cold
        queues.endCold(index, &timers, at: moment)
        cold.end(coldIndex)
        dropSurplus(index)
    }

    /// Messages of the queue that are in the log alone, or in memory behind these; and those that another life will find, of
    /// these.
    mutating func coldCounts(_ index: Index<Queue>) -> (all: Int, stored: Int) {
        let coldIndex = queues[index].pointee.cold
        if coldIndex.isNone { return (0, 0) }
        let behind = queues.behindCounts(index)
        let record = cold[coldIndex].pointee
        return (Int(record.count) + behind.all, Int(record.count - record.transientCount) + behind.stored)
    }

    // MARK: Restoring

    /// A message of an earlier life, of a queue that this shard holds: it stays where it is, and nothing of it is read now.
    /// nil: it is to be read, and restored to memory.
    ///
    /// Those of a queue come in its order. `LiveMessages.forEach` gives them so.
    public mutating func restoreCold(
        _ message: LiveMessage, queueName: UnsafeRawBufferPointer
    ) -> RestoreOutcome? {
        guard let earlier = store.options.earlier, !message.isSpecial, !isOfEndedDurable(queueName) else { return nil }
        guard let index = restoredQueue(queueName) else { return .tooMany }
        if queues[index].pointee.cold.isNone {
            guard hasEnoughReady(index) else { return nil }
            guard beginCold(index) else { return .tooMany }
        }
        guard cold.hasRoom(queues[index].pointee.cold) else { return .tooMany }
        guard let segment = earlier.index(of: message.reference) else {
            invariant(false, "a restored message is in a segment of an earlier life")
            return nil
        }
        let place = store.coldPlace(message.position, in: segment, earlier, message.size)
        addCold(index, place, isTransient: false)
        if message.isMarked { cold.failures[place.bits] = message.failureCount }
        store.countRestored(message.size.byteCount, store.hosts.number(of: queueName))
        cold.list(queues[index].pointee.cold)
        return .restored
    }
}
