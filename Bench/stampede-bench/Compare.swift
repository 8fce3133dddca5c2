import ArgumentParser
import CProcess
import Foundation
import Load

/// `stampede-bench compare`: the whole table, servers side by side.
struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure every scenario on several servers, interleaved, and write a report.",
        discussion: """
            Compares the broker on io_uring with itself on epoll, and with what else is named. Each measurement has a \
            server of its own, started on one CPU; the load generator has another. Rounds are interleaved: every server \
            has its turn at a scenario before the next round begins. A run in which either side waited for a core is \
            repeated.
            """)

    @Option(help: "A folder that holds floor_epoll and floor_uring, built.")
    var floors: String?

    @Option(help: "The path of a nats-server.")
    var nats: String?

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(help: "Another build of the broker, to compare with.")
    var baseline: String?

    @Option(help: "A setting of the broker, as in io.uring.sq-entries=8192. Can be repeated.")
    var set: [String] = []

    @Option(help: "Rounds; medians are taken over them.")
    var rounds = 3

    @Option(help: "Only rows whose name contains this. Can be repeated.")
    var only: [String] = []

    @Option(
        help: ArgumentHelp(
            "A STOMP server that runs already, bound to --server-cpu by whoever started it. Can be repeated.",
            valueName: "name=port"))
    var peer: [String] = []

    @Option(help: "Idle connections of the second table; 0: none. Default: 14000, or none with --only.")
    var idle: Int?

    @Option(help: "Times a disturbed run is repeated.")
    var repeats = 2

    @Option(help: "The server's CPU.")
    var serverCPU: Int32 = 0

    @Option(help: "The load generator's CPU.")
    var cpu: Int32 = 1

    @OptionGroup(title: "Time") var time: ScheduleOptions

    @Option(
        help: """
            Write the report there (Markdown, and a chart beside it). Default, in the package's folder and without \
            --only: Bench/results/DATE.md.
            """)
    var output: String?

    @Option(help: "Write every outcome there as JSON.")
    var json: String?

    func run() throws {
        Load.raiseDescriptorLimit()
        guard process_bind(cpu) == 0 else { throw ValidationError("--cpu \(cpu): no such CPU") }
        let rows = try chosenRows()
        let servers = try servers()
        var comparison = Comparison(rows: rows.map(\.name), servers: servers.map(\.name), rounds: rounds)
        let progress = ProgressLine()
        let total = rounds * rows.count * servers.count
        var done = 0
        for round in 1...max(rounds, 1) {
            for row in rows {
                for server in servers {
                    let outcome = try measure(row, server) {
                        progress.show("\(done)/\(total) round \(round), \(server.name), \($0)")
                    }
                    done += 1
                    comparison.add(outcome)
                    if !outcome.isClean { progress.clear() }
                    for line in OutcomeTable.complaints(outcome) where !outcome.isClean {
                        warn("\(row.name), \(server.name), round \(round):\(line)")
                    }
                }
            }
        }
        let idleServers = servers.filter { $0.dialect == .stomp }
        var idleComparison = IdleComparison(count: idleCount, servers: idleServers.map(\.name))
        if idleCount > 0 {
            for _ in 1...max(rounds, 1) {
                for server in idleServers { idleComparison.add(try crowd(server, progress), server.name) }
            }
        }
        progress.clear()
        print(comparison.table)
        if idleCount > 0 {
            print("\n\(idleCount) idle connections:")
            print(Comparison.aligned([IdleComparison.head] + idleComparison.lines))
        }
        if let json { try writeJSON(comparison.outcomes, to: json) }
        if let output = output ?? defaultOutput {
            let folder = (output as NSString).deletingLastPathComponent
            if !folder.isEmpty {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            }
            let chart = (output as NSString).deletingPathExtension + ".svg"
            let report = comparison.report(
                Machine(), time.schedule, chart: (chart as NSString).lastPathComponent, idle: idleComparison)
            try report.write(toFile: output, atomically: true, encoding: .utf8)
            try comparison.chart.write(toFile: chart, atomically: true, encoding: .utf8)
            print("\nwritten to \(output)")
        }
        if comparison.outcomes.contains(where: { !$0.isClean }) || !idleComparison.isClean { throw ExitCode(1) }
    }

    private var defaultOutput: String? {
        guard only.isEmpty, FileManager.default.fileExists(atPath: "Bench/README.md") else { return nil }
        return "Bench/results/\(Machine().date).md"
    }

    private var idleCount: Int { idle ?? (only.isEmpty ? 14_000 : 0) }

    private func chosenRows() throws -> [Row] {
        let rows = Row.all.filter { row in only.isEmpty || only.contains { row.name.contains($0) } }
        guard !rows.isEmpty else {
            throw ValidationError("--only: no such row; there are \(Row.all.map(\.name).joined(separator: ", "))")
        }
        return rows
    }

    private func servers() throws -> [ServerKind] {
        let path = stampede ?? ServerKind.besideUs
        var servers = [
            ServerKind.stampede(driver: .uring, path: path, settings: set),
            ServerKind.stampede(driver: .epoll, path: path, settings: set),
        ]
        if let baseline {
            for driver in LoadDriver.allCases {
                var kind = ServerKind.stampede(driver: driver, path: baseline, settings: set)
                kind.name = "baseline \(driver.rawValue)"
                servers.append(kind)
            }
        }
        if let floors { servers += ["floor_epoll", "floor_uring"].map { .floor(path: "\(floors)/\($0)") } }
        if let nats { servers.append(.nats(path: nats)) }
        for text in peer {
            let parts = text.split(separator: "=")
            guard parts.count == 2, let port = UInt16(parts[1]) else {
                throw ValidationError("--peer \(text): NAME=PORT is expected, as in rabbitmq=61613")
            }
            servers.append(.running(name: String(parts[0]), port: port))
        }
        return servers
    }

    /// One measurement; again if it was disturbed, and then the least disturbed one.
    private func measure(_ row: Row, _ kind: ServerKind, progress: (String) -> Void) throws -> Outcome {
        var best: Outcome?
        for _ in 0...max(repeats, 0) {
            let server = try RunningServer(kind, cpu: serverCPU)
            defer { server.end() }
            let measurement = Measurement(
                try row.plan(kind.dialect), target: target(server), server: server.process, schedule: time.schedule)
            var outcome = try measurement.run { progress("\(row.name): \($0)") }
            outcome.scenario = row.name
            outcome.server = kind.name
            if best == nil || outcome.waitShare < best!.waitShare { best = outcome }
            if !outcome.isDisturbed { break }
        }
        return best!
    }

    private func crowd(_ kind: ServerKind, _ progress: ProgressLine) throws -> CrowdReport {
        let server = try RunningServer(kind, cpu: serverCPU)
        defer { server.end() }
        var crowd = Crowd(.crowd(idleCount), target: target(server), process: server.process, progress: progress)
        return try crowd.run(broadcasts: 1, holdSeconds: 0)
    }

    private func target(_ server: RunningServer) -> Load.Target {
        var target = Load.Target(host: "127.0.0.1", port: server.port)!
        target.driver = TargetOptions.bestDriver
        return target
    }
}

