/// A message that lives, in 8 bytes: there may be millions.
///
///     bits 40...63  where its record is, in units of 64 bytes from the segment's beginning
///          20...39  RecordSize; 0: it lives no more
///           1...19  its queue; all ones: `LiveMessages.queueNumbers` has it
///               0   its record says that it may have been delivered before
///
/// What else is to be known of few messages is in tables beside, by `LiveMessages.key`.
struct LiveEntry: BitwiseCopyable {
    var bits: UInt64

    static let queueMax: UInt32 = 1 << 19 - 1

    init(unit: UInt32, size: RecordSize, queue: UInt32, isRedelivered: Bool) {
        bits =
            UInt64(unit) << 40 | UInt64(size.code) << 20 | UInt64(min(queue, Self.queueMax)) << 1
            | (isRedelivered ? 1 : 0)
    }

    var unit: UInt32 { UInt32(truncatingIfNeeded: bits >> 40) }
    var size: RecordSize { RecordSize(code: UInt32(truncatingIfNeeded: bits >> 20) & (1 << 20 - 1)) }
    /// `queueMax`: it is in a table.
    var queue: UInt32 { UInt32(truncatingIfNeeded: bits >> 1) & Self.queueMax }
    var isRedelivered: Bool { bits & 1 != 0 }
    var isLive: Bool { size.code != 0 }

    mutating func die() { bits &= ~((1 << 20 - 1) << 20) }
}

/// What recovery knows of a segment: the messages in it that live, by their place.
struct SegmentContents {
    let name: SegmentName
    let byteCount: Int
    var recordMagic = JournalFormat.magic
    /// In the order of their places. Some are dead.
    private(set) var entries: [LiveEntry] = []
    /// Records that take the place of others, in order, and the place of each in its queue.
    private(set) var copyUnits: [UInt32] = []
    private(set) var copyKeys: [UInt64] = []
    private(set) var liveMessageCount = 0
    /// Of how many queues, and logs of topics, the newest record is here.
    var liveQueueCount = 0

    init(name: SegmentName, byteCount: Int) {
        self.name = name
        self.byteCount = byteCount
    }

    /// - Parameter orderKey: of a copy. nil: it stands where its record is.
    mutating func append(_ entry: LiveEntry, orderKey: UInt64?) {
        entries.append(entry)
        if let orderKey {
            copyUnits.append(entry.unit)
            copyKeys.append(orderKey)
        }
        liveMessageCount += 1
    }

    /// The entry of the record at `unit`, if it lives.
    private func index(of unit: UInt32) -> Int? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].unit < unit { low = middle + 1 } else { high = middle }
        }
        guard low < entries.count, entries[low].unit == unit, entries[low].isLive else { return nil }
        return low
    }

    func isLive(_ unit: UInt32) -> Bool { index(of: unit) != nil }

    /// Returns what the entry was; nil: it does not live.
    mutating func kill(_ unit: UInt32) -> LiveEntry? {
        guard let index = index(of: unit) else { return nil }
        let entry = entries[index]
        entries[index].die()
        liveMessageCount -= 1
        // Dead entries are at most as many as those that live, and 64.
        if entries.count > 64 + 2 * liveMessageCount { sweep() }
        return entry
    }

    private mutating func sweep() {
        if !copyUnits.isEmpty {
            let live = copyUnits.map { isLive($0) }
            copyKeys = zip(copyKeys, live).filter(\.1).map(\.0)
            copyUnits = zip(copyUnits, live).filter(\.1).map(\.0)
        }
        entries = entries.filter(\.isLive)
    }

    /// No more entries come: gives back what the array has to spare.
    mutating func shrink() {
        guard entries.capacity > entries.count + entries.count / 8 + 64 else { return }
        entries = entries.withUnsafeBufferPointer { Array($0) }
    }
}

/// What recovery knows of a log.
struct LogState {
    let life: UInt32
    let worker: UInt16
    /// Of `Recovery.segments`.
    let firstSegment: Int
    var segmentCount = 0
    /// 0: no header was found yet.
    var segmentByteCount = 0
    var workerCount: UInt16 = 1
    /// nil: no header was found yet.
    var recordMagic: UInt32?
    var nextSequence: UInt32
    /// Of the last mark.
    var firstSequenceNeeded: UInt32 = 0
    /// The last record was `.cleanEnd`.
    var isClean = false
    /// Where the log ends, with what follows there. nil: it has not ended yet.
    var end: RecoveryFinding?

    init(_ name: SegmentName, firstSegment: Int) {
        life = name.life
        worker = name.worker
        nextSequence = name.sequence
        self.firstSegment = firstSegment
    }
}

/// A transaction with parts in several logs, or with conditions.
struct TransactionState {
    struct Part {
        var segment: Int
        var firstUnit: UInt32
        var endUnit: UInt32
        var life: UInt32
        var worker: UInt16
        /// Its own log, or one of a later life, says that the transaction is complete.
        var isSealed = false
    }

    var partCount = UInt16.max
    var isCommitted = false
    var parts: [Part] = []
    /// Without these it does not count, and they are not known to be complete.
    var conditions: Set<UInt64> = []
    /// What happens when all parts are known to be there.
    var acknowledged: [MessageReference] = []
    var failures: [(MessageReference, UInt16)] = []
    var deduplicated: [RecoveredID] = []
}
