import ArgumentParser
import CAffinity
import Drivers
import Load

/// `stampede-bench run`: one scenario against a server that runs already.
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure one scenario against a server that is running.",
        discussion: "Scenarios:\n"
            + Scenario.allCases.map { "  \($0.rawValue): \($0.summary)" }.joined(separator: "\n"))

    @Argument(help: "The scenario.")
    var scenario: Scenario

    @OptionGroup var size: ScenarioOptions
    @OptionGroup var target: TargetOptions

    @Option(help: "Measurements, one after the other.")
    var rounds = 1

    @Option(help: "Write the outcomes there as JSON.")
    var json: String?

    func run() throws {
        try target.bind()
        let plan = try size.plan(scenario)
        let server = target.server()
        if server == nil { warn("no process of ours listens on port \(target.port): server figures are missing") }
        let progress = ProgressLine()
        var outcomes: [Outcome] = []
        for round in 1...max(rounds, 1) {
            let measurement = Measurement(
                plan, target: try target.load(), server: server, schedule: target.schedule)
            var outcome = try measurement.run { progress.show("\(plan.name), round \(round)/\(rounds): \($0)") }
            outcome.server = "port \(target.port)"
            progress.clear()
            if round == 1 { print(OutcomeTable.head) }
            print(OutcomeTable.row(outcome))
            for line in OutcomeTable.complaints(outcome) { print(line) }
            outcomes.append(outcome)
        }
        if let json { try writeJSON(outcomes, to: json) }
        if outcomes.contains(where: { !$0.isClean }) { throw ExitCode(1) }
    }
}

/// Where the load goes, and how long it lasts.
struct TargetOptions: ParsableArguments {
    @Option(help: "IPv4 address of the server.")
    var host = "127.0.0.1"

    @Option(help: "Port of the server.")
    var port: UInt16 = 61613

    @Option(help: "The server's process. Default: whichever listens on the port.")
    var pid: Int32?

    @Option(help: "The load generator's own driver: uring or epoll. Default: uring where it works.")
    var driver: LoadDriver?

    @Option(help: "Bind the load generator to this CPU.")
    var cpu: Int32?

    @Option(help: "Seconds to measure.")
    var seconds = 3.0

    @Option(help: "Seconds to warm up.")
    var warmUp = 1.0

    var schedule: Schedule { Schedule(warmUpSeconds: warmUp, seconds: seconds) }

    func bind() throws {
        guard let cpu else { return }
        guard affinity_bind(cpu) == 0 else { throw ValidationError("--cpu \(cpu): no such CPU") }
    }

    func server() -> ServerProcess? {
        pid.map { ServerProcess(identifier: $0) } ?? ServerProcess(listeningOn: port)
    }

    func load() throws -> Load.Target {
        guard var target = Load.Target(host: host, port: port) else {
            throw ValidationError("--host \(host): an IPv4 address is expected")
        }
        target.driver = driver ?? Self.bestDriver
        return target
    }

    static let bestDriver: LoadDriver = {
        guard let choice = try? DriverChoice.auto.choose(), choice.kind == .uring else { return .epoll }
        return .uring
    }()
}
