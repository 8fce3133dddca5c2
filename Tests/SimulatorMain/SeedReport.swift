import Glibc
import Simulator

/// What a worker of a campaign tells of one seed, in one line:
///
///     SEED TRACE TURNS FRAMES MESSAGES FAULTS VIOLATION LF
///
/// FAULTS are the counts of all faults, separated by commas, then those of storage, then what happened to transports.
/// VIOLATION is empty, or the text to the line's end.
struct SeedReport {
    let seed: UInt64
    let trace: String
    let turns: Int
    let frames: Int
    let messages: Int
    let faults: [Int]
    static let faultCount = Fault.allCases.count + StorageFault.allCases.count + TransportEvent.allCases.count
    let violation: String

    init?(_ line: String) {
        let words = line.split(separator: " ", maxSplits: 6, omittingEmptySubsequences: false)
        guard words.count == 7, let seed = UInt64(words[0]), let turns = Int(words[2]), let frames = Int(words[3]),
            let messages = Int(words[4])
        else { return nil }
        let faults = words[5].split(separator: ",").compactMap { Int($0) }
        guard faults.count == Self.faultCount else { return nil }
        self.seed = seed
        trace = String(words[1])
        self.turns = turns
        self.frames = frames
        self.messages = messages
        self.faults = faults
        violation = String(words[6])
    }

    /// Runs the seeds and tells of each on standard output. A seed that takes longer than `patience` seconds ends the
    /// process (SIGALRM), one that breaks an invariant does so, too: the next seed after the last report was it.
    static func work(
        seeds: ClosedRange<UInt64>, _ mode: Simulation.Mode, crashes: Bool, canary: Canary?, patience: Int
    ) {
        for seed in seeds {
            alarm(UInt32(patience))
            let outcome = Simulation.run(seed: seed, crashes: crashes, mode: mode, canary: canary)
            let counts = outcome.faultCounts + outcome.storageFaultCounts + outcome.transportCounts
            let faults = counts.map { "\($0)" }.joined(separator: ",")
            let violation = (outcome.violation ?? "").replacing("\n", with: " ")
            print(
                "\(seed) \(String(outcome.traceHash, radix: 16)) \(outcome.turnCount) \(outcome.frameCount)",
                "\(outcome.messageCount) \(faults) \(violation)")
            fflush(nil)
        }
    }
}
