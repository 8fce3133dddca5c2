import ArgumentParser
import Attacks
import CProcess
import Foundation
import Load

/// `stampede-bench logins`: what wrong logins by the thousand cost those with the right one.
struct Logins: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Send wrong logins at a fixed rate, and measure how long honest clients wait beside them.",
        discussion: """
            The users file has one user, hashed by the broker's own program. Honest clients come from 127.0.0.2 at a fixed \
            rate, each on a new connection; their latency counts from when they were due (open loop). The wrong logins come \
            from 127.0.0.1, half of them with the name of the user, each on a new connection. Measured in turn without and \
            with them; percentiles are of all rounds. In the row "remembered" the broker remembers right passwords, as it does \
            by default; in the row "hashed" it hashes each.
            Passed: no honest client was refused, and their p99 has at most doubled, where less than --floor counts as --floor. \
            CPUs, priorities and their reasons are those of the command attack.
            """)

    @Option(help: "The broker's driver: uring or epoll. Default: uring where it works.")
    var driver: LoadDriver?

    @Option(help: "Wrong logins a second.")
    var wrong = 10_000.0

    @Option(help: "Honest logins a second.")
    var honest = 20.0

    @Option(help: "A p99 up to this many microseconds always passes.")
    var floor = 1000.0

    @Option(help: "How often to measure without and with the wrong logins.")
    var rounds = 3

    @Option(help: "Seconds to measure.")
    var seconds = 5.0

    @Option(help: "Seconds to wait before each measurement.")
    var warmUp = 1.0

    @Option(help: "A setting of the broker. Can be repeated.")
    var set: [String] = []

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(parsing: .unconditional, help: "The CPU to bind the broker to; -1: none.")
    var serverCPU: Int32 = 0

    @Option(parsing: .unconditional, help: "The CPU to bind all clients to; -1: none.")
    var cpu: Int32 = 1

    @Option(help: "Write the report to this file (Markdown).")
    var output: String?

    @Option(help: "Write the outcomes to this file as JSON.")
    var json: String?

    private static let credentials = Load.Credentials(login: "honest", passcode: "a passcode of many words")

    func validate() throws {
        guard 1...1_000_000 ~= wrong, 1...10_000 ~= honest else {
            throw ValidationError("--wrong: 1 to 1,000,000; --honest: 1 to 10,000")
        }
        guard 1...1000 ~= rounds else { throw ValidationError("--rounds: 1 to 1,000") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        guard cpu < 0 || process_bind(cpu) == 0 else { throw ValidationError("--cpu \(cpu): no such CPU") }
        for path in [json, output].compactMap({ $0 }) { try makeFolder(of: path) }
        let busy = BusyCPUs([serverCPU, cpu].filter { $0 >= 0 })
        defer { busy.stop() }
        var outcomes: [LoginOutcome] = []
        for (row, setting) in [("remembered", []), ("hashed", ["access.remember-ms=0"])] {
            outcomes.append(try measure(row, settings: set + setting))
        }
        print("\n\(LoginOutcome.section(outcomes).table)")
        for outcome in outcomes { if let complaint = outcome.complaint { print("  \(outcome.row): \(complaint)") } }
        if let json { try writeJSON(outcomes, to: json) }
        if let output { try report(outcomes).write(to: output) }
        if !outcomes.allSatisfy(\.isPassed) { throw ExitCode(1) }
    }

    private func report(_ outcomes: [LoginOutcome]) -> Report {
        let machine = Machine()
        return Report(
            title: "Wrong logins, \(machine.date)",
            preface: """
                \(machine.text)

                \(honest.formatted) honest logins a second, on a new connection each, without and with \(wrong.formatted) wrong ones a \
                second from another address; \(rounds) rounds, \(seconds.formatted) s each. Broker and clients each on a CPU of \
                their own. In the row "remembered" the broker remembers right passwords; in "hashed" it hashes each.
                """, sections: [LoginOutcome.section(outcomes)])
    }

    private func measure(_ row: String, settings: [String]) throws -> LoginOutcome {
        let driver = driver ?? TargetOptions.bestDriver
        let path = stampede ?? ServerKind.besideUs
        var kind = ServerKind.stampede(
            driver: driver, path: path, settings: ["access.users=FOLDER/users.yaml"] + settings)
        kind.prepare = { try Self.makeUsers(in: $0, path) }
        let server = try RunningServer(kind, cpu: serverCPU < 0 ? nil : serverCPU)
        defer { server.end() }
        var outcome = LoginOutcome(row: row, driver: driver.rawValue, floor: floor, wanted: wrong)
        var plan = HonestLogins.Plan(port: server.port)
        plan.credentials = Self.credentials
        plan.perSecond = honest
        let before = HonestLogins(plan)
        let during = HonestLogins(plan)
        for _ in 0..<rounds {
            Self.awaitQuiet(server)
            measure(before, server) { outcome.serverShareBefore = $0 }
            let flood = LoginFlood(port: server.port, perSecond: wrong, user: Self.credentials.login)
            flood.start()
            let start = flood.tally
            let watch = Stopwatch(nil)
            measure(during, server) { outcome.serverShareDuring = $0 }
            outcome.note(start, flood.tally, seconds: watch.wallSeconds)
            flood.stop()
        }
        (outcome.before, outcome.beforeCount) = before.latency
        (outcome.during, outcome.duringCount) = during.latency
        outcome.failure = before.failure ?? during.failure ?? (server.isRunning ? nil : "the broker has ended")
        return outcome
    }

    /// Waits until what was left of the last flood is done: the broker takes next to no CPU time.
    private static func awaitQuiet(_ server: RunningServer) {
        let stepMicroseconds: UInt32 = 250_000
        let stepsMax = 80
        let quietShare = 0.05
        for _ in 0..<stepsMax {
            let watch = Stopwatch(server.process)
            usleep(stepMicroseconds)
            let (wall, running) = watch.seconds
            if running < wall * quietShare { return }
        }
    }

    /// Lets the clients connect, and records from the end of the warm-up on.
    private func measure(_ clients: HonestLogins, _ server: RunningServer, _ share: (Double) -> Void) {
        clients.start()
        usleep(UInt32(warmUp * 1e6))
        clients.record(true)
        let watch = Stopwatch(server.process)
        usleep(UInt32(seconds * 1e6))
        clients.record(false)
        let (wall, running) = watch.seconds
        share(running / max(wall, 1e-9))
        clients.stop()
    }

    /// The users file, made by the broker's own program.
    private static func makeUsers(in folder: String, _ path: String) throws {
        let file = "\(folder)/users.yaml"
        try "roles:\n  anything: {publish: \"#\", subscribe: \"#\"}\n".write(
            toFile: file, atomically: true, encoding: .utf8)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = [
            "user", "add", credentials.login, "--role", "anything", "--file", file, "--password-stdin",
        ]
        let input = Pipe()
        process.standardInput = input
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try input.fileHandleForWriting.write(contentsOf: Data("\(credentials.passcode)\n".utf8))
        try input.fileHandleForWriting.close()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw RunningServer.StartError(description: "\(path) user add: exit code \(process.terminationStatus)")
        }
    }
}

