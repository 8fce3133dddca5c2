import Glibc

/// The signals the broker answers, taken synchronously by the main thread: no handler runs anywhere.
///
/// SIGTERM, SIGINT and SIGQUIT drain and end it; SIGUSR1 logs the counters; SIGHUP, which means "reload" to everybody
/// else, is logged and changes nothing. SIGPIPE and SIGUSR2 are ignored, and so is SIGHUP, without a line, where it was
/// when the broker was started: nohup(1) asks for that.
enum Signals {
    /// To be called before any thread is started: threads inherit the mask.
    static func block() {
        signal(SIGPIPE, SIG_IGN)
        signal(SIGUSR2, SIG_IGN)
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

    /// From now on another SIGTERM or SIGINT ends the process at once, as the default action is. The others stay
    /// blocked, so that they change nothing.
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
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGUSR1] { sigaddset(&set, signal) }
        // A signal that is blocked is kept even where it is ignored, and would be waited for.
        if !isHangUpIgnored { sigaddset(&set, SIGHUP) }
        return set
    }

    private static var isHangUpIgnored: Bool {
        var action = sigaction()
        sigaction(SIGHUP, nil, &action)
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
            == unsafeBitCast(SIG_IGN, to: Int.self)
    }

    /// As an operator writes it.
    static func name(_ signal: Int32) -> String {
        switch signal {
        case SIGTERM: "SIGTERM"
        case SIGINT: "SIGINT"
        case SIGQUIT: "SIGQUIT"
        case SIGHUP: "SIGHUP"
        default: "\(signal)"
        }
    }
}
