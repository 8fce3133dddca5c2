import Glibc
import IO
import STOMP
import Slabs

// Deliveries from queues, and what comes back: ACK, NACK, and for `auto` the word of the kernel that it has the bytes.
extension Shard {
    // MARK: Delivering

    /// From this size on a stored message's content is sent from where it is stored; below, a copy that travels with its
    /// neighbours costs less than a segment of its own.
    private static var referencedByteCountMin: Int { 16 * 1024 }
    /// The same while memory is short, when only the segment counts, which is not of the pool.
    private static var sparinglyReferencedByteCountMin: Int { 256 }
    /// While memory is short, a consumer with so much output waiting gets no more.
    private static var sparingOutputByteCountMax: Int { 16 * 1024 }

    /// Writes a queue's message to the session of a local subscription.
    ///
    ///     MESSAGE\nsubscription:ID\nmessage-id:HEX\ndestination:NAME\n[ack:HEX\n][redelivered:true\n
    ///     delivery-count:N\n]content-length:N\nHEADERS\n\nBODY\0\n
    ///
    /// - Parameters:
    ///   - deliveryCount: 0 where this is the first delivery.
    ///   - block: where the message is stored (0: not here). Of a large one the content is sent from there.
    /// - Returns: false where there is no memory for it until some of the session's output has left: its consumers are
    ///   paused, and the message is still the queue's. Only for messages that are stored here.
    @discardableResult
    mutating func deliver(
        _ message: Message, to handle: Handle<Subscription>, entry: Handle<Entry>, deliveryCount: UInt16,
        block: BlockIndex
    ) -> Bool {
        guard let subscription = subscriptions.find(handle),
            case let session = sessions[subscription.pointee.session], session.pointee.state == .connected
        else {
            counters.stalePeerMessages &+= 1  // its consumer's removal is on the way and returns the message
            return true
        }
        let isSparing = memory.deliversSparingly
        let group = groups[subscription.pointee.group]
        let prefixByteCount = Int(group.pointee.prefixByteCount)
        let isReferenced =
            block != 0
            && message.contentByteCount
                >= (isSparing ? Self.sparinglyReferencedByteCountMin : Self.referencedByteCountMin)
            && (message.isPlain || group.pointee.version == .v1_2)
        let needed =
            prefixByteCount + Int(group.pointee.nameByteCount) + 160
            + (isReferenced ? 0 : message.contentByteCountMax)
        if isSparing, block != 0, !session.pointee.output.isEmpty, !hasOutputMemory(needed) {
            pauseConsumers(session)
            return false
        }
        let record: Handle<Delivery> = deliveries.allocate()
        guard !record.isNone, let room = reserveOutput(session, needed) else {
            if !record.isNone { deliveries.free(record.index) }
            doom(session, for: .messageMemory)
            return true
        }
        let acknowledges = subscription.pointee.ackMode != .auto
        var writer = FrameWriter(at: room)
        let prefix = UnsafeRawPointer(memory.blocks.base(group.pointee.prefix)) + Int(group.pointee.keyByteCount)
        writer.write(prefix, prefixByteCount)
        writer.writeHex(message.identity)
        if !message.carriesDestination { writer.write(prefix + prefixByteCount, Int(group.pointee.nameByteCount)) }
        if acknowledges, group.pointee.version == .v1_2 {
            writer.write("\nack:")
            writer.writeHex(UInt64(record.index.rawValue) << 24 | UInt64(record.generation))
        }
        if deliveryCount != 0 {
            writer.write("\nredelivered:true\ndelivery-count:")
            writer.writeDecimal(UInt64(deliveryCount))
        }
        writer.write("\ncontent-length:")
        writer.writeDecimal(UInt64(message.bodyByteCount))
        writer.write(UInt8(ascii: "\n"))
        if isReferenced {
            commitOutput(session, writer.cursor - room)
            appendRun(
                session, block, offset: StoredMessage.byteCount, byteCount: message.contentByteCount, isBounded: false)
        } else {
            message.writeContent(&writer, version: group.pointee.version)
            commitOutput(session, writer.cursor - room)
        }
        counters.messagesDelivered &+= 1

        let delivery = deliveries[record.index]
        delivery.pointee.subscription = handle.index
        delivery.pointee.entry = entry
        delivery.pointee.identity = message.identity
        subscription.pointee.deliveries.append(record.index, in: deliveries)
        // The line feed behind the NUL is not the frame's: without it, too, the client has the message.
        delivery.pointee.position = session.pointee.outputPosition &- 1
        if acknowledges {
            if group.pointee.version != .v1_2 || session.pointee.flags.contains(.namesMessages) {
                enterChain(record.index, session)
            }
        } else {
            session.pointee.flights.append(record.index, in: deliveries)
        }
        if Int(session.pointee.outputByteCount) > outputByteCountToPauseAt(isSparing) {
            pauseConsumers(session, for: .outputBytes)
        }
        return true
    }

