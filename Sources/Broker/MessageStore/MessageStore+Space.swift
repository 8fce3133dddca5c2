import Glibc
import IO
import Journal
import Slabs

/// A message of an earlier life lives no more.
struct EarlierRelease: BitwiseCopyable {
    /// Of `EarlierSegments`.
    var segment: Int32
    /// It counts when the log is on stable storage up to here. `.max`: this turn's end.
    var at: LogPosition
}

/// Segments that are being removed, one at a time: its name, then the directory is synced, then the next one. So a crash
/// never brings a segment back without the acknowledgements behind it.
struct SegmentRemoval: ~Copyable {
    let earlier: EarlierSegments?
    /// Which of `earlier` are gone; of worker 0 alone.
    var goneEarlier: [Bool]
    var goneEarlierCount = 0
    var earlierUnderWay = -1
    /// Of this life: those before are gone.
    var nextOwn: UInt32 = 0
    var isUnderWay = false
    /// What is under way: the first one of this life becomes the next one, and the directory is synced.
    var isRename = false
    /// A segment could not be removed: it is tried again later, and no other before.
    var hasFailed = false
    var isToldFailed = false
    /// What `earlier` was found like, when nothing of it could be removed.
    var changeCountSeen = -1
    var hasReportedReady = false
    var hasToldGone = false
    /// What was written before the first turn.
    var readyPosition: LogPosition?
    let name: UnsafeMutableRawPointer

    init(_ earlier: EarlierSegments?, worker: Int) {
        self.earlier = earlier
        goneEarlier = worker == 0 ? Array(repeating: false, count: earlier?.segments.count ?? 0) : []
        name = .allocate(byteCount: SegmentName.byteCount + 1, alignment: 16)
    }

    deinit { name.deallocate() }

    /// Segments of earlier lives are left.
    var hasEarlier: Bool { earlier.map { !$0.areGone.load(ordering: .acquiring) } ?? false }
}

// Which segments are needed, and the removal of others.
extension MessageStore {
    // MARK: Counts

    /// Something in the segment is needed.
    mutating func count(_ sequence: UInt32) {
        let place = Int(sequence - firstNeeded)
        while liveCounts.count <= place { liveCounts.append(0) }
        liveCounts[place] += 1
    }

    /// It is needed no more.
    mutating func unpin(_ sequence: UInt32) { liveCounts[Int(sequence - firstNeeded)] -= 1 }

    /// A message has its record in the log.
    @inline(__always)
    mutating func countStored(_ message: MessageRecord) {
        liveByteCount += message.recordByteCount
        if hosts.isOn { hosts.add(message.recordByteCount, hosts.number(of: message.queueName)) }
    }

    /// The message's record is needed no more, once its acknowledgement is on stable storage.
    mutating func release(_ place: StoredPlace) {
        // The size of a very large record that nobody has read is known roughly.
        liveByteCount = max(liveByteCount - Int(place.byteCount), 0)
        hosts.remove(Int(place.byteCount), place.host)
        if place.earlierSegment >= 0 {
            releases.append(EarlierRelease(segment: place.earlierSegment, at: .max))
        } else {
            unpin(UInt32(JournalFormat.offset(of: place.position) / options.segmentByteCount))
        }
    }

    /// End of turn: the acknowledgements of the releases are in the log.
    mutating func stampReleases() {
        let end = staging.endPosition
        while stampedReleaseCount < releases.count {
            releases[stampedReleaseCount].at = end
            stampedReleaseCount += 1
        }
    }

    /// Nothing of a transaction that may turn out to be incomplete was released up to here.
    private func isSettled(_ position: LogPosition) -> Bool {
        position <= syncedPosition && (openParts.isEmpty || openParts[0].position >= position)
    }

