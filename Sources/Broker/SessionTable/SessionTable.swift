import IO
import STOMP
import Slabs

/// The connections of a worker: who is let in, who may be parsed now, and what is kept of frames cut short.
///
/// - A connection is let in while there is a record for it and neither its address nor the second has had enough of them.
///   No other connection of the process gets its number.
/// - A suspended session is not parsed until its turn: it is put in line (`resumeSoon`), at once or when there is room for
///   what it waits for (`waitForRoom`), and `nextToResume` hands it out once. Who waits for room keeps the place.
/// - Sessions in line are named by handles: those that end meanwhile are passed over.
/// - A session has input, a login and an address only while it has its record: `remove` ends all.
///
/// The shard calls it when connections come, send and go, when a frame has to wait, and in each turn for those whose turn it
/// is. What comes of it elsewhere (submissions, timers, ERROR, the log) the shard carries out. The records are handed around
/// to be written: of their fields `input`, `inputByteCount`, `login`, `number` and the flags `suspended`, `receivePaused` and
/// `slow` are this part's.
struct SessionTable: ~Copyable {
    private var records: Slab<Session>
    /// Frames cut short.
    var inputs: PartialInputs
    private var addresses: AddressTable
    private var logins: LoginTable

    /// Sessions whose suspended frame may be tried again now.
    private var resumable: Line<Handle<Session>>
    /// Sessions that wait for memory or for a peer's mailbox, in the order in which they came.
    private var waitingForRoom: Batch<RoomWaiter>
    /// Sessions whose connection has failed, and whose end takes longer than this turn has left.
    private var failed: Line<Handle<Session>>
    private var slow: Line<SlowSession>

    private var peak = 0
    private var numberedCount: UInt64 = 0
    private let worker: Int
    private let workerCount: Int

    /// Connections that may be accepted before a second has passed since `allowanceSince`.
    private var allowance: Int
    private var allowanceSince: UInt32
    private let connectionsPerSecondMax: Int
    private let connectionsPerAddressMax: Int
    private let needsAddresses: Bool

    /// - Parameters:
    ///   - keepsAddresses: somebody asks where connections come from.
    ///   - worker: which of `workerCount` it is.
    ///   - clock: the time in milliseconds.
    init(
        _ limits: Limits, keepsAddresses: Bool = false, worker: Int, of workerCount: Int, clock: UInt32, seed: UInt64
    ) throws(SlabError) {
        let records = try Slab<Session>(recordCountMax: limits.connectionCountMax)
        let inputs = try PartialInputs(sessionCountMax: limits.connectionCountMax, limits)
        self.records = records
        self.inputs = inputs
        addresses = AddressTable()
        logins = LoginTable(seed: seed)
        resumable = Line()
        waitingForRoom = Batch(capacity: 64)
        failed = Line()
        slow = Line()
        self.worker = worker
        self.workerCount = workerCount
        allowance = limits.connectionsPerSecondMax
        allowanceSince = clock
        connectionsPerSecondMax = limits.connectionsPerSecondMax
        connectionsPerAddressMax = limits.connectionsPerAddressMax
        needsAddresses = keepsAddresses || limits.needsAddresses
    }

    // MARK: Records

    /// Where a live record is.
    subscript(_ index: Index<Session>) -> UnsafeMutablePointer<Session> {
        @inline(__always) get { records[index] }
    }

    /// Where the record of `handle` is; nil when the session has ended.
    @inline(__always)
    func find(_ handle: Handle<Session>) -> UnsafeMutablePointer<Session>? { records.find(handle) }

    @inline(__always)
    func handle(_ index: Index<Session>) -> Handle<Session> { records.handle(index) }

    var liveCount: Int { records.liveCount }

    /// See `Slab.nextLive`.
    func nextLive(after index: Index<Session>) -> Index<Session> { records.nextLive(after: index) }

    /// Sessions that wait for their turn to go on, for room, or for their end; some of them may be gone.
    var waitingCount: Int { resumable.count + waitingForRoom.count + slow.count + failed.count }
    /// The next turn has something to do for them.
    var hasWork: Bool { !resumable.isEmpty || !slow.isEmpty || !failed.isEmpty }

    /// So few sessions are left of the most that there were since the last `trim`, that their memory should be given back.
    mutating func hasShrunk() -> Bool {
        if records.liveCount > peak { peak = records.liveCount }
        return peak > Self.trimSessionCountMin && records.liveCount < peak / 2
    }

