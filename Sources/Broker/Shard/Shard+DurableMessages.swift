import Glibc
import Journal
import STOMP
import Slabs

// Messages for durable topic subscriptions: where they are stored, who waits for that, and what becomes of those that are too
// many.
extension Shard {
    // MARK: SEND

    /// The workers whose logs get a message of the topic, for durable subscriptions to it or to a pattern that matches it.
    mutating func storingWorkers(of topic: Index<Destination>, isPersistent: Bool) -> PeerSet {
        var workers = PeerSet()
        let record = destinations[topic]
        join(&workers, topic, isPersistent)
        for i in 0..<record.pointee.matches.count {
            join(&workers, record.pointee.matches[i].destination, isPersistent)
        }
        return workers
    }

    @inline(__always)
    private mutating func join(_ workers: inout PeerSet, _ index: Index<Destination>, _ isPersistent: Bool) {
        guard destinations[index].pointee.marks.contains(.hasDurable), let holders = durables.holders(of: index),
            holders.stores(isPersistent: isPersistent)
        else { return }
        workers.formUnion(holders.workers)
    }

    /// SEND to a topic while there are durable subscriptions, perhaps to this one.
    @inline(never)
    mutating func sendToDurables(_ context: FrameContext, _ target: SendTarget) -> FrameOutcome {
        if store.isEnabled, let outcome = prepareToStore(context, target.destination) { return outcome }
        guard let message = messageOfFrame(context, for: target) else {
            durables.publication = nil
            return .done
        }
        durables.refusal = nil
        publish(target.destination, message)
        durables.publication = nil
        guard let refusal = durables.refusal else { return didSend(context) }
        counters.messagesRefused &+= 1
        failRefused(context.session, refusal, receipt: receiptOfFrame(context))
        return .done
    }

    /// The RECEIPT of a message that is stored waits for the logs that get it. Returns what to do instead of publishing it.
    private mutating func prepareToStore(_ context: FrameContext, _ topic: Index<Destination>) -> FrameOutcome? {
        let session = context.session
        let isPersistent = frame.has(.persistent) && asksForPersistence(session)
        let workers = storingWorkers(of: topic, isPersistent: isPersistent)
        if workers.isEmpty { return nil }
        if workers.contains(index) {
            if let outcome = holdBackStored(context) { return outcome }
        } else if case .tooLarge = store.admission(frame.reservedByteCount) {
            counters.messagesRefused &+= 1
            failDestination(context, .tooLargeToStore)
            return .done
        }
        for peer in 0..<shardCount where peer != index && workers.contains(peer) {
            if !context.isCommitting, fabric.storeIsFull(peer) {
                return waitForRoom(context, owner: UInt16(peer), limit: .messageMemory)
            }
        }
        for peer in 0..<shardCount where peer != index && workers.contains(peer) {
            markRemote(session, peer)
            session.pointee.flags.insert(.hasStoredElsewhere)
        }
        durables.publication = context
        return nil
    }

    /// A message for other workers, some of which store it: they may refuse it.
    @inline(never)
    mutating func publishElsewhere(
        _ index: Index<Destination>, _ message: Message, to hearers: PeerSet, of context: FrameContext
    ) {
        let workers = storingWorkers(of: index, isPersistent: message.isPersistent)
        let sender = context.session.pointee.handle
        forEachPeer(low: hearers.low, high: hearers.high) { shard, peer in
            guard workers.contains(peer) else {
                return shard.peers.write(
                    TopicPublication(), to: peer, MessagePayload(name: shard.nameOf(index), receipt: nil, message))
            }
            shard.peers.write(
                TopicPublication(sender: sender, isCommitted: context.isCommitting), to: peer,
                MessagePayload(name: shard.nameOf(index), receipt: shard.receiptOfFrame(context), message))
        }
    }

    // MARK: With the worker that stores

    /// A message of another worker's client, who waits until it is stored.
    mutating func publishToDurables(
        _ index: Index<Destination>, _ publication: TopicPublication, _ payload: MessagePayload, from peer: Int
    ) {
        let message = payload.message
        let isStored = storingWorkers(of: index, isPersistent: message.isPersistent).contains(self.index)
        var refusal: Refusal?
        if isStored, !publication.isCommitted,
            let reason = refusalToStore(message.contentByteCount, at: nameOf(index))
        {
            refusal = reason
        } else {
            durables.refusal = nil
            _ = publishHere(index, message)
            refusal = durables.refusal
        }
        if let refusal { refuse(publication, refusal, payload, to: peer) }
    }

    /// The client of another worker hears that its message is not stored.
    mutating func refuse(
        _ publication: TopicPublication, _ refusal: Refusal, _ payload: MessagePayload, to peer: Int
    ) {
        counters.messagesRefused &+= 1
        peers.write(
            PublicationRefusal(session: publication.sender, refusal: refusal), to: peer, name: payload.receipt)
    }

    /// A topic's message for each durable subscription that is bound to the topic or pattern. Each has a copy and a record of
    /// its own, and acknowledges for itself.
    @inline(never)
    mutating func enqueueToDurables(_ index: Index<Destination>, _ message: Message, line: UnsafeRawBufferPointer) {
        // What a delivery brings about may need the room where the line is.
        let wasDispatching = isDispatching
        isDispatching = true
        let bound = destinations[index].pointee.bound
        for i in 0..<bound.count where bound[i].subscription.isNone {
            keep(message, line: line, in: bound[i].destination)
        }
        isDispatching = wasDispatching
        if wasDispatching { return }
        // What is published on the way, a dead letter, is nobody's SEND.
        let (publication, refusal) = (durables.publication, durables.refusal)
        durables.publication = nil
        dispatchWhatWaits()
        (durables.publication, durables.refusal) = (publication, refusal)
    }

