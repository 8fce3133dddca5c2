import STOMP
import Slabs

// Subscriptions begin and end, and a topic's messages go to their groups (`TopicRouter`).
extension Shard {
    @inline(__always)
    func idOf(_ index: Index<Group>) -> UnsafeRawBufferPointer { groups.id(of: index, in: memory) }

    // MARK: SUBSCRIBE

    /// SUBSCRIBE, all of it checked. Suspends the session where other workers have to agree.
    mutating func subscribe(
        _ context: FrameContext, to index: Index<Destination>, id: UnsafeRawBufferPointer,
        ackMode: AckMode,
        window: Window
    ) -> FrameOutcome {
        let session = context.session
        // Its RECEIPT precedes its first MESSAGE, and receipts leave in order.
        if pendings.holdsBack(session, asksForReceipt: frame.has(.receipt)) {
            updateIdle(index)
            return retryAfterPending(context)
        }
        let consumes =
            ackMode != .auto || destinations[index].pointee.kind == .queue
            || destinations[index].pointee.kind == .remoteQueue
        let subscription = makeSubscription(
            session, index, id: id, isNamed: frame.has(.id), ackMode: ackMode, consumes: consumes, window: window)
        if subscription.isNone {
            updateIdle(index)
            counters.limits.count(.subscriptions)
            failFrame(context, "Out of memory", "no room for another subscription (limits.subscriptions-max)")
            return .done
        }
        switch destinations[index].pointee.kind {
        case .topic, .pattern:
            session.pointee.flags.insert(.hasTopics)
            guard isInterested(index, context, subscription) else { return .done }
            confirm(context)
            activate(subscription)
        case .queue:
            confirm(context)
            addConsumer(destinations[index].pointee.queue, subscription)
        case .remoteQueue:
            subscribeAtOwner(context, index, subscription)
        case .subscriptionQueue:
            invariant(false, "a subscription's own queue has no name to subscribe to")
        }
        return .done
    }

    private mutating func makeSubscription(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, id: UnsafeRawBufferPointer,
        isNamed: Bool,
        ackMode: AckMode, consumes: Bool, window: Window
    ) -> Index<Subscription> {
        let group = groups.findOrMake(
            index, id: id, isNamed: isNamed, version: session.pointee.version, consumes: consumes,
            destinations: &destinations, memory: &memory)
        if group.isNone { return .none }
        let created = subscriptions.make(
            session, to: index, group, ackMode, consumes: consumes, window, groups, memory)
        guard !created.isNone else {
            groups.removeIfEmpty(group, destinations: &destinations, memory: &memory)
            return .none
        }
        groups.addNonMember(to: group)
        destinations.addSubscription(to: index)
        updateIdle(index)
        return created
    }

    /// The subscription counts from now on.
    mutating func activate(_ index: Index<Subscription>) {
        let subscription = subscriptions[index]
        subscriptions.activate(index)
        if subscription.pointee.flags.contains(.isConsumer) {
            bindQueue(index)
            return
        }
        // What was published before goes to those who were there.
        flush(subscription.pointee.group)
        let position = groups.join(
            subscription.pointee.group, Member(session: subscription.pointee.session, subscription: index))
        subscriptions.setPosition(position, of: index)
    }

    /// The `reply-to` of a SEND: a subscription whose id is the temporary name itself. False: ERROR was sent.
    mutating func subscribeToTemporary(
        _ context: FrameContext, _ index: Index<Destination>, id: UnsafeRawBufferPointer
    ) -> Bool {
        let session = context.session
        let subscription = makeSubscription(
            session, index, id: id, isNamed: true, ackMode: .auto, consumes: true, window: Window(limits))
        guard !subscription.isNone else {
            counters.limits.count(.subscriptions)
            failFrame(context, "Out of memory", "no room for another subscription (limits.subscriptions-max)")
            return false
        }
        addConsumer(destinations[index].pointee.queue, subscription)
        return session.pointee.state == .connected
    }

    // MARK: UNSUBSCRIBE

    /// Ends a subscription. What its consumer holds unacknowledged returns to the queue.
    mutating func unsubscribe(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Subscription>, _ end: ConsumerEnd = .left
    ) {
        let subscription = subscriptions[index]
        let groupIndex = subscription.pointee.group
        let destinationIndex = subscription.pointee.destination
        if subscription.pointee.flags.contains(.isConsumer) {
            let held = forgetDeliveries(session, index, end)
            groups.removeNonMember(from: groupIndex)
            if !subscription.pointee.ownQueue.isNone {
                unbindQueue(index)
            } else if !subscription.pointee.flags.contains(.pending) || !subscription.pointee.consumer.isNone {
                removeConsumer(of: index, session, held)
            }
        } else if !subscription.pointee.flags.contains(.pending) {
            flush(groupIndex)
            if let moved = groups.leave(groupIndex, at: subscription.pointee.position) {
                subscriptions.setPosition(subscription.pointee.position, of: moved.subscription)
            }
        } else {
            groups.removeNonMember(from: groupIndex)
        }
        subscriptions.remove(index, session, groups, memory)
        groups.removeIfEmpty(groupIndex, destinations: &destinations, memory: &memory)
        if destinations.removeSubscription(from: destinationIndex) { announceWithdrawal(destinationIndex) }
        updateIdle(destinationIndex)
    }

