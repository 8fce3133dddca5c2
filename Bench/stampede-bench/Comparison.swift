import Foundation
import Load

/// The outcomes of a comparison, and what they add up to.
struct Comparison {
    let rows: [String]
    let servers: [String]
    let rounds: Int
    private(set) var outcomes: [Outcome] = []

    init(rows: [String], servers: [String], rounds: Int) {
        self.rows = rows
        self.servers = servers
        self.rounds = rounds
    }

    mutating func add(_ outcome: Outcome) { outcomes.append(outcome) }

    func outcomes(_ row: String, _ server: String) -> [Outcome] {
        outcomes.filter { $0.scenario == row && $0.server == server }
    }

    /// The median over the rounds, and half of the distance from the least to the greatest, as a share of it.
    func median(_ row: String, _ server: String, _ value: (Outcome) -> Double) -> (median: Double, spread: Double)? {
        let values = outcomes(row, server).filter { $0.failure == nil }.map(value).sorted()
        guard let first = values.first, let last = values.last else { return nil }
        let middle = values.count / 2
        let median = values.count % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2
        return (median, median > 0 ? (last - first) / 2 / median : 0)
    }

    func cost(_ row: String, _ server: String) -> Double? {
        median(row, server, \.serverMicrosecondsPerDelivery)?.median
    }

    /// Our cost on io_uring over the better floor's.
    func overFloor(_ row: String) -> Double? {
        let floors = servers.filter { $0.hasPrefix("floor_") }.compactMap { cost(row, $0) }
        guard let floor = floors.min(), floor > 0, let ours = cost(row, "uring") else { return nil }
        return ours / floor
    }

    /// Our cost on io_uring over ours on epoll.
    func overEpoll(_ row: String) -> Double? {
        guard let epoll = cost(row, "epoll"), epoll > 0, let ours = cost(row, "uring") else { return nil }
        return ours / epoll
    }

    // MARK: Tables

    private var hasFloors: Bool { servers.contains { $0.hasPrefix("floor_") } }

    private var head: [String] {
        ["us of server CPU per delivery"] + servers + ["uring/epoll"] + (hasFloors ? ["uring/floor"] : [])
    }

    private func cells(_ row: String) -> [String] {
        var cells = [row]
        for server in servers {
            guard let (median, spread) = median(row, server, \.serverMicrosecondsPerDelivery) else {
                cells.append("failed")
                continue
            }
            let marks = outcomes(row, server).contains { !$0.isClean } ? " !" : ""
            let disturbed = outcomes(row, server).contains(where: \.isDisturbed) ? " ~" : ""
            cells.append("\(Self.significant(median)) ±\(OutcomeTable.decimals(spread * 100, 0))%\(disturbed)\(marks)")
        }
        cells.append(Self.ratio(overEpoll(row)))
        if hasFloors { cells.append(Self.ratio(overFloor(row))) }
        return cells
    }

    /// For a terminal.
    var table: String {
        Self.aligned([head] + rows.map(cells)) + "\n" + Self.legend
    }

    static func aligned(_ lines: [[String]]) -> String {
        let widths = (lines.first ?? []).indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        return lines.map { line in
            line.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + padding : padding + cell
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    private static let legend = "~ a side waited for a core in some round; ! something was lost, damaged or failed"

    private func markdown(_ head: [String], _ lines: [[String]]) -> String {
        let rule = ["---"] + Array(repeating: "---:", count: head.count - 1)
        return ([head, rule] + lines).map { "| \($0.joined(separator: " | ")) |" }.joined(separator: "\n")
    }

    func report(_ machine: Machine, _ schedule: Schedule, chart: String, idle: IdleComparison) -> String {
        let rates = rows.map { row in
            [row] + servers.map { median(row, $0, \.deliveredPerSecond).map { OutcomeTable.grouped($0.median) } ?? "-" }
        }
        let latencies = rows.map { row in
            [row]
                + servers.map { server in
                    guard let p50 = median(row, server, \.latency.p50), let p99 = median(row, server, \.latency.p99)
                    else { return "-" }
                    return "\(OutcomeTable.grouped(p50.median)) / \(OutcomeTable.grouped(p99.median))"
                }
        }
        let shares = rows.map { row in
            [row]
                + servers.map { server in
                    let values: [(Outcome) -> Double] = [\.serverShare, \.loadShare]
                    return values.map { value in
                        median(row, server, value).map { OutcomeTable.percent($0.median) } ?? "-"
                    }
                    .joined(separator: " / ")
                }
        }
        return """
            # Comparison of \(machine.date)

            \(machine.text)

            Medians of \(rounds) interleaved rounds, \(schedule.seconds.formatted) s each after \
            \(schedule.warmUpSeconds.formatted) s of warm-up; ± is half of the range. Server and load generator each on a \
            CPU of its own. \(Self.legend).

            ## Cost

            \(markdown(head, rows.map(cells)))

            ![Cost](\(chart))

            ## Deliveries per second

            \(markdown([""] + servers, rates))

            ## Latency, us, median / 99th percentile

            Closed loop: what a window full of messages makes of it. Paced rows: from when a message was due.

            \(markdown([""] + servers, latencies))

            ## CPU, server / load generator

            \(markdown([""] + servers, shares))
            \(idle.lines.isEmpty ? "" : idleSection(idle))
            """
    }

    private func idleSection(_ idle: IdleComparison) -> String {
        """

        ## \(OutcomeTable.grouped(Double(idle.count))) idle connections

        Each connected, subscribed and silent; then one message to all of them.

        \(markdown(IdleComparison.head, idle.lines))

        """
    }

    static func ratio(_ value: Double?) -> String { value.map { OutcomeTable.decimals($0, 2) } ?? "-" }

    /// Three significant digits.
    static func significant(_ value: Double) -> String {
        let digits = value <= 0 ? 2 : min(4, max(0, 2 - Int(log10(value).rounded(.down))))
        return OutcomeTable.decimals(value, digits)
    }
}

/// What the figures were taken on.
struct Machine {
    let date: String
    let text: String

    init() {
        let formatter = DateFormatter()
        formatter.dateFormat = "yyyy-MM-dd"
        formatter.locale = Locale(identifier: "en_US_POSIX")
        date = formatter.string(from: Date())
        let processor = Self.line("/proc/cpuinfo", "model name") ?? "unknown processor"
        let count = ProcessInfo.processInfo.activeProcessorCount
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
