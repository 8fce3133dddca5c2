import Drivers
import Glibc
import IO
import Slabs
import Synchronization
import Transports

/// The driver of the load generator.
public enum LoadDriver: String, Sendable, CaseIterable {
    case uring, epoll
}

/// The parameters of a thread.
struct ThreadSetup: Sendable {
    var plan: Plan
    var share: Share
    var requests: Requests
    var control: Control
    var thread: Int
    var addresses: Addresses
    var usesWebSocket = false
    /// nil: the clients have no TLS.
    var tls: TLSContext?
    /// Connections that the thread opens at a time.
    var connectingCountMax: Int
    var driver: LoadDriver
    var isUrgent = false
    var options: DriverOptions
    var peers: WakeDirectory
}

/// A thread with an engine of its own.
final class LoadThread: @unchecked Sendable {
    private let setup: ThreadSetup
    private var thread = pthread_t()
    private var result: ThreadReport?

    init(_ setup: ThreadSetup) { self.setup = setup }

    func start() {
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<LoadThread>.fromOpaque(argument!).takeRetainedValue().main()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        invariant(result == 0, "a load thread can be started")
    }

    /// Waits for the end of the thread. nil: it could not start.
    func join() -> ThreadReport? {
        pthread_join(thread, nil)
        return result
    }

    private func main() {
        if setup.isUrgent {
            var least = sched_param(sched_priority: sched_get_priority_min(SCHED_FIFO))
            _ = pthread_setschedparam(pthread_self(), SCHED_FIFO, &least)
        }
        do throws(DriverError) {
            switch setup.driver {
            case .epoll: try play(EpollDriver.self)
            case .uring:
                #if URing
                    try play(URingDriver.self)
                #else
                    throw DriverError(.notSupported, "built without io_uring")
                #endif
            }
        } catch {
            setup.control.fail(error.description)
        }
    }

    private func play<D: Driver & ~Copyable>(_ type: D.Type) throws(DriverError) {
        let driver = try D(
            options: setup.options, listeners: [], wake: setup.peers[setup.thread], peers: setup.peers)
        var engine = Engine(setup, driver: driver)
        engine.run()
        result = engine.finish()
    }
}
