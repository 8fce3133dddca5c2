import STOMP
import Slabs

/// How many records of each kind one worker may need: the sizes of its tables, which take address space alone until they
/// are used.
struct ShardCapacity {
    let sessionCount: Int
    let subscriptionCount: Int
    let queueCount: Int
    /// Messages in queues. Beyond the limit: for those on their way from other workers, for dead letters, and for topics with
    /// many subscriptions that acknowledge.
    let entryCount: Int
    let consumerCount: Int
    /// Of messages that other workers hold, too.
    let deliveryCount: Int
    let transactionCount: Int
    let timerCount: Int

    init(_ limits: Limits, workerCount: Int) {
        sessionCount = limits.connectionCountMax
        subscriptionCount = limits.subscriptionCountMax
        queueCount = limits.destinationCountMax + subscriptionCount
        entryCount =
            limits.queuedMessageCountMax + limits.queuedMessageCountMax / 8
            + max(65_536, limits.mailboxByteCountMax / Self.publicationByteCountMin)
        consumerCount = subscriptionCount * min(workerCount, 8)
        deliveryCount = min(entryCount * min(workerCount, 4), Int(UInt32.max) - 1)
        transactionCount = min(sessionCount * limits.transactionsPerConnectionMax, 1_000_000)
        timerCount = sessionCount + entryCount + limits.destinationCountMax + 1_000_000
    }

    /// The smallest message to another worker that brings one for a queue: so many fit into a mailbox.
    private static var publicationByteCountMin: Int { 88 }
}

extension QueueEngine {
    init(_ capacity: ShardCapacity) throws(SlabError) {
        try self.init(
            queueCountMax: capacity.queueCount, entryCountMax: capacity.entryCount,
            consumerCountMax: capacity.consumerCount)
    }
}

extension SubscriptionTable {
    init(_ capacity: ShardCapacity, seed: UInt64, _ hash: KeyedHash) throws(SlabError) {
        try self.init(
            subscriptionCountMax: capacity.subscriptionCount, deliveryCountMax: capacity.deliveryCount, seed: seed, hash
        )
    }
}

extension ColdMessages {
    /// - Parameter isUsed: there is a store.
    init(_ limits: Limits, isUsed: Bool) throws(SlabError) {
        try self.init(
            queueCountMax: limits.destinationCountMax, messageCountMax: isUsed ? limits.coldMessageCountMax : 0)
    }
}

extension Limits {
    /// The same, as far as a worker and its driver, which holds so many connections, can keep to them.
    func fitting(connectionCountMax: Int) -> Limits {
        var limits = self
        limits.connectionCountMax =
            self.connectionCountMax == 0 ? connectionCountMax : min(self.connectionCountMax, connectionCountMax)
        // A session counts its subscriptions in 16 bits.
        limits.subscriptionsPerConnectionMax = min(subscriptionsPerConnectionMax, Int(UInt16.max))
        return limits
    }
}

extension FrameLimits {
    init(_ limits: Limits) {
        self.init(
            commandByteCountMax: limits.commandByteCountMax, headerCountMax: limits.headerCountMax,
            headerByteCountMax: limits.headerByteCountMax, headersByteCountMax: limits.headersByteCountMax,
            bodyByteCountMax: limits.bodyByteCountMax)
    }
}
