import CProcess
import Glibc
import Slabs
import Synchronization

/// A thread of bad clients. It has the lowest priority (SCHED_IDLE) and makes only short system calls, so that honest
/// clients notice the effect on the broker and not the CPU time of the attacker.
///
///     let attacker = Attacker(.trickle, port: port, connectionCount: 1000)
///     attacker.start()
///     ...
///     attacker.stop()
///
/// A connection that the broker ends is opened again, as a bad client would do.
public final class Attacker: Sendable {
    /// The counts so far.
    public struct Tally: Sendable, Equatable {
        /// Connections that are open now.
        public var open = 0
        /// Connections that were ever opened.
        public var opened = 0
        /// Connections that the broker ended.
        public var ended = 0
        public var bytesSent = 0

        public init() {}
    }

    public let port: UInt16
    public let connectionCount: Int
    private let script: Script
    private let state = Guarded(Tally())
    private let isStopping = Atomic(false)
    private let thread = Guarded<pthread_t?>(nil)

    public convenience init(_ attack: Attack, port: UInt16, connectionCount: Int) {
        self.init(Script(attack), port: port, connectionCount: connectionCount)
    }

    /// Not an attack: one client that subscribes to topics, so that the topics stay in existence.
    public convenience init(keeping topics: [String], port: UInt16) {
        self.init(Script(keeping: topics), port: port, connectionCount: 1)
    }

    private init(_ script: Script, port: UInt16, connectionCount: Int) {
        self.script = script
        self.port = port
        self.connectionCount = connectionCount
    }

    deinit { precondition(thread.withLock { $0 == nil }, "an attacker is stopped before it goes") }

    public var tally: Tally { state.withLock { $0 } }

    public func start() {
        var handle = pthread_t()
        let result = pthread_create(
            &handle, nil,
            { argument in
                Unmanaged<Attacker>.fromOpaque(argument!).takeRetainedValue().run()
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
        // Some containers refuse it. Then the figures are worse, but not wrong.
        _ = process_yield_to_all()
        var siege = Siege(script, port: port, connectionCount: connectionCount)
        while !isStopping.load(ordering: .acquiring) {
            siege.turn()
            let tally = siege.tally
            state.withLock { $0 = tally }
        }
        siege.end()
    }
}
