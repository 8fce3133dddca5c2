extension Recovery {
    /// What an intact record changes.
    ///
    /// - Parameters:
    ///   - unit: its place in the newest segment.
    ///   - transaction: that it is a part of, if that has parts in several logs.
    mutating func apply(_ record: Record, unit: UInt32, transaction: UInt64?) {
        let log = logs.count - 1
        counts.add(record)
        logs[log].isClean = record.type == .cleanEnd
        switch record.type {
        case .message: apply(record.message, record.reference, unit: unit, transaction: transaction)
        case .acknowledgement:
            for index in 0..<record.referenceCount { acknowledge(record.reference(at: index), transaction) }
        case .failureCount:
            let reference = record.reference(at: 0)
            let count = UInt16(truncatingIfNeeded: record.detail)
            if let transaction, !transactions[transaction]!.isCommitted {
                transactions[transaction]!.failures.append((reference, count))
            } else {
                setFailureCount(count, of: reference)
            }
        case .queueMade: make(record.queue.queueName, record, isSubscription: false)
        case .subscriptionMade: make(record.subscription.name, record, isSubscription: true)
        case .queueRemoved, .subscriptionRemoved: unmake(queues.find(record.payload))
        case .topicOffsets: setOffsets(queues.find(record.payload), below: record.detail)
        case .transactionEnd: sealTransaction(record.detail)
        case .deduplication: deduplication.add(record.deduplication)
        case .mark: logs[log].firstSequenceNeeded = max(logs[log].firstSequenceNeeded, record.firstSequence)
        case .segmentHeader, .segmentEnd, .transactionPart, .cleanEnd, .skip: break
        }
    }

    private mutating func make(_ name: UnsafeRawBufferPointer, _ record: Record, isSubscription: Bool) {
        let queue = queues.find(name)
        unmake(queue)
        queues[queue].made = [UInt8](record.payload)
        queues[queue].isSubscription = isSubscription
        queues[queue].madeSegment = segments.count - 1
        segments[segments.count - 1].liveQueueCount += 1
    }

    private mutating func unmake(_ queue: UInt32) {
        guard queues[queue].made != nil else { return }
        queues[queue].made = nil
        segments[queues[queue].madeSegment].liveQueueCount -= 1
    }

    private mutating func setOffsets(_ topic: UInt32, below offset: UInt64) {
        if queues[topic].offsetEnd != nil { segments[queues[topic].offsetSegment].liveQueueCount -= 1 }
        queues[topic].offsetEnd = offset
        queues[topic].offsetSegment = segments.count - 1
        segments[segments.count - 1].liveQueueCount += 1
    }

    // MARK: Messages

    private mutating func apply(
        _ message: MessageRecord, _ reference: MessageReference, unit: UInt32, transaction: UInt64?
    ) {
        if message.flags.contains(.isCopy) { acknowledge(message.original, transaction) }
        if message.flags.contains(.isDeduplicated), let id = deduplication.id(of: message) {
            if let transaction, !transactions[transaction]!.isCommitted {
                transactions[transaction]!.deduplicated.append(id)
            } else {
                deduplication.add(id)
            }
        }
        if !early.isEmpty, early.remove(reference) != nil { return }
        if message.flags.contains(.isTransient) { return }
        let queue = queues.find(message.queueName)
        queues[queue].messageCount += 1
        let newest = segments.count - 1
        segments[newest].append(
            LiveEntry(
                unit: unit, size: RecordSize(byteCount: message.recordByteCount),
                queue: LiveMessages.place(queue: queue, message.flags),
                isRedelivered: message.flags.contains(.isRedelivered)),
            orderKey: message.orderKey == reference.position ? nil : message.orderKey)
        let key = LiveMessages.key(segment: newest, unit: unit)
        if message.failureCount > 0 { failures[key] = message.failureCount }
        let place = LiveMessages.place(queue: queue, message.flags)
        if place >= LiveEntry.queueMax { queueNumbers[key] = place }
    }

    /// The message of that record lives no more.
    private mutating func kill(_ segment: Int, _ unit: UInt32) {
        guard let entry = segments[segment].kill(unit) else { return }
        let key = LiveMessages.key(segment: segment, unit: unit)
        var queue = entry.queue
        if queue == LiveEntry.queueMax, let number = queueNumbers.removeValue(forKey: key) {
            queue = LiveMessages.queue(of: number)
        }
        queues[queue].messageCount -= 1
        if !failures.isEmpty { failures[key] = nil }
    }

    private mutating func acknowledge(_ reference: MessageReference, _ transaction: UInt64?) {
        if let transaction, !transactions[transaction]!.isCommitted {
            transactions[transaction]!.acknowledged.append(reference)
            return
        }
        guard let segment = segmentIndex(of: reference) else {
            let log = logs[logs.count - 1]
            if JournalFormat.life(of: reference.position) == log.life, reference.worker > log.worker {
                early.insert(reference)
            }
            return
        }
        kill(segment.index, segment.unit)
    }

    private mutating func setFailureCount(_ count: UInt16, of reference: MessageReference) {
        guard let segment = segmentIndex(of: reference) else { return }
        guard segments[segment.index].isLive(segment.unit) else { return }
        failures[LiveMessages.key(segment: segment.index, unit: segment.unit)] = count
    }

    /// The segment in which a record would be, and its place there. nil: the segment was not read, or is freed.
    private func segmentIndex(of reference: MessageReference) -> (index: Int, unit: UInt32)? {
        let life = JournalFormat.life(of: reference.position)
        guard let log = logIndex(life: life, worker: reference.worker), logs[log].segmentByteCount != 0 else {
            return nil
        }
        let offset = JournalFormat.offset(of: reference.position)
        let sequence = offset / logs[log].segmentByteCount
        var low = logs[log].firstSegment
        let end = low + logs[log].segmentCount
        // Where no segment is missing, it is at once the right one.
        let guess = low + sequence - Int(segments[low].name.sequence)
        if guess >= low, guess < end, Int(segments[guess].name.sequence) == sequence {
            low = guess
        } else {
            guard let found = (low..<end).first(where: { Int(segments[$0].name.sequence) == sequence }) else {
                return nil
            }
            low = found
        }
        return (low, UInt32(offset % logs[log].segmentByteCount / JournalFormat.unitByteCount))
    }

    private func logIndex(life: UInt32, worker: UInt16) -> Int? {
        var low = 0
        var high = logs.count
        while low < high {
            let middle = (low + high) / 2
            if (logs[middle].life, logs[middle].worker) < (life, worker) { low = middle + 1 } else { high = middle }
        }
        guard low < logs.count, logs[low].life == life, logs[low].worker == worker else { return nil }
        return low
    }

    // MARK: Transactions

    /// A part whose records are all intact.
    mutating func applyPart(_ head: Record, _ bytes: UnsafeRawBufferPointer, from start: Int) {
        let transaction = head.partCount == 1 && head.conditions.isEmpty ? nil : head.transaction
        let end = start + Int(head.detail)
        counts.otherCount += 1
        logs[logs.count - 1].isClean = false
        if let transaction { addPart(transaction, head, from: start, to: end) }
        var offset = start
        while offset < end, let record = try? record(bytes, at: offset) {
            apply(record, unit: UInt32(offset / JournalFormat.unitByteCount), transaction: transaction)
            offset += record.byteCount
        }
        if let transaction { commitIfComplete(transaction) }
    }

    private mutating func addPart(_ transaction: UInt64, _ head: Record, from start: Int, to end: Int) {
        let log = logs[logs.count - 1]
        var state = transactions[transaction] ?? TransactionState()
        state.partCount = min(state.partCount, head.partCount)
        // Its part in this log was read before. If nothing is known of it, it never was complete: else this log would say
        // so of this transaction, too.
        for condition in [head.conditions.first, head.conditions.second] where condition != 0 {
            if transactions[condition]?.isCommitted != true { state.conditions.insert(condition) }
        }
        if !state.conditions.isEmpty { conditionalTransactions.insert(transaction) }
        state.parts.append(
            TransactionState.Part(
                segment: segments.count - 1, firstUnit: UInt32(start / JournalFormat.unitByteCount),
                endUnit: UInt32(end / JournalFormat.unitByteCount), life: log.life, worker: log.worker))
        transactions[transaction] = state
    }

    private mutating func commitIfComplete(_ transaction: UInt64) {
        guard let state = transactions[transaction], !state.isCommitted, state.parts.count >= state.partCount,
            state.conditions.isEmpty
        else { return }
        commit(transaction)
    }

    private mutating func commit(_ transaction: UInt64) {
        guard let state = transactions[transaction], !state.isCommitted else { return }
        transactions[transaction]!.isCommitted = true
        transactions[transaction]!.acknowledged = []
        transactions[transaction]!.failures = []
        transactions[transaction]!.deduplicated = []
        for (reference, count) in state.failures { setFailureCount(count, of: reference) }
        for reference in state.acknowledged { acknowledge(reference, nil) }
        for id in state.deduplicated { deduplication.add(id) }
        if !conditionalTransactions.isEmpty { fulfil(transaction) }
    }

    /// The transaction counts: so may others whose condition it is.
    private mutating func fulfil(_ condition: UInt64) {
        conditionalTransactions.remove(condition)
        for transaction in conditionalTransactions.sorted() {
            if transactions[transaction]?.conditions.remove(condition) != nil { commitIfComplete(transaction) }
        }
    }

    /// A log says that the transaction is complete.
    private mutating func sealTransaction(_ transaction: UInt64) {
        let log = logs[logs.count - 1]
        commit(transaction)
        // Parts in logs that are read later find it here.
        var state = transactions[transaction] ?? TransactionState()
        state.isCommitted = true
        for index in state.parts.indices {
            let part = state.parts[index]
            if part.life < log.life || part.life == log.life && part.worker == log.worker {
                state.parts[index].isSealed = true
            }
        }
        // All of them are known, and know it: nothing asks for it any more.
        let isDone = state.parts.count >= state.partCount && state.parts.allSatisfy(\.isSealed)
        transactions[transaction] = isDone ? nil : state
    }

    /// Drops the messages of transactions of which parts are missing.
    mutating func resolveTransactions() {
        for state in transactions.values where !state.isCommitted {
            for part in state.parts {
                for unit in part.firstUnit..<part.endUnit { kill(part.segment, unit) }
            }
        }
    }

    func unsealedTransactions() -> [UInt64] {
        transactions.filter { $0.value.isCommitted && $0.value.parts.contains { !$0.isSealed } }.map(\.key).sorted()
    }
}
