/// How the frames of a listener's clients travel. Unix sockets and TCP are kinds of address, not of transport.
public enum TransportKind: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    /// STOMP frames directly in the byte stream of the socket.
    case stomp
    /// STOMP frames in TLS.
    case stomps
    /// STOMP frames in messages of WebSocket (RFC 6455).
    case ws
    /// STOMP frames in messages of WebSocket, in TLS.
    case wss

    /// The bytes of the socket are the bytes of STOMP, so the driver and the core need nothing between them.
    @inlinable public var isPlain: Bool { self == .stomp }
    @inlinable public var usesTLS: Bool { self == .stomps || self == .wss }
    @inlinable public var usesWebSocket: Bool { self == .ws || self == .wss }

    /// The scheme of its URLs: "stomp", "stomps", "ws", "wss".
    public var scheme: String {
        switch self {
        case .stomp: "stomp"
        case .stomps: "stomps"
        case .ws: "ws"
        case .wss: "wss"
        }
    }

    /// - Parameter scheme: as in a URL, in any case (RFC 3986, section 3.1).
    public init?(scheme: String) {
        let lowercase = scheme.lowercased()
        guard let kind = Self.allCases.first(where: { $0.scheme == lowercase }) else { return nil }
        self = kind
    }

    /// The TCP port if a URL names none. The ports are those that RabbitMQ uses, because clients know them.
    public var defaultPort: UInt16 {
        switch self {
        case .stomp: 61613
        case .stomps: 61614
        case .ws: 15674
        case .wss: 15673
        }
    }
}
