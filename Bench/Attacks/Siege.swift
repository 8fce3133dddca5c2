import Glibc

/// The connections of an attack, and the loop over poll(2) that plays them.
struct Siege {
    private struct Connection {
        var fd: Int32 = -1
        /// What waits to be sent, from `sentCount` on.
        var output: [UInt8] = []
        var sentCount = 0
        var pieceCount = 0
        /// When the next piece is due, in milliseconds.
        var dueAt: UInt64 = 0
        var isConnecting = false
    }

    private let script: Script
    private let port: UInt16
    private var connections: [Connection]
    private var entries: [pollfd]
    private var sink = [UInt8](repeating: 0, count: 64 << 10)
    /// Where the search for connections to open goes on.
    private var nextToOpen = 0
    private(set) var tally = Attacker.Tally()

    /// Opened in a turn: fewer than a listener's backlog holds.
    private static let opensPerTurnMax = 64
    /// Where each sends as fast as it can: written to a connection in a turn.
    private static let piecesPerTurnMax = 4
    private static let millisecondsPerTurnMax: Int32 = 20

    init(_ script: Script, port: UInt16, connectionCount: Int) {
        self.script = script
        self.port = port
        connections = Array(repeating: Connection(), count: connectionCount)
        entries = Array(repeating: pollfd(fd: -1, events: 0, revents: 0), count: connectionCount)
    }

    mutating func turn() {
        openSome()
        let now = Self.milliseconds
        for index in connections.indices where connections[index].fd >= 0 {
            var events = script.reads(index) ? POLLIN : 0
            if wantsToSend(index, now) { events |= POLLOUT }
            entries[index].events = Int16(events)
        }
        guard poll(&entries, nfds_t(entries.count), Self.millisecondsPerTurnMax) > 0 else { return }
        for index in entries.indices where entries[index].revents != 0 && entries[index].fd >= 0 {
            serve(index, Int32(entries[index].revents), now)
        }
    }

    mutating func end() {
        for index in connections.indices where connections[index].fd >= 0 { close(index) }
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

    /// False when the machine gives no socket or port now.
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
            fd: fd, output: script.opening(index), dueAt: Self.milliseconds, isConnecting: true)
        entries[index].fd = fd
        tally.open += 1
        tally.opened += 1
        return true
    }

    /// With a reset, so that no port is kept from being used again.
    private mutating func close(_ index: Int) {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(
            connections[index].fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        Glibc.close(connections[index].fd)
        connections[index].fd = -1
        entries[index].fd = -1
        tally.open -= 1
    }

    // MARK: Sending and receiving

    private func wantsToSend(_ index: Int, _ now: UInt64) -> Bool {
        let connection = connections[index]
        if connection.isConnecting || connection.sentCount < connection.output.count { return true }
        return connection.dueAt <= now
    }

    private mutating func serve(_ index: Int, _ events: Int32, _ now: UInt64) {
        connections[index].isConnecting = false
        if events & POLLIN != 0, !takeIn(index) { return didEnd(index) }
        if events & (POLLERR | POLLHUP) != 0 { return didEnd(index) }
        guard events & POLLOUT != 0 else { return }
        for _ in 0..<Self.piecesPerTurnMax {
            guard send(index) else { return didEnd(index) }
            guard connections[index].sentCount == connections[index].output.count else { return }
            guard connections[index].dueAt <= now, fill(index, now) else { return }
        }
    }

    /// The next piece waits to be sent; false: there is none.
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

    /// Sends what waits, as far as there is room; false at the connection's end.
    private mutating func send(_ index: Int) -> Bool {
        let sent = connections[index].sentCount
        guard sent < connections[index].output.count else { return true }
        let count = connections[index].output.withUnsafeBytes {
            Glibc.send(connections[index].fd, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
        }
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        connections[index].sentCount += count
        tally.bytesSent += count
        return true
    }

    /// Throws away what came; false at the connection's end.
    private mutating func takeIn(_ index: Int) -> Bool {
        let count = recv(connections[index].fd, &sink, sink.count, 0)
        return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))
    }

    private mutating func didEnd(_ index: Int) {
        close(index)
        tally.ended += 1
    }
}
