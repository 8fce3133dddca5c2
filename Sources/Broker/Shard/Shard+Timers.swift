import Glibc
import IO
import STOMP
import Slabs

// Time: one timer per session at most, due when the earliest of its deadlines may be; deadlines that moved on since are
// found when it fires. Nothing is scanned.
extension Shard {
    /// A client may ask for heart-beats every 49 days; two deadlines compare only if less than half of the clock's
    /// range lies between them, so none is further away than this. A session looked at too early is armed again.
    private static var armMillisecondsMax: UInt32 { 1 << 30 }

    /// Makes sure that the session is looked at in `milliseconds` at the latest.
    mutating func arm(_ session: UnsafeMutablePointer<Session>, after milliseconds: UInt32) {
        let milliseconds = min(milliseconds, Self.armMillisecondsMax)
        let at = clock &+ milliseconds
        if session.pointee.timer != 0 {
            if Int32(bitPattern: at &- session.pointee.timerAt) >= 0 { return }
            timers.cancel(session.pointee.timer)
        }
        session.pointee.timerAt = at
        session.pointee.timer = timers.schedule(
            at: now &+ UInt64(milliseconds) &* 1_000_000, kind: TimerKind.session.rawValue,
            owner: session.pointee.slot)
    }

    func receiveDeadline(_ session: UnsafeMutablePointer<Session>) -> UInt32 {
        UInt32(clamping: UInt64(session.pointee.receiveInterval) * UInt64(limits.heartBeatTolerancePercent) / 100)
    }

    /// A heart-beat is sent a little early: the client's patience begins when it got the last one.
    func sendDeadline(_ session: UnsafeMutablePointer<Session>) -> UInt32 {
        session.pointee.sendInterval - session.pointee.sendInterval / 8
    }

    mutating func armFrameDeadline(_ session: UnsafeMutablePointer<Session>) {
        arm(session, after: UInt32(limits.frameMillisecondsMax))
    }

    mutating func timerFired(_ expired: TimerWheel.Expired) {
        switch TimerKind(rawValue: expired.kind) {
        case .session:
            guard let session = sessions.find(Handle(expired.owner)) else { return }
            session.pointee.timer = 0
            sessionTimerFired(session)
        case .entry: entryTimerFired(Handle(expired.owner))
        case .transaction: transactionTimerFired(Handle(expired.owner))
        case .accept:
            acceptTimer = 0
            submissions.append(Submission(.resumeAccepting))
        case .room:
            roomTimer = 0
            resumeCold()
            resumeWaitingForRoom()
        case .drain:
            drainTimer = 0
        case .idleQueue: idleTimerFired(Handle(expired.owner))
        case .topicLogs:
            logTimer = 0
            logTimerFired()
        case .notices:
            noticeTimer = 0
            summariseNotices()
        case .delays: delayTimerFired()
        case .deduplication: deduplicationTimerFired()
        case nil:
            invariant(false, "every timer has a kind")
        }
    }

    private mutating func sessionTimerFired(_ session: UnsafeMutablePointer<Session>) {
        switch session.pointee.state {
        case .fresh:
            if passed(session.pointee.since, UInt32(limits.connectMillisecondsMax)) {
                counters.limits.count(.connectTimeout)
                notice(
                    .connectionFailed, session: session.pointee.index,
                    "no CONNECT frame arrived within \(limits.connectMillisecondsMax) ms (limits.connect-timeout-ms)")
                detach(session)
                dropOutput(session)
                return close(session)
            }
            rearm(session, session.pointee.since, UInt32(limits.connectMillisecondsMax))
        case .authenticating:
            guard passed(session.pointee.since, UInt32(limits.connectMillisecondsMax)) else {
                return rearm(session, session.pointee.since, UInt32(limits.connectMillisecondsMax))
            }
            counters.limits.count(.connectTimeout)
            fail(
                session, "Not connected in time",
                "within \(limits.connectMillisecondsMax) ms nobody decided whether this client may connect "
                    + "(limits.connect-timeout-ms)")
        case .connected:
            checkConnected(session)
        case .ending, .lingering:
            // A peer that still reads has its time anew with each byte it takes, but not while all wait for a drain.
            var since = session.pointee.since
            if session.pointee.state == .ending, !session.pointee.output.isEmpty, !isDraining,
                clock &- session.pointee.lastProgress < clock &- since
            {
                since = session.pointee.lastProgress
            }
            if passed(since, UInt32(limits.lingerMillisecondsMax)) {
                counters.limits.count(.linger)
                // In this order: what waits in the output was not delivered.
                close(session)
                return dropOutput(session)
            }
            rearm(session, since, UInt32(limits.lingerMillisecondsMax))
        case .closing: break
        }
    }

