internal import CDeflate
internal import Glibc
internal import IO
internal import Slabs

// Frames for connections whose messages may be compressed.
//
// A message is cut from the core's bytes as in `+Framing`, and sent in fragments, each of them made of one piece of
// DEFLATE. A fragment that the kernel has begun to take counts as taken: its rest is kept as `pending`. Fragments that it
// has not begun are made again from the core's bytes, which are the same.
//
// Without a context a piece refers to nothing before it. So it is made once in a poll for all connections that get the
// same bytes, and one that compression does not make smaller is replaced by the bytes as they are: by a frame that is not
// compressed, or within a message by a stored block (RFC 1951, section 3.2.4):
//
//     | header of the frame | 00, length 2, its complement 2 | bytes of the core ... | 00 if the message ends |
//
// With a context each piece is a connection's own, and has to leave once it is made. So there is one in a send.
extension TransportLayer {
    /// Frames in a send, which is answered as if it had fallen short behind them.
    private static var framesPerSend: Int { 4 }
    /// What is pending has room for less than two pieces (`TransportRecord.pendingOffset`).
    private static var crowdedByteCount: Int { 16 << 10 }
    /// Vectors of a send besides those of the core: what is pending; a header, a part of a run and a last octet a frame.
    private static var ownVectorCountMax: Int { 1 + 3 * framesPerSend }

    /// As `lowerSend`.
    mutating func lowerCompressed(
        _ record: UnsafeMutablePointer<TransportRecord>, _ submission: inout Submission
    ) -> Bool {
        var runs = RunCursor(submission)
        let byteCount = runs.byteCount
        guard !record.pointee.flags.contains(.awaitsWritable),
            arena.hasRoom(
                vectorCount: runs.vectorCount + Self.ownVectorCountMax, headerCount: 2 * Self.framesPerSend)
        else { return answer(record, submission, taken: 0) }
        let hasPending = record.pointee.pending != 0
        var send = beginSend(record, coreByteCount: byteCount)
        send.compression = .isCompressed
        if record.pointee.compressionFlags.contains(.endsAtOwed) { send.compression.insert(.endedAtOwed) }
        // A piece with a context is kept with what is pending if the kernel does not take it, which has room for one.
        let takesOver = record.pointee.compression.serverTakesOver
        let isCrowded = hasPending && blocks.used(record.pointee.pending) > Self.crowdedByteCount
        let frameCountMax = !takesOver ? Self.framesPerSend : isCrowded ? 0 : 1
        // Between two fragments all that is pending goes first.
        if hasPending { pushPending(record, upTo: blocks.used(record.pointee.pending)) }
        var wireByteCount = 0
        for _ in 0..<frameCountMax where runs.byteCount > 0 {
            let count = addFrame(record, &runs)
            if count == 0 { break }
            wireByteCount += count
        }
        let takenByteCount = byteCount - runs.byteCount
        if wireByteCount == 0, !hasPending { return answer(record, submission, taken: 0) }

        send.vectorCount = UInt32(arena.vectorCount - send.vectors)
        wireByteCount += Int(pendingByteCount(send, record))
        if submission.kind == .sendZeroCopy {
            send.isZeroCopy = true
            zeroCopySends.append(
                ZeroCopySend(connection: record.pointee.connection, result: Int32(takenByteCount)))
        } else if takenByteCount < byteCount {
            send.compression.insert(.isCapped)
            compression.cappedSends.append(
                CappedSend(connection: record.pointee.connection, byteCount: Int32(takenByteCount), place: 0))
        }
        sends.append(send)
        submission = Submission(
            .sendVector, connection: submission.connection, value: Int32(wireByteCount),
            pointer: UnsafeRawPointer(arena.vectors + send.vectors), byteCount: Int(send.vectorCount))
        return true
    }

    // MARK: Messages

