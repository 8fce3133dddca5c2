import Journal
import STOMP
import Schedules
import Slabs

// Messages that wait for their time (`DelayTable`). They are with the worker that owns the destination, also where that is a
// topic. Time is that of the wall clock. When it comes, a message goes where its SEND would have put it at once.
//
// A message for a queue keeps room in it: it counts against the queue's limits, and finds room when it is due. One that repeats
// keeps none, nor does one of an earlier life for which there is none any more. If it finds none when it is due, it is tried
// again: nobody is there who could be told.
extension Shard {
    // MARK: Holding

    /// A message for a topic of this name that is delayed is stored. (Topics store nothing themselves.)
    mutating func storesDelayed(_ name: UnsafeRawBufferPointer, isPersistent: Bool) -> Bool {
        guard store.isEnabled else { return false }
        switch policies[UInt32(policies.index(of: name))].storage {
        case .never: return false
        case .byHeader: return isPersistent
        case .always: return true
        }
    }

    /// Holds a message until it is due. False: no memory, or its queue has no room.
    ///
    /// - Parameter index: the queue that it is for. None: it is for a topic.
    mutating func holdDelayed(_ message: Message, for index: Index<Queue>) -> Bool {
        let line = scheduleLine(message)
        if !index.isNone, !takes(index, byteCount: message.contentByteCount - line.byteCount) { return false }
        queues.granting = .none
        let isStored =
            index.isNone
            ? storesDelayed(line.destination, isPersistent: message.isPersistent)
            : stores(index, isPersistent: message.isPersistent)
        let block = isStored ? memory.storeForLog(message) : memory.store(message)
        if block == 0 { return false }
        guard holdDelayed(block, message, line, for: index, isStored: isStored) else {
            memory.blocks.release(block)
            return false
        }
        counters.messagesDelayed &+= 1
        return true
    }

    /// The queue has room, or its oldest messages will make it, as for one that is not delayed: COMMIT has promised no less.
    mutating func takes(_ index: Index<Queue>, byteCount: Int) -> Bool {
        queues.hasRoom(index, byteCount: byteCount) || mayExceed(index, byteCount)
    }

    mutating func scheduleLine(_ message: Message) -> ScheduleLine {
        guard let line = ScheduleLine(message.headers, byteCount: message.headersByteCount) else {
            invariant(false, "a delayed message begins with the line that says when it is due")
            return ScheduleLine(
                Schedule(dueAt: 0, period: 0, repeats: 0), acceptedAt: 0, timeToLive: 0,
                cron: UnsafeRawBufferPointer(start: nil, count: 0),
                destination: UnsafeRawBufferPointer(start: nil, count: 0))
        }
        return line
    }

    private mutating func holdDelayed(
        _ block: BlockIndex, _ message: Message, _ line: ScheduleLine, for index: Index<Queue>, isStored: Bool
    ) -> Bool {
        let byteCount = message.contentByteCount - line.byteCount
        let keepsRoom = keepsRoom(line, byteCount, in: index)
        let held = delays.hold(
            block, message, for: index.isNone ? .none : queues.handle(index), dueAt: line.schedule.dueAt,
            byteCount: byteCount, isStored: isStored, keepsRoom: keepsRoom)
        if held.isNone { return false }
        if keepsRoom { keepRoom(in: index, byteCount: byteCount) }
        if isStored { keepDelayed(held) }
        armDelays()
        return true
    }

    /// The queue, if it is for one, keeps room for the message.
    mutating func keepsRoom(_ line: ScheduleLine, _ byteCount: Int, in index: Index<Queue>) -> Bool {
        !index.isNone && line.schedule.period == 0 && line.cron.count == 0
            && queues.hasRoom(index, byteCount: byteCount)
    }

    mutating func keepRoom(in index: Index<Queue>, byteCount: Int) {
        queues.reserve(index, byteCount: byteCount)
        queues.use(index, clock: clock)
        if queues[index].pointee.messageCount == 1 { updateIdle(queues[index].pointee.destination) }
    }

    // MARK: Due

    /// So many are given out in a turn.
    private static var releasesPerTurnMax: Int { 512 }
    /// The wall clock may be set: it is looked at so often.
    private static var waitMillisecondsMax: UInt64 { 60_000 }
    private static var retryMilliseconds: UInt64 { 250 }

    /// Makes sure that the earliest is looked at when it is due.
    mutating func armDelays() {
        guard !isDraining, let wakesAt = delays.wakesAt else { return }
        if delayTimer != 0 {
            if delayTimerAt <= wakesAt { return }
            timers.cancel(delayTimer)
        }
        let wait = min(wakesAt - min(wakesAt, wallMilliseconds), Self.waitMillisecondsMax)
        delayTimer = timers.schedule(at: now &+ wait &* 1_000_000, kind: TimerKind.delays.rawValue, owner: .none)
        delayTimerAt = wallMilliseconds &+ wait
    }