    private mutating func checkConnected(_ session: UnsafeMutablePointer<Session>) {
        if gate.isOn, endIfTokenExpired(session) { return }
        if session.pointee.flags.contains(.isSlowed) { endSlowness(session) }
        if session.pointee.receiveInterval != 0, !session.pointee.flags.contains(.receivePaused) {
            let interval = receiveDeadline(session)
            if passed(session.pointee.lastReceived, interval) {
                counters.heartBeatsMissed &+= 1
                let isLenient = listeners.hasLenientHeartBeats(session.pointee.listener)
                return fail(
                    session, "Heart-beat missed",
                    "nothing was received for \(interval) ms; the interval "
                        + (isLenient ? "that this listener expects" : "agreed at CONNECT")
                        + " is \(session.pointee.receiveInterval) ms")
            }
            rearm(session, session.pointee.lastReceived, interval)
        }
        if session.pointee.input != 0, !session.pointee.flags.contains(.suspended) {
            let since = sessions.inputs.since(session, in: memory)
            let patience = UInt32(
                clamping: limits.frameMillisecondsMax
                    + Int(session.pointee.inputByteCount) * 1000 / max(limits.frameBytesPerSecondMin, 1))
            if passed(since, patience) {
                counters.limits.count(.frameTimeout)
                return fail(session, "Frame too slow", "the frame was not complete after \(patience) ms")
            }
            rearm(session, since, patience)
        }
        if session.pointee.flags.contains(.awaitsWritable) {
            let patience = UInt32(limits.outputStallMillisecondsMax)
            if passed(session.pointee.lastProgress, patience) {
                if session.pointee.flags.contains(.hasTopics) {
                    disconnectSoon(session, for: .outputStall)
                    return
                }
                pauseConsumers(session, for: .outputStall)
                arm(session, after: patience)
            } else {
                rearm(session, session.pointee.lastProgress, patience)
            }
        }
        if session.pointee.sendInterval != 0 {
            let interval = sendDeadline(session)
            if passed(session.pointee.lastSent, interval), session.pointee.output.isEmpty {
                if let room = reserveOutput(session, 1) {
                    room.storeBytes(of: UInt8(ascii: "\n"), as: UInt8.self)
                    commitOutput(session, 1)
                    counters.heartBeatsSent &+= 1
                }
                session.pointee.lastSent = clock
            }
            rearm(session, session.pointee.lastSent, interval)
        }
    }

    private func passed(_ since: UInt32, _ milliseconds: UInt32) -> Bool { clock &- since >= milliseconds }

    private mutating func rearm(_ session: UnsafeMutablePointer<Session>, _ since: UInt32, _ milliseconds: UInt32) {
        let elapsed = clock &- since
        arm(session, after: elapsed >= milliseconds ? max(milliseconds / 8, 1) : milliseconds - elapsed)
    }

    // MARK: Waiting for memory or for a peer

    /// See `MemoryBudget.messagesFill`.
    @inline(__always)
    func messagesFill(percent: Int) -> Bool {
        memory.messagesFill(percent: percent, queuedCount: queues.entryCount, segmentCount: output.segmentCount)
    }

    @inline(__always)
    func queuesFill(percent: Int) -> Bool { memory.queuesFill(percent: percent, queuedCount: queues.entryCount) }

    /// The frame under the parser has to wait for memory. One that is kept as input already takes little more as a
    /// message: else those who wait would wait for each other.
    @inline(__always)
    func memoryIsFull(_ context: FrameContext) -> Bool {
        messagesFill(percent: 100)
            || !context.isKeptInput && !memory.hasBulk(0) && output.segmentCount + queues.entryCount > 0
    }

