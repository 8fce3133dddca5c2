internal import Glibc
internal import IO
internal import Slabs

// How a connection ends.
//
// When the core has said all, it submits `.shutdownWrite`: a close frame is sent and the sending side shut down, and the
// core waits for the peer's close frame, which `raise` reports as the end of the input. Where the peer's close frame came
// first, or the peer was refused, the core submits `.close` at once, when its output is flushed. Then the layer keeps the
// connection until the peer has read the answer and ended: a socket that is closed while something unread arrives is
// reset, and the answer may be lost with it.
extension TransportLayer {
    /// Returns whether the submission is passed on.
    mutating func lowerShutdown(_ record: UnsafeMutablePointer<TransportRecord>) -> Bool {
        let isOpen = record.pointee.flags.contains(.isOpen)
        if isOpen, record.pointee.owed == 0 { queueClose(record) }
        // A request that comes now is not answered any more.
        if !isOpen, facts(of: record).usesWebSocket, record.pointee.stage != .failed { record.pointee.stage = .ended }
        guard record.pointee.pending != 0, record.pointee.owed == 0 else {
            record.pointee.flags.insert(.isShutDown)
            return true
        }
        record.pointee.flags.insert(.shutdownIsDue)
        list(record)
        return false
    }

    /// Returns whether the submission is passed on.
    mutating func lowerClose(_ record: UnsafeMutablePointer<TransportRecord>, _ submission: Submission) -> Bool {
        if record.pointee.compression.isOn { endInflating(record) }
        let flags = record.pointee.flags
        let isReset = submission.value == 1
        // A close frame that `lowerShutdown` has queued in this turn is among what is pending.
        let hasAnswer = record.pointee.pending != 0 || flags.contains(.isOpen) && !flags.contains(.closeIsQueued)
        let waits = flags.contains(.awaitsWritable) || flags.contains(.isWritableAsked)
        // Within a frame nothing else can be said, and a socket that takes nothing is not waited for.
        guard !isReset, hasAnswer, record.pointee.owed == 0, !waits, record.pointee.stage != .failed else {
            record.pointee.flags.insert(.isClosing)
            return true
        }
        if flags.contains(.isOpen) { queueClose(record) }
        if flags.contains(.peerEnded) || isDraining {
            if record.pointee.pending != 0 { submitPending(record) }
            record.pointee.flags.insert(.isClosing)
            extras.append(submission)
            return false
        }
        linger(record)
        return false
    }

    private mutating func linger(_ record: UnsafeMutablePointer<TransportRecord>) {
        record.pointee.stage = .ended
        record.pointee.flags.formUnion([.lingers, .shutdownIsDue])
        record.pointee.flags.remove(.coreAwaitsWritable)
        list(record)
        if record.pointee.flags.contains(.receiveIsPaused) {
            record.pointee.flags.remove(.receiveIsPaused)
            // What the layer has stopped for its own reasons, it resumes itself.
            if !record.pointee.compressionFlags.contains(.pausesReceive) {
                extras.append(Submission(.resumeReceive, connection: record.pointee.connection))
            }
        }
        lingering.append(Lingerer(record: handle(record), deadline: now &+ Self.lingerNanoseconds))
    }

    mutating func submitClose(_ record: UnsafeMutablePointer<TransportRecord>) {
        record.pointee.flags.insert(.isClosing)
        extras.append(Submission(.close, connection: record.pointee.connection))
    }

    /// Closes those whose peers have taken too long to end.
    mutating func closeLingering() {
        while let lingerer = lingering.first {
            if let record = records.find(lingerer.record), !record.pointee.flags.contains(.isClosing) {
                guard lingerer.deadline <= now else { break }
                submitClose(record)
            }
            _ = lingering.removeFirst()
        }
    }

    var lingerDeadline: UInt64 { lingering.first?.deadline ?? .max }
}
