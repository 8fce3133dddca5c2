import Journal
import Slabs

/// Where a message's record is, and its size, in 8 bytes.
///
///     bits 44...63  segment: see `MessageStore.coldSegment`
///          20...43  units of 64 bytes from the segment's beginning
///           0...19  RecordSize
struct ColdPlace: BitwiseCopyable, Hashable {
    var bits: UInt64

    static let segmentCountMax: UInt32 = 1 << 20

    init(bits: UInt64) { self.bits = bits }

    init(segment: UInt32, unit: UInt32, size: RecordSize) {
        bits = UInt64(segment) << 44 | UInt64(unit) << 20 | UInt64(size.code)
    }

    var segment: UInt32 { UInt32(truncatingIfNeeded: bits >> 44) }
    var unit: Int { Int(truncatingIfNeeded: bits >> 20) & (1 << 24 - 1) }
    /// From the segment's beginning.
    var offset: Int { unit * JournalFormat.unitByteCount }
    var size: RecordSize { RecordSize(code: UInt32(truncatingIfNeeded: bits) & (1 << 20 - 1)) }
    /// Of the record, rounded up where it is very large.
    var byteCount: Int { size.byteCount }
}

/// The messages of a queue that are in the log alone.
struct ColdQueue: SlabRecord {
    var generation: UInt32
    var queue: Index<Queue>
    var firstChunk: Index<ColdChunk>
    var lastChunk: Index<ColdChunk>
    var count: UInt32
    /// Those that end with the broker, of these.
    var transientCount: UInt32
    /// What the messages count as.
    var byteCount: UInt64
    var queueNameByteCount: UInt16
    /// It is on the list of those that have work, or of those that wait.
    var isListed: Bool
    var isBlocked: Bool
    /// A read of its first messages is under way.
    var isReading: Bool
    /// Reads in a row that failed.
    var failedCount: UInt8
    /// When the next may be tried (milliseconds of the shard's clock).
    var retryAt: UInt32
}

/// Places of messages that follow each other in a queue: a page.
struct ColdChunk: SlabRecord {
    var generation: UInt32
    /// The one behind it. None: it is the last.
    var next: Index<ColdChunk>
    /// Those before are gone.
    var first: UInt16
    var end: UInt16
    private var padding: UInt32
    var places: InlineArray<510, UInt64>

    static let placeCount = 510
}
