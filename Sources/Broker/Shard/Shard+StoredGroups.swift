import Journal
import Slabs

// What counts together or not at all in the log: a COMMIT, the move of a dead letter.
extension Shard {
    /// What is stored from here to `endGroup` counts together or not at all. Nothing is delivered meanwhile.
    ///
    /// Returns what `endGroup` is told.
    mutating func beginGroup() -> OpenGroup {
        defer { isDispatching = true }
        return OpenGroup(
            first: store.beginGroup(), wasDispatching: isDispatching, firstID: deduplication.nextNumber)
    }

    /// - Parameters:
    ///   - transaction: whose part the group is, if it has parts with other workers.
    ///   - conditions: see `PartConditions`. If there are any, there is a transaction, and something to write.
    ///   - isJoined: the group is a part of the one around it.
    ///   - holdsReceipts: see `OpenPart.holdsReceipts`.
    mutating func endGroup(
        _ group: OpenGroup, transaction: UInt64 = 0, partCount: UInt16 = 1,
        conditions: PartConditions = PartConditions(), isJoined: Bool = false, holdsReceipts: Bool = false
    ) {
        if !store.hasFailed, !isJoined {
            let position = writeGroup(group.first, transaction, partCount, conditions)
            if partCount > 1 || !conditions.isEmpty {
                store.opened(
                    part: transaction, at: position, holdsReceipts: holdsReceipts, conditions: conditions,
                    ids: group.firstID..<deduplication.nextNumber)
                if store.isGivenUp(conditions) { giveUp(transaction) }
            }
        }
        // This worker's part will never be: nor will the others count.
        if store.hasFailed, !isJoined, partCount > 1 { giveUp(transaction) }
        store.endGroup(isJoined ? store.operations.count : group.first)
        if !store.isGrouping, !deadLettersDue.isEmpty { deadLetterDue(behind: partCount > 1 ? transaction : 0) }
        isDispatching = group.wasDispatching
        if !isDispatching { dispatchWhatWaits() }
    }

    /// What was refused or failed too often within the group, which has put it back: its move is a group of its own, and does
    /// not count unless the transaction does.
    private mutating func deadLetterDue(behind transaction: UInt64) {
        let due = deadLettersDue
        deadLettersDue.removeAll(keepingCapacity: true)
        for one in due where queues.isReady(one.entry) {
            deadLetter(
                one.entry.index, reason: one.reason, isKeptOtherwise: one.isKeptOtherwise, behind: transaction)
        }
    }

    /// Returns where it begins.
    private mutating func writeGroup(
        _ first: Int, _ transaction: UInt64, _ partCount: UInt16, _ conditions: PartConditions
    ) -> LogPosition {
        let size = sizeOfGroup(first)
        if size.count == 0, partCount == 1 { return store.staging.endPosition }
        let isPart = size.count > 1 || partCount > 1 || !conditions.isEmpty
        let byteCount = size.byteCount + (isPart ? RecordWriter.partByteCount : 0)
        guard store.fitsSegment(byteCount) else {
            defer { writeLargeGroup(first) }
            return store.staging.endPosition
        }
        let writer = store.staging.room(byteCount, store.milliseconds)
        let position = writer.pointee.position
        if isPart {
            writer.pointee.beginPart(transaction: transaction, partCount: partCount, conditions: conditions)
        }
        let acknowledgedBefore = store.groupAcknowledged.count
        for place in first..<store.operations.count {
            switch store.operations[place] {
            case .message, .delayed:
                let record = record(of: store.operations[place])
                setPlace(of: store.operations[place], writer.pointee.write(record), record)
                store.countStored(record)
            case .kept(let kept): write(kept, with: writer)
            case .failure(let count, let reference): writer.pointee.write(failureCount: count, of: reference)
            case .acknowledgement(let place): store.groupAcknowledged.append(place.reference)
            case .nothing: break
            }
        }
        store.writeGroupAcknowledged(writer, from: acknowledgedBefore)
        if isPart { writer.pointee.endPart() }
        store.didWrite()
        countGroup(first)
        return position
    }

    private mutating func sizeOfGroup(_ first: Int) -> (count: Int, byteCount: Int) {
        var count = 0
        var byteCount = 0
        var acknowledgedCount = 0
        for place in first..<store.operations.count {
            switch store.operations[place] {
            case .message, .delayed:
                byteCount += record(of: store.operations[place]).recordByteCount
                count += 1
            case .kept(let kept):
                byteCount += record(of: kept).recordByteCount
                count += 1
            case .failure:
                byteCount += RecordWriter.acknowledgementByteCount(1)
                count += 1
            case .acknowledgement: acknowledgedCount += 1
            case .nothing: break
            }
        }
        if acknowledgedCount > 0 {
            byteCount += RecordWriter.acknowledgementByteCount(acknowledgedCount)
            count += 1
        }
        return (count, byteCount)
    }

    /// After the group is written: messages live in its segment, and others live no more.
    private mutating func countGroup(_ first: Int) {
        for place in first..<store.operations.count {
            switch store.operations[place] {
            case .message, .delayed, .kept: store.count(store.staging.sequence)
            case .acknowledgement(let place): store.release(place)
            case .failure, .nothing: break
            }
        }
    }

    /// A group that is larger than a segment, which COMMIT does not let happen: its records count for themselves.
    private mutating func writeLargeGroup(_ first: Int) {
        notice(
            .storageFailed,
            "what belongs together does not fit into a segment, and is stored piece by piece (storage.segment-bytes)")
        for place in first..<store.operations.count {
            switch store.operations[place] {
            case .message, .delayed:
                let record = record(of: store.operations[place])
                setPlace(of: store.operations[place], store.write(record), record)
            case .kept(let kept): writeKept(kept)
            case .failure(let count, let reference): store.writeAlone(failureCount: count, of: reference)
            case .acknowledgement(let place): store.acknowledgeAlone(place)
            case .nothing: break
            }
        }
    }
}

/// A group that is open: see `Shard.beginGroup`.
struct OpenGroup: BitwiseCopyable {
    var first: Int
    var wasDispatching: Bool
    /// Ids that become known with it begin here (`DeduplicationTable.nextNumber`).
    var firstID: UInt64
}
