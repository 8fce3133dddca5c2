import Glibc
import IO
import Slabs
import Testing

@testable import Drivers

extension DriverTests {
    @Test(arguments: DriverVariant.allCases)
    func `a half-closed connection is told and still takes bytes`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        try client.send(pattern(5000))
        client.endSending()
        let events = try #require(bench.turns { $0.contains { $0.kind == .receiveEnded } })
        #expect(bench.received(events, by: slot) == pattern(5000))
        #expect(events.last { $0.connection == slot }?.kind == .receiveEnded)
        #expect(bench.send(pattern(300), to: slot).isEmpty)
        #expect(try client.receive(exactly: 300) == pattern(300))
        let closing = try #require(bench.close(slot))
        #expect(closing.map(\.kind) == [.closed])
    }

    @Test(arguments: DriverVariant.allCases)
    func `shutdownWrite ends the peer's reading and not ours`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        _ = pattern(100).withUnsafeBytes {
            bench.turn(
                [
                    Submission(.send, connection: slot, pointer: $0.baseAddress, byteCount: 100),
                    Submission(.shutdownWrite, connection: slot),
                ], deadline: 0)
        }
        #expect(try client.receive(exactly: 100) == pattern(100))
        bench.turn([], deadline: 0)
        #expect(client.receive() == [])
        try client.send(pattern(200))
        #expect(bench.turns { bench.received($0, by: slot).count == 200 } != nil)
        client.close()
        #expect(bench.turns { $0.contains { $0.kind == .receiveEnded } } != nil)
        #expect(bench.close(slot) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a reset by the peer is a failure, and sends fail after it`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        client.reset()
        let events = try #require(bench.turns { $0.contains { $0.kind == .receiveFailed } })
        #expect(events.first { $0.kind == .receiveFailed }?.value == -ECONNRESET)
        let result = bench.send(pattern(10), to: slot)
        #expect(result.first?.kind == .sendIncomplete)
        #expect(result.first?.value == -EPIPE)
        #expect(bench.driver.counters.sendErrors == 1)
        #expect(bench.close(slot) != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `closing with reset resets, where the kernel can`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        #expect(bench.close(slot, isReset: true) != nil)
        let bytes = client.receive()
        #if URing
            if variant == .uringRelativeTimeouts, bench.driver.hasDirectDescriptors {
                #expect(bytes == [])
                return
            }
        #endif
        #expect(bytes == nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `closing ends with exactly one completion, whatever was under way`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.promotionCount = 2 }
        for round in 0..<60 {
            let (client, slot) = try bench.connect()
            try client.send(pattern(100 * (round % 7)) + [1])
            if round % 2 == 0 { bench.turn([], deadline: 0) }
            var requests: [Submission] = []
            if round % 3 == 0 { requests.append(Submission(.awaitWritable, connection: slot)) }
            if round % 4 == 0 { requests.append(Submission(.pauseReceive, connection: slot)) }
            if round % 5 == 0 { requests.append(Submission(.shutdownWrite, connection: slot)) }
            if round % 8 == 0 { requests.append(Submission(.resumeReceive, connection: slot)) }
            requests.append(Submission(.close, connection: slot, value: Int32(round % 2)))
            // A close is final: what follows it is ignored.
            if round % 6 == 0 { requests.append(Submission(.resumeReceive, connection: slot)) }
            let events = try #require(bench.turns(requests) { $0.contains { $0.kind == .closed } })
            let own = events.filter { $0.connection == slot }.map(\.kind)
            #expect(own.filter { $0 == .closed }.count == 1)
            #expect(own.last == .closed)
            #expect(bench.turn([Submission(.awaitWritable, connection: slot)], deadline: 0).isEmpty)
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a reused slot hears nothing of its former life`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        var former: Slot?
        for generation in 1...100 as ClosedRange<UInt32> {
            let client = try Client(port: bench.port)
            let slot = Slot(index: 7, generation: generation)
            try bench.adopt(as: slot)
            if let former {
                // A core that is late: these name the former generation, and are ignored.
                #expect(bench.send([1, 2, 3], to: former).isEmpty)
                let zeroCopy = bench.turn([Submission(.sendZeroCopy, connection: former, byteCount: 3)], deadline: 0)
                #expect(zeroCopy.filter { $0.connection == former }.map(\.kind) == [.sendReleased])
                bench.turn(
                    [Submission(.awaitWritable, connection: former), Submission(.close, connection: former)],
                    deadline: 0)
            }
            try client.send(pattern(64, seed: UInt8(generation)))
            let events = try #require(bench.turns { bench.received($0, by: slot).count >= 64 })
            #expect(events.allSatisfy { $0.connection == slot })
            #expect(bench.received(events, by: slot) == pattern(64, seed: UInt8(generation)))
            // Bytes that arrive while the slot closes belong to nobody.
            try client.send(pattern(64))
            let closing = try #require(bench.close(slot, isReset: generation % 2 == 0))
            #expect(closing.allSatisfy { $0.connection == slot })
            former = slot
        }
    }

    @Test(arguments: DriverVariant.allCases)
    func `a thousand connections come, talk and go`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        var open: [(Client, Slot)] = []
        for round in 0..<1000 {
            let (client, slot) = try bench.connect()
            open.append((client, slot))
            if round % 4 == 0 { try client.send(pattern(round % 500 + 1)) }
            guard open.count >= 100 else { continue }
            let (leaving, leavingSlot) = open.remove(at: (round * 7) % open.count)
            if round % 3 == 0 { leaving.close() } else if round % 3 == 1 { leaving.reset() }
            #expect(bench.close(leavingSlot, isReset: round % 5 == 0) != nil)
        }
        for (_, slot) in open { #expect(bench.close(slot) != nil) }
        #expect(bench.driver.counters.closes == 1000)
        #expect(bench.driver.counters.accepts == 1000)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a deadline of zero, past or to come ends a poll with nothing to report`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        #expect(bench.turn([], deadline: 0).isEmpty)
        #expect(bench.turn([], deadline: 1).isEmpty)
        #expect(bench.turn([], deadline: DriverBench.now + 3_000_000).isEmpty)
        let (client, _) = try bench.connect()
        #expect(bench.turn([], deadline: DriverBench.now + 3_000_000).isEmpty)
        _ = client
    }

    @Test(arguments: DriverVariant.allCases)
    func `a refused connection ends`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let client = try Client(port: bench.port)
        let events = try #require(bench.turns { $0.contains { $0.kind == .accepted } })
        bench.turn([Submission(.refuse, value: events[0].value)], deadline: 0)
        #expect(client.receive() == [])
    }

    @Test(arguments: DriverVariant.allCases)
    func `after stopAccepting nobody gets in and everybody stays`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        bench.turn([Submission(.stopAccepting)], deadline: 0)
        bench.turn([], deadline: DriverBench.now + 2_000_000)
        #expect(throws: (any Error).self) { try Client(port: bench.port) }
        try client.send(pattern(10))
        #expect(bench.turns { bench.received($0, by: slot).count == 10 } != nil)
        bench.turn([Submission(.resumeAccepting)], deadline: 0)
        // The port is free at once for a successor.
        let successor = try ListenerGroup(address: "127.0.0.1:\(bench.port)", workerCount: 1)
        #expect(successor.port == bench.port)
    }

    @Test(arguments: DriverVariant.allCases)
    func `after shutDown the port is free and the peers see the end`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        var clients: [Client] = []
        for _ in 0..<20 {
            let (client, slot) = try bench.connect()
            bench.turn([Submission(.awaitWritable, connection: slot)], deadline: 0)
            clients.append(client)
        }
        bench.driver.shutDown()
        for client in clients { #expect(client.receive()?.isEmpty ?? true) }
        let successor = try ListenerGroup(
            address: "127.0.0.1:\(bench.port)", workerCount: 2, patienceMilliseconds: 2000)
        #expect(successor.port == bench.port)
    }

    @Test(arguments: DriverVariant.allCases)
    func `a connection that comes while the driver ends is closed`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        _ = try bench.connect()
        let late = try Client(port: bench.port)
        bench.driver.shutDown()
        #expect(late.receive()?.isEmpty ?? true)
    }

    /// For the log: ip:port. Old kernels do not tell it of a direct descriptor.
    @Test(arguments: DriverVariant.allCases)
    func `the log can ask for a peer's address`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant)
        let (client, slot) = try bench.connect()
        var name = sockaddr_in()
        var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &name) { name in
            name.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(client.fd, $0, &byteCount) }
        }
        try #require(result == 0)
        let found = bench.driver.peerAddress(of: slot)
        #expect(found == "127.0.0.1:\(UInt16(bigEndian: name.sin_port))" || found == nil && variant.lacksPeerAddress)
        #expect(bench.driver.peerAddress(ofAccepted: -1) == nil)
        // What came meanwhile is not lost.
        try client.send(pattern(100))
        #expect(bench.turns { bench.received($0, by: slot).count == 100 } != nil)
    }

    @Test(arguments: DriverVariant.allCases)
    func `the peer's address is found where it is asked for`(_ variant: DriverVariant) throws {
        let bench = try DriverBench(variant) { $0.findsPeerAddress = true }
        for _ in 0..<5 {
            let client = try Client(port: bench.port)
            let events = try #require(bench.turns { $0.contains { $0.kind == .accepted } })
            #expect(events[0].address == 0x7F00_0001)
            bench.turn([Submission(.refuse, value: events[0].value)], deadline: 0)
            _ = client
        }
        let without = try DriverBench(variant)
        let client = try Client(port: without.port)
        let events = try #require(without.turns { $0.contains { $0.kind == .accepted } })
        #expect(events[0].address == 0)
        _ = client
    }
}
