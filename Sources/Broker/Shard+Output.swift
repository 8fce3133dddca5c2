import Glibc
import IO
import STOMP
import Slabs

// What waits to be sent: a list of segments per session, each a run of bytes in a block. Shared runs (topics) are
// referenced, small frames and queue deliveries are written to blocks of the session's own. At the end of the turn each
// session that gained output gets exactly one send with as many segments as fit.
extension Shard {
    /// From this size on a send takes no further segment: what the kernel copies at a time delays everybody else, and
    /// leaves its caches. Not much smaller: a reader as fast as its publishers would fall behind, and be cut.
    private static let sendByteCountMax = 1024 * 1024
    /// A session that waits for its socket copies runs up to this size: sharing them saves less than their segments take.
    static let copiedByteCountMax = 512
    static let ownBlockByteCountMin = 512
    static let ownBlockByteCountMax = 64 * 1024

    // MARK: Appending

    /// Adds a run to the output; takes a reference of its own to `block`. `isBounded`: a session that has fallen too far
    /// behind is cut.
    mutating func appendRun(
        _ session: UnsafeMutablePointer<Session>, _ block: BlockIndex, offset: Int, byteCount: Int,
        isBounded: Bool = true
    ) {
        if session.pointee.flags.contains(.awaitsWritable), byteCount <= Self.copiedByteCountMax {
            guard let room = reserveOutput(session, byteCount) else { return }
            memcpy(room, memory.blocks.base(block) + offset, byteCount)
            commitOutput(session, byteCount)
        } else {
            memory.blocks.retain(block)
            guard appendSegment(session, block, offset: offset, byteCount: byteCount) else { return }
            session.pointee.flags.remove(.tailIsOwn)
            didAppend(session, byteCount)
        }
        if isBounded, Int(session.pointee.outputByteCount) > limits.outputByteCountMax {
            doom(session, for: .outputBytes)
        }
    }

    private mutating func appendSegment(
        _ session: UnsafeMutablePointer<Session>, _ block: BlockIndex, offset: Int, byteCount: Int
    ) -> Bool {
        let index: Index<Segment> = segments.allocate().index
        guard !index.isNone else {
            memory.blocks.release(block)
            doom(session, for: .messageMemory)
            return false
        }
        let segment = segments[index]
        segment.pointee.block = block
        segment.pointee.offset = UInt32(offset)
        segment.pointee.byteCount = UInt32(byteCount)
        if session.pointee.output.last.isNone { session.pointee.lastProgress = clock }
        session.pointee.output.append(index, in: segments)
        return true
    }

    private mutating func didAppend(_ session: UnsafeMutablePointer<Session>, _ byteCount: Int) {
        session.pointee.outputByteCount &+= UInt32(byteCount)
        session.pointee.outputPosition &+= UInt64(byteCount)
        markDirty(session)
    }

    mutating func markDirty(_ session: UnsafeMutablePointer<Session>) {
        if session.pointee.flags.contains(.dirty) { return }
        session.pointee.flags.insert(.dirty)
        dirtySessions.append(session.pointee.handle)
    }

    /// Room for at most `byteCountMax` bytes of the session's own at the end of its output; nil when memory is out (the
    /// session is then cut). `commitOutput` says how many were written.
    mutating func reserveOutput(
        _ session: UnsafeMutablePointer<Session>, _ byteCountMax: Int
    ) -> UnsafeMutableRawPointer? {
        let tail = session.pointee.output.last
        var expected = Self.ownBlockByteCountMin
        if !tail.isNone, session.pointee.flags.contains(.tailIsOwn) {
            let block = segments[tail].pointee.block
            let used = memory.blocks.used(block)
            let capacity = memory.blocks.capacity(block)
            if capacity - used >= byteCountMax { return memory.blocks.base(block) + used }
            expected = memory.deliversSparingly ? expected : min(capacity * 4, Self.ownBlockByteCountMax)
        }
        let block = memory.blocks.allocate(byteCount: max(byteCountMax, expected))
        guard block != 0 else {
            doom(session, for: .messageMemory)
            return nil
        }
        memory.blocks.setUsed(block, 0)
        guard appendSegment(session, block, offset: 0, byteCount: 0) else { return nil }
        session.pointee.flags.insert(.tailIsOwn)
        return memory.blocks.base(block)
    }

    /// Whether `reserveOutput` has memory for so many bytes, as far as that can be told beforehand.
    func hasOutputMemory(_ byteCount: Int) -> Bool {
        memory.blocks.byteCountMax - memory.blocks.byteCountInUse >= max(byteCount, Self.ownBlockByteCountMax) * 2
    }

    /// `byteCount` bytes were written to the room that `reserveOutput` gave.
    mutating func commitOutput(_ session: UnsafeMutablePointer<Session>, _ byteCount: Int) {
        let segment = segments[session.pointee.output.last]
        segment.pointee.byteCount += UInt32(byteCount)
        memory.blocks.setUsed(segment.pointee.block, memory.blocks.used(segment.pointee.block) + byteCount)
        didAppend(session, byteCount)
    }

