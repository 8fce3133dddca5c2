import ArgumentParser
import CProcess
import Foundation
import Load

/// `stampede-bench durable`: what it costs that messages survive.
struct Durable: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure durable queues: receipts a second, their latency, CPU and bytes written.",
        discussion: """
            Publishers send to one queue. Each message is persistent and asks for a receipt, and a publisher has at most \
            --window messages without one. A consumer beside them acknowledges each message. Every message must be \
            confirmed once and delivered once, in order. Beside each row stands the same load in memory. All servers run \
            at the same time and are measured in turn, as compare does it, with a floor: a program that only appends, \
            syncs and passes on.

            With --depth, a queue is filled and then emptied, with the memory of the broker watched; with --restart the \
            broker is restarted in between.
            """)

    @OptionGroup(title: "Servers") var servers: DurableServerOptions

    @Option(name: [.customShort("p"), .long], help: "Publishers. Can be repeated. Default: 1, 10 and 100.")
    var publishers: [Int] = []

    @Option(
        help: "Messages of a publisher without a receipt, a power of two. Can be repeated. Default: 1, 64 and 1024.")
    var window: [Int] = []

    @Option(name: [.customShort("b"), .long], help: "Body size in bytes. Default: 64, with --depth 1024.")
    var body: Int?

    @Flag(inversion: .prefixedNo, help: "Measure the rows in memory too.")
    var memory = true

    @OptionGroup(title: "Runs") var runs: DurableRunOptions
    @OptionGroup(title: "Depth") var depth: DepthOptions

    @Option(help: "Write the report to this file (Markdown, with charts beside it).")
    var output: String?

    @Option(help: "Write every result to this file as JSON.")
    var json: String?

    func validate() throws {
        for count in publishers where !(1...1000 ~= count) { throw ValidationError("--publishers: 1 to 1,000") }
        for size in window where !(1...65_536 ~= size) || size & (size - 1) != 0 {
            throw ValidationError("--window: a power of two, at most 65,536")
        }
        if let body, !(24...(1 << 20) ~= body) { throw ValidationError("--body: 24 bytes to 1 MiB") }
        guard depth.messages != nil else { return }
        if publishers.count > 1 || window.count > 1 {
            throw ValidationError("--depth: one number of publishers and one window at most")
        }
        if servers.peers != nil { throw ValidationError("--depth measures this broker only: leave --peers out") }
        if output != nil { throw ValidationError("--depth writes no report: use --json") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        guard runs.cpu < 0 || process_bind(runs.cpu) == 0 else {
            throw ValidationError("--cpu \(runs.cpu): no such CPU")
        }
        for path in [json, output].compactMap({ $0 }) { try makeFolder(of: path) }
        let folder = try StorageFolder(servers.directory)
        if let messages = depth.messages { return try fillAndEmpty(messages, folder) }
        let loads = DurableLoad.all(
            publishers: publishers.isEmpty ? [1, 10, 100] : publishers,
            windows: window.isEmpty ? [1, 64, 1024] : window, body: body ?? 64)
        var field = try runs.field(try servers.kinds(folder))
        let rows = loads.flatMap { memory ? [$0, $0.inMemory] : [$0] }
        let comparison = DurableComparison(loads: loads, field: try field.measure(rows.map(Row.init)))
        for section in comparison.sections { print("\n\(section.title)\n\n\(section.table)") }
        print("\n\(Comparison.legend)\n\(comparison.field.thrownAwayText)")
        if let json { try writeJSON(comparison.field.outcomes, to: json) }
        if let output {
            try comparison.report(runs).write(to: output)
            print("\nwritten to \(output)")
        }
        if !comparison.field.outcomes.allSatisfy(\.isClean) { throw ExitCode(1) }
    }

    private func fillAndEmpty(_ messages: Int, _ folder: StorageFolder) throws {
        var options = ScenarioOptions(publishers: publishers.first ?? 1, subscribers: 1, body: body ?? 1024)
        options.window = window.first ?? 1024
        let plan = try options.backlog(messages, dialect: .stomp)
        var report = DepthReport(plan)
        let driver = depth.start ?? TargetOptions.bestDriver
        let store = try TemporaryFolders.make(in: folder.path)
        defer { TemporaryFolders.remove(store) }
        var kind = ServerKind.stampede(
            driver: driver, path: servers.stampede ?? ServerKind.besideUs, settings: servers.set
        ).holdingBacklogs().storing(in: folder, store: store)
        // It answers when it has read what is stored.
        kind.startSeconds = depth.patienceSeconds
        let progress = ProgressLine()
        try report.measure(plan, kind, store: store, cpu: runs.boundServerCPU, depth, progress)
        progress.clear()
        print("\(report.scenario), server \(report.server)")
        for line in report.lines { print("  \(line)") }
        if let json { try writeJSON(report, to: json) }
        if !report.isClean { throw ExitCode(1) }
    }
}