    /// Tells the other shards of messages of earlier lives that live no more. True: a segment may be removed now.
    mutating func tellReleases() -> Bool {
        guard let earlier = removal.earlier else { return false }
        var count = 0
        var mayRemove = false
        while count < stampedReleaseCount, isSettled(releases[count].at) {
            if earlier.release(Int(releases[count].segment)) { mayRemove = true }
            count += 1
        }
        if count > 0 {
            releases.removeFirst(count)
            stampedReleaseCount -= count
        }
        return mayRemove
    }

    /// What this shard needs of earlier segments beside messages is on stable storage in this life's. Tells the others, once.
    /// True: just now.
    mutating func reportReady() -> Bool {
        guard let earlier = removal.earlier, !removal.hasReportedReady else { return false }
        let position = removal.readyPosition ?? staging.endPosition
        removal.readyPosition = position
        guard files.availableEnd > 0, syncedPosition >= position else { return false }
        removal.hasReportedReady = true
        earlier.readyShardCount.add(1, ordering: .acquiringAndReleasing)
        return true
    }

    /// The segments of earlier lives are gone, by this worker's doing: the others may remove theirs. True: just now.
    mutating func hasToTellThatEarlierAreGone() -> Bool {
        guard worker == 0, removal.earlier != nil, !removal.hasToldGone, !removal.hasEarlier else { return false }
        removal.hasToldGone = true
        return true
    }

    // MARK: Freeing

    /// The first segment that stays if those at the front go in which nothing lives.
    @inline(__always)
    var endOfFreeSegments: UInt32 {
        if removal.hasEarlier { return firstNeeded }
        let closedCount = Int(staging.firstSequence - firstNeeded)
        var count = 0
        while count < closedCount, count >= liveCounts.count || liveCounts[count] == 0 { count += 1 }
        return firstNeeded + UInt32(count)
    }

    /// Finds segments at the front in which nothing lives, and says when that is on stable storage that they are not needed.
    mutating func findFree() {
        if freeCount == 0 {
            let end = min(endOfFreeSegments, firstSegmentOfIDs)
            if end <= firstNeeded { return }
            freeCount = Int(end - firstNeeded)
            freeAt = staging.endPosition
        }
        guard isSettled(freeAt) else { return }
        firstNeeded += UInt32(freeCount)
        liveCounts.removeFirst(min(freeCount, liveCounts.count))
        freeCount = 0
        hasWork = true
    }

    /// Removes the next segment that is not needed.
    mutating func removeSegments(_ submissions: inout Batch<Submission>) {
        guard files.isOpen, !removal.isUnderWay, !removal.hasFailed else { return }
        if worker == 0, removal.hasEarlier, let index = earlierToRemove() {
            removal.earlierUnderWay = index
            removal.isUnderWay = true
            return files.remove(removal.earlier!.segments[index].name, removal.name, &submissions)
        }
        // One of them is kept, to be used again.
        if removal.nextOwn + (keepsSpare ? 1 : 0) < durableFirstNeeded {
            removal.isUnderWay = true
            let name = SegmentName(life: options.life, worker: UInt16(worker), sequence: removal.nextOwn)
            files.remove(name, removal.name, &submissions)
        }
    }

    /// The next segment of an earlier life that goes: of the oldest life, the first of a log, with nothing in it. nil: none
    /// may go now.
    private mutating func earlierToRemove() -> Int? {
        guard let earlier = removal.earlier, earlier.readyShardCount.load(ordering: .acquiring) == workerCount else {
            return nil
        }
        let changeCount = earlier.changeCount.load(ordering: .acquiring)
        if changeCount == removal.changeCountSeen { return nil }
        var life: UInt32?
        var previous: SegmentName?
        for (index, segment) in earlier.segments.enumerated() where !removal.goneEarlier[index] {
            if let life, segment.name.life != life { break }
            life = segment.name.life
            let isFirstOfLog = previous?.worker != segment.name.worker
            previous = segment.name
            if isFirstOfLog, earlier.liveCount(index) <= 0 { return index }
        }
        removal.changeCountSeen = changeCount
        return nil
    }

