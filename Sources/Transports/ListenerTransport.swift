public import IO

/// How the connections of a listener are carried, and what is demanded of them before STOMP begins.
public struct ListenerTransport: Sendable {
    public var kind = TransportKind.stomp
    /// WebSocket: the paths at which it may be opened, compared as they are.
    public var paths = ["/ws", "/stomp", "/"]
    /// WebSocket: which pages may connect.
    public var origins = OriginRules(origins: [])
    /// WebSocket: the longest message, in bytes. A longer one is refused (close code 1009) before it arrives. It may hold
    /// several STOMP frames, each of which has its own limits.
    public var messageByteCountMax = 16 << 20
    /// WebSocket: whether messages are compressed.
    public var compression = CompressionOptions()
    /// Each connection begins with a PROXY header, and one without it is closed.
    public var expectsProxyHeader = false
    /// It is a Unix socket: its peers have no addresses.
    public var isUnix = false
    /// The peers that may send one. Empty: all.
    public var proxies: [AddressRange] = []

    public init() {}

    /// The bytes of its connections are those of STOMP: there is nothing to do for the layer.
    public var isPlain: Bool { !kind.usesWebSocket && !expectsProxyHeader }
}
