import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

/// All configurations of a driver. The whole suite runs on each.
enum DriverVariant: String, CaseIterable, Codable, CustomTestStringConvertible {
    case epoll
    #if URing
        case uringAdaptive, uringPoll, uringMultishot, uringUnrestricted
        /// Without the features that older kernels lack.
        case uringRelativeTimeouts, uringSingleIssuer, uringCooperative
        case uringCountedSends
        /// Plain descriptors, as before Linux 6.13: with all other features of this kernel, and with those of Linux
        /// 6.1.
        case uringPlain, uringPlainMultishot, uringPlainOld
    #endif

    var testDescription: String { rawValue }
    var isURing: Bool { self != .epoll }
    /// Whether connections are read in rotation. Only their buffers limit multishot receives.
    var takesTurns: Bool {
        #if URing
            self != .uringMultishot && self != .uringPlainMultishot
        #else
            true
        #endif
    }
    var isPlain: Bool {
        #if URing
            [.uringPlain, .uringPlainMultishot, .uringPlainOld].contains(self)
        #else
            false
        #endif
    }
    static var uringOnly: [DriverVariant] { allCases.filter { $0.isURing } }
    /// Like a kernel that cannot return the address of a direct descriptor.
    var lacksPeerAddress: Bool {
        #if URing
            return self == .uringRelativeTimeouts
        #else
            return false
        #endif
    }
}

/// One driver of either kind.
struct AnyDriver: ~Copyable {
    private var epoll: UnsafeMutablePointer<EpollDriver>?
    #if URing
        private var uring: UnsafeMutablePointer<URingDriver>?
    #endif

    init(
        _ variant: DriverVariant, options: DriverOptions, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory
    ) throws {
        #if URing
            if variant.isURing {
                var options = options
                var features = try RingFeatures.ofThisKernel(variant.isPlain ? .plain : .auto).get()
                switch variant {
                case .epoll, .uringAdaptive, .uringPlain: break
                case .uringPoll: options.receiveMode = .poll
                case .uringMultishot, .uringPlainMultishot: options.receiveMode = .multishot
                case .uringUnrestricted: options.isRestricted = false
                case .uringRelativeTimeouts, .uringPlainOld:
                    features.hasAbsoluteTimeout = false
                    features.hasMinWait = false
                    features.hasResetOnClose = false
                    features.hasInstall = false
                    features.hasZeroCopySend = false
                case .uringSingleIssuer: features = try RingFeatures(best: .singleIssuer)
                case .uringCooperative: features = try RingFeatures(best: .cooperative)
                case .uringCountedSends: features.hasSilentSend = false
                }
                let driver = try URingDriver(
                    options: options, features: features, listeners: listeners, wake: wake, peers: peers)
                uring = .allocate(capacity: 1)
                uring?.initialize(to: driver)
                return
            }
        #endif
        let driver = try EpollDriver(options: options, listeners: listeners, wake: wake, peers: peers)
        epoll = .allocate(capacity: 1)
        epoll?.initialize(to: driver)
    }

    mutating func poll(
        _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>
    ) {
        epoll?.pointee.poll(submissions, deadline: deadline, completions: &completions)
        #if URing
            uring?.pointee.poll(submissions, deadline: deadline, completions: &completions)
        #endif
    }

    mutating func carryOut(_ submissions: borrowing Batch<Submission>, completions: inout Batch<Completion>) {
        epoll?.pointee.carryOut(submissions, completions: &completions)
        #if URing
            uring?.pointee.carryOut(submissions, completions: &completions)
        #endif
    }

    var counters: DriverCounters {
        #if URing
            if let uring { return uring.pointee.counters }
        #endif
        return epoll!.pointee.counters
    }

    var budget: ReceiveBudget {
        #if URing
            if let uring { return uring.pointee.budget }
        #endif
        return epoll!.pointee.budget
    }

    /// Whether sockets are direct descriptors. Otherwise they are descriptors of this process.
    var hasDirectDescriptors: Bool {
        #if URing
            if let uring { return !uring.pointee.isPlain }
        #endif
        return false
    }

    var connectionCountMax: Int {
        #if URing
            if let uring { return uring.pointee.connectionCountMax }
        #endif
        return epoll!.pointee.connectionCountMax
    }

    var level: String {
        #if URing
            if let uring { return uring.pointee.level }
        #endif
        return epoll!.pointee.level
    }

    mutating func peerAddress(of connection: Slot) -> String? {
        #if URing
            if let uring { return uring.pointee.peerAddress(of: connection) }
        #endif
        return epoll!.pointee.peerAddress(of: connection)
    }

    mutating func peerAddress(ofAccepted descriptor: Int32) -> String? {
        #if URing
            if let uring { return uring.pointee.peerAddress(ofAccepted: descriptor) }
        #endif
        return epoll!.pointee.peerAddress(ofAccepted: descriptor)
    }

