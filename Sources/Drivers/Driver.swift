public import IO
public import Slabs

/// Carries the submissions of one core to the kernel and brings the completions back.
///
/// A driver belongs to one thread: it is created, used and shut down there (an io_uring with deferred task work accepts
/// no other). What each submission asks for and each completion says is written in `Submission.Kind` and
/// `Completion.Kind`. A connection handed on by another worker appears as `.accepted`, with its origin.
public protocol Driver: ~Copyable {
    /// - Parameters:
    ///   - listeners: listening sockets, one per configured address, made with SO_REUSEPORT for this worker alone. The
    ///     driver owns them from now on, also when it throws.
    ///   - wake: this worker's place in `peers`.
    init(options: DriverOptions, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory) throws(DriverError)

    /// One round of submissions and completions.
    ///
    /// Takes back the receive buffers that the previous poll handed out, carries all of `submissions` out, then
    /// waits until at least one completion is there or `deadline` has come, and appends what is there: at most some
    /// thousand completions a turn, and never much of one connection, so that a flood delays nobody for long.
    ///
    /// - Parameter deadline: nanoseconds of CLOCK_MONOTONIC; 0 or past: does not wait; `.max`: no deadline.
    mutating func poll(
        _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>)

    /// Cancels everything, closes every descriptor, and returns when the kernel holds nothing of it any more (or
    /// after a second, should it not let go). File operations are not cancelled: it waits for them as long as the
    /// disk takes, those in line included, and closes the files; nobody hears of the results. A driver has to end
    /// this way: to drop one would free memory that an io_uring may still write to.
    consuming func shutDown()

    /// The address of a connection's peer, "192.0.2.1:50000" or "[2001:db8::1]:50000", for a line of the log. nil: it is not
    /// known, for the connection is gone or the kernel cannot tell.
    ///
    /// - Parameter connection: adopted, and its `.close` not carried out yet.
    mutating func peerAddress(of connection: Slot) -> String?

    /// The same of a descriptor that was reported as `.accepted` and that nothing was done with yet.
    mutating func peerAddress(ofAccepted descriptor: Int32) -> String?

    /// The most connections that may be adopted at a time. A few more are accepted, so that they can be handed on.
    var connectionCountMax: Int { get }

    /// What the driver runs on, for the ready line: "io_uring, Linux 6.18.0: deferred task work, ...".
    var level: String { get }

    var counters: DriverCounters { get }
}

/// What a driver has counted since it was created. Plain sums, read by the worker's thread.
public struct DriverCounters: Equatable, Sendable {
    /// System calls that entered the kernel to submit or to wait.
    public var enters: UInt64 = 0
    public var accepts: UInt64 = 0
    public var acceptErrors: UInt64 = 0
    public var receives: UInt64 = 0
    public var receivedBytes: UInt64 = 0
    /// Receives that found no free buffer, and were repeated.
    public var receiveBufferExhausted: UInt64 = 0
    public var sends: UInt64 = 0
    /// Sends that the socket did not take whole.
    public var shortSends: UInt64 = 0
    public var sendErrors: UInt64 = 0
    public var closes: UInt64 = 0
    /// Completions of a generation that is gone; ignored.
    public var stale: UInt64 = 0
    /// Times the completion queue had overflown.
    public var completionQueueOverflow: UInt64 = 0
    public var promoted: UInt64 = 0
    public var demoted: UInt64 = 0
    public var handedOff: UInt64 = 0
    public var handOffErrors: UInt64 = 0

    public init() {}
}

/// Why a driver, a listener or a wake handle could not be made: text for the operator that says what to mend.
public struct DriverError: Error, Equatable, CustomStringConvertible, Sendable {
    public enum Reason: Equatable, Sendable {
        case portTaken, noPermission, addressNotAvailable, addressMalformed, noDescriptors, noMemory, notSupported,
            other
    }

    public var reason: Reason
    /// The errno behind it, 0 if none.
    public var errorNumber: Int32
    public var description: String

    public init(_ reason: Reason, errorNumber: Int32 = 0, _ description: String) {
        self.reason = reason
        self.errorNumber = errorNumber
        self.description = description
    }
}