    mutating func delayTimerFired() {
        delayTimer = 0
        // What would be given out now nobody could take.
        if isDraining { return }
        for _ in 0..<Self.releasesPerTurnMax {
            let index = delays.earliest(by: wallMilliseconds)
            if index.isNone { break }
            release(index)
        }
        armDelays()
    }

    /// The earliest is due.
    private mutating func release(_ index: Index<DelayedMessage>) {
        let delayed = delays[index].pointee
        if delays.hasBlocked {
            let target = target(delayed)
            if let until = delays.blockedUntil(delayed, target, after: wallMilliseconds) {
                return delays.postponeEarliest(until: until, at: target)
            }
        }
        guard !delayed.queue.isNone else { return releaseToTopic(delayed) }
        guard let queue = queueOfDelayed(index, delayed) else { return }
        releaseToQueue(delays[index].pointee, queue)
    }

    /// The earliest is tried again, and until then nothing else of its queue or topic.
    private mutating func postpone(_ delayed: DelayedMessage) {
        delays.postponeEarliest(until: wallMilliseconds &+ Self.retryMilliseconds, at: target(delayed))
    }

    private mutating func target(_ delayed: DelayedMessage) -> DelayTarget {
        guard delayed.queue.isNone else { return DelayTarget(queue: delayed.queue) }
        let line = scheduleLine(memory.stored(delayed.message, identity: 0, expiresAt: 0))
        return DelayTarget(queue: .none, topicHash: DestinationDirectory.hash(of: line.destination))
    }

    /// The queue of a message that is due, which keeps room for it. nil: there is none, and the message was postponed or
    /// dropped.
    private mutating func queueOfDelayed(
        _ index: Index<DelayedMessage>, _ delayed: DelayedMessage
    ) -> Index<Queue>? {
        if queues.isLive(delayed.queue), !queues[delayed.queue.index].pointee.isClosed { return delayed.queue.index }
        let line = scheduleLine(memory.stored(delayed.message, identity: 0, expiresAt: 0))
        let name = line.destination
        if begins(visible(name), with: "/reply-queue/") {
            counters.messagesDropped &+= 1
            notice(.messagesDropped, "1 of \(nameText(name)): the connection that owned it has ended")
            finishDelayed(delayed)
            return nil
        }
        let destination = queueForElsewhere(name)
        guard !destination.isNone, !destinations[destination].pointee.queue.isNone else {
            postpone(delayed)
            return nil
        }
        let queue = destinations[destination].pointee.queue
        let keepsRoom = keepsRoom(line, Int(delayed.byteCount), in: queue)
        delays.setQueue(queues.handle(queue), keepsRoom: keepsRoom, of: index)
        if keepsRoom { keepRoom(in: queue, byteCount: Int(delayed.byteCount)) }
        return queue
    }

    /// What a delayed message is when it is due: in its block, without the line.
    private mutating func dueMessage(_ delayed: DelayedMessage, _ line: ScheduleLine) -> Message {
        var message = memory.stored(delayed.message, identity: delayed.identity, expiresAt: delayed.expiresAt)
        message.headers += line.byteCount
        message.headersByteCount -= line.byteCount
        message.options = delayed.mayHaveBeenDelivered ? .mayHaveBeenDelivered : []
        if line.timeToLive != 0 { message.expiresAt = wallMilliseconds &+ line.timeToLive }
        if line.schedule.period != 0 || line.cron.count > 0 { message.identity = takeIdentity() }
        return message
    }

    private mutating func releaseToQueue(_ delayed: DelayedMessage, _ index: Index<Queue>) {
        let line = scheduleLine(memory.stored(delayed.message, identity: 0, expiresAt: 0))
        let message = dueMessage(delayed, line)
        if delayed.keepsRoom {
            queues.unreserve(index, byteCount: Int(delayed.byteCount))
            queues.granting = index
        }
        defer { queues.granting = .none }
        if queues[index].pointee.overflow == .dropOldest { dropOldest(index, byteCount: message.contentByteCount) }
        let next = nextBlock(delayed, line, message)
        guard takes(index, byteCount: message.contentByteCount), next != 0 || nextLine(delayed, line) == nil else {
            if next != 0 { memory.blocks.release(next) }
            if delayed.keepsRoom { queues.reserve(index, byteCount: Int(delayed.byteCount)) }
            return postpone(delayed)
        }
        let place = placeOfDelayed(delayed)
        let group = beginGroup()
        if enqueue(index, message) {
            finishDelayed(delayed, next, for: index)
        } else {
            if next != 0 { memory.blocks.release(next) }
            if delayed.keepsRoom { queues.reserve(index, byteCount: Int(delayed.byteCount)) }
            postpone(delayed)
        }
        endMove(group, from: place)
        roomIsFree(queues.handle(index))
    }

