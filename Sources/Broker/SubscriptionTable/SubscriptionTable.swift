import Glibc
import STOMP
import Slabs

/// The subscriptions of one worker's sessions, found by id, and what they were given and have not acknowledged (deliveries),
/// found by place and by message-id.
///
/// It owns the records of both, and keeps of each session the lists of its subscriptions and of its unsent deliveries. It
/// keeps these rules:
///
/// - a session's subscriptions are those of its list, and are indexed where they are many;
/// - a delivery is on the list of its subscription until it is settled;
/// - one of an `auto` subscription is also among the session's unsent deliveries until the kernel has its bytes;
/// - one of another subscription is in a chain by message-id where an ACK may name that.
///
/// It says what an acknowledgement is for; what becomes of the message is the queue's affair. `Shard` carries it there.
struct SubscriptionTable: ~Copyable {
    // Of this folder's files only: see HouseRulesTests.
    var subscriptionRecords: Slab<Subscription>
    var deliveryRecords: Slab<Delivery>
    let deliveryTable: DeliveryTable
    /// Subscriptions by session and id, of sessions that have more than a few.
    private var index: HashIndex

    init(subscriptionCountMax: Int, deliveryCountMax: Int, seed: UInt64, _ hash: KeyedHash) throws(SlabError) {
        let subscriptions = try Slab<Subscription>(recordCountMax: subscriptionCountMax)
        let deliveries = try Slab<Delivery>(recordCountMax: deliveryCountMax)
        subscriptionRecords = subscriptions
        deliveryRecords = deliveries
        deliveryTable = DeliveryTable(hash)
        index = HashIndex(seed: seed)
    }

    // MARK: Records

    subscript(_ index: Index<Subscription>) -> UnsafePointer<Subscription> {
        @inline(__always) get { UnsafePointer(subscriptionRecords[index]) }
    }
    subscript(_ index: Index<Delivery>) -> UnsafePointer<Delivery> {
        @inline(__always) get { UnsafePointer(deliveryRecords[index]) }
    }

    @inline(__always)
    func handle(_ index: Index<Subscription>) -> Handle<Subscription> { subscriptionRecords.handle(index) }
    @inline(__always)
    func handle(_ index: Index<Delivery>) -> Handle<Delivery> { deliveryRecords.handle(index) }

    /// nil: it has ended.
    @inline(__always)
    func find(_ handle: Handle<Subscription>) -> UnsafePointer<Subscription>? {
        subscriptionRecords.find(handle).map { UnsafePointer($0) }
    }

    @inline(__always) func isLive(_ handle: Handle<Delivery>) -> Bool { deliveryRecords.isLive(handle) }

    @inline(__always)
    func next(after index: Index<Subscription>) -> Index<Subscription> {
        SubscriptionChain.next(after: index, in: subscriptionRecords)
    }
    func next(after index: Index<Delivery>) -> Index<Delivery> {
        DeliveryList.next(after: index, in: deliveryRecords)
    }

    var liveCount: Int { subscriptionRecords.liveCount }
    var deliveryCount: Int { deliveryRecords.liveCount }
    /// Subscriptions that are found by the hash of their id.
    var indexedCount: Int { index.count }
    /// Deliveries that are acknowledged in open transactions. Linear in all deliveries.
    var markedCount: Int {
        var count = 0
        var place = deliveryRecords.nextLive(after: .none)
        while !place.isNone {
            if !deliveryRecords[place].pointee.transaction.isNone { count += 1 }
            place = deliveryRecords.nextLive(after: place)
        }
        return count
    }

    /// Gives the memory of records that are gone back to the kernel.
    mutating func trimSubscriptions() { subscriptionRecords.trim() }
    mutating func trimDeliveries() { deliveryRecords.trim() }

    // MARK: Subscriptions

    /// Most sessions have few subscriptions, and find one sooner without an index, which takes memory.
    private static var unindexedCountMax: UInt16 { 16 }

    /// A subscription that does not count yet. None: there are as many as there may be.
    @inline(__always)
    mutating func make(
        _ session: UnsafeMutablePointer<Session>, to destination: Index<Destination>, _ encoding: Index<SharedEncoding>,
        _ ackMode: AckMode, consumes: Bool, _ window: Window, _ router: borrowing TopicRouter,
        _ memory: borrowing MemoryBudget
    ) -> Index<Subscription> {
        let created: Index<Subscription> = subscriptionRecords.allocate().index
        guard !created.isNone else { return .none }
        let subscription = subscriptionRecords[created]
        subscription.pointee.session = session.pointee.index
        subscription.pointee.destination = destination
        subscription.pointee.encoding = encoding
        subscription.pointee.ackMode = ackMode
        subscription.pointee.window = window
        subscription.pointee.flags = consumes ? [.pending, .isConsumer] : .pending
        session.pointee.subscriptions.prepend(created, in: subscriptionRecords)
        session.pointee.subscriptionCount += 1
        if session.pointee.flags.contains(.isIndexed) {
            addToIndex(created, router, memory)
        } else if session.pointee.subscriptionCount > Self.unindexedCountMax {
            session.pointee.flags.insert(.isIndexed)
            var own = session.pointee.subscriptions.first
            while !own.isNone {
                addToIndex(own, router, memory)
                own = next(after: own)
            }
        }
        return created
    }