    // MARK: Publishing

    /// Gives a message to every subscriber of a topic, here and with other workers.
    mutating func publish(_ index: Index<Destination>, _ message: Message) {
        if message.expiresAt != 0, message.expiresAt <= wallMilliseconds {
            counters.messagesExpired &+= 1
            return
        }
        let routedHere = publishHere(index, message)
        let routedElsewhere = shardCount > 1 && publishElsewhere(index, message)
        if !routedHere && !routedElsewhere { counters.messagesUnrouted &+= 1 }
    }

    /// Gives a message to this worker's subscribers.
    @inline(__always)
    mutating func publishHere(_ index: Index<Destination>, _ message: Message) -> Bool {
        var wasRouted = route(message, of: index, to: index, name: nil)
        let topic = destinations[index]
        for i in 0..<topic.pointee.matches.count {
            let pattern = topic.pointee.matches[i].destination
            if route(message, of: index, to: pattern, name: nameOf(index)) { wasRouted = true }
        }
        return wasRouted
    }

    /// Gives a topic's message to the subscribers of the topic, or of a pattern that matches it. False: there is none.
    ///
    /// - Parameter name: the topic's, where it is a pattern.
    @inline(__always)
    private mutating func route(
        _ message: Message, of topic: Index<Destination>, to index: Index<Destination>, name: UnsafeRawBufferPointer?
    ) -> Bool {
        var wasRouted = false
        var group = destinations[index].pointee.groups.first
        while !group.isNone {
            if groups[group].pointee.members.count != 0 {
                encode(group, message, name: name)
                wasRouted = true
            }
            group = groups.next(after: group)
        }
        if destinations[index].pointee.bound.count != 0 {
            enqueueToBound(index, message, name: nameOf(topic))
            wasRouted = true
        }
        return wasRouted
    }

    /// Encodes a message for a group, whose run is given out when it is full.
    @inline(__always)
    private mutating func encode(_ index: Index<Group>, _ message: Message, name: UnsafeRawBufferPointer?) {
        switch groups.encode(index, message, name: name, memory: &memory) {
        case .written: counters.messagesDelivered &+= UInt64(groups[index].pointee.members.count)
        case .runIsFull: encodeInNewRun(index, message, name: name)
        case .noMemory: dropUnencoded(index)
        }
    }

    private mutating func encodeInNewRun(_ index: Index<Group>, _ message: Message, name: UnsafeRawBufferPointer?) {
        flush(index)
        guard case .written = groups.encode(index, message, name: name, memory: &memory) else {
            return dropUnencoded(index)
        }
        counters.messagesDelivered &+= UInt64(groups[index].pointee.members.count)
    }

    private mutating func dropUnencoded(_ index: Index<Group>) {
        let count = groups[index].pointee.members.count
        counters.messagesDropped &+= UInt64(count)
        notice(.memoryLimit, "no memory to send a message to \(count) subscribers: it is dropped")
    }

    /// Gives a group's run to its members.
    mutating func flush(_ index: Index<Group>) {
        guard let run = groups.beginFlush(index, in: memory) else { return }
        let members = groups[index].pointee.members
        for i in 0..<members.count {
            let session = sessions[members[i].session]
            // It is cut as soon as there is time.
            if session.pointee.flags.contains(.doomed) { continue }
            appendRun(session, run.block, offset: 0, byteCount: run.byteCount)
        }
        groups.endFlush(run, memory: &memory)
    }

    /// Flushes all groups that gained messages in this turn.
    mutating func flushGroups() {
        for i in 0..<groups.dirtyCount {
            let group = groups.dirtyGroup(at: i)
            if !group.isNone { flush(group) }
        }
        groups.forgetDirty()
    }

    /// Flushes the groups a session is in, so that what was routed to it precedes what is written to it next.
    mutating func flushGroups(of session: UnsafeMutablePointer<Session>) {
        if Int(session.pointee.subscriptionCount) > groups.dirtyCount { return flushGroups() }
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            flush(subscriptions[index].pointee.group)
            index = subscriptions.next(after: index)
        }
    }
}
