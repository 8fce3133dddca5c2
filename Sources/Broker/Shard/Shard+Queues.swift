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
    /// The most that the SEND counts as in a queue: its headers may gain escapes, a longer `reply-to`, and the line that says
    /// when it is due.
    var reservedByteCount: Int {
        isPlain && !hasAny(HeaderName.replyTo.bit | HeaderName.sendOption.bit)
            ? byteCount : byteCount + headersByteCount + 1024
    }
}

// Queues: what comes in, who consumes, what is given out. `QueueEngine` keeps the records and decides; here it is carried out.
extension Shard {
    // MARK: Queues

    /// Gives a destination its queue, with the limits of its policy.
    ///
    /// - Parameter isNamed: it outlives the connections that use it, and so may its messages.
    mutating func attachQueue(to index: Index<Destination>, isNamed: Bool) -> Bool {
        let policyIndex = UInt32(policies.index(of: nameOf(index)))
        let queue = queues.make(
            for: index, policies[policyIndex], at: policyIndex,
            storage: isNamed && store.isEnabled ? policies[policyIndex].storage : .never, clock: clock)
        if queue.isNone { return false }
        destinations.attach(queue, to: index, storage: queues[queue].pointee.storage)
        if policies[policyIndex].idleWithMessagesMillisecondsMax != 0 { armIdle(queue) }
        return true
    }

    /// Ends a queue. Its consumers are gone; its messages go to the dead-letter destination or are dropped, counted.
    mutating func removeQueue(_ index: Index<Queue>) {
        let destination = queues[index].pointee.destination
        if !queueArguments.isEmpty { forgetArguments(of: index) }
        let dropped = closeQueue(index)
        if dropped > 0 {
            counters.messagesDropped &+= UInt64(dropped)
            notice(
                .messagesDropped,
                "\(dropped) of \(destinationText(destination)): the connection that owned it has ended")
        }
        unblock(index)
        destinations.detachQueue(from: destination)
        queues.remove(index, &memory)
    }

    /// Takes a queue's consumers and messages from it, and lets it take no more. Returns how many messages there were.
    mutating func closeQueue(_ index: Index<Queue>) -> Int {
        beginToClose(index)
        return dropReady(index) + dropCold(index) + dropReady(index)
    }

    /// Takes a queue's consumers from it, and lets it take no more.
    mutating func beginToClose(_ index: Index<Queue>) {
        queues.close(index)
        queues.disarmIdle(index, &timers)
        while case let consumer = queues[index].pointee.consumers.first, !consumer.isNone {
            removeConsumer(consumer, .nothing)
        }
        if !deadLettersAsked.isEmpty { endAsking(of: index) }
    }

    /// Drops ready messages, the oldest first, at most so many. Returns how many there were.
    mutating func dropReady(_ index: Index<Queue>, atMost countMax: Int = .max) -> Int {
        var count = 0
        while count < countMax, case let entry = queues[index].pointee.ready.first, !entry.isNone {
            queues.takeOut(entry)
            freeEntry(entry)
            count += 1
        }
        readBackIfFew(index)
        return count
    }

    /// Whether a transaction can be promised room for a message of so many bytes. Where that is the policy, the oldest
    /// make room now, and not at COMMIT's end: all may be with consumers, and then the promise could not be kept.
    mutating func canReserve(_ index: Index<Queue>, byteCount: Int) -> Bool {
        if queues[index].pointee.overflow == .dropOldest { dropOldest(index, byteCount: byteCount) }
        return takes(index, byteCount: byteCount)
    }

