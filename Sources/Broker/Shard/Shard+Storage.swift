import IO
import Journal
import STOMP
import Slabs

// What of queues goes to the log (`MessageStore`), and what comes of the answers of its files.
extension Shard {
    // MARK: Messages

    /// A message of this queue is stored.
    @inline(__always)
    func stores(_ index: Index<Queue>, isPersistent: Bool) -> Bool {
        switch queues[index].pointee.storage {
        case .never: false
        case .byHeader: isPersistent
        case .always: true
        }
    }

    /// Whether the frame's message may be stored now. nil: it may.
    @inline(never)
    mutating func holdBackStored(_ context: FrameContext) -> FrameOutcome? {
        switch admission(frame.reservedByteCount, of: context.session) {
        case .open: break
        case .wait where !context.isCommitting:
            store.askForSegment()
            return waitForRoom(context, limit: .messageMemory)
        case .wait: break
        // A COMMIT has looked before it began: what is kept in reserve is for the rest of it.
        case .full where context.isCommitting, .hostIsFull where context.isCommitting: break
        case .hostIsFull:
            counters.messagesRefused &+= 1
            failDestination(context, .hostStorage)
            return .done
        case .full, .failed, .tooLarge:
            counters.messagesRefused &+= 1
            tellLimitOfStore()
            failDestination(context, refusalOfStore(frame.reservedByteCount))
            return .done
        }
        context.session.pointee.flags.insert(.hasStored)
        return nil
    }

    /// Why a message of so many bytes cannot be stored.
    mutating func refusalOfStore(_ byteCount: Int) -> Refusal {
        switch store.admission(byteCount) {
        case .failed: .storageFailed
        case .tooLarge: .tooLargeToStore
        case .full, .wait, .open, .hostIsFull: .diskFull
        }
    }

    /// Why the log of this worker does not take a message of so many bytes for a destination. nil: it does.
    mutating func refusalToStore(_ byteCount: Int, at name: UnsafeRawBufferPointer) -> Refusal? {
        switch admission(byteCount, at: name) {
        case .open, .wait: nil
        case .hostIsFull: .hostStorage
        case .full, .failed, .tooLarge: refusalOfStore(byteCount)
        }
    }

    /// Writes a message that was put into its queue just now.
    @inline(__always)
    mutating func keepNew(_ index: Index<Entry>, _ message: Message) {
        if message.options.contains(.mayHaveBeenDelivered) { queues.markSeen(index) }
        keep(index)
    }

    /// Writes a message that was put into its queue, now or with the group that is open.
    mutating func keep(_ index: Index<Entry>) {
        if store.hasFailed { return }
        if !queueArguments.isEmpty { writeArguments(of: queues[index].pointee.queue) }
        if store.isGrouping { return store.operations.append(.message(queues.handle(index))) }
        let record = record(of: index)
        setPlace(of: index, store.write(record), record)
    }

    /// An entry as the log has it.
    mutating func record(of index: Index<Entry>) -> MessageRecord {
        let entry = queues[index]
        let message = memory.stored(
            entry.pointee.message, identity: entry.pointee.identity, expiresAt: entry.pointee.expiresAt)
        var flags = RecordFlags()
        if message.isPlain { flags.insert(.isPlain) }
        if message.carriesDestination { flags.insert(.carriesDestination) }
        // Of one that is written again, or was delayed in an earlier life.
        if entry.pointee.isRedelivered { flags.insert(.isRedelivered) }
        var record = MessageRecord(
            queueName: nameOf(queues[entry.pointee.queue].pointee.destination), identity: entry.pointee.identity,
            expiresAt: entry.pointee.expiresAt, flags: flags, content: message.headers,
            headersByteCount: message.headersByteCount, bodyByteCount: message.bodyByteCount)
        if message.options.contains(.isDeduplicated) {
            record.flags.insert(.isDeduplicated)
            record.detail = wallMilliseconds
        }
        return record
    }

    /// - Parameter record: that is at the place.
    mutating func setPlace(of index: Index<Entry>, _ reference: MessageReference, _ record: MessageRecord) {
        memory.place(of: queues[index].pointee.message).pointee = StoredPlace(
            position: reference.position, orderKey: record.orderKey == 0 ? reference.position : record.orderKey,
            worker: reference.worker, host: store.hosts.number(of: record.queueName),
            byteCount: UInt32(record.recordByteCount), earlierSegment: -1)
    }

