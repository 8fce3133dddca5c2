import ClientWebSocket
import Glibc
import Transports

/// The bytes of a client's conversation with a broker, in whatever they travel:
///
///     STOMP  ->  [WebSocket]  ->  [TLS]  ->  socket
///
/// It never waits. Bytes to be sent are queued until `flush`; received ones are what the broker has sent as STOMP.
struct ClientChannel: ~Copyable {
    private static let receiveByteCount = 64 << 10

    let fd: Int32
    private var tls: TLSClientStream?
    private var webSocket: WebSocketStream?
    private var outgoing: [UInt8] = []
    private var outgoingStart = 0
    private var chunk = [UInt8](repeating: 0, count: receiveByteCount)
    /// The broker has ended the conversation: nothing more is received.
    private(set) var isEnded = false
    /// What the broker said when it closed the WebSocket. nil: nothing.
    private(set) var closeReason: String?

    /// Takes ownership of a connected non-blocking socket, and begins the handshakes of the transport.
    init(_ fd: Int32, to broker: BrokerURL, _ tls: consuming TLSClientStream?) throws {
        self.fd = fd
        isSecure = tls == nil
        self.tls = tls
        var request: [UInt8] = []
        if broker.transport.usesWebSocket {
            let stream = WebSocketStream(WebSocketHandshake(host: broker.authority, path: broker.path))
            request = stream.handshake.request
            webSocket = stream
        }
        try secure(request)
    }

    deinit { close(fd) }

    /// The number of bytes that wait to be sent.
    var outgoingByteCount: Int { outgoing.count - outgoingStart }

    /// Frames may be sent.
    var isOpen: Bool { webSocket?.isOpen ?? isSecure }

    /// The handshake of TLS is done, or there is none.
    private var isSecure: Bool

    /// Queues bytes. With WebSocket they are one message.
    mutating func send(_ bytes: [UInt8]) throws {
        try secure(webSocket?.message(bytes) ?? bytes)
    }

    /// Queues bytes of the transport inside of TLS, and what TLS itself has to send.
    private mutating func secure(_ bytes: [UInt8]) throws {
        guard tls != nil else { return outgoing += bytes }
        do throws(TLSFailure) {
            if !bytes.isEmpty { try tls!.send(bytes) }
        } catch {
            throw ClientSecurity.explain(error)
        }
        takeCiphertext()
    }

    private mutating func takeCiphertext() {
        let state = tls!.take()
        outgoing += state.output
        isSecure = state.isOpen
        if state.isEnded { isEnded = true }
    }

    /// Says goodbye in the transport, as far as the socket takes it at once. Nothing more is sent.
    mutating func end() {
        guard !isEnded, isOpen else { return }
        if let webSocket { try? secure(webSocket.closing()) }
        if tls != nil {
            tls!.close()
            try? secure([])
        }
        _ = try? flush()
    }

    /// Takes what has arrived. An empty array: nothing, or the end.
    mutating func receive() throws -> [UInt8] {
        let count = recv(fd, &chunk, chunk.count, 0)
        if count > 0 { return try opened(chunk[..<count]) }
        if count == 0 || errno == ECONNRESET {
            // Frames that arrived before a reset may give the reason. They were returned before.
            isEnded = true
        } else if errno != EAGAIN && errno != EINTR {
            throw Failure.operation("the connection failed: \(String(cString: strerror(errno)))")
        }
        return []
    }

    /// The bytes of STOMP in bytes of the socket. The end of TLS and a close frame end the conversation like the end of
    /// the socket does.
    private mutating func opened(_ bytes: ArraySlice<UInt8>) throws -> [UInt8] {
        guard tls != nil else { return try unframed(bytes) }
        var plaintext: [UInt8] = []
        do throws(TLSFailure) {
            plaintext = try tls!.receive(bytes)
        } catch {
            // The broker is told why, as far as the socket takes it.
            takeCiphertext()
            _ = try? flush()
            throw ClientSecurity.explain(error)
        }
        takeCiphertext()
        return plaintext.isEmpty ? [] : try unframed(plaintext[...])
    }

    private mutating func unframed(_ bytes: ArraySlice<UInt8>) throws -> [UInt8] {
        guard webSocket != nil else { return Array(bytes) }
        var payload: [UInt8] = []
        var failure: WebSocketFailure?
        do throws(WebSocketFailure) {
            payload = try webSocket!.receive(bytes)
            failure = webSocket!.end
        } catch {
            failure = error
        }
        let replies = webSocket!.replies
        webSocket!.replies = []
        try secure(replies)
        guard let failure else { return payload }
        guard case .closed(let code, let reason) = failure else { throw Failure.operation("\(failure)") }
        isEnded = true
        if code != 1000 || !reason.isEmpty { closeReason = "code \(code)" + (reason.isEmpty ? "" : ": \(reason)") }
        return payload
    }

    /// Sends what the socket takes. Returns whether it took bytes. False with `isEnded`: the broker takes none any more.
    mutating func flush() throws -> Bool {
        guard outgoingByteCount > 0 else { return false }
        let start = outgoingStart
        let count = outgoing.withUnsafeBytes { bytes in
            Glibc.send(fd, bytes.baseAddress! + start, bytes.count - start, Int32(MSG_NOSIGNAL))
        }
        if count >= 0 {
            outgoingStart += count
            // The sent bytes are removed in large pieces, so that a long queue is not moved at every send.
            if outgoingStart == outgoing.count || outgoingStart > 1 << 20 {
                outgoing.removeFirst(outgoingStart)
                outgoingStart = 0
            }
            return true
        }
        if errno == EPIPE || errno == ECONNRESET {
            // The last frames of the broker matter more than the error of this send. A receive finds them.
            outgoing.removeAll()
            outgoingStart = 0
        } else if errno != EAGAIN && errno != EINTR {
            throw Failure.operation("the connection failed: \(String(cString: strerror(errno)))")
        }
        return false
    }
}

extension TLSClientStream {
    /// What is to be sent, and how far the conversation is.
    fileprivate func take() -> (output: [UInt8], isOpen: Bool, isEnded: Bool) {
        let bytes = output
        output = []
        return (bytes, isOpen, isEnded)
    }
}
