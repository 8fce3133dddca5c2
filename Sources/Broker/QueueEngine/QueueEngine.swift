import Slabs

/// The queues of one worker: their messages, in order, and their consumers, in turn.
///
/// It owns the records of queues, messages in queues (entries) and consumers, and keeps count of who fills which queue. It
/// keeps these rules:
///
/// - a queue's counts are those of its lists;
/// - `enqueue` takes no more than the queue's limits, room that was promised included; who promises room asks `hasRoom`;
/// - an entry is either ready or with one consumer, and a consumer has no more than its prefetch;
/// - consumers with free prefetch take turns.
///
/// Consumers and publishers are names to it: it sends nothing, and knows neither sessions nor other workers. `Shard` asks
/// `next` what to do, does it, and asks again. What depends on a queue elsewhere (whether its destination is idle, publishers
/// that wait for room) is brought up to date by the caller, after each call that adds or removes entries or consumers.
struct QueueEngine<Order: ReadyOrder>: ~Copyable {
    // Of this folder's files only: see HouseRulesTests.
    var queueRecords: Slab<Queue>
    var entryRecords: Slab<Entry>
    var consumerRecords: Slab<Consumer>
    var cursorRecords: Slab<Cursor>
    /// Of selective consumers; a cold path, so a dictionary does.
    var cursorsByConsumer: [Index<Consumer>: Index<Cursor>] = [:]
    var holders = QueueHolders()
    var nextOrder: UInt64 = 1
    /// The next message for this queue takes room that was kept for it, so it has room. What else is there may count as more
    /// since then: in the log alone each message counts as up to 63 bytes more than it is.
    var granting = Index<Queue>.none
    /// Timers of queues that may be idle too long. They fire when nothing else happens, and are no work of anybody's.
    var idleTimerCount = 0

    init(queueCountMax: Int, entryCountMax: Int, consumerCountMax: Int) throws(SlabError) {
        let queues = try Slab<Queue>(recordCountMax: queueCountMax)
        let entries = try Slab<Entry>(recordCountMax: entryCountMax)
        let consumers = try Slab<Consumer>(recordCountMax: consumerCountMax)
        let cursors = try Slab<Cursor>(recordCountMax: consumerCountMax)
        queueRecords = queues
        entryRecords = entries
        consumerRecords = consumers
        cursorRecords = cursors
    }

    // MARK: Records

    subscript(_ index: Index<Queue>) -> UnsafePointer<Queue> {
        @inline(__always) get { UnsafePointer(queueRecords[index]) }
    }
    subscript(_ index: Index<Entry>) -> UnsafePointer<Entry> {
        @inline(__always) get { UnsafePointer(entryRecords[index]) }
    }
    subscript(_ index: Index<Consumer>) -> UnsafePointer<Consumer> {
        @inline(__always) get { UnsafePointer(consumerRecords[index]) }
    }

    @inline(__always) func handle(_ index: Index<Queue>) -> Handle<Queue> { queueRecords.handle(index) }
    @inline(__always) func handle(_ index: Index<Entry>) -> Handle<Entry> { entryRecords.handle(index) }

    /// nil: it has ended.
    @inline(__always)
    func find(_ handle: Handle<Queue>) -> UnsafePointer<Queue>? {
        queueRecords.find(handle).map { UnsafePointer($0) }
    }

    /// The entry is there, and no consumer has it.
    func isReady(_ handle: Handle<Entry>) -> Bool { entryRecords.find(handle)?.pointee.state == .ready }

    @inline(__always) func isLive(_ handle: Handle<Queue>) -> Bool { queueRecords.isLive(handle) }
    @inline(__always) func isLive(_ handle: Handle<Consumer>) -> Bool { consumerRecords.isLive(handle) }

    /// Queues that there are, those of acknowledging topic subscriptions included.
    @inline(__always) var liveCount: Int { queueRecords.liveCount }
    /// Messages in queues, with consumers or not.
    @inline(__always) var entryCount: Int { entryRecords.liveCount }
    var consumerCount: Int { consumerRecords.liveCount }

