import Glibc
import IO
import Slabs
import Testing

@testable import Transports

@Suite("TLS: how connections end")
struct TLSEndTests {
    private static let bytes = TLSLayerTests.bytes(60_000)

    /// The core closes the connection while there is ciphertext for which the socket has no room.
    private static func close(_ harness: TLSLayerHarness, listener: UInt16 = 3) {
        harness.sockets[1]!.room = 0
        harness.sessions[1]!.output = bytes
        for _ in 0..<3 { harness.turn() }
        #expect(harness.sessions[1]!.output.isEmpty == (listener == 3))
        harness.close(1)
        for _ in 0..<3 { harness.turn() }
    }

    private static func expectGone(_ harness: TLSLayerHarness) {
        #expect(harness.sockets[1]!.isClosed && !harness.sockets[1]!.isReset)
        #expect(harness.layer.connectionCount == 0)
        #expect(harness.layer.blocks.byteCountInUse == 0)
    }

    @Test("A close waits until the socket has taken what counts as taken")
    func closeWaits() throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1, listener: 3)
        Self.close(harness)
        #expect(!harness.sockets[1]!.isClosed)
        #expect(harness.deadline > harness.now && harness.deadline < .max)
        // What the client still sends, and that it ends, is nobody's any more.
        client.send([1])
        harness.receive(1, client.takeOutput())
        harness.report(.receiveEnded, 1)
        harness.turn()
        harness.sockets[1]!.room = .max
        harness.exchange(1, &client)
        expectEqual(client.plaintext, Self.bytes)
        #expect(client.outcome == .ended)
        #expect(harness.sessions[1]!.received.isEmpty && harness.sessions[1]!.endCount == 0)
        Self.expectGone(harness)
    }

    @Test("Whoever ends first is told by close_notify that all was said", arguments: [1, 3])
    func clientEndsFirst(listener: UInt16) throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1, listener: listener)
        client.close()
        harness.receive(1, client.takeOutput())
        harness.turn()
        #expect(harness.sessions[1]!.endCount == 1)
        harness.close(1)
        harness.exchange(1, &client)
        #expect(client.outcome == .ended)
        Self.expectGone(harness)
    }

    @Test(
        "A send and a close in one turn leave in this order, however little the socket takes", arguments: [0, 1, 999])
    func sendAndClose(room: Int) throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1, listener: 3)
        harness.sockets[1]!.room = room
        let bytes = [UInt8](repeating: 7, count: 1000)
        bytes.withUnsafeBytes { bytes in
            harness.submit(
                Submission(
                    .send, connection: harness.slot(1), pointer: bytes.baseAddress!, byteCount: bytes.count))
            harness.close(1)
            harness.turn()
        }
        for _ in 0..<3 { harness.turn() }
        #expect(!harness.sockets[1]!.isClosed)
        harness.sockets[1]!.room = .max
        harness.exchange(1, &client)
        #expect(client.plaintext == bytes)
        #expect(client.outcome == .ended)
        Self.expectGone(harness)
    }

    @Test("Who takes nothing for three seconds is closed; who takes something has them again, but not in a drain")
    func patience() throws {
        for (reads, drains) in [(false, false), (true, false), (true, true)] {
            let harness = try TLSLayerHarness()
            _ = try harness.connect(1, listener: 3)
            Self.close(harness)
            if drains { harness.layer.beginDrain() }
            for _ in 0..<3 {
                if reads { harness.sockets[1]!.room = 100 }
                for _ in 0..<3 { harness.turn() }
                harness.now += TLSLayer.closeNanoseconds
                harness.turn()
            }
            #expect(harness.sockets[1]!.isClosed == (!reads || drains))
        }
    }

    @Test("A reset does not wait, nor does a close of the core that has given up on its output")
    func noWait() throws {
        let harness = try TLSLayerHarness()
        _ = try harness.connect(1, listener: 3)
        harness.sockets[1]!.room = 0
        harness.sessions[1]!.output = Self.bytes
        for _ in 0..<3 { harness.turn() }
        harness.close(1, reset: true)
        harness.turn()
        #expect(harness.sockets[1]!.isClosed && harness.sockets[1]!.isReset)
        let other = try TLSLayerHarness()
        _ = try other.connect(1)
        Self.close(other, listener: 1)
        Self.expectGone(other)
    }

    @Test("A connection that fails while its close waits is closed", arguments: [false, true])
    func failure(bySend: Bool) throws {
        let harness = try TLSLayerHarness()
        _ = try harness.connect(1, listener: 3)
        Self.close(harness)
        if bySend {
            harness.sockets[1]!.sendFailure = EPIPE
            harness.sockets[1]!.room = .max
        } else {
            harness.report(.receiveFailed, 1, value: -ECONNRESET)
        }
        for _ in 0..<3 { harness.turn() }
        #expect(harness.sessions[1]!.failure == 0)
        Self.expectGone(harness)
    }

    @Test("What slow readers took goes back to the kernel when it went unused for a while")
    func memory() throws {
        let harness = try TLSLayerHarness()
        for index in 1...20 as ClosedRange<UInt32> {
            _ = try harness.connect(index)
            harness.sockets[index]!.room = 0
            harness.sessions[index]!.output = TLSLayerTests.bytes(400_000)
            harness.sessions[index]!.pieceByteCount = 100_000
        }
        for _ in 0..<5 { harness.turn() }
        #expect(harness.layer.blocks.byteCountInUse > 5 << 20)
        for index in 1...20 as ClosedRange<UInt32> {
            harness.sessions[index]!.output = []
            harness.close(index, reset: true)
        }
        for _ in 0..<20 { harness.turn() }
        #expect(harness.layer.blocks.byteCountInUse == 0 && harness.layer.blocks.keptByteCount > 0)
        #expect(harness.deadline == harness.now + BurstTrim.restNanoseconds)
        harness.now = harness.deadline
        for _ in 0..<20 { harness.turn() }
        #expect(harness.layer.blocks.keptByteCount == 0)
        #expect(harness.deadline == .max)
    }

    @Test("The core is told of a failure of what the layer sends by itself", arguments: [1, 3])
    func failureOfOwnSend(listener: UInt16) throws {
        let harness = try TLSLayerHarness()
        _ = try harness.connect(1, listener: listener)
        // The client has ended its side, and so a failure is not found by receiving.
        harness.report(.receiveEnded, 1)
        harness.sockets[1]!.room = 0
        harness.sessions[1]!.output = TLSLayerTests.bytes(100_000)
        for _ in 0..<3 { harness.turn() }
        #expect(harness.sessions[1]!.awaitsWritable && harness.sessions[1]!.endCount == 1)
        // The layer has the socket first, for what waits.
        harness.sockets[1]!.sendFailure = ECONNRESET
        harness.sockets[1]!.room = .max
        harness.sessions[1]!.output = []
        for _ in 0..<3 { harness.turn() }
        #expect(harness.sessions[1]!.failure == -ECONNRESET)
        harness.close(1)
        harness.turn()
        Self.expectGone(harness)
    }
}
