import Permissions
import STOMP
import Slabs

// How much users may use (`UserLimits`): connections, subscriptions, and frames and bytes a second. Who is beyond a rate is
// not read for a while, and never told so.
extension Shard {
    /// The session's user has another set of permissions, or its first.
    mutating func updateRate(_ session: UnsafeMutablePointer<Session>) {
        let hasHostRate = hosts.isOn && hosts.options(of: session.pointee.index).hasRate
        if hasHostRate || gate.limits(of: session.pointee.index).hasRate {
            session.pointee.flags.insert(.hasRate)
        } else {
            session.pointee.flags.remove(.hasRate)
        }
    }

    /// Bytes of a session with a rate were received.
    @inline(never)
    mutating func spendBytes(_ session: UnsafeMutablePointer<Session>, _ count: Int) {
        guard session.pointee.state == .connected else { return }
        var wait = gate.spendBytes(session.pointee.index, count, now: now)
        if hosts.isOn { wait = max(wait, hosts.spendBytes(session.pointee.index, count, now: now)) }
        slowDown(session, wait)
    }

    /// A frame was processed.
    ///
    /// - Returns: nothing more is parsed for now, because of this or of another reason.
    @inline(never)
    mutating func stopsAfterFrame(_ session: UnsafeMutablePointer<Session>) -> Bool {
        if session.pointee.flags.contains(.hasRate) {
            var wait = gate.spendFrame(session.pointee.index, now: now)
            if hosts.isOn { wait = max(wait, hosts.spendFrame(session.pointee.index, now: now)) }
            slowDown(session, wait)
        }
        return session.pointee.flags.contains(.suspended)
    }

    /// - Parameter nanoseconds: to be waited. 0: none.
    private mutating func slowDown(_ session: UnsafeMutablePointer<Session>, _ nanoseconds: UInt64) {
        // One that waits for something else pays with what it spends next: the user's clock remembers.
        guard nanoseconds > 0, !session.pointee.flags.contains(.suspended), !isDraining else { return }
        counters.clientsSlowed &+= 1
        if gate.slowDown(session.pointee.index, until: now &+ nanoseconds) {
            notice(
                .clientSlowed, session: session.pointee.index,
                "\(userText(session.pointee.index)) sends more than its limits, or those of its host, give it, and is not read "
                    + "for a while")
        }
        session.pointee.flags.insert(.isSlowed)
        suspend(session)
        arm(session, after: UInt32(clamping: nanoseconds / 1_000_000 + 1))
    }

    /// The session's timer has fired: whoever has waited long enough goes on.
    mutating func endSlowness(_ session: UnsafeMutablePointer<Session>) {
        guard session.pointee.flags.contains(.isSlowed) else { return }
        if let nanoseconds = slowness(session) {
            arm(session, after: UInt32(clamping: nanoseconds / 1_000_000 + 1))
        } else {
            session.pointee.flags.remove(.isSlowed)
            resumeSoon(session)
        }
    }

    /// How long the session has to wait yet, in nanoseconds. nil: not at all.
    private mutating func slowness(_ session: UnsafeMutablePointer<Session>) -> UInt64? {
        let until = gate.slownessEnd(of: session.pointee.index)
        return until > now && !isDraining ? until - now : nil
    }

    /// A session has its turn to go on, but its user's rate keeps it waiting: its timer goes on.
    mutating func isKeptSlow(_ session: UnsafeMutablePointer<Session>) -> Bool {
        guard session.pointee.flags.contains(.isSlowed) else { return false }
        if slowness(session) == nil {
            session.pointee.flags.remove(.isSlowed)
            return false
        }
        suspend(session)
        return true
    }

    /// Whether the session may have another subscription, by its user's limits. False: it was answered with ERROR.
    mutating func admitsSubscription(_ context: FrameContext) -> Bool {
        let session = context.session
        let most = gate.limits(of: session.pointee.index).subscriptionsPerConnectionMax
        guard most > 0, Int(session.pointee.subscriptionCount) >= most else { return true }
        counters.limits.count(.subscriptionsPerConnection)
        failFrame(
            context, "Too many subscriptions",
            "\(userText(session.pointee.index)) may have \(most) subscriptions on a connection "
                + "(subscriptions-per-connection-max of its roles)")
        return false
    }
}