    /// A stored message leaves the broker.
    mutating func acknowledgeStored(_ index: Index<Entry>) {
        let place = memory.place(of: queues[index].pointee.message).pointee
        if place.position == 0 { return store.dropFromGroup(queues.handle(index)) }
        store.acknowledge(place)
    }

    /// A consumer has refused a stored message, or failed with it, and it stays.
    mutating func countFailureOfStored(_ index: Index<Entry>) {
        let place = memory.place(of: queues[index].pointee.message).pointee
        if place.position == 0 { return }
        store.write(failureCount: queues[index].pointee.failureCount, of: place.reference)
    }

    // MARK: Answers

    mutating func fileAnswered(_ completion: Completion) {
        invariant(store.isEnabled, "a file's completion for a core that uses no files")
        if ColdReads.isOurs(completion.connection) { return coldReadAnswered(completion) }
        switch store.answered(completion, &submissions, now: now) {
        case .nothing: return
        case .durable: logBecameDurable()
        case .room: storeHasRoom()
        case .short: storeIsShort()
        case .removalFailed(let errorNumber):
            notice(
                .diskFull,
                "a file of the store that is not needed any more cannot be removed: \(errorText(errorNumber)); it is tried again"
            )
        case .failed(let errorNumber, let what): return storeFailed(errorNumber, what)
        }
        tellShortage()
    }

    private mutating func logBecameDurable() {
        confirmStored()
        publishReserved()
        advanceTransactions()
        if store.tellReleases() { wakeFirst() }
        storeHasRoom()
    }

    /// Tells those who wait for the log how far it is.
    mutating func confirmStored() {
        if store.hasFailed { return }
        becameDurable(upTo: store.confirmedPosition)
        answerBarriers()
        openDurables()
        // At the end of the turn: what has waited for the log is published before.
        if !relays.isIdle { store.hasWork = true }
    }

    /// Those who waited for the disk go on, and not when the timer fires.
    private mutating func storeHasRoom() {
        if sessions.nobodyWaitsForRoom { return }
        if case .open = store.admission(0) { resumeWaitingForRoom() }
    }

    /// Nobody knows what is on the disk: what waits for it never becomes true.
    private mutating func storeFailed(_ errorNumber: Int32, _ what: StaticString) {
        store.didFail()
        hasStorageFailed = true
        notice(
            .storageFailed,
            "\(what): \(errorText(errorNumber)); nothing is stored any more by worker \(index) (storage.on-error)")
        failWhatWaits()
        failDurables()
        failTransactions()
        storeHasRoom()
    }

    /// What waits for the log, or for another one, will not become true, or not soon.
    mutating func failWhatWaits(_ refusal: Refusal = .storageFailed) {
        while case let pending = pendings.firstUndurable, !pending.isNone {
            failStored(sessions[pendings[pending].pointee.session], refusal, receipt: receiptOfPending(pending))
            invariant(pendings.firstUndurable != pending, "what waits for the log belongs to an open session")
        }
        answerBarriers(refusal)
        failRelays(refusal)
    }

    /// What the client was about to be told may not be true.
    mutating func failStored(
        _ session: UnsafeMutablePointer<Session>, _ refusal: Refusal = .storageFailed,
        receipt: UnsafeRawBufferPointer?
    ) {
        fail(session, refusal.message, refusal.explanation(limits), receipt: receipt)
    }

    // MARK: Other workers that wait

    /// Another worker asks whether what it has sent is applied; of what is stored, whether it is durable.
    mutating func barrierReached(_ barrier: Barrier, from peer: Int) {
        if !barrier.holders.isEmpty { return relayedBarrierReached(barrier.pending, barrier.holders, from: peer) }
        guard barrier.isStored, store.isEnabled, store.gatheredPosition > store.confirmedPosition else {
            peers.write(BarrierAnswer(pending: barrier.pending), to: peer)
            return
        }
        guard !store.hasFailed else {
            peers.write(BarrierAnswer(pending: barrier.pending, refusal: .storageFailed), to: peer)
            return
        }
        store.barriers.append(
            HeldBarrier(position: store.gatheredPosition, peer: UInt16(peer), pending: barrier.pending))
        store.hasWork = true
    }

    /// - Parameter refusal: what those are told that wait for more. nil: they wait on.
    private mutating func answerBarriers(_ refusal: Refusal? = nil) {
        let confirmed = store.confirmedPosition
        var count = 0
        while count < store.barriers.count, refusal != nil || store.barriers[count].position <= confirmed {
            let barrier = store.barriers[count]
            let isDurable = barrier.position <= confirmed
            peers.write(
                BarrierAnswer(pending: barrier.pending, refusal: isDurable ? nil : refusal), to: Int(barrier.peer))
            count += 1
        }
        if count > 0 { store.barriers.removeFirst(count) }
    }

