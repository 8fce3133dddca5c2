public import Journal
import STOMP
import Slabs

/// What became of something of an earlier life.
public enum RestoreOutcome: Sendable, Equatable {
    case restored
    /// `limits.message-memory-bytes` has no room for it.
    case noMemory
    /// `limits.queued-messages-max` or `limits.destinations-max` has no room for it.
    case tooMany
    /// `limits.retained-messages-max` has no room for it.
    case tooManyRetained
}

// What earlier lives of the broker left, before the first turn; and the end of the log with this one.
extension Shard {
    /// The worker that holds a queue: the same for all workers.
    public static func owner(ofQueue name: UnsafeRawBufferPointer, shardCount: Int) -> Int {
        DestinationDirectory.owner(ofQueue: name, workerCount: shardCount)
    }

    /// What was stored in earlier lives comes before all that comes now.
    mutating func beginLog() {
        queues.beginOrder(at: store.durablePosition)
        delays.beginOrder(at: store.durablePosition)
        pendings.beginLog(at: store.durablePosition)
    }

    // MARK: Restoring

    /// This life's log has room for the message, wherever it has to be written again. A record of 32 MiB or more is known
    /// roughly.
    public func canKeep(_ message: LiveMessage) -> Bool {
        store.options.canKeep(message.size.byteCount - message.size.excessMax)
    }

    /// A message that lives, of a queue that this shard holds. In any order; by order key is best.
    ///
    /// It is restored whatever the limits of its queue are now. What it points to is used during the call alone.
    public mutating func restore(_ message: RecoveredMessage) -> RestoreOutcome {
        invariant(store.isEnabled, "messages are restored to a store")
        if message.record.flags.contains(.isLogged) || message.record.flags.contains(.isRetained) {
            return restoreKept(message)
        }
        let place = StoredPlace(
            position: message.reference.position, orderKey: message.record.orderKey, worker: message.reference.worker,
            host: store.hosts.number(of: message.record.queueName), byteCount: UInt32(message.record.recordByteCount),
            earlierSegment: Int32(store.options.earlier?.index(of: message.reference) ?? -1))
        invariant(place.earlierSegment >= 0, "a restored message is in a segment of an earlier life")
        if message.record.flags.contains(.isDelayed) { return restoreDelayed(message, place) }
        if isOfEndedDurable(message.record.queueName) {
            store.countRestored(Int(place.byteCount), place.host)
            store.acknowledge(place)
            return .restored
        }
        guard let index = restoredQueue(message.record.queueName) else { return .tooMany }
        let restored = queues.restore(index, message, place, &memory, &timers, at: moment)
        if restored == .restored {
            store.countRestored(Int(place.byteCount), place.host)
            updateIdle(queues[index].pointee.destination)
        }
        return restored
    }

    /// What a queue that this shard holds was made with. Before its messages.
    public mutating func restore(_ queue: QueueRecord) -> RestoreOutcome {
        invariant(store.isEnabled, "queues are restored to a store")
        guard let index = restoredQueue(queue.queueName) else { return .tooMany }
        var request = QueueRequest()
        request.messageCountMax = queue.messageCountMax
        request.byteCountMax = queue.byteCountMax
        request.messageMillisecondsMax = queue.messageMillisecondsMax
        request.hasOverflow = queue.overflow != 0
        request.overflow = OverflowPolicy(rawValue: UInt8(truncatingIfNeeded: max(queue.overflow, 1) - 1)) ?? .reject
        request.deadLetterByteCount = UInt32(queue.deadLetterName.count)
        let deadLetter = queue.deadLetterName.baseAddress ?? UnsafeRawPointer(scratch.key)
        queues.tighten(index, request, deadLetter: deadLetter, &memory)
        keepArguments(of: index, request)
        // In this life's log, so that the segment that it was in may go.
        writeArguments(of: index)
        return .restored
    }

    /// Transactions of several workers that are complete, and of which no log says so yet. To one of the shards.
    public mutating func restore(transactions: [UInt64]) {
        for transaction in transactions { store.write(transactionEnd: transaction) }
    }

    mutating func restoredQueue(_ name: UnsafeRawBufferPointer) -> Index<Queue>? {
        var destination = findDestination(name)
        if destination.isNone {
            guard destinations.owner(ofQueue: name) == index, makeRoomForQueue() else { return nil }
            destination = makeQueue(name, isTemporary: false)
        }
        if destination.isNone || destinations[destination].pointee.queue.isNone { return nil }
        return destinations[destination].pointee.queue
    }

    // MARK: Arguments of queues

