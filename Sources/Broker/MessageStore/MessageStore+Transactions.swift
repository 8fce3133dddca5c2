import Journal
import Slabs

// Transactions of several workers. Each worker that stores something of one has a part of it in its log:
//
//     coordinator                     participant (the coordinator may be one)
//       part of N: frames      --->     writes its part
//                              <---   durable: its part is on stable storage
//       all are durable:
//       complete               --->     writes that the transaction is complete
//                              <---   ended: that is on stable storage
//       all have ended:
//       forget                 --->     what the part needs may go
//
// Recovery takes a part for good if it finds all of them, or a log that says that there were all. So a part stays until
// every log says so.
//
// A message is delivered, and may fail, expire or be driven out, before the transaction that brought it is complete. Where it
// moves to is a transaction of its own with a condition: it does not count unless the first one does, and its part is not told
// to be durable before the first one is known to be complete. So nothing of a transaction outlives a crash that the rest
// does not outlive.
extension MessageStore {
    /// The worker that began a transaction.
    static func coordinator(of transaction: UInt64) -> Int { Int(transaction >> 36 & 0xFF) }

    /// A new transaction of these workers.
    mutating func beginTransaction(_ participants: PeerSet) -> UInt64 {
        nextTransaction += 1
        commits[nextTransaction] = OpenCommit(
            participants: participants, durableDue: UInt16(participants.count), endedDue: UInt16(participants.count))
        return nextTransaction
    }

    // MARK: As a participant

    /// A part was written, from `position` to the end of the log.
    mutating func opened(
        part transaction: UInt64, at position: LogPosition, holdsReceipts: Bool,
        conditions: PartConditions = PartConditions(), ids: Range<UInt64> = 0..<0
    ) {
        let end = staging.endPosition
        openParts.append(
            OpenPart(
                transaction: transaction, position: position, partEnd: end, end: end, state: .written,
                holdsReceipts: holdsReceipts, firstID: ids.lowerBound, endID: ids.upperBound, conditions: conditions))
    }

    /// The transaction that brought a message to this log, if it is not known to be complete. 0: there is none.
    @inline(__always)
    func incompleteTransaction(of place: StoredPlace) -> UInt64 {
        if openParts.isEmpty { return 0 }
        for index in 0..<openParts.count where openParts[index].isIncomplete {
            if holds(openParts[index], place) { return openParts[index].transaction }
        }
        return 0
    }

    /// The record is in the part.
    @inline(__always)
    private func holds(_ part: OpenPart, _ place: StoredPlace) -> Bool {
        place.earlierSegment < 0 && Int(place.worker) == worker && part.position <= place.position
            && place.position < part.partEnd
    }

    /// A message that was taken before is confirmed again. It may have come with a transaction that is not complete yet: then
    /// it is not confirmed before that is.
    mutating func holdForDuplicate() {
        for index in 0..<openParts.count
        where openParts[index].hasIDs && openParts[index].isIncomplete && !openParts[index].isGivenUp {
            openParts[index].holdsReceipts = true
            openParts[index].holdsDuplicates = true
        }
    }

    /// There may be messages of incomplete transactions below this offset of the log.
    @inline(__always)
    func hasIncompletePart(below offset: Int) -> Bool {
        for index in 0..<openParts.count where openParts[index].isIncomplete {
            if JournalFormat.offset(of: openParts[index].position) < offset { return true }
        }
        return false
    }

    /// A part is to be on stable storage before its transaction goes on.
    @inline(__always)
    var hasPartUnderWay: Bool {
        for index in 0..<openParts.count where openParts[index].end > syncedPosition { return true }
        return false
    }

    /// End of turn: barriers that wait for what was acknowledged in it.
    mutating func placeBarriers() {
        var index = barriers.count
        while index > 0, barriers[index - 1].position == .max {
            index -= 1
            barriers[index].position = staging.endPosition
        }
    }

    /// What happened up to here is stored, and stays so whatever happens to other workers' logs.
    @inline(__always)
    var confirmedPosition: LogPosition {
        var position = durablePosition
        for index in 0..<openParts.count where openParts[index].holdsReceipts {
            position = min(position, openParts[index].position)
        }
        return position
    }

    /// The transaction will never be complete. What waits for it has to be told. Returns those of this worker that depend on it.
    mutating func giveUp(_ transaction: UInt64) -> [UInt64] {
        if let part = part(transaction) {
            part.pointee.holdsReceipts = false
            part.pointee.isGivenUp = true
        }
        var dependents: [UInt64] = []
        for index in 0..<openParts.count where !openParts[index].isGivenUp {
            if openParts[index].conditions.contains(transaction) { dependents.append(openParts[index].transaction) }
        }
        return dependents
    }

    /// One of these will never be complete.
    @inline(__always)
    func isGivenUp(_ conditions: PartConditions) -> Bool {
        if conditions.isEmpty { return false }
        for index in 0..<openParts.count where openParts[index].isGivenUp {
            if conditions.contains(openParts[index].transaction) { return true }
        }
        return false
    }

    /// The next step of a part that the log's being on stable storage has brought. nil: there is no other.
    mutating func nextStep() -> (transaction: UInt64, step: CommitStep)? {
        for index in 0..<openParts.count {
            let part = openParts.base + index
            guard part.pointee.end <= syncedPosition, part.pointee.conditions.isEmpty else { continue }
            switch part.pointee.state {
            case .written:
                part.pointee.state = .durable
                return (part.pointee.transaction, .durable)
            case .ending:
                part.pointee.state = .ended
                return (part.pointee.transaction, .ended)
            case .durable, .ended, .forgotten: continue
            }
        }
        return nil
    }

    func part(_ transaction: UInt64) -> UnsafeMutablePointer<OpenPart>? {
        for index in 0..<openParts.count where openParts[index].transaction == transaction {
            return openParts.base + index
        }
        return nil
    }

    /// All parts of the transaction are on stable storage.
    mutating func complete(_ transaction: UInt64) {
        guard !hasFailed, !hasEnded, let part = part(transaction) else { return }
        write(transactionEnd: transaction)
        part.pointee.end = staging.endPosition
        part.pointee.state = .ending
        part.pointee.holdsReceipts = false
        for index in 0..<openParts.count { openParts[index].conditions.remove(transaction) }
    }

    /// All logs say so.
    mutating func forget(_ transaction: UInt64) {
        guard let part = part(transaction) else { return }
        part.pointee.state = .forgotten
        var count = 0
        while count < openParts.count, openParts[count].state == .forgotten { count += 1 }
        if count > 0 { openParts.removeFirst(count) }
        hasWork = true
    }

    // MARK: As the coordinator

    /// A transaction will never be complete. Returns who has to hear of it. nil: they have.
    mutating func giveUpCommit(_ transaction: UInt64) -> PeerSet? {
        commits.removeValue(forKey: transaction)?.participants
    }

    /// One of the participants has done a step. Returns the next one for all of them. nil: others have not done it.
    mutating func answered(_ step: CommitStep, of transaction: UInt64) -> (step: CommitStep, participants: PeerSet)? {
        guard var commit = commits[transaction] else { return nil }
        switch step {
        case .durable:
            commit.durableDue -= 1
            commits[transaction] = commit
            return commit.durableDue == 0 ? (.complete, commit.participants) : nil
        case .ended:
            commit.endedDue -= 1
            commits[transaction] = commit.endedDue == 0 ? nil : commit
            return commit.endedDue == 0 ? (.forget, commit.participants) : nil
        case .complete, .forget, .failed: return nil
        }
    }
}
