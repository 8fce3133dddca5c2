/// Takes the frames off what a WebSocket server sends, as a stream: payloads are passed on as they arrive.
///
///      0               1               2               3
///     +-+-+-+-+-------+-+-------------+-------------------------------+
///     |F|R|R|R| opcode|0| length      | 2 bytes of length if it is 126,
///     |I|S|S|S|       | |             | 8 if it is 127, the most
///     |N|V|V|V|       | |             | significant first
///     +-+-+-+-+-------+-+-------------+-------------------------------+
///
/// A plain value of a few bytes: a load generator has one for each connection.
@frozen
public struct ServerFrameReader: BitwiseCopyable, Sendable {
    public enum Opcode {
        public static let continuation: UInt8 = 0x0
        public static let text: UInt8 = 0x1
        public static let binary: UInt8 = 0x2
        public static let close: UInt8 = 0x8
        public static let ping: UInt8 = 0x9
        public static let pong: UInt8 = 0xA
    }

    public enum Part: Equatable, Sendable {
        /// All bytes are read.
        case needsBytes
        /// Bytes of a message, from `offset` on. `isLast`: they end the message.
        case payload(offset: Int, byteCount: Int, isText: Bool, isLast: Bool)
        /// Bytes of a control frame. `isLast`: they end it.
        case control(opcode: UInt8, offset: Int, byteCount: Int, isLast: Bool)
    }

    /// Bytes of the payload that are still to come; while the header is read, the length so far.
    private var left: UInt64 = 0
    private var first: UInt8 = 0
    /// Bytes of the header that were read.
    private var headerCount: UInt8 = 0
    /// Bytes of the header in all. 0: not known yet.
    private var headerByteCount: UInt8 = 0
    /// Text or binary: of the message under way. 0: none is.
    private var messageOpcode: UInt8 = 0
    private var isInPayload = false

    public init() {}

    private var opcode: UInt8 { first & 0x0F }
    private var isFinal: Bool { first & 0x80 != 0 }
    private var isControl: Bool { first & 0x08 != 0 }

    /// Reads on at `position`, and moves it on. To be called until it returns `.needsBytes`.
    public mutating func read(
        _ bytes: UnsafeRawBufferPointer, at position: inout Int
    ) throws(WebSocketFailure) -> Part {
        while !isInPayload {
            guard position < bytes.count else { return .needsBytes }
            try readHeader(bytes[position])
            position += 1
        }
        guard left == 0 || position < bytes.count else { return .needsBytes }
        let count = Int(min(left, UInt64(bytes.count - position)))
        let offset = position
        position += count
        left -= UInt64(count)
        let endsFrame = left == 0
        if endsFrame {
            isInPayload = false
            headerCount = 0
            headerByteCount = 0
        }
        if isControl { return .control(opcode: opcode, offset: offset, byteCount: count, isLast: endsFrame) }
        let isText = messageOpcode == Opcode.text
        let endsMessage = endsFrame && isFinal
        if endsMessage { messageOpcode = 0 }
        return .payload(offset: offset, byteCount: count, isText: isText, isLast: endsMessage)
    }

    /// The same of an array.
    public mutating func read(_ bytes: [UInt8], at position: inout Int) throws(WebSocketFailure) -> Part {
        // A closure that throws a typed error cannot be passed here, so the part comes out of it as a result.
        let result = bytes.withUnsafeBytes { bytes -> Result<Part, WebSocketFailure> in
            do throws(WebSocketFailure) {
                return .success(try read(bytes, at: &position))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private mutating func readHeader(_ byte: UInt8) throws(WebSocketFailure) {
        headerCount += 1
        switch headerCount {
        case 1:
            first = byte
            try checkFirst()
        case 2:
            guard byte & 0x80 == 0 else { throw .frame(.masked) }
            guard !isControl || byte <= 125 && isFinal else { throw .frame(.control) }
            headerByteCount = byte < 126 ? 2 : byte == 126 ? 4 : 10
            left = byte < 126 ? UInt64(byte) : 0
        default:
            left = left << 8 | UInt64(byte)
        }
        guard headerCount == headerByteCount else { return }
        let isShortest = headerByteCount == 2 || left > (headerByteCount == 4 ? 125 : 0xFFFF)
        guard isShortest, left >> 63 == 0 else { throw .frame(.length) }
        isInPayload = true
    }

    private mutating func checkFirst() throws(WebSocketFailure) {
        guard first & 0x70 == 0 else { throw .frame(.reservedBits) }
        switch opcode {
        case Opcode.close, Opcode.ping, Opcode.pong: break
        case Opcode.continuation:
            guard messageOpcode != 0 else { throw .frame(.continuation) }
        case Opcode.text, Opcode.binary:
            guard messageOpcode == 0 else { throw .frame(.continuation) }
            messageOpcode = opcode
        default: throw .frame(.opcode)
        }
    }
}
