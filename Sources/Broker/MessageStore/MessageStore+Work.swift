import Glibc
import IO
import Journal
import Slabs

// What is submitted, and what answers mean.
extension MessageStore {
    /// Something that was refused for want of space is tried again so much later.
    static var retryNanoseconds: UInt64 { 200_000_000 }
    /// Records that nobody waits for go out when so many bytes have gathered, or so much later. Each append costs a sync, and
    /// whoever waits for the next one waits for this one first: acknowledgements alone would double the time of a SEND.
    private static var gatheredByteCountMax: Int { 256 << 10 }
    private static var gatherNanoseconds: UInt64 { 5_000_000 }
    /// A log at rest ends in a mark so much later. Where none follows, the next life cannot tell records that are damaged from
    /// those that a crash has cut off.
    private static var markNanoseconds: UInt64 { 1_000_000_000 }

    // MARK: Submitting

    /// End of turn.
    ///
    /// - Parameter isAwaited: somebody waits until what has gathered is on stable storage.
    @inline(__always)
    mutating func advance(_ submissions: inout Batch<Submission>, at moment: Moment, isAwaited: Bool) {
        if moment.now >= dueAt { advanceNow(&submissions, at: moment, isAwaited: isAwaited) }
    }

    private mutating func advanceNow(_ submissions: inout Batch<Submission>, at moment: Moment, isAwaited: Bool) {
        hasWork = false
        guard isEnabled, !hasFailed else { return deadline = .max }
        milliseconds = moment.wallMilliseconds
        writeAcknowledged()
        stampReleases()
        files.open(&submissions)
        if moment.now >= deadline {
            deadline = .max
            retry(&submissions)
        }
        awaitsEarlier = removal.hasEarlier
        findFree()
        let isMarkDue = isMarkDue(moment.now)
        if isAwaited || isMarkDue || hasGathered(moment.now) { startAppend(&submissions, isMarkDue: isMarkDue) }
        makeFiles(&submissions)
        removeSegments(&submissions)
    }

    private mutating func retry(_ submissions: inout Batch<Submission>) {
        files.retry(&submissions)
        removal.hasFailed = false
        if isAppendRefused, let append {
            isAppendRefused = false
            submit(append, &submissions)
        }
        if case .interval = options.sync { startIntervalSync(&submissions) }
    }

    /// What has gathered goes out although nobody waits for it.
    private mutating func hasGathered(_ now: UInt64) -> Bool {
        guard append == nil, !staging.isEmpty || firstNeeded != submittedFirstNeeded else { return false }
        let byteCountMax = min(Self.gatheredByteCountMax, options.stagedByteCountMax / 2)
        if hasEnded || staging.byteCount >= byteCountMax || hasPartUnderWay { return true }
        if gathersUntil == .max { gathersUntil = now &+ Self.gatherNanoseconds }
        return now >= gathersUntil
    }

    /// Nothing has happened for a while, and the mark that says that all of it is on stable storage is owed.
    private mutating func isMarkDue(_ now: UInt64) -> Bool {
        let end = staging.endOffset + RecordWriter.markByteCount + 2 * RecordWriter.emptyByteCount
        guard owesMark, append == nil, staging.isEmpty, syncedPosition == durablePosition, !hasEnded,
            end <= files.availableEnd
        else {
            marksAt = .max
            return false
        }
        if marksAt == .max { marksAt = now &+ Self.markNanoseconds }
        return now >= marksAt
    }

    private mutating func startAppend(_ submissions: inout Batch<Submission>, isMarkDue: Bool) {
        guard append == nil else { return }
        gathersUntil = .max
        let isMark = staging.isEmpty
        if isMark, isMarkDue || firstNeeded != submittedFirstNeeded { staging.makeMark(milliseconds) }
        guard var next = staging.nextAppend else { return }
        if files.current.stage != .ready || files.current.sequence != next.sequence {
            guard files.ahead.stage == .ready, files.ahead.sequence == next.sequence else { return }
            // What is in the segment before is synced by its own handle.
            if syncedPosition < durablePosition { return startIntervalSync(&submissions) }
            files.moveOn(&submissions)
        }
        guard next.offset + next.byteCount <= files.current.filledByteCount else { return }
        if staging.submit(&next, durable: syncedPosition, firstNeeded: firstNeeded) {
            submittedFirstNeeded = firstNeeded
        }
        appendIsMark = isMark && syncedPosition == durablePosition
        append = next
        submit(next, &submissions)
    }

    private var appendsDurably: Bool { options.sync == .receipt && options.commit == .durableAppend }

    private mutating func submit(_ append: LogStaging.Append, _ submissions: inout Batch<Submission>) {
        submissions.append(
            .append(
                staging.vectors, vectorCount: append.vectorCount, byteCount: append.byteCount,
                to: SegmentFiles.slot(append.sequence), at: append.offset, isDurable: appendsDurably))
    }

    private mutating func startIntervalSync(_ submissions: inout Batch<Submission>) {
        guard intervalSync == nil, syncedPosition < durablePosition else { return }
        intervalSync = durablePosition
        submissions.append(.sync(SegmentFiles.slot(files.current.sequence), token: SegmentFiles.SyncToken.interval))
    }

