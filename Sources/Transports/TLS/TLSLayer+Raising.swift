internal import Glibc
public import IO
internal import Slabs

// From the driver to the core.
extension TLSLayer {
    /// Changes the completions of a poll into those that the core is to see. Bytes that they point to are valid until the
    /// next `raise`.
    ///
    /// - Parameter nowSeconds: wall time, in seconds since 1970, for the keys of tickets.
    public mutating func raise(_ completions: inout Batch<Completion>, nowSeconds: Int64) {
        self.nowSeconds = nowSeconds
        tickets.renew(nowSeconds: nowSeconds)
        plaintext.removeAll()
        stepAllowance = Self.stepsPerTurn
        settleSends(completions)
        settledCompletionCount = 0
        for place in 0..<reports.count { raised.append(reports[place]) }
        reports.removeAll()
        continueHandshakes()
        for place in 0..<completions.count { raise(completions[place]) }
        feedStarved()
        swap(&completions, &raised)
        raised.removeAll()
    }

    @inline(__always)
    private mutating func raise(_ completion: Completion) {
        switch completion.kind {
        case .received, .receiveEnded, .receiveFailed, .sendIncomplete, .writable, .closed:
            guard let record = find(completion.connection) else { return raised.append(completion) }
            raise(completion, of: record)
        case .accepted:
            noteArrival(completion)
            raised.append(completion)
        case .acceptFailed, .sendReleased, .woken, .fileOpened, .fileAppended, .fileRead, .fileAllocated,
            .fileSynced, .fileDeleted, .fileRenamed, .fileClosed, .authenticated, .durable, .permitted, .identified:
            raised.append(completion)
        }
    }

    private mutating func raise(_ completion: Completion, of record: UnsafeMutablePointer<TLSRecord>) {
        switch completion.kind {
        case .received where record.pointee.flags.contains(.closeIsDue): break  // Nobody reads it.
        case .received:
            received(record, UnsafeRawBufferPointer(start: completion.pointer, count: Int(completion.value)))
        case .receiveEnded:
            // Without close_notify before it: most clients end like that.
            if record.pointee.flags.contains(.isQueued) {
                record.pointee.flags.insert(.endIsDue)
                return
            }
            endInput(record, Completion(.receiveEnded, connection: completion.connection))
        case .receiveFailed: failed(record, completion)
        case .writable: writable(record)
        case .closed:
            remove(record)
            raised.append(completion)
        default: break  // `.sendIncomplete`: `settleSends` has seen it.
        }
    }

    /// The core hears of the end once, after all that came before it.
    mutating func endInput(_ record: UnsafeMutablePointer<TLSRecord>, _ completion: Completion) {
        if record.pointee.flags.contains(.inputEnded) { return }
        record.pointee.flags.insert(.inputEnded)
        raised.append(completion)
    }

    /// The connection is lost. Whoever has closed it is not told.
    private mutating func failed(_ record: UnsafeMutablePointer<TLSRecord>, _ completion: Completion) {
        if record.pointee.stage == .handshake { openHandshakeCount -= 1 }
        record.pointee.stage = .failed
        dropCiphertext(record)
        record.pointee.flags.insert(.inputEnded)
        record.pointee.flags.contains(.closeIsDue) ? list(record) : raised.append(completion)
    }

    private mutating func writable(_ record: UnsafeMutablePointer<TLSRecord>) {
        record.pointee.flags.remove([.isWritableAsked, .isFull])
        if record.pointee.pendingByteCount > 0 { list(record) }
        tellWritable(record)
    }

    private mutating func tellWritable(_ record: UnsafeMutablePointer<TLSRecord>) {
        guard record.pointee.flags.contains(.coreAwaitsWritable) else { return }
        record.pointee.flags.remove(.coreAwaitsWritable)
        raised.append(Completion(.writable, connection: record.pointee.connection))
    }

    // MARK: Sends

    /// The sends of the poll, or of a part, are over. The core is told of those that were not taken whole, before anything
    /// else.
    mutating func settleSends(_ completions: borrowing Batch<Completion>) {
        settlesAtOnce = false
        let firstPlace = settledCompletionCount
        settledCompletionCount = completions.count
        guard !sends.isEmpty else { return }
        for place in firstPlace..<completions.count where completions[place].kind == .sendIncomplete {
            guard let record = find(completions[place].connection) else { continue }
            record.pointee.flags.insert(.sendFellShort)
            record.pointee.sendResult = completions[place].value
        }
        for place in 0..<sends.count {
            guard let record = records.find(sends[place].record) else { continue }
            settle(record, sends[place])
        }
        sends.removeAll()
    }

    private mutating func settle(_ record: UnsafeMutablePointer<TLSRecord>, _ send: LoweredTLSSend) {
        let fellShort = record.pointee.flags.contains(.sendFellShort)
        record.pointee.flags.remove([.isSending, .sendFellShort])
        let result = fellShort ? Int(record.pointee.sendResult) : Int(send.ciphertextByteCount)
        if result < 0, result != -Int(EAGAIN) {
            return sendFailed(record, send, Int32(result))
        }
        record.pointee.sentByteCount += consume(record, max(result, 0))
        if send.coreByteCount > 0 { report(record, send) }
        if record.pointee.flags.contains(.isClosing) { return }
        if record.pointee.pendingByteCount > 0 {
            if fellShort { record.pointee.flags.insert(.isFull) }
            return list(record)
        }
        tellWritable(record)
        if !record.pointee.flags.isDisjoint(with: [.shutdownIsDue, .closeIsDue]) { list(record) }
    }

