import Glibc
public import Permissions
import STOMP
import Slabs

// What a client may do: asked where a frame names a destination, before anything of the frame is done. Without permissions
// (`BrokerOptions.access`) nothing is asked.
extension Shard {
    // MARK: Destinations

    /// Whether the client of the frame may use a destination.
    ///
    /// - Parameters:
    ///   - action: `publish` or `subscribe`.
    ///   - name: its canonical name.
    ///   - index: where it is. None: it is not there yet.
    /// - Returns: False: it was answered with ERROR.
    @inline(never)
    mutating func admits(
        _ context: FrameContext, _ action: AccessAction, _ name: UnsafeRawBufferPointer, _ index: Index<Destination>,
        isPattern: Bool
    ) -> Bool {
        // What a COMMIT applies was asked when it came, and again when the permissions changed: half of it would be worse.
        if context.isCommitting { return true }
        let session = context.session.pointee.index
        if mayUse(session, action, name, index, isPattern: isPattern) { return true }
        refuse(context.session, action, name, receipt: receiptOfFrame(context))
        return false
    }

    private mutating func refuse(
        _ session: UnsafeMutablePointer<Session>, _ action: AccessAction, _ name: UnsafeRawBufferPointer,
        receipt: UnsafeRawBufferPointer?
    ) {
        let verb = action == .publish ? "SEND to" : "SUBSCRIBE to"
        refuseAccess(
            session, "\(userText(session.pointee.index)) may not \(verb) '\(nameText(name))'", nameText(name),
            receipt: receipt)
    }

    mutating func mayUse(
        _ session: Index<Session>, _ action: AccessAction, _ name: UnsafeRawBufferPointer, _ index: Index<Destination>,
        isPattern: Bool
    ) -> Bool {
        let handle = index.isNone ? .none : destinations.handle(index)
        if !index.isNone, let answer = gate.answer(session, action, handle) { return answer }
        let isAllowed =
            gate.allows(session, action, visible(name), isPattern: isPattern)
            && (policies.index(of: name) != 0 || gate.allows(session, .create, visible(name), isPattern: isPattern))
        if !index.isNone { gate.remember(isAllowed, session, action, handle) }
        return isAllowed
    }

    /// Whether the client may make a temporary destination. False: it was answered with ERROR.
    ///
    /// - Parameter written: as it is written, `/temp-queue/NAME`: the canonical name is another one on each connection.
    mutating func admitsTemporary(_ context: FrameContext, _ written: UnsafeRawBufferPointer) -> Bool {
        if context.isCommitting { return true }
        let session = context.session.pointee.index
        if gate.allows(session, .create, written, isPattern: false) { return true }
        refuseAccess(
            context.session, "\(userText(session)) may not create '\(printable(written))'", printable(written),
            receipt: receiptOfFrame(context))
        return false
    }

    /// Whether the client may have others send there: to what it could send to itself, or read. Else a service that may do
    /// more would do it for it. False: it was answered with ERROR.
    mutating func admitsIndirect(
        _ context: FrameContext, _ header: HeaderName, _ name: UnsafeRawBufferPointer, orReads: Bool
    ) -> Bool {
        if context.isCommitting { return true }
        let session = context.session.pointee.index
        if mayUse(session, .publish, name, .none, isPattern: false)
            || orReads && mayUse(session, .subscribe, name, .none, isPattern: false)
        {
            return true
        }
        refuseAccess(
            context.session, "\(userText(session)) may not name '\(nameText(name))' in \(header.text)",
            nameText(name),
            receipt: receiptOfFrame(context))
        return false
    }

