import Glibc
import Slabs

/// Where lines of the log leave the process: the log never stops the broker.
///
/// A pipe or a socket may have a reader that hangs (a collector, a terminal's pager), and a write(2) to it would wait
/// for ever, in a worker's turn. So it is asked first, and what it has no room for is lost, and counted; the first line
/// that has room again is preceded by one that tells how many were. A file or a terminal is written to without asking.
enum LogOutput {
    /// The message of the line that tells of lost ones.
    static let lossMessage = "log lines were lost: whatever reads the log is too slow"

    /// Which pipe or socket: descriptors are used again, its inode is not.
    private struct Reader: Hashable {
        var device: dev_t
        var inode: ino_t
    }

    private struct Loss {
        var lineCount = 0
        /// The last line that was written has no end.
        var isMidLine = false
    }

    /// Readers that have lost lines and were not told yet. Whoever has the lock is the one who writes: room that was
    /// found is still there.
    private static let losses = Guarded<[Reader: Loss]>([:])

    /// Room that a pipe has which says that it has some, and more than most lines need.
    private static let pieceByteCount = Int(PIPE_BUF)

    /// Writes `line` and its end, in one write(2) if it is no longer than 4 KiB or goes to a file, so that lines of
    /// several threads do not mix.
    ///
    /// - Parameter lossLine: the line that says how many were lost.
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

    /// The bytes that were taken.
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