    mutating func trim() {
        peak = records.liveCount
        records.trim()
        inputs.trim()
    }

    private static var trimSessionCountMin: Int { 1024 }

    // MARK: Coming and going

    /// Makes a record for a connection that was accepted.
    mutating func admit(_ origin: ConnectionOrigin, clock: UInt32) -> AcceptOutcome {
        guard takeAllowance(clock: clock) else { return .refused(.connectionsPerSecond) }
        if connectionsPerAddressMax > 0, !addresses.admits(origin.address, max: connectionsPerAddressMax) {
            return .refused(.connectionsPerAddress)
        }
        let handle: Handle<Session> = records.allocate()
        if handle.isNone { return .refused(.connections) }
        let session = records[handle.index]
        session.pointee.index = handle.index
        session.pointee.state = .fresh
        session.pointee.version = .v1_2
        session.pointee.listener = origin.listener
        session.pointee.versions = .all
        session.pointee.lastReceived = clock
        session.pointee.lastSent = clock
        session.pointee.since = clock
        session.pointee.number = takeNumber()
        if needsAddresses { addresses.enter(handle.index, origin.address) }
        return .admitted(handle.index)
    }

    /// A proxy has named the address of its client, which was not known. False: as many connections as there may be have
    /// it.
    mutating func learnAddress(_ address: UInt64, of index: Index<Session>) -> Bool {
        if connectionsPerAddressMax > 0, !addresses.admits(address, max: connectionsPerAddressMax) { return false }
        if needsAddresses {
            addresses.leave(index)
            addresses.enter(index, address)
        }
        return true
    }

    /// A bucket of one second of the configured rate.
    private mutating func takeAllowance(clock: UInt32) -> Bool {
        guard connectionsPerSecondMax > 0 else { return true }
        if clock &- allowanceSince >= 1000 {
            allowanceSince = clock
            allowance = connectionsPerSecondMax
        }
        guard allowance > 0 else { return false }
        allowance -= 1
        return true
    }

    /// The numbers of different workers' connections differ, and stay small enough for programs that read numbers of JSON
    /// as floating-point ones.
    private mutating func takeNumber() -> UInt64 {
        numberedCount &+= 1
        return (numberedCount &- 1) &* UInt64(workerCount) &+ UInt64(worker) &+ 1
    }

    /// The connection is closed, and nothing is left of it elsewhere.
    mutating func remove(_ index: Index<Session>, memory: inout MemoryBudget) {
        if needsAddresses { addresses.leave(index) }
        let login = records[index].pointee.login
        if login != 0 { logins.drop(login, memory: &memory) }
        inputs.drop(records[index], memory: &memory)
        records.free(index)
    }

    /// 0: not known, or no limit asks for it.
    func address(of index: Index<Session>) -> UInt64 { addresses.address(index) }

    /// Keeps the login that CONNECT named, for the log. Where memory is short the session goes without.
    mutating func keepLogin(
        _ session: UnsafeMutablePointer<Session>, _ text: UnsafeRawBufferPointer, memory: inout MemoryBudget
    ) {
        invariant(session.pointee.login == 0, "a session connects once")
        session.pointee.login = logins.keep(text, memory: &memory)
    }

    // MARK: Suspended sessions

    /// The session is not parsed until its turn comes. True: the driver is to pause its receiving, so that what is unread
    /// stays in the socket.
    mutating func suspend(_ session: UnsafeMutablePointer<Session>) -> Bool {
        session.pointee.flags.insert(.suspended)
        if session.pointee.flags.contains(.receivePaused) { return false }
        session.pointee.flags.insert(.receivePaused)
        return true
    }

    /// The session is in line for the end of a turn.
    mutating func resumeSoon(_ session: UnsafeMutablePointer<Session>) { resumable.append(session.pointee.handle) }

    /// So many are in line. Those that come while they have their turn wait for the next.
    var resumableCount: Int { resumable.count }

    /// Takes the first in line: it is suspended no more. nil: it has ended, or has had its turn.
    mutating func nextToResume() -> UnsafeMutablePointer<Session>? {
        guard let handle = resumable.popFirst(), let session = records.find(handle),
            session.pointee.flags.contains(.suspended)
        else { return nil }
        session.pointee.flags.remove(.suspended)
        return session
    }

    /// The session is read on. True: the driver is to resume its receiving.
    mutating func resumeReceiving(_ session: UnsafeMutablePointer<Session>) -> Bool {
        guard session.pointee.flags.contains(.receivePaused) else { return false }
        session.pointee.flags.remove(.receivePaused)
        return true
    }