    // MARK: The turn's end

    @inline(__always)
    mutating func advanceStore() {
        if now >= store.dueAt { advanceStoreNow() }
    }

    @inline(never)
    private mutating func advanceStoreNow() {
        if cold.compaction == nil, store.wantsCompaction(now) { compactStore() }
        if !deduplication.isEmpty || store.firstSegmentOfIDs != .max { carryIDs() }
        let isAwaited =
            pendings.awaitsMore(than: store.syncedPosition) || !durables.opening.isEmpty || topicLogs.awaitsReservation
            || !store.barriers.isEmpty || !relays.isIdle || !sessions.nobodyWaitsForRoom || storeEnding != .none
        store.advance(&submissions, at: moment, isAwaited: isAwaited)
        if !store.hasFailed {
            placeGathered()
        }
        if !relays.isIdle { advanceRelays() }
        if store.reportReady() { wakeFirst() }
        if store.hasToTellThatEarlierAreGone() { callOthers() }
        if store.tellsFullness() { fabric.reportStore(shard: index, isFull: store.isFull) }
    }

    /// Who waits for what was acknowledged in this turn waits for the log up to here.
    private mutating func placeGathered() {
        pendings.placeGathered(at: store.staging.endPosition)
        store.placeBarriers()
        if !relays.isIdle { relays.placeGathered(at: store.staging.endPosition) }
    }

    /// Writes what was acknowledged in this turn before its end.
    mutating func writeAcknowledgedNow() {
        if store.hasFailed || store.acknowledged.isEmpty { return }
        store.writeAcknowledged()
        store.hasWork = true
        placeGathered()
    }

    /// So much is looked through, and written again, in a turn at most.
    private static var entriesPerCompactionMax: Int { 1024 }
    private static var bytesPerCompactionMax: Int { 1 << 20 }

    /// Writes messages of the segments at the front again, at the end of the log.
    private mutating func compactStore() {
        guard var index = store.compaction else { return }
        if store.callsOthers { callOthers() }
        // It goes on when there is room again.
        let byteCountMax = min(Self.bytesPerCompactionMax, store.roomToCopy)
        if byteCountMax == 0 { return }
        var byteCount = 0
        for _ in 0..<Self.entriesPerCompactionMax where byteCount < byteCountMax {
            let next = queues.nextEntry(after: index)
            if next.isNone {
                guard compactDelays(entryCountMax: Self.entriesPerCompactionMax, byteCountMax: byteCountMax) else {
                    break
                }
                if compactKept(&byteCount, byteCountMax: byteCountMax) {
                    store.hasWork = true
                    return
                }
                store.compaction = nil
                beginColdCompaction()
                return compactArguments()
            }
            index = next
            guard queues[index].pointee.isStored else { continue }
            let place = memory.place(of: queues[index].pointee.message).pointee
            if store.isAtFront(place) { byteCount += writeAgain(index, place) }
        }
        store.compaction = index
        store.hasWork = true
    }

    private mutating func callOthers() {
        store.callsOthers = false
        for peer in 0..<shardCount where peer != index { submissions.append(Submission(.wake, peer: UInt16(peer))) }
    }

    /// Returns how many bytes it took.
    private mutating func writeAgain(_ index: Index<Entry>, _ place: StoredPlace) -> Int {
        var record = record(of: index)
        record.flags.insert(.isCopy)
        // Of ids the table says what is known.
        record.flags.remove(.isDeduplicated)
        record.detail = 0
        record.failureCount = queues[index].pointee.failureCount
        record.orderKey = place.orderKey
        record.original = place.reference
        setPlace(of: index, store.write(record), record)
        // The copy says that the original is of no more use.
        store.release(place)
        return record.recordByteCount
    }

    /// The same for what queues were made with.
    private mutating func compactArguments() {
        for (index, arguments) in queueArguments where arguments.segment == store.firstNeeded {
            let segment = store.firstNeeded
            queueArguments[index]?.segment = nil
            writeArguments(of: index)
            store.unpin(segment)
        }
        compactDurables()
    }

    /// Worker 0 removes the segments of earlier lives.
    private mutating func wakeFirst() {
        if index != 0 { submissions.append(Submission(.wake, peer: 0)) }
        store.hasWork = true
    }
}
