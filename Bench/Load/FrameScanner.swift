import Glibc

/// Finds the frames in received bytes. It reads only as much of STOMP, NATS and the other protocols as is needed to
/// find the bounds of each frame reliably, because the load generator must take less CPU than the server.
///
/// The head of a MESSAGE nearly always has the same length as the one before. So that length is tried first. It is
/// accepted only if the head ends there, our body begins after it, and the frame ends with this body.
struct FrameScanner {
    enum Kind {
        case message, receipt, connected, error, ping, other
    }

    struct Frame {
        var kind: Kind
        var head: UnsafeRawPointer
        var headByteCount: Int
        var body: UnsafeRawPointer
        var bodyByteCount: Int
        var next: UnsafeRawPointer
    }

    let dialect: Plan.Dialect
    let bodyByteCount: Int
    private var headByteCount = 0
    private static let messageStart = UInt64(littleEndian: 0x0A45_4741_5353_454D)
    private static let headEnd = UInt16(littleEndian: 0x0A0A)
    private static let natsEnd = UInt16(littleEndian: 0x0A0D)
    private static let lineFeed = UInt8(ascii: "\n")

    init(dialect: Plan.Dialect, bodyByteCount: Int) {
        self.dialect = dialect
        self.bodyByteCount = bodyByteCount
    }

