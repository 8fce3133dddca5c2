import Glibc

extension BrokerProcess {
    /// The counters that the broker logs at SIGUSR1, of all its workers together. (Their sum is on a line before theirs.)
    ///
    /// - Parameter workers: as the broker was started with; each logs a line.
    public func counters(workers: Int = 1) throws -> [String: Int] {
        let before = reportLines.count
        process.signal(SIGUSR1)
        let wanted = before + workers
        var seen = 0
        _ = try process.errorLine { line in
            if Self.isReport(line) { seen += 1 }
            return seen == wanted
        }
        var sums: [String: Int] = [:]
        for line in reportLines[before..<wanted] {
            for word in line.split(separator: " ") {
                let parts = word.split(separator: "=")
                guard parts.count == 2, let value = Int(parts[1]) else { continue }
                sums[String(parts[0]), default: 0] += value
            }
        }
        return sums
    }

    private var reportLines: [String] { process.errorLines.filter(Self.isReport) }

    private static func isReport(_ line: String) -> Bool {
        line.contains("connections-now=") && line.contains("worker=")
    }
}
