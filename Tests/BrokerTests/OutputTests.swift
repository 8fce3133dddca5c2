import Glibc
import IO
import Slabs
import Testing

@testable import Broker

/// One send, as a driver sees it.
private struct Send: Equatable {
    var session: Int
    var kind: Submission.Kind
    var pieces: [String]

    init(_ session: Int, _ pieces: String..., kind: Submission.Kind? = nil) {
        self.init(session, pieces, kind: kind)
    }

    init(_ session: Int, _ pieces: [String], kind: Submission.Kind? = nil) {
        self.session = session
        self.kind = kind ?? (pieces.count == 1 ? .send : .sendVector)
        self.pieces = pieces
    }

    var text: String { pieces.joined() }
}

/// The output of some sessions, and the memory that it is lent. In a class, for what cannot be copied is no argument of
/// `#expect`.
private final class Fixture {
    var part: Output
    var memory: MemoryBudget
    var clock: UInt32 = 0
    private var sessions: Slab<Session>
    private var submissions = Batch<Submission>(capacity: 16)

    /// - Parameters:
    ///   - segmentCountMax: 4 at least, rounded down to a multiple of 4.
    init(
        sessions sessionCount: Int = 1, byteCountMax: Int = 8 << 20, segmentCountMax: Int = 4000,
        zeroCopyByteCountMin: Int = 0, vectorCountMax: Int = 1 << 12
    ) throws {
        var limits = Limits()
        limits.messageMemoryByteCountMax = byteCountMax
        // As many segments as `Output` has for so many connections whose output is next to nothing.
        limits.connectionCountMax = segmentCountMax / 4
        limits.outputByteCountMax = 500
        part = try Output(limits, zeroCopyByteCountMin: zeroCopyByteCountMin, vectorCountMax: vectorCountMax)
        memory = try MemoryBudget(limits)
        var sessions = try Slab<Session>(recordCountMax: sessionCount)
        for _ in 0..<sessionCount {
            let index: Index<Session> = sessions.allocate().index
            sessions[index].pointee.index = index
            sessions[index].pointee.state = .connected
        }
        self.sessions = sessions
    }

    /// Sessions count from 0.
    subscript(_ session: Int) -> UnsafeMutablePointer<Session> { sessions[Index(UInt32(session + 1))] }

    var segmentCount: Int { part.segmentCount }
    var blockByteCount: Int { memory.blocks.byteCountInUse }
    var dirtyCount: Int { part.dirtyCount }
    var deliversSparingly: Bool { memory.deliversSparingly }
    func hasMemory(_ byteCount: Int) -> Bool { Output.hasMemory(byteCount, memory) }
    func byteCount(_ session: Int = 0) -> Int { Int(self[session].pointee.outputByteCount) }
    func has(_ flag: SessionFlags, _ session: Int = 0) -> Bool { self[session].pointee.flags.contains(flag) }
    func isTooFarBehind(_ session: Int = 0) -> Bool { part.isTooFarBehind(self[session]) }

    // MARK: Appending

    /// Writes to room of the session's own.
    @discardableResult
    func write(_ text: String, to session: Int = 0, reserving byteCountMax: Int? = nil) -> Bool {
        let byteCount = text.utf8.count
        guard let room = part.reserve(self[session], byteCountMax ?? byteCount, clock: clock, &memory) else {
            return false
        }
        UnsafeMutableRawBufferPointer(start: room, count: byteCount).copyBytes(from: text.utf8)
        part.commit(self[session], byteCount, &memory)
        return true
    }

    /// A block that the test has one reference to.
    func block(_ text: String) -> BlockIndex {
        let block = memory.blocks.allocate(byteCount: text.utf8.count)
        UnsafeMutableRawBufferPointer(start: memory.blocks.base(block), count: text.utf8.count)
            .copyBytes(from: text.utf8)
        return block
    }

    @discardableResult
    func append(_ block: BlockIndex, _ range: Range<Int>, to session: Int = 0) -> Bool {
        part.append(
            self[session], block, offset: range.lowerBound, byteCount: range.count, clock: clock, &memory)
    }

    /// A run that only this session gets.
    @discardableResult
    func share(_ text: String, with session: Int = 0) -> Bool {
        let block = block(text)
        defer { memory.blocks.release(block) }
        return append(block, 0..<text.utf8.count, to: session)
    }

