import ClientWebSocket
import Glibc

/// The bytes of a client's conversation with a broker, in whatever they travel: a socket, or a WebSocket in it.
///
/// It never waits. Bytes to be sent are queued until `flush`; received ones are what the broker has sent as STOMP.
struct ClientChannel: ~Copyable {
    private static let receiveByteCount = 64 << 10

    let fd: Int32
    private var webSocket: WebSocketStream?
    private var outgoing: [UInt8] = []
    private var outgoingStart = 0
    private var chunk = [UInt8](repeating: 0, count: receiveByteCount)
    /// The broker has ended the conversation: nothing more is received.
    private(set) var isEnded = false
    /// What the broker said when it closed the WebSocket. nil: nothing.
    private(set) var closeReason: String?

    /// Takes ownership of a connected non-blocking socket, and begins the handshake of the transport.
    init(_ fd: Int32, to broker: BrokerURL) {
        self.fd = fd
        guard broker.transport.usesWebSocket else { return }
        let stream = WebSocketStream(WebSocketHandshake(host: broker.authority, path: broker.path))
        outgoing = stream.handshake.request
        webSocket = stream
    }

    deinit { close(fd) }

    /// The number of bytes that wait to be sent.
    var outgoingByteCount: Int { outgoing.count - outgoingStart }

    /// Frames may be sent.
    var isOpen: Bool { webSocket?.isOpen ?? true }

    /// Queues bytes. With WebSocket they are one message.
    mutating func send(_ bytes: [UInt8]) {
        outgoing += webSocket?.message(bytes) ?? bytes
    }

    /// Says goodbye in the transport, as far as the socket takes it at once. Nothing more is sent.
    mutating func end() {
        guard let webSocket, webSocket.isOpen, !isEnded else { return }
        outgoing += webSocket.closing()
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

    /// The bytes of STOMP in bytes of the socket. A close frame ends the conversation like the end of the socket does.
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
        outgoing += webSocket!.replies
        webSocket!.replies = []
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
