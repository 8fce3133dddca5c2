import CProcess
import Glibc
import Slabs
import Synchronization

/// Wrong logins at a fixed rate, whatever the broker does: each on a connection of its own, from one address.
///
/// Half of them are of a user that exists. A connection is reset when the broker has answered. Its thread has the usual
/// priority, unlike `Attacker`, for a rate that is not kept proves nothing.
public final class LoginFlood: Sendable {
    public struct Tally: Sendable, Equatable {
        /// Connections that were opened, and sent a CONNECT.
        public var sent = 0
        /// Those that were answered, or closed.
        public var answered = 0
        /// Those that were due and could not be opened, for want of descriptors or ports.
        public var missed = 0

        public init() {}
    }

    private let port: UInt16
    private let perSecond: Double
    private let user: String
    private let state = Guarded(Tally())
    private let isStopping = Atomic(false)
    private let thread = Guarded<pthread_t?>(nil)

    /// - Parameter user: one that exists.
    public init(port: UInt16, perSecond: Double, user: String) {
        self.port = port
        self.perSecond = perSecond
        self.user = user
    }

    deinit { precondition(thread.withLock { $0 == nil }, "a flood is stopped before it goes") }

    public var tally: Tally { state.withLock { $0 } }

    public func start() {
        var handle = pthread_t()
        let result = pthread_create(
            &handle, nil,
            { argument in
                Unmanaged<LoginFlood>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        precondition(result == 0, "a thread can be started")
        thread.withLock { $0 = handle }
    }

    /// Resets all connections and ends the thread.
    public func stop() {
        isStopping.store(true, ordering: .releasing)
        guard let handle = thread.withLock({ thread in thread.take() }) else { return }
        pthread_join(handle, nil)
    }

    private func run() {
        var wave = Wave(port: port, perSecond: perSecond, user: user)
        while !isStopping.load(ordering: .acquiring) {
            wave.turn()
            let tally = wave.tally
            state.withLock { $0 = tally }
        }
        wave.end()
    }
}

/// The connections of a flood, and their loop.
private struct Wave {
    private let port: UInt16
    private let interval: Double
    private let user: String
    private let start: UInt64
    private var dueCount = 0
    private let epoll: Int32
    private var ready = [epoll_event](repeating: epoll_event(), count: eventsPerTurnMax)
    private var sink = [UInt8](repeating: 0, count: 4096)
    /// By descriptor: whether CONNECT is still to be sent.
    private var open: [Int32: Bool] = [:]
    private(set) var tally = LoginFlood.Tally()

    private static let eventsPerTurnMax = 256
    private static let opensPerTurnMax = 64
    /// Whoever is so late does not make up for it.
    private static let backlogMax = 1000
    private static let openMax = 15_000

    init(port: UInt16, perSecond: Double, user: String) {
        self.port = port
        self.user = user
        interval = 1e9 / perSecond
        start = Self.now
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "a flood needs a descriptor")
    }

    private static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    mutating func turn() {
        let wanted = Int(Double(Self.now - start) / interval)
        if wanted - dueCount > Self.backlogMax {
            tally.missed += wanted - dueCount - Self.backlogMax
            dueCount = wanted - Self.backlogMax
        }
        for _ in 0..<min(wanted - dueCount, Self.opensPerTurnMax) {
            dueCount += 1
            if open.count < Self.openMax, begin() { tally.sent += 1 } else { tally.missed += 1 }
        }
        let count = epoll_wait(epoll, &ready, Int32(Self.eventsPerTurnMax), wanted > dueCount ? 0 : 1)
        for place in 0..<Int(max(count, 0)) { handle(Int32(ready[place].data.fd), ready[place].events) }
    }

    mutating func end() {
        for fd in open.keys { Self.reset(fd) }
        Glibc.close(epoll)
    }

    private mutating func begin() -> Bool {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let fd = socket(AF_INET, type, 0)
        guard fd >= 0 else { return false }
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
        var event = epoll_event()
        event.events = EPOLLIN.rawValue | (result == 0 ? 0 : EPOLLOUT.rawValue)
        event.data.fd = fd
        guard epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 else {
            Glibc.close(fd)
            return false
        }
        open[fd] = result != 0
        if result == 0 { sendConnect(fd) }
        return true
    }

    private func sendConnect(_ fd: Int32) {
        let login = tally.sent.isMultiple(of: 2) ? user : "user-\(tally.sent)"
        let frame =
            "CONNECT\naccept-version:1.2\nhost:localhost\nlogin:\(login)\npasscode:\(UInt64.random(in: 0 ... .max))\n\n\0"
        // A socket whose connection has just been made has room for it.
        _ = Array(frame.utf8).withUnsafeBytes { send(fd, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    private mutating func handle(_ fd: Int32, _ events: UInt32) {
        if events & EPOLLOUT.rawValue != 0, open[fd] == true {
            open[fd] = false
            sendConnect(fd)
            var event = epoll_event()
            event.events = EPOLLIN.rawValue
            event.data.fd = fd
            epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event)
        }
        guard events & ~EPOLLOUT.rawValue != 0 else { return }
        let count = recv(fd, &sink, sink.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        tally.answered += 1
        open[fd] = nil
        Self.reset(fd)
    }

    /// With a reset, so that the port can be reused at once.
    private static func reset(_ fd: Int32) {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        Glibc.close(fd)
    }
}
