/// A client's part of the handshake that opens a WebSocket (RFC 6455, section 4.1).
///
///     GET /ws HTTP/1.1                         HTTP/1.1 101 Switching Protocols
///     Host: 127.0.0.1:15674                    Upgrade: websocket
///     Upgrade: websocket                       Connection: Upgrade
///     Connection: Upgrade                      Sec-WebSocket-Accept: <of the key>
///     Sec-WebSocket-Key: <16 bytes>            Sec-WebSocket-Protocol: v12.stomp
///     Sec-WebSocket-Version: 13
///     Sec-WebSocket-Protocol: v12.stomp, v11.stomp, v10.stomp
public struct WebSocketHandshake: Sendable {
    /// The subprotocols of STOMP, as clients of browsers offer them.
    public static let subprotocols = ["v12.stomp", "v11.stomp", "v10.stomp"]

    public let host: String
    public let path: String
    /// May be empty.
    public let subprotocols: [String]
    /// Further headers, such as Origin.
    public let headers: [(String, String)]
    private let key: String

    /// - Parameters:
    ///   - host: the authority of the URL, with the port unless it is the default one of HTTP.
    ///   - key: 16 bytes that differ for each connection.
    public init(
        host: String, path: String, subprotocols: [String] = Self.subprotocols, headers: [(String, String)] = [],
        key: [UInt8] = (0..<16).map { _ in .random(in: 0...255) }
    ) {
        self.host = host
        self.path = path.isEmpty ? "/" : path
        self.subprotocols = subprotocols
        self.headers = headers
        self.key = Base64.encode(key)
    }

    /// The bytes that the client sends.
    public var request: [UInt8] {
        var lines = [
            "GET \(path) HTTP/1.1", "Host: \(host)", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: \(key)", "Sec-WebSocket-Version: 13",
        ]
        if !subprotocols.isEmpty { lines.append("Sec-WebSocket-Protocol: \(subprotocols.joined(separator: ", "))") }
        lines += headers.map { "\($0): \($1)" }
        return Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
    }

    /// What the server has to answer.
    public var accept: String {
        Base64.encode(SHA1.digest(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    }

    /// The longest head of an answer that is accepted.
    public static let answerByteCountMax = 16 << 10

    /// The length of the answer's head at the beginning of `bytes`, with the empty line. nil: it is not complete yet.
    public static func headByteCount(of bytes: [UInt8]) -> Int? {
        let end = Array("\r\n\r\n".utf8)
        guard bytes.count >= end.count else { return nil }
        for start in 0...bytes.count - end.count where bytes[start] == end[0] {
            if Array(bytes[start..<start + end.count]) == end { return start + end.count }
        }
        return nil
    }

    /// Checks the head of the answer and returns the subprotocol that the server chose. nil: none.
    ///
    /// - Parameter rest: what followed the head, for the text of a refusal.
    public func check(_ head: [UInt8], rest: [UInt8] = []) throws(WebSocketFailure) -> String? {
        let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
        let status = lines[0].split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard status.count >= 2, status[0].hasPrefix("HTTP/1."), status[1].utf8.count == 3, let code = Int(status[1])
        else { throw .notHTTP }
        guard code == 101 else {
            let text = String(decoding: rest.prefix(200), as: UTF8.self).split(whereSeparator: \.isNewline)
            throw .status(
                code: code, reason: status.count > 2 ? String(status[2]) : "", text: text.joined(separator: " "))
        }
        var fields: [String: [String]] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon].lowercased(), default: []].append(
                String(line[line.index(after: colon)...]).trimmingSpaces)
        }
        func has(_ name: String, _ value: String) -> Bool {
            (fields[name] ?? []).flatMap { $0.split(separator: ",") }
                .contains { String($0).trimmingSpaces.lowercased() == value }
        }
        guard has("upgrade", "websocket") else { throw .header(name: "Upgrade") }
        guard has("connection", "upgrade") else { throw .header(name: "Connection") }
        guard fields["sec-websocket-accept"] == [accept] else { throw .header(name: "Sec-WebSocket-Accept") }
        guard fields["sec-websocket-extensions"] == nil else { throw .header(name: "Sec-WebSocket-Extensions") }
        let chosen = fields["sec-websocket-protocol"] ?? []
        guard chosen.count <= 1, chosen.allSatisfy(subprotocols.contains) else {
            throw .header(name: "Sec-WebSocket-Protocol")
        }
        return chosen.first
    }
}

extension String {
    fileprivate var trimmingSpaces: String {
        let isSpace: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        return String(drop(while: isSpace).reversed().drop(while: isSpace).reversed())
    }
}
