import IO
import Slabs
import Testing

@testable import Transports

@Suite("The layer: receiving what is compressed")
struct InflatingLayerTests {
    private static let send = Array("SEND\ndestination:/topic/größe\n\n\(String(repeating: "body ", count: 40))\0".utf8)

    @Test(arguments: [false, true])
    func `a message may arrive split at every byte`(takesOver: Bool) {
        for fragment in [Int.max, 11] {
            let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
            let peer = harness.openCompressed(takesOver: takesOver)
            let length = peer.frames(Self.send, fragmentByteCount: fragment).count
            harness.turn()
            for split in 0...length + 40 {
                // With a context another message has come that was not sent.
                let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
                let peer = harness.openCompressed(takesOver: takesOver)
                let wire =
                    peer.frames(Self.send, fragmentByteCount: fragment)
                    + peer.frames(Self.send, opcode: 2, fragmentByteCount: fragment)
                peer.connection.write(Array(wire[..<min(split, wire.count)]))
                harness.turn()
                peer.connection.write(Array(wire[min(split, wire.count)...]))
                harness.turn()
                #expect(peer.connection.received == Self.send + Self.send, "\(split)")
                #expect(harness.violations == [])
            }
        }
    }

    @Test func `messages that are compressed, and are not, and control frames keep their order`() {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        let first = peer.frames(Array("one ".utf8))
        let fragments = peer.frames(Array("three ".utf8), fragmentByteCount: 3)
        peer.connection.write(first + WireFrame.text("two ").masked() + fragments)
        // A ping between the fragments is not compressed.
        peer.connection.write(
            Array(peer.frames(Array("four".utf8), fragmentByteCount: 2).prefix(8))
                + WireFrame(opcode: 9, payload: [7]).masked())
        harness.turns(2)
        #expect(String(decoding: peer.connection.received, as: UTF8.self).hasPrefix("one two three "))
        #expect(WireFrame.decode(peer.connection.wire).frames == [WireFrame(opcode: 10, payload: [7])])
        #expect(harness.violations == [])
    }

    @Test(
        "reserved bits are for the first frame of a message, and for those who have agreed on them",
        arguments: [
            // Of a continuation, of a ping, of a close frame; others than RSV1.
            (
                .compressedInTheMiddle,
                WireFrame.text("a", isLast: false).masked() + WireFrame(opcode: 0, payload: [0]).masked(reserved: 0x40)
            ),
            (.compressedInTheMiddle, WireFrame(opcode: 9, payload: []).masked(reserved: 0x40)),
            (.compressedInTheMiddle, WireFrame(opcode: 8, payload: []).masked(reserved: 0x40)),
            (.reservedBit, WireFrame.text("a").masked(reserved: 0x20)),
            (.reservedBit, WireFrame.text("a").masked(reserved: 0x10)),
            (.reservedBit, WireFrame.text("a").masked(reserved: 0x60)),
        ] as [(WebSocketFault, [UInt8])])
    func reservedBits(fault: WebSocketFault, bytes: [UInt8]) {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        peer.connection.write(bytes)
        harness.turns(3)
        #expect(WireFrame.decode(peer.connection.wire).frames == [.close(fault)])
        let other = TransportHarness.compressed()
        let plain = other.open()
        plain.write(WireFrame(opcode: 1, payload: [0xCA, 0x07, 0x00]).masked(reserved: 0x40))
        other.turns(3)
        #expect(WireFrame.decode(plain.wire).frames == [.close(.reservedBit)])
        #expect(harness.violations == [] && other.violations == [])
    }

    @Test func `what is malformed or no text closes with 1007, and what came before is there`() {
        for (payload, opcode) in [([0x07], 2), ([0xF2, 0x48], 2), ([0x00, 0x01, 0x00, 0xFE, 0xFF, 0xFF, 0x00], 1)]
            as [([UInt8], UInt8)]
        {
            let harness = TransportHarness.compressed()
            let peer = harness.openCompressed()
            peer.connection.write(
                peer.frames(Array("before".utf8))
                    + WireFrame(opcode: opcode, payload: payload).masked(reserved: 0x40))
            harness.turns(3)
            #expect(peer.connection.received.starts(with: "before".utf8))
            #expect(WireFrame.decode(peer.connection.wire).frames == [.close(.malformedCompression)])
            #expect(peer.connection.receiveEndCount == 1)
            #expect(harness.violations == [])
        }
    }

    @Test func `a character may lie across fragments and pieces, and not across messages`() {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        for octet in peer.frames(Array("€€".utf8), fragmentByteCount: 1) {
            peer.connection.write([octet])
            harness.turn()
        }
        #expect(peer.connection.received == Array("€€".utf8))
        peer.connection.write(peer.frames([0xE2, 0x82]))
        harness.turns(3)
        #expect(WireFrame.decode(peer.connection.wire).frames == [.close(.malformedCompression)])
        #expect(harness.violations == [])
    }

    // MARK: Bombs

