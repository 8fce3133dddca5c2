import ArgumentParser
import Foundation
import Micro

/// `stampede-bench micro`: measures the cost of single operations of the broker's parts.
struct MicroCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "micro",
        abstract:
            "Measure parser, encoder, slabs, timers, mailbox and turns of a shard, in nanoseconds and instructions.",
        discussion: """
            Times vary with the machine and its neighbours. Instruction counts hardly do: compare these across \
            commits. --json FILE keeps the figures, and --baseline FILE compares with them. The processor counts \
            instructions where perf_event_open is allowed; elsewhere --instructions counts them with valgrind, in a \
            second run of half a minute.
            """)

    @Option(help: "Only operations whose name contains this.")
    var only: String?

    @Option(help: "Milliseconds for each measurement.")
    var milliseconds = 20

    @Option(help: "Measurements of each operation; the fastest counts.")
    var rounds = 7

    @Flag(help: "Count instructions with valgrind.")
    var instructions = false

    @Option(help: "Compare with the figures in this file, which --json wrote.")
    var baseline: String?

    @Option(help: "Write the figures to this file as JSON.")
    var json: String?

    @Option(help: .hidden)
    var countOnly: Int?

    func validate() throws {
        guard 1...10_000 ~= milliseconds else { throw ValidationError("--milliseconds: 1 to 10,000") }
        guard 1...1000 ~= rounds else { throw ValidationError("--rounds: 1 to 1,000") }
    }

    func run() throws {
        let cases = MicroCase.all.filter { micro in only.map { micro.name.contains($0) } ?? true }
        guard !cases.isEmpty else { throw ValidationError("--only: the name of no operation contains this") }
        if let countOnly {
            for micro in cases { MicroMeasurement.runBetweenMarks(micro, count: countOnly) }
            return
        }
        let before = try baseline.map { path -> MicroReport in
            do {
                return try JSONDecoder().decode(MicroReport.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
            } catch {
                throw ValidationError("--baseline \(path): not figures of --json (\(error.localizedDescription))")
            }
        }
        let counted = try instructions ? CallgrindRun(only: only).count(cases) : [:]
        let progress = ProgressLine()
        var report = MicroReport()
        for micro in cases {
            progress.show(micro.name)
            var figure = MicroMeasurement.measure(micro, milliseconds: milliseconds, rounds: rounds)
            if let count = counted[micro.name] { figure.instructions = count }
            report.figures[micro.name] = figure
        }
        progress.clear()
        for line in report.lines(cases, before: before) { print(line) }
        if let json { try writeJSON(report, to: json) }
    }
}

/// The figures, by the name of the operation.
struct MicroReport: Codable {
    var figures: [String: MicroFigure] = [:]

    func lines(_ cases: [MicroCase], before: MicroReport?) -> [String] {
        var rows = [
            ["operation", "ns", "instructions"] + (before == nil ? [] : ["ns before", "ratio", "ratio of instr."])
        ]
        for micro in cases {
            guard let figure = figures[micro.name] else { continue }
            var row = [micro.name, OutcomeTable.decimals(figure.nanoseconds, 2), Self.text(figure.instructions)]
            if let before {
                let old = before.figures[micro.name]
                row.append(old.map { OutcomeTable.decimals($0.nanoseconds, 2) } ?? "-")
                row.append(Self.ratio(figure.nanoseconds, old?.nanoseconds))
                row.append(Self.ratio(figure.instructions, old?.instructions))
            }
            rows.append(row)
        }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.enumerated().map { position, row in
            let cells = zip(row, widths).enumerated().map { column, pair in
                let padding = String(repeating: " ", count: pair.1 - pair.0.count)
                return column == 0 ? pair.0 + padding : padding + pair.0
            }.joined(separator: "  ")
            return position == 0 ? cells : "\(cells)  \(cases.first { $0.name == row[0] }?.summary ?? "")"
        }
    }

    private static func text(_ value: Double?) -> String { value.map { OutcomeTable.decimals($0, 1) } ?? "-" }

    private static func ratio(_ new: Double?, _ old: Double?) -> String {
        guard let new, let old, old > 0 else { return "-" }
        return OutcomeTable.decimals(new / old, 3)
    }
}