    func referenceCount(_ block: BlockIndex) -> Int { memory.blocks.referenceCount(block) }
    func release(_ block: BlockIndex) { memory.blocks.release(block) }

    /// All of the pool but what is less than `byteCount`.
    func takeAll(byteCount: Int) -> [BlockIndex] {
        var blocks: [BlockIndex] = []
        while case let block = memory.blocks.allocate(byteCount: byteCount), block != 0 { blocks.append(block) }
        return blocks
    }

    // MARK: Exchanges

    /// Builds the sends of an exchange, as the shard does, and takes what they say.
    func buildSends() -> [Send] {
        submissions.removeAll()
        part.beginSends()
        offer(upTo: Output.shortByteCountMax)
        if part.dirtyCount > 0 { offer(upTo: .max) }
        return takeSends()
    }

    @discardableResult
    func offer(upTo byteCountMax: UInt32) -> [SendOutcome] {
        let count = part.dirtyCount
        var outcomes: [SendOutcome] = []
        for place in 0..<count {
            guard let session = sessions.find(part.dirtySession(at: place)) else { continue }
            outcomes.append(part.buildSend(session, upTo: byteCountMax, clock: clock, memory, &submissions))
        }
        part.endBuilding(of: count)
        return outcomes
    }

    private func takeSends() -> [Send] {
        var sends: [Send] = []
        for place in 0..<submissions.count {
            let submission = submissions[place]
            var vectors = [iovec(iov_base: UnsafeMutableRawPointer(mutating: submission.pointer), iov_len: 0)]
            if submission.kind == .sendVector {
                let start = submission.pointer!.assumingMemoryBound(to: iovec.self)
                vectors = Array(UnsafeBufferPointer(start: start, count: submission.byteCount))
                #expect(Int(submission.value) == vectors.reduce(0) { $0 + $1.iov_len })
            } else {
                vectors[0].iov_len = submission.byteCount
            }
            let pieces = vectors.map {
                String(decoding: UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len), as: UTF8.self)
            }
            sends.append(Send(Int(submission.connection.index) - 1, pieces, kind: submission.kind))
        }
        submissions.removeAll()
        return sends
    }

    /// The exchange is over. `incomplete` are the results of sends that were not taken whole.
    @discardableResult
    func finish(_ incomplete: [Int: Int32] = [:]) -> [SendEnd] {
        for (session, result) in incomplete { part.noteIncomplete(self[session], result) }
        var ends: [SendEnd] = []
        for place in 0..<part.sentCount {
            let session = sessions[part.sentSession(at: place)]
            ends.append(part.finish(session, clock: clock, &memory))
            if !session.pointee.output.isEmpty { part.markDirty(session) }
        }
        part.forgetSent()
        return ends
    }

    func finishZeroCopy(_ result: Int32, _ session: Int = 0) -> SendEnd {
        let end = part.finishZeroCopy(self[session], result, clock: clock, &memory)
        if !self[session].pointee.output.isEmpty { part.markDirty(self[session]) }
        return end
    }

    /// The kind of the submission that this makes.
    func awaitWritable(_ session: Int = 0) -> [Submission.Kind] {
        submissions.removeAll()
        part.awaitWritable(self[session], &submissions)
        defer { submissions.removeAll() }
        return (0..<submissions.count).map { submissions[$0].kind }
    }

    func writable(_ session: Int = 0) { part.writable(self[session]) }
    func markDirty(_ session: Int = 0) { part.markDirty(self[session]) }

    @discardableResult
    func drop(_ session: Int = 0, isReleased: Bool = false) -> Int {
        part.drop(self[session], isReleased: isReleased, &memory)
    }

    /// Builds sends and has them taken until nothing waits. What they said, for each session.
    func drain() -> [Int: String] {
        var texts: [Int: String] = [:]
        while part.dirtyCount > 0 {
            for send in buildSends() { texts[send.session, default: ""] += send.text }
            finish()
        }
        return texts
    }

    func forget(_ session: Int) { sessions.free(Index(UInt32(session + 1))) }
}

/// What waits to be sent, and one send for each session and turn, without a worker.
@Suite("Output")
struct OutputTests {
    // MARK: Appending

