import Slabs

/// What a shard holds: live records of each table, and bytes of blocks. For tests and reports; never on a hot path.
///
/// When all clients have left and all queues are empty, everything here is 0: what else remains is a leak. What topics keep
/// in their logs and retain does not count.
public struct ShardAudit: Sendable, Equatable {
    public var sessions = 0
    public var segments = 0
    public var subscriptions = 0
    public var encodings = 0
    public var entries = 0
    public var consumers = 0
    /// Of logs of topics, and their counterparts with the workers of the subscribers.
    public var readers = 0
    public var intakes = 0
    public var deliveries = 0
    public var transactions = 0
    public var pendings = 0
    public var remoteSets = 0
    /// Encodings that can be found by their key.
    public var encodingKeys = 0
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
    /// Messages that wait for their time.
    public var delayedMessages = 0
    /// Bytes of blocks in use, without the names of destinations that nobody needs, and without the ids that are known for
    /// a while.
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
        audit.segments = output.segmentCount
        audit.subscriptions = subscriptions.liveCount
        audit.encodings = router.liveCount
        audit.entries = queues.entryCount
        audit.consumers = queues.consumerCount
        audit.deliveries = subscriptions.deliveryCount
        audit.transactions = transactions.liveCount
        audit.pendings = pendings.liveCount
        audit.remoteSets = pendings.remoteSetCount
        audit.encodingKeys = router.keyCount
        audit.waitingSessions = sessions.waitingCount
        audit.patterns = destinations.patternCount
        audit.matches = destinations.matchCount
        audit.inputBytes = memory.inputByteCount
        audit.timers =
            timers.count - (noticeTimer != 0 ? 1 : 0) - (logTimer != 0 ? 1 : 0) - queues.idleTimerCount
            - (deduplicationTimer != 0 ? 1 : 0)
        audit.delayedMessages = delays.count
        audit.blockBytes = memory.blocks.byteCountInUse - topicLogByteCount - deduplication.blockByteCount
        audit.readers = topicLogs.readerCount
        audit.intakes = topicLogs.intakeCount
        var place = destinations.nextLive(after: .none)
        while !place.isNone {
            let destination = destinations[place]
            audit.bindings += Int(destination.pointee.bound.count)
            if destination.pointee.name == 0 {
                audit.namelessDestinations += 1
            } else if isNeeded(place), !isKeptByTopicAlone(place) {
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

    /// What `audit` finds where nothing is left but messages in queues, all of them ready, and messages that wait for their
    /// time.
    public func auditOfReadyMessages() -> ShardAudit {
        var audit = ShardAudit()
        var place = queues.nextLive(after: .none)
        while !place.isNone {
            let queue = queues[place].pointee
            if !queue.cold.isNone {
                audit.queuedMessages += Int(cold[queue.cold].pointee.count)
                audit.queuedBytes += Int(cold[queue.cold].pointee.byteCount)
            }
            if queue.messageCount != 0 || !queue.cold.isNone {
                audit.neededDestinations += 1
                audit.blockBytes += memory.blocks.capacity(destinations[queue.destination].pointee.name)
                if queue.deadLetter != 0 { audit.blockBytes += memory.blocks.capacity(queue.deadLetter) }
            }
            var isBehind = queue.ready.isEmpty
            var entry = isBehind ? queue.behind.first : queue.ready.first
            while !entry.isNone {
                let record = queues[entry].pointee
                audit.entries += 1
                audit.queuedMessages += 1
                audit.queuedBytes += Int(record.byteCount)
                audit.blockBytes += memory.blocks.capacity(record.message)
                if record.timer != 0 { audit.timers += 1 }
                entry = queues.next(after: entry)
                if entry.isNone, !isBehind {
                    isBehind = true
                    entry = queue.behind.first
                }
            }
            place = queues.nextLive(after: place)
        }
        var held = delays.nextLive(after: .none)
        while !held.isNone {
            let delayed = delays[held].pointee
            audit.delayedMessages += 1
            audit.blockBytes += memory.blocks.capacity(delayed.message)
            if delayed.keepsRoom, queues.isLive(delayed.queue) {
                audit.queuedMessages += 1
                audit.queuedBytes += Int(delayed.byteCount)
            }
            held = delays.nextLive(after: held)
        }
        if delayTimer != 0 { audit.timers += 1 }
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

    /// A queue's messages are in one of four places, and a consumer waits for those in the log only while they are read.
    private func auditCold(_ index: Index<Queue>) -> String? {
        let queue = queues[index].pointee
        if queue.cold.isNone { return queue.behind.isEmpty ? nil : "messages wait behind none" }
        let record = cold[queue.cold].pointee
        let count = Int(queue.ready.count) + Int(record.count) + queues.behindCounts(index).all
        if count > Int(queue.messageCount) { return "holds \(count) messages and counts \(queue.messageCount)" }
        if queue.ready.isEmpty, !queue.turns.isEmpty, !record.isReading, !record.isListed, !record.isBlocked {
            return "a consumer waits for messages that nobody reads"
        }
        return nil
    }

    /// The first broken rule of a queue, or nil: see `QueueEngine.audit`. Time is linear in messages.
    public func auditQueues() -> String? {
        if let fault = delays.audit() { return fault }
        var place = queues.nextLive(after: .none)
        while !place.isNone {
            if let fault = queues.audit(place) ?? auditCold(place) {
                return "\(destinationText(queues[place].pointee.destination)): \(fault)"
            }
            place = queues.nextLive(after: place)
        }
        return nil
    }
}
