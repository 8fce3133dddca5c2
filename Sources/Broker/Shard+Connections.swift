import Glibc
import IO
import STOMP
import Slabs

/// What became of a frame that was applied.
enum FrameOutcome {
    case done
    /// Not applied: the session is suspended and the frame will be parsed again.
    case retry
}

// Accept, receive, end, close: a connection's life.
extension Shard {
    mutating func apply(_ completion: Completion) {
        switch completion.kind {
        case .accepted: accepted(completion)
        case .acceptFailed: acceptFailed(completion)
        case .woken, .sendIncomplete: break
        case .durable: becameDurable(upTo: completion.address)
        case .permitted: permitted(Handle(completion.connection), isAllowed: completion.value == 0)
        case .fileOpened, .fileAppended, .fileRead, .fileAllocated, .fileSynced, .fileDeleted, .fileClosed:
            invariant(false, "a file's completion for a core that uses no files")
        case .received, .receiveEnded, .receiveFailed, .sendReleased, .writable, .closed, .authenticated:
            guard let session = sessions.find(Handle(completion.connection)) else {
                counters.staleCompletions &+= 1
                return
            }
            switch completion.kind {
            case .received: received(session, completion.pointer!, Int(completion.value))
            case .receiveEnded: receiveEnded(session)
            case .receiveFailed: connectionFailed(session)
            case .sendReleased: sendReleased(session, completion.value)
            case .writable: output.writable(session)
            case .closed: closed(session)
            case .authenticated: authenticated(session, isAllowed: completion.value == 0)
            case .accepted, .acceptFailed, .woken, .sendIncomplete, .fileOpened, .fileAppended, .fileRead,
                .fileAllocated, .fileSynced, .fileDeleted, .fileClosed, .durable, .permitted:
                break
            }
        }
    }

    // MARK: Accept

    private mutating func accepted(_ completion: Completion) {
        if isDraining { return refuse(completion, "the broker is shutting down") }
        guard takeAcceptAllowance() else {
            counters.limits.count(.connectionsPerSecond)
            return refuse(completion, "too many new connections in a second (limits.connections-per-second-max)")
        }
        if limits.connectionsPerAddressMax > 0,
            !addresses.admits(completion.origin.address, max: limits.connectionsPerAddressMax)
        {
            counters.limits.count(.connectionsPerAddress)
            return refuse(completion, "too many connections from this address (limits.connections-per-address-max)")
        }
        guard sessions.liveCount < limits.connectionCountMax,
            case let handle:Handle<Session> = sessions.allocate(), !handle.isNone
        else {
            if let peer = fabric.shardWithRoom(besides: index) {
                counters.connectionsHandedOn &+= 1
                submissions.append(Submission(handOff: completion.value, to: UInt16(peer), from: completion.origin))
                return
            }
            counters.limits.count(.connections)
            let most = limits.connectionCountMax
            let reason =
                options.limits.connectionCountMax == most
                ? "limits.connections-max" : "RLIMIT_NOFILE, or io.uring.connections-per-ring"
            return refuse(completion, "all workers are full (\(most) connections each: \(reason))")
        }
        let session = sessions[handle.index]
        session.pointee.index = handle.index
        session.pointee.state = .fresh
        session.pointee.version = .v1_2
        session.pointee.listener = completion.origin.listener
        session.pointee.lastReceived = clock
        session.pointee.lastSent = clock
        session.pointee.since = clock
        session.pointee.number = takeConnectionNumber()
        if limits.needsAddresses { addresses.enter(handle.index, completion.origin.address) }
        counters.connectionsAccepted &+= 1
        reportLoad()
        submissions.append(Submission(.adopt, connection: handle.slot, value: completion.value))
        arm(session, after: UInt32(limits.connectMillisecondsMax))
    }

    private mutating func refuse(_ completion: Completion, _ reason: String) {
        counters.connectionsRefused &+= 1
        submissions.append(Submission(.refuse, value: completion.value))
        notice(.connectionRefused, descriptor: completion.value, at: completion.origin.listener, reason)
    }

    func reportLoad() {
        fabric.report(shard: index, connectionCount: sessions.liveCount, max: limits.connectionCountMax)
    }

    /// A bucket of one second of the configured rate.
    private mutating func takeAcceptAllowance() -> Bool {
        guard limits.connectionsPerSecondMax > 0 else { return true }
        let elapsed = clock &- acceptAllowanceSince
        if elapsed >= 1000 {
            acceptAllowanceSince = clock
            acceptAllowance = UInt64(limits.connectionsPerSecondMax)
        }
        guard acceptAllowance > 0 else { return false }
        acceptAllowance -= 1
        return true
    }

