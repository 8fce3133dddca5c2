import CProcess
import Glibc
import Slabs
import Synchronization

/// Threads of lowest priority that keep CPUs from becoming idle.
///
/// An idle CPU halts, and in a virtual machine it may take milliseconds until it runs again. Then a quiet broker has
/// larger latencies than a broker under attack, whose CPUs are never idle, and the comparison would be wrong. With
/// these threads no CPU halts in either case.
///
///     let busy = BusyCPUs(0..<2)
///     ...
///     busy.stop()
public final class BusyCPUs: Sendable {
    private let isStopping = Atomic(false)
    private let threads = Guarded<[pthread_t]>([])

    public init(_ cpus: some Sequence<Int32>) {
        for cpu in cpus {
            var handle = pthread_t()
            let spin = Unmanaged.passRetained(Spin(owner: self, cpu: cpu))
            let result = pthread_create(
                &handle, nil,
                { argument in
                    Unmanaged<Spin>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, spin.toOpaque())
            precondition(result == 0, "a thread can be started")
            threads.withLock { $0.append(handle) }
        }
    }

    deinit { precondition(threads.withLock { $0.isEmpty }, "busy CPUs are stopped before they go") }

    public func stop() {
        isStopping.store(true, ordering: .releasing)
        let handles = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for handle in handles { pthread_join(handle, nil) }
    }

    private final class Spin: Sendable {
        private let owner: BusyCPUs
        private let cpu: Int32

        init(owner: BusyCPUs, cpu: Int32) {
            self.owner = owner
            self.cpu = cpu
        }

        func run() {
            // A thread without SCHED_IDLE must not spin.
            guard process_bind(cpu) == 0, process_yield_to_all() == 0 else { return }
            while !owner.isStopping.load(ordering: .acquiring) { sched_yield() }
        }
    }
}