/// A line of the table.
struct Row: Sendable {
    var name: String
    private var scenario: Scenario
    private var publishers: Int?
    private var subscribers: Int?
    private var number: Int?
    private var body = 64
    private var rate: Double?

    func plan(_ dialect: Plan.Dialect) throws -> Plan {
        try ScenarioOptions(publishers: publishers, subscribers: subscribers, number: number, body: body, rate: rate)
            .plan(scenario, dialect: dialect)
    }

    static let all: [Row] = [
        Row(name: "fan-out S=1 B=64", scenario: .fanout, subscribers: 1),
        Row(name: "fan-out S=10 B=64", scenario: .fanout, subscribers: 10),
        Row(name: "fan-out S=100 B=64", scenario: .fanout, subscribers: 100),
        Row(name: "fan-out S=1000 B=64", scenario: .fanout, subscribers: 1000),
        Row(name: "fan-out S=1000 B=1024", scenario: .fanout, subscribers: 1000, body: 1024),
        Row(name: "one of S=1000 stalled", scenario: .stalled, subscribers: 1000),
        Row(name: "fan-in P=100 B=64", scenario: .fanin, publishers: 100),
        Row(name: "pairs N=1 B=64", scenario: .pairs, number: 1),
        Row(name: "pairs N=100 B=64", scenario: .pairs, number: 100),
        Row(name: "queue 1x1", scenario: .queue, publishers: 1, subscribers: 1),
        Row(name: "queue 4x4", scenario: .queue, publishers: 4, subscribers: 4),
        Row(name: "unsubscribed P=1", scenario: .unsubscribed, publishers: 1),
        Row(name: "reply N=1", scenario: .reply, number: 1),
        Row(name: "reply N=100", scenario: .reply, number: 100),
        Row(name: "paced S=100, 100 msg/s", scenario: .fanout, subscribers: 100, rate: 100),
        Row(name: "paced S=1000, 10 msg/s", scenario: .fanout, subscribers: 1000, rate: 10),
        Row(name: "paced pairs N=100, 2,000 msg/s", scenario: .pairs, number: 100, rate: 20),
    ]

    private init(
        name: String, scenario: Scenario, publishers: Int? = nil, subscribers: Int? = nil, number: Int? = nil,
        body: Int = 64, rate: Double? = nil
    ) {
        self.name = name
        self.scenario = scenario
        self.publishers = publishers
        self.subscribers = subscribers
        self.number = number
        self.body = body
        self.rate = rate
    }
}

extension Outcome {
    /// How much it was disturbed.
    var waitShare: Double { max(serverWaitShare, loadWaitShare) }
}
