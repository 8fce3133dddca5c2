import STOMP
import Slabs

// Subscriptions begin and end, and a topic's messages go to their encodings (`TopicRouter`).
extension Shard {
    @inline(__always)
    func idOf(_ index: Index<SharedEncoding>) -> UnsafeRawBufferPointer { router.id(of: index, in: memory) }

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
            || destinations[index].pointee.kind == .remoteQueue || retainsMuch(index)
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
            // Where there is no memory for the RECEIPT, the session and its subscription have ended.
            confirm(context)
            if session.pointee.state == .connected { activate(subscription) }
        case .queue:
            confirm(context)
            if session.pointee.state == .connected {
                addConsumer(destinations[index].pointee.queue, subscription)
            }
        case .remoteQueue:
            subscribeAtOwner(context, index, subscription)
        case .subscriptionQueue:
            invariant(false, "a subscription's own queue has no name to subscribe to")
        }
        return .done
    }

    mutating func makeSubscription(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, id: UnsafeRawBufferPointer,
        isNamed: Bool,
        ackMode: AckMode, consumes: Bool, window: Window
    ) -> Index<Subscription> {
        let encoding = router.findOrMake(
            index, id: id, isNamed: isNamed, version: session.pointee.version, consumes: consumes,
            destinations: &destinations, memory: &memory)
        if encoding.isNone { return .none }
        let created = subscriptions.make(
            session, to: index, encoding, ackMode, consumes: consumes, window, router, memory)
        guard !created.isNone else {
            router.removeIfEmpty(encoding, destinations: &destinations, memory: &memory)
            return .none
        }
        router.addNonMember(to: encoding)
        destinations.addSubscription(to: index)
        if hosts.isOn { hosts.addSubscription(session.pointee.index) }
        updateIdle(index)
        return created
    }

    /// The subscription counts from now on.
    mutating func activate(_ index: Index<Subscription>) {
        let subscription = subscriptions[index]
        subscriptions.activate(index)
        if subscription.pointee.flags.contains(.isConsumer) {
            bindQueue(index)
            if topicLogs.retainedCount > 0 { enqueueRetained(for: index) }
            return
        }
        // What was published before goes to those who were there.
        flush(subscription.pointee.encoding)
        if topicLogs.retainedCount > 0 { giveRetained(to: index) }
        let position = router.join(
            subscription.pointee.encoding, Member(session: subscription.pointee.session, subscription: index))
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
        let encodingIndex = subscription.pointee.encoding
        let destinationIndex = subscription.pointee.destination
        if subscription.pointee.flags.contains(.isConsumer) {
            let held = forgetDeliveries(session, index, end)
            router.removeNonMember(from: encodingIndex)
            if !subscription.pointee.ownQueue.isNone {
                unbindQueue(index)
            } else if !subscription.pointee.flags.contains(.pending) || !subscription.pointee.consumer.isNone {
                removeConsumer(of: index, session, held)
            }
        } else if !subscription.pointee.flags.contains(.pending) {
            flush(encodingIndex)
            if let moved = router.leave(encodingIndex, at: subscription.pointee.position) {
                subscriptions.setPosition(subscription.pointee.position, of: moved.subscription)
            }
        } else {
            router.removeNonMember(from: encodingIndex)
        }
        subscriptions.remove(index, session, router, memory)
        if hosts.isOn { hosts.removeSubscription(session.pointee.index) }
        router.removeIfEmpty(encodingIndex, destinations: &destinations, memory: &memory)
        if destinations.removeSubscription(from: destinationIndex) { announceWithdrawal(destinationIndex) }
        if destinations[destinationIndex].pointee.marks.contains(.durableQueue) { leftDurable(destinationIndex) }
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
            if route(message, of: index, to: pattern, name: visible(nameOf(index))) { wasRouted = true }
        }
        return wasRouted
    }

    /// Gives a topic's message to the subscribers of the topic, or of a pattern that matches it. False: there is none.
    ///
    /// - Parameter name: the topic's, as its clients see it, where it is a pattern.
    @inline(__always)
    private mutating func route(
        _ message: Message, of topic: Index<Destination>, to index: Index<Destination>, name: UnsafeRawBufferPointer?
    ) -> Bool {
        var wasRouted = false
        var encoding = destinations[index].pointee.encodings.first
        while !encoding.isNone {
            if router[encoding].pointee.members.count != 0 {
                encode(encoding, message, name: name)
                wasRouted = true
            }
            encoding = router.next(after: encoding)
        }
        if destinations[index].pointee.bound.count != 0 {
            enqueueToBound(index, message, name: nameOf(topic))
            wasRouted = true
        }
        return wasRouted
    }

    /// Encodes a message, behind those of the same turn. A block that is full is given out first.
    @inline(__always)
    private mutating func encode(_ index: Index<SharedEncoding>, _ message: Message, name: UnsafeRawBufferPointer?) {
        switch router.encode(index, message, name: name, memory: &memory) {
        case .written: counters.messagesDelivered &+= UInt64(router[index].pointee.members.count)
        case .isFull: encodeInNewBlock(index, message, name: name)
        case .noMemory: dropUnencoded(index)
        }
    }

    private mutating func encodeInNewBlock(
        _ index: Index<SharedEncoding>, _ message: Message, name: UnsafeRawBufferPointer?
    ) {
        flush(index)
        guard case .written = router.encode(index, message, name: name, memory: &memory) else {
            return dropUnencoded(index)
        }
        counters.messagesDelivered &+= UInt64(router[index].pointee.members.count)
    }

    private mutating func dropUnencoded(_ index: Index<SharedEncoding>) {
        let count = router[index].pointee.members.count
        counters.messagesDropped &+= UInt64(count)
        notice(.memoryLimit, "no memory to send a message to \(count) subscribers: it is dropped")
    }

    /// Gives the messages of an encoding to its members.
    mutating func flush(_ index: Index<SharedEncoding>) {
        guard let encoded = router.beginFlush(index, in: memory) else { return }
        let members = router[index].pointee.members
        for i in 0..<members.count {
            let session = sessions[members[i].session]
            // It is cut as soon as there is time.
            if session.pointee.flags.contains(.slow) { continue }
            appendShared(session, encoded.block, offset: 0, byteCount: encoded.byteCount)
        }
        router.endFlush(encoded, memory: &memory)
    }

    /// Flushes all encodings that gained messages in this turn.
    mutating func flushEncodings() {
        for i in 0..<router.dirtyCount {
            let encoding = router.dirtyEncoding(at: i)
            if !encoding.isNone { flush(encoding) }
        }
        router.forgetDirty()
    }

    /// Flushes the encodings a session is in, so that what was routed to it precedes what is written to it next.
    mutating func flushEncodings(of session: UnsafeMutablePointer<Session>) {
        if Int(session.pointee.subscriptionCount) > router.dirtyCount { return flushEncodings() }
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            flush(subscriptions[index].pointee.encoding)
            index = subscriptions.next(after: index)
        }
    }
}
