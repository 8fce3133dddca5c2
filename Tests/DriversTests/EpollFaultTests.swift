import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

/// How the epoll driver handles errors of the kernel that are hard to cause. If a test cannot cause the error, it
/// passes the errno to the method that handles it.
@Suite(.serialized)
struct EpollFaultTests {
    private let peers: WakeDirectory
    private static let slot = Slot(index: 1, generation: 1)

    init() throws { peers = try WakeDirectory(workerCount: 1) }

    private func makeDriver(listeners: [Int32] = []) throws -> EpollDriver {
        try EpollDriver(options: DriverOptions(), listeners: listeners, wake: peers[0], peers: peers)
    }

    private func turn(_ driver: inout EpollDriver, _ requests: [Submission] = []) -> [Completion] {
        var submissions = Batch<Submission>(capacity: 16)
        for request in requests { submissions.append(request) }
        var completions = Batch<Completion>(capacity: 16)
        driver.poll(submissions, deadline: 0, completions: &completions)
        return (0..<completions.count).map { completions[$0] }
    }

    /// Connects a client, adopts the connection as `slot`, and returns the driver's record.
    private func connect(
        _ driver: inout EpollDriver, port: UInt16, as slot: Slot = slot
    ) throws -> (Client, UnsafeMutablePointer<EpollDriver.Connection>) {
        let client = try Client(port: port)
        let accepted = turn(&driver)
        _ = turn(&driver, [Submission(.adopt, connection: slot, value: try #require(accepted.first).value)])
        let record = driver.record(of: slot)
        return (client, try #require(record))
    }

    @Test func `a descriptor that cannot be watched is a connection that has failed`() throws {
        var driver = try makeDriver()
        // epoll(7) refuses files that are always ready with EPERM, as it refuses sockets with ENOSPC and ENOMEM.
        let fd = open("/dev/null", O_RDONLY | O_CLOEXEC)
        let events = turn(&driver, [Submission(.adopt, connection: Self.slot, value: fd)])
        #expect(events.map(\.kind) == [.receiveFailed])
        #expect(events.first?.value == -EPERM)
        let closing = turn(&driver, [Submission(.close, connection: Self.slot)])
        #expect(closing.map(\.kind) == [.closed])
    }

    @Test func `a newcomer that is lost while it is accepted is no reason to rest`() throws {
        var driver = try makeDriver()
        var completions = Batch<Completion>(capacity: 16)
        for errorNumber in [ECONNABORTED, EPROTO, ENETUNREACH] {
            let goesOn = driver.mayAcceptAfter(-errorNumber, 0, &completions)
            #expect(goesOn)
        }
        #expect(driver.counters.acceptErrors == 3)
        let goesOn = driver.mayAcceptAfter(-EAGAIN, 0, &completions)
        #expect(!goesOn)
        #expect(driver.counters.acceptErrors == 3)
        #expect(completions.count == 0)
    }

    @Test func `a listener without descriptors rests until it is told to go on`() throws {
        var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
        var driver = try makeDriver(listeners: [group.take(worker: 0)])
        var completions = Batch<Completion>(capacity: 16)
        let goesOn = driver.mayAcceptAfter(-EMFILE, 0, &completions)
        #expect(!goesOn)
        #expect(completions.count == 1 && completions[0].kind == .acceptFailed && completions[0].value == -EMFILE)
        let client = try Client(port: group.port)
        #expect(turn(&driver).isEmpty)
        let events = turn(&driver, [Submission(.resumeAccepting)])
        #expect(events.map(\.kind) == [.accepted])
        _ = turn(&driver, events.map { Submission(.refuse, value: $0.value) })
        _ = client
    }

    @Test func `a listener that cannot be watched again goes on resting`() throws {
        var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
        var driver = try makeDriver(listeners: [group.take(worker: 0)])
        var completions = Batch<Completion>(capacity: 16)
        // It is already watched, so epoll_ctl(2) returns EEXIST. The driver handles ENOMEM and ENOSPC in the same way.
        driver.resume(0, &completions)
        #expect(completions.count == 1 && completions[0].kind == .acceptFailed && completions[0].value == -EEXIST)
        #expect(driver.counters.acceptErrors == 1)
        #expect(driver.restingListeners == [0])
    }

    @Test func `a send that was interrupted, or found no memory, took nothing and is tried again`() throws {
        var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
        var driver = try makeDriver(listeners: [group.take(worker: 0)])
        let (client, record) = try connect(&driver, port: group.port)
        var completions = Batch<Completion>(capacity: 16)
        for errorNumber in [EINTR, ENOMEM, ENOBUFS] {
            record.pointee.state.insert(.isWritable)
            driver.endSend(Submission(.send, connection: Self.slot), record, -errorNumber, &completions)
            // No edge would report that the socket has room, because it was never full.
            #expect(record.pointee.state.contains(.isWritable))
        }
        #expect(completions.count == 3 && completions[2].kind == .sendIncomplete && completions[2].value == 0)
        driver.endSend(Submission(.send, connection: Self.slot), record, -EAGAIN, &completions)
        #expect(!record.pointee.state.contains(.isWritable))
        #expect(driver.counters.shortSends == 4)
        _ = turn(&driver, [Submission(.close, connection: Self.slot)])
        _ = client
    }

    @Test func `a receive that was interrupted, or found no memory, is tried again`() throws {
        var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
        var driver = try makeDriver(listeners: [group.take(worker: 0)])
        let (client, record) = try connect(&driver, port: group.port)
        var completions = Batch<Completion>(capacity: 16)
        for errorNumber in [EINTR, ENOMEM, ENOBUFS] {
            record.pointee.state.insert(.isReadable)
            driver.endReceive(record, Self.slot, -errorNumber, &completions)
            #expect(record.pointee.state.contains(.isReadable))
            #expect(!record.pointee.state.contains(.hasEnded))
        }
        driver.endReceive(record, Self.slot, -EAGAIN, &completions)
        #expect(!record.pointee.state.contains(.isReadable))
        #expect(completions.count == 0)
        driver.endReceive(record, Self.slot, -ETIMEDOUT, &completions)
        #expect(record.pointee.state.contains(.hasEnded))
        #expect(completions.count == 1 && completions[0].value == -ETIMEDOUT)
        _ = turn(&driver, [Submission(.close, connection: Self.slot)])
        _ = client
    }

    /// recv(2) stops at urgent data, so the read that looks for the end finds the bytes after it. Connections of the
    /// backlog are read last, into the rest of the arena.
    @Test(arguments: [
        UrgentData(ready: (16383, 16384)), UrgentData(ready: (6000, 6000), newcomer: (10879, 10880)),
    ])
    func `bytes between urgent data and the end take the room of nobody else`(_ urgent: UrgentData) throws {
        let (readySlot, newcomerSlot, floodSlot) = (
            Self.slot, Slot(index: 2, generation: 1), Slot(index: 3, generation: 1)
        )
        var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
        var driver = try makeDriver(listeners: [group.take(worker: 0)])
        let (ready, readyRecord) = try connect(&driver, port: group.port)
        try ready.send([0])
        #expect(turn(&driver).map(\.kind) == [.received])
        var requests: [Submission] = []
        var newcomer: Client?
        if let byteCounts = urgent.newcomer {
            let client = try Client(port: group.port)
            let fd = try #require(turn(&driver).first).value
            try client.sendUrgently(byteCounts, arrivingAt: fd)
            newcomer = client
            requests = [Submission(.adopt, connection: newcomerSlot, value: fd)]
        }
        let (flood, _) = try connect(&driver, port: group.port, as: floodSlot)
        let sent = pattern(300_000)
        try flood.send(sent)
        var received: [Slot: [UInt8]] = [:]
        var ended: Set<Slot> = []
        func note(_ events: [Completion]) {
            for event in events {
                if event.kind == .receiveEnded { ended.insert(event.connection) }
                guard event.kind == .received else { continue }
                received[event.connection, default: []] += UnsafeRawBufferPointer(
                    start: event.pointer, count: Int(event.value))
            }
        }
        // More bytes than it may deliver in a turn: from now on it is in the backlog.
        note(turn(&driver))
        #expect(received[floodSlot]?.count == EpollDriver.receiveByteCountMax)
        try ready.sendUrgently(urgent.ready, arrivingAt: readyRecord.pointee.fd)
        var tight = ReceiveBudget(byteCountMax: EpollDriver.arenaByteCount)
        while tight.byteCount > ReceiveBudget.leastByteCount {
            tight.turnBegins(byteCount: tight.byteCount)
            tight.turnEnds(after: .max)
        }
        driver.budget = tight
        note(turn(&driver, requests))
        #expect(driver.arenaUsedByteCount <= tight.byteCount)
        #expect(!ended.contains(floodSlot))
        let expected = [readySlot: urgent.ready, newcomerSlot: urgent.newcomer].compactMapValues { $0 }
        for _ in 0..<100 where ended.count < expected.count || received[floodSlot]?.count != sent.count {
            note(turn(&driver))
        }
        #expect(ended == Set(expected.keys))
        for (slot, byteCounts) in expected {
            let isWhole = received[slot] == pattern(byteCounts.before) + pattern(byteCounts.after, seed: 1)
            #expect(isWhole)
        }
        let isWhole = received[floodSlot] == sent
        #expect(isWhole)
        _ = newcomer
    }

    @Test func `no process has so many descriptors that a slot index leaves the table`() {
        func countMax(_ wanted: Int, _ free: Int, _ workerCount: Int = 1) -> Int {
            EpollDriver.connectionCountMax(wanted: wanted, freeDescriptorCount: free, workerCount: workerCount)
        }
        #expect(countMax(0, 1016) == 1000)
        #expect(countMax(0, 1016, 2) == 500)
        #expect(countMax(700, 1016) == 700)
        #expect(countMax(0, 3) == 1)
        // The largest value of fs.nr_open.
        #expect(countMax(0, 1_073_741_816) == 1 << 20)
        #expect(countMax(1 << 30, 1_073_741_816) == 1 << 20)
    }

    @Test func `a connection that is handed on keeps its origin`() throws {
        let options = DriverOptions()
        var driver = try EpollDriver(options: options, listeners: [], wake: peers[0], peers: peers)
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: 200), address: 0x7F00_0001)
        #expect(peers.handOn(HandedOn(fd: fd, origin: origin), to: 0))
        let events = turn(&driver)
        #expect(events.map(\.kind) == [.woken, .accepted])
        #expect(events.last?.origin == origin)
        _ = turn(&driver, [Submission(.refuse, value: fd)])
    }

    @Test(arguments: DriverVariant.allCases)
    func `a wait that a signal interrupts goes on`(_ variant: DriverVariant) async {
        // In a separate process, because a signal handler is shared by all threads.
        switch variant {
        case .epoll:
            await #expect(processExitsWith: .success) { try interruptedPoll(.epoll) }
        #if URing
            case .uringAdaptive:
                await #expect(processExitsWith: .success) { try interruptedPoll(.uringAdaptive) }
            default: break
        #endif
        }
    }

    @Test func `a socket that cannot listen is closed and explained`() throws {
        let endpoint = try Endpoint("127.0.0.1:0")
        let fd = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let error = #expect(throws: DriverError.self) { try endpoint.startListening(fd) }
        #expect(error?.errorNumber == EOPNOTSUPP)
        #expect(error?.reason == .other)
    }

    @Test func `no address space for the connections is explained`() {
        let error = #expect(throws: DriverError.self) {
            _ = try ConnectionTable<EpollDriver.Connection>(countMax: 1 << 56)
        }
        #expect(error?.reason == .noMemory)
        #expect(error?.errorNumber == ENOMEM)
    }

    @Test(arguments: KernelOperation.allCases.filter { decision(for: $0, errorNumber: EBADF) == .misuse })
    func `what only an error of ours explains is no outcome`(_ operation: KernelOperation) async {
        #expect(decision(for: operation, errorNumber: EBADF) == .misuse)
        expectNoMisuse(operation, 0)
        await #expect(processExitsWith: .failure) { expectNoMisuse(.close, -EBADF) }
    }
}

/// What two clients send: some bytes, an urgent byte, more bytes, and the end.
struct UrgentData: Sendable, CustomTestStringConvertible {
    typealias ByteCounts = (before: Int, after: Int)
    var ready: ByteCounts
    var newcomer: ByteCounts?

