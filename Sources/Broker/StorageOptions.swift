public import Journal
import Slabs
import Synchronization

/// Which messages of a queue are stored.
public enum StoragePolicy: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    /// None: they are in memory alone.
    case never
    /// Those that were sent with `persistent:true`.
    case byHeader
    case always
}

/// What the shards need to know of the store. One value for all shards of a broker.
public struct StorageOptions: Sendable {
    /// When a RECEIPT for something stored may leave.
    public enum Sync: Sendable, Equatable {
        /// When it is on stable storage.
        case receipt
        /// When the kernel has it. What was written is brought to stable storage so often: a crash of the machine loses
        /// what was confirmed since.
        case interval(milliseconds: Int)
    }

    /// How a group of records is brought to stable storage.
    public enum Commit: Sendable {
        /// By one operation that waits for stable storage (`Submission.append`, `isDurable`).
        case durableAppend
        /// By an append and a sync behind it.
        case appendAndSync
    }

    /// What happens when the log can be written no more.
    public enum ErrorPolicy: Sendable {
        /// The broker ends: whoever drives the shard looks at `Shard.hasStorageFailed`.
        case stop
        /// What is to be stored is refused; the rest goes on.
        case refuse
    }

    /// Where the segments are, as open(2) takes it; without a zero byte.
    public var directory: [UInt8]
    /// The number of this run of the broker on the directory, 1 or more. No earlier run had it.
    public var life: UInt32
    /// A segment's size: a multiple of 64, larger than any record and any transaction.
    public var segmentByteCount = 64 << 20
    /// Bytes of this broker's segments, those of earlier lives included, divided by the number of workers: what each may
    /// have. 0: no limit. At the limit: what is to be stored is refused, as where the disk is full.
    public var byteCountMax = 0
    /// Appends consist of whole blocks of so many bytes and go past the page cache (`Submission.createFile`, `isDirect`): a
    /// power of two up to 4096, of which a segment is a multiple. 1: they go through the page cache.
    public var blockByteCount = 1
    public var sync = Sync.receipt
    public var commit = Commit.durableAppend
    public var onError = ErrorPolicy.stop
    /// Bytes of records that wait for the disk, of each worker. At the limit: publishers wait.
    public var stagedByteCountMax = 8 << 20
    /// The segments of earlier lives, which are removed when nothing in them lives. nil: there are none.
    public var earlier: EarlierSegments?
    /// When messages leave memory for the log, and how they come back.
    public var cold = ColdOptions()

    /// With which the records of this life begin: drawn at random, so that no client can imitate them.
    public var recordMagic = UInt32.random(in: 1 ... .max)
    /// A segment that is needed no more becomes the next one, so that its blocks are not filled with zeros again. Not
    /// configured: the simulator tries both.
    public var reusesSegments = true

    public init(directory: [UInt8], life: UInt32) {
        self.directory = directory
        self.life = life
    }

    /// Records of so many bytes, which stay together, fit into a segment.
    @inline(__always)
    func fits(_ byteCount: Int) -> Bool {
        byteCount + RecordWriter.segmentHeaderByteCount + RecordWriter.markByteCount + RecordWriter.emptyByteCount
            <= segmentByteCount
    }

    /// A stored message of an earlier life, whose record has so many bytes, can be written to this life's log too: again, or
    /// with what a dead letter has more.
    public func canKeep(_ recordByteCount: Int) -> Bool { fits(recordByteCount + Self.deadLetterByteCountMax) }

    private static var deadLetterByteCountMax: Int { 2048 }

    /// Bytes of a segment that are for acknowledgements alone, if there is no other segment behind it: consumers go on, and
    /// what they take makes room.
    var reservedByteCount: Int { segmentByteCount / 8 }
}

/// When messages of a queue leave memory for the log alone, and how they come back.
public struct ColdOptions: Sendable {
    /// From so many percent of `limits.message-memory-bytes`, or of `limits.queued-messages-max`, on.
    public var fillPercent = 50
    /// A queue keeps so many ready messages in memory, whatever others take.
    public var readyCountMin = 16
    /// So many bytes of a queue are read ahead of its consumers; less if many queues have messages in the log alone.
    public var aheadByteCountMax = 4 << 20
    /// So many bytes are read at once at most, unless one message is larger.
    public var readByteCountMax = 512 << 10

    public init() {}
}

