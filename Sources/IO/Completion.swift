public import Slabs

/// One event that a driver reports to its core. A plain value of 32 bytes, passed in batches.
@frozen
public struct Completion: BitwiseCopyable {
    public enum Kind: UInt8, BitwiseCopyable, Sendable {
        /// A connection was accepted by this worker, or by another worker that handed it on. `value` is its descriptor
        /// (an fd, or an index of the ring's file table). `origin` holds the listener that accepted it, and the address
        /// of the peer if the driver was asked to find it and could. The core answers with `.adopt`, `.refuse` or
        /// `.handOff` in the same turn.
        case accepted
        /// Accepting failed with errno `-value` (EMFILE, ENFILE, ENOBUFS, ENOMEM: no room). `peer` is the index of the
        /// listener. The driver does not accept from it until `.resumeAccepting`.
        case acceptFailed
        /// `value` bytes arrived at `pointer`. They belong to the driver and are valid until the core's turn ends.
        case received
        /// The peer shut its sending side down. Nothing more is received. Sending may go on.
        case receiveEnded
        /// Receiving failed with errno `-value` (reset, time-out). The connection cannot be used any more. It is also
        /// reported while receiving is paused, even after `.receiveEnded`. In that case `value` is always -ECONNRESET,
        /// and bytes that were not received yet are lost.
        case receiveFailed
        /// The send of this poll was incomplete. `value` is the count of bytes that the socket took (0 if it was full),
        /// or -errno.
        case sendIncomplete
        /// The bytes of a zero-copy send may be reused. `value` is the count of bytes sent, or -errno.
        case sendReleased
        /// The socket takes bytes again, or has failed. The next send reports which.
        case writable
        /// The connection is closed, and no more completions of it follow: its slot may be reused.
        case closed
        /// Another worker posted to the mailbox, or the driver's wake handle was called. May also come without a cause.
        case woken

        // Files. Each file submission is answered once, by the completion that its case names. The answer carries the
        // submission's `connection` and `pointer`, and its `byteCount` in `address`. `value` is -errno if the operation
        // failed. See `Submission+Files.swift`.

        /// `value` is 0: the file or directory is open. -errno: it is not open, and its slot may be reused.
        case fileOpened
        /// `value` is the count of bytes that were submitted: all were written.
        case fileAppended
        /// `value` is the count of bytes read. It is less than asked for if the file ends there.
        case fileRead
        /// `value` is 0.
        case fileAllocated
        /// `value` is 0: every change that was submitted before the sync, and answered with success, is on stable
        /// storage.
        case fileSynced
        /// `value` is 0.
        case fileDeleted
        /// `value` is 0.
        case fileRenamed
        /// `value` is 0. The slot may be reused.
        case fileClosed

        /// A client may connect (`value` 0) or may not. Not reported by a driver but by the authenticator that the core
        /// asked.
        case authenticated
        /// The log is durable up to the position in `address`. Not reported by a driver but by the keeper of the log.
        case durable
        /// The answer to the question in `connection`, whether a client may do something: it may (`value` 0) or may
        /// not. Not reported by a driver but by the authorizer that the core asked.
        case permitted
        /// The client says more of itself than its socket. If `value` is not 0, it has agreed to speak one of these
        /// versions of STOMP: bit n for version 1.n. If the address of `origin` is not 0, it is the client's, and the
        /// connection's peer is a proxy. Not reported by a driver but by the layer of transports, before the first
        /// `.received`.
        case identified
    }

    public var kind: Kind
    public var peer: UInt16
    public var value: Int32
    public var connection: Slot
    public var pointer: UnsafeRawPointer?
    /// For `accepted` and `identified`: `ConnectionOrigin.packed`.
    public var address: UInt64

    /// For `accepted` and `identified`: where the connection came from.
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