    /// Those who are in stay; the listener rests until there may be room.
    private mutating func acceptFailed(_ completion: Completion) {
        notice(.acceptFailed, "\(errorText(-completion.value)); the next attempt is in 100 ms")
        if acceptTimer == 0 {
            acceptTimer = timers.schedule(at: now + 100_000_000, kind: TimerKind.accept.rawValue, owner: .none)
        }
    }

    // MARK: Receive

    private mutating func received(_ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int) {
        counters.bytesReceived &+= UInt64(count)
        session.pointee.lastReceived = clock
        guard session.pointee.state.isOpen else { return }  // thrown away
        if session.pointee.input == 0 && !session.pointee.flags.contains(.suspended) {
            var state = ParserState()
            let consumed = process(FrameContext(session), bytes, count, &state)
            if consumed < count { keepInput(session, bytes + consumed, count - consumed, state) }
        } else {
            guard appendInput(session, bytes, count) else { return }
            if !session.pointee.flags.contains(.suspended) { processInput(session) }
        }
        // What is cut short and larger than what consumers say is a publisher's: it would only wait when it is whole.
        if Int(session.pointee.inputByteCount) > Self.consumerFrameByteCountMax,
            session.pointee.state == .connected, !session.pointee.flags.contains(.suspended),
            messagesFill(percent: 100) || inputIsTight && !partialInput(session).pointee.isAdmitted
        {
            // Where it goes is not known yet: probably where the last one went.
            let last = session.pointee.lastDestination
            let isTopic = destinations.find(last)?.pointee.kind == .topic && !destinations.keepsMessages(last.index)
            if isTopic, !topicsFillMemory, !inputIsTight { return }
            _ = waitForRoom(FrameContext(session), isTopic: isTopic)
        }
    }

    /// Parses what the session's input block holds, and keeps the rest.
    mutating func processInput(_ session: UnsafeMutablePointer<Session>) {
        let block = session.pointee.input
        if block == 0 { return }
        let base = memory.blocks.base(block)
        let partial = base.assumingMemoryBound(to: PartialInput.self)
        let bytes = base + PartialInput.byteCount
        let count = Int(session.pointee.inputByteCount)
        var state = partial.pointee.parser
        // The block is not the session's while frames in it are applied: ending the session must not free it.
        unlistInput(session)
        session.pointee.input = 0
        session.pointee.inputByteCount = 0
        let consumed = process(FrameContext(session, .keptInput), bytes, count, &state)
        guard consumed < count, session.pointee.state.isOpen else { return releaseInput(block) }
        if consumed > 0 {
            partial.pointee.since = clock
            dismiss(partial)
            memmove(bytes, bytes + consumed, count - consumed)
        }
        partial.pointee.parser = state
        session.pointee.input = block
        session.pointee.inputByteCount = UInt32(count - consumed)
        listInput(session)
        armFrameDeadline(session)
    }

    /// Applies the whole frames in `bytes`; returns how many bytes are done with. `state` is left as the parser left it.
    private mutating func process(
        _ context: FrameContext, _ bytes: UnsafeRawPointer, _ count: Int, _ state: inout ParserState
    ) -> Int {
        let session = context.session
        var offset = 0
        let allowance = recordAllowance
        while offset < count {
            let isFresh = session.pointee.state == .fresh
            let result = parseFrame(
                bytes + offset, count - offset, version: session.pointee.version, expectsConnect: isFresh,
                limits: frameLimits, state: &state, frame: &frame, error: &frameError)
            switch result {
            case .frame:
                let byteCount = frame.byteCount
                if isFresh, byteCount > limits.preConnectByteCountMax {
                    failBeforeConnected(session)
                    return count
                }
                counters.framesReceived &+= 1
                let allowanceBefore = recordAllowance
                if case .retry = apply(context) {
                    state = ParserState()
                    return offset
                }
                state = ParserState()
                offset += byteCount
                guard session.pointee.state.isOpen else { return count }
                if session.pointee.flags.contains(.suspended) { return offset }
                if recordAllowance != allowanceBefore, offset < count,
                    recordAllowance <= 0 || allowance - recordAllowance >= Self.recordsPerSessionMax
                {
                    suspend(session)
                    resumeSoon(session)
                    return offset
                }
            case .idle:
                state = ParserState()
                if isFresh {
                    // Line ends before CONNECT count too.
                    session.pointee.lineEndByteCount &+= UInt32(count - offset)
                    if Int(session.pointee.lineEndByteCount) > limits.preConnectByteCountMax {
                        failBeforeConnected(session)
                    }
                }
                return count
            case .incomplete:
                if isFresh, count - offset > limits.preConnectByteCountMax {
                    failBeforeConnected(session)
                    return count
                }
                return offset
            case .failed:
                frameFailed(context, UnsafeRawBufferPointer(start: bytes + offset, count: count - offset))
                return count
            }
        }
        return offset
    }