    /// With so much output waiting a session's consumers get no more; with half of it they go on.
    private func outputByteCountToPauseAt(_ isSparing: Bool) -> Int {
        let usual = limits.outputByteCountMax / 2
        return isSparing ? min(usual, Self.sparingOutputByteCountMax) : usual
    }

    /// Whether messages of a subscription wait in its session's output, and have a queue to return to.
    func isInFlight(_ index: Index<Subscription>) -> Bool {
        let subscription = subscriptions[index]
        let last = subscription.pointee.deliveries.last
        guard !last.isNone, subscription.pointee.ownQueue.isNone,
            !destinations[subscription.pointee.destination].pointee.isTemporary
        else { return false }
        return deliveries[last].pointee.position > sentPosition(sessions[subscription.pointee.session])
    }

    /// The kernel has a session's output up to here.
    private func sentPosition(_ session: UnsafeMutablePointer<Session>) -> UInt64 {
        session.pointee.outputPosition &- UInt64(session.pointee.outputByteCount)
    }

    /// `auto`: deliveries whose bytes the kernel has taken are acknowledged.
    mutating func landFlights(_ session: UnsafeMutablePointer<Session>) {
        let sent = sentPosition(session)
        while case let index = session.pointee.flights.first, !index.isNone {
            let delivery = deliveries[index]
            guard delivery.pointee.position <= sent else { return }
            session.pointee.flights.removeFirst(in: deliveries)
            if delivery.pointee.subscription.isNone {
                deliveries.free(index)  // its subscription has ended
            } else {
                settleDelivery(index, .acknowledged, byFrame: false)
            }
        }
    }

    /// Forgets what a subscription that ends has outstanding, and says what of it its consumer's removal is to return. The
    /// messages of `auto` have returned by then: after UNSUBSCRIBE what is in the output counts as delivered. What a broken
    /// connection never took was not seen.
    mutating func forgetDeliveries(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Subscription>, _ end: ConsumerEnd
    ) -> HeldMessages {
        let subscription = subscriptions[index]
        if subscription.pointee.deliveries.isEmpty { return .nothing }
        let isBroken = session.pointee.flags.contains(.isBroken)
        // The kernel may still send what it reads from the output.
        let mayStillSend = session.pointee.flags.contains(.zeroCopyInFlight)
        if subscription.pointee.ackMode == .auto {
            if !session.pointee.flags.contains(.consumersPaused) {
                // Each message that is settled frees prefetch, which must not bring the next one.
                setConsumerPaused(index, true)
            }
            let settlement: Settlement = !isBroken ? .acknowledged : mayStillSend ? .released : .unseen
            while case let delivery = subscription.pointee.deliveries.first, !delivery.isNone {
                let entry = deliveries[delivery].pointee.entry
                unlinkDelivery(delivery)
                deliveries[delivery].pointee.subscription = .none
                settle(entry, of: index, settlement, byFrame: false)
            }
            return .nothing
        }
        let sent = sentPosition(session)
        if isBroken, !mayStillSend, subscription.pointee.ownQueue.isNone {
            // Its consumer is paused, for the session ends. What was delivered last was sent last.
            while case let last = subscription.pointee.deliveries.last, !last.isNone,
                deliveries[last].pointee.position > sent
            {
                settleDelivery(last, .unseen, byFrame: false)
            }
            if subscription.pointee.deliveries.isEmpty { return .nothing }
        }
        var held = HeldMessages.nothing
        let oldest = deliveries[subscription.pointee.deliveries.first]
        if end == .failed, oldest.pointee.position <= sent { held.failed = oldest.pointee.entry }
        held.newest = deliveries[subscription.pointee.deliveries.last].pointee.entry
        while case let delivery = subscription.pointee.deliveries.first, !delivery.isNone {
            unlinkDelivery(delivery)
            deliveries.free(delivery)
        }
        return held
    }

    /// Frees the deliveries whose subscriptions have ended: the session itself ends.
    mutating func dropFlights(_ session: UnsafeMutablePointer<Session>) {
        while case let index = session.pointee.flights.popFirst(in: deliveries), !index.isNone {
            deliveries.free(index)
        }
    }

