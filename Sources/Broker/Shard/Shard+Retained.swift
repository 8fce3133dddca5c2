import STOMP
import Slabs

// Messages that topics retain for new subscribers: SEND with `retain:set`, forgotten with `retain:remove` (Apache ActiveMQ
// Apollo, "STOMP Protocol Manual", section Topic Retained Messages). The topic's owner sequences the changes, and each worker
// has a copy, so that SUBSCRIBE is answered where it arrives.
extension Shard {
    // MARK: SEND

    /// What the header `retain` of the SEND under the parser says. nil: ERROR was sent.
    mutating func retainOfFrame(_ context: FrameContext) -> RetainAction? {
        let text = frame.rawValue(.retain)!
        if equals(text, "set") { return .set }
        if equals(text, "remove") { return .remove }
        failFrame(context, "Invalid retain", "retain must be set or remove, not '\(printable(text))'")
        return nil
    }

    /// Whether the destination of a SEND with `retain` can retain a message: then all that is sent to it is sequenced from now
    /// on. False: ERROR was sent.
    mutating func mayRetain(_ context: FrameContext, _ index: Index<Destination>) -> Bool {
        guard destinations[index].pointee.kind == .topic, begins(visible(nameOf(index)), with: "/topic/") else {
            failFrame(
                context, "Unsupported header",
                "retain: '\(printable(frame.rawValue(.destination)!))' retains no message; topics do that are not temporary (/topic/NAME)"
            )
            return false
        }
        guard !destinations[index].pointee.isSequenced else { return true }
        sequence(index)
        // What this worker has published to others so far precedes what they hear from the owner.
        let owner = Int(destinations[index].pointee.owner)
        if owner != self.index { peers.postAll(except: owner) }
        return true
    }

    // MARK: Changes

    /// Why the topic cannot retain a message. nil: it can.
    mutating func refusalToRetain(_ index: Index<Destination>) -> Refusal? {
        if !destinations[index].pointee.retained.isNone || topicLogs.hasRoomToRetain { return nil }
        forgetExpiredRetained()
        return topicLogs.hasRoomToRetain ? nil : .retained
    }

    /// A block for what a topic will retain. 0: no memory.
    ///
    /// - Parameter isStored: it goes to the log of the worker.
    mutating func makeRetained(_ index: Index<Destination>, _ message: Message, isStored: Bool) -> BlockIndex {
        var message = message
        let lines = keptLine(&message) { $0.write("retained:true") }
        guard isStored else { return memory.store(message, extra: lines) }
        let block = memory.storeForLog(message, extra: lines)
        if block == 0 { return 0 }
        keep(
            KeptMessage(
                message: block, destination: index, identity: message.identity, expiresAt: message.expiresAt,
                milliseconds: 0))
        return block
    }

    /// - Parameter block: with `.set`, the block of what the topic retains from now on.
    mutating func changeRetained(
        _ index: Index<Destination>, _ message: Message, _ action: RetainAction, _ block: BlockIndex
    ) {
        guard action == .set else { return forgetRetained(index) }
        retain(
            index,
            RetainedMessage(
                generation: 0, destination: index, message: block, isStored: memory.isStored(block),
                identity: message.identity, expiresAt: message.expiresAt))
    }

    private mutating func retain(_ index: Index<Destination>, _ message: RetainedMessage) {
        let former = destinations[index].pointee.retained
        if !former.isNone {
            letGo(topicLogs.replace(former, message))
        } else {
            let made = topicLogs.retain(message)
            guard !made.isNone else {
                // Several owners have reached the limit at once, many times.
                counters.messagesDropped &+= 1
                letGo(message)
                return notice(.memoryLimit, "no room to retain a message of \(destinationText(index))")
            }
            destinations.setRetained(made, of: index)
            updateIdle(index)
        }
        if message.expiresAt != 0 { armLogTimer() }
    }

    private mutating func forgetRetained(_ index: Index<Destination>) {
        let former = destinations[index].pointee.retained
        if former.isNone { return }
        destinations.setRetained(.none, of: index)
        letGo(topicLogs.forget(former))
        updateIdle(index)
    }

    private mutating func letGo(_ message: RetainedMessage) {
        if message.isStored { acknowledgeKept(message.message) }
        memory.blocks.release(message.message)
    }

    mutating func forgetExpiredRetained() {
        var index = topicLogs.nextRetained(after: .none)
        var isLeft = false
        while !index.isNone {
            let message = topicLogs[index].pointee
            if message.expiresAt != 0, message.expiresAt <= wallMilliseconds {
                counters.messagesExpired &+= 1
                forgetRetained(message.destination)
            } else if message.expiresAt != 0 {
                isLeft = true
            }
            index = topicLogs.nextRetained(after: index)
        }
        chargeForSteps(topicLogs.retainedCount)
        if isLeft { armLogTimer() }
    }

