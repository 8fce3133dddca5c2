import Glibc
import STOMP
import Slabs

// SUBSCRIBE and UNSUBSCRIBE of durable topic subscriptions, as the client's worker sees them: see `DurableSubscriptions`.
// The worker that holds the subscription is in `Shard+DurableSubscriptions`.
extension Shard {
    /// What a frame says of a durable subscription.
    private struct DurableFrame {
        var name: [UInt8]
        /// The canonical name of the topic or pattern. Empty: it says nothing of it.
        var topic: [UInt8]
        var isPattern = false
        var dialect: DurableDialect
        /// UNSUBSCRIBE: the connection's own. None: it has none.
        var own = Index<Subscription>.none
    }

    // MARK: CONNECT

    /// Keeps the `client-id` of the CONNECT under the parser.
    mutating func keepClientID(_ session: UnsafeMutablePointer<Session>) {
        guard let text = frame.rawValue(.clientId), text.count > 0 else { return }
        session.pointee.flags.insert(.hasClientID)
        let isTooLong = text.count > limits.subscriptionIdByteCountMax
        durables.setClientID(isTooLong ? [] : Array(text), of: session.pointee.index)
    }

    // MARK: SUBSCRIBE

    /// SUBSCRIBE to a topic or pattern that asks to be kept while its client is away.
    mutating func subscribeDurably(
        _ context: FrameContext, to topic: Index<Destination>, id: UnsafeRawBufferPointer, ackMode: AckMode,
        window: Window
    ) -> FrameOutcome {
        let session = context.session
        let topicName = Array(nameOf(topic))
        let (isPattern, isTemporary) = (
            destinations[topic].pointee.kind == .pattern, destinations[topic].pointee.isTemporary
        )
        updateIdle(topic)
        if isTemporary {
            failDurable(context, "a temporary topic ends with its connection; subscribe without the durable headers")
            return .done
        }
        guard let asked = durableToMake(context, topic: topicName, isPattern: isPattern, id: id) else { return .done }
        // Its RECEIPT precedes its first MESSAGE, and receipts leave in order.
        if pendings.holdsBack(session, asksForReceipt: frame.has(.receipt)) { return retryAfterPending(context) }
        let name = nameOfDurable(asked)
        let owner = destinations.owner(ofQueue: name)
        let isHeldHere = owner == self.index
        let index = isHeldHere ? durableHere(context, asked, name) : durableElsewhere(context, name, owner)
        if index.isNone { return .done }
        let hasConsumers = destinations[index].pointee.subscriptionCount > 0
        let subscription = makeSubscription(
            session, index, id: id, isNamed: frame.has(.id), ackMode: ackMode, consumes: true, window: window)
        if subscription.isNone {
            if isHeldHere, !durables[index]!.isOpen, durables[index]!.waiting.isEmpty {
                _ = removeDurable(index)
            } else {
                updateIdle(index)
            }
            counters.limits.count(.subscriptions)
            failFrame(context, "Out of memory", "no room for another subscription (limits.subscriptions-max)")
            return .done
        }
        if isHeldHere, durables[index]!.isOpen {
            confirm(context)
            if session.pointee.state == .connected { consume(index, subscription) }
            return .done
        }
        // Others consume from it already, or have asked to: what it is to, the answer says.
        if !isHeldHere, !hasConsumers { durables.consumesElsewhere(index, topic: asked.topic) }
        guard let pending = makePending(context, .subscribe, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings.setSubscription(subscription, of: pending)
        suspend(session)
        if isHeldHere {
            durables.wait(
                WaitingConsumer(
                    worker: UInt16(owner), subscription: subscriptions.handle(subscription),
                    pending: pendings.handle(pending), window: window, isPaused: false),
                for: index)
        } else {
            askOwner(owner, asked, pending, subscription)
        }
        return .done
    }

    private mutating func askOwner(
        _ owner: Int, _ asked: DurableFrame, _ pending: Index<PendingOperation>, _ subscription: Index<Subscription>
    ) {
        let session = sessions[subscriptions[subscription].pointee.session]
        let request = DurableRequest(
            subscription: subscriptions.handle(subscription), pending: pendings.handle(pending),
            window: subscriptions[subscription].pointee.window,
            isPaused: session.pointee.flags.contains(.consumersPaused), dialect: asked.dialect,
            isPattern: asked.isPattern, topicByteCount: UInt16(asked.topic.count))
        durables.ask(pendings.handle(pending), topic: asked.topic)
        let place = peers.write(request, to: owner, payloadByteCount: asked.topic.count + asked.name.count)
        Self.copy(asked.topic, to: place)
        Self.copy(asked.name, to: place + asked.topic.count)
    }

    private static func copy(_ bytes: [UInt8], to place: UnsafeMutableRawPointer) {
        bytes.withUnsafeBytes { if let base = $0.baseAddress { place.copyMemory(from: base, byteCount: $0.count) } }
    }

    /// The name of a subscription's queue, at `scratch.durable`.
    private mutating func nameOfDurable(_ asked: DurableFrame) -> UnsafeRawBufferPointer {
        Self.copy(asked.name, to: scratch.durable)
        return UnsafeRawBufferPointer(start: scratch.durable, count: asked.name.count)
    }

    /// A durable subscription that this worker holds. None: it was answered with ERROR.
    private mutating func durableHere(
        _ context: FrameContext, _ asked: DurableFrame, _ name: UnsafeRawBufferPointer
    ) -> Index<Destination> {
        Self.copy(asked.topic, to: scratch.name)
        let topic = UnsafeRawBufferPointer(start: scratch.name, count: asked.topic.count)
        let held = holdDurable(name, topic: topic, asked.dialect, isPattern: asked.isPattern)
        guard let refusal = held.refusal else { return held.index }
        failRefused(context.session, refusal, receipt: receiptOfFrame(context))
        return .none
    }

    /// The stand-in of one that another worker holds. None: it was answered with ERROR.
    private mutating func durableElsewhere(
        _ context: FrameContext, _ name: UnsafeRawBufferPointer, _ owner: Int
    ) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        guard makeRoomForOther(isUnused: false) else {
            failDestination(context, .destinations)
            return .none
        }
        let created = destinations.makeRemoteQueue(name, owner: owner, blocks: false, memory: &memory)
        guard !created.isNone else {
            failDestination(context, .memory)
            return .none
        }
        destinations.setDurableQueue(true, created)
        return created
    }

