package import Slabs

/// What tests ask of a shard beside its audit. Never on a hot path.
extension Shard {
    // MARK: Connections

    /// Bytes that wait to be sent on a connection. Nil: there is none of that name.
    package func outputByteCount(of connection: Slot) -> Int? {
        sessions.find(Handle(connection)).map { Int($0.pointee.outputByteCount) }
    }

    /// Bytes that wait to be sent, of each connection.
    package var outputByteCounts: [Int] {
        var counts: [Int] = []
        var place = sessions.nextLive(after: .none)
        while !place.isNone {
            counts.append(Int(sessions[place].pointee.outputByteCount))
            place = sessions.nextLive(after: place)
        }
        return counts
    }

    /// The part of a temporary destination's name that tells whose it is. Nil: there is no connection of that name.
    package func temporaryNamePart(of connection: Slot) -> String? {
        sessions.find(Handle(connection)).map { ownerText($0) }
    }

    /// Connections that share what is kept of this one's login, with this one. 0: it named no login.
    package func loginShareCount(of connection: Slot) -> Int {
        guard let session = sessions.find(Handle(connection)), session.pointee.login != 0 else { return 0 }
        return memory.blocks.referenceCount(session.pointee.login)
    }

    /// Subscriptions that are found by the hash of their id.
    package var indexedSubscriptionCount: Int { subscriptions.indexedCount }

    /// Deliveries that are acknowledged in open transactions.
    package var markedDeliveryCount: Int { subscriptions.markedCount }

    /// Sessions that have an identity, and sets of permissions that they share.
    package var accessCounts: (sessions: Int, sets: Int) { gate.counts }

    // MARK: Destinations

    /// The worker that holds a queue.
    package func owner(ofQueue name: String) -> Int {
        var name = name
        return name.withUTF8 { destinations.owner(ofQueue: UnsafeRawBufferPointer($0)) }
    }

    /// Destinations, also those that nobody needs.
    package var destinationCount: Int { destinations.liveCount }

    /// The places of a queue's ready messages in the order of arrival, from the one that is delivered next.
    package func readyOrders(ofQueue name: String) -> [UInt64] {
        var name = name
        let place = name.withUTF8 { findDestination(UnsafeRawBufferPointer($0)) }
        guard !place.isNone, !destinations[place].pointee.queue.isNone else { return [] }
        var orders: [UInt64] = []
        var entry = queues[destinations[place].pointee.queue].pointee.ready.first
        while !entry.isNone {
            orders.append(queues[entry].pointee.order)
            entry = queues.next(after: entry)
        }
        return orders
    }

    // MARK: Messages in the log alone

    /// Those that were written again.
    package var coldCopyCount: Int { cold.copiedCount }

    /// Messages of a queue that are in memory and ready, in the log alone, and in memory behind these.
    package mutating func coldCounts(ofQueue name: String) -> (ready: Int, cold: Int, behind: Int) {
        var name = name
        let place = name.withUTF8 { findDestination(UnsafeRawBufferPointer($0)) }
        guard !place.isNone, case let index = destinations[place].pointee.queue, !index.isNone else { return (0, 0, 0) }
        let queue = queues[index].pointee
        if queue.cold.isNone { return (Int(queue.ready.count), 0, 0) }
        return (Int(queue.ready.count), Int(cold[queue.cold].pointee.count), queues.behindCounts(index).all)
    }

    // MARK: Messages of other workers

    /// A planted bug: the barriers of a batch forget that what they ask about was passed on to others, who store it.
    package static func forgetHolders(in batch: PeerBatch) {
        let start = UnsafeMutableRawPointer(PeerBatches.bytes(of: batch))
        var offset = 0
        while offset < Int(batch.pointee.byteCount) {
            let message = ReceivedPeerMessage(start + offset)
            if message.head.kind == .barrier {
                var barrier = message.fields(Barrier.self)
                barrier.holders = PeerSet()
                (start + offset + PeerMessageHead.byteCount).storeBytes(of: barrier, as: Barrier.self)
            }
            offset += message.byteCount
        }
    }

    // MARK: Turns and memory

    /// What the last turn was charged: records that it made or removed, and searches.
    package var chargedRecordCount: Int { Self.recordsPerTurnMax - recordAllowance }

    /// Bytes of large blocks and arenas that were freed and are kept for the next burst.
    package var keptByteCount: Int { memory.blocks.keptByteCount }
}
