internal import Glibc
public import IO
internal import Slabs

// From the driver to the core.
extension TransportLayer {
    /// Changes the completions of a poll into those that the core is to see. Bytes that they point to are valid as long as
    /// those of the driver.
    public mutating func raise(_ completions: inout Batch<Completion>) {
        raised.removeAll()
        for place in 0..<reports.count { raised.append(reports[place]) }
        reports.removeAll()
        if usesCompression { beginRaising() }
        for place in 0..<completions.count { raise(completions[place]) }
        if usesCompression { endRaising() }
        for place in 0..<zeroCopySends.count {
            let send = zeroCopySends[place]
            raised.append(Completion(.sendReleased, connection: send.connection, value: send.result))
        }
        zeroCopySends.removeAll()
        swap(&completions, &raised)
    }

    @inline(__always)
    private mutating func raise(_ completion: Completion) {
        switch completion.kind {
        case .received, .receiveEnded, .receiveFailed, .sendIncomplete, .writable, .closed:
            guard let record = find(completion.connection) else { return raised.append(completion) }
            raise(completion, of: record)
        case .accepted: accepted(completion)
        case .acceptFailed, .sendReleased, .woken, .fileOpened, .fileAppended, .fileRead, .fileAllocated, .fileSynced,
            .fileDeleted, .fileRenamed, .fileClosed, .authenticated, .durable, .permitted, .identified:
            raised.append(completion)
        }
    }

    private mutating func raise(_ completion: Completion, of record: UnsafeMutablePointer<TransportRecord>) {
        switch completion.kind {
        case .received: received(record, completion.pointer!, Int(completion.value))
        case .receiveEnded: peerEnded(record)
        case .receiveFailed: failed(record, completion.value)
        case .sendIncomplete: sendIncomplete(record, completion.value)
        case .writable: writable(record)
        case .closed:
            remove(record)
            raised.append(completion)
        default: raised.append(completion)
        }
    }

    // MARK: Received

    private mutating func received(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawPointer, _ byteCount: Int
    ) {
        var bytes = bytes
        var left = byteCount
        while left > 0 {
            switch record.pointee.stage {
            case .proxy, .request:
                let consumed =
                    record.pointee.stage == .proxy
                    ? takeProxyHeader(record, bytes, left) : takeRequest(record, bytes, left)
                bytes += consumed
                left -= consumed
            case .frames: return decode(record, UnsafeMutableRawPointer(mutating: bytes), left)
            case .plain:
                return raised.append(
                    Completion(
                        .received, connection: record.pointee.connection, value: Int32(truncatingIfNeeded: left),
                        pointer: bytes))
            case .ended, .failed: return
            }
        }
    }

    /// Takes the frames off a chunk, in place, and passes on what was in them, in one piece.
    private mutating func decode(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeMutableRawPointer, _ byteCount: Int
    ) {
        if record.pointee.compression.isOn { return decodeCompressed(record, bytes, byteCount) }
        let limit = facts(of: record).messageByteCountMax
        var chunk = WebSocketDecoder.Chunk(bytes, byteCount)
        var isEnd = false
        while !isEnd {
            let event = record.pointee.decoder.decode(&chunk, byteCountMax: limit)
            if case .needsBytes = event { break }
            isEnd = take(event, chunk, record)
        }
        if chunk.payloadByteCount > 0 {
            raised.append(
                Completion(
                    .received, connection: record.pointee.connection,
                    value: Int32(truncatingIfNeeded: chunk.payloadByteCount), pointer: UnsafeRawPointer(bytes)))
        }
        // What came before a fault is processed, and answered, before the close frame says what was wrong.
        if isEnd { end(record) }
    }

    /// Returns whether nothing more is to be decoded.
    mutating func take(
        _ event: WebSocketDecoder.Event, _ chunk: borrowing WebSocketDecoder.Chunk,
        _ record: UnsafeMutablePointer<TransportRecord>
    ) -> Bool {
        switch event {
        case .needsBytes, .messageEnded: return false
        case .failed(let fault):
            breaksRules(record, fault)
            return true
        case .control(let opcode, let offset, let byteCount, let isLast):
            let piece = UnsafeRawBufferPointer(start: chunk.bytes + offset, count: byteCount)
            if isLast, record.pointee.kept == 0 { return control(record, opcode, piece) }
            guard keep(record, piece, byteCountMax: WebSocketDecoder.controlByteCountMax) else { return true }
            guard isLast else { return false }
            let kept = record.pointee.kept
            record.pointee.kept = 0
            defer { blocks.release(kept) }
            return control(
                record, opcode, UnsafeRawBufferPointer(start: blocks.base(kept), count: blocks.used(kept)))
        }
    }

