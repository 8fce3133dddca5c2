import Glibc
import Permissions
import STOMP
import Slabs

// From CONNECT to CONNECTED. Where somebody has to be asked, the frames behind CONNECT wait, unread, and the time that a
// client has to become CONNECTED goes on.
extension Shard {
    /// What is asked since the last call.
    public mutating func takeQuestions() -> [AuthenticationQuestion] {
        if questions.isEmpty { return [] }
        let taken = questions
        questions.removeAll(keepingCapacity: true)
        hasQuestions = false
        return taken
    }

    /// The CONNECT under the parser is in order.
    mutating func authenticate(_ session: UnsafeMutablePointer<Session>) {
        switch options.authentication {
        case .none:
            if gate.isOn { enterAsAnybody(session) }
            if hosts.isOn, !entersHost(session) { return }
            welcome(session)
        case .external:
            session.pointee.state = .authenticating
            suspend(session)
            hasQuestions = true
            var question = AuthenticationQuestion(
                connection: session.pointee.slot, clientID: frame.rawValue(.clientId).map(Array.init),
                address: sessions.address(of: session.pointee.index), listener: session.pointee.listener)
            question.login = frame.rawValue(.login).map(Array.init)
            question.passcode = frame.rawValue(.passcode).map(Array.init)
            if hosts.isOn { question.host = hosts.name(of: session.pointee.index) }
            questions.append(question)
        }
    }

    /// Longer ones are in no pattern.
    private static var clientIDByteCountMax: Int { 256 }

    /// Nobody is asked who the client is, but its listener may restrict it.
    private mutating func enterAsAnybody(_ session: UnsafeMutablePointer<Session>) {
        let clientID = frame.rawValue(.clientId).flatMap { $0.count <= Self.clientIDByteCountMax ? Array($0) : nil }
        let entrance = gate.enter(
            session.pointee.index, .anybody, clientID: clientID, at: session.pointee.listener, now: now)
        invariant(entrance == .entered, "a table of permissions without authentication is for anybody")
    }

    mutating func authenticated(_ session: UnsafeMutablePointer<Session>, isAllowed: Bool) {
        guard session.pointee.state == .authenticating else {
            counters.staleCompletions &+= 1
            return
        }
        guard isAllowed else {
            return fail(session, "Access refused", "the login is unknown, or the passcode is wrong")
        }
        if hosts.isOn, !entersHost(session) { return }
        welcome(session)
        resumeSoon(session)
    }

    /// What has been decided about clients; applied by the next turn.
    public mutating func answer(_ answers: [AuthenticationAnswer]) {
        self.answers += answers
        hasAccessWork = true
    }

    mutating func applyAnswers() {
        for answer in answers {
            guard let session = sessions.find(Handle(answer.connection)),
                session.pointee.state == .authenticating
                    || session.pointee.state == .connected && session.pointee.flags.contains(.isRenewing)
            else {
                counters.staleCompletions &+= 1
                continue
            }
            if session.pointee.state != .authenticating {
                renewed(session, answer)
                continue
            }
            guard let identity = answer.identity else {
                refuseLogin(session, "Access refused", "\(answer.explanation)", told: "\(answer.told)")
                continue
            }
            if gate.isOn, !admits(session, identity, answer.clientID) { continue }
            if hosts.isOn, !entersHost(session) { continue }
            welcome(session)
            if gate.isOn { armTokenDeadline(session) }
            resumeSoon(session)
        }
        answers.removeAll(keepingCapacity: true)
    }

    /// Whether the client may be connected. False: it was answered with ERROR.
    private mutating func admits(
        _ session: UnsafeMutablePointer<Session>, _ identity: AccessIdentity, _ clientID: [UInt8]?
    ) -> Bool {
        let entrance = gate.enter(
            session.pointee.index, identity, clientID: clientID, at: session.pointee.listener, now: now)
        switch entrance {
        case .entered:
            updateRate(session)
            return true
        case .refused: refuseLogin(session, "Access refused", "this user may not be connected any more")
        case .tooManyConnections(let most):
            let user = identity.user.withUnsafeBytes { printable($0) }
            refuseLogin(
                session, "Too many connections",
                (user.isEmpty ? "clients without a login" : "user '\(user)'")
                    + " may have \(most) connections (connections-max of its roles)")
        }
        return false
    }

    private mutating func welcome(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.state = .connected
        session.pointee.since = clock
        writeConnected(session)
        timers.cancel(session.pointee.timer)
        session.pointee.timer = 0
        if session.pointee.sendInterval != 0 { arm(session, after: sendDeadline(session)) }
        if session.pointee.receiveInterval != 0 { arm(session, after: receiveDeadline(session)) }
    }
}
