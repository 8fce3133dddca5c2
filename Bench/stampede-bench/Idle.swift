import Load

/// The cost of idle connections on each server: a table of a comparison.
struct IdleComparison {
    let count: Int
    let servers: [String]
    private(set) var reports: [String: [CrowdReport]] = [:]
    /// The seconds of silence in which the server's CPU is measured.
    static let holdSeconds = 1.0

    init(count: Int, servers: [String]) {
        self.count = count
        self.servers = servers
    }

    mutating func add(_ report: CrowdReport, _ server: String) { reports[server, default: []].append(report) }

    var isClean: Bool { reports.values.joined().allSatisfy(\.isClean) }

    private static let head = [
        "server", "server memory, B/connection", "kernel memory that waiting takes, B", "kernel memory of both ends, B",
        "connects/s", "connect, us of server CPU", "idle CPU, us/s", "broadcast, ms",
        "broadcast, us of server CPU each",
    ]

    private func median(_ server: String, _ value: (CrowdReport) -> Double) -> Double? {
        guard let reports = reports[server], !reports.isEmpty else { return nil }
        return Comparison.median(reports.map(value).sorted())
    }

    /// Bytes of the server's memory for each connection.
    func memory(_ server: String) -> Double? { median(server) { Double($0.serverBytes) / Double(count) } }

    private var lines: [[String]] {
        servers.compactMap { server in
            guard let reports = reports[server], !reports.isEmpty else { return nil }
            func text(_ digits: Int, _ value: (CrowdReport) -> Double) -> String {
                let value = median(server, value) ?? 0
                return digits == 0 ? OutcomeTable.grouped(value) : OutcomeTable.decimals(value, digits)
            }
            let count = Double(max(count, 1))
            let failed = reports.contains { !$0.isClean } ? " !" : ""
            return [
                server + failed,
                text(0) { Double($0.serverBytes) / count },
                text(0) { Double($0.serverWaitingBytes) / count },
                text(0) { Double($0.kernel.total) / count },
                text(0) { Double($0.connections) / max($0.connectSeconds, 1e-9) },
                text(1) { $0.connectServerSeconds * 1e6 / count },
                text(0) { $0.holdServerSeconds * 1e6 / max($0.holdSeconds, 1e-9) },
                text(0) { ($0.broadcasts.last?.seconds ?? 0) * 1000 },
                text(2) { ($0.broadcasts.last?.serverSeconds ?? 0) * 1e6 / count },
            ]
        }
    }

    var section: Section {
        let row = "server memory"
        let chart = Chart(
            title: "Bytes of server memory per idle connection: shorter is better", rows: [row], series: servers
        ) { _, server in memory(server) }
        return Section(
            title: "\(OutcomeTable.grouped(Double(count))) idle connections",
            text: """
                Each connected, subscribed and silent; then one message to all of them. Server memory is the growth of \
                its RSS.
                """,
            head: Self.head, lines: lines, chart: ("idle", chart))
    }
}

/// The cost of a queue without consumers on each server.
struct BacklogComparison {
    let servers: [String]
    private(set) var reports: [BacklogReport] = []

    init(servers: [String]) { self.servers = servers }

    mutating func add(_ report: BacklogReport) { reports.append(report) }

    var isClean: Bool { reports.allSatisfy(\.isClean) }

    var section: Section {
        let lines: [[String]] = servers.compactMap { server in
            let reports = reports.filter { $0.server == server }
            guard let first = reports.first else { return nil }
            func text(_ digits: Int, _ value: (BacklogReport) -> Double) -> String {
                let value = Comparison.median(reports.map(value).sorted())
                return digits == 0 ? OutcomeTable.grouped(value) : OutcomeTable.decimals(value, digits)
            }
            let failed = reports.contains { !$0.isClean } ? " !" : ""
            return [
                server + failed, OutcomeTable.grouped(Double(first.messages)),
                text(0) { $0.perSecond($0.fillSeconds) }, text(2) { $0.microseconds($0.fillServerSeconds) },
                text(0, \.bytesPerMessage),
                text(0) { $0.perSecond($0.emptySeconds) }, text(2) { $0.microseconds($0.emptyServerSeconds) },
            ]
        }
        return Section(
            title: "A queue is filled while nobody consumes, then emptied",
            text: """
                Four publishers with receipts, then four consumers that acknowledge each message. Memory is the growth of \
                the server's RSS while the queue fills.
                """,
            head: [
                "server", "messages", "filled, messages/s", "us of server CPU each", "server memory, B/message",
                "emptied, messages/s", "us of server CPU each",
            ], lines: lines)
    }
}
