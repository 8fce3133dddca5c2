import Slabs

/// Whose words asked for a durable subscription. They decide what names it, and how many may consume from it.
enum DurableDialect: UInt8, BitwiseCopyable {
    /// RabbitMQ: `durable:true` and the subscription's id. Topic and id name it, and any number of consumers share it.
    case shared
    /// JMS, as ActiveMQ and Artemis speak it: `client-id` of the connection and a subscription name. These two name it, it
    /// has one consumer at a time, and who names another topic replaces it.
    case single
}

/// A subscription to a topic or pattern that outlives its consumers, with the worker that holds its queue.
struct DurableSubscription {
    let dialect: DurableDialect
    /// The canonical name of the topic or pattern.
    let topic: [UInt8]
    /// The topic or pattern that its queue is bound to, and its place among those that are.
    let source: Index<Destination>
    var position: UInt32
    /// The segment that its record is in. nil: it has none, for nothing is stored.
    var segment: UInt32?
    /// Where the log has to be durable for the first record.
    var recordedAt: LogPosition = 0
    /// All workers send it what is published.
    var isAgreed = false
    /// It is stored and agreed to: consumers may come.
    var isOpen = false
    /// When its last consumer left, or it was made (wall-clock milliseconds). `.max`: it has consumers.
    var lastUsed: UInt64
    /// Those who wait until it is open.
    var waiting: [WaitingConsumer] = []
}

/// A SUBSCRIBE that waits until its durable subscription is open.
struct WaitingConsumer: BitwiseCopyable {
    /// The client's worker, and what is that worker's.
    var worker: UInt16
    var subscription: Handle<Subscription>
    var pending: Handle<PendingOperation>
    var window: Window
    var isPaused: Bool
}

/// How many durable subscriptions to a topic or pattern each worker holds.
struct DurableCounts {
    var byWorker: [UInt32]
    /// Which messages they store.
    let storage: StoragePolicy

    var total: UInt32 { byWorker.reduce(0, +) }
}

/// The workers that keep messages of a topic for durable subscriptions.
struct DurableHolders: BitwiseCopyable {
    var workers: PeerSet
    var storage: StoragePolicy

    func stores(isPersistent: Bool) -> Bool { storage == .always || storage == .byHeader && isPersistent }
}