    mutating func peerCredentials(of connection: Slot) -> PeerCredentials? {
        #if URing
            if let uring { return uring.pointee.peerCredentials(of: connection) }
        #endif
        return epoll!.pointee.peerCredentials(of: connection)
    }

    mutating func peerCredentials(ofAccepted descriptor: Int32) -> PeerCredentials? {
        #if URing
            if let uring { return uring.pointee.peerCredentials(ofAccepted: descriptor) }
        #endif
        return epoll!.pointee.peerCredentials(ofAccepted: descriptor)
    }

    mutating func shutDown() {
        if let epoll {
            epoll.move().shutDown()
            epoll.deallocate()
        }
        epoll = nil
        #if URing
            if let uring {
                uring.move().shutDown()
                uring.deallocate()
            }
            uring = nil
        #endif
    }
}

/// A completion, with a copy of the bytes.
struct Event: CustomStringConvertible {
    var kind: Completion.Kind
    var connection: Slot
    var value: Int32
    /// `value` of the completion.
    var address: UInt64
    var origin: ConnectionOrigin { ConnectionOrigin(packed: address) }
    var bytes: [UInt8] = []

    var description: String { "\(kind)(\(connection.index).\(connection.generation), \(value))" }
}

/// Takes the place of the core: passes submissions to a driver and checks its completions.
final class DriverBench {
    var driver: AnyDriver
    let peers: WakeDirectory
    let port: UInt16
    /// The Unix socket that it listens on, instead of a port.
    private let file: UnixSocketFile?
    private var submissions = Batch<Submission>(capacity: 64)
    private var completions = Batch<Completion>(capacity: 64)
    private var nextIndex: UInt32 = 1

    static let turnsMax = 20_000
    /// Under a sanitizer everything takes longer: TEST_PATIENCE times as long.
    static let patienceNanoseconds =
        3_000_000_000 * (getenv("TEST_PATIENCE").flatMap { UInt64(String(cString: $0)) } ?? 1)

    init(
        _ variant: DriverVariant, peers: WakeDirectory? = nil, worker: Int = 0, address: String = "127.0.0.1:0",
        unix: UnixSocketFile? = nil, _ configure: (inout DriverOptions) -> Void = { _ in }
    ) throws {
        var options = DriverOptions()
        options.connectionCountMax = 1200
        configure(&options)
        var group =
            try unix.map { try ListenerGroup(unix: $0, workerCount: 1) }
            ?? ListenerGroup(address: address, workerCount: 1)
        let peers = try peers ?? WakeDirectory(workerCount: 1)
        self.peers = peers
        port = group.port
        file = unix
        driver = try AnyDriver(
            variant, options: options, listeners: [group.take(worker: 0)], wake: peers[worker], peers: peers)
    }

    deinit { driver.shutDown() }

    var soon: UInt64 { DriverBench.now + Self.patienceNanoseconds }

    static var now: UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    /// Makes one poll. Without a deadline it waits for a completion.
    @discardableResult
    func turn(_ requests: [Submission] = [], deadline: UInt64? = nil) -> [Event] {
        submissions.removeAll()
        for request in requests { submissions.append(request) }
        completions.removeAll()
        driver.poll(submissions, deadline: deadline ?? soon, completions: &completions)
        return (0..<completions.count).map { event(completions[$0]) }
    }

    /// Has submissions carried out ahead of the next poll. Returns what is reported at once.
    func carryOut(_ requests: [Submission]) -> [Event] {
        submissions.removeAll()
        for request in requests { submissions.append(request) }
        let countBefore = completions.count
        driver.carryOut(submissions, completions: &completions)
        return (countBefore..<completions.count).map { event(completions[$0]) }
    }

    /// What the last poll has reported, with the bytes as they are now.
    var lastEvents: [Event] { (0..<completions.count).map { event(completions[$0]) } }

    private func event(_ completion: Completion) -> Event {
        var event = Event(
            kind: completion.kind, connection: completion.connection, value: completion.value,
            address: completion.address)
        if completion.kind == .received {
            event.bytes = Array(UnsafeRawBufferPointer(start: completion.pointer, count: Int(completion.value)))
        }
        return event
    }

    /// Polls until `isDone` returns true for all events so far. nil: it did not happen in time.
    @discardableResult
    func turns(_ requests: [Submission] = [], until isDone: ([Event]) -> Bool) -> [Event]? {
        var events = turn(requests)
        let deadline = soon
        var remaining = Self.turnsMax
        while !isDone(events) {
            remaining -= 1
            guard remaining > 0, DriverBench.now < deadline else { return nil }
            events += turn([], deadline: deadline)
        }
        return events
    }

    func newSlot() -> Slot {
        defer { nextIndex += 1 }
        return Slot(index: nextIndex, generation: 1)
    }

    /// Connects a client and adopts the connection.
    func connect() throws -> (Client, Slot) {
        let client = try Client(port: port)
        let slot = newSlot()
        try adopt(as: slot)
        return (client, slot)
    }

