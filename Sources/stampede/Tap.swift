import ArgumentParser
import Glibc
import STOMP

/// `stampede tap`: prints the messages of a destination.
struct Tap: ParsableCommand {
    enum AckMode: String, ExpressibleByArgument, CaseIterable {
        case auto, client
        case clientIndividual = "client-individual"
    }

    static let configuration = CommandConfiguration(
        abstract: "Print the messages of a destination, one per line.",
        discussion: """
            A message is acknowledged after it was printed, so messages that were not printed stay in their queue. Exit \
            code 0 on SIGINT, or when --count messages were printed.
            """)

    @Argument(help: "The destination, as in /topic/news or /queue/orders.")
    var destination: String

    @OptionGroup var client: ClientOptions

    @Flag(help: "Print whole frames, with their headers, each ended by a NUL and a line end.")
    var frames = false

    @Option(
        parsing: .unconditional,
        help: "End after N messages, and ask the broker for no more than N at a time (prefetch-count).")
    var count: Int?

    @Option(help: "How to acknowledge: client, client-individual, or auto (before printing, so messages may be lost).")
    var ack = AckMode.client

    @Option(
        name: .customLong("header"),
        help: ArgumentHelp("A header of SUBSCRIBE; may be repeated.", valueName: "name:value"))
    var headers: [String] = []

    @Option(
        help: ArgumentHelp(
            "Read the log of a topic: first, last, next, an offset, or @SECONDS since 1970 (x-stream-offset).",
            valueName: "start"))
    var from: String?

    func validate() throws {
        if let from, Self.logStart(from) == nil {
            throw ValidationError(
                "--from: found \"\(from)\"; allowed: first, last, next, an offset, or @SECONDS since 1970")
        }
        if let count, count < 1 { throw ValidationError("--count: found \(count); allowed: 1 or more") }
        _ = try ClientOptions.headers(headers)
    }

    func run() throws {
        try Interruption.prepare()
        client.hint(about: destination)
        var connection = try BrokerConnection.open(client)
        connection.send(
            ClientFrame(
                .subscribe,
                [("id", "0"), ("destination", destination), ("ack", ack.rawValue), ("receipt", "subscribed")]
                    + (try ClientOptions.headers(headers)) + window + start))
        var printer = Printer()
        do {
            try follow(&connection, into: &printer)
        } catch {
            // Messages that arrived before the connection failed are still printed.
            try printer.finish()
            throw error
        }
        try connection.disconnect()
    }

    /// Where in the log of a topic to begin.
    private var start: [(String, String)] {
        from.flatMap { Self.logStart($0) }.map { [("x-stream-offset", $0)] } ?? []
    }

    /// The value of `x-stream-offset`. nil: the text says no place.
    private static func logStart(_ text: String) -> String? {
        switch text {
        case "first", "last", "next": text
        case _ where UInt64(text) != nil: "offset=\(text)"
        case _ where text.hasPrefix("@") && UInt64(text.dropFirst()) != nil: "timestamp=\(text.dropFirst())"
        default: nil
        }
    }

    /// Limits the messages under way to the count, because the broker would have to redeliver the others. A
    /// `prefetch-count` that the user gave is kept.
    private var window: [(String, String)] {
        guard let count, ack != .auto, !headers.contains(where: { $0.hasPrefix("prefetch-count:") }) else { return [] }
        return [("prefetch-count", "\(count)")]
    }

    /// Prints until a signal comes or the count is reached.
    private func follow(_ connection: inout BrokerConnection, into printer: inout Printer) throws {
        var messageCount = 0
        let countMax = count ?? .max
        while !Interruption.isRequested {
            while messageCount < countMax && printer.hasRoom, let frame = try connection.popFrame() {
                switch frame.command {
                case .message:
                    messageCount += 1
                    printer.append(frames ? frame.encoded(connection.version) : frame.body, acknowledgement(of: frame))
                case .receipt: client.report("subscribed to \(destination)")
                default: break
                }
            }
            if messageCount == countMax && printer.isEmpty { return }
            let output = printer.isEmpty ? nil : (fd: STDOUT_FILENO, events: POLLOUT)
            let isReady = try connection.wait(for: output, receives: printer.hasRoom && messageCount < countMax)
            if isReady { acknowledge(try printer.write(), on: &connection) }
        }
    }

    /// The ACK for a message, in the form of the protocol version. nil: the subscription needs none.
    private func acknowledgement(of message: ClientFrame) -> ClientFrame? {
        guard ack != .auto else { return nil }
        // STOMP 1.2 uses the `ack` header, 1.1 message and subscription, 1.0 only the message; there the other header
        // does no harm.
        if let id = message["ack"] { return ClientFrame(.ack, [("id", id)]) }
        return ClientFrame(.ack, [("message-id", message["message-id"] ?? ""), ("subscription", "0")])
    }

    /// With `client`, an ACK covers all messages up to its own, so only the last one is acknowledged.
    private func acknowledge(_ printed: [ClientFrame], on connection: inout BrokerConnection) {
        for frame in ack == .client ? printed.suffix(1) : printed[...] { connection.send(frame) }
    }
}

/// Messages that wait for standard output, each with the ACK that is sent when the message is written.
private struct Printer {
    private static let byteCountMax = 4 << 20
    /// A pipe that poll(2) reports as writable accepts this many bytes without blocking (pipe(7), PIPE_BUF).
    private static let pipeByteCount = 4096

    private var bytes: [UInt8] = []
    private var start = 0
    /// The number of bytes written so far, of all bytes that were ever appended.
    private var writtenByteCount = 0
    private var appendedByteCount = 0
    private var acknowledgements: [(end: Int, frame: ClientFrame)] = []
    private let chunkByteCount: Int

    init() {
        var status = stat()
        let isFile = fstat(STDOUT_FILENO, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        chunkByteCount = isFile ? 1 << 20 : Self.pipeByteCount
    }

    var isEmpty: Bool { start == bytes.count }
    var hasRoom: Bool { bytes.count - start < Self.byteCountMax }

    mutating func append(_ line: [UInt8], _ acknowledgement: ClientFrame?) {
        bytes += line
        bytes.append(UInt8(ascii: "\n"))
        appendedByteCount += line.count + 1
        if let acknowledgement { acknowledgements.append((appendedByteCount, acknowledgement)) }
    }

    /// Writes as much as standard output accepts without blocking. Returns the ACKs of the messages that were written.
    mutating func write() throws -> [ClientFrame] {
        let count = bytes.withUnsafeBytes {
            Glibc.write(STDOUT_FILENO, $0.baseAddress! + start, min($0.count - start, chunkByteCount))
        }
        if count < 0 && (errno == EINTR || errno == EAGAIN) { return [] }
        guard count >= 0 else {
            throw Failure.operation("standard output: \(String(cString: strerror(errno)))")
        }
        start += count
        writtenByteCount += count
        if isEmpty || start > Self.byteCountMax {
            bytes.removeFirst(start)
            start = 0
        }
        let printedCount = acknowledgements.prefix { $0.end <= writtenByteCount }.count
        defer { acknowledgements.removeFirst(printedCount) }
        return acknowledgements.prefix(printedCount).map(\.frame)
    }

    /// Writes all remaining bytes. It may block.
    mutating func finish() throws {
        while !isEmpty { _ = try write() }
    }
}
