import Slabs

/// What a worker knows of durable subscriptions: those that it holds, the topics that any worker has some of, and the names
/// under which clients ask for them.
///
/// The queue of a durable subscription is a destination of its own, with a name that no client can write (`DurableName`); its
/// owner is found by that name, as for any queue. It is bound to its topic, as the queue of an acknowledging subscription is.
/// Its messages and consumers are the queue's affair. Here is the rest.
///
/// Subscriptions come and go seldom, so dictionaries do. A message asks `isUsed`, and where that is true, for its topic's
/// holders.
struct DurableSubscriptions {
    private var subscriptions: [Index<Destination>: DurableSubscription] = [:]
    /// Topics and patterns with durable subscriptions, here or with other workers.
    private var counts: [Index<Destination>: DurableCounts] = [:]
    /// The same, as publishers need it.
    private var holders: [Index<Destination>: DurableHolders] = [:]
    /// The topics of other workers' durable subscriptions that clients of this one consume from.
    private var topicsElsewhere: [Index<Destination>: [UInt8]] = [:]
    /// What this worker's clients have asked other workers for, until they answer.
    private var asked: [Handle<PendingOperation>: [UInt8]] = [:]
    /// The `client-id` of CONNECT. Empty: it was too long to name a subscription.
    private var clientIDs: [Index<Session>: [UInt8]] = [:]
    /// Those that are not open yet.
    private(set) var opening: [Index<Destination>] = []
    /// Queues of subscriptions that have ended, with messages that are dropped in later turns.
    private var emptying: Set<Index<Destination>> = []
    /// Some topic that this worker knows has durable subscriptions.
    private(set) var isUsed = false
    /// The SEND under the parser, while its message is published to such a topic.
    var publication: FrameContext?
    /// Why a message that was published just now is not kept as it should be. nil: it is.
    var refusal: Refusal?

    // MARK: Subscriptions that this worker holds

    var count: Int { subscriptions.count }

    subscript(_ index: Index<Destination>) -> DurableSubscription? { subscriptions[index] }

    /// All of them.
    var indices: [Index<Destination>] { Array(subscriptions.keys) }

    mutating func add(_ subscription: DurableSubscription, at index: Index<Destination>) {
        subscriptions[index] = subscription
        if !subscription.isOpen { opening.append(index) }
    }

    mutating func remove(_ index: Index<Destination>) -> DurableSubscription? {
        opening.removeAll { $0 == index }
        return subscriptions.removeValue(forKey: index)
    }

    func isEmptying(_ index: Index<Destination>) -> Bool { emptying.contains(index) }

    mutating func beginToEmpty(_ index: Index<Destination>) { emptying.insert(index) }

    mutating func endEmptying(_ index: Index<Destination>) { emptying.remove(index) }

    mutating func setPosition(_ position: UInt32, of index: Index<Destination>) {
        subscriptions[index]?.position = position
    }

    mutating func setSegment(_ segment: UInt32?, of index: Index<Destination>) {
        subscriptions[index]?.segment = segment
    }

    mutating func setRecorded(at position: LogPosition, of index: Index<Destination>) {
        subscriptions[index]?.recordedAt = position
    }

    mutating func setLastUsed(_ milliseconds: UInt64, of index: Index<Destination>) {
        subscriptions[index]?.lastUsed = milliseconds
    }

    mutating func agree(_ index: Index<Destination>, _ isAgreed: Bool) { subscriptions[index]?.isAgreed = isAgreed }

    mutating func wait(_ consumer: WaitingConsumer, for index: Index<Destination>) {
        subscriptions[index]?.waiting.append(consumer)
    }

    /// Consumers may come. Returns those who waited.
    mutating func open(_ index: Index<Destination>) -> [WaitingConsumer] {
        opening.removeAll { $0 == index }
        subscriptions[index]?.isOpen = true
        let waiting = subscriptions[index]?.waiting ?? []
        subscriptions[index]?.waiting = []
        return waiting
    }

    /// Those that are not open, stored up to `position` and agreed to.
    func ready(durableUpTo position: LogPosition) -> [Index<Destination>] {
        opening.filter { index in
            guard let subscription = subscriptions[index] else { return false }
            return subscription.isAgreed && subscription.recordedAt <= position
        }
    }

    // MARK: Topics

    /// Durable subscriptions to a topic or pattern that a worker holds.
    func count(of topic: Index<Destination>, with worker: Int) -> UInt32 { counts[topic]?.byWorker[worker] ?? 0 }

    /// Returns whether the topic or pattern has some, with any worker.
    mutating func setCount(
        _ count: UInt32, of topic: Index<Destination>, with worker: Int, workerCount: Int, _ storage: StoragePolicy
    ) -> Bool {
        var known =
            counts[topic] ?? DurableCounts(byWorker: Array(repeating: 0, count: workerCount), storage: storage)
        known.byWorker[worker] = count
        let isUsedThere = known.total > 0
        counts[topic] = isUsedThere ? known : nil
        var workers = PeerSet()
        for (worker, count) in known.byWorker.enumerated() where count > 0 { workers.set(worker, true) }
        holders[topic] = isUsedThere ? DurableHolders(workers: workers, storage: known.storage) : nil
        isUsed = !counts.isEmpty
        return isUsedThere
    }

    /// The workers with durable subscriptions to just this topic or pattern. nil: none has.
    @inline(__always)
    func holders(of topic: Index<Destination>) -> DurableHolders? { holders[topic] }

    /// The most that one worker holds.
    func countMax(of topic: Index<Destination>) -> Int { Int(counts[topic]?.byWorker.max() ?? 0) }

    /// The same of all topics and patterns together.
    var countMaxOfAll: Int { counts.values.reduce(0) { $0 + Int($1.byWorker.max() ?? 0) } }

    // MARK: Consumers of other workers' subscriptions

    mutating func consumesElsewhere(_ index: Index<Destination>, topic: [UInt8]) { topicsElsewhere[index] = topic }

    mutating func ask(_ pending: Handle<PendingOperation>, topic: [UInt8]) { asked[pending] = topic }

    /// The answer has come. nil: it is about no durable subscription.
    mutating func takeAsked(_ pending: Handle<PendingOperation>) -> [UInt8]? {
        asked.isEmpty ? nil : asked.removeValue(forKey: pending)
    }

    mutating func consumesNoMore(_ index: Index<Destination>) { topicsElsewhere[index] = nil }

    /// The topic or pattern of a subscription that this worker holds or has consumers of.
    func topic(of index: Index<Destination>) -> [UInt8]? { subscriptions[index]?.topic ?? topicsElsewhere[index] }

    // MARK: Clients

    func clientID(of session: Index<Session>) -> [UInt8]? { clientIDs[session] }

    mutating func setClientID(_ clientID: [UInt8]?, of session: Index<Session>) { clientIDs[session] = clientID }
}
