import Glibc
import IO
import Testing

@testable import Drivers

/// Each in a process of its own, since the limits are those of the whole process.
struct ShortOfDescriptorsTests {
    @Test func `the epoll driver says that it needs a descriptor, and keeps no listener`() async {
        await #expect(processExitsWith: .success) {
            try succeeds {
                let peers = try WakeDirectory(workerCount: 1)
                var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
                let listener = group.take(worker: 0)
                let taken = TakenDescriptors(leaving: 0)
                let error = failure {
                    _ = try EpollDriver(options: DriverOptions(), listeners: [listener], wake: peers[0], peers: peers)
                }
                return error?.reason == .noDescriptors && taken.freeCount == 1
            }
        }
    }

    @Test(arguments: [0, 1])
    func `wake-up handles for some workers are not kept without the others`(_ spare: Int) async {
        await #expect(processExitsWith: .success) { [spare] in
            try succeeds {
                let taken = TakenDescriptors(leaving: spare)
                let error = failure { _ = try WakeDirectory(workerCount: 3) }
                return error?.reason == .noDescriptors && taken.freeCount == spare
            }
        }
    }

    @Test(arguments: [0, 2])
    func `listeners for some workers are not kept without the others`(_ spare: Int) async {
        await #expect(processExitsWith: .success) { [spare] in
            try succeeds {
                let taken = TakenDescriptors(leaving: spare)
                let error = failure { _ = try ListenerGroup(address: "127.0.0.1:0", workerCount: 3) }
                return error?.reason == .noDescriptors && error?.description.contains("ulimit -n") == true
                    && taken.freeCount == spare
            }
        }
    }

    @Test(arguments: DriverVariant.allCases.filter { $0 == .epoll || $0.isPlain })
    func `a listener rests while there are no descriptors, and goes on when there are`(
        _ variant: DriverVariant
    ) async {
        await #expect(processExitsWith: .success) { [variant] in
            // A ring's accept looks at the limit when it is armed.
            TakenDescriptors.lowerLimit()
            try succeeds {
                let bench = try DriverBench(variant)
                let client = try Client(port: bench.port)
                let taken = TakenDescriptors(leaving: 0)
                var events: [Event] = []
                for _ in 0..<1000 where events.isEmpty { events = bench.turn([], deadline: 0) }
                guard events.first?.kind == .acceptFailed, events.first?.value == -EMFILE else { return false }
                taken.giveBack()
                events = bench.turns([Submission(.resumeAccepting)]) { $0.contains { $0.kind == .accepted } } ?? []
                _ = client
                return events.count == 1 && bench.driver.counters.acceptErrors == 1
            }
        }
    }

    @Test func `the epoll driver says that it needs address space, and keeps no descriptor`() async {
        await #expect(processExitsWith: .success) {
            let limit = try AddressSpaceLimit(leaving: 8 << 20)
            try succeeds {
                let peers = try WakeDirectory(workerCount: 1)
                let taken = TakenDescriptors(leaving: 4)
                let error = failure {
                    _ = try EpollDriver(options: DriverOptions(), listeners: [], wake: peers[0], peers: peers)
                }
                return error?.reason == .noMemory && taken.freeCount == 4
            }
            limit.lift()
        }
    }

    #if URing
        @Test(arguments: [0, 1, 2])
        func `a ring, or the self-test's sockets, need descriptors and say so`(_ spare: Int) async {
            await #expect(processExitsWith: .success) { [spare] in
                try succeeds {
                    let taken = TakenDescriptors(leaving: spare)
                    let error = failure { _ = try RingFeatures(best: .deferred) }
                    return error?.reason == .noDescriptors && taken.freeCount == spare
                }
            }
        }

        @Test(arguments: DriverVariant.allCases)
        func `a driver that ends leaves no descriptor open, whatever it has heard of`(_ variant: DriverVariant) async {
            await #expect(processExitsWith: .success) { [variant] in
                TakenDescriptors.lowerLimit()
                try succeeds {
                    // The self-test's own sockets come and go before the count.
                    _ = try RingFeatures.ofThisKernel(variant.isPlain ? .plain : .auto).get()
                    let peers = try WakeDirectory(workerCount: 1)
                    let before = openDescriptorCount()
                    do {
                        let bench = try DriverBench(variant, peers: peers) { $0.opensConnections = true }
                        var clients: [Client] = []
                        for _ in 0..<3 { clients.append(try bench.connect().0) }
                        // Newcomers beyond what one poll reports, and some that it has not looked at.
                        for _ in 0..<40 { clients.append(try Client(port: bench.port)) }
                        for event in bench.turn() where event.kind == .accepted {
                            // The core has heard of it, and so is the one to close it.
                            if !bench.driver.hasDirectDescriptors { close(event.value) }
                        }
                        for _ in 0..<10 { clients.append(try Client(port: bench.port)) }
                    }
                    return openDescriptorCount() == before
                }
            }
        }

        @Test func `the io_uring driver keeps no listener when it cannot be made`() async {
            await #expect(processExitsWith: .success) {
                let features = try RingFeatures.ofThisKernel().get()
                try succeeds {
                    let peers = try WakeDirectory(workerCount: 1)
                    var group = try ListenerGroup(address: "127.0.0.1:0", workerCount: 1)
                    let listener = group.take(worker: 0)
                    let taken = TakenDescriptors(leaving: 0)
                    let error = failure {
                        _ = try URingDriver(
                            options: DriverOptions(), features: features, listeners: [listener], wake: peers[0],
                            peers: peers)
                    }
                    return error?.reason == .noDescriptors && taken.freeCount == 1
                }
            }
        }

        @Test func `a refused ring is explained without the file that would say more`() async {
            await #expect(processExitsWith: .success) {
                try succeeds {
                    let taken = TakenDescriptors(leaving: 0)
                    let error = DriverError.ring(step: "io_uring_setup", errorNumber: EPERM)
                    return error.description.contains("seccomp") && taken.freeCount == 0
                }
            }
        }
    #endif
}

