public import Broker
internal import Glibc
public import IO
public import Slabs

/// A fake of the kernel and the drivers for one or several shards, which run in one thread and on a virtual clock.
///
/// It carries out the submissions of the shards, checks them against the rules of `Submission.Kind`, and reports the
/// events of its sockets. Shards only run in `turn`, `run` and `advance`. Between these calls a test writes to sockets
/// and reads from them.
///
/// A new kind of submission must be added in `FakeKernel+Submissions`. The simulator has another kernel, in which a
/// seed determines the order of events and the faults.
public final class FakeKernel {
    public let shardCount: Int
    public let fabric: Fabric
    let workers: UnsafeMutablePointer<FakeWorker>

    /// Monotonic nanoseconds.
    public private(set) var now: UInt64
    public var wallMilliseconds: UInt64 = 1_700_000_000_000

    /// Connections that are not closed, in the order in which they were accepted.
    public private(set) var sockets: [FakeSocket] = []
    /// Connections that no shard has adopted yet, by descriptor.
    var newcomers: [Int32: FakeSocket] = [:]
    /// For each shard: its connections, by the index of their slot.
    var adopted: [[UInt32: FakeSocket]]
    /// For each shard: the completions of its next turn, after the answers to its submissions.
    private var events: [[Completion]]
    private var nextDescriptor: Int32 = 10
    /// The number of polls so far, of all shards.
    private(set) var turnCount = 0

    // Requests of the shards
    /// Descriptors of refused connections.
    public internal(set) var refused: [Int32] = []
    public internal(set) var handOffs: [(descriptor: Int32, peer: Int)] = []
    public internal(set) var acceptResumptionCount = 0
    /// For each shard: whether its listeners are open.
    public internal(set) var isListening: [Bool]
    /// For each shard: whether it accepts. false after `.acceptFailed`, until `.resumeAccepting`.
    public internal(set) var isAccepting: [Bool]
    /// For each shard: the slot of the connection that was closed last. Tests use it for completions that come too
    /// late.
    public private(set) var lastClosed: [Slot?]

    /// The first broken rule that was not taken yet. While there is one, no turns run.
    public private(set) var fault: String?
    /// The files of the shards. nil: they have none.
    public let disk: FakeDisk?
    /// Called after each turn, with the index of the shard.
    public var didTurn: ((Int) -> Void)?

    /// - Parameters:
    ///   - connectionCountMax: the size of the driver's table, for each shard.
    ///   - disk: the directory of `BrokerOptions.storage`.
    public init(
        shardCount: Int, options: BrokerOptions, connectionCountMax: Int, now: UInt64 = 5_000_000_000,
        disk: FakeDisk? = nil
    ) {
        self.disk = disk
        self.shardCount = shardCount
        self.now = now
        fabric = Fabric(
            shardCount: shardCount, mailboxByteCountMax: options.limits.mailboxByteCountMax,
            listenerCount: options.listeners.count, hostCount: options.hosts.count)
        adopted = Array(repeating: [:], count: shardCount)
        events = Array(repeating: [], count: shardCount)
        isListening = Array(repeating: true, count: shardCount)
        isAccepting = Array(repeating: true, count: shardCount)
        lastClosed = Array(repeating: nil, count: shardCount)
        workers = .allocate(capacity: shardCount)
        for index in 0..<shardCount {
            (workers + index).initialize(
                to: FakeWorker(
                    index: index, options: options, fabric: fabric, connectionCountMax: connectionCountMax, now: now,
                    wallMilliseconds: wallMilliseconds))
        }
    }

    deinit {
        workers.deinitialize(count: shardCount)
        workers.deallocate()
    }

    public func shard(_ index: Int) -> UnsafeMutablePointer<Shard> { workers[index].shard }

    /// Stores a broken rule, unless one is already stored.
    public func fail(_ text: @autoclosure () -> String) { if fault == nil { fault = text() } }

    /// Takes the broken rule, so that turns can run again.
    public func takeFault() -> String? {
        defer { fault = nil }
        return fault
    }

    // MARK: From outside

    /// A client connects to `shard`.
    public func accept(on shard: Int, from origin: ConnectionOrigin = ConnectionOrigin(packed: 0)) -> FakeSocket {
        let socket = FakeSocket(descriptor: nextDescriptor, shard: shard, origin: origin)
        nextDescriptor += 1
        sockets.append(socket)
        offer(socket)
        return socket
    }

    func offer(_ socket: FakeSocket) {
        socket.stage = .waiting
        newcomers[socket.descriptor] = socket
        post(Completion(accepted: socket.descriptor, from: socket.origin), to: socket.shard)
    }

    /// Accepting fails: there is no room for new connections.
    public func failAccepting(on shard: Int, errno: Int32) {
        isAccepting[shard] = false
        post(Completion(.acceptFailed, value: -errno), to: shard)
    }

