import ArgumentParser
import Load

/// `stampede-bench backlog`: fills a queue without consumers, then empties it.
struct Backlog: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fill a queue with no consumer, then empty it: rates, CPU and memory per message.",
        discussion: """
            Receipts show when the server has taken a message. The run fails unless each message comes back exactly \
            once. Memory is the growth of the server's RSS while the queue fills. A broker that --start starts has no \
            limit on a queue but its memory.
            """)

    @Option(help: "How many messages to queue, from all publishers together.")
    var messages = 500_000

    @OptionGroup(title: "Size") var size: ScenarioOptions
    @OptionGroup(title: "Server") var target: TargetOptions

    @Option(help: "Write the result to this file as JSON.")
    var json: String?

    func validate() throws {
        guard 1...100_000_000 ~= messages else { throw ValidationError("--messages: 1 to 100,000,000") }
        guard size.rate == nil else { throw ValidationError("--rate: a backlog is always filled as fast as possible") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        let plan = try size.backlog(messages, dialect: target.dialect)
        let reached = try target.reach { $0.holdingBacklogs() }
        let progress = ProgressLine()
        var report = try BacklogReport(plan, target: reached.load, process: reached.process, progress: progress)
        report.server = reached.name
        progress.clear()
        print("\(plan.name), server \(reached.name)")
        for line in report.lines { print("  \(line)") }
        if let json { try writeJSON(report, to: json) }
        if !report.isClean { throw ExitCode(1) }
    }
}

extension ScenarioOptions {
    /// The plan of a queue with this many messages, rounded up to whole segments of its publishers.
    func backlog(_ messages: Int, dialect: Plan.Dialect?) throws -> Plan {
        var plan = try plan(.queue, dialect: dialect)
        guard plan.dialect == .stomp else {
            throw ValidationError("backlog measures STOMP servers only, not \(plan.dialect.rawValue)")
        }
        let step = plan.segment * plan.publisherCount
        plan.backlog = (messages + step - 1) / step * plan.segment
        plan.name = "backlog \(plan.backlog * plan.publisherCount) " + plan.name
        return plan
    }
}

/// The cost of filling and emptying a queue.
struct BacklogReport: Codable, Sendable {
    var scenario = ""
    var server = ""
    var messages = 0
    var bodyBytes = 0
    var fillSeconds = 0.0
    var fillServerSeconds = 0.0
    var emptySeconds = 0.0
    var emptyServerSeconds = 0.0
    /// The growth of the server's RSS while the queue filled, and the rest of it when the queue was empty.
    var filledBytes = 0
    var leftBytes = 0
    var anomalies = Anomalies()
    var failure: String?

    var isClean: Bool { failure == nil && anomalies.isClean }
    /// The time without any progress after which the measurement fails.
    private static let patienceSeconds = 15.0

    init(_ plan: Plan, target: Load.Target, process: ServerProcess?, progress: ProgressLine) throws {
        scenario = plan.name
        messages = plan.backlog * plan.publisherCount
        bodyBytes = plan.bodyByteCount
        let load = try Load(plan, target: target)
        if load.awaitReady() { play(load, process, progress) }
        let result = load.end()
        anomalies = result.anomalies
        failure = load.control.failure
    }

    private mutating func play(_ load: Load, _ process: ServerProcess?, _ progress: ProgressLine) {
        let before = process?.residentByteCount ?? 0
        let filling = Stopwatch(process)
        load.phase = .measure
        guard reach("filling", load, progress, { $0.confirmed }) else { return }
        (fillSeconds, fillServerSeconds) = filling.seconds
        filledBytes = (process?.residentByteCount ?? 0) - before
        let emptying = Stopwatch(process)
        load.phase = .unload
        guard reach("emptying", load, progress, { $0.delivered }) else { return }
        (emptySeconds, emptyServerSeconds) = emptying.seconds
        _ = load.drain()
        leftBytes = (process?.residentByteCount ?? 0) - before
    }

    private func reach(
        _ name: String, _ load: Load, _ progress: ProgressLine, _ measure: (Counts) -> Int
    ) -> Bool {
        let isDone = load.wait(seconds: Self.patienceSeconds) {
            progress.show("\(name) \(measure($0))/\(messages)")
        } until: {
            measure($0) >= messages
        } measure: {
            measure($0)
        }
        if !isDone { load.control.fail("\(name) stopped at \(measure(load.control.counts)) of \(messages) messages") }
        return isDone
    }

    func perSecond(_ seconds: Double) -> Double { Double(messages) / max(seconds, 1e-9) }
    func microseconds(_ seconds: Double) -> Double { seconds * 1e6 / Double(max(messages, 1)) }
    var bytesPerMessage: Double { Double(filledBytes) / Double(max(messages, 1)) }

    var lines: [String] {
        func line(_ name: String, _ seconds: Double, _ serverSeconds: Double) -> String {
            "\(name): \(messages) in \(OutcomeTable.decimals(seconds, 3)) s, "
                + "\(OutcomeTable.grouped(perSecond(seconds)))/s, "
                + "server CPU \(OutcomeTable.decimals(microseconds(serverSeconds), 3)) us each"
        }
        var lines = [
            line("filled", fillSeconds, fillServerSeconds), line("emptied", emptySeconds, emptyServerSeconds),
            "server memory: \(OutcomeTable.grouped(bytesPerMessage)) B per message of \(bodyBytes) B "
                + "(growth of RSS); once empty, \(OutcomeTable.decimals(Double(leftBytes) / 1_048_576, 1)) MiB are left",
        ]
        if let failure { lines.append("FAILED: \(failure)") }
        if !anomalies.isClean {
            lines.append(
                "WRONG: \(anomalies.lost) lost, \(anomalies.duplicated) duplicated, \(anomalies.corrupt) damaged, "
                    + "\(anomalies.ended) ended")
        }
        return lines
    }
}
