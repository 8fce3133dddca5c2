import Attacks
import Glibc
import TestSupport
import Testing

/// Bad clients of every kind, on a broker whose memory is bounded from outside: those who behave see no error, and the
/// broker's own limits act long before the kernel does. What it costs them in time is measured by `stampede-bench attack`.
@Suite("Attacks", .serialized)
struct Attacks {
    private static let memoryByteCountMax = 256 << 20

    /// Limits that are near enough to be reached within a test.
    private static let limits = [
        "limits.message-memory-bytes": "64MiB", "limits.connect-timeout-ms": "300", "limits.frame-timeout-ms": "1s",
        "limits.frame-bytes-per-second-min": "4MiB", "limits.output-bytes": "2MiB", "limits.prefetch-max": "20",
        "limits.subscriptions-per-connection-max": "40", "limits.transaction-bytes": "1100KiB",
        "limits.drain-timeout-ms": "0", "limits.linger-ms": "200",
    ]
    private static let policies = """
        destinations:
          - match: /queue/attack.#
            bytes-max: 1MiB
          - match: /queue/attack
            bytes-max: 8MiB

        """

    /// A broker with the listener that the attack goes to, and the port of that listener.
    private static func broker(
        _ driver: DriverUnderTest, _ attack: Attack
    ) throws -> (broker: BrokerProcess, port: UInt16) {
        let files = TestCertificates.shared
        for (name, text) in attack.door.files { files.write(text, to: name) }
        var values = limits.merging(attack.door.settings(folder: files.directory)) { $1 }
        if attack == .destinations { values["limits.destinations-max"] = "500" }
        // On a busy machine, larger ones are ended by their time before.
        if attack == .endlessBodies { values["limits.body-bytes"] = "64KiB" }
        // Refusals wait for up to 2 s, and have to come before that.
        if attack.door == .login { values["limits.connect-timeout-ms"] = "5s" }
        guard let listener = attack.door.listener("127.0.0.1:0") else {
            let broker = try BrokerProcess(BrokerProcess.Settings(driver, values, file: policies))
            return (broker, broker.port)
        }
        let list = "listeners:\n  - \"127.0.0.1:0\"\n  - \(listener)\n"
        let broker = try BrokerProcess(BrokerProcess.Settings(driver, values, file: policies + list, address: ""))
        let ports = broker.readyLine.matches(of: /127\.0\.0\.1:(\d+)/).compactMap { UInt16($0.1) }
        try #require(ports.count == 2, "\(broker.readyLine)")
        return (broker, ports[1])
    }

    @Test(arguments: DriverUnderTest.available, Attack.allCases)
    func `Who behaves sees nothing of an attack, and the broker stays within its memory`(
        on driver: DriverUnderTest, _ attack: Attack
    ) throws {
        let (broker, port) = try Self.broker(driver, attack)
        let cage = MemoryCage(process: broker.process.pid, byteCountMax: Self.memoryByteCountMax)
        if attack == .trickle { print("attacks on \(driver): memory bounded by \(cage.summary)") }
        let honest = try HonestClients(broker)
        try honest.exchange(50)
        let descriptorCount = broker.process.descriptorCount

        let attacker = Attacker(attack, port: port, connectionCount: attack.testConnectionCount)
        attacker.start()
        defer { attacker.stop() }
        let deadline = Deadline()
        var waiting = Set(attack.countersReached)
        while !waiting.isEmpty || !attack.isSurvived(attacker.tally) {
            try honest.exchange(50)
            let counters = try broker.counters()
            waiting = waiting.filter { counters[$0, default: 0] == 0 }
            try #require(!deadline.isOver, "never reached: \(waiting), \(attacker.tally)")
        }
        attacker.stop()
        try honest.exchange(50)
        // The honest clients are three. Nothing of the others is left.
        var counters = try broker.counters()
        while counters["connections-now"] != 3 || broker.process.descriptorCount > descriptorCount {
            try #require(!deadline.isOver, "\(counters), \(broker.process.descriptorCount) descriptors")
            try honest.exchange(1)
            counters = try broker.counters()
        }

        #expect(cage.killCount == 0)
        #expect(cage.peakByteCount <= Self.memoryByteCountMax)
        #expect(try broker.residentByteCount() <= Self.memoryByteCountMax)
        #expect(try broker.terminate() == .exited(0), "\(broker.process.errorLines.suffix(3))")
    }
}

extension Attack {
    /// The counters of the broker that an attack of this kind raises: limits that it runs into, and what is refused.
    fileprivate var countersReached: [String] {
        switch self {
        case .trickle: ["limit.connect-timeout-ms", "limit.frame-timeout-ms"]
        case .silence: ["limit.connect-timeout-ms"]
        case .headerFlood: ["limit.headers-max"]
        case .endlessHeaders: ["limit.header-bytes", "limit.headers-bytes"]
        case .endlessBodies, .hugeLengths: ["limit.body-bytes"]
        case .heldBodies: ["limit.frame-timeout-ms"]
        case .subscriptions, .patterns: ["limit.subscriptions-per-connection-max"]
        case .transactions: ["limit.transactions-per-connection-max", "limit.transaction-bytes"]
        case .sleepers, .silentReceivers: ["limit.output-bytes"]
        case .fullQueue, .manyQueues: ["limit.queue"]
        case .destinations: ["limit.destinations-max"]
        case .hoarders: ["limit.queue"]
        case .longIdentifiers, .logFlood: []
        case .handshakes, .tinyRecords: ["tls-handshakes-failed"]
        case .halfHandshakes, .slowRequests: ["limit.connect-timeout-ms"]
        case .requests, .origins, .forgedProxies, .brokenProxies: ["handshakes-refused"]
        case .pings: ["websocket-pings"]
        case .unmasked, .compression, .frameLengths: ["websocket-errors"]
        case .fragments: ["limit.connect-timeout-ms", "limit.frame-timeout-ms"]
        case .inflation: ["websocket-errors", "limit.body-bytes"]
        case .halfMessages: ["inflations-refused"]
        case .wrongLogins, .badTokens: ["logins-refused"]
        }
    }

    /// Whether the attack has done enough to count as survived: the broker has ended connections, or has taken in what it
    /// has no reason to end a connection for.
    fileprivate func isSurvived(_ tally: Attacker.Tally) -> Bool {
        switch self {
        case .pings: tally.bytesSent > 16 << 20
        case .handshakes, .origins, .unmasked, .compression, .forgedProxies: tally.ended >= 100
        default: tally.ended > 0
        }
    }

    fileprivate var testConnectionCount: Int {
        switch self {
        case .trickle, .silence, .halfHandshakes, .slowRequests: 1000
        case .heldBodies, .frameLengths, .brokenProxies: 24
        case .halfMessages: 60
        // Few enough that the broker reads each of them often: else the time of a frame ends them.
        case .silentReceivers: 4
        case .headerFlood, .endlessHeaders, .endlessBodies, .hugeLengths, .subscriptions, .patterns, .longIdentifiers,
            .transactions, .sleepers, .fullQueue, .manyQueues, .destinations, .hoarders, .logFlood,
            .handshakes, .tinyRecords, .requests, .origins, .pings, .unmasked, .fragments, .compression, .inflation,
            .forgedProxies, .wrongLogins, .badTokens:
            20
        }
    }
}
