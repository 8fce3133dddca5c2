internal import Glibc
internal import IO
internal import Slabs

// What the layer itself sends, and what the kernel took of a send.
extension TransportLayer {
    /// Pongs that wait for their turn, in bytes. Beyond it older ones are dropped: the last ping is the one that has to
    /// be answered (RFC 6455, section 5.5.3).
    private static var pongByteCountMax: Int { 1024 }

    /// Adds bytes of the layer's own to what is to be sent: pongs and messages come behind them. False: there is no memory.
    mutating func queue(_ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let room = reservePending(record, bytes.count) else { return false }
        room.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        commitPending(record, bytes.count)
        record.pointee.pendingBefore = UInt16(blocks.used(record.pointee.pending))
        return true
    }

    /// Room behind what is pending. nil: there is no memory. Where the block is full, what is not sent yet moves to another
    /// one. So a peer that takes a few bytes at a time does not make the block grow by what it has taken.
    mutating func reservePending(
        _ record: UnsafeMutablePointer<TransportRecord>, _ byteCount: Int
    ) -> UnsafeMutableRawPointer? {
        let old = record.pointee.pending
        let used = old == 0 ? 0 : blocks.used(old)
        if old != 0, used + byteCount <= min(blocks.capacity(old), Int(UInt16.max)) { return blocks.base(old) + used }
        let sent = Int(record.pointee.pendingOffset)
        let block = blocks.allocate(byteCount: used - sent + byteCount)
        guard block != 0 else { return nil }
        if old != 0 {
            blocks.base(block).copyMemory(from: blocks.base(old) + sent, byteCount: used - sent)
            blocks.release(old)
        }
        blocks.setUsed(block, used - sent)
        record.pointee.pending = block
        record.pointee.pendingOffset = 0
        record.pointee.pendingBefore -= UInt16(min(sent, Int(record.pointee.pendingBefore)))
        return blocks.base(block) + used - sent
    }

    mutating func commitPending(_ record: UnsafeMutablePointer<TransportRecord>, _ byteCount: Int) {
        let block = record.pointee.pending
        blocks.setUsed(block, blocks.used(block) + byteCount)
        invariant(blocks.used(block) <= Int(UInt16.max), "what is pending fits its offsets")
        list(record)
    }

    /// A pong that there is no memory for is not sent.
    mutating func queuePong(_ record: UnsafeMutablePointer<TransportRecord>, _ payload: UnsafeRawBufferPointer) {
        if !record.pointee.flags.isDisjoint(with: [.closeIsQueued, .isShutDown]) { return }
        let block = record.pointee.pending
        if block != 0 {
            let start = max(record.pointee.pendingOffset, record.pointee.pendingBefore)
            if blocks.used(block) - Int(start) + payload.count + 2 > Self.pongByteCountMax {
                blocks.setUsed(block, Int(start))
            }
        }
        guard let room = reservePending(record, payload.count + 2) else { return }
        commitPending(
            record, WebSocketFramer.writeControl(opcode: WebSocketDecoder.Opcode.pong, payload, to: room))
    }

    /// The close frame, once.
    mutating func queueClose(_ record: UnsafeMutablePointer<TransportRecord>) {
        if record.pointee.flags.contains(.closeIsQueued) { return }
        record.pointee.flags.insert(.closeIsQueued)
        let answer = record.pointee.closeAnswer
        var code = answer.code
        var reason = answer.fault?.reason ?? ""
        if answer == .normal, isDraining, record.pointee.stage != .ended {
            code = .goingAway
            reason = "the broker shuts down"
        }
        guard let room = reservePending(record, 4 + reason.utf8CodeUnitCount) else { return }
        commitPending(record, WebSocketFramer.writeClose(code, reason: reason, to: room))
    }

    // MARK: Sends that fall short

    mutating func sendIncomplete(_ record: UnsafeMutablePointer<TransportRecord>, _ result: Int32) {
        guard let send = takeSend(of: handle(record)) else {
            return raised.append(
                Completion(.sendIncomplete, connection: record.pointee.connection, value: result))
        }
        guard result >= 0 else { return sendFailed(record, send, result) }
        let taken = settle(record, send, Int(result))
        if taken < Int(send.coreByteCount) {
            answer(record, send, taken)
        } else {
            // The core knows nothing of the bytes that are left.
            if send.isZeroCopy { answer(record, send, taken) }
            record.pointee.flags.insert(.awaitsWritable)
            list(record)
        }
    }

    private mutating func sendFailed(
        _ record: UnsafeMutablePointer<TransportRecord>, _ send: LoweredSend, _ result: Int32
    ) {
        if send.coreByteCount == 0 { return failed(record, result) }
        record.pointee.stage = .failed
        answer(record, send, Int(result))
    }

