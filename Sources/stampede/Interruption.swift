import Glibc
import Synchronization

/// Makes SIGINT and SIGTERM visible to poll(2): the handler writes a byte into a pipe.
///
/// The first signal asks the command to end in an orderly way. After it the signals have their default action, so a
/// second one ends the command at once.
enum Interruption {
    private static let writeEnd = Atomic<Int32>(-1)
    private static let readEnd = Atomic<Int32>(-1)
    private static let requested = Atomic<Bool>(false)

    /// Readable after a signal. -1 before `prepare`.
    static var descriptor: Int32 { readEnd.load(ordering: .relaxed) }

    /// Whether a signal has come.
    static var isRequested: Bool { requested.load(ordering: .relaxed) }

    static func prepare() throws {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw Failure.operation("pipe: \(String(cString: strerror(errno)))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        readEnd.store(ends[0], ordering: .relaxed)
        writeEnd.store(ends[1], ordering: .relaxed)
        // The signal mask is inherited, so the parent process may have blocked these signals.
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in [SIGINT, SIGTERM] {
            sigaddset(&signals, number)
            signal(number) { number in
                signal(number, SIG_DFL)
                var byte: UInt8 = 0
                _ = write(Interruption.writeEnd.load(ordering: .relaxed), &byte, 1)
            }
        }
        sigprocmask(SIG_UNBLOCK, &signals, nil)
    }

    static func take() {
        requested.store(true, ordering: .relaxed)
    }
}