    /// The owner of a topic has published a message that changes what the topic retains.
    mutating func retainedElsewhere(_ change: RetainedChange, _ payload: MessagePayload, from peer: Int) {
        let index = topicForElsewhere(payload.name, mayExceed: true)
        guard !index.isNone, destinations[index].pointee.kind == .topic else {
            notice(.memoryLimit, "no room to retain a message of \(nameText(payload.name)) on worker \(self.index)")
            return publishFromElsewhere(TopicPublication(), payload, from: peer)
        }
        if !destinations[index].pointee.isSequenced { sequence(index) }
        let block = change.action == .set ? makeRetained(index, payload.message, isStored: false) : 0
        if change.action == .set, block == 0 {
            forgetRetained(index)
            counters.messagesDropped &+= 1
            notice(.memoryLimit, "no memory to retain a message of \(destinationText(index)) on worker \(self.index)")
        } else {
            changeRetained(index, payload.message, change.action, block)
        }
        storePassedOn(payload.message, of: index, from: peer)
        updateIdle(index)
    }

    // MARK: SUBSCRIBE

    /// What a new subscription is given comes in so large a part of the output at once; a subscription that would be given more
    /// has a queue for it, as acknowledging ones have.
    private var retainedByteCountAtOnce: Int { limits.outputByteCountMax / 8 }

    /// Whether a new subscriber of the destination is given so much that it needs a queue.
    mutating func retainsMuch(_ index: Index<Destination>) -> Bool {
        guard topicLogs.retainedCount > 0, destinations[index].pointee.kind == .pattern else { return false }
        let matches = destinations[index].pointee.matches
        chargeForSteps(Int(matches.count))
        var byteCount = 0
        for i in 0..<matches.count {
            let retained = destinations[matches[i].destination].pointee.retained
            if !retained.isNone { byteCount += memory.blocks.capacity(topicLogs[retained].pointee.message) }
        }
        return byteCount > retainedByteCountAtOnce
    }

    /// A subscription begins: what its topic, or each topic that its pattern matches, retains is in its output before what is
    /// published from now on.
    mutating func giveRetained(to index: Index<Subscription>) {
        let destination = subscriptions[index].pointee.destination
        guard destinations[destination].pointee.kind == .pattern else {
            let retained = destinations[destination].pointee.retained
            if !retained.isNone { give(retained, to: index, name: nil) }
            return
        }
        let matches = destinations[destination].pointee.matches
        for i in 0..<matches.count {
            let topic = matches[i].destination
            let retained = destinations[topic].pointee.retained
            if !retained.isNone { give(retained, to: index, name: visible(nameOf(topic))) }
        }
        chargeForSteps(Int(matches.count))
    }

    /// - Parameter name: the topic's, where the subscription is to a pattern.
    private mutating func give(
        _ retained: Index<RetainedMessage>, to index: Index<Subscription>, name: UnsafeRawBufferPointer?
    ) {
        let record = topicLogs[retained].pointee
        if record.expiresAt != 0, record.expiresAt <= wallMilliseconds { return }
        let session = sessions[subscriptions[index].pointee.session]
        if session.pointee.flags.contains(.slow) { return }
        let message = memory.stored(record.message, identity: record.identity, expiresAt: record.expiresAt)
        let encoding = subscriptions[index].pointee.encoding
        let needed =
            router.headByteCountMax(encoding, nameByteCount: name?.count ?? 0) + message.contentByteCountMax
        guard let room = reserveOutput(session, needed) else { return }
        var writer = FrameWriter(at: room)
        router.write(message, to: &writer, encoding, name: name, memory: memory)
        commitOutput(session, writer.cursor - room)
        counters.messagesDelivered &+= 1
        if output.isTooFarBehind(session) { disconnectSoon(session, for: .outputBytes, encoding: encoding) }
    }

    /// The same for a subscription with a queue of its own.
    mutating func enqueueRetained(for index: Index<Subscription>) {
        let subscription = subscriptions.handle(index)
        guard !subscriptions[index].pointee.ownQueue.isNone else { return }
        let destination = subscriptions[index].pointee.destination
        guard destinations[destination].pointee.kind == .pattern else {
            return enqueueRetained(of: destination, for: subscription)
        }
        let matches = destinations[destination].pointee.matches
        for i in 0..<matches.count { enqueueRetained(of: matches[i].destination, for: subscription) }
        chargeForSteps(Int(matches.count))
    }

    private mutating func enqueueRetained(of topic: Index<Destination>, for handle: Handle<Subscription>) {
        let retained = destinations[topic].pointee.retained
        guard !retained.isNone, let subscription = subscriptions.find(handle) else { return }
        let record = topicLogs[retained].pointee
        var message = memory.stored(record.message, identity: record.identity, expiresAt: record.expiresAt)
        let line = destinationLine(&message, name: nameOf(topic))
        let queue = destinations[subscription.pointee.ownQueue].pointee.queue
        // It comes beside what the queue has room for anyway.
        queues.bound(queue, byteCountMax: queues[queue].pointee.byteCountMax + UInt64(message.contentByteCount))
        guard !enqueue(queue, message, extra: line) else { return }
        disconnectSoon(
            sessions[subscription.pointee.session], for: .messageMemory, encoding: subscription.pointee.encoding)
    }
}
