/// One thing that bounds how many connections a machine holds.
public struct Finding: Sendable, Equatable, Codable {
    public enum Verdict: String, Sendable, Codable {
        case met
        /// It will do, but there is something to know or to gain.
        case advice
        /// N connections will not be held.
        case missing
        /// It cannot be read here.
        case unknown
    }

    /// "RLIMIT_NOFILE", "net.core.somaxconn".
    public var name: String
    public var verdict: Verdict
    public var found: String
    public var needed: String
    /// Why it matters, or why not; one line, may be empty.
    public var note: String
    /// What mends it, a command or a setting each; any one of them does unless it says otherwise.
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

    /// A number that has to be at least `needed`; nil: not to be read.
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

/// What the check of a machine came to.
public struct CapacityReport: Sendable, Equatable, Codable {
    public var connections: Int
    public var surroundings: String
    public var kernel: String
    public var findings: [Finding]

    /// N connections can be held, as far as can be told.
    public var isMet: Bool { !findings.contains { $0.verdict == .missing } }

    /// The report as text. Findings that are met take a line, others say what mends them.
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

    /// Only what is not met.
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
    /// 1234567 -> "1,234,567"; the largest is "unlimited".
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
