import Glibc

/// The signals the broker answers, taken synchronously by the main thread: no handler runs anywhere.
///
/// SIGTERM and SIGINT drain and end it; SIGUSR1 logs the counters. SIGPIPE is ignored.
enum Signals {
    /// To be called before any thread is started: threads inherit the mask.
    static func block() {
        signal(SIGPIPE, SIG_IGN)
        var set = waited
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// The next signal.
    static func wait() -> Int32 {
        var set = waited
        var signal: Int32 = 0
        while sigwait(&set, &signal) != 0 {}
        return signal
    }

    /// From now on another SIGTERM or SIGINT ends the process at once, as the default action is.
    static func exitOnNext() {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    private static var waited: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        sigaddset(&set, SIGUSR1)
        return set
    }
}