    /// Waits for an accepted connection and adopts it.
    func adopt(as slot: Slot) throws {
        let events = try #require(turns { $0.contains { $0.kind == .accepted } })
        let accepted = try #require(events.first { $0.kind == .accepted })
        turn([Submission(.adopt, connection: slot, value: accepted.value)], deadline: 0)
    }

    /// Sends bytes and returns the events that the poll reported.
    func send(_ bytes: [UInt8], to slot: Slot, deadline: UInt64 = 0) -> [Event] {
        bytes.withUnsafeBytes {
            turn(
                [Submission(.send, connection: slot, pointer: $0.baseAddress, byteCount: $0.count)], deadline: deadline)
        }
    }

    func received(_ events: [Event], by slot: Slot) -> [UInt8] {
        events.filter { $0.kind == .received && $0.connection == slot }.flatMap(\.bytes)
    }

    func close(_ slot: Slot, isReset: Bool = false) -> [Event]? {
        turns([Submission(.close, connection: slot, value: isReset ? 1 : 0)]) {
            $0.contains { $0.kind == .closed && $0.connection == slot }
        }
    }
}

struct ConnectError: Error { var errorNumber: Int32 }

/// A blocking client socket on loopback. All waits have a time limit.
final class Client {
    private(set) var fd: Int32

    init(port: UInt16, receiveBufferByteCount: Int32? = nil) throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        try #require(fd >= 0)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        if var byteCount = receiveBufferByteCount {
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &byteCount, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var result = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        // A ring with cooperative task work interrupts system calls of its thread. The connect continues.
        if result < 0, errno == EINTR {
            var event = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
            result = retryingInterrupts { poll(&event, 1, 5000) } == 1 ? 0 : -1
            // A refused connect also ends the wait.
            var failure: Int32 = 0
            var byteCount = socklen_t(MemoryLayout<Int32>.size)
            if result == 0, getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &byteCount) == 0, failure != 0 {
                errno = failure
                result = -1
            }
        }
        guard result == 0 else { throw ConnectError(errorNumber: errno) }
    }

    /// Connects to a Unix socket.
    init(unix path: String) throws {
        fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        try #require(fd >= 0)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let address = try #require(UnixAddress(path))
        let result = retryingInterrupts { address.withPointer { Glibc.connect(fd, $0, $1) } }
        guard result == 0 else { throw ConnectError(errorNumber: errno) }
    }

    deinit { close() }

    func close() {
        if fd >= 0 { Glibc.close(fd) }
        fd = -1
    }

    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        close()
    }

    func endSending() { shutdown(fd, Int32(SHUT_WR)) }

    func send(_ bytes: [UInt8]) throws {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { bytes in
                retryingInterrupts {
                    Glibc.send(fd, bytes.baseAddress! + offset, bytes.count - offset, Int32(MSG_NOSIGNAL))
                }
            }
            try #require(count > 0, "client send: errno \(errno)")
            offset += count
        }
    }

    /// Sends as many bytes as the socket takes now.
    func sendSome(_ bytes: ArraySlice<UInt8>) -> Int {
        let count = bytes.withUnsafeBytes {
            Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        }
        return max(count, 0)
    }

    /// Receives up to `countMax` bytes. Empty: the end. nil: an error.
    func receive(_ countMax: Int = 1 << 16, waits: Bool = true) -> [UInt8]? {
        let flags = waits ? 0 : Int32(MSG_DONTWAIT)
        var count = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: countMax) { buffer, initializedCount in
            count = retryingInterrupts { recv(fd, buffer.baseAddress, countMax, flags) }
            initializedCount = max(count, 0)
        }
        return count < 0 ? nil : bytes
    }

    func receive(exactly byteCount: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < byteCount {
            let more = try #require(receive(byteCount - bytes.count), "client receive: errno \(errno)")
            try #require(!more.isEmpty, "the connection ended early")
            bytes += more
        }
        return bytes
    }
}

func retryingInterrupts<Result: SignedInteger>(_ call: () -> Result) -> Result {
    for _ in 0..<100 {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
    return -1
}

/// Bytes that differ at each position, so that loss, repetition and reordering are detected.
func pattern(_ byteCount: Int, seed: UInt8 = 0) -> [UInt8] {
    let start = Int(seed) * 251
    return Array(patternBytes[start..<start + byteCount])
}

/// A linear congruential sequence: it does not repeat within any block size that matters.
private let patternBytes: [UInt8] = {
    var state: UInt32 = 1
    var bytes: [UInt8] = []
    bytes.reserveCapacity(9 << 20)
    while bytes.count < 9 << 20 {
        state = state &* 1_664_525 &+ 1_013_904_223
        withUnsafeBytes(of: state) { bytes.append(contentsOf: $0) }
    }
    return bytes
}()

/// Whether two long sequences are equal. A failed expectation does not print them.
func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool { left == right }
