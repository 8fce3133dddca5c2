import Load

/// A row of `durable`: publishers of one queue, each with at most `window` messages that are not confirmed, and a consumer
/// that acknowledges each message.
struct DurableLoad: Sendable, Hashable {
    var publishers: Int
    var window: Int
    var body: Int
    /// Whether a confirmation means that the message is on stable storage, or only that the server has it in memory.
    var isPersistent = true

    /// How long a server may need for all windows together.
    static let windowSecondsMax = 20.0

    var name: String { "\(isPersistent ? "durable" : "in memory") P=\(publishers) W=\(window)" }

    /// The same load without the disk.
    var inMemory: DurableLoad {
        var load = self
        load.isPersistent = false
        return load
    }

    static func all(publishers: [Int], windows: [Int], body: Int) -> [DurableLoad] {
        publishers.flatMap { count in windows.map { DurableLoad(publishers: count, window: $0, body: body) } }
    }

    func plan(_ dialect: Plan.Dialect) throws -> Plan {
        var options = ScenarioOptions(publishers: publishers, subscribers: 1, body: body)
        options.window = window
        var plan = try options.plan(.queue, dialect: dialect)
        plan.acknowledgement = .clientIndividual
        plan.isConfirmed = true
        plan.isOrdered = true
        plan.isPersistent = isPersistent
        plan.name = name
        return plan
    }

    /// beanstalkd stores everything or nothing, as it is started.
    func isPossible(_ dialect: Plan.Dialect) -> Bool {
        switch dialect {
        case .stomp, .nats: true
        case .beanstalk: isPersistent
        case .mqtt, .resp: false
        }
    }
}
