import IO
import Slabs
import Testing

@testable import Transports

@Suite("The layer: sending what is compressed")
struct DeflatingLayerTests {
    private static func frame(_ text: String) -> [UInt8] { LayerSendingTests.frame(text) }

    private static func text(_ count: Int) -> String {
        String((0..<count / 20).map { "number \($0 % 97), then; " }.joined().prefix(count))
    }

    private static func noise(_ count: Int) -> [UInt8] {
        var random = Random(UInt64(count))
        let body = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        return Array("MESSAGE\n\n".utf8) + body + [0, 10]
    }

    @Test(arguments: [false, true])
    func `messages are compressed from a size on, as text if they are text`(takesOver: Bool) {
        let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
        let peer = harness.openCompressed(takesOver: takesOver)
        let long = Self.frame(Self.text(400))
        for (bytes, opcode, isCompressed) in [
            ([0x0A], 1, false), (Self.frame("short"), 1, false), (long, 1, true),
            (long.map { $0 == 0x6E ? 0xFF : $0 }, 2, true), (long, 1, true),
        ] as [([UInt8], UInt8, Bool)] {
            peer.connection.output = [bytes]
            harness.turn()
            #expect(
                peer.messages() == [
                    CompressedPeer.Message(opcode: opcode, isCompressed: isCompressed, payload: bytes)
                ])
        }
        #expect(peer.connection.outputByteCount == 0)
        // With a context the second time takes next to nothing.
        #expect(peer.connection.wire.count < (takesOver ? 420 : 600))
        #expect(harness.layer.currentCounters().deflatedInput == UInt64(3 * long.count))
        #expect(harness.violations == [])
    }

    @Test func `what does not become smaller is sent as it is`() {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        let noise = Self.noise(5000)
        peer.connection.output = [noise]
        harness.turn()
        #expect(peer.messages() == [CompressedPeer.Message(opcode: 2, isCompressed: false, payload: noise)])
        // Within a long message there is no choice, and blocks are stored.
        let long = Self.frame(Self.text(20_000)) + Self.noise(60_000)
        peer.connection.output = [Array(long.dropLast(2)), Array(long.suffix(2))]
        harness.turns(4)
        #expect(peer.bytes == long)
        #expect(harness.violations == [])
    }

    @Test func `many connections get the same bytes, which are deflated once`() {
        let harness = TransportHarness.compressed()
        let peers = (0..<20).map { _ in harness.openCompressed() }
        let (first, second) = (Self.frame(Self.text(900)), Self.frame(Self.text(300)))
        harness.sharesRuns = true
        for peer in peers { peer.connection.output = [first, second] }
        harness.turn()
        for peer in peers {
            #expect(peer.messages() == [CompressedPeer.Message(opcode: 1, isCompressed: true, payload: first + second)])
        }
        #expect(harness.layer.compression.pieces.byteCount == first.count + second.count)
        #expect(harness.layer.currentCounters().deflatedInput == UInt64(20 * (first.count + second.count)))
        #expect(harness.violations == [])
    }

    @Test func `pieces are found by the place and length of their runs, and by their window`() throws {
        let states = try CompressionStates([], connectionCountMax: 1)
        var pieces = DeflatedPieces()
        let bytes = Array(Self.text(2000).utf8)
        try withBytes(bytes) { bytes in
            let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress!)
            func add(_ ranges: [Range<Int>]) -> Int {
                let first = pieces.runs.count
                for range in ranges { pieces.append(.init(iov_base: base + range.lowerBound, iov_len: range.count)) }
                return first
            }
            var first = add([0..<500, 500..<900])
            #expect(pieces.find(first: first, windowBits: 15) == nil)
            let stream = states.sharedWriter(windowBits: 15)
            let writer = try #require(stream)
            let piece = pieces.deflate(writer, first: first, windowBits: 15, isShared: true)
            let made = try #require(piece)
            #expect(made.isText && made.bytes != nil && made.byteCount < 900)
            let runCount = pieces.runs.count
            first = add([0..<500, 500..<900])
            #expect(pieces.find(first: first, windowBits: 15)?.bytes == made.bytes)
            #expect(pieces.runs.count == runCount)
            for (ranges, windowBits) in [([0..<900], 15), ([0..<500, 500..<901], 15), ([0..<500, 500..<900], 14)] {
                first = add(ranges)
                #expect(pieces.find(first: first, windowBits: windowBits) == nil)
                pieces.drop(first)
            }
            #expect(pieces.byteCount == 900)
            pieces.removeAll()
            first = add([0..<500, 500..<900])
            #expect(pieces.find(first: first, windowBits: 15) == nil)
        }
    }

    @Test(arguments: ["", "; server_max_window_bits=9"])
    func `long sends are cut into messages and fragments, and reported as taken in part`(parameters: String) {
        let harness = TransportHarness.compressed()
        let connection = harness.openCompressed(parameters).connection
        let peer = CompressedPeer(connection, windowBits: parameters.isEmpty ? 15 : 9)
        let frames =
            (0..<40).map { Self.frame(Self.text(1000 + 900 * $0)) } + [
                Self.frame(Self.text(200_000)), Self.noise(70_000),
            ]
        connection.output = frames
        harness.turn()
        #expect(connection.outputByteCount > 0)
        harness.turns(40)
        #expect(connection.outputByteCount == 0)
        let messages = peer.messages()
        #expect(messages.flatMap(\.payload) == frames.flatMap { $0 })
        #expect(
            messages.dropLast().allSatisfy { $0.opcode == 1 && $0.isCompressed && $0.payload.suffix(2) == [0, 10] })
        #expect(harness.violations == [])
    }

    @Test(arguments: [false, true], [false, true])
    func `a send that falls short at any byte goes on where it stopped`(takesOver: Bool, zeroCopy: Bool) {
        let output = [
            Self.frame(Self.text(700)), Self.frame("tiny"), Self.frame(Self.text(70_000)), Self.noise(40_000),
            Self.frame(Self.text(300)),
        ]
        func prepare() -> (TransportHarness, CompressedPeer) {
            let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
            let peer = harness.openCompressed(takesOver: takesOver)
            peer.connection.usesZeroCopy = zeroCopy
            peer.connection.write(WireFrame(opcode: 9, payload: [1, 2, 3]), WireFrame(opcode: 9, payload: [4]))
            harness.turn()
            peer.connection.output = zeroCopy ? [output.flatMap { $0 }] : output
            return (harness, peer)
        }
        let (harness, peer) = prepare()
        harness.turns(12)
        #expect(peer.bytes == output.flatMap { $0 })
        let length = peer.connection.wire.count
        let interesting = Array(0...40) + stride(from: 41, to: length, by: 997) + Array(length - 20..<length)
        for first in interesting {
            for second in [0, 1, 5, 40_000] {
                let (harness, peer) = prepare()
                peer.connection.room = first
                harness.turns(3)
                peer.connection.write(WireFrame(opcode: 9, payload: [9]))
                harness.turns(2)
                peer.connection.room = second
                harness.turns(3)
                peer.connection.room = .max
                harness.turns(14)
                #expect(WireFrame.decode(peer.connection.wire).rest.isEmpty, "\(first), \(second)")
                #expect(peer.bytes == output.flatMap { $0 }, "\(first), \(second)")
                let pongs = WireFrame.decode(peer.connection.wire).frames.filter { $0.opcode == 10 }
                #expect(pongs.map(\.payload) == [[1, 2, 3], [4], [9]], "\(first), \(second)")
                #expect(peer.connection.outputByteCount == 0)
                #expect(peer.connection.sentByteCount == output.joined().count)
                #expect(harness.violations == [], "\(first), \(second)")
                if !harness.violations.isEmpty { return }
            }
        }
    }

    @Test func `a send that ends within a frame of STOMP is a message that goes on with the next`() {
        for takesOver in [false, true] {
            let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
            let peer = harness.openCompressed(takesOver: takesOver)
            let whole = Self.frame(Self.text(3000))
            for part in [whole[..<1000], whole[1000..<1001], whole[1001...]] {
                peer.connection.output = [Array(part)]
                harness.turns(2)
            }
            let messages = peer.messages()
            #expect(messages == [CompressedPeer.Message(opcode: 2, isCompressed: true, payload: whole)])
            peer.connection.output = [whole]
            harness.turn()
            #expect(peer.messages().map(\.opcode) == [1])
            #expect(harness.violations == [])
        }
    }

    @Test func `the end waits for what is left, and the close frame comes last`() {
        let harness = TransportHarness.compressed()
        let peer = harness.openCompressed()
        peer.connection.output = [Self.frame(Self.text(100_000))]
        peer.connection.ends = true
        peer.connection.room = 500
        harness.turns(4)
        #expect(!peer.connection.isShutDown)
        peer.connection.room = .max
        harness.turns(10)
        #expect(peer.connection.isShutDown)
        #expect(peer.bytes == Self.frame(Self.text(100_000)))
        #expect(WireFrame.decode(peer.connection.wire).frames.last == WireFrame(opcode: 8, payload: [0x03, 0xE8]))
        #expect(harness.violations == [])
    }

    @Test(arguments: [false, true])
    func `a flood of pings while a piece waits is bounded, and neither is cut`(takesOver: Bool) {
        let harness = TransportHarness.compressed { $0.takesOverContext = takesOver }
        let peer = harness.openCompressed(takesOver: takesOver)
        let output = [Self.noise(30_000), Self.frame(Self.text(60_000)), Self.noise(30_000)]
        peer.connection.output = output
        for round in 0..<200 as Range<UInt8> {
            peer.connection.room = round % 3 == 0 ? 300 : 1
            for _ in 0..<9 {
                peer.connection.write(WireFrame(opcode: 9, payload: [UInt8](repeating: round, count: 100)))
            }
            harness.turns(2)
            #expect(harness.layer.blocks.byteCountInUse <= 128 << 10)
        }
        peer.connection.room = .max
        harness.turns(10)
        #expect(WireFrame.decode(peer.connection.wire).rest.isEmpty)
        #expect(peer.bytes == output.flatMap { $0 })
        let pongs = WireFrame.decode(peer.connection.wire).frames.filter { $0.opcode == 10 }
        #expect(pongs.last?.payload == [UInt8](repeating: 199, count: 100))
        #expect(harness.violations == [])
    }

    @Test func `beyond what may be deflated in a poll, messages leave as they are`() {
        let harness = TransportHarness.compressed()
        let peers = (0..<40).map { _ in harness.openCompressed() }
        let bytes = Self.frame(Self.text(20_000))
        for peer in peers { peer.connection.output = [bytes] }
        harness.turn()
        let compressed = peers.map { $0.messages().map(\.isCompressed) }
        #expect(compressed.first == [true] && compressed.last == [false])
        #expect(harness.layer.currentCounters().deflatedInput < 400_000)
        harness.turn()
        for peer in peers { peer.connection.output = [bytes] }
        harness.turn()
        #expect(peers[0].messages().map(\.isCompressed) == [true])
        #expect(harness.violations == [])
        // With contexts too.
        let other = TransportHarness.compressed { $0.takesOverContext = true }
        let takers = (0..<40).map { _ in other.openCompressed(takesOver: true) }
        for peer in takers { peer.connection.output = [bytes, Self.frame(Self.text(50_000))] }
        other.turns(30)
        for peer in takers { #expect(peer.bytes == bytes + Self.frame(Self.text(50_000))) }
        #expect(other.violations == [])
    }

    @Test func `a send that fails is told to the core`() {
        for count in [2000, 400_000] {
            let harness = TransportHarness.compressed()
            let peer = harness.openCompressed()
            peer.connection.output = [Self.frame(Self.text(count))]
            peer.connection.sendFailure = 104
            harness.turns(3)
            #expect(peer.connection.failure == -104)
            #expect(peer.connection.closedIsReported)
            #expect(harness.violations == [])
        }
    }
}
