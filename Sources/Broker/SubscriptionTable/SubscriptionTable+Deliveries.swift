import STOMP
import Slabs

/// A delivery that has ended: what its subscription was given, and has settled now.
struct EndedDelivery: BitwiseCopyable, Equatable {
    /// None: there is none.
    var entry: Handle<Entry>
    var subscription: Index<Subscription>
}

// What subscriptions were given, and have not acknowledged.
extension SubscriptionTable {
    /// A record for a delivery. It is on no list before `add`. None: there are as many as there may be.
    mutating func allocateDelivery() -> Handle<Delivery> { deliveryRecords.allocate() }

    /// One that is on no list.
    mutating func freeDelivery(_ delivery: Index<Delivery>) { deliveryRecords.free(delivery) }

    /// Keeps what a subscription was given.
    ///
    /// - Parameter position: the session's output position behind the MESSAGE's NUL.
    @inline(__always)
    mutating func add(
        _ index: Index<Delivery>, to place: Index<Subscription>, _ session: UnsafeMutablePointer<Session>,
        entry: Handle<Entry>, identity: UInt64, position: UInt64
    ) {
        let delivery = deliveryRecords[index]
        delivery.pointee.subscription = place
        delivery.pointee.entry = entry
        delivery.pointee.identity = identity
        delivery.pointee.position = position
        let subscription = subscriptionRecords[place]
        subscription.pointee.deliveries.append(index, in: deliveryRecords)
        if subscription.pointee.ackMode == .auto {
            session.pointee.unsentDeliveries.append(index, in: deliveryRecords)
        } else if isNamed(session) {
            enterChain(index, session)
        }
    }

    /// Ends a delivery.
    @inline(__always)
    mutating func end(_ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) -> EndedDelivery {
        let ended = unlink(index, session)
        deliveryRecords.free(index)
        return ended
    }

    /// Ends the next of an `auto` subscription's. Its bytes may be on their way still: it stays among the session's
    /// unsent deliveries.
    mutating func endUnsent(_ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) -> EndedDelivery {
        let ended = unlink(index, session)
        deliveryRecords[index].pointee.subscription = .none
        return ended
    }

    @inline(__always)
    private mutating func unlink(
        _ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>
    ) -> EndedDelivery {
        let delivery = deliveryRecords[index]
        let subscription = subscriptionRecords[delivery.pointee.subscription]
        subscription.pointee.deliveries.remove(index, in: deliveryRecords)
        if subscription.pointee.ackMode != .auto, isNamed(session) { leaveChain(index, session) }
        return EndedDelivery(entry: delivery.pointee.entry, subscription: delivery.pointee.subscription)
    }

    // MARK: Unsent deliveries

    /// Takes the oldest of a session's `auto` deliveries whose bytes the kernel has, up to the output position `sent`. Of one
    /// whose subscription has ended, nothing is told. None: there is no other.
    @inline(__always)
    mutating func land(_ session: UnsafeMutablePointer<Session>, upTo sent: UInt64) -> EndedDelivery {
        while case let index = session.pointee.unsentDeliveries.first, !index.isNone,
            deliveryRecords[index].pointee.position <= sent
        {
            session.pointee.unsentDeliveries.removeFirst(in: deliveryRecords)
            if !deliveryRecords[index].pointee.subscription.isNone { return end(index, session) }
            deliveryRecords.free(index)
        }
        return EndedDelivery(entry: .none, subscription: .none)
    }

    /// Frees the deliveries whose subscriptions have ended: the session itself ends.
    mutating func dropUnsent(_ session: UnsafeMutablePointer<Session>) {
        while case let index = session.pointee.unsentDeliveries.popFirst(in: deliveryRecords), !index.isNone {
            deliveryRecords.free(index)
        }
    }

    // MARK: By message-id

    /// Whether the session's deliveries are found by message-id.
    @inline(__always)
    private func isNamed(_ session: UnsafeMutablePointer<Session>) -> Bool {
        session.pointee.version != .v1_2 || session.pointee.flags.contains(.namesMessages)
    }

    @inline(__always)
    private func chain(
        of index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>
    ) -> UnsafeMutablePointer<DeliveryChain> {
        let delivery = deliveryRecords[index]
        return deliveryTable.chain(
            delivery.pointee.identity, session: session.pointee.index, subscription: delivery.pointee.subscription,
            session.pointee.version)
    }

    private mutating func enterChain(_ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) {
        chain(of: index, session).pointee.prepend(index, in: deliveryRecords)
    }

    private mutating func leaveChain(_ index: Index<Delivery>, _ session: UnsafeMutablePointer<Session>) {
        if DeliveryChain.removeUnlessFirst(index, in: deliveryRecords) { return }
        chain(of: index, session).pointee.remove(index, in: deliveryRecords)
    }

