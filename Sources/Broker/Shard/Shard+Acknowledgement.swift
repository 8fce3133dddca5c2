import Glibc
import IO
import STOMP
import Slabs

// ACK and NACK.
extension Shard {
    mutating func acknowledge(_ context: FrameContext, accepts: Bool) -> FrameOutcome {
        // Now, and not at COMMIT, which is applied as a whole.
        if !accepts, boolean(context, .requeue) == nil { return .done }
        let index = deliveryOfFrame(context)
        if index.isNone { return .done }
        if frame.has(.transaction) {
            guard subscriptions[index].pointee.transaction.isNone else {
                failFrame(context, "Message not found", "this message has already been acknowledged in a transaction")
                return .done
            }
            let transaction = transactionOfFrame(context)
            if transaction.isNone { return .done }
            guard keepSettlement(context, of: subscriptions.handle(index), settlementOfFrame(accepts: accepts)) else {
                return .done
            }
            chargeForSteps(subscriptions.mark(index, in: transaction))
            return .done
        }
        guard subscriptions[index].pointee.transaction.isNone else {
            failFrame(context, "Message not found", "this message has already been acknowledged in a transaction")
            return .done
        }
        settleFrame(index, settlementOfFrame(accepts: accepts), transaction: .none)
        confirm(context)
        return .done
    }

    /// What the ACK or NACK under the parser, which is in order, says of its message.
    @inline(__always)
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
        let subscription = subscriptions[subscriptions[index].pointee.subscription]
        let session = sessions[subscription.pointee.session]
        guard subscription.pointee.ackMode == .client else {
            return settle(subscriptions.end(index, session), settlement, byFrame: true)
        }
        var candidate = subscription.pointee.deliveries.first
        var isLast = false
        var stepCount = 0
        while !candidate.isNone, !isLast {
            let next = subscriptions.next(after: candidate)
            isLast = candidate == index
            if subscriptions[candidate].pointee.transaction == transaction {
                settle(subscriptions.end(candidate, session), settlement, byFrame: true)
            }
            stepCount += 1
            candidate = next
        }
        chargeForSteps(stepCount)
    }

    /// The delivery that ACK or NACK names: 1.2 by `id`, the MESSAGE's `ack` or `message-id`; 1.1 by `subscription` and
    /// `message-id`; 1.0 by `message-id`. None: it was answered with ERROR.
    mutating func deliveryOfFrame(_ context: FrameContext) -> Index<Delivery> {
        let session = context.session
        let version = session.pointee.version
        if version == .v1_2 {
            guard let text = frame.rawValue(.id) else {
                failFrame(context, "Missing header", "ACK and NACK need an id header: the ack header of the MESSAGE")
                return .none
            }
            if let value = hexadecimal(text) {
                if value >> 56 != 0 { return deliveryOfMessage(context, value, text) }
                let handle = Handle<Delivery>(
                    index: Index(UInt32(truncatingIfNeeded: value >> 24)), generation: UInt32(value & 0xFF_FFFF))
                let delivery = subscriptions.findDelivery(session, handle)
                if !delivery.isNone { return delivery }
            }
            failUnknownMessage(context, text)
            return .none
        }
        guard let text = frame.rawValue(.messageId) else {
            failFrame(context, "Missing header", "ACK and NACK need the message-id header of the MESSAGE")
            return .none
        }
        var wanted = Index<Subscription>.none
        if let id = frame.value(.subscription, into: scratch.value, version: version) {
            wanted = findSubscription(session, id)
            if wanted.isNone {
                failFrame(context, "Subscription not found", "this connection has no subscription with that id")
                return .none
            }
        } else if version == .v1_1 {
            failFrame(context, "Missing header", "ACK and NACK need the subscription header in STOMP 1.1")
            return .none
        }
        if let identity = hexadecimal(text) {
            let delivery = findDelivery(session, identity, of: wanted)
            if !delivery.isNone { return delivery }
        }
        failUnknownMessage(context, text)
        return .none
    }

    private mutating func findDelivery(
        _ session: UnsafeMutablePointer<Session>, _ identity: UInt64, of wanted: Index<Subscription>
    ) -> Index<Delivery> {
        let found = subscriptions.findDelivery(session, identity, of: wanted)
        chargeForSteps(found.stepCount)
        return found.delivery
    }

    /// What an ACK or NACK of 1.2 is for whose `id` is a message-id: some clients send that, as they did in 1.1, and other
    /// brokers take it. A `message-id` never looks like an `ack` header's value. The first such frame enters all
    /// deliveries of its session in `deliveryTable`, so that clients that send what the specification asks for do not pay.
    private mutating func deliveryOfMessage(
        _ context: FrameContext, _ identity: UInt64, _ text: UnsafeRawBufferPointer
    ) -> Index<Delivery> {
        let session = context.session
        chargeForSteps(subscriptions.nameDeliveries(of: session))
        var wanted = Index<Subscription>.none
        if let id = frame.value(.subscription, into: scratch.value, version: .v1_2) {
            wanted = findSubscription(session, id)
        }
        let delivery = findDelivery(session, identity, of: wanted)
        if delivery.isNone { failUnknownMessage(context, text) }
        return delivery
    }

    /// A kept ACK or NACK, which is under the parser, was for a subscription that has ended since.
    mutating func failUnknownMessage(_ context: FrameContext) {
        let session = context.session
        failUnknownMessage(context, frame.rawValue(session.pointee.version == .v1_2 ? .id : .messageId)!)
    }

    private mutating func failUnknownMessage(_ context: FrameContext, _ text: UnsafeRawBufferPointer) {
        failFrame(
            context, "Message not found",
            "no message with the id '\(printable(text))' waits for ACK or NACK on this connection")
    }
}
