internal import CURing
import Glibc
public import IO
import Slabs

/// The driver for kernels where io_uring is missing or forbidden. Benchmarks compare the io_uring driver with it.
///
/// A connection is registered once, edge-triggered, for all events, so no message needs an epoll_ctl(2). The record of
/// the connection stores the readiness that an edge reported until a short read or a full socket clears it. A send is
/// one send(2) at once. Received bytes go into an arena that is valid for one turn. An idle connection takes 12 B of
/// user memory and 208 B of kernel memory.
public struct EpollDriver: ~Copyable, Driver {
    /// ```
    /// | fd: 4 | generation: 4 | state: 2 | padding: 2 |
    /// ```
    struct Connection: BitwiseCopyable {
        var fd: Int32
        /// 0: not adopted.
        var generation: UInt32
        var state: State
    }

    struct State: OptionSet, BitwiseCopyable {
        let rawValue: UInt16
        /// The core wants to receive.
        static let receives = State(rawValue: 1 << 0)
        /// An edge reported bytes, and no short read has shown since that the socket is empty.
        static let isReadable = State(rawValue: 1 << 1)
        /// The peer ended or reset the connection. After a short read the driver reads again to find the end.
        static let hasHangup = State(rawValue: 1 << 2)
        /// The end or a failure was reported. The driver does not receive any more.
        static let hasEnded = State(rawValue: 1 << 3)
        /// No send has found the socket full since the last edge. The edge may come before `.awaitWritable`.
        static let isWritable = State(rawValue: 1 << 4)
        static let awaitsWritable = State(rawValue: 1 << 5)
        /// Is in `ready`, `newcomers` or `backlog`.
        static let isQueued = State(rawValue: 1 << 6)
        /// An edge reported that the connection has failed.
        static let isBroken = State(rawValue: 1 << 7)
        /// The failure was reported.
        static let hasFailed = State(rawValue: 1 << 8)
        /// Was not read yet.
        static let isNew = State(rawValue: 1 << 9)

        /// Must be read, and is in no list yet.
        var isWanted: Bool {
            isSuperset(of: [.receives, .isReadable]) && isDisjoint(with: [.isQueued, .hasEnded])
        }
    }

    /// Bytes that can be received in a turn. Connections that find the arena full are read in the next turn.
    static let arenaByteCount = DriverOptions.epollByteCountPerTurnMax
    /// The most bytes that one connection delivers in a turn, when few connections are ready; and the smallest limit
    /// when many are ready.
    static let receiveByteCountMax = 64 << 10
    static let receiveByteCountMin = 8 << 10
    /// The most sockets accepted from one listener in a turn, and the most connections read for the first time in a
    /// turn. The bound keeps many new connections at once from delaying the established ones.
    static let acceptsPerTurnMax = 16
    /// Descriptors that are not used for connections: for files, and for the epoll instances of the other workers.
    static let descriptorReserve = 16

    // What an event belongs to: a generation in the upper half and a slot in the lower one, or one of these.
    static let wakeMark = UInt64.max
    static let listenerMark = UInt64(0xFFFF_FFFF) << 32

    public let connectionCountMax: Int
    public internal(set) var counters = DriverCounters()
    public var level: String { "epoll, Linux \(kernelRelease())" }

    let epoll: Int32
    let wake: WakeHandle
    let peers: WakeDirectory
    let findsPeerAddress: Bool
    let usesFiles: Bool
    /// nil until the first file submission.
    var fileThread: FileThread?
    /// The stack size of `fileThread`. Tests set a size that the system refuses.
    var fileStackByteCount = FileThread.stackByteCount
    var listeners: [Int32]
    /// Indices of listeners that do not accept until `.resumeAccepting`.
    var restingListeners: [Int] = []
    let table: ConnectionTable<Connection>
    let events: UnsafeMutablePointer<epoll_event>
    let eventCount: Int
    let arena: UnsafeMutableRawPointer
    var arenaUsedByteCount = 0
    /// Connections to read. An edge has just reported them; most of them have few bytes, so they are read first.
    var ready = Batch<Slot>(capacity: 256)
    /// Connections to read for the first time.
    var newcomers = Batch<Slot>(capacity: 64)
    /// Connections that had more bytes than they may deliver in one turn. They are read in rotation.
    var backlog = Batch<Slot>(capacity: 256)
    /// The bytes that all connections together may deliver in this turn.
    var budget = ReceiveBudget(byteCountMax: EpollDriver.arenaByteCount)
    /// The bytes that each connection may deliver in this turn.
    var receiveByteCount = EpollDriver.receiveByteCountMax
    /// The highest slot index that was ever adopted.
    var highestIndex = 0

