internal import Glibc
public import IO
internal import Slabs

// From the core to the driver.
extension TransportLayer {
    /// Changes the submissions of a core's turn into those for the driver, and adds the layer's own. To be called before
    /// each poll, and `raise` after it.
    ///
    /// - Parameter now: monotonic nanoseconds.
    /// - Returns: when the layer has something to do though nothing happens (monotonic nanoseconds). 0: at once; `.max`:
    ///   never.
    public mutating func lower(_ submissions: inout Batch<Submission>, now: UInt64) -> UInt64 {
        self.now = now
        forgetLastPoll()
        closeLingering()
        var keptCount = 0
        for place in 0..<submissions.count {
            var submission = submissions[place]
            guard lower(&submission) else { continue }
            submissions[keptCount] = submission
            keptCount += 1
        }
        submissions.keepFirst(keptCount)
        submitOwn()
        for place in 0..<extras.count { submissions.append(extras[place]) }
        extras.removeAll()
        forgetArrivals()
        return nextDeadline
    }

    /// Returns whether the submission is passed on.
    @inline(__always)
    private mutating func lower(_ submission: inout Submission) -> Bool {
        switch submission.kind {
        case .send, .sendVector, .sendZeroCopy, .awaitWritable, .pauseReceive, .resumeReceive, .shutdownWrite, .close:
            guard let record = find(submission.connection) else { return true }
            return lower(&submission, of: record)
        case .adopt:
            adopt(submission)
            return true
        case .refuse, .handOff, .wake, .stopAccepting, .resumeAccepting, .connect, .openDirectory, .createFile,
            .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile, .syncFile, .deleteFile, .renameFile,
            .closeFile:
            return true
        }
    }

    private mutating func lower(
        _ submission: inout Submission, of record: UnsafeMutablePointer<TransportRecord>
    ) -> Bool {
        switch submission.kind {
        case .send, .sendVector, .sendZeroCopy: return lowerSend(record, &submission)
        case .awaitWritable:
            record.pointee.flags.insert(.coreAwaitsWritable)
            return askForWritable(record)
        case .pauseReceive:
            record.pointee.flags.insert(.receiveIsPaused)
            return !record.pointee.compressionFlags.contains(.pausesReceive)
        case .resumeReceive:
            record.pointee.flags.remove(.receiveIsPaused)
            return !record.pointee.compressionFlags.contains(.pausesReceive)
        case .shutdownWrite: return lowerShutdown(record)
        case .close: return lowerClose(record, submission)
        default: return true
        }
    }

    /// Whether the driver is to be asked, for it was not yet.
    private mutating func askForWritable(_ record: UnsafeMutablePointer<TransportRecord>) -> Bool {
        if record.pointee.flags.contains(.isWritableAsked) { return false }
        record.pointee.flags.insert(.isWritableAsked)
        return true
    }

    /// What the driver could still read in the last poll is free.
    private mutating func forgetLastPoll() {
        if hasSentPending {
            for place in 0..<sends.count where sends[place].pending != 0 { blocks.release(sends[place].pending) }
            hasSentPending = false
        }
        sends.removeAll()
        sendCursor = 0
        // Other bytes may lie there now.
        checkedText = CheckedText()
        arena.removeAll()
        if usesCompression { compression.pieces.removeAll() }
        trim.turn(&blocks, &records, now: now)
    }

    private var nextDeadline: UInt64 {
        mutating get {
            // A driver reports nothing of what it took whole, but a zero-copy send is always answered, and so is one
            // that held only a part of the core's bytes.
            if !listed.isEmpty || !reports.isEmpty || !zeroCopySends.isEmpty { return 0 }
            if usesCompression, hasBacklogToContinue || !compression.cappedSends.isEmpty { return 0 }
            return min(lingerDeadline, trim.deadline(blocks))
        }
    }

    // MARK: The layer's own

