import Glibc
import Load

/// The cost of many connections.
struct CrowdReport: Codable, Sendable {
    var connections = 0
    var connectSeconds = 0.0
    var connectServerSeconds = 0.0
    /// The growth while the connections were opened: of the server's RSS, and of kernel memory for both ends.
    var serverBytes = 0
    var kernel = KernelMemory()
    /// The part of the server's end, and of that the part for waiting for the next byte.
    var serverKernelBytes = 0
    var serverWaitingBytes = 0
    var holdSeconds = 0.0
    var holdServerSeconds = 0.0
    var heartBeatsReceived = 0
    /// nil: no heart-beats.
    var silences: Silences?
    var broadcasts: [Broadcast] = []
    var anomalies = Anomalies()
    var failure: String?

    struct Broadcast: Codable, Sendable {
        var seconds = 0.0
        var serverSeconds = 0.0
        var delivered = 0
    }

    var isClean: Bool { failure == nil && anomalies.isClean && (silences?.missed ?? 0) == 0 }

    var lines: [String] {
        let count = Double(max(connections, 1))
        var lines = [
            "connected and subscribed: \(connections) in \(seconds(connectSeconds)), "
                + "\(OutcomeTable.grouped(count / max(connectSeconds, 1e-9)))/s, "
                + "server CPU \(OutcomeTable.decimals(connectServerSeconds * 1e6 / count, 1)) us each",
            "server memory: \(bytes(serverBytes)) B per connection (growth of RSS), and \(bytes(serverWaitingBytes)) B "
                + "of kernel memory that waiting takes",
            "kernel memory of both ends: \(bytes(kernel.total)) B: sockets \(bytes(kernel.sockets)), files "
                + "\(bytes(kernel.files)), waiting requests \(bytes(kernel.requests)), watches \(bytes(kernel.watches)), "
                + "other slabs \(bytes(kernel.otherSlabs)), stacks and tables \(bytes(kernel.others)); "
                + "the server's end: about \(bytes(serverKernelBytes)) B",
        ]
        if holdSeconds > 0 {
            lines.append(
                "idle for \(seconds(holdSeconds)): server CPU \(OutcomeTable.grouped(holdServerSeconds * 1e6)) us, "
                    + "\(OutcomeTable.decimals(holdServerSeconds / holdSeconds * 100, 4)) % of a core")
        }
        if let silences {
            lines.append(
                "heart-beats: \(silences.sent) sent, \(heartBeatsReceived) received alone; \(silences.late) late, "
                    + "\(silences.missed) missed; the longest silence: \(seconds(Double(silences.longest) / 1000))")
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

    private func bytes(_ value: Int) -> String { OutcomeTable.grouped(Double(value) / Double(max(connections, 1))) }

    private func seconds(_ value: Double) -> String { "\(OutcomeTable.decimals(value, 3)) s" }
}

extension Plan {
    /// Subscribers of one topic, and a publisher that sends on command.
    static func crowd(
        _ count: Int, body: Int = 64, heartBeatSeconds: Double = 0, dialect: Dialect = .stomp
    ) -> Plan {
        var plan = Plan("conns \(count)")
        plan.dialect = dialect
        plan.subscribersPerDestination = count
        plan.bodyByteCount = body
        plan.flow = .broadcast
        plan.heartBeatMilliseconds = Int(heartBeatSeconds * 1000)
        return plan
    }
}

/// One measurement: connect, broadcast, hold, broadcast again, disconnect.
struct Crowd {
    let plan: Plan
    let threadCount: Int
    let target: Load.Target
    let process: ServerProcess?
    let progress: ProgressLine
    private var report = CrowdReport()
    /// The time without any progress after which the measurement fails.
    private static let patienceSeconds = 15.0

    init(_ plan: Plan, target: Load.Target, process: ServerProcess?, progress: ProgressLine) {
        self.plan = plan
        self.target = target
        self.process = process
        threadCount = Self.threadCount(plan.clientCount)
        self.progress = progress
    }

    static func threadCount(_ clientCount: Int) -> Int {
        (clientCount + Load.clientsPerThreadMax - 1) / Load.clientsPerThreadMax
    }

    /// The number of workers of a broker that is started for this many clients. There is room to spare, because the
    /// kernel distributes connections over listeners by a hash.
    static func brokerWorkerCount(_ clientCount: Int) -> Int {
        let threads = threadCount(clientCount)
        return threads == 1 ? 1 : threads + 2
    }

    mutating func run(broadcasts: Int, holdSeconds: Double) throws -> CrowdReport {
        let memory = (settledResidentByteCount, KernelMemory.current)
        let load = try Load(plan, target: target, threadCount: threadCount)
        let connecting = Stopwatch(process)
        let isReady = load.awaitReady(seconds: Self.patienceSeconds) {
            progress.show("connecting \($0.ready)/\(plan.clientCount)")
        }
        (report.connectSeconds, report.connectServerSeconds) = connecting.seconds
        report.connections = load.control.counts.ready - plan.publisherCount
        report.serverBytes = (process?.residentByteCount ?? 0) - memory.0
        report.kernel = KernelMemory.current - memory.1
        (report.serverKernelBytes, report.serverWaitingBytes) = report.kernel.share(
            onURing: process?.usesURing ?? false, otherOnURing: target.driver == .uring)
        if isReady {
            load.phase = .measure
            for round in 0..<broadcasts {
                if round == broadcasts - 1, holdSeconds > 0 { hold(holdSeconds, load) }
                broadcast(load)
            }
        }
        report.heartBeatsReceived = load.control.counts.beats
        report.failure = load.control.failure
        let result = load.end()
        report.anomalies = result.anomalies
        if plan.heartBeatMilliseconds > 0 { report.silences = result.silences }
        return report
    }

    /// The memory of the server when all of its workers have started. Some start later than the first listener.
    private var settledResidentByteCount: Int {
        guard let process else { return 0 }
        let stepMicroseconds: UInt32 = 50_000
        let stepCountMax = 100
        let equalCountWanted = 6
        var last = process.residentByteCount
        var equalCount = 0
        for _ in 0..<stepCountMax where equalCount < equalCountWanted {
            usleep(stepMicroseconds)
            let now = process.residentByteCount
            equalCount = now == last ? equalCount + 1 : 0
            last = now
        }
        return last
    }

    private mutating func broadcast(_ load: Load) {
        let wanted = load.control.counts.delivered + plan.fanOut
        let watch = Stopwatch(process)
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
        let watch = Stopwatch(process)
        let stepMicroseconds: UInt32 = 100_000
        while watch.wallSeconds < seconds, load.control.failure == nil {
            progress.show("idle \(Int(watch.wallSeconds))/\(Int(seconds)) s, \(load.control.counts.beats) heart-beats")
            usleep(stepMicroseconds)
        }
        (report.holdSeconds, report.holdServerSeconds) = watch.seconds
    }
}

/// The elapsed time, and the CPU time of a process in that time.
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
