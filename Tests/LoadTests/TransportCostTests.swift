import Foundation
import Testing

@testable import Load
@testable import stampede_bench

/// What `transports` counts, and what it makes of it.
struct TransportCostTests {
    // MARK: Records

    private static func record(type: UInt8, _ byteCount: Int) -> [UInt8] {
        [type, 3, 3, UInt8(byteCount >> 8), UInt8(byteCount & 0xFF)] + [UInt8](repeating: 23, count: byteCount)
    }

    private static func counts(_ bytes: [UInt8], pieces: [Int]) -> EncryptedCounts {
        var counter = RecordCounter()
        var counts = EncryptedCounts()
        var start = 0
        for end in pieces + [bytes.count] {
            bytes[start..<end].withUnsafeBytes { counter.count($0, &counts) }
            start = end
        }
        return counts
    }

    /// A handshake message, a short record, an empty one of no known type, and two full records with the rest of their send.
    private static let stream =
        record(type: 22, 90) + record(type: 23, 117) + record(type: 20, 0) + record(type: 23, 16_401)
        + record(type: 23, 16_401) + record(type: 23, 18)

    @Test func `a long send counts once, whatever its records are split into`() {
        let whole = Self.counts(Self.stream, pieces: [])
        #expect(whole.records == 4)
        #expect(whole.sends == 2)
        for place in 0...Self.stream.count { #expect(Self.counts(Self.stream, pieces: [place]) == whole) }
        #expect(Self.counts(Self.stream, pieces: Array(0..<Self.stream.count)) == whole)
    }

    // MARK: Bounds

    private static func cost(_ transport: ClientTransport, plain: Double, measured: Double) -> TransportCost {
        var cost = TransportCost(row: "row", transport: transport.rawValue, plain: plain, measured: measured)
        if transport.usesTLS {
            cost.encrypted = TransportCost.Encrypted(
                cipher: "c", bytes: 200, sends: 0.01, recordBytes: 8000, cipherBytesPerSecond: 2e9)
        }
        return cost
    }

    @Test func `WebSocket may cost a tenth more`() throws {
        let bound = try #require(Self.cost(.ws, plain: 2, measured: 2.1).bound)
        #expect(abs(bound - 2.2) < 1e-9)
        #expect(Self.cost(.ws, plain: 2, measured: 2.19).isMet)
        #expect(!Self.cost(.ws, plain: 2, measured: 2.21).isMet)
    }

    @Test func `TLS may cost its cipher and its sends`() throws {
        // 200 bytes at 2 GB/s are 0.1 us.
        let bound = try #require(Self.cost(.tls, plain: 0.05, measured: 0).bound)
        #expect(abs(bound - (0.05 + 0.13 + 0.01)) < 1e-9)
        #expect(Self.cost(.tls, plain: 0.05, measured: 0.18).isMet)
        let missed = Self.cost(.tls, plain: 0.05, measured: 0.2)
        #expect(!missed.isMet)
        #expect(missed.cells.count == TransportCost.head.count)
        #expect(missed.cells.contains("MISSED"))
    }

    @Test func `WebSocket in TLS has no bound`() {
        let cost = Self.cost(.wss, plain: 1, measured: 100)
        #expect(cost.bound == nil)
        #expect(cost.isMet)
        #expect(cost.cells[5] == "-")
    }

    @Test func `idle connections have bounds of their own`() {
        #expect(TransportMemory(transport: "ws", plainBytes: 250, bytes: 314).isMet)
        #expect(!TransportMemory(transport: "ws", plainBytes: 250, bytes: 315).isMet)
        #expect(TransportMemory(transport: "tls", plainBytes: 250, bytes: 16_384).isMet)
        #expect(!TransportMemory(transport: "tls", plainBytes: 250, bytes: 16_385).isMet)
        #expect(TransportMemory(transport: "wss", plainBytes: 250, bytes: 100_000).isMet)
    }

    // MARK: openssl speed

    @Test func `the speed is the last field of the line that begins with F`() {
        let text = "+DT:AES-128-GCM:1:8000\n+R:511040:AES-128-GCM:1.000000\n+H:8000\n+F:25:AES-128-GCM:4088322580.65\n"
        #expect(OpenSSLSpeed.speed(in: text) == 4_088_322_580.65)
        #expect(OpenSSLSpeed.speed(in: "+F:25:AES-128-GCM:0.00\n") == nil)
        #expect(OpenSSLSpeed.speed(in: "speed: AES-128-GCM is an unknown cipher\n") == nil)
    }

    @Test func `openssl tells the speed of each cipher`() throws {
        for cipher in CipherSuite.allCases {
            let speed = OpenSSLSpeed(cipher, cpu: nil)
            #expect(try speed.bytesPerSecond(pieceByteCount: 1000) > 1e6)
        }
    }
}
