import Load

/// The runs of a row on its servers, and which of them count.
///
/// A run counts if neither side waited for a core, and the calibrations before and after it were nearly as fast as the
/// fastest one so far. When a faster one is found, runs that counted before may no longer count and are repeated. Runs
/// with lost or damaged messages always count, so that repetition cannot hide them.
struct RunSelection {
    /// The run of one server in one round. Both count from 0.
    struct Turn: Hashable {
        var server: Int
        var round: Int
    }

    /// How much slower than the fastest one a calibration may be.
    static let slownessMax = 1.1

    /// The order of the runs: alternately forwards and backwards, so that compared runs are close in time and no server
    /// is always first.
    let turns: [Turn]
    private var runs: [Turn: [Outcome]] = [:]

    init(serverCount: Int, rounds: Int) {
        turns = (0..<rounds).flatMap { round in
            let servers = Array(0..<serverCount)
            return (round.isMultiple(of: 2) ? servers : servers.reversed()).map { Turn(server: $0, round: round) }
        }
    }

    static func isBesideBusyCore(_ outcome: Outcome, fastest: Double) -> Bool {
        outcome.calibrations.contains { $0 > fastest * slownessMax }
    }

    static func counts(_ outcome: Outcome, fastest: Double) -> Bool {
        !outcome.isClean || (!outcome.isDisturbed && !isBesideBusyCore(outcome, fastest: fastest))
    }

    mutating func add(_ outcome: Outcome, _ turn: Turn) { runs[turn, default: []].append(outcome) }

    func runCount(_ turn: Turn) -> Int { runs[turn]?.count ?? 0 }

    /// The first turn without a run that counts. nil: each has one, or has used all of its `runsMax` runs.
    func next(fastest: Double, runsMax: Int) -> Turn? {
        turns.first { turn in
            let runs = runs[turn] ?? []
            return runs.count < runsMax && !runs.contains { Self.counts($0, fastest: fastest) }
        }
    }

    /// For each turn that was measured: the run that counts, or else the best one, with the number of runs.
    func outcomes(fastest: Double) -> [Outcome] {
        turns.compactMap { turn in
            guard let runs = runs[turn], let best = Self.best(runs, fastest: fastest) else { return nil }
            var outcome = runs[best]
            var others = runs
            others.remove(at: best)
            outcome.attempts = runs.count
            outcome.thrownAway = others.count
            outcome.thrownAwayBesideBusyCore = others.count { Self.isBesideBusyCore($0, fastest: fastest) }
            // Only the first run of a row waits for time limits.
            outcome.cut = runs.map(\.cut).max() ?? 0
            return outcome
        }
    }

    private static func best(_ runs: [Outcome], fastest: Double) -> Int? {
        if let lossy = runs.firstIndex(where: { !$0.isClean }) { return lossy }
        if let counting = runs.firstIndex(where: { counts($0, fastest: fastest) }) { return counting }
        // How far the calibrations or the waiting exceed the allowed values.
        func badness(_ outcome: Outcome) -> Double {
            let slowness = (outcome.calibrations.max() ?? 0) / fastest / slownessMax
            return max(slowness, outcome.waitShare / Outcome.waitShareMax)
        }
        return runs.indices.min { badness(runs[$0]) < badness(runs[$1]) }
    }
}

extension Outcome {
    /// How much it was disturbed.
    var waitShare: Double { max(serverWaitShare, loadWaitShare) }
}