    // MARK: Server frames

    /// `RECEIPT`, `receipt-id` as the client wrote it (raw: its escapes are valid in its own version).
    mutating func writeReceipt(_ session: UnsafeMutablePointer<Session>, _ id: UnsafeRawBufferPointer) {
        guard let room = reserveOutput(session, 32 + id.count) else { return }
        var writer = FrameWriter(at: room)
        writer.write("RECEIPT\nreceipt-id:")
        writer.write(id.baseAddress!, id.count)
        writer.write("\n\n\0\n")
        counters.receiptsSent &+= 1
        commitOutput(session, writer.cursor - room)
        // Who asks for receipts and does not read them is cut like a subscriber.
        if Int(session.pointee.outputByteCount) > limits.outputByteCountMax { doom(session, for: .outputBytes) }
    }

    /// `ERROR` with a short `message`, a body that explains, and the `receipt-id` the frame asked for.
    mutating func writeError(
        _ session: UnsafeMutablePointer<Session>, _ message: StaticString, _ explanation: String,
        receipt: UnsafeRawBufferPointer?, version supported: Bool = false
    ) {
        var text = explanation
        let textByteCount = text.utf8.count
        let size = 256 + message.utf8CodeUnitCount + textByteCount + (receipt?.count ?? 0)
        guard let room = reserveOutput(session, size) else { return }
        var writer = FrameWriter(at: room)
        writer.write("ERROR\nmessage:")
        writer.write(message)
        if let receipt {
            writer.write("\nreceipt-id:")
            writer.write(receipt.baseAddress!, receipt.count)
        }
        if supported { writer.write("\nversion:1.0,1.1,1.2") }
        writer.write("\ncontent-type:text/plain\ncontent-length:")
        writer.writeDecimal(UInt64(textByteCount + 1))
        writer.write("\n\n")
        text.withUTF8 { writer.write(UnsafeRawPointer($0.baseAddress!), $0.count) }
        writer.write("\n\0\n")
        counters.errorsSent &+= 1
        commitOutput(session, writer.cursor - room)
    }

    // MARK: Sending

    /// End of turn: gives the runs of topics to their subscribers, cuts the doomed, and builds one send per session.
    mutating func finishOutput() {
        flushGroups()
        // What the cut ones held may go to others, and dead letters to a topic.
        repeat {
            cutDoomed()
            flushGroups()
        } while sessions.hasDoomed && recordAllowance > 0
        sentSessions.removeAll()
        buildSends(upTo: Self.shortByteCountMax)
        if !dirtySessions.isEmpty { buildSends(upTo: .max) }
    }

    /// Short sends go before long ones: who waits for a message need not wait for what others are behind with.
    private static let shortByteCountMax: UInt32 = 16 * 1024

    /// Those that have more to send, and those for whom this exchange has no room, stay dirty.
    private mutating func buildSends(upTo byteCountMax: UInt32) {
        var kept = 0
        for i in 0..<dirtySessions.count {
            guard let session = sessions.find(dirtySessions[i]), session.pointee.flags.contains(.dirty) else {
                continue
            }
            if session.pointee.state == .closing {
                session.pointee.flags.remove(.dirty)
                continue
            }
            if session.pointee.outputByteCount <= byteCountMax, buildSend(session) {
                session.pointee.flags.remove(.dirty)
            } else {
                dirtySessions[kept] = dirtySessions[i]
                kept += 1
            }
        }
        dirtySessions.keepFirst(kept)
    }

    /// One send with all that waits, or as much as fits. False: no room in this exchange, again next turn.
    private mutating func buildSend(_ session: UnsafeMutablePointer<Session>) -> Bool {
        if session.pointee.flags.contains(.awaitsWritable) || session.pointee.flags.contains(.zeroCopyInFlight) {
            return true
        }
        let head = session.pointee.output.first
        guard !head.isNone else {
            if session.pointee.state == .ending { outputEnded(session) }
            return true
        }
        let connection = session.pointee.slot
        let first = segments[head]
        if head == session.pointee.output.last {
            let byteCount = Int(first.pointee.byteCount)
            let isZeroCopy = options.zeroCopyByteCountMin > 0 && byteCount >= options.zeroCopyByteCountMin
            submissions.append(
                Submission(
                    isZeroCopy ? .sendZeroCopy : .send, connection: connection,
                    pointer: memory.blocks.base(first.pointee.block) + Int(first.pointee.offset), byteCount: byteCount))
            session.pointee.sendByteCount = UInt32(byteCount)
            if isZeroCopy {
                counters.sends &+= 1
                session.pointee.flags.insert(.zeroCopyInFlight)
                session.pointee.lastSent = clock
                return true
            }
        } else {
            guard let vector = vectors.reserve() else { return false }
            var count = 0
            var total = 0
            var index = head
            while !index.isNone, count < VectorArena.perSendMax, total < Self.sendByteCountMax {
                let segment = segments[index]
                vector[count] = iovec(
                    iov_base: memory.blocks.base(segment.pointee.block) + Int(segment.pointee.offset),
                    iov_len: Int(segment.pointee.byteCount))
                total += Int(segment.pointee.byteCount)
                count += 1
                index = SegmentFifo.next(after: index, in: segments)
            }
            vectors.commit(count)
            submissions.append(
                Submission(
                    .sendVector, connection: connection, value: Int32(total), pointer: UnsafeRawPointer(vector),
                    byteCount: count))
            session.pointee.sendByteCount = UInt32(total)
        }
        counters.sends &+= 1
        session.pointee.lastSent = clock
        sentSessions.append(session.pointee.index)
        return true
    }

