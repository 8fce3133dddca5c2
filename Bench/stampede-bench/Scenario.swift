public import ArgumentParser
public import Load

/// The named loads.
enum Scenario: String, CaseIterable, ExpressibleByArgument {
    case fanout, pairs, queue, unsubscribed, reply, fanin, stalled

    var summary: String {
        switch self {
        case .fanout: "publishers of one topic with many subscribers (-p, -s)"
        case .pairs: "publishers, each with a topic and a subscriber of its own (-n)"
        case .queue: "publishers and consumers of one queue (-p, -s, --ack)"
        case .unsubscribed: "publishers of a topic that nobody subscribes to, paced by receipts (-p)"
        case .reply: "requesters, and one responder that answers each on its own topic (-n)"
        case .fanin: "many publishers of one topic with one subscriber (-p)"
        case .stalled: "as fanout, but one subscriber stops reading (-s)"
        }
    }

    var delivery: Plan.Delivery {
        switch self {
        case .queue: .queue
        case .reply: .reply
        case .fanout, .pairs, .unsubscribed, .fanin, .stalled: .topic
        }
    }
}

/// The sizes of a scenario.
struct ScenarioOptions: ParsableArguments {
    @Option(name: [.customShort("p"), .long], help: "Publishers for each destination.")
    var publishers: Int?

    @Option(name: [.customShort("s"), .long], help: "Subscribers for each destination.")
    var subscribers: Int?

    @Option(name: [.customShort("n"), .long], help: "Number of pairs or requesters.")
    var number: Int?

    @Option(name: [.customShort("b"), .long], help: "Body size in bytes, at least 24.")
    var body: Int = 64

    @Option(help: "auto, client or client-individual.")
    var ack: Plan.Acknowledgement?

    @Option(help: "Messages that a publisher may have under way, a power of two. Default: 64 KiB of them, at most 256.")
    var window: Int?

    @Option(help: "Messages that each publisher sends in a second (open loop). Default: as fast as possible.")
    var rate: Double?

    @Option(help: "Protocol: stomp, nats, mqtt, beanstalk or resp. Default: that of --start, else stomp.")
    var dialect: Plan.Dialect?

    init() {}

    /// For a row of a table.
    init(publishers: Int? = nil, subscribers: Int? = nil, number: Int? = nil, body: Int = 64, rate: Double? = nil) {
        self.publishers = publishers
        self.subscribers = subscribers
        self.number = number
        self.body = body
        self.rate = rate
        ack = nil
        window = nil
        dialect = nil
    }

    /// - Parameter serverDialect: the protocol of the server, if known.
    func plan(_ scenario: Scenario, dialect serverDialect: Plan.Dialect? = nil) throws -> Plan {
        var plan = Plan("")
        plan.delivery = scenario.delivery
        var label: String
        switch scenario {
        case .fanout, .stalled:
            plan.publishersPerDestination = publishers ?? 1
            plan.subscribersPerDestination = subscribers ?? 100
            label = "S=\(plan.subscribersPerDestination)"
            if plan.publishersPerDestination > 1 { label = "P=\(plan.publishersPerDestination) " + label }
            if scenario == .stalled { plan.stalledPerDestination = 1 }
        case .pairs:
            plan.destinationCount = number ?? 100
            label = "N=\(plan.destinationCount)"
        case .queue:
            plan.acknowledgement = .clientIndividual
            plan.publishersPerDestination = publishers ?? 1
            plan.subscribersPerDestination = subscribers ?? 1
            label = "\(plan.publishersPerDestination)x\(plan.subscribersPerDestination)"
        case .unsubscribed:
            plan.publishersPerDestination = publishers ?? 1
            plan.subscribersPerDestination = 0
            label = "P=\(plan.publishersPerDestination)"
        case .reply:
            plan.publishersPerDestination = number ?? 1
            plan.window = 1
            label = "N=\(plan.publishersPerDestination)"
        case .fanin:
            plan.publishersPerDestination = publishers ?? 100
            label = "P=\(plan.publishersPerDestination)"
        }
        plan.acknowledgement = ack ?? plan.acknowledgement
        plan.bodyByteCount = body
        plan.dialect = dialect ?? serverDialect ?? .stomp
        switch plan.dialect {
        case .stomp: break
        case .nats, .mqtt, .resp: plan.acknowledgement = .auto
        case .beanstalk: plan.acknowledgement = .clientIndividual
        }
        if scenario != .reply { plan.window = Self.defaultWindow(body: body) }
        plan.window = window ?? plan.window
        if let rate { plan.flow = .paced(messagesPerSecond: rate) }
        if plan.delivery == .queue { plan.tag = ".\(UInt32.random(in: 1...999_999))" }
        plan.name = "\(rate == nil ? "" : "paced ")\(scenario.rawValue) \(label) B=\(body)"
        if let rate { plan.name += " R=\(rate.formatted)" }
        if plan.acknowledgement != .auto { plan.name += " \(plan.acknowledgement.rawValue)" }
        try check(plan)
        return plan
    }

    private static func defaultWindow(body: Int) -> Int {
        var window = 4
        while window < 256, window * 2 * (body + 96) <= 64 << 10 { window *= 2 }
        return window
    }

    private func check(_ plan: Plan) throws {
        guard plan.dialect.knows(plan.delivery) else {
            throw ValidationError("--dialect \(plan.dialect.rawValue): this protocol cannot run this scenario")
        }
        guard 24...(16 << 20) ~= plan.bodyByteCount else { throw ValidationError("--body: 24 bytes to 16 MiB") }
        guard plan.window > 0, plan.window & (plan.window - 1) == 0 else {
            throw ValidationError("--window: a power of two")
        }
        guard 1...100_000 ~= plan.publisherCount, 0...2_000_000 ~= plan.subscriberCount else {
            throw ValidationError("at least 1 and at most 100,000 publishers, and at most 2,000,000 subscribers")
        }
        if let rate, rate <= 0 { throw ValidationError("--rate: more than 0") }
    }
}

extension Plan.Acknowledgement: ExpressibleByArgument {}
extension Plan.Dialect: ExpressibleByArgument {}
extension LoadDriver: ExpressibleByArgument {}

extension Double {
    /// Whole numbers are written without a fraction.
    var formatted: String { self == rounded() ? String(Int(self)) : String(self) }
}
