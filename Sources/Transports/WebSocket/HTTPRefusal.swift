/// Why a request is not answered with a WebSocket, and the answer that says so.
public enum HTTPRefusal: Error, Equatable, Sendable {
    /// 400. The text says what is wrong.
    case malformed(Reason)
    /// 403: the page may not connect (`OriginRules`). The origin is for the log: at most 256 characters, all of them
    /// printable ASCII.
    case originNotAllowed(String)
    /// 404. The path is one that is known.
    case unknownPath(String)
    /// 405: neither GET nor HEAD.
    case methodNotAllowed
    /// 426: a request for a page, not for a WebSocket; or for another version of WebSocket.
    case upgradeRequired(String)
    /// 431: the head is longer than `HTTPUpgrade.headByteCountMax`, or has more than `HTTPRequest.headerCountMax` headers.
    case headTooLarge

    /// A text that is written here, not by the client.
    public struct Reason: Equatable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
        public let text: StaticString

        public init(stringLiteral text: StaticString) { self.text = text }

        public static func == (a: Reason, b: Reason) -> Bool { a.description == b.description }
        public var description: String { text.description }
    }

    public var status: Int {
        switch self {
        case .malformed: 400
        case .originNotAllowed: 403
        case .unknownPath: 404
        case .methodNotAllowed: 405
        case .upgradeRequired: 426
        case .headTooLarge: 431
        }
    }

    private var phrase: String {
        switch self {
        case .malformed: "Bad Request"
        case .originNotAllowed: "Forbidden"
        case .unknownPath: "Not Found"
        case .methodNotAllowed: "Method Not Allowed"
        case .upgradeRequired: "Upgrade Required"
        case .headTooLarge: "Request Header Fields Too Large"
        }
    }

    /// For the log: who asked, where that is not said by the address.
    public var logText: String {
        guard case .originNotAllowed(let origin) = self else { return "\(status), \(explanation)" }
        return "\(status), pages of the origin \(origin) may not connect (listeners[].origins)"
    }

    /// For the client.
    public var explanation: String {
        switch self {
        case .malformed(let reason): "This is no WebSocket handshake: \(reason)."
        case .originNotAllowed:
            "Pages of this origin may not connect. The broker's configuration says which may: listeners[].origins."
        case .unknownPath(let path): "There is nothing here. STOMP over WebSocket is at \(path)."
        case .methodNotAllowed: "A WebSocket is opened with GET."
        case .upgradeRequired(let path):
            """
            This is Stampede, a message broker. It speaks STOMP over WebSocket (version 13) here, and serves no pages: \
            connect to \(path) with a STOMP client.
            """
        case .headTooLarge: "The head of the request is too large."
        }
    }

    /// The whole answer. The connection is closed after it.
    public var answer: [UInt8] {
        let body = explanation + "\n"
        var text = "HTTP/1.1 \(status) \(phrase)\r\n"
        switch self {
        case .upgradeRequired:
            text += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade, close\r\n"
        case .methodNotAllowed: text += "Allow: GET\r\nConnection: close\r\n"
        default: text += "Connection: close\r\n"
        }
        text += "Content-Type: text/plain; charset=utf-8\r\nContent-Length: \(body.utf8.count)\r\n"
        text += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        return Array((text + body).utf8)
    }
}
