/// Why a WebSocket is closed (RFC 6455, section 7.4.1), as far as Stampede says it.
@frozen
public struct CloseCode: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
    public var rawValue: UInt16

    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The close frame has no code. Never on the wire.
    public static let none = CloseCode(rawValue: 0)
    /// The conversation is over.
    public static let normal = CloseCode(rawValue: 1000)
    /// The broker shuts down.
    public static let goingAway = CloseCode(rawValue: 1001)
    /// The peer does not keep to RFC 6455.
    public static let protocolError = CloseCode(rawValue: 1002)
    /// A text message, or the reason of a close frame, is not UTF-8.
    public static let invalidPayload = CloseCode(rawValue: 1007)
    /// A message is longer than the limit.
    public static let messageTooBig = CloseCode(rawValue: 1009)
    /// The broker has no memory for the peer's messages at present (IANA's registry of close codes).
    public static let tryAgainLater = CloseCode(rawValue: 1013)

    /// Whether a peer may send this code: those that the RFC and IANA's registry assign, and those for libraries (3000
    /// to 3999) and applications (4000 to 4999). 1005, 1006 and 1015 are never sent.
    public var isAllowedOnTheWire: Bool {
        switch rawValue {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }

    /// What the payload of a close frame says: nothing, or a code of two octets (the more significant first) and a
    /// reason in UTF-8.
    ///
    /// - Returns: the code to answer with: the peer's own, or the one that says what is wrong with its frame.
    public static func answer(to payload: UnsafeRawBufferPointer) -> (code: CloseCode, fault: WebSocketFault?) {
        func wrong(_ fault: WebSocketFault) -> (code: CloseCode, fault: WebSocketFault?) { (fault.code, fault) }
        guard !payload.isEmpty else { return (.none, nil) }
        guard payload.count >= 2 else { return wrong(.closeOfOneByte) }
        let code = CloseCode(rawValue: UInt16(payload[0]) << 8 | UInt16(payload[1]))
        guard code.isAllowedOnTheWire else { return wrong(.closeCodeNotAllowed) }
        guard TextCheck.isText(UnsafeRawBufferPointer(rebasing: payload[2...])) else {
            return wrong(.closeReasonIsNoText)
        }
        return (code, nil)
    }
}
