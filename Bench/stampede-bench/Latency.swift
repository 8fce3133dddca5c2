import Load

/// Latency at half of the peak: all servers get the same rate, half of the peak of the slowest one.
struct LatencyComparison {
    /// Messages a second of all publishers together, for each row.
    let rates: [String: Double]
    private(set) var comparison: Comparison
    /// If a server reaches less than this share of the rate, it could not keep it.
    private static let keptShareMin = 0.95

    /// - Parameter peaks: the closed-loop outcomes, which give the peaks. Peers other than floors are left out, because
    ///   at our rates they would only build a backlog.
    init(peaks: Comparison) {
        let servers = peaks.servers.filter(Self.takesPart)
        var rates: [String: Double] = [:]
        for row in Row.all where row.hasLatency && peaks.rows.contains(row.name) {
            let reached = servers.map { peaks.median(row.name, $0) { Double($0.published) / $0.seconds }?.median }
            if let least = reached.compactMap({ $0 }).min(), least > 0 { rates[row.name] = least / 2 }
        }
        self.rates = rates
        comparison = Comparison(rows: Row.all.map(\.name).filter { rates[$0] != nil }, servers: servers)
    }

    mutating func add(_ outcome: Outcome) { comparison.add(outcome) }

    mutating func noteFastest(_ calibration: Double) { comparison.fastestCalibration = calibration }

    static func takesPart(_ server: String) -> Bool {
        LoadDriver(rawValue: server) != nil || Comparison.isFloor(server) || server.hasPrefix("baseline ")
    }

    private func p99(_ row: String, _ server: String) -> Double? {
        comparison.median(row, server, \.latency.p99)?.median
    }

    private func hasKept(_ row: String, _ server: String) -> Bool {
        guard let published = comparison.median(row, server, { Double($0.published) / $0.seconds }) else {
            return false
        }
        return published.median >= (rates[row] ?? 0) * Self.keptShareMin
    }

    var sections: [Section] { [section, comparison.thrownAway("Runs thrown away, latency")] }

    private var section: Section {
        let floors = comparison.servers.filter(Comparison.isFloor)
        let lines = comparison.rows.map { row in
            let cells = comparison.cells(row) { server in
                comparison.latency(row, server).map { hasKept(row, server) ? $0 : "\($0) <" }
            }
            var ratio = "-"
            if let floor = floors.compactMap({ p99(row, $0) }).min(), floor > 0, let ours = p99(row, Comparison.ours) {
                ratio = OutcomeTable.decimals(ours / floor, 2)
            }
            return [row, OutcomeTable.grouped(rates[row] ?? 0)] + cells + [ratio]
        }
        let chart = Chart(
            title: "99th percentile of latency at half of the peak rate, us: shorter is better", rows: comparison.rows,
            series: comparison.servers, value: p99)
        return Section(
            title: "Latency at half of the peak rate, us, median / 99th percentile",
            text: """
                The rate is half of what the slowest of these servers reached in its closed loop; latency counts from when \
                a message was due. The last column is our 99th percentile over the better floor's. < the rate was not kept.
                """,
            head: ["", "messages/s"] + comparison.servers + ["\(Comparison.ours)/floor"], lines: lines,
            chart: ("latency", chart))
    }
}