    /// What one client's frames may take of a turn's `recordAllowance` at a time.
    private static var recordsPerSessionMax: Int { 16 }
    /// So many bytes that a connection leaves behind take as long to free as a record.
    private static var bytesPerRecord: Int { 32 * 1024 }

    /// Borrows a block for a frame cut short; `bytes` are the driver's and go back to it.
    private mutating func keepInput(
        _ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int, _ state: ParserState
    ) {
        guard session.pointee.state.isOpen else { return }
        let block = memory.allocateInput(byteCount: PartialInput.byteCount + count + 64)
        guard block != 0 else { return outOfMemory(session) }
        let base = memory.blocks.base(block)
        base.assumingMemoryBound(to: PartialInput.self).initialize(to: PartialInput(parser: state, since: clock))
        memcpy(base + PartialInput.byteCount, bytes, count)
        session.pointee.input = block
        session.pointee.inputByteCount = UInt32(count)
        listInput(session)
        armFrameDeadline(session)
    }

    /// Appends to the session's input block, which grows by doubling as bytes arrive, never from a content-length.
    private mutating func appendInput(
        _ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int
    ) -> Bool {
        if session.pointee.input == 0 {
            keepInput(session, bytes, count, ParserState())
            return session.pointee.input != 0
        }
        let held = Int(session.pointee.inputByteCount)
        let needed = PartialInput.byteCount + held + count
        if needed > memory.blocks.capacity(session.pointee.input), !extendInput(session, byteCount: needed) {
            let larger = memory.allocateInput(byteCount: max(needed, (PartialInput.byteCount + held) * 2))
            guard larger != 0 else {
                outOfMemory(session)
                return false
            }
            memcpy(memory.blocks.base(larger), memory.blocks.base(session.pointee.input), PartialInput.byteCount + held)
            partialInput(session).pointee.isAdmitted = false  // the copy is
            releaseInput(session.pointee.input)
            session.pointee.input = larger
            if !partialInput(session).pointee.isListed { listInput(session) }
        }
        memcpy(memory.blocks.base(session.pointee.input) + PartialInput.byteCount + held, bytes, count)
        session.pointee.inputByteCount = UInt32(held + count)
        return true
    }

    mutating func outOfMemory(_ session: UnsafeMutablePointer<Session>) {
        counters.limits.count(.messageMemory)
        notice(.memoryLimit, session: session.pointee.index, "no memory for the client's frame: it is disconnected")
        fail(session, Refusal.memory.message, Refusal.memory.explanation(limits))
    }

    private mutating func receiveEnded(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.flags.insert(.peerEnded)
        switch session.pointee.state {
        case .fresh: end(session)
        // Its frames are still to come.
        case .authenticating: break
        case .connected: endIfPeerHasEnded(session)
        case .ending: break
        case .lingering: close(session)
        case .closing: break
        }
    }

    /// A client that ended its sending side has all it sent processed and what is due to it delivered, first.
    mutating func endIfPeerHasEnded(_ session: UnsafeMutablePointer<Session>) {
        guard session.pointee.state == .connected, session.pointee.flags.contains(.peerEnded),
            !session.pointee.flags.contains(.suspended), session.pointee.pendings.isEmpty
        else { return }
        end(session)
    }

    /// What many records hang on is taken apart when there is time: until then the failure has not been noticed yet.
    mutating func connectionFailed(_ session: UnsafeMutablePointer<Session>) {
        guard session.pointee.state != .closing else { return }
        if recordAllowance <= 0, Int(session.pointee.subscriptionCount) > Self.recordsPerSessionMax {
            return failedSessions.append(session.pointee.handle)
        }
        session.pointee.flags.insert(.isBroken)
        detach(session)
        dropOutput(session)
        close(session)
    }

    /// Start of turn: what there was no time for. At least one ends in each turn.
    mutating func endFailedSessions() {
        var count = 0
        while count < failedSessions.count, recordAllowance > 0 {
            if let session = sessions.find(failedSessions[count]) { connectionFailed(session) }
            count += 1
        }
        failedSessions.removeFirst(count)
    }