    func nextLive(after index: Index<Queue>) -> Index<Queue> { queueRecords.nextLive(after: index) }
    func nextEntry(after index: Index<Entry>) -> Index<Entry> { entryRecords.nextLive(after: index) }
    /// The entry behind one that is ready, or that the same consumer has. None: it is the last.
    func next(after index: Index<Entry>) -> Index<Entry> { EntryList.next(after: index, in: entryRecords) }
    func next(after index: Index<Consumer>) -> Index<Consumer> { ConsumerChain.next(after: index, in: consumerRecords) }

    /// The publishers that wait for room in a queue, in order. Who links them owns them; the queue keeps their list.
    @inline(__always)
    func waiting(for index: Index<Queue>) -> UnsafeMutablePointer<List<WaitLink>> {
        let offset = MemoryLayout<Queue>.offset(of: \Queue.blocked)!
        return (UnsafeMutableRawPointer(queueRecords[index]) + offset).assumingMemoryBound(to: List<WaitLink>.self)
    }

    /// Gives the memory of records that are gone back to the kernel.
    mutating func trimConsumers() {
        consumerRecords.trim()
        cursorRecords.trim()
    }
    mutating func trimEntries() { entryRecords.trim() }
    mutating func trimQueues() { queueRecords.trim() }

    // MARK: Queues

    /// A queue for a destination, with the limits of its policy. None: there are as many as there may be.
    mutating func make(
        for destination: Index<Destination>, _ policy: borrowing DestinationPolicy, at policyIndex: UInt32,
        storage: StoragePolicy = .never, clock: UInt32
    ) -> Index<Queue> {
        let index: Index<Queue> = queueRecords.allocate().index
        if index.isNone { return .none }
        let queue = queueRecords[index]
        queue.pointee.destination = destination
        queue.pointee.policy = policyIndex
        queue.pointee.messageCountMax = UInt32(clamping: policy.queueMessageCountMax)
        queue.pointee.byteCountMax = UInt64(policy.queueByteCountMax)
        queue.pointee.deliveryCountMax = UInt32(clamping: policy.deliveryCountMax)
        queue.pointee.messageMillisecondsMax = UInt64(policy.messageMillisecondsMax)
        queue.pointee.overflow = policy.overflow
        queue.pointee.storage = storage
        queue.pointee.mayBeCold = storage != .never
        queue.pointee.lastUsed = clock
        return index
    }

    /// The queue of an acknowledging topic subscription takes so much, and what comes then is refused.
    mutating func bound(_ index: Index<Queue>, byteCountMax: UInt64) {
        queueRecords[index].pointee.byteCountMax = byteCountMax
        queueRecords[index].pointee.overflow = .reject
    }

    /// The queue is that of a subscription that reads the log of a topic.
    mutating func setIntake(_ intake: Index<LogIntake>, of index: Index<Queue>) {
        queueRecords[index].pointee.intake = intake
    }

    /// Makes a queue's limits as tight as its first user asked for. `deadLetter` are the bytes of the name.
    mutating func tighten(
        _ index: Index<Queue>, _ request: QueueRequest, deadLetter: UnsafeRawPointer, _ memory: inout MemoryBudget
    ) {
        let queue = queueRecords[index]
        queue.pointee.messageCountMax = min(queue.pointee.messageCountMax, UInt32(clamping: request.messageCountMax))
        queue.pointee.byteCountMax = min(queue.pointee.byteCountMax, request.byteCountMax)
        if request.messageMillisecondsMax != .max {
            let milliseconds = queue.pointee.messageMillisecondsMax
            queue.pointee.messageMillisecondsMax =
                milliseconds == 0 ? request.messageMillisecondsMax : min(milliseconds, request.messageMillisecondsMax)
        }
        if request.hasOverflow { queue.pointee.overflow = request.overflow }
        if request.deadLetterByteCount > 0 {
            let byteCount = Int(request.deadLetterByteCount)
            let block = memory.blocks.allocate(byteCount: byteCount)
            guard block != 0 else { return }
            memory.blocks.base(block).copyMemory(from: deadLetter, byteCount: byteCount)
            queue.pointee.deadLetter = block
            queue.pointee.deadLetterByteCount = UInt16(byteCount)
        }
    }

