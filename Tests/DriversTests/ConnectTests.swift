import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

@Suite(.serialized)
struct ConnectTests {
    /// An IPv4 loopback address that outlives its use by a driver.
    private final class Target {
        let address = UnsafeMutablePointer<sockaddr_in>.allocate(capacity: 1)

        init(port: UInt16) {
            address.initialize(to: sockaddr_in())
            address.pointee.sin_family = sa_family_t(AF_INET)
            address.pointee.sin_port = port.bigEndian
            address.pointee.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        }

        deinit { address.deallocate() }

        func connect(_ slot: Slot) -> Submission {
            Submission(
                .connect, connection: slot, pointer: UnsafeRawPointer(address),
                byteCount: MemoryLayout<sockaddr_in>.size)
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a connection that the driver opened carries bytes both ways`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.opensConnections = true }
        let target = Target(port: bench.port)
        let near = bench.newSlot()
        let events = try #require(
            bench.turns([target.connect(near)]) { events in
                events.contains { $0.kind == .accepted } && events.contains { $0.kind == .writable }
            })
        let far = bench.newSlot()
        let accepted = try #require(events.first { $0.kind == .accepted })
        bench.turn([Submission(.adopt, connection: far, value: accepted.value)], deadline: 0)
        for (from, to) in [(near, far), (far, near)] {
            let message = pattern(100, seed: UInt8(from.index))
            let events = message.withUnsafeBytes { bytes in
                bench.turns([
                    Submission(.send, connection: from, pointer: bytes.baseAddress, byteCount: bytes.count)
                ]) { bench.received($0, by: to).count >= 100 }
            }
            #expect(bench.received(events ?? [], by: to) == message)
        }
        #expect(bench.close(near) != nil)
        #expect(bench.close(far) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a hundred connections are opened in one poll`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.opensConnections = true }
        let target = Target(port: bench.port)
        let slots = (0..<100).map { _ in bench.newSlot() }
        let events = try #require(
            bench.turns(slots.map(target.connect)) { events in
                events.count { $0.kind == .writable } == 100 && events.count { $0.kind == .accepted } == 100
            })
        #expect(Set(events.filter { $0.kind == .writable }.map(\.connection)) == Set(slots))
        for slot in slots { #expect(bench.close(slot) != nil) }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a refused connection reports its failure and can be closed`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.opensConnections = true }
        // A port that is bound and does not listen refuses, and nobody else can take it meanwhile.
        let idle = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(idle) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(idle, $0, byteCount)
                _ = getsockname(idle, $0, &byteCount)
            }
        }
        let target = Target(port: UInt16(bigEndian: address.sin_port))
        let slot = bench.newSlot()
        let events = try #require(bench.turns([target.connect(slot)]) { $0.contains { $0.kind == .receiveFailed } })
        #expect(events.first { $0.kind == .receiveFailed }?.value == -ECONNREFUSED)
        #expect(bench.close(slot) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `an address that cannot be reached at all fails at once`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.opensConnections = true }
        let target = Target(port: 1)
        target.address.pointee.sin_family = 0xFFFF
        let slot = bench.newSlot()
        let events = try #require(bench.turns([target.connect(slot)]) { $0.contains { $0.kind == .receiveFailed } })
        #expect(events.first { $0.kind == .receiveFailed }?.value == -EAFNOSUPPORT)
        #expect(bench.close(slot) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a connection that is closed while it is being opened answers once`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.opensConnections = true }
        let target = Target(port: bench.port)
        for _ in 0..<20 {
            let slot = bench.newSlot()
            let events = try #require(
                bench.turns([target.connect(slot), Submission(.close, connection: slot)]) {
                    $0.contains { $0.kind == .closed && $0.connection == slot }
                })
            #expect(events.count { $0.kind == .closed } == 1)
        }
    }
}