    private mutating func unlinkDelivery(_ index: Index<Delivery>) {
        let subscription = subscriptions[deliveries[index].pointee.subscription]
        subscription.pointee.deliveries.remove(index, in: deliveries)
        if subscription.pointee.ackMode != .auto {
            let session = sessions[subscription.pointee.session]
            if session.pointee.version != .v1_2 || session.pointee.flags.contains(.namesMessages) {
                leaveChain(index, session)
            }
        }
    }

    // MARK: Deliveries by message-id

    // Mutating, or the shard would be copied to call them.

    private mutating func chain(
        of delivery: UnsafeMutablePointer<Delivery>, _ session: UnsafeMutablePointer<Session>
    ) -> UnsafeMutablePointer<DeliveryChain> {
        deliveryTable.chain(
            delivery.pointee.identity, session: session.pointee.index, subscription: delivery.pointee.subscription,
            session.pointee.version)
    }

    private mutating func enterChain(_ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) {
        chain(of: deliveries[index], session).pointee.prepend(index, in: deliveries)
    }

    private mutating func leaveChain(_ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) {
        if DeliveryChain.removeUnlessFirst(index, in: deliveries) { return }
        chain(of: deliveries[index], session).pointee.remove(index, in: deliveries)
    }

    /// The delivery of that message-id that waits for an acknowledgement; none where there is none.
    /// Of several subscriptions that have the message, the last that was given it, unless `wanted` says which.
    private mutating func findDelivery(
        _ session: UnsafeMutablePointer<Session>, _ identity: UInt64, of wanted: Index<Subscription>
    ) -> Index<Delivery> {
        var candidate = deliveryTable.chain(
            identity, session: session.pointee.index, subscription: wanted, session.pointee.version
        ).pointee.first
        var stepCount = 0
        while !candidate.isNone {
            let delivery = deliveries[candidate]
            let subscription = delivery.pointee.subscription
            if delivery.pointee.identity == identity,
                !wanted.isNone
                    ? subscription == wanted : subscriptions[subscription].pointee.session == session.pointee.index
            {
                break
            }
            candidate = DeliveryChain.next(after: candidate, in: deliveries)
            stepCount += 1
        }
        chargeForSteps(stepCount)
        return candidate
    }

    /// Ends a delivery and tells the queue's owner. `byFrame`: a frame of the client decided it, whose RECEIPT has to wait
    /// until the owner has heard of it.
    private mutating func settleDelivery(_ index: Index<Delivery>, _ settlement: Settlement, byFrame: Bool = true) {
        let entry = deliveries[index].pointee.entry
        let subscription = deliveries[index].pointee.subscription
        unlinkDelivery(index)
        deliveries.free(index)
        settle(entry, of: subscription, settlement, byFrame: byFrame)
    }

    private mutating func settle(
        _ entry: Handle<Entry>, of index: Index<Subscription>, _ settlement: Settlement, byFrame: Bool
    ) {
        let subscription = subscriptions[index]
        let destination = destinations[subscription.pointee.destination]
        if destination.pointee.kind == .remoteQueue {
            settleAtOwner(
                Int(destination.pointee.owner), entry, consumer: subscription.pointee.consumer, settlement,
                for: byFrame ? sessions[subscription.pointee.session] : nil)
        } else {
            settle(entry, consumer: subscription.pointee.consumer, settlement)
        }
    }

    /// Takes the consumer of a subscription out of its queue, wherever that is.
    mutating func removeConsumer(
        of index: Index<Subscription>, _ session: UnsafeMutablePointer<Session>, _ held: HeldMessages
    ) {
        let subscription = subscriptions[index]
        let destination = destinations[subscription.pointee.destination]
        if destination.pointee.kind == .remoteQueue {
            removeConsumerAtOwner(Int(destination.pointee.owner), subscription.pointee.consumer, held, for: session)
        } else if consumers.isLive(subscription.pointee.consumer) {
            removeConsumer(subscription.pointee.consumer.index, held)
        }
        subscription.pointee.consumer = .none
    }

    // MARK: ACK and NACK

    mutating func acknowledge(_ session: UnsafeMutablePointer<Session>, accepts: Bool) -> FrameOutcome {
        // Now, and not at COMMIT, which is applied as a whole.
        if !accepts, boolean(session, .requeue) == nil { return .done }
        let index = deliveryOfFrame(session)
        if index.isNone { return .done }
        if frame.has(.transaction) {
            guard deliveries[index].pointee.transaction.isNone else {
                failFrame(session, "Message not found", "this message has already been acknowledged in a transaction")
                return .done
            }
            let transaction = transactionOfFrame(session)
            if transaction.isNone { return .done }
            guard keepSettlement(session, of: deliveries.handle(index), settlementOfFrame(accepts: accepts)) else {
                return .done
            }
            markInTransaction(index, transaction)
            return .done
        }
        guard deliveries[index].pointee.transaction.isNone else {
            failFrame(session, "Message not found", "this message has already been acknowledged in a transaction")
            return .done
        }
        settleFrame(index, settlementOfFrame(accepts: accepts), transaction: .none)
        confirm(session)
        return .done
    }

