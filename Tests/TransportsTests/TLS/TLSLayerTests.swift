import Glibc
import IO
import Slabs
import Testing

@testable import Transports

@Suite("TLS: the layer between core and driver")
struct TLSLayerTests {
    static func bytes(_ count: Int, seed: Int = 0) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: ($0 + seed) &* 2_654_435_761 >> 7) }
    }

    private final class Client {
        var peer: TLSPeer
        init(_ peer: consuming TLSPeer) { self.peer = peer }
    }

    @Test("What clients send arrives decrypted, and what the core sends arrives encrypted")
    func echo() throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1)
        client.send(Self.bytes(100_000))
        harness.exchange(1, &client)
        expectEqual(harness.sessions[1]!.received, Self.bytes(100_000))
        harness.sessions[1]!.output = Self.bytes(300_000, seed: 7)
        harness.exchange(1, &client)
        expectEqual(client.plaintext, Self.bytes(300_000, seed: 7))
        #expect(harness.sessions[1]!.output.isEmpty)
        #expect(harness.layer.counters.handshakes == 1)
        harness.close(1)
        harness.exchange(1, &client)
        #expect(harness.sockets[1]!.isClosed)
        #expect(harness.layer.connectionCount == 0)
        #expect(harness.layer.blocks.byteCountInUse == 0)
    }

    @Test("Connections of other listeners pass untouched")
    func plain() throws {
        let harness = try TLSLayerHarness()
        harness.adopt(5, listener: 0)
        harness.receive(5, Array("CONNECT".utf8))
        harness.sessions[5]!.output = Array("CONNECTED".utf8)
        harness.turn()
        #expect(harness.sessions[5]!.received == Array("CONNECT".utf8))
        #expect(harness.sockets[5]!.sent == Array("CONNECTED".utf8))
        #expect(harness.layer.connectionCount == 0)
    }

    @Test("However little the socket takes, the client gets every byte once and in order", arguments: [1, 3])
    func shortSends(listener: UInt16) throws {
        var generator = SplitMix(seed: 42)
        for round in 0..<20 {
            let harness = try TLSLayerHarness()
            var client = try harness.connect(1, listener: listener)
            let expected = Self.bytes(Int.random(in: 1...600_000, using: &generator), seed: round)
            harness.sessions[1]!.pieceByteCount = [37, 1000, 20_000][round % 3]
            var offset = 0
            var turns = 0
            while client.plaintext.count < expected.count {
                // The core's output grows while the socket is full.
                let more = min(expected.count - offset, Int.random(in: 0...50_000, using: &generator))
                harness.sessions[1]!.output += expected[offset..<offset + more]
                offset += more
                harness.sockets[1]!.room =
                    Bool.random(using: &generator) ? 0 : Int.random(in: 0...40_000, using: &generator)
                harness.turn()
                client.receive(harness.takeSent(1))
                let pending = harness.layer.find(harness.slot(1))!.pointee.pendingByteCount
                #expect(Int(pending) < TLSLayer.pendingByteCountMax + 17_000)
                turns += 1
                try #require(turns < 100_000)
            }
            expectEqual(client.plaintext, expected)
            harness.sockets[1]!.room = .max
            harness.exchange(1, &client)
            #expect(harness.sessions[1]!.output.isEmpty)
            let record = harness.layer.find(harness.slot(1))!
            #expect(record.pointee.aheadByteCount == 0 && record.pointee.pendingByteCount == 0)
        }
    }

    @Test("What was sent leaves its memory to the next: a turn never has more than a part of its ciphertext in memory")
    func parts() throws {
        let harness = try TLSLayerHarness()
        var clients: [Client] = []
        for index in 1...40 as ClosedRange<UInt32> { clients.append(Client(try harness.connect(index))) }
        let expected = Self.bytes(60_000)
        for index in 1...40 as ClosedRange<UInt32> { harness.sessions[index]!.output = expected }
        harness.mostCiphertextByteCount = 0
        harness.turn()
        let bound = TLSLayer.partByteCountMax + 128 << 10
        #expect(harness.mostCiphertextByteCount > 0 && harness.mostCiphertextByteCount < bound)
        for place in clients.indices {
            let index = UInt32(place + 1)
            #expect(harness.sessions[index]!.output.isEmpty)
            clients[place].peer.receive(harness.takeSent(index))
            expectEqual(clients[place].peer.plaintext, expected)
        }
        #expect(harness.layer.blocks.byteCountInUse == 0)
    }

    @Test("A full socket stops the core, which has only the window encrypted ahead")
    func window() throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1)
        harness.sockets[1]!.room = 0
        harness.sessions[1]!.output = Self.bytes(1_000_000)
        harness.sessions[1]!.pieceByteCount = 100_000
        for _ in 0..<10 { harness.turn() }
        #expect(harness.sessions[1]!.awaitsWritable)
        #expect(harness.sessions[1]!.output.count == 1_000_000)
        #expect(harness.isQuiet)
        // Of what the kernel takes, whole blocks are reported.
        harness.sockets[1]!.room = 100_000
        for _ in 0..<10 { harness.turn() }
        let left = harness.sessions[1]!.output.count
        #expect((900_000..<950_000).contains(left))
        harness.sockets[1]!.room = .max
        harness.exchange(1, &client)
        expectEqual(client.plaintext, Self.bytes(1_000_000))
    }

    @Test("A send beyond the window goes on though the socket takes all of it", arguments: [1, 3])
    func roomySocket(listener: UInt16) throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1, listener: listener)
        harness.sessions[1]!.output = Self.bytes(1_000_000)
        harness.sessions[1]!.pieceByteCount = 100_000
        harness.exchange(1, &client)
        expectEqual(client.plaintext, Self.bytes(1_000_000))
    }

    @Test("Nothing is sent to a socket that is full, whoever filled it", arguments: [1, 3])
    func fullAfterHandshake(listener: UInt16) throws {
        let harness = try TLSLayerHarness()
        var client = TLSPeer(client: try TestContexts.client())
        harness.adopt(1, listener: listener)
        client.receive()
        harness.receive(1, client.takeOutput())
        harness.sockets[1]!.room = 100
        harness.turn()
        // What the core has to say comes while a rest of the server's flight waits for room.
        harness.sessions[1]!.output = Self.bytes(5000)
        for _ in 0..<5 { harness.turn() }
        harness.sockets[1]!.room = .max
        harness.exchange(1, &client)
        harness.sessions[1]!.output = Self.bytes(1000)
        harness.sockets[1]!.room = 100
        harness.turn()
        harness.sessions[1]!.output += Self.bytes(1000)
        for _ in 0..<5 { harness.turn() }
        harness.sockets[1]!.room = .max
        harness.exchange(1, &client)
        #expect(client.plaintext.count == 2000)
    }

    @Test("A socket that takes bytes again while the core is told to wait gets what waits first")
    func writableWhileTold() throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1, listener: 3)
        harness.sockets[1]!.room = 100
        harness.sessions[1]!.output = Self.bytes(1000)
        for _ in 0..<3 { harness.turn() }
        harness.sessions[1]!.output = Self.bytes(200_000)
        harness.sessions[1]!.pieceByteCount = 100_000
        harness.sockets[1]!.room = .max
        harness.turn()
        harness.exchange(1, &client)
        expectEqual(client.plaintext, Self.bytes(1000) + Self.bytes(200_000))
    }

    @Test("Without memory for ciphertext a connection waits until there is some")
    func starved() throws {
        let harness = try TLSLayerHarness(blockByteCountMax: 512 << 10)
        var first = try harness.connect(1)
        var second = try harness.connect(2)
        var third = try harness.connect(3)
        for index: UInt32 in [1, 2] {
            harness.sockets[index]!.room = 0
            harness.sessions[index]!.output = Self.bytes(400_000)
            harness.sessions[index]!.pieceByteCount = 100_000
        }
        harness.turn()
        harness.sessions[3]!.output = Self.bytes(50_000)
        for _ in 0..<20 { harness.turn() }
        #expect(harness.sessions[3]!.output.count == 50_000)
        #expect(harness.isQuiet)
        harness.sockets[1]!.room = .max
        harness.sockets[2]!.room = .max
        harness.exchange(1, &first)
        harness.exchange(2, &second)
        harness.exchange(3, &third)
        expectEqual(third.plaintext, Self.bytes(50_000))
        expectEqual(first.plaintext, Self.bytes(400_000))
        expectEqual(second.plaintext, Self.bytes(400_000))
    }

    @Test(
        "Memory that closed connections leave goes at once to those who wait for it, or are about to",
        arguments: [false, true])
    func starvedByThoseWhoLeave(waits: Bool) throws {
        let harness = try TLSLayerHarness(blockByteCountMax: 512 << 10)
        _ = try harness.connect(1)
        _ = try harness.connect(2)
        var third = try harness.connect(3)
        for index: UInt32 in [1, 2] {
            harness.sockets[index]!.room = 0
            harness.sessions[index]!.output = Self.bytes(400_000)
            harness.sessions[index]!.pieceByteCount = 100_000
        }
        for _ in 0..<20 { harness.turn() }
        harness.sessions[3]!.output = Self.bytes(50_000)
        if waits {
            for _ in 0..<20 { harness.turn() }
            #expect(harness.sessions[3]!.awaitsWritable && harness.isQuiet)
        }
        // Otherwise the memory is free before the core asks for `.writable`.
        for index: UInt32 in [1, 2] {
            harness.sessions[index]!.output = []
            harness.close(index, reset: true)
        }
        harness.turn()
        #expect(harness.sessions[3]!.awaitsWritable != waits)
        harness.exchange(3, &third)
        expectEqual(third.plaintext, Self.bytes(50_000))
    }

    @Test("A client that can take short records alone gets all of a long output", arguments: [1, 3])
    func shortRecords(listener: UInt16) throws {
        let harness = try TLSLayerHarness()
        var client = TLSPeer(client: try TestContexts.client())
        let isRequested = client.engine.requestShortRecords()
        #expect(isRequested)
        harness.adopt(1, listener: listener)
        client.receive()
        harness.exchange(1, &client)
        harness.sessions[1]!.output = Self.bytes(600_000)
        harness.sessions[1]!.pieceByteCount = 20_000
        harness.exchange(1, &client)
        expectEqual(client.plaintext, Self.bytes(600_000))
        #expect(harness.sessions[1]!.failure == 0)
    }

    @Test("What a connection takes is what is stated")
    func recordSize() {
        #expect(MemoryLayout<TLSRecord>.stride == 80)
    }

    // MARK: Ends

    @Test("The end of the core's output is close_notify, then the socket's end; a full socket delays both")
    func shutdown() throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1)
        harness.sessions[1]!.output = Array("bye".utf8)
        harness.sessions[1]!.wantsShutdown = true
        harness.turn()
        harness.sockets[1]!.room = 0
        for _ in 0..<3 { harness.turn() }
        #expect(!harness.sockets[1]!.isShutDown)
        harness.sockets[1]!.room = .max
        harness.exchange(1, &client)
        #expect(client.plaintext == Array("bye".utf8))
        #expect(client.outcome == .ended)
        #expect(harness.sockets[1]!.isShutDown)
    }

    @Test("The core hears of the end once: by close_notify, by a bare FIN, or both")
    func peerEnds() throws {
        for (saysGoodbye, sendsFIN) in [(true, false), (false, true), (true, true)] {
            let harness = try TLSLayerHarness()
            var client = try harness.connect(1)
            client.send(Array("last".utf8))
            if saysGoodbye { client.close() }
            harness.receive(1, client.takeOutput())
            if sendsFIN { harness.report(.receiveEnded, 1) }
            harness.turn()
            #expect(harness.sessions[1]!.received == Array("last".utf8))
            #expect(harness.sessions[1]!.endCount == 1)
            #expect(harness.sessions[1]!.failure == 0)
            // The other direction goes on.
            harness.sessions[1]!.output = Array("answer".utf8)
            harness.exchange(1, &client)
            #expect(client.plaintext == Array("answer".utf8))
        }
    }

    @Test("What is not TLS fails the connection, is told once, and gets no answer")
    func notTLS() throws {
        let harness = try TLSLayerHarness()
        harness.adopt(1)
        harness.receive(1, Array("CONNECT\n\n\0".utf8))
        harness.turn()
        #expect(harness.sessions[1]!.failure == -EPROTO)
        let notices = harness.layer.takeNotices()
        #expect(notices.count == 1)
        #expect(notices.first?.text.contains("does not speak TLS") == true)
        #expect(notices.first?.listener == ListenerID(rawValue: 1))
        harness.receive(1, Array("more".utf8))
        harness.turn()
        harness.close(1)
        harness.turn()
        #expect(harness.sessions[1]!.endCount == 1)
        #expect(harness.sockets[1]!.sent.isEmpty)
        #expect(harness.layer.counters.handshakesFailed == 1)
    }

    @Test("A failure sends its alert before the connection is closed, and no reset overtakes it")
    func alert() throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1)
        client.send(Array("hello".utf8))
        var bytes = client.takeOutput()
        bytes[bytes.count - 1] ^= 1
        harness.receive(1, bytes)
        harness.turn()
        #expect(harness.sessions[1]!.failure == -EPROTO)
        harness.close(1, reset: true)
        harness.turn()
        #expect(!harness.sockets[1]!.isReset)
        client.receive(harness.takeSent(1))
        #expect(client.failure.description.contains("alert 20"))
        #expect(harness.layer.counters.connectionsFailed == 1)
        #expect(harness.layer.blocks.byteCountInUse == 0)
    }

    @Test("What the core says before the handshake is done goes nowhere, and the socket ends")
    func timeout() throws {
        let harness = try TLSLayerHarness()
        var client = TLSPeer(client: try TestContexts.client())
        harness.adopt(1)
        client.receive()
        let hello = client.takeOutput()
        harness.receive(1, Array(hello.prefix(50)))
        harness.turn()
        harness.sessions[1]!.output = Array("ERROR\n\n\0".utf8)
        harness.sessions[1]!.wantsShutdown = true
        for _ in 0..<3 { harness.turn() }
        #expect(harness.sessions[1]!.output.isEmpty)
        #expect(harness.sockets[1]!.sent.isEmpty)
        #expect(harness.sockets[1]!.isShutDown)
    }

    @Test("A handshake that goes on behind the socket's end says nothing more")
    func endWithinHandshake() throws {
        let harness = try TLSLayerHarness()
        var client = TLSPeer(client: try TestContexts.client())
        harness.adopt(1)
        client.receive()
        harness.receive(1, client.takeOutput())
        for _ in 0..<2 { harness.turn() }
        client.receive(harness.takeSent(1))
        harness.sessions[1]!.wantsShutdown = true
        for _ in 0..<3 { harness.turn() }
        #expect(harness.sockets[1]!.isShutDown)
        // The client's proof would be answered by a ticket or an end.
        harness.receive(1, client.takeOutput())
        for _ in 0..<3 { harness.turn() }
        #expect(harness.takeSent(1).isEmpty)
    }

    // MARK: Handshakes

    @Test("A storm of handshakes takes a few steps a turn, and those who are in are served in each")
    func storm() throws {
        let harness = try TLSLayerHarness()
        var member = try harness.connect(1)
        let context = try TestContexts.client()
        let count: UInt32 = 21
        for index in 2..<2 + count {
            var client = TLSPeer(client: context)
            client.receive()
            harness.adopt(index)
            harness.receive(index, client.takeOutput())
        }
        var answered = 0
        var turns = 0
        while answered < count {
            member.send([UInt8(turns)])
            harness.receive(1, member.takeOutput())
            harness.turn()
            turns += 1
            #expect(harness.sessions[1]!.received.count == turns)
            harness.turn()
            let now = (2..<2 + count).count { !harness.sockets[$0]!.sent.isEmpty }
            // Each of the two turns may take so many.
            #expect(now - answered <= 2 * TLSLayer.stepsPerTurn)
            answered = now
            if answered < count { #expect(!harness.isQuiet) }
            try #require(turns < 100)
        }
        #expect(harness.isQuiet)
        #expect(harness.layer.counters.handshakesDelayed == UInt64(count) - UInt64(TLSLayer.stepsPerTurn))
    }

    @Test("A handshake that waits for its turn keeps a bounded number of bytes")
    func keptBytes() throws {
        let harness = try TLSLayerHarness()
        let context = try TestContexts.client()
        for index: UInt32 in 1...40 {
            var client = TLSPeer(client: context)
            client.receive()
            harness.adopt(index)
            harness.receive(index, client.takeOutput())
        }
        for _ in 0..<3 { harness.receive(40, Self.bytes(16_000)) }
        harness.turn()
        #expect(harness.sessions[40]!.failure == -EPROTO)
        for index: UInt32 in 1...40 { harness.close(index) }
        for _ in 0..<20 { harness.turn() }
        #expect(harness.layer.connectionCount == 0)
        #expect(harness.layer.blocks.byteCountInUse == 0)
        #expect(harness.isQuiet)
    }

    @Test("What a client sends behind its handshake is kept while that waits, and its end comes after it")
    func endWhileQueued() throws {
        for (saysGoodbye, byteCount) in [(false, 10), (true, 10), (false, 80_000)] {
            let harness = try TLSLayerHarness()
            let context = try TestContexts.client()
            var client = TLSPeer(client: context)
            harness.adopt(1)
            client.receive()
            harness.receive(1, client.takeOutput())
            for _ in 0..<2 { harness.turn() }
            client.receive(harness.takeSent(1))
            // Others use the turn up.
            for index: UInt32 in 2...20 {
                var other = TLSPeer(client: context)
                other.receive()
                harness.adopt(index)
                harness.receive(index, other.takeOutput())
            }
            client.send(Self.bytes(byteCount))
            if saysGoodbye { client.close() }
            let flight = client.takeOutput()
            harness.receive(1, Array(flight.prefix(100)))
            harness.receive(1, Array(flight.dropFirst(100)))
            harness.report(.receiveEnded, 1)
            harness.turn()
            #expect(harness.sessions[1]!.received.isEmpty && harness.sessions[1]!.endCount == 0)
            for _ in 0..<20 { harness.turn() }
            expectEqual(harness.sessions[1]!.received, Self.bytes(byteCount))
            #expect(harness.sessions[1]!.endCount == 1 && harness.sessions[1]!.failure == 0)
        }
    }

    @Test("A proxy's header passes before TLS begins, split at every byte")
    func proxyHeader() throws {
        let header = Array("PROXY TCP4 192.0.2.1 198.51.100.1 50000 61613\r\n".utf8)
        for split in 0...header.count {
            let harness = try TLSLayerHarness()
            var client = TLSPeer(client: try TestContexts.client())
            harness.adopt(1, listener: 2)
            client.receive()
            harness.receive(1, Array(header[..<split]))
            harness.turn()
            harness.receive(1, header[split...] + client.takeOutput())
            harness.exchange(1, &client)
            let isEstablished = client.engine.isEstablished
            #expect(isEstablished, "split at \(split)")
            client.send(Array("CONNECT".utf8))
            harness.exchange(1, &client)
            expectEqual(harness.sessions[1]!.received, header + Array("CONNECT".utf8))
        }
    }

    @Test("A connection without its proxy's header is left to the layer above")
    func noProxyHeader() throws {
        let harness = try TLSLayerHarness()
        var client = TLSPeer(client: try TestContexts.client())
        harness.adopt(1, listener: 2)
        client.receive()
        let hello = client.takeOutput()
        harness.receive(1, hello)
        harness.turn()
        #expect(harness.sessions[1]!.received == hello)
        #expect(harness.sockets[1]!.sent.isEmpty)
    }

    @Test("The client's ticket comes with the core's first bytes, and not before them", arguments: [1, 3])
    func ticket(listener: UInt16) throws {
        let harness = try TLSLayerHarness()
        var client = try harness.connect(1, listener: listener)
        let before = client.engine.session()
        #expect(before.isEmpty)
        client.send([1, 2, 3])
        harness.exchange(1, &client)
        #expect(harness.sessions[1]!.received == [1, 2, 3])
        #expect(harness.sockets[1]!.sent.isEmpty)
        // The socket takes a byte at a time: the ticket, and then what the core has sent.
        harness.sessions[1]!.output = Array("CONNECTED".utf8)
        var turns = 0
        while client.plaintext.count < 9 {
            harness.sockets[1]!.room = 1
            harness.turn()
            client.receive(harness.takeSent(1))
            turns += 1
            try #require(turns < 10_000)
        }
        #expect(client.plaintext == Array("CONNECTED".utf8))
        #expect(turns > 100)
        let session = client.engine.session()
        #expect(!session.isEmpty)
        var again = TLSPeer(client: try TestContexts.client())
        #expect(again.engine.resume(session))
        harness.adopt(2, listener: listener)
        again.receive()
        harness.exchange(2, &again)
        #expect(harness.layer.counters.handshakesResumed == 1)
    }

    @Test("The identity is known after the handshake, and new certificates serve new connections")
    func identityAndReload() throws {
        let harness = try TLSLayerHarness()
        harness.adopt(9)
        #expect(harness.layer.identity(of: harness.slot(9)) == nil)
        var client = try harness.connect(1)
        let identity = harness.layer.identity(of: harness.slot(1))
        #expect(identity?.serverName == "localhost")
        #expect(identity?.applicationProtocol == "stomp")

        harness.source.replace(with: try TestContexts.server(TestContexts.options("server", "web")))
        var other = TLSPeer(client: try TestContexts.client(), name: "web.example.org")
        harness.adopt(2)
        other.receive()
        harness.exchange(2, &other)
        #expect(other.engine.identity.peer?.commonName == "web")
        harness.sessions[1]!.output = [1, 2, 3]
        harness.exchange(1, &client)
        #expect(client.plaintext == [1, 2, 3])
    }
}

/// Random numbers that are the same in each run.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

/// As `#expect(bytes == expected)`, which takes hours to compute the difference of long arrays.
func expectEqual(_ bytes: [UInt8], _ expected: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) {
    if bytes == expected { return }
    let place = zip(bytes, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    Issue.record(
        "\(bytes.count) of \(expected.count) bytes, first difference at \(place.map { "\($0)" } ?? "the end")",
        sourceLocation: sourceLocation)
}
