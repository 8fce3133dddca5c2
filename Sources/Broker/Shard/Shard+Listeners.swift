import IO
import Slabs

// The options of listeners that the core carries out.
extension Shard {
    /// A heart-beat that often suffices for a listener with lenient heart-beats, in milliseconds.
    private static var lenientIntervalMilliseconds: UInt32 { 60_000 }

    /// Whether a connection may come in through its listener. False: it was refused or has gone to another worker.
    mutating func passesListener(_ completion: Completion) -> Bool {
        let listener = completion.origin.listener
        if listeners.isUnix(listener), balance(completion) { return false }
        let most = listeners.connectionCountMax(listener)
        if most == 0 || fabric.enterListener(listener, max: most) { return true }
        counters.limits.count(.connections)
        refuse(completion, "the listener has \(most) connections already (listeners[].connections-max)")
        return false
    }

    /// The place of a connection that came in and was not kept, or has ended.
    mutating func leaveListener(_ listener: ListenerID) {
        if listeners.hasOptions, listeners.connectionCountMax(listener) > 0 { fabric.leaveListener(listener) }
    }

    /// Gives a connection of a Unix socket to the worker with the fewest connections, once. True: it did.
    private mutating func balance(_ completion: Completion) -> Bool {
        guard completion.origin.address != Self.balancedMark,
            let peer = fabric.shardWithFewer(than: sessions.liveCount, besides: index)
        else { return false }
        counters.connectionsHandedOn &+= 1
        let origin = ConnectionOrigin(listener: completion.origin.listener, address: Self.balancedMark)
        submissions.append(Submission(handOff: completion.value, to: UInt16(peer), from: origin))
        return true
    }

    /// The peers of Unix sockets have no address. One that is marked so was handed on by the worker that accepted it.
    private static var balancedMark: UInt64 { 1 << 48 - 1 }

    /// Where a connection came from, for the limits per address.
    @inline(__always)
    func accountableOrigin(_ origin: ConnectionOrigin) -> ConnectionOrigin {
        listeners.isUnix(origin.listener) ? ConnectionOrigin(listener: origin.listener, address: 0) : origin
    }

    /// The listener's part in a session that was admitted.
    mutating func entered(_ session: UnsafeMutablePointer<Session>) {
        if listeners.copiesSends(session.pointee.listener) { session.pointee.flags.insert(.copiesSends) }
    }

    /// The interval that the broker expects, of those that were agreed.
    @inline(__always)
    func expectedInterval(_ agreed: UInt32, _ listener: ListenerID) -> UInt32 {
        guard agreed != 0, listeners.hasOptions, listeners.hasLenientHeartBeats(listener) else { return agreed }
        return max(agreed, Self.lenientIntervalMilliseconds)
    }
}
