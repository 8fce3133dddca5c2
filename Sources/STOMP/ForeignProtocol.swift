/// Another protocol that a conversation began in, told by the bytes that have arrived.
public enum ForeignProtocol: Sendable, Equatable, CaseIterable {
    case tls, webSocket, http, mqtt, amqp

    /// Recognises the beginning of another protocol. nil: it is none of these, or too little of it has arrived.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        if bytes.count >= 2, bytes[0] == 0x16, bytes[1] == 0x03 {
            self = .tls
        } else if bytes.starts(with: "AMQP".utf8) {
            self = .amqp
        } else if bytes.count >= 8, bytes[0] == 0x10,
            Self.contains(bytes.prefix(16), "mqtt") || Self.contains(bytes.prefix(16), "mqisdp")
        {
            self = .mqtt
        } else if Self.methods.contains(where: { bytes.starts(with: $0.utf8) }) {
            self = Self.contains(bytes.prefix(2048), "upgrade: websocket") ? .webSocket : .http
        } else {
            return nil
        }
    }

    /// What is to be said to whoever began so, and to the operator.
    public var explanation: StaticString {
        switch self {
        case .tls: "A TLS handshake came to a STOMP port that has no TLS: connect without it."
        case .webSocket: "A WebSocket request came to a STOMP port that has no WebSockets: connect with STOMP over TCP."
        case .http: "An HTTP request came to a STOMP port."
        case .mqtt: "An MQTT CONNECT came to a STOMP port."
        case .amqp: "An AMQP header came to a STOMP port."
        }
    }

    private static let methods = ["GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "DELETE ", "PATCH ", "CONNECT "]

    /// Whether `text`, which is in small letters, is there in letters of any case.
    private static func contains(_ bytes: Slice<UnsafeRawBufferPointer>, _ text: StaticString) -> Bool {
        let length = text.utf8CodeUnitCount
        guard bytes.count >= length else { return false }
        return (bytes.startIndex...bytes.endIndex - length).contains { start in
            (0..<length).allSatisfy { index in
                let byte = bytes[start + index]
                let isCapital = UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                return (isCapital ? byte | 0x20 : byte) == text.utf8Start[index]
            }
        }
    }
}
