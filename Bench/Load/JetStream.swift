import Glibc

/// NATS with JetStream: a stream for each queue, from which an acknowledged message goes (`workqueue`), and one push consumer.
///
/// ```
/// PUB bench.7.0 _INBOX.7.3.12 64 CRLF body CRLF            message 12 of publisher 3
/// MSG _INBOX.7.3.12 1 29 CRLF {"stream":...,"seq":1} CRLF  it is in the stream; or {"error":...}
/// MSG bench.7.0 1 $JS.ACK.... 64 CRLF body CRLF            to the consumer
/// PUB $JS.ACK.... 0 CRLF CRLF                              it may go
/// ```
///
/// Source: the page "JetStream wire API Reference" of the NATS documentation, and ADR-1 (the JSON of the API).
public enum JetStream {
    static let acknowledgementStart = "PUB "
    static let acknowledgementEnd = " 0\r\n\r\n"
    private static let inboxStart: StaticString = "MSG _INBOX"
    private static let confirmationStart: StaticString = "{\"stream\":"

    /// Where a consumer's messages go.
    static func deliverySubject(_ subject: String) -> String { "deliver.\(subject)" }

    /// The subjects of a publisher's confirmations, without the number at the end.
    static func inbox(_ tag: String, _ publisher: Int) -> String { "_INBOX\(tag).\(publisher)." }

    // MARK: Reading

    /// The kind of a complete MSG.
    @inline(__always)
    static func kind(_ start: UnsafeRawPointer, body: UnsafeRawPointer, byteCount: Int) -> FrameScanner.Kind {
        guard body - start > inboxStart.utf8CodeUnitCount,
            memcmp(start, inboxStart.utf8Start, inboxStart.utf8CodeUnitCount) == 0
        else { return .message }
        let isConfirmed =
            byteCount > confirmationStart.utf8CodeUnitCount
            && memcmp(body, confirmationStart.utf8Start, confirmationStart.utf8CodeUnitCount) == 0
        return isConfirmed ? .receipt : .error
    }

    /// The last part of the subject of a confirmation: the number that the publisher gave the message.
    static func confirmedNumber(of frame: FrameScanner.Frame) -> UnsafeRawBufferPointer? {
        guard let subject = word(1, of: frame) else { return nil }
        var count = 0
        while count < subject.count, subject[subject.count - count - 1] != UInt8(ascii: ".") { count += 1 }
        return UnsafeRawBufferPointer(rebasing: subject[(subject.count - count)...])
    }

    /// The subject to which an empty message acknowledges this one.
    static func replySubject(of frame: FrameScanner.Frame) -> UnsafeRawBufferPointer? {
        // MSG, subject, sid, reply, byte count. Without a reply there are only four words.
        word(4, of: frame) == nil ? nil : word(3, of: frame)
    }

    /// A word of the first line. The first one has the index 0.
    private static func word(_ index: Int, of frame: FrameScanner.Frame) -> UnsafeRawBufferPointer? {
        var start = frame.head
        let end = frame.head + frame.headByteCount
        for _ in 0..<index {
            guard let space = memchr(start, Int32(UInt8(ascii: " ")), end - start) else { return nil }
            start = UnsafeRawPointer(space) + 1
        }
        let space = memchr(start, Int32(UInt8(ascii: " ")), end - start)
        return UnsafeRawBufferPointer(start: start, count: (space.map(UnsafeRawPointer.init) ?? end) - start)
    }
}