    @Test func `what is far longer than it was is stopped beyond the size of a largest frame`() {
        for (count, isAllowed) in [(1 << 20, true), (3 << 20, false)] {
            let harness = TransportHarness.compressed()
            let peer = harness.openCompressed()
            peer.connection.write(peer.frames([UInt8](repeating: 0x61, count: count)))
            harness.turns(30)
            #expect(peer.connection.received.count == count || !isAllowed)
            #expect(peer.connection.received.count <= 5 << 18)
            let closing = [WireFrame.close(.inflatesTooFar)]
            #expect(WireFrame.decode(peer.connection.wire).frames == (isAllowed ? [] : closing))
            #expect(harness.violations == [])
        }
    }

    @Test func `a bomb is stopped at the ratio, and one that is patient at the longest message`() {
        let harness = TransportHarness.webSocket {
            $0.compression.isOn = true
            $0.messageByteCountMax = 200_000
        }
        let peer = harness.openCompressed()
        peer.connection.write(peer.frames([UInt8](repeating: 0x61, count: 8 << 20)))
        harness.turns(3)
        #expect(peer.connection.received.count <= 200_000)
        #expect(WireFrame.decode(peer.connection.wire).frames == [.close(.inflatesTooFar)])
        // What the ratio allows: 30 letters that come in any order.
        var random = Random(1)
        let text = (0..<300_000).map { _ in 0x61 + UInt8(random.below(4)) }
        let other = harness.openCompressed()
        other.connection.write(other.frames(text))
        harness.turns(3)
        #expect(other.connection.received.count <= 200_000)
        #expect(WireFrame.decode(other.connection.wire).frames == [.close(.inflatesTooFar)])
        #expect(harness.layer.currentCounters().protocolErrors == 2)
        #expect(harness.violations == [])
    }

    /// Messages that inflate a hundred times, 64 KB each.
    private static func heavy(_ peer: CompressedPeer, _ count: Int) -> [UInt8] {
        (0..<count).flatMap { _ in peer.frames([UInt8](repeating: 0x61, count: 64_000)) }
    }

    @Test func `many messages that inflate far are taken in bit by bit, while nothing more is received`() {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        let heavy = Self.heavy(peer, 100)
        #expect(heavy.count < 12_000)
        peer.connection.write(heavy)
        peer.connection.peerEnds = false
        harness.turn()
        let first = peer.connection.received.count
        #expect(first < 2 << 20)
        var turns = 0
        while peer.connection.received.count < 6_400_000, turns < 100 {
            harness.turn()
            turns += 1
            if peer.connection.received.count < 6_400_000 {
                #expect(harness.deadline == 0)
                #expect(!peer.connection.isReceiving)
            }
        }
        #expect(peer.connection.received.count == 6_400_000 && turns > 2)
        harness.turns(2)
        #expect(peer.connection.isReceiving)
        // Nothing but to give memory back one day.
        #expect(harness.deadline == harness.now + 5_000_000_000)
        // It goes on as before.
        peer.connection.received = []
        peer.connection.write(peer.frames(Array("more".utf8)))
        harness.turns(2)
        #expect(peer.connection.received == Array("more".utf8))
        #expect(harness.violations == [])
    }

