import ArgumentParser
import Glibc
import STOMP

/// `stampede sink`: sends lines as messages.
struct Sink: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Send each line of standard input as a message.",
        discussion: """
            Exit code 0: the broker has confirmed all messages. Exit code 1: the broker refused a message, or the \
            connection failed. The error says why, and how many lines the broker has accepted, so that you need not send \
            them twice.
            """)

    @Argument(help: "The destination, as in /topic/news or /queue/orders.")
    var destination: String

    @OptionGroup var client: ClientOptions

    @Option(
        name: .customLong("header"),
        help: ArgumentHelp("A header of each SEND; may be repeated.", valueName: "name:value"))
    var headers: [String] = []

    @Flag(help: "Ask the broker to keep the messages over a restart (the header persistent:true).")
    var persistent = false

    @Option(
        name: .customLong("receipt"), parsing: .unconditional,
        help: "Ask for a receipt every N messages (default: 1), and stop reading while four receipts are missing.")
    var receiptInterval: Int?

    /// The most unconfirmed messages. When it is reached, no more lines are read.
    private var unconfirmedMax: Int { receiptInterval.map { 4 * $0 } ?? 1024 }

    func validate() throws {
        if let receiptInterval, receiptInterval < 1 {
            throw ValidationError("--receipt: found \(receiptInterval); allowed: 1 or more")
        }
        _ = try ClientOptions.headers(headers)
    }

    func run() throws {
        try Interruption.prepare()
        client.hint(about: destination)
        var headers = [("destination", destination)] + (try ClientOptions.headers(self.headers))
        if persistent { headers.append(("persistent", "true")) }
        var progress = Progress()
        do {
            var connection = try BrokerConnection.open(client)
            let isWhole = try send(headers, on: &connection, &progress)
            try connection.disconnect { progress.note($0) }
            progress.confirmedCount = progress.sentCount
            if !isWhole { throw Failure.operation("interrupted before the end of the input") }
        } catch let failure as Failure where progress.sentCount > 0 {
            progress.refusedNumber = failure.receiptID.flatMap { Int($0) }
            throw Failure(exitCode: failure.exitCode, lines: failure.lines + [progress.summary])
        }
        client.report("\(progress.confirmedCount) messages confirmed")
    }

    /// The number of messages sent, and how many of them the broker has confirmed.
    private struct Progress {
        var sentCount = 0
        var confirmedCount = 0
        /// The line that the broker has refused, from 1. nil: none, or nobody knows which.
        var refusedNumber: Int?

        /// The id of a receipt is the number of messages up to its own, included.
        mutating func note(_ frame: ClientFrame) {
            if frame.command == .receipt, let count = Int(frame["receipt-id"] ?? "") { confirmedCount = count }
        }

        /// The text after a failure: which lines the broker has accepted.
        var summary: String {
            var rest = sentCount - confirmedCount
            var text = "the broker has accepted the first \(confirmedCount) of \(sentCount) lines that were sent"
            if rest == 0 { return "\(text): continue with the line after them" }
            if let refusedNumber, refusedNumber > confirmedCount {
                text += ", and refused line \(refusedNumber)"
                rest -= 1
            }
            if rest == 0 { return text }
            return "\(text); it has not confirmed the other \(rest), and may have accepted some of them"
        }
    }

    /// Returns whether the input has come to its end. False: a signal came first.
    private func send(
        _ headers: [(String, String)], on connection: inout BrokerConnection, _ progress: inout Progress
    ) throws -> Bool {
        var reader = LineReader()
        while !Interruption.isRequested {
            while let frame = try connection.popFrame() {
                progress.note(frame)
            }
            let hasRoom =
                progress.sentCount - progress.confirmedCount < unconfirmedMax
                && connection.outgoingByteCount < 1 << 20
            if hasRoom, let line = reader.next() {
                progress.sentCount += 1
                let isConfirmed = progress.sentCount.isMultiple(of: receiptInterval ?? 1)
                let receipt = isConfirmed ? [("receipt", "\(progress.sentCount)")] : []
                connection.send(ClientFrame(.send, headers + receipt, body: line))
            } else if hasRoom && reader.isEnded {
                return true
            } else {
                let input = hasRoom ? (fd: STDIN_FILENO, events: POLLIN) : nil
                if try connection.wait(for: input) { try reader.fill() }
            }
        }
        return false
    }
}

/// Splits standard input at line feeds. The last line may end without one.
private struct LineReader {
    /// The longest line. No broker accepts larger bodies, and the command must not use unlimited memory.
    private static let lineByteCountMax = 64 << 20

    private var bytes: [UInt8] = []
    private var start = 0
    /// The number of bytes from `start` on that were searched and have no line feed.
    private var scannedCount = 0
    private var isAtEnd = false

    /// Whether standard input has ended and all lines were returned.
    var isEnded: Bool { isAtEnd && start == bytes.count }

    /// The next complete line, without its line feed. nil: none yet.
    mutating func next() -> [UInt8]? {
        guard let end = bytes[(start + scannedCount)...].firstIndex(of: UInt8(ascii: "\n")) else {
            scannedCount = bytes.count - start
            guard isAtEnd && scannedCount > 0 else { return nil }
            defer {
                start = bytes.count
                scannedCount = 0
            }
            return Array(bytes[start...])
        }
        defer {
            start = end + 1
            scannedCount = 0
        }
        return Array(bytes[start..<end])
    }

    /// Reads once. Call it when standard input is readable.
    mutating func fill() throws {
        bytes.removeFirst(start)
        start = 0
        let chunk = try [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
            let result = read(STDIN_FILENO, buffer.baseAddress!, buffer.count)
            count = max(result, 0)
            if result == 0 { isAtEnd = true }
            if result < 0 && errno != EINTR && errno != EAGAIN {
                throw Failure.operation("standard input: \(String(cString: strerror(errno)))")
            }
        }
        bytes += chunk
        guard bytes.count <= Self.lineByteCountMax else {
            throw Failure.operation("a line of standard input is longer than \(Self.lineByteCountMax) bytes")
        }
    }
}
