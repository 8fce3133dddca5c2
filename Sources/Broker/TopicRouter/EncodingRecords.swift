import STOMP
import Slabs

struct EncodingFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    static let dirty = EncodingFlags(rawValue: 1 << 0)
}

/// How a MESSAGE begins for subscribers to whom it is the same, byte for byte: same destination, same subscription id, same version.
///
/// The block at `prefix` holds the encoding's key (destination, version, kind, id), behind it the first bytes of each MESSAGE,
/// `MESSAGE\nsubscription:ID\nmessage-id:` (without the subscription where SUBSCRIBE gave no id), and behind these
/// `\ndestination:NAME` for messages that do not carry their own; of a pattern's encoding that part is empty, for the topic
/// differs from message to message.
struct SharedEncoding: SlabRecord {
    var generation: UInt32
    var destination: Index<Destination>
    /// Among the destination's.
    var link: DoubleLink<SharedEncoding>
    var prefix: BlockIndex
    var keyByteCount: UInt32
    var prefixByteCount: UInt32
    var nameByteCount: UInt16
    var version: Version
    var flags: EncodingFlags
    /// Subscriptions that use this encoding and are no members: consumers of queues, and those that are still pending.
    var nonMemberCount: UInt32
    /// The bytes that this turn's messages have been encoded to, not yet given to the members.
    var block: BlockIndex
    /// What the last turn needed: the next block is allocated as large.
    var byteCountExpected: UInt32
    var members: RecordArray<Member>

    /// Its messages are not given out yet.
    var isDirty: Bool { flags.contains(.dirty) }
}

/// A subscription of an encoding, and its session, which a message goes to without a look at the subscription.
struct Member: BitwiseCopyable {
    var session: Index<Session>
    var subscription: Index<Subscription>
}

/// The MESSAGEs of a turn to an encoding. Whoever takes it owns one reference to its block.
struct EncodedBytes: BitwiseCopyable {
    var block: BlockIndex
    var byteCount: Int
}

/// What became of a message for an encoding.
enum EncodingOutcome: BitwiseCopyable {
    case written
    /// The encoding's block has to be given out first; then there is room for the message.
    case isFull
    case noMemory
}
