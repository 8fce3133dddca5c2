import Simulator
import Testing

/// The broker stores messages, ends in the middle of the run, and begins again on what it left.
@Suite("Simulator, crashes")
struct CrashTests {
    /// `stampede-simulate --crashes`, a release build, runs more of them than a debug build can.
    @Test("Seeds find nothing wrong, and the disk fails in every way")
    func seedsAreClean() {
        var counts = [Int](repeating: 0, count: StorageFault.allCases.count)
        for seed in UInt64(1)...100 {
            let run = Simulation.run(seed: seed, crashes: true)
            #expect(run.violation == nil, "seed \(seed)")
            for fault in StorageFault.allCases { counts[fault.rawValue] += run.storageFaultCounts[fault.rawValue] }
        }
        for fault in StorageFault.allCases where !fault.isRare { #expect(counts[fault.rawValue] > 0, "\(fault)") }
    }

    @Test("An offset is one message's, whatever the crash, and logs and retained messages keep what was promised")
    func logsAreKept() {
        for seed in UInt64(1)...60 {
            #expect(Simulation.run(seed: seed, crashes: true, mode: .logs).violation == nil, "seed \(seed)")
        }
    }

    @Test("Durable subscriptions, and what they were promised, survive")
    func durableSubscriptionsSurvive() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, crashes: true, mode: .durable).violation == nil, "seed \(seed)")
        }
    }

    @Test("Durable subscriptions have what topics with logs, retained and delayed messages promised them")
    func mixedTopicsSurvive() {
        for seed in UInt64(1)...80 {
            #expect(Simulation.run(seed: seed, crashes: true, mode: .mixed).violation == nil, "seed \(seed)")
        }
    }

    @Test(
        "A seed that found a fault of delayed messages once finds none",
        arguments: [UInt64]([27, 828, 1146, 1149, 1378, 2997]))
    func delaysStayMended(seed: UInt64) {
        #expect(Simulation.run(seed: seed, crashes: true, mode: .delays).violation == nil)
    }

    @Test(
        "A seed that found a fault once finds none",
        // A copy of a message whose transaction was not complete; a NACK that a client wrote after it had been ended.
        arguments: [UInt64]([142_424, 177_320]))
    func crashesStayMended(seed: UInt64) {
        #expect(Simulation.run(seed: seed, crashes: true).violation == nil)
    }

    @Test("A seed runs the same way twice", arguments: [UInt64](1...20))
    func runsAreReproducible(seed: UInt64) {
        let first = Simulation.run(seed: seed, crashes: true)
        let second = Simulation.run(seed: seed, crashes: true)
        #expect(first.traceHash == second.traceHash)
        #expect(first.turnCount == second.turnCount)
        #expect(first.storageFaultCounts == second.storageFaultCounts)
    }

    @Test("A bug planted in the store is found", arguments: Canary.allCases.filter(\.isOfStorage))
    func canariesAreFound(canary: Canary) {
        let wasFound = (1...500).contains { seed in
            let run = Simulation.run(seed: UInt64(seed), crashes: true, canary: canary)
            guard let violation = run.violation else { return false }
            return canary.evidence.isEmpty || violation.contains(canary.evidence)
        }
        #expect(wasFound)
    }
}
