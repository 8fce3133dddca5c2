import Glibc
import Slabs

/// A thread of the lowest priority, which does one thing at a time for the thread that owns it. That one waits meanwhile.
///
/// On a CPU with anything else to do it gets a hundredth of the time, so nobody else may ever wait for it: it holds no lock
/// but its own.
final class IdleThread: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let isChanged: UnsafeMutablePointer<pthread_cond_t>
    private var work: (() -> Void)?
    private var isStopping = false
    private var thread = pthread_t()
    /// The lowest priority there is (nice(2)).
    private static let niceness: Int32 = 19

    init() {
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        isChanged = .allocate(capacity: 1)
        pthread_cond_init(isChanged, nil)
        let result = pthread_create(
            &thread, nil,
            { argument in
                // On Linux, this is about the thread alone.
                _ = nice(IdleThread.niceness)
                Unmanaged<IdleThread>.fromOpaque(argument!).takeRetainedValue().serve()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        invariant(result == 0, "a thread of the lowest priority can be started")
    }

    deinit {
        pthread_cond_destroy(isChanged)
        isChanged.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Does it there, and returns what it has returned. Only the owner calls it.
    func run<Result>(_ body: @escaping () -> Result) -> Result {
        var result: Result?
        pthread_mutex_lock(mutex)
        work = { result = body() }
        pthread_cond_broadcast(isChanged)
        while work != nil { pthread_cond_wait(isChanged, mutex) }
        pthread_mutex_unlock(mutex)
        return result!
    }

    /// Ends the thread. Called once, at last.
    func stop() {
        pthread_mutex_lock(mutex)
        isStopping = true
        pthread_cond_broadcast(isChanged)
        pthread_mutex_unlock(mutex)
        pthread_join(thread, nil)
    }

    private func serve() {
        pthread_mutex_lock(mutex)
        while !isStopping {
            guard let body = work else {
                pthread_cond_wait(isChanged, mutex)
                continue
            }
            pthread_mutex_unlock(mutex)
            body()
            pthread_mutex_lock(mutex)
            work = nil
            pthread_cond_broadcast(isChanged)
        }
        pthread_mutex_unlock(mutex)
    }
}
