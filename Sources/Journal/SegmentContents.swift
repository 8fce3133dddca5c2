/// A message that lives, while the logs are read.
struct LiveEntry: BitwiseCopyable {
    /// Where its record is, in units of 64 bytes from the segment's beginning.
    var unit: UInt32
    var queue: UInt32
    var orderKey: UInt64
    var failureCount: UInt16
    var isRedelivered: Bool
    /// Of a topic, for new subscribers.
    var isRetained: Bool
    var isLive = true
}

/// What recovery knows of a segment: the messages in it that live, by their place.
struct SegmentContents {
    let name: SegmentName
    let byteCount: Int
    /// In the order of their places. Some are dead.
    private(set) var entries: [LiveEntry] = []
    private(set) var liveMessageCount = 0
    /// Of how many queues, and logs of topics, the newest record is here.
    var liveQueueCount = 0

    init(name: SegmentName, byteCount: Int) {
        self.name = name
        self.byteCount = byteCount
    }

    mutating func append(_ entry: LiveEntry) {
        entries.append(entry)
        liveMessageCount += 1
    }

    /// The entry of the record at `unit`, if it lives.
    func index(of unit: UInt32) -> Int? {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].unit < unit { low = middle + 1 } else { high = middle }
        }
        guard low < entries.count, entries[low].unit == unit, entries[low].isLive else { return nil }
        return low
    }

    /// Returns the message's queue; nil: it does not live.
    mutating func kill(_ unit: UInt32) -> UInt32? {
        guard let index = index(of: unit) else { return nil }
        entries[index].isLive = false
        liveMessageCount -= 1
        let queue = entries[index].queue
        // Dead entries are at most as many as those that live, and 64.
        if entries.count > 64 + 2 * liveMessageCount { entries = entries.filter(\.isLive) }
        return queue
    }

    mutating func setFailureCount(_ count: UInt16, of unit: UInt32) {
        guard let index = index(of: unit) else { return }
        entries[index].failureCount = count
        entries[index].isRedelivered = true
    }

    mutating func removeEntries() { entries = [] }
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