    /// A subscription of this worker's consumes from a durable one that it holds, and that is open.
    mutating func consume(_ index: Index<Destination>, _ subscription: Index<Subscription>) {
        addConsumer(destinations[index].pointee.queue, subscription)
        consumerCame(index)
    }

    // MARK: UNSUBSCRIBE

    /// A subscription of this worker's does not consume from a durable one any more.
    mutating func leftDurable(_ index: Index<Destination>) {
        if destinations[index].pointee.subscriptionCount == 0 { durables.consumesNoMore(index) }
    }

    /// UNSUBSCRIBE with the headers of a durable subscription: it ends for good, with what it keeps.
    mutating func endDurable(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        guard let asked = durableToEnd(context) else { return .done }
        // What was published before leaves before the RECEIPT.
        flushEncodings(of: session)
        if !asked.own.isNone { unsubscribe(session, asked.own) }
        let name = nameOfDurable(asked)
        let owner = destinations.owner(ofQueue: name)
        if owner == self.index {
            Self.copy(asked.topic, to: scratch.name)
            let topic = UnsafeRawBufferPointer(start: scratch.name, count: asked.topic.count)
            if let refusal = endDurable(name, topic: topic) {
                failRefused(session, refusal, receipt: receiptOfFrame(context))
                return .done
            }
            if store.isEnabled { session.pointee.flags.insert(.hasStored) }
        } else {
            askOwnerToEnd(owner, asked, context)
        }
        confirm(context)
        return .done
    }

    private mutating func askOwnerToEnd(_ owner: Int, _ asked: DurableFrame, _ context: FrameContext) {
        let receipt = receiptOfFrame(context) ?? UnsafeRawBufferPointer(start: nil, count: 0)
        let removal = DurableRemoval(
            session: context.session.pointee.handle, nameByteCount: UInt16(asked.name.count),
            topicByteCount: UInt16(asked.topic.count))
        let place = peers.write(
            removal, to: owner, payloadByteCount: asked.name.count + asked.topic.count + receipt.count)
        Self.copy(asked.name, to: place)
        Self.copy(asked.topic, to: place + asked.name.count)
        if receipt.count > 0 {
            memcpy(place + asked.name.count + asked.topic.count, receipt.baseAddress!, receipt.count)
        }
        markRemote(context.session, owner)
        if store.isEnabled { context.session.pointee.flags.insert(.hasStoredElsewhere) }
    }

    // MARK: Headers

    private mutating func failDurable(_ context: FrameContext, _ explanation: String) {
        failFrame(context, "Invalid durable subscription", explanation)
    }

    /// Which durable subscription the SUBSCRIBE under the parser asks for. nil: it was answered with ERROR.
    private mutating func durableToMake(
        _ context: FrameContext, topic: [UInt8], isPattern: Bool, id: UnsafeRawBufferPointer
    ) -> DurableFrame? {
        guard let isAutomatic = boolean(context, .autoDelete) else { return nil }
        if isAutomatic {
            failDurable(
                context, "auto-delete:true would end a durable subscription with its consumer; say auto-delete:false")
            return nil
        }
        if frame.hasAny(Self.subscriptionNames) {
            guard let name = singleName(context) else { return nil }
            return DurableFrame(name: name, topic: topic, isPattern: isPattern, dialect: .single)
        }
        guard frame.has(.id) else {
            failDurable(context, "durable:true needs an id header: id and destination name the subscription")
            return nil
        }
        return DurableFrame(
            name: DurableName.shared(id: id, topic: topic), topic: topic, isPattern: isPattern, dialect: .shared)
    }

