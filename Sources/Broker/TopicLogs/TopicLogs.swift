import IO
import Slabs

/// What topics of this worker keep of their messages: the logs of those that it owns, with their readers, and the messages
/// that topics retain.
///
/// It owns the records, and keeps these rules:
///
/// - the offsets of a log rise, and none is given to two messages;
/// - an entry is published once, in the order of the offsets, and when its offset is reserved (`TopicLog.reserved`);
/// - an entry is trimmed only after it was published;
/// - a reader is given each entry from its beginning on once, in order, but for those that are trimmed or expired by then,
///   and has no more unread than `unreadCountMax` and `unreadByteCountMax`.
///
/// Blocks are the caller's: who takes an entry out lets its blocks go. It knows neither the store nor other workers: `Shard`
/// writes records, and tells it how far the log of the worker is.
struct TopicLogs: ~Copyable {
    // Of this folder's files only: see HouseRulesTests.
    var logRecords: Slab<TopicLog>
    var readerRecords: Slab<LogReader>
    var intakeRecords: Slab<LogIntake>
    var retainedRecords: Slab<RetainedMessage>
    /// Of the blocks of all entries.
    private(set) var byteCount = 0
    /// Logs whose readers may be given something.
    var dueLogs = Batch<Index<TopicLog>>(capacity: 16)
    /// Intakes that read something.
    var dueIntakes = Batch<Handle<LogIntake>>(capacity: 16)
    /// Logs with a record of offsets under way.
    var reservingLogs = Batch<Index<TopicLog>>(capacity: 16)
    /// Subscribers wait for messages whose offsets are not reserved yet.
    var awaitsReservation = false
    /// How often a log has begun to have messages that wait so.
    private(set) var deferralCount: UInt64 = 0
    /// How far messages were looked through that are to be written again. nil: they are not.
    var compaction: LogCompaction?
    let retainedCountMax: Int
    let retainedRecordCountMax: Int
    /// Transactions that were admitted at once may go so far beyond the limit of retained messages.
    private static var committedExcessMax: Int { 65_536 }

    init(_ limits: Limits, workerCount: Int) throws(SlabError) {
        let logs = try Slab<TopicLog>(recordCountMax: limits.destinationCountMax)
        let readers = try Slab<LogReader>(recordCountMax: limits.subscriptionCountMax * min(workerCount, 8))
        let intakes = try Slab<LogIntake>(recordCountMax: limits.subscriptionCountMax)
        // Each owner counts for itself, and two may reach the limit at once.
        let retainedRecordCountMax = limits.retainedMessageCountMax * (workerCount + 1)
        let retained = try Slab<RetainedMessage>(recordCountMax: retainedRecordCountMax + Self.committedExcessMax)
        logRecords = logs
        readerRecords = readers
        intakeRecords = intakes
        retainedRecords = retained
        retainedCountMax = limits.retainedMessageCountMax
        self.retainedRecordCountMax = retainedRecordCountMax
    }

    deinit {
        var index = logRecords.nextLive(after: .none)
        while !index.isNone {
            logRecords[index].pointee.entries.deallocate()
            logRecords[index].pointee.readers.deallocate()
            index = logRecords.nextLive(after: index)
        }
    }

    // MARK: Records

    subscript(_ index: Index<TopicLog>) -> UnsafePointer<TopicLog> {
        @inline(__always) get { UnsafePointer(logRecords[index]) }
    }
    subscript(_ index: Index<LogReader>) -> UnsafePointer<LogReader> {
        @inline(__always) get { UnsafePointer(readerRecords[index]) }
    }

    var logCount: Int { logRecords.liveCount }
    var readerCount: Int { readerRecords.liveCount }
    var intakeCount: Int { intakeRecords.liveCount }
    var retainedCount: Int { retainedRecords.liveCount }
    func nextLog(after index: Index<TopicLog>) -> Index<TopicLog> { logRecords.nextLive(after: index) }

    /// Readers or intakes have something to do: see `Shard.serveLogs`.
    @inline(__always) var hasWork: Bool { dueLogs.count | dueIntakes.count != 0 }

    // MARK: Logs

    /// A log for a topic that this worker owns. None: there are as many as there may be.
    ///
    /// - Parameter isReserved: there is no store that could know more than this life; offsets need no record.
    mutating func make(
        for destination: Index<Destination>, _ policy: borrowing DestinationPolicy, isReserved: Bool
    ) -> Index<TopicLog> {
        let index: Index<TopicLog> = (logRecords.allocate() as Handle<TopicLog>).index
        if index.isNone { return .none }
        let log = logRecords[index]
        log.pointee.destination = destination
        log.pointee.countMax = UInt32(clamping: policy.logMessageCountMax)
        log.pointee.byteCountMax = UInt64(policy.logByteCountMax)
        log.pointee.millisecondsMax = UInt64(policy.logMillisecondsMax)
        log.pointee.reserved = isReserved ? .max : 0
        log.pointee.step = Self.stepMin
        return index
    }

    /// Appends a message, whose offset is the log's `next`.
    ///
    /// - Parameter byteCount: of its block.
    mutating func append(_ index: Index<TopicLog>, _ entry: LogEntry, byteCount: Int) {
        let log = logRecords[index]
        invariant(entry.offset == log.pointee.next, "offsets of a log are given out in order")
        log.pointee.entries.append(entry)
        log.pointee.next += 1
        count(byteCount, of: log)
    }

