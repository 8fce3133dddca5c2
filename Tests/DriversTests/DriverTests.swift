import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

@Suite(.serialized)
struct DriverTests {
    @Test(arguments: DriverVariant.allCases)
    func `an accepted and adopted connection echoes what it sends`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        for round in 0..<50 {
            let message = pattern(64, seed: UInt8(round))
            try client.send(message)
            let events = try #require(bench.turns { bench.received($0, by: slot).count >= 64 })
            let bytes = bench.received(events, by: slot)
            #expect(bytes == message)
            #expect(bench.send(bytes, to: slot).isEmpty)
            #expect(try client.receive(exactly: 64) == message)
        }
        #expect(bench.close(slot) != nil)
        #expect(client.receive() == [])
    }

    @Test(arguments: DriverVariant.allCases)
    func `one message fans out to every connection without a completion`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        var clients: [(Client, Slot)] = []
        for _ in 0..<100 { clients.append(try bench.connect()) }
        let message = pattern(128)
        for _ in 0..<20 {
            let events = message.withUnsafeBytes { bytes in
                bench.turn(
                    clients.map {
                        Submission(.send, connection: $0.1, pointer: bytes.baseAddress, byteCount: bytes.count)
                    }, deadline: 0)
            }
            #expect(events.isEmpty)
        }
        for (client, _) in clients {
            #expect(try client.receive(exactly: 128 * 20) == (0..<20).flatMap { _ in message })
        }
    }
}
