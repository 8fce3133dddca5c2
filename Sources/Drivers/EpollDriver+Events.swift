internal import CURing
import Glibc
public import IO
public import Slabs

// MARK: - Events

extension EpollDriver {
    /// Adds a listener to the epoll instance, level-triggered: the next wait reports connections that this turn leaves
    /// in the backlog.
    ///
    /// - Returns: 0 or -errno.
    func watchListener(_ index: Int) -> Int32 {
        // A Unix socket is shared by all workers, and EPOLLEXCLUSIVE wakes only one of them for a connection.
        let interest = socket_is_unix(listeners[index]) ? event_in | event_exclusive : event_in
        return epoll_add(epoll, listeners[index], interest, Self.listenerMark | UInt64(index))
    }

    /// Accepts from a listener again. The kernel may still be short of memory and refuse; then the listener stops
    /// again.
    mutating func resume(_ index: Int, _ completions: inout Batch<Completion>) {
        let result = watchListener(index)
        guard result < 0 else { return }
        counters.acceptErrors += 1
        restingListeners.append(index)
        completions.append(Completion(.acceptFailed, value: result, peer: UInt16(index)))
    }

    /// One epoll_wait(2).
    ///
    /// - Parameter deadline: nanoseconds of CLOCK_MONOTONIC. 0: does not wait. `.max`: no deadline.
    mutating func waitForEvents(deadline: UInt64, _ completions: inout Batch<Completion>) {
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
                if data == Self.wakeMark {
                    woken(&completions)
                } else {
                    accept(Int(UInt32(truncatingIfNeeded: data)), &completions)
                }
            } else {
                edge(
                    events[position].events,
                    Slot(index: UInt32(truncatingIfNeeded: data), generation: UInt32(data >> 32)), &completions)
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
        if events & event_error != 0 {
            record.pointee.state.insert(.isBroken)
            failIfPaused(record, connection, &completions)
        }
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
        fileThread?.takeCompletions(&completions)
        for newcomer in peers.takeHandedOn(to: Int(wake.worker)) {
            counters.accepts += 1
            completions.append(Completion(accepted: newcomer.fd, from: newcomer.origin))
        }
    }

    private mutating func accept(_ index: Int, _ completions: inout Batch<Completion>) {
        guard listeners[index] >= 0 else { return }
        var address = sockaddr_storage()
        for _ in 0..<Self.acceptsPerTurnMax {
            let fd = findsPeerAddress ? socket_accept(listeners[index], &address) : socket_accept(listeners[index], nil)
            if fd >= 0 {
                counters.accepts += 1
                let origin = ConnectionOrigin(
                    listener: ListenerID(rawValue: UInt8(index)),
                    address: findsPeerAddress ? socket_address_key(&address) : 0)
                completions.append(Completion(accepted: fd, from: origin))
                continue
            }
            if !mayAcceptAfter(fd, index, &completions) { return }
        }
    }

    /// Handles the error of an accept. Returns whether to accept again at once.
    mutating func mayAcceptAfter(_ result: Int32, _ index: Int, _ completions: inout Batch<Completion>) -> Bool {
        switch decision(for: .accept, errorNumber: -result) {
        case .wait: return false
        case .retry:
            counters.acceptErrors += 1
            return true
        case .misuse:
            invariant(false, "accept was called with something that is no listener")
            return false
        default:
            counters.acceptErrors += 1
            _ = epoll_remove(epoll, listeners[index])
            restingListeners.append(index)
            completions.append(Completion(.acceptFailed, value: result, peer: UInt16(index)))
            return false
        }
    }

    public mutating func peerAddress(of connection: Slot) -> String? {
        record(of: connection).flatMap { peerAddress(ofAccepted: $0.pointee.fd) }
    }

    public mutating func peerAddress(ofAccepted descriptor: Int32) -> String? {
        Endpoint(peerOf: descriptor).flatMap { $0.isInternet ? $0.text : nil }
    }

    public mutating func peerCredentials(of connection: Slot) -> PeerCredentials? {
        record(of: connection).flatMap { peerCredentials(ofAccepted: $0.pointee.fd) }
    }

    public mutating func peerCredentials(ofAccepted descriptor: Int32) -> PeerCredentials? {
        Drivers.peerCredentials(of: descriptor)
    }
}

// MARK: - Receiving

extension EpollDriver {
    mutating func enqueueIfReadable(_ record: UnsafeMutablePointer<Connection>, _ connection: Slot) {
        guard record.pointee.state.isWanted else { return }
        record.pointee.state.insert(.isQueued)
        if record.pointee.state.contains(.isNew) { newcomers.append(connection) } else { ready.append(connection) }
    }

    var hasReady: Bool { !ready.isEmpty || !backlog.isEmpty || !newcomers.isEmpty }

