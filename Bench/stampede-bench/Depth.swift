import ArgumentParser
import Foundation
import Glibc
import Load

/// The options of `durable --depth`.
struct DepthOptions: ParsableArguments {
    @Option(
        name: .customLong("depth"),
        help: "Fill a queue with this many persistent messages, then empty it in order, instead of measuring rows.")
    var messages: Int?

    @Flag(help: "With --depth: restart the broker when the queue is full, and measure how long it takes to be ready.")
    var restart = false

    @Flag(help: "With --restart: end the broker with SIGKILL instead of SIGTERM.")
    var kill = false

    @Option(help: "With --depth: the broker's driver, uring or epoll. Default: uring where it works.")
    var start: LoadDriver?

    @Option(help: "With --depth: seconds that a start of the broker may take.")
    var patienceSeconds = 120.0

    func validate() throws {
        if let messages, !(1...1_000_000_000 ~= messages) { throw ValidationError("--depth: 1 to 1,000,000,000") }
        if restart, messages == nil { throw ValidationError("--restart needs --depth") }
        if kill, !restart { throw ValidationError("--kill needs --restart") }
        if start != nil, messages == nil { throw ValidationError("--start needs --depth; rows measure both drivers") }
    }
}

/// A durable queue that is filled and emptied.
struct DepthReport: Codable, Sendable {
    var scenario = ""
    var server = ""
    var messages = 0
    var bodyBytes = 0
    var fill = Stage()
    var empty = Stage()
    /// From the start of a process on the full store to its first CONNECTED. nil: it was not restarted.
    var readySeconds: Double?
    /// The most memory that the process had when it was ready again, and the seconds that its end took.
    var readyResidentBytes = 0
    var endSeconds = 0.0
    var anomalies = Anomalies()
    var failure: String?

    struct Stage: Codable, Sendable {
        var seconds = 0.0
        var serverSeconds = 0.0
        /// The most memory that the process has had so far, in bytes.
        var residentBytesMax = 0
        /// Of the files of the store, at the end.
        var storedBytes = 0
        /// To storage, during the stage.
        var writtenBytes = 0
    }

    var isClean: Bool { failure == nil && anomalies.isClean }
    /// The time without any progress after which the measurement fails.
    var patienceSeconds = 30.0

    init(_ plan: Plan) {
        scenario = "depth of \(plan.backlog * plan.publisherCount), bodies of \(plan.bodyByteCount) bytes"
        messages = plan.backlog * plan.publisherCount
        bodyBytes = plan.bodyByteCount
    }

    /// - Parameter plan: a backlog, see `ScenarioOptions.backlog`.
    /// - Parameter store: the folder in which `kind` stores.
    mutating func measure(
        _ plan: Plan, _ kind: ServerKind, store: String, cpu: Int32?, _ options: DepthOptions, _ progress: ProgressLine
    ) throws {
        server = kind.name
        var running = try RunningServer(kind, cpu: cpu)
        defer { running.end() }
        var filling = plan
        filling.isPersistent = true
        filling.subscribersPerDestination = 0
        let isFilled = try play(filling, running, store, \.fill, "filling", progress, { $0.confirmed }) { load in
            load.phase = .measure
        }
        guard isFilled else { return }
        if options.restart {
            progress.show("restarting")
            let ending = Stopwatch(nil)
            running.end(options.kill ? SIGKILL : SIGTERM)
            endSeconds = ending.wallSeconds
            let starting = Stopwatch(nil)
            running = try RunningServer(kind, cpu: cpu)
            guard try becomesReady(running, seconds: options.patienceSeconds) else { return }
            readySeconds = starting.wallSeconds
            readyResidentBytes = running.process.residentByteCountMax
        }
        var emptying = plan
        emptying.isFilled = true
        emptying.isOrdered = true
        _ = try play(emptying, running, store, \.empty, "emptying", progress, { $0.delivered }) { load in
            load.phase = .unload
        }
    }

    /// Whether the server answers a CONNECT.
    private mutating func becomesReady(_ running: RunningServer, seconds: Double) throws -> Bool {
        var plan = Plan("ready")
        plan.subscribersPerDestination = 0
        let load = try Load(plan, target: Self.target(running))
        let isReady = load.awaitReady(seconds: seconds)
        _ = load.end()
        if !isReady { failure = load.control.failure ?? "the broker was not ready within \(Int(seconds)) s" }
        return isReady
    }

    private static func target(_ server: RunningServer) -> Load.Target {
        var target = Load.Target(host: "127.0.0.1", port: server.port)!
        target.driver = TargetOptions.bestDriver
        return target
    }

    /// One stage, until `measure` reaches all messages. Returns whether it did.
    private mutating func play(
        _ plan: Plan, _ server: RunningServer, _ store: String, _ stage: WritableKeyPath<DepthReport, Stage>,
        _ name: String, _ progress: ProgressLine, _ measure: (Counts) -> Int, begin: (Load) -> Void
    ) throws -> Bool {
        let process = server.process
        let load = try Load(plan, target: Self.target(server))
        var isReached = false
        if load.awaitReady(seconds: patienceSeconds) {
            let written = process.writtenByteCount
            let watch = Stopwatch(process)
            begin(load)
            isReached = load.wait(seconds: patienceSeconds) {
                let mebibytes = process.residentByteCount >> 20
                progress.show("\(name) \(measure($0))/\(messages), the broker has \(mebibytes) MiB")
            } until: {
                measure($0) >= messages
            } measure: {
                measure($0)
            }
            (self[keyPath: stage].seconds, self[keyPath: stage].serverSeconds) = watch.seconds
            self[keyPath: stage].writtenBytes = process.writtenByteCount - written
            _ = load.drain()
        }
        self[keyPath: stage].residentBytesMax = process.residentByteCountMax
        self[keyPath: stage].storedBytes = StorageFolder.byteCount(store)
        let report = load.end()
        failure = load.control.failure ?? (isReached ? nil : "\(name) made no progress")
        anomalies = report.anomalies
        return isReached && isClean
    }

    var lines: [String] {
        var lines = [line("filled", fill)]
        if let readySeconds {
            lines.append(
                "restarted: ended in \(OutcomeTable.decimals(endSeconds, 2)) s, ready after "
                    + "\(OutcomeTable.decimals(readySeconds, 2)) s, with at most \(Self.mebibytes(readyResidentBytes))")
        }
        lines.append(line("emptied", empty))
        if let failure { lines.append("FAILED: \(failure)") }
        if !anomalies.isClean {
            lines.append(
                "WRONG: \(anomalies.lost) lost, \(anomalies.duplicated) duplicated, \(anomalies.misordered) out of order, "
                    + "\(anomalies.corrupt) damaged, \(anomalies.ended) ended")
        }
        return lines
    }

    private func line(_ name: String, _ stage: Stage) -> String {
        let perSecond = stage.seconds > 0 ? Double(messages) / stage.seconds : 0
        return "\(name): \(messages) in \(OutcomeTable.decimals(stage.seconds, 2)) s, "
            + "\(OutcomeTable.grouped(perSecond))/s, server CPU "
            + "\(OutcomeTable.decimals(stage.serverSeconds * 1e6 / Double(max(messages, 1)), 3)) us each; RSS at most "
            + "\(Self.mebibytes(stage.residentBytesMax)); \(Self.mebibytes(stage.writtenBytes)) written, "
            + "\(Self.mebibytes(stage.storedBytes)) in the store"
    }

    private static func mebibytes(_ byteCount: Int) -> String {
        "\(OutcomeTable.grouped(Double(byteCount) / 1_048_576)) MiB"
    }
}
