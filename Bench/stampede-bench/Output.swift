import Foundation
import Glibc
import Load

/// A progress line on a terminal, which is overwritten. Without a terminal nothing is written.
final class ProgressLine {
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var lastTime = 0.0
    private var isShown = false
    private static let intervalSeconds = 0.2

    func show(_ text: @autoclosure () -> String) {
        guard isTerminal else { return }
        let now = Date().timeIntervalSince1970
        guard now - lastTime >= Self.intervalSeconds else { return }
        lastTime = now
        isShown = true
        write("\r\u{1B}[K\(text())")
    }

    func clear() {
        if isShown { write("\r\u{1B}[K") }
        isShown = false
    }

    private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}

func warn(_ text: String) { FileHandle.standardError.write(Data("stampede-bench: \(text)\n".utf8)) }

/// The folder of an output file.
func makeFolder(of path: String) throws {
    let folder = (path as NSString).deletingLastPathComponent
    if !folder.isEmpty {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }
}

func writeJSON(_ value: some Encodable, to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(value).write(to: URL(fileURLWithPath: path))
}

/// Outcomes as lines of a table.
enum OutcomeTable {
    private static let columns: [(name: String, width: Int)] = [
        ("scenario", 40), ("us/delivery", 12), ("deliveries/s", 14), ("server", 8), ("system", 8), ("load", 8),
        ("wait", 12),
        ("p50 us", 10), ("p99 us", 10), ("RSS MiB", 9),
    ]

    static var head: String { line(columns.map(\.name)) }

    static func row(_ outcome: Outcome) -> String {
        line([
            outcome.scenario, decimals(outcome.serverMicrosecondsPerDelivery, 4), grouped(outcome.deliveredPerSecond),
            percent(outcome.serverShare), percent(outcome.serverSystemShare), percent(outcome.loadShare),
            "\(percent(outcome.serverWaitShare))/\(percent(outcome.loadWaitShare))", decimals(outcome.latency.p50, 1),
            decimals(outcome.latency.p99, 1), decimals(Double(outcome.serverResidentBytes) / 1_048_576, 1),
        ])
    }

    /// The problems of an outcome, as text.
    static func complaints(_ outcome: Outcome) -> [String] {
        var lines: [String] = []
        if let failure = outcome.failure { lines.append("  FAILED: \(failure)") }
        let anomalies = outcome.anomalies
        if !anomalies.isClean {
            lines.append(
                "  WRONG: \(anomalies.lost) lost, \(anomalies.duplicated) duplicated, \(anomalies.misordered) out of order, "
                    + "\(anomalies.corrupt) damaged, \(anomalies.ended) connections ended, "
                    + "\(anomalies.unconfirmed) not confirmed")
        }
        if outcome.isDisturbed { lines.append("  disturbed: one side waited for a core; run this again") }
        if outcome.cut > 0 { lines.append("  the server disconnected \(outcome.cut) stalled subscriber") }
        return lines
    }

    private static func line(_ cells: [String]) -> String {
        zip(cells, columns).enumerated().map { position, pair in
            let (cell, column) = pair
            let padding = String(repeating: " ", count: max(0, column.width - cell.count))
            return position == 0 ? cell + padding : padding + cell
        }.joined(separator: " ")
    }

    static func decimals(_ value: Double, _ count: Int) -> String { String(format: "%.\(count)f", value) }

    static func percent(_ share: Double) -> String { String(format: "%.1f%%", share * 100) }

    /// 1234567.8 -> "1,234,568"
    static func grouped(_ value: Double) -> String {
        let digits = String(Int(value.rounded().magnitude))
        var text = value <= -0.5 ? "-" : ""
        for (position, digit) in digits.enumerated() {
            if position > 0, (digits.count - position) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }
}