    public init(
        options: DriverOptions, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory
    ) throws(DriverError) {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        do throws(DriverError) {
            guard epoll >= 0 else {
                throw DriverError(
                    .noDescriptors, errorNumber: errno, "no epoll instance (\(errorText(errno))): raise `ulimit -n`")
            }
            table = try ConnectionTable(countMax: connectionIndexMax)
        } catch {
            for fd in listeners { Glibc.close(fd) }
            if epoll >= 0 { Glibc.close(epoll) }
            throw error
        }
        self.epoll = epoll
        self.wake = wake
        self.peers = peers
        self.listeners = listeners
        findsPeerAddress = options.findsPeerAddress
        usesFiles = options.usesFiles
        // All listeners and eventfds are already open, so they are counted here.
        connectionCountMax = Self.connectionCountMax(
            wanted: options.connectionCountMax, freeDescriptorCount: descriptorLimit() - openDescriptorCount(),
            workerCount: peers.count)
        eventCount = max(options.eventsPerWait, 1)
        events = .allocate(capacity: eventCount)
        arena = .allocate(byteCount: Self.arenaByteCount, alignment: 4096)
        peers.openInbox(of: Int(wake.worker))
        let result = epoll_add(epoll, wake.eventfd, event_in | event_edge_triggered, Self.wakeMark)
        invariant(result == 0, "epoll does not take an eventfd")
        for index in listeners.indices {
            invariant(watchListener(index) == 0, "epoll does not take a listener")
        }
    }

    deinit {
        fileThread?.end()
        for newcomer in peers.takeHandedOn(to: Int(wake.worker), closing: true) { close(newcomer.fd) }
        for fd in listeners where fd >= 0 { close(fd) }
        for index in 0...highestIndex where table.base[index].generation != 0 { close(table.base[index].fd) }
        close(epoll)
        events.deallocate()
        arena.deallocate()
    }

    public consuming func shutDown() {}

    /// Divides the descriptors of the process among the workers. A worker never has more connections than a ring's file
    /// table has slots.
    static func connectionCountMax(wanted: Int, freeDescriptorCount: Int, workerCount: Int) -> Int {
        let limit = min(max((freeDescriptorCount - descriptorReserve) / workerCount, 1), connectionIndexMax / 2)
        return wanted > 0 ? min(wanted, limit) : limit
    }

    public mutating func poll(
        _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>
    ) {
        let countBefore = completions.count
        arenaUsedByteCount = 0
        for position in 0..<submissions.count { carryOut(submissions[position], &completions) }
        budget.turnEnds()
        let mayWait = completions.count == countBefore && !hasReady
        waitForEvents(deadline: mayWait ? deadline : 0, &completions)
        readReady(&completions)
        // Not every edge makes a completion: there may be bytes for a paused connection, or room without an
        // `.awaitWritable`. Then the wait goes on.
        while completions.count == countBefore, !hasReady, deadline > clock_monotonic_nanoseconds() {
            waitForEvents(deadline: deadline, &completions)
            readReady(&completions)
        }
        budget.turnBegins(byteCount: arenaUsedByteCount)
    }

    public mutating func carryOut(
        _ submissions: borrowing Batch<Submission>, completions: inout Batch<Completion>
    ) {
        for position in 0..<submissions.count { carryOut(submissions[position], &completions) }
    }
}

// MARK: - Submissions