/// What honest clients notice of wrong logins.
struct LoginOutcome: Codable, Sendable {
    var row: String
    var driver: String
    /// A p99 up to this many microseconds always passes.
    var floor: Double
    /// Wrong logins a second that were asked for, and those that were sent and answered.
    var wanted: Double
    var sentPerSecond = 0.0
    var answeredPerSecond = 0.0
    private var floodSeconds = 0.0
    var before = Latency()
    var during = Latency()
    var beforeCount = 0
    var duringCount = 0
    /// Of the last round.
    var serverShareBefore = 0.0
    var serverShareDuring = 0.0
    var failure: String?

    static let growthMax = 2.0
    /// The share of the wanted rate that has to be sent.
    static let sentShareMin = 0.95

    init(row: String, driver: String, floor: Double, wanted: Double) {
        self.row = row
        self.driver = driver
        self.floor = floor
        self.wanted = wanted
    }

    /// Adds what a flood has done between two moments.
    mutating func note(_ start: LoginFlood.Tally, _ end: LoginFlood.Tally, seconds: Double) {
        let sum = floodSeconds + seconds
        sentPerSecond = (sentPerSecond * floodSeconds + Double(end.sent - start.sent)) / max(sum, 1e-9)
        answeredPerSecond = (answeredPerSecond * floodSeconds + Double(end.answered - start.answered)) / max(sum, 1e-9)
        floodSeconds = sum
    }

    var growth: Double { max(during.p99, floor) / max(before.p99, floor) }
    var isPassed: Bool {
        failure == nil && beforeCount > 0 && duringCount > 0 && growth <= Self.growthMax && isFlooded
    }
    private var isFlooded: Bool { sentPerSecond >= wanted * Self.sentShareMin }

    var complaint: String? {
        if let failure { return "FAILED: \(failure)" }
        if !isFlooded {
            let (sent, all) = (OutcomeTable.grouped(sentPerSecond), OutcomeTable.grouped(wanted))
            return "only \(sent) of \(all) wrong logins a second were sent"
        }
        return nil
    }

    static func section(_ outcomes: [LoginOutcome]) -> Section {
        Section(
            title: "Wrong logins",
            head: [
                "honest logins, us", "driver", "wrong/s", "answered/s", "p50 without", "p99 without", "p50 with",
                "p99 with",
                "p50 ratio", "p99 ratio", "samples", "broker CPU without / with", "at most \(growthMax.formatted)",
            ],
            lines: outcomes.map { outcome in
                let p50 = outcome.during.p50 / max(outcome.before.p50, 1e-9)
                let p99 = outcome.during.p99 / max(outcome.before.p99, 1e-9)
                return [
                    outcome.row, outcome.driver, OutcomeTable.grouped(outcome.sentPerSecond),
                    OutcomeTable.grouped(outcome.answeredPerSecond), OutcomeTable.grouped(outcome.before.p50),
                    OutcomeTable.grouped(outcome.before.p99), OutcomeTable.grouped(outcome.during.p50),
                    OutcomeTable.grouped(outcome.during.p99), OutcomeTable.decimals(p50, 2),
                    OutcomeTable.decimals(p99, 2), "\(outcome.beforeCount) / \(outcome.duringCount)",
                    "\(OutcomeTable.percent(outcome.serverShareBefore)) / \(OutcomeTable.percent(outcome.serverShareDuring))",
                    outcome.isPassed ? "met" : "MISSED",
                ]
            })
    }
}
