internal import CURing
import Glibc
public import IO
import Slabs

/// The driver for kernels where io_uring is absent or forbidden, and the yardstick for the other one.
///
/// A connection is registered once, edge-triggered, for everything it may ever wait for: no epoll_ctl(2) per message. What
/// an edge said is remembered in the connection's record until a short read or a full socket says otherwise. Sends are
/// send(2) at once; receives go into one arena that lives for a turn. 16 B of user memory and 208 B of kernel memory for
/// an idle connection.
public struct EpollDriver: ~Copyable, Driver {
    /// ```
    /// | fd: 4 | generation: 4 | state: 1 | unused: 7 |
    /// ```
    struct Connection: BitwiseCopyable {
        var fd: Int32
        /// 0: not adopted.
        var generation: UInt32
        var state: State
        private var unused: (UInt8, UInt16, UInt32) = (0, 0, 0)

        init(fd: Int32, generation: UInt32, state: State) {
            self.fd = fd
            self.generation = generation
            self.state = state
        }
    }

    struct State: OptionSet, BitwiseCopyable {
        let rawValue: UInt8
        /// The core wants bytes.
        static let receives = State(rawValue: 1 << 0)
        /// An edge said that there are bytes, and no short read has said otherwise since.
        static let isReadable = State(rawValue: 1 << 1)
        /// The peer has ended or reset: after a short read, read again to find the end.
        static let hasHangup = State(rawValue: 1 << 2)
        /// The end or a failure was reported: never receive again.
        static let hasEnded = State(rawValue: 1 << 3)
        /// No send found the socket full since the last edge. It may come before the core asks for it.
        static let isWritable = State(rawValue: 1 << 4)
        static let awaitsWritable = State(rawValue: 1 << 5)
        /// Has a place in `ready`.
        static let isQueued = State(rawValue: 1 << 6)
    }

    /// Room for a turn's received bytes. A turn that fills it goes on in the next one.
    static let arenaByteCount = 2 << 20
    /// The most that one connection delivers in a turn.
    static let receiveByteCountMax = 64 << 10
    /// The most sockets accepted from one listener in a turn, so that a storm of newcomers does not starve who is in.
    static let acceptsPerTurnMax = 256
    /// Connections that are read in a turn.
    static let receivesPerTurnMax = 4096
    /// Descriptors kept for everything that is no connection: listeners, eventfds, log, files.
    static let descriptorReserve = 64

    // What an event belongs to: a generation in the upper half and a slot in the lower one, or one of these.
    private static let wakeMark = UInt64.max
    private static let listenerMark = UInt64(0xFFFF_FFFF) << 32

    public let connectionCountMax: Int
    public private(set) var counters = DriverCounters()
    public var level: String { "epoll, Linux \(kernelRelease())" }

    private let epoll: Int32
    private let wake: WakeHandle
    private let peers: WakeDirectory
    private let findsPeerAddress: Bool
    private var listeners: [Int32]
    /// Listeners that wait for `.resumeAccepting`.
    private var restingListeners: [Int] = []
    private let table: ConnectionTable<Connection>
    private let events: UnsafeMutablePointer<epoll_event>
    private let eventCount: Int
    private let arena: UnsafeMutableRawPointer
    private var arenaUsedByteCount = 0
    /// Connections that are readable and wanted: read once each turn, in turn.
    private var ready = Batch<Slot>(capacity: 256)
    private var laterReady = Batch<Slot>(capacity: 256)

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
        let limit = max(descriptorLimit() - Self.descriptorReserve, 1)
        connectionCountMax = options.connectionCountMax > 0 ? min(options.connectionCountMax, limit) : limit
        eventCount = max(options.eventsPerWait, 1)
        events = .allocate(capacity: eventCount)
        arena = .allocate(byteCount: Self.arenaByteCount, alignment: 4096)
        peers.openInbox(of: Int(wake.worker))
        watch(wake.eventfd, event_in | event_edge_triggered, Self.wakeMark)
        for index in listeners.indices { watchListener(index) }
    }

    deinit {
        for fd in peers.takeHandedOn(to: Int(wake.worker), closing: true) { close(fd) }
        for fd in listeners where fd >= 0 { close(fd) }
        // Only touched pages can hold a record; `highestIndex` bounds them.
        for index in 0...highestIndex where table.base[index].generation != 0 { close(table.base[index].fd) }
        close(epoll)
        events.deallocate()
        arena.deallocate()
    }

    private var highestIndex = 0

    public consuming func shutDown() {}

    public mutating func exchange(
        _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>
    ) {
        let countBefore = completions.count
        arenaUsedByteCount = 0
        for position in 0..<submissions.count { carryOut(submissions[position], &completions) }
        let mayWait = completions.count == countBefore && ready.isEmpty
        poll(deadline: mayWait ? deadline : 0, isFirst: true, countBefore, &completions)
        readReady(&completions)
        // An edge that says nothing new (bytes for a paused connection, room that nobody asked for) is no completion.
        while completions.count == countBefore, ready.isEmpty, deadline > clock_monotonic_nanoseconds() {
            poll(deadline: deadline, isFirst: false, countBefore, &completions)
            readReady(&completions)
        }
    }
}