    /// Nothing that the session has sent is parsed any more.
    mutating func stopParsing(_ session: UnsafeMutablePointer<Session>, memory: inout MemoryBudget) {
        inputs.drop(session, memory: &memory)
        session.pointee.flags.remove(.suspended)
    }

    // MARK: Waiting for room

    /// Nobody does.
    var nobodyWaitsForRoom: Bool { waitingForRoom.isEmpty }

    /// A suspended session waits until `resumeThoseWithRoom` finds room for its frame.
    ///
    /// - Parameters:
    ///   - owner: it waits for this worker, which is full.
    ///   - isTopic: its message passes through.
    mutating func waitForRoom(_ session: UnsafeMutablePointer<Session>, owner: UInt16?, isTopic: Bool) {
        waitingForRoom.append(
            RoomWaiter(session: session.pointee.handle, owner: owner ?? RoomWaiter.noOwner, isTopic: isTopic))
    }

    /// Puts those in line that may go on; the others keep their places.
    mutating func resumeThoseWithRoom(_ room: Room, in memory: borrowing MemoryBudget) {
        var keptCount = 0
        var promised = 0
        for i in 0..<waitingForRoom.count {
            // Those who left must not fill the list while nobody can go on.
            let waiter = waitingForRoom[i]
            guard let session = records.find(waiter.session) else { continue }
            let ownerIsFull = waiter.owner != RoomWaiter.noOwner && room.fullWorkers.contains(Int(waiter.owner))
            if !ownerIsFull, waiter.isTopic ? room.isForTopics : room.isForQueues,
                inputs.admit(session, promised: &promised, in: memory)
            {
                resumeSoon(session)
            } else {
                waitingForRoom[keptCount] = waiter
                keptCount += 1
            }
        }
        waitingForRoom.keepFirst(keptCount)
    }

    /// Nobody waits for room any more: their frames are parsed again.
    mutating func resumeAllWhoWaitForRoom() {
        for i in 0..<waitingForRoom.count {
            if let session = records.find(waitingForRoom[i].session) { resumeSoon(session) }
        }
        waitingForRoom.removeAll()
    }

    private static var slowFramesPerLookMax: Int { 64 }

    /// While memory is short for large frames: the next one that is too slow, beginning with the most silent. nil: there is
    /// none, or enough were looked at.
    ///
    /// - Parameter lookCount: how many were looked at; 0 at first.
    mutating func nextSlowFrame(
        _ lookCount: inout Int, clock: UInt32, in memory: borrowing MemoryBudget
    ) -> SlowFrame? {
        while lookCount < Self.slowFramesPerLookMax, memory.inputIsTight {
            let index = inputs.mostSilent
            if index.isNone { return nil }
            lookCount += 1
            let session = records[index]
            if session.pointee.flags.contains(.suspended) || session.pointee.state != .connected {
                // Not its fault; the next one is looked at.
                inputs.passOverMostSilent()
                continue
            }
            let patience = inputs.patienceWhileTight(session)
            guard clock &- inputs.since(session, in: memory) >= patience else { return nil }
            return SlowFrame(session: index, milliseconds: patience)
        }
        return nil
    }

    // MARK: Sessions that end

    /// The connection has failed; it is taken apart when there is time.
    mutating func endLater(_ session: UnsafeMutablePointer<Session>) { failed.append(session.pointee.handle) }

    var hasFailed: Bool { !failed.isEmpty }

    /// Takes the first of those whose connection has failed. nil: it has ended.
    mutating func nextFailed() -> UnsafeMutablePointer<Session>? {
        guard let handle = failed.popFirst() else { return nil }
        return records.find(handle)
    }

    /// The session is cut at the end of the turn: once, and for the first limit that it reached.
    mutating func disconnectSoon(
        _ session: UnsafeMutablePointer<Session>, for limit: LimitKind, encoding: Index<SharedEncoding>
    ) {
        guard !session.pointee.flags.contains(.slow) else { return }
        session.pointee.flags.insert(.slow)
        slow.append(SlowSession(session: session.pointee.handle, limit: limit, encoding: encoding))
    }

    var hasSlow: Bool { !slow.isEmpty }

    /// Takes the first of those that are cut; it may have ended. nil: nobody is cut.
    mutating func nextSlow() -> SlowSession? { slow.popFirst() }
}
