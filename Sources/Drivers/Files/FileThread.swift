import Glibc
import IO
import Slabs

/// The helper thread of an epoll driver. It makes the system calls of files, because they block while the disk works.
///
/// The thread makes one call after the other, in the order of the submissions. This keeps the order that
/// `Submission+Files.swift` promises, but a read waits behind a sync that is under way. Submissions and completions are
/// passed by value in two lists, protected by a mutex. The thread wakes the worker by the worker's eventfd when the
/// list of completions was empty before.
///
/// All signals are blocked in the thread. So a write beyond RLIMIT_FSIZE returns EFBIG and raises no SIGXFSZ.
final class FileThread: @unchecked Sendable {
    private let wake: WakeHandle
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    /// `submissions` or `isEnding` have changed.
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var thread = pthread_t()

    // Protected by the mutex.
    private var submissions = Batch<Submission>(capacity: 64)
    private var completions = Batch<Completion>(capacity: 64)
    private var isEnding = false

    static let stackByteCount = 512 << 10

    /// - Parameter wake: wakes the worker that takes the completions.
    /// - Throws: if the system cannot start a thread.
    init(wake: WakeHandle, stackByteCount: Int) throws(DriverError) {
        self.wake = wake
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
        let result = start(stackByteCount: stackByteCount)
        guard result == 0 else {
            throw DriverError(
                .noMemory, errorNumber: result, "no thread for files (\(errorText(result))): raise `ulimit -u`")
        }
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Returns 0 or an errno.
    private func start(stackByteCount: Int) -> Int32 {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, stackByteCount)
        // A new thread inherits the signal mask of the thread that creates it.
        var all = sigset_t()
        var former = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &former)
        defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
        let own = Unmanaged.passRetained(self)
        let result = pthread_create(
            &thread, &attributes,
            { argument in
                Unmanaged<FileThread>.fromOpaque(argument!).takeRetainedValue().main()
                return nil
            }, own.toOpaque())
        if result != 0 { own.release() }
        return result
    }

    // MARK: - The worker's side

    func submit(_ submission: Submission) {
        pthread_mutex_lock(mutex)
        submissions.append(submission)
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    func takeCompletions(_ taken: inout Batch<Completion>) {
        pthread_mutex_lock(mutex)
        for position in 0..<completions.count { taken.append(completions[position]) }
        completions.removeAll()
        pthread_mutex_unlock(mutex)
    }

    /// Ends the thread. Returns when all submissions are carried out and all files are closed.
    func end() {
        pthread_mutex_lock(mutex)
        isEnding = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
        pthread_join(thread, nil)
    }

    // MARK: - The thread's side

    private func main() {
        var files = OpenFiles()
        var taken = Batch<Submission>(capacity: 64)
        var answers = Batch<Completion>(capacity: 16)
        while take(&taken) {
            for position in 0..<taken.count {
                files.submit(taken[position], &answers)
                while let call = files.nextCall() { files.finished(call.operation, call.make(), &answers) }
                post(&answers)
            }
        }
        files.closeEverything()
    }

    /// Waits for submissions and takes them. Returns false if there are none and the thread must end.
    private func take(_ taken: inout Batch<Submission>) -> Bool {
        taken.removeAll()
        pthread_mutex_lock(mutex)
        while submissions.isEmpty, !isEnding { pthread_cond_wait(condition, mutex) }
        swap(&submissions, &taken)
        pthread_mutex_unlock(mutex)
        return !taken.isEmpty
    }

    private func post(_ answers: inout Batch<Completion>) {
        pthread_mutex_lock(mutex)
        let wasEmpty = completions.isEmpty
        for position in 0..<answers.count { completions.append(answers[position]) }
        pthread_mutex_unlock(mutex)
        answers.removeAll()
        // If the list was not empty, the worker was already woken and has not taken it yet. It will find these too.
        if wasEmpty { wake.wake() }
    }
}