// MARK: - Submissions

extension EpollDriver {
    private mutating func carryOut(_ submission: Submission, _ completions: inout Batch<Completion>) {
        switch submission.kind {
        case .adopt: adopt(submission, &completions)
        case .refuse: close(submission.value)
        case .handOff: handOff(submission.value, to: Int(submission.peer))
        case .send, .sendVector, .sendZeroCopy: send(submission, &completions)
        case .awaitWritable: awaitWritable(submission.connection, &completions)
        case .pauseReceive:
            if let record = record(of: submission.connection) { record.pointee.state.remove(.receives) }
        case .resumeReceive:
            guard let record = record(of: submission.connection) else { return }
            record.pointee.state.insert(.receives)
            enqueueIfReadable(record, submission.connection)
        case .shutdownWrite:
            if let record = record(of: submission.connection) { _ = shutdown(record.pointee.fd, Int32(SHUT_WR)) }
        case .close: close(submission, &completions)
        case .wake: peers[Int(submission.peer)].wake()
        case .stopAccepting: stopAccepting()
        case .resumeAccepting:
            let resting = restingListeners
            restingListeners.removeAll()
            for index in resting where listeners[index] >= 0 { watchListener(index) }
        case .connect: connect(submission, &completions)
        }
    }

    private func record(of connection: Slot) -> UnsafeMutablePointer<Connection>? {
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
            fd: submission.value, generation: connection.generation, state: [.receives, .isWritable])
        highestIndex = max(highestIndex, Int(connection.index))
        watch(record, connection, &completions)
    }

    private func watch(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ completions: inout Batch<Completion>
    ) {
        let interest = event_in | event_out | event_read_hangup | event_edge_triggered
        let data = UInt64(connection.generation) << 32 | UInt64(connection.index)
        let result = epoll_add(epoll, record.pointee.fd, interest, data)
        // ENOMEM or ENOSPC (fs.epoll.max_user_watches): without events the connection is of no use.
        if result < 0 { fail(record, connection, result, &completions) }
    }

    private func fail(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ result: Int32,
        _ completions: inout Batch<Completion>
    ) {
        record.pointee.state.insert(.hasEnded)
        completions.append(Completion(.receiveFailed, connection: connection, value: result))
    }

    /// The edge that says "writable" is the answer: it comes when the connection is there, or has failed.
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

    private mutating func handOff(_ fd: Int32, to peer: Int) {
        if peer < peers.count, peers.handOn(fd, to: peer) {
            counters.handedOff += 1
        } else {
            counters.handOffErrors += 1
            close(fd)
        }
    }

    private mutating func send(_ submission: Submission, _ completions: inout Batch<Completion>) {
        guard let record = record(of: submission.connection) else { return }
        counters.sends += 1
        let fd = record.pointee.fd
        let isVector = submission.kind == .sendVector
        let wanted = isVector ? Int(submission.value) : submission.byteCount
        let result = isVector
            ? socket_send_vector(fd, submission.pointer, submission.byteCount)
            : socket_send(fd, submission.pointer, submission.byteCount)
        let isReleased = submission.kind == .sendZeroCopy
        if _fastPath(result == wanted) {
            if isReleased {
                completions.append(Completion(.sendReleased, connection: submission.connection, value: Int32(result)))
            }
            return
        }
        invariant(result < wanted, "the kernel sent more than was submitted")
        var value = Int32(result)
        if result < 0 {
            switch decision(for: .send, errorNumber: -value) {
            case .wait: value = 0
            case .misuse: invariant(false, "a send was refused as malformed")
            default: counters.sendErrors += 1
            }
        }
        if value >= 0 {
            counters.shortSends += 1
            record.pointee.state.remove(.isWritable)
        }
        let kind = isReleased ? Completion.Kind.sendReleased : .sendIncomplete
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
        if submission.value == 1 { _ = socket_set_reset_on_close(record.pointee.fd) }
        close(record.pointee.fd)
        counters.closes += 1
        record.pointee = Connection(fd: -1, generation: 0, state: [])
        completions.append(Completion(.closed, connection: submission.connection))
    }

    private mutating func stopAccepting() {
        for index in listeners.indices where listeners[index] >= 0 {
            close(listeners[index])
            listeners[index] = -1
        }
        restingListeners.removeAll()
    }

    private func close(_ fd: Int32) { _ = Glibc.close(fd) }
}