    /// A segment's name is gone.
    mutating func removed(_ completion: Completion, _ submissions: inout Batch<Submission>, now: UInt64) -> StoreEvent {
        guard completion.value == 0 || completion.value == -ENOENT else { return removalFailed(completion, now) }
        files.syncRemoval(&submissions)
        return .nothing
    }

    /// The operator is told once, until one succeeds.
    mutating func removalFailed(_ completion: Completion, _ now: UInt64) -> StoreEvent {
        removal.hasFailed = true
        removal.isUnderWay = false
        retrySoon(now)
        if removal.isToldFailed { return .nothing }
        removal.isToldFailed = true
        return .removalFailed(-completion.value)
    }

    /// It is gone for good.
    mutating func removalSynced() {
        removal.isUnderWay = false
        removal.isToldFailed = false
        hasWork = true
        defer {
            let isWithin = files.ahead.stage == .ready ? !isBeyondLimit : !isAtLimit || spare != nil && !isBeyondLimit
            if isWithin { shortage.isAtLimit = false }
        }
        guard removal.earlierUnderWay >= 0, let earlier = removal.earlier else { return firstIsGone() }
        removal.goneEarlier[removal.earlierUnderWay] = true
        earlier.isGone(removal.earlierUnderWay)
        removal.goneEarlierCount += 1
        removal.earlierUnderWay = -1
        removal.changeCountSeen = -1
        if removal.goneEarlierCount == removal.goneEarlier.count { earlier.areGone.store(true, ordering: .releasing) }
    }

    /// The first segment of this life that is left is left no more.
    private mutating func firstIsGone() {
        removal.nextOwn += 1
        files.forgetFirst()
    }

    // MARK: Using again

    /// The first segment that is left, if it is needed no more and may become the next one.
    ///
    /// Nothing else is removed before the directory is on stable storage with its new name: a crash may give it the former
    /// one again, and with that the messages in it, whose acknowledgements are in the segments behind.
    @inline(__always)
    var spare: UInt32? {
        let isThere = removal.nextOwn < durableFirstNeeded && !removal.isUnderWay && !removal.hasFailed
        return files.reusesSegments && isThere ? removal.nextOwn : nil
    }

    /// There is room for a segment that waits to be used again.
    @inline(__always)
    private var keepsSpare: Bool { files.reusesSegments && !isBeyondLimit && !files.isShort && !isAppendRefused }

    mutating func renamed(
        _ completion: Completion, _ submissions: inout Batch<Submission>
    ) -> SegmentFiles.Outcome {
        if completion.value == 0 {
            firstIsGone()
        } else {
            removal.isRename = false
            removal.isUnderWay = false
        }
        return files.renamed(completion, &submissions)
    }

    // MARK: The limit

    /// Bytes of the segments that this worker answers for: its own, and its share of those of earlier lives.
    @inline(__always)
    var segmentsByteCount: Int {
        guard removal.hasEarlier, let earlier = removal.earlier else { return ownByteCount }
        return ownByteCount + earlier.byteCount / workerCount
    }

    @inline(__always)
    private var ownByteCount: Int { (files.madeCount - Int(removal.nextOwn)) * options.segmentByteCount }

    /// Of those that are needed still, or are made ahead.
    @inline(__always)
    private var neededByteCount: Int { (files.madeCount - Int(durableFirstNeeded)) * options.segmentByteCount }

    /// `StorageOptions.byteCountMax` permits no further segment.
    @inline(__always)
    var isAtLimit: Bool {
        options.byteCountMax != 0 && segmentsByteCount + options.segmentByteCount > options.byteCountMax
    }

    /// A segment was made that it did not permit: for acknowledgements, which had no room any more.
    @inline(__always)
    var isBeyondLimit: Bool { options.byteCountMax != 0 && segmentsByteCount > options.byteCountMax }

    /// Records wait for a segment that was not made yet.
    @inline(__always)
    var needsSegment: Bool {
        !staging.isEmpty && staging.sequence >= UInt32(files.madeCount) && staging.offset > 0
    }

    // MARK: Compaction