    /// Adds a frame. Returns the count of its bytes. 0: nothing more may be deflated in this poll.
    private mutating func addFrame(
        _ record: UnsafeMutablePointer<TransportRecord>, _ runs: inout RunCursor
    ) -> Int {
        if record.pointee.owed > 0 {
            return addFragment(record, &runs, opcode: WebSocketDecoder.Opcode.continuation)
        }
        let message = runs.nextMessage(byteCountMax: DeflatedPieces.pieceByteCountMax)
        if record.pointee.flags.contains(.isInMessage) {
            beginPart(record, message)
            return addFragment(record, &runs, opcode: WebSocketDecoder.Opcode.continuation)
        }
        let minimum = facts(of: record).compressedByteCountMin
        if message.byteCount < minimum, message.endsFrame { return addPlain(record, &runs, message, isText: nil) }
        guard message.byteCount <= DeflatedPieces.pieceByteCountMax else {
            let isText = message.endsFrame && isText(runs, message.byteCount)
            beginPart(record, message)
            return addFragment(record, &runs, opcode: Self.opcode(isText: isText) | WebSocketDecoder.Opcode.compressed)
        }
        let piece = piece(record, runs, message.byteCount)
        guard let bytes = piece?.bytes else {
            if message.endsFrame { return addPlain(record, &runs, message, isText: piece?.isText) }
            if piece == nil, record.pointee.compression.serverTakesOver { return 0 }
            beginPart(record, message)
            return addStored(record, &runs, message.byteCount, opcode: WebSocketDecoder.Opcode.binary | 0x40)
        }
        beginPart(record, message)
        let isText = message.endsFrame && piece!.isText
        return addDeflated(
            record, &runs, bytes, piece!.byteCount, message.byteCount,
            opcode: Self.opcode(isText: isText) | WebSocketDecoder.Opcode.compressed)
    }

    private static func opcode(isText: Bool) -> UInt8 {
        isText ? WebSocketDecoder.Opcode.text : WebSocketDecoder.Opcode.binary
    }

    /// The next fragments are those of this message, or of this part of one.
    private mutating func beginPart(_ record: UnsafeMutablePointer<TransportRecord>, _ message: RunCursor.Message) {
        record.pointee.owed = UInt32(message.byteCount)
        if message.endsFrame {
            record.pointee.compressionFlags.insert(.endsAtOwed)
        } else {
            record.pointee.compressionFlags.remove(.endsAtOwed)
        }
    }

    private mutating func isText(_ runs: RunCursor, _ byteCount: Int) -> Bool {
        var runs = runs
        var state: UInt16 = 0
        var left = byteCount
        while left > 0 {
            let run = runs.take(left)
            left -= run.iov_len
            if !TextCheck.check(run.iov_base, run.iov_len, &state) { return false }
        }
        return state == 0
    }

    // MARK: Pieces

    /// The next bytes of the core, deflated. nil: no more in this poll, or there is no memory.
    private mutating func piece(
        _ record: UnsafeMutablePointer<TransportRecord>, _ runs: RunCursor, _ byteCount: Int
    ) -> DeflatedPiece? {
        let agreement = record.pointee.compression
        let windowBits = agreement.serverWindowBits
        let isShared = !agreement.serverTakesOver
        var runs = runs
        let first = compression.pieces.runs.count
        var left = byteCount
        while left > 0 {
            let run = runs.take(left)
            left -= run.iov_len
            compression.pieces.append(run)
        }
        var piece = isShared ? compression.pieces.find(first: first, windowBits: windowBits) : nil
        if piece == nil, compression.pieces.hasAllowance, let writer = writer(record) {
            piece = compression.pieces.deflate(writer, first: first, windowBits: windowBits, isShared: isShared)
        }
        guard let piece else {
            compression.pieces.drop(first)
            return nil
        }
        counters.deflatedInput &+= UInt64(byteCount)
        counters.deflatedOutput &+= UInt64(piece.bytes == nil ? byteCount : piece.byteCount)
        return piece
    }

    private mutating func writer(_ record: UnsafeMutablePointer<TransportRecord>) -> OpaquePointer? {
        let agreement = record.pointee.compression
        guard agreement.serverTakesOver else {
            return compression.sharedWriter(windowBits: agreement.serverWindowBits)
        }
        return compression.writer(of: compression.state(record.pointee.connectionIndex), agreement)
    }

    // MARK: Frames

    /// A fragment of the message under way.
    private mutating func addFragment(
        _ record: UnsafeMutablePointer<TransportRecord>, _ runs: inout RunCursor, opcode: UInt8
    ) -> Int {
        let count = min(Int(record.pointee.owed), DeflatedPieces.pieceByteCountMax, runs.byteCount)
        let piece = piece(record, runs, count)
        if let bytes = piece?.bytes {
            return addDeflated(record, &runs, bytes, piece!.byteCount, count, opcode: opcode)
        }
        // What was not deflated is not part of the context, so later pieces would refer to the wrong bytes.
        if record.pointee.compression.serverTakesOver {
            // A message that was not begun is begun anew.
            if opcode != WebSocketDecoder.Opcode.continuation { record.pointee.owed = 0 }
            return 0
        }
        return addStored(record, &runs, count, opcode: opcode)
    }

