internal import Glibc
public import IO
internal import Slabs

// From the core to the driver.
extension TLSLayer {
    /// So much ciphertext is made before it is sent, to within a send. What was sent leaves its memory, which is still in
    /// the caches, to the next: all of a turn's together took 16 MiB with a thousand receivers.
    public static var partByteCountMax: Int { 64 << 10 }

    /// Begins to change the submissions of a turn into those for the driver. They come in parts: each has to be carried out
    /// before the next is asked for. The last goes with the poll.
    ///
    ///     layer.beginLowering(now: now)
    ///     while layer.lowerPart(&submissions, &part) {
    ///         driver.carryOut(part, completions: &completions)
    ///         layer.settlePart(completions)
    ///     }
    ///     // submissions are for the poll.
    ///
    /// What submissions point to is valid until the next call of one of these.
    ///
    /// - Parameter now: monotonic nanoseconds.
    public mutating func beginLowering(now: UInt64) {
        self.now = now
        submissionCursor = 0
        lowered.removeAll()
        sends.removeAll()
        arena.removeAll()
        trim.turn(&blocks, &records, now: now)
        closeOverdue()
    }

    /// - Parameters:
    ///   - submissions: of the core; in the end, what is for the poll.
    ///   - part: what is to be carried out now. It is empty before.
    ///   - byteCountMax: of ciphertext in a part. Tests have less.
    /// - Returns: whether there is a part.
    public mutating func lowerPart(
        _ submissions: inout Batch<Submission>, _ part: inout Batch<Submission>, byteCountMax: Int = partByteCountMax
    ) -> Bool {
        partByteCount = 0
        while submissionCursor < submissions.count {
            if partByteCount >= byteCountMax {
                swap(&part, &lowered)
                return true
            }
            lower(submissions[submissionCursor])
            submissionCursor += 1
        }
        let count = listed.count
        for place in 0..<count {
            guard let record = records.find(listed[place]) else { continue }
            record.pointee.flags.remove(.isListed)
            carryOn(record)
        }
        listed.removeFirst(count)
        arrivals.removeAll()
        arrivalCursor = 0
        swap(&submissions, &lowered)
        return false
    }

    /// A part was carried out.
    ///
    /// - Parameter completions: what the driver has reported since the last `raise`.
    public mutating func settlePart(_ completions: borrowing Batch<Completion>) {
        settleSends(completions)
        arena.removeAll()
    }

    /// When the layer has something to do though nothing happens (monotonic nanoseconds). 0: at once; `.max`: never. To be
    /// asked when all parts are made.
    public mutating func loweringDeadline() -> UInt64 {
        hasWork ? 0 : min(closeDeadline, trim.deadline(blocks))
    }

    /// There is something to do though nothing happens.
    var hasWork: Bool {
        !listed.isEmpty || !reports.isEmpty || !raised.isEmpty || settlesAtOnce || canContinueHandshakes
            || canFeedStarved
    }

    @inline(__always)
    private mutating func lower(_ submission: Submission) {
        switch submission.kind {
        case .send, .sendVector, .sendZeroCopy, .awaitWritable, .shutdownWrite, .close:
            guard let record = find(submission.connection) else { return lowered.append(submission) }
            lower(submission, of: record)
        case .adopt:
            adopt(submission)
            lowered.append(submission)
        case .pauseReceive, .resumeReceive, .refuse, .handOff, .wake, .stopAccepting, .resumeAccepting, .connect,
            .openDirectory, .createFile, .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile,
            .syncFile, .deleteFile, .renameFile, .closeFile:
            lowered.append(submission)
        }
    }

