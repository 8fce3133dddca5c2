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
        // Most of them, past two jump tables.
        if completion.kind == .received { return applyReceived(completion) }
        switch completion.kind {
        case .accepted: accepted(completion)
        case .acceptFailed: acceptFailed(completion)
        case .sendIncomplete: break
        // Another worker may have removed the last segment of earlier lives.
        case .woken: if store.awaitsEarlier { store.hasWork = true }
        case .durable: becameDurable(upTo: completion.address)
        case .permitted: permitted(Handle(completion.connection), isAllowed: completion.value == 0)
        case .fileOpened, .fileAppended, .fileRead, .fileAllocated, .fileSynced, .fileDeleted, .fileRenamed,
            .fileClosed:
            fileAnswered(completion)
        case .received: break  // applied above
        case .receiveEnded, .receiveFailed, .sendReleased, .writable, .closed, .authenticated, .identified:
            guard let session = sessions.find(Handle(completion.connection)) else {
                counters.staleCompletions &+= 1
                return
            }
            switch completion.kind {
            case .receiveEnded: receiveEnded(session)
            case .receiveFailed: connectionFailed(session)
            case .sendReleased: sendReleased(session, completion.value)
            case .writable: output.writable(session)
            case .closed: closed(session)
            case .authenticated: authenticated(session, isAllowed: completion.value == 0)
            case .identified: identified(session, completion)
            case .received, .accepted, .acceptFailed, .woken, .sendIncomplete, .fileOpened, .fileAppended, .fileRead,
                .fileAllocated, .fileSynced, .fileDeleted, .fileRenamed, .fileClosed, .durable, .permitted:
                break
            }
        }
    }

    @inline(__always)
    private mutating func applyReceived(_ completion: Completion) {
        guard let session = sessions.find(Handle(completion.connection)) else {
            counters.staleCompletions &+= 1
            return
        }
        received(session, completion.pointer!, Int(completion.value))
        if session.pointee.flags.contains(.hasRate) { spendBytes(session, Int(completion.value)) }
    }

    // MARK: Accept

    private mutating func accepted(_ completion: Completion) {
        if isDraining { return refuse(completion, "the broker is shutting down") }
        var origin = completion.origin
        if listeners.hasOptions {
            guard passesListener(completion) else { return }
            origin = accountableOrigin(origin)
        }
        switch sessions.admit(origin, clock: clock) {
        case .admitted(let place):
            let session = sessions[place]
            if listeners.hasOptions { entered(session) }
            counters.connectionsAccepted &+= 1
            reportLoad()
            submissions.append(Submission(.adopt, connection: session.pointee.slot, value: completion.value))
            arm(session, after: UInt32(limits.connectMillisecondsMax))
        case .refused(let limit):
            leaveListener(origin.listener)
            if limit == .connections, let peer = fabric.shardWithRoom(besides: index) {
                counters.connectionsHandedOn &+= 1
                submissions.append(Submission(handOff: completion.value, to: UInt16(peer), from: completion.origin))
                return
            }
            counters.limits.count(limit)
            refuse(completion, reasonToRefuse(limit))
        }
    }

    mutating func reasonToRefuse(_ limit: LimitKind) -> String {
        switch limit {
        case .connectionsPerSecond: return "too many new connections in a second (limits.\(limit.key))"
        case .connectionsPerAddress: return "too many connections from this address (limits.\(limit.key))"
        default:
            let most = limits.connectionCountMax
            let reason =
                options.limits.connectionCountMax == most
                ? "limits.connections-max" : "RLIMIT_NOFILE, or io.uring.connections-per-ring"
            return "all workers are full (\(most) connections each: \(reason))"
        }
    }

    mutating func refuse(_ completion: Completion, _ reason: String) {
        counters.connectionsRefused &+= 1
        submissions.append(Submission(.refuse, value: completion.value))
        notice(.connectionRefused, descriptor: completion.value, at: completion.origin.listener, reason)
    }

    func reportLoad() {
        fabric.report(shard: index, connectionCount: sessions.liveCount, max: limits.connectionCountMax)
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
        if Int(session.pointee.inputByteCount) > MemoryBudget.consumerFrameByteCountMax,
            session.pointee.state == .connected, !session.pointee.flags.contains(.suspended),
            messagesFill(percent: 100) || memory.inputIsTight && !sessions.inputs.isAdmitted(session, in: memory)
        {
            // Where it goes is not known yet: probably where the last one went.
            let last = session.pointee.lastDestination
            let isTopic = destinations.find(last)?.pointee.kind == .topic && !destinations.keepsMessages(last.index)
            if isTopic, !topicsFillMemory, !memory.inputIsTight { return }
            _ = waitForRoom(FrameContext(session), isTopic: isTopic)
        }
    }

    /// Parses what is kept of the session's input, and keeps the rest.
    mutating func processInput(_ session: UnsafeMutablePointer<Session>) {
        guard let input = sessions.inputs.take(session, in: memory) else { return }
        var state = input.parser
        let consumed = process(FrameContext(session, .keptInput), input.bytes, input.byteCount, &state)
        guard consumed < input.byteCount, session.pointee.state.isOpen else {
            return sessions.inputs.release(input, memory: &memory)
        }
        let outcome = sessions.inputs.giveBack(
            input, behind: consumed, to: session, state, clock: clock, in: memory)
        _ = inputIsKept(session, outcome)
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
                if !session.pointee.flags.isDisjoint(with: .pauses), stopsAfterFrame(session) { return offset }
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

    /// Keeps what is left of the driver's bytes, which go back to it.
    private mutating func keepInput(
        _ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int, _ state: ParserState
    ) {
        guard session.pointee.state.isOpen else { return }
        let outcome = sessions.inputs.keep(session, bytes, count, state, clock: clock, memory: &memory)
        if inputIsKept(session, outcome) { armFrameDeadline(session) }
    }

    /// False: there was no memory, and the session ends.
    private mutating func appendInput(
        _ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int
    ) -> Bool {
        if session.pointee.input == 0 {
            keepInput(session, bytes, count, ParserState())
            return session.pointee.input != 0
        }
        return inputIsKept(session, sessions.inputs.append(session, bytes, count, memory: &memory))
    }

    private mutating func inputIsKept(_ session: UnsafeMutablePointer<Session>, _ outcome: InputOutcome) -> Bool {
        switch outcome {
        case .kept: break
        case .listed: if memory.inputIsTight { armRoom() }
        case .noMemory: outOfMemory(session)
        }
        return outcome != .noMemory
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
            return sessions.endLater(session)
        }
        session.pointee.flags.insert(.isBroken)
        detach(session)
        dropOutput(session)
        close(session)
    }

    /// Start of turn: what there was no time for. At least one ends in each turn.
    mutating func endFailedSessions() {
        while sessions.hasFailed, recordAllowance > 0 {
            if let session = sessions.nextFailed() { connectionFailed(session) }
        }
    }

    // MARK: Suspend and resume

    /// Stops parsing until `resumeSoon`; what is unread stays in the socket.
    mutating func suspend(_ session: UnsafeMutablePointer<Session>) {
        if sessions.suspend(session) {
            submissions.append(Submission(.pauseReceive, connection: session.pointee.slot))
        }
    }

    /// Parsing goes on at the end of this turn: never inside the call that made it possible.
    mutating func resumeSoon(_ session: UnsafeMutablePointer<Session>) { sessions.resumeSoon(session) }

    mutating func resumeSessions() {
        // Sessions that resume may let others resume; each does so at most once a turn, the rest wait for the next.
        var count = sessions.resumableCount
        // Newcomers must not keep those who wait from their turn.
        recordAllowance = max(recordAllowance, Self.recordsPerTurnMax / 2)
        while count > 0, recordAllowance > 0 {
            if let session = sessions.nextToResume() { resume(session) }
            count -= 1
        }
    }

    private mutating func resume(_ session: UnsafeMutablePointer<Session>) {
        guard session.pointee.state == .connected, !isKeptSlow(session) else { return }
        sessions.inputs.restart(session, clock: clock, in: memory)
        processInput(session)
        guard session.pointee.state == .connected, !session.pointee.flags.contains(.suspended) else { return }
        if sessions.resumeReceiving(session) {
            session.pointee.lastReceived = clock
            submissions.append(Submission(.resumeReceive, connection: session.pointee.slot))
            // The pause suspended the check too.
            if session.pointee.receiveInterval != 0 { arm(session, after: receiveDeadline(session)) }
        }
        endIfPeerHasEnded(session)
    }
}
