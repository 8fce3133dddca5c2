/// One limit on the number of connections of a machine.
public struct Finding: Sendable, Equatable, Codable {
    public enum Verdict: String, Sendable, Codable {
        case met
        /// It is enough, but something can be improved or should be known.
        case advice
        /// It is not enough for N connections.
        case missing
        /// The value cannot be read here.
        case unknown
    }

    /// "RLIMIT_NOFILE", "net.core.somaxconn".
    public var name: String
    public var verdict: Verdict
    public var found: String
    public var needed: String
    /// Why it matters or does not matter. One line; may be empty.
    public var note: String
    /// What to change: commands or settings. Any one of them is enough unless it says otherwise.
    public var remedies: [String]

    public init(
        _ name: String, _ verdict: Verdict, found: String, needed: String, note: String = "", remedies: [String] = []
    ) {
        self.name = name
        self.verdict = verdict
        self.found = found
        self.needed = needed
        self.note = note
        self.remedies = remedies
    }

    /// A number that must be at least `needed`. nil: it cannot be read.
    static func atLeast(
        _ name: String, _ found: Int?, _ needed: Int, note: String = "", remedies: [String]
    ) -> Finding {
        guard let found else {
            return Finding(name, .unknown, found: "not readable", needed: needed.grouped, note: note)
        }
        let isMet = found >= needed
        return Finding(
            name, isMet ? .met : .missing, found: found.grouped, needed: needed.grouped, note: note,
            remedies: isMet ? [] : remedies)
    }
}

/// The result of the check of a machine.
public struct CapacityReport: Sendable, Equatable, Codable {
    public var connections: Int
    public var surroundings: String
    public var kernel: String
    public var findings: [Finding]

    /// Whether the machine can hold N connections, as far as the values could be read.
    public var isMet: Bool { !findings.contains { $0.verdict == .missing } }

    /// The report as text. A finding that is met takes one line. The others also list what to change.
    public var lines: [String] {
        let width = (findings.map(\.name.count).max() ?? 0) + 2
        var lines = ["\(connections.grouped) connections on Linux \(kernel), \(surroundings):"]
        for finding in findings {
            let name = finding.name + String(repeating: " ", count: width - finding.name.count)
            let needed = finding.needed.isEmpty ? "" : ", needed: \(finding.needed)"
            lines.append("\(Self.mark(finding.verdict))  \(name)found: \(finding.found)\(needed)")
            if !finding.note.isEmpty { lines.append("         \(finding.note)") }
            for (position, remedy) in finding.remedies.enumerated() {
                lines.append("         \(position == 0 ? "do:" : "or:") \(remedy)")
            }
        }
        let missing = findings.filter { $0.verdict == .missing }.count
        lines.append(missing == 0 ? "all checks passed" : "\(missing) of \(findings.count) checks failed")
        return lines
    }

    /// Only the findings that are not met.
    public var complaints: [String] {
        CapacityReport(
            connections: connections, surroundings: surroundings, kernel: kernel,
            findings: findings.filter { $0.verdict == .missing }
        ).lines
    }

    private static func mark(_ verdict: Finding.Verdict) -> String {
        switch verdict {
        case .met: "ok     "
        case .advice: "advice "
        case .missing: "MISSING"
        case .unknown: "unknown"
        }
    }
}

extension Int {
    /// 1234567 -> "1,234,567". The largest integer is "unlimited".
    var grouped: String {
        if self == .max { return "unlimited" }
        let digits = String(magnitude)
        var text = self < 0 ? "-" : ""
        for (position, digit) in digits.enumerated() {
            if position > 0, (digits.count - position) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }

    /// 8388608 -> "8.0 MiB"
    var mebibytes: String {
        if self == .max { return "unlimited" }
        let tenths = (self * 10 + (1 << 19)) >> 20
        return "\((tenths / 10).grouped).\(tenths % 10) MiB"
    }
}