    /// Reads each ready connection once, until the budget of the turn is used up.
    ///
    /// Connections in `ready` come first. While others wait, `ready` uses only half of the budget, and `newcomers` use
    /// the budget up to three quarters while `backlog` waits. The more connections are ready, the fewer bytes each of
    /// them may deliver, so that a connection with few bytes does not wait for busy ones. A connection of `backlog` may
    /// deliver up to the maximum, because a few large reads cost less than many small ones.
    mutating func readReady(_ completions: inout Batch<Completion>) {
        guard hasReady else { return }
        let newcomerCount = min(newcomers.count, Self.acceptsPerTurnMax)
        let backlogCount = backlog.count
        let total = budget.byteCount
        let share = total / (ready.count + newcomerCount + backlogCount) & ~63
        receiveByteCount = max(Self.receiveByteCountMin, min(Self.receiveByteCountMax, share))
        let hasOthers = backlogCount + newcomerCount > 0
        var readyEnd = read(ready.base, 0..<ready.count, upTo: hasOthers ? total / 2 : total, &completions)
        if hasOthers {
            let newcomersEnd = read(
                newcomers.base, 0..<newcomerCount, upTo: backlogCount > 0 ? total * 3 / 4 : total, &completions)
            let readyByteCount = receiveByteCount
            receiveByteCount = min(Self.receiveByteCountMax, max(total - arenaUsedByteCount, 0) & ~63)
            let backlogEnd = read(backlog.base, 0..<backlogCount, upTo: total, &completions)
            receiveByteCount = readyByteCount
            readyEnd = read(ready.base, readyEnd..<ready.count, upTo: total, &completions)
            // Connections with more bytes go behind those that were not read in this turn.
            for position in 0..<backlogEnd { keepIfReadable(backlog[position]) }
            backlog.removeFirst(backlogEnd)
            for position in 0..<newcomersEnd { keepIfReadable(newcomers[position]) }
            newcomers.removeFirst(newcomersEnd)
        }
        for position in 0..<readyEnd { keepIfReadable(ready[position]) }
        ready.removeFirst(readyEnd)
    }

    /// Returns the position of the first connection that was not read.
    private mutating func read(
        _ connections: UnsafeMutablePointer<Slot>, _ range: Range<Int>, upTo byteCountMax: Int,
        _ completions: inout Batch<Completion>
    ) -> Int {
        var position = range.lowerBound
        // A receive into 0 bytes returns 0, which looks like the end of the peer.
        guard receiveByteCount > 0 else { return position }
        while position < range.upperBound, arenaUsedByteCount + receiveByteCount <= byteCountMax {
            let connection = connections[position]
            position += 1
            guard let record = record(of: connection) else { continue }
            record.pointee.state.subtract([.isQueued, .isNew])
            receive(record, connection, &completions)
        }
        return position
    }

    private mutating func keepIfReadable(_ connection: Slot) {
        guard let record = record(of: connection), record.pointee.state.isWanted else { return }
        record.pointee.state.insert(.isQueued)
        backlog.append(connection)
    }

    private mutating func receive(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ completions: inout Batch<Completion>
    ) {
        guard record.pointee.state.contains(.receives) else { return }
        let room = receiveByteCount
        let bytes = arena + arenaUsedByteCount
        var count = socket_receive(record.pointee.fd, bytes, room)
        if count > 0 {
            counters.receives += 1
            counters.receivedBytes += UInt64(count)
            // The bytes of the next receive start on a new cache line.
            arenaUsedByteCount += (count + 63) & ~63
            completions.append(
                Completion(.received, connection: connection, value: Int32(count), pointer: UnsafeRawPointer(bytes)))
            // A short read has emptied the socket, and more bytes make a new edge. Only the end may be left to read.
            if count == room { return }
            guard record.pointee.state.contains(.hasHangup) else {
                record.pointee.state.remove(.isReadable)
                return
            }
            // A read may also be short because recv(2) stops at urgent data. Then bytes come before the end. They may
            // use the rest of this connection's room. Without room, they and the end wait for the next turn.
            let rest = room - ((count + 63) & ~63)
            guard rest > 0 else { return }
            let end = arena + arenaUsedByteCount
            count = socket_receive(record.pointee.fd, end, rest)
            if count > 0 {
                counters.receivedBytes += UInt64(count)
                arenaUsedByteCount += (count + 63) & ~63
                completions.append(
                    Completion(.received, connection: connection, value: Int32(count), pointer: UnsafeRawPointer(end)))
                return
            }
        }
        if count == 0 {
            record.pointee.state.insert(.hasEnded)
            completions.append(Completion(.receiveEnded, connection: connection))
            return
        }
        endReceive(record, connection, Int32(count), &completions)
    }

    /// Handles the error of a receive.
    func endReceive(
        _ record: UnsafeMutablePointer<Connection>, _ connection: Slot, _ result: Int32,
        _ completions: inout Batch<Completion>
    ) {
        switch decision(for: .receive, errorNumber: -result) {
        case .wait: record.pointee.state.remove(.isReadable)
        case .retry, .exhausted: return
        case .misuse: invariant(false, "a receive was called with something that is no socket")
        case .cancelled, .failed, .harmless:
            fail(record, connection, result, &completions)
        }
    }
}
