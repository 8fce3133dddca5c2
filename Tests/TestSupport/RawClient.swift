import Glibc

/// A client that sends exactly the bytes of a test and returns exactly the answers of the broker.
///
/// It blocks its thread, for at most `Deadline.defaultSeconds`. One test uses it, so it is not `Sendable`.
public final class RawClient {
    let connection: Connection
    /// The version whose escapes incoming frames use: the one of CONNECTED.
    public internal(set) var version: ProtocolVersion
    /// Frames that came while the client waited for a RECEIPT.
    var setAside: [Frame] = []
    /// Line ends received between frames (heart-beats), not counting the one after each frame.
    public private(set) var heartBeatCount = 0
    var receiptCount = 0

    /// Opens a connection without sending anything.
    public init(_ broker: BrokerProcess, receiveBufferByteCount: Int32 = 0) throws {
        connection = try Connection(
            port: broker.port, receiveBufferByteCount: receiveBufferByteCount, transport: broker.transport)
        version = .v1_2
    }

    /// Opens a connection and a session in `version` through a Unix socket.
    public init(
        unix path: String, _ version: ProtocolVersion, _ fileID: String = #fileID, _ line: Int = #line
    ) throws {
        connection = try Connection(unix: path)
        self.version = .v1_2
        try connect(version, [:], fileID, line)
    }

    /// Opens a connection and a session in `version`.
    public convenience init(
        _ broker: BrokerProcess, _ version: ProtocolVersion, _ headers: KeyValuePairs<String, String> = [:],
        receiveBufferByteCount: Int32 = 0, _ fileID: String = #fileID, _ line: Int = #line
    ) throws {
        try self.init(broker, receiveBufferByteCount: receiveBufferByteCount)
        try connect(version, headers, fileID, line)
    }

    // MARK: Sending

    public func send(_ bytes: [UInt8]) throws { try connection.send(bytes) }

    /// Sends text as it is; `\0` is the frame's NUL.
    public func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// Sends text in pieces of `count` bytes, each in a segment of its own where the kernel lets it.
    public func send(_ text: String, inPiecesOf count: Int) throws {
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: count) {
            guard try connection.send(Array(bytes[start..<min(start + count, bytes.count)])) else { return }
        }
    }

    /// Sends a well-formed frame: names and values escaped as the version has it, LF line ends. Headers stand as given;
    /// none is added.
    public func send(_ command: String, _ headers: KeyValuePairs<String, String> = [:], body: String = "") throws {
        try send(encoded(command, Array(headers), Array(body.utf8)))
    }

    public func send(_ command: String, _ headers: KeyValuePairs<String, String>, body: [UInt8]) throws {
        try send(encoded(command, Array(headers), body))
    }

    func encoded(_ command: String, _ headers: [(key: String, value: String)], _ body: [UInt8]) -> [UInt8] {
        let encoding = command == "CONNECT" || command == "STOMP" ? .v1_0 : version
        var text = command + "\n"
        for (name, value) in headers { text += "\(encoding.escaped(name)):\(encoding.escaped(value))\n" }
        return Array(text.utf8) + [FrameDecoder.lineFeed] + body + [0]
    }

    /// Ends the sending side of the connection.
    public func finishSending() { connection.finishSending() }

    /// Closes the connection: in order (FIN), or with a reset.
    public func close() { connection.close() }
    public func abort() { connection.abort() }

    // MARK: Receiving

    /// The next frame; nil at an orderly end of the connection.
    public func nextFrameOrEnd(_ fileID: String = #fileID, _ line: Int = #line) throws -> Frame? {
        if !setAside.isEmpty { return setAside.removeFirst() }
        return try readFrame(Place(fileID, line))
    }

    /// The next frame, whatever it is.
    public func nextFrame(_ fileID: String = #fileID, _ line: Int = #line) throws -> Frame {
        guard let frame = try nextFrameOrEnd(fileID, line) else {
            throw Failure("the connection ended instead of a frame", at: Place(fileID, line))
        }
        return frame
    }

    /// All bytes up to the end of the connection, frames or not.
    public func remainingBytes(_ fileID: String = #fileID, _ line: Int = #line) throws -> [UInt8] {
        try waitForEnd(Place(fileID, line))
        return Array(connection.received)
    }

    /// Waits until at least `count` bytes have arrived, and returns them without removing them.
    public func peek(_ count: Int, _ fileID: String = #fileID, _ line: Int = #line) throws -> [UInt8] {
        let deadline = Deadline()
        while connection.received.count < count && connection.end == nil {
            guard try connection.receive(until: deadline) else {
                throw Failure("only \(connection.received.count) of \(count) bytes came", at: Place(fileID, line))
            }
        }
        return Array(connection.received.prefix(count))
    }

    /// Waits for a heart-beat: a line end that no frame needs.
    public func expectHeartBeat(_ fileID: String = #fileID, _ line: Int = #line) throws {
        let deadline = Deadline()
        let before = heartBeatCount
        while true {
            skipLineEnds()
            if heartBeatCount > before { return }
            guard connection.received.isEmpty, connection.end == nil, try connection.receive(until: deadline) else {
                throw Failure("no heart-beat came", at: Place(fileID, line))
            }
        }
    }

    func readFrame(_ place: Place) throws -> Frame? {
        let deadline = Deadline()
        var countTried = -1
        while true {
            skipLineEnds()
            // Only more bytes can complete a frame; large ones come in many pieces.
            if connection.received.count != countTried {
                countTried = connection.received.count
                do throws(FrameDecoder.Malformed) {
                    if let (frame, end) = try FrameDecoder.decode(connection.received, version) {
                        connection.consume(end - connection.received.startIndex)
                        lineEndIsDue = true
                        return frame
                    }
                } catch {
                    throw Failure("malformed frame from the broker: \(error.reason)", at: place)
                }
            }
            switch connection.end {
            case .orderly where connection.received.isEmpty: return nil
            case .orderly: throw Failure("the connection ended inside a frame", at: place)
            case .reset: throw Failure("the connection was reset", at: place)
            case nil: break
            }
            guard try connection.receive(until: deadline) else {
                throw Failure(
                    "no frame in time; so far: \(String(decoding: connection.received, as: UTF8.self))", at: place)
            }
        }
    }

    /// The LF that follows a frame's NUL is no heart-beat.
    private var lineEndIsDue = false

    func skipLineEnds() {
        let lineEnds = connection.received.prefix { $0 == FrameDecoder.lineFeed || $0 == FrameDecoder.carriageReturn }
        guard !lineEnds.isEmpty else { return }
        heartBeatCount += lineEnds.count { $0 == FrameDecoder.lineFeed } - (lineEndIsDue ? 1 : 0)
        lineEndIsDue = false
        connection.consume(lineEnds.count)
    }

    private func waitForEnd(_ place: Place) throws {
        let deadline = Deadline()
        while connection.end == nil {
            guard try connection.receive(until: deadline) else {
                throw Failure("the connection was not closed", at: place)
            }
        }
        if connection.end == .reset { throw Failure("the connection was reset", at: place) }
    }
}
