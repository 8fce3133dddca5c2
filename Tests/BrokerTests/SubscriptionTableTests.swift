import STOMP
import Slabs
import Testing

@testable import Broker

/// A table with the records around it. In a class, for what cannot be copied is no argument of `#expect`.
private final class Table {
    var subscriptions: SubscriptionTable
    var sessions: Slab<Session>
    var destinations: DestinationDirectory
    var router: TopicRouter
    var memory: MemoryBudget
    private var topics: [Int: Index<Destination>] = [:]

    init(subscriptionCountMax: Int = 100) throws {
        var limits = Limits()
        limits.messageMemoryByteCountMax = 8 << 20
        memory = try MemoryBudget(limits)
        sessions = try Slab(recordCountMax: 8)
        destinations = try DestinationDirectory(limits, worker: 0, of: 1, seed: 2)
        router = try TopicRouter(limits, seed: 3)
        subscriptions = try SubscriptionTable(
            subscriptionCountMax: subscriptionCountMax, deliveryCountMax: 100, seed: 1, KeyedHash(low: 1, high: 2))
    }

    func session(_ version: Version = .v1_2) -> UnsafeMutablePointer<Session> {
        let handle: Handle<Session> = sessions.allocate()
        let session = sessions[handle.index]
        session.pointee.index = handle.index
        session.pointee.version = version
        return session
    }

    /// The topic of that number, made on first use.
    func topic(_ number: Int) -> Index<Destination> {
        if let topic = topics[number] { return topic }
        var name = "/topic/\(number)"
        let topic = name.withUTF8 { bytes in
            destinations.makeTopic(UnsafeRawBufferPointer(bytes), isPattern: false, memory: &memory).index
        }
        topics[number] = topic
        return topic
    }

    func subscribe(
        _ session: UnsafeMutablePointer<Session>, id: String, _ ackMode: AckMode = .client, to number: Int = 1
    ) -> Index<Subscription> {
        let topic = topic(number)
        var id = id
        let encoding = id.withUTF8 { bytes in
            router.findOrMake(
                topic, id: UnsafeRawBufferPointer(bytes), isNamed: true, version: session.pointee.version,
                consumes: true, destinations: &destinations, memory: &memory)
        }
        return subscriptions.make(
            session, to: topic, encoding, ackMode, consumes: true, Window(Limits()), router, memory)
    }

    func unsubscribe(_ place: Index<Subscription>, _ session: UnsafeMutablePointer<Session>) {
        subscriptions.remove(place, session, router, memory)
    }

    func find(_ session: UnsafeMutablePointer<Session>, _ id: String) -> Index<Subscription> {
        var id = id
        return id.withUTF8 { subscriptions.find(session, UnsafeRawBufferPointer($0), router, memory) }
    }

    func find(_ session: UnsafeMutablePointer<Session>, to number: Int) -> Index<Subscription> {
        subscriptions.find(session, to: topic(number))
    }

    /// Gives a subscription the message `identity`, whose entry has the same number.
    func deliver(
        _ identity: UInt64, to place: Index<Subscription>, _ session: UnsafeMutablePointer<Session>,
        position: UInt64 = 0
    ) -> Index<Delivery> {
        let delivery = subscriptions.allocateDelivery()
        subscriptions.add(
            delivery.index, to: place, session, entry: Self.entry(identity), identity: identity, position: position)
        return delivery.index
    }

    static func entry(_ identity: UInt64) -> Handle<Entry> {
        Handle(Slot(index: UInt32(identity), generation: 1))
    }

    func end(_ delivery: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) -> EndedDelivery {
        subscriptions.end(delivery, session)
    }

    func find(
        _ session: UnsafeMutablePointer<Session>, identity: UInt64, of wanted: Index<Subscription> = .none
    ) -> Index<Delivery> {
        subscriptions.findDelivery(session, identity, of: wanted).delivery
    }

