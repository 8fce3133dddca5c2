import Glibc

/// Many connections in one thread, for tests that carry more traffic than `RawClient` can: a frame is looked at where
/// it was received, and costs little beside what the broker does, also in a debug build.
///
/// let client = LoadClient(port: broker.port) let subscriber = try client.open()
/// client.enqueue("SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0", on: subscriber) try client.run(until: { count == 10 })
/// { connection, frame in count += 1 }
///
/// Bodies hold no NUL, and the broker's line end behind a frame's NUL is skipped.
public final class LoadClient {
    private let port: UInt16
    private var connections: [LoadClientConnection] = []
    private var entries: [pollfd] = []
    /// The broker may close connections. false: that fails the test.
    public var toleratesEnds = false
    public private(set) var openCount = 0

    public init(port: UInt16) { self.port = port }

    /// Opens a session. The answer to its CONNECT comes as a frame.
    ///
    /// Returns the connection's number; numbers are not used again.
    public func open() throws -> Int {
        let connection = LoadClientConnection(try Connection.open(port: port))
        connections.append(connection)
        entries.append(pollfd(fd: connection.descriptor, events: 0, revents: 0))
        openCount += 1
        enqueue("CONNECT\naccept-version:1.2\nhost:x\nlogin:guest\npasscode:guest\n\n\0", on: connections.count - 1)
        return connections.count - 1
    }

    /// Adds to what waits to be sent; `run` sends it. Nothing happens on a connection that has ended.
    public func enqueue(_ text: String, on connection: Int) {
        connections[connection].output.append(contentsOf: text.utf8)
    }

    /// As `enqueue` of a string.
    public func enqueue(_ bytes: UnsafeRawBufferPointer, on connection: Int) {
        connections[connection].output.append(contentsOf: bytes)
    }

    /// Closes a connection without a DISCONNECT, as a client does that dies: what waits in either direction is gone.
    public func abandon(_ connection: Int) {
        guard isOpen(connection) else { return }
        connections[connection].close()
        entries[connection].fd = -1
        openCount -= 1
    }

    public func isOpen(_ connection: Int) -> Bool { connections[connection].descriptor >= 0 }