    /// Start of turn: the sends of the last exchange are over. Those reported incomplete wait for room; all others went
    /// whole.
    mutating func settleSends(_ completions: borrowing Batch<Completion>) {
        if sentSessions.isEmpty { return }
        for i in 0..<completions.count where completions[i].kind == .sendIncomplete {
            guard let session = sessions.find(Handle(completions[i].connection)) else { continue }
            session.pointee.flags.insert(.sendIncomplete)
            session.pointee.sendResult = completions[i].value
        }
        for i in 0..<sentSessions.count {
            let session = sessions[sentSessions[i]]
            guard session.pointee.flags.contains(.sendIncomplete) else {
                consumeOutput(session, Int(session.pointee.sendByteCount))
                continue
            }
            session.pointee.flags.remove(.sendIncomplete)
            counters.sendsIncomplete &+= 1
            let result = session.pointee.sendResult
            if result < 0 {
                connectionFailed(session)
            } else {
                consumeOutput(session, Int(result))
                if !session.pointee.output.isEmpty { awaitWritable(session) }
            }
        }
        sentSessions.removeAll()
    }

    private mutating func awaitWritable(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.flags.insert(.awaitsWritable)
        submissions.append(Submission(.awaitWritable, connection: session.pointee.slot))
        arm(session, after: UInt32(limits.outputStallMillisecondsMax))
    }

    mutating func writable(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.flags.remove(.awaitsWritable)
        markDirty(session)
    }

    /// A zero-copy send is over and its bytes are free.
    mutating func sendReleased(_ session: UnsafeMutablePointer<Session>, _ result: Int32) {
        session.pointee.flags.remove(.zeroCopyInFlight)
        if session.pointee.state == .closing { return dropOutput(session) }
        if result < 0, result != -EAGAIN { return connectionFailed(session) }
        let taken = max(Int(result), 0)
        let wasWhole = taken == Int(session.pointee.sendByteCount)
        consumeOutput(session, taken)
        if !session.pointee.output.isEmpty {
            if wasWhole { markDirty(session) } else { awaitWritable(session) }
        }
    }

    /// `byteCount` bytes are with the kernel: releases their blocks, and grants what waited for them.
    private mutating func consumeOutput(_ session: UnsafeMutablePointer<Session>, _ byteCount: Int) {
        var left = byteCount
        if left > 0 { session.pointee.lastProgress = clock }
        counters.bytesSent &+= UInt64(byteCount)
        session.pointee.outputByteCount &-= UInt32(byteCount)
        while left > 0 {
            let index = session.pointee.output.first
            let segment = segments[index]
            let count = Int(segment.pointee.byteCount)
            if count > left {
                segment.pointee.offset += UInt32(left)
                segment.pointee.byteCount -= UInt32(left)
                break
            }
            left -= count
            session.pointee.output.removeFirst(in: segments)
            if session.pointee.output.isEmpty { session.pointee.flags.remove(.tailIsOwn) }
            memory.blocks.release(segment.pointee.block)
            segments.free(index)
        }
        if !session.pointee.flights.isEmpty { landFlights(session) }
        if !session.pointee.output.isEmpty {
            markDirty(session)
        } else if session.pointee.state == .ending {
            return outputEnded(session)
        }
        if session.pointee.flags.contains(.consumersPaused) { resumeConsumersIfDrained(session) }
    }

    /// Throws the output away.
    mutating func dropOutput(_ session: UnsafeMutablePointer<Session>) {
        // The kernel still reads; `.closed` comes later.
        if session.pointee.flags.contains(.zeroCopyInFlight) { return }
        let byteCountBefore = memory.blocks.byteCountInUse
        var segmentCount = 0
        while case let index = session.pointee.output.popFirst(in: segments), !index.isNone {
            segmentCount += 1
            memory.blocks.release(segments[index].pointee.block)
            segments.free(index)
        }
        session.pointee.outputByteCount = 0
        session.pointee.flags.remove(.tailIsOwn)
        recordAllowance -= segmentCount / Self.segmentsPerRecord
        chargeForFreed(since: byteCountBefore)
    }

    /// So many segments are let go in the time that a record takes.
    private static var segmentsPerRecord: Int { 64 }
}
