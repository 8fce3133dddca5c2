import CProcess
import Glibc

/// The connections of an attack, and their loop over epoll_wait(2).
///
/// Every system call is short, independent of the number of connections. On a kernel without preemption, honest clients
/// on the same CPU would have to wait for a long one.
struct Siege {
    private struct Connection {
        var fd: Int32 = -1
        /// The events that epoll watches.
        var events: UInt32 = 0
        /// The bytes to send, from `sentCount` on.
        var output: [UInt8] = []
        var sentCount = 0
        var pieceCount = 0
        /// The time at which the next piece is due, in milliseconds.
        var dueAt: UInt64 = 0
        var isConnecting = false
    }

    private let script: Script
    private let port: UInt16
    private var connections: [Connection]
    private let epoll: Int32
    private var ready: [epoll_event]
    private var sink = [UInt8](repeating: 0, count: 64 << 10)
    /// The position at which the search for connections to open continues.
    private var nextToOpen = 0
    private(set) var tally = Attacker.Tally()

    /// Connections opened in a turn: fewer than fit a listener's backlog.
    private static let opensPerTurnMax = 64
    /// At full speed: bytes written to a connection in a turn.
    private static let piecesPerTurnMax = 4
    private static let millisecondsPerTurnMax: Int32 = 20
    private static let eventsPerTurnMax = 64
    private static let endEvents = EPOLLERR.rawValue | EPOLLHUP.rawValue
    /// Bytes of one send(2).
    private static let sendByteCountMax = 16 << 10

    init(_ script: Script, port: UInt16, connectionCount: Int) {
        self.script = script
        self.port = port
        connections = Array(repeating: Connection(), count: connectionCount)
        ready = Array(repeating: epoll_event(), count: Self.eventsPerTurnMax)
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "an attacker needs a descriptor")
    }

    mutating func turn() {
        openSome()
        let now = Self.milliseconds
        var isDue = false
        for index in connections.indices where isWaiting(index) && wantsToSend(index, now) {
            isDue = true
            serve(index, 0, now)
        }
        let patience = isDue ? 0 : Self.millisecondsPerTurnMax
        let count = epoll_wait(epoll, &ready, Int32(Self.eventsPerTurnMax), patience)
        for place in 0..<Int(max(count, 0)) {
            let index = Int(ready[place].data.u64)
            if connections[index].fd >= 0 { serve(index, ready[place].events, now) }
        }
    }

    mutating func end() {
        for index in connections.indices where connections[index].fd >= 0 { close(index) }
        Glibc.close(epoll)
    }

    /// Watches for writability only while the socket is full.
    private mutating func watch(_ index: Int, forRoom: Bool) {
        let events =
            (script.reads(index) ? EPOLLIN.rawValue : 0) | (forRoom ? EPOLLOUT.rawValue : 0)
        guard events != connections[index].events else { return }
        connections[index].events = events
        var event = epoll_event()
        event.events = events
        event.data.u64 = UInt64(index)
        epoll_ctl(epoll, EPOLL_CTL_MOD, connections[index].fd, &event)
    }

    private static var milliseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
    }

    // MARK: Opening

    private mutating func openSome() {
        var opened = 0
        for _ in connections.indices {
            guard opened < Self.opensPerTurnMax, tally.open < connections.count else { return }
            let index = nextToOpen
            nextToOpen = (nextToOpen + 1) % connections.count
            guard connections[index].fd < 0 else { continue }
            guard open(index) else { return }
            opened += 1
        }
    }

    /// Returns false if the machine has no free socket or port at the moment.
    private mutating func open(_ index: Int) -> Bool {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let fd = socket(AF_INET, type, 0)
        guard fd >= 0 else { return false }
        if !script.reads(index) {
            var byteCount: Int32 = 4096
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &byteCount, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 || errno == EINPROGRESS else {
            Glibc.close(fd)
            return false
        }
        connections[index] = Connection(
            fd: fd, events: EPOLLOUT.rawValue, output: script.opening(index), dueAt: Self.milliseconds,
            isConnecting: true)
        var event = epoll_event()
        event.events = EPOLLOUT.rawValue
        event.data.u64 = UInt64(index)
        guard epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 else {
            Glibc.close(fd)
            connections[index].fd = -1
            return false
        }
        tally.open += 1
        tally.opened += 1
        return true
    }

    /// With a reset, so that the port can be reused at once.
    private mutating func close(_ index: Int) {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(
            connections[index].fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        Glibc.close(connections[index].fd)
        connections[index].fd = -1
        tally.open -= 1
    }

    // MARK: Sending and receiving

    /// Whether there may be room to send, because epoll does not watch for it.
    private func isWaiting(_ index: Int) -> Bool {
        connections[index].fd >= 0 && connections[index].events & EPOLLOUT.rawValue == 0
    }

    private func wantsToSend(_ index: Int, _ now: UInt64) -> Bool {
        connections[index].sentCount < connections[index].output.count || connections[index].dueAt <= now
    }

    private mutating func serve(_ index: Int, _ events: UInt32, _ now: UInt64) {
        if events & EPOLLOUT.rawValue != 0 { connections[index].isConnecting = false }
        if events & EPOLLIN.rawValue != 0, !takeIn(index) { return didEnd(index) }
        if events & Self.endEvents != 0 { return didEnd(index) }
        guard !connections[index].isConnecting else { return }
        for _ in 0..<Self.piecesPerTurnMax {
            switch send(index) {
            case .ended: return didEnd(index)
            case .isFull: return watch(index, forRoom: true)
            case .taken: break
            }
            guard connections[index].sentCount == connections[index].output.count else { continue }
            guard connections[index].dueAt <= now, fill(index, now) else { break }
        }
        watch(index, forRoom: false)
    }

    /// Makes the next piece ready to be sent. Returns false if there is none.
    private mutating func fill(_ index: Int, _ now: UInt64) -> Bool {
        let piece = script.piece(index, connections[index].pieceCount)
        connections[index].pieceCount += 1
        guard !piece.isEmpty else {
            connections[index].dueAt = .max
            return false
        }
        connections[index].output = piece
        connections[index].sentCount = 0
        if let rate = script.bytesPerSecond { connections[index].dueAt = now + UInt64(piece.count * 1000 / rate) }
        return true
    }

    private enum SendResult {
        case taken, isFull, ended
    }

    /// Sends as many of the waiting bytes as one system call takes.
    private mutating func send(_ index: Int) -> SendResult {
        let sent = connections[index].sentCount
        let wanted = min(connections[index].output.count - sent, Self.sendByteCountMax)
        guard wanted > 0 else { return .taken }
        let count = connections[index].output.withUnsafeBytes {
            Glibc.send(connections[index].fd, $0.baseAddress! + sent, wanted, Int32(MSG_NOSIGNAL))
        }
        if count < 0 { return errno == EAGAIN || errno == EINTR ? .isFull : .ended }
        connections[index].sentCount += count
        tally.bytesSent += count
        return count == wanted ? .taken : .isFull
    }

    /// Discards received bytes. Returns false at the end of the connection.
    private mutating func takeIn(_ index: Int) -> Bool {
        let count = recv(connections[index].fd, &sink, sink.count, 0)
        return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))
    }

    private mutating func didEnd(_ index: Int) {
        close(index)
        tally.ended += 1
    }
}
