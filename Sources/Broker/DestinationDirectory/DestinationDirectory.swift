import Glibc
import Slabs

/// The destinations that one worker knows: found by name, made and removed, matched with patterns, forgotten when nobody
/// needs them.
///
/// It owns their records and says to the others what depends on them:
///
/// - A name leads to at most one destination. The bytes of a name are in a block, which goes with the record.
/// - A topic has every pattern that matches it among its `matches`, and each of these the topic (`PatternMatches`).
/// - An idle destination is on one of two lists, of those with a queue or of all others (`IdleDestinations`). They do not
///   share their room, for queues keep theirs as long as they hold messages.
/// - A destination has a queue, or loses it, only while it is not idle.
///
/// It does not know what a queue holds: whether it is in use is told by the caller, and a destination's queue is removed
/// before the destination. Searches return how many steps they took, for the caller to charge.
struct DestinationDirectory: ~Copyable {
    private var records: Slab<Destination>
    private var names: NameTable
    private var matches = PatternMatches()
    /// Destinations with a queue.
    private var queueCount = 0
    /// Queues of acknowledging topic subscriptions; they do not count as destinations.
    private var subscriptionQueueCount = 0
    private var idle = IdleDestinations()
    private let worker: Int
    private let workerCount: Int
    /// For queues, and again for all others.
    private let countMax: Int

    init(_ limits: Limits, worker: Int, of workerCount: Int, seed: UInt64) throws(SlabError) {
        // Interest of other workers is not refused: each may name as many destinations as this one.
        records = try Slab(
            recordCountMax: limits.destinationCountMax * (workerCount + 2) + limits.subscriptionCountMax)
        names = NameTable(seed: seed)
        self.worker = worker
        self.workerCount = workerCount
        countMax = limits.destinationCountMax
    }

    // MARK: Records

    /// Where a live record is: to be read, for only this part changes it.
    subscript(_ index: Index<Destination>) -> UnsafePointer<Destination> {
        @inline(__always) get { UnsafePointer(records[index]) }
    }
    /// To be changed, by this folder's files alone: see HouseRulesTests.
    subscript(changing index: Index<Destination>) -> UnsafeMutablePointer<Destination> { records[index] }

    @inline(__always)
    func find(_ handle: Handle<Destination>) -> UnsafePointer<Destination>? {
        guard let record = records.find(handle) else { return nil }
        return UnsafePointer(record)
    }

    @inline(__always)
    func isLive(_ handle: Handle<Destination>) -> Bool { records.isLive(handle) }

    @inline(__always)
    func handle(_ index: Index<Destination>) -> Handle<Destination> { records.handle(index) }

    func nextLive(after index: Index<Destination>) -> Index<Destination> { records.nextLive(after: index) }

    var liveCount: Int { records.liveCount }

    mutating func trim() { records.trim() }

    // MARK: Names

    /// The destination of that canonical name; none where there is none.
    @inline(__always)
    func find(name: UnsafeRawBufferPointer) -> Index<Destination> {
        Index(names.find(name.baseAddress!, name.count))
    }

    /// Empty for the queue of a subscription. Valid until the destination is removed.
    @inline(__always)
    func name(of index: Index<Destination>, in memory: borrowing MemoryBudget) -> UnsafeRawBufferPointer {
        let record = records[index]
        // What nothing is read from need only be an address.
        if record.pointee.name == 0 { return UnsafeRawBufferPointer(start: UnsafeRawPointer(record), count: 0) }
        return UnsafeRawBufferPointer(
            start: UnsafeRawPointer(memory.blocks.base(record.pointee.name)), count: Int(record.pointee.nameByteCount))
    }

    /// The bound of the argument of `named(at:)`.
    var placeCount: Int { names.capacity }

    /// The destination at a place of the table of names, or none: for a walk over all that have one, in which none is made
    /// or removed.
    func named(at place: Int) -> Index<Destination> { Index(names.entry(place)) }

    /// Which worker holds a queue: the same for all workers, whatever their seeds.
    @inline(__always)
    func owner(ofQueue name: UnsafeRawBufferPointer) -> Int { Self.owner(ofQueue: name, workerCount: workerCount) }

