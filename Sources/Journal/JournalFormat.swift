/// The numbers of the log's format, version 2.
///
/// **Log.** What one worker wrote in one *life* (one run of the broker on a directory). It is cut into *segments*, files of
/// one fixed size per life. A segment begins with a record of the type `.segmentHeader`.
///
/// **Position.** A record's place, 64 bits: the life (20 bits), and the offset in that life's log in units of 64 bytes
/// (44 bits). Segment number `sequence` of a log begins at the offset `sequence * segmentByteCount`. Positions of two
/// workers of one life may be equal: a record is named by its position and its worker.
///
/// **Record.** It begins at a multiple of 64 bytes, so that a reader that lost its way finds the next one. All integers
/// are little endian:
///
///      0  magic             u32   of a segment's header "JREC", of other records what the header says
///      4  checksum          u32   CRC32C of the bytes from 8 to the end of the record, zeros included
///      8  position          u64   the record's own
///     16  payloadByteCount  u32
///     20  worker            u16
///     22  type              u8    RecordType
///     23  flags             u8    the lower eight `RecordFlags`
///     24  detail            u64   depends on the type
///     32  payload, then zeros up to a multiple of 64
///
/// A record of another life, of another worker or of another place carries another position or worker. So a segment may
/// be used again without being cleared: what it held before is never taken for what is written now.
///
/// **Magic.** Each life draws the magic of its records at random. Bodies come from clients: one that knew what a record
/// looks like, and guessed its place, could write messages to any queue, in a segment that is used again and after a
/// crash. In version 1 it was "JREC" everywhere; the header's field for it is 0 there.
public enum JournalFormat {
    /// What this program writes, and the newest that it reads.
    public static let version: UInt16 = 2
    /// Records begin at multiples of it.
    public static let unitByteCount = 64
    static let unitShift = 6
    public static let headerByteCount = 32
    /// The payload of a record ends within its segment; this is the bound for any segment.
    public static let payloadByteCountMax = 1 << 30
    public static let segmentByteCountMin = 1 << 12
    public static let segmentByteCountMax = 1 << 30
    static let offsetBitCount = 44
    /// The greatest number of a life.
    public static let lifeMax: UInt32 = 1 << 20 - 1
    /// "JREC".
    public static let magic: UInt32 = 0x4345_524A

    /// The position at `offset` bytes in the log of `life`; the offset is a multiple of `unitByteCount`.
    @inlinable
    public static func position(life: UInt32, offset: Int) -> UInt64 {
        UInt64(life) &<< 44 | UInt64(truncatingIfNeeded: offset) &>> 6
    }

    @inlinable
    public static func life(of position: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: position &>> 44) }

    /// In bytes, in the log of that life.
    @inlinable
    public static func offset(of position: UInt64) -> Int {
        Int(truncatingIfNeeded: (position & (1 &<< 44 - 1)) &<< 6)
    }

    /// What a record with such a payload takes of its segment.
    @inlinable
    public static func recordByteCount(payloadByteCount: Int) -> Int { (payloadByteCount &+ 32 &+ 63) & ~63 }
}

/// Names a record of the directory, above all a message.
public struct MessageReference: BitwiseCopyable, Hashable, Sendable {
    public var position: UInt64
    public var worker: UInt16

    @inlinable
    public init(position: UInt64, worker: UInt16) {
        self.position = position
        self.worker = worker
    }

    /// In a payload: position (u64), worker (u16), without padding.
    static let byteCount = 10
}

public enum RecordType: UInt8, BitwiseCopyable, CaseIterable, Sendable {
    /// The first record of each segment.
    case segmentHeader = 1
    /// Nothing follows in this segment; the log goes on in the next one. Not needed where the last record ends with the
    /// segment. The rest of the segment is not written.
    case segmentEnd = 2
    /// How far the log was on stable storage when what follows was submitted. It goes in front of each append, so that
    /// recovery can tell an append that a crash tore (nothing behind the tear was promised) from damage to bytes that
    /// were on stable storage.
    case mark = 3
    case message = 4
    /// Message records that are of no more use: acknowledged, expired, dropped, moved.
    case acknowledgement = 5
    /// How often messages were delivered and not acknowledged, since it is counted.
    case failureCount = 6
    case queueMade = 7
    case queueRemoved = 8
    /// The records behind it, as many bytes as it says, count together or not at all; and only if the transaction's parts
    /// in the logs of other workers are there too, or a `transactionEnd`.
    ///
    /// Payload: transaction u64, partCount u16, zero u16, and up to two conditions, u64 each (`PartConditions`).
    case transactionPart = 9
    /// All parts of a transaction are on stable storage.
    case transactionEnd = 10
    /// The last record of a life that ended in order: what was delivered and not acknowledged is marked so by
    /// `failureCount`.
    case cleanEnd = 11
    /// `storage repair` gave up as many bytes as it says, from this record's beginning: they were damaged.
    case skip = 12
    /// A durable subscription to a topic: its messages are those of the queue with its name. A later one of the same name
    /// counts instead.
    case subscriptionMade = 36
    case subscriptionRemoved = 37
    /// Below which number the offsets of a topic's log may have been given out.
    case topicOffsets = 40
    /// A message with this id was taken, in a record that is no longer needed otherwise: see `DeduplicationRecord`.
    case deduplication = 48

    /// What a part of a transaction holds.
    var isAllowedInPart: Bool { self == .message || self == .acknowledgement || self == .failureCount }
}

/// Of a `message` record.
public struct RecordFlags: OptionSet, BitwiseCopyable, Sendable {
    public var rawValue: UInt16

    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The header lines' bytes are the same in all versions of STOMP.
    @inlinable public static var isPlain: Self { Self(rawValue: 1) }
    /// The header lines begin with `destination`.
    @inlinable public static var carriesDestination: Self { Self(rawValue: 2) }
    /// The record takes the place of another, `original`, which is thereby of no more use.
    @inlinable public static var isCopy: Self { Self(rawValue: 4) }
    /// The message may have been delivered before.
    @inlinable public static var isRedelivered: Self { Self(rawValue: 8) }
    /// The message was not to be stored: it left memory until its turn comes. It ends with the broker, and recovery does not
    /// count it.
    @inlinable public static var isTransient: Self { Self(rawValue: 1 << 8) }
    /// The message is in the log of the topic that `queueName` names; the record's `detail` is when it came there.
    @inlinable public static var isLogged: Self { Self(rawValue: 1 << 11) }
    /// The message is the one that the topic retains for new subscribers.
    @inlinable public static var isRetained: Self { Self(rawValue: 1 << 12) }
    /// The message waits for its time, and is in no queue: the header lines begin with the line that says when, and the
    /// name in the record may be a topic's. The record's `detail` is the time at which the broker took it.
    @inlinable public static var isDelayed: Self { Self(rawValue: 1 << 13) }
    /// Another message with the same `x-deduplication-id` is not taken for a while, whatever becomes of this one. The
    /// record's `detail` is the time at which the broker took it.
    @inlinable public static var isDeduplicated: Self { Self(rawValue: 1 << 14) }
}
