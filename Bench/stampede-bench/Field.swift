import Load

/// The servers of a comparison, and how they are measured: in turns.
struct Field {
    let kinds: [ServerKind]
    let fleet: Fleet
    let schedule: Schedule
    let rounds: Int
    /// Times a disturbed run is repeated.
    let repeats: Int
    private let progress = ProgressLine()
    /// What `measure` found: it tells the peak rates.
    private var comparison = Comparison(rows: [], servers: [])

    init(kinds: [ServerKind], fleet: Fleet, schedule: Schedule, rounds: Int, repeats: Int) {
        self.kinds = kinds
        self.fleet = fleet
        self.schedule = schedule
        self.rounds = rounds
        self.repeats = repeats
    }

    /// Every row on every server that knows such a thing.
    mutating func measure(_ rows: [Row]) throws -> Comparison {
        defer { progress.clear() }
        comparison = Comparison(rows: rows.map(\.name), servers: kinds.map(\.name))
        for round in 1...rounds {
            for (position, row) in rows.enumerated() {
                for kind in kinds where row.isPossible(kind.dialect) {
                    let name = "round \(round)/\(rounds), row \(position + 1)/\(rows.count) \(row.name), \(kind.name)"
                    comparison.add(try measure(row, kind, name, isLong: round == 1))
                }
            }
        }
        return comparison
    }

    /// The rows that were measured, as far as their latency is of interest, at half of the peak rate.
    func measureLatency() throws -> LatencyComparison {
        defer { progress.clear() }
        var latencies = LatencyComparison(peaks: comparison)
        for round in 1...rounds {
            for row in Row.all {
                guard let rate = latencies.rates[row.name] else { continue }
                for kind in kinds where LatencyComparison.takesPart(kind.name) {
                    let name = "latency, round \(round)/\(rounds), \(row.name), \(kind.name)"
                    latencies.add(try measure(row, kind, name, rate: rate))
                }
            }
        }
        return latencies
    }

    /// A crowd of silent connections; nil if there is to be none.
    func hold(_ count: Int) throws -> IdleComparison? {
        guard count > 0 else { return nil }
        defer { progress.clear() }
        var comparison = IdleComparison(count: count, servers: kinds.map(\.name))
        for round in 1...rounds {
            // Whoever is slow to start is slow to connect to: one round has to do.
            for kind in kinds where round == 1 || !kind.isKept {
                let report = try fleet.turn(kind) { server in
                    var crowd = Crowd(
                        .crowd(count, dialect: kind.dialect), target: target(server), process: server.process,
                        progress: progress)
                    return try crowd.run(broadcasts: 1, holdSeconds: IdleComparison.holdSeconds)
                }
                comparison.add(report, kind.name)
                if let failure = report.failure { complain(["  FAILED: \(failure)"], "idle connections, \(kind.name)") }
            }
        }
        return comparison
    }

    /// A queue that is filled, then emptied; nil if there is to be none. The floors keep no messages, nor do other
    /// protocols.
    func fill(_ messages: Int) throws -> BacklogComparison? {
        guard messages > 0 else { return nil }
        defer { progress.clear() }
        let kinds = kinds.filter { $0.dialect == .stomp && !Comparison.isFloor($0.name) }
        var comparison = BacklogComparison(servers: kinds.map(\.name))
        for round in 1...rounds {
            for kind in kinds where round == 1 || !kind.isKept {
                let plan = try ScenarioOptions(publishers: 4, subscribers: 4).backlog(messages, dialect: .stomp)
                var report = try fleet.turn(kind.holdingBacklogs()) { server in
                    try BacklogReport(plan, target: target(server), process: server.process, progress: progress)
                }
                report.server = kind.name
                comparison.add(report)
                if let failure = report.failure { complain(["  FAILED: \(failure)"], "backlog, \(kind.name)") }
            }
        }
        return comparison
    }

    // MARK: One measurement

    /// Again if it was disturbed, and then the least disturbed one.
    ///
    /// - Parameter isLong: a subscriber that stalls does so for as long as limits may bear it. Floors have none.
    private func measure(
        _ row: Row, _ kind: ServerKind, _ name: String, rate: Double? = nil, isLong: Bool = false
    ) throws -> Outcome {
        var best: Outcome?
        var cut = 0
        for attempt in 1...repeats + 1 {
            var schedule = schedule
            if isLong, attempt == 1, !Comparison.isFloor(kind.name) {
                schedule.stallSeconds = Schedule.stallSecondsDefault
            }
            var outcome = try fleet.turn(kind) { server in
                let measurement = Measurement(
                    try row.plan(kind.dialect, rate: rate), target: target(server), server: server.process,
                    schedule: schedule)
                return try measurement.run { progress.show("\(name): \($0)") }
            }
            outcome.scenario = row.name
            outcome.server = kind.name
            if best == nil || outcome.waitShare < best!.waitShare { best = outcome }
            best!.attempts = attempt
            cut = max(cut, outcome.cut)
            best!.cut = cut
            if !outcome.isDisturbed { break }
        }
        if !best!.isClean { complain(OutcomeTable.complaints(best!), name) }
        return best!
    }

    private func complain(_ lines: [String], _ name: String) {
        progress.clear()
        for line in lines { warn("\(name):\(line)") }
    }

    private func target(_ server: RunningServer) -> Load.Target {
        var target = Load.Target(host: "127.0.0.1", port: server.port)!
        target.driver = TargetOptions.bestDriver
        return target
    }
}

extension Outcome {
    /// How much it was disturbed.
    var waitShare: Double { max(serverWaitShare, loadWaitShare) }
}
