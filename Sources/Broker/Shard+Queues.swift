import Glibc
import IO
import STOMP
import Slabs

/// How much a consumer takes before it acknowledges.
struct Window: BitwiseCopyable {
    var messageCount: UInt32
    var byteCount: UInt32

    init(_ limits: Limits) {
        messageCount = UInt32(clamping: limits.prefetchCountMax)
        byteCount = UInt32(clamping: limits.prefetchByteCountMax)
    }
}

extension Frame {
    /// The most that the SEND counts as in a queue: its headers may gain escapes and a longer `reply-to`.
    var reservedByteCount: Int {
        isPlain && !has(.replyTo) ? byteCount : byteCount + headersByteCount + 1024
    }
}

// Queues: messages in order, consumers in turn. Runs with the queue's owner; consumers may live with other workers.
extension Shard {
    // MARK: Queues

    /// Gives a destination its queue, with the limits of its policy.
    mutating func attachQueue(to index: Index<Destination>) -> Bool {
        let created: Index<Queue> = queues.allocate().index
        if created.isNone { return false }
        let policyIndex = UInt32(policies.index(of: nameOf(index)))
        let policy = policies[policyIndex]
        let queue = queues[created]
        queue.pointee.destination = index
        queue.pointee.policy = policyIndex
        queue.pointee.messageCountMax = UInt32(clamping: policy.queueMessageCountMax)
        queue.pointee.byteCountMax = UInt64(policy.queueByteCountMax)
        queue.pointee.deliveryCountMax = UInt32(clamping: policy.deliveryCountMax)
        queue.pointee.messageMillisecondsMax = UInt64(policy.messageMillisecondsMax)
        queue.pointee.overflow = policy.overflow
        destinations.attach(created, to: index)
        queue.pointee.lastUsed = clock
        if policy.idleWithMessagesMillisecondsMax != 0 { armIdle(created) }
        return true
    }

    /// Ends a queue. Its consumers are gone; its messages go to the dead-letter destination or are dropped, counted.
    mutating func removeQueue(_ index: Index<Queue>) {
        let queue = queues[index]
        let dropped = closeQueue(queue)
        if dropped > 0 {
            counters.messagesDropped &+= UInt64(dropped)
            notice(
                .messagesDropped,
                "\(dropped) of \(destinationText(queue.pointee.destination)): the connection that owned it has ended")
        }
        unblock(queue)
        if queue.pointee.deadLetter != 0 { memory.blocks.release(queue.pointee.deadLetter) }
        destinations.detachQueue(from: queue.pointee.destination)
        queues.free(index)
    }

    /// Takes a queue's consumers and messages from it, and lets it take no more. Returns how many messages there were.
    private mutating func closeQueue(_ queue: UnsafeMutablePointer<Queue>) -> Int {
        queue.pointee.isClosed = true
        updateHold(queue)
        cancelIdle(queue)
        while !queue.pointee.consumers.isEmpty { removeConsumer(queue.pointee.consumers.first, .nothing) }
        return dropReady(queue)
    }

    /// Drops ready messages, the oldest first, at most so many. Returns how many there were.
    mutating func dropReady(_ queue: UnsafeMutablePointer<Queue>, atMost countMax: Int = .max) -> Int {
        var count = 0
        while count < countMax, case let entry = queue.pointee.ready.first, !entry.isNone {
            unlinkReady(entry)
            freeEntry(entry)
            count += 1
        }
        return count
    }

    /// Whether the queue takes another message of so many bytes without its policy having to act.
    @inline(__always)
    func hasRoom(_ index: Index<Queue>, byteCount: Int) -> Bool {
        let queue = queues[index]
        return queue.pointee.messageCount < queue.pointee.messageCountMax
            && queue.pointee.byteCount + UInt64(byteCount) <= queue.pointee.byteCountMax
    }

    /// Whether a transaction can be promised room for a message of so many bytes. Where that is the policy, the oldest
    /// make room now, and not at COMMIT's end: all may be with consumers, and then the promise could not be kept.
    mutating func canReserve(_ index: Index<Queue>, byteCount: Int) -> Bool {
        if queues[index].pointee.overflow == .dropOldest { dropOldest(index, byteCount: byteCount) }
        return hasRoom(index, byteCount: byteCount)
    }

