import Glibc

/// A value that several threads share, behind a mutex of the C library.
///
/// `Synchronization.Mutex` would do, but on Linux it locks inside of the standard library with atomic operations that
/// Thread Sanitizer does not see, so each value behind one is reported as a race. It sees `pthread_mutex_lock`.
///
/// For what is rare (start, totals, hand-offs of sockets): nothing here is on the way of a message.
public final class Guarded<Value>: @unchecked Sendable {
    private var value: Value
    /// Owned; a mutex may not be moved.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    public init(_ value: sending Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        let result = pthread_mutex_init(mutex, nil)
        precondition(result == 0, "pthread_mutex_init failed: errno \(result)")
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Runs the body with the value for itself. Not reentrant: a body that locks the same value again never returns.
    public func withLock<Result, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}