    /// Sends what waits and hands each frame to `take`, until `isDone`, which is asked after each batch of events.
    ///
    /// Throws when nothing moves for `Deadline.defaultSeconds`, and what `take` throws. A frame is valid during the
    /// call only.
    public func run(until isDone: () throws -> Bool, _ take: (Int, LoadFrame) throws -> Void) throws {
        var deadline = Deadline()
        while try !isDone() {
            for number in entries.indices where entries[number].fd >= 0 {
                connections[number].send()
                entries[number].events = Int16(connections[number].hasOutput ? POLLIN | POLLOUT : POLLIN)
            }
            let count = poll(&entries, nfds_t(entries.count), deadline.millisecondsLeft)
            if count > 0 { deadline = Deadline() }
            if deadline.isOver { throw Failure("nothing moves", at: Place(#fileID, #line)) }
            for number in entries.indices
            where entries[number].fd >= 0 && entries[number].revents & ~Int16(POLLOUT) != 0 {
                if try !connections[number].receive({ try take(number, $0) }) { try didEnd(number) }
            }
        }
    }

    private func didEnd(_ number: Int) throws {
        guard isOpen(number) else { return }
        guard toleratesEnds else {
            throw Failure("connection \(number) was ended by the broker", at: Place(#fileID, #line))
        }
        abandon(number)
    }
}

/// A frame in a receive buffer.
public struct LoadFrame {
    /// From the command to the last byte before the NUL.
    private let bytes: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    public enum Kind { case connected, message, receipt, error }

    /// Told by the first letter alone: the tests of conformance check commands.
    public var kind: Kind {
        switch bytes.first {
        case UInt8(ascii: "M"): .message
        case UInt8(ascii: "R"): .receipt
        case UInt8(ascii: "C"): .connected
        default: .error
        }
    }

    /// The value of the first header of that name, escaped as it came.
    public func header(_ name: StaticString) -> UnsafeRawBufferPointer? {
        let nameByteCount = name.utf8CodeUnitCount
        var line = endOfLine(0) + 1
        while line < bytes.count {
            let end = endOfLine(line)
            if end == line { return nil }
            let start = bytes.baseAddress! + line
            if end - line > nameByteCount,
                start.load(fromByteOffset: nameByteCount, as: UInt8.self) == UInt8(ascii: ":"),
                memcmp(start, name.utf8Start, nameByteCount) == 0
            {
                return UnsafeRawBufferPointer(rebasing: bytes[(line + nameByteCount + 1)..<end])
            }
            line = end + 1
        }
        return nil
    }

    public var body: UnsafeRawBufferPointer {
        var line = endOfLine(0) + 1
        while line < bytes.count {
            let end = endOfLine(line)
            if end == line { return UnsafeRawBufferPointer(rebasing: bytes[(line + 1)...]) }
            line = end + 1
        }
        return UnsafeRawBufferPointer(rebasing: bytes[bytes.count...])
    }

    /// The header's value as a number; nil where it is none.
    public func number(in name: StaticString) -> Int? {
        header(name).flatMap { Self.decimal($0) }
    }

    /// Digits and nothing else, at most 18 of them; nil for anything else.
    public static func decimal(_ digits: UnsafeRawBufferPointer) -> Int? {
        guard !digits.isEmpty, digits.count <= 18 else { return nil }
        var value = 0
        var index = 0
        while index < digits.count {
            let digit = Int(digits[index]) - 48
            guard digit >= 0, digit <= 9 else { return nil }
            value = value * 10 + digit
            index += 1
        }
        return value
    }

    public var text: String { String(decoding: bytes, as: UTF8.self) }

    private func endOfLine(_ start: Int) -> Int {
        guard start < bytes.count, let end = memchr(bytes.baseAddress! + start, 10, bytes.count - start) else {
            return bytes.count
        }
        return UnsafeRawPointer(end) - bytes.baseAddress!
    }
}

/// One connection of a load client.
private final class LoadClientConnection {
    private(set) var descriptor: Int32
    /// Received bytes that are not taken yet.
    private var input = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 1)
    private var inputEnd = 0
    /// What waits to be sent, behind `sentCount` bytes that are sent.
    var output: [UInt8] = []
    private var sentCount = 0

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit {
        close()
        input.deallocate()
    }

    func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    var hasOutput: Bool { sentCount < output.count }

    /// Sends as much as the socket takes.
    func send() {
        while hasOutput {
            let count = output.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sentCount, $0.count - sentCount, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EAGAIN { return }
            // The peer has closed the connection. What came before can still be received, and then its end.
            sentCount = count < 0 ? output.count : sentCount + count
        }
        output.removeAll(keepingCapacity: true)
        sentCount = 0
    }

    /// Receives once and hands over the whole frames. False at the end of the connection.
    func receive(_ take: (LoadFrame) throws -> Void) throws -> Bool {
        if inputEnd == input.count { grow() }
        let count = recv(descriptor, input.baseAddress! + inputEnd, input.count - inputEnd, 0)
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return true }
        if count <= 0 { return false }
        inputEnd += count
        let base = UnsafeRawPointer(input.baseAddress!)
        var start = 0
        // `take` may close the connection: then the frames behind are not for anyone.
        while descriptor >= 0, start < inputEnd, let nul = memchr(base + start, 0, inputEnd - start) {
            while base.load(fromByteOffset: start, as: UInt8.self) == FrameDecoder.lineFeed { start += 1 }
            let end = UnsafeRawPointer(nul) - base
            try take(LoadFrame(UnsafeRawBufferPointer(start: base + start, count: end - start)))
            start = end + 1
        }
        memmove(input.baseAddress!, base + start, inputEnd - start)
        inputEnd -= start
        return true
    }

    private func grow() {
        let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: input.count * 2, alignment: 1)
        larger.copyMemory(from: UnsafeRawBufferPointer(input))
        input.deallocate()
        input = larger
    }
}