    @inline(__always)
    static func owner(ofQueue name: UnsafeRawBufferPointer, workerCount: Int) -> Int {
        workerCount == 1 ? 0 : Int(hash(of: name) % UInt64(workerCount))
    }

    // MARK: Making and removing

    /// A topic or a pattern. A topic begins idle: the first subscription, here or elsewhere, makes it needed. None: no
    /// memory.
    mutating func makeTopic(
        _ name: UnsafeRawBufferPointer, isPattern: Bool, memory: inout MemoryBudget
    ) -> (index: Index<Destination>, stepCount: Int) {
        let index = make(name, isPattern ? .pattern : .topic, memory: &memory)
        if index.isNone { return (.none, 0) }
        if isPattern { return (index, matches.add(pattern: index, in: records, names: names, memory: memory)) }
        idle.add(index, in: records)
        return (index, matches.add(topic: index, in: records, memory: memory))
    }

    /// A destination that gets a queue of this worker next, or is removed.
    mutating func makeQueue(_ name: UnsafeRawBufferPointer, memory: inout MemoryBudget) -> Index<Destination> {
        make(name, .queue, memory: &memory)
    }

    /// The stand-in of a queue that another worker holds. It begins idle.
    ///
    /// - Parameters:
    ///   - blocks: its policy makes publishers wait for room.
    ///   - storage: which of its messages are stored.
    mutating func makeRemoteQueue(
        _ name: UnsafeRawBufferPointer, owner: Int, blocks: Bool, storage: StoragePolicy = .never,
        memory: inout MemoryBudget
    ) -> Index<Destination> {
        let index = make(name, .remoteQueue, memory: &memory)
        if index.isNone { return .none }
        records[index].pointee.owner = UInt16(owner)
        records[index].pointee.blocks = blocks
        records[index].pointee.storage = storage
        idle.add(index, in: records)
        return index
    }

    /// For the queue of an acknowledging topic subscription: it has no name, and is never idle.
    mutating func makeSubscriptionQueue() -> Index<Destination> {
        let created: Index<Destination> = records.allocate().index
        if created.isNone { return .none }
        records[created].pointee.kind = .subscriptionQueue
        subscriptionQueueCount += 1
        return created
    }

    private mutating func make(
        _ name: UnsafeRawBufferPointer, _ kind: DestinationKind, memory: inout MemoryBudget
    ) -> Index<Destination> {
        let created: Index<Destination> = records.allocate().index
        if created.isNone { return .none }
        let block = memory.blocks.allocate(byteCount: name.count)
        guard block != 0 else {
            records.free(created)
            return .none
        }
        let base = memory.blocks.base(block)
        memcpy(base, name.baseAddress!, name.count)
        let record = records[created]
        record.pointee.kind = kind
        record.pointee.owner = UInt16(worker)
        record.pointee.name = block
        record.pointee.nameByteCount = UInt16(name.count)
        names.insert(base, name.count, value: created.rawValue)
        return created
    }

    /// Removes a destination that nobody needs, and whose queue is gone.
    mutating func remove(_ index: Index<Destination>, memory: inout MemoryBudget) {
        let record = records[index]
        invariant(record.pointee.encodings.isEmpty, "a removed destination has no subscribers")
        invariant(record.pointee.queue.isNone, "a removed destination has no queue")
        idle.remove(index, in: records)
        matches.remove(index, in: records)
        record.pointee.bound.deallocate()
        if record.pointee.name != 0 {
            _ = names.remove(memory.blocks.base(record.pointee.name), Int(record.pointee.nameByteCount))
            memory.blocks.release(record.pointee.name)
        }
        if record.pointee.kind == .subscriptionQueue { subscriptionQueueCount -= 1 }
        records.free(index)
    }

    /// The destination has this queue from now on.
    mutating func attach(_ queue: Index<Queue>, to index: Index<Destination>, storage: StoragePolicy = .never) {
        invariant(!records[index].pointee.isIdle, "no queue comes to an idle destination")
        records[index].pointee.queue = queue
        records[index].pointee.storage = storage
        queueCount += 1
    }

