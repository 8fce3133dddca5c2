/// What a load consists of: who sends what to whom, and how fast. Plain values; the scenarios of the command line are
/// different fillings of it.
///
/// Destination `d` has `publishersPerDestination` publishers and `subscribersPerDestination` subscribers, each on a
/// connection of its own with a single subscription, `id:1`.
public struct Plan: Sendable {
    public enum Flow: Sendable, Equatable {
        /// As fast as the window allows: a publisher is at most `window` messages ahead of its slowest subscriber.
        case closed
        /// Open loop: each publisher sends so many messages a second, whatever the server does. Latency counts from the
        /// time at which a message was due, so that a server that stalls the publisher cannot hide it.
        case paced(messagesPerSecond: Double)
        /// One message of the first publisher for each `Control.broadcast`.
        case broadcast
    }

    public enum Acknowledgement: String, Sendable, CaseIterable {
        case auto, client
        case clientIndividual = "client-individual"
    }

    public enum Delivery: Sendable, Equatable {
        /// Every subscriber gets every message, in each publisher's order.
        case topic
        /// One of the subscribers gets a message, exactly once.
        case queue
        /// Requests go to the only subscriber of destination 0, which sends each one back to the requester's own
        /// destination.
        case reply
    }

    public enum Dialect: String, Sendable, CaseIterable {
        /// STOMP 1.2.
        case stomp
        /// The NATS core protocol. A queue is a queue group.
        case nats
        /// MQTT 3.1.1 with QoS 0. A queue is a shared subscription.
        case mqtt
        /// beanstalkd's protocol: queues only, each message acknowledged (`delete`).
        case beanstalk
        /// RESP 2 as Redis and Valkey speak it: topics only (PUBLISH, SUBSCRIBE), nothing acknowledged.
        case resp

        /// Whether it has such a thing at all.
        public func knows(_ delivery: Delivery) -> Bool {
            switch self {
            case .stomp, .nats, .mqtt: true
            case .beanstalk: delivery == .queue
            case .resp: delivery == .topic
            }
        }
    }

    public var name: String
    public var delivery = Delivery.topic
    public var destinationCount = 1
    public var publishersPerDestination = 1
    public var subscribersPerDestination = 1
    /// So many of a destination's subscribers stop reading once they have subscribed.
    public var stalledPerDestination = 0
    public var acknowledgement = Acknowledgement.auto
    public var bodyByteCount = 64
    /// Messages of a publisher under way, a power of two.
    public var window = 256
    public var flow = Flow.closed
    public var dialect = Dialect.stomp
    /// Queues: so many messages of each publisher are there before the first consumer subscribes. 0: consumers are there
    /// before the first message. A multiple of `segment`.
    public var backlog = 0
    /// Milliseconds between heart-beats in both directions, 0: none.
    public var heartBeatMilliseconds = 0
    /// STOMP: a client sends SUBSCRIBE right behind CONNECT, in one segment, and does not wait for CONNECTED in between.
    public var isPipelined = false
    /// Distinguishes the queues of this run from those of others, which may still hold messages.
    public var tag = ""

    public init(_ name: String) { self.name = name }

    public var subscriberCount: Int {
        delivery == .reply ? 1 + publisherCount : destinationCount * subscribersPerDestination
    }
    public var publisherCount: Int { destinationCount * publishersPerDestination }
    /// Requesters send and subscribe on the same connection.
    public var clientCount: Int { delivery == .reply ? 1 + publisherCount : subscriberCount + publisherCount }

    /// Deliveries that one message causes.
    public var fanOut: Int { delivery == .topic ? subscribersPerDestination - stalledPerDestination : 1 }

    /// Nobody gets the messages, or not yet: RECEIPTs tell the publishers how far the server is.
    var usesReceipts: Bool { fanOut == 0 || backlog > 0 }

    /// Messages that a publisher sends at a time, and the step in which subscribers' progress is counted.
    public var segment: Int { max(1, window / segmentsPerWindow) }

    static let bodyByteCountMin = Body.leadByteCount

    func destinationName(_ index: Int) -> String {
        let place = dialect != .stomp ? "" : delivery == .queue ? "/queue/" : "/topic/"
        return "\(place)bench\(tag).\(index)"
    }
}

/// Progress within a window is counted in quarters: a publisher goes on when all its subscribers have the oldest one.
let segmentsPerWindow = 4

/// The part of a plan that one thread plays: ranges of subscribers and publishers.
public struct Share: Sendable {
    var subscribers: Range<Int>
    var publishers: Range<Int>

    /// Spreads subscribers evenly over `threadCount`; the publishers are the first thread's.
    public static func of(_ plan: Plan, threadCount: Int) -> [Share] {
        (0..<threadCount).map { thread in
            let from = plan.subscriberCount * thread / threadCount
            let to = plan.subscriberCount * (thread + 1) / threadCount
            return Share(subscribers: from..<to, publishers: thread == 0 ? 0..<plan.publisherCount : 0..<0)
        }
    }
}
