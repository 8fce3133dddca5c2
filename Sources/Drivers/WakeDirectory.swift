internal import CURing
import Glibc
import IO
import Slabs
import Synchronization

/// Wakes one worker: its index and its eventfd. Does not own the eventfd.
public struct WakeHandle: Sendable {
    public let worker: UInt16
    let eventfd: Int32

    /// Makes the worker's driver report `.woken`. Any thread and any signal handler may call it.
    public func wake() { eventfd_wake(eventfd) }
}

/// How workers reach each other. For each worker it holds an eventfd, the descriptor of its ring if it has one, and an
/// inbox for plain sockets that other workers hand on. (Direct descriptors are passed from ring to ring instead.)
///
/// It is created before the threads start and lives as long as the last of them. It takes one descriptor per worker.
public final class WakeDirectory: Sendable {
    public let count: Int
    private let eventfds: [Int32]
    private let rings: [RingPlace]
    private let inboxes: [Inbox]

    public init(workerCount: Int) throws(DriverError) {
        var eventfds: [Int32] = []
        for _ in 0..<workerCount {
            let fd = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
            guard fd >= 0 else {
                let errorNumber = errno
                for fd in eventfds { close(fd) }
                throw DriverError(
                    .noDescriptors, errorNumber: errorNumber,
                    "no eventfds for \(workerCount) workers (\(errorText(errorNumber))): raise `ulimit -n`")
            }
            eventfds.append(fd)
        }
        count = workerCount
        self.eventfds = eventfds
        rings = (0..<workerCount).map { _ in RingPlace() }
        inboxes = (0..<workerCount).map { _ in Inbox() }
    }

    deinit { for fd in eventfds { close(fd) } }

    public subscript(worker: Int) -> WakeHandle {
        WakeHandle(worker: UInt16(worker), eventfd: eventfds[worker])
    }

    /// The descriptor of a worker's ring. -1: it has none.
    func ring(of worker: Int) -> Int32 { rings[worker].fd.load(ordering: .acquiring) }
    func setRing(_ fd: Int32, of worker: Int) { rings[worker].fd.store(fd, ordering: .releasing) }

    /// Opens a worker's inbox. From now on other workers may hand sockets on to it.
    func openInbox(of worker: Int) { inboxes[worker].isOpen.withLock { $0 = true } }

    /// Hands a socket on to a worker. Returns false if the worker does not take it; then the caller still owns it.
    func handOn(_ newcomer: HandedOn, to worker: Int) -> Bool {
        let isTaken = inboxes[worker].post(newcomer)
        if isTaken { eventfd_wake(eventfds[worker]) }
        return isTaken
    }

    /// Takes the sockets that were handed on to a worker. With `closing`, the inbox accepts no more.
    func takeHandedOn(to worker: Int, closing: Bool = false) -> [HandedOn] { inboxes[worker].take(closing: closing) }
}

private final class RingPlace: Sendable {
    let fd = Atomic<Int32>(-1)
}

/// A socket on its way from one worker to another.
struct HandedOn: Sendable {
    var fd: Int32
    var origin: ConnectionOrigin
}

/// Sockets that were handed on to a worker and not taken yet. Hand-offs are rare, so a lock and an array are fast
/// enough.
private final class Inbox: Sendable {
    /// The most sockets that wait for a worker.
    static let newcomerCountMax = 1024

    let isOpen = Guarded(false)
    private let newcomers = Guarded<[HandedOn]>([])
    /// Lets the owner find out without the lock that the inbox is empty.
    private let count = Atomic<Int>(0)

    func post(_ newcomer: HandedOn) -> Bool {
        isOpen.withLock { isOpen in
            guard isOpen else { return false }
            return newcomers.withLock { newcomers in
                guard newcomers.count < Self.newcomerCountMax else { return false }
                newcomers.append(newcomer)
                count.store(newcomers.count, ordering: .releasing)
                return true
            }
        }
    }

    func take(closing: Bool) -> [HandedOn] {
        if closing { isOpen.withLock { $0 = false } }
        guard count.load(ordering: .acquiring) > 0 else { return [] }
        return newcomers.withLock { newcomers in
            defer { newcomers.removeAll() }
            count.store(0, ordering: .releasing)
            return newcomers
        }
    }
}

/// The text of an errno: "Too many open files, errno 24".
func errorText(_ errorNumber: Int32) -> String { "\(String(cString: strerror(errorNumber))), errno \(errorNumber)" }