    /// A local SEND found the queue full.
    mutating func queueIsFull(_ session: UnsafeMutablePointer<Session>, _ index: Index<Queue>) -> FrameOutcome {
        let queue = queues[index]
        counters.limits.count(.queue)
        switch queue.pointee.overflow {
        case .block where !isApplyingCommit && UInt64(frame.reservedByteCount) <= queue.pointee.byteCountMax:
            return block(session, on: index)
        case .dropOldest:
            guard let message = messageOfFrame(session) else { return .done }
            dropOldest(index, byteCount: message.contentByteCount)
            if enqueue(index, message) {
                confirm(session)
                return .done
            }
            // Too large for the queue, or what is in it is all with consumers.
            fallthrough
        case .reject, .block:
            counters.messagesRefused &+= 1
            failFrame(
                session, "Queue full",
                "\(destinationText(queue.pointee.destination)) is full: \(queue.pointee.messageCount) messages, "
                    + "\(queue.pointee.byteCount) bytes")
            return .done
        }
    }

    /// Makes room by dropping the oldest ready messages.
    mutating func dropOldest(_ index: Index<Queue>, byteCount: Int) {
        let queue = queues[index]
        guard UInt64(byteCount) <= queue.pointee.byteCountMax else { return }
        while !hasRoom(index, byteCount: byteCount), !queue.pointee.ready.isEmpty {
            deadLetter(queue.pointee.ready.first, reason: "maxlen")
        }
    }

    /// Puts a message into a queue and gives it to a consumer whose turn it is. False: no memory, or nothing could be
    /// dropped to make room.
    mutating func enqueue(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer = .init(start: nil, count: 0)
    ) -> Bool {
        let queue = queues[index]
        var expiresAt = message.expiresAt
        if queue.pointee.messageMillisecondsMax != 0 {
            let latest = wallMilliseconds &+ queue.pointee.messageMillisecondsMax
            expiresAt = expiresAt == 0 ? latest : min(expiresAt, latest)
        }
        if expiresAt != 0, expiresAt <= wallMilliseconds {
            counters.messagesExpired &+= 1
            return true
        }
        guard hasRoom(index, byteCount: message.contentByteCount) else { return false }
        let handle: Handle<Entry> = entries.allocate()
        if handle.isNone { return false }
        let block = store(message, extra: extra)
        guard block != 0 else {
            entries.free(handle.index)
            return false
        }
        let entry = entries[handle.index]
        entry.pointee.queue = index
        entry.pointee.message = block
        entry.pointee.identity = message.identity
        entry.pointee.expiresAt = expiresAt
        entry.pointee.byteCount = UInt32(message.contentByteCount)
        entry.pointee.order = nextOrder
        nextOrder &+= 1
        queue.pointee.messageCount += 1
        queue.pointee.byteCount += UInt64(entry.pointee.byteCount)
        queue.pointee.lastUsed = clock
        if queue.pointee.messageCount == 1 { updateIdle(queue.pointee.destination) }
        appendReady(handle.index)
        if expiresAt != 0 { scheduleExpiry(handle) }
        if !queue.pointee.turns.isEmpty { dispatch(index) }
        return true
    }

    /// An entry leaves the broker.
    mutating func freeEntry(_ index: Index<Entry>) {
        let entry = entries[index]
        let queue = queues[entry.pointee.queue]
        queue.pointee.messageCount -= 1
        queue.pointee.byteCount -= UInt64(entry.pointee.byteCount)
        timers.cancel(entry.pointee.timer)
        memory.blocks.release(entry.pointee.message)
        entries.free(index)
        if !queue.pointee.blocked.isEmpty { unblock(queue) }
        if queue.pointee.messageCount == 0, !queue.pointee.isClosed { becomeEmpty(queue) }
    }

    private mutating func becomeEmpty(_ queue: UnsafeMutablePointer<Queue>) {
        updateHold(queue)
        updateIdle(queue.pointee.destination)
    }

