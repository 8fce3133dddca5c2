import STOMP
import Slabs

// Durable topic subscriptions with the worker that holds them: made, opened, ended.
//
//     SUBSCRIBE      -> the queue is made and bound, its record goes to the log, and all workers are told of the interest
//     all agree, and the record is on stable storage
//                    -> open: RECEIPT and consumers
//     UNSUBSCRIBE    -> unbound, a record says so, its messages are dropped: see `Shard+EndedDurables`
extension Shard {
    // MARK: Making

    /// The durable subscription of that name, made where it is not there. None: refused.
    ///
    /// - Parameters:
    ///   - name: of its queue, as `DurableName` makes it.
    ///   - topic: the canonical name of the topic or pattern.
    mutating func holdDurable(
        _ name: UnsafeRawBufferPointer, topic: UnsafeRawBufferPointer, _ dialect: DurableDialect, isPattern: Bool
    ) -> (index: Index<Destination>, refusal: Refusal?) {
        let found = findDestination(name)
        if !found.isNone, let held = durables[found] {
            if dialect == .single, isInUse(durable: found) { return (.none, .durableInUse) }
            if held.topic.elementsEqual(topic) { return (found, nil) }
            // JMS 1.1, 6.11.1: to subscribe by the same name to another topic is to end the subscription and make another.
            // Where not everybody may do everything, whoever ends it has to show that it may read the old topic:
            // UNSUBSCRIBE names it.
            if gate.isOn { return (.none, .durableOfOther) }
            _ = removeDurable(found)
        }
        if let refusal = refusalOfDurable(name.count + topic.count) { return (.none, refusal) }
        let source = sourceOfDurable(topic, isPattern: isPattern)
        if let refusal = source.refusal { return (.none, refusal) }
        let former = findDestination(name)
        let index = former.isNone ? makeDurableQueue(name, topic: topic) : former
        guard !index.isNone else {
            updateIdle(source.index)
            return (.none, .memory)
        }
        add(
            DurableSubscription(
                dialect: dialect, topic: Array(topic), source: source.index, position: 0,
                recordedAt: former.isNone ? 0 : .max, lastUsed: wallMilliseconds),
            at: index)
        seekAgreement(index)
        return (index, nil)
    }

    /// Somebody consumes from it, or is about to.
    private mutating func isInUse(durable index: Index<Destination>) -> Bool {
        queues[destinations[index].pointee.queue].pointee.consumerCount > 0 || !durables[index]!.waiting.isEmpty
    }

    /// Why there may not be another. nil: there may.
    private mutating func refusalOfDurable(_ byteCount: Int) -> Refusal? {
        if durables.count >= limits.durableSubscriptionCountMax { return .durableSubscriptions }
        if store.isEnabled {
            switch store.admission(byteCount) {
            case .open, .wait: break
            case .full, .failed, .tooLarge, .hostIsFull: return refusalOfStore(byteCount)
            }
        }
        return makeRoomForQueue() ? nil : .destinations
    }

    /// The topic or pattern that it is to.
    private mutating func sourceOfDurable(
        _ topic: UnsafeRawBufferPointer, isPattern: Bool
    ) -> (index: Index<Destination>, refusal: Refusal?) {
        let found = findDestination(topic)
        if !found.isNone { return (found, nil) }
        guard makeRoomForOther(isUnused: false) else { return (.none, .destinations) }
        if isPattern, destinations.patternCount >= limits.patternCountMax { return (.none, .patterns) }
        guard makeRoomForMatches() else { return (.none, .patterns) }
        let created = makeTopic(topic, isPattern: isPattern)
        return (created, created.isNone ? .memory : nil)
    }

    /// Its queue, with the limits of the topic's policy. None: no memory.
    mutating func makeDurableQueue(
        _ name: UnsafeRawBufferPointer, topic: UnsafeRawBufferPointer
    ) -> Index<Destination> {
        let index = destinations.makeQueue(name, memory: &memory)
        if index.isNone { return .none }
        guard attachDurableQueue(to: index, topic: topic) else {
            destinations.remove(index, memory: &memory)
            return .none
        }
        destinations.setDurableQueue(true, index)
        return index
    }

