import STOMP
import Slabs

// Queues of this worker that clients of others use; and what other workers say of theirs to this one's clients.
extension Shard {
    mutating func sendFromElsewhere(
        _ publication: QueuePublication, _ payload: MessagePayload, from peer: Int
    ) {
        let message = payload.message
        if !message.options.isEmpty, settleOptions(publication, payload, from: peer) { return }
        let index = queueForElsewhere(payload.name)
        guard !index.isNone else {
            if begins(visible(payload.name), with: "/reply-queue/") {
                // Its connection is gone.
                counters.messagesDropped &+= 1
                return
            }
            return refuseSend(publication, payload.receipt, refusalOfDestination(), to: peer)
        }
        if destinations[index].pointee.kind == .topic {
            counters.messagesUnrouted &+= 1
            return
        }
        let queueIndex = destinations[index].pointee.queue
        let queue = queues[queueIndex]
        let handle = queues.handle(queueIndex)
        // A temporary queue may have come into being since there was none to reserve room in, or in place of that one.
        let hasRoom = publication.room == handle
        if hasRoom {
            returnRoom(handle, byteCount: UInt64(publication.byteCount))
            queues.granting = queueIndex
        }
        defer { queues.granting = .none }
        // A dead letter drives no other out: two queues could send each other theirs for ever.
        if !publication.isDeadLetter, destinations[index].pointee.isIdle,
            let refusal = queues.refusal(of: publication.sender, limits)
        {
            return refuseSend(publication, payload.receipt, refusal, to: peer)
        }
        if stores(queueIndex, isPersistent: message.isPersistent),
            let refusal = refusalToStore(publication, payload.name, byteCount: message.contentByteCount)
        {
            refuseSend(publication, payload.receipt, refusal, to: peer)
            return roomIsFree(handle)
        }
        if !publication.isDeadLetter, queue.pointee.overflow == .dropOldest,
            !queues.hasRoom(queueIndex, byteCount: message.contentByteCount)
        {
            dropOldest(queueIndex, byteCount: message.contentByteCount)
        }
        let wasEmpty = queue.pointee.messageCount == 0
        // One with cold messages takes others beyond its limits, and drops its oldest when it has read them.
        let mayExceed = !publication.isDeadLetter
        if mayExceed || queues.hasRoom(queueIndex, byteCount: message.contentByteCount), take(queueIndex, message) {
            if wasEmpty { hold(handle, publication.sender) }
        } else {
            let isFull = !queues.hasRoom(queueIndex, byteCount: message.contentByteCount)
            refuseSend(publication, payload.receipt, isFull ? .queue : .memory, to: peer)
        }
        // It may have taken less room than it was granted, or none where it had expired.
        if hasRoom { roomIsFree(handle) }
    }

    /// Why the log does not take a message that is to be stored. nil: it does. What COMMIT was granted, and a dead letter, may
    /// take of what is kept in reserve.
    mutating func refusalToStore(
        _ publication: QueuePublication, _ name: UnsafeRawBufferPointer, byteCount: Int
    ) -> Refusal? {
        switch admission(byteCount, at: name) {
        case .open, .wait: nil
        case .full: publication.isDeadLetter || publication.isReserved ? nil : .diskFull
        case .hostIsFull: publication.isDeadLetter || publication.isReserved ? nil : .hostStorage
        case .failed: publication.isDeadLetter ? nil : .storageFailed
        case .tooLarge: .tooLargeToStore
        }
    }

