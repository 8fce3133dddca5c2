import Slabs

/// What a shard holds: live records of each table, and bytes of blocks. For tests and reports; never on a hot path.
///
/// When all clients have left and all queues are empty, everything here is 0: what else remains is a leak.
public struct ShardAudit: Sendable, Equatable {
    public var sessions = 0
    public var segments = 0
    public var subscriptions = 0
    public var groups = 0
    public var entries = 0
    public var consumers = 0
    public var deliveries = 0
    public var transactions = 0
    public var pendings = 0
    public var remoteSets = 0
    /// Groups that can be found by their key.
    public var groupKeys = 0
    public var timers = 0
    /// Sessions that wait for their turn to go on, for memory, or for their end.
    public var waitingSessions = 0
    /// Patterns, and pairs of one and a topic that it matches.
    public var patterns = 0
    public var matches = 0
    /// Pairs of a topic or pattern and a queue of an acknowledging subscription to it.
    public var bindings = 0
    /// Destinations that somebody needs. Those that nobody needs are kept by intent, until there are too many.
    public var neededDestinations = 0
    /// Destinations without a name: the queues of acknowledging topic subscriptions.
    public var namelessDestinations = 0
    /// Messages and bytes that queues believe to hold, reservations included.
    public var queuedMessages = 0
    public var queuedBytes = 0
    /// Bytes of blocks in use, without the names of destinations that nobody needs.
    public var blockBytes = 0
    /// Those of them that hold frames cut short.
    public var inputBytes = 0

    public init() {}

    /// Nothing is held.
    public var isEmpty: Bool { self == ShardAudit() }
}

extension Shard {
    /// Counts what is held. Time is linear in the number of destinations.
    public func audit() -> ShardAudit {
        var audit = ShardAudit()
        audit.sessions = sessions.liveCount
        audit.segments = segments.liveCount
        audit.subscriptions = subscriptions.liveCount
        audit.groups = groups.liveCount
        audit.entries = entries.liveCount
        audit.consumers = consumers.liveCount
        audit.deliveries = deliveries.liveCount
        audit.transactions = transactions.liveCount
        audit.pendings = pendings.liveCount
        audit.remoteSets = remoteSets.liveCount
        audit.groupKeys = groups.keyCount
        audit.waitingSessions =
            resumableSessions.count + waitingForRoom.count + doomedSessions.count + failedSessions.count
        audit.patterns = destinations.patternCount
        audit.matches = destinations.matchCount
        audit.inputBytes = memory.inputByteCount
        audit.timers = timers.count - (noticeTimer != 0 ? 1 : 0) - idleTimerCount
        audit.blockBytes = memory.blocks.byteCountInUse
        var place = destinations.nextLive(after: .none)
        while !place.isNone {
            let destination = destinations[place]
            audit.bindings += Int(destination.pointee.bound.count)
            if destination.pointee.name == 0 {
                audit.namelessDestinations += 1
            } else if isNeeded(place) {
                audit.neededDestinations += 1
            } else {
                audit.blockBytes -= memory.blocks.capacity(destination.pointee.name)
                if !destination.pointee.queue.isNone, queues[destination.pointee.queue].pointee.deadLetter != 0 {
                    audit.blockBytes -= memory.blocks.capacity(queues[destination.pointee.queue].pointee.deadLetter)
                }
            }
            if !destination.pointee.queue.isNone {
                audit.queuedMessages += Int(queues[destination.pointee.queue].pointee.messageCount)
                audit.queuedBytes += Int(queues[destination.pointee.queue].pointee.byteCount)
            }
            place = destinations.nextLive(after: place)
        }
        return audit
    }