    /// From now on the session's deliveries are found by message-id. Returns the steps that it took to enter those there are.
    mutating func nameDeliveries(of session: UnsafeMutablePointer<Session>) -> Int {
        guard !session.pointee.flags.contains(.namesMessages) else { return 0 }
        session.pointee.flags.insert(.namesMessages)
        var stepCount = 0
        var place = session.pointee.subscriptions.first
        while !place.isNone {
            let subscription = subscriptionRecords[place]
            var delivery = subscription.pointee.ackMode == .auto ? .none : subscription.pointee.deliveries.first
            while !delivery.isNone {
                enterChain(delivery, session)
                delivery = next(after: delivery)
                stepCount += 1
            }
            place = next(after: place)
            stepCount += 1
        }
        return stepCount
    }

    /// The delivery of that message-id that waits for an acknowledgement; none where there is none. Of several subscriptions
    /// that have the message, the last that was given it, unless `wanted` says which.
    @inline(__always)
    func findDelivery(
        _ session: UnsafeMutablePointer<Session>, _ identity: UInt64, of wanted: Index<Subscription>
    ) -> (delivery: Index<Delivery>, stepCount: Int) {
        var candidate = deliveryTable.chain(
            identity, session: session.pointee.index, subscription: wanted, session.pointee.version
        ).pointee.first
        var stepCount = 0
        while !candidate.isNone {
            let delivery = deliveryRecords[candidate]
            let place = delivery.pointee.subscription
            if delivery.pointee.identity == identity,
                !wanted.isNone
                    ? place == wanted : subscriptionRecords[place].pointee.session == session.pointee.index
            {
                break
            }
            candidate = DeliveryChain.next(after: candidate, in: deliveryRecords)
            stepCount += 1
        }
        return (candidate, stepCount)
    }

    /// The delivery that the `ack` header of a MESSAGE names; none where it does not wait for this session's ACK.
    @inline(__always)
    func findDelivery(_ session: UnsafeMutablePointer<Session>, _ handle: Handle<Delivery>) -> Index<Delivery> {
        guard let delivery = deliveryRecords.find(handle), !delivery.pointee.subscription.isNone else { return .none }
        let subscription = subscriptionRecords[delivery.pointee.subscription]
        return subscription.pointee.session == session.pointee.index && subscription.pointee.ackMode != .auto
            ? handle.index : .none
    }

    // MARK: In transactions

    /// Stands for no transaction.
    private static var unmarked: Index<Transaction> { Index(.max) }

    /// An ACK or NACK of the delivery, and in `client` mode of all before it, is kept in an open transaction. Those that
    /// another one has are passed over. Returns the steps this took.
    mutating func mark(_ index: Index<Delivery>, in transaction: Index<Transaction>) -> Int {
        let subscription = subscriptionRecords[deliveryRecords[index].pointee.subscription]
        guard subscription.pointee.ackMode == .client else {
            deliveryRecords[index].pointee.transaction = transaction
            return 0
        }
        var candidate = index
        var stepCount = 0
        while !candidate.isNone {
            if deliveryRecords[candidate].pointee.transaction.isNone {
                deliveryRecords[candidate].pointee.transaction = transaction
            }
            candidate = DeliveryList.previous(before: candidate, in: deliveryRecords)
            stepCount += 1
        }
        return stepCount
    }

    /// Takes back `mark` of one ACK or NACK, down to the last one before it in the same subscription that was taken back
    /// already. It stays marked as such, for those behind it, until `finishUnmarking`. Returns the steps this took.
    mutating func unmark(_ handle: Handle<Delivery>, _ transaction: Index<Transaction>) -> Int {
        guard let delivery = deliveryRecords.find(handle), delivery.pointee.transaction == transaction else { return 0 }
        let isCumulative = subscriptionRecords[delivery.pointee.subscription].pointee.ackMode == .client
        var candidate = isCumulative ? DeliveryList.previous(before: handle.index, in: deliveryRecords) : .none
        var stepCount = 0
        while !candidate.isNone, deliveryRecords[candidate].pointee.transaction != Self.unmarked {
            let other = deliveryRecords[candidate]
            if other.pointee.transaction == transaction { other.pointee.transaction = .none }
            candidate = DeliveryList.previous(before: candidate, in: deliveryRecords)
            stepCount += 1
        }
        delivery.pointee.transaction = Self.unmarked
        return stepCount
    }

    /// After `unmark` of all of a transaction's ACKs and NACKs: for each of them once more.
    mutating func finishUnmarking(_ handle: Handle<Delivery>) {
        guard let delivery = deliveryRecords.find(handle), delivery.pointee.transaction == Self.unmarked else { return }
        delivery.pointee.transaction = .none
    }
}
