import Glibc
import IO
import STOMP
import Slabs

// Writing to a session's output and sending it: `Output` does it, and here is done what follows from it elsewhere.
extension Shard {
    // MARK: Appending

    /// Adds bytes to the output that others may share; takes a reference of its own to `block`. `isBounded`: a session that has fallen too far
    /// behind is cut.
    @inline(__always)
    mutating func appendShared(
        _ session: UnsafeMutablePointer<Session>, _ block: BlockIndex, offset: Int, byteCount: Int,
        isBounded: Bool = true
    ) {
        guard output.append(session, block, offset: offset, byteCount: byteCount, clock: clock, &memory) else {
            return disconnectSoon(session, for: .messageMemory)
        }
        if isBounded, output.isTooFarBehind(session) { disconnectSoon(session, for: .outputBytes) }
    }

    /// Room for at most `byteCountMax` bytes of the session's own at the end of its output; nil when memory is out (the
    /// session is then cut). `commitOutput` says how many were written.
    @inline(__always)
    mutating func reserveOutput(
        _ session: UnsafeMutablePointer<Session>, _ byteCountMax: Int
    ) -> UnsafeMutableRawPointer? {
        guard let room = output.reserve(session, byteCountMax, clock: clock, &memory) else {
            disconnectSoon(session, for: .messageMemory)
            return nil
        }
        return room
    }

    /// `byteCount` bytes were written to the room that `reserveOutput` gave.
    @inline(__always)
    mutating func commitOutput(_ session: UnsafeMutablePointer<Session>, _ byteCount: Int) {
        output.commit(session, byteCount, &memory)
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
        if output.isTooFarBehind(session) { disconnectSoon(session, for: .outputBytes) }
    }

    /// `ERROR` with a short `message`, a body that explains, and the `receipt-id` the frame asked for.
    ///
    /// - Parameter versions: those that the client might have asked for. nil: it is no matter of versions.
    mutating func writeError(
        _ session: UnsafeMutablePointer<Session>, _ message: StaticString, _ explanation: String,
        receipt: UnsafeRawBufferPointer?, versions: VersionSet? = nil
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
        if let versions {
            writer.write("\nversion:")
            writer.write(versions.text)
        }
        writer.write("\ncontent-type:text/plain\ncontent-length:")
        writer.writeDecimal(UInt64(textByteCount + 1))
        writer.write("\n\n")
        text.withUTF8 { writer.write(UnsafeRawPointer($0.baseAddress!), $0.count) }
        writer.write("\n\0\n")
        counters.errorsSent &+= 1
        commitOutput(session, writer.cursor - room)
    }

    // MARK: Sending

    /// End of turn: gives topics' messages to their subscribers, disconnects the slow, and builds one send per session.
    mutating func finishOutput() {
        flushEncodings()
        // What the cut ones held may go to others, and dead letters to a topic.
        repeat {
            disconnectSlow()
            flushEncodings()
        } while sessions.hasSlow && recordAllowance > 0
        output.beginSends()
        buildSends(upTo: Output.shortByteCountMax)
        if output.dirtyCount > 0 { buildSends(upTo: .max) }
    }

    private mutating func buildSends(upTo byteCountMax: UInt32) {
        let count = output.dirtyCount
        for place in 0..<count {
            guard let session = sessions.find(output.dirtySession(at: place)) else { continue }
            switch output.buildSend(session, upTo: byteCountMax, clock: clock, memory, &submissions) {
            case .sent: counters.sends &+= 1
            case .isEmpty: if session.pointee.state == .ending { outputEnded(session) }
            case .waits: break
            }
        }
        output.endBuilding(of: count)
    }

    /// Start of turn: the sends of the last poll are over. Those reported incomplete wait for room; all others went
    /// whole.
    mutating func finishSends(_ completions: borrowing Batch<Completion>) {
        if output.sentCount == 0 { return }
        for i in 0..<completions.count where completions[i].kind == .sendIncomplete {
            guard let session = sessions.find(Handle(completions[i].connection)) else { continue }
            output.noteIncomplete(session, completions[i].value)
        }
        for place in 0..<output.sentCount {
            let session = sessions[output.sentSession(at: place)]
            let end = output.finish(session, clock: clock, &memory)
            if !end.isWhole { counters.sendsIncomplete &+= 1 }
            sendEnded(session, end)
        }
        output.forgetSent()
    }

    /// A zero-copy send is over and its bytes are free.
    mutating func sendReleased(_ session: UnsafeMutablePointer<Session>, _ result: Int32) {
        if session.pointee.state == .closing { return dropOutput(session, isReleased: true) }
        sendEnded(session, output.finishZeroCopy(session, result, clock: clock, &memory))
    }

    @inline(__always)
    private mutating func sendEnded(_ session: UnsafeMutablePointer<Session>, _ end: SendEnd) {
        switch end {
        case .whole(let byteCount): bytesLeft(session, byteCount)
        case .fellShort(let byteCount):
            bytesLeft(session, byteCount)
            if !session.pointee.output.isEmpty { awaitWritable(session) }
        case .failed: connectionFailed(session)
        }
    }

    /// `byteCount` bytes are with the kernel: grants what waited for them.
    @inline(__always)
    private mutating func bytesLeft(_ session: UnsafeMutablePointer<Session>, _ byteCount: Int) {
        counters.bytesSent &+= UInt64(byteCount)
        if !session.pointee.unsentDeliveries.isEmpty { acknowledgeSent(session) }
        if !session.pointee.output.isEmpty {
            output.markDirty(session)
        } else if session.pointee.state == .ending {
            return outputEnded(session)
        }
        if session.pointee.flags.contains(.consumersPaused) { resumeConsumersIfDrained(session) }
    }

    private mutating func awaitWritable(_ session: UnsafeMutablePointer<Session>) {
        output.awaitWritable(session, &submissions)
        arm(session, after: UInt32(limits.outputStallMillisecondsMax))
    }

    /// Throws the output away. What the kernel still reads stays until it `isReleased`, by `.sendReleased` or `.closed`.
    mutating func dropOutput(_ session: UnsafeMutablePointer<Session>, isReleased: Bool = false) {
        let byteCountBefore = memory.blocks.byteCountInUse
        recordAllowance -= output.drop(session, isReleased: isReleased, &memory) / Self.segmentsPerRecord
        chargeForFreed(since: byteCountBefore)
    }

    /// So many segments are let go in the time that a record takes.
    private static var segmentsPerRecord: Int { 64 }
}
