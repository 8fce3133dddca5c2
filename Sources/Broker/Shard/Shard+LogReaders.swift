import STOMP
import Slabs

// Subscriptions that read the log of a topic (`x-stream-offset`). With the topic's owner each is a reader, which gives the
// entries from its beginning on, one by one, and waits at the end for the next: it has no other way to a message, so there is
// neither gap nor repetition where it catches up. With the session's worker it has a queue of its own, as acknowledging
// subscriptions of topics have: prefetch, acknowledgements and slow clients are the queue's affair. What leaves the queue is
// told the reader, which has a bounded number of messages there.
extension Shard {
    // MARK: SUBSCRIBE

    /// SUBSCRIBE with `x-stream-offset`.
    mutating func subscribeToLog(
        _ context: FrameContext, to index: Index<Destination>, id: UnsafeRawBufferPointer, ackMode: AckMode,
        _ window: Window
    ) -> FrameOutcome {
        let session = context.session
        if let refusal = refusalToRead(index) {
            updateIdle(index)
            failFrame(context, "Unsupported header", refusal)
            return .done
        }
        guard let start = startOfFrame(context, index) else { return .done }
        if pendings.holdsBack(session, asksForReceipt: frame.has(.receipt)) {
            updateIdle(index)
            return retryAfterPending(context)
        }
        let subscription = makeSubscription(
            session, index, id: id, isNamed: frame.has(.id), ackMode: ackMode, consumes: true, window: window)
        if subscription.isNone {
            updateIdle(index)
            counters.limits.count(.subscriptions)
            failFrame(context, "Out of memory", "no room for another subscription (limits.subscriptions-max)")
            return .done
        }
        subscriptions.markReadsLog(subscription)
        let owner = Int(destinations[index].pointee.owner)
        guard owner == self.index else {
            guard let pending = makePending(context, .subscribe, receipt: frame.rawValue(.receipt)) else {
                return .done
            }
            pendings.setSubscription(subscription, of: pending)
            suspend(session)
            let request = ReaderRequest(
                subscription: subscriptions.handle(subscription), pending: pendings.handle(pending), start: start)
            peers.write(request, to: owner, name: nameOf(index))
            return .done
        }
        let handle = subscriptions.handle(subscription)
        confirm(context)
        guard session.pointee.state == .connected else { return .done }
        let reader = addReader(index, from: start, shard: self.index, subscription: handle)
        if reader.isNone {
            failRefused(session, .memory, receipt: nil)
        } else {
            beginReading(handle, owner: self.index, reader)
        }
        return .done
    }

    /// Why nobody can read a log there. nil: it can be read.
    private mutating func refusalToRead(_ index: Index<Destination>) -> String? {
        let name = destinationText(index)
        switch destinations[index].pointee.kind {
        case .topic where destinations[index].pointee.isLogged: return nil
        case .topic:
            return "x-stream-offset: \(name) keeps no log; with log-messages-max in its policy (destinations) it does"
        case .pattern:
            return "x-stream-offset: \(name) is a pattern, and the offsets of several topics have no common order; "
                + "subscribe to each topic by its name"
        case .queue, .remoteQueue, .subscriptionQueue:
            return "x-stream-offset: \(name) is a queue; topics have logs, whose messages stay when they are read"
        }
    }

    /// `x-stream-offset` in the forms that RabbitMQ's STOMP plugin takes: `first`, `last`, `next`, `offset=N`, `timestamp=T`
    /// with T in seconds since the epoch (RabbitMQ, "STOMP Plugin", section Streams). nil: ERROR was sent.
    private mutating func startOfFrame(_ context: FrameContext, _ index: Index<Destination>) -> LogStart? {
        let text = frame.rawValue(.xStreamOffset)!
        if equals(text, "first") { return .first }
        if equals(text, "last") { return .last }
        if equals(text, "next") { return .next }
        if begins(text, with: "offset="), let number = decimal(UnsafeRawBufferPointer(rebasing: text[7...])) {
            return .offset(number)
        }
        if begins(text, with: "timestamp="), let number = decimal(UnsafeRawBufferPointer(rebasing: text[10...])) {
            return .seconds(number)
        }
        updateIdle(index)
        failFrame(
            context, "Invalid x-stream-offset",
            "x-stream-offset must be first, last, next, offset=N or timestamp=T (seconds since 1970), not "
                + "'\(printable(text))'")
        return nil
    }

    /// The owner has a reader for the subscription: it gets its queue.
    private mutating func beginReading(_ handle: Handle<Subscription>, owner: Int, _ reader: Handle<LogReader>) {
        guard let subscription = subscriptions.find(handle) else { return removeReader(reader, at: owner) }
        let intake = topicLogs.makeIntake(owner: owner, reader)
        guard !intake.isNone else {
            removeReader(reader, at: owner)
            return failRefused(sessions[subscription.pointee.session], .memory, receipt: nil)
        }
        bindQueue(handle.index)
        guard let subscription = subscriptions.find(handle), !subscription.pointee.ownQueue.isNone else {
            topicLogs.removeIntake(intake)
            return removeReader(reader, at: owner)
        }
        queues.setIntake(intake, of: destinations[subscription.pointee.ownQueue].pointee.queue)
    }

    /// The subscription ends, and what it was given goes with its queue.
    mutating func removeReader(of index: Index<Subscription>) {
        let queue = destinations[subscriptions[index].pointee.ownQueue].pointee.queue
        let intake = queues[queue].pointee.intake
        if intake.isNone { return }
        let (owner, reader) = (Int(topicLogs[intake].pointee.owner), topicLogs[intake].pointee.reader)
        queues.setIntake(.none, of: queue)
        topicLogs.removeIntake(intake)
        removeReader(reader, at: owner)
    }

