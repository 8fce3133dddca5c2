import Slabs

// Which of its fields links a record to its neighbours in which kind of list: see `Slabs.DoublyLinked`.

/// A session's output.
enum SegmentLink: SinglyLinked {
    static subscript(segment: UnsafeMutablePointer<Segment>) -> SingleLink<Segment> {
        get { segment.pointee.link }
        set { segment.pointee.link = newValue }
    }
}
typealias SegmentFifo = Fifo<SegmentLink>

/// A session's subscriptions.
enum SubscriptionLink: DoublyLinked {
    static subscript(subscription: UnsafeMutablePointer<Subscription>) -> DoubleLink<Subscription> {
        get { subscription.pointee.link }
        set { subscription.pointee.link = newValue }
    }
}
typealias SubscriptionChain = Chain<SubscriptionLink>

/// A session's open transactions.
enum TransactionLink: SinglyLinked {
    static subscript(transaction: UnsafeMutablePointer<Transaction>) -> SingleLink<Transaction> {
        get { transaction.pointee.link }
        set { transaction.pointee.link = newValue }
    }
}
typealias TransactionStack = Stack<TransactionLink>

/// A connection's temporary destinations.
enum TemporaryLink: SinglyLinked {
    static subscript(destination: UnsafeMutablePointer<Destination>) -> SingleLink<Destination> {
        get { destination.pointee.temporaryLink }
        set { destination.pointee.temporaryLink = newValue }
    }
}
typealias TemporaryStack = Stack<TemporaryLink>

/// A session's operations that wait, in the order of their frames.
enum PendingLink: SinglyLinked {
    static subscript(pending: UnsafeMutablePointer<PendingOperation>) -> SingleLink<PendingOperation> {
        get { pending.pointee.link }
        set { pending.pointee.link = newValue }
    }
}
typealias PendingFifo = Fifo<PendingLink>

/// Those who wait for the registration of a topic, or for room in a queue.
enum WaitLink: DoublyLinked {
    static subscript(pending: UnsafeMutablePointer<PendingOperation>) -> DoubleLink<PendingOperation> {
        get { pending.pointee.waitLink }
        set { pending.pointee.waitLink = newValue }
    }
}

/// Destinations that nobody needs, least recently used first.
enum IdleLink: DoublyLinked {
    static subscript(destination: UnsafeMutablePointer<Destination>) -> DoubleLink<Destination> {
        get { destination.pointee.idleLink }
        set { destination.pointee.idleLink = newValue }
    }
}
typealias IdleList = List<IdleLink>

/// All patterns.
enum PatternLink: DoublyLinked {
    static subscript(destination: UnsafeMutablePointer<Destination>) -> DoubleLink<Destination> {
        get { destination.pointee.patternLink }
        set { destination.pointee.patternLink = newValue }
    }
}
typealias PatternChain = Chain<PatternLink>

/// A destination's groups.
enum GroupLink: DoublyLinked {
    static subscript(group: UnsafeMutablePointer<Group>) -> DoubleLink<Group> {
        get { group.pointee.link }
        set { group.pointee.link = newValue }
    }
}
typealias GroupChain = Chain<GroupLink>

/// A queue's ready messages, or a consumer's unacknowledged ones.
enum EntryLink: DoublyLinked {
    static subscript(entry: UnsafeMutablePointer<Entry>) -> DoubleLink<Entry> {
        get { entry.pointee.link }
        set { entry.pointee.link = newValue }
    }
}
typealias EntryList = List<EntryLink>

/// A queue's consumers.
enum ConsumerLink: DoublyLinked {
    static subscript(consumer: UnsafeMutablePointer<Consumer>) -> DoubleLink<Consumer> {
        get { consumer.pointee.link }
        set { consumer.pointee.link = newValue }
    }
}
typealias ConsumerChain = Chain<ConsumerLink>

/// A queue's consumers with free prefetch, in the order of their turns.
enum TurnLink: DoublyLinked {
    static subscript(consumer: UnsafeMutablePointer<Consumer>) -> DoubleLink<Consumer> {
        get { consumer.pointee.turnLink }
        set { consumer.pointee.turnLink = newValue }
    }
}
typealias TurnList = List<TurnLink>

/// A subscription's deliveries that are not acknowledged, in the order of delivery.
enum DeliveryLink: DoublyLinked {
    static subscript(delivery: UnsafeMutablePointer<Delivery>) -> DoubleLink<Delivery> {
        get { delivery.pointee.link }
        set { delivery.pointee.link = newValue }
    }
}
typealias DeliveryList = List<DeliveryLink>

/// A session's deliveries of `auto` subscriptions that are not with the kernel.
enum FlightLink: SinglyLinked {
    static subscript(delivery: UnsafeMutablePointer<Delivery>) -> SingleLink<Delivery> {
        get { delivery.pointee.flightLink }
        set { delivery.pointee.flightLink = newValue }
    }
}
typealias FlightFifo = Fifo<FlightLink>

/// Deliveries with the same hash in `DeliveryTable`.
enum DeliveryChainLink: DoublyLinked {
    static subscript(delivery: UnsafeMutablePointer<Delivery>) -> DoubleLink<Delivery> {
        get { delivery.pointee.chainLink }
        set { delivery.pointee.chainLink = newValue }
    }
}
typealias DeliveryChain = Chain<DeliveryChainLink>