    @Test("Small frames travel together, in a block of the session's own")
    func coalesces() throws {
        let output = try Fixture()
        for text in ["one ", "two ", "three"] { output.write(text, reserving: 100) }
        #expect(output.segmentCount == 1 && output.byteCount() == 13 && output.dirtyCount == 1)
        #expect(output.buildSends() == [Send(0, "one two three")])
        output.finish()
        #expect(output.segmentCount == 0 && output.byteCount() == 0 && output.blockByteCount == 0)
        #expect(output[0].pointee.outputPosition == 13 && !output.has(.tailIsOwn) && output.dirtyCount == 0)
    }

    @Test("Blocks of a session's own grow while more waits, and not while memory is short", arguments: [false, true])
    func growsBlocks(isShort: Bool) throws {
        let output = try Fixture(byteCountMax: 1 << 20)
        let blocks = isShort ? (0..<17).map { _ in output.block(String(repeating: "b", count: 64 << 10)) } : []
        #expect(output.deliversSparingly == isShort)
        let text = String(repeating: "x", count: 500)
        for _ in 0..<200 { output.write(text) }
        #expect(output.byteCount() == 100_000)
        // 512 bytes, 2, 8 and 32 KiB, and twice 64; or 512 bytes each time.
        #expect(isShort ? output.segmentCount == 200 : (4...6).contains(output.segmentCount))
        output.drop()
        for block in blocks { output.release(block) }
        #expect(output.blockByteCount == 0)
    }

    @Test("A frame that is larger than any block of a session's own gets one of its size")
    func largeFrame() throws {
        let output = try Fixture()
        let large = String(repeating: "l", count: 200_000)
        output.write("small")
        output.write(large)
        output.write("after")
        let sends = output.buildSends()
        #expect(sends.map(\.text) == ["small\(large)after"])
        #expect(sends[0].pieces.first == "small")
        output.finish()
        #expect(output.blockByteCount == 0)
    }

    @Test("A run that many get is referenced, and let go when the last of them has sent it")
    func sharesRuns() throws {
        let output = try Fixture(sessions: 3)
        let run = output.block("0123456789")
        for session in 0..<3 { output.append(run, 2..<8, to: session) }
        #expect(output.referenceCount(run) == 4 && output.segmentCount == 3)
        output.release(run)
        #expect(output.buildSends() == [Send(0, "234567"), Send(1, "234567"), Send(2, "234567")])
        output.finish([1: 5])
        #expect(output.referenceCount(run) == 1 && output.byteCount(1) == 1)
        #expect(output.buildSends() == [Send(1, "7")])
        output.finish()
        #expect(output.blockByteCount == 0 && output.segmentCount == 0)
    }

    @Test("Nothing is written behind a shared run, and what is written before and after it keeps its order")
    func ownAndShared() throws {
        let output = try Fixture()
        let run = output.block("RUN")
        output.write("before")
        output.append(run, 0..<3)
        #expect(!output.has(.tailIsOwn))
        output.write("after")
        output.write(" that")
        #expect(output.buildSends() == [Send(0, "before", "RUN", "after that")])
        output.finish()
        #expect(output.referenceCount(run) == 1)
        output.release(run)
        #expect(output.blockByteCount == 0)
    }

    @Test("Who waits for the socket copies short runs and shares long ones")
    func copiesWhileWaiting() throws {
        let output = try Fixture()
        #expect(output.awaitWritable() == [.awaitWritable])
        let run = output.block(String(repeating: "r", count: Output.copiedByteCountMax + 1))
        output.append(run, 0..<Output.copiedByteCountMax)
        #expect(output.referenceCount(run) == 1 && output.has(.tailIsOwn))
        output.append(run, 0..<Output.copiedByteCountMax + 1)
        #expect(output.referenceCount(run) == 2 && !output.has(.tailIsOwn))
        #expect(output.buildSends() == [])
        output.writable()
        #expect(output.drain()[0]?.utf8.count == Output.copiedByteCountMax * 2 + 1)
        output.release(run)
        #expect(output.blockByteCount == 0)
    }

