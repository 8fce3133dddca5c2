internal import Glibc
internal import IO

/// The core's bytes in a send, in the runs in which they lie.
struct RunCursor: BitwiseCopyable {
    private let vectors: UnsafePointer<iovec>?
    private let single: iovec
    let vectorCount: Int
    private var place = 0
    /// Bytes of the run at `place` that were taken.
    private var offset = 0
    /// Bytes that were not taken yet.
    private(set) var byteCount: Int

    init(_ submission: Submission) {
        if submission.kind == .sendVector {
            vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            single = iovec()
            vectorCount = submission.byteCount
            byteCount = Int(submission.value)
        } else {
            vectors = nil
            single = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: submission.pointer!), iov_len: submission.byteCount)
            vectorCount = 1
            byteCount = submission.byteCount
        }
    }

    private func run(_ place: Int) -> iovec { vectors?[place] ?? single }

    /// Takes the next bytes that lie together: `byteCountMax` at most.
    mutating func take(_ byteCountMax: Int) -> iovec {
        let run = run(place)
        let count = min(run.iov_len - offset, byteCountMax)
        let taken = iovec(iov_base: run.iov_base + offset, iov_len: count)
        offset += count
        byteCount -= count
        if offset == run.iov_len {
            place += 1
            offset = 0
        }
        return taken
    }

    mutating func skip(_ byteCount: Int) {
        var left = byteCount
        while left > 0 { left -= take(left).iov_len }
    }

    /// The bytes that come next, as one message or a part of it.
    struct Message: BitwiseCopyable {
        var byteCount: Int
        /// It ends with the end of a STOMP frame, so that the message may end with it.
        var endsFrame: Bool
    }

    /// As many runs as end with the end of a STOMP frame and are no longer than `byteCountMax` together. If there are none:
    /// up to the first such end, or all.
    func nextMessage(byteCountMax: Int) -> Message {
        var rest = self
        var message = Message(byteCount: 0, endsFrame: false)
        var last: UInt8 = 0
        var count = 0
        while rest.byteCount > 0 {
            let run = rest.take(.max)
            let lastButOne = run.iov_len > 1 ? run.iov_base.load(fromByteOffset: run.iov_len - 2, as: UInt8.self) : last
            last = run.iov_base.load(fromByteOffset: run.iov_len - 1, as: UInt8.self)
            count += run.iov_len
            if count > byteCountMax, message.endsFrame { return message }
            // As `FrameBuilder.endsFrame`: the end of a frame is "\0\n", and a heart-beat is "\n".
            guard last == 0x0A, lastButOne == 0 || count == 1 else { continue }
            message = Message(byteCount: count, endsFrame: true)
            if count > byteCountMax { return message }
        }
        return message.endsFrame ? message : Message(byteCount: count, endsFrame: false)
    }
}
