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

    @Test(arguments: DriverUnderTest.available, Attack.allCases)
    func `Who behaves sees nothing of an attack, and the broker stays within its memory`(
        on driver: DriverUnderTest, _ attack: Attack
    ) throws {
        var values = Self.limits
        if attack == .destinations { values["limits.destinations-max"] = "500" }
        let broker = try BrokerProcess(BrokerProcess.Settings(driver, values, file: Self.policies))
        let cage = MemoryCage(process: broker.process.pid, byteCountMax: Self.memoryByteCountMax)
        if attack == .trickle { print("attacks on \(driver): memory bounded by \(cage.summary)") }
        let honest = try HonestClients(broker)
        try honest.exchange(50)

        let attacker = Attacker(attack, port: broker.port, connectionCount: attack.testConnectionCount)
        attacker.start()
        defer { attacker.stop() }
        let deadline = Deadline()
        var waiting = Set(attack.limitsReached)
        while !waiting.isEmpty || attacker.tally.ended == 0 {
            try honest.exchange(50)
            let counters = try broker.counters()
            waiting = waiting.filter { counters["limit.\($0)", default: 0] == 0 }
            try #require(!deadline.isOver, "never reached: \(waiting)")
        }
        attacker.stop()
        try honest.exchange(50)

        #expect(cage.killCount == 0)
        #expect(cage.peakByteCount <= Self.memoryByteCountMax)
        #expect(try broker.residentByteCount() <= Self.memoryByteCountMax)
        #expect(try broker.terminate() == .exited(0), "\(broker.process.errorLines.suffix(3))")
    }
}

extension Attack {
    /// The limits that an attack of this kind runs into.
    fileprivate var limitsReached: [String] {
        switch self {
        case .trickle: ["connect-timeout-ms", "frame-timeout-ms"]
        case .silence: ["connect-timeout-ms"]
        case .headerFlood: ["headers-max"]
        case .endlessHeaders: ["header-bytes", "headers-bytes"]
        case .endlessBodies, .hugeLengths: ["body-bytes"]
        case .heldBodies: ["frame-timeout-ms"]
        case .subscriptions, .patterns: ["subscriptions-per-connection-max"]
        case .transactions: ["transactions-per-connection-max", "transaction-bytes"]
        case .sleepers, .silentReceivers: ["output-bytes"]
        case .fullQueue, .manyQueues: ["queue"]
        case .destinations: ["destinations-max"]
        case .hoarders: ["queue"]
        case .longIdentifiers, .logFlood: []
        }
    }

    fileprivate var testConnectionCount: Int {
        switch self {
        case .trickle, .silence: 1000
        case .heldBodies: 24
        case .headerFlood, .endlessHeaders, .endlessBodies, .hugeLengths, .subscriptions, .patterns, .longIdentifiers,
            .transactions, .sleepers, .silentReceivers, .fullQueue, .manyQueues, .destinations, .hoarders, .logFlood:
            20
        }
    }
}
