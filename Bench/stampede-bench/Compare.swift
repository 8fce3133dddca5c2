import ArgumentParser
import CProcess
import Foundation
import Load

/// `stampede-bench compare`: measures all scenarios on several servers.
struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure every scenario on several servers, interleaved, and write a report.",
        discussion: """
            Compares the broker on io_uring with itself on epoll and with the peers that --peers names. All servers \
            run at the same time on one CPU, and the load generator on another. Each scenario is measured on one \
            server after the other and back again (A B C C B A), so that the figures of a row are taken within \
            seconds. A fixed loop on the server's core before and after each run shows whether its sibling hyperthread \
            is busy. A run is repeated if the sibling was busy or either side waited for a core. The report says how \
            many runs were repeated, and marks those that stayed disturbed.

            With --only, the tables of idle connections, of a queue's backlog and of latency at half of the peak rate \
            are left out unless an option asks for them, and a report is written only to --output.
            """)

    @OptionGroup(title: "Servers") var servers: ServerOptions

    @Option(help: "Rounds; the report has their medians. Default: 3, with --quick 1.")
    var rounds: Int?

    @Flag(help: "One round of short measurements, in about three minutes.")
    var quick = false

    @Option(help: "Seconds to measure. Default: 1, with --quick 0.3.")
    var seconds: Double?

    @Option(help: "Seconds to warm up. Default: 0.5, with --quick 0.2.")
    var warmUp: Double?

    @Option(help: "Only rows whose name contains this. Can be repeated.")
    var only: [String] = []

    @Option(help: "How many idle connections to measure; 0: none. Default: 14,000, with --quick 5,000.")
    var idle: Int?

    @Option(help: "How many messages to fill a queue with; 0: none. Default: 400,000, with --quick 100,000.")
    var backlog: Int?

    @Flag(inversion: .prefixedNo, help: "Measure latency at half of the peak rate. Default: yes, with --quick no.")
    var latency: Bool?

    @Option(help: "How often a disturbed run is repeated at most.")
    var repeats = 5

    @Option(help: "Repeat no run after this many minutes. Default: 60, with --quick 5.")
    var repeatMinutes: Double?

    @Option(parsing: .unconditional, help: "The CPU to bind the servers to; -1: none.")
    var serverCPU: Int32 = 0

    @Option(parsing: .unconditional, help: "The CPU to bind the load generator to; -1: none.")
    var cpu: Int32 = 1

    @Option(
        help: """
            Write the report to this file (Markdown, with charts beside it). Default: Bench/results/DATE.md in the \
            package's folder, and no report with --only or --quick.
            """)
    var output: String?

    @Option(help: "Write every result to this file as JSON.")
    var json: String?

    func validate() throws {
        guard 1...1000 ~= rounds ?? 1 else { throw ValidationError("--rounds: 1 to 1,000") }
        guard 0...14_000 ~= idle ?? 0 else { throw ValidationError("--idle: at most 14,000; see conns for more") }
        guard 0...100 ~= repeats else { throw ValidationError("--repeats: at most 100") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        guard cpu < 0 || process_bind(cpu) == 0 else { throw ValidationError("--cpu \(cpu): no such CPU") }
        let rows = try chosenRows()
        let rounds = rounds ?? (quick ? 1 : 3)
        // The folder is created first, so that the results of a long run are not lost.
        for path in [json, output].compactMap({ $0 }) { try makeFolder(of: path) }
        let schedule = Schedule(
            warmUpSeconds: warmUp ?? (quick ? 0.2 : 0.5), seconds: seconds ?? (quick ? 0.3 : 1))
        var field = Field(
            kinds: try servers.kinds(), fleet: Fleet(cpu: serverCPU < 0 ? nil : serverCPU),
            calibrator: Calibrator(cpu: serverCPU < 0 ? nil : serverCPU), schedule: schedule, rounds: rounds,
            repeats: repeats, repeatSeconds: 60 * (repeatMinutes ?? (quick ? 5 : 60)))
        let isWhole = only.isEmpty
        let results = CompareResults(
            machine: Machine(), schedule: schedule, rounds: rounds,
            field: try field.measure(rows),
            latency: try latency ?? (isWhole && !quick) ? field.measureLatency() : nil,
            idle: try field.hold(idle ?? (!isWhole ? 0 : quick ? 5000 : 14_000)),
            backlog: try field.fill(backlog ?? (!isWhole ? 0 : quick ? 100_000 : 400_000)))
        for section in results.sections { print("\n\(section.title)\n\n\(section.table)") }
        print("\n\(Comparison.legend)\n\(results.thrownAwayText)")
        if let json { try writeJSON(results.everything, to: json) }
        if let output = output ?? defaultOutput {
            try results.report.write(to: output)
            print("\nwritten to \(output)")
        }
        if !results.isClean { throw ExitCode(1) }
    }

    private var defaultOutput: String? {
        guard only.isEmpty, !quick, FileManager.default.fileExists(atPath: "Bench/README.md") else { return nil }
        return "Bench/results/\(Machine().date).md"
    }

    private func chosenRows() throws -> [Row] {
        let rows = Row.all.filter { row in only.isEmpty || only.contains { row.name.contains($0) } }
        guard !rows.isEmpty else {
            throw ValidationError("--only: no such row; there are \(Row.all.map(\.name).joined(separator: ", "))")
        }
        return rows
    }
}

