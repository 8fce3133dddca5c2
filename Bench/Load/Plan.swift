/// The description of a load: publishers, subscribers, destinations and rates. Plain values. Each scenario of the
/// command line fills in a plan.
///
/// Destination `d` has `publishersPerDestination` publishers and `subscribersPerDestination` subscribers. Each has its
/// own connection. A subscriber has one subscription, `id:1`.
public struct Plan: Sendable {
    public enum Flow: Sendable, Equatable {
        /// As fast as the window allows. A publisher is at most `window` messages ahead of its slowest subscriber.
        case closed
        /// Open loop: each publisher sends this many messages a second, whatever the server does. Latency counts from
        /// the time at which a message was due, so that it includes delays of the publisher by the server.
        case paced(messagesPerSecond: Double)
        /// The first publisher sends one message for each `Control.broadcast`.
        case broadcast
    }

    public enum Acknowledgement: String, Sendable, CaseIterable {
        case auto, client
        case clientIndividual = "client-individual"
    }

    public enum Delivery: Sendable, Equatable {
        /// Every subscriber gets every message, in the order of each publisher.
        case topic
        /// Each message goes to one of the subscribers, exactly once.
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
        /// The protocol of beanstalkd: queues only. Each message is acknowledged (`delete`).
        case beanstalk
        /// RESP 2, the protocol of Redis and Valkey: topics only (PUBLISH, SUBSCRIBE), no acknowledgements.
        case resp

        /// Whether the protocol has this feature.
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
    /// The number of subscribers of a destination that stop reading after they have subscribed.
    public var stalledPerDestination = 0
    public var acknowledgement = Acknowledgement.auto
    public var bodyByteCount = 64
    /// The most messages of a publisher under way. A power of two.
    public var window = 256
    public var flow = Flow.closed
    public var dialect = Dialect.stomp
    /// Queues: the number of messages of each publisher that are queued before the first consumer subscribes. A
    /// multiple of `segment`. 0: the consumers subscribe before the first message.
    public var backlog = 0
    /// Each message is confirmed: by a RECEIPT, by JetStream's answer, by INSERTED of beanstalkd. With a closed flow a
    /// publisher has at most `window` messages that are not confirmed, and all of them at most `unconsumedMax` that no
    /// consumer has received.
    public var isConfirmed = false
    /// STOMP: SENDs have `persistent:true`. NATS: the stream is on disk. Others have no such choice.
    public var isPersistent = false
    /// Queues with one consumer: each publisher's messages must come in the order in which they were sent.
    public var isOrdered = false
    /// The backlog is already queued, by a load whose plan had no subscribers.
    public var isFilled = false
    /// Milliseconds between heart-beats in both directions, 0: none.
    public var heartBeatMilliseconds = 0
    /// STOMP: a client sends CONNECT and SUBSCRIBE in one segment, without waiting for CONNECTED.
    public var isPipelined = false
    /// Distinguishes the queues of this run from those of other runs, which may still hold messages.
    public var tag = ""

    public init(_ name: String) { self.name = name }

    public var subscriberCount: Int {
        delivery == .reply ? 1 + publisherCount : destinationCount * subscribersPerDestination
    }
    public var publisherCount: Int { destinationCount * publishersPerDestination }
    /// Whether requesters send and subscribe on the same connection.
    public var clientCount: Int { delivery == .reply ? 1 + publisherCount : subscriberCount + publisherCount }

    /// Deliveries that one message causes.
    public var fanOut: Int { delivery == .topic ? subscribersPerDestination - stalledPerDestination : 1 }

    /// Whether there are no consumers, or none yet. Then RECEIPTs tell the publishers the progress of the server.
    var usesReceipts: Bool { fanOut == 0 || backlog > 0 }

    /// The number of messages that a publisher sends at a time, and the step in which the progress of subscribers is
    /// counted.
    public var segment: Int { max(1, window / segmentsPerWindow) }

    var usesJetStream: Bool { isConfirmed && dialect == .nats }

    /// A window of each publisher, and some more. A queue that grows without end would be another scenario.
    var unconsumedMax: Int { window * publisherCount + 1024 }

    static let bodyByteCountMin = Body.leadByteCount

    func destinationName(_ index: Int) -> String {
        let place = dialect != .stomp ? "" : delivery == .queue ? "/queue/" : "/topic/"
        return "\(place)bench\(tag).\(index)"
    }
}

/// Progress within a window is counted in quarters. A publisher continues when all of its subscribers have the oldest
/// quarter.
let segmentsPerWindow = 4

/// The part of a plan that one thread plays: ranges of subscribers and publishers.
public struct Share: Sendable {
    var subscribers: Range<Int>
    var publishers: Range<Int>

    /// Distributes the subscribers evenly over `threadCount` threads. The first thread has all publishers.
    public static func of(_ plan: Plan, threadCount: Int) -> [Share] {
        (0..<threadCount).map { thread in
            let from = plan.subscriberCount * thread / threadCount
            let to = plan.subscriberCount * (thread + 1) / threadCount
            return Share(subscribers: from..<to, publishers: thread == 0 ? 0..<plan.publisherCount : 0..<0)
        }
    }
}
