internal import IO
internal import Slabs

// What comes before the first byte of plaintext: the header of a proxy, and the handshake.
extension TLSLayer {
    /// What came while the handshake is not done. It waits if there is no time for it in this turn.
    mutating func receivedInHandshake(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) {
        let isNew = record.pointee.stage == .waiting
        // Behind the client's last message of the handshake comes what it has to say.
        let byteCountMax = isNew ? Self.keptByteCountMax : Self.keptByteCountOfBegunMax
        if record.pointee.flags.contains(.isQueued) {
            _ = keep(record, bytes, byteCountMax: byteCountMax)
        } else if stepAllowance > 0, !isNew || openHandshakeCount < Self.openHandshakeCountMax {
            shakeHands(record, bytes)
        } else if keep(record, bytes, byteCountMax: byteCountMax) {
            record.pointee.flags.insert(.isQueued)
            counters.handshakesDelayed &+= 1
            isNew ? newcomers.append(handle(record)) : begun.append(handle(record))
        }
    }

    private mutating func shakeHands(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) {
        if record.pointee.stage == .waiting {
            let context = listeners[record.pointee.listener].source!.current
            guard let engine = TLSEngine(accepting: context, wire: wire) else {
                return fail(record, TLSFailure(.noMemory))
            }
            record.pointee.engine = engine
            record.pointee.stage = .handshake
            openHandshakeCount += 1
        }
        decrypt(record, bytes)
    }

    mutating func establish(_ record: UnsafeMutablePointer<TLSRecord>) {
        record.pointee.stage = .open
        record.pointee.flags.insert(.ticketIsDue)
        openHandshakeCount -= 1
        counters.handshakes &+= 1
        if record.pointee.engine!.isResumed(wire: wire) { counters.handshakesResumed &+= 1 }
    }

    /// Handshakes that have waited go on, those that have begun first: they hold memory, and the rest of one is short.
    mutating func continueHandshakes() {
        while stepAllowance > 0, let next = begun.removeFirst() { resume(next) }
        while stepAllowance > 0, openHandshakeCount < Self.openHandshakeCountMax, let next = newcomers.removeFirst() {
            resume(next)
        }
    }

    private mutating func resume(_ handle: Handle<TLSRecord>) {
        guard let record = records.find(handle), record.pointee.stage != .failed, record.pointee.kept != 0 else {
            return
        }
        record.pointee.flags.remove(.isQueued)
        let block = record.pointee.kept
        record.pointee.kept = 0
        shakeHands(record, UnsafeRawBufferPointer(start: blocks.base(block), count: blocks.used(block)))
        blocks.release(block)
        if record.pointee.flags.contains(.endIsDue) {
            endInput(record, Completion(.receiveEnded, connection: record.pointee.connection))
        }
    }

    /// Whether a handshake that waits could go on in the next turn.
    var canContinueHandshakes: Bool {
        !begun.isEmpty || !newcomers.isEmpty && openHandshakeCount < Self.openHandshakeCountMax
    }

    // MARK: Bytes that are kept

    /// Adds to the kept bytes. False: the connection has failed.
    private mutating func keep(
        _ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer, byteCountMax: Int
    ) -> Bool {
        let old = record.pointee.kept
        let used = old == 0 ? 0 : blocks.used(old)
        guard used + bytes.count <= byteCountMax else {
            fail(record, TLSFailure(record.pointee.stage == .handshake ? .tooMuchAtOnce : .helloTooLong))
            return false
        }
        var block = old
        if old == 0 || blocks.capacity(old) < used + bytes.count {
            block = blocks.allocate(byteCount: used + bytes.count)
            guard block != 0 else {
                fail(record, TLSFailure(.noMemory))
                return false
            }
            if old != 0 {
                blocks.base(block).copyMemory(from: blocks.base(old), byteCount: used)
                blocks.release(old)
            }
            record.pointee.kept = block
        }
        (blocks.base(block) + used).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        blocks.setUsed(block, used + bytes.count)
        return true
    }

    mutating func forgetKept(_ record: UnsafeMutablePointer<TLSRecord>) {
        guard record.pointee.kept != 0 else { return }
        blocks.release(record.pointee.kept)
        record.pointee.kept = 0
    }

    /// The header of a proxy passes as it is, in one piece: the layer above reads it too.
    mutating func receivedBeforeTLS(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) {
        let before = record.pointee.kept == 0 ? 0 : blocks.used(record.pointee.kept)
        let piece = UnsafeRawBufferPointer(rebasing: bytes.prefix(ProxyHeader.byteCountMax - before))
        guard keep(record, piece, byteCountMax: ProxyHeader.byteCountMax) else { return }
        let block = record.pointee.kept
        let head = UnsafeRawBufferPointer(start: blocks.base(block), count: blocks.used(block))
        var headByteCount = head.count
        switch ProxyHeader(head) {
        case .incomplete: return
        case .malformed: record.pointee.stage = .failed
        case .complete(let byteCount, _):
            headByteCount = byteCount
            record.pointee.stage = .waiting
        }
        let room = plaintext.room(headByteCount)
        room.copyMemory(from: UnsafeRawBufferPointer(rebasing: head[..<headByteCount]))
        plaintext.commit(headByteCount)
        deliver(record, UnsafeRawBufferPointer(rebasing: room[..<headByteCount]))
        forgetKept(record)
        guard record.pointee.stage == .waiting else { return }
        let rest = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(headByteCount - before))
        if !rest.isEmpty { receivedInHandshake(record, rest) }
    }
}
