/// A client's end of a WebSocket that carries a stream of bytes: a machine without a socket.
///
/// The client sends `handshake.request`, gives every received byte to `receive`, and sends what is in `replies` (the
/// answers to pings and to the close frame). `message` makes a message of bytes that are to be sent.
public struct WebSocketStream: Sendable {
    public let handshake: WebSocketHandshake
    /// The server has answered the handshake.
    public private(set) var isOpen = false
    /// The subprotocol that the server chose. nil: none.
    public private(set) var subprotocol: String?
    /// Bytes to be sent, which the caller takes.
    public var replies: [UInt8] = []

    private var head: [UInt8] = []
    private var reader = ServerFrameReader()
    private var control: [UInt8] = []
    /// The text message under way: a client must check that it is UTF-8 (RFC 6455, section 8.1).
    private var text: [UInt8] = []

    public init(_ handshake: WebSocketHandshake) { self.handshake = handshake }

    /// Reads bytes of the server, and returns those of its messages.
    ///
    /// - Throws: after a failure the connection is of no use. `closed` is the orderly end; what the server sent before
    ///   it was returned by then, and `replies` has the answer.
    public mutating func receive(_ bytes: some Collection<UInt8>) throws(WebSocketFailure) -> [UInt8] {
        var received = Array(bytes)
        if !isOpen {
            head += received
            guard let byteCount = WebSocketHandshake.headByteCount(of: head) else {
                guard head.count <= WebSocketHandshake.answerByteCountMax, looksLikeHTTP else { throw .notHTTP }
                return []
            }
            received = Array(head[byteCount...])
            subprotocol = try handshake.check(Array(head[..<byteCount]), rest: received)
            head = []
            isOpen = true
        }
        if let end { throw end }
        var payload: [UInt8] = []
        do throws(WebSocketFailure) {
            try read(received, &payload)
        } catch {
            // What came before the end is returned first.
            guard !payload.isEmpty else { throw error }
            end = error
        }
        return payload
    }

    /// The failure that ended the stream after bytes that were returned. nil: none.
    public private(set) var end: WebSocketFailure?

    private var looksLikeHTTP: Bool {
        let start = Array("HTTP/1.".utf8)
        return zip(head, start).allSatisfy { $0 == $1 }
    }

    private mutating func read(_ received: [UInt8], _ payload: inout [UInt8]) throws(WebSocketFailure) {
        var position = 0
        while true {
            switch try reader.read(received, at: &position) {
            case .needsBytes: return
            case .payload(let offset, let byteCount, let isText, let isLast):
                let bytes = received[offset..<offset + byteCount]
                payload += bytes
                if isText { try check(bytes, isLast) }
            case .control(let opcode, let offset, let byteCount, let isLast):
                control += received[offset..<offset + byteCount]
                guard isLast else { continue }
                let bytes = control
                control = []
                try answer(opcode, bytes)
            }
        }
    }

    private mutating func check(_ bytes: ArraySlice<UInt8>, _ isLast: Bool) throws(WebSocketFailure) {
        text += bytes
        guard isLast else { return }
        guard String(validating: text, as: UTF8.self) != nil else { throw .frame(.text) }
        text = []
    }

    private mutating func answer(_ opcode: UInt8, _ payload: [UInt8]) throws(WebSocketFailure) {
        switch opcode {
        case ServerFrameReader.Opcode.ping:
            replies += ClientFrameHeader.frame(opcode: ServerFrameReader.Opcode.pong, payload, key: Self.key())
        case ServerFrameReader.Opcode.close:
            replies += close(Array(payload.prefix(2)))
            let code = payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : 1005
            throw .closed(code: code, reason: String(decoding: payload.dropFirst(2), as: UTF8.self))
        default: break
        }
    }

    // MARK: Sending

    /// The bytes as one message: text if they are UTF-8, else binary.
    public func message(_ bytes: [UInt8]) -> [UInt8] {
        let isText = String(validating: bytes, as: UTF8.self) != nil
        let opcode = isText ? ServerFrameReader.Opcode.text : ServerFrameReader.Opcode.binary
        return ClientFrameHeader.frame(opcode: opcode, bytes, key: Self.key())
    }

    /// The close frame with code 1000, which ends the WebSocket in an orderly way.
    public func closing() -> [UInt8] { close([0x03, 0xE8]) }

    private func close(_ payload: [UInt8]) -> [UInt8] {
        ClientFrameHeader.frame(opcode: ServerFrameReader.Opcode.close, payload, key: Self.key())
    }

    /// Proxies must not be able to foresee it (RFC 6455, section 10.3).
    private static func key() -> UInt32 { .random(in: 0...UInt32.max) }
}
