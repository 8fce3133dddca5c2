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
}
