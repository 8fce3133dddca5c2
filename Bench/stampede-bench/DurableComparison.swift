import Load

/// What the rows of `durable` say.
struct DurableComparison {
    let loads: [DurableLoad]
    let field: Comparison

    private static let floor = "floor_log"

    /// The column that is compared with the others.
    private var ours: String { field.servers.contains(Comparison.ours) ? Comparison.ours : LoadDriver.epoll.rawValue }
    private var peers: [String] { field.servers.filter { Peer(rawValue: $0) != nil } }

    var sections: [Section] {
        [rates, latencies, costs, written, inMemory, field.shares, field.thrownAway("Runs thrown away")]
    }

    func report(_ runs: DurableRunOptions) -> Report {
        let machine = Machine()
        return Report(
            title: "Durable queues, \(machine.date)",
            preface: """
                \(machine.text)

                P publishers of one queue, each with at most W messages without a receipt; bodies of \
                \(loads.first?.body ?? 0) bytes; one consumer that acknowledges each message. Medians of \(runs.rounds) \
                interleaved rounds, \(runs.seconds.formatted) s each after \(runs.warmUp.formatted) s of warm-up. Server and \
                load generator each on a CPU of its own. \(field.thrownAwayText). \(Comparison.legend); - the peer has no such \
                thing, or would need more than \(Int(DurableLoad.windowSecondsMax)) s for all windows.
                """,
            sections: sections)
    }

    // MARK: Figures

    private func median(_ load: DurableLoad, _ server: String, _ value: (Confirmation) -> Double) -> Double? {
        field.median(load.name, server) { $0.confirmation.map(value) ?? 0 }?.median
    }

    func rate(_ load: DurableLoad, _ server: String) -> Double? { median(load, server, \.messagesPerSecond) }
    func cost(_ load: DurableLoad, _ server: String) -> Double? { median(load, server, \.serverMicrosecondsPerMessage) }
    func p50(_ load: DurableLoad, _ server: String) -> Double? { median(load, server, \.latency.p50) }

    /// The ratio of our figure to the best of others. "-": one of them is missing.
    private func ratio(
        _ load: DurableLoad, to others: [String], _ better: (Double, Double) -> Double,
        _ value: (DurableLoad, String) -> Double?
    ) -> String {
        let theirs = others.compactMap { value(load, $0) }.filter { $0 > 0 }
        guard let first = theirs.first, let ours = value(load, ours) else { return "-" }
        return Comparison.ratio(ours / theirs.dropFirst().reduce(first, better))
    }

    private func cells(
        _ load: DurableLoad, _ text: @escaping (Double) -> String, _ value: (DurableLoad, String) -> Double?
    ) -> [String] {
        field.cells(load.name) { value(load, $0).map(text) }
    }

    // MARK: Tables

    private var ratioHead: [String] { ["\(ours)/floor"] + (peers.isEmpty ? [] : ["\(ours)/best peer"]) }

    private func ratios(
        _ load: DurableLoad, _ better: (Double, Double) -> Double, _ value: (DurableLoad, String) -> Double?
    ) -> [String] {
        [ratio(load, to: [Self.floor], better, value)] + (peers.isEmpty ? [] : [ratio(load, to: peers, better, value)])
    }

    private func chart(_ title: String, _ value: @escaping (DurableLoad, String) -> Double?) -> Chart {
        let named = Dictionary(uniqueKeysWithValues: loads.map { ($0.name, $0) })
        return Chart(title: title, rows: loads.map(\.name), series: field.servers) { row, server in
            named[row].flatMap { value($0, server) }
        }
    }

    private var rates: Section {
        Section(
            title: "Receipts per second", head: [""] + field.servers + ratioHead,
            lines: loads.map {
                [$0.name] + cells($0, OutcomeTable.grouped, rate) + ratios($0, max, rate)
            },
            chart: ("rate", chart("Receipts per second: longer is better", rate)))
    }

    private var latencies: Section {
        let lines = loads.map { load in
            let cells = field.cells(load.name) { server in
                guard let p50 = p50(load, server), let p99 = median(load, server, \.latency.p99) else { return nil }
                return "\(OutcomeTable.grouped(p50)) / \(OutcomeTable.grouped(p99))"
            }
            return [load.name] + cells + ratios(load, min, p50)
        }
        return Section(
            title: "From SEND to RECEIPT, us, median / 99th percentile",
            text: "Closed loop: what a window full of messages makes of it. The ratios are of medians.",
            head: [""] + field.servers + ratioHead, lines: lines,
            chart: ("latency", chart("Median from SEND to RECEIPT, us: shorter is better", p50)))
    }

    private var costs: Section {
        Section(
            title: "Cost", head: ["us of server CPU per message"] + field.servers + ratioHead,
            lines: loads.map {
                [$0.name] + cells($0, Comparison.short, cost) + ratios($0, min, cost)
            },
            chart: ("cost", chart("Microseconds of server CPU per message: shorter is better", cost)))
    }

    private var written: Section {
        Section(
            title: "Written",
            text: """
                Message, acknowledgement, what fills up blocks, and files that are made ahead; write_bytes of /proc/PID/io. \
                It counts a whole folio of the page cache for each byte that changes in it. Where the file system uses \
                large ones (ext4 since Linux 6.16), small appends seem to write megabytes, of which the disk sees little.
                """,
            head: ["bytes per message"] + field.servers,
            lines: loads.map { load in
                [load.name] + cells(load, OutcomeTable.grouped) { median($0, $1, \.writtenBytesPerMessage) }
            })
    }

    private var inMemory: Section {
        let loads = loads.map(\.inMemory).filter { field.rows.contains($0.name) }
        return Section(
            title: "The same in memory", text: "Receipts per second, and the share of it that the durable row reaches.",
            head: [""] + field.servers,
            lines: loads.map { load in
                var durable = load
                durable.isPersistent = true
                return [load.name]
                    + field.cells(load.name) { server in
                        guard let inMemory = rate(load, server), inMemory > 0 else { return nil }
                        let share = rate(durable, server).map { OutcomeTable.decimals($0 / inMemory, 2) } ?? "-"
                        return "\(OutcomeTable.grouped(inMemory)) (\(share))"
                    }
            })
    }
}
