import Glibc
import STOMP
import Slabs

// Queues of other workers that clients of this one use: what is written to the owner.
extension Shard {
    mutating func sendToOwner(
        _ context: FrameContext, _ index: Index<Destination>, _ message: Message
    ) {
        let session = context.session
        let owner = Int(destinations[index].pointee.owner)
        var room = context.isCommitting ? roomElsewhere : .none
        var byteCount = UInt32(frame.reservedByteCount)
        if !context.isCommitting, session.pointee.flags.contains(.hasReservation) {
            let pending = reservation(session)
            room = pendings[pending].pointee.queue
            byteCount = pendings[pending].pointee.byteCount
            session.pointee.flags.remove(.hasReservation)
            unlinkPending(session, pending)
        }
        let publication = QueuePublication(
            sender: holder(session), byteCount: byteCount, room: room, isReserved: !room.isNone, isDeadLetter: false)
        peers.write(
            publication, to: owner,
            MessagePayload(name: nameOf(index), receipt: receiptOfFrame(context), message))
        markRemote(session, owner)
    }

    /// - Parameter holder: of the queue that it comes from.
    mutating func forwardDeadLetter(
        _ index: Index<Destination>, _ message: Message, of holder: QueueHolder, _ move: inout DeadLetterMove
    ) {
        let owner = Int(destinations[index].pointee.owner)
        var participants = PeerSet()
        // A COMMIT may be under way, whose part is not complete.
        let keptTogether = peers.keepsTogether
        if move.mayHaveParts, destinations[index].pointee.stores(isPersistent: message.isPersistent) {
            // One part is the message, with the owner, the other the acknowledgement here.
            participants.set(owner, true)
            participants.set(self.index, true)
            move.transaction = store.beginTransaction(participants)
            peers.keepsTogether = true
            peers.write(TransactionPart(transaction: move.transaction, partCount: 2, isEnd: false), to: owner)
        }
        let payload = MessagePayload(name: nameOf(index), receipt: nil, message)
        if destinations[index].pointee.isSequenced {
            peers.write(Sequencing(session: .none, retain: .none), to: owner, payload)
        } else {
            let room = deadLetterRoom
            deadLetterRoom = nil
            peers.write(
                QueuePublication(
                    sender: holder, byteCount: room?.byteCount ?? 0, room: room?.queue ?? .none, isReserved: false,
                    isDeadLetter: true),
                to: owner, payload)
        }
        if !participants.isEmpty {
            peers.write(TransactionPart(transaction: move.transaction, partCount: 2, isEnd: true), to: owner)
            peers.keepsTogether = keptTogether
        }
    }

    mutating func subscribeAtOwner(
        _ context: FrameContext, _ index: Index<Destination>, _ subscription: Index<Subscription>
    ) {
        let session = context.session
        guard let pending = makePending(context, .subscribe, receipt: frame.rawValue(.receipt)) else { return }
        pendings.setSubscription(subscription, of: pending)
        suspend(session)
        let request = ConsumerRequest(
            subscription: subscriptions.handle(subscription), pending: pendings.handle(pending),
            window: subscriptions[subscription].pointee.window,
            isPaused: session.pointee.flags.contains(.consumersPaused))
        peers.write(request, to: Int(destinations[index].pointee.owner), name: nameOf(index))
    }

    /// The RECEIPT of an UNSUBSCRIBE says that what the consumer held has returned.
    mutating func removeConsumerAtOwner(
        _ owner: Int, _ consumer: Handle<Consumer>, _ held: HeldMessages, for session: UnsafeMutablePointer<Session>?
    ) {
        peers.write(ConsumerRemoval(consumer: consumer, held: held), to: owner)
        if let session { markRemote(session, owner) }
    }

    mutating func pauseAtOwner(_ owner: Int, _ consumer: Handle<Consumer>, _ isPaused: Bool) {
        peers.write(ConsumerPause(consumer: consumer, isPaused: isPaused), to: owner)
    }

    mutating func settleAtOwner(
        _ owner: Int, _ entry: Handle<Entry>, consumer: Handle<Consumer>, _ settlement: Settlement,
        for session: UnsafeMutablePointer<Session>?
    ) {
        peers.write(EntrySettlement(entry: entry, consumer: consumer, settlement: settlement), to: owner)
        if let session { markRemote(session, owner) }
    }

    mutating func deliverElsewhere(_ entryIndex: Index<Entry>, _ consumerIndex: Index<Consumer>) {
        let entry = queues[entryIndex]
        let consumer = queues[consumerIndex]
        let delivery = QueueDelivery(
            subscription: consumer.pointee.subscription, entry: queues.handle(entryIndex),
            deliveryCount: entry.pointee.isRedelivered ? entry.pointee.deliveryCount : 0)
        let message = memory.stored(
            entry.pointee.message, identity: entry.pointee.identity, expiresAt: entry.pointee.expiresAt)
        peers.write(
            delivery, to: Int(consumer.pointee.shard),
            MessagePayload(name: UnsafeRawBufferPointer(start: nil, count: 0), receipt: nil, message))
    }

    /// What a client asks of a queue, should its use of it be the first. The use itself follows.
    mutating func requestAtOwner(_ index: Index<Destination>, _ request: QueueRequest) {
        let name = nameOf(index)
        let deadLetterByteCount = Int(request.deadLetterByteCount)
        let place = peers.write(
            QueueProperties(), to: Int(destinations[index].pointee.owner),
            payloadByteCount: QueueRequest.byteCount + name.count + deadLetterByteCount)
        place.storeBytes(of: request, as: QueueRequest.self)
        memcpy(place + QueueRequest.byteCount, scratch.key, deadLetterByteCount)
        memcpy(place + QueueRequest.byteCount + deadLetterByteCount, name.baseAddress!, name.count)
    }
}
