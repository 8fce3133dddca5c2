import Glibc
import IO
import Slabs

/// The helper thread of an epoll driver, which makes the system calls of files: they may wait for a disk, and no other
/// way of asking the kernel tells when they would not.
///
/// One thread, one call after the other, in the order of the submissions: so the order that the vocabulary promises
/// is kept without waiting, and a read waits behind a sync that is under way. Submissions go to it and completions
/// come back by value, in two lists behind a mutex. It wakes the worker by the worker's own eventfd, when there was
/// nothing to take before.
///
/// All signals are blocked in it; so a write beyond RLIMIT_FSIZE is EFBIG and no SIGXFSZ.
final class FileThread: @unchecked Sendable {
    private let wake: WakeHandle
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    /// `submissions` or `isEnding` have changed.
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var thread = pthread_t()

    // Behind the mutex.
    private var submissions = Batch<Submission>(capacity: 64)
    private var completions = Batch<Completion>(capacity: 64)
    private var isEnding = false

    static let stackByteCount = 512 << 10

    /// - Parameter wake: of the worker that the completions belong to.
    /// - Throws: where the system has no room for a thread.
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
        // A thread begins with the signal mask of the one that makes it.
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

    /// Returns when everything that was submitted is carried out and all files are closed.
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

    /// Waits for submissions. False: there are none, and there will be none.
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
        // Whoever was woken before has not looked yet, and will find these too.
        if wasEmpty { wake.wake() }
    }
}
