/// Which rule a client has broken: for the reason in the close frame that answers it, and for the log.
public enum WebSocketFault: UInt8, CaseIterable, Sendable {
    // The frame's header: RFC 6455, section 5.2
    case reservedBit, unknownOpcode, unmasked, longLength, lengthBeyond63Bits
    // Control frames: section 5.5
    case fragmentedControl, longControl, closeOfOneByte, closeCodeNotAllowed, closeReasonIsNoText
    // Messages: sections 5.4 and 8.1
    case continuesNothing, messageInMessage, tooLong, noText
    // Compression: RFC 7692
    case compressedInTheMiddle, malformedCompression, inflatesTooFar, noMemoryToInflate

    /// How the close frame is numbered.
    public var code: CloseCode {
        switch self {
        case .tooLong, .inflatesTooFar: .messageTooBig
        case .noText, .closeReasonIsNoText, .malformedCompression: .invalidPayload
        case .noMemoryToInflate: .tryAgainLater
        default: .protocolError
        }
    }

    /// ASCII, at most 123 bytes: what fits into a close frame.
    public var reason: StaticString {
        switch self {
        case .reservedBit: "a reserved bit is set, of which no extension that was agreed on makes use"
        case .unknownOpcode: "the opcode is not known"
        case .unmasked: "frames of a client have to be masked"
        case .longLength: "the length of a frame is not written in its shortest form"
        case .lengthBeyond63Bits: "the length of a frame has more than 63 bits"
        case .fragmentedControl: "a control frame may not be fragmented"
        case .longControl: "a control frame has 125 bytes of payload at most"
        case .closeOfOneByte: "the payload of a close frame is empty, or begins with a code of 2 bytes"
        case .closeCodeNotAllowed: "the code of the close frame may not be sent"
        case .closeReasonIsNoText: "the reason of the close frame is not UTF-8"
        case .continuesNothing: "a continuation frame without a message to continue"
        case .messageInMessage: "a new message begins before the last has ended"
        case .tooLong: "the message is longer than a frame may be (limits.body-bytes, limits.headers-bytes)"
        case .noText: "a text message is not UTF-8; send binary messages"
        case .compressedInTheMiddle: "RSV1 is for the first frame of a text or binary message"
        case .malformedCompression: "a compressed message cannot be inflated, or is not UTF-8"
        case .inflatesTooFar: "a compressed message is too long, or far longer than what was sent of it"
        case .noMemoryToInflate: "there is no memory to inflate the message now"
        }
    }
}

/// What the close frame says that is to be sent, in 16 bits: a code, or a fault.
struct CloseAnswer: BitwiseCopyable, Equatable {
    /// A code, which is below 5000; or the number of a fault beyond `faults`.
    private let rawValue: UInt16
    private static let faults: UInt16 = 0xFF00

    static let normal = CloseAnswer(.normal)

    init(_ code: CloseCode) { rawValue = code.rawValue }
    init(_ fault: WebSocketFault) { rawValue = Self.faults | UInt16(fault.rawValue) }

    var fault: WebSocketFault? {
        rawValue >= Self.faults ? WebSocketFault(rawValue: UInt8(truncatingIfNeeded: rawValue)) : nil
    }

    var code: CloseCode { fault?.code ?? CloseCode(rawValue: rawValue) }
}
