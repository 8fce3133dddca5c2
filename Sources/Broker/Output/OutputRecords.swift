import Slabs

/// A run of bytes that waits in a session's output. Owns one reference to its block.
struct Segment: SlabRecord {
    var generation: UInt32
    /// In the session's output.
    var link: SingleLink<Segment>
    var block: BlockIndex
    var offset: UInt32
    var byteCount: UInt32
    var unused: UInt32
}

/// What became of a session that had gained output, at the end of a turn.
enum SendOutcome: BitwiseCopyable {
    /// Its send is among the submissions.
    case sent
    /// It has nothing to send.
    case isEmpty
    /// It waits: for its socket, for the kernel, or for the next poll.
    case waits
}

/// What the kernel took of a send. These bytes have left the output.
enum SendEnd: BitwiseCopyable, Equatable {
    /// All of it.
    case whole(byteCount: Int)
    /// So much; then the socket was full.
    case fellShort(byteCount: Int)
    /// The connection has failed, and nothing has left the output.
    case failed

    @inline(__always)
    var isWhole: Bool {
        if case .whole = self { true } else { false }
    }
}
