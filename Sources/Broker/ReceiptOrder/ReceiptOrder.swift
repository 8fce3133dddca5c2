import Glibc
import Slabs

/// The order in which a session's frames are answered, and what they wait for.
///
/// A session's frames are applied in order here, but what they send to other workers takes effect there later. So a RECEIPT
/// that follows such frames first sends a barrier to each of these workers: messages between two workers stay in order, so
/// its answer says that everything before it was applied. Receipts leave in the order of their frames.
///
/// Whatever of a session waits is a `PendingOperation` in the session's list, in the order of the frames. One leaves when it
/// is the first, is carried out here (`isReady`), and three conditions are true of it:
///
/// 1. no other worker's answer is due,
/// 2. the log is durable up to the position that it depends on,
/// 3. whoever is asked has allowed it.
///
/// Without a log, and for a session that has stored nothing since its last RECEIPT, the position is 0; without somebody to ask
/// (`ReceiptConditions.none`) nobody is. Who writes the log tells where it is; with `ReceiptConditions.external` and no
/// log, positions are counted.
///
/// What holds: an operation is in its session's list until it leaves or the session ends; one that waits for a registration,
/// for room or for the log is in that list, too (`waitLink`), whose head the destination, the queue or this part has;
/// another worker's request for room is in no session's list. Positions are given in order, so the list of those that wait
/// for the log is, too.
///
/// Called by `Shard+Pending` and `Shard+Receipts`, and by those who wait, such as `Shard+Commit` and `Shard+QueueRoom`.
/// Of a session it keeps `pendings` and `remoteSet`.
struct ReceiptOrder: ~Copyable {
    private var pendings: Slab<PendingOperation>
    private var remoteSets: Slab<RemoteSet>
    private let conditions: ReceiptConditions
    /// The last position that was given.
    private var lastPosition: LogPosition = 0
    /// The log is durable up to here.
    private(set) var durablePosition: LogPosition = 0
    /// Those that wait for more of it, in the order of their positions.
    private var undurable = List<WaitLink>()

    init(sessionCountMax: Int, _ conditions: ReceiptConditions) throws(SlabError) {
        let pendings = try Slab<PendingOperation>(recordCountMax: sessionCountMax * 2 + 1_000_000)
        let remoteSets = try Slab<RemoteSet>(recordCountMax: sessionCountMax)
        self.pendings = pendings
        self.remoteSets = remoteSets
        self.conditions = conditions
    }

    /// There is a log, which is durable up to here.
    mutating func beginLog(at position: LogPosition) { durablePosition = position }

    subscript(_ index: Index<PendingOperation>) -> UnsafePointer<PendingOperation> {
        @inline(__always) get { UnsafePointer(pendings[index]) }
    }

    func find(_ handle: Handle<PendingOperation>) -> UnsafePointer<PendingOperation>? {
        pendings.find(handle).map { UnsafePointer($0) }
    }

    func handle(_ index: Index<PendingOperation>) -> Handle<PendingOperation> { pendings.handle(index) }

    var liveCount: Int { pendings.liveCount }
    var remoteSetCount: Int { remoteSets.liveCount }

    mutating func trim() {
        pendings.trim()
        remoteSets.trim()
    }

    // MARK: A session's list

    /// Nothing of the session waits, and all that it sent to other workers is confirmed.
    @inline(__always)
    func isClear(_ session: UnsafeMutablePointer<Session>) -> Bool {
        session.pointee.remoteSet.isNone && session.pointee.pendings.isEmpty
    }

    /// The RECEIPT of the frame under the parser may leave at once.
    @inline(__always)
    func answersAtOnce(_ session: UnsafeMutablePointer<Session>) -> Bool {
        isClear(session) && conditions == .none && !session.pointee.flags.contains(.hasStored)
    }

    /// The frame under the parser may do nothing yet: its answer comes before what it does, and has to wait.
    @inline(__always)
    func holdsBack(_ session: UnsafeMutablePointer<Session>, asksForReceipt: Bool) -> Bool {
        !isClear(session)
            || asksForReceipt
                && (session.pointee.flags.contains(.hasStored)
                    || conditions != .none && !session.pointee.flags.contains(.receiptIsCleared))
    }