    private mutating func appendReady(_ index: Index<Entry>) {
        let entry = entries[index]
        let queue = queues[entry.pointee.queue]
        entry.pointee.state = .ready
        queue.pointee.ready.append(index, in: entries)
        queue.pointee.readyCount += 1
    }

    mutating func unlinkReady(_ index: Index<Entry>) {
        let queue = queues[entries[index].pointee.queue]
        if queue.pointee.returnHint == index {
            let previous = EntryList.previous(before: index, in: entries)
            queue.pointee.returnHint = previous.isNone ? EntryList.next(after: index, in: entries) : previous
        }
        queue.pointee.ready.remove(index, in: entries)
        queue.pointee.readyCount -= 1
    }

    /// Puts an entry back where it was: before all ready entries that came after it. The search begins where the last one
    /// was put back, for what was delivered in order mostly returns in order: a consumer's whole window, or one NACK
    /// after the other.
    private mutating func returnReady(_ index: Index<Entry>) {
        let entry = entries[index]
        let queue = queues[entry.pointee.queue]
        let order = entry.pointee.order
        var previous = queue.pointee.ready.last
        var stepCount = 0
        if !previous.isNone, entries[previous].pointee.order > order {
            previous = .none
            let first = queue.pointee.ready.first
            if entries[first].pointee.order < order {
                // It belongs between these two; from here on neither search meets an end of the list.
                previous = queue.pointee.returnHint.isNone ? first : queue.pointee.returnHint
                while entries[previous].pointee.order > order {
                    previous = EntryList.previous(before: previous, in: entries)
                    stepCount += 1
                }
                while case let next = EntryList.next(after: previous, in: entries), entries[next].pointee.order < order
                {
                    previous = next
                    stepCount += 1
                }
            }
        }
        queue.pointee.returnHint = index
        chargeForSteps(stepCount)
        entry.pointee.state = .ready
        entry.pointee.consumer = .none
        if previous.isNone {
            queue.pointee.ready.prepend(index, in: entries)
        } else {
            queue.pointee.ready.insert(index, after: previous, in: entries)
        }
        queue.pointee.readyCount += 1
    }

    // MARK: Consumers

    /// The window of the SUBSCRIBE under the parser: `prefetch-count` or `activemq.prefetchSize` messages (0 or absent:
    /// the limit), `consumer-window-size` bytes. nil: it was answered with ERROR.
    mutating func windowOfFrame(_ session: UnsafeMutablePointer<Session>) -> Window? {
        var window = Window(limits)
        for name: HeaderName in [.prefetchCount, .activemqPrefetchSize] {
            guard let value = number(session, name, default: 0) else { return nil }
            if value > 0 { window.messageCount = min(window.messageCount, UInt32(clamping: value)) }
        }
        // Clients of Artemis say -1 for no limit of their own.
        if let text = frame.rawValue(.consumerWindowSize), equals(text, "-1") { return window }
        guard let value = number(session, .consumerWindowSize, default: 0) else { return nil }
        if value > 0 { window.byteCount = min(window.byteCount, UInt32(clamping: value)) }
        return window
    }

    /// Adds a consumer for a subscription of this worker.
    mutating func addConsumer(_ queueIndex: Index<Queue>, _ subscriptionIndex: Index<Subscription>) {
        let subscription = subscriptions[subscriptionIndex]
        subscription.pointee.flags.remove(.pending)
        let consumer = addConsumer(
            queueIndex, shard: index, subscription: subscriptions.handle(subscriptionIndex),
            subscription.pointee.window)
        guard !consumer.isNone else {
            counters.limits.count(.subscriptions)
            return fail(sessions[subscription.pointee.session], "Out of memory", "no room for another consumer")
        }
        subscription.pointee.consumer = consumer
        let session = sessions[subscription.pointee.session]
        if session.pointee.flags.contains(.consumersPaused) { pause(consumer.index) }
        dispatch(queueIndex)
    }

