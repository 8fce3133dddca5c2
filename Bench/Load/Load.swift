public import Drivers
import Glibc
import IO
import Slabs
import Transports

/// A running load: threads that carry out a plan against a server.
///
///     let load = try Load(plan, target: target)
///     try load.awaitReady { ... }
///     load.phase = .measure
///     ...
///     let report = load.end()
public final class Load: Sendable {
    public struct Target: Sendable {
        /// In host order.
        public var address: UInt32
        public var port: UInt16
        public var driver = LoadDriver.uring
        /// The threads of the load have real-time priority (sched(7), SCHED_FIFO) if the process may set it. Then they
        /// measure the server, even while other processes use the CPU.
        public var isUrgent = false
        /// The path of a WebSocket. nil: the protocol of the plan is in TCP as it is.
        public var webSocketPath: String?
        /// nil: no TLS.
        public var tls: TLS?
        /// STOMP: who the clients say that they are.
        public var credentials = Credentials()

        /// - Parameter host: an IPv4 address, or localhost.
        public init?(host: String, port: UInt16) {
            var address = in_addr()
            guard inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host, &address) == 1 else { return nil }
            self.address = UInt32(bigEndian: address.s_addr)
            self.port = port
        }
    }

    /// TLS of the clients. They take whatever certificate the server shows.
    public struct TLS: Sendable, Equatable {
        /// Names of RFC 8446, separated by colons.
        public var suites: String

        public init(suites: String = "TLS_AES_128_GCM_SHA256") { self.suites = suites }
    }

    /// The login and the passcode of every client.
    public struct Credentials: Sendable, Equatable {
        public var login: String
        public var passcode: String

        public init(login: String = "guest", passcode: String = "guest") {
            self.login = login
            self.passcode = passcode
        }
    }

    /// The sum of the reports of all threads.
    public struct Report: Sendable {
        public var counts: Counts
        public var anomalies: Anomalies
        public var latency: Latency
        /// From a message to its confirmation, where the plan has them.
        public var confirmationLatency: Latency
        public var silences: Silences
        public var driver: String
        public var cipher: String?
    }

    public let control: Control
    private let threads: [LoadThread]
    private let peers: WakeDirectory
    private let clientCount: Int
    private let isConfirmed: Bool

    public init(_ plan: Plan, target: Target, threadCount: Int = 1) throws(DriverError) {
        let peers = try WakeDirectory(workerCount: threadCount)
        let control = Control(threadCount: threadCount)
        let requests = Requests(
            plan, credentials: target.credentials, webSocketPath: target.webSocketPath ?? "/")
        let addresses = Addresses(address: target.address, port: target.port, clientCount: plan.clientCount)
        let context = try target.tls.map { (tls) throws(DriverError) in
            try TLSClients.context(tls, usesWebSocket: target.webSocketPath != nil)
        }
        let shares = Share.of(plan, threadCount: threadCount)
        threads = shares.enumerated().map { thread, share in
            LoadThread(
                ThreadSetup(
                    plan: plan, share: share, requests: requests, control: control, thread: thread,
                    addresses: addresses, usesWebSocket: target.webSocketPath != nil, tls: context,
                    connectingCountMax: max(16, Self.connectingCountMax(target) / threadCount), driver: target.driver,
                    isUrgent: target.isUrgent, options: Self.options(plan, share), peers: peers))
        }
        self.peers = peers
        self.control = control
        clientCount = plan.clientCount
        isConfirmed = plan.isConfirmed
        for thread in threads { thread.start() }
    }

    /// Connections that are opened at a time: enough to keep the server busy, but too few to overflow its backlog.
    /// With TLS enough is less, and more would make the memory of handshakes that of idle connections.
    private static func connectingCountMax(_ target: Target) -> Int { target.tls == nil ? 1024 : 64 }
    /// The most clients of a thread. RLIMIT_NOFILE limits the file table of its ring, or with epoll its descriptors.
    public static var clientsPerThreadMax: Int {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return max(Int(clamping: limit.rlim_cur) - descriptorReserve, 1)
    }
    private static let descriptorReserve = 500

    /// Raises the limit of descriptors to the hard limit.
    public static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private static func options(_ plan: Plan, _ share: Share) -> DriverOptions {
        var options = DriverOptions()
        options.opensConnections = true
        let count = share.subscribers.count + share.publishers.count
        options.connectionCountMax = count + 16
        // A POLL takes less memory while many clients wait. Multishot receive takes less CPU for a few clients.
        let isCrowd = count > 4096
        options.receiveMode = isCrowd ? .poll : .multishot
        if isCrowd {
            options.submissionEntryCount = 1024
            options.completionEntryCount = 4096
            options.receiveBufferCount = 256
            options.receiveBufferByteCount = 512
            options.largeReceiveBufferCount = 2
        } else {
            // A quarter of a window may arrive in one piece, for every subscriber of a large fan-out.
            options.receiveBufferCount = 1024
            options.receiveBufferByteCount = 16 << 10
        }
        return options
    }

    public var phase: Control.Phase {
        get { control.phase }
        set {
            control.phase = newValue
            wake()
        }
    }

    /// Makes the first publisher of a `broadcast` plan send one message.
    public func broadcast() {
        control.broadcastCount += 1
        wake()
    }

    private func wake() {
        for thread in 0..<peers.count { peers[thread].wake() }
    }

    /// Waits until every client is connected and subscribed. Returns false after a failure, or if no client is added
    /// for `seconds`.
    public func awaitReady(seconds: Double = 10, progress: (Counts) -> Void = { _ in }) -> Bool {
        wait(seconds: seconds, progress) {
            $0.ready >= self.clientCount
        } measure: {
            $0.ready
        }
    }

    /// Stops sending and waits until all messages under way have arrived. Returns false if they do not.
    public func drain(seconds: Double = 5, progress: (Counts) -> Void = { _ in }) -> Bool {
        phase = .drain
        return wait(seconds: seconds, progress) {
            self.control.isEntered(.drain) && $0.outstanding <= 0
                && (!self.isConfirmed || $0.confirmed >= $0.published)
        } measure: {
            $0.delivered + $0.confirmed
        }
    }

    /// Waits until `isDone`, as long as `measure` grows at least once in `seconds`.
    public func wait(
        seconds: Double, _ progress: (Counts) -> Void, until isDone: (Counts) -> Bool, measure: (Counts) -> Int
    ) -> Bool {
        let pauseMicroseconds: UInt32 = 2000
        var last = -1
        var deadline = UInt64.max
        while true {
            let counts = control.counts
            if isDone(counts) { return true }
            if control.failure != nil { return false }
            let now = monotonicNanoseconds()
            if measure(counts) != last {
                last = measure(counts)
                deadline = now + UInt64(seconds * 1e9)
            }
            if now > deadline { return false }
            progress(counts)
            usleep(pauseMicroseconds)
        }
    }

    /// Closes all connections and ends the threads.
    public func end() -> Report {
        phase = .close
        var sum = ThreadReport()
        for thread in threads {
            guard let report = thread.join() else { continue }
            sum.counts.add(report.counts)
            sum.anomalies.add(report.anomalies)
            sum.latencies.add(report.latencies)
            sum.confirmationLatencies.add(report.confirmationLatencies)
            sum.silences.add(report.silences)
            sum.driver = report.driver
            sum.cipher = sum.cipher ?? report.cipher
        }
        // Messages that never arrived.
        sum.anomalies.lost += max(sum.counts.outstanding, 0)
        if isConfirmed { sum.anomalies.unconfirmed += max(sum.counts.published - sum.counts.confirmed, 0) }
        return Report(
            counts: sum.counts, anomalies: sum.anomalies, latency: Latency(sum.latencies),
            confirmationLatency: Latency(sum.confirmationLatencies), silences: sum.silences, driver: sum.driver,
            cipher: sum.cipher)
    }
}