    /// Puts an operation at the end of the session's list. None: no memory.
    mutating func append(
        _ kind: PendingKind, of session: UnsafeMutablePointer<Session>, receipt: UnsafeRawBufferPointer?,
        _ memory: inout MemoryBudget
    ) -> Index<PendingOperation> {
        let index: Index<PendingOperation> = pendings.allocate().index
        if index.isNone { return .none }
        let pending = pendings[index]
        if let receipt {
            let block = memory.blocks.allocate(byteCount: receipt.count)
            guard block != 0 else {
                pendings.free(index)
                return .none
            }
            memcpy(memory.blocks.base(block), receipt.baseAddress!, receipt.count)
            pending.pointee.receipt = block
            pending.pointee.receiptByteCount = UInt32(receipt.count)
        }
        pending.pointee.session = session.pointee.index
        pending.pointee.kind = kind
        session.pointee.pendings.append(index, in: pendings)
        return index
    }

    /// The id of the receipt that was asked for. nil: none was.
    func receipt(of index: Index<PendingOperation>, _ memory: borrowing MemoryBudget) -> UnsafeRawBufferPointer? {
        let pending = pendings[index]
        guard pending.pointee.receipt != 0 else { return nil }
        return UnsafeRawBufferPointer(
            start: UnsafeRawPointer(memory.blocks.base(pending.pointee.receipt)),
            count: Int(pending.pointee.receiptByteCount))
    }

    /// Takes an operation out that will not be carried out, unless the session's end already did.
    mutating func remove(
        _ index: Index<PendingOperation>, of session: UnsafeMutablePointer<Session>, _ memory: inout MemoryBudget
    ) {
        if session.pointee.pendings.remove(index, in: pendings) { free(index, &memory) }
    }

    /// Takes the session's first operation out of its list. It is still to be freed.
    func takeFirst(of session: UnsafeMutablePointer<Session>) -> Index<PendingOperation> {
        session.pointee.pendings.popFirst(in: pendings)
    }

    /// Forgets an operation that is in no list of a session, a destination or a queue. Answers to it are stale from now on.
    mutating func free(_ index: Index<PendingOperation>, _ memory: inout MemoryBudget) {
        let pending = pendings[index]
        if pending.pointee.awaitsLog { undurable.remove(index, in: pendings) }
        if pending.pointee.receipt != 0 { memory.blocks.release(pending.pointee.receipt) }
        pendings.free(index)
    }

    // MARK: Other workers

    /// Workers, one bit each.
    struct Workers: BitwiseCopyable {
        var low: UInt64 = 0
        var high: UInt64 = 0
        /// Workers that store what these pass on to them: see `Barrier.holders`.
        var holders = PeerSet()
    }

    /// The session has sent something to another worker, which is not known to be applied.
    mutating func mark(_ peer: Int, of session: UnsafeMutablePointer<Session>) {
        if session.pointee.remoteSet.isNone {
            let index: Index<RemoteSet> = remoteSets.allocate().index
            invariant(!index.isNone, "there are as many remote sets as sessions")
            session.pointee.remoteSet = index
        }
        let set = remoteSets[session.pointee.remoteSet]
        if peer < 64 { set.pointee.low |= 1 << UInt64(peer) } else { set.pointee.high |= 1 << UInt64(peer - 64) }
    }

    /// The same, and it passes that on to `holders`, or has done so. It may be this worker.
    mutating func mark(_ owner: Int, holders: PeerSet, of session: UnsafeMutablePointer<Session>) {
        mark(owner, of: session)
        remoteSets[session.pointee.remoteSet].pointee.holders.formUnion(holders)
    }

    /// The workers that were marked since the last call.
    private mutating func takeMarked(_ session: UnsafeMutablePointer<Session>) -> Workers {
        if session.pointee.remoteSet.isNone { return Workers() }
        let set = remoteSets[session.pointee.remoteSet].pointee
        forgetMarked(session)
        return Workers(low: set.low, high: set.high, holders: set.holders)
    }

    /// The session ends.
    mutating func forgetMarked(_ session: UnsafeMutablePointer<Session>) {
        if session.pointee.remoteSet.isNone { return }
        remoteSets.free(session.pointee.remoteSet)
        session.pointee.remoteSet = .none
    }

