import IO
import Journal
import Slabs

/// The log of one worker in this life of the broker: what of its queues survives a crash.
///
/// Messages that are to be stored, acknowledgements of them and what else is to be remembered become records, in one log, in
/// the order in which they happen. The records of a turn go out together (`LogStaging`); while they are under way, those of
/// later turns gather. What somebody waits for goes out at once; the rest with it, or some milliseconds later. The files are
/// those of `SegmentFiles`.
///
/// **Durable.** `durablePosition` says how far the log is. `gatheredPosition` is where it has to be for all that happened so
/// far: a RECEIPT is given that one, and waits in `ReceiptOrder`.
///
/// **Acknowledgements** of a turn are one record, written at its end. Who waits for one is told then where it is.
///
/// **Groups** (`beginGroup`, `endGroup`): what counts together or not at all. It is gathered as operations, for its size has
/// to be known: a group lies in one append and one segment.
///
/// **Space.** A segment is removed, or becomes the next one, when no message in it lives: from the front of the log, and
/// after the log says on stable storage that it is not needed (`firstNeeded` in a mark). What a part of a transaction of several workers needs stays until
/// all of them know that it is complete (`openParts`).
///
/// **Failure** is final: after an error of a write or a sync nobody knows what is on the disk, so nothing is written any more
/// and nothing becomes durable. Want of space is no failure: it is tried again.
///
/// Called by `Shard+Storage` and its neighbours. It knows neither queues nor sessions. Without `BrokerOptions.storage` it is
/// not enabled, and only asked whether it is.
struct MessageStore: ~Copyable {
    let isEnabled: Bool
    let options: StorageOptions
    let worker: Int
    let workerCount: Int
    var staging: LogStaging
    var files: SegmentFiles
    /// Segments of earlier lives were left at the last `advance`: what other workers do may let more go.
    var awaitsEarlier: Bool
    /// See `askForSegment`.
    var isSegmentWanted = false
    /// When `advance` is due (monotonic nanoseconds). 0: at once. `.max`: not before something changes.
    private(set) var dueAt: UInt64
    /// Something has changed since the last `advance`.
    var hasWork: Bool {
        get { dueAt == 0 }
        set { dueAt = newValue ? 0 : nextDueAt }
    }
    private(set) var hasFailed = false
    /// The last record is written.
    private(set) var hasEnded = false

    /// What is confirmed may be told up to here: as `StorageOptions.sync` says.
    private(set) var durablePosition: LogPosition
    /// On stable storage up to here.
    private(set) var syncedPosition: LogPosition
    /// The append under way. nil: none.
    var append: LogStaging.Append?
    /// The append, or the sync behind it, was refused for want of space: to be tried again.
    var isAppendRefused = false
    /// `StorageOptions.Commit.appendAndSync`: the sync behind the append is under way.
    var isSyncing = false
    /// `StorageOptions.Sync.interval`: where the log was when the sync under way began. nil: none is.
    var intervalSync: LogPosition?
    /// When something is to be tried again, or synced (monotonic nanoseconds). `.max`: nothing is.
    var deadline: UInt64 = .max {
        didSet { if dueAt != 0 { dueAt = nextDueAt } }
    }
    /// What has gathered, and nobody waits for, goes out then (monotonic nanoseconds). `.max`: nothing has.
    var gathersUntil: UInt64 = .max {
        didSet { if dueAt != 0 { dueAt = nextDueAt } }
    }
    /// A mark goes out then, if nothing else does: see `MessageStore+Work` (monotonic nanoseconds). `.max`: none is owed.
    var marksAt: UInt64 = .max {
        didSet { if dueAt != 0 { dueAt = nextDueAt } }
    }
    /// The append under way brings nothing but a mark.
    var appendIsMark = false
    /// No mark says that the last records are on stable storage.
    var owesMark = false
    private var nextDueAt: UInt64 { min(deadline, min(gathersUntil, marksAt)) }
    var shortage = DiskShortage()
    var milliseconds: UInt64