    /// From now on the queue takes no message and counts against nobody's limit. Its records stay until `remove`.
    mutating func close(_ index: Index<Queue>) {
        queueRecords[index].pointee.isClosed = true
        updateHold(index)
    }

    /// Ends a closed queue that has neither messages nor consumers.
    mutating func remove(_ index: Index<Queue>, _ memory: inout MemoryBudget) {
        let queue = queueRecords[index]
        invariant(
            queue.pointee.isClosed && queue.pointee.ready.isEmpty && queue.pointee.consumers.isEmpty,
            "a queue that ends is closed and empty")
        if queue.pointee.deadLetter != 0 { memory.blocks.release(queue.pointee.deadLetter) }
        queueRecords.free(index)
    }

    /// It is in use now (milliseconds of the clock).
    @inline(__always)
    mutating func use(_ index: Index<Queue>, clock: UInt32) { queueRecords[index].pointee.lastUsed = clock }

    // MARK: Room

    /// Whether the queue takes another message of so many bytes without its policy having to act.
    @inline(__always)
    func hasRoom(_ index: Index<Queue>, byteCount: Int) -> Bool {
        hasFreeRoom(index, byteCount: byteCount) || index == granting
    }

    /// Whether room for a message of so many bytes may be given to one who waits for it. What was kept for the message that
    /// comes next is that message's alone, also when it has expired or was refused and `granting` still names the queue.
    @inline(__always)
    func hasFreeRoom(_ index: Index<Queue>, byteCount: Int) -> Bool {
        let queue = queueRecords[index]
        return queue.pointee.messageCount < queue.pointee.messageCountMax
            && queue.pointee.byteCount &+ UInt64(truncatingIfNeeded: byteCount) <= queue.pointee.byteCountMax
    }

    /// Keeps room for a message of so many bytes: it counts as if it were there.
    mutating func reserve(_ index: Index<Queue>, byteCount: Int) {
        queueRecords[index].pointee.messageCount += 1
        queueRecords[index].pointee.byteCount += UInt64(byteCount)
    }

    /// Room that was kept for a message is free again.
    mutating func unreserve(_ index: Index<Queue>, byteCount: Int) {
        queueRecords[index].pointee.messageCount -= 1
        queueRecords[index].pointee.byteCount -= UInt64(byteCount)
    }

    // MARK: Entries

    /// Messages from now on come behind those with a lower place.
    mutating func beginOrder(at place: UInt64) { nextOrder = max(nextOrder, place) }

    /// Puts a message into a queue. `extra` are header lines that go in front of the message's own; they must be plain.
    ///
    /// - Parameter isStored: it goes to the log, too.
    @inline(__always)
    mutating func enqueue(
        _ index: Index<Queue>, _ message: Message, extra: UnsafeRawBufferPointer, isStored: Bool = false,
        _ memory: inout MemoryBudget, _ timers: inout TimerWheel, at moment: Moment
    ) -> Admission {
        let queue = queueRecords[index]
        let expiresAt = expiry(of: message, in: index, at: moment)
        if expiresAt != 0, expiresAt <= moment.wallMilliseconds { return .expired }
        guard hasRoom(index, byteCount: message.contentByteCount) else { return .full }
        granting = .none
        let handle: Handle<Entry> = entryRecords.allocate()
        if handle.isNone { return .noMemory }
        let block = isStored ? memory.storeForLog(message, extra: extra) : memory.store(message, extra: extra)
        guard block != 0 else {
            entryRecords.free(handle.index)
            return .noMemory
        }
        fill(handle.index, index, message, block, expiresAt: expiresAt, isStored: isStored, clock: moment.clock)
        Order.insert(handle.index, into: &queue.pointee.ready, in: entryRecords)
        if !queue.pointee.cursors.isEmpty { offer(handle.index) }
        if expiresAt != 0 { scheduleExpiry(handle, &timers, at: moment) }
        return .queued(handle.index)
    }

