import Testing

@testable import ClientWebSocket

struct FrameTests {
    /// A stream whose handshake is over.
    private static func open() throws -> WebSocketStream {
        var stream = WebSocketStream(WebSocketHandshake(host: "h", path: "/"))
        let lines = [
            "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Accept: \(stream.handshake.accept)",
        ]
        _ = try stream.receive(Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8))
        return stream
    }

    /// A frame of a server.
    private static func frame(_ first: UInt8, _ payload: [UInt8]) -> [UInt8] {
        let count = payload.count
        let length: [UInt8] =
            count < 126
            ? [UInt8(count)]
            : count <= 0xFFFF
                ? [126, UInt8(count >> 8), UInt8(count & 0xFF)]
                : [127] + (0..<8).reversed().map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
        return [first] + length + payload
    }

    @Test func `frames are taken off at whatever byte they are split`() throws {
        let text = Array("grün ♥".utf8)
        let bytes =
            Self.frame(0x81, text) + Self.frame(0x89, Array("p".utf8)) + Self.frame(0x01, Array(text.prefix(3)))
            + Self.frame(0x8A, []) + Self.frame(0x80, Array(text.dropFirst(3))) + Self.frame(0x82, [0, 0xFF])
            + Self.frame(0x81, []) + Self.frame(0x82, [UInt8](repeating: 7, count: 126))
        let expected = text + text + [0, 0xFF] + [UInt8](repeating: 7, count: 126)
        for split in 0...bytes.count {
            var stream = try Self.open()
            var payload = try stream.receive(bytes[..<split])
            payload += try stream.receive(bytes[split...])
            #expect(payload == expected)
            #expect(stream.replies.count == 2 + 4 + 1)
            #expect(stream.replies[0] == 0x8A && stream.replies[1] == 0x81)
            #expect(stream.replies[6] ^ stream.replies[2] == UInt8(ascii: "p"))
        }
    }

    @Test(arguments: [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
    func `every length is read and written`(_ count: Int) throws {
        var stream = try Self.open()
        let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        #expect(try stream.receive(Self.frame(0x82, payload)) == payload)
        var sent = ClientFrameHeader.frame(opcode: 2, payload, key: 0x0403_0201)
        let headerByteCount = count < 126 ? 6 : count <= 0xFFFF ? 8 : 14
        #expect(sent.count == headerByteCount + count)
        #expect(sent[0] == 0x82 && sent[1] == 0x80 | UInt8(count < 126 ? count : count <= 0xFFFF ? 126 : 127))
        #expect(Array(sent[headerByteCount - 4..<headerByteCount]) == [1, 2, 3, 4])
        for place in 0..<count { sent[headerByteCount + place] ^= UInt8(place % 4 + 1) }
        #expect(Array(sent[headerByteCount...]) == payload)
    }

    @Test func `a message is text where it is UTF-8`() throws {
        let stream = try Self.open()
        #expect(stream.message(Array("SEND\n\nä\0".utf8))[0] == 0x81)
        #expect(stream.message([0xC3])[0] == 0x82)
    }

    @Test func `a close frame is answered, and told after what came before it`() throws {
        var stream = try Self.open()
        let bytes = Self.frame(0x81, Array("last".utf8)) + Self.frame(0x88, [0x03, 0xEA] + Array("why".utf8))
        #expect(try stream.receive(bytes) == Array("last".utf8))
        #expect(stream.end == .closed(code: 1002, reason: "why"))
        #expect(stream.replies.count == 8 && stream.replies[0] == 0x88)
        #expect(throws: WebSocketFailure.closed(code: 1002, reason: "why")) { _ = try stream.receive([]) }
        var other = try Self.open()
        #expect(throws: WebSocketFailure.closed(code: 1005, reason: "")) { _ = try other.receive([0x88, 0]) }
    }

    @Test(arguments: [
        ([0xC1, 0], WebSocketFailure.StaticText.reservedBits), ([0x81, 0x81, 1, 2, 3, 4, 5], .masked),
        ([0x83, 0], .opcode), ([0x8B, 0], .opcode), ([0x09, 0], .control), ([0x89, 126, 0, 126], .control),
        ([0x80, 0], .continuation), ([0x01, 0, 0x81, 0], .continuation), ([0x82, 126, 0, 125], .length),
        ([0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], .length), ([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], .length),
        ([0x81, 1, 0xFF], .text), ([0x01, 1, 0xC3, 0x80, 0], .text),
    ])
    func `what breaks the protocol is told`(_ bytes: [UInt8], _ text: WebSocketFailure.StaticText) throws {
        var stream = try Self.open()
        var failure: WebSocketFailure?
        do throws(WebSocketFailure) {
            _ = try stream.receive(bytes)
            failure = stream.end
        } catch {
            failure = error
        }
        #expect(failure == .frame(text))
    }
}