    /// Whether the client may say what a queue is like (`QueueRequest`): for all who use it from then on. It must be one that
    /// it may create, also where a policy names it; and where messages are to go elsewhere, one that it may read, or it would
    /// get at what others send. False: it was answered with ERROR.
    mutating func admitsArguments(
        _ context: FrameContext, _ request: QueueRequest, _ name: UnsafeRawBufferPointer
    ) -> Bool {
        if context.isCommitting { return true }
        let session = context.session.pointee.index
        let mayCreate = gate.allows(session, .create, visible(name), isPattern: false)
        if mayCreate,
            request.deadLetterByteCount == 0 || gate.allows(session, .subscribe, visible(name), isPattern: false)
        {
            return true
        }
        let verb = mayCreate ? "SUBSCRIBE to" : "create"
        let headers = mayCreate ? "\(HeaderName.xDeadLetterRoutingKey.text)" : "headers such as x-max-length"
        refuseAccess(
            context.session,
            "\(userText(session)) may not \(verb) '\(nameText(name))', nor send \(headers) to it",
            nameText(name), receipt: receiptOfFrame(context))
        return false
    }

    /// `reply-to` names no temporary destination of the sender's. What is no destination at all is an ordinary header.
    ///
    /// Whoever answers may send to it as it is, and SEND takes a bare name too, and cuts blanks off in 1.0.
    mutating func admitsReplyTo(_ context: FrameContext, _ value: UnsafeRawBufferPointer) -> Bool {
        guard
            let parsed = try? DestinationName.parse(
                withoutBlanks(value), bareNamePrefix: options.bareNamePrefix,
                byteCountMax: limits.destinationNameByteCountMax,
                levelCountMax: limits.destinationLevelCountMax, owner: { "" },
                host: hosts.prefix(of: context.session.pointee.index), into: scratch.name)
        else { return true }
        switch parsed.kind {
        // Its name cannot be guessed.
        case .replyQueue, .replyTopic, .temporaryQueue, .temporaryTopic: return true
        case .topic, .pattern, .queue, .queuePattern:
            let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
            return admitsIndirect(context, .replyTo, name, orReads: true)
        }
    }

    /// `user-id` of SEND must be the sender's own: receivers believe it. False: it was answered with ERROR.
    mutating func admitsUserID(_ context: FrameContext) -> Bool {
        let session = context.session
        guard let value = frame.value(.userId, into: scratch.value, version: session.pointee.version) else {
            return true
        }
        let user = gate.user(of: session.pointee.index) ?? []
        if !user.isEmpty, user.count == value.count, user.elementsEqual(value) { return true }
        refuseAccess(
            session,
            "user-id must be the sender's own name, or be left out; \(userText(session.pointee.index)) sent another one",
            "",
            receipt: receiptOfFrame(context))
        return false
    }

    // MARK: Refusing

    /// A client asked for what it may not do: ERROR, counted and logged; the connection ends.
    ///
    /// - Parameter receipt: of the frame that asked; nil: none did.
    private mutating func refuseAccess(
        _ session: UnsafeMutablePointer<Session>, _ explanation: String, _ destination: String,
        receipt: UnsafeRawBufferPointer?
    ) {
        guard session.pointee.state.isOpen else { return }
        counters.accessRefused &+= 1
        noticeAccess(.accessRefused, session, explanation, destination)
        flushEncodings(of: session)
        writeError(session, "Access refused", explanation, receipt: receipt)
        end(session)
    }

    /// A client may not connect, or not stay.
    ///
    /// - Parameter told: nil: the client is told what the log is.
    mutating func refuseLogin(
        _ session: UnsafeMutablePointer<Session>, _ message: StaticString, _ explanation: String, told: String? = nil,
        kind: Notice.Kind = .loginRefused
    ) {
        guard session.pointee.state.isOpen else { return }
        counters.loginsRefused &+= 1
        noticeAccess(kind, session, explanation, "")
        flushEncodings(of: session)
        writeError(session, message, told ?? explanation, receipt: nil)
        end(session)
    }

    mutating func userText(_ session: Index<Session>) -> String {
        guard let user = gate.user(of: session), !user.isEmpty else { return "a client without a login" }
        return "user '\(user.withUnsafeBytes { printable($0) })'"
    }

    // MARK: Time

    /// When the session's token expires, in milliseconds from now. nil: never.
    private func tokenMilliseconds(_ session: UnsafeMutablePointer<Session>) -> UInt32? {
        guard let expiry = gate.expiry(of: session.pointee.index) else { return nil }
        return UInt32(clamping: expiry > wallMilliseconds ? expiry - wallMilliseconds : 0)
    }