    /// A local SEND found the queue full.
    mutating func queueIsFull(
        _ context: FrameContext, _ target: SendTarget, _ index: Index<Queue>
    ) -> FrameOutcome {
        let queue = queues[index]
        counters.limits.count(.queue)
        switch queue.pointee.overflow {
        case .block where !context.isCommitting && UInt64(frame.reservedByteCount) <= queue.pointee.byteCountMax:
            return block(context, on: index)
        case .dropOldest:
            guard let message = messageOfFrame(context, for: target) else { return .done }
            dropOldest(index, byteCount: message.contentByteCount)
            if take(index, message) {
                confirm(context)
                return .done
            }
            // Too large for the queue, or what is in it is all with consumers.
            fallthrough
        case .reject, .block:
            counters.messagesRefused &+= 1
            failFrame(
                context, "Queue full",
                "\(destinationText(queue.pointee.destination)) is full: \(queue.pointee.messageCount) messages of at most "
                    + "\(queue.pointee.messageCountMax) (messages-max), and \(queue.pointee.byteCount) bytes of at most "
                    + "\(queue.pointee.byteCountMax) (bytes-max)")
            return .done
        }
    }

    /// Makes room by dropping the oldest ready messages.
    mutating func dropOldest(_ index: Index<Queue>, byteCount: Int) {
        guard UInt64(byteCount) <= queues[index].pointee.byteCountMax else { return }
        while !queues.hasRoom(index, byteCount: byteCount), !queues[index].pointee.ready.isEmpty {
            deadLetter(queues[index].pointee.ready.first, reason: "maxlen")
        }
    }

    /// Puts a message into a queue and gives it to a consumer whose turn it is. False: no memory, or nothing could be
    /// dropped to make room.
    mutating func enqueue(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer = .init(start: nil, count: 0)
    ) -> Bool {
        if stores(index, isPersistent: message.isPersistent) { return enqueueStored(index, message, extra: extra) }
        if queues[index].pointee.mayBeCold,
            let wasTaken = enqueueCold(index, message, extra: extra, isStored: false)
        {
            return wasTaken
        }
        return finishEnqueueing(
            index, queues.enqueue(index, message, extra: extra, isStored: false, &memory, &timers, at: moment))
    }

    /// The same of a message that goes to the log. Apart, so that one that does not pays nothing for it.
    @inline(never)
    private mutating func enqueueStored(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer
    ) -> Bool {
        if queues[index].pointee.mayBeCold,
            let wasTaken = enqueueCold(index, message, extra: extra, isStored: true)
        {
            return wasTaken
        }
        let admission = queues.enqueue(index, message, extra: extra, isStored: true, &memory, &timers, at: moment)
        if case .queued(let entry) = admission { keepNew(entry, message) }
        return finishEnqueueing(index, admission)
    }

    @inline(__always)
    private mutating func finishEnqueueing(_ index: Index<Queue>, _ admission: Admission) -> Bool {
        switch admission {
        case .queued:
            if queues[index].pointee.messageCount == 1 { updateIdle(queues[index].pointee.destination) }
            if !queues[index].pointee.turns.isEmpty { dispatch(index) }
            return true
        case .expired:
            counters.messagesExpired &+= 1
            return true
        case .full, .noMemory: return false
        }
    }

    /// An entry that is neither ready nor with a consumer leaves the broker.
    mutating func freeEntry(_ entry: Index<Entry>) {
        let index = queues[entry].pointee.queue
        if queues[entry].pointee.isStored || !queues[index].pointee.intake.isNone { leaveLog(entry, index) }
        queues.free(entry, &memory, &timers)
        let queue = queues[index]
        if !queue.pointee.blocked.isEmpty { unblock(index) }
        if queue.pointee.messageCount == 0, !queue.pointee.isClosed { becomeEmpty(index) }
    }

    /// Somebody hears of the entry's end: the log, or who reads a topic's log for the queue.
    @inline(never)
    private mutating func leaveLog(_ entry: Index<Entry>, _ index: Index<Queue>) {
        if queues[entry].pointee.isStored { acknowledgeStored(entry) }
        if !queues[index].pointee.intake.isNone { tookOne(entry) }
    }

    private mutating func becomeEmpty(_ index: Index<Queue>) {
        queues.updateHold(index)
        updateIdle(queues[index].pointee.destination)
    }

    // MARK: Consumers