/// All results of a comparison.
struct CompareResults {
    let machine: Machine
    let schedule: Schedule
    let rounds: Int
    let field: Comparison
    let latency: LatencyComparison?
    let idle: IdleComparison?
    let backlog: BacklogComparison?

    var isClean: Bool {
        (field.outcomes + (latency?.comparison.outcomes ?? [])).allSatisfy(\.isClean) && (idle?.isClean ?? true)
            && (backlog?.isClean ?? true)
    }

    var sections: [Section] {
        field.sections + (latency?.sections ?? []) + [idle?.section, backlog?.section].compactMap { $0 }
    }

    var thrownAwayText: String {
        "\(field.thrownAwayText)" + (latency.map { "; latency: \($0.comparison.thrownAwayText)" } ?? "")
    }

    var report: Report {
        Report(
            title: "Comparison of \(machine.date)",
            preface: """
                \(machine.text)

                Medians of \(rounds) interleaved rounds, \(schedule.seconds.formatted) s each after \
                \(schedule.warmUpSeconds.formatted) s of warm-up; ± is half of the range. Server and load generator \
                each on a CPU of its own; all servers run side by side, and each row goes round them. \
                \(thrownAwayText). \(Comparison.legend); - the peer has no such thing.
                """,
            sections: sections)
    }

    struct Everything: Encodable {
        let machine: String
        let date: String
        let rounds: Int
        let seconds: Double
        let warmUpSeconds: Double
        let servers: [String]
        /// Milliseconds. nil: not calibrated.
        let fastestCalibration: Double?
        let runs: Int
        let thrownAway: Int
        let thrownAwayBesideBusyCore: Int
        let outcomes: [Outcome]
        let latencyRates: [String: Double]
        let latencyOutcomes: [Outcome]
        let idle: [String: [CrowdReport]]
        let backlog: [BacklogReport]
    }

    var everything: Everything {
        let outcomes = field.outcomes + (latency?.comparison.outcomes ?? [])
        let fastest = min(field.fastestCalibration, latency?.comparison.fastestCalibration ?? .infinity)
        return Everything(
            machine: machine.text, date: machine.date, rounds: rounds, seconds: schedule.seconds,
            warmUpSeconds: schedule.warmUpSeconds, servers: field.servers,
            fastestCalibration: fastest.isFinite ? fastest : nil, runs: outcomes.map(\.attempts).reduce(0, +),
            thrownAway: outcomes.map(\.thrownAway).reduce(0, +),
            thrownAwayBesideBusyCore: outcomes.map(\.thrownAwayBesideBusyCore).reduce(0, +),
            outcomes: field.outcomes,
            latencyRates: latency?.rates ?? [:], latencyOutcomes: latency?.comparison.outcomes ?? [],
            idle: idle?.reports ?? [:], backlog: backlog?.reports ?? [])
    }
}