    mutating func armTokenDeadline(_ session: UnsafeMutablePointer<Session>) {
        if let milliseconds = tokenMilliseconds(session) { arm(session, after: milliseconds) }
    }

    /// Ends a session whose token has expired; else makes sure that it is looked at in time.
    ///
    /// - Returns: whether it has ended.
    mutating func endIfTokenExpired(_ session: UnsafeMutablePointer<Session>) -> Bool {
        guard let milliseconds = tokenMilliseconds(session) else { return false }
        guard milliseconds == 0 else {
            arm(session, after: milliseconds)
            return false
        }
        refuseLogin(
            session, "Token expired", "the token of this connection has expired; connect again with a new one",
            kind: .sessionExpired)
        return true
    }

    // MARK: Another table

    /// Other permissions are in force with the next turn: for all that clients do from then on, and for what they have
    /// subscribed to and begun before, within a few turns.
    public mutating func replaceAccess(_ table: AccessTable) {
        gate.replace(table)
        if gate.isWalking { hasAccessWork = true }
    }

    /// What was decided about clients, and the walk after a reload.
    @inline(never)
    mutating func doAccessWork() {
        if gate.isWalking { walkSessions() }
        if !answers.isEmpty { applyAnswers() }
        hasAccessWork = gate.isWalking
    }

    /// Sessions that are looked at in one turn after the permissions have changed.
    private static var sessionsPerTurnMax: Int { 1024 }

    /// Goes on with the walk over all sessions.
    private mutating func walkSessions() {
        var count = 0
        while count < Self.sessionsPerTurnMax, recordAllowance > 0 || count == 0 {
            let index = sessions.nextLive(after: gate.lastPassed)
            if index.isNone { return gate.endWalk() }
            count += 1
            let session = sessions[index]
            let mayStay = gate.pass(index)
            guard session.pointee.state == .connected else { continue }
            guard mayStay else {
                refuseLogin(session, "Access refused", "\(userText(index)) may not be connected any more")
                continue
            }
            if hosts.isOn, !admitsHost(session) { continue }
            updateRate(session)
            // The next SEND asks again.
            session.pointee.lastDestination = .none
            recheckSubscriptions(session)
            recheckTransactions(session)
        }
    }

    mutating func recheckSubscriptions(_ session: UnsafeMutablePointer<Session>) {
        var place = session.pointee.subscriptions.first
        recordAllowance -= Int(session.pointee.subscriptionCount)
        while !place.isNone {
            let index = subscriptions[place].pointee.destination
            let name = nameOf(index)
            let isPattern = destinations[index].pointee.kind == .pattern
            let isDurable = destinations[index].pointee.marks.contains(.durableQueue)
            if isDurable
                ? !mayConsume(session.pointee.index, fromDurable: index)
                : !destinations[index].pointee.isTemporary
                    && !mayUse(session.pointee.index, .subscribe, name, index, isPattern: isPattern)
            {
                return refuse(session, .subscribe, name, receipt: nil)
            }
            place = subscriptions.next(after: place)
        }
    }

    mutating func recheckTransactions(_ session: UnsafeMutablePointer<Session>) {
        var index = session.pointee.transactions.first
        while !index.isNone, session.pointee.state == .connected {
            recordAllowance -= Int(transactions[index].pointee.frameCount) / 4
            var cursor = KeptCursor()
            while session.pointee.state == .connected, let kept = transactions.next(&cursor, in: index, memory) {
                guard case .send = kept.pointee.command else { continue }
                parse(session, kept)
                let written = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
                guard
                    let parsed = try? DestinationName.parse(
                        written, bareNamePrefix: options.bareNamePrefix,
                        byteCountMax: limits.destinationNameByteCountMax,
                        levelCountMax: limits.destinationLevelCountMax, owner: { "" },
                        host: hosts.prefix(of: session.pointee.index), into: scratch.name),
                    parsed.kind == .topic || parsed.kind == .queue
                else { continue }
                let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
                if !mayUse(session.pointee.index, .publish, name, findDestination(name), isPattern: false) {
                    return refuse(session, .publish, name, receipt: nil)
                }
            }
            index = transactions.next(after: index)
        }
    }
}