    // Of this turn
    var acknowledged = Batch<MessageReference>(capacity: 256)
    var operations = Batch<GroupOperation>(capacity: 64)
    /// Of the group that is being written.
    var groupAcknowledged = Batch<MessageReference>(capacity: 64)
    private(set) var groupDepth = 0
    private var hasToldFull = false

    // Space, see MessageStore+Space
    /// Messages that live, and other records that are needed, of each segment from `firstNeeded` on.
    var liveCounts = Batch<UInt32>(capacity: 64)
    var firstNeeded: UInt32 = 0
    /// Of the records of all messages of this shard that live.
    var liveByteCount = 0
    /// The same by virtual hosts, of all shards.
    let hosts: HostStorage
    /// How far the entries were looked through for those of the segments at the front, which are written again. nil: they
    /// are not.
    var compaction: Index<Entry>?
    /// What was at the front when the last pass began: a segment of this life; -1: those of earlier ones. -2: there was none.
    var compactedFront = -2
    /// What the segments took then.
    var compactedByteCount = 0
    /// There is no pass before (monotonic nanoseconds).
    var compactsAt: UInt64 = 0
    /// The other workers are to be woken: what of earlier lives is theirs is to be written again, too.
    var callsOthers = false
    /// Segments from here on say something of ids that is still to be known. `.max`: none does.
    var firstSegmentOfIDs = UInt32.max
    /// What the marks of the append under way say, and what is on stable storage.
    var submittedFirstNeeded: UInt32 = 0
    var durableFirstNeeded: UInt32 = 0
    /// Segments from the front in which nothing lives, and where the log has to be durable before they are not needed.
    var freeCount = 0
    var freeAt: LogPosition = 0
    var removal: SegmentRemoval
    /// Messages of earlier lives that live no more, and where the log has to be durable before that counts.
    var releases = Batch<EarlierRelease>(capacity: 16)
    var stampedReleaseCount = 0

    // Transactions of several workers, see MessageStore+Transactions
    var openParts = Batch<OpenPart>(capacity: 16)
    var commits: [UInt64: OpenCommit] = [:]
    var nextTransaction: UInt64
    /// Other workers that wait for the log.
    var barriers = Batch<HeldBarrier>(capacity: 64)

    init(_ options: StorageOptions?, _ hosts: HostStorage, worker: Int, workerCount: Int, wallMilliseconds: UInt64) {
        self.hosts = hosts
        isEnabled = options != nil
        dueAt = options != nil ? 0 : .max
        awaitsEarlier = options?.earlier != nil
        let options = options ?? StorageOptions(directory: [], life: 1)
        invariant(
            options.life > 0 && options.segmentByteCount % JournalFormat.unitByteCount == 0
                && options.segmentByteCount >= JournalFormat.segmentByteCountMin,
            "a life is 1 or more, and segments are of whole units")
        self.options = options
        self.worker = worker
        self.workerCount = workerCount
        staging = LogStaging(options, worker: worker, workerCount: workerCount)
        files = SegmentFiles(options, worker: worker)
        milliseconds = wallMilliseconds
        durablePosition = JournalFormat.position(life: options.life, offset: 0)
        syncedPosition = durablePosition
        nextTransaction = UInt64(options.life) << 44 | UInt64(worker) << 36
        removal = SegmentRemoval(options.earlier, worker: worker)
    }

    // MARK: Admission

    /// Whether a message of so many bytes may be stored now.
    mutating func admission(_ byteCount: Int) -> StoreAdmission {
        if hasFailed { return .failed }
        guard fitsSegment(byteCount + Self.overheadByteCountMax) else { return .tooLarge }
        if isFull { return .wait }
        if isBeyondLimit { return .full }
        let available = files.availableEnd
        // The first segment is being made.
        if available == 0 { return files.isShort || files.isAtLimit ? .full : .open }
        if staging.endOffset + byteCount + options.reservedByteCount <= available { return .open }
        return files.isShort || files.isAtLimit || isAppendRefused ? .full : .wait
    }

