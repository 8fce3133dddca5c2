import Load

/// The outcomes of all rows on all servers, and their summary.
struct Comparison {
    let rows: [String]
    let servers: [String]
    private(set) var outcomes: [Outcome] = []
    /// The fastest calibration in milliseconds. It is known at the end. Runs that were judged by a slower value are
    /// marked.
    var fastestCalibration = Double.infinity

    init(rows: [String], servers: [String]) {
        self.rows = rows
        self.servers = servers
    }

    mutating func add(_ outcome: Outcome) { outcomes.append(outcome) }

    func outcomes(_ row: String, _ server: String) -> [Outcome] {
        outcomes.filter { $0.scenario == row && $0.server == server }
    }

    /// The median over the rounds, and half of the range as a share of the median.
    func median(_ row: String, _ server: String, _ value: (Outcome) -> Double) -> (median: Double, spread: Double)? {
        let values = outcomes(row, server).filter { $0.failure == nil }.map(value).sorted()
        guard let first = values.first, let last = values.last else { return nil }
        let median = Self.median(values)
        return (median, median > 0 ? (last - first) / 2 / median : 0)
    }

    /// - Parameter values: in order, at least one.
    static func median(_ values: [Double]) -> Double {
        let middle = values.count / 2
        return values.count % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2
    }

    func cost(_ row: String, _ server: String) -> Double? {
        median(row, server, \.serverMicrosecondsPerDelivery)?.median
    }

    func rate(_ row: String, _ server: String) -> Double? { median(row, server, \.deliveredPerSecond)?.median }

    /// The most messages that a server confirmed in a second, in a row of either kind. nil: none was confirmed.
    func bestConfirmedRate(_ server: String, isPersistent: Bool?) -> Double? {
        outcomes.filter { $0.server == server && $0.confirmation?.isPersistent == isPersistent }
            .compactMap { $0.confirmation?.messagesPerSecond }.max()
    }

    // MARK: Ratios

    static let ours = "uring"
    static func isFloor(_ server: String) -> Bool { server.hasPrefix("floor_") }

    /// The yardsticks: names of columns, and the servers of which the better one counts.
    private var yardsticks: [(name: String, servers: [String])] {
        var yardsticks: [(name: String, servers: [String])] = [
            ("epoll", servers.filter { $0 == "epoll" }), ("floor", servers.filter(Self.isFloor)),
        ]
        for peer in servers where Peer(rawValue: peer) != nil { yardsticks.append((peer, [peer])) }
        return yardsticks.filter { !$0.servers.isEmpty }
    }

    private var ratioHead: [String] { yardsticks.map { "\(Self.ours)/\($0.name)" } }

    /// The ratio of our figure on io_uring to that of each yardstick.
    ///
    /// - Parameter better: chooses the better of two floors.
    private func ratios(
        _ row: String, _ better: (Double, Double) -> Double, _ value: (String, String) -> Double?
    ) -> [String] {
        yardsticks.map { yardstick in
            let theirs = yardstick.servers.compactMap { value(row, $0) }.filter { $0 > 0 }
            guard let first = theirs.first, let ours = value(row, Self.ours) else { return "-" }
            return Self.ratio(ours / theirs.dropFirst().reduce(first, better))
        }
    }

    /// The ratio as text: "1.05", or three digits if it is far from 1.
    static func ratio(_ value: Double) -> String {
        (0.1..<100).contains(value) ? OutcomeTable.decimals(value, 2) : short(value)
    }

    // MARK: Tables

    static let legend = """
        ~ a side waited for a core in some round; ? the server's core had a busy sibling in some round; ! something was \
        lost, damaged or failed
        """

    var sections: [Section] {
        var sections = [costs, rates, latencies, shares]
        if !stalledLines.isEmpty { sections.append(stalled) }
        sections.append(thrownAway("Runs thrown away"))
        return sections
    }

    private func marks(_ row: String, _ server: String) -> String {
        let outcomes = outcomes(row, server)
        let isBesideBusyCore = outcomes.contains { RunSelection.isBesideBusyCore($0, fastest: fastestCalibration) }
        return (outcomes.contains(where: \.isDisturbed) ? " ~" : "") + (isBesideBusyCore ? " ?" : "")
            + (outcomes.contains { !$0.isClean } ? " !" : "")
    }

    /// A cell for each server. "-": the row is not possible.
    func cells(_ row: String, _ text: (_ server: String) -> String?) -> [String] {
        servers.map { server in
            outcomes(row, server).isEmpty ? "-" : (text(server) ?? "failed") + marks(row, server)
        }
    }

    private var costs: Section {
        let lines = rows.map { row in
            let cells = cells(row) { server in
                median(row, server, \.serverMicrosecondsPerDelivery).map {
                    "\(Self.short($0.median)) ±\(OutcomeTable.decimals($0.spread * 100, 0))%"
                }
            }
            return [row] + cells + ratios(row, min, cost)
        }
        let chart = Chart(
            title: "Microseconds of server CPU per delivery: shorter is better", rows: rows, series: servers,
            value: cost)
        return Section(
            title: "Cost", head: ["us of server CPU per delivery"] + servers + ratioHead, lines: lines,
            chart: ("cost", chart))
    }