    /// The queue was made with these: they are stored with its first message.
    mutating func keepArguments(of index: Index<Queue>, _ request: QueueRequest) {
        guard queues[index].pointee.storage != .never, request.asksForAnything else { return }
        queueArguments[index] = QueueArguments(request: request, segment: nil)
    }

    mutating func writeArguments(of index: Index<Queue>) {
        guard !store.hasFailed, var arguments = queueArguments[index], arguments.segment == nil else { return }
        let queue = queues[index]
        var record = QueueRecord(queueName: nameOf(queue.pointee.destination))
        record.messageCountMax = arguments.request.messageCountMax
        record.byteCountMax = arguments.request.byteCountMax
        record.messageMillisecondsMax = arguments.request.messageMillisecondsMax
        record.overflow = arguments.request.hasOverflow ? UInt16(arguments.request.overflow.rawValue) + 1 : 0
        if queue.pointee.deadLetter != 0 {
            record.deadLetterName = UnsafeRawBufferPointer(
                start: memory.blocks.base(queue.pointee.deadLetter), count: Int(queue.pointee.deadLetterByteCount))
        }
        arguments.segment = store.write(queueMade: record)
        queueArguments[index] = arguments
    }

    /// The queue ends.
    mutating func forgetArguments(of index: Index<Queue>) {
        guard let arguments = queueArguments.removeValue(forKey: index), let segment = arguments.segment else { return }
        store.write(queueRemoved: nameOf(queues[index].pointee.destination))
        store.unpin(segment)
    }

    // MARK: The end

    /// All that was to be stored is durable, and the log says that it ended in order. To be called until it does. True: it
    /// does, or never will.
    mutating func endsStore() -> Bool {
        if store.hasFailed { return true }
        switch storeEnding {
        case .none:
            markDelivered()
            writeFinalOffsets()
            storeEnding = .writing
            store.hasWork = true
            return false
        case .writing:
            guard store.isDurable else { return waitForStore() }
            if forgetsDeliveries { store.endWithoutRecord() } else { store.writeCleanEnd() }
            storeEnding = .closing
            return false
        case .closing: return store.isDurable || waitForStore()
        }
    }

    /// Nothing but this life knows that messages in the log alone may have been delivered: in a life that left no log. The
    /// next one is to take all for such, as after a crash.
    private var forgetsDeliveries: Bool {
        guard cold.messageCount > 0, let earlier = store.options.earlier else { return false }
        return earlier.redeliveredLifeMax > earlier.segments.last?.name.life ?? 0
    }

    /// A disk that hangs is waited for so long; counted in checks, as `awaitOthers` does.
    private static var storeChecksMax: Int { 500 }
    /// A disk that is full, until the drain has taken its time, and for so many attempts at least.
    private static var storeChecksMin: Int { 25 }

    private mutating func waitForStore() -> Bool {
        store.syncSoon(now)
        storeChecks += 1
        let drainIsLong = clock &- drainSince >= UInt32(limits.drainMillisecondsMax)
        let isStuck = store.isStuck && drainIsLong && storeChecks > Self.storeChecksMin
        guard isStuck || storeChecks > Self.storeChecksMax else { return false }
        let unstored = unstoredCount()
        notice(
            .storageFailed,
            "the log of worker \(index) could not be ended in order, for the disk "
                + "\(isStuck ? "is full" : "does not answer"): \(store.staging.byteCount) bytes of records are not written, "
                + "\(unstored) messages among them; what was not confirmed is lost")
        return true
    }

    /// Messages that are to be stored, and are not on stable storage.
    private mutating func unstoredCount() -> Int {
        var count = 0
        var index = queues.nextEntry(after: .none)
        while !index.isNone {
            if queues[index].pointee.isStored {
                let place = memory.place(of: queues[index].pointee.message).pointee
                if place.earlierSegment < 0, place.position >= store.syncedPosition { count += 1 }
            }
            index = queues.nextEntry(after: index)
        }
        return count
    }

    /// Those that were delivered, and come back, may have been seen: the next life is to say so.
    private mutating func markDelivered() {
        var index = queues.nextLive(after: .none)
        while !index.isNone {
            var entry = queues[index].pointee.ready.first
            while !entry.isNone {
                if queues[entry].pointee.isStored, queues[entry].pointee.isRedelivered { countFailureOfStored(entry) }
                entry = queues.next(after: entry)
            }
            index = queues.nextLive(after: index)
        }
    }
}

/// What was asked of a queue when it was made.
struct QueueArguments {
    var request: QueueRequest
    /// The segment that its record is in. nil: it is not written yet.
    var segment: UInt32?
}

/// How far the log is with its end.
enum StoreEnding: BitwiseCopyable {
    case none
    /// What is left is being written.
    case writing
    /// The last record is.
    case closing
}