    mutating func addConsumer(
        _ queueIndex: Index<Queue>, shard: Int, subscription: Handle<Subscription>, _ window: Window
    ) -> Handle<Consumer> {
        let handle: Handle<Consumer> = consumers.allocate()
        if handle.isNone { return .none }
        let queue = queues[queueIndex]
        let consumer = consumers[handle.index]
        consumer.pointee.queue = queueIndex
        consumer.pointee.subscription = subscription
        consumer.pointee.shard = UInt16(shard)
        consumer.pointee.credit = window.messageCount
        consumer.pointee.byteCountMax = window.byteCount
        queue.pointee.consumers.prepend(handle.index, in: consumers)
        queue.pointee.consumerCount += 1
        if queue.pointee.isHeld { updateHold(queue) }
        updateIdle(queue.pointee.destination)
        takeTurn(handle.index)
        return handle
    }

    /// A consumer leaves: what it has not acknowledged returns to where it was, to be delivered again.
    mutating func removeConsumer(_ index: Index<Consumer>, _ held: HeldMessages) {
        let consumer = consumers[index]
        let queueIndex = consumer.pointee.queue
        let queue = queues[queueIndex]
        leaveTurn(index)
        queue.pointee.consumers.remove(index, in: consumers)
        queue.pointee.consumerCount -= 1
        // What is behind the newest that its session was given is still on its way there.
        var wasSeen = !held.newest.isNone
        while case let entry = consumer.pointee.unacked.popFirst(in: entries), !entry.isNone {
            let handle = entries.handle(entry)
            giveBack(entry, !wasSeen ? .unseen : handle == held.failed ? .failed : .seen)
            if handle == held.newest { wasSeen = false }
        }
        consumers.free(index)
        if !queue.pointee.isClosed {
            queue.pointee.lastUsed = clock
            updateHold(queue)
            updateIdle(queue.pointee.destination)
            dispatch(queueIndex)
        }
    }

    /// How an entry comes back from a consumer that did not acknowledge it.
    private enum Return {
        /// The consumer cannot have seen it: it was never delivered.
        case unseen
        /// The consumer may have seen it.
        case seen
        /// The consumer refused it or failed with it, which counts towards the delivery limit.
        case failed
    }

    /// Returns an entry that its consumer let go.
    private mutating func giveBack(_ index: Index<Entry>, _ how: Return) {
        let entry = entries[index]
        let queue = queues[entry.pointee.queue]
        switch how {
        case .unseen: if entry.pointee.deliveryCount > 0 { entry.pointee.deliveryCount -= 1 }
        case .failed:
            if entry.pointee.failureCount < .max { entry.pointee.failureCount += 1 }
            entry.pointee.isRedelivered = true
        case .seen: entry.pointee.isRedelivered = true
        }
        returnReady(index)
        if entry.pointee.expiresAt != 0, entry.pointee.expiresAt <= wallMilliseconds {
            expire(index)
        } else if how == .failed, queue.pointee.deliveryCountMax != 0,
            UInt32(entry.pointee.failureCount) >= queue.pointee.deliveryCountMax
        {
            deadLetter(index, reason: "delivery-limit", isKeptOtherwise: true)
        }
    }

    /// Joins the end of those whose turn comes, if there is free prefetch.
    mutating func takeTurn(_ index: Index<Consumer>) {
        let consumer = consumers[index]
        guard !consumer.pointee.hasTurn, !consumer.pointee.isPaused, consumer.pointee.credit > 0,
            consumer.pointee.unackedByteCount < consumer.pointee.byteCountMax
        else { return }
        let queue = queues[consumer.pointee.queue]
        consumer.pointee.hasTurn = true
        queue.pointee.turns.append(index, in: consumers)
    }

    mutating func leaveTurn(_ index: Index<Consumer>) {
        let consumer = consumers[index]
        guard consumer.pointee.hasTurn else { return }
        queues[consumer.pointee.queue].pointee.turns.remove(index, in: consumers)
        consumer.pointee.hasTurn = false
    }

    mutating func pause(_ index: Index<Consumer>) {
        consumers[index].pointee.isPaused = true
        leaveTurn(index)
    }

    mutating func unpause(_ index: Index<Consumer>) {
        consumers[index].pointee.isPaused = false
        takeTurn(index)
        dispatch(consumers[index].pointee.queue)
    }

    // MARK: Dispatch

