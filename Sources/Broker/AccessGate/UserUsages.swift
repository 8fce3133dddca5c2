import Slabs
import Synchronization

/// What users with limits use, in all shards together.
///
/// Only users that have a limit are in it: others cost nothing. Those who have left stay until what they owe of their rates
/// is paid, so that to connect again is no way around them.
final class UserUsages: Sendable {
    private struct State {
        var users: [[UInt8]: UserUsage] = [:]
        /// So many users make it look for those who have left.
        var sweepCount = 1024
    }

    private let state = Guarded(State())

    /// A session of the user begins.
    ///
    /// - Returns: how many it has then, with this one.
    func enter(_ user: [UInt8], now: UInt64) -> (usage: UserUsage, connectionCount: Int) {
        state.withLock { state in
            if state.users.count >= state.sweepCount {
                state.users = state.users.filter { !$0.value.isGone(now: now) }
                state.sweepCount = max(1024, 2 * state.users.count)
            }
            let usage = state.users[user] ?? UserUsage()
            state.users[user] = usage
            return (usage, usage.connectionCount.add(1, ordering: .relaxed).newValue)
        }
    }

    /// For audits.
    var connectionCount: Int {
        state.withLock { $0.users.values.reduce(0) { $0 + $1.connectionCount.load(ordering: .relaxed) } }
    }
}

/// What one user uses.
final class UserUsage: Sendable {
    fileprivate let connectionCount = Atomic<Int>(0)
    let frames = RateClock()
    let bytes = RateClock()

    /// A session of the user has ended.
    func leave() {
        let count = connectionCount.subtract(1, ordering: .relaxed).newValue
        invariant(count >= 0, "a user has lost more connections than it had")
    }

    fileprivate func isGone(now: UInt64) -> Bool {
        connectionCount.load(ordering: .relaxed) == 0 && frames.isPaid(now: now) && bytes.isPaid(now: now)
    }
}

/// A rate that several threads spend from, as the time until which what was spent is paid for: each unit moves it on by a
/// part of a second (the generic cell rate algorithm, ITU-T I.371, as a virtual schedule). What a second gives may be spent
/// at once.
final class RateClock: Sendable {
    /// Monotonic nanoseconds.
    private let paidUntil = Atomic<UInt64>(0)

    private static let burstNanoseconds: UInt64 = 1_000_000_000
    /// Nobody waits for longer, whatever was spent.
    private static let debtNanosecondsMax: UInt64 = 60_000_000_000

    /// Spends units.
    ///
    /// - Parameter perSecondMax: at least 1.
    /// - Returns: nanoseconds to wait before more is spent. 0: none.
    func spend(_ count: Int, perSecondMax: Int, now: UInt64) -> UInt64 {
        // A count is that of a poll at most, so it does not overflow.
        let cost = UInt64(count) &* 1_000_000_000 / UInt64(perSecondMax)
        var old = paidUntil.load(ordering: .relaxed)
        while true {
            let new = min(max(old, now) &+ cost, now &+ Self.debtNanosecondsMax)
            let (isExchanged, seen) = paidUntil.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if isExchanged { return new > now &+ Self.burstNanoseconds ? new &- now &- Self.burstNanoseconds : 0 }
            old = seen
        }
    }

    fileprivate func isPaid(now: UInt64) -> Bool { paidUntil.load(ordering: .relaxed) <= now }
}
