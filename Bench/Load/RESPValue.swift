import Glibc

/// The part of RESP 2, the protocol of Redis and Valkey, that publishes and subscribes.
///
/// ```
/// +OK CRLF | -ERR why CRLF | :number CRLF | $byteCount CRLF bytes CRLF | *count CRLF and so many values
/// ```
enum RESPValue {
    // MARK: Writing

    /// A PING. Its answer shows that the server has accepted the connection.
    static let connect = array(["CLIENT", "SETNAME", "stampede"])
    static let ping = array(["PING"])

    static func subscribe(to channel: String) -> String { array(["SUBSCRIBE", channel]) }

    /// A PUBLISH without its body and the line end after it.
    static func publishHead(to channel: String, bodyByteCount: Int) -> String {
        "*3\r\n" + bulk("PUBLISH") + bulk(channel) + "$\(bodyByteCount)\r\n"
    }

    private static func array(_ values: [String]) -> String { "*\(values.count)\r\n" + values.map(bulk).joined() }

    private static func bulk(_ text: String) -> String { "$\(text.utf8.count)\r\n\(text)\r\n" }

    // MARK: Reading

    /// The length of the longest expected array.
    private static let elementCountMax = 3

    /// The value that begins at `start`. nil: it is not complete yet.
    static func scan(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> FrameScanner.Frame? {
        guard let line = FrameScanner.line(start, end) else { return nil }
        var frame = FrameScanner.Frame(
            kind: .error, head: start, headByteCount: line.byteCount, body: line.next, bodyByteCount: 0, next: line.next
        )
        switch start.load(as: UInt8.self) {
        case UInt8(ascii: "+"): frame.kind = isEqual(start, line.byteCount, "+PONG") ? .receipt : .connected
        case UInt8(ascii: ":"): frame.kind = .other
        case UInt8(ascii: "*"): return array(frame, line, end)
        default: break
        }
        return frame
    }

    /// The first element is the kind, the last one the body.
    private static func array(
        _ head: FrameScanner.Frame, _ line: FrameScanner.Line, _ end: UnsafeRawPointer
    ) -> FrameScanner.Frame? {
        var frame = head
        guard let count = FrameScanner.number(line.start + 1, line.start + line.byteCount),
            1...elementCountMax ~= count
        else { return frame }
        var kind = FrameScanner.Kind.other
        for position in 0..<count {
            guard let element = FrameScanner.line(frame.next, end) else { return nil }
            frame.body = element.next
            frame.bodyByteCount = 0
            frame.next = element.next
            if element.byteCount > 0, element.start.load(as: UInt8.self) == UInt8(ascii: ":") { continue }
            guard element.byteCount > 1, element.start.load(as: UInt8.self) == UInt8(ascii: "$"),
                let byteCount = FrameScanner.number(element.start + 1, element.start + element.byteCount)
            else { return frame }
            guard end - element.next >= byteCount + 2 else { return nil }
            frame.bodyByteCount = byteCount
            frame.next = element.next + byteCount + 2
            if position == 0 { kind = self.kind(element.next, byteCount) }
        }
        frame.kind = kind
        frame.headByteCount = frame.body - frame.head
        return frame
    }

    private static func kind(_ start: UnsafeRawPointer, _ byteCount: Int) -> FrameScanner.Kind {
        if isEqual(start, byteCount, "message") { return .message }
        return isEqual(start, byteCount, "subscribe") || isEqual(start, byteCount, "pong") ? .receipt : .other
    }

    private static func isEqual(_ start: UnsafeRawPointer, _ byteCount: Int, _ name: StaticString) -> Bool {
        name.utf8CodeUnitCount == byteCount && memcmp(start, name.utf8Start, byteCount) == 0
    }
}
