public import IO
public import Slabs

/// Carries out the submissions of one core and reports the completions.
///
/// A driver belongs to one thread: it is created, used and shut down there. (The kernel accepts no other thread for an
/// io_uring with deferred task work.) `Submission.Kind` and `Completion.Kind` document each submission and completion.
/// A connection that another worker handed on is reported as `.accepted`, with its origin.
public protocol Driver: ~Copyable {
    /// - Parameters:
    ///   - listeners: listening sockets, one per configured address, made with SO_REUSEPORT for this worker. The driver
    ///     takes ownership of them, also if it throws.
    ///   - wake: the wake handle of this worker, from `peers`.
    init(options: DriverOptions, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory) throws(DriverError)

    /// One round of submissions and completions.
    ///
    /// Takes back the receive buffers that the previous poll handed out and carries out all of `submissions`. Then
    /// waits for at least one completion or for `deadline`, and appends the completions: at most some thousand, and
    /// only a limited number of bytes of one connection, so that one busy connection does not delay the others for
    /// long.
    ///
    /// - Parameter deadline: nanoseconds of CLOCK_MONOTONIC. 0 or past: does not wait. `.max`: no deadline.
    mutating func poll(
        _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>)

    /// Carries out submissions ahead of the next `poll`, and waits for nothing. On return the sends among them are over: what
    /// the sockets did not take is reported. What else there is to report may come at once, or with the poll.
    ///
    /// Buffers that the last poll handed out stay valid.
    ///
    /// - Parameter completions: those that the poll is given, too.
    mutating func carryOut(_ submissions: borrowing Batch<Submission>, completions: inout Batch<Completion>)

    /// Cancels all requests, closes every descriptor, and returns when the kernel has completed the requests (or after
    /// one second if it does not complete them). File operations are not cancelled: `shutDown` waits as long as the
    /// disk takes, also for operations that are still queued, and closes the files. Their results are not reported.
    /// Every driver must end this way, because the io_uring of a dropped driver could still write to freed memory.
    consuming func shutDown()

    /// The address of a connection's peer, for the log: "192.0.2.1:50000" or "[2001:db8::1]:50000". nil: not known,
    /// because the connection is gone, came through a Unix socket, or the kernel does not support the request.
    ///
    /// - Parameter connection: an adopted connection whose `.close` has not been carried out yet.
    mutating func peerAddress(of connection: Slot) -> String?

    /// The address of the peer of a descriptor that was reported as `.accepted` and is not adopted, refused or handed
    /// off.
    mutating func peerAddress(ofAccepted descriptor: Int32) -> String?

    /// The process at the other end of a Unix socket, for the log and for whoever decides whether it may connect. nil:
    /// the connection came from elsewhere or is gone, or the kernel does not support the request.
    ///
    /// - Parameter connection: an adopted connection whose `.close` has not been carried out yet.
    mutating func peerCredentials(of connection: Slot) -> PeerCredentials?

    /// The same of a descriptor that was reported as `.accepted` and is not adopted, refused or handed off.
    mutating func peerCredentials(ofAccepted descriptor: Int32) -> PeerCredentials?

    /// The most connections that may be adopted at a time. The driver accepts a few more, which can be handed off.
    var connectionCountMax: Int { get }

    /// Kernel and features, for the log line "ready": "io_uring, Linux 6.18.0: deferred task work, ...".
    var level: String { get }

    var counters: DriverCounters { get }
}

/// The counters of a driver since it was created. Only the worker's thread reads them.
public struct DriverCounters: Equatable, Sendable {
    /// System calls to submit or to wait: io_uring_enter(2) or epoll_wait(2).
    public var enters: UInt64 = 0
    public var accepts: UInt64 = 0
    public var acceptErrors: UInt64 = 0
    public var receives: UInt64 = 0
    public var receivedBytes: UInt64 = 0
    /// Receives that found no free buffer. They are repeated.
    public var receiveBufferExhausted: UInt64 = 0
    public var sends: UInt64 = 0
    /// Sends of which the socket took only a part, or nothing.
    public var shortSends: UInt64 = 0
    public var sendErrors: UInt64 = 0
    public var closes: UInt64 = 0
    /// Completions for a connection that is already closed. They are ignored.
    public var stale: UInt64 = 0
    /// How often the completion queue was found to have overflowed.
    public var completionQueueOverflow: UInt64 = 0
    public var promoted: UInt64 = 0
    public var demoted: UInt64 = 0
    public var handedOff: UInt64 = 0
    public var handOffErrors: UInt64 = 0

    public init() {}
}

/// Why a driver, a listener or a wake handle could not be created. The text tells the operator what to change.
public struct DriverError: Error, Equatable, CustomStringConvertible, Sendable {
    public enum Reason: Equatable, Sendable {
        case portTaken, noPermission, addressNotAvailable, addressMalformed, noDescriptors, noMemory, notSupported,
            other
    }

    public var reason: Reason
    /// The errno that caused it. 0: none.
    public var errorNumber: Int32
    public var description: String

    public init(_ reason: Reason, errorNumber: Int32 = 0, _ description: String) {
        self.reason = reason
        self.errorNumber = errorNumber
        self.description = description
    }
}
