/// Why a client gives up a WebSocket. The texts are for whoever runs the client.
public enum WebSocketFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// The server answered the handshake with another status than 101: its code, its reason, and the beginning of what
    /// it said as text.
    case status(code: Int, reason: String, text: String)
    /// The answer to the handshake is no answer of HTTP, or is too long.
    case notHTTP
    /// A header of the answer is missing or wrong: "Upgrade", "Connection", "Sec-WebSocket-Accept" and so on.
    case header(name: String)
    /// The server ended the WebSocket with a close frame.
    case closed(code: Int, reason: String)
    /// A frame breaks the protocol: what is wrong with it.
    case frame(StaticText)

    public enum StaticText: String, Sendable {
        case reservedBits = "reserved bits are set, though no extension was agreed on"
        case masked = "it is masked, as only clients' frames are"
        case opcode = "its opcode is unknown"
        case control = "it is a control frame that is fragmented or longer than 125 bytes"
        case continuation = "it continues no message, or begins one inside another"
        case length = "its length is not in the shortest form, or too large"
        case text = "it is text that is not UTF-8"
    }

    public var description: String {
        switch self {
        case .status(let code, let reason, let text):
            "the server answered the WebSocket handshake with \(code) \(reason)"
                + (text.isEmpty ? "" : ": \(text)")
        case .notHTTP: "the server does not answer a WebSocket handshake with HTTP"
        case .header(let name): "the server's answer to the WebSocket handshake has no or a wrong header \(name)"
        case .closed(let code, let reason):
            "the server closed the WebSocket with \(code == 1005 ? "no code" : "code \(code)")"
                + (reason.isEmpty ? "" : ": \(reason)")
        case .frame(let text): "the server sent a wrong WebSocket frame: \(text.rawValue)"
        }
    }
}
