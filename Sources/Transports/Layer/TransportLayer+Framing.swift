internal import Glibc
internal import IO
internal import Slabs

/// The frame under construction.
struct FrameBuilder: BitwiseCopyable {
    /// Bytes of the core that the frame under way still lacks.
    var owed: Int
    /// The vector of the header, which is written when the frame is complete. -1: no frame was begun.
    var headerVector = -1
    var header: UnsafeMutableRawPointer?
    var payloadByteCount = 0
    /// All that was put into the send.
    var byteCount = 0
    /// The last two octets of the payload.
    var last: UInt8 = 0
    var lastButOne: UInt8 = 0
    var isText = true
    var textState: UInt16 = 0

    /// The payload ends with the end of a STOMP frame, "\0\n", or is a heart-beat, "\n". A body may end so by chance,
    /// which ends a message too early, as any cut may.
    var endsFrame: Bool { last == 0x0A && (lastButOne == 0 || payloadByteCount == 1) }
}

/// The run of bytes that was checked last: many connections get the same in one poll.
struct CheckedText: BitwiseCopyable {
    var base: UnsafeRawPointer?
    var byteCount = 0
    var endState: UInt16 = 0
    var isText = false
}

// Frames around the core's bytes, which stay where they are: a header is an `iovec` of its own.
extension TransportLayer {
    /// A message ends with the first STOMP frame that ends beyond this size: clients refuse messages that are too long
    /// (Python's websockets those above 1 MiB), and a send of the core may hold more.
    static var messageByteCount: Int { 64 * 1024 }

    /// Returns whether the submission is passed on.
    mutating func lowerSend(
        _ record: UnsafeMutablePointer<TransportRecord>, _ submission: inout Submission
    ) -> Bool {
        if !record.pointee.flags.contains(.coreHasSent) {
            record.pointee.flags.insert(.coreHasSent)
            dropIdentity(record, keepsAddress: true)
        }
        guard facts(of: record).usesWebSocket else { return true }
        let isVector = submission.kind == .sendVector
        let byteCount = isVector ? Int(submission.value) : submission.byteCount
        // Before the handshake there is nobody to read what the core says (of a CONNECT that is late).
        guard record.pointee.flags.contains(.isOpen) else { return answer(record, submission, taken: byteCount) }
        if _slowPath(record.pointee.compression.isOn) { return lowerCompressed(record, &submission) }
        let vectorCount = isVector ? submission.byteCount : 1
        let frameCountMax = min(vectorCount, byteCount / Self.messageByteCount + 1) + 1
        guard !record.pointee.flags.contains(.awaitsWritable),
            arena.hasRoom(vectorCount: vectorCount + frameCountMax + 3, headerCount: frameCountMax)
        else { return answer(record, submission, taken: 0) }

        var send = beginSend(record, coreByteCount: byteCount)
        var builder = FrameBuilder(owed: Int(record.pointee.owed))
        pushBeforeFrames(record, builder.owed == 0)
        if isVector {
            let runs = submission.pointer!.assumingMemoryBound(to: iovec.self)
            for place in 0..<vectorCount {
                add(UnsafeRawPointer(runs[place].iov_base), runs[place].iov_len, &builder, record)
            }
        } else {
            add(submission.pointer!, byteCount, &builder, record)
        }
        if builder.headerVector >= 0 { finishFrame(&builder, record) }
        record.pointee.owed = UInt32(builder.owed)

        send.vectorCount = UInt32(arena.vectorCount - send.vectors)
        var wireByteCount = builder.byteCount
        wireByteCount += Int(pendingByteCount(send, record))
        if submission.kind == .sendZeroCopy {
            send.isZeroCopy = true
            zeroCopySends.append(ZeroCopySend(connection: record.pointee.connection, result: Int32(byteCount)))
        }
        sends.append(send)
        submission = Submission(
            .sendVector, connection: submission.connection, value: Int32(wireByteCount),
            pointer: UnsafeRawPointer(arena.vectors + send.vectors), byteCount: Int(send.vectorCount))
        return true
    }

