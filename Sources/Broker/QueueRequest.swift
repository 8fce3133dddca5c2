import Glibc
import STOMP
import Slabs

/// What the client that uses a queue first may ask of it, in SUBSCRIBE or SEND: `x-max-length` (messages),
/// `x-max-length-bytes`, `x-message-ttl` (ms), `x-overflow` (`reject-publish`, `drop-head`, or in the words of the
/// configuration `reject`, `drop-oldest`) and `x-dead-letter-routing-key` (a queue's name, or a destination). It may ask for
/// less than the policy allows, not for more; when the queue exists already, it asks in vain. Topics and temporary queues
/// have no such limits: SUBSCRIBE to one is answered with ERROR (`asksForSupportedLimits`).
struct QueueRequest: BitwiseCopyable {
    var messageCountMax = UInt64.max
    var byteCountMax = UInt64.max
    var messageMillisecondsMax = UInt64.max
    var hasOverflow = false
    var overflow = OverflowPolicy.reject
    /// The canonical name of a queue or topic, in `Scratch.key`, or in a message of another worker. 0: none.
    var deadLetterByteCount: UInt32 = 0

    /// Anything but what the policy says.
    var asksForAnything: Bool {
        messageCountMax != .max || byteCountMax != .max || messageMillisecondsMax != .max || hasOverflow
            || deadLetterByteCount != 0
    }

    static var byteCount: Int { MemoryLayout<QueueRequest>.size }

    static var bits: UInt64 {
        HeaderName.xMaxLength.bit | HeaderName.xMaxLengthBytes.bit | HeaderName.xMessageTTL.bit
            | HeaderName.xOverflow.bit | HeaderName.xDeadLetterRoutingKey.bit
    }

    /// What no queue of this broker can be, unless the value asks for what every queue is.
    static var unsupportedBits: UInt64 {
        HeaderName.xQueueName.bit | HeaderName.xQueueType.bit | HeaderName.xExpires.bit | HeaderName.xMaxPriority.bit
            | HeaderName.xSingleActiveConsumer.bit
    }
}

extension Shard {
    /// What the frame under the parser asks of a queue that it may create. nil: it was answered with ERROR.
    mutating func queueRequestOfFrame(_ context: FrameContext) -> QueueRequest? {
        let session = context.session
        var request = QueueRequest()
        guard asksForSupportedQueue(context) else { return nil }
        guard frame.hasAny(QueueRequest.bits) else { return request }
        guard let messageCountMax = requestedNumber(context, .xMaxLength),
            let byteCountMax = requestedNumber(context, .xMaxLengthBytes),
            let messageMillisecondsMax = requestedNumber(context, .xMessageTTL)
        else { return nil }
        request.messageCountMax = messageCountMax
        request.byteCountMax = byteCountMax
        request.messageMillisecondsMax = messageMillisecondsMax
        if let text = frame.rawValue(.xOverflow) {
            request.hasOverflow = true
            if equals(text, "drop-head") || equals(text, "drop-oldest") {
                request.overflow = .dropOldest
            } else if !equals(text, "reject-publish"), !equals(text, "reject") {
                failFrame(
                    context, "Invalid x-overflow",
                    "x-overflow must be reject-publish, reject, drop-head or drop-oldest, not '\(printable(text))'")
                return nil
            }
        }
        // Not in `scratch.value`, where the id of the SUBSCRIBE may be.
        if let key = frame.value(.xDeadLetterRoutingKey, into: scratch.headers, version: session.pointee.version) {
            guard let name = deadLetterName(key, host: hosts.prefix(of: session.pointee.index)) else {
                failFrame(
                    context, "Invalid x-dead-letter-routing-key",
                    "x-dead-letter-routing-key must be a queue's name, or begin with /queue/ or /topic/; no wildcards")
                return nil
            }
            let bytes = UnsafeRawBufferPointer(start: scratch.key, count: name)
            if gate.isOn, !admitsIndirect(context, .xDeadLetterRoutingKey, bytes, orReads: false) { return nil }
            request.deadLetterByteCount = UInt32(name)
        }
        return request
    }

    /// A number of 1 or more; the greatest where it is not asked for.
    private mutating func requestedNumber(_ context: FrameContext, _ name: HeaderName) -> UInt64? {
        number(context, name, default: .max, atLeast: 1, "Invalid queue argument")
    }

    /// Writes the canonical form of a dead-letter destination to `scratch.key`; returns its length.
    private mutating func deadLetterName(_ key: UnsafeRawBufferPointer, host: UnsafeRawBufferPointer) -> Int? {
        guard
            let parsed = try? DestinationName.parse(
                key, bareNamePrefix: "/queue/", byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { "" }, host: host, into: scratch.key)
        else { return nil }
        switch parsed.kind {
        case .queue, .topic: return parsed.byteCount
        case .pattern, .queuePattern, .temporaryQueue, .temporaryTopic, .replyQueue, .replyTopic: return nil
        }
    }
}
