import Glibc

/// A value that several threads share, protected by a mutex of the C library.
///
/// It replaces `Synchronization.Mutex`, which on Linux locks with atomic operations inside the standard library. Thread
/// Sanitizer does not see these and reports each protected value as a race. It does see `pthread_mutex_lock`.
///
/// It is used for rare events only (start, totals, hand-offs of sockets), never for messages.
public final class Guarded<Value>: @unchecked Sendable {
    private var value: Value
    /// Owned. It is a pointer because a mutex must not be moved.
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

    /// Runs the body with exclusive access to the value. Not reentrant: a body that locks the same value again
    /// deadlocks.
    public func withLock<Result, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}