    /// The operation waits for one more answer.
    func expectAnswer(_ index: Index<PendingOperation>) { pendings[index].pointee.answersDue += 1 }

    /// An answer has come. True: it was the last that was due.
    func countAnswer(_ index: Index<PendingOperation>) -> Bool {
        pendings[index].pointee.answersDue -= 1
        return pendings[index].pointee.answersDue == 0
    }

    // MARK: Order

    /// The operation is carried out, as far as this worker is concerned. Returns the workers to send a barrier to, whose
    /// answers it waits for.
    ///
    /// - Parameters:
    ///   - gathered: where the log has to be durable for what the session has stored. nil: there is no log, or somebody
    ///     else keeps it.
    ///   - confirmed: what is before this may be told; it may be less than it was (`MessageStore.confirmedPosition`).
    mutating func finish(
        _ index: Index<PendingOperation>, of session: UnsafeMutablePointer<Session>, gathered: LogPosition? = nil,
        confirmed: LogPosition = .max
    ) -> Workers {
        let workers = takeMarked(session)
        let pending = pendings[index]
        if pending.pointee.kind != .gate { pending.pointee.kind = .receipt }
        pending.pointee.isReady = true
        pending.pointee.answersDue = UInt32(workers.low.nonzeroBitCount + workers.high.nonzeroBitCount)
        pending.pointee.position = 0
        guard pending.pointee.receipt != 0 else { return workers }
        if let gathered, session.pointee.flags.contains(.hasStored) {
            // What comes behind it in the session's list leaves behind it.
            session.pointee.flags.remove(.hasStored)
            pending.pointee.position = gathered
            if gathered > min(durablePosition, confirmed) { awaitLog(index) }
        }
        if conditions != .none { setConditions(of: index, session, keepsLog: gathered == nil) }
        return workers
    }

    /// Gives a RECEIPT a position in the log, and has somebody asked (`awaitsPermission`), unless that was done before its
    /// frame was parsed again.
    private mutating func setConditions(
        of index: Index<PendingOperation>, _ session: UnsafeMutablePointer<Session>, keepsLog: Bool
    ) {
        if session.pointee.flags.contains(.receiptIsCleared) {
            session.pointee.flags.remove(.receiptIsCleared)
            return
        }
        pendings[index].pointee.awaitsPermission = true
        guard keepsLog else { return }
        lastPosition += 1
        pendings[index].pointee.position = lastPosition
        if lastPosition > durablePosition { awaitLog(index) }
    }

    /// Its position, which was written just now, is not read here: its halves are two stores, and a load of both would wait
    /// for them.
    private mutating func awaitLog(_ index: Index<PendingOperation>) {
        pendings[index].pointee.awaitsLog = true
        undurable.append(index, in: pendings)
    }

    /// The session's first operation, if it may leave. None: there is none, or it has to wait.
    func firstThatMayLeave(_ session: UnsafeMutablePointer<Session>) -> Index<PendingOperation> {
        let index = session.pointee.pendings.first
        if index.isNone { return .none }
        let pending = pendings[index]
        guard pending.pointee.isReady, pending.pointee.answersDue == 0, !pending.pointee.awaitsLog,
            !pending.pointee.awaitsPermission
        else { return .none }
        return index
    }

    /// The session's first operation leaves: a RECEIPT is written, or the frame is parsed again and does not wait any more.
    mutating func leave(_ session: UnsafeMutablePointer<Session>, _ memory: inout MemoryBudget) {
        let index = takeFirst(of: session)
        if conditions != .none, pendings[index].pointee.kind == .gate {
            session.pointee.flags.insert(.receiptIsCleared)
        }
        free(index, &memory)
    }

    // MARK: The log and permission

    /// The log is durable up to `position`: the first of those that wait for that waits no more. None: none waits any more
    /// for less.
    mutating func popDurable(upTo position: LogPosition) -> Index<PendingOperation> {
        let index = undurable.first
        guard !index.isNone, pendings[index].pointee.position <= position else {
            durablePosition = max(durablePosition, position)
            return .none
        }
        durablePosition = pendings[index].pointee.position
        undurable.remove(index, in: pendings)
        pendings[index].pointee.awaitsLog = false
        return index
    }