    private mutating func addDeflated(
        _ record: UnsafeMutablePointer<TransportRecord>, _ runs: inout RunCursor, _ bytes: UnsafeRawPointer,
        _ pieceByteCount: Int, _ coreByteCount: Int, opcode: UInt8
    ) -> Int {
        runs.skip(coreByteCount)
        let header = arena.appendNotedHeader()
        let isLast = advance(record, coreByteCount)
        // The reader adds the last four octets of a message (RFC 7692, section 7.2.1).
        let payloadByteCount = isLast ? pieceByteCount - 4 : pieceByteCount
        arena.append(bytes, payloadByteCount)
        return finish(record, header, opcode, isLast, payloadByteCount, coreByteCount, hasToLeave: true)
    }

    /// The bytes as they are, in a block that is stored.
    private mutating func addStored(
        _ record: UnsafeMutablePointer<TransportRecord>, _ runs: inout RunCursor, _ coreByteCount: Int, opcode: UInt8
    ) -> Int {
        let header = arena.appendNotedHeader()
        addRuns(&runs, coreByteCount)
        let isLast = advance(record, coreByteCount)
        if isLast { arena.append(compression.pieces.zero, 1) }
        let payloadByteCount = coreByteCount + StoredBlock.headerByteCount + (isLast ? 1 : 0)
        let byteCount = finish(record, header, opcode, isLast, payloadByteCount, coreByteCount, hasToLeave: false)
        let headerByteCount = arena.vectors[header.vector].iov_len
        StoredBlock.writeHeader(coreByteCount, to: header.bytes + headerByteCount)
        arena.vectors[header.vector].iov_len = headerByteCount + StoredBlock.headerByteCount
        return byteCount
    }

    /// A message that is not compressed.
    ///
    /// - Parameter isText: nil: it is not known.
    private mutating func addPlain(
        _ record: UnsafeMutablePointer<TransportRecord>, _ runs: inout RunCursor, _ message: RunCursor.Message,
        isText: Bool?
    ) -> Int {
        let isText = isText ?? self.isText(runs, message.byteCount)
        beginPart(record, message)
        let header = arena.appendNotedHeader()
        addRuns(&runs, message.byteCount)
        let isLast = advance(record, message.byteCount)
        return finish(
            record, header, Self.opcode(isText: isText), isLast, message.byteCount, message.byteCount,
            hasToLeave: false)
    }

    private mutating func addRuns(_ runs: inout RunCursor, _ byteCount: Int) {
        var left = byteCount
        while left > 0 {
            let run = runs.take(left)
            left -= run.iov_len
            arena.append(run.iov_base, run.iov_len)
        }
    }

    /// So many bytes of the core are in the frame. Returns whether the message ends with them.
    private mutating func advance(_ record: UnsafeMutablePointer<TransportRecord>, _ byteCount: Int) -> Bool {
        record.pointee.owed -= UInt32(byteCount)
        let isLast = record.pointee.owed == 0 && record.pointee.compressionFlags.contains(.endsAtOwed)
        setInMessage(record, !isLast)
        return isLast
    }

    /// Writes the header and the note. Returns the bytes of the whole frame.
    private mutating func finish(
        _ record: UnsafeMutablePointer<TransportRecord>, _ header: (vector: Int, bytes: UnsafeMutableRawPointer),
        _ opcode: UInt8, _ isLast: Bool, _ payloadByteCount: Int, _ coreByteCount: Int, hasToLeave: Bool
    ) -> Int {
        let count = WebSocketFramer.writeHeader(
            opcode: opcode, isLast: isLast, payloadByteCount: payloadByteCount, to: header.bytes)
        arena.vectors[header.vector].iov_len = count
        (header.bytes + SendArena.headerStride).storeBytes(
            of: FrameNote(
                coreByteCount: UInt32(coreByteCount), owedAfter: record.pointee.owed,
                vectorCount: UInt16(arena.vectorCount - header.vector), isInMessageAfter: !isLast,
                endsAtOwedAfter: record.pointee.compressionFlags.contains(.endsAtOwed),
                hasToLeave: hasToLeave && record.pointee.compression.serverTakesOver),
            as: FrameNote.self)
        return count + payloadByteCount
    }

