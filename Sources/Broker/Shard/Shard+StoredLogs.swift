import Journal
import STOMP
import Slabs

// What topics keep, in the log of the worker: messages like those of queues, with the topic's name and a flag, and records of
// offsets. Trimming is an acknowledgement.
extension Shard {
    // MARK: Messages

    /// Writes a message that a topic keeps, now or with the group that is open.
    mutating func keep(_ kept: KeptMessage) {
        if store.hasFailed { return }
        if store.isGrouping { return store.operations.append(.kept(kept)) }
        writeKept(kept)
    }

    mutating func writeKept(_ kept: KeptMessage) {
        let record = record(of: kept)
        setPlace(of: kept, store.write(record), record)
    }

    /// The same within a group.
    mutating func write(_ kept: KeptMessage, with writer: UnsafeMutablePointer<RecordWriter>) {
        let record = record(of: kept)
        setPlace(of: kept, writer.pointee.write(record), record)
        store.countStored(record)
    }

    mutating func record(of kept: KeptMessage) -> MessageRecord {
        let message = memory.stored(kept.message, identity: kept.identity, expiresAt: kept.expiresAt)
        var flags: RecordFlags = kept.milliseconds != 0 ? .isLogged : .isRetained
        if message.isPlain { flags.insert(.isPlain) }
        if message.carriesDestination { flags.insert(.carriesDestination) }
        var record = MessageRecord(
            queueName: nameOf(kept.destination), identity: kept.identity, expiresAt: kept.expiresAt, flags: flags,
            content: message.headers, headersByteCount: message.headersByteCount, bodyByteCount: message.bodyByteCount)
        record.detail = kept.milliseconds
        return record
    }

    private mutating func setPlace(of kept: KeptMessage, _ reference: MessageReference, _ record: MessageRecord) {
        memory.place(of: kept.message).pointee = StoredPlace(
            position: reference.position, orderKey: record.orderKey == 0 ? reference.position : record.orderKey,
            worker: reference.worker, host: store.hosts.number(of: record.queueName),
            byteCount: UInt32(record.recordByteCount), earlierSegment: -1)
    }

    /// A stored message is kept no more.
    mutating func acknowledgeKept(_ message: BlockIndex) {
        let place = memory.place(of: message).pointee
        if place.position == 0 { return store.dropFromGroup(kept: message) }
        store.acknowledge(place)
    }

    // MARK: Offsets

    /// Writes a record that reserves offsets, where one is due.
    mutating func reserveOffsets(_ log: Index<TopicLog>) {
        guard !store.hasFailed, let end = topicLogs.offsetsToReserve(log) else { return }
        let segment = store.write(topicOffsets: nameOf(topicLogs[log].pointee.destination), below: end)
        if let former = topicLogs.reserve(log, below: end, at: store.staging.endPosition, segment: segment) {
            store.unpin(former)
        }
    }

    /// The log of the worker is durable a bit further: publishes what has waited for that.
    mutating func publishReserved() {
        while case let log = topicLogs.takeReserved(durable: store.durablePosition), !log.isNone { publishDue(log) }
    }

    /// The broker ends in order: the next life goes on with the next offset.
    mutating func writeFinalOffsets() {
        guard store.isEnabled, !store.hasFailed else { return }
        var log = topicLogs.nextLog(after: .none)
        while !log.isNone {
            writeOffsets(of: log, below: topicLogs[log].pointee.next)
            log = topicLogs.nextLog(after: log)
        }
    }

    private mutating func writeOffsets(of log: Index<TopicLog>, below end: UInt64) {
        let segment = store.write(topicOffsets: nameOf(topicLogs[log].pointee.destination), below: end)
        if let former = topicLogs.moveRecord(log, to: segment) { store.unpin(former) }
    }

    // MARK: Compaction

    private static var keptPerCompactionMax: Int { 1024 }

    /// Writes what topics keep in the segments at the front again, as `compactStore` does with messages of queues. True: there
    /// is more to look through.
    mutating func compactKept(_ byteCount: inout Int, byteCountMax: Int) -> Bool {
        var state = topicLogs.compaction ?? LogCompaction(log: topicLogs.nextLog(after: .none))
        var count = 0
        while !state.log.isNone {
            let entries = topicLogs[state.log].pointee.entries
            var place = entries.index(atOrBehind: state.offset)
            while place < entries.count, count < Self.keptPerCompactionMax, byteCount < byteCountMax {
                let entry = entries[place]
                if entry.isStored {
                    byteCount += writeAgain(
                        KeptMessage(
                            message: entry.message, destination: topicLogs[state.log].pointee.destination,
                            identity: entry.identity, expiresAt: entry.expiresAt, milliseconds: entry.milliseconds))
                }
                state.offset = entry.offset + 1
                place += 1
                count += 1
            }
            if place < entries.count {
                topicLogs.compaction = state
                return true
            }
            if topicLogs[state.log].pointee.hasRecord, topicLogs[state.log].pointee.segment == store.firstNeeded {
                writeOffsets(of: state.log, below: topicLogs.offsetEnd(state.log))
            }
            state = LogCompaction(log: topicLogs.nextLog(after: state.log))
        }
        while case let next = topicLogs.nextRetained(after: state.retained), !next.isNone {
            guard count < Self.keptPerCompactionMax, byteCount < byteCountMax else {
                topicLogs.compaction = state
                return true
            }
            let message = topicLogs[next].pointee
            if message.isStored {
                byteCount += writeAgain(
                    KeptMessage(
                        message: message.message, destination: message.destination, identity: message.identity,
                        expiresAt: message.expiresAt, milliseconds: 0))
            }
            state.retained = next
            count += 1
        }
        topicLogs.compaction = nil
        return false
    }

