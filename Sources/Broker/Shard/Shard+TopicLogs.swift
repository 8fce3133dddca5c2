import STOMP
import Slabs

// Topics whose messages are sequenced: each has an owner, by its name as queues have, and all that is sent to it goes through
// that worker. It gives the message an offset, puts it into the log, and then publishes it like any other. A topic is
// sequenced if its policy keeps a log, or once somebody has used `retain`. All others know nothing of this.
extension Shard {
    // MARK: Which topics

    /// A topic was made: its policy may be to keep a log.
    mutating func applyLogPolicy(_ index: Index<Destination>, _ name: UnsafeRawBufferPointer) {
        guard begins(visible(name), with: "/topic/"), policies[UInt32(policies.index(of: name))].logMessageCountMax > 0
        else {
            return
        }
        sequence(index, isLogged: true)
    }

    /// From now on all that is sent to the topic goes through its owner.
    mutating func sequence(_ index: Index<Destination>, isLogged: Bool = false) {
        let name = nameOf(index)
        let owner = destinations.owner(ofQueue: name)
        let storage = store.isEnabled ? policies[UInt32(policies.index(of: name))].storage : .never
        destinations.sequence(index, owner: owner, storage: storage, isLogged: isLogged)
    }

    /// The log of a topic of this worker, made on first use. None: there are as many as there may be.
    mutating func logOf(_ index: Index<Destination>) -> Index<TopicLog> {
        let destination = destinations[index]
        if !destination.pointee.log.isNone || !destination.pointee.isLogged { return destination.pointee.log }
        let policy = policies[UInt32(policies.index(of: nameOf(index)))]
        let log = topicLogs.make(for: index, policy, isReserved: !store.isEnabled)
        if !log.isNone {
            destinations.attach(log: log, to: index)
            updateIdle(index)
        }
        return log
    }

