import Slabs

// Which of its fields links a record to its neighbours in which kind of list: see `Slabs.DoublyLinked`.

/// A session's output.
enum SegmentLink: SinglyLinked {
    static func link(of segment: UnsafeMutablePointer<Segment>) -> SingleLink<Segment> { segment.pointee.link }
    static func setLink(_ link: SingleLink<Segment>, of segment: UnsafeMutablePointer<Segment>) {
        segment.pointee.link = link
    }
}
typealias SegmentFifo = Fifo<SegmentLink>

/// Large blocks of frames cut short, the one that has been silent longest first.
enum LargeInputLink: DoublyLinked {
    static func link(of input: UnsafeMutablePointer<LargeInput>) -> DoubleLink<LargeInput> { input.pointee.link }
    static func setLink(_ link: DoubleLink<LargeInput>, of input: UnsafeMutablePointer<LargeInput>) {
        input.pointee.link = link
    }
}
typealias LargeInputList = List<LargeInputLink>

/// A session's subscriptions.
enum SubscriptionLink: DoublyLinked {
    static func link(of subscription: UnsafeMutablePointer<Subscription>) -> DoubleLink<Subscription> {
        subscription.pointee.link
    }
    static func setLink(_ link: DoubleLink<Subscription>, of subscription: UnsafeMutablePointer<Subscription>) {
        subscription.pointee.link = link
    }
}
typealias SubscriptionChain = Chain<SubscriptionLink>

/// A session's open transactions.
enum TransactionLink: SinglyLinked {
    static func link(of transaction: UnsafeMutablePointer<Transaction>) -> SingleLink<Transaction> {
        transaction.pointee.link
    }
    static func setLink(_ link: SingleLink<Transaction>, of transaction: UnsafeMutablePointer<Transaction>) {
        transaction.pointee.link = link
    }
}
typealias TransactionStack = Stack<TransactionLink>

/// A connection's temporary destinations.
enum TemporaryLink: SinglyLinked {
    static func link(of destination: UnsafeMutablePointer<Destination>) -> SingleLink<Destination> {
        destination.pointee.temporaryLink
    }
    static func setLink(_ link: SingleLink<Destination>, of destination: UnsafeMutablePointer<Destination>) {
        destination.pointee.temporaryLink = link
    }
}
typealias TemporaryStack = Stack<TemporaryLink>

/// A session's operations that wait, in the order of their frames.
enum PendingLink: SinglyLinked {
    static func link(of pending: UnsafeMutablePointer<PendingOperation>) -> SingleLink<PendingOperation> {
        pending.pointee.link
    }
    static func setLink(_ link: SingleLink<PendingOperation>, of pending: UnsafeMutablePointer<PendingOperation>) {
        pending.pointee.link = link
    }
}
typealias PendingFifo = Fifo<PendingLink>

/// Those who wait for the registration of a topic, for room in a queue, or for the log.
enum WaitLink: DoublyLinked {
    static func link(of pending: UnsafeMutablePointer<PendingOperation>) -> DoubleLink<PendingOperation> {
        pending.pointee.waitLink
    }
    static func setLink(_ link: DoubleLink<PendingOperation>, of pending: UnsafeMutablePointer<PendingOperation>) {
        pending.pointee.waitLink = link
    }
}

/// Destinations that nobody needs, least recently used first.
enum IdleLink: DoublyLinked {
    static func link(of destination: UnsafeMutablePointer<Destination>) -> DoubleLink<Destination> {
        destination.pointee.idleLink
    }
    static func setLink(_ link: DoubleLink<Destination>, of destination: UnsafeMutablePointer<Destination>) {
        destination.pointee.idleLink = link
    }
}
typealias IdleList = List<IdleLink>

/// All patterns.
enum PatternLink: DoublyLinked {
    static func link(of destination: UnsafeMutablePointer<Destination>) -> DoubleLink<Destination> {
        destination.pointee.patternLink
    }
    static func setLink(_ link: DoubleLink<Destination>, of destination: UnsafeMutablePointer<Destination>) {
        destination.pointee.patternLink = link
    }
}
typealias PatternChain = Chain<PatternLink>

