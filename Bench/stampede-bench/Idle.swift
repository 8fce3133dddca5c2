import Load

/// What holding connections costs on each server: the second table of a comparison.
struct IdleComparison {
    let count: Int
    let servers: [String]
    private var reports: [String: [CrowdReport]] = [:]

    init(count: Int, servers: [String]) {
        self.count = count
        self.servers = servers
    }

    mutating func add(_ report: CrowdReport, _ server: String) { reports[server, default: []].append(report) }

    var isClean: Bool { reports.values.joined().allSatisfy(\.isClean) }

    static let head = [
        "server", "server memory, B/connection", "kernel memory of both ends, B", "connects/s",
        "connect, us of server CPU",
        "broadcast, ms", "broadcast, us of server CPU each",
    ]

    /// Medians.
    var lines: [[String]] {
        servers.compactMap { server in
            guard let reports = reports[server], !reports.isEmpty else { return nil }
            func median(_ value: (CrowdReport) -> Double) -> Double {
                let values = reports.map(value).sorted()
                return values[values.count / 2]
            }
            let count = Double(max(count, 1))
            let failed = reports.contains { !$0.isClean } ? " !" : ""
            return [
                server + failed,
                OutcomeTable.grouped(median { Double($0.serverBytes) / count }),
                OutcomeTable.grouped(median { Double($0.kernelBytes) / count }),
                OutcomeTable.grouped(median { Double($0.connections) / max($0.connectSeconds, 1e-9) }),
                OutcomeTable.decimals(median { $0.connectServerSeconds * 1e6 / count }, 1),
                OutcomeTable.decimals(median { ($0.broadcasts.last?.seconds ?? 0) * 1000 }, 0),
                OutcomeTable.decimals(median { ($0.broadcasts.last?.serverSeconds ?? 0) * 1e6 / count }, 2),
            ]
        }
    }
}