    /// Ends a subscription that has nothing outstanding.
    @inline(__always)
    mutating func remove(
        _ place: Index<Subscription>, _ session: UnsafeMutablePointer<Session>, _ router: borrowing TopicRouter,
        _ memory: borrowing MemoryBudget
    ) {
        assert(subscriptionRecords[place].pointee.deliveries.isEmpty, "what ends has nothing outstanding")
        if session.pointee.flags.contains(.isIndexed) {
            index.remove(hash(of: place, router, memory), place.rawValue)
        }
        session.pointee.subscriptions.remove(place, in: subscriptionRecords)
        if session.pointee.subscriptions.isEmpty { session.pointee.flags.remove(.isIndexed) }
        session.pointee.subscriptionCount -= 1
        subscriptionRecords.free(place)
    }

    @inline(__always)
    private mutating func addToIndex(
        _ place: Index<Subscription>, _ router: borrowing TopicRouter, _ memory: borrowing MemoryBudget
    ) {
        index.insert(hash(of: place, router, memory), place.rawValue)
    }

    @inline(__always)
    private func hash(
        of place: Index<Subscription>, _ router: borrowing TopicRouter, _ memory: borrowing MemoryBudget
    ) -> UInt32 {
        let subscription = subscriptionRecords[place]
        let id = router.id(of: subscription.pointee.encoding, in: memory)
        return index.hash(subscription.pointee.session.rawValue, id.baseAddress!, id.count)
    }

    /// The session's subscription with this id, unescaped; none where there is none.
    @inline(__always)
    func find(
        _ session: UnsafeMutablePointer<Session>, _ id: UnsafeRawBufferPointer, _ router: borrowing TopicRouter,
        _ memory: borrowing MemoryBudget
    ) -> Index<Subscription> {
        if session.pointee.flags.contains(.isIndexed) { return findIndexed(session, id, router, memory) }
        var place = session.pointee.subscriptions.first
        while !place.isNone, !has(place, id, router, memory) { place = next(after: place) }
        return place
    }

    @inline(__always)
    private func findIndexed(
        _ session: UnsafeMutablePointer<Session>, _ id: UnsafeRawBufferPointer, _ router: borrowing TopicRouter,
        _ memory: borrowing MemoryBudget
    ) -> Index<Subscription> {
        var probe = index.probe(index.hash(session.pointee.index.rawValue, id.baseAddress!, id.count))
        while case let place = Index<Subscription>(index.next(&probe)), !place.isNone {
            if subscriptionRecords[place].pointee.session == session.pointee.index, has(place, id, router, memory) {
                return place
            }
        }
        return .none
    }

    @inline(__always)
    private func has(
        _ place: Index<Subscription>, _ id: UnsafeRawBufferPointer, _ router: borrowing TopicRouter,
        _ memory: borrowing MemoryBudget
    ) -> Bool {
        let own = router.id(of: subscriptionRecords[place].pointee.encoding, in: memory)
        return own.count == id.count && memcmp(own.baseAddress!, id.baseAddress!, id.count) == 0
    }

    /// The session's subscription to a destination, the latest of several; none where there is none.
    func find(_ session: UnsafeMutablePointer<Session>, to destination: Index<Destination>) -> Index<Subscription> {
        var place = session.pointee.subscriptions.first
        while !place.isNone, subscriptionRecords[place].pointee.destination != destination {
            place = next(after: place)
        }
        return place
    }

    /// The subscription waits for nobody any more.
    mutating func activate(_ place: Index<Subscription>) { subscriptionRecords[place].pointee.flags.remove(.pending) }

    /// It is given messages that are stored: what it says of them is to be stored, too.
    mutating func markGivesStored(_ place: Index<Subscription>) {
        subscriptionRecords[place].pointee.flags.insert(.givesStored)
    }

    /// It reads the log of its topic.
    mutating func markReadsLog(_ place: Index<Subscription>) {
        subscriptionRecords[place].pointee.flags.insert(.readsLog)
    }

    /// Its consumer with the queue's owner. None: it has none any more.
    mutating func setConsumer(_ consumer: Handle<Consumer>, of place: Index<Subscription>) {
        subscriptionRecords[place].pointee.consumer = consumer
    }

    /// Its place among the members of its encoding, or among the bound queues of its topic.
    mutating func setPosition(_ position: UInt32, of place: Index<Subscription>) {
        subscriptionRecords[place].pointee.position = position
    }

    /// The queue between topic and subscriber, of an acknowledging topic subscription. None: it has none any more.
    mutating func setOwnQueue(_ queue: Index<Destination>, of place: Index<Subscription>) {
        subscriptionRecords[place].pointee.ownQueue = queue
    }
}