    // MARK: Suspend and resume

    /// Stops parsing until `resumeSoon`; what is unread stays in the socket.
    mutating func suspend(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.flags.insert(.suspended)
        if !session.pointee.flags.contains(.receivePaused) {
            session.pointee.flags.insert(.receivePaused)
            submissions.append(Submission(.pauseReceive, connection: session.pointee.slot))
        }
    }

    /// Parsing goes on at the end of this turn: never inside the call that made it possible.
    mutating func resumeSoon(_ session: UnsafeMutablePointer<Session>) {
        resumableSessions.append(session.pointee.handle)
    }

    mutating func resumeSessions() {
        var i = 0
        // Sessions that resume may let others resume; each does so at most once a turn, the rest wait for the next.
        let count = resumableSessions.count
        // Newcomers must not keep those who wait from their turn.
        recordAllowance = max(recordAllowance, Self.recordsPerTurnMax / 2)
        while i < count, recordAllowance > 0 {
            if let session = sessions.find(resumableSessions[i]), session.pointee.flags.contains(.suspended) {
                resume(session)
            }
            i += 1
        }
        resumableSessions.removeFirst(i)
    }

    private mutating func resume(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.flags.remove(.suspended)
        guard session.pointee.state == .connected else { return }
        if session.pointee.input != 0 {
            memory.blocks.base(session.pointee.input).assumingMemoryBound(to: PartialInput.self).pointee.since = clock
        }
        processInput(session)
        guard session.pointee.state == .connected, !session.pointee.flags.contains(.suspended) else { return }
        if session.pointee.flags.contains(.receivePaused) {
            session.pointee.flags.remove(.receivePaused)
            session.pointee.lastReceived = clock
            submissions.append(Submission(.resumeReceive, connection: session.pointee.slot))
            // The pause suspended the check too.
            if session.pointee.receiveInterval != 0 { arm(session, after: receiveDeadline(session)) }
        }
        endIfPeerHasEnded(session)
    }

    // MARK: End

    /// Answers with ERROR and ends the connection: nothing behind the faulty frame is processed.
    mutating func fail(
        _ session: UnsafeMutablePointer<Session>, _ message: StaticString, _ explanation: String,
        receipt: UnsafeRawBufferPointer? = nil
    ) {
        guard session.pointee.state.isOpen else { return }
        notice(.protocolError, session: session.pointee.index, "\(message): \(explanation)")
        // What was routed to this session before the fault leaves before the ERROR.
        flushGroups(of: session)
        writeError(session, message, explanation, receipt: receipt)
        end(session)
    }

    /// Processes nothing more; flushes; then shuts down.
    mutating func end(_ session: UnsafeMutablePointer<Session>, _ end: ConsumerEnd = .failed) {
        guard session.pointee.state.isOpen else { return }
        if end == .left { session.pointee.flags.insert(.hasLeft) }
        detach(session, keepsFlights: true)
        session.pointee.state = .ending
        session.pointee.since = clock
        if session.pointee.flags.contains(.receivePaused) {
            // Reads on, so that a full receive buffer does not turn the close into a reset.
            session.pointee.flags.remove(.receivePaused)
            submissions.append(Submission(.resumeReceive, connection: session.pointee.slot))
        }
        arm(session, after: UInt32(limits.lingerMillisecondsMax))
        output.markDirty(session)
    }

    /// The output of an ending session is with the kernel.
    mutating func outputEnded(_ session: UnsafeMutablePointer<Session>) {
        if !session.pointee.subscriptions.isEmpty { detach(session) }
        if session.pointee.flags.contains(.peerEnded) { return close(session) }
        session.pointee.state = .lingering
        // The time to read is that of the last byte. A drain does not give it again to those who have had it.
        session.pointee.since = isDraining ? session.pointee.lastProgress : clock
        let elapsed = clock &- session.pointee.since
        let patience = UInt32(limits.lingerMillisecondsMax)
        guard elapsed < patience else { return close(session) }
        arm(session, after: patience - elapsed)
        submissions.append(Submission(.shutdownWrite, connection: session.pointee.slot))
    }

    mutating func close(_ session: UnsafeMutablePointer<Session>, reset: Bool = false) {
        guard session.pointee.state != .closing else { return }
        if !session.pointee.subscriptions.isEmpty {
            // Its output was never flushed.
            session.pointee.flags.insert(.isBroken)
            detach(session)
        }
        session.pointee.state = .closing
        timers.cancel(session.pointee.timer)
        session.pointee.timer = 0
        if session.pointee.flags.contains(.awaitsWritable) { recordAllowance -= Self.recordsPerFullSocket }
        submissions.append(
            Submission(.close, connection: session.pointee.slot, value: reset ? 1 : 0))
    }