extension EpollDriver {
    private mutating func carryOut(_ submission: Submission, _ completions: inout Batch<Completion>) {
        switch submission.kind {
        case .adopt: adopt(submission, &completions)
        case .refuse: close(submission.value)
        case .handOff: handOff(submission.value, to: Int(submission.peer), submission.origin)
        case .send, .sendVector, .sendZeroCopy: send(submission, &completions)
        case .awaitWritable: awaitWritable(submission.connection, &completions)
        case .pauseReceive:
            guard let record = record(of: submission.connection) else { return }
            record.pointee.state.remove(.receives)
            failIfPaused(record, submission.connection, &completions)
        case .resumeReceive:
            guard let record = record(of: submission.connection) else { return }
            record.pointee.state.insert(.receives)
            enqueueIfReadable(record, submission.connection)
        case .shutdownWrite:
            if let record = record(of: submission.connection) {
                expectNoMisuse(.shutdown, socket_shutdown_write(record.pointee.fd))
            }
        case .close: close(submission, &completions)
        case .wake: peers[Int(submission.peer)].wake()
        case .stopAccepting: stopAccepting()
        case .resumeAccepting:
            let resting = restingListeners
            restingListeners.removeAll()
            for index in resting where listeners[index] >= 0 { resume(index, &completions) }
        case .connect: connect(submission, &completions)
        case .openDirectory, .createFile, .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile,
            .syncFile, .deleteFile, .renameFile, .closeFile:
            carryOutFile(submission, &completions)
        }
    }

    /// Passes a file submission to the helper thread, which starts with the first one. Files need a thread because
    /// epoll does not support them.
    private mutating func carryOutFile(_ submission: Submission, _ completions: inout Batch<Completion>) {
        invariant(usesFiles, "the driver was made for a core that uses no files")
        do throws(DriverError) {
            if fileThread == nil { fileThread = try FileThread(wake: wake, stackByteCount: fileStackByteCount) }
            fileThread?.submit(submission)
        } catch {
            // Without a thread no file is open, so this submission opens one and its answer is `.fileOpened`.
            completions.append(submission.answered(-error.errorNumber))
        }
    }

    func record(of connection: Slot) -> UnsafeMutablePointer<Connection>? {
        guard connection.index < table.countMax else { return nil }
        let record = table.base + Int(connection.index)
        return record.pointee.generation == connection.generation && connection.generation != 0 ? record : nil
    }

    private mutating func adopt(_ submission: Submission, _ completions: inout Batch<Completion>) {
        let connection = submission.connection
        invariant(connection.index < table.countMax, "a connection's slot index exceeds the driver's table")
        let record = table.base + Int(connection.index)
        invariant(record.pointee.generation == 0, "a slot was adopted twice without a close between")
        record.pointee = Connection(
            fd: submission.value, generation: connection.generation, state: [.receives, .isWritable, .isNew])
        highestIndex = max(highestIndex, Int(connection.index))
        watch(record, connection, &completions)
    }

    private func watch(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ completions: inout Batch<Completion>
    ) {
        let interest = event_in | event_out | event_read_hangup | event_edge_triggered
        let data = UInt64(connection.generation) << 32 | UInt64(connection.index)
        let result = epoll_add(epoll, record.pointee.fd, interest, data)
        // ENOMEM or ENOSPC (fs.epoll.max_user_watches): a connection without events cannot be used.
        if result < 0 { fail(record, connection, result, &completions) }
    }

    func fail(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ result: Int32,
        _ completions: inout Batch<Completion>
    ) {
        record.pointee.state.formUnion([.hasEnded, .hasFailed])
        completions.append(Completion(.receiveFailed, connection: connection, value: result))
    }

    /// Reports the failure of a paused connection. No receive would find it.
    func failIfPaused(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ completions: inout Batch<Completion>
    ) {
        guard record.pointee.state.contains(.isBroken),
            record.pointee.state.isDisjoint(with: [.receives, .hasFailed])
        else { return }
        fail(record, connection, -ECONNRESET, &completions)
    }

