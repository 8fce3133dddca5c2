import Load

/// The servers of a comparison. They are measured in rotation.
struct Field {
    let kinds: [ServerKind]
    let fleet: Fleet
    let calibrator: Calibrator
    let schedule: Schedule
    let rounds: Int
    /// How often a run that does not count is repeated, and the seconds after which no run is repeated any more.
    let repeats: Int
    let repeatSeconds: Double
    /// That of clients with TLS.
    let cipher: CipherSuite
    private let watch = Stopwatch(nil)
    /// A run starts when the core is as fast as its fastest calibration, or after this many seconds.
    private static let patienceSeconds = 2.0
    private let progress = ProgressLine()
    /// The results of `measure`, which include the peak rates.
    private var comparison = Comparison(rows: [], servers: [])

    init(
        kinds: [ServerKind], fleet: Fleet, calibrator: Calibrator, schedule: Schedule, rounds: Int, repeats: Int,
        repeatSeconds: Double, cipher: CipherSuite = .aes128
    ) {
        self.kinds = kinds
        self.fleet = fleet
        self.calibrator = calibrator
        self.schedule = schedule
        self.rounds = rounds
        self.repeats = repeats
        self.repeatSeconds = repeatSeconds
        self.cipher = cipher
    }

    /// Measures every row on every server that supports it. All servers run all the time, and a row is measured on one
    /// after the other, so that compared figures are only seconds apart.
    mutating func measure(_ rows: [Row]) throws -> Comparison {
        defer { progress.clear() }
        comparison = Comparison(rows: rows.map(\.name), servers: kinds.map(\.name))
        try fleet.start(kinds)
        calibrator.begin()
        for (position, row) in rows.enumerated() {
            let able = kinds.filter {
                row.isPossible($0.dialect)
                    && row.isWithinReach(
                        ofRate: comparison.bestConfirmedRate($0.name, isPersistent: row.isPersistent))
            }
            for outcome in try measure(row, able, "row \(position + 1)/\(rows.count) \(row.name)") {
                comparison.add(outcome)
            }
        }
        comparison.fastestCalibration = calibrator.fastest
        return comparison
    }

    /// Measures the latency at half of the peak rate, for the rows for which it is of interest.
    func measureLatency() throws -> LatencyComparison {
        defer { progress.clear() }
        var latencies = LatencyComparison(peaks: comparison)
        let able = kinds.filter { LatencyComparison.takesPart($0.name) }
        for row in Row.all {
            guard let rate = latencies.rates[row.name] else { continue }
            for outcome in try measure(row, able, "latency, \(row.name)", rate: rate) { latencies.add(outcome) }
        }
        latencies.noteFastest(calibrator.fastest)
        return latencies
    }

    /// Measures many silent connections. nil: not asked for.
    func hold(_ count: Int) throws -> IdleComparison? {
        guard count > 0 else { return nil }
        defer { progress.clear() }
        let kinds = kinds.filter { $0.dialect.knows(.topic) }
        var comparison = IdleComparison(count: count, servers: kinds.map(\.name))
        for round in 1...rounds {
            // For servers that are slow to start, one round is enough.
            for kind in kinds where round == 1 || !kind.isKept {
                let report = try fleet.freshTurn(kind) { server in
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

    /// Measures a queue that is filled, then emptied. nil: not asked for. The floors and other protocols keep no
    /// messages.
    func fill(_ messages: Int) throws -> BacklogComparison? {
        guard messages > 0 else { return nil }
        defer { progress.clear() }
        let kinds = kinds.filter { $0.dialect == .stomp && !Comparison.isFloor($0.name) }
        var comparison = BacklogComparison(servers: kinds.map(\.name))
        for round in 1...rounds {
            for kind in kinds where round == 1 || !kind.isKept {
                let plan = try ScenarioOptions(publishers: 4, subscribers: 4).backlog(messages, dialect: .stomp)
                var report = try fleet.freshTurn(kind.holdingBacklogs()) { server in
                    try BacklogReport(plan, target: target(server), process: server.process, progress: progress)
                }
                report.server = kind.name
                comparison.add(report)
                if let failure = report.failure { complain(["  FAILED: \(failure)"], "backlog, \(kind.name)") }
            }
        }
        return comparison
    }

    // MARK: One row

    /// - Parameter rate: messages a second of all publishers together, instead of the flow of the row.
    private func measure(
        _ row: Row, _ kinds: [ServerKind], _ title: String, rate: Double? = nil
    ) throws -> [Outcome] {
        var selection = RunSelection(serverCount: kinds.count, rounds: rounds)
        while let turn = selection.next(fastest: calibrator.fastest, runsMax: mayRepeat ? 1 + repeats : 1) {
            let kind = kinds[turn.server]
            var schedule = schedule
            // A stalled subscriber stalls once, long enough for the time limits. Floors have no limits.
            if turn.round == 0, selection.runCount(turn) == 0, !Comparison.isFloor(kind.name) {
                schedule.stallSeconds = Schedule.stallSecondsDefault
            }
            let name = "\(title), round \(turn.round + 1)/\(rounds), \(kind.name)"
            let outcome = try measure(row, kind, name, rate: rate, schedule)
            if !outcome.isClean { complain(OutcomeTable.complaints(outcome), name) }
            selection.add(outcome, turn)
        }
        return selection.outcomes(fastest: calibrator.fastest)
    }

    private var mayRepeat: Bool { repeats > 0 && watch.wallSeconds < repeatSeconds }

    private func measure(
        _ row: Row, _ kind: ServerKind, _ name: String, rate: Double?, _ schedule: Schedule
    ) throws -> Outcome {
        var outcome = try fleet.turn(kind) { server in
            progress.show("\(name): calibrating")
            let before = calibrator.awaitQuiet(seconds: mayRepeat ? Self.patienceSeconds : 0)
            let measurement = Measurement(
                try row.plan(kind.dialect, rate: rate), target: target(server), server: server.process,
                schedule: schedule)
            var outcome = try measurement.run { progress.show("\(name): \($0)") }
            outcome.calibrations = [before, calibrator.measure()].compactMap(\.self)
            return outcome
        }
        outcome.scenario = row.name
        outcome.server = kind.name
        return outcome
    }

    private func complain(_ lines: [String], _ name: String) {
        progress.clear()
        for line in lines { warn("\(name):\(line)") }
    }

    private func target(_ server: RunningServer) -> Load.Target {
        var target = Load.Target(host: "127.0.0.1", port: server.port)!
        target.webSocketPath = server.kind.transport.webSocketPath
        target.tls = server.kind.transport.tls(cipher)
        target.driver = TargetOptions.bestDriver
        return target
    }
}
