import Glibc

/// State that one thread changes and for which other threads wait.
public final class Monitor<State: Sendable>: @unchecked Sendable {
    private var state: State
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    public init(_ state: State) {
        self.state = state
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    public func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state)
    }

    /// Changes the state and wakes all waiting threads.
    public func update(_ body: (inout State) -> Void) {
        withLock { body(&$0) }
        pthread_cond_broadcast(changed)
    }

    /// Waits until `body` yields a value, and returns it; nil when the deadline passes first.
    public func wait<Result>(until deadline: Deadline, _ body: (inout State) throws -> Result?) rethrows -> Result? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = try body(&state) { return result }
            if deadline.isOver { return nil }
            var wake = timespec()
            clock_gettime(CLOCK_REALTIME, &wake)
            let nanoseconds = wake.tv_nsec + Int(deadline.millisecondsLeft) * 1_000_000
            wake.tv_sec += nanoseconds / 1_000_000_000
            wake.tv_nsec = nanoseconds % 1_000_000_000
            pthread_cond_timedwait(changed, mutex, &wake)
        }
    }
}