    /// What the ACK or NACK under the parser, which is in order, says of its message.
    private func settlementOfFrame(accepts: Bool) -> Settlement {
        if accepts { return .acknowledged }
        if let text = frame.rawValue(.requeue), boolean(text) == false { return .rejected }
        return .returned
    }

    /// Applies ACK or NACK: to one message, or in `client` mode to it and all delivered before it. Messages that belong
    /// to another transaction than `transaction` are passed over.
    mutating func settleFrame(
        _ index: Index<Delivery>, _ settlement: Settlement, transaction: Index<Transaction>
    ) {
        let subscription = subscriptions[deliveries[index].pointee.subscription]
        guard subscription.pointee.ackMode == .client else { return settleDelivery(index, settlement) }
        var candidate = subscription.pointee.deliveries.first
        var isLast = false
        var stepCount = 0
        while !candidate.isNone, !isLast {
            let next = DeliveryList.next(after: candidate, in: deliveries)
            isLast = candidate == index
            if deliveries[candidate].pointee.transaction == transaction {
                settleDelivery(candidate, settlement)
            }
            stepCount += 1
            candidate = next
        }
        chargeForSteps(stepCount)
    }

    private mutating func markInTransaction(_ index: Index<Delivery>, _ transaction: Index<Transaction>) {
        let subscription = subscriptions[deliveries[index].pointee.subscription]
        guard subscription.pointee.ackMode == .client else {
            deliveries[index].pointee.transaction = transaction
            return
        }
        var candidate = index
        var stepCount = 0
        while !candidate.isNone {
            if deliveries[candidate].pointee.transaction.isNone {
                deliveries[candidate].pointee.transaction = transaction
            }
            candidate = DeliveryList.previous(before: candidate, in: deliveries)
            stepCount += 1
        }
        chargeForSteps(stepCount)
    }

    /// Takes back `markInTransaction` of one ACK or NACK, down to the last one before it in the same subscription that
    /// was taken back already. It stays marked as such, for those behind it. Returns the steps this took.
    mutating func unmark(_ index: Index<Delivery>, _ transaction: Index<Transaction>) -> Int {
        let isCumulative = subscriptions[deliveries[index].pointee.subscription].pointee.ackMode == .client
        var candidate = isCumulative ? DeliveryList.previous(before: index, in: deliveries) : .none
        var stepCount = 0
        while !candidate.isNone, deliveries[candidate].pointee.transaction != Self.unmarked {
            let delivery = deliveries[candidate]
            if delivery.pointee.transaction == transaction { delivery.pointee.transaction = .none }
            candidate = DeliveryList.previous(before: candidate, in: deliveries)
            stepCount += 1
        }
        deliveries[index].pointee.transaction = Self.unmarked
        return stepCount
    }

    /// Stands for no transaction.
    static var unmarked: Index<Transaction> { Index(.max) }

    /// The delivery that ACK or NACK names: 1.2 by `id`, the MESSAGE's `ack` or `message-id`; 1.1 by `subscription` and
    /// `message-id`; 1.0 by `message-id`. None: it was answered with ERROR.
    mutating func deliveryOfFrame(_ session: UnsafeMutablePointer<Session>) -> Index<Delivery> {
        let version = session.pointee.version
        if version == .v1_2 {
            guard let text = frame.rawValue(.id) else {
                failFrame(session, "Missing header", "ACK and NACK need an id header: the ack header of the MESSAGE")
                return .none
            }
            if let value = hexadecimal(text) {
                if value >> 56 != 0 { return deliveryOfMessage(session, value, text) }
                let handle = Handle<Delivery>(
                    index: Index(UInt32(truncatingIfNeeded: value >> 24)), generation: UInt32(value & 0xFF_FFFF))
                if let delivery = deliveries.find(handle), !delivery.pointee.subscription.isNone {
                    let subscription = subscriptions[delivery.pointee.subscription]
                    if subscription.pointee.session == session.pointee.index, subscription.pointee.ackMode != .auto {
                        return handle.index
                    }
                }
            }
            failUnknownMessage(session, text)
            return .none
        }
        guard let text = frame.rawValue(.messageId) else {
            failFrame(session, "Missing header", "ACK and NACK need the message-id header of the MESSAGE")
            return .none
        }
        var wanted = Index<Subscription>.none
        if let id = frame.value(.subscription, into: scratch.value, version: version) {
            wanted = findSubscription(session, id)
            if wanted.isNone {
                failFrame(session, "Subscription not found", "this connection has no subscription with that id")
                return .none
            }
        } else if version == .v1_1 {
            failFrame(session, "Missing header", "ACK and NACK need the subscription header in STOMP 1.1")
            return .none
        }
        if let identity = hexadecimal(text) {
            let delivery = findDelivery(session, identity, of: wanted)
            if !delivery.isNone { return delivery }
        }
        failUnknownMessage(session, text)
        return .none
    }

