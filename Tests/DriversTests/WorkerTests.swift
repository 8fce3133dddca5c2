import Glibc
import IO
import Slabs
import Synchronization
import Testing

@testable import Drivers

extension DriverTests {
    @Test(arguments: DriverVariant.allCases)
    func `another thread wakes the driver, and many calls are one completion`(_ variant: DriverVariant) async throws {
        let bench = try DriverBench(variant)
        for _ in 0..<20 {
            let handle = bench.peers[0]
            try onThread {
                for _ in 0..<10 { handle.wake() }
            }
            let events = try #require(bench.turns { $0.contains { $0.kind == .woken } })
            #expect(events.allSatisfy { $0.kind == .woken })
            while !bench.turn([], deadline: 0).isEmpty {}
        }
    }

    /// Two workers in two threads. One accepts connections, keeps every second one and hands the others off.
    @Test(arguments: DriverVariant.allCases)
    func `connections are handed on to another worker and work there`(_ variant: DriverVariant) throws {
        let peers = try WakeDirectory(workerCount: 2)
        let isStopping = Atomic(false)
        let isReady = Atomic(false)
        let handedOn = Atomic(0)
        let bench = try DriverBench(variant, peers: peers, worker: 0) { $0.findsPeerAddress = true }
        try withThread {
            let other = try DriverBench(variant, peers: peers, worker: 1) { $0.findsPeerAddress = true }
            isReady.store(true, ordering: .releasing)
            peers[0].wake()
            var events: [Event] = []
            while !isStopping.load(ordering: .acquiring) {
                if events.isEmpty { events = other.turn() }
                let event = events.removeFirst()
                switch event.kind {
                case .accepted:
                    #expect(event.origin.listener == ListenerID(rawValue: 0))
                    #expect(event.origin.address == 0x7F00_0001)
                    handedOn.wrappingAdd(1, ordering: .relaxed)
                    let adopt = Submission(.adopt, connection: other.newSlot(), value: event.value)
                    events += other.turn([adopt], deadline: 0)
                case .received:
                    events += other.send(event.bytes, to: event.connection)
                default: break
                }
            }
        } whileRunning: {
            defer {
                isStopping.store(true, ordering: .releasing)
                bench.turn([Submission(.wake, peer: 1)], deadline: 0)
                peers[1].wake()
            }
            while !isReady.load(ordering: .acquiring) { bench.turn() }
            var clients: [Client] = []
            for place in 0..<20 {
                if place % 2 == 0 {
                    let client = try Client(port: bench.port)
                    let events = try #require(bench.turns { $0.contains { $0.kind == .accepted } })
                    let accepted = try #require(events.first { $0.kind == .accepted })
                    bench.turn([Submission(handOff: accepted.value, to: 1, from: accepted.origin)], deadline: 0)
                    clients.append(client)
                } else {
                    _ = try bench.connect()
                }
            }
            for client in clients {
                // The hand-off also has a completion in our ring.
                bench.turn([], deadline: 0)
                try client.send(pattern(333))
                #expect(try client.receive(exactly: 333) == pattern(333))
            }
            bench.turn([], deadline: 0)
            #expect(bench.driver.counters.handedOff == 10)
            // There is no such worker, so the connection is closed.
            let client = try Client(port: bench.port)
            let events = try #require(bench.turns { $0.contains { $0.kind == .accepted } })
            bench.turn([Submission(.handOff, value: events[0].value, peer: 77)], deadline: 0)
            #expect(client.receive() == [])
            #expect(bench.driver.counters.handOffErrors == 1)
        }
        #expect(handedOn.load(ordering: .relaxed) == 10)
    }

    @Test(arguments: DriverVariant.allCases)
    func `one worker wakes another with a submission`(_ variant: DriverVariant) throws {
        let peers = try WakeDirectory(workerCount: 2)
        let bench = try DriverBench(variant, peers: peers, worker: 0)
        let wokenCount = Atomic(0)
        try withThread {
            let other = try DriverBench(variant, peers: peers, worker: 1)
            var requests: [Submission] = []
            for _ in 0..<10 {
                guard other.turns(requests, until: { $0.contains { $0.kind == .woken } }) != nil else { return }
                wokenCount.wrappingAdd(1, ordering: .relaxed)
                requests = [Submission(.wake, peer: 0)]
            }
            other.turn(requests, deadline: 0)
        } whileRunning: {
            for _ in 0..<10 {
                // The other worker may not have started yet. Its eventfd keeps the wake-up.
                #expect(bench.turns([Submission(.wake, peer: 1)]) { $0.contains { $0.kind == .woken } } != nil)
            }
        }
        #expect(wokenCount.load(ordering: .relaxed) == 10)
    }
}

/// Runs `body` on a new thread and waits for it.
func onThread(_ body: @escaping @Sendable () throws -> Void) throws { try withThread(body, whileRunning: {}) }

/// Runs `body` on a new thread while `work` runs on this one.
func withThread(_ body: @escaping @Sendable () throws -> Void, whileRunning work: () throws -> Void) throws {
    final class Box: Sendable {
        let body: @Sendable () throws -> Void
        let error = Mutex<(any Error)?>(nil)
        init(_ body: @escaping @Sendable () throws -> Void) { self.body = body }
    }
    let box = Box(body)
    var thread = pthread_t()
    let result = pthread_create(
        &thread, nil,
        { argument in
            let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
            do { try box.body() } catch { box.error.withLock { $0 = error } }
            return nil
        }, Unmanaged.passRetained(box).toOpaque())
    try #require(result == 0)
    var isJoined = false
    defer { if !isJoined { pthread_join(thread, nil) } }
    try work()
    pthread_join(thread, nil)
    isJoined = true
    if let error = box.error.withLock({ $0 }) { throw error }
}
