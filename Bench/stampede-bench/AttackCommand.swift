public import ArgumentParser
public import Attacks
import CProcess
import Glibc
import Load

extension Attack: ExpressibleByArgument {}

/// `stampede-bench attack`: measures the effect of an attack on honest clients.
struct AttackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "attack",
        abstract: "Attack a broker in a memory-limited control group, and measure what honest clients notice.",
        discussion: """
            Each attack gets a new broker. Honest clients send at a fixed rate. Their p99 latency is measured in turn \
            without and during the attack, and the medians of the rounds are compared. Latency counts from the time at \
            which a message was due (open loop).
            An attack is passed if the broker is still running within its memory limit, the honest clients lost no \
            message and saw no error, and their p99 at most doubled. A p99 below --floor counts as --floor, because \
            there the machine itself is measured.
            Both CPUs are kept busy by threads of the lowest priority, so that an idle machine is not compared with a \
            busy one. The attackers have the same priority and run on the honest clients' CPU. The honest clients have \
            the highest (SCHED_FIFO).
            Attacks:
            """ + "\n" + Attack.allCases.map { "  \($0.rawValue): \($0.summary)" }.joined(separator: "\n"))

    @Argument(help: "The attacks to run. Default: all.")
    var attacks: [Attack] = []

    @Option(help: "The broker's driver, uring or epoll. Can be repeated. Default: both, where they work.")
    var driver: [LoadDriver] = []

    @Option(
        help: "Attacking connections. Default: 10,000 or 2,000 for slow attacks, 50 for those at full speed.")
    var connections: Int?

    @Option(help: "Memory limit of the control group, in MiB.")
    var memory = 1024

    @Option(help: "A setting of the broker, as in limits.body-bytes=4MiB. Can be repeated.")
    var set: [String] = []

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(help: "Honest pairs, each of a publisher and a subscriber.")
    var pairs = 20

    @Option(help: "Messages that each honest publisher sends in a second.")
    var rate = 50.0

    @Flag(help: "The honest clients use queues and acknowledge each message, instead of topics.")
    var queues = false

    @Option(help: "A p99 up to this many microseconds always passes.")
    var floor = 1000.0

    @Option(help: "How often to measure without and during the attack.")
    var rounds = 3

    @OptionGroup(title: "Time") var time: ScheduleOptions

    @Option(help: "Write the outcomes there as JSON.")
    var json: String?

    func run() throws {
        Load.raiseDescriptorLimit()
        if process_bind(1) != 0 { warn("this machine has no CPU 1, so broker and clients share one") }
        let drivers =
            driver.isEmpty ? LoadDriver.allCases.filter { $0 == .epoll || TargetOptions.bestDriver == $0 } : driver
        let busy = BusyCPUs(0...1)
        defer { busy.stop() }
        var outcomes: [AttackOutcome] = []
        print(AttackOutcome.head)
        for attack in attacks.isEmpty ? Attack.allCases : attacks {
            for driver in drivers {
                let outcome = try measure(attack, driver)
                print(outcome.row)
                for line in outcome.complaints { print("  \(line)") }
                outcomes.append(outcome)
            }
        }
        if let json { try writeJSON(outcomes, to: json) }
        let failed = outcomes.count { !$0.isPassed }
        print(
            "\(outcomes.count - failed) of \(outcomes.count) passed; memory bound by \(outcomes.last?.cage ?? "nothing")"
        )
        if failed > 0 { throw ExitCode(1) }
    }

    private func measure(_ attack: Attack, _ driver: LoadDriver) throws -> AttackOutcome {
        let kind = ServerKind.stampede(driver: driver, path: stampede ?? ServerKind.besideUs, settings: set)
            .opening(attack.door)
        let server = try RunningServer(kind, cpu: 0)
        let cage = MemoryCage(process: server.process.identifier, byteCountMax: memory << 20)
        guard var target = Load.Target(host: "127.0.0.1", port: server.port) else { throw ExitCode(1) }
        target.driver = TargetOptions.bestDriver
        // Otherwise a wake-up waits for the system calls of the attackers, or for the next tick: up to 4 ms.
        target.isUrgent = true
        let measurement = Measurement(try honestPlan(), target: target, server: server.process, schedule: time.schedule)
        let progress = ProgressLine()
        // The honest clients reconnect for each measurement. Their topics stay in existence, so that an attack that
        // uses up all destinations does not take their place.
        let keeper = Attacker(keeping: (0..<pairs).map { "/topic/bench.\($0)" }, port: server.port)
        keeper.start()
        defer { keeper.stop() }
        var outcome = AttackOutcome(attack, driver: driver, connections: connections ?? attack.connectionCount)
        for round in 1...max(rounds, 1) {
            let name = "\(attack.rawValue), \(driver.rawValue), round \(round)"
            outcome.before.append(try measurement.run { progress.show("\(name), without: \($0)") })
            let port = attack.door.listener("") == nil ? server.port : server.otherPort
            let attacker = Attacker(attack, port: port, connectionCount: outcome.connections)
            attacker.start()
            awaitConnected(attacker, attack, progress)
            outcome.during.append(try measurement.run { progress.show("\(name), during: \($0)") })
            outcome.note(attacker.tally)
            attacker.stop()
        }
        progress.clear()
        outcome.peakBytes = max(cage.peakByteCount, ProcFile.residentPeakByteCount(of: server.process.identifier))
        outcome.limitBytes = cage.byteCountMax
        outcome.kills = cage.killCount
        outcome.isAlive = ProcFile.residentByteCount(of: server.process.identifier) > 0
        outcome.cage = cage.summary
        outcome.floor = floor
        server.end()
        return outcome
    }

    private func honestPlan() throws -> Plan {
        var options = ScenarioOptions(publishers: pairs, subscribers: pairs, number: pairs, rate: rate)
        options.ack = queues ? .clientIndividual : nil
        return try options.plan(queues ? .queue : .pairs)
    }

    /// Waits until all connections of the attack were opened once, or the time for that is over.
    private func awaitConnected(_ attacker: Attacker, _ attack: Attack, _ progress: ProgressLine) {
        let stepMicroseconds: UInt32 = 20_000
        let stepsMax = 250
        for _ in 0..<stepsMax where attacker.tally.opened < attacker.connectionCount {
            progress.show("\(attack.rawValue): \(attacker.tally.opened) attackers")
            usleep(stepMicroseconds)
        }
    }
}

extension Attack {
    /// Slow attacks need many connections. At full speed a few are enough.
    var connectionCount: Int {
        switch self {
        case .trickle, .silence, .halfHandshakes, .slowRequests: 10_000
        case .hugeLengths, .heldBodies, .frameLengths, .halfMessages, .brokenProxies: 2_000
        case .headerFlood, .endlessHeaders, .endlessBodies, .subscriptions, .patterns, .longIdentifiers, .transactions,
            .sleepers, .silentReceivers, .fullQueue, .manyQueues, .destinations, .hoarders, .logFlood, .handshakes,
            .tinyRecords, .requests, .origins, .pings, .unmasked, .fragments, .compression, .inflation,
            .forgedProxies, .wrongLogins, .badTokens:
            50
        }
    }
}
