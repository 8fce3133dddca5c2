internal import IO
internal import Slabs

// What is received on connections whose messages may be compressed.
//
// A chunk is decoded in slices, and what they inflate to is written into memory of the poll, together with what was not
// compressed, so that the core gets the bytes in their order. If that is more than a connection may have in a poll, the
// rest of the chunk is its backlog: it waits for the next poll as it came from the wire, and nothing more is received
// until it is done. So the memory for it does not depend on what the clients' bytes inflate to. It has a limit of its own:
// clients whose backlogs are kept for long, because the core does not want what they send, take memory from one another,
// and not from those who are in their handshakes.
extension TransportLayer {
    /// What a connection gets in a poll at most, and what a slice inflates to.
    private static var byteCountPerConnection: Int { 256 << 10 }
    /// What all get in a poll, and then those with a backlog.
    private static var byteCountPerPoll: Int { 4 << 20 }
    private static var backlogByteCountPerPoll: Int { 1 << 20 }
    /// What is decoded at a time. DEFLATE makes up to 1032 bytes of one, so it inflates to half a MiB at most.
    private static var sliceByteCount: Int { 512 }

    // MARK: Chunks

    /// As `decode`.
    mutating func decodeCompressed(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeMutableRawPointer, _ byteCount: Int
    ) {
        guard !record.pointee.compressionFlags.contains(.hasBacklog) else {
            return addBacklog(record, UnsafeRawBufferPointer(start: bytes, count: byteCount))
        }
        let taken = inflateFrames(record, bytes, byteCount, allowance: Self.byteCountPerPoll)
        guard taken < byteCount, record.pointee.stage == .frames else { return }
        addBacklog(record, UnsafeRawBufferPointer(start: bytes + taken, count: byteCount - taken))
    }

    /// Decodes as much as the poll allows. Returns how many of the bytes were taken.
    private mutating func inflateFrames(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeMutableRawPointer, _ byteCount: Int,
        allowance: Int
    ) -> Int {
        let limit = min(Self.byteCountPerConnection, allowance - compression.inflatedByteCount)
        var run = InflatedRun()
        var position = 0
        var isEnd = false
        while position < byteCount, !isEnd, run.byteCount < limit {
            let count = min(byteCount - position, Self.sliceByteCount)
            isEnd = inflateSlice(record, bytes + position, count, &run)
            position += count
        }
        deliver(record, &run)
        compression.inflatedByteCount += run.byteCount
        if isEnd {
            end(record)
        } else if position > 0 {
            keepReader(record)
        }
        return position
    }

    /// Returns whether nothing more is to be decoded.
    private mutating func inflateSlice(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeMutableRawPointer, _ byteCount: Int,
        _ run: inout InflatedRun
    ) -> Bool {
        let limit = facts(of: record).messageByteCountMax
        var chunk = WebSocketDecoder.Chunk(bytes, byteCount)
        var taken = 0
        while true {
            let event = record.pointee.decoder.decode(
                &chunk, byteCountMax: limit, stopsAtMessageEnds: true, allowsCompressed: true)
            let piece = UnsafeRawBufferPointer(start: bytes + taken, count: chunk.payloadByteCount - taken)
            taken = chunk.payloadByteCount
            var opcode = record.pointee.decoder.messageOpcode
            var endsMessage = false
            if case .messageEnded(let ended) = event {
                opcode = ended
                endsMessage = true
            }
            if opcode & WebSocketDecoder.Opcode.compressed == 0 {
                copy(record, piece, &run)
            } else if let code = inflate(record, piece, opcode, endsMessage, &run) {
                return fail(record, code)
            }
            if case .needsBytes = event { return false }
            if take(event, chunk, record) { return true }
        }
    }

    private mutating func fail(_ record: UnsafeMutablePointer<TransportRecord>, _ code: CloseCode) -> Bool {
        let fault: WebSocketFault =
            switch code {
            case .messageTooBig: .inflatesTooFar
            case .tryAgainLater: .noMemoryToInflate
            default: .malformedCompression
            }
        record.pointee.closeAnswer = CloseAnswer(fault)
        if code == .tryAgainLater { counters.inflationsRefused &+= 1 } else { counters.protocolErrors &+= 1 }
        notice(record, "\(fault.reason) (RFC 7692; close code \(code.rawValue))")
        return true
    }

    // MARK: Pieces

