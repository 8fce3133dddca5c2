/// The opening handshake of a WebSocket, server's side (RFC 6455, section 4.2).
///
/// `head` finds the end of the request in what was received so far; `init` judges it.
public struct HTTPUpgrade: Sendable {
    /// What the client and this broker agree on. A subprotocol says which version of STOMP is spoken.
    public enum Subprotocol: UInt8, Sendable, CaseIterable, BitwiseCopyable {
        case none = 0
        case v10 = 1
        case v11 = 2
        case v12 = 3

        /// Of `Sec-WebSocket-Protocol`.
        public var name: StaticString {
            switch self {
            case .none: ""
            case .v10: "v10.stomp"
            case .v11: "v11.stomp"
            case .v12: "v12.stomp"
            }
        }

        /// The versions of STOMP that CONNECT may negotiate: bit n for version 1.n.
        public var versionBits: UInt8 { self == .none ? 0b111 : 1 << (rawValue - 1) }
    }

    /// The longest head. Browsers send less than 1 KiB, and some more in cookies.
    public static var headByteCountMax: Int { 8192 }

    public let subprotocol: Subprotocol
    /// Whether and how messages may be compressed.
    public let compression: CompressionAgreement
    /// The answer, "101 Switching Protocols". WebSocket frames follow it.
    public let answer: [UInt8]

    // MARK: The end of the head

    public enum Head: Equatable, Sendable {
        /// More bytes are needed. The next search may begin at `searched`.
        case incomplete(searched: Int)
        case complete(byteCount: Int)
        case refused(HTTPRefusal)
    }

    /// Looks for the empty line at the end of the request's head.
    ///
    /// - Parameters:
    ///   - bytes: all that was received so far.
    ///   - start: what the last search answered; at first 0.
    public static func head(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Head {
        // Another protocol is told at once, and is not waited for: its first line is none of HTTP.
        if let fault = faultOfStart(bytes) { return .refused(fault) }
        let limit = min(bytes.count, headByteCountMax)
        var place = start
        while place + 4 <= limit {
            // Steps of one to four octets: only the last of the four needs a look in most cases.
            switch bytes[place + 3] {
            case 0x0A:
                if bytes[place + 2] == 0x0D, bytes[place + 1] == 0x0A, bytes[place] == 0x0D {
                    return .complete(byteCount: place + 4)
                }
                place += 2
            case 0x0D: place += 1
            default: place += 4
            }
        }
        return bytes.count >= headByteCountMax ? .refused(.headTooLarge) : .incomplete(searched: place)
    }

    /// STOMP, TLS and others, by their first octets: a line of HTTP begins with a method and a space.
    private static func faultOfStart(_ bytes: UnsafeRawBufferPointer) -> HTTPRefusal? {
        for octet in bytes.prefix(24) {
            if octet == 0x20 { return nil }
            guard (0x41...0x5A).contains(octet) || octet == 0x2D || octet == 0x5F else {
                return .malformed("this port speaks STOMP over WebSocket, and what came is not HTTP")
            }
        }
        return bytes.count >= 24 ? .malformed("the request line is malformed") : nil
    }

    // MARK: The request

    /// - Parameters:
    ///   - head: with the empty line at its end.
    ///   - hasRoom: whether there is memory for the contexts that would be taken over.
    public init(
        _ head: UnsafeRawBufferPointer, for listener: ListenerTransport,
        hasRoom: (CompressionAgreement) -> Bool = { _ in true }
    ) throws(HTTPRefusal) {
        let request = try HTTPRequest(head)
        guard listener.paths.contains(where: { request.path.elementsEqual($0.utf8) }) else {
            throw .unknownPath(listener.paths.first ?? "/")
        }
        let path = String(decoding: request.path, as: UTF8.self)
        guard request.method.elementsEqual("GET".utf8) else {
            throw request.method.elementsEqual("HEAD".utf8) ? .upgradeRequired(path) : .methodNotAllowed
        }
        guard let host = try request.value("host"), !host.isEmpty else { throw .malformed("there is no Host") }
        guard request.lists("upgrade", "websocket") else { throw .upgradeRequired(path) }
        guard request.lists("connection", "upgrade") else {
            throw .malformed("Connection does not list Upgrade; a proxy in between may have removed it")
        }
        guard let version = try request.value("sec-websocket-version") else {
            throw .malformed("there is no Sec-WebSocket-Version")
        }
        guard version.elementsEqual("13".utf8) else { throw .upgradeRequired(path) }
        guard let key = try request.value("sec-websocket-key"), AcceptKey.isKey(key) else {
            throw .malformed("there is no Sec-WebSocket-Key of 16 octets in base64")
        }
        // What follows the head would be taken for frames.
        guard request.values("transfer-encoding").isEmpty,
            try request.value("content-length").map({ $0.elementsEqual("0".utf8) }) ?? true
        else { throw .malformed("a handshake has no body") }
        if let origin = try request.value("origin"), !listener.origins.allow(origin, host: host) {
            let text = origin.prefix(256).map { (0x21...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }
            throw .originNotAllowed(String(decoding: text, as: UTF8.self))
        }
        subprotocol = Self.subprotocol(request)
        let extensions = request.values("sec-websocket-extensions")
        let compression = try CompressionOffer.accept(extensions, listener.compression, hasRoom)
        self.compression = compression?.agreement ?? .none
        answer = Self.answer(AcceptKey.answer(to: key), subprotocol, compression?.answer)
    }

    /// The highest version that the client offers. It may offer others, which are not for this broker.
    fileprivate static func subprotocol(_ request: HTTPRequest) -> Subprotocol {
        let offers = request.elements("sec-websocket-protocol")
        return Subprotocol.allCases.reversed().first { candidate in
            candidate != .none && offers.contains { $0.elementsEqual(octets(candidate.name)) }
        } ?? .none
    }

    private static func answer(_ acceptKey: [UInt8], _ subprotocol: Subprotocol, _ extensions: String?) -> [UInt8] {
        var text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        text += "Sec-WebSocket-Accept: \(String(decoding: acceptKey, as: UTF8.self))\r\n"
        if subprotocol != .none { text += "Sec-WebSocket-Protocol: \(subprotocol.name)\r\n" }
        if let extensions { text += "Sec-WebSocket-Extensions: \(extensions)\r\n" }
        return Array((text + "\r\n").utf8)
    }

    private static func octets(_ text: StaticString) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    }
}

/// What a WebSocket client's handshake says of the client.
public struct WebSocketIdentity: Sendable, Equatable {
    public var origin: String?
    public var path: String
    /// The value of the header `Authorization`: a secret, not for the log.
    public var authorization: [UInt8]?
    public var subprotocol: HTTPUpgrade.Subprotocol

    /// - Parameter head: of a request that `HTTPUpgrade` has accepted.
    init?(_ head: UnsafeRawBufferPointer) {
        guard let request = try? HTTPRequest(head) else { return nil }
        origin = request.values("origin").first.map { String(decoding: $0, as: UTF8.self) }
        path = String(decoding: request.path, as: UTF8.self)
        authorization = request.values("authorization").first.map(Array.init)
        subprotocol = HTTPUpgrade.subprotocol(request)
    }
}