    @Test("The position counts what was ever appended, and the time that of the first byte that waits")
    func positions() throws {
        let output = try Fixture()
        output.clock = 5
        output.write("1234")
        output.clock = 6
        output.share("5678")
        #expect(output[0].pointee.outputPosition == 8 && output[0].pointee.lastProgress == 5)
        output.clock = 7
        _ = output.buildSends()
        #expect(output[0].pointee.lastSent == 7 && output[0].pointee.lastProgress == 5)
        output.clock = 8
        output.finish([0: 1])
        #expect(output[0].pointee.outputPosition == 8 && output[0].pointee.lastProgress == 8)
        #expect(output.byteCount() == 7)
        output.clock = 9
        output.write("9")
        _ = output.buildSends()
        output.finish([0: 0])
        // A send of which nothing was taken is no progress.
        #expect(output[0].pointee.lastProgress == 8 && output[0].pointee.lastSent == 9)
        output.drop()
    }

    @Test("One byte more than the limit is too far behind")
    func limit() throws {
        let output = try Fixture()
        output.write(String(repeating: "x", count: 500))
        #expect(!output.isTooFarBehind())
        output.write("y")
        #expect(output.isTooFarBehind())
        output.drop()
        #expect(!output.isTooFarBehind())
    }

    // MARK: No memory

    @Test("Without memory nothing is written, and the output stays as it was")
    func noMemory() throws {
        let output = try Fixture(byteCountMax: 1 << 20)
        let run = output.block("a run that is shared")
        #expect(output.hasMemory(1000))
        let blocks = output.takeAll(byteCount: 32)
        #expect(!output.hasMemory(1))
        #expect(!output.write("own"))
        #expect(output.segmentCount == 0 && output.dirtyCount == 0 && output.byteCount() == 0)
        // To share takes a segment alone; to copy takes a block.
        #expect(output.append(run, 0..<5))
        _ = output.awaitWritable()
        #expect(!output.append(run, 0..<5))
        #expect(output.segmentCount == 1 && output.byteCount() == 5 && output.referenceCount(run) == 2)
        for block in blocks { output.release(block) }
        #expect(output.append(run, 0..<5))
        output.drop()
        output.release(run)
        #expect(output.blockByteCount == 0)
    }

