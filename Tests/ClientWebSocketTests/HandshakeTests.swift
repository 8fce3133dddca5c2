import Testing

@testable import ClientWebSocket

struct HandshakeTests {
    /// The example of RFC 6455, section 1.3.
    private static let key = Array("the sample nonce".utf8)

    private static func handshake(_ subprotocols: [String] = WebSocketHandshake.subprotocols) -> WebSocketHandshake {
        WebSocketHandshake(host: "127.0.0.1:15674", path: "/ws", subprotocols: subprotocols, key: key)
    }

    private static func answer(_ lines: [String]) -> [UInt8] {
        Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
    }

    private static let good = [
        "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]

    @Test func `the digest and its text are those of the standards`() {
        let digest = SHA1.digest(Array("abc".utf8))
        #expect(Base64.encode(digest) == "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=")
        #expect(Base64.encode(SHA1.digest([])) == "2jmj7l5rSw0yVb/vlWAYkK/YBwk=")
        let long = [UInt8](repeating: UInt8(ascii: "a"), count: 1000)
        #expect(Base64.encode(SHA1.digest(long)) == "KR6abGaZSUm1e6XmUDYemPw2sbo=")
        let texts = ["", "f", "fo", "foo", "foob"].map { Base64.encode(Array($0.utf8)) }
        #expect(texts == ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="])
    }

    @Test func `the request has every header that the server asks for`() {
        let text = String(decoding: Self.handshake().request, as: UTF8.self)
        #expect(
            text == "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:15674\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                + "Sec-WebSocket-Protocol: v12.stomp, v11.stomp, v10.stomp\r\n\r\n")
        #expect(Self.handshake().accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    }

    @Test func `an answer is taken at whatever byte it is split, and what follows it is payload`() throws {
        let frame: [UInt8] = [0x81, 0x02] + Array("hi".utf8)
        let bytes = Self.answer(Self.good + ["Sec-WebSocket-Protocol: v11.stomp"]) + frame
        for split in 0...bytes.count {
            var stream = WebSocketStream(Self.handshake())
            var payload = try stream.receive(bytes[..<split])
            payload += try stream.receive(bytes[split...])
            #expect(stream.isOpen && stream.subprotocol == "v11.stomp" && payload == Array("hi".utf8))
        }
    }

    @Test func `the names and values of headers are in any case`() throws {
        var stream = WebSocketStream(Self.handshake())
        let lines = [
            "HTTP/1.1 101", "UPGRADE: WebSocket", "connection: keep-alive, upgrade",
            "sec-websocket-accept:s3pPLMBiTxaQ9kYGzzhZRbK+xOo= ",
        ]
        #expect(try stream.receive(Self.answer(lines)).isEmpty)
        #expect(stream.isOpen && stream.subprotocol == nil)
    }

    @Test func `a refusal is told with its status and text`() {
        var stream = WebSocketStream(Self.handshake())
        let bytes = Self.answer(["HTTP/1.1 403 Forbidden", "Content-Length: 14"]) + Array("no such\norigin".utf8)
        let failure = #expect(throws: WebSocketFailure.self) { _ = try stream.receive(bytes) }
        #expect(failure == .status(code: 403, reason: "Forbidden", text: "no such origin"))
        #expect(failure?.description.contains("403 Forbidden: no such origin") == true)
    }

    @Test(arguments: [
        (["HTTP/1.1 101 X", good[2], good[3]], "Upgrade"), ([good[0], good[1], good[3]], "Connection"),
        ([good[0], good[1], good[2]], "Sec-WebSocket-Accept"),
        ([good[0], good[1], good[2], "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="], "Sec-WebSocket-Accept"),
        (good + ["Sec-WebSocket-Protocol: mqtt"], "Sec-WebSocket-Protocol"),
        (good + ["Sec-WebSocket-Extensions: permessage-deflate"], "Sec-WebSocket-Extensions"),
    ])
    func `a wrong answer is refused by the name of the header`(_ lines: [String], _ name: String) {
        var stream = WebSocketStream(Self.handshake())
        let failure = #expect(throws: WebSocketFailure.self) { _ = try stream.receive(Self.answer(lines)) }
        #expect(failure == .header(name: name))
    }

    @Test(arguments: ["SSH-2.0-OpenSSH_9.2\r\n", "ERROR\nmessage:x\n\n\0", "HTTP/2"])
    func `what is not HTTP is refused at once`(_ text: String) {
        var stream = WebSocketStream(Self.handshake())
        let failure = #expect(throws: WebSocketFailure.self) { _ = try stream.receive(Array(text.utf8)) }
        #expect(failure == .notHTTP)
    }

    @Test func `an answer without end is refused`() {
        var stream = WebSocketStream(Self.handshake())
        let endless = Array("HTTP/1.1 101 X\r\n".utf8) + [UInt8](repeating: 0x61, count: 20_000)
        #expect(throws: WebSocketFailure.notHTTP) { _ = try stream.receive(endless) }
    }
}