    /// Gives ready messages to consumers in turn, as far as prefetch goes.
    mutating func dispatch(_ index: Index<Queue>) {
        let queue = queues[index]
        while case let entryIndex = queue.pointee.ready.first, !entryIndex.isNone,
            case let consumerIndex = queue.pointee.turns.first, !consumerIndex.isNone
        {
            let entry = entries[entryIndex]
            if entry.pointee.expiresAt != 0, entry.pointee.expiresAt <= wallMilliseconds {
                // Its timer fires later in this turn.
                expire(entryIndex)
                continue
            }
            let consumer = consumers[consumerIndex]
            unlinkReady(entryIndex)
            entry.pointee.state = .delivered
            entry.pointee.consumer = consumerIndex
            if entry.pointee.deliveryCount < .max { entry.pointee.deliveryCount += 1 }
            consumer.pointee.unacked.append(entryIndex, in: entries)
            consumer.pointee.credit -= 1
            consumer.pointee.unackedByteCount += entry.pointee.byteCount
            if queue.pointee.turns.last != consumerIndex || consumer.pointee.credit == 0
                || consumer.pointee.unackedByteCount >= consumer.pointee.byteCountMax
            {
                leaveTurn(consumerIndex)
                takeTurn(consumerIndex)
            }
            if entry.pointee.isRedelivered { counters.messagesRedelivered &+= 1 }
            if Int(consumer.pointee.shard) == self.index {
                let wasTaken = deliver(
                    stored(entry.pointee.message, identity: entry.pointee.identity, expiresAt: entry.pointee.expiresAt),
                    to: consumer.pointee.subscription, entry: entries.handle(entryIndex),
                    deliveryCount: entry.pointee.isRedelivered ? entry.pointee.deliveryCount : 0,
                    block: entry.pointee.message)
                if !wasTaken {
                    unlinkDelivered(entryIndex)
                    giveBack(entryIndex, .unseen)
                }
            } else {
                deliverElsewhere(entryIndex, consumerIndex)
            }
        }
    }

    /// Takes an entry off its consumer's list and gives the prefetch back.
    private mutating func unlinkDelivered(_ index: Index<Entry>) {
        let entry = entries[index]
        let consumerIndex = entry.pointee.consumer
        let consumer = consumers[consumerIndex]
        consumer.pointee.unacked.remove(index, in: entries)
        consumer.pointee.credit += 1
        consumer.pointee.unackedByteCount -= entry.pointee.byteCount
        takeTurn(consumerIndex)
    }

    /// Carries out a settlement. Stale ones (the consumer has left since) are counted and ignored.
    mutating func settle(_ handle: Handle<Entry>, consumer: Handle<Consumer>, _ settlement: Settlement) {
        guard let entry = entries.find(handle), entry.pointee.state == .delivered, consumers.isLive(consumer),
            entry.pointee.consumer == consumer.index
        else {
            counters.stalePeerMessages &+= 1
            return
        }
        let queue = entry.pointee.queue
        unlinkDelivered(handle.index)
        var settlement = settlement
        if settlement != .acknowledged,
            destinations[queues[queue].pointee.destination].pointee.kind == .subscriptionQueue
        {
            // A topic's message is for one subscriber: refused, it is nobody's.
            counters.messagesDropped &+= 1
            settlement = .acknowledged
        }
        switch settlement {
        case .acknowledged:
            counters.messagesAcknowledged &+= 1
            freeEntry(handle.index)
        case .returned: giveBack(handle.index, .failed)
        case .released: giveBack(handle.index, .seen)
        case .unseen: giveBack(handle.index, .unseen)
        case .rejected:
            returnReady(handle.index)
            deadLetter(handle.index, reason: "rejected")
        }
        if !queues[queue].pointee.turns.isEmpty { dispatch(queue) }
    }

    // MARK: Expiry and dead letters

    /// No timer is further away than this (34 years), whatever a client asks for: it is set again then.
    private static var expiryMillisecondsMax: UInt64 { 1 << 40 }

    private mutating func scheduleExpiry(_ handle: Handle<Entry>) {
        let entry = entries[handle.index]
        let milliseconds = min(entry.pointee.expiresAt - wallMilliseconds, Self.expiryMillisecondsMax)
        entry.pointee.timer = timers.schedule(
            at: now &+ milliseconds &* 1_000_000, kind: TimerKind.entry.rawValue, owner: handle.slot)
    }