    private mutating func releaseToTopic(_ delayed: DelayedMessage) {
        let line = scheduleLine(memory.stored(delayed.message, identity: 0, expiresAt: 0))
        let message = dueMessage(delayed, line)
        let next = nextBlock(delayed, line, message)
        let topic = topicOfDelayed(line.destination)
        let isFull =
            topicsFillMemory || !memory.hasBulk(message.contentByteCount)
            || !topic.isNone && shardCount > 1 && fabric.isFullForTopics(anyOf: destinations.peers(of: topic))
        guard !topic.isNone, !isFull, next != 0 || nextLine(delayed, line) == nil,
            publishesAtOnce(delayed, to: topic)
        else {
            if next != 0 { memory.blocks.release(next) }
            return postpone(delayed)
        }
        let place = placeOfDelayed(delayed)
        let copies = beginCopies(delayed, for: topic)
        let group = beginGroup()
        var isTaken = true
        if destinations[topic].pointee.isSequenced {
            isTaken = sequence(topic, message, .none) == nil
        } else {
            publish(topic, message)
        }
        if isTaken {
            finishDelayed(delayed, next, for: .none)
        } else {
            if next != 0 { memory.blocks.release(next) }
            postpone(delayed)
        }
        endCopies(copies)
        endMove(group, from: place, copies: copies)
    }

    private mutating func topicOfDelayed(_ name: UnsafeRawBufferPointer) -> Index<Destination> {
        let found = findDestination(name)
        if !found.isNone { return found }
        guard makeRoomForOther(isUnused: true), makeRoomForMatches() else { return .none }
        return makeTopic(name, isPattern: false)
    }

    // MARK: Again

    /// When it is due again. nil: never, or not before it expires.
    private mutating func nextLine(_ delayed: DelayedMessage, _ line: ScheduleLine) -> ScheduleLine? {
        guard let next = line.schedule.next(now: wallMilliseconds, cron: line.cron),
            delayed.expiresAt == 0 || next.dueAt < delayed.expiresAt
        else { return nil }
        var line = line
        line.schedule = next
        return line
    }

    /// The block of the message with the time when it is due again. 0: it is not, or there is no memory.
    private mutating func nextBlock(_ delayed: DelayedMessage, _ line: ScheduleLine, _ due: Message) -> BlockIndex {
        guard let next = nextLine(delayed, line) else { return 0 }
        let byteCount = next.write(to: scratch.headers)
        let extra = UnsafeRawBufferPointer(start: scratch.headers, count: byteCount)
        var message = due
        message.options = .isDelayed
        return delayed.isStored ? memory.storeForLog(message, extra: extra) : memory.store(message, extra: extra)
    }

    /// The earliest was given out, or dropped: it goes, and where it repeats it is held again.
    private mutating func finishDelayed(
        _ delayed: DelayedMessage, _ next: BlockIndex = 0, for index: Index<Queue> = .none
    ) {
        if delayed.isStored { acknowledgeDelayed(delayed) }
        delays.removeEarliest(&memory)
        if next == 0 { return }
        let message = memory.stored(next, identity: delayed.identity, expiresAt: delayed.expiresAt)
        let isHeld = holdDelayed(next, message, scheduleLine(message), for: index, isStored: delayed.isStored)
        invariant(isHeld, "a message that is due again takes the place that it had")
    }

    // MARK: The end

    /// The broker ends. Delayed messages that are stored are not lost: their queues keep no room for them any more. Of the
    /// others those that a queue keeps room for are reported with it, and the rest here.
    mutating func reportUndeliveredDelays() {
        var lostCount = 0
        var index = delays.nextLive(after: .none)
        while !index.isNone {
            let delayed = delays[index].pointee
            if delayed.isStored, !store.hasFailed {
                if delayed.keepsRoom, queues.isLive(delayed.queue) {
                    queues.unreserve(delayed.queue.index, byteCount: Int(delayed.byteCount))
                    roomIsFree(delayed.queue)
                    delays.setQueue(delayed.queue, keepsRoom: false, of: index)
                }
            } else if !delayed.keepsRoom || !queues.isLive(delayed.queue) {
                lostCount += 1
            }
            index = delays.nextLive(after: index)
        }
        guard lostCount > 0 else { return }
        counters.messagesDropped &+= UInt64(lostCount)
        var notice = Notice(kind: .undelivered, text: "delayed messages of topics, or that repeat")
        notice.messageCount = lostCount
        append(notice)
    }
}
