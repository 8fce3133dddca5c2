public import Slabs

/// One request of the core to its driver: a plain value, 32 bytes, carried in batches.
///
/// A connection is named by `connection`, the core's session slot: the driver keeps a table indexed by
/// `connection.index` and checks the generation. A file or directory is named by `connection` too, in a table of its
/// own: the same slot may stand for a connection and a file at the same time.
@frozen
public struct Submission: BitwiseCopyable {
    public enum Kind: UInt8, BitwiseCopyable, Sendable {
        /// `value` is an accepted descriptor (from `.accepted`); from now on it is `connection`. The driver starts to
        /// receive. Answered by `.received`, `.receiveEnded` or `.receiveFailed` at any later time.
        case adopt
        /// `value` is an accepted descriptor that the core will not take (a limit): close it. No answer.
        case refuse
        /// `value` is an accepted descriptor for which this shard has no room: give it to the worker `peer`, where it
        /// appears as `.accepted`, with the `origin` that is stated here. If that fails it is closed. No answer.
        case handOff
        /// Send `byteCount` bytes at `pointer`, now and without waiting. The bytes need to stay valid only until
        /// `poll` has returned. When the socket took them all there is no answer. Otherwise `.sendIncomplete`
        /// arrives among the completions of the same poll, before any other completion of this connection.
        /// At most one send per connection and poll.
        case send
        /// As `send`, with `byteCount` the number of `iovec`s at `pointer` (1 ... 64) and `value` their bytes in all.
        /// The `iovec` array too stays valid until `poll` has returned.
        case sendVector
        /// As `send`, but the kernel may read the bytes after `poll` has returned: they stay valid until
        /// `.sendReleased` is reported, which always comes, with the count of bytes taken or -errno.
        /// A driver without zero-copy sends normally and reports `.sendReleased` in the same poll.
        case sendZeroCopy
        /// Report `.writable`, once, when the socket takes bytes again.
        case awaitWritable
        /// Stop receiving (back pressure). Bytes that were already received may still be reported, and a failure of
        /// the connection is; the peer's orderly end is not, for unread bytes may lie before it.
        case pauseReceive
        /// Receive again.
        case resumeReceive
        /// shutdown(SHUT_WR): the peer reads what was sent, then end of file. Receiving goes on.
        case shutdownWrite
        /// Cancel what is outstanding, close the descriptor, and report `.closed` after the last completion of this
        /// connection. With `value` = 1 the connection is reset (SO_LINGER 0 where possible) instead of ended.
        case close
        /// Wake the worker `peer`: there are peer messages in its mailbox.
        case wake
        /// Stop accepting on all listeners (drain); listeners are closed. No answer.
        case stopAccepting
        /// Accept again after `.acceptFailed`.
        case resumeAccepting
        /// Open a connection to the address at `pointer` (a `sockaddr` of `byteCount` bytes that stays valid until the
        /// answer), without Nagle's delay. It is `connection` from now on, but nothing except `.close` may be asked of it
        /// before the answer: `.writable` when it is there, from when on the driver receives as after `.adopt`, or
        /// `.receiveFailed` with -errno. A failure that is found late may follow a `.writable`.
        case connect

        // Files. `Submission+Files.swift` makes these submissions and says what holds for all of them: who owns the
        // memory, in which order they are carried out, what an error means.

        /// Open the directory at the path at `pointer`. It is `connection` from `.fileOpened` on.
        case openDirectory
        /// Make a file with the name at `pointer`, which has to be new, in the directory that `byteCount` names, and
        /// open it for reading and writing. It is `connection` from `.fileOpened` on. Nobody else may read it (mode
        /// 0600).
        case createFile
        /// Open the file with the name at `pointer` in the directory that `byteCount` names, for reading and writing,
        /// or with `value` = 1 for reading alone. It is `connection` from `.fileOpened` on.
        case openFile
        /// Write the bytes of `peer` `iovec`s at `pointer` (1 ... 1024), `value` in all, at offset `byteCount`.
        /// Answered by `.fileAppended`.
        case appendFile
        /// As `appendFile`, answered when the bytes are on stable storage (pwritev2(2), RWF_DSYNC).
        case appendFileDurably
        /// Read `value` bytes at offset `byteCount` into the buffer at `pointer`. Answered by `.fileRead`.
        case readFile
        /// Reserve disk space for `value` bytes at offset `byteCount`; the file is at least as long then
        /// (fallocate(2)). Answered by `.fileAllocated`.
        case allocateFile
        /// Bring what was written before to stable storage: the bytes of a file, and what it takes to read them
        /// (fdatasync(2)), or the names in a directory (fsync(2)). Answered by `.fileSynced`.
        case syncFile
        /// Remove the name at `pointer` from the directory `connection`. A file that is open stays usable. Answered by
        /// `.fileDeleted`.
        case deleteFile
        /// Close the file or directory. Answered by `.fileClosed`: its slot may be reused.
        case closeFile
    }

    public var kind: Kind
    public var peer: UInt16
    public var value: Int32
    public var connection: Slot
    public var pointer: UnsafeRawPointer?
    /// Of `handOff`: `ConnectionOrigin.packed`.
    public var byteCount: Int

    /// Of `handOff`.
    @inlinable public var origin: ConnectionOrigin { ConnectionOrigin(packed: UInt64(byteCount)) }

    @inlinable
    public init(handOff descriptor: Int32, to peer: UInt16, from origin: ConnectionOrigin) {
        self.init(.handOff, value: descriptor, peer: peer, byteCount: Int(origin.packed))
    }

    @inlinable
    public init(
        _ kind: Kind, connection: Slot = .none, value: Int32 = 0, peer: UInt16 = 0,
        pointer: UnsafeRawPointer? = nil, byteCount: Int = 0
    ) {
        self.kind = kind
        self.peer = peer
        self.value = value
        self.connection = connection
        self.pointer = pointer
        self.byteCount = byteCount
    }
}
