import Glibc

/// The signals of the broker. The main thread waits for them with sigtimedwait(2), so there are no signal handlers.
///
/// SIGTERM, SIGINT and SIGQUIT drain and end the broker. SIGUSR1 logs the counters. SIGHUP reads certificates, the users
/// file and the keys of `access` again. SIGPIPE, SIGUSR2 and SIGXFSZ are ignored. SIGHUP is ignored without a log line if it
/// was ignored when the broker was started, as nohup(1) does.
enum Signals {
    /// Blocks the signals. Must be called before any thread is started, because threads inherit the mask.
    static func block() {
        signal(SIGPIPE, SIG_IGN)
        signal(SIGUSR2, SIG_IGN)
        // A segment beyond RLIMIT_FSIZE is an error of the write, and not the end of the broker.
        signal(SIGXFSZ, SIG_IGN)
        var set = waited
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Waits for the next signal and returns it. nil: none came for so many seconds.
    static func wait(secondsMax: Int) -> Int32? {
        var set = waited
        var timeout = timespec(tv_sec: secondsMax, tv_nsec: 0)
        while true {
            let signal = sigtimedwait(&set, nil, &timeout)
            if signal > 0 { return signal }
            // EINTR: a debugger, or SIGSTOP and SIGCONT. The time begins again, which harms nobody.
            if errno == EAGAIN { return nil }
        }
    }

    /// Whether a signal that ends the broker waits for `wait`.
    static var isEnding: Bool {
        var set = sigset_t()
        guard sigpending(&set) == 0 else { return false }
        return [SIGTERM, SIGINT, SIGQUIT].contains { sigismember(&set, $0) == 1 }
    }

    /// From now on SIGTERM or SIGINT ends the process at once. The other signals stay blocked and have no effect.
    ///
    /// By the default action, also where the broker was started with the signal ignored. As the first process of a container
    /// there is none (pid_namespaces(7)): then a handler ends it.
    static func exitOnNext() {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT] {
            sigaddset(&set, number)
            if getpid() == 1 { signal(number) { _exit(128 + $0) } } else { signal(number, SIG_DFL) }
        }
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    private static var waited: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGUSR1] { sigaddset(&set, signal) }
        // sigtimedwait(2) would also return a blocked signal that is ignored, so an ignored SIGHUP is left out.
        if !isHangUpIgnored { sigaddset(&set, SIGHUP) }
        return set
    }

    private static var isHangUpIgnored: Bool {
        var action = sigaction()
        sigaction(SIGHUP, nil, &action)
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
            == unsafeBitCast(SIG_IGN, to: Int.self)
    }

    /// The name of a signal, for the log.
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
