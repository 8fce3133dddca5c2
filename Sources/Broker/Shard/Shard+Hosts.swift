import STOMP
import Slabs

// Virtual hosts: which one CONNECT names, whether its client may use it, and what the clients of a host may use together. That
// their destinations never meet is the work of `HostName`.
extension Shard {
    // MARK: CONNECT

    /// The host of the CONNECT under the parser. False: there is none of that name, and ERROR was sent.
    mutating func choosesHost(_ session: UnsafeMutablePointer<Session>) -> Bool {
        let name = frame.rawValue(.host)
        if hosts.choose(session.pointee.index, name) { return true }
        refuseLogin(
            session, "Bad CONNECT",
            "the header host is '\(name.map { printable($0) } ?? "")', and this broker has no virtual host of that name; "
                + "name one that it has, or leave the header out for its default host (hosts of its configuration)")
        return false
    }

    /// The client may be connected, and its host is asked last. False: it was answered with ERROR.
    mutating func entersHost(_ session: UnsafeMutablePointer<Session>) -> Bool {
        guard admitsHost(session) else { return false }
        switch hosts.enter(session.pointee.index) {
        case .entered:
            updateRate(session)
            return true
        case .tooManyConnections(let most):
            counters.limits.count(.hostConnections)
            refuseLogin(
                session, "Too many connections",
                "the virtual host \(hostText(session)) may have \(most) connections (connections-max of its entry in hosts)"
            )
            return false
        }
    }

    /// Whether the session's user may use its host. False: it was answered with ERROR.
    mutating func admitsHost(_ session: UnsafeMutablePointer<Session>) -> Bool {
        let index = session.pointee.index
        guard gate.knowsUsers else { return true }
        if gate.mayUse(host: hosts.name(of: index), isDefault: hosts.isDefault(index), index) { return true }
        refuseLogin(
            session, "Access refused",
            "\(userText(index)) may not use the virtual host \(hostText(session)) (hosts of the user or of its roles)")
        return false
    }

    private mutating func hostText(_ session: UnsafeMutablePointer<Session>) -> String {
        var name = hosts.name(of: session.pointee.index)
        return "'\(name.withUTF8 { printable(UnsafeRawBufferPointer($0)) })'"
    }

    // MARK: Limits

    /// Whether the session's host may have another subscription. False: it was answered with ERROR.
    mutating func hostAdmitsSubscription(_ context: FrameContext) -> Bool {
        let session = context.session
        let most = hosts.options(of: session.pointee.index).subscriptionCountMax
        guard most > 0, hosts.subscriptionCount(of: session.pointee.index) >= most else { return true }
        counters.limits.count(.hostSubscriptions)
        failFrame(
            context, "Too many subscriptions",
            "the virtual host \(hostText(session)) may have \(most) subscriptions (subscriptions-max of its entry in hosts)"
        )
        return false
    }

    // MARK: Storage

    /// Whether the log of this worker takes a message of so many bytes, and the host of its destination too.
    mutating func admission(_ byteCount: Int, at name: UnsafeRawBufferPointer) -> StoreAdmission {
        let admission = store.admission(byteCount)
        if case .open = admission, store.hosts.isFull(store.hosts.number(of: name), byteCount) { return .hostIsFull }
        return admission
    }

    /// The same of a message that the session's client sends.
    @inline(__always)
    mutating func admission(_ byteCount: Int, of session: UnsafeMutablePointer<Session>) -> StoreAdmission {
        let admission = store.admission(byteCount)
        if store.hosts.isOn, case .open = admission,
            store.hosts.isFull(hosts.storageNumber(of: session.pointee.index), byteCount)
        {
            return .hostIsFull
        }
        return admission
    }

    // MARK: Reports

    /// What each host uses. Empty: there are no hosts.
    public mutating func hostFigures() -> [HostFigures] { hosts.isOn ? hosts.figures : [] }
}
