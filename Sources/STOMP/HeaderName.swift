/// The header names that the broker knows; a frame finds the field of each in constant time.
///
/// At most 63 of them beside `other`, because a frame marks those it holds in one 64-bit word.
public enum HeaderName: UInt8, BitwiseCopyable, Sendable, CaseIterable {
    /// Any name that is not in this list.
    case other = 0
    // Connecting
    case acceptVersion, host, login, passcode, heartBeat, version, clientId, session, server
    // The protocol's own
    case destination, id, subscription, ack, messageId, receipt, receiptId, transaction, contentLength, contentType
    case selector, message
    // Messages
    case replyTo, correlationId, expires, expiration, ttl, persistent, priority, timestamp, redelivered, deliveryCount
    case jmsxGroupId, retain, userId
    /// Any of `sendOptions`.
    case sendOption
    // Subscriptions
    case prefetchCount, activemqPrefetchSize, consumerWindowSize, noLocal, activemqNoLocal
    case exclusive, activemqExclusive, browser, filter, durable, activemqSubscriptionName, durableSubscriptionName
    case activemqSubcriptionName, durableSubscriberName, requeue
    // Limits on first use of a destination
    case autoDelete, xMaxLength, xMaxLengthBytes, xOverflow, xMessageTTL, xExpires, xDeadLetterRoutingKey, xMaxPriority
    case xQueueName, xQueueType, xSingleActiveConsumer
    // Logs of topics
    case xStreamOffset

    /// Headers of SEND that few frames have share one bit: when the message is due, and the id by which it is taken once. Who
    /// finds one compares the names of the fields.
    public static let sendOptions: [StaticString] = [
        "AMQ_SCHEDULED_DELAY", "AMQ_SCHEDULED_TIME", "AMQ_SCHEDULED_PERIOD", "AMQ_SCHEDULED_REPEAT",
        "AMQ_SCHEDULED_CRON",
        "x-delay", "x-deduplication-id",
    ]

    /// As frames spell it; empty for `other` and for a family of names. Names are case-sensitive.
    public var text: StaticString {
        switch self {
        case .other, .sendOption: ""
        case .acceptVersion: "accept-version"
        case .host: "host"
        case .login: "login"
        case .passcode: "passcode"
        case .heartBeat: "heart-beat"
        case .version: "version"
        case .clientId: "client-id"
        case .session: "session"
        case .server: "server"
        case .destination: "destination"
        case .id: "id"
        case .subscription: "subscription"
        case .ack: "ack"
        case .messageId: "message-id"
        case .receipt: "receipt"
        case .receiptId: "receipt-id"
        case .transaction: "transaction"
        case .contentLength: "content-length"
        case .contentType: "content-type"
        case .selector: "selector"
        case .message: "message"
        case .replyTo: "reply-to"
        case .correlationId: "correlation-id"
        case .expires: "expires"
        case .expiration: "expiration"
        case .ttl: "ttl"
        case .persistent: "persistent"
        case .priority: "priority"
        case .timestamp: "timestamp"
        case .redelivered: "redelivered"
        case .deliveryCount: "delivery-count"
        case .jmsxGroupId: "JMSXGroupID"
        case .retain: "retain"
        case .userId: "user-id"
        case .prefetchCount: "prefetch-count"
        case .activemqPrefetchSize: "activemq.prefetchSize"
        case .consumerWindowSize: "consumer-window-size"
        case .noLocal: "no-local"
        case .activemqNoLocal: "activemq.noLocal"
        case .exclusive: "exclusive"
        case .activemqExclusive: "activemq.exclusive"
        case .browser: "browser"
        case .filter: "filter"
        case .durable: "durable"
        case .activemqSubscriptionName: "activemq.subscriptionName"
        case .durableSubscriptionName: "durable-subscription-name"
        case .activemqSubcriptionName: "activemq.subcriptionName"
        case .durableSubscriberName: "durable-subscriber-name"
        case .requeue: "requeue"
        case .autoDelete: "auto-delete"
        case .xMaxLength: "x-max-length"
        case .xMaxLengthBytes: "x-max-length-bytes"
        case .xOverflow: "x-overflow"
        case .xMessageTTL: "x-message-ttl"
        case .xExpires: "x-expires"
        case .xDeadLetterRoutingKey: "x-dead-letter-routing-key"
        case .xMaxPriority: "x-max-priority"
        case .xQueueName: "x-queue-name"
        case .xQueueType: "x-queue-type"
        case .xSingleActiveConsumer: "x-single-active-consumer"
        case .xStreamOffset: "x-stream-offset"
        }
    }

    /// The bit of this name in a frame's mark of the names it holds.
    @inlinable
    public var bit: UInt64 { 1 &<< UInt64(rawValue) }
}
