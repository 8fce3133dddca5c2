import STOMP
import Slabs

// SUBSCRIBE and UNSUBSCRIBE, as far as their headers go.
extension Shard {
    /// The subscription's id: `id`, or in 1.0 the destination as it was written. MESSAGE repeats only the former.
    private mutating func subscriptionId(_ session: UnsafeMutablePointer<Session>) -> UnsafeRawBufferPointer? {
        if let id = frame.value(.id, into: scratch.value, version: session.pointee.version) { return id }
        guard session.pointee.version == .v1_0 else { return nil }
        return frame.rawValue(.destination)
    }

    mutating func subscribe(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        recordAllowance -= 1
        guard let id = newSubscriptionId(context), let ackMode = ackModeOfFrame(context),
            asksForSupportedDeliveries(context), let isDurable = asksForDurability(context),
            asksForSupportedQueue(context), let window = windowOfFrame(context)
        else { return .done }
        let raw = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
        let index = destinationForSubscribe(context, raw)
        if index.isNone { return .done }
        guard asksForSupportedLimits(context, of: index) else { return .done }
        if frame.has(.xStreamOffset) { return subscribeToLog(context, to: index, id: id, ackMode: ackMode, window) }
        if isDurable, [.topic, .pattern].contains(destinations[index].pointee.kind) {
            return subscribeDurably(context, to: index, id: id, ackMode: ackMode, window: window)
        }
        return subscribe(context, to: index, id: id, ackMode: ackMode, window: window)
    }

    /// The id of the SUBSCRIBE under the parser, if the session may have another subscription, and one with that id. nil: it
    /// was answered with ERROR.
    private mutating func newSubscriptionId(_ context: FrameContext) -> UnsafeRawBufferPointer? {
        let session = context.session
        guard frame.has(.destination) else {
            failFrame(context, "Missing destination", "SUBSCRIBE needs a destination header")
            return nil
        }
        if isDraining {
            failFrame(context, "Shutting down", "the broker is shutting down")
            return nil
        }
        guard let id = subscriptionId(session) else {
            failFrame(context, "Missing header", "SUBSCRIBE needs an id header in STOMP 1.1 and 1.2")
            return nil
        }
        if frame.has(.id), id.count > limits.subscriptionIdByteCountMax {
            counters.limits.count(.subscriptionIdBytes)
            failFrame(
                context, "Subscription id too long",
                "an id may be \(limits.subscriptionIdByteCountMax) bytes long (limits.subscription-id-bytes)")
            return nil
        }
        if !findSubscription(session, id).isNone {
            failFrame(
                context, "Duplicated subscription identifier", "this connection already has a subscription with that id"
            )
            return nil
        }
        if gate.isOn, !admitsSubscription(context) { return nil }
        if hosts.isOn, !hostAdmitsSubscription(context) { return nil }
        if Int(session.pointee.subscriptionCount) >= limits.subscriptionsPerConnectionMax {
            counters.limits.count(.subscriptionsPerConnection)
            failFrame(
                context, "Too many subscriptions",
                "a connection may have \(limits.subscriptionsPerConnectionMax) subscriptions "
                    + "(limits.subscriptions-per-connection-max)")
            return nil
        }
        return id
    }

    /// nil: it was answered with ERROR.
    private mutating func ackModeOfFrame(_ context: FrameContext) -> AckMode? {
        guard let text = frame.value(.ack, into: scratch.key, version: context.session.pointee.version) else {
            return .auto
        }
        if equals(text, "auto") { return .auto }
        if equals(text, "client") { return .client }
        if equals(text, "client-individual") { return .clientIndividual }
        failFrame(
            context, "Invalid ack mode", "ack must be auto, client or client-individual, not '\(printable(text))'")
        return nil
    }

    /// To ignore these would be to deliver what was not asked for, or to lose what was to be kept. False: it was answered
    /// with ERROR.
    private mutating func asksForSupportedDeliveries(_ context: FrameContext) -> Bool {
        if frame.has(.selector) || frame.has(.filter) {
            failFrame(context, "Selectors are not supported", "remove the selector or filter header")
            return false
        }
        guard let browses = boolean(context, .browser) else { return false }
        if browses {
            failFrame(context, "Browsing is not supported", "without the browser header the messages would be consumed")
        }
        return !browses
    }

    mutating func unsubscribe(_ context: FrameContext) -> FrameOutcome {
        let session = context.session
        recordAllowance -= 1
        guard let isDurable = asksForDurability(context) else { return .done }
        if isDurable { return endDurable(context) }
        guard let id = subscriptionId(session) else {
            failFrame(
                context, "Missing header",
                session.pointee.version == .v1_0
                    ? "UNSUBSCRIBE needs the id or destination header of its SUBSCRIBE"
                    : "UNSUBSCRIBE needs the id header of its SUBSCRIBE")
            return .done
        }
        var index = findSubscription(session, id)
        if index.isNone, session.pointee.version == .v1_0, !frame.has(.id) {
            // 1.0 lets a subscription that has an id go by its destination too.
            index = subscriptions.find(session, to: destinationWithoutError(session, id))
        }
        if index.isNone {
            failFrame(context, "Subscription not found", "this connection has no subscription with that id")
            return .done
        }
        // What was published before leaves before the RECEIPT.
        flushEncodings(of: session)
        unsubscribe(session, index)
        confirm(context)
        return .done
    }
}