    /// The edge "writable" is the answer. It comes when the connection is open or has failed.
    private mutating func connect(_ submission: Submission, _ completions: inout Batch<Completion>) {
        let connection = submission.connection
        invariant(connection.index < table.countMax, "a connection's slot index exceeds the driver's table")
        let record = table.base + Int(connection.index)
        invariant(record.pointee.generation == 0, "a slot was adopted twice without a close between")
        var fd: Int32 = -1
        let result = socket_connect(submission.pointer, socklen_t(submission.byteCount), &fd)
        record.pointee = Connection(fd: fd, generation: connection.generation, state: [.receives, .awaitsWritable])
        highestIndex = max(highestIndex, Int(connection.index))
        if result < 0 {
            fail(record, connection, result, &completions)
        } else {
            watch(record, connection, &completions)
        }
    }

    private mutating func handOff(_ fd: Int32, to peer: Int, _ origin: ConnectionOrigin) {
        if peer < peers.count, peers.handOn(HandedOn(fd: fd, origin: origin), to: peer) {
            counters.handedOff += 1
        } else {
            counters.handOffErrors += 1
            close(fd)
        }
    }

    private mutating func send(_ submission: Submission, _ completions: inout Batch<Completion>) {
        guard let record = record(of: submission.connection) else {
            // `.sendReleased` must be reported even if the connection is gone.
            guard submission.kind == .sendZeroCopy else { return }
            completions.append(Completion(.sendReleased, connection: submission.connection, value: -EPIPE))
            return
        }
        counters.sends += 1
        let fd = record.pointee.fd
        let isVector = submission.kind == .sendVector
        let wanted = isVector ? Int(submission.value) : submission.byteCount
        let result =
            isVector
            ? socket_send_vector(fd, submission.pointer, submission.byteCount)
            : socket_send(fd, submission.pointer, submission.byteCount)
        if _fastPath(result == wanted) {
            if submission.kind == .sendZeroCopy {
                completions.append(Completion(.sendReleased, connection: submission.connection, value: Int32(result)))
            }
            return
        }
        invariant(result < wanted, "the kernel sent more than was submitted")
        endSend(submission, record, Int32(result), &completions)
    }

    /// Reports a send of which the socket took only a part, or nothing.
    ///
    /// - Parameter result: the count of bytes taken, or -errno.
    mutating func endSend(
        _ submission: Submission, _ record: UnsafeMutablePointer<Connection>, _ result: Int32,
        _ completions: inout Batch<Completion>
    ) {
        var value = result
        // Only a full socket makes an edge when it has room again. Any other socket stays writable, and the core tries
        // again.
        var isFull = true
        if result < 0 {
            switch decision(for: .send, errorNumber: -value) {
            case .wait: value = 0
            case .retry, .exhausted:
                value = 0
                isFull = false
            case .misuse: invariant(false, "a send was refused as malformed")
            default: counters.sendErrors += 1
            }
        }
        if value >= 0 {
            counters.shortSends += 1
            if isFull { record.pointee.state.remove(.isWritable) }
        }
        let kind = submission.kind == .sendZeroCopy ? Completion.Kind.sendReleased : .sendIncomplete
        completions.append(Completion(kind, connection: submission.connection, value: value))
    }

    private func awaitWritable(_ connection: Slot, _ completions: inout Batch<Completion>) {
        guard let record = record(of: connection) else { return }
        if record.pointee.state.contains(.isWritable) {
            completions.append(Completion(.writable, connection: connection))
        } else {
            record.pointee.state.insert(.awaitsWritable)
        }
    }

    private mutating func close(_ submission: Submission, _ completions: inout Batch<Completion>) {
        guard let record = record(of: submission.connection) else { return }
        // A `.connect` may have failed before there was a socket.
        if record.pointee.fd >= 0 {
            if submission.value == 1 { expectNoMisuse(.setOption, socket_set_reset_on_close(record.pointee.fd)) }
            close(record.pointee.fd)
        }
        counters.closes += 1
        record.pointee = Connection(fd: -1, generation: 0, state: [])
        completions.append(Completion(.closed, connection: submission.connection))
    }

    private mutating func stopAccepting() {
        for index in listeners.indices where listeners[index] >= 0 {
            // close(2) alone leaves a socket in the epoll instance as long as other descriptors name it.
            _ = epoll_remove(epoll, listeners[index])
            close(listeners[index])
            listeners[index] = -1
        }
        restingListeners.removeAll()
    }

    func close(_ fd: Int32) { expectNoMisuse(.close, socket_close(fd)) }
}
