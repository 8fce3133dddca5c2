import ArgumentParser
import Attacks
import CProcess
import Foundation
import Glibc
import Load

/// `stampede-bench soak`: puts mixed load on a broker for a long time, with clients that come and go.
struct Soak: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put mixed load on a broker for a long time, and check that its memory does not grow.",
        discussion: """
            A cycle runs each kind of load with new connections, and hostile clients beside them. Then all clients \
            disconnect, and the broker's memory, descriptors and counters are sampled. The soak is passed if no \
            message was lost, no descriptor and no connection stays open, and memory does not grow: neither that of \
            the process nor that of the broker's messages and buffers. The lowest sample of the second half is \
            compared with the lowest of the first: memory that is kept for the next burst comes and goes, and a leak \
            raises the lowest too.
            """)

    @Option(help: "How many minutes to run.")
    var minutes = 3.0

    @Option(help: "How many hours to run, instead of --minutes.")
    var hours: Double?

    @Option(help: "The broker's driver, uring or epoll. Default: the one that auto chooses.")
    var start: LoadDriver = TargetOptions.bestDriver

    @Option(help: "The broker's workers.")
    var workers = 2

    @Option(help: "A setting of the broker, as in io.uring.receive-mode=poll. Can be repeated.")
    var set: [String] = []

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(help: "Seconds of each kind of load in a cycle.")
    var seconds = 1.0

    @Option(help: "Growth of memory that passes, in KiB an hour; 4 MiB in all pass in any case.")
    var slope = 512.0

    @Option(help: "Write the samples to this file as JSON.")
    var json: String?

    func run() throws {
        Load.raiseDescriptorLimit()
        // log.level comes last, because the counters are logged as notices.
        let kind = ServerKind.stampede(
            driver: start, path: stampede ?? ServerKind.besideUs, workers: workers, settings: set + ["log.level=notice"]
        )
        let server = try RunningServer(kind, cpu: nil)
        defer { server.end() }
        guard var target = Load.Target(host: "127.0.0.1", port: server.port) else { throw ExitCode(1) }
        target.driver = TargetOptions.bestDriver
        let progress = ProgressLine()
        var watch = SoakWatch(server)
        print(SoakSample.head)
        var loads: [Outcome] = []
        let end = (hours.map { $0 * 3600 } ?? minutes * 60)
        while watch.seconds < end {
            for plan in try Self.plans() {
                let attack = Self.company.randomElement()!
                let attacker = Attacker(attack, port: server.port, connectionCount: Self.attackerCount)
                attacker.start()
                defer { attacker.stop() }
                let schedule = Schedule(warmUpSeconds: 0.1, seconds: seconds)
                let measurement = Measurement(plan, target: target, server: server.process, schedule: schedule)
                var outcome = try measurement.run {
                    progress.show("cycle \(watch.samples.count + 1), \(plan.name) beside \(attack.rawValue): \($0)")
                }
                outcome.server = start.rawValue
                if !outcome.isClean {
                    progress.clear()
                    print("\(plan.name) beside \(attack.rawValue):")
                    for line in OutcomeTable.complaints(outcome) { print(line) }
                    loads.append(outcome)
                }
            }
            progress.clear()
            print(try watch.sample().row)
        }
        let verdict = SoakVerdict(watch.samples, lost: loads.count, slopeMax: slope)
        for line in verdict.lines { print(line) }
        if let json { try writeJSON(watch.samples, to: json) }
        if !verdict.isPassed { throw ExitCode(1) }
    }

    /// Bad clients that do not make the broker drop or refuse messages of others, and leave nothing behind.
    private static let company: [Attack] = [
        .trickle, .silence, .headerFlood, .endlessHeaders, .endlessBodies, .hugeLengths, .subscriptions, .transactions,
        .logFlood,
    ]
    private static let attackerCount = 40

    private static func plans() throws -> [Plan] {
        var loads: [(Scenario, ScenarioOptions)] = [
            (.pairs, ScenarioOptions(number: 50, rate: 100)),
            (.fanout, ScenarioOptions(publishers: 2, subscribers: 100)),
            (.queue, ScenarioOptions(publishers: 4, subscribers: 4)),
            (.reply, ScenarioOptions(number: 50)),
            (.fanin, ScenarioOptions(publishers: 50, body: 2000)),
            (.pairs, ScenarioOptions(number: 1000, rate: 1)),
        ]
        loads.shuffle()
        return try loads.map { try $1.plan($0) }
    }
}
