import Load

/// A row of the table of a comparison.
struct Row: Sendable {
    var name: String
    private var scenario: Scenario
    private var publishers: Int?
    private var subscribers: Int?
    private var number: Int?
    private var body = 64
    private var ack: Plan.Acknowledgement?
    private var rate: Double?
    /// Whether its latency at half of the peak rate is measured too.
    private(set) var hasLatency = false
    /// A row of `durable`, which has a plan of its own.
    private var durable: DurableLoad?

    init(_ load: DurableLoad) {
        self.init(load.name, .queue)
        durable = load
    }

    private init(
        _ name: String, _ scenario: Scenario, publishers: Int? = nil, subscribers: Int? = nil, number: Int? = nil,
        body: Int = 64, ack: Plan.Acknowledgement? = nil, rate: Double? = nil, hasLatency: Bool = false
    ) {
        self.name = name
        self.scenario = scenario
        self.publishers = publishers
        self.subscribers = subscribers
        self.number = number
        self.body = body
        self.ack = ack
        self.rate = rate
        self.hasLatency = hasLatency
    }

    /// - Parameter rate: messages a second of all publishers together, instead of the flow of the row.
    func plan(_ dialect: Plan.Dialect, rate messagesPerSecond: Double? = nil) throws -> Plan {
        if let durable { return try durable.plan(dialect) }
        var options = ScenarioOptions(
            publishers: publishers, subscribers: subscribers, number: number, body: body, rate: rate)
        options.ack = ack
        var plan = try options.plan(scenario, dialect: dialect)
        if let messagesPerSecond {
            plan.flow = .paced(messagesPerSecond: messagesPerSecond / Double(plan.publisherCount))
        }
        return plan
    }

    /// The persistence that the rates of other rows have to have to say something about this one's. nil: none does.
    var isPersistent: Bool? { durable?.isPersistent }

    /// Whether a server that has reached this rate in other rows answers the windows of this one within a moment. Measuring
    /// anything else would take minutes, and would leave work behind for the rows after it.
    func isWithinReach(ofRate messagesPerSecond: Double?) -> Bool {
        guard let durable, let messagesPerSecond, messagesPerSecond > 0 else { return true }
        return Double(durable.publishers * durable.window) <= messagesPerSecond * DurableLoad.windowSecondsMax
    }

    /// Only STOMP has cumulative acknowledgements. beanstalkd has only acknowledged queues, and RESP only topics.
    func isPossible(_ dialect: Plan.Dialect) -> Bool {
        if let durable { return durable.isPossible(dialect) }
        return switch dialect {
        case .stomp: true
        case .nats, .mqtt: ack != .client
        case .beanstalk, .resp: ack == nil && dialect.knows(scenario.delivery)
        }
    }

    static let withoutStalled = "fan-out S=1000 B=64"
    static let withStalled = "one of S=1000 stalled"

    /// Queue rows without a mode acknowledge each message if the peer supports it.
    static let all: [Row] = [
        Row("fan-out S=1 B=64", .fanout, subscribers: 1, hasLatency: true),
        Row("fan-out S=10 B=64", .fanout, subscribers: 10),
        Row("fan-out S=100 B=64", .fanout, subscribers: 100, hasLatency: true),
        Row(withoutStalled, .fanout, subscribers: 1000, hasLatency: true),
        Row(withStalled, .stalled, subscribers: 1000),
        Row("fan-out S=1000 B=1024", .fanout, subscribers: 1000, body: 1024),
        Row("fan-in P=100 B=64", .fanin, publishers: 100),
        Row("pairs N=1 B=64", .pairs, number: 1, hasLatency: true),
        Row("pairs N=100 B=64", .pairs, number: 100, hasLatency: true),
        Row("queue 1x1", .queue, publishers: 1, subscribers: 1),
        Row("queue 4x4", .queue, publishers: 4, subscribers: 4),
        Row("queue 4x4 auto", .queue, publishers: 4, subscribers: 4, ack: .auto),
        Row("queue 4x4 client", .queue, publishers: 4, subscribers: 4, ack: .client),
        Row("unsubscribed P=1", .unsubscribed, publishers: 1),
        Row("reply N=1", .reply, number: 1),
        Row("reply N=100", .reply, number: 100),
        Row("paced S=100, 100 msg/s", .fanout, subscribers: 100, rate: 100),
        Row("paced S=1000, 10 msg/s", .fanout, subscribers: 1000, rate: 10),
        Row("paced pairs N=100, 2,000 msg/s", .pairs, number: 100, rate: 20),
    ]
}