// MARK: - Events

extension EpollDriver {
    private mutating func watch(_ fd: Int32, _ interest: UInt32, _ data: UInt64) {
        let result = epoll_add(epoll, fd, interest, data)
        invariant(result == 0, "epoll does not take a listener or an eventfd")
    }

    /// Listeners are level-triggered: what one turn leaves in the backlog is reported by the next wait.
    private mutating func watchListener(_ index: Int) {
        watch(listeners[index], event_in, Self.listenerMark | UInt64(index))
    }

    private mutating func poll(
        deadline: UInt64, isFirst: Bool, _ countBefore: Int, _ completions: inout Batch<Completion>
    ) {
        var nanoseconds = deadline
        if deadline != 0, deadline != .max {
            let now = clock_monotonic_nanoseconds()
            nanoseconds = deadline > now ? deadline - now : 0
        }
        counters.enters += 1
        let count = epoll_wait_nanoseconds(epoll, events, Int32(eventCount), nanoseconds)
        if count < 0 {
            invariant(decision(for: .wait, errorNumber: -count) != .misuse, "epoll_wait was called wrongly")
            return
        }
        for position in 0..<Int(count) {
            let data = epoll_event_data(events + position)
            if data >= Self.listenerMark {
                if data == Self.wakeMark { woken(&completions) } else { accept(Int(UInt32(truncatingIfNeeded: data)), &completions) }
            } else {
                edge(events[position].events, Slot(index: UInt32(truncatingIfNeeded: data), generation: UInt32(data >> 32)), &completions)
            }
        }
    }

    private mutating func edge(_ events: UInt32, _ connection: Slot, _ completions: inout Batch<Completion>) {
        guard let record = record(of: connection) else {
            counters.stale += 1
            return
        }
        let hangup = events & (event_read_hangup | event_broken)
        if hangup != 0 { record.pointee.state.insert(.hasHangup) }
        if events & event_in | hangup != 0 {
            record.pointee.state.insert(.isReadable)
            enqueueIfReadable(record, connection)
        }
        if events & (event_out | event_broken) != 0 {
            record.pointee.state.insert(.isWritable)
            if record.pointee.state.contains(.awaitsWritable) {
                record.pointee.state.remove(.awaitsWritable)
                completions.append(Completion(.writable, connection: connection))
            }
        }
    }

    private mutating func woken(_ completions: inout Batch<Completion>) {
        eventfd_clear(wake.eventfd)
        completions.append(Completion(.woken))
        for fd in peers.takeHandedOn(to: Int(wake.worker)) {
            counters.accepts += 1
            completions.append(
                Completion(.accepted, value: fd, peer: handedOnPeer, address: findsPeerAddress ? addressKey(ofPeer: fd) : 0))
        }
    }