    private mutating func removeReader(_ reader: Handle<LogReader>, at owner: Int) {
        if owner == index { removeReader(reader) } else { peers.write(ReaderRemoval(reader: reader), to: owner) }
    }

    // MARK: With the owner

    private mutating func addReader(
        _ index: Index<Destination>, from start: LogStart, shard: Int, subscription: Handle<Subscription>
    ) -> Handle<LogReader> {
        let log = logOf(index)
        if log.isNone { return .none }
        return topicLogs.addReader(to: log, from: start, shard: shard, subscription: subscription)
    }

    mutating func addRemoteReader(_ request: ReaderRequest, _ name: UnsafeRawBufferPointer, from peer: Int) {
        let index = topicForElsewhere(name)
        var answer = ReaderAnswer(pending: request.pending, reader: .none, refusal: .destinations)
        if !index.isNone {
            answer.refusal = .memory
            answer.reader = addReader(index, from: request.start, shard: peer, subscription: request.subscription)
        }
        peers.write(answer, to: peer)
    }

    mutating func removeReader(_ reader: Handle<LogReader>) {
        if let index = topicLogs.find(reader) { topicLogs.removeReader(index) }
    }

    mutating func readerHasRead(_ credit: ReaderCredit) {
        guard let index = topicLogs.find(credit.reader) else { return }
        topicLogs.read(index, count: credit.count, byteCount: credit.byteCount)
    }

    /// Near the end of a turn: gives readers what there is for them, as far as they have room.
    mutating func serveLogs() {
        while let read = topicLogs.takeRead() {
            let credit = ReaderCredit(reader: read.reader, count: read.readCount, byteCount: read.readByteCount)
            if Int(read.owner) == index { readerHasRead(credit) } else { peers.write(credit, to: Int(read.owner)) }
        }
        while case let log = topicLogs.takeDueLog(), !log.isNone { serve(log) }
    }

    /// Gives the readers of a log what there is for them.
    mutating func serve(_ log: Index<TopicLog>) {
        for place in 0..<topicLogs[log].pointee.readers.count { serve(topicLogs[log].pointee.readers[place]) }
        chargeForSteps(Int(topicLogs[log].pointee.readers.count))
    }

    private mutating func serve(_ reader: Index<LogReader>) {
        while let entry = topicLogs.next(
            reader, wallMilliseconds: wallMilliseconds, skippedCount: &counters.logOffsetsMissed)
        {
            let message = memory.stored(entry.message, identity: entry.identity, expiresAt: entry.expiresAt)
            topicLogs.gave(reader, byteCount: message.contentByteCount)
            let subscription = topicLogs[reader].pointee.subscription
            let shard = Int(topicLogs[reader].pointee.shard)
            if shard == index {
                give(message, to: subscription)
            } else {
                let noName = UnsafeRawBufferPointer(start: nil, count: 0)
                peers.write(
                    LogDelivery(subscription: subscription), to: shard,
                    MessagePayload(name: noName, receipt: nil, message))
            }
        }
    }

    // MARK: With the session's worker

    mutating func readerAnswered(_ answer: ReaderAnswer, from peer: Int) {
        guard let pending = pendings.find(answer.pending) else {
            // The session has ended meanwhile.
            if !answer.reader.isNone { removeReader(answer.reader, at: peer) }
            return
        }
        let session = sessions[pending.pointee.session]
        if answer.reader.isNone {
            return failRefused(session, answer.refusal, receipt: receiptOfPending(answer.pending.index))
        }
        let subscription = subscriptions.handle(pending.pointee.subscription)
        finishPending(session, answer.pending.index)
        beginReading(subscription, owner: peer, answer.reader)
        if session.pointee.state == .connected { resumeSoon(session) }
    }

    mutating func giveFromElsewhere(_ delivery: LogDelivery, _ message: Message) {
        give(message, to: delivery.subscription)
    }

    /// Puts what a reader is given into the queue of its subscription.
    private mutating func give(_ message: Message, to handle: Handle<Subscription>) {
        guard let subscription = subscriptions.find(handle), !subscription.pointee.ownQueue.isNone else {
            counters.stalePeerMessages &+= 1  // the reader's removal is on the way
            return
        }
        let queue = destinations[subscription.pointee.ownQueue].pointee.queue
        if message.expiresAt != 0, message.expiresAt <= wallMilliseconds {
            let intake = queues[queue].pointee.intake
            if intake.isNone { return }
            return topicLogs.tookOne(
                intake, byteCount: message.contentByteCount, isLast: queues[queue].pointee.messageCount == 0)
        }
        if enqueue(queue, message) { return }
        // To go on without it would be a gap.
        let isFull = !queues.hasRoom(queue, byteCount: message.contentByteCount)
        disconnectSoon(
            sessions[subscription.pointee.session], for: isFull ? .outputBytes : .messageMemory,
            encoding: subscription.pointee.encoding)
    }

    /// A message leaves the queue of a subscription that reads a log.
    mutating func tookOne(_ entry: Index<Entry>) {
        let queue = queues[queues[entry].pointee.queue]
        topicLogs.tookOne(
            queue.pointee.intake, byteCount: Int(queues[entry].pointee.byteCount),
            isLast: queue.pointee.messageCount == 1)
    }
}
