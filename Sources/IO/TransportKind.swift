/// How the frames of STOMP travel on the connections of a listener.
///
/// A connection's bytes pass these stages, from the socket to the core, of which each listener has some:
///
///     PROXY header  ->  TLS  ->  WebSocket  ->  STOMP
@frozen
public enum TransportKind: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    /// STOMP over TCP or a Unix socket, as it is.
    case stomp
    /// STOMP over TLS.
    case stomps
    /// STOMP over WebSocket (RFC 6455).
    case ws
    /// STOMP over WebSocket over TLS.
    case wss

    /// The bytes of the socket are those of STOMP: nothing is needed between the driver and the core.
    @inlinable public var isPlain: Bool { self == .stomp }
    @inlinable public var usesTLS: Bool { self == .stomps || self == .wss }
    @inlinable public var usesWebSocket: Bool { self == .ws || self == .wss }

    /// As it is written before an address: "ws" in `ws://127.0.0.1:15674`.
    public var scheme: String {
        switch self {
        case .stomp: "stomp"
        case .stomps: "stomps"
        case .ws: "ws"
        case .wss: "wss"
        }
    }

    /// - Parameter scheme: in any case of letters (RFC 3986, section 3.1).
    public init?(scheme: String) {
        let lowercase = scheme.lowercased()
        guard let kind = Self.allCases.first(where: { $0.scheme == lowercase }) else { return nil }
        self = kind
    }

    /// The TCP port where a URL names none. They are RabbitMQ's, which clients know.
    public var defaultPort: UInt16 {
        switch self {
        case .stomp: 61613
        case .stomps: 61614
        case .ws: 15674
        case .wss: 15673
        }
    }
}
