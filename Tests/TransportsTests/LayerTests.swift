import IO
import Slabs
import Testing

@testable import Transports

@Suite("The layer: receiving")
struct LayerReceivingTests {
    @Test func `a connection opens, says what it has to say, and is closed in order`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.accept()
        let request = HTTPUpgradeTests.request(adding: ["Sec-WebSocket-Protocol: v10.stomp, v11.stomp"])
        connection.write(request + WireFrame.text("CONNECT\n\n\0").masked())
        harness.turn()
        #expect(connection.versionBits == 0b010)
        #expect(connection.received == Array("CONNECT\n\n\0".utf8))
        connection.output = [Array("CONNECTED\n\n\0\n".utf8)]
        harness.turn()
        // The answer and the core's frame leave in one send.
        #expect(connection.sendCount == 1)
        let end = connection.wire.count - 15
        #expect(connection.wire.starts(with: "HTTP/1.1 101 ".utf8))
        #expect(WireFrame.decode(Array(connection.wire[end...])).frames == [.text("CONNECTED\n\n\0\n")])
        connection.wire = []

        connection.write(WireFrame(opcode: 8, payload: [0x03, 0xE9]))
        harness.turn()
        #expect(connection.receiveEndCount == 1)
        harness.turns(2)
        #expect(WireFrame.decode(connection.wire).frames == [WireFrame(opcode: 8, payload: [0x03, 0xE9])])
        harness.turns(2)
        #expect(connection.isShutDown && !connection.wasClosed)
        connection.peerEnds = true
        harness.turns(2)
        #expect(connection.closedIsReported && !connection.wasReset)
        #expect(harness.layer.connectionCount == 0)
        #expect(harness.violations == [])
    }

    @Test func `the request and the frames behind it may be split anywhere`() {
        let bytes =
            HTTPUpgradeTests.request() + WireFrame.text("a").masked() + WireFrame(opcode: 9, payload: [1, 2]).masked()
            + WireFrame.text("b").masked()
        for split in 1..<bytes.count {
            let harness = TransportHarness.webSocket()
            let connection = harness.accept()
            connection.write(Array(bytes[..<split]))
            connection.write(Array(bytes[split...]))
            harness.turns(3)
            #expect(connection.received == [0x61, 0x62], "split at \(split)")
            let answer = connection.wire.count - 4
            #expect(Array(connection.wire[answer...]) == [0x8A, 2, 1, 2], "split at \(split)")
            #expect(harness.violations == [], "split at \(split)")
        }
    }

    @Test func `bytes that come one by one are understood`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.accept()
        let bytes = HTTPUpgradeTests.request() + WebSocketDecoderTests.wire(WebSocketDecoderTests.stream)
        for octet in bytes { connection.write([octet]) }
        harness.turns(4)
        #expect(connection.received == WebSocketDecoderTests.expected.payload)
        #expect(connection.receiveEndCount == 1)
        #expect(harness.layer.counters.pings == 3)
        #expect(harness.violations == [])
    }

    @Test func `each chunk is passed on in one piece`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.write(.text("one\0"), WireFrame(opcode: 9, payload: []), .text("two\0"), .text("three\0"))
        harness.turn()
        #expect(connection.received == Array("one\0two\0three\0".utf8))
        #expect(harness.violations == [])
    }

    @Test func `who does not keep to the protocol is told, after what was received before is answered`() {
        for (name, fault, wrong) in WebSocketDecoderTests.faults {
            let harness = TransportHarness.webSocket { $0.messageByteCountMax = 1 << 20 }
            let connection = harness.open()
            connection.write(WireFrame.text("good").masked() + wrong)
            harness.turn()
            #expect(connection.received.starts(with: "good".utf8), "\(name)")
            #expect(connection.receiveEndCount == 1, "\(name)")
            let wait = connection.hasClosed
            #expect(wait)
            harness.turns(3)
            let (frames, rest) = WireFrame.decode(connection.wire)
            #expect(frames == [.close(fault)] && rest.isEmpty, "\(name)")
            #expect(connection.isShutDown && !connection.wasClosed, "\(name)")
            // What comes now is thrown away.
            connection.write(.text("more"))
            harness.turn()
            connection.peerEnds = true
            harness.turns(2)
            #expect(connection.closedIsReported, "\(name)")
            #expect(harness.layer.counters.protocolErrors == 1, "\(name)")
            let notices = harness.layer.takeNotices()
            #expect(notices.count == 1 && notices[0].text.contains("\(fault.reason)"), "\(name)")
            #expect(harness.violations == [], "\(name)")
        }
    }

    @Test func `a malformed close frame has its answer`() {
        let wrong: [([UInt8], WebSocketFault)] = [
            ([3], .closeOfOneByte), ([0x03, 0xEC], .closeCodeNotAllowed), ([0x03, 0xE8, 0xFF], .closeReasonIsNoText),
        ]
        for (payload, fault) in wrong {
            for split in 0...6 + payload.count {
                let harness = TransportHarness.webSocket()
                let connection = harness.open()
                let frame = WireFrame(opcode: 8, payload: payload).masked()
                connection.write(Array(frame[..<split]))
                connection.write(Array(frame[split...]))
                harness.turns(3)
                #expect(WireFrame.decode(connection.wire).frames == [.close(fault)])
                #expect(harness.violations == [])
            }
        }
    }

    @Test func `a close frame without a code is answered by one`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.write(WireFrame(opcode: 8, payload: []))
        harness.turns(3)
        #expect(connection.wire == [0x88, 0])
        #expect(harness.violations == [])
    }

    @Test func `a bare end is an end, and is answered by a close frame`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.write(Array(WireFrame.text("abc").masked().dropLast()))
        connection.peerEnds = true
        harness.turn()
        #expect(connection.received == Array("ab".utf8) && connection.receiveEndCount == 1)
        harness.turn()
        #expect(connection.closedIsReported)
        #expect(connection.wire == [0x88, 2, 0x03, 0xE8])
        #expect(harness.violations == [])
    }

    @Test func `a failure is passed on`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.sendFailure = 104
        connection.output = [Array("x\0\n".utf8)]
        harness.turns(3)
        #expect(connection.failure == -104 && connection.closedIsReported)
        #expect(harness.violations == [])
    }

    @Test func `a request that is refused is answered and the connection closed`() {
        for (status, bytes) in HTTPUpgradeTests.refused {
            let harness = TransportHarness.webSocket()
            let connection = harness.accept()
            connection.write(bytes)
            harness.turns(4)
            #expect(connection.wire.starts(with: "HTTP/1.1 \(status) ".utf8))
            #expect(connection.received.isEmpty && connection.isShutDown && !connection.wasClosed)
            // Nobody ends: the connection does.
            harness.now += TransportLayer.lingerNanoseconds
            harness.turns(2)
            #expect(connection.closedIsReported)
            #expect(harness.layer.counters.handshakesRefused == 1)
            #expect(harness.violations == [])
        }
    }

    @Test func `a head that does not end is refused at its limit`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.accept()
        let bytes = Array("GET /ws HTTP/1.1\r\nX: ".utf8) + [UInt8](repeating: 0x79, count: 9000)
        for start in stride(from: 0, to: bytes.count, by: 100) {
            connection.write(Array(bytes[start..<min(start + 100, bytes.count)]))
        }
        harness.turns(3)
        #expect(connection.wire.starts(with: "HTTP/1.1 431 ".utf8))
        #expect(harness.violations == [])
    }

    @Test func `a record takes 56 bytes, and an idle WebSocket no block`() {
        #expect(MemoryLayout<TransportRecord>.stride == 56)
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.output = [Array("CONNECTED\n\n\0\n".utf8)]
        harness.turns(2)
        #expect(harness.layer.blocks.byteCountInUse == 0)
    }

    @Test func `what the request says is known until the core has answered`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open(adding: ["Authorization: Bearer secret", "Origin: http://localhost"])
        let before = harness.layer.identity(of: connection.slot)
        #expect(before.webSocket?.authorization == Array("Bearer secret".utf8))
        #expect(before.webSocket?.origin == "http://localhost" && before.address == nil)
        connection.output = [Array("CONNECTED\n\n\0\n".utf8)]
        harness.turn()
        #expect(harness.layer.identity(of: connection.slot) == TransportIdentity())
    }
}

