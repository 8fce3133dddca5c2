import STOMP
import Slabs

// Headers that say yes or no, or a number; and those that ask for what this broker does not do. A wish that is not
// understood, or cannot be granted, is answered with ERROR: to ignore it would be to do something else in silence.
extension Shard {
    // MARK: Values

    /// What a boolean means, as clients in any language write it; nil: it is none.
    func boolean(_ text: UnsafeRawBufferPointer) -> Bool? {
        // "true", compared as one word: persistent messages have it, and nearly all clients write it so.
        if text.count == 4, UInt32(littleEndian: text.loadUnaligned(as: UInt32.self)) == 0x6575_7274 { return true }
        if equals(text, "True") { return true }
        if equals(text, "false") || equals(text, "False") { return false }
        return nil
    }

    /// The header of that name as a boolean; `absent` where there is none. nil: it is no boolean, and was answered with
    /// ERROR.
    mutating func boolean(
        _ context: FrameContext, _ name: HeaderName, default absent: Bool = false
    ) -> Bool? {
        guard let text = frame.rawValue(name) else { return absent }
        if let value = boolean(text) { return value }
        failFrame(context, "Invalid header", "\(name.text) must be true or false, not '\(printable(text))'")
        return nil
    }

    /// The header of that name as a number; `absent` where there is none. nil: it is no such number, and was answered
    /// with ERROR.
    mutating func number(
        _ context: FrameContext, _ name: HeaderName, default absent: UInt64, atLeast least: UInt64 = 0,
        _ message: StaticString = "Invalid header"
    ) -> UInt64? {
        guard let text = frame.rawValue(name) else { return absent }
        if let value = decimal(text), value >= least { return value }
        failFrame(
            context, message,
            "\(name.text) must be a whole number from \(least) up, of at most 18 digits, not '\(printable(text))'")
        return nil
    }

    /// Digits only, at most 18.
    func decimal(_ text: UnsafeRawBufferPointer) -> UInt64? {
        guard text.count > 0, text.count <= 18 else { return nil }
        var value: UInt64 = 0
        for byte in text {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            value = value * 10 + UInt64(byte - 0x30)
        }
        return value
    }

    // MARK: What is not supported

    /// Headers of SUBSCRIBE that mark it as a durable subscription by being there, in the words of several brokers. The
    /// misspelled one is what old clients send.
    static var subscriptionNames: UInt64 {
        HeaderName.activemqSubscriptionName.bit | HeaderName.activemqSubcriptionName.bit
            | HeaderName.durableSubscriptionName.bit | HeaderName.durableSubscriberName.bit
    }

    /// Whether the SUBSCRIBE under the parser wants to be remembered while its client is away, or the UNSUBSCRIBE is about one
    /// that is. nil: it was answered with ERROR.
    mutating func asksForDurability(_ context: FrameContext) -> Bool? {
        guard frame.hasAny(Self.subscriptionNames | HeaderName.durable.bit | HeaderName.persistent.bit) else {
            return false
        }
        guard let isDurable = boolean(context, .durable), let isPersistent = boolean(context, .persistent) else {
            return nil
        }
        return isDurable || isPersistent || frame.hasAny(Self.subscriptionNames)
    }

    /// Whether a SUBSCRIBE, or a SEND to a queue, asks of the queue only what it can be. False: it was answered with
    /// ERROR.
    mutating func asksForSupportedQueue(_ context: FrameContext) -> Bool {
        guard frame.hasAny(QueueRequest.unsupportedBits) else { return true }
        if frame.has(.xQueueName) {
            return refuse(context, .xQueueName, "a queue has its destination's name; a topic has no named queues")
        }
        if let type = frame.rawValue(.xQueueType), !equals(type, "classic") {
            return refuse(context, .xQueueType, "the only type of queue is classic")
        }
        if frame.has(.xExpires) {
            return refuse(context, .xExpires, "idle-expires-ms in the configuration decides when an unused queue ends")
        }
        if frame.has(.xMaxPriority) { return refuse(context, .xMaxPriority, "messages have no priorities") }
        guard let isSingle = boolean(context, .xSingleActiveConsumer) else { return false }
        return !isSingle || refuse(context, .xSingleActiveConsumer, "a queue serves all of its consumers in turn")
    }

    /// Whether a SUBSCRIBE asks for limits only of what has limits of its own: a queue whose name clients choose. False: it
    /// was answered with ERROR. A SEND to a topic passes these headers on, as it does all that the broker does not know.
    mutating func asksForSupportedLimits(_ context: FrameContext, of index: Index<Destination>) -> Bool {
        guard frame.hasAny(QueueRequest.bits) else { return true }
        let destination = destinations[index]
        let reason: String
        switch destination.pointee.kind {
        case .remoteQueue: return true
        case .queue:
            if !destination.pointee.isTemporary { return true }
            reason = "a temporary queue has the limits of the configuration"
        case .topic, .pattern, .subscriptionQueue: reason = "it is for queues"
        }
        let names: [HeaderName] = [.xMaxLength, .xMaxLengthBytes, .xMessageTTL, .xOverflow, .xDeadLetterRoutingKey]
        updateIdle(index)
        return refuse(context, names.first { frame.has($0) }!, reason)
    }

    private mutating func refuse(
        _ context: FrameContext, _ name: HeaderName, _ reason: String
    ) -> Bool {
        let value = printable(frame.rawValue(name)!)
        failFrame(context, "Unsupported header", "\(name.text):\(value) is not supported: \(reason)")
        return false
    }

    /// A SEND has the header `persistent`. True: it is to be stored. Nonsense is no error, for without a store the header
    /// changes nothing.
    @inline(never)
    mutating func asksForPersistence(_ session: UnsafeMutablePointer<Session>) -> Bool {
        guard let text = frame.rawValue(.persistent), boolean(text) == true else { return false }
        if !store.isEnabled { noticePersistence(session) }
        return true
    }

    /// The SEND under the parser is to be stored in this queue.
    @inline(never)
    mutating func storesFrame(_ session: UnsafeMutablePointer<Session>, in index: Index<Destination>) -> Bool {
        let isPersistent = frame.has(.persistent) && asksForPersistence(session)
        return destinations[index].pointee.stores(isPersistent: isPersistent)
    }

    /// A SEND that says `persistent:true` is accepted like any other where nothing is stored, for most clients always say
    /// so. The log tells once for each connection that such messages do not outlive the broker.
    mutating func noticePersistence(_ session: UnsafeMutablePointer<Session>) {
        guard !session.pointee.flags.contains(.hasAskedForPersistence) else { return }
        session.pointee.flags.insert(.hasAskedForPersistence)
        notice(
            .notPersistent, session: session.pointee.index,
            store.isEnabled
                ? "the client sends persistent:true to a destination whose messages are kept only in memory: they are lost "
                    + "when the broker ends"
                : "the client sends persistent:true, but messages are kept only in memory and are lost when the broker ends"
        )
    }
}
