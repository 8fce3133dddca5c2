import IO
import Slabs

/// What a worker knows of copies that it has passed on: messages that it publishes for clients of any worker, and that other
/// workers store for durable subscriptions.
///
/// The *owner* of a topic publishes what is sent to it, and passes it on. A *holder* stores it. The RECEIPT of the SEND depends
/// on the logs of both, though its client is with neither perhaps:
///
///     client's worker         owner                   holder
///       Sequencing   --->       TopicPublication --->   stores a copy
///       Barrier      --->       RelayBarrier     --->
///                                                       its log is durable up to here
///                               its own log, too <---   RelayAnswer
///                    <---       BarrierAnswer
///
/// A client's barrier says who the holders of its messages are. It waits for the *rounds* that ask these: one `RelayBarrier` to
/// each worker that was passed something since the last one, for all barriers of a turn. A holder answers when its own log is
/// durable, whatever it has passed on itself. So two workers that relay to each other do not wait for each other.
///
/// A message whose publishing waits for the log (its offset is not reserved yet) was not passed on. A barrier behind it is
/// *deferred*: it looks at the log and the rounds when what has waited for the log is published.
///
/// Nobody passes anything on: everything here is empty, and asked about by `isIdle` alone.
struct Relays: ~Copyable {
    /// A worker that could not store a copy is believed for so long to be as it was then: a barrier may come late.
    private static var refusalNanoseconds: UInt64 { 1_000_000_000 }

    // As the owner
    /// Workers that were passed something that no round asks about.
    private var passed = PeerSet()
    private var rounds = Batch<RelayRound>(capacity: 16)
    /// Of the next round. The first is 1.
    private var nextRound: UInt64 = 1
    private var barriers = Batch<RelayedBarrier>(capacity: 16)
    private var refused = Batch<RefusedHolder>(capacity: 16)

    // As a holder
    private var held = Batch<HeldRelay>(capacity: 16)
    /// Workers whose copies could not be kept, for want of memory, and that do not know it.
    private var losers = PeerSet()

    /// Nobody waits for copies that were passed on, here or with an owner.
    @inline(__always) var isIdle: Bool { barriers.isEmpty && held.isEmpty }

    /// What waits. For tests and the audit.
    var waitingCount: Int { barriers.count + held.count + rounds.count }

    // MARK: As the owner

    /// Messages for these workers were written to them, and they store them.
    @inline(__always)
    mutating func pass(to holders: PeerSet) { passed.formUnion(holders) }

    /// Why one of these workers may not have stored what it was passed a moment ago. nil: nothing is known.
    mutating func refusal(of holders: PeerSet, now: UInt64) -> Refusal? {
        var place = 0
        while place < refused.count {
            guard refused[place].until > now else {
                refused[place] = refused[refused.count - 1]
                _ = refused.removeLast()
                continue
            }
            if holders.contains(Int(refused[place].peer)) { return refused[place].refusal }
            place += 1
        }
        return nil
    }

    /// A barrier waits: see `popReady`.
    mutating func wait(_ barrier: RelayedBarrier) {
        barriers.append(barrier)
        if !barrier.isDeferred { place(barriers.count - 1) }
    }

    /// The barrier depends on all that was passed on so far.
    private mutating func place(_ index: Int) {
        barriers[index].round = passed.meets(barriers[index].holders) ? nextRound : nextRound - 1
    }

    /// What waited for the log is published, but for what came later than this: deferred barriers depend on that now.
    ///
    /// - Parameters:
    ///   - oldest: the first of the deferrals that are left. `.max`: there is none.
    ///   - gathered: where the log has to be durable for all that happened so far.
    mutating func undefer(before oldest: UInt64, gathered: LogPosition) {
        for index in 0..<barriers.count where barriers[index].isDeferred && barriers[index].deferral < oldest {
            barriers[index].deferral = 0
            barriers[index].position = gathered
            place(index)
        }
    }

    /// End of turn: barriers that wait for what was written in it were given `.max`.
    mutating func placeGathered(at position: LogPosition) {
        for index in 0..<barriers.count where barriers[index].position == .max { barriers[index].position = position }
    }

    /// End of turn: begins a round if a barrier waits for it. Returns whom it asks.
    mutating func beginRound() -> (round: UInt64, holders: PeerSet)? {
        guard !passed.isEmpty else { return nil }
        var isWanted = false
        for index in 0..<barriers.count where barriers[index].round == nextRound { isWanted = true }
        guard isWanted else { return nil }
        let round = RelayRound(round: nextRound, due: passed)
        rounds.append(round)
        passed = PeerSet()
        nextRound += 1
        return (round.round, round.due)
    }