    @Test func `backlogs take turns, so a small one does not wait for large ones`() {
        let harness = TransportHarness.compressed()
        // Sixteen use up what is taken in in the poll in which all of them arrive.
        let large = (0..<16).map { _ in harness.openCompressed() }
        let small = harness.openCompressed()
        for peer in large { peer.connection.write(Self.heavy(peer, 60)) }
        small.connection.write(small.frames(Self.send))
        harness.turn()
        #expect(small.connection.received.isEmpty)
        // Two or more are served in a poll, and all of them together need some 60.
        harness.turns(8)
        #expect(small.connection.received == Self.send)
        harness.turns(80)
        for peer in large { #expect(peer.connection.received.count == 60 * 64_000) }
        #expect(harness.violations == [])
    }

    @Test func `a backlog waits while the core wants nothing, and the end waits for the backlog`() {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        peer.connection.write(Self.heavy(peer, 60))
        harness.turn()
        harness.submissions.append(Submission(.pauseReceive, connection: peer.connection.slot))
        harness.turns(3)
        let before = peer.connection.received.count
        #expect(harness.deadline != 0)
        harness.turns(3)
        #expect(peer.connection.received.count == before)
        harness.submissions.append(Submission(.resumeReceive, connection: peer.connection.slot))
        harness.turn()
        #expect(!peer.connection.isReceiving && harness.deadline == 0)
        peer.connection.isReceiving = true
        peer.connection.write(peer.frames(Array("last".utf8)))
        peer.connection.peerEnds = true
        harness.turn()
        #expect(peer.connection.receiveEndCount == 0)
        harness.turns(40)
        #expect(peer.connection.received.count == 60 * 64_000 + 4)
        #expect(peer.connection.received.suffix(4) == Array("last".utf8)[...])
        #expect(peer.connection.receiveEndCount == 1 && peer.connection.closedIsReported)
        #expect(harness.violations == [])
    }

    @Test func `a connection that is closed with a backlog leaves nothing`() {
        for reset in [false, true] {
            let harness = TransportHarness.compressed()
            let peer = harness.openCompressed()
            peer.connection.write(Self.heavy(peer, 60))
            harness.turn()
            harness.close(peer.connection, reset: reset)
            let received = peer.connection.received.count
            peer.connection.peerEnds = true
            harness.turns(4)
            #expect(peer.connection.received.count == received)
            #expect(peer.connection.closedIsReported)
            #expect(harness.layer.compression.slab.liveCount == 0 && harness.layer.connectionCount == 0)
            #expect(harness.violations == [])
        }
    }

    // MARK: Memory

    @Test func `a state is kept only within a message, or with a context`() {
        for takesOver in [false, true] {
            let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
            let peer = harness.openCompressed(takesOver: takesOver)
            let kept = takesOver ? 1 : 0
            #expect(harness.layer.compression.slab.liveCount == kept)
            let idle = harness.layer.compression.byteCount
            let wire = peer.frames(Self.send)
            peer.connection.write(Array(wire[..<30]))
            harness.turn()
            #expect(harness.layer.compression.slab.liveCount == 1)
            #expect(harness.layer.compression.byteCount >= max(idle, 40_000))
            peer.connection.write(Array(wire[30...]))
            harness.turn()
            #expect(harness.layer.compression.slab.liveCount == kept)
            #expect(harness.layer.compression.byteCount == idle)
            peer.connection.peerEnds = true
            harness.turns(4)
            #expect(harness.layer.compression.slab.liveCount == 0)
            #expect(harness.layer.compression.byteCount == 0 && harness.layer.compression.contextByteCount == 0)
            #expect(harness.violations == [])
        }
    }

    @Test func `where memory ends, the message that has waited longest ends its connection`() {
        let harness = TransportHarness.compressed { $0.memoryByteCountMax = 130_000 }
        let peers = (0..<5).map { _ in harness.openCompressed() }
        for (number, peer) in peers.enumerated() {
            peer.connection.write(Array(peer.frames(Self.send)[..<30]))
            harness.turn()
            let waiting = min(number + 1, 3)
            #expect(harness.layer.compression.slab.liveCount == waiting)
        }
        harness.turns(3)
        for (number, peer) in peers.enumerated() {
            let expected = number < 2 ? [WireFrame.close(.noMemoryToInflate)] : []
            #expect(WireFrame.decode(peer.connection.wire).frames == expected)
        }
        #expect(harness.layer.currentCounters().inflationsRefused == 2)
        // Whole messages need no memory of their own.
        let other = harness.openCompressed()
        other.connection.write(other.frames(Self.send))
        harness.turn()
        #expect(other.connection.received == Self.send)
        #expect(harness.layer.compression.slab.liveCount == 3)
        #expect(harness.violations == [])
    }

    @Test func `backlogs that the core does not want have a limit, and keep nobody out`() {
        let harness = TransportHarness.compressed { $0.memoryByteCountMax = 8 << 20 }
        let limit = harness.layer.compression.backlogByteCountMax
        let peers = (0..<40).map { _ in harness.openCompressed() }
        let wire = Self.heavy(peers[0], 400)
        for peer in peers { harness.submissions.append(Submission(.pauseReceive, connection: peer.connection.slot)) }
        harness.turn()
        // As if the driver had received all of it already.
        let chunk = (0..<20).flatMap { _ in wire }
        for peer in peers {
            peer.connection.isReceiving = true
            peer.connection.write(chunk)
            harness.turn()
            peer.connection.isReceiving = false
            #expect(harness.layer.blocks.byteCountInUse <= limit + limit / 2)
        }
        harness.turns(3)
        let refused = peers.filter { $0.connection.receiveEndCount > 0 }
        #expect((10..<30).contains(refused.count))
        for peer in refused {
            #expect(WireFrame.decode(peer.connection.wire).frames == [.close(.noMemoryToInflate)])
        }
        let other = harness.openCompressed()
        other.connection.write(other.frames(Self.send))
        harness.turn()
        #expect(other.connection.received == Self.send)
        for peer in peers { harness.close(peer.connection, reset: true) }
        harness.turns(3)
        #expect(harness.layer.compression.backlogByteCount == 0)
        #expect(harness.violations == [])
    }

    @Test func `contexts take half of the memory, and who comes later gets none`() {
        let harness = TransportHarness.compressed {
            $0.takesOverContext = true
            $0.memoryByteCountMax = 4 << 20
        }
        var answers: [Bool] = []
        for _ in 0..<12 {
            let peer = harness.openCompressed(takesOver: true)
            let record = harness.layer.find(peer.connection.slot)!
            answers.append(record.pointee.compression.clientTakesOver)
        }
        #expect(answers.first == true && answers.last == false)
        #expect(harness.layer.compression.contextByteCount <= 2 << 20)
        #expect(harness.violations == [])
    }
}