    /// The window of the SUBSCRIBE under the parser: `prefetch-count` or `activemq.prefetchSize` messages (0 or absent:
    /// the limit), `consumer-window-size` bytes. nil: it was answered with ERROR.
    mutating func windowOfFrame(_ context: FrameContext) -> Window? {
        var window = Window(limits)
        for name: HeaderName in [.prefetchCount, .activemqPrefetchSize] {
            guard let value = number(context, name, default: 0) else { return nil }
            if value > 0 { window.messageCount = min(window.messageCount, UInt32(clamping: value)) }
        }
        // Clients of Artemis say -1 for no limit of their own.
        if let text = frame.rawValue(.consumerWindowSize), equals(text, "-1") { return window }
        guard let value = number(context, .consumerWindowSize, default: 0) else { return nil }
        if value > 0 { window.byteCount = min(window.byteCount, UInt32(clamping: value)) }
        return window
    }

    /// Adds a consumer for a subscription of this worker.
    mutating func addConsumer(_ queueIndex: Index<Queue>, _ subscriptionIndex: Index<Subscription>) {
        let subscription = subscriptions[subscriptionIndex]
        subscriptions.activate(subscriptionIndex)
        let consumer = addConsumer(
            queueIndex, shard: index, subscription: subscriptions.handle(subscriptionIndex),
            subscription.pointee.window)
        guard !consumer.isNone else {
            counters.limits.count(.subscriptions)
            return fail(sessions[subscription.pointee.session], "Out of memory", "no room for another consumer")
        }
        subscriptions.setConsumer(consumer, of: subscriptionIndex)
        let session = sessions[subscription.pointee.session]
        if session.pointee.flags.contains(.consumersPaused) { queues.pause(consumer.index) }
        dispatch(queueIndex)
    }

    /// Adds a consumer that may live with another worker. None: no memory.
    mutating func addConsumer(
        _ index: Index<Queue>, shard: Int, subscription: Handle<Subscription>, _ window: Window
    ) -> Handle<Consumer> {
        let consumer = queues.addConsumer(to: index, shard: shard, subscription: subscription, window)
        if !consumer.isNone { updateIdle(queues[index].pointee.destination) }
        return consumer
    }

    /// A consumer leaves: what it has not acknowledged returns to where it was, to be delivered again.
    mutating func removeConsumer(_ consumer: Index<Consumer>, _ held: HeldMessages) {
        let index = queues[consumer].pointee.queue
        queues.detach(consumer)
        // What is behind the newest that its session was given is still on its way there.
        var wasSeen = !held.newest.isNone
        while case let entry = queues.takeFrom(consumer), !entry.isNone {
            let handle = queues.handle(entry)
            giveBack(entry, !wasSeen ? .unseen : handle == held.failed ? .failed : .seen)
            if handle == held.newest { wasSeen = false }
        }
        queues.free(consumer)
        if !queues[index].pointee.isClosed {
            queues.use(index, clock: clock)
            queues.updateHold(index)
            updateIdle(queues[index].pointee.destination)
            if destinations[queues[index].pointee.destination].pointee.marks.contains(.durableQueue) {
                consumerLeft(index)
            }
            dispatch(index)
        }
    }

    mutating func resume(_ consumer: Index<Consumer>) {
        queues.resume(consumer)
        dispatch(queues[consumer].pointee.queue)
    }

    // MARK: Dispatch

    /// Gives ready messages to consumers in turn, as far as prefetch goes: now, or when the dispatch that this came of is
    /// done, for a dead letter of one queue may be for another.
    mutating func dispatch(_ index: Index<Queue>) {
        if isDispatching { return dispatchLater(index) }
        isDispatching = true
        dispatchOne(index)
        if !queuesToDispatch.isEmpty { dispatchOthers() }
        isDispatching = false
    }

    /// What could not be dispatched while a group of records was open.
    mutating func dispatchWhatWaits() {
        if queuesToDispatch.isEmpty { return }
        isDispatching = true
        dispatchOthers()
        isDispatching = false
    }

    private mutating func dispatchLater(_ index: Index<Queue>) {
        let queue = queues.handle(index)
        // Many dead letters mostly go to one queue.
        let count = queuesToDispatch.count
        if count == 0 || queuesToDispatch[count - 1] != queue { queuesToDispatch.append(queue) }
    }