/// A destination's encodings.
enum EncodingLink: DoublyLinked {
    static func link(of encoding: UnsafeMutablePointer<SharedEncoding>) -> DoubleLink<SharedEncoding> {
        encoding.pointee.link
    }
    static func setLink(_ link: DoubleLink<SharedEncoding>, of encoding: UnsafeMutablePointer<SharedEncoding>) {
        encoding.pointee.link = link
    }
}
typealias EncodingChain = Chain<EncodingLink>

/// A queue's ready messages, or a consumer's unacknowledged ones.
enum EntryLink: DoublyLinked {
    static func link(of entry: UnsafeMutablePointer<Entry>) -> DoubleLink<Entry> { entry.pointee.link }
    static func setLink(_ link: DoubleLink<Entry>, of entry: UnsafeMutablePointer<Entry>) {
        entry.pointee.link = link
    }
}
typealias EntryList = List<EntryLink>

/// A queue's consumers.
enum ConsumerLink: DoublyLinked {
    static func link(of consumer: UnsafeMutablePointer<Consumer>) -> DoubleLink<Consumer> { consumer.pointee.link }
    static func setLink(_ link: DoubleLink<Consumer>, of consumer: UnsafeMutablePointer<Consumer>) {
        consumer.pointee.link = link
    }
}
typealias ConsumerChain = Chain<ConsumerLink>

/// A queue's consumers with free prefetch, in the order of their turns.
enum TurnLink: DoublyLinked {
    static func link(of consumer: UnsafeMutablePointer<Consumer>) -> DoubleLink<Consumer> { consumer.pointee.turnLink }
    static func setLink(_ link: DoubleLink<Consumer>, of consumer: UnsafeMutablePointer<Consumer>) {
        consumer.pointee.turnLink = link
    }
}
typealias TurnList = List<TurnLink>

/// The cursors of a queue's consumers.
enum CursorLink: DoublyLinked {
    static func link(of cursor: UnsafeMutablePointer<Cursor>) -> DoubleLink<Cursor> { cursor.pointee.link }
    static func setLink(_ link: DoubleLink<Cursor>, of cursor: UnsafeMutablePointer<Cursor>) {
        cursor.pointee.link = link
    }
}
typealias CursorChain = Chain<CursorLink>

/// A subscription's deliveries that are not acknowledged, in the order of delivery.
enum DeliveryLink: DoublyLinked {
    static func link(of delivery: UnsafeMutablePointer<Delivery>) -> DoubleLink<Delivery> { delivery.pointee.link }
    static func setLink(_ link: DoubleLink<Delivery>, of delivery: UnsafeMutablePointer<Delivery>) {
        delivery.pointee.link = link
    }
}
typealias DeliveryList = List<DeliveryLink>

/// A session's deliveries of `auto` subscriptions that are not with the kernel.
enum UnsentLink: SinglyLinked {
    static func link(of delivery: UnsafeMutablePointer<Delivery>) -> SingleLink<Delivery> {
        delivery.pointee.unsentLink
    }
    static func setLink(_ link: SingleLink<Delivery>, of delivery: UnsafeMutablePointer<Delivery>) {
        delivery.pointee.unsentLink = link
    }
}
typealias UnsentFifo = Fifo<UnsentLink>

/// Deliveries with the same hash in `DeliveryTable`.
enum DeliveryChainLink: DoublyLinked {
    static func link(of delivery: UnsafeMutablePointer<Delivery>) -> DoubleLink<Delivery> { delivery.pointee.chainLink }
    static func setLink(_ link: DoubleLink<Delivery>, of delivery: UnsafeMutablePointer<Delivery>) {
        delivery.pointee.chainLink = link
    }
}
typealias DeliveryChain = Chain<DeliveryChainLink>
