internal import IO
internal import Slabs

// How a connection ends.
//
// The core submits `.shutdownWrite` when it has nothing more to say, and then `.close`, or `.close` alone if the client has
// ended before. Either way close_notify comes behind the last byte (RFC 8446, section 6.1).
//
// Ciphertext may still wait for the kernel when the core submits `.close`: close_notify does, and above WebSockets the core's
// bytes count as taken when they are encrypted, so it knows nothing of them. The connection stays until the kernel has
// them, or until the client has taken nothing of them for a while. Whoever is reset loses what waits.
extension TLSLayer {
    /// close_notify, and then the socket's end.
    mutating func shutdownWrite(_ record: UnsafeMutablePointer<TLSRecord>) {
        sayAll(record)
        record.pointee.flags.insert(.shutdownIsDue)
        list(record)
    }

    private mutating func sayAll(_ record: UnsafeMutablePointer<TLSRecord>) {
        if record.pointee.flags.contains(.hasSaidAll) { return }
        record.pointee.flags.insert(.hasSaidAll)
        guard record.pointee.stage == .open else { return }
        var output = TLSOutput(base: scratch.baseAddress!, capacity: scratch.count)
        record.pointee.engine!.close(output: &output, wire: wire)
        if output.count > 0 { _ = append(record, UnsafeRawBufferPointer(rebasing: scratch[..<output.count])) }
    }

    mutating func close(_ record: UnsafeMutablePointer<TLSRecord>, _ submission: Submission) {
        record.pointee.flags.insert(.inputEnded)
        record.pointee.flags.remove(.coreAwaitsWritable)
        // Bytes that are encrypted and not taken: the core has given up on what it has sent.
        let isFlushed = record.pointee.aheadByteCount == record.pointee.sentByteCount
        if record.pointee.stage == .open, submission.value != 1, isFlushed {
            sayAll(record)
            if record.pointee.pendingByteCount > 0 {
                record.pointee.flags.insert(.closeIsDue)
                list(record)
                return awaitKernel(record)
            }
        }
        // An alert may still be there. It is worth one attempt, and a reset would overtake it.
        let hasAlert = record.pointee.stage == .failed && record.pointee.pendingByteCount > 0
        if hasAlert, record.pointee.flags.isDisjoint(with: [.isFull, .isSending]) {
            submit(record, coreByteCount: 0, isZeroCopy: false)
        }
        submitClose(record, value: hasAlert ? 0 : submission.value)
    }

    mutating func submitClose(_ record: UnsafeMutablePointer<TLSRecord>, value: Int32 = 0) {
        record.pointee.flags.insert(.isClosing)
        lowered.append(Submission(.close, connection: record.pointee.connection, value: value))
    }

    private mutating func awaitKernel(_ record: UnsafeMutablePointer<TLSRecord>) {
        closing.append(
            ClosingTLS(
                record: handle(record), deadline: now &+ Self.closeNanoseconds,
                pendingByteCount: record.pointee.pendingByteCount))
    }

    /// Closes those whose clients have taken nothing for too long. In a drain, also those whose clients have not taken all.
    mutating func closeOverdue() {
        while let next = closing.first {
            if let record = records.find(next.record), !record.pointee.flags.contains(.isClosing) {
                guard next.deadline <= now else { break }
                if record.pointee.pendingByteCount < next.pendingByteCount, !isDraining {
                    awaitKernel(record)
                } else {
                    submitClose(record)
                }
            }
            _ = closing.removeFirst()
        }
    }

    var closeDeadline: UInt64 { closing.first?.deadline ?? .max }
}
