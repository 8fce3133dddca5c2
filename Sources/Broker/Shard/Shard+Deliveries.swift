import Glibc
import IO
import STOMP
import Slabs

// Deliveries from queues: what is written, what the kernel has taken, and what is left when a subscription ends.
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
        let encoding = router[subscription.pointee.encoding]
        let isReferenced =
            block != 0
            && message.contentByteCount
                >= (isSparing ? Self.sparinglyReferencedByteCountMin : Self.referencedByteCountMin)
            && (message.isPlain || encoding.pointee.version == .v1_2)
        let needed =
            Int(encoding.pointee.prefixByteCount) + Int(encoding.pointee.nameByteCount) + 160
            + (isReferenced ? 0 : message.contentByteCountMax)
        if isSparing, block != 0, !session.pointee.output.isEmpty, !Output.hasMemory(needed, memory) {
            pauseConsumers(session)
            return false
        }
        let delivery = subscriptions.allocateDelivery()
        guard !delivery.isNone, let room = reserveOutput(session, needed) else {
            if !delivery.isNone { subscriptions.freeDelivery(delivery.index) }
            disconnectSoon(session, for: .messageMemory)
            return true
        }
        let acknowledges = subscription.pointee.ackMode != .auto && encoding.pointee.version == .v1_2
        var writer = FrameWriter(at: room)
        writeHead(
            &writer, message, subscription.pointee.encoding, ack: acknowledges ? delivery : .none,
            deliveryCount: deliveryCount)
        if isReferenced {
            commitOutput(session, writer.cursor - room)
            appendShared(
                session, block, offset: StoredMessage.byteCount, byteCount: message.contentByteCount, isBounded: false)
        } else {
            message.writeContent(&writer, version: encoding.pointee.version)
            commitOutput(session, writer.cursor - room)
        }
        counters.messagesDelivered &+= 1
        if message.isPersistent { subscriptions.markGivesStored(handle.index) }
        // The line feed behind the NUL is not the frame's: without it, too, the client has the message.
        subscriptions.add(
            delivery.index, to: handle.index, session, entry: entry, identity: message.identity,
            position: session.pointee.outputPosition &- 1)
        if Int(session.pointee.outputByteCount) > outputByteCountToPauseAt(isSparing) {
            pauseConsumers(session, for: .outputBytes)
        }
        return true
    }

    /// What of a queue's MESSAGE precedes the message's own headers.
    ///
    ///     MESSAGE\nsubscription:ID\nmessage-id:HEX\ndestination:NAME\n[ack:HEX\n][redelivered:true\n
    ///     delivery-count:N\n]content-length:N\n
    @inline(__always)
    private func writeHead(
        _ writer: inout FrameWriter, _ message: Message, _ index: Index<SharedEncoding>, ack delivery: Handle<Delivery>,
        deliveryCount: UInt16
    ) {
        let encoding = router[index]
        let prefixByteCount = Int(encoding.pointee.prefixByteCount)
        let prefix = UnsafeRawPointer(memory.blocks.base(encoding.pointee.prefix)) + Int(encoding.pointee.keyByteCount)
        writer.write(prefix, prefixByteCount)
        writer.writeHex(message.identity)
        if !message.carriesDestination { writer.write(prefix + prefixByteCount, Int(encoding.pointee.nameByteCount)) }
        if !delivery.isNone {
            writer.write("\nack:")
            writer.writeHex(UInt64(delivery.index.rawValue) << 24 | UInt64(delivery.generation))
        }
        if deliveryCount != 0 {
            writer.write("\nredelivered:true\ndelivery-count:")
            writer.writeDecimal(UInt64(deliveryCount))
        }
        writer.write("\ncontent-length:")
        writer.writeDecimal(UInt64(message.bodyByteCount))
        writer.write(UInt8(ascii: "\n"))
    }

    /// With so much output waiting a session's consumers get no more; with half of it they go on.
    func outputByteCountToPauseAt(_ isSparing: Bool) -> Int {
        let usual = limits.outputByteCountMax / 2
        return isSparing ? min(usual, Self.sparingOutputByteCountMax) : usual
    }

    /// Whether messages of a subscription wait in its session's output, and have a queue to return to.
    func hasUnsentDeliveries(_ index: Index<Subscription>) -> Bool {
        let subscription = subscriptions[index]
        let last = subscription.pointee.deliveries.last
        guard !last.isNone, subscription.pointee.ownQueue.isNone,
            !destinations[subscription.pointee.destination].pointee.isTemporary
        else { return false }
        return subscriptions[last].pointee.position > sentPosition(sessions[subscription.pointee.session])
    }

    /// The kernel has a session's output up to here.
    private func sentPosition(_ session: UnsafeMutablePointer<Session>) -> UInt64 {
        session.pointee.outputPosition &- UInt64(session.pointee.outputByteCount)
    }

    /// `auto`: deliveries whose bytes the kernel has taken are acknowledged.
    mutating func acknowledgeSent(_ session: UnsafeMutablePointer<Session>) {
        let sent = sentPosition(session)
        while case let landed = subscriptions.land(session, upTo: sent), !landed.entry.isNone {
            settle(landed, .acknowledged, byFrame: false)
        }
    }

    /// So much may be encrypted that the core has not been told is sent (`TLSLayer.pendingByteCountMax`): of a block that the
    /// kernel has taken in part, a client may have read some records.
    private static var encryptedByteCountMax: UInt64 { 256 << 10 }

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
        let sent = sentPosition(session)
        let readable = sent &+ (listeners.isEncrypted(session.pointee.listener) ? Self.encryptedByteCountMax : 0)
        if subscription.pointee.ackMode == .auto {
            // Each message that is settled frees prefetch, which must not bring the next one.
            if !session.pointee.flags.contains(.consumersPaused) { pauseConsumer(of: index) }
            while case let delivery = subscription.pointee.deliveries.first, !delivery.isNone {
                let wasReadable = mayStillSend || subscriptions[delivery].pointee.position <= readable
                let settlement: Settlement = !isBroken ? .acknowledged : wasReadable ? .released : .unseen
                settle(subscriptions.endUnsent(delivery, session), settlement, byFrame: false)
            }
            return .nothing
        }
        if isBroken, !mayStillSend, subscription.pointee.ownQueue.isNone {
            // Its consumer is paused, for the session ends. What was delivered last was sent last.
            while case let last = subscription.pointee.deliveries.last, !last.isNone,
                subscriptions[last].pointee.position > readable
            {
                settle(subscriptions.end(last, session), .unseen, byFrame: false)
            }
            if subscription.pointee.deliveries.isEmpty { return .nothing }
        }
        var held = HeldMessages.nothing
        let oldest = subscriptions[subscription.pointee.deliveries.first]
        if end == .failed, oldest.pointee.position <= sent { held.failed = oldest.pointee.entry }
        held.newest = subscriptions[subscription.pointee.deliveries.last].pointee.entry
        while case let delivery = subscription.pointee.deliveries.first, !delivery.isNone {
            _ = subscriptions.end(delivery, session)
        }
        return held
    }

    // MARK: Settling

    /// Tells the queue's owner what became of a delivery. `byFrame`: a frame of the client decided it, whose RECEIPT has to
    /// wait until the owner has heard of it.
    @inline(__always)
    mutating func settle(_ ended: EndedDelivery, _ settlement: Settlement, byFrame: Bool) {
        let subscription = subscriptions[ended.subscription]
        let destination = destinations[subscription.pointee.destination]
        if byFrame, subscription.pointee.flags.contains(.givesStored) {
            sessions[subscription.pointee.session].pointee.flags.insert(
                destination.pointee.kind == .remoteQueue ? .hasStoredElsewhere : .hasStored)
        }
        if destination.pointee.kind == .remoteQueue {
            settleAtOwner(
                Int(destination.pointee.owner), ended.entry, consumer: subscription.pointee.consumer, settlement,
                for: byFrame ? sessions[subscription.pointee.session] : nil)
        } else {
            settle(ended.entry, consumer: subscription.pointee.consumer, settlement)
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
        } else if queues.isLive(subscription.pointee.consumer) {
            removeConsumer(subscription.pointee.consumer.index, held)
        }
        subscriptions.setConsumer(.none, of: index)
    }

    // MARK: Slow consumers of queues

    /// Output waits: its queues give their messages to others meanwhile.
    mutating func pauseConsumers(_ session: UnsafeMutablePointer<Session>, for limit: LimitKind? = nil) {
        guard !session.pointee.flags.contains(.consumersPaused) else { return }
        if let limit { counters.limits.count(limit) }
        session.pointee.flags.insert(.consumersPaused)
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            if !subscriptions[index].pointee.consumer.isNone { pauseConsumer(of: index) }
            index = subscriptions.next(after: index)
        }
    }

    mutating func resumeConsumersIfDrained(_ session: UnsafeMutablePointer<Session>) {
        guard session.pointee.state == .connected else { return }
        guard Int(session.pointee.outputByteCount) <= outputByteCountToPauseAt(memory.deliversSparingly) / 2 else {
            return
        }
        session.pointee.flags.remove(.consumersPaused)
        var index = session.pointee.subscriptions.first
        // What was waiting for one consumer may have filled the output again: the others stay paused.
        while !index.isNone, !session.pointee.flags.contains(.consumersPaused) {
            if !subscriptions[index].pointee.consumer.isNone { resumeConsumer(of: index) }
            index = subscriptions.next(after: index)
        }
    }

    /// Pauses the consumer of a subscription, wherever its queue is.
    mutating func pauseConsumer(of index: Index<Subscription>) {
        let consumer = subscriptions[index].pointee.consumer
        let destination = destinations[subscriptions[index].pointee.destination]
        if destination.pointee.kind == .remoteQueue {
            pauseAtOwner(Int(destination.pointee.owner), consumer, true)
        } else {
            queues.pause(consumer.index)
        }
    }

    mutating func resumeConsumer(of index: Index<Subscription>) {
        let consumer = subscriptions[index].pointee.consumer
        let destination = destinations[subscriptions[index].pointee.destination]
        if destination.pointee.kind == .remoteQueue {
            pauseAtOwner(Int(destination.pointee.owner), consumer, false)
        } else {
            resume(consumer.index)
        }
    }
}
