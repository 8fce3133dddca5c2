import Glibc

/// Many connections in one thread, for tests with more traffic than `RawClient` can handle. Frames are read in the
/// receive buffer. It takes little CPU compared with the broker, also in a debug build.
///
/// let client = LoadClient(port: broker.port) let subscriber = try client.open()
/// client.enqueue("SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0", on: subscriber) try client.run(until: { count == 10 })
/// { connection, frame in count += 1 }
///
/// Bodies contain no NUL. The line end that the broker sends after the NUL of a frame is skipped.
public final class LoadClient {
    private let port: UInt16
    private var connections: [LoadClientConnection] = []
    private var entries: [pollfd] = []
    /// Whether the broker may close connections. false: a closed connection fails the test.
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

    /// Appends bytes to be sent. `run` sends them. It has no effect on a connection that has ended.
    public func enqueue(_ text: String, on connection: Int) {
        connections[connection].output.append(contentsOf: text.utf8)
    }

    /// As `enqueue` of a string.
    public func enqueue(_ bytes: UnsafeRawBufferPointer, on connection: Int) {
        connections[connection].output.append(contentsOf: bytes)
    }

    /// Closes a connection without a DISCONNECT, like a client that crashes. Bytes that wait in either direction are
    /// lost.
    public func abandon(_ connection: Int) {
        guard isOpen(connection) else { return }
        connections[connection].close()
        entries[connection].fd = -1
        openCount -= 1
    }

    public func isOpen(_ connection: Int) -> Bool { connections[connection].descriptor >= 0 }

    /// Sends the waiting bytes and passes each frame to `take`, until `isDone`, which is called after each batch of
    /// events.
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

    /// Determined by the first letter only, because the conformance tests check commands.
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

    /// Parses at most 18 digits. nil: anything else.
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
    /// The bytes to send, after `sentCount` bytes that are already sent.
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
            // The peer has closed the connection. Earlier bytes can still be received, and then the end.
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
        // `take` may close the connection. Then the following frames are dropped.
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
