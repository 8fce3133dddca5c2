import Broker

/// What a run of the mode `logs` is made of beside its `Scenario`: topics that keep a log, and clients that retain.
struct LogScenario {
    /// Those that keep one.
    let topics: [String]
    let storage: StoragePolicy
    /// Messages may be trimmed.
    let isTight: Bool
    private let policy: DestinationPolicy

    func policy(for topic: String) -> DestinationPolicy {
        var policy = policy
        policy.pattern = topic
        return policy
    }

    /// - Parameter hasDurables: the topics store what durable subscriptions to patterns that match them store.
    init(_ random: inout Random, topics: [String], memoryIsTight: Bool, hasDurables: Bool) {
        self.topics = Array(topics.suffix(2))
        let drawn: StoragePolicy = random.pick([.byHeader, .byHeader, .always, .never])
        storage = hasDurables ? .byHeader : drawn
        let trims = random.chance(300)
        isTight = trims || memoryIsTight
        var policy = DestinationPolicy(pattern: "")
        policy.logMessageCountMax = trims ? random.range(1...30) : 100_000
        policy.logByteCountMax = trims && random.chance(300) ? random.range(1024...20_000) : 32 << 20
        policy.logMillisecondsMax = trims && random.chance(300) ? random.pick([1000, 5000]) : 0
        policy.storage = storage
        if hasDurables {
            policy.deliveryCountMax = 0
            policy.deadLetterDestination = ""
        }
        self.policy = policy
    }
}

/// What a message changes of what its topic retains.
enum RetainChange: String { case set, remove }

/// A subscription that reads the log of a topic.
struct ReadPosition {
    /// As in `x-stream-offset`.
    var start: String
    /// It begins at this offset, or the first behind it. nil: that depends on when it began.
    var first: Int? {
        if start == "first" { return 0 }
        return start.hasPrefix("offset=") ? Int(start.dropFirst(7)) : nil
    }
    /// The greatest offset of its topic that anybody had seen when it was issued. -1: none.
    var knownAtStart: Int
    /// Of the last message that it was given. -1: it was given none.
    var last = -1
}