    /// The close frame will say which rule was broken, as the log does.
    private mutating func breaksRules(_ record: UnsafeMutablePointer<TransportRecord>, _ fault: WebSocketFault) {
        record.pointee.closeAnswer = CloseAnswer(fault)
        counters.protocolErrors &+= 1
        notice(
            record, "the client breaks the rules of WebSocket: \(fault.reason) (close code \(fault.code.rawValue))")
    }

    /// A whole control frame. Returns whether nothing more is to be decoded.
    private mutating func control(
        _ record: UnsafeMutablePointer<TransportRecord>, _ opcode: UInt8, _ payload: UnsafeRawBufferPointer
    ) -> Bool {
        switch opcode {
        case WebSocketDecoder.Opcode.ping:
            counters.pings &+= 1
            queuePong(record, payload)
            return false
        case WebSocketDecoder.Opcode.close:
            let answer = CloseCode.answer(to: payload)
            record.pointee.closeAnswer = CloseAnswer(answer.code)
            if let fault = answer.fault { breaksRules(record, fault) }
            return true
        default: return false  // A pong that nobody asked for is allowed (RFC 6455, section 5.5.3).
        }
    }

    /// Keeps a piece of something that is not whole yet. False: there is no memory, and the connection ends.
    mutating func keep(
        _ record: UnsafeMutablePointer<TransportRecord>, _ piece: UnsafeRawBufferPointer, byteCountMax: Int
    ) -> Bool {
        let used = record.pointee.kept == 0 ? 0 : blocks.used(record.pointee.kept)
        let byteCount = used + piece.count
        invariant(byteCount <= byteCountMax, "no more is kept than is needed to go on")
        if record.pointee.kept == 0 || byteCount > blocks.capacity(record.pointee.kept) {
            let block = blocks.allocate(byteCount: max(min(byteCount * 2, byteCountMax), 64))
            guard block != 0 else {
                notice(record, "there is no memory for the handshake or a control frame: the connection is closed")
                return false
            }
            if used > 0 { blocks.base(block).copyMemory(from: blocks.base(record.pointee.kept), byteCount: used) }
            if record.pointee.kept != 0 { blocks.release(record.pointee.kept) }
            record.pointee.kept = block
        }
        if let base = piece.baseAddress, piece.count > 0 {
            (blocks.base(record.pointee.kept) + used).copyMemory(from: base, byteCount: piece.count)
        }
        blocks.setUsed(record.pointee.kept, byteCount)
        return true
    }

    // MARK: Ends

    /// The input has ended for the core: it processes what it has, sends what is due, and closes.
    ///
    /// - Parameter isRaising: the core is told by the completions that are raised now, rather than by the next ones.
    mutating func end(_ record: UnsafeMutablePointer<TransportRecord>, isRaising: Bool = true) {
        if record.pointee.stage != .failed { record.pointee.stage = .ended }
        if record.pointee.kept != 0 {
            blocks.release(record.pointee.kept)
            record.pointee.kept = 0
        }
        if record.pointee.compression.isOn { endInflating(record) }
        if record.pointee.flags.contains(.endIsReported) || record.pointee.flags.contains(.lingers) { return }
        record.pointee.flags.insert(.endIsReported)
        let completion = Completion(.receiveEnded, connection: record.pointee.connection)
        if isRaising { raised.append(completion) } else { reports.append(completion) }
    }

    /// A bare end of the stream is an end like a close frame: the core's frames say whether something is missing.
    private mutating func peerEnded(_ record: UnsafeMutablePointer<TransportRecord>) {
        record.pointee.flags.insert(.peerEnded)
        if record.pointee.flags.contains(.lingers) { return list(record) }
        if record.pointee.compressionFlags.contains(.hasBacklog) {
            record.pointee.compressionFlags.insert(.endIsDue)
            return
        }
        end(record)
    }

    /// - Parameter result: -errno.
    mutating func failed(_ record: UnsafeMutablePointer<TransportRecord>, _ result: Int32) {
        record.pointee.flags.insert(.peerEnded)
        record.pointee.stage = .failed
        if record.pointee.compression.isOn { endInflating(record) }
        if record.pointee.flags.contains(.lingers) { return list(record) }
        record.pointee.flags.insert(.endIsReported)
        raised.append(Completion(.receiveFailed, connection: record.pointee.connection, value: result))
    }

    private mutating func writable(_ record: UnsafeMutablePointer<TransportRecord>) {
        record.pointee.flags.remove(.isWritableAsked)
        if record.pointee.flags.contains(.awaitsWritable) {
            record.pointee.flags.remove(.awaitsWritable)
            list(record)
        }
        if record.pointee.pending != 0 { list(record) }
        if record.pointee.flags.contains(.coreAwaitsWritable) {
            record.pointee.flags.remove(.coreAwaitsWritable)
            raised.append(Completion(.writable, connection: record.pointee.connection))
        }
    }
}
