internal import COctets

/// Takes the frames off what a WebSocket client sends (RFC 6455, section 5), as a stream: payloads are unmasked in place
/// and passed on as they arrive, and no message is ever put together.
///
///      0               1               2               3
///     +-+-+-+-+-------+-+-------------+-------------------------------+
///     |F|R|R|R| opcode|M| length      | 2 octets of length if it is 126,
///     |I|S|S|S|       |A|             | 8 if it is 127, the most
///     |N|V|V|V|       |S|             | significant first
///     +-+-+-+-+-------+-+-------------+-------------------------------+
///     | key: 4 octets                 | payload
///
/// A value of 17 bytes and no references: it is all that an idle WebSocket has to remember of what it received. It begins
/// as zeros.
///
/// The caller gives it chunks of received bytes, in order, and calls `decode` until it answers `.needsBytes` or
/// `.failed`. After `.failed`, and after the frame `close`, nothing more is to be decoded.
@frozen
public struct WebSocketDecoder: BitwiseCopyable, Sendable {
    public enum Opcode {
        public static let continuation: UInt8 = 0x0
        public static let text: UInt8 = 0x1
        public static let binary: UInt8 = 0x2
        public static let close: UInt8 = 0x8
        public static let ping: UInt8 = 0x9
        public static let pong: UInt8 = 0xA
        /// RSV1: the message is compressed (RFC 7692, section 6). Beside the opcode of a message.
        public static let compressed: UInt8 = 0x40
    }

    /// The longest payload of a control frame (RFC 6455, section 5.5).
    public static var controlByteCountMax: Int { 125 }

    /// A piece of what was received, while it is decoded. `payloadByteCount` bytes from its beginning on are payload of
    /// data frames: without a gap, for payloads are moved together as they are unmasked.
    public struct Chunk {
        public let bytes: UnsafeMutableRawPointer
        public let byteCount: Int
        /// Where decoding goes on.
        public internal(set) var position = 0
        public internal(set) var payloadByteCount = 0

        public init(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int) {
            self.bytes = bytes
            self.byteCount = byteCount
        }

        @inline(__always) var left: Int { byteCount - position }
    }

    public enum Event: Equatable, Sendable {
        /// The chunk is used up.
        case needsBytes
        /// A piece of a control frame's payload, which may be the whole of it: `byteCount` bytes at `offset` of the
        /// chunk, unmasked. They stay there until `decode` is called again. `isLast`: it ends the frame.
        case control(opcode: UInt8, offset: Int, byteCount: Int, isLast: Bool)
        /// A message of text or binary data is complete. Only for those who ask for it: STOMP's frames tell their ends
        /// themselves. The opcode may have the bit `Opcode.compressed`.
        case messageEnded(opcode: UInt8)
        /// The client is wrong.
        case failed(WebSocketFault)
    }

    private enum Step {
        static let first: UInt8 = 0
        static let second: UInt8 = 1
        static let length: UInt8 = 2
        static let key: UInt8 = 3
        static let payload: UInt8 = 4
    }

    /// While the header is read: the length so far. Then: octets of the frame's payload that are still to come.
    @usableFromInline var payloadLeft: UInt32
    /// The key, rotated so that its lowest octet belongs to the next octet of the payload.
    @usableFromInline var key: UInt32
    /// Payload octets of the message under way, with those of its current frame.
    @usableFromInline var messageByteCount: UInt32
    /// See `octets_are_utf8`.
    @usableFromInline var textState: UInt16
    /// FIN and the opcode of the frame under way.
    @usableFromInline var first: UInt8
    /// Text or binary, and whether compressed: of the message under way. 0: none is.
    @usableFromInline var messageOpcode: UInt8
    /// `step` in the lower half, `stepLeft` in the upper. Of all steps but `length` and `key` it is the step alone, and is
    /// compared and written as a whole: each frame does.
    @usableFromInline var progress: UInt8
    private var step: UInt8 {
        @inline(__always) get { progress & 0x0F }
        @inline(__always) set { progress = progress & 0xF0 | newValue }
    }
    /// Octets that `length` and `key` still need.
    private var stepLeft: UInt8 {
        @inline(__always) get { progress >> 4 }
        @inline(__always) set { progress = progress & 0x0F | newValue << 4 }
    }

