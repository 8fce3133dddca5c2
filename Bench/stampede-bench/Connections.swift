import ArgumentParser
import Load

/// `stampede-bench conns N`: measures the cost of N connections.
struct Connections: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conns",
        abstract: "Hold N subscribed connections, then send one message to all of them.",
        discussion: """
            Each 12,000 clients connect to another address (127.0.0.1, 127.0.0.2, ...), because ephemeral ports are \
            limited for each: a server that is already running has to listen on all addresses. Each thread, and each \
            worker of a broker that --start starts, holds as many connections as RLIMIT_NOFILE allows for a ring's \
            table. With more than one thread neither side is bound to a CPU.
            """)

    @Argument(help: "How many clients.")
    var count: Int

    @OptionGroup(title: "Server") var target: TargetOptions

    @Option(help: "How many messages to send to all clients, one after the other.")
    var broadcasts = 1

    @Option(name: [.customShort("b"), .long], help: "Body size in bytes, at least 24.")
    var body: Int = 64

    @Option(help: "Seconds to stay idle before the last broadcast; the server's CPU time is measured meanwhile.")
    var hold = 0.0

    @Option(
        help: """
            Seconds between heart-beats in both directions; 0: none. A heart-beat of the server counts as late after \
            1.25 intervals of silence, and as missed after 2.
            """)
    var heartBeat = 0.0

    @Flag(help: "Send CONNECT and SUBSCRIBE in one segment, without waiting for CONNECTED (STOMP only).")
    var pipeline = false

    @Option(help: "How often to drop all connections at once afterwards, and connect again.")
    var storms = 0

    @Flag(help: "Go on although the check of the machine fails.")
    var anyway = false

    @Option(help: "Write the result to this file as JSON.")
    var json: String?

    func validate() throws {
        guard 1...4_000_000 ~= count else { throw ValidationError("N: 1 to 4,000,000") }
        guard 24...(1 << 20) ~= body else { throw ValidationError("--body: 24 bytes to 1 MiB") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        let dialect = target.dialect ?? .stomp
        guard dialect.knows(.topic) else { throw ValidationError("--start: this server has no topics to broadcast to") }
        if dialect != .stomp, heartBeat > 0 { throw ValidationError("--heart-beat: STOMP only") }
        if dialect != .stomp, pipeline { throw ValidationError("--pipeline: STOMP only") }
        var plan = Plan.crowd(count, body: body, heartBeatSeconds: heartBeat, dialect: dialect)
        plan.isPipelined = pipeline
        let threads = Crowd.threadCount(plan.clientCount)
        let workers = Crowd.brokerWorkerCount(plan.clientCount)
        try checkMachine(workers: workers)
        // If both sides are bound, the threads of each share one CPU, which is idle while the other side works.
        let reached = try target.reach(workers: workers, host: "0.0.0.0", binds: threads == 1)
        let progress = ProgressLine()
        let manner = pipeline ? ", CONNECT and SUBSCRIBE in one segment" : ""
        print("\(count) clients on \(threads) threads, server \(reached.name)\(manner)")
        var reports: [CrowdReport] = []
        for round in 0...storms {
            var crowd = Crowd(plan, target: reached.load, process: reached.process, progress: progress)
            let report = try crowd.run(broadcasts: broadcasts, holdSeconds: round == 0 ? hold : 0)
            progress.clear()
            if round > 0 { print("reconnect storm \(round):") }
            for line in report.lines { print("  \(line)") }
            reports.append(report)
        }
        if let json { try writeJSON(reports, to: json) }
        if reports.contains(where: { !$0.isClean }) { throw ExitCode(1) }
    }

    /// Reports what the machine lacks for this many clients, before they fail one by one.
    private func checkMachine(workers: Int) throws {
        let driver = target.start.flatMap { LoadDriver(rawValue: $0) }
        let report = Readiness.report(
            clients: count, brokerWorkers: driver == nil ? 0 : workers, brokerDriver: driver ?? .uring,
            clientDriver: target.driver ?? TargetOptions.bestDriver)
        guard !report.isMet else { return }
        for line in report.complaints { warn(line) }
        guard anyway else {
            warn("this machine is not ready for \(count) clients (see above); --anyway goes on in spite of it")
            throw ExitCode(1)
        }
    }
}