    /// Messages fill the memory so far that publishers to topics are blocked too.
    @inline(__always)
    var topicsFillMemory: Bool { messagesFill(percent: MemoryBudget.topicPercentMax) }

    /// The frame under the parser has to wait until messages have left the broker, or a worker has read its mailbox.
    ///
    /// - Parameters:
    ///   - isTopic: it may go on while no more than `topicPercentMax` of the memory are taken.
    ///   - owner: it waits for this worker, which is full.
    ///   - knownLimit: the limit that it waits for; nil: it is found out.
    mutating func waitForRoom(
        _ context: FrameContext, isTopic: Bool = false, owner: UInt16? = nil, limit knownLimit: LimitKind? = nil
    ) -> FrameOutcome {
        let session = context.session
        guard !context.isCommitting else { return .done }
        var limit: LimitKind =
            queuesFill(percent: 100)
            ? .queuedMessages : memoryIsFull(context) || memory.inputIsTight ? .messageMemory : .mailbox
        if let owner { limit = fabric.fullLimit(Int(owner)) }
        if let knownLimit { limit = knownLimit }
        counters.limits.count(limit)
        if sessions.nobodyWaitsForRoom, memoryIsFull(context) { noticeFull(limit) }
        suspend(session)
        sessions.waitForRoom(session, owner: owner, isTopic: isTopic)
        armRoom()
        return .retry
    }

    mutating func noticeFull(_ limit: LimitKind) {
        notice(
            .memoryLimit,
            "messages and buffers take \(memory.blocks.byteCountInUse) bytes, and \(queues.entryCount) messages are in queues "
                + "(limits.\(limit.key)); publishers are not read until there is room")
    }

    mutating func armRoom() {
        guard roomTimer == 0 else { return }
        roomTimer = timers.schedule(at: now &+ 10_000_000, kind: TimerKind.room.rawValue, owner: .none)
    }

    mutating func resumeWaitingForRoom() {
        if memory.inputIsTight {
            // While messages fill the memory, frames wait for them.
            if !messagesFill(percent: 95) { endSlowFrames() }
            armRoom()
        }
        if sessions.nobodyWaitsForRoom { return }
        var room = Room(
            isForQueues: !messagesFill(percent: 95),
            isForTopics: !messagesFill(percent: MemoryBudget.topicPercentMax - 5))
        if !room.isForQueues { _ = memory.blocks.trim(byteCountMax: Self.trimByteCountPerTurnMax) }
        for shard in 0..<shardCount {
            room.fullWorkers.set(shard, fabric.isFull(shard))
            if shard != index, fabric.mailbox(shard).isOverfull {
                (room.isForQueues, room.isForTopics) = (false, false)
            }
        }
        sessions.resumeThoseWithRoom(room, in: memory)
        if !sessions.nobodyWaitsForRoom { armRoom() }
    }

    /// Ends those whose frames are slow while memory is short for large ones, beginning with the most silent.
    private mutating func endSlowFrames() {
        var lookCount = 0
        while let slow = sessions.nextSlowFrame(&lookCount, clock: clock, in: memory) {
            counters.limits.count(.frameTimeout)
            fail(
                sessions[slow.session], "Frame too slow",
                "memory is short, and the frame was not complete after \(slow.milliseconds) ms")
        }
    }

    // MARK: Drain

    /// Starts to shut down: no more connections and no more messages are accepted, consumers may empty their queues.
    /// Takes effect with the next turn.
    public mutating func beginDrain() { drainIsRequested = true }

    private static var drainCheckMilliseconds: UInt64 { 20 }
    /// The others wait so much longer for a shard than its connections may take.
    private static var stragglerMillisecondsMax: Int { 1_000 }

    mutating func advanceDrain() {
        if !isDraining {
            isDraining = true
            drainSince = clock
            peers.beginDrain()
            submissions.append(Submission(.stopAccepting))
            refuseThoseWhoWait()
        }
        guard drainTimer == 0, !drainIsOver else { return }
        let isQuiet = outputIsQuiet()
        quietChecks = isQuiet ? quietChecks + 1 : 0
        fabric.reportQuiet(shard: index, quietChecks >= 2)
        if fabric.isQuiet || passed(drainSince, UInt32(limits.drainMillisecondsMax)) {
            drainIsOver = true
            var place = sessions.nextLive(after: .none)
            while !place.isNone {
                let session = sessions[place]
                end(session, .left)
                place = sessions.nextLive(after: place)
            }
            return
        }
        armDrain()
    }

