public import Slabs

/// One request of the core to its driver. A plain value of 32 bytes, passed in batches.
///
/// `connection` names a connection by the core's session slot. The driver keeps a table indexed by `connection.index`
/// and checks the generation. `connection` also names files and directories. They have a table of their own, so the
/// same slot may name a connection and a file at the same time.
@frozen
public struct Submission: BitwiseCopyable {
    public enum Kind: UInt8, BitwiseCopyable, Sendable {
        /// `value` is an accepted descriptor (from `.accepted`). From now on its name is `connection`. The driver
        /// starts to receive. `.received`, `.receiveEnded` or `.receiveFailed` follow at any later time.
        case adopt
        /// `value` is an accepted descriptor that the core refuses, for example because of a limit. The driver closes
        /// it. No answer.
        case refuse
        /// `value` is an accepted descriptor for which this worker has no room. The driver gives it to the worker
        /// `peer`, which reports it as `.accepted` with the same `origin`. If that fails, the driver closes it. No
        /// answer.
        case handOff
        /// Send `byteCount` bytes at `pointer`, now and without waiting. The bytes stay valid until `poll` returns. If
        /// the socket takes all of them, there is no answer. Otherwise the same poll reports `.sendIncomplete`, before
        /// any other completion of this connection. At most one send per connection and poll.
        case send
        /// As `send`, from several buffers. `byteCount` is the number of `iovec`s at `pointer` (1 ... 64 from a core, and
        /// 1 ... 96 with what a transport adds), `value` the sum of their bytes. The `iovec` array also stays valid
        /// until `poll` returns.
        case sendVector
        /// As `send`, but the kernel may read the bytes after `poll` returns. They stay valid until `.sendReleased`,
        /// which is always reported, with the count of bytes taken or -errno. A driver without zero-copy sends normally
        /// and reports `.sendReleased` in the same poll.
        case sendZeroCopy
        /// Report `.writable` once, when the socket takes bytes again.
        case awaitWritable
        /// Stop receiving (back pressure). Bytes that were already received may still be reported. A failure of the
        /// connection is reported. The orderly end of the peer is not, because unread bytes may come before it.
        case pauseReceive
        /// Receive again.
        case resumeReceive
        /// shutdown(SHUT_WR): the peer reads what was sent, then end of file. Receiving continues.
        case shutdownWrite
        /// Cancel outstanding requests, close the descriptor, and report `.closed` after the last completion of this
        /// connection. With `value` = 1 the connection is reset (SO_LINGER 0, if the kernel can) instead of ended.
        case close
        /// Wake the worker `peer`: there are peer messages in its mailbox.
        case wake
        /// Stop accepting, for a drain, and close all listeners. No answer.
        case stopAccepting
        /// Accept again after `.acceptFailed`.
        case resumeAccepting
        /// Open a connection to the address at `pointer`, without Nagle's delay. The address is a `sockaddr` of
        /// `byteCount` bytes that stays valid until the answer. The name of the connection is `connection`. Before the
        /// answer only `.close` may be submitted for it. The answer is `.writable` when the connection is open, and the
        /// driver receives as after `.adopt`; or it is `.receiveFailed` with -errno. A failure that is found late may
        /// follow a `.writable`.
        case connect

        // Files. `Submission+Files.swift` makes these submissions and describes what holds for all of them: who owns
        // the memory, in which order they are carried out, and what an error means.

        /// Open the directory whose path is at `pointer`. Answered by `.fileOpened`; then its name is `connection`.
        case openDirectory
        /// Create the file whose name is at `pointer` in the directory that `byteCount` names, and open it for reading
        /// and writing. The name must not exist yet. The mode is 0600: only the broker's user may read the file.
        /// Answered by `.fileOpened`.
        case createFile
        /// Open the file whose name is at `pointer` in the directory that `byteCount` names, for reading and writing,
        /// with `value` = 1 only for reading, with `value` = 2 past the page cache. Answered by `.fileOpened`.
        case openFile
        /// Write the bytes of the `iovec`s at `pointer` to the file at offset `byteCount`. `peer` is the number of
        /// `iovec`s (1 ... 1024), `value` the sum of their bytes. Answered by `.fileAppended`.
        case appendFile
        /// As `appendFile`, but the answer comes when the bytes are on stable storage (pwritev2(2), RWF_DSYNC).
        case appendFileDurably
        /// Read `value` bytes at offset `byteCount` into the buffer at `pointer`. Answered by `.fileRead`.
        case readFile
        /// Reserve disk space for `value` bytes at offset `byteCount` (fallocate(2)). A shorter file grows to the end
        /// of the range. Answered by `.fileAllocated`.
        case allocateFile
        /// Bring earlier changes to stable storage: the bytes of a file and the metadata needed to read them
        /// (fdatasync(2)), or the names in a directory (fsync(2)). Answered by `.fileSynced`.
        case syncFile
        /// Delete the name at `pointer` from the directory `connection`. A file that is open stays usable. Answered by
        /// `.fileDeleted`.
        case deleteFile
        /// Give the file whose name is at `pointer` in the directory `connection` another name, which is `byteCount` bytes
        /// behind that one in memory (renameat(2)): after a crash it has the one or the other. A file that is open stays
        /// usable. Answered by `.fileRenamed`.
        case renameFile
        /// Close the file or directory. Answered by `.fileClosed`; then its slot may be reused.
        case closeFile
    }

    public var kind: Kind
    public var peer: UInt16
    public var value: Int32
    public var connection: Slot
    public var pointer: UnsafeRawPointer?
    /// A count of bytes, or what the kind says. For `handOff`: `ConnectionOrigin.packed`.
    public var byteCount: Int

    /// For `handOff`: where the connection came from.
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
