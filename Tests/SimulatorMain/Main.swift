import ArgumentParser
import Glibc
import Simulator

/// Runs the broker's core under a simulated kernel: `swift run -c release stampede-simulate --seeds 1..10000`.
@main
struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stampede-simulate",
        abstract: "Run the broker's core with simulated clients and faults, and check what the clients see.")

    @Option(help: "The first and last seed, as in 1..10000.")
    var seeds = "1..1000"
    @Option(help: "How many processes.")
    var jobs = 1
    @Flag(help: "The broker stores messages, ends in the middle of the run, and begins again on what it left.")
    var crashes = false
    @Option(help: "A planted bug: \(Canary.allCases.map(\.rawValue).joined(separator: ", ")).")
    var canary: String?
    @Option(help: "What runs are made of: \(Simulation.Mode.allCases.map(\.rawValue).joined(separator: ", ")).")
    var mode = Simulation.Mode.plain.rawValue
    @Option(help: "Print everything that happens in the run of this seed.")
    var trace: UInt64?
    @Flag(help: "Print each seed with its trace hash.")
    var verbose = false
    @Flag(help: "Print one hash of the traces of all seeds: a change that is to change nothing leaves it as it was.")
    var combinedTrace = false
    @Option(help: "Stop after this many violations.")
    var violations = 10
    @Option(help: "Fail if any kind of fault strikes less often than this.")
    var requireStrikes = 0
    @Option(help: "Seconds that one seed may take.")
    var patience = 60
    @Flag(help: .hidden)
    var worker = false

    /// Runs the command. Exit codes as those of `stampede`: 0 when all went well, 1 where it could not run or found a
    /// violation, 2 where the command line is wrong.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            if exitCode(for: error) == .validationFailure {
                var text = Array((fullMessage(for: error) + "\n").utf8)
                _ = write(STDERR_FILENO, &text, text.count)
                Glibc.exit(2)
            }
            exit(withError: error)
        }
    }

    func run() throws {
        var planted: Canary?
        if let canary {
            guard let known = Canary(rawValue: canary) else { throw ValidationError("no canary is named '\(canary)'") }
            planted = known
        }
        guard let mode = Simulation.Mode(rawValue: mode) else { throw ValidationError("no mode is named '\(mode)'") }
        if crashes, mode == .permissions || planted?.mode == .permissions {
            throw ValidationError(
                "--mode permissions has no runs with --crashes: who may do what is not stored. Leave one of them out")
        }
        if let trace {
            let outcome = Simulation.run(seed: trace, crashes: crashes, mode: mode, canary: planted) { line in
                print(line)
            }
            report(outcome)
            if outcome.violation != nil { throw ExitCode(1) }
            return
        }
        let bounds = seeds.split(separator: ".", omittingEmptySubsequences: true).compactMap { UInt64($0) }
        guard let first = bounds.first, let last = bounds.last, first <= last else {
            throw ValidationError("--seeds: allowed: FIRST..LAST")
        }
        if worker {
            return SeedReport.work(
                seeds: first...last, mode, crashes: crashes, canary: planted, patience: patience)
        }
        var campaign = Campaign(seeds: first...last, jobs: max(jobs, 1))
        campaign.crashes = crashes
        campaign.canary = canary
        campaign.mode = mode
        campaign.isVerbose = verbose
        campaign.printsCombinedTrace = combinedTrace
        campaign.violationsMax = violations
        campaign.patience = max(patience, 1)
        campaign.run(jobs: max(jobs, 1))
        if campaign.totals.violations > 0 { throw ExitCode(1) }
        let rare = campaign.rareFaults(below: requireStrikes)
        if !rare.isEmpty {
            print("these struck less than \(requireStrikes) times: \(rare.joined(separator: ", "))")
            throw ExitCode(1)
        }
    }

    private func report(_ outcome: Simulation.Outcome) {
        print(
            "seed \(outcome.seed): trace \(String(outcome.traceHash, radix: 16)), \(outcome.violation ?? "no violation")"
        )
    }
}
