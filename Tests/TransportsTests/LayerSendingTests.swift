import IO
import Slabs
import Testing

@testable import Transports

@Suite("The layer: sending")
struct LayerSendingTests {
    static func frame(_ text: String) -> [UInt8] { Array("MESSAGE\n\n\(text)\0\n".utf8) }

    /// All messages that the peer has received, put together.
    static func messages(_ frames: [WireFrame]) -> [[UInt8]] {
        var messages: [[UInt8]] = []
        var isOpen = false
        for frame in frames where frame.opcode < 8 {
            if isOpen { messages[messages.count - 1] += frame.payload } else { messages.append(frame.payload) }
            isOpen = !frame.isLast
        }
        return messages
    }

    @Test func `text is sent as text, anything else as binary`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        for (bytes, opcode) in [
            (Self.frame("Köln"), 1), (Self.frame("Köln").map { $0 == 0xC3 ? 0xFF : $0 }, 2), ([0x0A], 1),
        ] as [([UInt8], UInt8)] {
            connection.output = [bytes]
            harness.turn()
            #expect(WireFrame.decode(connection.wire).frames == [WireFrame(opcode: opcode, payload: bytes)])
            connection.wire = []
        }
        // A character may lie across runs.
        let bytes = Self.frame("€")
        for split in 1..<bytes.count {
            connection.output = [Array(bytes[..<split]), Array(bytes[split...])]
            harness.turn()
            #expect(WireFrame.decode(connection.wire).frames == [WireFrame(opcode: 1, payload: bytes)])
            connection.wire = []
        }
        #expect(harness.violations == [])
    }

    @Test func `many connections that get the same get the same`() {
        let harness = TransportHarness.webSocket()
        let connections = (0..<10).map { _ in harness.open() }
        for connection in connections { connection.output = [Self.frame("to all"), Self.frame("\u{FC}")] }
        harness.turn()
        for connection in connections {
            #expect(
                Self.messages(WireFrame.decode(connection.wire).frames) == [Self.frame("to all") + Self.frame("\u{FC}")]
            )
            #expect(connection.wire[0] == 0x81)
        }
        #expect(harness.violations == [])
    }

    @Test func `a message ends with a frame of STOMP, also where the send does not`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        // 64 runs a send: the first one ends within a frame.
        let frames = (0..<40).map { Self.frame("number \($0)") }
        connection.output = frames.flatMap { [Array($0[..<9]), Array($0[9...])] }
        connection.output.insert([0x0A], at: 0)
        harness.turns(3)
        let (received, rest) = WireFrame.decode(connection.wire)
        #expect(rest.isEmpty)
        #expect(received.map(\.isLast) == [false, true])
        #expect(received.map(\.opcode) == [2, 0])
        #expect(Self.messages(received) == [[0x0A] + frames.flatMap { $0 }])
        #expect(harness.violations == [])
    }

    @Test func `long sends are cut into messages at the ends of frames`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        let frames = (0..<60).map { Self.frame(String(repeating: "x", count: 17_000 + $0)) }
        connection.output = frames
        harness.turn()
        let received = WireFrame.decode(connection.wire).frames
        #expect(received.count == 15)
        #expect(received.allSatisfy { $0.isLast && $0.opcode == 1 && $0.payload.count < 90_000 })
        #expect(received.allSatisfy { $0.payload.suffix(2) == [0, 0x0A] })
        #expect(Self.messages(received).flatMap { $0 } == frames.flatMap { $0 })
        #expect(harness.violations == [])
    }

    /// Two pings are to be answered, and the core sends three runs of which two are messages of their own.
    private static func prepare(_ zeroCopy: Bool = false) -> (TransportHarness, FakeConnection) {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.usesZeroCopy = zeroCopy
        connection.write(WireFrame(opcode: 9, payload: [1, 2, 3]), WireFrame(opcode: 9, payload: [4]))
        harness.turn()
        return (harness, connection)
    }

    @Test func `a send that falls short at any byte goes on where it stopped`() {
        let large = Self.frame(String(repeating: "y", count: 66_000))
        let output = [Self.frame("first"), large, Self.frame("\u{FC}ber")]
        let (harness, connection) = Self.prepare()
        connection.output = output
        harness.turn()
        let whole = connection.wire
        #expect(Self.messages(WireFrame.decode(whole).frames).count == 2)
        #expect(WireFrame.decode(whole).frames.filter { $0.opcode == 10 }.map(\.payload) == [[1, 2, 3], [4]])

        let interesting = Array(0...60) + [5000] + Array(whole.count - 60..<whole.count)
        for first in interesting {
            for second in [0, 1, 3, 70_000] {
                let (harness, connection) = Self.prepare()
                connection.output = output
                connection.room = first
                harness.turns(2)
                let isWhole = connection.outputByteCount == 0
                // Another ping meanwhile: its answer may not interrupt a frame.
                connection.write(WireFrame(opcode: 9, payload: [9]))
                harness.turns(2)
                connection.room = second
                harness.turns(3)
                connection.room = .max
                harness.turns(4)
                let (frames, rest) = WireFrame.decode(connection.wire)
                #expect(rest.isEmpty, "\(first), \(second)")
                #expect(Self.messages(frames).flatMap { $0 } == output.flatMap { $0 }, "\(first), \(second)")
                #expect(
                    frames.filter { $0.opcode == 10 }.map(\.payload) == [[1, 2, 3], [4], [9]], "\(first), \(second)")
                #expect(connection.outputByteCount == 0 && connection.sentByteCount == output.joined().count)
                #expect(!isWhole || first >= whole.count - 12)
                #expect(harness.violations == [], "\(first), \(second)")
            }
        }
    }

    @Test func `the core is told of its own bytes alone`() {
        // | 2 pongs: 8 | header: 2 | payload: 16 |
        for room in 0...26 {
            let (harness, connection) = Self.prepare()
            connection.output = [Self.frame("12345")]
            connection.room = room
            harness.turn()
            #expect(connection.sentByteCount == max(room - 10, 0), "\(room)")
            #expect(harness.violations == [], "\(room)")
        }
    }

    @Test func `a zero-copy send is carried out as a plain one`() {
        for room in 0...26 {
            let (harness, connection) = Self.prepare(true)
            connection.output = [Self.frame("12345")]
            connection.room = room
            harness.turn()
            #expect(connection.sentByteCount == max(room - 10, 0), "\(room)")
            connection.room = .max
            harness.turns(3)
            #expect(Self.messages(WireFrame.decode(connection.wire).frames) == [Self.frame("12345")], "\(room)")
            #expect(harness.violations == [], "\(room)")
        }
    }

    @Test func `pongs that fall short are finished by the layer itself`() {
        for room in 0...8 {
            let harness = TransportHarness.webSocket()
            let connection = harness.open()
            connection.room = room
            connection.write(WireFrame(opcode: 9, payload: [1, 2, 3]), WireFrame(opcode: 9, payload: [4]))
            harness.turns(3)
            // The core sends meanwhile, which has to wait.
            connection.output = [Self.frame("z")]
            harness.turns(2)
            connection.room = .max
            harness.turns(4)
            let (frames, rest) = WireFrame.decode(connection.wire)
            #expect(rest.isEmpty && frames.map(\.opcode) == [10, 10, 1], "\(room)")
            #expect(harness.violations == [], "\(room)")
        }
    }

    @Test func `a flood of pings is answered by the last ones`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        connection.room = 0
        for number in 0..<100 as Range<UInt8> {
            connection.write(WireFrame(opcode: 9, payload: [UInt8](repeating: number, count: 100)))
        }
        harness.turns(3)
        #expect(harness.layer.blocks.byteCountInUse <= 2048)
        connection.room = .max
        harness.turns(3)
        let frames = WireFrame.decode(connection.wire).frames
        #expect(frames.last?.payload == [UInt8](repeating: 99, count: 100))
        #expect(frames.count <= 10)
        #expect(harness.violations == [])
    }

    @Test(arguments: [0, 1, 101])
    func `a flood of pings from a peer that takes little at a time is bounded, and no pong is cut`(room: Int) {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        for round in 0..<200 as Range<UInt8> {
            connection.room = room
            for _ in 0..<9 {
                connection.write(WireFrame(opcode: 9, payload: [UInt8](repeating: round, count: 100)))
            }
            // A message is begun meanwhile, or waits.
            if round % 50 == 49 { connection.output.append(Self.frame("message \(round)")) }
            harness.turns(2)
            #expect(harness.layer.blocks.byteCountInUse <= 4096)
        }
        connection.room = .max
        harness.turns(4)
        let (frames, rest) = WireFrame.decode(connection.wire)
        #expect(rest.isEmpty)
        #expect(frames.allSatisfy { $0.opcode == 10 ? Set($0.payload).count == 1 && $0.payload.count == 100 : true })
        #expect(Self.messages(frames).flatMap { $0 } == [49, 99, 149, 199].flatMap { Self.frame("message \($0)") })
        #expect(frames.last { $0.opcode == 10 }?.payload == [UInt8](repeating: 199, count: 100))
        #expect(harness.violations == [])
    }

    @Test func `the core's end is a close frame, then the end of the stream`() {
        for room in [0, 1, 3, 4, Int.max] {
            let harness = TransportHarness.webSocket()
            let connection = harness.open()
            connection.room = room
            harness.submissions.append(Submission(.shutdownWrite, connection: connection.slot))
            harness.turns(3)
            #expect(connection.isShutDown == (room >= 4), "\(room)")
            connection.room = .max
            harness.turns(3)
            #expect(connection.wire == [0x88, 2, 0x03, 0xE8] && connection.isShutDown, "\(room)")
            connection.write(WireFrame(opcode: 8, payload: [0x03, 0xE8]))
            harness.turns(3)
            #expect(connection.receiveEndCount == 1 && connection.closedIsReported, "\(room)")
            #expect(harness.violations == [], "\(room)")
        }
    }

    @Test func `a drain is told by the code`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        harness.layer.beginDrain()
        harness.submissions.append(Submission(.shutdownWrite, connection: connection.slot))
        harness.turns(2)
        #expect(connection.wire == [0x88, 23, 0x03, 0xE9] + Array("the broker shuts down".utf8))
        #expect(harness.violations == [])
    }

    @Test func `a reset is a reset, and a close within a frame is one at once`() {
        let harness = TransportHarness.webSocket()
        let reset = harness.open()
        harness.close(reset, reset: true)
        harness.turn()
        #expect(reset.wasReset && reset.closedIsReported && reset.wire.isEmpty)
        let cut = harness.open()
        cut.output = [Self.frame("cut")]
        cut.room = 5
        harness.turn()
        harness.close(cut)
        harness.turns(2)
        #expect(cut.closedIsReported && cut.wire.count == 5)
        #expect(harness.layer.connectionCount == 0 && harness.layer.blocks.byteCountInUse == 0)
        #expect(harness.violations == [])
    }

    @Test func `who was paused is read to the end when it lingers`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.open()
        harness.submissions.append(Submission(.pauseReceive, connection: connection.slot))
        harness.turn()
        harness.close(connection)
        harness.turns(3)
        #expect(connection.isReceiving && connection.isShutDown && !connection.wasClosed)
        connection.peerEnds = true
        harness.turns(2)
        #expect(connection.closedIsReported)
        #expect(harness.violations == [])
    }

    @Test func `before the handshake what the core says is nobody's`() {
        let harness = TransportHarness.webSocket()
        let connection = harness.accept()
        connection.output = [Self.frame("late")]
        harness.turn()
        #expect(connection.wire.isEmpty && connection.sentByteCount == Self.frame("late").count)
        harness.close(connection)
        harness.turns(2)
        #expect(connection.closedIsReported && connection.wire.isEmpty)
        #expect(harness.violations == [])
    }

    @Test func `random conversations arrive whole in both directions`() {
        for seed in 1...200 as ClosedRange<UInt64> {
            var random = Random(seed)
            let harness = TransportHarness.webSocket()
            let connections = (0..<3).map { _ in harness.open() }
            var sent = [[UInt8]](repeating: [], count: 3)
            var outputs = [[UInt8]](repeating: [], count: 3)
            var pingCount = [0, 0, 0]
            for _ in 0..<60 {
                for (place, connection) in connections.enumerated() {
                    switch random.below(6) {
                    case 0:
                        let payload = (0..<random.below(300)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                        var bytes = WireFrame(opcode: 2, payload: payload).masked()
                        sent[place] += payload
                        if random.below(2) == 0 {
                            bytes += WireFrame(opcode: 9, payload: [UInt8(random.below(256))]).masked()
                            pingCount[place] += 1
                        }
                        while !bytes.isEmpty {
                            let count = min(random.below(120) + 1, bytes.count)
                            connection.write(Array(bytes[..<count]))
                            bytes.removeFirst(count)
                        }
                    case 1, 2:
                        var bytes = Self.frame(String(repeating: "é", count: random.below(200)))
                        outputs[place] += bytes
                        while !bytes.isEmpty {
                            let count = min(random.below(150) + 1, bytes.count)
                            connection.output.append(Array(bytes[..<count]))
                            bytes.removeFirst(count)
                        }
                    case 3: connection.room = random.below(80)
                    case 4: connection.room = .max
                    default: break
                    }
                }
                harness.turn()
            }
            for connection in connections { connection.room = .max }
            harness.turns(10)
            for (place, connection) in connections.enumerated() {
                let (frames, rest) = WireFrame.decode(connection.wire)
                #expect(connection.received == sent[place], "seed \(seed)")
                #expect(rest.isEmpty, "seed \(seed)")
                #expect(frames.filter { $0.opcode < 8 }.flatMap(\.payload) == outputs[place], "seed \(seed)")
                #expect(frames.count { $0.opcode == 10 } == pingCount[place], "seed \(seed)")
            }
            #expect(harness.violations == [], "seed \(seed)")
        }
    }
}