    /// Returns how many bytes it took.
    private mutating func writeAgain(_ kept: KeptMessage) -> Int {
        let place = memory.place(of: kept.message).pointee
        guard store.isAtFront(place) else { return 0 }
        var record = record(of: kept)
        record.flags.insert(.isCopy)
        record.orderKey = place.orderKey
        record.original = place.reference
        setPlace(of: kept, store.write(record), record)
        store.release(place)
        return record.recordByteCount
    }

    // MARK: Restoring

    /// The log of a topic that this shard owns: lower offsets may have been given out. Before its messages.
    public mutating func restore(topicName name: UnsafeRawBufferPointer, offsetEnd: UInt64) -> RestoreOutcome {
        invariant(store.isEnabled, "logs are restored to a store")
        let index = topicForElsewhere(name)
        if index.isNone { return .tooMany }
        // Its policy keeps a log no more: the offsets are forgotten, too.
        guard destinations[index].pointee.isLogged else { return .restored }
        let log = logOf(index)
        if log.isNone { return .tooMany }
        topicLogs.begin(log, at: offsetEnd)
        reserveOffsets(log)
        return .restored
    }

    /// A message of an earlier life that a topic keeps. What is retained comes to all shards, what is in a log to its owner.
    mutating func restoreKept(_ message: RecoveredMessage) -> RestoreOutcome {
        let record = message.record
        let index = topicForElsewhere(record.queueName)
        guard !index.isNone, destinations[index].pointee.kind == .topic else { return .tooMany }
        if !destinations[index].pointee.isSequenced { sequence(index) }
        let isOwner = Int(destinations[index].pointee.owner) == self.index
        let isRetained = record.flags.contains(.isRetained)
        if !isOwner, !isRetained { return .restored }
        if isRetained, destinations[index].pointee.retained.isNone, !topicLogs.hasRecordToRetain {
            return .tooManyRetained
        }
        let content = Message(
            headers: record.content, headersByteCount: record.headersByteCount,
            body: record.content + record.headersByteCount + 1, bodyByteCount: record.bodyByteCount,
            isPlain: record.flags.contains(.isPlain), carriesDestination: record.flags.contains(.carriesDestination),
            isPersistent: true, identity: record.identity, expiresAt: record.expiresAt)
        if !isRetained { makeRoomInLogs(content.contentByteCount) }
        let block = isOwner ? memory.storeForLog(content) : memory.store(content)
        if block == 0 { return .noMemory }
        if isOwner {
            let place = StoredPlace(
                position: message.reference.position, orderKey: record.orderKey, worker: message.reference.worker,
                host: store.hosts.number(of: record.queueName), byteCount: UInt32(record.recordByteCount),
                earlierSegment: Int32(store.options.earlier?.index(of: message.reference) ?? -1))
            invariant(place.earlierSegment >= 0, "a restored message is in a segment of an earlier life")
            memory.place(of: block).pointee = place
            store.countRestored(Int(place.byteCount), place.host)
        }
        if isRetained {
            changeRetained(index, content, .set, block)
        } else if !restoreEntry(index, content, block, milliseconds: record.detail) {
            acknowledgeKept(block)
            memory.blocks.release(block)
        }
        return .restored
    }

    /// False: the topic keeps no log any more, or the message has no offset.
    private mutating func restoreEntry(
        _ index: Index<Destination>, _ message: Message, _ block: BlockIndex, milliseconds: UInt64
    ) -> Bool {
        let log = logOf(index)
        guard !log.isNone, let offset = offset(of: message) else { return false }
        if topicLogs[log].pointee.millisecondsMax != 0 { armLogTimer() }
        let entry = LogEntry(
            offset: offset, milliseconds: milliseconds, identity: message.identity, expiresAt: message.expiresAt,
            message: block, retained: 0, retain: .none, isStored: true)
        return topicLogs.restore(log, entry, byteCount: memory.blocks.capacity(block))
    }

    /// The offset that the message's header lines tell.
    private mutating func offset(of message: Message) -> UInt64? {
        var message = message
        message.removeDestination()
        let lines = UnsafeRawBufferPointer(start: message.headers, count: message.headersByteCount)
        guard begins(lines, with: "x-stream-offset:"), let end = lines.firstIndex(of: UInt8(ascii: "\n")) else {
            return nil
        }
        return decimal(UnsafeRawBufferPointer(rebasing: lines[16..<end]))
    }
}