    /// The first of those that wait for the log. None: there is none.
    var firstUndurable: Index<PendingOperation> { undurable.first }

    /// Somebody waits until the log is durable beyond `position`.
    func awaitsMore(than position: LogPosition) -> Bool {
        let index = undurable.last
        return !index.isNone && pendings[index].pointee.position > position
    }

    /// The turn ends: those that wait for what it has written wait for the log up to here. They were given `.max`.
    mutating func placeGathered(at position: LogPosition) {
        var index = undurable.last
        while !index.isNone, pendings[index].pointee.position == .max {
            pendings[index].pointee.position = position
            index = List<WaitLink>.previous(before: index, in: pendings)
        }
    }

    /// The client may do what it did.
    func permit(_ index: Index<PendingOperation>) { pendings[index].pointee.awaitsPermission = false }

    // MARK: What an operation is about

    /// SUBSCRIBE: what will count when the others have agreed.
    func setSubscription(_ subscription: Index<Subscription>, of index: Index<PendingOperation>) {
        pendings[index].pointee.subscription = subscription
    }

    /// COMMIT: what is to be applied.
    func setTransaction(_ transaction: Index<Transaction>, of index: Index<PendingOperation>) {
        pendings[index].pointee.transaction = transaction
    }

    /// COMMIT is being applied: what it was granted is used from here on, and not given back.
    func beginToApply(_ index: Index<PendingOperation>) { pendings[index].pointee.kind = .receipt }

    /// COMMIT: another worker has no room for one of its messages.
    func setRefusal(_ refusal: Refusal, of index: Index<PendingOperation>) {
        pendings[index].pointee.refusal = refusal.rawValue
    }

    // MARK: Waiting for room

    /// SEND: the room that it waits for.
    ///
    /// - Parameters:
    ///   - queue: none while it is another worker's, which has not answered.
    ///   - peer: the worker that holds the queue.
    func setRoom(
        _ byteCount: UInt32, in queue: Handle<Queue>, at peer: UInt16, of index: Index<PendingOperation>
    ) {
        let pending = pendings[index]
        pending.pointee.byteCount = byteCount
        pending.pointee.queue = queue
        pending.pointee.peer = peer
    }

    /// Another worker's request for room, which waits here. None: no memory.
    mutating func makeRemoteReservation(
        _ byteCount: UInt32, in queue: Handle<Queue>, for counterpart: Handle<PendingOperation>, from peer: Int
    ) -> Handle<PendingOperation> {
        let handle: Handle<PendingOperation> = pendings.allocate()
        if handle.isNone { return .none }
        let pending = pendings[handle.index]
        pending.pointee.kind = .remoteReservation
        pending.pointee.counterpart = counterpart
        setRoom(byteCount, in: queue, at: UInt16(peer), of: handle.index)
        return handle
    }

    /// SEND: its request waits at the other worker as `counterpart`.
    func setCounterpart(_ counterpart: Handle<PendingOperation>, of index: Index<PendingOperation>) {
        pendings[index].pointee.counterpart = counterpart
    }

    /// The queue is known now, or (none) has ended.
    func setQueue(_ queue: Handle<Queue>, of index: Index<PendingOperation>) {
        pendings[index].pointee.queue = queue
    }

    /// SEND: there is room, and it is kept for this one.
    func grant(_ index: Index<PendingOperation>) { pendings[index].pointee.isGranted = true }

    // MARK: Lists of those who wait, whose heads others have

    func append(_ index: Index<PendingOperation>, to list: inout List<WaitLink>) { list.append(index, in: pendings) }

    func remove(_ index: Index<PendingOperation>, from list: inout List<WaitLink>) { list.remove(index, in: pendings) }

    func prepend(_ index: Index<PendingOperation>, to chain: inout Chain<WaitLink>) {
        chain.prepend(index, in: pendings)
    }

    func remove(_ index: Index<PendingOperation>, from chain: inout Chain<WaitLink>) {
        chain.remove(index, in: pendings)
    }
}
