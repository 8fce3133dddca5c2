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
    mutating func opened(part transaction: UInt64, at position: LogPosition, holdsReceipts: Bool) {
        openParts.append(
            OpenPart(
                transaction: transaction, position: position, end: staging.endPosition, state: .written,
                holdsReceipts: holdsReceipts))
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
    var confirmedPosition: LogPosition {
        var position = durablePosition
        for index in 0..<openParts.count where openParts[index].holdsReceipts {
            position = min(position, openParts[index].position)
        }
        return position
    }

    /// The transaction will never be complete. What waits for it has to be told.
    mutating func giveUp(_ transaction: UInt64) { part(transaction)?.pointee.holdsReceipts = false }

    /// The next step of a part that the log's being on stable storage has brought. nil: there is no other.
    mutating func nextStep() -> (transaction: UInt64, step: CommitStep)? {
        for index in 0..<openParts.count {
            let part = openParts.base + index
            guard part.pointee.end <= syncedPosition else { continue }
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

    private func part(_ transaction: UInt64) -> UnsafeMutablePointer<OpenPart>? {
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