    /// A holder has answered.
    ///
    /// - Parameter refusal: what it was passed may not be stored. nil: it is.
    mutating func answered(_ number: UInt64, from peer: Int, refusal: Refusal?, now: UInt64) {
        for index in 0..<rounds.count where rounds[index].round == number { rounds[index].due.set(peer, false) }
        var overCount = 0
        while overCount < rounds.count, rounds[overCount].due.isEmpty { overCount += 1 }
        if overCount > 0 { rounds.removeFirst(overCount) }
        guard let refusal else { return }
        for index in 0..<barriers.count
        where barriers[index].round >= number && barriers[index].holders.contains(peer) {
            barriers[index].refusal = refusal
        }
        // A log that has failed stays so.
        let until = refusal == .storageFailed ? .max : now &+ Self.refusalNanoseconds
        for index in 0..<refused.count where Int(refused[index].peer) == peer {
            refused[index].until = until
            refused[index].refusal = refusal
            return
        }
        refused.append(RefusedHolder(until: until, peer: UInt16(peer), refusal: refusal))
    }

    /// The log of this worker will not be durable, or not soon, for those that wait for more of it.
    mutating func refuse(beyond position: LogPosition, _ refusal: Refusal) {
        for index in 0..<barriers.count where barriers[index].position > position || barriers[index].isDeferred {
            barriers[index].refusal = refusal
        }
    }

    /// Takes a barrier that waits for nothing more, or is refused. nil: there is none.
    ///
    /// - Parameters:
    ///   - cursor: where to look: 0 at first, then where the last call has left it.
    ///   - position: the log of this worker is durable up to here.
    mutating func popReady(_ cursor: inout Int, durable position: LogPosition) -> RelayedBarrier? {
        while cursor < barriers.count {
            let barrier = barriers[cursor]
            if barrier.refusal != nil || barrier.position <= position && !barrier.isDeferred && isAnswered(barrier) {
                let last = barriers.removeLast()
                if cursor < barriers.count { barriers[cursor] = last }
                return barrier
            }
            cursor += 1
        }
        return nil
    }

    private func isAnswered(_ barrier: RelayedBarrier) -> Bool {
        if barrier.round == nextRound { return false }
        for index in 0..<rounds.count where rounds[index].round <= barrier.round {
            if rounds[index].due.meets(barrier.holders) { return false }
        }
        return true
    }

    // MARK: As a holder

    /// A copy of another worker's was not kept.
    mutating func lost(from peer: Int) { losers.set(peer, true) }

    /// Whether that has happened since the last call.
    mutating func takeLoss(from peer: Int) -> Bool {
        guard losers.contains(peer) else { return false }
        losers.set(peer, false)
        return true
    }

    /// An owner waits until the log of this worker is durable up to a position.
    mutating func hold(_ relay: HeldRelay) { held.append(relay) }

    /// Takes the first owner that waits for no more than `position`. nil: there is none.
    mutating func popHeld(durable position: LogPosition) -> HeldRelay? {
        guard !held.isEmpty, held[0].position <= position else { return nil }
        let relay = held[0]
        held.removeFirst(1)
        return relay
    }
}

/// A barrier of a client whose messages were passed on, with the owner.
struct RelayedBarrier: BitwiseCopyable {
    /// The client's worker: perhaps this one.
    var asker: UInt16
    /// The asker's.
    var pending: Handle<PendingOperation>
    /// Who stores the client's messages.
    var holders: PeerSet
    /// The log of the owner has to be durable up to here. `.max`: to where it is at the end of the turn.
    var position: LogPosition
    /// Messages up to this deferral are not published yet (`TopicLogs.oldestDeferral`). 0: all are.
    var deferral: UInt64
    /// It waits for this round and those before it.
    var round: UInt64 = 0
    var refusal: Refusal?

    var isDeferred: Bool { deferral != 0 }
}

/// A question to all workers that were passed something, until they have answered.
struct RelayRound: BitwiseCopyable {
    var round: UInt64
    var due: PeerSet
}

/// A worker that could not store what it was passed.
struct RefusedHolder: BitwiseCopyable {
    /// Monotonic nanoseconds.
    var until: UInt64
    var peer: UInt16
    var refusal: Refusal
}

/// An owner that waits for the log of this worker, a holder.
struct HeldRelay: BitwiseCopyable {
    var position: LogPosition
    var peer: UInt16
    var round: UInt64
}