    /// False: no memory.
    mutating func attachDurableQueue(to index: Index<Destination>, topic: UnsafeRawBufferPointer) -> Bool {
        let policy = UInt32(policies.index(of: topic))
        // Its oldest messages make room, whatever the policy says of queues: see `keep`.
        var bounds = policies[policy]
        bounds.overflow = .dropOldest
        let queue = queues.make(
            for: index, bounds, at: policy, storage: store.isEnabled ? policies[policy].storage : .never,
            clock: clock)
        if queue.isNone { return false }
        destinations.attach(queue, to: index)
        return true
    }

    /// Binds the queue to its topic, and writes that it is there.
    mutating func add(_ subscription: DurableSubscription, at index: Index<Destination>) {
        var subscription = subscription
        let source = subscription.source
        subscription.position = destinations.bind(index, of: .none, to: source)
        destinations.addSubscription(to: source)
        updateIdle(source)
        durables.add(subscription, at: index)
        setDurableCount(durables.count(of: source, with: self.index) + 1, of: source, with: self.index)
        writeDurable(index)
    }

    /// A bound queue has come to another place among those of its topic.
    mutating func boundMoved(_ moved: BoundQueue, to position: UInt32) {
        if moved.subscription.isNone {
            durables.setPosition(position, of: moved.destination)
        } else {
            subscriptions.setPosition(position, of: moved.subscription)
        }
    }

    /// A worker holds so many durable subscriptions to the topic or pattern.
    mutating func setDurableCount(_ count: UInt32, of topic: Index<Destination>, with worker: Int) {
        let storage = store.isEnabled ? policies[UInt32(policies.index(of: nameOf(topic)))].storage : .never
        let hasDurable = durables.setCount(
            count, of: topic, with: worker, workerCount: shardCount, storage)
        destinations.setDurable(hasDurable, topic)
    }

    // MARK: Opening

    private mutating func seekAgreement(_ index: Index<Destination>) {
        guard shardCount > 1 else {
            durables.agree(index, true)
            return openDurables()
        }
        askAgain(durables[index]!.source)
    }

    /// The other workers hear of the interest, and how many durable subscriptions there are, and answer.
    private mutating func askAgain(_ topic: Index<Destination>) {
        destinations.registerAgain(topic, peerCount: shardCount - 1)
        updateIdle(topic)
        announceInterest(topic)
    }

    /// All workers send what is published to the topic or pattern.
    mutating func durablesAgreed(_ topic: Index<Destination>) {
        for index in durables.opening where durables[index]!.source == topic { durables.agree(index, true) }
        openDurables()
    }

    /// Another worker cannot record the interest.
    mutating func durablesRefused(_ topic: Handle<Destination>) {
        guard destinations.isLive(topic) else { return }
        endOpening(.memory) { !$0.isAgreed && $0.source == topic.index }
    }

    /// There is no memory for its queue.
    mutating func refuseDurable(_ index: Index<Destination>) {
        for consumer in durables[index]!.waiting { refuse(consumer, .memory) }
        _ = removeDurable(index)
    }

    /// Those that are not open will not be.
    mutating func failDurables() { endOpening(.storageFailed) { _ in true } }

    private mutating func endOpening(_ refusal: Refusal, where isMeant: (DurableSubscription) -> Bool) {
        for index in durables.opening {
            guard let subscription = durables[index], isMeant(subscription) else { continue }
            // Their sessions end, and what they have here with them; then nobody needs it any more.
            for consumer in subscription.waiting { refuse(consumer, refusal) }
            _ = removeDurable(index)
        }
    }

    private mutating func refuse(_ consumer: WaitingConsumer, _ refusal: Refusal) {
        guard Int(consumer.worker) == self.index else {
            return answer(consumer, .none, refusal)
        }
        guard let pending = pendings.find(consumer.pending) else { return }
        failRefused(
            sessions[pending.pointee.session], refusal, receipt: receiptOfPending(consumer.pending.index))
    }

    private mutating func answer(_ consumer: WaitingConsumer, _ handle: Handle<Consumer>, _ refusal: Refusal) {
        peers.write(
            ConsumerAnswer(
                pending: consumer.pending, consumer: handle, refusal: refusal, isPaused: consumer.isPaused),
            to: Int(consumer.worker))
    }