    func find(_ session: UnsafeMutablePointer<Session>, ack delivery: Index<Delivery>) -> Index<Delivery> {
        subscriptions.findDelivery(session, subscriptions.handle(delivery))
    }

    func land(_ session: UnsafeMutablePointer<Session>, upTo sent: UInt64) -> UInt32 {
        subscriptions.land(session, upTo: sent).entry.index.rawValue
    }

    func delivery(_ index: Index<Delivery>) -> Delivery { subscriptions[index].pointee }
    func subscription(_ index: Index<Subscription>) -> Subscription { subscriptions[index].pointee }
    var counts: [Int] { [subscriptions.liveCount, subscriptions.indexedCount, subscriptions.deliveryCount] }
    var markedCount: Int { subscriptions.markedCount }
}

/// Subscriptions and what they were given, without a shard.
@Suite("Subscription table")
struct SubscriptionTableTests {
    @Test("A session finds its own subscriptions by id, whether few or many, and no other's")
    func find() throws {
        let table = try Table()
        let (session, other) = (table.session(), table.session())
        var places: [Index<Subscription>] = []
        for count in 1...20 {
            places.append(table.subscribe(session, id: "id-\(count)"))
            #expect(table.counts[1] == (count > 16 ? count : 0))
            for known in 1...count { #expect(table.find(session, "id-\(known)") == places[known - 1]) }
            #expect(table.find(session, "id-\(count + 1)").isNone)
        }
        #expect(table.find(other, "id-1").isNone)
        let same = table.subscribe(other, id: "id-1")
        #expect(table.find(other, "id-1") == same)
        #expect(table.find(session, "id-1") == places[0])
        for (count, place) in places.enumerated() {
            table.unsubscribe(place, session)
            #expect(table.find(session, "id-\(count + 1)").isNone)
        }
        #expect(table.counts == [1, 0, 0])
        #expect(session.pointee.subscriptionCount == 0)
        #expect(session.pointee.subscriptions.isEmpty)
        #expect(!session.pointee.flags.contains(.isIndexed))
    }

    @Test("Of several subscriptions to a destination, the latest is found")
    func findByDestination() throws {
        let table = try Table()
        let session = table.session(.v1_0)
        let first = table.subscribe(session, id: "a", to: 7)
        let second = table.subscribe(session, id: "b", to: 7)
        #expect(table.find(session, to: 7) == second)
        table.unsubscribe(second, session)
        #expect(table.find(session, to: 7) == first)
        #expect(table.find(session, to: 8).isNone)
    }

    @Test("There are no more than there may be")
    func limit() throws {
        let table = try Table(subscriptionCountMax: 2)
        let session = table.session()
        let first = table.subscribe(session, id: "a")
        _ = table.subscribe(session, id: "b")
        #expect(table.subscribe(session, id: "c").isNone)
        #expect(session.pointee.subscriptionCount == 2)
        table.unsubscribe(first, session)
        #expect(!table.subscribe(session, id: "c").isNone)
    }

    @Test("The ack header of a MESSAGE names a delivery of its own session, while it waits")
    func acknowledged() throws {
        let table = try Table()
        let (session, other) = (table.session(), table.session())
        let place = table.subscribe(session, id: "a")
        let delivery = table.deliver(5, to: place, session)
        #expect(table.find(session, ack: delivery) == delivery)
        #expect(table.find(other, ack: delivery).isNone)
        let named = Handle<Delivery>(index: delivery, generation: table.delivery(delivery).generation)
        #expect(table.end(delivery, session) == EndedDelivery(entry: Table.entry(5), subscription: place))
        #expect(table.subscription(place).deliveries.isEmpty)
        let later = table.deliver(6, to: place, session)
        #expect(later == named.index)
        let stale = table.subscriptions.findDelivery(session, named)
        #expect(stale.isNone)
        // What auto was given is nobody's to acknowledge.
        let auto = table.subscribe(session, id: "b", .auto)
        #expect(table.find(session, ack: table.deliver(7, to: auto, session)).isNone)
    }

    @Test("A message-id is found in its session; in 1.1 in the subscription that is named", arguments: Version.allCases)
    func byMessageID(version: Version) throws {
        let table = try Table()
        let (session, other) = (table.session(version), table.session(version))
        let (one, two) = (table.subscribe(session, id: "a"), table.subscribe(session, id: "b"))
        let stranger = table.subscribe(other, id: "a")
        let first = table.deliver(9, to: one, session)
        let foreign = table.deliver(9, to: stranger, other)
        if version == .v1_2 {
            // Nobody has asked by message-id so far.
            #expect(table.find(session, identity: 9).isNone)
            let steps = table.subscriptions.nameDeliveries(of: session)
            #expect(steps == 3)
            _ = table.subscriptions.nameDeliveries(of: other)
        }
        let second = table.deliver(9, to: two, session)
        #expect(table.find(session, identity: 9, of: one) == first)
        #expect(table.find(session, identity: 9, of: two) == second)
        #expect(table.find(other, identity: 9, of: stranger) == foreign)
        #expect(table.find(session, identity: 10, of: one).isNone)
        if version != .v1_1 {
            #expect(table.find(session, identity: 9) == second)
            _ = table.end(second, session)
            #expect(table.find(session, identity: 9) == first)
        }
    }

    @Test("What the kernel has taken lands in order, and what a subscription left behind is forgotten")
    func unsentDeliveries() throws {
        let table = try Table()
        let session = table.session()
        let (one, two) = (table.subscribe(session, id: "a", .auto), table.subscribe(session, id: "b", .auto))
        _ = table.deliver(1, to: one, session, position: 100)
        let left = table.deliver(2, to: two, session, position: 200)
        _ = table.deliver(3, to: one, session, position: 300)
        #expect(table.land(session, upTo: 99) == 0)
        #expect(table.land(session, upTo: 250) == 1)
        let ended = table.subscriptions.endUnsent(left, session)
        #expect(ended == EndedDelivery(entry: Table.entry(2), subscription: two))
        table.unsubscribe(two, session)
        #expect(table.counts[2] == 2)
        #expect(table.land(session, upTo: 300) == 3)
        #expect(table.land(session, upTo: 300) == 0)
        #expect(table.counts[2] == 0)
        let last = table.deliver(4, to: one, session, position: 400)
        _ = table.subscriptions.endUnsent(last, session)
        table.subscriptions.dropUnsent(session)
        #expect(table.counts[2] == 0)
        #expect(session.pointee.unsentDeliveries.isEmpty)
    }

    @Test("An ACK in a transaction is for all before it in client mode, for one in client-individual mode")
    func transactions() throws {
        let table = try Table()
        let session = table.session()
        let (all, single) = (table.subscribe(session, id: "a"), table.subscribe(session, id: "b", .clientIndividual))
        let some = (1...4).map { table.deliver(UInt64($0), to: all, session) }
        let others = (5...6).map { table.deliver(UInt64($0), to: single, session) }
        let (first, second) = (Index<Transaction>(1), Index<Transaction>(2))
        _ = table.subscriptions.mark(some[1], in: first)
        _ = table.subscriptions.mark(some[3], in: second)
        _ = table.subscriptions.mark(others[1], in: second)
        #expect(some.map { table.delivery($0).transaction } == [first, first, second, second])
        #expect(others.map { table.delivery($0).transaction } == [.none, second])
        // The second is aborted; the first stays.
        let handles = [some[3], others[1]].map { table.subscriptions.handle($0) }
        for handle in handles { _ = table.subscriptions.unmark(handle, second) }
        for handle in handles { table.subscriptions.finishUnmarking(handle) }
        #expect(some.map { table.delivery($0).transaction } == [first, first, .none, .none])
        #expect(table.markedCount == 2)
        // A delivery that has ended meanwhile is passed over.
        let gone = table.subscriptions.handle(some[1])
        _ = table.end(some[1], session)
        let steps = table.subscriptions.unmark(gone, first)
        #expect(steps == 0)
    }
}
