import Glibc
import IO
import STOMP
import Slabs

// What the log is told, and of whom.
extension Shard {
    /// What the operator should know since the last call. To be called before the next poll, while the driver knows the
    /// connections still.
    public mutating func takeNotices() -> [Notice] {
        if notices.isEmpty { return [] }
        let taken = notices
        notices.removeAll(keepingCapacity: true)
        hasNotices = false
        return taken
    }

    /// Tells the log, unless it was told too much of the kind within this second.
    ///
    /// - Parameter session: the client that it is about. None: none.
    mutating func notice(_ kind: Notice.Kind, session: Index<Session> = .none, _ text: String) {
        guard admitNotice(kind) else { return }
        var notice = Notice(kind: kind, text: text)
        if !session.isNone { notice.client = client(sessions[session]) }
        append(notice)
    }

    /// Tells the log of a connection that was not accepted.
    mutating func notice(_ kind: Notice.Kind, descriptor: Int32, at listener: ListenerID, _ text: String) {
        guard admitNotice(kind) else { return }
        var notice = Notice(kind: kind, text: text)
        notice.client = Notice.Client(descriptor: descriptor, listener: listener)
        append(notice)
    }

    /// - Parameter encoding: whose message was too much. None: no single one.
    mutating func noticeSlowConsumer(
        _ session: UnsafeMutablePointer<Session>, _ limit: LimitKind, encoding: Index<SharedEncoding>
    ) {
        guard admitNotice(.slowConsumer) else { return }
        var notice = Notice(
            kind: .slowConsumer,
            text: "\(session.pointee.outputByteCount) bytes waited to be sent (limits.\(limit.key))")
        notice.client = client(session)
        var subscription = session.pointee.subscriptions.first
        while !subscription.isNone, !encoding.isNone, subscriptions[subscription].pointee.encoding != encoding {
            subscription = subscriptions.next(after: subscription)
        }
        if subscription.isNone || encoding.isNone && session.pointee.subscriptionCount > 1 {
            notice.text += ", for \(session.pointee.subscriptionCount) subscriptions"
        } else {
            notice.subscription = printable(idOf(subscriptions[subscription].pointee.encoding))
            notice.destination = destinationText(subscriptions[subscription].pointee.destination)
        }
        append(notice)
    }

    /// - Parameter destination: what the client may not use. Empty: it is not about one.
    mutating func noticeAccess(
        _ kind: Notice.Kind, _ session: UnsafeMutablePointer<Session>, _ text: String, _ destination: String
    ) {
        guard admitNotice(kind) else { return }
        var notice = Notice(kind: kind, text: text)
        notice.client = client(session)
        notice.destination = destination
        append(notice)
    }

    private mutating func admitNotice(_ kind: Notice.Kind) -> Bool {
        counters.notices &+= 1
        if noticeAllowance.isOver(clock: clock) { summariseNotices() }
        if noticeAllowance.take(kind, clock: clock) { return true }
        counters.noticesSuppressed &+= 1
        if noticeTimer == 0 {
            noticeTimer = timers.schedule(
                at: now &+ 1_000_000_000, kind: TimerKind.notices.rawValue, owner: .none)
        }
        return false
    }

    /// The second is over: says what was not logged in it.
    mutating func summariseNotices() {
        for summary in noticeAllowance.summaries() { append(summary) }
    }

    mutating func append(_ notice: Notice) {
        notices.append(notice)
        hasNotices = true
    }

    private mutating func client(_ session: UnsafeMutablePointer<Session>) -> Notice.Client {
        var client = Notice.Client()
        client.number = session.pointee.number
        client.listener = session.pointee.listener
        client.connection = session.pointee.slot
        if session.pointee.state != .fresh, session.pointee.state != .authenticating {
            client.session = sessionText(session)
        }
        let login = session.pointee.login
        if login != 0 {
            client.login = printable(LoginTable.text(login, in: memory))
        } else if gate.isOn, let user = gate.user(of: session.pointee.index) {
            client.login = user.withUnsafeBytes { printable($0) }
        }
        if hosts.isOn, session.pointee.state != .fresh { client.host = hosts.name(of: session.pointee.index) }
        return client
    }

    /// The `session` header of CONNECTED.
    @inline(__always)
    func sessionText(_ session: UnsafeMutablePointer<Session>) -> String {
        "session-\(identity.text(of: session.pointee.handle, for: .sessionHeader))"
    }

    /// Keeps the login of the CONNECT under the parser for the log.
    mutating func keepLogin(_ session: UnsafeMutablePointer<Session>) {
        guard let text = frame.rawValue(.login) else { return }
        sessions.keepLogin(session, text, memory: &memory)
    }
}
