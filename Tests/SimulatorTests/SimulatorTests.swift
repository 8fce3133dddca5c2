import Simulator
import TestSupport
import Testing

@Suite("Simulator")
struct SimulatorTests {
    /// `stampede-simulate`, a release build, runs more of them than a debug build can.
    @Test("Seeds find nothing wrong, and every fault strikes")
    func seedsAreClean() {
        var counts = [Int](repeating: 0, count: Fault.allCases.count)
        for seed in UInt64(1)...150 {
            let run = Simulation.run(seed: seed)
            #expect(run.violation == nil, "seed \(seed)")
            for fault in Fault.allCases { counts[fault.rawValue] += run.faultCounts[fault.rawValue] }
        }
        for fault in Fault.allCases { #expect(counts[fault.rawValue] > 0, "\(fault)") }
    }

    @Test("With permissions, nothing gets through that is not allowed, and nobody is refused what is")
    func permissionsAreKept() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, mode: .permissions).violation == nil, "seed \(seed)")
        }
    }

    @Test("Readers of logs see every offset once, and new subscribers what is retained")
    func logsAreKept() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, mode: .logs).violation == nil, "seed \(seed)")
        }
    }

    @Test("Delayed messages come when they are due, and what is sent again is not taken again")
    func delaysAreKept() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, mode: .delays).violation == nil, "seed \(seed)")
            #expect(Simulation.run(seed: seed, crashes: true, mode: .delays).violation == nil, "seed \(seed), crashes")
        }
    }

    @Test("With virtual hosts, nothing crosses from one to another")
    func hostsAreKeptApart() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, mode: .hosts).violation == nil, "seed \(seed)")
        }
        for seed in UInt64(1)...40 {
            #expect(Simulation.run(seed: seed, crashes: true, mode: .hosts).violation == nil, "seed \(seed), crashes")
        }
    }

    @Test("With durable subscriptions, each has what it was promised")
    func durableSubscriptionsAreKept() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, mode: .durable).violation == nil, "seed \(seed)")
        }
    }

    @Test("Durable subscriptions to topics that keep logs, retain and delay messages have all of them")
    func mixedTopicsAreKept() {
        for seed in UInt64(1)...40 {
            #expect(Simulation.run(seed: seed, mode: .mixed).violation == nil, "seed \(seed)")
        }
    }

    @Test("Through PROXY headers, a cipher and WebSockets, clients get what they get without")
    func transportsAreKept() {
        var counts = [Int](repeating: 0, count: TransportEvent.allCases.count)
        for seed in UInt64(1)...150 {
            let run = Simulation.run(seed: seed, mode: .transports)
            #expect(run.violation == nil, "seed \(seed)")
            for event in TransportEvent.allCases { counts[event.rawValue] += run.transportCounts[event.rawValue] }
        }
        for event in TransportEvent.allCases { #expect(counts[event.rawValue] > 0, "\(event)") }
        for seed in UInt64(1)...50 {
            let run = Simulation.run(seed: seed, crashes: true, mode: .transports)
            #expect(run.violation == nil, "seed \(seed), crashes")
        }
    }

    @Test("A seed with transports runs the same way twice", arguments: [UInt64](1...20))
    func transportsAreReproducible(seed: UInt64) {
        let first = Simulation.run(seed: seed, mode: .transports)
        let second = Simulation.run(seed: seed, mode: .transports)
        #expect(first.traceHash == second.traceHash)
        #expect(first.transportCounts == second.transportCounts)
    }

    @Test("A seed that found a fault once finds none now", arguments: Self.regressions)
    func regressionsStayAway(seed: UInt64) {
        #expect(Simulation.run(seed: seed).violation == nil)
    }

    /// Each found a fault of the core, or of the oracle. A scenario's seed draws another one when the scenario changes; these stay as a
    /// sample of what was hard.
    static let regressions: [UInt64] = [
        32, 64, 280, 378, 572, 867, 1425, 1615, 1627, 1678, 1764, 1831, 1974, 2022, 2369, 2421, 2612, 2973, 7357, 30706,
        359_160, 494_637, 641_870, 704_715, 865_103, 899_621, 5_005_507, 5_346_731,
    ]

    @Test("A seed with transports that found a fault once finds none now", arguments: Self.transportRegressions)
    func transportRegressionsStayAway(seed: UInt64) {
        #expect(Simulation.run(seed: seed, mode: .transports).violation == nil)
    }

    /// As `regressions`.
    static let transportRegressions: [UInt64] = [1_066_432, 1_218_820, 1_340_835]

    @Test("A seed runs the same way twice", arguments: [UInt64](1...20))
    func runsAreReproducible(seed: UInt64) {
        let first = Simulation.run(seed: seed)
        let second = Simulation.run(seed: seed)
        #expect(first.traceHash == second.traceHash)
        #expect(first.turnCount == second.turnCount)
        #expect(first.faultCounts == second.faultCounts)
    }

    @Test("Runs of different seeds differ")
    func seedsDiffer() {
        let hashes = Set((1...50).map { Simulation.run(seed: UInt64($0)).traceHash })
        #expect(hashes.count == 50)
    }

    @Test(
        "A planted bug is found, by the check that is meant to",
        arguments: Canary.allCases.filter { !$0.isDeadly && !$0.isOfStorage })
    func canariesAreFound(canary: Canary) {
        let wasFound = (1...500).contains { seed in
            guard let violation = Simulation.run(seed: UInt64(seed), canary: canary).violation else { return false }
            return canary.evidence.isEmpty || violation.contains(canary.evidence)
        }
        #expect(wasFound)
    }

    @Test("A campaign names the seed that ends its process and the one that never ends, and goes on")
    func deadlySeedsAreNamed() throws {
        let crash = try campaign(canary: .breakInvariant)
        #expect(crash.contains(/VIOLATION seed \d+: the process ended by signal \d+/))
        let hang = try campaign(canary: .hang)
        #expect(hang.contains(/VIOLATION seed \d+: no end within 1 s/))
        for output in [crash, hang] { #expect(output.contains("30 seeds")) }
    }

    /// Output of a campaign of 30 seeds.
    private func campaign(canary: Canary) throws -> String {
        var options = ChildProcess.Options()
        options.environment["SWIFT_BACKTRACE"] = "enable=no"
        let process = try ChildProcess(
            BuildDirectory.path(of: "stampede-simulate"),
            ["--seeds", "1..30", "--canary", canary.rawValue, "--patience", "1", "--violations", "100"], options)
        try process.waitForExit()
        return process.outputLines.joined(separator: "\n")
    }
}