@Suite("The layer: PROXY")
struct LayerProxyTests {
    static let header = Array("PROXY TCP4 198.51.100.9 192.0.2.1 5 6\r\n".utf8)

    static func harness(_ kind: TransportKind, proxies: [String] = []) -> TransportHarness {
        var listener = HTTPUpgradeTests.listener
        listener.kind = kind
        listener.expectsProxyHeader = true
        listener.proxies = proxies.compactMap { AddressRange($0) }
        return TransportHarness([ListenerTransport(), listener])
    }

    @Test func `the client's address replaces the proxy's, and STOMP follows as it is`() {
        let bytes = Self.header + Array("CONNECT\n\n\0".utf8)
        for split in 1..<bytes.count {
            let harness = Self.harness(.stomp)
            let connection = harness.accept(listener: 1)
            #expect(connection.origin?.address == 0)
            connection.write(Array(bytes[..<split]))
            connection.write(Array(bytes[split...]))
            harness.turn()
            #expect(connection.origin?.address == 0xC633_6409)
            #expect(connection.received == Array("CONNECT\n\n\0".utf8))
            connection.output = [Array("CONNECTED\n\n\0\n".utf8)]
            connection.room = 5
            harness.turns(2)
            connection.room = .max
            harness.turns(2)
            #expect(connection.wire == Array("CONNECTED\n\n\0\n".utf8))
            #expect(harness.layer.clientAddress(of: connection.slot)?.description == "198.51.100.9:5")
            connection.peerEnds = true
            harness.turns(2)
            #expect(connection.closedIsReported)
            #expect(harness.layer.blocks.byteCountInUse == 0)
            #expect(harness.violations == [])
        }
    }

