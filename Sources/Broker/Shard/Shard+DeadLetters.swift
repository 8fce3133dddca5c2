import Glibc
import IO
import Journal
import STOMP
import Slabs

// Messages that nobody gets in time, or that nobody wants: they expire, or move to a dead-letter destination.
extension Shard {
    mutating func entryTimerFired(_ handle: Handle<Entry>) {
        // When the drain is over, a dead letter might come too late to be reported there: it is reported here.
        if queues.expires(handle, &timers, at: moment, isLast: drainIsOver) { expire(handle.index) }
    }

    /// A ready entry's time is over.
    mutating func expire(_ index: Index<Entry>) {
        counters.messagesExpired &+= 1
        let queue = queues[index].pointee.queue
        if policies[queues[queue].pointee.policy].deadLettersExpired, !queues[queue].pointee.isClosed {
            deadLetter(index, reason: "expired")
        } else {
            queues.takeOut(index)
            freeEntry(index)
            readBackIfFew(queue)
        }
    }

    /// Moves a ready entry to the dead-letter destination of its queue. Without one, or where that is full, the message is
    /// dropped, counted and logged; or stays, if it `isKeptOtherwise`.
    ///
    /// Where it is stored, it moves as a whole: the log has it in one place or the other. If the transaction that brought it is
    /// not known to be complete, the move does not count unless that is.
    ///
    /// - Parameters:
    ///   - isOfGroup: a frame of the group that is open asks for it: it comes behind that.
    ///   - transaction: the move does not count unless this one does. 0: there is none.
    mutating func deadLetter(
        _ index: Index<Entry>, reason: StaticString, isKeptOtherwise: Bool = false, isOfGroup: Bool = false,
        behind transaction: UInt64 = 0
    ) {
        let isDue = store.isGrouping && isOfGroup
        if isKeptOtherwise, !isDue, asksForRoom(index, reason: reason, behind: transaction) { return }
        guard store.isEnabled else {
            var move = DeadLetterMove()
            return deadLetter(index, &move, reason: reason, isKeptOtherwise: isKeptOtherwise)
        }
        if isDue {
            return deadLettersDue.append(
                DueDeadLetter(entry: queues.handle(index), reason: reason, isKeptOtherwise: isKeptOtherwise))
        }
        let isStored = queues[index].pointee.isStored
        let place = isStored ? memory.place(of: queues[index].pointee.message).pointee : .new
        // What the group around it has not written yet moves with that group.
        let isJoined = store.isGrouping && isStored && place.position == 0
        let group = beginGroup()
        var move = DeadLetterMove(mayHaveParts: isStored && !isJoined)
        deadLetter(index, &move, reason: reason, isKeptOtherwise: isKeptOtherwise)
        let partCount: UInt16 = move.transaction == 0 ? 1 : 2
        var conditions = PartConditions()
        if isStored, !isJoined, store.hasOperations(from: group.first) {
            conditions = PartConditions(store.incompleteTransaction(of: place), transaction)
        }
        if !conditions.isEmpty, move.transaction == 0 {
            var participants = PeerSet()
            participants.set(self.index, true)
            move.transaction = store.beginTransaction(participants)
        }
        endGroup(
            group, transaction: move.transaction, partCount: partCount, conditions: conditions, isJoined: isJoined,
            holdsReceipts: true)
    }

    private mutating func deadLetter(
        _ index: Index<Entry>, _ move: inout DeadLetterMove, reason: StaticString, isKeptOtherwise: Bool
    ) {
        let queue = queues[index].pointee.queue
        let origin = nameOf(queues[queue].pointee.destination)
        queues.takeOut(index)
        let wasKept = moveToDeadLetters(index, &move, origin: origin, reason: reason)
        if !wasKept, isKeptOtherwise { return chargeForSteps(queues.putBack(index)) }
        if wasKept {
            counters.messagesDeadLettered &+= 1
        } else {
            counters.messagesDropped &+= 1
            notice(.messagesDropped, "1 of \(nameText(origin)) (\(reason)): no dead-letter destination took it")
        }
        freeEntry(index)
        readBackIfFew(queue)
    }

    /// Writes the canonical name of a queue's dead-letter destination to `scratch.name`. Nil where it has none, or is its
    /// own.
    private mutating func deadLetterName(_ index: Index<Queue>) -> (
        name: UnsafeRawBufferPointer, kind: DestinationClass
    )? {
        let queue = queues[index]
        let origin = nameOf(queue.pointee.destination)
        // The queue of a topic's subscription has no name, and one that is too long cannot be named as the origin.
        guard origin.count > 0, visible(origin).count <= limits.destinationNameByteCountMax else { return nil }
        var parsed: DestinationName?
        if queue.pointee.deadLetter != 0 {
            // Of the same host.
            let target = UnsafeRawBufferPointer(
                start: memory.blocks.base(queue.pointee.deadLetter), count: Int(queue.pointee.deadLetterByteCount))
            parsed = parseDeadLetterName(visible(target), of: origin)
        } else {
            var target = policies[queue.pointee.policy].deadLetterDestination
            if target.isEmpty { return nil }
            parsed = target.withUTF8 { parseDeadLetterName(UnsafeRawBufferPointer($0), of: origin) }
        }
        guard let parsed else { return nil }
        let name = UnsafeRawBufferPointer(start: scratch.name, count: parsed.byteCount)
        if name.count == origin.count, memcmp(name.baseAddress!, origin.baseAddress!, name.count) == 0 { return nil }
        return (name, parsed.kind)
    }