    /// The next segment is made when half of this one is used, or somebody needs more room than is left.
    private mutating func makeFiles(_ submissions: inout Batch<Submission>) {
        let half = options.segmentByteCount / 2
        if files.ahead.stage == .none,
            files.current.stage != .ready || staging.sequence != files.current.sequence || staging.offset > half
                || isSegmentWanted
        {
            isSegmentWanted = false
            // What was taken has to go on, and acknowledgements make room. And of earlier lives nothing goes before this one has
            // a segment.
            let isNeeded = needsSegment || files.madeCount == 0
            let spare = isBeyondLimit && !isNeeded ? nil : spare
            if files.makeAhead(from: spare, isAtLimit: isAtLimit, isNeeded: isNeeded, &submissions) {
                removal.isUnderWay = true
                removal.isRename = true
            }
        }
        var written = files.current.sequence == staging.sequence ? staging.offset : options.segmentByteCount
        if let next = staging.nextAppend, next.sequence == files.current.sequence {
            written = next.offset + next.byteCount
        }
        files.fill(written: written, &submissions)
    }

    // MARK: Answers

    mutating func answered(
        _ completion: Completion, _ submissions: inout Batch<Submission>, now: UInt64
    ) -> StoreEvent {
        hasWork = true
        if hasFailed { return .nothing }
        let outcome: SegmentFiles.Outcome
        switch completion.kind {
        case .fileOpened: outcome = files.opened(completion, &submissions)
        case .fileAllocated: outcome = files.allocated(completion, &submissions)
        case .fileAppended:
            guard files.isFill(completion) else { return appended(completion, &submissions, now: now) }
            outcome = files.filled(completion, &submissions)
        case .fileSynced:
            switch completion.offset {
            case SegmentFiles.SyncToken.appended: return appendSynced(completion)
            case SegmentFiles.SyncToken.interval: return intervalSynced(completion, now: now)
            case SegmentFiles.SyncToken.removed where completion.value == 0:
                removalSynced()
                return .room
            case SegmentFiles.SyncToken.made where completion.value == 0 && removal.isRename:
                removal.isRename = false
                removal.isUnderWay = false
                outcome = files.synced(completion)
            default: outcome = files.synced(completion)
            }
        case .fileRenamed: outcome = renamed(completion, &submissions)
        case .fileDeleted: return removed(completion, &submissions, now: now)
        default: return .nothing
        }
        switch outcome {
        case .nothing: return .nothing
        case .progress:
            if files.ahead.stage == .ready {
                shortage.refusesSegment = false
                if !isBeyondLimit { shortage.isAtLimit = false }
            }
            return .room
        case .short:
            shortage.refusesSegment = true
            retrySoon(now)
            return .short
        case .failed(let errorNumber, let what): return .failed(errorNumber, what)
        }
    }

    /// What has gathered cannot go out: the disk has no room for it.
    @inline(__always)
    var isStuck: Bool {
        if hasFailed || shortage.isOver { return false }
        if append != nil { return isAppendRefused }
        guard let next = staging.nextAppend else { return false }
        let isAvailable = next.sequence == files.current.sequence && files.current.stage == .ready
        return !isAvailable && !(next.sequence == files.ahead.sequence && files.ahead.stage == .ready)
    }

    mutating func retrySoon(_ now: UInt64) { deadline = min(deadline, now &+ Self.retryNanoseconds) }

    private mutating func appended(
        _ completion: Completion, _ submissions: inout Batch<Submission>, now: UInt64
    ) -> StoreEvent {
        guard append != nil else { return .nothing }
        if completion.value < 0 {
            guard SegmentFiles.isShortage(-completion.value) else {
                return .failed(-completion.value, "the log cannot be written")
            }
            isAppendRefused = true
            shortage.refusesAppend = true
            retrySoon(now)
            return .short
        }
        shortage.refusesAppend = false
        switch (options.sync, options.commit) {
        case (.receipt, .durableAppend): return finishAppend()
        case (.receipt, .appendAndSync):
            isSyncing = true
            submissions.append(
                .sync(SegmentFiles.slot(files.current.sequence), token: SegmentFiles.SyncToken.appended))
            return .nothing
        case (.interval, _):
            append = nil
            owesMark = !appendIsMark
            becameDurable(upTo: staging.finishAppend())
            if deadline == .max { syncLater(now) }
            return .durable
        }
    }

    private mutating func syncLater(_ now: UInt64) {
        guard case .interval(let milliseconds) = options.sync else { return }
        deadline = now &+ UInt64(milliseconds) &* 1_000_000
    }

    private mutating func finishAppend() -> StoreEvent {
        append = nil
        owesMark = !appendIsMark
        becameSynced(upTo: staging.finishAppend())
        durableFirstNeeded = submittedFirstNeeded
        if spare != nil, !isBeyondLimit { shortage.isAtLimit = false }
        return .durable
    }

    private mutating func appendSynced(_ completion: Completion) -> StoreEvent {
        isSyncing = false
        if completion.value < 0 {
            return .failed(-completion.value, "what was written cannot be brought to stable storage")
        }
        return finishAppend()
    }

    private mutating func intervalSynced(_ completion: Completion, now: UInt64) -> StoreEvent {
        if completion.value < 0 {
            return .failed(-completion.value, "what was written cannot be brought to stable storage")
        }
        guard let position = intervalSync else { return .nothing }
        intervalSync = nil
        becameSynced(upTo: position)
        // The marks of appends since it began are not covered.
        if syncedPosition == durablePosition, append == nil {
            durableFirstNeeded = submittedFirstNeeded
        } else if deadline == .max {
            syncLater(now)
        }
        return .durable
    }
}