    @Test func `a WebSocket may follow the header`() {
        let harness = Self.harness(.ws)
        let connection = harness.accept(listener: 1)
        connection.write(Self.header + HTTPUpgradeTests.request() + WireFrame.text("x").masked())
        harness.turns(2)
        #expect(connection.received == [0x78])
        #expect(harness.layer.identity(of: connection.slot).webSocket?.path == "/ws")
        #expect(harness.layer.identity(of: connection.slot).address?.description == "198.51.100.9:5")
        connection.output = [Array("y\0\n".utf8)]
        harness.turn()
        #expect(harness.layer.identity(of: connection.slot).address?.description == "198.51.100.9:5")
        #expect(harness.layer.identity(of: connection.slot).webSocket == nil)
        #expect(harness.violations == [])
    }

    @Test func `without the header the connection is closed`() {
        for kind in [TransportKind.stomp, .ws] {
            let harness = Self.harness(kind)
            let connection = harness.accept(listener: 1)
            connection.write(kind == .ws ? HTTPUpgradeTests.request() : Array("CONNECT\n\n\0".utf8))
            harness.turns(3)
            #expect(connection.received.isEmpty && connection.wire.isEmpty && connection.closedIsReported)
            #expect(harness.layer.takeNotices().count == 1)
            #expect(harness.violations == [])
        }
    }

    @Test func `only the proxies that are named may send one`() {
        for (address, isProxy) in [("10.1.2.3:4", true), ("11.1.2.3:4", false), (nil, false)] as [(String?, Bool)] {
            let harness = Self.harness(.stomp, proxies: ["10.0.0.0/8", "fd00::/8"])
            let connection = harness.accept(listener: 1, address: address)
            connection.write(Self.header + [0x0A])
            harness.turns(3)
            #expect(connection.received == (isProxy ? [0x0A] : []))
            #expect(connection.closedIsReported == !isProxy)
            // Whoever has no address any more has reset the connection, as health checks do.
            #expect(harness.layer.takeNotices().count == (isProxy || address == nil ? 0 : 1))
            #expect(harness.violations == [])
        }
    }

    @Test func `connections of plain listeners have no record`() {
        let harness = Self.harness(.ws)
        let connection = harness.accept(listener: 0)
        #expect(connection.origin?.address == 0xC000_0201)
        connection.write(Array("CONNECT\n\n\0".utf8))
        connection.output = [Array("a".utf8), Array("b".utf8)]
        harness.turn()
        #expect(connection.received == Array("CONNECT\n\n\0".utf8) && connection.wire == Array("ab".utf8))
        #expect(harness.layer.connectionCount == 0)
        connection.peerEnds = true
        harness.turns(2)
        #expect(connection.closedIsReported)
        #expect(harness.violations == [])
    }
}