/// The servers of `durable`.
struct DurableServerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Separated by commas: nats, beanstalkd, rabbitmq, activemq.", valueName: "peer,..."))
    var peers: String?

    @Option(help: "The floor's program. Default: the floor_log beside this program.")
    var floor: String?

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(help: "A setting of the broker, as in storage.commit=write-and-sync. Can be repeated.")
    var set: [String] = []

    @Option(
        help: """
            The folder in which servers store, in folders of their own that are removed afterwards. It must be on a disk. \
            Default: the folder storage beside this program.
            """)
    var directory: String?

    func kinds(_ folder: StorageFolder) throws -> [ServerKind] {
        let drivers = LoadDriver.allCases.filter { $0 == .epoll || TargetOptions.bestDriver == .uring }
        var kinds = drivers.map {
            ServerKind.stampede(driver: $0, path: stampede ?? ServerKind.besideUs, settings: set).holdingBacklogs()
        }
        kinds.append(.durableFloor(floor))
        for name in peers?.split(separator: ",").map({ $0.trimmingCharacters(in: .whitespaces) }) ?? [] {
            guard let peer = Peer(rawValue: name), Peer.durable.contains(peer) else {
                let known = Peer.durable.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--peers: found \(name); allowed: \(known)")
            }
            if let kind = try peer.durableKind() { kinds.append(kind) }
        }
        return kinds.map { $0.storing(in: folder) }
    }
}

/// How often and how long to measure.
struct DurableRunOptions: ParsableArguments {
    @Option(help: "Rounds; the report has their medians.")
    var rounds = 3

    @Option(help: "Seconds to measure.")
    var seconds = 1.0

    @Option(help: "Seconds to warm up.")
    var warmUp = 0.5

    @Option(help: "How often a disturbed run is repeated at most.")
    var repeats = 5

    @Option(help: "Repeat no run after this many minutes.")
    var repeatMinutes = 60.0

    @Option(parsing: .unconditional, help: "The CPU to bind the servers to; -1: none.")
    var serverCPU: Int32 = 0

    @Option(parsing: .unconditional, help: "The CPU to bind the load generator to; -1: none.")
    var cpu: Int32 = 1

    func validate() throws {
        guard 1...1000 ~= rounds else { throw ValidationError("--rounds: 1 to 1,000") }
        guard 0...100 ~= repeats else { throw ValidationError("--repeats: at most 100") }
    }

    var boundServerCPU: Int32? { serverCPU < 0 ? nil : serverCPU }

    var schedule: Schedule { Schedule(warmUpSeconds: warmUp, seconds: seconds) }

    func field(_ kinds: [ServerKind]) throws -> Field {
        Field(
            kinds: kinds, fleet: Fleet(cpu: boundServerCPU), calibrator: Calibrator(cpu: boundServerCPU),
            schedule: schedule, rounds: rounds, repeats: repeats, repeatSeconds: 60 * repeatMinutes)
    }
}