    private var rates: Section {
        let lines = rows.map { row in
            [row] + cells(row) { rate(row, $0).map(OutcomeTable.grouped) } + ratios(row, max, rate)
        }
        let chart = Chart(
            title: "Deliveries per second: longer is better", rows: rows, series: servers, value: rate)
        return Section(
            title: "Deliveries per second", head: [""] + servers + ratioHead, lines: lines, chart: ("rate", chart))
    }

    /// The rates alone, without ratios and chart.
    var rateSection: Section {
        Section(
            title: "Deliveries per second", head: [""] + servers,
            lines: rows.map { row in [row] + cells(row) { rate(row, $0).map(OutcomeTable.grouped) } })
    }

    private var latencies: Section {
        let lines = rows.map { row in [row] + cells(row) { latency(row, $0) } }
        return Section(
            title: "Latency, us, median / 99th percentile",
            text: "Closed loop: what a window full of messages makes of it. Paced rows: from when a message was due.",
            head: [""] + servers, lines: lines)
    }

    /// "12 / 345"
    func latency(_ row: String, _ server: String) -> String? {
        guard let p50 = median(row, server, \.latency.p50), let p99 = median(row, server, \.latency.p99) else {
            return nil
        }
        return "\(OutcomeTable.grouped(p50.median)) / \(OutcomeTable.grouped(p99.median))"
    }

    var shares: Section {
        let lines = rows.map { row in
            [row]
                + cells(row) { server in
                    let values: [(Outcome) -> Double] = [\.serverShare, \.loadShare]
                    return values.map { value in
                        median(row, server, value).map { OutcomeTable.percent($0.median) } ?? "-"
                    }.joined(separator: " / ")
                }
        }
        return Section(title: "CPU, server / load generator", head: [""] + servers, lines: lines)
    }

    // MARK: Runs that do not count

    /// "12 of 80 runs thrown away, 10 of them beside a busy sibling".
    var thrownAwayText: String {
        let thrownAway = outcomes.map(\.thrownAway).reduce(0, +)
        let busy = outcomes.map(\.thrownAwayBesideBusyCore).reduce(0, +)
        let marked = outcomes.count { !RunSelection.counts($0, fastest: fastestCalibration) }
        let rest = marked == 0 ? "" : "; \(marked) that should not count were kept for want of a better one"
        return "\(thrownAway) of \(runCount) runs thrown away, \(busy) of them beside a busy sibling\(rest)"
    }

    var runCount: Int { outcomes.map(\.attempts).reduce(0, +) }

    func thrownAway(_ title: String) -> Section {
        let fastest =
            fastestCalibration.isFinite ? "\(OutcomeTable.decimals(fastestCalibration, 2)) ms" : "not measured"
        return Section(
            title: title,
            text: """
                \(thrownAwayText). A loop of independent adds and loads runs on the server's core right before and after each \
                run; the fastest seen: \(fastest). A run counts if both were within \(RunSelection.slownessMax) of it and \
                neither side waited for a core.
                """,
            head: ["thrown away / all runs"] + servers,
            lines: rows.map { row in
                [row]
                    + cells(row) { server in
                        let outcomes = outcomes(row, server)
                        let thrownAway = outcomes.map(\.thrownAway).reduce(0, +)
                        return "\(thrownAway) / \(outcomes.map(\.attempts).reduce(0, +))"
                    }
            })
    }

    // MARK: The stalled subscriber

    private var stalledLines: [[String]] {
        let (without, with) = (Row.withoutStalled, Row.withStalled)
        return servers.compactMap { server in
            guard let before = rate(without, server), let after = rate(with, server), before > 0,
                let costBefore = cost(without, server), let costAfter = cost(with, server), costBefore > 0
            else { return nil }
            return [
                server, OutcomeTable.grouped(before), OutcomeTable.grouped(after),
                OutcomeTable.decimals(after / before, 2), OutcomeTable.decimals(costAfter / costBefore, 2),
                outcomes(with, server).contains { $0.cut > 0 } ? "yes" : "no",
            ]
        }
    }

    private var stalled: Section {
        Section(
            title: "One of 1,000 subscribers stops reading",
            text: "What the others get meanwhile, and whether the server's limits cut the one that stalled.",
            head: ["", "deliveries/s without", "with", "rate, with/without", "cost, with/without", "cut"],
            lines: stalledLines)
    }

    /// Three significant digits.
    static func short(_ value: Double) -> String {
        guard value < 1000 else { return OutcomeTable.grouped(value) }
        var digits = 2
        var bound = 1.0
        while value < bound, digits < 6 {
            digits += 1
            bound /= 10
        }
        if value >= 10 { digits -= 1 }
        if value >= 100 { digits -= 1 }
        return OutcomeTable.decimals(value, digits)
    }
}
