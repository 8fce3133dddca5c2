/// Turns the bytes a client receives into frames: push what arrives, pop until nil.
///
/// It accepts the frames of both sides, so that tests can read a client's output with it too, and follows the version
/// that a CONNECTED announces.
public struct ClientFrameDecoder: ~Copyable {
    /// The version of the frames to come; 1.0 until a CONNECTED says otherwise.
    public var version: Version
    public let limits: FrameLimits
    private var bytes: [UInt8] = []
    private var start = 0
    private var state = ParserState()
    private var frame: Frame

    public init(version: Version = .v1_0, limits: FrameLimits = FrameLimits()) {
        self.version = version
        self.limits = limits
        frame = Frame(headerCountMax: limits.headerCountMax)
    }

    /// Bytes that belong to no frame popped yet.
    public var pendingByteCount: Int { bytes.count - start }

    public mutating func push(_ received: some Sequence<UInt8>) {
        if start > 0 {
            bytes.removeFirst(start)
            start = 0
        }
        bytes.append(contentsOf: received)
    }

    /// The next frame, or nil when more bytes are needed. After an error nothing more can be decoded.
    public mutating func pop() throws(FrameError) -> ClientFrame? {
        var error = FrameError()
        var popped: ClientFrame?
        let result = bytes.withUnsafeBytes { buffer -> ParseResult in
            guard start < buffer.count else { return .incomplete }
            let result = parseFrame(
                buffer.baseAddress.unsafelyUnwrapped + start, buffer.count - start, version: version,
                expectsConnect: false, acceptsServerFrames: true, limits: limits, state: &state, frame: &frame,
                error: &error)
            if result == .frame { popped = ClientFrame(frame) }
            return result
        }
        switch result {
        case .incomplete: return nil
        case .failed: throw error
        case .idle:
            start = bytes.count
            return nil
        case .frame:
            start += frame.byteCount
            if let popped, popped.command == .connected {
                let announced = popped["version"].map { Array($0.utf8) } ?? []
                version = announced.withUnsafeBytes { AcceptVersion.highestCommon($0) } ?? .v1_0
            }
            return popped
        }
    }
}

extension ClientFrame {
    /// Copies a parsed frame.
    public init(_ frame: borrowing Frame) {
        self.init(frame.command)
        for index in 0..<frame.fieldCount {
            let field = frame.field(index)
            let name = Self.text(frame.rawName(of: field), isEscaped: field.flags.contains(.nameIsEscaped))
            let value = Self.text(frame.rawValue(of: field), isEscaped: field.flags.contains(.valueIsEscaped))
            headers.append(Header(name, value))
        }
        body = Array(frame.body)
    }

    private static func text(_ raw: UnsafeRawBufferPointer, isEscaped: Bool) -> String {
        guard isEscaped else { return String(decoding: raw, as: UTF8.self) }
        return String(unsafeUninitializedCapacity: raw.count) { buffer in
            unescape(raw, into: UnsafeMutableRawPointer(buffer.baseAddress.unsafelyUnwrapped))
        }
    }
}
