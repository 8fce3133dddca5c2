import Journal
import Slabs

// Delayed messages in the log.
extension Shard {
    mutating func keepDelayed(_ index: Index<DelayedMessage>) {
        if store.hasFailed { return }
        if store.isGrouping { return store.operations.append(.delayed(delays.handle(index))) }
        let record = record(of: index)
        setPlace(of: index, store.write(record), record)
    }

    /// A delayed message as the log has it.
    mutating func record(of index: Index<DelayedMessage>) -> MessageRecord {
        let delayed = delays[index]
        let message = memory.stored(
            delayed.pointee.message, identity: delayed.pointee.identity, expiresAt: delayed.pointee.expiresAt)
        let line = scheduleLine(message)
        var flags: RecordFlags = .isDelayed
        if message.isPlain { flags.insert(.isPlain) }
        if message.carriesDestination { flags.insert(.carriesDestination) }
        if message.options.contains(.isDeduplicated) { flags.insert(.isDeduplicated) }
        // Of one that is written again: that segment's life may say so no more.
        if delayed.pointee.mayHaveBeenDelivered { flags.insert(.isRedelivered) }
        var record = MessageRecord(
            queueName: line.destination, identity: message.identity, expiresAt: message.expiresAt, flags: flags,
            content: message.headers, headersByteCount: message.headersByteCount, bodyByteCount: message.bodyByteCount)
        record.detail = line.acceptedAt
        return record
    }

    /// - Parameter record: that is at the place.
    mutating func setPlace(of index: Index<DelayedMessage>, _ reference: MessageReference, _ record: MessageRecord) {
        memory.place(of: delays[index].pointee.message).pointee = StoredPlace(
            position: reference.position, orderKey: record.orderKey == 0 ? reference.position : record.orderKey,
            worker: reference.worker, host: store.hosts.number(of: record.queueName),
            byteCount: UInt32(record.recordByteCount), earlierSegment: -1)
    }

    /// What a group has of a message, delayed or not.
    mutating func record(of operation: GroupOperation) -> MessageRecord {
        switch operation {
        case .message(let handle): return record(of: handle.index)
        case .delayed(let handle): return record(of: handle.index)
        case .kept, .acknowledgement, .failure, .nothing: invariant(false, "the operation has a record of a message")
        }
        return record(of: Index<Entry>.none)
    }

    mutating func setPlace(of operation: GroupOperation, _ reference: MessageReference, _ record: MessageRecord) {
        switch operation {
        case .message(let handle): setPlace(of: handle.index, reference, record)
        case .delayed(let handle): setPlace(of: handle.index, reference, record)
        case .kept, .acknowledgement, .failure, .nothing: break
        }
    }

    mutating func acknowledgeDelayed(_ delayed: DelayedMessage) {
        let place = memory.place(of: delayed.message).pointee
        // Where the log has failed it was never written.
        if place.position != 0 { store.acknowledge(place) }
    }

    mutating func placeOfDelayed(_ delayed: DelayedMessage) -> StoredPlace? {
        delayed.isStored ? memory.place(of: delayed.message).pointee : nil
    }

    /// A message that is due goes where its SEND would have put it. It does so only if its SEND counts: the transaction that
    /// brought it here may not be complete yet.
    ///
    /// - Parameter copies: what other workers store of it, if any do.
    mutating func endMove(_ group: OpenGroup, from place: StoredPlace?, copies: StoredParts? = nil) {
        var conditions = PartConditions()
        if let place, store.hasOperations(from: group.first) {
            conditions = PartConditions(store.incompleteTransaction(of: place), 0)
        }
        if let copies {
            return endGroup(
                group, transaction: copies.transaction, partCount: UInt16(copies.participants.count),
                conditions: conditions, holdsReceipts: true)
        }
        if conditions.isEmpty { return endGroup(group) }
        var participants = PeerSet()
        participants.set(index, true)
        endGroup(
            group, transaction: store.beginTransaction(participants), conditions: conditions, holdsReceipts: true)
    }