    /// Somebody waits who needs more room than is left in the segment: the next one is made early.
    mutating func askForSegment() {
        isSegmentWanted = true
        hasWork = true
    }

    /// What a record takes beside the message, with the name of its queue; and what a move to a dead-letter destination adds.
    private static var overheadByteCountMax: Int { 4096 }

    /// Records of so many bytes, which stay together, fit into a segment.
    @inline(__always)
    func fitsSegment(_ byteCount: Int) -> Bool { options.fits(byteCount) }

    /// So much waits for the disk that publishers wait.
    @inline(__always)
    var isFull: Bool { staging.byteCount >= options.stagedByteCountMax }

    /// Others have to be told that `isFull` has changed.
    mutating func tellsFullness() -> Bool {
        if isFull == hasToldFull { return false }
        hasToldFull.toggle()
        return true
    }

    /// Where the log has to be durable for all that happened so far. `.max`: where it is at the end of this turn, for what
    /// was acknowledged has no record yet; or, after a failure, it never is.
    @inline(__always)
    var gatheredPosition: LogPosition {
        hasFailed || !acknowledged.isEmpty ? .max : staging.endPosition
    }

    /// Nothing waits for the disk.
    @inline(__always)
    var isDurable: Bool { staging.isEmpty && acknowledged.isEmpty && syncedPosition == staging.endPosition }

    // MARK: Records

    mutating func write(_ message: MessageRecord) -> MessageReference {
        let reference = staging.room(message.recordByteCount, milliseconds).pointee.write(message)
        didWrite()
        count(staging.sequence)
        countStored(message)
        return reference
    }

    /// A message lives no more. Its record is written at the end of the turn, or with the group.
    mutating func acknowledge(_ place: StoredPlace) {
        hasWork = true
        if hasFailed { return }
        if groupDepth > 0 { return operations.append(.acknowledgement(place)) }
        acknowledgeAlone(place)
    }

    mutating func acknowledgeAlone(_ place: StoredPlace) {
        acknowledged.append(place.reference)
        release(place)
    }

    mutating func write(failureCount: UInt16, of reference: MessageReference) {
        if hasFailed { return }
        if groupDepth > 0 { return operations.append(.failure(failureCount, reference)) }
        writeAlone(failureCount: failureCount, of: reference)
    }

    mutating func writeAlone(failureCount: UInt16, of reference: MessageReference) {
        staging.room(RecordWriter.acknowledgementByteCount(1), milliseconds).pointee.write(
            failureCount: failureCount, of: reference)
        didWrite()
    }

    /// Returns the segment that the record is in, and pins: see `unpin`.
    mutating func write(queueMade queue: QueueRecord) -> UInt32 {
        staging.room(queue.recordByteCount, milliseconds).pointee.write(queueMade: queue)
        didWrite()
        count(staging.sequence)
        return staging.sequence
    }

    mutating func write(queueRemoved name: UnsafeRawBufferPointer) {
        if hasFailed { return }
        staging.room(JournalFormat.recordByteCount(payloadByteCount: name.count), milliseconds).pointee.write(
            queueRemoved: name)
        didWrite()
    }

    /// Returns the segment that the record is in, and pins: see `unpin`.
    mutating func write(topicOffsets name: UnsafeRawBufferPointer, below offset: UInt64) -> UInt32 {
        let byteCount = JournalFormat.recordByteCount(payloadByteCount: name.count)
        staging.room(byteCount, milliseconds).pointee.write(topicOffsets: name, below: offset)
        didWrite()
        count(staging.sequence)
        return staging.sequence
    }

    mutating func write(subscriptionMade subscription: SubscriptionRecord) -> UInt32 {
        staging.room(subscription.recordByteCount, milliseconds).pointee.write(subscriptionMade: subscription)
        didWrite()
        count(staging.sequence)
        return staging.sequence
    }

