import Slabs
import STOMP

enum AckMode: UInt8, BitwiseCopyable {
    case auto, client, clientIndividual
}

struct SubscriptionFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// Waits for other workers before it counts.
    static let pending = SubscriptionFlags(rawValue: 1 << 0)
    /// Takes from a queue (its own, where it is an acknowledging topic subscription).
    static let isConsumer = SubscriptionFlags(rawValue: 1 << 1)
}

/// One SUBSCRIBE.
struct Subscription: SlabRecord {
    var generation: UInt32
    var session: Index<Session>
    /// Among the session's.
    var link: DoubleLink<Subscription>
    /// Topic or pattern, queue, or the local stand-in of another worker's queue.
    var destination: Index<Destination>
    var group: Index<Group>
    /// Place in the group's members; of an acknowledging topic subscription among the destination's bound queues.
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

struct GroupFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    static let dirty = GroupFlags(rawValue: 1 << 0)
}

/// Subscribers whose MESSAGEs are the same, byte for byte: same destination, same subscription id, same version.
///
/// The block at `prefix` holds the group's key (destination, version, kind, id), behind it the first bytes of each MESSAGE,
/// `MESSAGE\nsubscription:ID\nmessage-id:` (without the subscription where SUBSCRIBE gave no id), and behind these
/// `\ndestination:NAME` for messages that do not carry their own; of a pattern's group that part is empty, for the topic
/// differs from message to message.
struct Group: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    /// Among the destination's.
    var link: DoubleLink<Group>
    var prefix: BlockIndex
    var keyByteCount: UInt32
    var prefixByteCount: UInt32
    var nameByteCount: UInt16
    var version: Version
    var flags: GroupFlags
    /// Subscriptions that use this encoding and are no members: consumers of queues, and those that are still pending.
    var nonMemberCount: UInt32
    /// The bytes that this turn's messages have been encoded to, not yet given to the members.
    var run: BlockIndex
    /// What the last turn needed: the next run is allocated as large.
    var runByteCountExpected: UInt32
    var members: RecordArray<Member>

    /// The subscription id, unescaped. It follows the key's first eight bytes.
    func id(_ memory: borrowing MemoryBudget) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: memory.blocks.base(prefix) + 8, count: Int(keyByteCount) - 8)
    }
}

/// A subscription of a group, and its session, which a message goes to without a look at the subscription.
struct Member: BitwiseCopyable {
    var session: Index<Session>
    var subscription: Index<Subscription>
}

/// A message on its way to a subscriber or waiting for its acknowledgement, with the session.
struct Delivery: SlabRecord {
    var generation: UInt32
    /// None: it has ended, and this is only on the session's list of flights still.
    var subscription: Index<Subscription>
    /// Among the subscription's.
    var link: DoubleLink<Delivery>
    /// Of an `auto` subscription: among the session's flights.
    var flightLink: SingleLink<Delivery>
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
