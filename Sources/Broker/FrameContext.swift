import Slabs

/// What a frame is applied for: whose it is, and how it came here. The frame itself is under the parser.
struct FrameContext: BitwiseCopyable {
    struct Flags: OptionSet, BitwiseCopyable {
        let rawValue: UInt8
        /// The COMMIT has all it needs and is being applied: its frames wait for nothing, and limits on what there may be do
        /// not stop them, for half a transaction would be worse.
        static let committing = Flags(rawValue: 1 << 0)
        /// The frame's bytes are in the session's input block, which is given back when it is done with.
        static let keptInput = Flags(rawValue: 1 << 1)
    }

    let session: UnsafeMutablePointer<Session>
    /// The COMMIT that applies the frame, or has room kept for it: its receipt, rather than the frame's own, goes into an
    /// ERROR. It is live until the session ends. None: the frame came on the wire just now.
    let commit: Index<PendingOperation>
    let flags: Flags

    init(
        _ session: UnsafeMutablePointer<Session>, commit: Index<PendingOperation> = .none, _ flags: Flags = []
    ) {
        self.session = session
        self.commit = commit
        self.flags = flags
    }

    @inline(__always) var isCommitting: Bool { flags.contains(.committing) }
    @inline(__always) var isKeptInput: Bool { flags.contains(.keptInput) }
}
