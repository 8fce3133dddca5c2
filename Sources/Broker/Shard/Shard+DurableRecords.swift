public import Journal
import STOMP
import Slabs

// Durable topic subscriptions in the log, and their age.
extension Shard {
    // MARK: Records

    /// Writes that the subscription is there, in place of what was written of it before.
    mutating func writeDurable(_ index: Index<Destination>) {
        guard store.isEnabled, !store.hasFailed, !store.hasEnded, !durables.isEmptying(index),
            let subscription = durables[index]
        else { return }
        let record = SubscriptionRecord(
            name: nameOf(index), topic: nameOf(subscription.source), dialect: UInt16(subscription.dialect.rawValue),
            lastUsed: subscription.lastUsed)
        durables.setSegment(store.write(subscriptionMade: record), of: index)
        if let former = subscription.segment { store.unpin(former) }
        if !subscription.isOpen { durables.setRecorded(at: store.staging.endPosition, of: index) }
    }

    /// It ends.
    mutating func forgetRecord(of subscription: DurableSubscription, at index: Index<Destination>) {
        guard let segment = subscription.segment else { return }
        store.write(subscriptionRemoved: nameOf(index))
        store.unpin(segment)
    }

    /// Writes those whose records are in the segment at the front of the log again.
    mutating func compactDurables() {
        for index in durables.indices where durables[index]!.segment == store.firstNeeded { writeDurable(index) }
    }

    // MARK: Restoring

    /// A durable subscription of an earlier life. To all shards, before messages: one holds it, and the others send it what
    /// is published from the first turn on.
    ///
    /// It is restored whatever the limits are now.
    public mutating func restore(_ subscription: SubscriptionRecord) -> RestoreOutcome {
        invariant(store.isEnabled, "subscriptions are restored to a store")
        let source = restoredSource(subscription.topic)
        if source.isNone { return .noMemory }
        let owner = destinations.owner(ofQueue: subscription.name)
        guard owner == index else {
            destinations.setRemote(true, of: owner, to: source)
            setDurableCount(durables.count(of: source, with: owner) + 1, of: source, with: owner)
            updateIdle(source)
            return .restored
        }
        _ = makeRoomForQueue(mayExceed: true)
        let queue = makeDurableQueue(subscription.name, topic: subscription.topic)
        guard !queue.isNone else {
            updateIdle(source)
            return .noMemory
        }
        add(
            DurableSubscription(
                dialect: DurableDialect(rawValue: UInt8(truncatingIfNeeded: subscription.dialect)) ?? .single,
                topic: Array(subscription.topic), source: source, position: 0, isAgreed: true, isOpen: true,
                // In use when the broker crashed: used now. A time that is recorded stays, for this clock may be behind.
                lastUsed: subscription.lastUsed == .max ? wallMilliseconds : subscription.lastUsed),
            at: queue)
        if shardCount > 1 { destinations.setRegistered(source) }
        armDurable(queue)
        return .restored
    }

    private mutating func restoredSource(_ name: UnsafeRawBufferPointer) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        _ = makeRoomForOther(isUnused: true)
        _ = makeRoomForMatches()
        // Behind "/topic/".
        let isPattern = Wildcard.isPattern(UnsafeRawBufferPointer(rebasing: visible(name).dropFirst(7)))
        return makeTopic(name, isPattern: isPattern)
    }

    /// A message of an earlier life whose durable subscription has ended: the end was stored, and the message's was not.
    mutating func isOfEndedDurable(_ queueName: UnsafeRawBufferPointer) -> Bool {
        begins(visible(queueName), with: DurableName.prefix) && findDestination(queueName).isNone
    }

    // MARK: Age

    /// A subscription has consumers now.
    mutating func consumerCame(_ index: Index<Destination>) {
        guard let subscription = durables[index], subscription.lastUsed != .max else { return }
        durables.setLastUsed(.max, of: index)
        rewriteDurable(index)
    }

    /// A consumer has left a queue.
    mutating func consumerLeft(_ queue: Index<Queue>) {
        guard queues[queue].pointee.consumerCount == 0 else { return }
        let index = queues[queue].pointee.destination
        durables.setLastUsed(wallMilliseconds, of: index)
        rewriteDurable(index)
        armDurable(index)
    }

    /// It is no loss if there is no room for that now.
    private mutating func rewriteDurable(_ index: Index<Destination>) {
        guard store.isEnabled, case .open = store.admission(0) else { return }
        writeDurable(index)
    }

    /// For how long the subscription may go unused (milliseconds). 0: for ever.
    private mutating func durablePatience(_ queue: Index<Queue>) -> UInt64 {
        UInt64(policies[queues[queue].pointee.policy].durableMillisecondsMax)
    }

    /// The wheel's timers of queues reach so far; one that fires too early is set again.
    private static var timerMillisecondsMax: UInt64 { 1 << 31 }

    /// Makes sure that the subscription is looked at when it may have gone unused for too long.
    mutating func armDurable(_ index: Index<Destination>) {
        guard let subscription = durables[index], subscription.lastUsed != .max else { return }
        let queue = destinations[index].pointee.queue
        let patience = durablePatience(queue)
        if patience == 0 { return }
        let elapsed = wallMilliseconds - min(subscription.lastUsed, wallMilliseconds)
        let rest = max(patience - min(elapsed, patience), 1)
        queues.armIdle(queue, after: UInt32(min(rest, Self.timerMillisecondsMax)), &timers, now: now)
    }

    mutating func durableTimerFired(_ queue: Index<Queue>) {
        queues.disarmIdle(queue, &timers, hasFired: true)
        let index = queues[queue].pointee.destination
        if durables.isEmptying(index) { return emptyDurable(index) }
        guard let subscription = durables[index], subscription.isOpen, subscription.lastUsed != .max else { return }
        let patience = durablePatience(queue)
        guard patience != 0, wallMilliseconds >= subscription.lastUsed &+ patience else { return armDurable(index) }
        recordAllowance -= 1
        let name = destinationText(index)
        let topic = subscription.topic.withUnsafeBytes { nameText($0) }
        let droppedCount = removeDurable(index)
        counters.messagesDropped &+= UInt64(droppedCount)
        notice(
            .subscriptionExpired,
            "\(name) to \(topic), with \(droppedCount) messages: nobody used it for \(patience) ms "
                + "(durable-subscription-expires-ms)")
    }

    // MARK: Permissions

    /// Whether the client of a session may still consume from a durable subscription.
    mutating func mayConsume(_ session: Index<Session>, fromDurable index: Index<Destination>) -> Bool {
        guard let topic = durables.topic(of: index) else { return true }
        let isPattern = topic.withUnsafeBytes {
            Wildcard.isPattern(UnsafeRawBufferPointer(rebasing: visible($0).dropFirst(7)))
        }
        topic.withUnsafeBytes { scratch.name.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        let name = UnsafeRawBufferPointer(start: scratch.name, count: topic.count)
        return mayUse(session, .subscribe, name, .none, isPattern: isPattern)
    }
}
