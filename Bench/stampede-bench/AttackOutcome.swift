import Attacks
import Load

/// The effect of an attack on a broker and on the honest clients.
struct AttackOutcome: Codable, Sendable {
    var attack: String
    var driver: String
    var connections: Int
    /// For each round: without the attack and with it.
    var before: [Outcome] = []
    var during: [Outcome] = []
    var opened = 0
    var ended = 0
    var sentBytes = 0
    var peakBytes = 0
    var limitBytes = 0
    var kills = 0
    var isAlive = false
    var cage = ""
    /// A p99 up to this many microseconds always passes.
    var floor = 0.0

    static let growthMax = 2.0

    init(_ attack: Attack, driver: LoadDriver, connections: Int) {
        self.attack = attack.rawValue
        self.driver = driver.rawValue
        self.connections = connections
    }

    /// Adds the counts of the attackers of a round.
    mutating func note(_ tally: Attacker.Tally) {
        opened += tally.opened
        ended += tally.ended
        sentBytes += tally.bytesSent
    }

    /// The p99 during the attack divided by the p99 before it. Values below `floor` count as `floor`.
    var growth: Double { max(p99(during), floor) / max(p99(before), floor) }
    var isWithinMemory: Bool { isAlive && kills == 0 && peakBytes <= limitBytes }
    var isPassed: Bool {
        isWithinMemory && before.allSatisfy(\.isClean) && during.allSatisfy(\.isClean) && growth <= Self.growthMax
    }

    /// The median of the rounds.
    private func p99(_ outcomes: [Outcome]) -> Double { Self.median(outcomes.map(\.latency.p99)) }

    private static func median(_ values: [Double]) -> Double {
        values.isEmpty ? 0 : Comparison.median(values.sorted())
    }

    var complaints: [String] {
        var lines: [String] = []
        if !isAlive { lines.append("the broker did not survive; killed for want of memory: \(kills)") }
        if peakBytes > limitBytes { lines.append("more memory than allowed") }
        for (outcomes, when) in [(before, "without"), (during, "during")] {
            for var outcome in outcomes {
                // The attackers are threads of the load generator. They mostly wait.
                outcome.loadWaitShare = 0
                lines += OutcomeTable.complaints(outcome).map { "\(when): \($0)" }
            }
        }
        return lines
    }

    private static let columns = [
        ("attack", 18), ("driver", 6), ("conns", 7), ("opened", 9), ("cut", 9), ("sent MiB", 9), ("honest/s", 9),
        ("p99 without us", 14), ("p99 during us", 13), ("growth", 7), ("broker CPU", 10), ("peak MiB", 9),
        ("verdict", 8),
    ]

    static var head: String { line(columns.map(\.0)) }

    var row: String {
        Self.line([
            attack, driver, "\(connections)", "\(opened)", "\(ended)", mebibytes(sentBytes),
            OutcomeTable.decimals(Self.median(during.map(\.deliveredPerSecond)), 0),
            OutcomeTable.decimals(p99(before), 0), OutcomeTable.decimals(p99(during), 0),
            OutcomeTable.decimals(growth, 2), OutcomeTable.percent(Self.median(during.map(\.serverShare))),
            mebibytes(peakBytes), isPassed ? "passed" : "FAILED",
        ])
    }

    private func mebibytes(_ count: Int) -> String { OutcomeTable.decimals(Double(count) / 1_048_576, 1) }

    private static func line(_ cells: [String]) -> String {
        zip(cells, columns).enumerated().map { position, pair in
            let padding = String(repeating: " ", count: max(0, pair.1.1 - pair.0.count))
            return position == 0 ? pair.0 + padding : padding + pair.0
        }.joined(separator: " ")
    }
}