/// Ends the process with a failure unless an attempt succeeds. Other threads of the process open and close descriptors
/// too, and may disturb one attempt, but not all.
private func succeeds(_ attempt: () throws -> Bool) throws {
    for _ in 0..<50 {
        if try attempt() { return }
    }
    exit(1)
}

private func failure(_ body: () throws -> Void) -> DriverError? {
    do {
        try body()
        return nil
    } catch {
        return error as? DriverError
    }
}

/// All descriptors of the process, but a few.
private final class TakenDescriptors {
    private static let countMax = 256
    private var fds: [Int32] = []

    static func lowerLimit() {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = rlim_t(countMax)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    init(leaving spare: Int) {
        Self.lowerLimit()
        fds = Self.takeAll()
        for fd in fds.suffix(spare) { close(fd) }
        fds.removeLast(min(spare, fds.count))
    }

    deinit { giveBack() }

    func giveBack() {
        for fd in fds { close(fd) }
        fds.removeAll()
    }

    /// How many more there are now.
    var freeCount: Int {
        let more = Self.takeAll()
        for fd in more { close(fd) }
        return more.count
    }

    private static func takeAll() -> [Int32] {
        var fds: [Int32] = []
        while fds.count < countMax {
            let fd = dup(0)
            if fd < 0 { break }
            fds.append(fd)
        }
        return fds
    }
}

/// A limit on the address space of the process: what it has, and a little more.
private struct AddressSpaceLimit {
    private let former: rlimit

    init(leaving byteCount: Int) throws {
        let file = try #require(fopen("/proc/self/statm", "r"))
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        try #require(fgets(&line, Int32(line.count), file) != nil)
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        former = limit
        limit.rlim_cur = rlim_t(Int(strtoul(line, nil, 10)) * Int(getpagesize()) + byteCount)
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    }

    func lift() {
        var limit = former
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    }
}
