public import Journal
import STOMP
import Slabs

// Messages that are taken once: those whose `x-deduplication-id` their queue knows are confirmed and not taken again
// (`DeduplicationTable`).
//
// In the log a message's record says that its id is known. When the record's segment goes, the id is written again while it is
// known (`carryIDs`), and so it is in the next life.
extension Shard {
    private mutating func id(of message: Message) -> UnsafeRawBufferPointer? {
        DeduplicationHeader.value(in: message.headers, byteCount: message.headersByteCount)
    }

    /// A message with its id was taken. Counts it then: it is confirmed, and is not taken again.
    mutating func isDuplicate(_ message: Message, of destination: UnsafeRawBufferPointer) -> Bool {
        guard message.options.contains(.isDeduplicated), let id = id(of: message),
            deduplication.contains(id, of: destination, now: wallMilliseconds)
        else { return false }
        counters.messagesDeduplicated &+= 1
        store.holdForDuplicate()
        return true
    }

    /// The message is about to be taken. False: no memory.
    mutating func remember(_ message: Message, in index: Index<Queue>) -> Bool {
        let policy = policies[queues[index].pointee.policy]
        guard policy.deduplicationMilliseconds > 0, let id = id(of: message) else { return true }
        let isStored = stores(index, isPersistent: message.isPersistent) && !store.hasFailed
        let wasAdded = deduplication.add(
            id, of: nameOf(queues[index].pointee.destination), acceptedAt: wallMilliseconds,
            milliseconds: UInt64(policy.deduplicationMilliseconds), countMax: policy.deduplicationCountMax,
            segment: isStored ? store.staging.sequence : nil, &memory)
        armDeduplication()
        return wasAdded
    }

    /// It was not taken.
    mutating func forget(_ message: Message, in index: Index<Queue>) {
        guard let id = id(of: message) else { return }
        deduplication.forget(id, of: nameOf(queues[index].pointee.destination), &memory)
    }

    /// A transaction will never be complete. The next life will not have its messages, so what comes with their ids is taken.
    ///
    /// Wherever they are by now: a message that left memory, or has moved on, does not say any more what its part was.
    mutating func forgetIDs(of part: OpenPart) { deduplication.forgetStored(part.firstID..<part.endID, &memory) }

    // MARK: Time

    /// Ids whose time is over are looked for so often.
    private static var sweepMilliseconds: UInt64 { 1000 }
    private static var idsPerSweepMax: Int { 1024 }

    private mutating func armDeduplication(after milliseconds: UInt64 = sweepMilliseconds) {
        guard deduplicationTimer == 0, !deduplication.isEmpty, !isDraining else { return }
        deduplicationTimer = timers.schedule(
            at: now &+ milliseconds &* 1_000_000, kind: TimerKind.deduplication.rawValue, owner: .none)
    }

    mutating func deduplicationTimerFired() {
        deduplicationTimer = 0
        let hasMore = deduplication.forgetOld(now: wallMilliseconds, countMax: Self.idsPerSweepMax, &memory)
        armDeduplication(after: hasMore ? 0 : Self.sweepMilliseconds)
        if store.isEnabled { store.hasWork = true }
    }

    // MARK: In the log

    private static var idsPerTurnMax: Int { 1024 }

    /// Before segments go: writes what they say of ids again.
    mutating func carryIDs() {
        let end = mayCarryIDs ? store.endOfFreeSegments : 0
        var count = 0
        while let first = deduplication.firstSegment, first < end, count < Self.idsPerTurnMax,
            let id = deduplication.oldestStored(memory)
        {
            store.write(DeduplicationRecord(destination: id.destination, id: id.id, acceptedAt: id.acceptedAt))
            deduplication.moveOldestStored(to: store.staging.sequence)
            count += 1
        }
        store.firstSegmentOfIDs = deduplication.firstSegment ?? .max
    }

    /// So many segments beside those that the ids fill are no reason to write them again.
    private static var segmentCountToCarry: Int { 2 }

    /// Segments hold more than ids, so that it frees some to write these again. Ids that fill several segments would be written
    /// again without end.
    private var mayCarryIDs: Bool {
        @inline(__always) get {
            guard let first = deduplication.firstSegment else { return false }
            let segmentByteCount = store.options.segmentByteCount
            let segmentCount = Int(store.staging.sequence - first)
            return segmentCount > Self.segmentCountToCarry + 2 * deduplication.recordByteCount / segmentByteCount
        }
    }

    /// An id of an earlier life, of a queue that this shard owns. Before the first turn, the oldest first.
    public mutating func restore(_ id: RecoveredID) {
        invariant(store.isEnabled, "ids are restored to a store")
        guard id.id.count <= DeduplicationTable.idByteCountMax else { return }
        id.destination.withUnsafeBytes { destination in
            let policy = policies[UInt32(policies.index(of: destination))]
            let milliseconds = UInt64(policy.deduplicationMilliseconds)
            guard id.acceptedAt &+ milliseconds > wallMilliseconds, deduplication.hasRoom(of: destination) else {
                return
            }
            id.id.withUnsafeBytes { text in
                guard
                    deduplication.add(
                        text, of: destination, acceptedAt: id.acceptedAt, milliseconds: milliseconds,
                        countMax: policy.deduplicationCountMax, segment: store.staging.sequence, &memory)
                else { return }
                // In this life's log, so that the segment that it was in may go.
                store.write(DeduplicationRecord(destination: destination, id: text, acceptedAt: id.acceptedAt))
            }
        }
        armDeduplication()
    }

    /// Ids of messages that were taken earlier are of no use to the next life (wall-clock milliseconds).
    public static func idsSince(_ options: BrokerOptions, now: UInt64) -> UInt64 {
        var longest = DestinationPolicy(pattern: "").deduplicationMilliseconds
        for policy in options.destinationPolicies { longest = max(longest, policy.deduplicationMilliseconds) }
        return now - min(now, UInt64(longest))
    }
}