    /// What an ACK or NACK of 1.2 is for whose `id` is a message-id: some clients send that, as they did in 1.1, and other
    /// brokers take it. A `message-id` never looks like an `ack` header's value. The first such frame enters all
    /// deliveries of its session in `deliveryTable`, so that clients that send what the specification asks for do not pay.
    private mutating func deliveryOfMessage(
        _ session: UnsafeMutablePointer<Session>, _ identity: UInt64, _ text: UnsafeRawBufferPointer
    ) -> Index<Delivery> {
        if !session.pointee.flags.contains(.namesMessages) {
            session.pointee.flags.insert(.namesMessages)
            var stepCount = 0
            var subscription = session.pointee.subscriptions.first
            while !subscription.isNone {
                var delivery = subscriptions[subscription].pointee.deliveries.first
                if subscriptions[subscription].pointee.ackMode == .auto { delivery = .none }
                while !delivery.isNone {
                    enterChain(delivery, session)
                    delivery = DeliveryList.next(after: delivery, in: deliveries)
                    stepCount += 1
                }
                subscription = SubscriptionChain.next(after: subscription, in: subscriptions)
                stepCount += 1
            }
            chargeForSteps(stepCount)
        }
        var wanted = Index<Subscription>.none
        if let id = frame.value(.subscription, into: scratch.value, version: .v1_2) {
            wanted = findSubscription(session, id)
        }
        let delivery = findDelivery(session, identity, of: wanted)
        if delivery.isNone { failUnknownMessage(session, text) }
        return delivery
    }

    /// A kept ACK or NACK, which is under the parser, was for a subscription that has ended since.
    mutating func failUnknownMessage(_ session: UnsafeMutablePointer<Session>) {
        failUnknownMessage(session, frame.rawValue(session.pointee.version == .v1_2 ? .id : .messageId)!)
    }

    private mutating func failUnknownMessage(_ session: UnsafeMutablePointer<Session>, _ text: UnsafeRawBufferPointer) {
        failFrame(
            session, "Message not found",
            "no message with the id '\(printable(text))' waits for ACK or NACK on this connection")
    }

    // MARK: Slow consumers of queues

    /// Output waits: its queues give their messages to others meanwhile.
    mutating func pauseConsumers(_ session: UnsafeMutablePointer<Session>, for limit: LimitKind? = nil) {
        guard !session.pointee.flags.contains(.consumersPaused) else { return }
        if let limit { counters.limits.count(limit) }
        session.pointee.flags.insert(.consumersPaused)
        setConsumersPaused(session, true)
    }

    mutating func resumeConsumersIfDrained(_ session: UnsafeMutablePointer<Session>) {
        guard session.pointee.state == .connected else { return }
        guard Int(session.pointee.outputByteCount) <= outputByteCountToPauseAt(memory.deliversSparingly) / 2 else {
            return
        }
        session.pointee.flags.remove(.consumersPaused)
        setConsumersPaused(session, false)
    }

    private mutating func setConsumersPaused(_ session: UnsafeMutablePointer<Session>, _ isPaused: Bool) {
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            if !subscriptions[index].pointee.consumer.isNone { setConsumerPaused(index, isPaused) }
            // What was waiting for one consumer may have filled the output again: the others stay paused.
            if !isPaused, session.pointee.flags.contains(.consumersPaused) { return }
            index = SubscriptionChain.next(after: index, in: subscriptions)
        }
    }

    /// Pauses or resumes the consumer of a subscription, wherever its queue is.
    mutating func setConsumerPaused(_ index: Index<Subscription>, _ isPaused: Bool) {
        let consumer = subscriptions[index].pointee.consumer
        let destination = destinations[subscriptions[index].pointee.destination]
        if destination.pointee.kind == .remoteQueue {
            pauseAtOwner(Int(destination.pointee.owner), consumer, isPaused)
        } else if isPaused {
            pause(consumer.index)
        } else {
            unpause(consumer.index)
        }
    }
}