    // MARK: Sends that fall short

    /// As `settle`, which has set the record back to what it was before the send.
    mutating func settleCompressed(
        _ record: UnsafeMutablePointer<TransportRecord>, _ send: LoweredSend, _ byteCount: Int
    ) -> Int {
        setEndsAtOwed(record, send.compression.contains(.endedAtOwed))
        var left = byteCount
        var coreByteCount = 0
        var place = send.vectors
        let end = send.vectors + Int(send.vectorCount)
        if place < end, isPending(arena.vectors[place].iov_base, send) {
            let taken = min(left, arena.vectors[place].iov_len)
            didSendPending(record, upTo: Int(record.pointee.pendingOffset) + taken)
            left -= taken
            place += 1
            keepBegunFrame(record)
        }
        while place < end {
            let note = (arena.vectors[place].iov_base! + SendArena.headerStride).load(as: FrameNote.self)
            // One that was not begun is made again.
            if left == 0, !note.hasToLeave { break }
            let frame = place..<place + Int(note.vectorCount)
            let frameByteCount = frame.reduce(0) { $0 + arena.vectors[$1].iov_len }
            record.pointee.owed = note.owedAfter
            setInMessage(record, note.isInMessageAfter)
            setEndsAtOwed(record, note.endsAtOwedAfter)
            coreByteCount += Int(note.coreByteCount)
            if left < frameByteCount {
                keepRest(record, frame, skipping: left)
                break
            }
            left -= frameByteCount
            place = frame.upperBound
        }
        return coreByteCount
    }

    private mutating func setEndsAtOwed(_ record: UnsafeMutablePointer<TransportRecord>, _ endsAtOwed: Bool) {
        if endsAtOwed {
            record.pointee.compressionFlags.insert(.endsAtOwed)
        } else {
            record.pointee.compressionFlags.remove(.endsAtOwed)
        }
    }

    /// The rest of a frame waits, behind what is pending. Without memory for it the connection is lost.
    private mutating func keepRest(
        _ record: UnsafeMutablePointer<TransportRecord>, _ frame: Range<Int>, skipping skipped: Int
    ) {
        let byteCount = frame.reduce(0) { $0 + arena.vectors[$1].iov_len } - skipped
        guard let room = reservePending(record, byteCount) else { return failed(record, -ENOMEM) }
        var skipped = skipped
        var written = 0
        for place in frame {
            let vector = arena.vectors[place]
            let start = min(skipped, vector.iov_len)
            skipped -= start
            (room + written).copyMemory(from: vector.iov_base + start, byteCount: vector.iov_len - start)
            written += vector.iov_len - start
        }
        commitPending(record, byteCount)
        record.pointee.pendingBefore = UInt16(blocks.used(record.pointee.pending))
    }

    // MARK: Sends that end early

    /// A poll begins to be raised. Sends that held only a part of the core's bytes are answered before anything else of
    /// their connections; the driver may say yet that it took less.
    mutating func beginRaising() {
        compression.inflated.removeAll()
        compression.inflatedByteCount = 0
        for place in 0..<compression.cappedSends.count {
            compression.cappedSends[place].place = raised.count
            let send = compression.cappedSends[place]
            raised.append(Completion(.sendIncomplete, connection: send.connection, value: send.byteCount))
        }
    }

    mutating func endRaising() {
        compression.cappedSends.removeAll()
        continueBacklogs()
    }

    /// The driver took less of such a send.
    mutating func setCapped(_ connection: Slot, _ result: Int32) {
        for place in 0..<compression.cappedSends.count
        where compression.cappedSends[place].connection == connection {
            raised[compression.cappedSends[place].place].value = result
        }
    }

    // MARK: Life

    /// What the two ends of a WebSocket that opens have agreed on.
    mutating func beginCompression(_ record: UnsafeMutablePointer<TransportRecord>, _ agreement: CompressionAgreement) {
        record.pointee.compression = agreement
        compression.addContexts(record.pointee.connectionIndex, agreement)
    }

    mutating func removeCompression(_ record: UnsafeMutablePointer<TransportRecord>) {
        compression.remove(record.pointee.connectionIndex, record.pointee.compression, &blocks)
    }
}
