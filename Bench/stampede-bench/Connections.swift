import ArgumentParser
import Glibc
import Load

/// `stampede-bench conns N`: how many connections a server holds, and what they cost.
struct Connections: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conns",
        abstract: "Hold N subscribed connections, then send one message to all of them.",
        discussion: """
            Beyond 12,000 clients, connections go to 127.0.0.2, 127.0.0.3 and so on too, each with ephemeral ports of its \
            own: a server that runs already has to listen on all addresses. Each thread holds what RLIMIT_NOFILE lets a \
            ring's table hold; so does each worker of a broker that is started here.
            """)

    @Argument(help: "How many.")
    var count: Int

    @OptionGroup(title: "Server") var target: TargetOptions

    @Option(help: "Messages that are sent to all of them, one after the other.")
    var broadcasts = 1

    @Option(name: [.customShort("b"), .long], help: "Bytes of a body, at least 24.")
    var body: Int = 64

    @Option(help: "Seconds to stay idle before the last broadcast, while the server's CPU is measured.")
    var hold = 0.0

    @Option(help: "Seconds between heart-beats in both directions; 0: none.")
    var heartBeat = 0.0

    @Option(help: "After all that: drop every connection at once and connect again, so many times.")
    var storms = 0

    @Option(help: "Write the outcome there as JSON.")
    var json: String?

    func validate() throws {
        guard 1...4_000_000 ~= count else { throw ValidationError("N: 1 to 4,000,000") }
        guard 24...(1 << 20) ~= body else { throw ValidationError("--body: 24 bytes to 1 MiB") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        let threads = (count + Load.clientsPerThreadMax - 1) / Load.clientsPerThreadMax
        let reached = try target.reach(workers: threads, host: "0.0.0.0")
        if let dialect = target.dialect, dialect != .stomp { throw ValidationError("conns speaks STOMP only") }
        let progress = ProgressLine()
        print("\(count) clients on \(threads) threads, server \(reached.name)")
        var reports: [CrowdReport] = []
        for round in 0...storms {
            var crowd = Crowd(plan: plan, threadCount: threads, reached: reached, progress: progress)
            let report = try crowd.run(broadcasts: broadcasts, holdSeconds: round == 0 ? hold : 0)
            progress.clear()
            if round > 0 { print("reconnect storm \(round):") }
            for line in report.lines { print("  \(line)") }
            reports.append(report)
        }
        if let json { try writeJSON(reports, to: json) }
        if reports.contains(where: { !$0.isClean }) { throw ExitCode(1) }
    }

    private var plan: Plan {
        var plan = Plan("conns \(count)")
        plan.subscribersPerDestination = count
        plan.bodyByteCount = body
        plan.flow = .broadcast
        plan.heartBeatMilliseconds = Int(heartBeat * 1000)
        return plan
    }
}

/// What holding a crowd of connections cost.
struct CrowdReport: Codable, Sendable {
    var connections = 0
    var connectSeconds = 0.0
    var connectServerSeconds = 0.0
    /// Growth while the connections were made.
    var serverBytes = 0
    var kernelBytes = 0
    var holdSeconds = 0.0
    var holdServerSeconds = 0.0
    var heartBeatsReceived = 0
    var broadcasts: [Broadcast] = []
    var anomalies = Anomalies()
    var failure: String?

    struct Broadcast: Codable, Sendable {
        var seconds = 0.0
        var serverSeconds = 0.0
        var delivered = 0
    }

    var isClean: Bool { failure == nil && anomalies.isClean }

    var lines: [String] {
        let count = Double(max(connections, 1))
        var lines = [
            "connected and subscribed: \(connections) in \(seconds(connectSeconds)), "
                + "\(OutcomeTable.grouped(count / max(connectSeconds, 1e-9)))/s, "
                + "server CPU \(OutcomeTable.decimals(connectServerSeconds * 1e6 / count, 1)) us each",
            "server memory: \(OutcomeTable.grouped(Double(serverBytes) / count)) B per connection (growth of RSS); "
                + "kernel memory, both ends: \(OutcomeTable.grouped(Double(kernelBytes) / count)) B",
        ]
        if holdSeconds > 0 {
            lines.append(
                "idle for \(seconds(holdSeconds)): server CPU \(OutcomeTable.decimals(holdServerSeconds * 1000, 1)) ms, "
                    + "\(OutcomeTable.percent(holdServerSeconds / holdSeconds)); \(heartBeatsReceived) heart-beats received"
            )
        }
        for broadcast in broadcasts {
            lines.append(
                "broadcast: \(broadcast.delivered) of \(connections) in \(seconds(broadcast.seconds)), server CPU "
                    + "\(OutcomeTable.decimals(broadcast.serverSeconds * 1e6 / count, 2)) us each")
        }
        if let failure { lines.append("FAILED: \(failure)") }
        if !anomalies.isClean {
            lines.append("WRONG: \(anomalies.lost) lost, \(anomalies.duplicated) duplicated, \(anomalies.ended) ended")
        }
        return lines
    }