    /// - Parameter origin: dead letters stay with its host.
    private mutating func parseDeadLetterName(
        _ text: UnsafeRawBufferPointer, of origin: UnsafeRawBufferPointer
    ) -> DestinationName? {
        try? DestinationName.parse(
            text, bareNamePrefix: "", byteCountMax: limits.destinationNameByteCountMax,
            levelCountMax: limits.destinationLevelCountMax, owner: { "" },
            host: UnsafeRawBufferPointer(rebasing: origin.prefix(HostName.prefixByteCount(origin))), into: scratch.name)
    }

    /// The dead-letter destination of a queue, made on first use. None: it has none, or there is no room for it.
    mutating func deadLetterTarget(_ index: Index<Queue>) -> Index<Destination> {
        guard let (name, kind) = deadLetterName(index) else { return .none }
        let target = findDestination(name)
        if !target.isNone { return target }
        guard makeRoom(name, isQueue: kind == .queue, isUnused: true) else { return .none }
        switch kind {
        case .queue: return makeQueue(name, isTemporary: false)
        case .topic: return makeTopic(name, isPattern: false)
        case .pattern, .queuePattern, .temporaryQueue, .temporaryTopic, .replyQueue, .replyTopic: return .none
        }
    }

    private mutating func moveToDeadLetters(
        _ index: Index<Entry>, _ move: inout DeadLetterMove, origin: UnsafeRawBufferPointer, reason: StaticString
    ) -> Bool {
        let target = deadLetterTarget(queues[index].pointee.queue)
        if target.isNone { return false }
        // The message gains two lines that say where it was and why it left.
        var old = memory.stored(queues[index].pointee.message, identity: queues[index].pointee.identity, expiresAt: 0)
        old.removeDestination()
        var extra = FrameWriter(at: scratch.key)
        extra.write("original-destination:")
        let written = visible(origin)
        extra.writeEscaped(written.baseAddress!, written.count, version: .v1_2)
        extra.write("\ndead-letter-reason:")
        extra.write(reason)
        extra.write("\n")
        let lines = UnsafeRawBufferPointer(start: scratch.key, count: extra.cursor - scratch.key)
        var isPlain = old.isPlain
        for byte in written where byte == UInt8(ascii: "\\") || byte == UInt8(ascii: ":") { isPlain = false }
        let block = memory.store(
            Message(
                headers: old.headers, headersByteCount: old.headersByteCount, body: old.body,
                bodyByteCount: old.bodyByteCount, isPlain: isPlain, identity: old.identity, expiresAt: 0),
            extra: lines)
        if block == 0 { return false }
        defer { memory.blocks.release(block) }
        var message = memory.stored(block, identity: old.identity, expiresAt: 0)
        message.isPersistent = old.isPersistent
        // Else a client could fill any number of queues by way of dead letters.
        let holder = queues[queues[index].pointee.queue].pointee.holder
        switch destinations[target].pointee.kind {
        case .queue:
            let queue = queues.handle(destinations[target].pointee.queue)
            let wasEmpty = queues[queue.index].pointee.messageCount == 0
            // It drives no other out: two queues could send each other theirs for ever.
            guard queues.hasRoom(queue.index, byteCount: message.contentByteCount), enqueue(queue.index, message) else {
                return false
            }
            if wasEmpty { hold(queue, holder) }
            return true
        case .remoteQueue:
            forwardDeadLetter(target, message, of: holder, &move)
            return true
        case .topic:
            guard destinations[target].pointee.isSequenced else {
                publish(target, message)
                return true
            }
            if Int(destinations[target].pointee.owner) == self.index { return sequence(target, message, .none) == nil }
            forwardDeadLetter(target, message, of: holder, &move)
            return true
        case .pattern, .subscriptionQueue: return false
        }
    }
}

/// A message whose way to its dead-letter destination begins later: when the group that is open has ended, or there is room.
struct DueDeadLetter {
    var entry: Handle<Entry>
    var reason: StaticString
    var isKeptOtherwise: Bool
    /// The move does not count unless this one does. 0: there is none.
    var transaction: UInt64 = 0
}

/// A message on its way to its dead-letter destination.
struct DeadLetterMove {
    /// Its queue's log has it: the log of another worker that gets it and this one have parts of one transaction.
    var mayHaveParts = false
    /// The transaction. 0: there is none.
    var transaction: UInt64 = 0
}
