import IO
import Slabs
import Testing

@testable import Transports

@Suite("The layer: lives of connections")
struct LayerLifeTests {
    /// Whatever happens to connections, the contract with the driver and the core is kept, and nothing is left of them.
    @Test func `random lives and deaths`() {
        for seed in 1...300 as ClosedRange<UInt64> {
            var life = RandomLife(seed)
            life.run()
            #expect(life.harness.violations == [], "seed \(seed)")
            #expect(life.leftovers == [], "seed \(seed)")
        }
    }

    @Test(arguments: [false, true])
    func `what handshakes took goes back to the kernel when it went unused for a while`(rests: Bool) {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        // With the answer to CONNECT, the request is not needed any more.
        connection.output.append(Array("CONNECTED\n\n\0".utf8))
        harness.turns(2)
        if rests {
            #expect(harness.deadline > harness.now && harness.deadline < .max)
            harness.now = harness.deadline
            harness.turns(2)
            #expect(harness.deadline == .max)
        }
        let changeCount = harness.layer.blocks.reserveChangeCount
        harness.layer.blocks.trim()
        #expect((harness.layer.blocks.reserveChangeCount == changeCount) == rests)
        #expect(harness.violations == [])
    }

    @Test func `an end and a close of the core in one turn say so by a close frame`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.hasShutDown = true
        harness.submissions.append(Submission(.shutdownWrite, connection: connection.slot))
        harness.close(connection)
        harness.turns(3)
        #expect(connection.wire == [0x88, 2, 0x03, 0xE8])
        #expect(connection.isShutDown)
        connection.peerEnds = true
        harness.turns(3)
        #expect(connection.closedIsReported)
        #expect(harness.violations == [])
    }
}

/// Some connections, plain, WebSocket and behind a proxy, to which everything happens that can happen.
private struct RandomLife {
    var random: Random
    let harness: TransportHarness
    var leftovers: [String] = []

    init(_ seed: UInt64) {
        random = Random(seed)
        var webSocket = HTTPUpgradeTests.listener
        webSocket.messageByteCountMax = 5000
        var proxied = webSocket
        proxied.expectsProxyHeader = true
        var proxiedPlain = ListenerTransport()
        proxiedPlain.expectsProxyHeader = true
        harness = TransportHarness([ListenerTransport(), webSocket, proxied, proxiedPlain])
    }

    mutating func run() {
        for _ in 0..<80 {
            if harness.connections.count < 12, random.below(6) == 0 { connect() }
            for connection in harness.connections { happen(to: connection) }
            if random.below(150) == 0 { harness.layer.beginDrain() }
            harness.now += UInt64(random.below(100_000_000))
            harness.turn()
        }
        finish()
    }

    private mutating func connect() {
        let listener = UInt8(random.below(4))
        let connection = harness.accept(listener: listener)
        connection.usesZeroCopy = (listener == 1 || listener == 2) && random.below(4) == 0
        var bytes: [UInt8] = listener >= 2 ? Array("PROXY TCP4 192.0.2.7 192.0.2.1 7 8\r\n".utf8) : []
        if listener == 1 || listener == 2 {
            bytes += HTTPUpgradeTests.request(adding: ["Sec-WebSocket-Protocol: v12.stomp"])
        }
        if random.below(10) == 0, !bytes.isEmpty { bytes[random.below(bytes.count)] ^= 0x21 }
        write(bytes, to: connection)
    }

    /// In pieces.
    private mutating func write(_ bytes: [UInt8], to connection: FakeConnection) {
        var bytes = bytes[...]
        while !bytes.isEmpty {
            let count = min(random.below([2, 30, 500][random.below(3)]) + 1, bytes.count)
            connection.write(Array(bytes.prefix(count)))
            bytes = bytes.dropFirst(count)
        }
    }

    private mutating func happen(to connection: FakeConnection) {
        switch random.below(40) {
        case 0...5:
            let payload = [UInt8](repeating: 0x61, count: random.below(400))
            write(WireFrame(opcode: 1, payload: payload).masked(), to: connection)
        case 6, 7:
            write(
                WireFrame(opcode: 9, payload: [UInt8](repeating: 1, count: random.below(126))).masked(), to: connection)
        case 8...14:
            for _ in 0...random.below(4) {
                connection.output.append(LayerSendingTests.frame(String(repeating: "y", count: random.below(300))))
            }
        case 15, 16: connection.room = random.below(100)
        case 17, 18: connection.room = .max
        case 19: pause(connection)
        case 20: rarely { $0.write(WireFrame(opcode: 8, payload: [0x03, 0xE8]).masked(), to: connection) }
        case 21: rarely { _ in connection.peerEnds = true }
        case 22: rarely { _ in connection.sendFailure = 104 }
        case 23: rarely { _ in connection.ends = true }
        case 24:
            rarely { life in
                if !connection.hasClosed { life.harness.close(connection, reset: life.random.below(2) == 0) }
            }
        case 25:
            rarely { life in
                let fault = WebSocketDecoderTests.faults[life.random.below(WebSocketDecoderTests.faults.count)].2
                life.write(fault, to: connection)
            }
        default: break
        }
    }

    private mutating func rarely(_ body: (inout RandomLife) -> Void) { if random.below(4) == 0 { body(&self) } }

    private mutating func pause(_ connection: FakeConnection) {
        guard !connection.hasClosed else { return }
        let kind: Submission.Kind = random.below(2) == 0 ? .pauseReceive : .resumeReceive
        harness.submissions.append(Submission(kind, connection: connection.slot))
    }

    /// Everybody leaves.
    private mutating func finish() {
        for connection in harness.connections {
            connection.room = .max
            connection.ends = true
        }
        harness.turns(10)
        for connection in harness.connections { connection.peerEnds = true }
        harness.turns(10)
        harness.now += 10_000_000_000
        harness.turns(3)
        for connection in harness.connections where !connection.hasClosed { harness.close(connection) }
        harness.turns(5)
        harness.now += 10_000_000_000
        harness.turns(3)
        for connection in harness.connections where !connection.closedIsReported {
            leftovers.append("\(connection.slot) is not closed")
        }
        if harness.layer.connectionCount != 0 { leftovers.append("\(harness.layer.connectionCount) records") }
        if harness.layer.blocks.byteCountInUse != 0 { leftovers.append("\(harness.layer.blocks.byteCountInUse) bytes") }
    }
}