    private mutating func dispatchOthers() {
        var position = 0
        while position < queuesToDispatch.count {
            let next = queuesToDispatch[position]
            if queues.isLive(next) { dispatchOne(next.index) }
            position += 1
        }
        queuesToDispatch.removeAll()
    }

    private mutating func dispatchOne(_ index: Index<Queue>) {
        while true {
            switch queues.next(index, wallMilliseconds: wallMilliseconds) {
            case .nothing: return readBackIfFew(index)
            // Its timer fires later in this turn.
            case .expired(let entry): expire(entry)
            case .deliver(let entry, let consumer): deliver(entry, to: consumer)
            case .examine(_, let consumer):
                // There are no selectors: nobody asks for a consumer that may not take all.
                queues.pass(consumer)
            }
        }
    }

    @inline(__always)
    private mutating func deliver(_ index: Index<Entry>, to consumerIndex: Index<Consumer>) {
        let entry = queues[index]
        let consumer = queues[consumerIndex]
        if entry.pointee.isRedelivered { counters.messagesRedelivered &+= 1 }
        guard Int(consumer.pointee.shard) == self.index else { return deliverElsewhere(index, consumerIndex) }
        let wasTaken = deliver(
            memory.stored(entry.pointee.message, identity: entry.pointee.identity, expiresAt: entry.pointee.expiresAt),
            to: consumer.pointee.subscription, entry: queues.handle(index),
            deliveryCount: entry.pointee.isRedelivered ? entry.pointee.deliveryCount : 0, block: entry.pointee.message)
        if !wasTaken {
            queues.release(index)
            giveBack(index, .unseen)
        }
    }

    /// Returns an entry that its consumer let go.
    private mutating func giveBack(_ entry: Index<Entry>, _ how: Return) {
        let returned = queues.putBack(entry, how, wallMilliseconds: wallMilliseconds)
        chargeForSteps(returned.stepCount)
        switch returned.outcome {
        case .ready: if how == .failed, queues[entry].pointee.isStored { countFailureOfStored(entry) }
        case .expired: expire(entry)
        case .failedTooOften:
            deadLetter(entry, reason: "delivery-limit", isKeptOtherwise: true, isOfGroup: true)
        }
    }

    /// Carries out a settlement. Stale ones (the consumer has left since) are counted and ignored.
    mutating func settle(_ handle: Handle<Entry>, consumer: Handle<Consumer>, _ settlement: Settlement) {
        guard queues.release(handle, from: consumer) else {
            counters.stalePeerMessages &+= 1
            return
        }
        let entry = handle.index
        let index = queues[entry].pointee.queue
        var settlement = settlement
        if settlement != .acknowledged,
            destinations[queues[index].pointee.destination].pointee.kind == .subscriptionQueue
        {
            // A topic's message is for one subscriber: refused, it is nobody's. In a log it stays.
            if queues[index].pointee.intake.isNone { counters.messagesDropped &+= 1 }
            settlement = .acknowledged
        }
        switch settlement {
        case .acknowledged:
            counters.messagesAcknowledged &+= 1
            freeEntry(entry)
        case .returned: giveBack(entry, .failed)
        case .released: giveBack(entry, .seen)
        case .unseen: giveBack(entry, .unseen)
        case .rejected:
            chargeForSteps(queues.putBack(entry))
            deadLetter(entry, reason: "rejected", isOfGroup: true)
        }
        if !queues[index].pointee.turns.isEmpty { dispatch(index) }
    }

    // MARK: Room

    /// Room that was kept for a message is free again.
    mutating func returnRoom(_ handle: Handle<Queue>, byteCount: UInt64) {
        if queues.isLive(handle) { queues.unreserve(handle.index, byteCount: Int(byteCount)) }
    }

    /// After room became free by `returnRoom`: others may have it, or nobody needs the queue any more.
    mutating func roomIsFree(_ handle: Handle<Queue>) {
        guard let queue = queues.find(handle) else { return }
        if !queue.pointee.blocked.isEmpty { unblock(handle.index) }
        if queue.pointee.messageCount == 0 {
            becomeEmpty(handle.index)
        } else {
            updateIdle(queue.pointee.destination)
        }
    }
}
