import Glibc
import Slabs

/// Writes log lines without ever blocking the broker.
///
/// The reader of a pipe or socket may hang (a log collector, a pager), and a write(2) to it would block a worker. So
/// the output is checked for room first. Lines without room are lost and counted. When there is room again, a line that
/// tells how many were lost comes first. Files and terminals are written to without a check.
enum LogOutput {
    /// The message of the line that reports lost lines.
    static let lossMessage = "log lines were lost: whatever reads the log is too slow"

    /// Identifies a pipe or socket by its inode, because descriptors are reused.
    private struct Reader: Hashable {
        var device: dev_t
        var inode: ino_t
    }

    private struct Loss {
        var lineCount = 0
        /// The last line was written only in part, without its line feed.
        var isMidLine = false
    }

    /// Lost lines that are not reported yet, by reader. A thread writes while it holds the lock, so that room that it
    /// has found stays free until it writes.
    private static let losses = Guarded<[Reader: Loss]>([:])

    /// A pipe that is writable has room for at least this many bytes (PIPE_BUF). Most lines are shorter.
    private static let pieceByteCount = Int(PIPE_BUF)

    /// Writes `line` and a line feed. It is one write(2) if the line has at most 4 KiB or goes to a file, so that lines
    /// of several threads do not mix.
    ///
    /// - Parameter lossLine: makes the line that reports the given number of lost lines.
    static func write(_ line: String, to descriptor: Int32, lossLine: (Int) -> String) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return }
        let kind = status.st_mode & S_IFMT
        guard kind == S_IFIFO || kind == S_IFSOCK else {
            _ = write(line + "\n", to: descriptor, asksFirst: false)
            return
        }
        losses.withLock { losses in
            let reader = Reader(device: status.st_dev, inode: status.st_ino)
            if let loss = losses[reader] {
                let text = (loss.isMidLine ? "\n" : "") + lossLine(loss.lineCount) + "\n"
                let count = write(text, to: descriptor, asksFirst: true)
                guard count == text.utf8.count else {
                    losses[reader] = Loss(lineCount: loss.lineCount + 1, isMidLine: loss.isMidLine || count > 0)
                    return
                }
                losses[reader] = nil
            }
            let text = line + "\n"
            let count = write(text, to: descriptor, asksFirst: true)
            if count < text.utf8.count { losses[reader] = Loss(lineCount: 1, isMidLine: count > 0) }
        }
    }

    /// Returns the number of bytes written.
    private static func write(_ text: String, to descriptor: Int32, asksFirst: Bool) -> Int {
        var text = text
        return text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                if asksFirst, !hasRoom(descriptor) { break }
                let byteCount = asksFirst ? min(rest.count, pieceByteCount) : rest.count
                let count = Glibc.write(descriptor, rest.baseAddress!, byteCount)
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { break }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
            return bytes.count - rest.count
        }
    }

    private static func hasRoom(_ descriptor: Int32) -> Bool {
        var event = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return poll(&event, 1, 0) == 1 && event.revents & Int16(POLLOUT) != 0
    }
}
