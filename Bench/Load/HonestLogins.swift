import Glibc
import Histogram
import IO
import Slabs
import Synchronization

/// Clients that connect at a fixed rate, each with the right login, and go: how long do they wait for CONNECTED?
///
/// Open loop: latency counts from when a CONNECT was due. Each thread has its share of the rate; a thread whose client waits
/// longer than its interval is late for the next, whose latency says so.
public final class HonestLogins: Sendable {
    public struct Plan: Sendable {
        public var port: UInt16
        public var credentials = Load.Credentials()
        /// Where the clients come from, in host order: 127.0.0.2.
        public var source: UInt32 = 0x7F00_0002
        public var perSecond = 20.0
        public var threadCount = 8
        /// Real-time priority, as `Load.Target.isUrgent` has it.
        public var isUrgent = true

        public init(port: UInt16) { self.port = port }
    }

    private struct State: Sendable {
        var latencies = Histogram<UInt64>(
            highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .two)
        var failure: String?
    }

    private let plan: Plan
    private let state = Guarded(State())
    private let isStopping = Atomic(false)
    private let isRecording = Atomic(false)
    private let threads = Guarded<[pthread_t]>([])
    private let begin = Atomic<UInt64>(0)

    public init(_ plan: Plan) { self.plan = plan }

    deinit { precondition(threads.withLock { $0.isEmpty }, "clients are stopped before they go") }

    /// The first failure. A thread ends with its first.
    public var failure: String? { state.withLock { $0.failure } }

    /// Latencies that were recorded so far, and their number.
    public var latency: (latency: Latency, count: Int) {
        state.withLock { (Latency($0.latencies), Int($0.latencies.totalCount)) }
    }

    /// Whether latencies are recorded. Clients connect in any case.
    public func record(_ isOn: Bool) { isRecording.store(isOn, ordering: .releasing) }

    public func start() {
        isStopping.store(false, ordering: .releasing)
        begin.store(monotonicNanoseconds(), ordering: .releasing)
        for number in 0..<plan.threadCount {
            var thread = pthread_t()
            let client = HonestClient(owner: self, number: number)
            let result = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<HonestClient>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, Unmanaged.passRetained(client).toOpaque())
            invariant(result == 0, "a load thread can be started")
            threads.withLock { $0.append(thread) }
        }
    }

    /// Ends all threads, each after its client.
    public func stop() {
        isStopping.store(true, ordering: .releasing)
        let running = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in running { pthread_join(thread, nil) }
    }

    fileprivate func run(_ number: Int) {
        if plan.isUrgent {
            var least = sched_param(sched_priority: sched_get_priority_min(SCHED_FIFO))
            _ = pthread_setschedparam(pthread_self(), SCHED_FIFO, &least)
        }
        let interval = 1e9 * Double(plan.threadCount) / plan.perSecond
        let start = begin.load(ordering: .acquiring)
        var turn = 0
        while !isStopping.load(ordering: .acquiring) {
            let due = start + UInt64(interval * (Double(turn) + Double(number) / Double(plan.threadCount)))
            turn += 1
            guard sleep(until: due) else { return }
            do throws(HandshakeFailure) {
                try connectOnce()
            } catch {
                return state.withLock { $0.failure = $0.failure ?? error.description }
            }
            guard isRecording.load(ordering: .acquiring) else { continue }
            let latency = monotonicNanoseconds() - due
            state.withLock { _ = $0.latencies.record(latency) }
        }
    }

    /// False: it is time to stop.
    private func sleep(until due: UInt64) -> Bool {
        let stepNanoseconds: UInt64 = 100_000_000
        while !isStopping.load(ordering: .acquiring) {
            let now = monotonicNanoseconds()
            guard now < due else { return true }
            let step = min(due - now, stepNanoseconds)
            var time = timespec(tv_sec: 0, tv_nsec: Int(step))
            nanosleep(&time, nil)
        }
        return false
    }

    private static let patienceSeconds = 10

    private func connectOnce() throws(HandshakeFailure) {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw HandshakeFailure("socket") }
        defer {
            var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
            close(fd)
        }
        var patience = timeval(tv_sec: Self.patienceSeconds, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        guard Self.withAddress(plan.source, 0, { bind(fd, $0, $1) }) == 0 else { throw HandshakeFailure("bind") }
        guard Self.withAddress(0x7F00_0001, plan.port, { connect(fd, $0, $1) }) == 0 else {
            throw HandshakeFailure("connect")
        }
        let frame =
            "CONNECT\naccept-version:1.2\nhost:localhost\nlogin:\(plan.credentials.login)\n"
            + "passcode:\(plan.credentials.passcode)\n\n\0"
        let sent = Array(frame.utf8).withUnsafeBytes { send(fd, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
        guard sent == frame.utf8.count else { throw HandshakeFailure("send") }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while !answer.contains(0) {
            let count = recv(fd, &chunk, chunk.count, 0)
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw HandshakeFailure("recv, for CONNECTED") }
            if count == 0 { throw HandshakeFailure(description: "the server has closed instead of sending CONNECTED") }
            answer += chunk[..<count]
        }
        guard answer.starts(with: "CONNECTED\n".utf8) else {
            let text = String(decoding: answer.prefix(200), as: UTF8.self).replacing("\n", with: " | ")
            throw HandshakeFailure(description: "the server sent \(text.replacing("\0", with: ""))")
        }
    }

    private static func withAddress(
        _ host: UInt32, _ port: UInt16, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = host.bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }
}

/// What a thread of `HonestLogins` is started with.
private final class HonestClient {
    private let owner: HonestLogins
    private let number: Int

    init(owner: HonestLogins, number: Int) {
        self.owner = owner
        self.number = number
    }

    func run() { owner.run(number) }
}