    private mutating func answer(
        _ record: UnsafeMutablePointer<TransportRecord>, _ send: LoweredSend, _ result: Int
    ) {
        let connection = record.pointee.connection
        if send.compression.contains(.isCapped) { return setCapped(connection, Int32(result)) }
        guard send.isZeroCopy else {
            return raised.append(Completion(.sendIncomplete, connection: connection, value: Int32(result)))
        }
        for place in 0..<zeroCopySends.count where zeroCopySends[place].connection == connection {
            zeroCopySends[place].result = Int32(result)
        }
    }

    private mutating func takeSend(of record: Handle<TransportRecord>) -> LoweredSend? {
        for _ in 0..<sends.count {
            if sendCursor >= sends.count { sendCursor = 0 }
            let send = sends[sendCursor]
            sendCursor += 1
            if send.record == record { return send }
        }
        return nil
    }

    /// Sets the record to what it is after the kernel took `byteCount` bytes of the send.
    ///
    /// - Returns: how many of them were the core's.
    private mutating func settle(
        _ record: UnsafeMutablePointer<TransportRecord>, _ send: LoweredSend, _ byteCount: Int
    ) -> Int {
        var left = byteCount
        var coreByteCount = 0
        rewind(record, send)
        if send.compression.contains(.isCompressed) { return settleCompressed(record, send, byteCount) }
        for place in send.vectors..<send.vectors + Int(send.vectorCount) {
            let base = UnsafeRawPointer(arena.vectors[place].iov_base!)
            let pieceByteCount = arena.vectors[place].iov_len
            let taken = min(left, pieceByteCount)
            if isPending(base, send) {
                didSendPending(record, upTo: Int(record.pointee.pendingOffset) + taken)
                if taken < pieceByteCount { break }
            } else if arena.isHeader(base) {
                // One that was not begun is made again.
                if taken == 0 { break }
                let header = WebSocketFramer.readHeader(base)
                record.pointee.owed = UInt32(header.payloadByteCount)
                setInMessage(record, !header.isLast)
                if taken < pieceByteCount {
                    keepHeader(record, UnsafeRawBufferPointer(start: base + taken, count: pieceByteCount - taken))
                    break
                }
            } else {
                coreByteCount += taken
                record.pointee.owed -= UInt32(taken)
                if taken < pieceByteCount { break }
            }
            left -= taken
        }
        keepBegunFrame(record)
        return coreByteCount
    }

    /// Of what is pending a control frame that was sent in part has to be finished. Those behind it were not begun: newer
    /// pongs may replace them.
    mutating func keepBegunFrame(_ record: UnsafeMutablePointer<TransportRecord>) {
        let block = record.pointee.pending
        guard block != 0 else { return }
        var end = Int(record.pointee.pendingBefore)
        while end < record.pointee.pendingOffset {
            end += 2 + Int(blocks.base(block).load(fromByteOffset: end + 1, as: UInt8.self))
        }
        invariant(end <= blocks.used(block), "what is pending ends with a whole control frame")
        record.pointee.pendingBefore = UInt16(end)
    }

    /// The record as it was before the send.
    private mutating func rewind(_ record: UnsafeMutablePointer<TransportRecord>, _ send: LoweredSend) {
        if send.pending != 0 { blocks.retain(send.pending) }
        if record.pointee.pending != 0 { blocks.release(record.pointee.pending) }
        record.pointee.owed = send.owed
        record.pointee.pending = send.pending
        record.pointee.pendingOffset = send.pendingOffset
        record.pointee.pendingBefore = send.pendingBefore
        setInMessage(record, send.wasInMessage)
    }

    mutating func setInMessage(_ record: UnsafeMutablePointer<TransportRecord>, _ isInMessage: Bool) {
        if isInMessage {
            record.pointee.flags.insert(.isInMessage)
        } else {
            record.pointee.flags.remove(.isInMessage)
        }
    }

    mutating func isPending(_ base: UnsafeRawPointer, _ send: LoweredSend) -> Bool {
        guard send.pending != 0 else { return false }
        let start = UnsafeRawPointer(blocks.base(send.pending))
        return base >= start && base < start + blocks.used(send.pending)
    }

    /// The rest of a header that was sent in part goes before its payload. Without memory for it the connection is lost.
    private mutating func keepHeader(_ record: UnsafeMutablePointer<TransportRecord>, _ rest: UnsafeRawBufferPointer) {
        invariant(record.pointee.pending == 0, "what was pending went before the header")
        guard queue(record, rest) else { return failed(record, -ENOMEM) }
    }
}