    /// So many segments of a worker are no reason to write messages again.
    private static var segmentCountToCompact: Int { 4 }

    /// Copies of messages may take so many bytes now.
    ///
    /// Where there is no room for messages, copies let segments go: they take half of what is kept for acknowledgements, and at
    /// `StorageOptions.byteCountMax` another segment, for the one that they let go.
    @inline(__always)
    var roomToCopy: Int {
        guard files.availableEnd > 0 else { return 0 }
        let isShort = files.isShort || isAppendRefused
        if !isShort, !isAtLimit { return .max }
        let left = files.availableEnd - staging.endOffset - options.reservedByteCount / 2
        return max(isShort || isBeyondLimit ? left : left + options.segmentByteCount, 0)
    }

    /// A copy of so many bytes may be written now.
    mutating func mayCopy(_ byteCount: Int) -> Bool {
        let admission = admission(byteCount)
        return mayCopy(byteCount, if: admission)
    }

    @inline(__always)
    private func mayCopy(_ byteCount: Int, if admission: StoreAdmission) -> Bool {
        switch admission {
        case .open: true
        case .full: byteCount <= roomToCopy
        case .wait, .failed, .tooLarge, .hostIsFull: false
        }
    }

    /// Whether messages at the front of the log are written again at its end, so that the segments that a few of them pin may
    /// go: when the segments take three times what lives in them.
    ///
    /// While segments of earlier lives are left, nobody's may go: then this is about the segments of all workers, and all of
    /// them write again what of the earlier ones is theirs.
    mutating func wantsCompaction(_ now: UInt64) -> Bool {
        guard !hasFailed, !hasEnded, !isFull else { return false }
        if compaction != nil { return true }
        let front = removal.hasEarlier ? -1 : Int(firstNeeded)
        var byteCount = neededByteCount
        var live = liveByteCount
        var least = Self.segmentCountToCompact * options.segmentByteCount
        if removal.hasEarlier, let earlier = removal.earlier {
            earlier.report(worker, segmentsByteCount: neededByteCount, liveByteCount: liveByteCount)
            (byteCount, live) = earlier.figures(workerCount: workerCount)
            least *= workerCount
        }
        // What a pass has left is not this worker's, or about to go, or could not be read.
        let isDone = front == compactedFront && byteCount <= compactedByteCount + compactedByteCount / 2
        guard !isDone, byteCount > least, byteCount > 3 * live, freeCount == 0, now >= compactsAt else { return false }
        // No more of the front lives.
        let frontByteCount = front < 0 ? liveByteCount : min(liveByteCount, options.segmentByteCount)
        let admission = admission(0)
        guard mayCopy(frontByteCount, if: admission) else { return false }
        if !removal.hasEarlier {
            // The segment at the front has to be one that is not written any more, and not free already.
            guard firstNeeded < staging.firstSequence, !liveCounts.isEmpty, liveCounts[0] > 0 else { return false }
            // A copy would outlive a transaction that turns out to be incomplete.
            if hasIncompletePart(below: (Int(firstNeeded) + 1) * options.segmentByteCount) { return false }
        }
        compaction = Index<Entry>.none
        compactedFront = front
        compactedByteCount = byteCount
        callsOthers = front < 0 && workerCount > 1
        return true
    }

    /// A message could not be read that was to be written again: there is another pass, a little later.
    mutating func compactAgain(_ now: UInt64) {
        compactedFront = -2
        compactsAt = now &+ Self.retryNanoseconds
        retrySoon(now)
    }

    /// The message's segment is what the pass is about.
    ///
    /// That is what was at the front when the pass began, and was looked at then: while it goes on, earlier segments may go,
    /// and with them the front moves on to a segment with a part of a transaction that is not complete.
    @inline(__always)
    func isAtFront(_ place: StoredPlace) -> Bool {
        if place.position == 0 { return false }
        if place.earlierSegment >= 0 { return true }
        return JournalFormat.offset(of: place.position) / options.segmentByteCount == compactedFront
    }
}