    /// The destination's queue is gone.
    mutating func detachQueue(from index: Index<Destination>) {
        invariant(!records[index].pointee.isIdle, "no queue leaves an idle destination")
        records[index].pointee.queue = .none
        queueCount -= 1
    }

    // MARK: Temporary destinations

    /// The destination goes with the connection. It is not idle.
    mutating func makeTemporary(_ index: Index<Destination>, of session: UnsafeMutablePointer<Session>) {
        idle.remove(index, in: records)
        records[index].pointee.isTemporary = true
        session.pointee.temporaries.push(index, in: records)
    }

    /// The one that the session made before `index`; none after the first.
    func nextTemporary(after index: Index<Destination>) -> Index<Destination> {
        TemporaryStack.next(after: index, in: records)
    }

    /// It no longer goes with the connection. The caller says whether it is needed.
    mutating func endTemporary(_ index: Index<Destination>, of session: UnsafeMutablePointer<Session>) {
        let isFound = session.pointee.temporaries.remove(index, in: records)
        invariant(isFound, "a temporary destination is on its session's list")
        records[index].pointee.isTemporary = false
    }

    // MARK: Subscriptions

    mutating func addSubscription(to index: Index<Destination>) { records[index].pointee.subscriptionCount += 1 }

    /// Returns whether it was the last one here of a topic that other workers were asked to send: they are to be told.
    mutating func removeSubscription(from index: Index<Destination>) -> Bool {
        let record = records[index]
        record.pointee.subscriptionCount -= 1
        guard record.pointee.subscriptionCount == 0, record.pointee.interest != .none else { return false }
        record.pointee.interest = .none
        return true
    }

    /// The encodings of the destination's subscribers; their links are in their own records.
    subscript(encodingsOf index: Index<Destination>) -> EncodingChain {
        get { records[index].pointee.encodings }
        set { records[index].pointee.encodings = newValue }
    }

    /// A topic's messages go to the queue of an acknowledging subscription from now on. Returns its place among those.
    mutating func bind(
        _ queue: Index<Destination>, of subscription: Index<Subscription>, to topic: Index<Destination>
    ) -> UInt32 {
        records[topic].pointee.bound.append(BoundQueue(destination: queue, subscription: subscription))
    }

    /// Returns the one that has come to the place; nil: none has.
    mutating func unbind(at place: UInt32, from topic: Index<Destination>) -> BoundQueue? {
        records[topic].pointee.bound.swapRemove(at: place)
    }

    /// Has subscriptions that acknowledge: the topic's messages stay in their queues.
    @inline(__always)
    func keepsMessages(_ index: Index<Destination>) -> Bool {
        let record = records[index]
        if record.pointee.bound.count > 0 { return true }
        for i in 0..<record.pointee.matches.count
        where records[record.pointee.matches[i].destination].pointee.bound.count > 0 { return true }
        return false
    }

    // MARK: Other workers

    /// Other workers are to be asked for what they publish to the topic or pattern. False: they have been asked.
    mutating func register(_ index: Index<Destination>) -> Bool {
        let record = records[index]
        guard record.pointee.interest == .none else { return false }
        record.pointee.interest = .registering
        record.pointee.interestEpoch &+= 1
        record.pointee.answersDue = UInt32(workerCount - 1)
        return true
    }

    /// Whether an answer is to the registration that is under way, and no earlier one.
    func awaitsAnswer(_ handle: Handle<Destination>, epoch: UInt32) -> Bool {
        guard let record = records.find(handle) else { return false }
        return record.pointee.interest == .registering && record.pointee.interestEpoch == epoch
    }

    /// Another worker has agreed. Returns whether all have.
    mutating func agree(to index: Index<Destination>) -> Bool {
        let record = records[index]
        record.pointee.answersDue -= 1
        guard record.pointee.answersDue == 0 else { return false }
        record.pointee.interest = .registered
        return true
    }

    /// SUBSCRIBEs that wait for the registration; their links are in their own records.
    subscript(waitingFor index: Index<Destination>) -> Chain<WaitLink> {
        get { records[index].pointee.waiting }
        set { records[index].pointee.waiting = newValue }
    }