/// The segments of earlier lives, shared by the shards: what lives in them was given to the shards that own the queues now.
///
/// A segment is removed when nothing in it lives, in the order in which the segments were written: older lives first, and
/// from the front of each log. An acknowledgement is never removed before the message that it speaks of. So nothing of this
/// life is removed while one of these is left. Worker 0 removes them.
public final class EarlierSegments: Sendable {
    /// In the order in which they go.
    let segments: [RecoveredSegment]
    /// Of each life, the size of its segments: a crash may have left one of them shorter.
    private let byteCountsByLife: [UInt32: Int]
    private let liveCounts: [LiveCount]
    /// Changes when a count has become 0.
    let changeCount = Atomic<Int>(0)
    /// Shards that have written again what they need of these segments beside messages, on stable storage.
    let readyShardCount = Atomic<Int>(0)
    let areGone = Atomic<Bool>(false)
    /// Bytes of the files that are left.
    private let remainingByteCount: Atomic<Int>
    /// What each worker has said of itself last.
    private let figures: [WorkerFigures]

    private final class WorkerFigures: Sendable {
        /// -1: it has said nothing yet.
        let segmentsByteCount = Atomic<Int>(-1)
        let liveByteCount = Atomic<Int>(0)
    }

    private final class LiveCount: Sendable {
        let value: Atomic<Int>
        init(_ value: Int) { self.value = Atomic(value) }
    }

    /// What was stored in this life or earlier may have been delivered before.
    let redeliveredLifeMax: UInt32

    /// - Parameters:
    ///   - segments: with the counts of the messages that are restored. The queues of `liveQueueCount` are written again when
    ///     they are restored, and do not count.
    ///   - redeliveredLifeMax: see `LiveMessages.redeliveredLifeMax`.
    public init(_ segments: [RecoveredSegment], redeliveredLifeMax: UInt32 = 0) {
        self.redeliveredLifeMax = redeliveredLifeMax
        remainingByteCount = Atomic(segments.reduce(0) { $0 + $1.byteCount })
        figures = (0..<PeerSet.countMax).map { _ in WorkerFigures() }
        self.segments = segments.sorted { $0.name < $1.name }
        liveCounts = self.segments.map { LiveCount($0.liveMessageCount) }
        byteCountsByLife = Dictionary(self.segments.map { ($0.name.life, $0.byteCount) }, uniquingKeysWith: max)
        if segments.isEmpty { areGone.store(true, ordering: .releasing) }
    }

    /// Of the files that are left.
    public var byteCount: Int { remainingByteCount.load(ordering: .relaxed) }

    /// A segment's file is gone.
    func isGone(_ index: Int) {
        remainingByteCount.subtract(segments[index].byteCount, ordering: .relaxed)
    }

    // MARK: What all workers have

    /// A worker's own segments, and all messages of it that live, also those that are in these segments.
    func report(_ worker: Int, segmentsByteCount: Int, liveByteCount: Int) {
        figures[worker].liveByteCount.store(liveByteCount, ordering: .relaxed)
        figures[worker].segmentsByteCount.store(segmentsByteCount, ordering: .releasing)
    }

    /// The segments of all workers and these, and what lives in all of them. Not of one moment. 0: not all have told theirs.
    func figures(workerCount: Int) -> (segmentsByteCount: Int, liveByteCount: Int) {
        var sum = (segmentsByteCount: byteCount, liveByteCount: 0)
        for worker in figures[0..<workerCount] {
            let byteCount = worker.segmentsByteCount.load(ordering: .acquiring)
            if byteCount < 0 { return (0, 0) }
            sum.segmentsByteCount += byteCount
            sum.liveByteCount += worker.liveByteCount.load(ordering: .relaxed)
        }
        return sum
    }

    /// The segment that holds a message. nil: none of these.
    func index(of reference: MessageReference) -> Int? {
        let life = JournalFormat.life(of: reference.position)
        let offset = JournalFormat.offset(of: reference.position)
        guard let byteCount = byteCountsByLife[life], byteCount > 0 else { return nil }
        // The last of the log that begins at or before the record.
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            let name = segments[middle].name
            if (name.life, name.worker, Int(name.sequence)) <= (life, reference.worker, offset / byteCount) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low > 0, segments[low - 1].name.life == life, segments[low - 1].name.worker == reference.worker else {
            return nil
        }
        return low - 1
    }

    func liveCount(_ index: Int) -> Int { liveCounts[index].value.load(ordering: .acquiring) }

    /// A message of the segment lives no more, on stable storage. True: it was the last.
    func release(_ index: Int) -> Bool {
        guard liveCounts[index].value.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return false }
        changeCount.add(1, ordering: .releasing)
        return true
    }
}