    mutating func entryTimerFired(_ handle: Handle<Entry>) {
        guard let entry = entries.find(handle) else { return }
        entry.pointee.timer = 0
        // A dead letter might come too late to be reported there: it is reported here.
        if drainIsOver { return }
        // The wall clock may have been set back since.
        if entry.pointee.expiresAt > wallMilliseconds { return scheduleExpiry(handle) }
        // One that is with a consumer is looked at again when it comes back.
        if entry.pointee.state == .ready { expire(handle.index) }
    }

    /// A ready entry's time is over.
    mutating func expire(_ index: Index<Entry>) {
        counters.messagesExpired &+= 1
        if policies[queues[entries[index].pointee.queue].pointee.policy].deadLettersExpired {
            deadLetter(index, reason: "expired")
        } else {
            unlinkReady(index)
            freeEntry(index)
        }
    }

    /// Moves a ready entry to the dead-letter destination of its queue. Without one, or where that is full, the message is
    /// dropped, counted and logged; or stays, if it `isKeptOtherwise`.
    mutating func deadLetter(_ index: Index<Entry>, reason: StaticString, isKeptOtherwise: Bool = false) {
        let origin = nameOf(queues[entries[index].pointee.queue].pointee.destination)
        unlinkReady(index)
        let wasKept = moveToDeadLetters(index, origin: origin, reason: reason)
        if !wasKept, isKeptOtherwise { return returnReady(index) }
        if wasKept {
            counters.messagesDeadLettered &+= 1
        } else {
            counters.messagesDropped &+= 1
            notice(.messagesDropped, "1 of \(printable(origin)) (\(reason)): no dead-letter destination took it")
        }
        freeEntry(index)
    }

    /// Writes the canonical name of a queue's dead-letter destination to `scratch.name`. Nil where it has none, or is its
    /// own.
    private mutating func deadLetterName(_ index: Index<Queue>) -> (
        name: UnsafeRawBufferPointer, kind: DestinationClass
    )? {
        let queue = queues[index]
        let origin = nameOf(queue.pointee.destination)
        // The queue of a topic's subscription has no name, and one that is too long cannot be named as the origin.
        guard origin.count > 0, origin.count <= limits.destinationNameByteCountMax else { return nil }
        var parsed: DestinationName?
        if queue.pointee.deadLetter != 0 {
            parsed = parseDeadLetterName(
                UnsafeRawBufferPointer(
                    start: memory.blocks.base(queue.pointee.deadLetter), count: Int(queue.pointee.deadLetterByteCount)))
        } else {
            var target = policies[queue.pointee.policy].deadLetterDestination
            if target.isEmpty { return nil }
            parsed = target.withUTF8 { parseDeadLetterName(UnsafeRawBufferPointer($0)) }
        }
        guard let parsed else { return nil }
        let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
        if name.count == origin.count, memcmp(name.baseAddress!, origin.baseAddress!, name.count) == 0 { return nil }
        return (name, parsed.kind)
    }

    private mutating func parseDeadLetterName(_ text: UnsafeRawBufferPointer) -> DestinationName? {
        try? DestinationName.parse(
            text, bareNamePrefix: "", byteCountMax: limits.destinationNameByteCountMax,
            levelCountMax: limits.destinationLevelCountMax, owner: { "" }, into: scratch.name)
    }