    var testDescription: String { "\(ready)" + (newcomer.map { ", a newcomer \($0)" } ?? "") }
}

extension Client {
    /// Returns when all bytes have arrived at the other end, `fd`.
    fileprivate func sendUrgently(_ byteCounts: UrgentData.ByteCounts, arrivingAt fd: Int32) throws {
        try send(pattern(byteCounts.before))
        var byte: UInt8 = 0
        try #require(retryingInterrupts { Glibc.send(self.fd, &byte, 1, Int32(MSG_OOB | MSG_NOSIGNAL)) } == 1)
        try send(pattern(byteCounts.after, seed: 1))
        endSending()
        // POLLRDHUP, which <poll.h> names only with _GNU_SOURCE.
        var end = pollfd(fd: fd, events: 0x2000, revents: 0)
        try #require(retryingInterrupts { poll(&end, 1, 5000) } == 1)
    }
}

/// Polls in which a signal interrupts the wait again and again, until a connection comes.
private func interruptedPoll(_ variant: DriverVariant) throws {
    // Without SA_RESTART, so that the wait returns.
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGUSR2, &action, nil)
    // The threads of tasks block signals.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGUSR2)
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    let bench = try DriverBench(variant)
    let waiter = UInt(pthread_self())
    let port = bench.port
    try withThread {
        var client: Client?
        for round in 0..<200 {
            pthread_kill(pthread_t(waiter), SIGUSR2)
            usleep(200)
            if round == 100 { client = try Client(port: port) }
        }
        _ = client
    } whileRunning: {
        guard bench.turns(until: { $0.contains { $0.kind == .accepted } }) != nil else { exit(1) }
    }
}
