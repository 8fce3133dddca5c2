import ClientWebSocket
import Glibc
import Transports

/// The bytes of a client's conversation with a broker, in whatever they travel: a socket, TLS in it, and a WebSocket in
/// either.
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

    /// Takes ownership of a connected non-blocking socket, and begins the handshake of the transport.
    ///
    /// - Parameter context: whom to trust, and who the client is, if the URL asks for TLS.
    init(_ fd: Int32, to broker: BrokerURL, _ context: TLSContext?) throws {
        self.fd = fd
        if let context {
            tls = try Self.makeTLS(context, broker)
            takeCiphertext()
        }
        guard broker.transport.usesWebSocket else { return }
        let stream = WebSocketStream(WebSocketHandshake(host: broker.authority, path: broker.path))
        webSocket = stream
        queue(stream.handshake.request)
    }

    private static func makeTLS(_ context: TLSContext, _ broker: BrokerURL) throws -> TLSClientStream {
        let name = broker.serverName
        do throws(TLSProblem) {
            return try TLSClientStream(context, serverName: name.text, isAddress: name.isAddress)
        } catch {
            throw Failure.operation(error.description)
        }
    }

    deinit { close(fd) }

    /// The number of bytes that wait to be sent.
    var outgoingByteCount: Int { outgoing.count - outgoingStart }

    /// Frames may be sent.
    var isOpen: Bool {
        webSocket?.isOpen ?? tls?.isOpen ?? true
    }

    /// Queues bytes. With WebSocket they are one message.
    mutating func send(_ bytes: [UInt8]) {
        queue(webSocket?.message(bytes) ?? bytes)
    }

    private mutating func queue(_ bytes: [UInt8]) {
        guard let tls else { return outgoing += bytes }
        tls.send(bytes)
        takeCiphertext()
    }

    private mutating func takeCiphertext() {
        outgoing += tls!.output
        tls!.output = []
    }

    /// Says goodbye in the transport, as far as the socket takes it at once. Nothing more is sent.
    mutating func end() {
        if isEnded { return }
        if let webSocket, webSocket.isOpen { queue(webSocket.closing()) }
        if let tls {
            tls.close()
            takeCiphertext()
        }
        if outgoingByteCount > 0 { _ = try? flush() }
    }

    /// Takes what has arrived. An empty array: nothing, or the end.
    mutating func receive() throws -> [UInt8] {
        let count = recv(fd, &chunk, chunk.count, 0)
        if count > 0 {
            if let tls { return try decrypted(chunk[..<count], tls) }
            return try opened(chunk[..<count])
        }
        if count == 0 || errno == ECONNRESET {
            // Frames that arrived before a reset may give the reason. They were returned before.
            isEnded = true
        } else if errno != EAGAIN && errno != EINTR {
            throw Failure.operation("the connection failed: \(String(cString: strerror(errno)))")
        }
        return []
    }

    /// close_notify ends the conversation like the end of the socket does.
    private mutating func decrypted(_ bytes: ArraySlice<UInt8>, _ tls: TLSClientStream) throws -> [UInt8] {
        let plaintext = tls.receive(bytes)
        if let failure = tls.failure {
            // The broker is told why.
            takeCiphertext()
            _ = try? flush()
            throw Failure.operation(failure.description)
        }
        takeCiphertext()
        if tls.isEnded { isEnded = true }
        return plaintext.isEmpty ? [] : try opened(plaintext[...])
    }

    /// The bytes of STOMP in bytes of the connection. A close frame ends the conversation like the end of the socket does.
    private mutating func opened(_ bytes: ArraySlice<UInt8>) throws -> [UInt8] {
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
        if !replies.isEmpty { queue(replies) }
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