    /// Answers a send of the core without the driver. `taken`: all or nothing.
    mutating func answer(
        _ record: UnsafeMutablePointer<TransportRecord>, _ submission: Submission, taken byteCount: Int
    ) -> Bool {
        if submission.kind == .sendZeroCopy {
            reports.append(
                Completion(.sendReleased, connection: record.pointee.connection, value: Int32(byteCount)))
        } else if byteCount == 0 {
            reports.append(Completion(.sendIncomplete, connection: record.pointee.connection))
        }
        return false
    }

    /// What is before the core's next byte: the rest of what was sent in part and, between two frames, all that is
    /// pending.
    @inline(__always)
    private mutating func pushBeforeFrames(_ record: UnsafeMutablePointer<TransportRecord>, _ isBetweenFrames: Bool) {
        let block = record.pointee.pending
        if _fastPath(block == 0) { return }
        pushPending(record, upTo: isBetweenFrames ? blocks.used(block) : Int(record.pointee.pendingBefore))
    }

    /// How many of the layer's pending bytes were put into the send.
    @inline(__always)
    mutating func pendingByteCount(_ send: LoweredSend, _ record: UnsafeMutablePointer<TransportRecord>) -> Int {
        if _fastPath(send.pending == 0) { return 0 }
        let end = record.pointee.pending == send.pending ? Int(record.pointee.pendingOffset) : blocks.used(send.pending)
        return end - Int(send.pendingOffset)
    }

    /// Adds a run of the core's bytes.
    @inline(__always)
    private mutating func add(
        _ run: UnsafeRawPointer, _ runByteCount: Int, _ builder: inout FrameBuilder,
        _ record: UnsafeMutablePointer<TransportRecord>
    ) {
        var base = run
        var byteCount = runByteCount
        if _slowPath(builder.owed > 0) {
            let count = min(builder.owed, byteCount)
            arena.append(base, count)
            builder.byteCount += count
            builder.owed -= count
            if builder.owed > 0 { return }
            pushBeforeFrames(record, true)
            base += count
            byteCount -= count
            if byteCount == 0 { return }
        }
        if builder.headerVector < 0 {
            let (vector, bytes) = arena.appendHeader()
            builder.headerVector = vector
            builder.header = bytes
            builder.payloadByteCount = 0
            builder.isText = true
            builder.textState = 0
        }
        arena.append(base, byteCount)
        builder.payloadByteCount += byteCount
        builder.lastButOne =
            byteCount > 1 ? base.load(fromByteOffset: byteCount - 2, as: UInt8.self) : builder.last
        builder.last = base.load(fromByteOffset: byteCount - 1, as: UInt8.self)
        if builder.isText { check(base, byteCount, &builder) }
        if _slowPath(builder.payloadByteCount >= Self.messageByteCount), builder.endsFrame {
            finishFrame(&builder, record)
        }
    }

    /// Whether the message can be one of text so far.
    @inline(__always)
    private mutating func check(_ base: UnsafeRawPointer, _ byteCount: Int, _ builder: inout FrameBuilder) {
        if builder.textState == 0, checkedText.base == base, checkedText.byteCount == byteCount {
            builder.isText = checkedText.isText
            builder.textState = checkedText.endState
            return
        }
        let isWhole = builder.textState == 0
        builder.isText = TextCheck.check(base, byteCount, &builder.textState)
        if isWhole {
            checkedText = CheckedText(
                base: base, byteCount: byteCount, endState: builder.textState, isText: builder.isText)
        }
    }

    /// Writes the header. A message that ends within a STOMP frame goes on with the next send, as one of binary data: what
    /// is to come is not known to be text.
    @inline(__always)
    private mutating func finishFrame(_ builder: inout FrameBuilder, _ record: UnsafeMutablePointer<TransportRecord>) {
        let isLast = builder.endsFrame
        let isText = isLast && builder.isText && builder.textState == 0
        let opcode =
            record.pointee.flags.contains(.isInMessage)
            ? WebSocketDecoder.Opcode.continuation
            : isText ? WebSocketDecoder.Opcode.text : WebSocketDecoder.Opcode.binary
        let count = WebSocketFramer.writeHeader(
            opcode: opcode, isLast: isLast, payloadByteCount: builder.payloadByteCount, to: builder.header!)
        arena.vectors[builder.headerVector].iov_len = count
        builder.byteCount += count + builder.payloadByteCount
        if isLast { record.pointee.flags.remove(.isInMessage) } else { record.pointee.flags.insert(.isInMessage) }
        builder.headerVector = -1
    }
}
