import ClientWebSocket
import Glibc
public import IO
import Transports

/// In what the bytes of the tests' clients travel. The variable STAMPEDE_TEST_TRANSPORT chooses for a whole run: stomp
/// (the default), stomps, ws or wss. So every test that talks to a broker on the usual address tests them all:
///
///     STAMPEDE_TEST_TRANSPORT=stomps swift test --filter Conformance
public enum TestTransport {
    public static let current: TransportKind = {
        guard let name = getenv("STAMPEDE_TEST_TRANSPORT").map({ String(cString: $0) }), !name.isEmpty else {
            return .stomp
        }
        guard let kind = TransportKind.allCases.first(where: { $0.scheme == name }) else {
            fatalError("STAMPEDE_TEST_TRANSPORT is \(name); allowed: stomp, stomps, ws, wss")
        }
        return kind
    }()

    /// The configuration keys that a broker with such a listener needs.
    static func values(_ kind: TransportKind) -> [String: String] {
        guard kind.usesTLS else { return [:] }
        let pair = TestCertificates.shared.pair("server")
        return ["tls.certificate": pair.chainFile, "tls.key": pair.keyFile]
    }

    /// Trusts the authority of the tests.
    static let contexts: [TLSProtocol: TLSContext] = {
        var contexts: [TLSProtocol: TLSContext] = [:]
        for name in TLSProtocol.allCases {
            contexts[name] = try! TLSContext(
                client: name, authoritiesFile: TestCertificates.shared.file("ca.pem"), nowSeconds: Int64(time(nil)))
        }
        return contexts
    }()
}

/// A client's side of a transport, between the bytes of STOMP and those of the socket.
final class ClientTransport {
    private let tls: TLSClientStream?
    private var webSocket: WebSocketStream?
    /// The broker has ended the conversation.
    private(set) var isEnded = false
    private var output: [UInt8] = []

    init?(_ kind: TransportKind, port: UInt16) throws {
        if kind.isPlain { return nil }
        tls =
            kind.usesTLS
            ? try TLSClientStream(
                TestTransport.contexts[kind.usesWebSocket ? .http : .stomp]!, serverName: "localhost",
                isAddress: false) : nil
        if kind.usesWebSocket {
            let stream = WebSocketStream(WebSocketHandshake(host: "localhost:\(port)", path: "/ws"))
            webSocket = stream
            queue(stream.handshake.request)
        }
    }

    var isOpen: Bool { webSocket?.isOpen ?? tls?.isOpen ?? true }

    private func queue(_ bytes: [UInt8]) {
        guard let tls else { return output += bytes }
        tls.send(bytes)
    }

    /// Bytes for the socket.
    func takeOutput() -> [UInt8] {
        if let tls {
            output += tls.output
            tls.output = []
        }
        defer { output = [] }
        return output
    }

    /// With WebSocket the bytes are a message.
    func send(_ bytes: [UInt8]) { queue(webSocket?.message(bytes) ?? bytes) }

    func end() {
        if let webSocket, webSocket.isOpen { queue(webSocket.closing()) }
        tls?.close()
    }

    /// The bytes of STOMP in those of the socket.
    func receive(_ bytes: ArraySlice<UInt8>) throws -> [UInt8] {
        var bytes = Array(bytes)
        if let tls {
            bytes = tls.receive(bytes[...])
            if tls.isEnded || tls.failure != nil { isEnded = true }
        }
        guard webSocket != nil else { return bytes }
        let payload = try webSocket!.receive(bytes)
        let replies = webSocket!.replies
        webSocket!.replies = []
        if !replies.isEmpty { queue(replies) }
        if webSocket!.end != nil { isEnded = true }
        return payload
    }
}