    /// Which durable subscription the UNSUBSCRIBE under the parser ends. nil: it was answered with ERROR.
    private mutating func durableToEnd(_ context: FrameContext) -> DurableFrame? {
        let session = context.session
        if frame.hasAny(Self.subscriptionNames) {
            guard let name = singleName(context) else { return nil }
            var asked = DurableFrame(name: name, topic: [], dialect: .single)
            let destination = findDestination(nameOfDurable(asked))
            if !destination.isNone { asked.own = subscriptions.find(session, to: destination) }
            if asked.own.isNone {
                // Whose topic it is, its own worker knows alone: so the client says what is checked.
                guard frame.has(.destination) || !gate.isOn else {
                    failDurable(
                        context,
                        "UNSUBSCRIBE needs the durable subscription's destination too, for permissions are checked")
                    return nil
                }
                if frame.has(.destination) {
                    guard let topic = topicOfFrame(context) else { return nil }
                    asked.topic = topic
                }
            }
            return asked
        }
        guard frame.has(.id), let id = frame.value(.id, into: scratch.value, version: session.pointee.version) else {
            failDurable(context, "UNSUBSCRIBE with durable:true needs the id header of its SUBSCRIBE")
            return nil
        }
        let own = findSubscription(session, id)
        guard own.isNone else { return durableOf(context, own) }
        guard frame.has(.destination) else {
            failFrame(
                context, "Subscription not found",
                "this connection has no subscription with that id; to end a durable one of another, name its destination "
                    + "too")
            return nil
        }
        let key = Array(id)
        guard let topic = topicOfFrame(context) else { return nil }
        let name = key.withUnsafeBytes { DurableName.shared(id: $0, topic: topic) }
        return DurableFrame(name: name, topic: topic, dialect: .shared)
    }

    /// The durable subscription that one of the connection's own consumes from. nil: it was answered with ERROR.
    private mutating func durableOf(_ context: FrameContext, _ own: Index<Subscription>) -> DurableFrame? {
        let destination = subscriptions[own].pointee.destination
        let name = nameOf(destination)
        guard destinations[destination].pointee.marks.contains(.durableQueue), begins(visible(name), with: "/dsub/id/")
        else {
            failDurable(
                context, "this subscription is not durable; UNSUBSCRIBE without the headers durable and persistent")
            return nil
        }
        return DurableFrame(name: Array(name), topic: [], dialect: .shared, own: own)
    }

    /// The topic or pattern that the UNSUBSCRIBE under the parser names, if the client may read it. nil: it was answered
    /// with ERROR.
    private mutating func topicOfFrame(_ context: FrameContext) -> [UInt8]? {
        let raw = frame.value(.destination, into: scratch.destination, version: context.session.pointee.version)!
        let index = destinationForSubscribe(context, raw)
        if index.isNone { return nil }
        let name = Array(nameOf(index))
        let isTopic = [.topic, .pattern].contains(destinations[index].pointee.kind)
        updateIdle(index)
        if isTopic { return name }
        failDurable(context, "only subscriptions to topics are durable")
        return nil
    }

    /// The name of a subscription that `client-id` and a header of the frame name. nil: it was answered with ERROR.
    private mutating func singleName(_ context: FrameContext) -> [UInt8]? {
        // In the order in which Artemis looks for them.
        let names: [HeaderName] = [
            .durableSubscriberName, .durableSubscriptionName, .activemqSubscriptionName, .activemqSubcriptionName,
        ]
        let header = names.first { frame.has($0) }!
        let name = frame.value(header, into: scratch.key, version: context.session.pointee.version)!
        guard name.count > 0, name.count <= limits.subscriptionIdByteCountMax else {
            failDurable(
                context,
                "\(header.text) must have 1 to \(limits.subscriptionIdByteCountMax) bytes "
                    + "(limits.subscription-id-bytes)")
            return nil
        }
        guard let clientID = durables.clientID(of: context.session.pointee.index) else {
            failDurable(
                context,
                "\(header.text) needs a client-id header in CONNECT: the two together name the durable subscription")
            return nil
        }
        guard !clientID.isEmpty else {
            failDurable(
                context,
                "the client-id of CONNECT may have \(limits.subscriptionIdByteCountMax) bytes (limits.subscription-id-bytes)"
            )
            return nil
        }
        return DurableName.single(
            clientID: clientID, name: name, host: hosts.prefix(of: context.session.pointee.index))
    }
}
