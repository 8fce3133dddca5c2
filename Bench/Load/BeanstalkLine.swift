import Glibc

/// The part of beanstalkd's protocol (its doc/protocol.txt, version 1.12) that puts, reserves and deletes jobs.
///
/// Commands may be sent without waiting for the answers. So a consumer reserves several jobs in advance. Each time that
/// it deletes a job, it reserves another one in the same send.
enum BeanstalkLine {
    /// The number of jobs that a consumer reserves in advance.
    static let reservesUnderWay = 16
    private static let reserve = "reserve\r\n"
    /// Seconds after which a job that was not deleted is delivered again. Longer than any measurement.
    private static let timeToRun = 3600

    // MARK: Writing

    static func use(_ tube: String) -> String { "use \(tube)\r\n" }

    static func watch(_ tube: String) -> String {
        "watch \(tube)\r\nignore default\r\n" + String(repeating: reserve, count: reservesUnderWay)
    }

    static func putHead(bodyByteCount: Int) -> String { "put 0 0 \(timeToRun) \(bodyByteCount)\r\n" }

    static let deleteStart = "delete "
    static let deleteEnd = "\r\n" + reserve

    // MARK: Reading

    private static let reserved: StaticString = "RESERVED "

    /// The answer that begins at `start`. nil: it is not complete yet.
    static func scan(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> FrameScanner.Frame? {
        guard let line = FrameScanner.line(start, end) else { return nil }
        var frame = FrameScanner.Frame(
            kind: .error, head: start, headByteCount: line.byteCount, body: line.next, bodyByteCount: 0, next: line.next
        )
        guard begins(line, reserved) else {
            frame.kind = kind(line)
            return frame
        }
        let lineEnd = start + line.byteCount
        var digits = lineEnd
        while digits > start, digits.load(fromByteOffset: -1, as: UInt8.self) != UInt8(ascii: " ") { digits -= 1 }
        guard let count = FrameScanner.number(digits, lineEnd) else { return frame }
        guard end - line.next >= count + 2 else { return nil }
        frame.kind = .message
        frame.bodyByteCount = count
        frame.next = line.next + count + 2
        return frame
    }

    /// The job id for `delete`: the number after RESERVED.
    static func identifier(of frame: FrameScanner.Frame) -> UnsafeRawBufferPointer? {
        let start = frame.head + reserved.utf8CodeUnitCount
        let rest = frame.headByteCount - reserved.utf8CodeUnitCount
        guard rest > 0, let space = memchr(start, Int32(UInt8(ascii: " ")), rest) else { return nil }
        return UnsafeRawBufferPointer(start: start, count: UnsafeRawPointer(space) - start)
    }

    /// USING stands for CONNECTED of STOMP, INSERTED for RECEIPT. The answer to `ignore`, after which one tube is left,
    /// stands for the answer to a subscription.
    private static func kind(_ line: FrameScanner.Line) -> FrameScanner.Kind {
        if begins(line, "INSERTED ") { return .receipt }
        if begins(line, "DELETED") { return .other }
        if begins(line, "USING ") { return .connected }
        if begins(line, "WATCHING ") { return line.byteCount == 10 && begins(line, "WATCHING 1") ? .receipt : .other }
        return .error
    }

    private static func begins(_ line: FrameScanner.Line, _ name: StaticString) -> Bool {
        line.byteCount >= name.utf8CodeUnitCount && memcmp(line.start, name.utf8Start, name.utf8CodeUnitCount) == 0
    }
}