    /// Sends what the layer itself has to say to connections that have no send of the core in this poll.
    private mutating func submitOwn() {
        for place in 0..<listed.count {
            guard let record = records.find(listed[place]) else { continue }
            record.pointee.flags.remove(.isListed)
            submitOwn(record)
        }
        listed.removeAll()
        swap(&listed, &later)
    }

    private mutating func submitOwn(_ record: UnsafeMutablePointer<TransportRecord>) {
        let flags = record.pointee.flags
        if flags.contains(.isClosing) { return }
        if record.pointee.compression.isOn { settlePause(record) }
        if flags.isSuperset(of: [.lingers, .peerEnded]) { return submitClose(record) }
        if flags.contains(.awaitsWritable) {
            if askForWritable(record) {
                extras.append(Submission(.awaitWritable, connection: record.pointee.connection))
            }
            return
        }
        // Who waits for the socket is listed again when it takes bytes; who owes the core's bytes, by the core's send.
        if flags.contains(.isWritableAsked) || record.pointee.owed > 0 { return }
        if record.pointee.pending != 0 {
            submitPending(record)
            if flags.contains(.shutdownIsDue) { listForLater(record) }
        } else if flags.contains(.shutdownIsDue) {
            record.pointee.flags.remove(.shutdownIsDue)
            record.pointee.flags.insert(.isShutDown)
            extras.append(Submission(.shutdownWrite, connection: record.pointee.connection))
        }
    }

    /// The send's answer has to be there first.
    private mutating func listForLater(_ record: UnsafeMutablePointer<TransportRecord>) {
        record.pointee.flags.insert(.isListed)
        later.append(handle(record))
    }

    /// A send of all that is pending, by itself.
    mutating func submitPending(_ record: UnsafeMutablePointer<TransportRecord>) {
        guard arena.hasRoom(vectorCount: 1, headerCount: 0) else { return listForLater(record) }
        var send = beginSend(record, coreByteCount: 0)
        pushPending(record, upTo: blocks.used(record.pointee.pending))
        send.vectorCount = 1
        let vector = arena.vectors[send.vectors]
        sends.append(send)
        extras.append(
            Submission(
                .send, connection: record.pointee.connection, pointer: UnsafeRawPointer(vector.iov_base),
                byteCount: vector.iov_len))
    }

    /// The state before a send, which is needed if it falls short.
    mutating func beginSend(_ record: UnsafeMutablePointer<TransportRecord>, coreByteCount: Int) -> LoweredSend {
        if record.pointee.pending != 0 {
            // The driver reads from it until the poll is over, whatever becomes of it here.
            blocks.retain(record.pointee.pending)
            hasSentPending = true
        }
        return LoweredSend(
            record: handle(record), vectors: arena.vectorCount, vectorCount: 0, coreByteCount: UInt32(coreByteCount),
            owed: record.pointee.owed, pending: record.pointee.pending, pendingOffset: record.pointee.pendingOffset,
            pendingBefore: record.pointee.pendingBefore,
            wasInMessage: record.pointee.flags.contains(.isInMessage), isZeroCopy: false)
    }

    /// Adds pending bytes to the send, up to an offset in their block. Until the kernel says otherwise they are sent.
    mutating func pushPending(_ record: UnsafeMutablePointer<TransportRecord>, upTo end: Int) {
        let block = record.pointee.pending
        let start = Int(record.pointee.pendingOffset)
        guard block != 0, start < end else { return }
        arena.append(blocks.base(block) + start, end - start)
        didSendPending(record, upTo: end)
    }

    /// Pending bytes up to an offset in their block are with the kernel, or about to be.
    mutating func didSendPending(_ record: UnsafeMutablePointer<TransportRecord>, upTo end: Int) {
        let block = record.pointee.pending
        guard end == blocks.used(block) else {
            record.pointee.pendingOffset = UInt16(end)
            return
        }
        record.pointee.pending = 0
        record.pointee.pendingOffset = 0
        record.pointee.pendingBefore = 0
        blocks.release(block)
    }
}