    /// What `audit` finds where nothing is left but messages in queues, all of them ready.
    public func auditOfReadyMessages() -> ShardAudit {
        var audit = ShardAudit()
        var place = queues.nextLive(after: .none)
        while !place.isNone {
            let queue = queues[place].pointee
            if !queue.ready.isEmpty {
                audit.neededDestinations += 1
                audit.blockBytes += memory.blocks.capacity(destinations[queue.destination].pointee.name)
                if queue.deadLetter != 0 { audit.blockBytes += memory.blocks.capacity(queue.deadLetter) }
            }
            var entry = queue.ready.first
            while !entry.isNone {
                let record = entries[entry].pointee
                audit.entries += 1
                audit.queuedMessages += 1
                audit.queuedBytes += Int(record.byteCount)
                audit.blockBytes += memory.blocks.capacity(record.message)
                if record.timer != 0 { audit.timers += 1 }
                entry = EntryList.next(after: entry, in: entries)
            }
            place = queues.nextLive(after: place)
        }
        return audit
    }

    /// The first broken rule among those that hold between turns, or nil: the destinations that nobody needs are those on
    /// the list of the idle ones. Time is linear in the number of destinations.
    public func auditDestinations() -> String? {
        var idleCount = 0
        var place = destinations.nextLive(after: .none)
        while !place.isNone {
            let destination = destinations[place].pointee
            let mayBeForgotten = destination.kind != .pattern && destination.kind != .subscriptionQueue
            if destination.isIdle != (mayBeForgotten && !isNeeded(place)) {
                let fault = destination.isIdle ? "idle, but needed" : "not needed, but not idle"
                return "\(destinationText(place)): \(fault)"
            }
            if destination.isIdle { idleCount += 1 }
            place = destinations.nextLive(after: place)
        }
        guard let listedCount = destinations.auditIdle() else { return "a destination is listed as idle, and is not" }
        return listedCount == idleCount ? nil : "\(idleCount) idle destinations, \(listedCount) on their lists"
    }

    /// The first broken rule among those that hold between turns, or nil: a queue's counts are those of its lists, no
    /// queue exceeds its limit, no consumer its prefetch. Time is linear in messages.
    public func auditQueues() -> String? {
        var place = queues.nextLive(after: .none)
        while !place.isNone {
            let queue = queues[place].pointee
            let name = destinationText(queue.destination)
            var ready = 0
            var unacked = 0
            var bytes = 0
            var entry = queue.ready.first
            while !entry.isNone {
                if entries[entry].pointee.state != .ready {
                    return "\(name): an entry among the ready ones is not ready"
                }
                ready += 1
                bytes += Int(entries[entry].pointee.byteCount)
                entry = EntryList.next(after: entry, in: entries)
            }
            var consumer = queue.consumers.first
            while !consumer.isNone {
                var bytesOfConsumer = 0
                entry = consumers[consumer].pointee.unacked.first
                while !entry.isNone {
                    if entries[entry].pointee.consumer != consumer {
                        return "\(name): an entry is with another consumer"
                    }
                    unacked += 1
                    bytesOfConsumer += Int(entries[entry].pointee.byteCount)
                    entry = EntryList.next(after: entry, in: entries)
                }
                if bytesOfConsumer != Int(consumers[consumer].pointee.unackedByteCount) {
                    return "\(name): a consumer's bytes are miscounted"
                }
                bytes += bytesOfConsumer
                consumer = ConsumerChain.next(after: consumer, in: consumers)
            }
            if ready != Int(queue.readyCount) {
                return "\(name): \(queue.readyCount) ready messages, \(ready) on the list"
            }
            if ready + unacked > Int(queue.messageCount) {
                return "\(name): holds \(ready) + \(unacked) messages and counts \(queue.messageCount)"
            }
            if bytes > Int(queue.byteCount) { return "\(name): holds \(bytes) bytes and counts \(queue.byteCount)" }
            if ready + unacked > Int(queue.messageCountMax) {
                return "\(name): holds \(ready + unacked) messages, the limit is \(queue.messageCountMax)"
            }
            if !queue.ready.isEmpty, !queue.turns.isEmpty {
                return "\(name): a message and a consumer wait for each other"
            }
            place = queues.nextLive(after: place)
        }
        return nil
    }
}