    /// Payload that is not compressed.
    private mutating func copy(
        _ record: UnsafeMutablePointer<TransportRecord>, _ piece: UnsafeRawBufferPointer, _ run: inout InflatedRun
    ) {
        var rest = piece
        while !rest.isEmpty {
            let room = room(record, &run)
            let count = min(room.count, rest.count)
            room.baseAddress!.copyMemory(from: rest.baseAddress!, byteCount: count)
            run.add(count)
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// A piece of a compressed message, or the last of it. Returns what is wrong.
    private mutating func inflate(
        _ record: UnsafeMutablePointer<TransportRecord>, _ piece: UnsafeRawBufferPointer, _ opcode: UInt8,
        _ endsMessage: Bool, _ run: inout InflatedRun
    ) -> CloseCode? {
        if piece.isEmpty, !endsMessage { return nil }
        let state = compression.state(record.pointee.connectionIndex)
        let agreement = record.pointee.compression
        guard let reader = compression.reader(of: state, agreement) else { return .tryAgainLater }
        let isText = opcode & 0x0F == WebSocketDecoder.Opcode.text
        if let code = inflate(record, piece, state, reader, isText, &run) { return code }
        counters.inflatedInput &+= UInt64(piece.count)
        guard endsMessage else { return nil }
        let code = withUnsafeBytes(of: InflateProgress.tail) { inflate(record, $0, state, reader, isText, &run) }
        if let code { return code }
        guard state.pointee.progress.isComplete(reader, isText: isText) else { return .invalidPayload }
        compression.didReadMessage(state, agreement)
        compression.freeIfUnused(record.pointee.connectionIndex)
        return nil
    }

    private mutating func inflate(
        _ record: UnsafeMutablePointer<TransportRecord>, _ piece: UnsafeRawBufferPointer,
        _ state: UnsafeMutablePointer<CompressionState>, _ reader: OpaquePointer, _ isText: Bool,
        _ run: inout InflatedRun
    ) -> CloseCode? {
        let facts = facts(of: record)
        let limits = InflateLimits(
            byteCountMax: facts.messageByteCountMax, smallByteCount: facts.inflatedByteCountMin)
        var rest = piece
        while true {
            let (outcome, count) = state.pointee.progress.run(
                reader, &rest, into: room(record, &run), isText: isText, limits: limits)
            run.add(count)
            counters.inflatedOutput &+= UInt64(count)
            switch outcome {
            case .needsInput: return nil
            case .needsRoom: continue
            case .failed(let code): return code
            case .noMemory: return .tryAgainLater
            }
        }
    }

    // MARK: What the core gets

    /// Room behind the run, or for a new one.
    private mutating func room(
        _ record: UnsafeMutablePointer<TransportRecord>, _ run: inout InflatedRun
    ) -> UnsafeMutableRawBufferPointer {
        if run.used == run.capacity {
            deliver(record, &run)
            let room = compression.inflated.room(Self.sliceByteCount)
            run.base = room.baseAddress
            run.capacity = room.count
        }
        return UnsafeMutableRawBufferPointer(start: run.base! + run.used, count: run.capacity - run.used)
    }

    private mutating func deliver(_ record: UnsafeMutablePointer<TransportRecord>, _ run: inout InflatedRun) {
        if run.used > 0 {
            compression.inflated.commit(run.used)
            raised.append(
                Completion(
                    .received, connection: record.pointee.connection, value: Int32(truncatingIfNeeded: run.used),
                    pointer: UnsafeRawPointer(run.base!)))
        }
        run.used = 0
        run.capacity = 0
    }

    // MARK: Parts of messages

    /// The reader stays with a connection until its message is whole. If all of them together take too much memory, the
    /// connection whose message has waited longest ends.
    private mutating func keepReader(_ record: UnsafeMutablePointer<TransportRecord>) {
        guard let state = compression.find(record.pointee.connectionIndex), state.pointee.reader != nil,
            !record.pointee.compression.clientTakesOver
        else { return }
        compression.startWaiting(state)
        while compression.byteCount > compression.byteCountMax, !compression.waiting.isEmpty {
            let longest = compression.slab[compression.waiting.first].pointee.connectionIndex
            let other = records[Index<TransportRecord>(places[longest])]
            _ = fail(other, .tryAgainLater)
            end(other)
        }
    }

    /// Nothing more of the connection is inflated. Its backlog is thrown away.
    mutating func endInflating(_ record: UnsafeMutablePointer<TransportRecord>) {
        compression.endReading(record.pointee.connectionIndex, record.pointee.compression, &blocks)
        record.pointee.compressionFlags.subtract([.hasBacklog, .endIsDue])
        if record.pointee.compressionFlags.contains(.pausesReceive) { list(record) }
    }

    // MARK: Backlogs

    private mutating func addBacklog(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawBufferPointer
    ) {
        let state = compression.state(record.pointee.connectionIndex)
        let old = state.pointee.backlog
        let start = Int(state.pointee.backlogOffset)
        let used = old == 0 ? 0 : blocks.used(old) - start
        let block =
            compression.hasRoom(forBacklog: bytes.count) ? blocks.allocate(byteCount: used + bytes.count) : 0
        guard block != 0 else {
            _ = fail(record, .tryAgainLater)
            return end(record)
        }
        if old != 0 { blocks.base(block).copyMemory(from: blocks.base(old) + start, byteCount: used) }
        (blocks.base(block) + used).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        blocks.setUsed(block, used + bytes.count)
        compression.setBacklog(state, block, &blocks)
        guard !record.pointee.compressionFlags.contains(.hasBacklog) else { return }
        record.pointee.compressionFlags.insert(.hasBacklog)
        compression.backlogged.append(handle(record))
        list(record)
    }

    /// Goes on with backlogs, after all that the driver has reported in this poll. Whoever was served and is not done goes
    /// behind the others: a poll has time for some of them only.
    mutating func continueBacklogs() {
        compression.inflatedByteCount = 0
        var keptCount = 0
        for place in 0..<compression.backlogged.count {
            let handle = compression.backlogged[place]
            guard let record = records.find(handle), record.pointee.compressionFlags.contains(.hasBacklog) else {
                continue
            }
            let progress = record.pointee.flags.contains(.receiveIsPaused) ? .none : continueBacklog(record)
            switch progress {
            case .none:
                compression.backlogged[keptCount] = handle
                keptCount += 1
            case .some: compression.served.append(handle)
            case .all: break
            }
        }
        compression.backlogged.keepFirst(keptCount)
        for place in 0..<compression.served.count { compression.backlogged.append(compression.served[place]) }
        compression.served.removeAll()
    }

    /// How much of a backlog was taken.
    private enum BacklogProgress { case none, some, all }

    private mutating func continueBacklog(_ record: UnsafeMutablePointer<TransportRecord>) -> BacklogProgress {
        guard let state = compression.find(record.pointee.connectionIndex) else { return .all }
        let block = state.pointee.backlog
        let start = Int(state.pointee.backlogOffset)
        let left = blocks.used(block) - start
        let taken = inflateFrames(record, blocks.base(block) + start, left, allowance: Self.backlogByteCountPerPoll)
        // It has ended, and its backlog with it.
        guard record.pointee.compressionFlags.contains(.hasBacklog) else { return .all }
        guard taken == left else {
            state.pointee.backlogOffset += UInt32(taken)
            return taken > 0 ? .some : .none
        }
        compression.setBacklog(state, 0, &blocks)
        record.pointee.compressionFlags.remove(.hasBacklog)
        compression.freeIfUnused(record.pointee.connectionIndex)
        list(record)
        if record.pointee.compressionFlags.contains(.endIsDue) { end(record) }
        return .all
    }

    /// A backlog waits for nothing but the next poll.
    var hasBacklogToContinue: Bool {
        mutating get {
            for place in 0..<compression.backlogged.count {
                guard let record = records.find(compression.backlogged[place]) else { continue }
                if !record.pointee.flags.contains(.receiveIsPaused) { return true }
            }
            return false
        }
    }

    /// Receiving stops while there is a backlog, whatever the core wants, and goes on if the core wants it.
    mutating func settlePause(_ record: UnsafeMutablePointer<TransportRecord>) {
        let isDue = record.pointee.compressionFlags.contains(.hasBacklog)
        guard isDue != record.pointee.compressionFlags.contains(.pausesReceive) else { return }
        if isDue {
            record.pointee.compressionFlags.insert(.pausesReceive)
        } else {
            record.pointee.compressionFlags.remove(.pausesReceive)
        }
        if record.pointee.flags.contains(.receiveIsPaused) { return }
        extras.append(Submission(isDue ? .pauseReceive : .resumeReceive, connection: record.pointee.connection))
    }
}

/// The bytes for the core that are being written.
private struct InflatedRun {
    var base: UnsafeMutableRawPointer?
    var capacity = 0
    var used = 0
    /// Of this run and of those before it.
    private(set) var byteCount = 0

    mutating func add(_ count: Int) {
        used += count
        byteCount += count
    }
}