    /// Puts a message of an earlier life into the log. False: its offset is another's.
    mutating func restore(_ index: Index<TopicLog>, _ entry: LogEntry, byteCount: Int) -> Bool {
        let log = logRecords[index]
        guard log.pointee.entries.insert(entry) else { return false }
        count(byteCount, of: log)
        begin(index, at: entry.offset + 1)
        return true
    }

    /// Offsets below `offset` may have been given out in earlier lives.
    mutating func begin(_ index: Index<TopicLog>, at offset: UInt64) {
        let log = logRecords[index]
        guard offset > log.pointee.next else { return }
        log.pointee.next = offset
        log.pointee.published = offset
    }

    private mutating func count(_ byteCount: Int, of log: UnsafeMutablePointer<TopicLog>) {
        log.pointee.byteCount += UInt64(byteCount)
        self.byteCount += byteCount
    }

    /// Wall-clock milliseconds for an entry that is appended now: the clock may have been set back.
    func time(_ index: Index<TopicLog>, wallMilliseconds: UInt64) -> UInt64 {
        let entries = logRecords[index].pointee.entries
        return entries.isEmpty ? wallMilliseconds : max(wallMilliseconds, entries[entries.count - 1].milliseconds)
    }

    // MARK: Publishing

    /// Takes the next entry that may be published. nil: there is none now.
    mutating func publishNext(_ index: Index<TopicLog>) -> LogEntry? {
        let log = logRecords[index]
        let place = log.pointee.entries.index(atOrBehind: log.pointee.published)
        guard place < log.pointee.entries.count else { return nil }
        let entry = log.pointee.entries[place]
        guard entry.offset < log.pointee.reserved else {
            awaitsReservation = true
            if log.pointee.deferredSince == 0 {
                deferralCount += 1
                log.pointee.deferredSince = deferralCount
            }
            return nil
        }
        log.pointee.published = entry.offset + 1
        log.pointee.entries[place].retained = 0
        markDue(index)
        return entry
    }

    /// The places of entries that were not published yet, from `TopicLog.withdrawn` on, which moves behind them.
    mutating func takeWaiting(_ index: Index<TopicLog>) -> Range<UInt32> {
        let log = logRecords[index]
        let entries = log.pointee.entries
        let first = entries.index(atOrBehind: max(log.pointee.published, log.pointee.withdrawn))
        log.pointee.withdrawn = log.pointee.next
        return first..<entries.count
    }

    func entry(_ index: Index<TopicLog>, at place: UInt32) -> LogEntry { logRecords[index].pointee.entries[place] }

    /// Its readers may be given something.
    mutating func markDue(_ index: Index<TopicLog>) {
        let log = logRecords[index]
        guard !log.pointee.isDue, !log.pointee.readers.isEmpty else { return }
        log.pointee.isDue = true
        dueLogs.append(index)
    }

    /// Takes a log whose readers may be given something. None: there is none.
    mutating func takeDueLog() -> Index<TopicLog> {
        if dueLogs.isEmpty { return .none }
        let index = dueLogs.removeLast()
        logRecords[index].pointee.isDue = false
        return index
    }

    // MARK: Trimming

    /// The log has too many entries, too much, or one that is too old.
    func exceedsLimits(_ index: Index<TopicLog>, wallMilliseconds: UInt64) -> Bool {
        let log = logRecords[index].pointee
        guard !log.entries.isEmpty else { return false }
        return log.entries.count > log.countMax || log.byteCount > log.byteCountMax && log.entries.count > 1
            || log.millisecondsMax != 0 && log.entries[0].milliseconds &+ log.millisecondsMax <= wallMilliseconds
    }

    /// Takes the oldest entry if the log exceeds its limits. nil: it does not, or the entry was not published.
    mutating func trim(_ index: Index<TopicLog>, wallMilliseconds: UInt64) -> LogEntry? {
        exceedsLimits(index, wallMilliseconds: wallMilliseconds) ? trimOldest(index) : nil
    }

    /// Takes the oldest entry. nil: there is none that was published.
    mutating func trimOldest(_ index: Index<TopicLog>) -> LogEntry? {
        let log = logRecords[index]
        guard !log.pointee.entries.isEmpty, log.pointee.entries[0].offset < log.pointee.published else { return nil }
        return log.pointee.entries.removeFirst()
    }

    /// The block of an entry that was taken is let go.
    mutating func uncount(_ index: Index<TopicLog>, byteCount: Int) {
        logRecords[index].pointee.byteCount -= UInt64(byteCount)
        self.byteCount -= byteCount
    }

    /// The log with the most bytes. Linear in the number of logs. None: there is none.
    func largest() -> (log: Index<TopicLog>, stepCount: Int) {
        var largest = Index<TopicLog>.none
        var stepCount = 0
        var index = logRecords.nextLive(after: .none)
        while !index.isNone {
            if largest.isNone || logRecords[index].pointee.byteCount > logRecords[largest].pointee.byteCount {
                largest = index
            }
            stepCount += 1
            index = logRecords.nextLive(after: index)
        }
        return (largest, stepCount)
    }
}
