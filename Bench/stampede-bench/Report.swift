import Foundation
import Load

/// A part of a report: a table, and optionally a chart of it.
struct Section {
    let title: String
    var text = ""
    let head: [String]
    let lines: [[String]]
    /// The chart, and the suffix of its file name.
    var chart: (name: String, chart: Chart)?

    var markdown: String {
        let rule = ["---"] + Array(repeating: "---:", count: head.count - 1)
        return ([head, rule] + lines).map { "| \($0.joined(separator: " | ")) |" }.joined(separator: "\n")
    }

    /// For a terminal.
    var table: String {
        let all = [head] + lines
        let widths = head.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { line in
            line.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + padding : padding + cell
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}

/// The report of a comparison: Markdown, and charts in separate files.
struct Report {
    let title: String
    let preface: String
    let sections: [Section]

    /// `charts/2026-11-21.md` -> the charts are `charts/2026-11-21-cost.svg` and so on.
    func write(to path: String) throws {
        try makeFolder(of: path)
        let stem = (path as NSString).deletingPathExtension
        try markdown(stem: (stem as NSString).lastPathComponent)
            .write(toFile: path, atomically: true, encoding: .utf8)
        for case let (name, chart)? in sections.map(\.chart) {
            try chart.text.write(toFile: "\(stem)-\(name).svg", atomically: true, encoding: .utf8)
        }
    }

    func markdown(stem: String) -> String {
        let parts = sections.map { section in
            var parts = ["## \(section.title)", section.text, section.markdown]
            if let chart = section.chart { parts.append("![\(section.title)](\(stem)-\(chart.name).svg)") }
            return parts.filter { !$0.isEmpty }.joined(separator: "\n\n")
        }
        return (["# \(title)", preface] + parts).joined(separator: "\n\n") + "\n"
    }
}

/// The machine on which the figures were measured.
struct Machine {
    let date: String
    let text: String

    init() {
        let formatter = DateFormatter()
        formatter.dateFormat = "yyyy-MM-dd"
        formatter.locale = Locale(identifier: "en_US_POSIX")
        date = formatter.string(from: Date())
        let processor = Self.line("/proc/cpuinfo", "model name") ?? "unknown processor"
        let count = ProcessInfo.processInfo.processorCount
        let gibibytes = Double(ProcessInfo.processInfo.physicalMemory) / Double(1 << 30)
        let kernel = (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)) ?? "?\n"
        text =
            "\(count) CPUs (\(processor)), \(OutcomeTable.decimals(gibibytes, 0)) GiB, Linux \(kernel.dropLast()), loopback."
    }

    private static func line(_ path: String, _ name: String) -> String? {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
        return line?.split(separator: ":").last?.trimmingCharacters(in: .whitespaces)
    }
}