    mutating func write(_ record: DeduplicationRecord) {
        if hasFailed { return }
        staging.room(record.recordByteCount, milliseconds).pointee.write(record)
        didWrite()
    }

    mutating func write(subscriptionRemoved name: UnsafeRawBufferPointer) {
        if hasFailed { return }
        staging.room(JournalFormat.recordByteCount(payloadByteCount: name.count), milliseconds).pointee.write(
            subscriptionRemoved: name)
        didWrite()
    }

    mutating func write(transactionEnd transaction: UInt64) {
        if hasFailed { return }
        staging.room(RecordWriter.emptyByteCount, milliseconds).pointee.write(transactionEnd: transaction)
        didWrite()
    }

    mutating func didWrite() {
        staging.didWrite()
        hasWork = true
    }

    /// So many references are in a record at most.
    private static var referencesPerRecordMax: Int { 4096 }

    /// End of turn: what was acknowledged in it.
    mutating func writeAcknowledged() {
        var written = 0
        while written < acknowledged.count {
            let count = min(acknowledged.count - written, Self.referencesPerRecordMax)
            staging.room(RecordWriter.acknowledgementByteCount(count), milliseconds).pointee.write(
                acknowledged: UnsafeBufferPointer(start: acknowledged.base + written, count: count))
            staging.didWrite()
            written += count
        }
        acknowledged.removeAll()
    }

    // MARK: Groups

    @inline(__always) var isGrouping: Bool { groupDepth > 0 }

    /// Returns what `endGroup` is told: where the operations of the group begin.
    mutating func beginGroup() -> Int {
        groupDepth += 1
        return operations.count
    }

    /// The group that begins at `first` has something to write.
    @inline(__always)
    func hasOperations(from first: Int) -> Bool {
        for place in first..<operations.count {
            if case .nothing = operations[place] { continue }
            return true
        }
        return false
    }

    /// The operations from `first` on were written.
    mutating func endGroup(_ first: Int) {
        operations.keepFirst(first)
        groupDepth -= 1
    }

    /// A message of an open group leaves its queue before it is written.
    mutating func dropFromGroup(_ entry: Handle<Entry>) {
        for place in 0..<operations.count {
            if case .message(let handle) = operations[place], handle == entry { operations[place] = .nothing }
        }
    }

    /// The same of a message that a topic keeps.
    mutating func dropFromGroup(kept message: BlockIndex) {
        for place in 0..<operations.count {
            if case .kept(let kept) = operations[place], kept.message == message { operations[place] = .nothing }
        }
    }

    /// The acknowledgements of the group that is being written.
    mutating func writeGroupAcknowledged(_ writer: UnsafeMutablePointer<RecordWriter>, from first: Int) {
        if groupAcknowledged.count > first {
            writer.pointee.write(
                acknowledged: UnsafeBufferPointer(
                    start: groupAcknowledged.base + first, count: groupAcknowledged.count - first))
        }
        groupAcknowledged.keepFirst(first)
    }

    /// Before the first turn: a message of an earlier life lives.
    mutating func countRestored(_ byteCount: Int, _ host: UInt16) {
        liveByteCount += byteCount
        hosts.add(byteCount, host)
    }

    // MARK: State

    mutating func didFail() {
        hasFailed = true
        acknowledged.removeAll()
        deadline = .max
        gathersUntil = .max
    }

    mutating func writeCleanEnd() {
        hasEnded = true
        staging.writeCleanEnd(milliseconds)
        hasWork = true
    }

    /// Nothing more is written.
    mutating func endWithoutRecord() { hasEnded = true }

    /// Does not wait until it is time to.
    mutating func syncSoon(_ now: UInt64) {
        if syncedPosition < durablePosition, intervalSync == nil { deadline = now }
    }

    mutating func becameSynced(upTo position: LogPosition) {
        syncedPosition = max(syncedPosition, position)
        durablePosition = max(durablePosition, position)
    }

    mutating func becameDurable(upTo position: LogPosition) { durablePosition = max(durablePosition, position) }
}