    private mutating func moveToDeadLetters(
        _ index: Index<Entry>, origin: UnsafeRawBufferPointer, reason: StaticString
    ) -> Bool {
        guard let (name, kind) = deadLetterName(entries[index].pointee.queue) else { return false }
        var target = findDestination(name)
        if target.isNone {
            guard makeRoom(name, isQueue: kind == .queue, isUnused: true) else { return false }
            switch kind {
            case .queue: target = makeQueue(name, isTemporary: false)
            case .topic: target = makeTopic(name, isPattern: false)
            case .pattern, .queuePattern, .temporaryQueue, .temporaryTopic, .replyQueue, .replyTopic: return false
            }
            if target.isNone { return false }
        }
        // The message gains two lines that say where it was and why it left.
        var old = stored(entries[index].pointee.message, identity: entries[index].pointee.identity, expiresAt: 0)
        old.removeDestination()
        var extra = FrameWriter(at: scratch.key)
        extra.write("original-destination:")
        extra.writeEscaped(origin.baseAddress!, origin.count, version: .v1_2)
        extra.write("\ndead-letter-reason:")
        extra.write(reason)
        extra.write("\n")
        let lines = UnsafeRawBufferPointer(start: scratch.key, count: extra.cursor - scratch.key)
        var isPlain = old.isPlain
        for byte in origin where byte == UInt8(ascii: "\\") || byte == UInt8(ascii: ":") { isPlain = false }
        let block = store(
            Message(
                headers: old.headers, headersByteCount: old.headersByteCount, body: old.body,
                bodyByteCount: old.bodyByteCount, isPlain: isPlain, identity: old.identity, expiresAt: 0),
            extra: lines)
        if block == 0 { return false }
        defer { memory.blocks.release(block) }
        let message = stored(block, identity: old.identity, expiresAt: 0)
        // Else a client could fill any number of queues by way of dead letters.
        let holder = queues[entries[index].pointee.queue].pointee.holder
        switch destinations[target].pointee.kind {
        case .queue:
            let queue = queues.handle(destinations[target].pointee.queue)
            let wasEmpty = queues[queue.index].pointee.messageCount == 0
            guard enqueue(queue.index, message) else { return false }
            if wasEmpty { hold(queue, holder) }
            return true
        case .remoteQueue:
            forwardDeadLetter(target, message, of: holder)
            return true
        case .topic:
            publish(target, message)
            return true
        case .pattern, .subscriptionQueue: return false
        }
    }

    // MARK: Publishers that wait for room (policy block)