    private mutating func armDrain() {
        drainTimer = timers.schedule(
            at: now &+ Self.drainCheckMilliseconds &* 1_000_000, kind: TimerKind.drain.rawValue, owner: .none)
    }

    /// The connections of this shard are closed when those of another may still hold messages of its queues: these
    /// return, or come here as dead letters. So the shards end together, and what is reported as lost is what is lost.
    ///
    /// At the end of a turn, when its messages to others are posted.
    mutating func awaitOthers() {
        guard !isDrained, sessions.liveCount == 0 else { return }
        fabric.reportIdle(shard: index, peerMessagesReceived: peers.receivedCount)
        // Counted in checks, not in time: when all were stopped for a while, the others have had no time either.
        let patience = limits.drainMillisecondsMax + limits.lingerMillisecondsMax + Self.stragglerMillisecondsMax
        let isAtRest = fabric.isAtRest || restChecks > patience / Int(Self.drainCheckMilliseconds)
        if isAtRest, !store.isEnabled || endsStore() {
            isDrained = true
            reportUndelivered()
        } else if drainTimer == 0 {
            restChecks += 1
            armDrain()
        }
    }

    /// A SEND that waits for room is parsed again, and refused like any other: it would keep its session, which may be
    /// a consumer's too, from being heard.
    private mutating func refuseThoseWhoWait() {
        sessions.resumeAllWhoWaitForRoom()
        var place = sessions.nextLive(after: .none)
        while !place.isNone {
            let last = sessions[place].pointee.pendings.last
            if !last.isNone, pendings[last].pointee.kind == .send { resumeSoon(sessions[place]) }
            if sessions[place].pointee.flags.contains(.isSlowed) { resumeSoon(sessions[place]) }
            place = sessions.nextLive(after: place)
        }
    }

    /// Nothing waits for a socket or for another worker, and no consumer holds a message it may still acknowledge.
    /// A frame cut short promises nothing.
    private mutating func outputIsQuiet() -> Bool {
        var place = Index<Session>.none
        while true {
            place = sessions.nextLive(after: place)
            if place.isNone { return true }
            let session = sessions[place]
            guard session.pointee.state == .connected else { continue }
            if !session.pointee.output.isEmpty || !session.pointee.pendings.isEmpty { return false }
            var index = session.pointee.subscriptions.first
            while !index.isNone {
                if !subscriptions[index].pointee.deliveries.isEmpty { return false }
                index = subscriptions.next(after: index)
            }
        }
    }

    /// Messages that are not stored live in memory: those that nobody took are lost now, and the log says how many of which
    /// queue. Nobody holds any, and nothing is reserved.
    private mutating func reportUndelivered() {
        if !delays.isEmpty { reportUndeliveredDelays() }
        if !deadLettersAsked.isEmpty { endAsking() }
        for place in 0..<destinations.placeCount {
            let candidate = destinations.named(at: place)
            guard !candidate.isNone, !destinations[candidate].pointee.queue.isNone else { continue }
            let queue = queues[destinations[candidate].pointee.queue]
            var lostCount = Int(queue.pointee.messageCount)
            if store.isEnabled, !store.hasFailed {
                let queue = destinations[candidate].pointee.queue
                lostCount -= queues.storedCount(queue) + coldCounts(queue).stored
            }
            guard lostCount > 0 else { continue }
            counters.messagesDropped &+= UInt64(lostCount)
            var notice = Notice(kind: .undelivered, text: destinationText(candidate))
            notice.messageCount = lostCount
            append(notice)
        }
    }
}

/// What a timer belongs to (`TimerWheel.Expired.kind`).
enum TimerKind: UInt8 {
    case session = 1, entry, transaction, accept, room, drain, notices, idleQueue, delays, deduplication
    case topicLogs = 20
}