    /// A topic by its canonical name, made on first use, on behalf of another worker or an earlier life. None: no room.
    ///
    /// - Parameter mayExceed: its owner has admitted it: it is made beyond the limit, if need be.
    mutating func topicForElsewhere(_ name: UnsafeRawBufferPointer, mayExceed: Bool = false) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        guard makeRoomForOther(isUnused: false, mayExceed: mayExceed), makeRoomForMatches() || mayExceed else {
            return .none
        }
        return makeTopic(name, isPattern: false)
    }

    // MARK: SEND

    /// SEND to a topic whose messages are sequenced.
    @inline(never)
    mutating func sendToSequenced(_ context: FrameContext, _ target: SendTarget) -> FrameOutcome {
        let session = context.session
        let index = target.destination
        let owner = Int(destinations[index].pointee.owner)
        let retain = frame.has(.retain) ? retainOfFrame(context) ?? .none : .none
        let isStored =
            (destinations[index].pointee.isLogged || retain != .none) && storesFrame(session, in: index)
        // A change of what is retained may be an acknowledgement.
        let touchesStore = isStored || retain != .none && destinations[index].pointee.storage != .never
        let holders = holders(ofFrame: context, in: index, isKept: isStored)
        if !holders.isEmpty, let outcome = holdBackRelayed(context, holders, owner: owner) { return outcome }
        if !context.isCommitting {
            if memoryIsFull(context) { return waitForRoom(context) }
            if owner != self.index, fabric.isFull(owner) { return waitForRoom(context, owner: UInt16(owner)) }
            if owner != self.index, isStored, fabric.storeIsFull(owner) {
                return waitForRoom(context, owner: UInt16(owner), limit: .messageMemory)
            }
            if shardCount > 1, fabric.isFullForTopics(anyOf: destinations.peers(of: index)) {
                return waitForRoom(context, isTopic: true)
            }
        }
        guard owner == self.index else {
            guard let message = messageOfFrame(context, for: target) else { return .done }
            if touchesStore { session.pointee.flags.insert(.hasStoredElsewhere) }
            peers.write(
                Sequencing(
                    session: session.pointee.handle, retain: retain, isCommitted: context.isCommitting),
                to: owner,
                MessagePayload(name: nameOf(index), receipt: receiptOfFrame(context), message))
            if holders.isEmpty { markRemote(session, owner) } else { markRelayed(session, owner: owner, holders) }
            return didSend(context)
        }
        if isStored, let outcome = holdBackStored(context) { return outcome }
        if touchesStore { session.pointee.flags.insert(.hasStored) }
        guard let message = messageOfFrame(context, for: target) else { return .done }
        if let refusal = sequence(index, message, retain, isCommitted: context.isCommitting) {
            counters.messagesRefused &+= 1
            failDestination(context, refusal)
            return .done
        }
        if !holders.isEmpty { markRelayed(session, owner: owner, holders) }
        return didSend(context)
    }

    mutating func sequenceFromElsewhere(_ sequencing: Sequencing, _ payload: MessagePayload, from peer: Int) {
        let index = topicForElsewhere(payload.name, mayExceed: sequencing.isCommitted)
        var refusal: Refusal? = .destinations
        if !index.isNone {
            if !destinations[index].pointee.isSequenced { sequence(index) }
            let (message, retain) = (payload.message, sequencing.retain)
            refusal =
                refusalToKeep(index, message, sequencing)
                ?? sequence(index, message, retain, isCommitted: sequencing.isCommitted)
        }
        guard let refusal else { return }
        if sequencing.session.isNone {
            counters.messagesDropped &+= 1
            return notice(.messagesDropped, "1 dead letter: its destination has no room")
        }
        counters.messagesRefused &+= 1
        peers.write(PublicationRefusal(session: sequencing.session, refusal: refusal), to: peer, name: payload.receipt)
    }

    /// Why the log of this worker does not take a message that is to be stored, by the topic or for durable subscriptions. What
    /// COMMIT brings may take of what is kept in reserve: half a transaction would be worse.
    private mutating func refusalToKeep(
        _ index: Index<Destination>, _ message: Message, _ sequencing: Sequencing
    ) -> Refusal? {
        let topic = destinations[index]
        let isKept =
            (topic.pointee.isLogged || sequencing.retain == .set)
            && topic.pointee.stores(isPersistent: message.isPersistent)
        // Of a client's SEND alone: a dead letter was stored before.
        let asksForDurables = durables.isUsed && !sequencing.isCommitted && !sequencing.session.isNone
        guard
            isKept
                || asksForDurables
                    && storingWorkers(of: index, isPersistent: message.isPersistent).contains(self.index)
        else { return nil }
        switch admission(message.contentByteCount, at: nameOf(index)) {
        case .open, .wait: return nil
        case .full: return store.isGrouping ? nil : .diskFull
        case .hostIsFull: return store.isGrouping ? nil : .hostStorage
        case .failed: return .storageFailed
        case .tooLarge: return .tooLargeToStore
        }
    }

    // MARK: Sequencing

    /// Gives a message to a topic of this worker: to its log, to what it retains, and to all subscribers. Returns why not; nil:
    /// it is done.
    ///
    /// - Parameter isCommitted: it is of a COMMIT. The limit of retained messages was asked before, and others may have reached
    ///   it since.
    mutating func sequence(
        _ index: Index<Destination>, _ message: Message, _ retain: RetainAction, isCommitted: Bool = false
    ) -> Refusal? {
        if message.expiresAt != 0, message.expiresAt <= wallMilliseconds {
            counters.messagesExpired &+= 1
            return nil
        }
        let isStored = destinations[index].pointee.stores(isPersistent: message.isPersistent)
        if retain == .set, let refusal = refusalToRetain(index), !(isCommitted && topicLogs.hasRecordToCommit) {
            return refusal
        }
        guard destinations[index].pointee.isLogged else {
            let retained = retain == .set ? makeRetained(index, message, isStored: isStored) : 0
            if retain == .set, retained == 0 { return .memory }
            publish(index, message, retain, retained)
            return nil
        }
        let log = logOf(index)
        if log.isNone { return .memory }
        reserveOffsets(log)
        let offset = topicLogs[log].pointee.next
        // Nobody will know in the next life that it was given out.
        if store.hasFailed, offset >= topicLogs[log].pointee.reserved { return .storageFailed }
        makeRoomInLogs(message.contentByteCount)
        var message = message
        let lines = offsetLine(&message, offset)
        let block = isStored ? memory.storeForLog(message, extra: lines) : memory.store(message, extra: lines)
        if block == 0 { return .memory }
        let stored = memory.stored(block, identity: message.identity, expiresAt: message.expiresAt)
        let retained = retain == .set ? makeRetained(index, stored, isStored: isStored) : 0
        if retain == .set, retained == 0 {
            memory.blocks.release(block)
            return .memory
        }
        let milliseconds = topicLogs.time(log, wallMilliseconds: wallMilliseconds)
        topicLogs.append(
            log,
            LogEntry(
                offset: offset, milliseconds: milliseconds, identity: message.identity, expiresAt: message.expiresAt,
                message: block, retained: retained, retain: retain, isStored: isStored),
            byteCount: memory.blocks.capacity(block))
        if isStored {
            keep(
                KeptMessage(
                    message: block, destination: index, identity: message.identity, expiresAt: message.expiresAt,
                    milliseconds: milliseconds))
        }
        // A stored message that takes its place outweighs it after a crash.
        if retain == .remove || retain == .set && !isStored { acknowledgeRetained(index, log) }
        publishDue(log)
        trim(log)
        return nil
    }

    /// What the topic retains goes when the message is published, which may wait for its offset. The RECEIPT does not: so the
    /// log of the worker hears of it now, and of what waits in front of the message and would be retained until then.
    private mutating func acknowledgeRetained(_ index: Index<Destination>, _ log: Index<TopicLog>) {
        // The last one is the message itself.
        let waiting = topicLogs.takeWaiting(log).dropLast()
        for place in waiting {
            let entry = topicLogs.entry(log, at: place)
            guard entry.isStored, entry.retained != 0 else { continue }
            acknowledgeKept(entry.retained)
            memory.place(of: entry.retained).pointee.position = 0
        }
        chargeForSteps(waiting.count)
        let retained = destinations[index].pointee.retained
        guard !retained.isNone, topicLogs[retained].pointee.isStored else { return }
        acknowledgeKept(topicLogs[retained].pointee.message)
        topicLogs.setAcknowledged(retained)
    }

    /// The header line with the offset, which goes in front of the message's own; behind the destination, where the message
    /// carries that. In `scratch.key`.
    private mutating func offsetLine(_ message: inout Message, _ offset: UInt64) -> UnsafeRawBufferPointer {
        keptLine(&message) { line in
            line.write("x-stream-offset:")
            line.writeDecimal(offset)
        }
    }

    /// A header line for a message that the topic keeps.
    mutating func keptLine(
        _ message: inout Message, _ write: (inout FrameWriter) -> Void
    ) -> UnsafeRawBufferPointer {
        var line = FrameWriter(at: scratch.key)
        let headers = message.headers
        let carriesDestination = message.carriesDestination
        message.removeDestination()
        line.write(headers, message.headers - headers)
        message.carriesDestination = carriesDestination
        write(&line)
        line.write("\n")
        return UnsafeRawBufferPointer(start: scratch.key, count: line.cursor - scratch.key)
    }

    /// Publishes what of a log may be published.
    mutating func publishDue(_ log: Index<TopicLog>) {
        let index = topicLogs[log].pointee.destination
        while let entry = topicLogs.publishNext(log) {
            let message = memory.stored(entry.message, identity: entry.identity, expiresAt: entry.expiresAt)
            publish(index, message, entry.retain, entry.retained)
        }
        if topicLogs.awaitsReservation { store.hasWork = true }
    }

    /// Gives a message of a topic of this worker to all subscribers, in one step with what it changes of what the topic
    /// retains: a subscriber that comes before is given the message, and one that comes behind what is retained then.
    ///
    /// - Parameter retained: with `.set`, the block of what it retains from now on.
    private mutating func publish(
        _ index: Index<Destination>, _ message: Message, _ action: RetainAction, _ retained: BlockIndex
    ) {
        if durables.isUsed { passOn(message, of: index) }
        if action == .none { return publish(index, message) }
        changeRetained(index, message, action, retained)
        for peer in 0..<shardCount where peer != self.index {
            peers.write(
                RetainedChange(action: action), to: peer,
                MessagePayload(name: nameOf(index), receipt: nil, message))
        }
        if !publishHere(index, message), destinations.peers(of: index).isEmpty { counters.messagesUnrouted &+= 1 }
    }

    // MARK: Trimming

    /// Trims the log to its limits. First readers are given what they have room for: a burst must not pass by those that have
    /// caught up.
    mutating func trim(_ log: Index<TopicLog>) {
        if topicLogs[log].pointee.isDue, topicLogs.exceedsLimits(log, wallMilliseconds: wallMilliseconds) { serve(log) }
        while let entry = topicLogs.trim(log, wallMilliseconds: wallMilliseconds) { letGo(entry, of: log) }
        if topicLogs[log].pointee.millisecondsMax != 0, !topicLogs[log].pointee.entries.isEmpty { armLogTimer() }
    }

    /// Trims the largest logs until there is room for so many bytes: what is in logs does not make room by being delivered.
    mutating func makeRoomInLogs(_ byteCount: Int) {
        let byteCountMax = memory.logByteCountMax
        guard topicLogs.byteCount + byteCount > byteCountMax else { return }
        // A little more, so that not each message has to look for the largest.
        let wanted = max(byteCountMax - byteCountMax / 16 - byteCount, 0)
        var trimmedCount = 0
        while topicLogs.byteCount > wanted {
            let (largest, stepCount) = topicLogs.largest()
            chargeForSteps(stepCount)
            if !largest.isNone, topicLogs[largest].pointee.isDue { serve(largest) }
            guard !largest.isNone, let entry = topicLogs.trimOldest(largest) else { break }
            letGo(entry, of: largest)
            trimmedCount += 1
            for _ in 0..<63 where topicLogs.byteCount > wanted {
                guard let entry = topicLogs.trimOldest(largest) else { break }
                letGo(entry, of: largest)
                trimmedCount += 1
            }
        }
        if trimmedCount > 0 {
            notice(
                .memoryLimit,
                "the logs of topics take half of limits.message-memory-bytes: the oldest \(trimmedCount) messages of the "
                    + "largest are trimmed before their policy (log-messages-max, log-bytes-max) says so")
        }
    }

    private mutating func letGo(_ entry: LogEntry, of log: Index<TopicLog>) {
        if entry.isStored { acknowledgeKept(entry.message) }
        topicLogs.uncount(log, byteCount: memory.blocks.capacity(entry.message))
        memory.blocks.release(entry.message)
        counters.logMessagesTrimmed &+= 1
    }

    // MARK: Time

    private static var logTimerNanoseconds: UInt64 { 1_000_000_000 }

    mutating func armLogTimer() {
        guard logTimer == 0 else { return }
        logTimer = timers.schedule(
            at: now &+ Self.logTimerNanoseconds, kind: TimerKind.topicLogs.rawValue, owner: .none)
    }

    mutating func logTimerFired() {
        var log = topicLogs.nextLog(after: .none)
        while !log.isNone {
            if topicLogs[log].pointee.millisecondsMax != 0 { trim(log) }
            log = topicLogs.nextLog(after: log)
        }
        chargeForSteps(topicLogs.logCount)
        forgetExpiredRetained()
    }

    // MARK: Audit

    /// Bytes of blocks that topics keep.
    var topicLogByteCount: Int {
        var byteCount = topicLogs.byteCount
        var retained = topicLogs.nextRetained(after: .none)
        while !retained.isNone {
            byteCount += memory.blocks.capacity(topicLogs[retained].pointee.message)
            retained = topicLogs.nextRetained(after: retained)
        }
        return byteCount
    }

    /// Nobody needs the destination but what it keeps.
    @inline(__always)
    func isKeptByTopicAlone(_ index: Index<Destination>) -> Bool {
        let topic = destinations[index]
        return topic.pointee.keepsMessages && topic.pointee.subscriptionCount == 0 && topic.pointee.remote.isEmpty
            && topic.pointee.interest == .none && topic.pointee.encodings.isEmpty && topic.pointee.waiting.isEmpty
    }
}