    private mutating func lower(_ submission: Submission, of record: UnsafeMutablePointer<TLSRecord>) {
        switch submission.kind {
        case .send, .sendZeroCopy:
            let vector = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: submission.pointer), iov_len: submission.byteCount)
            withUnsafePointer(to: vector) {
                send(record, UnsafeBufferPointer(start: $0, count: 1), submission)
            }
        case .sendVector:
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            send(record, UnsafeBufferPointer(start: vectors, count: submission.byteCount), submission)
        case .awaitWritable: awaitWritable(record)
        case .shutdownWrite: shutdownWrite(record)
        case .close: close(record, submission)
        default: lowered.append(submission)
        }
    }

    private mutating func send(
        _ record: UnsafeMutablePointer<TLSRecord>, _ vectors: UnsafeBufferPointer<iovec>, _ submission: Submission
    ) {
        let byteCount = submission.kind == .sendVector ? Int(submission.value) : submission.byteCount
        let isZeroCopy = submission.kind == .sendZeroCopy
        guard record.pointee.stage == .open, record.pointee.flags.isDisjoint(with: [.isClosing, .closeIsDue]) else {
            // Before the handshake is done the core has nothing to say but that time is up. Nobody could read that, so it
            // counts as sent.
            if isZeroCopy {
                reports.append(
                    Completion(.sendReleased, connection: record.pointee.connection, value: Int32(byteCount)))
            }
            return
        }
        if record.pointee.flags.contains(.ticketIsDue), !writeTicket(record) { return }
        guard encrypt(record, vectors, skipping: min(Int(record.pointee.aheadByteCount), byteCount)) else {
            return fail(record, wire.libraryFailure, inLower: true)
        }
        submit(record, coreByteCount: byteCount, isZeroCopy: isZeroCopy)
    }

    /// The client's ticket leaves with the core's first bytes (`TLSEngine.writeTicket`). False: the connection has failed.
    private mutating func writeTicket(_ record: UnsafeMutablePointer<TLSRecord>) -> Bool {
        record.pointee.flags.remove(.ticketIsDue)
        // A client without a ticket goes through a whole handshake the next time. Its data may not have to wait for that.
        guard blocks.byteCountMax - blocks.byteCountInUse > Self.ticketByteCountMax else { return true }
        var outcome = TLSRead.Outcome.needsInput
        var isFirst = true
        repeat {
            var output = TLSOutput(base: scratch.baseAddress!, capacity: scratch.count)
            outcome = record.pointee.engine!.writeTicket(isFirst: isFirst, output: &output, wire: wire)
            isFirst = false
            if output.count > 0, !append(record, UnsafeRawBufferPointer(rebasing: scratch[..<output.count])) {
                fail(record, TLSFailure(.noMemory), inLower: true)
                return false
            }
        } while outcome == .outputFull
        if outcome == .failed { fail(record, wire.libraryFailure, inLower: true) }
        return outcome != .failed
    }

    private mutating func awaitWritable(_ record: UnsafeMutablePointer<TLSRecord>) {
        if record.pointee.stage != .open { return }
        if record.pointee.pendingByteCount > 0 {
            record.pointee.flags.insert(.coreAwaitsWritable)
            // Where the socket has taken bytes again by now, what waits is sent first.
            record.pointee.flags.contains(.isFull) ? askWritable(record) : list(record)
        } else if record.pointee.flags.contains(.isStarved) {
            starved.append(handle(record))
        } else {
            // The kernel has taken all of the window, so the core may go on.
            reports.append(Completion(.writable, connection: record.pointee.connection))
        }
    }

    private mutating func askWritable(_ record: UnsafeMutablePointer<TLSRecord>) {
        if record.pointee.flags.contains(.isWritableAsked) { return }
        record.pointee.flags.insert(.isWritableAsked)
        lowered.append(Submission(.awaitWritable, connection: record.pointee.connection))
    }

    /// Does what a listed connection was listed for.
    private mutating func carryOn(_ record: UnsafeMutablePointer<TLSRecord>) {
        let flags = record.pointee.flags
        if flags.contains(.isClosing) { return }
        if flags.contains(.isSending) {
            // It is listed again when the send is over.
            if !flags.isDisjoint(with: [.closeIsDue, .shutdownIsDue]) { settlesAtOnce = true }
            return
        }
        if record.pointee.pendingByteCount > 0 {
            flags.contains(.isFull) ? askWritable(record) : submit(record, coreByteCount: 0, isZeroCopy: false)
        } else if flags.contains(.closeIsDue) {
            submitClose(record)
        } else if flags.contains(.shutdownIsDue) {
            record.pointee.flags.remove(.shutdownIsDue)
            lowered.append(Submission(.shutdownWrite, connection: record.pointee.connection))
        }
    }
}
