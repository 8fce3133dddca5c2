public import Slabs

/// One event that a driver reports to its core: a plain value, 32 bytes, carried in batches.
@frozen
public struct Completion: BitwiseCopyable {
    public enum Kind: UInt8, BitwiseCopyable, Sendable {
        /// A connection was accepted, here or by a worker that handed it on. `value` is its descriptor (an fd, or an
        /// index of the ring's file table), `origin` the listener that accepted it, and the peer's address where the
        /// driver was asked to find it and could. The core answers with `.adopt`, `.refuse` or `.handOff` in the same
        /// turn.
        case accepted
        /// Accepting failed with errno `-value` (EMFILE, ENFILE, ENOBUFS, ENOMEM: no room). The driver has stopped
        /// accepting until `.resumeAccepting`.
        case acceptFailed
        /// `value` bytes arrived at `pointer`. They belong to the driver and are valid until the core's turn ends.
        case received
        /// The peer ended its sending side. Nothing more is received; sending may go on.
        case receiveEnded
        /// Receiving failed with errno `-value` (reset, time-out). The connection is of no more use. While receiving is
        /// paused too, even after `.receiveEnded`: then `value` is -ECONNRESET whatever happened, and what was not
        /// received yet is lost.
        case receiveFailed
        /// The send of this poll was not taken whole: `value` bytes were (0 when the socket was full), or -errno.
        case sendIncomplete
        /// The bytes of a zero-copy send may be reused; `value` bytes were sent, or -errno.
        case sendReleased
        /// The socket takes bytes again, or has failed (the next send will tell).
        case writable
        /// The connection is closed and no completion of it is outstanding: its slot may be reused.
        case closed
        /// The mailbox was filled, or somebody called the driver's wake handle. May come without either.
        case woken

        // Files. Each file submission is answered once, by the completion that its case names, with its `connection`
        // and `pointer`, and in `address` its `byteCount`. `value` is -errno if it failed; see
        // `Submission+Files.swift`.

        /// `value` is 0: the file or directory is open. -errno: it is not, and its slot may be reused.
        case fileOpened
        /// `value` is the count of bytes that were asked for: all were written.
        case fileAppended
        /// `value` bytes were read. They are fewer than asked for where the file ends there.
        case fileRead
        /// `value` is 0.
        case fileAllocated
        /// `value` is 0: everything that was answered with success before, and submitted before the sync, is on stable
        /// storage.
        case fileSynced
        /// `value` is 0.
        case fileDeleted
        /// `value` is 0. The slot may be reused.
        case fileClosed

        /// Whether a client may connect is decided: it may (`value` 0), or not. No driver reports it, but whoever the core
        /// has asked.
        case authenticated
        /// The log is durable up to the position in `address`. No driver reports it, but whoever keeps the log.
        case durable
        /// Whether a client may do what the question in `connection` is about is decided: it may (`value` 0), or not. No
        /// driver reports it, but whoever the core has asked.
        case permitted
    }

    public var kind: Kind
    public var peer: UInt16
    public var value: Int32
    public var connection: Slot
    public var pointer: UnsafeRawPointer?
    /// Of `accepted`: `ConnectionOrigin.packed`.
    public var address: UInt64

    /// Of `accepted`.
    @inlinable public var origin: ConnectionOrigin { ConnectionOrigin(packed: address) }

    @inlinable
    public init(accepted descriptor: Int32, from origin: ConnectionOrigin) {
        self.init(.accepted, value: descriptor, address: origin.packed)
    }

    @inlinable
    public init(
        _ kind: Kind, connection: Slot = .none, value: Int32 = 0, peer: UInt16 = 0,
        pointer: UnsafeRawPointer? = nil, address: UInt64 = 0
    ) {
        self.kind = kind
        self.peer = peer
        self.value = value
        self.connection = connection
        self.pointer = pointer
        self.address = address
    }
}
