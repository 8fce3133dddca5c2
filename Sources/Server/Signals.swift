import Glibc

/// The signals the broker answers, taken synchronously by the main thread: no handler runs anywhere.
///
/// SIGTERM, SIGINT and SIGHUP drain and end it; SIGUSR1 logs the counters. SIGPIPE is ignored, and so is SIGHUP where it
/// was when the broker was started: nohup(1) asks for that.
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

    /// From now on another SIGTERM or SIGINT ends the process at once, as the default action is. Another SIGHUP does not:
    /// a terminal that is closed may send several, the shell's and the kernel's.
    ///
    /// - Parameter signal: what has begun the end. Who sends SIGHUP may send SIGTERM right behind it, as systemd does where
    ///   a session ends (`SendSIGHUP=`): that one means the same.
    static func exitOnNext(after signal: Int32) {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        if signal == SIGHUP {
            var patience = timespec(tv_sec: 0, tv_nsec: 200_000_000)
            sigtimedwait(&set, nil, &patience)
        }
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    private static var waited: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        sigaddset(&set, SIGUSR1)
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
        case SIGHUP: "SIGHUP"
        default: "\(signal)"
        }
    }
}