    /// The session's SEND waits until the queue has room; its socket is not read meanwhile.
    private mutating func block(_ session: UnsafeMutablePointer<Session>, on index: Index<Queue>) -> FrameOutcome {
        guard let pending = makePending(session, .send, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings[pending].pointee.peer = UInt16(self.index)
        pendings[pending].pointee.queue = queues.handle(index)
        pendings[pending].pointee.byteCount = UInt32(frame.reservedByteCount)
        queues[index].pointee.blocked.append(pending, in: pendings)
        suspend(session)
        return .retry
    }

    /// Grants room to those who wait, in turn, while there is any; all of them have their answer when the queue ends.
    mutating func unblock(_ queue: UnsafeMutablePointer<Queue>) {
        let queueIndex = destinations[queue.pointee.destination].pointee.queue
        while case let index = queue.pointee.blocked.first, !index.isNone {
            let pending = pendings[index]
            if queue.pointee.isClosed {
                pending.pointee.queue = .none
            } else {
                guard hasRoom(queueIndex, byteCount: Int(pending.pointee.byteCount)) else { return }
                queue.pointee.messageCount += 1
                queue.pointee.byteCount += UInt64(pending.pointee.byteCount)
            }
            queue.pointee.blocked.remove(index, in: pendings)
            if pending.pointee.kind == .remoteReservation {
                answerReservation(index)
                pendings.free(index)
            } else {
                granted(index)
            }
        }
    }

    /// The session of a SEND that waited goes on.
    mutating func granted(_ index: Index<PendingOperation>) {
        let session = sessions[pendings[index].pointee.session]
        pendings[index].pointee.isGranted = true
        session.pointee.flags.insert(.hasReservation)
        resumeSoon(session)
    }

    /// What the SEND under the parser was granted, at the end of its session's list: no frame came in between.
    func reservation(_ session: UnsafeMutablePointer<Session>) -> Index<PendingOperation> {
        let index = session.pointee.pendings.last
        invariant(
            !index.isNone && pendings[index].pointee.isGranted, "a reservation is the last thing that was waited for")
        return index
    }

    /// Gives up what a SEND was granted, for it is about to take the room, or will not take it.
    mutating func returnReservation(_ session: UnsafeMutablePointer<Session>) {
        let index = reservation(session)
        session.pointee.flags.remove(.hasReservation)
        returnGranted(index)
        unlinkPending(session, index)
    }

    mutating func returnGranted(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        if pending.queue.isNone { return }
        if Int(pending.peer) == self.index {
            returnRoom(pending.queue, byteCount: UInt64(pending.byteCount))
        } else {
            unreserveAtOwner(Int(pending.peer), pending.queue, byteCount: pending.byteCount)
        }
    }

    /// Room that was kept for a message is free again.
    mutating func returnRoom(_ handle: Handle<Queue>, byteCount: UInt64) {
        guard let queue = queues.find(handle) else { return }
        queue.pointee.messageCount -= 1
        queue.pointee.byteCount -= byteCount
    }

    /// After room became free by `returnRoom`: others may have it, or nobody needs the queue any more.
    mutating func roomIsFree(_ handle: Handle<Queue>) {
        guard let queue = queues.find(handle) else { return }
        if !queue.pointee.blocked.isEmpty { unblock(queue) }
        if queue.pointee.messageCount == 0 { becomeEmpty(queue) } else { updateIdle(queue.pointee.destination) }
    }

    // MARK: The queues of acknowledging topic subscriptions

    /// An acknowledging topic subscription is a queue of its own, bound to the topic, with this one consumer.
    mutating func bindQueue(_ subscriptionIndex: Index<Subscription>) {
        let subscription = subscriptions[subscriptionIndex]
        let topic = subscription.pointee.destination
        let created = destinations.makeSubscriptionQueue()
        guard !created.isNone else {
            return fail(sessions[subscription.pointee.session], "Out of memory", "no room for another subscription")
        }
        guard attachQueue(to: created) else {
            destinations.remove(created, memory: &memory)
            return fail(sessions[subscription.pointee.session], "Out of memory", "no room for another subscription")
        }
        let queueIndex = destinations[created].pointee.queue
        queues[queueIndex].pointee.byteCountMax = UInt64(limits.outputByteCountMax + limits.prefetchByteCountMax)
        queues[queueIndex].pointee.overflow = .reject
        subscription.pointee.ownQueue = created
        subscription.pointee.position = destinations.bind(created, of: subscriptionIndex, to: topic)
        addConsumer(queueIndex, subscriptionIndex)
    }

    mutating func unbindQueue(_ subscriptionIndex: Index<Subscription>) {
        let subscription = subscriptions[subscriptionIndex]
        let topic = subscription.pointee.destination
        if let moved = destinations.unbind(at: subscription.pointee.position, from: topic) {
            subscriptions[moved.subscription].pointee.position = subscription.pointee.position
        }
        let queueDestination = subscription.pointee.ownQueue
        subscription.pointee.ownQueue = .none
        // What nobody acknowledged goes with its subscription, which is no loss to be told of.
        _ = closeQueue(queues[destinations[queueDestination].pointee.queue])
        remove(queueDestination)
    }

    /// A topic's message for each queue bound to it. A subscriber whose queue is full has fallen too far behind.
    mutating func enqueueToBound(_ index: Index<Destination>, _ message: Message, name: UnsafeRawBufferPointer) {
        var message = message
        var line = UnsafeRawBufferPointer(start: nil, count: 0)
        if !message.carriesDestination {
            var extra = FrameWriter(at: scratch.key)
            extra.write("destination:")
            extra.writeEscaped(name.baseAddress!, name.count, version: .v1_2)
            extra.write("\n")
            line = UnsafeRawBufferPointer(start: scratch.key, count: extra.cursor - scratch.key)
            // A name with escapes makes the lines differ between versions.
            if line.count != 13 + name.count { message.isPlain = false }
            message.carriesDestination = true
        }
        let bound = destinations[index].pointee.bound
        for i in 0..<bound.count {
            let queue = destinations[bound[i].destination].pointee.queue
            if !enqueue(queue, message, extra: line) {
                let isFull = !hasRoom(queue, byteCount: message.contentByteCount)
                let subscription = subscriptions[bound[i].subscription].pointee
                doom(
                    sessions[subscription.session], for: isFull ? .outputBytes : .messageMemory,
                    group: subscription.group)
            }
        }
    }
}