    public init() {
        payloadLeft = 0
        key = 0
        messageByteCount = 0
        textState = 0
        first = 0
        messageOpcode = 0
        progress = Step.first
    }

    /// The message under way is compressed.
    @inline(__always) var isInCompressedMessage: Bool { messageOpcode & Opcode.compressed != 0 }

    /// Nothing of a message has arrived that is not complete.
    public var isBetweenMessages: Bool { progress == Step.first && messageOpcode == 0 }

    /// Decodes on, up to the end of the chunk, a control frame or a fault.
    ///
    /// - Parameters:
    ///   - byteCountMax: the longest message. What is announced to be longer fails before it arrives.
    ///   - stopsAtMessageEnds: `.messageEnded` is answered.
    ///   - allowsCompressed: messages may be compressed. What is in them is passed on as it is, and is not checked for
    ///     UTF-8.
    public mutating func decode(
        _ chunk: inout Chunk, byteCountMax: UInt32, stopsAtMessageEnds: Bool = false, allowsCompressed: Bool = false
    ) -> Event {
        while true {
            if progress == Step.payload {
                let opcode = messageOpcode
                if let event = takePayload(&chunk) { return event }
                if stopsAtMessageEnds, opcode != messageOpcode { return .messageEnded(opcode: opcode) }
                if progress == Step.payload { return .needsBytes }
            }
            guard chunk.left > 0 else { return .needsBytes }
            if let fault = takeHeader(&chunk, byteCountMax, allowsCompressed) { return .failed(fault) }
            if progress != Step.payload { return .needsBytes }
        }
    }

    // MARK: Header