    /// Puts a message into the queue of a durable subscription. Where that is full, the oldest make room, whatever the topic's
    /// policy says of queues: somebody who is away must not stop those who publish.
    private mutating func keep(_ message: Message, line: UnsafeRawBufferPointer, in index: Index<Destination>) {
        let queue = destinations[index].pointee.queue
        // It is not open, and was promised to nobody, while messages of the one before it are dropped.
        if queues[queue].pointee.isClosed { return }
        // Where messages are in the log alone, the oldest go when they are read: `dropSurplusOfDurable`.
        if enqueue(queue, message, extra: line) { return }
        var droppedCount = 0
        // One that is larger than all that may be there drives nothing out.
        let fits = UInt64(message.contentByteCount) <= queues[queue].pointee.byteCountMax
        while fits, !queues.hasRoom(queue, byteCount: message.contentByteCount),
            case let oldest = queues[queue].pointee.ready.first, !oldest.isNone
        {
            queues.takeOut(oldest)
            freeEntry(oldest)
            droppedCount += 1
        }
        if droppedCount == 0 || !enqueue(queue, message, extra: line) {
            droppedCount += 1
            // For want of memory: whoever asked for a RECEIPT must not believe that it is stored.
            let isFull = !queues.hasRoom(queue, byteCount: message.contentByteCount)
            if !isFull, stores(queue, isPersistent: message.isPersistent) { durables.refusal = .memory }
        }
        tellDropped(droppedCount, of: index)
    }

    private mutating func tellDropped(_ count: Int, of index: Index<Destination>) {
        counters.messagesDropped &+= UInt64(count)
        counters.limits.count(.queue)
        notice(
            .messagesDropped,
            "\(count) of \(destinationText(index)): the durable subscription has reached its limit (messages-max or "
                + "bytes-max in its topic's policy)")
    }

    /// Drops the oldest of the messages that are ready while there are more than may be. They go to no dead-letter destination.
    mutating func dropSurplusOfDurable(_ queue: Index<Queue>) {
        var droppedCount = 0
        while !queues[queue].pointee.isClosed, isOver(queue), case let oldest = queues[queue].pointee.ready.first,
            !oldest.isNone
        {
            queues.takeOut(oldest)
            freeEntry(oldest)
            droppedCount += 1
        }
        if droppedCount == 0 { return }
        tellDropped(droppedCount, of: queues[queue].pointee.destination)
        readBackIfFew(queue)
    }

    // MARK: Transactions

    /// Whether the logs take a SEND to a topic that is kept in a transaction. False: it was answered with ERROR.
    mutating func admitsToDurables(_ context: FrameContext, _ topic: Index<Destination>, _ send: CheckedSend) -> Bool {
        guard durables.isUsed, store.isEnabled,
            storingWorkers(of: topic, isPersistent: send.isPersistent).contains(index)
        else { return true }
        return admitsToStore(context, byteCount: Int(send.byteCount))
    }

    /// The workers that store something of a SEND that is kept in a transaction. None where the owner of its topic publishes
    /// it: what that passes on is no part of the transaction.
    ///
    /// - Parameter topic: where it goes. nil: it was forgotten, and is made again if it is one.
    mutating func storingWorkers(
        of send: CheckedSend, _ kept: UnsafePointer<KeptFrame>, _ session: UnsafeMutablePointer<Session>
    ) -> PeerSet {
        let topic = topic(of: send, kept, session)
        if topic.isNone || destinations[topic].pointee.isSequenced { return PeerSet() }
        return storingWorkers(of: topic, isPersistent: send.isPersistent)
    }

    private mutating func topic(
        of send: CheckedSend, _ kept: UnsafePointer<KeptFrame>, _ session: UnsafeMutablePointer<Session>
    ) -> Index<Destination> {
        var topic = send.destination.index
        if !destinations.isLive(send.destination) {
            parse(session, kept)
            let written = frame.value(.destination, into: scratch.destination, version: session.pointee.version)!
            topic = destinationWithoutError(session, written)
        }
        return !topic.isNone && destinations[topic].pointee.kind == .topic ? topic : .none
    }

    /// What a worker's log needs at most for a SEND to a topic that is kept in a transaction: a record for each durable
    /// subscription.
    mutating func durableByteCountMax(of send: CheckedSend) -> Int {
        var count = 0
        if destinations.isLive(send.destination) {
            let topic = send.destination.index
            if storingWorkers(of: topic, isPersistent: send.isPersistent).isEmpty { return 0 }
            count = durables.countMax(of: topic)
            let record = destinations[topic]
            for i in 0..<record.pointee.matches.count {
                count += durables.countMax(of: record.pointee.matches[i].destination)
            }
        } else {
            // It was forgotten, and is made again if it is a topic: any of them may match.
            count = durables.countMaxOfAll
        }
        // The line with the topic's name, escaped, is in each.
        let nameByteCount = DurableName.byteCountMax(limits) + 2 * limits.destinationNameByteCountMax + 16
        return count * JournalFormat.recordByteCount(payloadByteCount: 64 + Int(send.byteCount) + nameByteCount)
    }
}