    /// What the kernel has not sent by then it frees buffer by buffer: a megabyte takes a quarter of a millisecond.
    private static var recordsPerFullSocket: Int { 32 }

    /// Cuts a session at the end of the turn; safe while its group is being walked.
    ///
    /// - Parameter limit: which one it is that its output, or what it does not acknowledge, has reached.
    ///   The subscription is one of `group`; none: of no single one.
    mutating func doom(_ session: UnsafeMutablePointer<Session>, for limit: LimitKind, group: Index<Group> = .none) {
        guard !session.pointee.flags.contains(.doomed) else { return }
        session.pointee.flags.insert(.doomed)
        doomedSessions.append(
            DoomedSession(
                session: session.pointee.handle, limit: limit, group: group.isNone ? groups.flushed : group))
    }

    /// Cuts those who read too slowly: there is no room to tell them why, but the log does. Who is left when the turn's
    /// allowance is used up is cut in the next one.
    mutating func cutDoomed() {
        var count = 0
        while count < doomedSessions.count, count == 0 || recordAllowance > 0 {
            let limit = doomedSessions[count].limit
            let group = doomedSessions[count].group
            let doomed = sessions.find(doomedSessions[count].session)
            count += 1
            guard let session = doomed, session.pointee.state != .closing else { continue }
            counters.slowConsumers &+= 1
            counters.limits.count(limit)
            noticeSlowConsumer(session, limit, group: group)
            session.pointee.flags.insert(.isBroken)
            detach(session)
            dropOutput(session)
            close(session, reset: true)
        }
        doomedSessions.removeFirst(count)
    }

    /// Takes a session out of everything but its own output: subscriptions, transactions, temporary destinations,
    /// pending operations, input. What it had not acknowledged returns to its queues.
    ///
    /// - Parameter keepsFlights: Subscriptions to queues stay, paused, while messages of theirs wait in the output: it is
    ///   not decided yet whether these are delivered. They are when the kernel has them (`landFlights` tells of those of
    ///   `auto`, `outputEnded` of all), and where it never takes them they return unseen.
    mutating func detach(_ session: UnsafeMutablePointer<Session>, keepsFlights: Bool = false) {
        // When the broker drains, it is not the consumers that fail.
        let end: ConsumerEnd = isDraining || session.pointee.flags.contains(.hasLeft) ? .left : .failed
        recordAllowance -= Int(session.pointee.subscriptionCount)
        let byteCountBefore = memory.blocks.byteCountInUse
        while !session.pointee.pendings.isEmpty { dropPending(session) }
        while !session.pointee.transactions.isEmpty { abort(session, session.pointee.transactions.first) }
        // Else what one subscription lets go would be given to the next, or to itself, before that ends too.
        if !session.pointee.subscriptions.isEmpty { pauseConsumers(session) }
        var index = session.pointee.subscriptions.first
        while !index.isNone {
            let next = subscriptions.next(after: index)
            if !keepsFlights || !isInFlight(index) { unsubscribe(session, index, end) }
            index = next
        }
        if session.pointee.subscriptions.isEmpty { subscriptions.dropFlights(session) }
        while !session.pointee.temporaries.isEmpty { removeTemporary(session) }
        pendings.forgetMarked(session)
        if session.pointee.input != 0 {
            unlistInput(session)
            releaseInput(session.pointee.input)
            session.pointee.input = 0
            session.pointee.inputByteCount = 0
        }
        session.pointee.flags.remove(.suspended)
        chargeForFreed(since: byteCountBefore)
    }

    /// What others hold too costs nothing to let go: the memory that is free now is what has taken time.
    mutating func chargeForFreed(since byteCountBefore: Int) {
        recordAllowance -= max(byteCountBefore - memory.blocks.byteCountInUse, 0) / Self.bytesPerRecord
    }

    private mutating func closed(_ session: UnsafeMutablePointer<Session>) {
        invariant(session.pointee.state == .closing, "only a connection that was closed reports that it is closed")
        dropOutput(session, isReleased: true)
        if limits.needsAddresses { addresses.leave(session.pointee.index) }
        timers.cancel(session.pointee.timer)
        dropLogin(session)
        counters.connectionsClosed &+= 1
        sessions.free(session.pointee.index)
        reportLoad()
    }
}