    /// The core learns of it by the answer to its own send. Of what the layer sends by itself it expects none.
    private mutating func sendFailed(
        _ record: UnsafeMutablePointer<TLSRecord>, _ send: LoweredTLSSend, _ result: Int32
    ) {
        let connection = record.pointee.connection
        if send.coreByteCount > 0 {
            let kind: Completion.Kind = send.isZeroCopy ? .sendReleased : .sendIncomplete
            raised.append(Completion(kind, connection: connection, value: result))
            guard record.pointee.flags.contains(.closeIsDue) else { return }
        }
        if record.pointee.flags.contains(.isClosing) { return }
        // An alert: the core knows already.
        if record.pointee.stage == .failed { return dropCiphertext(record) }
        failed(record, Completion(.receiveFailed, connection: connection, value: result))
    }

    /// Tells the core how many of its bytes are with the kernel.
    private mutating func report(_ record: UnsafeMutablePointer<TLSRecord>, _ send: LoweredTLSSend) {
        let taken = min(record.pointee.sentByteCount, send.coreByteCount)
        record.pointee.sentByteCount -= taken
        record.pointee.aheadByteCount -= taken
        let connection = record.pointee.connection
        if send.isZeroCopy {
            raised.append(Completion(.sendReleased, connection: connection, value: Int32(taken)))
        } else if taken < send.coreByteCount {
            raised.append(Completion(.sendIncomplete, connection: connection, value: Int32(taken)))
        }
    }

    /// Those who had no memory for ciphertext go on when there is some, whatever has made it free.
    private mutating func feedStarved() {
        guard canFeedStarved else { return }
        for place in 0..<starved.count {
            guard let record = records.find(starved[place]),
                record.pointee.flags.isDisjoint(with: [.isClosing, .closeIsDue])
            else { continue }
            record.pointee.flags.remove(.isStarved)
            raised.append(Completion(.writable, connection: record.pointee.connection))
        }
        starved.removeAll()
    }

    var canFeedStarved: Bool {
        !starved.isEmpty && blocks.byteCountMax - blocks.byteCountInUse > Self.pendingByteCountMax
    }

    // MARK: Received

    private mutating func received(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) {
        switch record.pointee.stage {
        case .open: decrypt(record, bytes)
        case .waiting, .handshake: receivedInHandshake(record, bytes)
        case .proxy: receivedBeforeTLS(record, bytes)
        case .failed: break
        }
    }

    /// Decrypts, or carries on the handshake. What the engine says besides is sent with the next `lower`.
    mutating func decrypt(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) {
        var input = bytes
        var result: TLSRead
        repeat {
            // A record of which the beginning came earlier may be longer than the input.
            let room = plaintext.room(TLSWire.recordByteCountMax)
            var output = TLSOutput(base: scratch.baseAddress!, capacity: scratch.count)
            result = record.pointee.engine!.read(&input, into: room, output: &output, wire: wire)
            stepAllowance -= result.handshakeStepCount
            if output.count > 0, !record.pointee.flags.contains(.hasSaidAll) {
                guard append(record, UnsafeRawBufferPointer(rebasing: scratch[..<output.count])) else {
                    return fail(record, TLSFailure(.noMemory))
                }
                list(record)
            }
            if record.pointee.stage == .handshake, record.pointee.engine!.isEstablished { establish(record) }
            if result.plaintextByteCount > 0 {
                plaintext.commit(result.plaintextByteCount)
                deliver(record, UnsafeRawBufferPointer(rebasing: room[..<result.plaintextByteCount]))
            }
        } while result.outcome == .plaintextFull || result.outcome == .outputFull
        switch result.outcome {
        case .needsInput, .plaintextFull, .outputFull: break
        case .ended: endInput(record, Completion(.receiveEnded, connection: record.pointee.connection))
        case .failed: fail(record, result.failure)
        }
    }

    mutating func deliver(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) {
        if record.pointee.flags.contains(.inputEnded) { return }
        raised.append(
            Completion(
                .received, connection: record.pointee.connection, value: Int32(bytes.count), pointer: bytes.baseAddress)
        )
    }

    /// The connection cannot be used any more. The alert that tells the peer why leaves before the core's `.close`.
    mutating func fail(
        _ record: UnsafeMutablePointer<TLSRecord>, _ failure: TLSFailure, inLower: Bool = false
    ) {
        switch record.pointee.stage {
        case .open: counters.connectionsFailed &+= 1
        case .handshake:
            openHandshakeCount -= 1
            counters.handshakesFailed &+= 1
        case .proxy, .waiting: counters.handshakesFailed &+= 1
        case .failed: return
        }
        notice(record, failure.description)
        record.pointee.stage = .failed
        if record.pointee.flags.contains(.inputEnded) { return }
        record.pointee.flags.insert(.inputEnded)
        let completion = Completion(.receiveFailed, connection: record.pointee.connection, value: -EPROTO)
        inLower ? reports.append(completion) : raised.append(completion)
    }
}