    /// A queue of this worker by its canonical name, made on first use. None: no room.
    mutating func queueForElsewhere(_ name: UnsafeRawBufferPointer) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        if begins(visible(name), with: "/reply-queue/") { return .none }
        guard makeRoomForQueue() else { return .none }
        return makeQueue(name, isTemporary: false)
    }

    /// Why `queueForElsewhere` found no room.
    mutating func refusalOfDestination() -> Refusal { makeRoomForQueue() ? .memory : .destinations }

    mutating func refuseSend(
        _ publication: QueuePublication, _ receipt: UnsafeRawBufferPointer, _ refusal: Refusal, to peer: Int
    ) {
        guard !publication.isDeadLetter else {
            counters.messagesDropped &+= 1
            return notice(.messagesDropped, "1 dead letter: its destination has no room")
        }
        counters.messagesRefused &+= 1
        peers.write(PublicationRefusal(session: publication.sender.session, refusal: refusal), to: peer, name: receipt)
    }

    mutating func sendRefused(_ refused: PublicationRefusal, _ receipt: UnsafeRawBufferPointer) {
        guard let session = sessions.find(refused.session) else { return }
        failRefused(session, refused.refusal, receipt: receipt.count > 0 ? receipt : nil)
    }

    mutating func addRemoteConsumer(
        _ request: ConsumerRequest, _ name: UnsafeRawBufferPointer, from peer: Int
    ) {
        let index = queueForElsewhere(name)
        let refusal = index.isNone ? refusalOfDestination() : .memory
        var consumer = Handle<Consumer>.none
        if !index.isNone, !destinations[index].pointee.queue.isNone {
            consumer = addConsumer(
                destinations[index].pointee.queue, shard: peer, subscription: request.subscription, request.window)
        }
        peers.write(
            ConsumerAnswer(
                pending: request.pending, consumer: consumer, refusal: refusal, isPaused: request.isPaused),
            to: peer)
        guard !consumer.isNone else { return }
        // A client that does not read what it has already gets no more by subscribing again.
        if request.isPaused { queues.pause(consumer.index) }
        dispatch(destinations[index].pointee.queue)
    }

    mutating func consumerAnswered(_ answer: ConsumerAnswer, from peer: Int) {
        let topic = durables.takeAsked(answer.pending)
        guard let pending = pendings.find(answer.pending) else {
            // The session has ended meanwhile.
            if !answer.consumer.isNone { removeConsumerAtOwner(peer, answer.consumer, .nothing, for: nil) }
            return
        }
        if answer.consumer.isNone {
            return failRefused(
                sessions[pending.pointee.session], answer.refusal, receipt: receiptOfPending(answer.pending.index))
        }
        if let topic {
            let subscription = pending.pointee.subscription
            durables.consumesElsewhere(subscriptions[subscription].pointee.destination, topic: topic)
        }
        finishSubscribe(answer.pending.index, consumer: answer.consumer, isPaused: answer.isPaused)
    }

    mutating func queueRequested(_ payload: UnsafeRawBufferPointer) {
        let request = payload.load(as: QueueRequest.self)
        let deadLetter = payload.baseAddress! + QueueRequest.byteCount
        let name = UnsafeRawBufferPointer(
            rebasing: payload[(QueueRequest.byteCount + Int(request.deadLetterByteCount))...])
        // Where there is no room for another, what follows is told so.
        guard findDestination(name).isNone, makeRoomForQueue() else { return }
        let index = makeQueue(name, isTemporary: false)
        if !index.isNone {
            queues.tighten(destinations[index].pointee.queue, request, deadLetter: deadLetter, &memory)
            if store.isEnabled { keepArguments(of: destinations[index].pointee.queue, request) }
        }
    }

    mutating func removeConsumer(_ removal: ConsumerRemoval) {
        guard queues.isLive(removal.consumer) else { return }
        removeConsumer(removal.consumer.index, removal.held)
    }

    mutating func pauseConsumer(_ change: ConsumerPause) {
        guard queues.isLive(change.consumer) else { return }
        if change.isPaused { queues.pause(change.consumer.index) } else { resume(change.consumer.index) }
    }

    mutating func deliverFromElsewhere(_ delivery: QueueDelivery, _ message: Message) {
        deliver(
            message, to: delivery.subscription, entry: delivery.entry, deliveryCount: delivery.deliveryCount, block: 0)
    }
}
