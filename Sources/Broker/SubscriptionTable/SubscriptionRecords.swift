import Slabs

enum AckMode: UInt8, BitwiseCopyable {
    case auto, client, clientIndividual
}

struct SubscriptionFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// Waits for other workers before it counts.
    static let pending = SubscriptionFlags(rawValue: 1 << 0)
    /// Takes from a queue (its own, where it is an acknowledging topic subscription).
    static let isConsumer = SubscriptionFlags(rawValue: 1 << 1)
    /// It was given messages that are stored.
    static let givesStored = SubscriptionFlags(rawValue: 1 << 2)
    /// Reads the log of its topic: what it takes comes from the topic's owner.
    static let readsLog = SubscriptionFlags(rawValue: 1 << 6)
}

/// One SUBSCRIBE.
struct Subscription: SlabRecord {
    var generation: UInt32
    var session: Index<Session>
    /// Among the session's.
    var link: DoubleLink<Subscription>
    /// Topic or pattern, queue, or the local stand-in of another worker's queue.
    var destination: Index<Destination>
    var encoding: Index<SharedEncoding>
    /// Place in the encoding's members; of an acknowledging topic subscription among the destination's bound queues.
    var position: UInt32
    /// At the queue's owner.
    var consumer: Handle<Consumer>
    /// Deliveries that are not acknowledged yet, in the order of delivery.
    var deliveries: DeliveryList
    /// Of an acknowledging topic subscription: the destination (kind `subscriptionQueue`) that has the queue between topic
    /// and subscriber.
    var ownQueue: Index<Destination>
    /// How much it takes before it acknowledges.
    var window: Window
    var ackMode: AckMode
    var flags: SubscriptionFlags
    var unused: UInt16
}

/// A message on its way to a subscriber or waiting for its acknowledgement, with the session.
struct Delivery: SlabRecord {
    var generation: UInt32
    /// None: it has ended, and this is only on the session's list of unsent deliveries still.
    var subscription: Index<Subscription>
    /// Among the subscription's.
    var link: DoubleLink<Delivery>
    /// Of an `auto` subscription: among the session's unsent deliveries.
    var unsentLink: SingleLink<Delivery>
    /// Of another, where ACK may name the message-id: in a chain of `DeliveryTable`.
    var chainLink: DoubleLink<Delivery>
    /// Acknowledged in this open transaction.
    var transaction: Index<Transaction>
    /// At the queue's owner.
    var entry: Handle<Entry>
    /// MESSAGE's message-id.
    var identity: UInt64
    /// The session's output position behind the MESSAGE's NUL.
    var position: UInt64
}