    /// When the message's time is over, by its own wish and the queue's policy (wall-clock milliseconds). 0: never.
    @inline(__always)
    func expiry(of message: Message, in index: Index<Queue>, at moment: Moment) -> UInt64 {
        let queue = queueRecords[index]
        guard queue.pointee.messageMillisecondsMax != 0 else { return message.expiresAt }
        let latest = moment.wallMilliseconds &+ queue.pointee.messageMillisecondsMax
        return message.expiresAt == 0 ? latest : min(message.expiresAt, latest)
    }

    /// Makes an entry of a message that is in its block, ready and in no list. The queue counts it.
    @inline(__always)
    mutating func fill(
        _ entryIndex: Index<Entry>, _ index: Index<Queue>, _ message: Message, _ block: BlockIndex, expiresAt: UInt64,
        isStored: Bool, clock: UInt32
    ) {
        let queue = queueRecords[index]
        let entry = entryRecords[entryIndex]
        entry.pointee.queue = index
        entry.pointee.message = block
        entry.pointee.identity = message.identity
        entry.pointee.expiresAt = expiresAt
        entry.pointee.byteCount = UInt32(truncatingIfNeeded: message.contentByteCount)
        entry.pointee.isStored = isStored
        entry.pointee.order = nextOrder
        nextOrder &+= 1
        queue.pointee.messageCount &+= 1
        queue.pointee.byteCount &+= UInt64(entry.pointee.byteCount)
        queue.pointee.lastUsed = clock
        entry.pointee.state = .ready
    }

    /// Takes a ready entry out. It still counts, until `free` or `putBack`.
    @inline(__always)
    mutating func takeOut(_ index: Index<Entry>) {
        let queue = queueRecords[entryRecords[index].pointee.queue]
        if !queue.pointee.cursors.isEmpty { moveCursors(from: index) }
        queue.pointee.ready.remove(index, in: entryRecords)
    }

    /// Takes a ready entry out for a while, in which its time does not end: `putBack` follows.
    mutating func setAside(_ index: Index<Entry>) {
        takeOut(index)
        entryRecords[index].pointee.state = .leaving
    }

    /// An entry that is neither ready nor with a consumer leaves the broker.
    @inline(__always)
    mutating func free(_ index: Index<Entry>, _ memory: inout MemoryBudget, _ timers: inout TimerWheel) {
        let entry = entryRecords[index]
        let queue = queueRecords[entry.pointee.queue]
        queue.pointee.messageCount -= 1
        queue.pointee.byteCount -= UInt64(entry.pointee.byteCount)
        timers.cancel(entry.pointee.timer)
        memory.blocks.release(entry.pointee.message)
        entryRecords.free(index)
    }

    /// Puts an entry that was taken out back where it was, with the steps that it took to find the place.
    mutating func putBack(_ index: Index<Entry>) -> Int {
        let entry = entryRecords[index]
        let queue = queueRecords[entry.pointee.queue]
        entry.pointee.state = .ready
        entry.pointee.consumer = .none
        let stepCount = Order.putBack(index, into: &queue.pointee.ready, in: entryRecords)
        if !queue.pointee.cursors.isEmpty { offer(index) }
        return stepCount
    }

    /// Puts an entry back that a consumer let go.
    mutating func putBack(
        _ index: Index<Entry>, _ how: Return, wallMilliseconds: UInt64
    ) -> (outcome: ReturnedEntry, stepCount: Int) {
        let entry = entryRecords[index]
        switch how {
        case .unseen: if entry.pointee.deliveryCount > 0 { entry.pointee.deliveryCount -= 1 }
        case .failed:
            if entry.pointee.failureCount < .max { entry.pointee.failureCount += 1 }
            entry.pointee.isRedelivered = true
        case .seen: entry.pointee.isRedelivered = true
        }
        let stepCount = putBack(index)
        if entry.pointee.expiresAt != 0, entry.pointee.expiresAt <= wallMilliseconds { return (.expired, stepCount) }
        let failureCountMax = queueRecords[entry.pointee.queue].pointee.deliveryCountMax
        let isOver = failureCountMax != 0 && UInt32(entry.pointee.failureCount) >= failureCountMax
        return (how == .failed && isOver ? .failedTooOften : .ready, stepCount)
    }
}