    /// Reads the header, or as much of it as there is. Returns what is wrong with it.
    private mutating func takeHeader(
        _ chunk: inout Chunk, _ byteCountMax: UInt32, _ allowsCompressed: Bool
    ) -> WebSocketFault? {
        // Most frames are short and arrive whole.
        if progress == Step.first, chunk.left >= 6 {
            let bytes = UnsafeRawPointer(chunk.bytes) + chunk.position
            let second = bytes.load(fromByteOffset: 1, as: UInt8.self)
            if second >= 0x80, second < 0x80 + 126 {
                if let fault = begin(bytes.load(as: UInt8.self), allowsCompressed) { return fault }
                payloadLeft = UInt32(second & 0x7F)
                key = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt32.self))
                chunk.position += 6
                progress = Step.payload
                return addToMessage(byteCountMax)
            }
        }
        while progress != Step.payload, chunk.left > 0 {
            let octet = chunk.bytes.load(fromByteOffset: chunk.position, as: UInt8.self)
            chunk.position += 1
            if let fault = takeHeader(octet, byteCountMax, allowsCompressed) { return fault }
        }
        return nil
    }

    private mutating func takeHeader(
        _ octet: UInt8, _ byteCountMax: UInt32, _ allowsCompressed: Bool
    ) -> WebSocketFault? {
        switch step {
        case Step.first:
            progress = Step.second
            return begin(octet, allowsCompressed)
        case Step.second: return takeSecond(octet, byteCountMax)
        case Step.length:
            // The most significant bit must be 0 (section 5.2).
            if stepLeft == 8, octet >= 0x80 { return .lengthBeyond63Bits }
            // A length that does not fit stays at the greatest value, which is above any limit.
            payloadLeft = payloadLeft > 0xFF_FFFF ? .max : payloadLeft << 8 | UInt32(octet)
            stepLeft -= 1
            guard stepLeft == 0 else { return nil }
            // The shortest form must be used.
            guard payloadLeft >= (isLongForm ? 0x1_0000 : 126) else { return .longLength }
            return expectKey(byteCountMax)
        default:
            key |= UInt32(octet) << (8 * UInt32(4 - stepLeft))
            stepLeft -= 1
            if stepLeft == 0 { progress = Step.payload }
            return nil
        }
    }

    private mutating func takeSecond(_ octet: UInt8, _ byteCountMax: UInt32) -> WebSocketFault? {
        guard octet >= 0x80 else { return .unmasked }  // A client masks every frame (section 5.1).
        let length = octet & 0x7F
        if length >= 126 {
            if isControl { return .longControl }
            isLongForm = length == 127
            payloadLeft = 0
            stepLeft = isLongForm ? 8 : 2
            step = Step.length
            return nil
        }
        payloadLeft = UInt32(length)
        return expectKey(byteCountMax)
    }

    private mutating func expectKey(_ byteCountMax: UInt32) -> WebSocketFault? {
        step = Step.key
        stepLeft = 4
        key = 0
        return addToMessage(byteCountMax)
    }

    /// Reads the first octet of a frame: FIN, the reserved bits and the opcode.
    @inline(__always)
    private mutating func begin(_ octet: UInt8, _ allowsCompressed: Bool) -> WebSocketFault? {
        // Without an extension that gives them a meaning the reserved bits are 0. RSV1 is the first frame's of a message.
        if octet & 0x70 != 0 {
            guard allowsCompressed, octet & 0x70 == Opcode.compressed else { return .reservedBit }
            guard messageOpcode == 0, octet & 0x0F == Opcode.text || octet & 0x0F == Opcode.binary else {
                return .compressedInTheMiddle
            }
        }
        first = octet & 0x8F
        switch octet & 0x0F {
        case Opcode.continuation:
            return messageOpcode == 0 ? .continuesNothing : nil
        case Opcode.text, Opcode.binary:
            guard messageOpcode == 0 else { return .messageInMessage }
            messageOpcode = octet & 0x4F
            messageByteCount = 0
            return nil
        case Opcode.close, Opcode.ping, Opcode.pong:
            return octet & 0x80 == 0 ? .fragmentedControl : nil
        default: return .unknownOpcode
        }
    }

    private mutating func addToMessage(_ byteCountMax: UInt32) -> WebSocketFault? {
        if isControl { return nil }
        guard payloadLeft <= byteCountMax, messageByteCount <= byteCountMax - payloadLeft else { return .tooLong }
        messageByteCount += payloadLeft
        return nil
    }

    @inline(__always) private var isControl: Bool { first & 0x08 != 0 }

    /// Whether the length has 8 octets, rather than 2: kept in a bit of `first` that is otherwise 0.
    @inline(__always) private var isLongForm: Bool {
        get { first & 0x40 != 0 }
        set { first = newValue ? first | 0x40 : first & ~0x40 }
    }

    // MARK: Payload

    /// Takes what there is of the payload. Returns a fault or a piece of a control frame; nil after payload of a message.
    private mutating func takePayload(_ chunk: inout Chunk) -> Event? {
        let count = min(Int(payloadLeft), chunk.left)
        if count == 0, payloadLeft > 0 { return .needsBytes }
        let source = chunk.bytes + chunk.position
        chunk.position += count
        payloadLeft -= UInt32(truncatingIfNeeded: count)
        if isControl {
            octets_unmask(source, source, count, key)
            rotateKey(count)
            let isLast = payloadLeft == 0
            if isLast { progress = Step.first }
            return .control(
                opcode: first & 0x0F, offset: chunk.position - count, byteCount: count, isLast: isLast)
        }
        let target = chunk.bytes + chunk.payloadByteCount
        octets_unmask(target, source, count, key)
        if messageOpcode == Opcode.text, !TextCheck.check(target, count, &textState) {
            return .failed(.noText)
        }
        chunk.payloadByteCount += count
        rotateKey(count)
        if payloadLeft == 0 {
            progress = Step.first
            if first & 0x80 != 0 {
                // A character may not be cut short by the end of its message.
                if textState != 0 { return .failed(.noText) }
                messageOpcode = 0
            }
        }
        return nil
    }

    @inline(__always)
    private mutating func rotateKey(_ count: Int) {
        let shift = UInt32(truncatingIfNeeded: count & 3) * 8
        if shift != 0 { key = key >> shift | key << (32 - shift) }
    }
}