    private func seconds(_ value: Double) -> String { "\(OutcomeTable.decimals(value, 3)) s" }
}

/// One crowd: connect, broadcast, hold, broadcast again, drop.
struct Crowd {
    let plan: Plan
    let threadCount: Int
    let reached: TargetOptions.Reached
    let progress: ProgressLine
    private var report = CrowdReport()
    /// Nothing at all happened for so long: it will not any more.
    private static let patienceSeconds = 15.0

    init(plan: Plan, threadCount: Int, reached: TargetOptions.Reached, progress: ProgressLine) {
        self.plan = plan
        self.threadCount = threadCount
        self.reached = reached
        self.progress = progress
    }

    mutating func run(broadcasts: Int, holdSeconds: Double) throws -> CrowdReport {
        let memory = (reached.process?.residentByteCount ?? 0, ServerProcess.kernelByteCount)
        let load = try Load(plan, target: reached.load, threadCount: threadCount)
        let connecting = Stopwatch(reached.process)
        let isReady = load.awaitReady(seconds: Self.patienceSeconds) {
            progress.show("connecting \($0.ready)/\(plan.clientCount)")
        }
        (report.connectSeconds, report.connectServerSeconds) = connecting.seconds
        report.connections = load.control.counts.ready - plan.publisherCount
        report.serverBytes = (reached.process?.residentByteCount ?? 0) - memory.0
        report.kernelBytes = ServerProcess.kernelByteCount - memory.1
        if isReady {
            load.phase = .measure
            for round in 0..<broadcasts {
                if round == broadcasts - 1, holdSeconds > 0 { hold(holdSeconds, load) }
                broadcast(load)
            }
        }
        report.failure = load.control.failure
        report.anomalies = load.end().anomalies
        return report
    }

    private mutating func broadcast(_ load: Load) {
        let wanted = load.control.counts.delivered + plan.fanOut
        let watch = Stopwatch(reached.process)
        load.broadcast()
        _ = load.wait(seconds: Self.patienceSeconds) {
            progress.show("broadcast \($0.delivered)/\(wanted)")
        } until: {
            $0.delivered >= wanted
        } measure: {
            $0.delivered
        }
        let (seconds, serverSeconds) = watch.seconds
        report.broadcasts.append(
            CrowdReport.Broadcast(
                seconds: seconds, serverSeconds: serverSeconds,
                delivered: load.control.counts.delivered - wanted + plan.fanOut))
    }

    private mutating func hold(_ seconds: Double, _ load: Load) {
        let watch = Stopwatch(reached.process)
        let stepMicroseconds: UInt32 = 100_000
        while watch.wallSeconds < seconds, load.control.failure == nil {
            progress.show("idle \(Int(watch.wallSeconds))/\(Int(seconds)) s, \(load.control.counts.beats) heart-beats")
            usleep(stepMicroseconds)
        }
        (report.holdSeconds, report.holdServerSeconds) = watch.seconds
        report.heartBeatsReceived = load.control.counts.beats
    }
}

/// Time that has passed, and CPU time that a process took meanwhile.
struct Stopwatch {
    private let process: ServerProcess?
    private let start = Stopwatch.now
    private let running: UInt64

    init(_ process: ServerProcess?) {
        self.process = process
        running = process?.times.running ?? 0
    }

    var wallSeconds: Double { Self.now - start }

    var seconds: (wall: Double, process: Double) {
        let wall = wallSeconds
        guard let process else { return (wall, 0) }
        return (wall, Double(process.times.running &- running) / 1e9)
    }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