    @Test("Without a segment nothing is appended, and no reference is kept")
    func noSegments() throws {
        let output = try Fixture(segmentCountMax: 4)
        let run = output.block("run")
        for _ in 0..<4 { #expect(output.append(run, 0..<3)) }
        let before = output.blockByteCount
        #expect(!output.append(run, 0..<3))
        #expect(output.referenceCount(run) == 5 && output.byteCount() == 12)
        #expect(!output.write("own"))
        #expect(output.blockByteCount == before && output.byteCount() == 12 && output.segmentCount == 4)
        #expect(output.drain() == [0: "runrunrunrun"])
        #expect(output.write("own"))
        output.drop()
        output.release(run)
        #expect(output.blockByteCount == 0)
    }

    // MARK: Building sends

    @Test("A session gets one send, whatever it gained, and none while nothing is new")
    func oneSend() throws {
        let output = try Fixture(sessions: 2)
        output.write("a", to: 1)
        output.write("b", to: 0)
        output.share("c", with: 1)
        #expect(output.dirtyCount == 2)
        #expect(output.buildSends() == [Send(1, "a", "c"), Send(0, "b")])
        #expect(output.dirtyCount == 0)
        output.finish()
        #expect(output.buildSends() == [])
    }

    @Test("Short sends go before long ones")
    func shortFirst() throws {
        let output = try Fixture(sessions: 3)
        let long = String(repeating: "l", count: Int(Output.shortByteCountMax) + 1)
        output.share(long, with: 0)
        output.write("short", to: 1)
        output.share(String(long.dropFirst()), with: 2)
        #expect(output.buildSends().map(\.session) == [1, 2, 0])
        output.finish()
        #expect(output.blockByteCount == 0)
    }

    @Test("A send takes 64 segments, and the next exchange the others")
    func manySegments() throws {
        let output = try Fixture()
        for number in 0..<100 { output.share("\(number),") }
        let first = output.buildSends()
        #expect(first.count == 1 && first[0].pieces.count == 64)
        #expect(output.dirtyCount == 0)
        output.finish()
        #expect(output.segmentCount == 36 && output.dirtyCount == 1)
        let second = output.buildSends()
        #expect(second.count == 1 && second[0].pieces.count == 36)
        #expect(first[0].text + second[0].text == (0..<100).map { "\($0)," }.joined())
        output.finish()
        #expect(output.segmentCount == 0 && output.blockByteCount == 0)
    }

    @Test("A send that has a megabyte takes no further segment")
    func largeSend() throws {
        let output = try Fixture()
        let pieces = ["a", "b", "c"].map { String(repeating: $0, count: 600 << 10) }
        for piece in pieces { output.share(piece) }
        // Compared without a text of megabytes in the report.
        let (first, second) = (output.buildSends() == [Send(0, pieces[0], pieces[1])], output.finish())
        #expect(first && second == [.whole(byteCount: 1200 << 10)])
        let last = output.buildSends() == [Send(0, pieces[2])]
        #expect(last)
        output.finish()
        #expect(output.blockByteCount == 0)
    }

    @Test("When an exchange has no vectors left, the others go on in the next one")
    func noVectors() throws {
        // Two sends of two vectors: for a third there may not be as many as a send can take.
        let output = try Fixture(sessions: 5, vectorCountMax: VectorArena.perSendMax + 2)
        for session in 0..<4 {
            output.share("a\(session)", with: session)
            output.share("b\(session)", with: session)
        }
        output.share("one", with: 4)
        #expect(output.buildSends() == [Send(0, "a0", "b0"), Send(1, "a1", "b1"), Send(4, "one")])
        #expect(output.dirtyCount == 2 && output.has(.dirty, 2) && output.has(.dirty, 3))
        output.write("more", to: 0)
        output.finish()
        #expect(output.buildSends() == [Send(2, "a2", "b2"), Send(3, "a3", "b3"), Send(0, "more")])
        output.finish()
        #expect(output.dirtyCount == 0 && output.blockByteCount == 0)
    }

    @Test("Nothing is sent to a session that closes, one that is gone, or one with nothing to send")
    func notSent() throws {
        let output = try Fixture(sessions: 4)
        for session in 0..<3 { output.write("x", to: session) }
        output.markDirty(3)
        output.markDirty(3)
        #expect(output.dirtyCount == 4)
        output[0].pointee.state = .closing
        output.drop(1)
        output.forget(1)
        #expect(output.offer(upTo: .max) == [.waits, .sent, .isEmpty])
        #expect(output.dirtyCount == 0 && !output.has(.dirty, 0) && !output.has(.dirty, 3))
        output.finish()
        output.drop(0)
        #expect(output.blockByteCount == 0)
    }

    @Test("Who gains output while sends are built is looked at next time")
    func gainsMeanwhile() throws {
        let output = try Fixture(sessions: 2)
        output.write("first", to: 0)
        output.part.beginSends()
        let count = output.dirtyCount
        output.write("second", to: 1)
        output.part.endBuilding(of: count)
        #expect(output.dirtyCount == 1 && output.has(.dirty, 1))
        #expect(output.buildSends() == [Send(1, "second")])
        output.finish()
        output.drop(0)
        #expect(output.blockByteCount == 0)
    }

    // MARK: Settling sends

    @Test("A send may stop at any byte, and the rest is sent from there", arguments: [1, 3])
    func partialSends(pieceCount: Int) throws {
        let texts = pieceCount == 1 ? ["0123456789"] : ["012", "34567", "89"]
        for taken in 0..<10 {
            let output = try Fixture()
            for text in texts { output.share(text) }
            #expect(output.buildSends().map(\.text) == ["0123456789"])
            #expect(output.finish([0: Int32(taken)]) == [.fellShort(byteCount: taken)])
            #expect(output.byteCount() == 10 - taken)
            #expect(output.awaitWritable() == [.awaitWritable] && output.has(.awaitsWritable))
            output.write("+")
            #expect(output.buildSends() == [])
            output.writable()
            #expect(output.buildSends().map(\.text) == [String("0123456789+".dropFirst(taken))])
            #expect(output.finish() == [.whole(byteCount: 11 - taken)])
            #expect(output.segmentCount == 0 && output.blockByteCount == 0 && output.byteCount() == 0)
        }
    }

    @Test("What is written behind the bytes of a send that fell short stays behind them")
    func writesBehind() throws {
        let output = try Fixture()
        output.write("0123456789")
        _ = output.buildSends()
        output.finish([0: 4])
        output.write("abc")
        #expect(output.segmentCount == 1)
        #expect(output.buildSends() == [Send(0, "456789abc")])
        output.finish()
        #expect(output.blockByteCount == 0)
    }

    @Test("A send that failed leaves the output as it was, and only that session's")
    func failedSend() throws {
        let output = try Fixture(sessions: 2)
        output.write("x", to: 0)
        output.write("yz", to: 1)
        _ = output.buildSends()
        #expect(output.finish([0: -EPIPE]) == [.failed, .whole(byteCount: 2)])
        #expect(output.byteCount(0) == 1 && output.byteCount(1) == 0 && !output.has(.sendIncomplete, 0))
        #expect(output.drop(0) == 1)
        #expect(output.blockByteCount == 0)
    }

    // MARK: Zero-copy

    @Test("A large segment that is alone is sent zero-copy, and kept until the kernel has let go of it")
    func zeroCopy() throws {
        let output = try Fixture(zeroCopyByteCountMin: 10)
        output.share("0123456789")
        #expect(output.buildSends() == [Send(0, "0123456789", kind: .sendZeroCopy)])
        #expect(output.finish() == [])
        output.write("next")
        #expect(output.buildSends() == [] && output.segmentCount == 2)
        #expect(output.finishZeroCopy(10) == .whole(byteCount: 10))
        #expect(output.buildSends() == [Send(0, "next")])
        output.finish()
        #expect(output.blockByteCount == 0)
    }

    @Test("Short segments, and several, are not sent zero-copy")
    func noZeroCopy() throws {
        let output = try Fixture(sessions: 2, zeroCopyByteCountMin: 10)
        output.share("012345678", with: 0)
        output.share("0123456789", with: 1)
        output.share("0123456789", with: 1)
        #expect(output.buildSends() == [Send(0, "012345678"), Send(1, "0123456789", "0123456789")])
        output.finish()
        #expect(output.blockByteCount == 0)
    }

    @Test("A zero-copy send may stop at any byte, also before the first, and the rest is sent from there")
    func partialZeroCopy() throws {
        for taken in 0..<10 {
            let output = try Fixture(zeroCopyByteCountMin: 10)
            output.share("0123456789")
            _ = output.buildSends()
            let end = output.finishZeroCopy(taken == 0 ? -EAGAIN : Int32(taken))
            #expect(end == .fellShort(byteCount: taken))
            _ = output.awaitWritable()
            output.writable()
            #expect(output.drain() == [0: String("0123456789".dropFirst(taken))])
            if taken == 0 { #expect(output.finishZeroCopy(10) == .whole(byteCount: 10)) }
            #expect(output.segmentCount == 0 && output.blockByteCount == 0)
        }
    }

    @Test("What the kernel reads is not dropped before it has let go of it")
    func droppedZeroCopy() throws {
        let output = try Fixture(zeroCopyByteCountMin: 10)
        output.share("0123456789")
        output.write("x")
        #expect(output.buildSends().map(\.kind) == [.sendVector])
        output.finish([0: 10])
        #expect(output.drop() == 1)
        output.share("0123456789")
        _ = output.buildSends()
        output.write("y")
        #expect(output.drop() == 0 && output.segmentCount == 2 && output.byteCount() == 11)
        #expect(output.finishZeroCopy(-EPIPE) == .failed)
        #expect(output.segmentCount == 2)
        #expect(output.drop() == 2 && output.blockByteCount == 0)

        output.share("0123456789")
        _ = output.buildSends()
        #expect(output.drop() == 0)
        #expect(output.drop(isReleased: true) == 1 && !output.has(.zeroCopyInFlight))
        #expect(output.blockByteCount == 0)
    }

    // MARK: Dropping

    @Test("Output that is dropped is gone, with its references, and what comes then is sent")
    func drops() throws {
        let output = try Fixture(sessions: 2)
        let run = output.block("run")
        output.write("own", to: 0)
        for session in 0..<2 { output.append(run, 0..<3, to: session) }
        output.write("own", to: 0)
        #expect(output.drop(0) == 3 && output.drop(0) == 0)
        #expect(output.referenceCount(run) == 2 && output.byteCount(0) == 0 && !output.has(.tailIsOwn, 0))
        output.write("new", to: 0)
        #expect(output.buildSends() == [Send(0, "new"), Send(1, "run")])
        output.finish()
        output.release(run)
        #expect(output.blockByteCount == 0 && output.segmentCount == 0)
    }

    @Test("Output dropped during its send is gone, whatever came of the send", arguments: [nil, 2, -EPIPE])
    func dropsWhileSending(result: Int32?) throws {
        let output = try Fixture(sessions: 2)
        for session in 0..<2 { output.write("text", to: session) }
        _ = output.buildSends()
        #expect(output.drop(0) == 1)
        let ends = output.finish(result.map { [0: $0] } ?? [:])
        #expect(ends.last == .whole(byteCount: 4))
        #expect(ends[0] == (result == nil ? .whole(byteCount: 0) : result == 2 ? .fellShort(byteCount: 0) : .failed))
        #expect(output.byteCount(0) == 0 && output.segmentCount == 0 && output.blockByteCount == 0)
        output.write("new", to: 0)
        #expect(output.drain() == [0: "new"])
    }

    // MARK: All together

    @Test("Whatever is appended and taken, each session gets its bytes in order", arguments: 0..<20)
    func anyOrder(seed: UInt64) throws {
        var random = Chance(state: seed)
        let output = try Fixture(
            sessions: 4, zeroCopyByteCountMin: seed % 2 == 0 ? 0 : 700, vectorCountMax: VectorArena.perSendMax + 5)
        var expected = [String](repeating: "", count: 4)
        var received = expected
        var zeroCopy: [Int: String] = [:]
        func take(_ session: Int, _ text: String) { received[session] += text }
        for step in 0..<400 {
            for _ in 0..<random.below(8) {
                let text = "\(step):" + String(repeating: "abcdefghij", count: random.below(120))
                let first = random.below(4)
                if random.below(2) == 0 {
                    #expect(output.write(text, to: first, reserving: text.utf8.count + random.below(100)))
                    expected[first] += text
                } else {
                    let run = output.block(text)
                    for session in first..<4 {
                        #expect(output.append(run, 0..<text.utf8.count, to: session))
                        expected[session] += text
                    }
                    output.release(run)
                }
            }
            for session in 0..<4 where random.below(2) == 0 {
                guard let text = zeroCopy[session] else { continue }
                let taken = random.below(3) == 0 ? random.below(text.utf8.count) : text.utf8.count
                take(session, String(text.prefix(taken)))
                zeroCopy[session] = nil
                if case .fellShort = output.finishZeroCopy(Int32(taken), session) { _ = output.awaitWritable(session) }
            }
            for session in 0..<4 where output.has(.awaitsWritable, session) && random.below(2) == 0 {
                output.writable(session)
            }
            var incomplete: [Int: Int32] = [:]
            let sends = output.buildSends()
            #expect(Set(sends.map(\.session)).count == sends.count)
            for send in sends {
                if send.kind == .sendZeroCopy {
                    zeroCopy[send.session] = send.text
                } else if random.below(3) == 0 {
                    let taken = random.below(send.text.utf8.count)
                    incomplete[send.session] = Int32(taken)
                    take(send.session, String(send.text.prefix(taken)))
                } else {
                    take(send.session, send.text)
                }
            }
            output.finish(incomplete)
            for session in incomplete.keys { _ = output.awaitWritable(session) }
            for session in 0..<4 {
                #expect(output.byteCount(session) == expected[session].utf8.count - received[session].utf8.count)
            }
        }
        for (session, text) in zeroCopy {
            take(session, text)
            _ = output.finishZeroCopy(Int32(text.utf8.count), session)
        }
        for session in 0..<4 where output.has(.awaitsWritable, session) { output.writable(session) }
        for session in 0..<4 { output.drop(session) }
        for session in 0..<4 { #expect(expected[session].hasPrefix(received[session])) }
        #expect(output.segmentCount == 0 && output.blockByteCount == 0)
    }

    /// A generator with a seed: SplitMix64.
    private struct Chance {
        var state: UInt64

        mutating func below(_ bound: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
            return Int((word ^ word >> 31) % UInt64(max(bound, 1)))
        }
    }
}