    /// A stored message for a topic is due, and other workers store it for durable subscriptions: all of that, and that it is
    /// delayed no more, counts together. nil: nobody else stores it.
    mutating func beginCopies(_ delayed: DelayedMessage, for topic: Index<Destination>) -> StoredParts? {
        guard durables.isUsed, delayed.isStored, !store.hasFailed else { return nil }
        var participants = storingWorkers(of: topic, isPersistent: true)
        participants.set(index, false)
        if participants.isEmpty { return nil }
        participants.set(index, true)
        let parts = StoredParts(
            transaction: store.beginTransaction(participants), participants: participants, group: nil)
        peers.keepsTogether = true
        tellParts(parts, isEnd: false, holdsReceipts: true)
        return parts
    }

    mutating func endCopies(_ parts: StoredParts?) {
        guard let parts else { return }
        tellParts(parts, isEnd: true, holdsReceipts: true)
        peers.keepsTogether = false
    }

    /// Whether a stored message for a topic that is due would be published at once. If the topic has a log and its next offset is
    /// not reserved, it would wait there, and be delayed no more before durable subscriptions have it.
    mutating func publishesAtOnce(_ delayed: DelayedMessage, to topic: Index<Destination>) -> Bool {
        guard durables.isUsed, delayed.isStored, destinations[topic].pointee.isLogged else { return true }
        let log = logOf(topic)
        if log.isNone { return true }
        reserveOffsets(log)
        if topicLogs.publishesNext(log) { return true }
        topicLogs.awaitsReservation = true
        store.hasWork = true
        return false
    }

    /// A delayed message of an earlier life.
    mutating func restoreDelayed(_ recovered: RecoveredMessage, _ place: StoredPlace) -> RestoreOutcome {
        let record = recovered.record
        let message = Message(
            headers: record.content, headersByteCount: record.headersByteCount,
            body: record.content + record.headersByteCount + 1, bodyByteCount: record.bodyByteCount,
            isPlain: record.flags.contains(.isPlain), carriesDestination: record.flags.contains(.carriesDestination),
            isPersistent: true, options: .isDelayed, identity: record.identity, expiresAt: record.expiresAt)
        let line = scheduleLine(message)
        var queue = Index<Queue>.none
        if !isTopic(line.destination) {
            guard let index = restoredQueue(line.destination) else { return .tooMany }
            queue = index
        }
        let block = memory.storeForLog(message)
        if block == 0 { return .noMemory }
        memory.place(of: block).pointee = place
        let byteCount = message.contentByteCount - line.byteCount
        let keepsRoom = self.keepsRoom(line, byteCount, in: queue)
        let held = delays.hold(
            block, message, for: queue.isNone ? .none : queues.handle(queue), dueAt: line.schedule.dueAt,
            byteCount: byteCount, isStored: true, keepsRoom: keepsRoom, order: place.orderKey,
            mayHaveBeenDelivered: record.flags.contains(.isRedelivered) && line.schedule.dueAt <= wallMilliseconds)
        guard !held.isNone else {
            memory.blocks.release(block)
            return .tooMany
        }
        if keepsRoom { keepRoom(in: queue, byteCount: byteCount) }
        store.countRestored(Int(place.byteCount), place.host)
        armDelays()
        return .restored
    }

    /// Writes delayed messages of the segments at the front again, at the end of the log. False: some are left.
    mutating func compactDelays(entryCountMax: Int, byteCountMax: Int) -> Bool {
        var byteCount = 0
        for _ in 0..<entryCountMax where byteCount < byteCountMax {
            let index = delays.nextLive(after: delays.compaction)
            delays.compaction = index
            if index.isNone { return true }
            guard delays[index].pointee.isStored else { continue }
            let place = memory.place(of: delays[index].pointee.message).pointee
            guard store.isAtFront(place) else { continue }
            var record = record(of: index)
            record.flags.insert(.isCopy)
            record.flags.remove(.isDeduplicated)
            record.orderKey = place.orderKey
            record.original = place.reference
            setPlace(of: index, store.write(record), record)
            store.release(place)
            byteCount += record.recordByteCount
        }
        return false
    }
}