    private mutating func accept(_ index: Int, _ completions: inout Batch<Completion>) {
        guard listeners[index] >= 0 else { return }
        var address = sockaddr_storage()
        for _ in 0..<Self.acceptsPerTurnMax {
            let fd = findsPeerAddress ? socket_accept(listeners[index], &address) : socket_accept(listeners[index], nil)
            if fd >= 0 {
                counters.accepts += 1
                completions.append(
                    Completion(
                        .accepted, value: fd, peer: UInt16(index),
                        address: findsPeerAddress ? socket_address_key(&address) : 0))
                continue
            }
            switch decision(for: .accept, errorNumber: -fd) {
            case .wait: return
            case .retry: counters.acceptErrors += 1
            case .misuse: invariant(false, "accept was called with something that is no listener")
            default:
                counters.acceptErrors += 1
                _ = epoll_remove(epoll, listeners[index])
                restingListeners.append(index)
                completions.append(Completion(.acceptFailed, value: fd, peer: UInt16(index)))
                return
            }
        }
    }

    private func addressKey(ofPeer fd: Int32) -> UInt64 {
        var address = sockaddr_storage()
        var byteCount = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(fd, $0, &byteCount) }
        }
        return result == 0 ? socket_address_key(&address) : 0
    }
}

// MARK: - Receiving

extension EpollDriver {
    private mutating func enqueueIfReadable(_ record: UnsafeMutablePointer<Connection>, _ connection: Slot) {
        let state = record.pointee.state
        guard state.isSuperset(of: [.receives, .isReadable]), state.isDisjoint(with: [.isQueued, .hasEnded]) else { return }
        record.pointee.state.insert(.isQueued)
        ready.append(connection)
    }

    /// Reads each ready connection once. Who has more, or finds the arena full, stays for the next turn.
    private mutating func readReady(_ completions: inout Batch<Completion>) {
        guard !ready.isEmpty else { return }
        swap(&ready, &laterReady)
        for position in 0..<laterReady.count {
            let connection = laterReady[position]
            guard let record = record(of: connection) else { continue }
            record.pointee.state.remove(.isQueued)
            if position < Self.receivesPerTurnMax { receive(record, connection, &completions) }
            enqueueIfReadable(record, connection)
        }
        laterReady.removeAll()
    }

    private mutating func receive(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ completions: inout Batch<Completion>
    ) {
        guard record.pointee.state.contains(.receives) else { return }
        let room = min(Self.receiveByteCountMax, Self.arenaByteCount - arenaUsedByteCount)
        guard room >= Self.receiveByteCountMax else { return }
        let bytes = arena + arenaUsedByteCount
        var count = socket_receive(record.pointee.fd, bytes, room)
        if count > 0 {
            counters.receives += 1
            counters.receivedBytes += UInt64(count)
            // The next bytes start on a cache line of their own.
            arenaUsedByteCount += (count + 63) & ~63
            completions.append(Completion(.received, connection: connection, value: Int32(count), pointer: UnsafeRawPointer(bytes)))
            // A short read has emptied the socket: more bytes make a new edge. Only the end may be left to be read.
            if count == room { return }
            guard record.pointee.state.contains(.hasHangup), arenaUsedByteCount < Self.arenaByteCount else {
                record.pointee.state.remove(.isReadable)
                return
            }
            let end = arena + arenaUsedByteCount
            count = socket_receive(record.pointee.fd, end, min(room, Self.arenaByteCount - arenaUsedByteCount))
            if count > 0 {
                counters.receivedBytes += UInt64(count)
                arenaUsedByteCount += (count + 63) & ~63
                completions.append(Completion(.received, connection: connection, value: Int32(count), pointer: UnsafeRawPointer(end)))
                return
            }
        }
        if count == 0 {
            record.pointee.state.insert(.hasEnded)
            completions.append(Completion(.receiveEnded, connection: connection))
            return
        }
        switch decision(for: .receive, errorNumber: Int32(-count)) {
        case .wait: record.pointee.state.remove(.isReadable)
        case .retry, .exhausted: return
        case .misuse: invariant(false, "a receive was called with something that is no socket")
        case .cancelled, .failed, .harmless:
            record.pointee.state.insert(.hasEnded)
            completions.append(Completion(.receiveFailed, connection: connection, value: Int32(count)))
        }
    }
}

/// The soft limit of descriptors of this process.
func descriptorLimit() -> Int {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_cur)
}

func kernelRelease() -> String {
    var name = utsname()
    uname(&name)
    return withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