    /// Opens those that are stored and agreed to.
    mutating func openDurables() {
        if durables.opening.isEmpty { return }
        for index in durables.ready(durableUpTo: store.confirmedPosition) {
            let waiting = durables.open(index)
            for consumer in waiting where durables[index] != nil { admit(consumer, to: index) }
            armDurable(index)
        }
    }

    /// Somebody consumes from a subscription that is open.
    private mutating func admit(_ consumer: WaitingConsumer, to index: Index<Destination>) {
        let queue = destinations[index].pointee.queue
        if Int(consumer.worker) == self.index {
            guard let pending = pendings.find(consumer.pending) else { return }
            let session = sessions[pending.pointee.session]
            let subscription = pending.pointee.subscription
            finishPending(session, consumer.pending.index)
            guard session.pointee.state == .connected else { return }
            consume(index, subscription)
            return resumeSoon(session)
        }
        let handle = addConsumer(
            queue, shard: Int(consumer.worker), subscription: consumer.subscription, consumer.window)
        answer(consumer, handle, .memory)
        guard !handle.isNone else { return }
        consumerCame(index)
        // A client that does not read what it has already gets no more by subscribing again.
        if consumer.isPaused { queues.pause(handle.index) }
        dispatch(queue)
    }

    /// A client of another worker wants to consume.
    mutating func durableRequested(_ request: DurableRequest, _ payload: UnsafeRawBufferPointer, from peer: Int) {
        let topic = UnsafeRawBufferPointer(rebasing: payload.prefix(Int(request.topicByteCount)))
        let name = UnsafeRawBufferPointer(rebasing: payload.dropFirst(Int(request.topicByteCount)))
        let consumer = WaitingConsumer(
            worker: UInt16(peer), subscription: request.subscription, pending: request.pending,
            window: request.window, isPaused: request.isPaused)
        let held = holdDurable(name, topic: topic, request.dialect, isPattern: request.isPattern)
        if let refusal = held.refusal { return refuse(consumer, refusal) }
        if durables[held.index]!.isOpen {
            admit(consumer, to: held.index)
        } else {
            durables.wait(consumer, for: held.index)
        }
    }

    // MARK: Ending

    /// A client ends the subscription of that name. Returns why it may not. nil: it is gone.
    ///
    /// - Parameter topic: that it is to. Empty: whichever.
    mutating func endDurable(_ name: UnsafeRawBufferPointer, topic: UnsafeRawBufferPointer) -> Refusal? {
        let index = findDestination(name)
        guard !index.isNone, let held = durables[index], topic.count == 0 || held.topic.elementsEqual(topic) else {
            return .durableNotFound
        }
        if isInUse(durable: index) { return .durableInUse }
        _ = removeDurable(index)
        return nil
    }

    /// A client of another worker ends one.
    mutating func durableRemoved(_ removal: DurableRemoval, _ payload: UnsafeRawBufferPointer, from peer: Int) {
        let rest = payload.dropFirst(Int(removal.nameByteCount))
        let name = UnsafeRawBufferPointer(rebasing: payload.prefix(Int(removal.nameByteCount)))
        let topic = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(removal.topicByteCount)))
        guard let refusal = endDurable(name, topic: topic) else { return }
        let receipt = UnsafeRawBufferPointer(rebasing: rest.dropFirst(Int(removal.topicByteCount)))
        peers.write(PublicationRefusal(session: removal.session, refusal: refusal), to: peer, name: receipt)
    }

    /// Ends a subscription that nobody consumes from. Returns how many messages go with it, now or in later turns.
    mutating func removeDurable(_ index: Index<Destination>) -> Int {
        guard let subscription = durables.remove(index) else { return 0 }
        let source = subscription.source
        if let moved = destinations.unbind(at: subscription.position, from: source) {
            boundMoved(moved, to: subscription.position)
        }
        let left = durables.count(of: source, with: self.index) - 1
        setDurableCount(left, of: source, with: self.index)
        forgetRecord(of: subscription, at: index)
        let droppedCount = endQueue(ofDurable: index)
        if destinations.removeSubscription(from: source) {
            announceWithdrawal(source)
        } else if left == 0, destinations[source].pointee.interest != .none {
            // Publishers need not wait for this worker's log any more.
            askAgain(source)
        }
        updateIdle(source)
        return droppedCount
    }
}