    /// Adds a completion to the next turn of a shard.
    public func post(_ completion: Completion, to shard: Int) { events[shard].append(completion) }

    public func beginDrain() {
        for index in 0..<shardCount {
            shard(index).pointee.beginDrain()
            post(Completion(.woken), to: index)
        }
    }

    // MARK: Turns

    /// One poll and one turn of a shard, unless its drain is over.
    public func turn(_ index: Int) {
        let shard = shard(index)
        if shard.pointee.isDrained { return }
        turnCount += 1
        for position in 0..<shard.pointee.submissions.count where fault == nil {
            do throws(Violation) {
                try carryOut(shard.pointee.submissions[position], of: index)
            } catch {
                fail("shard \(index): \(error)")
            }
        }
        if newcomers.values.contains(where: { $0.shard == index && $0.stage == .offered }) {
            fail("shard \(index): no answer for an accepted connection")
        }
        answerFiles()
        let lent = collect(index)
        fabric.mailbox(index).didWake()
        workers[index].turn(now: now, wallMilliseconds: wallMilliseconds)
        for buffer in lent {
            // Makes a use after the turn visible.
            memset(buffer.baseAddress!, 0xDD, buffer.count)
            buffer.deallocate()
        }
        didTurn?(index)
    }

    /// Carries file operations out, unless the test does.
    private func answerFiles() {
        guard let disk, !disk.isHeld else { return }
        while stepDisk() {}
    }

    /// Carries the next file operation out. Its shard hears of it in its next turn. False: there is none.
    @discardableResult
    public func stepDisk() -> Bool {
        guard let (answer, shard) = disk?.step() else { return false }
        post(answer, to: shard)
        return true
    }

    /// Appends the events to the completions of a shard. Returns the memory of the received bytes.
    private func collect(_ index: Int) -> [UnsafeMutableRawBufferPointer] {
        for event in events[index] {
            if event.kind == .accepted { newcomers[event.value]?.stage = .offered }
            workers[index].completions.pointee.append(event)
        }
        events[index].removeAll(keepingCapacity: true)
        var lent: [UnsafeMutableRawBufferPointer] = []
        for socket in sockets where socket.shard == index && socket.hasEvents {
            socket.report(&workers[index].completions.pointee, lent: &lent)
            if socket.isClosed {
                adopted[index][socket.connection.index] = nil
                lastClosed[index] = socket.connection
            }
        }
        forgetClosed()
        return lent
    }

    private func forgetClosed() {
        if sockets.contains(where: \.isClosed) { sockets.removeAll(where: \.isClosed) }
    }

    /// Runs turns until no shard has more to do at this time.
    ///
    /// - Parameter turnCountMax: the most turns of each shard. nil: it is a violation if they do not end.
    public func run(turnCountMax: Int? = nil) {
        for _ in 0..<(turnCountMax ?? Self.turnCountMax) {
            var wasBusy = false
            for index in 0..<shardCount where fault == nil && isBusy(index) {
                wasBusy = true
                turn(index)
            }
            if !wasBusy || fault != nil { return }
        }
        if turnCountMax == nil { fail("the shards never come to rest") }
    }

    /// Many more turns than any test needs.
    private static var turnCountMax: Int { 200_000 }

    private func isBusy(_ index: Int) -> Bool {
        let shard = shard(index)
        if shard.pointee.isDrained { return false }
        if shard.pointee.deadline <= now || !events[index].isEmpty || fabric.mailbox(index).pendingByteCount > 0 {
            return true
        }
        return sockets.contains { $0.shard == index && $0.hasEvents }
    }

    // MARK: Time

    /// Advances the clock, with turns at each deadline on the way.
    ///
    /// - Parameters:
    ///   - deadlineCountMax: the most deadlines to stop at. The rest of the time passes at once. nil: more deadlines
    ///     than any test needs are a violation.
    ///   - turnCountMax: as in `run`, at each deadline.
    /// - Returns: whether there were turns for all deadlines.
    @discardableResult
    public func advance(milliseconds: Int, deadlineCountMax: Int? = nil, turnCountMax: Int? = nil) -> Bool {
        let end = now + UInt64(milliseconds) * 1_000_000
        for _ in 0..<(deadlineCountMax ?? Self.turnCountMax) where fault == nil {
            run(turnCountMax: turnCountMax)
            if now == end { return true }
            var next = end
            for index in 0..<shardCount where !shard(index).pointee.isDrained {
                next = min(next, max(shard(index).pointee.deadline, now))
            }
            passTime(to: next)
        }
        passTime(to: end)
        if deadlineCountMax == nil { fail("time does not pass") }
        return false
    }

    private func passTime(to time: UInt64) {
        wallMilliseconds += time / 1_000_000 - now / 1_000_000
        now = time
    }
}