    /// Another worker has subscribers, or has no more.
    mutating func setRemote(_ hasSubscribers: Bool, of peer: Int, to index: Index<Destination>) {
        records[index].pointee.remote.set(peer, hasSubscribers)
    }

    /// The workers that hear of what is published to the topic, by its own name or a pattern.
    @inline(__always)
    func peers(of index: Index<Destination>) -> PeerSet {
        let record = records[index]
        var peers = record.pointee.remote
        for i in 0..<record.pointee.matches.count {
            peers.formUnion(records[record.pointee.matches[i].destination].pointee.remote)
        }
        return peers
    }

    // MARK: Room

    var patternCount: Int { matches.patternCount }
    /// Pairs of a topic and a pattern that matches it.
    var matchCount: Int { matches.count }

    /// There may be another queue of this worker. False: `oldestIdleQueue` may make way.
    var hasRoomForQueue: Bool { queueCount - subscriptionQueueCount < countMax }

    /// None: all are needed.
    var oldestIdleQueue: Index<Destination> { idle.oldestQueue }

    /// Topics, patterns, and stand-ins of other workers' queues. (A queue that is just being made counts as well.)
    private var otherCount: Int { records.liveCount - queueCount }

    /// Forgets topics and other workers' queues that nobody needs until there may be one more. False: all are needed.
    mutating func makeRoomForOther(memory: inout MemoryBudget) -> Bool {
        while otherCount >= countMax {
            let oldest = idle.oldestOther
            if oldest.isNone { return false }
            remove(oldest, memory: &memory)
        }
        return true
    }

    /// It was made beyond the limit, and so far nobody needs it.
    func isOneTooMany(_ index: Index<Destination>) -> Bool {
        let record = records[index]
        return record.pointee.isIdle && record.pointee.queue.isNone && otherCount > countMax
    }

    /// Forgets topics nobody needs until patterns and topics match so few times that there may be another.
    mutating func makeRoomForMatches(
        memory: inout MemoryBudget
    ) -> (hasRoom: Bool, removedCount: Int, stepCount: Int) {
        let matchCountMax = countMax * Limits.matchesPerDestinationMax
        var candidate = matches.count >= matchCountMax ? idle.oldestOther : .none
        var (removedCount, stepCount) = (0, 0)
        while !candidate.isNone, matches.count >= matchCountMax {
            let next = IdleList.next(after: candidate, in: records)
            if records[candidate].pointee.matches.count > 0 {
                remove(candidate, memory: &memory)
                removedCount += 1
            }
            candidate = next
            stepCount += 1
        }
        return (matches.count < matchCountMax, removedCount, stepCount)
    }

    // MARK: Who needs it

    /// Whether anything but its queue depends on the destination: subscriptions, or who waits for it.
    @inline(__always)
    func isInUse(_ index: Index<Destination>) -> Bool {
        let record = records[index]
        return record.pointee.subscriptionCount != 0 || !record.pointee.remote.isEmpty
            || record.pointee.interest != .none || !record.pointee.encodings.isEmpty || !record.pointee.waiting.isEmpty
            || record.pointee.keepsMessages
    }

    /// To be called whenever a reason to keep the destination came or went. A pattern that nobody needs is removed. Returns
    /// the queue that has become idle with its destination; none: there is none.
    ///
    /// - Parameter isNeeded: it is temporary, or it or its queue is in use.
    mutating func updateIdle(
        _ index: Index<Destination>, isNeeded: Bool, memory: inout MemoryBudget
    ) -> Index<Queue> {
        let record = records[index]
        if record.pointee.kind == .pattern {
            if !isNeeded { remove(index, memory: &memory) }
            return .none
        }
        guard isNeeded == record.pointee.isIdle else { return .none }
        if !isNeeded { idle.add(index, in: records) } else { idle.remove(index, in: records) }
        return isNeeded ? .none : record.pointee.queue
    }

    /// It is about to be removed.
    mutating func leaveIdle(_ index: Index<Destination>) { idle.remove(index, in: records) }

    /// How many are idle. nil: one is on their lists and does not say that it is idle.
    func auditIdle() -> Int? { idle.audit(in: records) }
}