    /// The frame that begins at `start`. nil: it is not complete yet.
    @inline(__always)
    mutating func scan(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Frame? {
        if _slowPath(dialect != .stomp) { return scanOther(start, end) }
        let next = start + headByteCount + bodyByteCount + 1
        if _fastPath(
            headByteCount != 0 && next <= end && start.loadUnaligned(as: UInt64.self) == Self.messageStart
                && start.loadUnaligned(fromByteOffset: headByteCount - 2, as: UInt16.self) == Self.headEnd
                && start.loadUnaligned(fromByteOffset: headByteCount, as: UInt64.self) == Body.magic
                && next.load(fromByteOffset: -1, as: UInt8.self) == 0)
        {
            return Frame(
                kind: .message, head: start, headByteCount: headByteCount, body: start + headByteCount,
                bodyByteCount: bodyByteCount, next: next)
        }
        return scanStomp(start, end)
    }

    // MARK: STOMP

    private mutating func scanStomp(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Frame? {
        guard var line = Self.line(start, end) else { return nil }
        let kind = Self.kind(start, line.byteCount)
        var contentByteCount: Int?
        while true {
            guard let header = Self.line(line.next, end) else { return nil }
            line = header
            if header.byteCount == 0 { break }
            if contentByteCount == nil { contentByteCount = Self.number(header, after: "content-length:") }
        }
        let body = line.next
        if let count = contentByteCount {
            guard end - body > count else { return nil }
            guard body.load(fromByteOffset: count, as: UInt8.self) == 0 else {
                return Frame(
                    kind: .other, head: start, headByteCount: body - start, body: body, bodyByteCount: count, next: end)
            }
            return frame(kind, start, body, count)
        }
        guard let nul = memchr(body, 0, end - body) else { return nil }
        return frame(kind, start, body, UnsafeRawPointer(nul) - body)
    }

    private mutating func frame(_ kind: Kind, _ start: UnsafeRawPointer, _ body: UnsafeRawPointer, _ count: Int)
        -> Frame
    {
        if kind == .message, count == bodyByteCount { headByteCount = body - start }
        return Frame(
            kind: kind, head: start, headByteCount: body - start, body: body, bodyByteCount: count,
            next: body + count + 1)
    }

    private static func kind(_ start: UnsafeRawPointer, _ byteCount: Int) -> Kind {
        func isCommand(_ name: StaticString) -> Bool {
            name.utf8CodeUnitCount == byteCount && memcmp(start, name.utf8Start, byteCount) == 0
        }
        if isCommand("MESSAGE") { return .message }
        if isCommand("RECEIPT") { return .receipt }
        if isCommand("CONNECTED") { return .connected }
        return isCommand("ERROR") ? .error : .other
    }

    struct Line {
        var start: UnsafeRawPointer
        /// The line without its end, which is LF or CR LF.
        var byteCount: Int
        var next: UnsafeRawPointer
    }

    static func line(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Line? {
        guard start < end, let found = memchr(start, Int32(lineFeed), end - start) else { return nil }
        let lineEnd = UnsafeRawPointer(found)
        var byteCount = lineEnd - start
        if byteCount > 0, lineEnd.load(fromByteOffset: -1, as: UInt8.self) == UInt8(ascii: "\r") { byteCount -= 1 }
        return Line(start: start, byteCount: byteCount, next: lineEnd + 1)
    }

    private static func number(_ line: Line, after name: StaticString) -> Int? {
        let count = name.utf8CodeUnitCount
        guard line.byteCount > count, memcmp(line.start, name.utf8Start, count) == 0 else { return nil }
        return number(line.start + count, line.start + line.byteCount)
    }

    static func number(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Int? {
        var value = 0
        guard start < end, end - start < 12 else { return nil }
        for place in 0..<(end - start) {
            let digit = Int(start.load(fromByteOffset: place, as: UInt8.self)) - 48
            guard 0...9 ~= digit else { return nil }
            value = value * 10 + digit
        }
        return value
    }

    /// The value of a header. nil: the frame does not have it.
    static func value(of name: StaticString, in frame: Frame) -> UnsafeRawBufferPointer? {
        let end = frame.head + frame.headByteCount
        var next = frame.head
        while let line = line(next, end) {
            let count = name.utf8CodeUnitCount
            if line.byteCount > count, memcmp(line.start, name.utf8Start, count) == 0,
                line.start.load(fromByteOffset: count, as: UInt8.self) == UInt8(ascii: ":")
            {
                return UnsafeRawBufferPointer(start: line.start + count + 1, count: line.byteCount - count - 1)
            }
            next = line.next
        }
        return nil
    }

    private func scanOther(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Frame? {
        switch dialect {
        case .mqtt: MQTTPacket.scan(start, end)
        case .beanstalk: BeanstalkLine.scan(start, end)
        case .resp: RESPValue.scan(start, end)
        case .stomp, .nats: scanNats(start, end)
        }
    }

    // MARK: NATS

    /// `MSG subject sid byteCount CRLF body CRLF`, or a line.
    private func scanNats(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Frame? {
        guard let line = Self.line(start, end) else { return nil }
        guard line.byteCount > 4, start.load(as: UInt8.self) == UInt8(ascii: "M") else {
            return Frame(
                kind: Self.natsKind(line), head: start, headByteCount: line.byteCount, body: line.next,
                bodyByteCount: 0,
                next: line.next)
        }
        var digits = start + line.byteCount
        while digits.load(fromByteOffset: -1, as: UInt8.self) != UInt8(ascii: " "), digits > start + 1 { digits -= 1 }
        guard let count = Self.number(digits, start + line.byteCount) else {
            return Frame(
                kind: .error, head: start, headByteCount: line.byteCount, body: line.next, bodyByteCount: 0, next: end)
        }
        let next = line.next + count + 2
        guard next <= end else { return nil }
        return Frame(
            kind: JetStream.kind(start, body: line.next, byteCount: count), head: start, headByteCount: line.byteCount,
            body: line.next, bodyByteCount: count,
            next: next)
    }

    /// PONG stands for CONNECTED and RECEIPT of STOMP.
    private static func natsKind(_ line: Line) -> Kind {
        func begins(_ name: StaticString) -> Bool {
            line.byteCount >= name.utf8CodeUnitCount && memcmp(line.start, name.utf8Start, name.utf8CodeUnitCount) == 0
        }
        if begins("PONG") { return .receipt }
        if begins("PING") { return .ping }
        if begins("INFO") { return .connected }
        return begins("-ERR") ? .error : .other
    }
}
