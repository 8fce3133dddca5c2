import Slabs

// Limits of the queues that one client fills (`QueueHolders`), and of all destinations.
extension Shard {
    /// The session as the one that fills a queue, here or at another worker.
    @inline(__always)
    func holder(_ session: UnsafeMutablePointer<Session>) -> QueueHolder {
        QueueHolder(
            session: session.pointee.handle, address: addressOfHolder(session), shard: UInt16(index))
    }

    /// The session's address in 32 bits: all of IPv4, and of IPv6 a hash. 0 where no limit asks for it.
    @inline(__always)
    func addressOfHolder(_ session: UnsafeMutablePointer<Session>) -> UInt32 {
        if limits.destinationsPerAddressMax == 0 { return 0 }
        let address = sessions.address(of: session.pointee.index)
        return UInt32(truncatingIfNeeded: address ^ address >> 32)
    }

    /// The client has sent the first of the queue's messages, or was promised room for it.
    mutating func hold(_ handle: Handle<Queue>, _ holder: QueueHolder) {
        guard let queue = queues.find(handle), !destinations[queue.pointee.destination].pointee.isTemporary else {
            return
        }
        queues.hold(handle.index, by: holder)
    }

    /// Answers the frame under the parser: there is no room for its destination.
    mutating func failDestination(_ context: FrameContext, _ refusal: Refusal) {
        let session = context.session
        failRefused(session, refusal, receipt: receiptOfFrame(context))
    }

    /// Answers a frame that this worker, or another, has refused. That a limit of destinations acts is told as a warning: it
    /// may be another client that has used them up.
    mutating func failRefused(
        _ session: UnsafeMutablePointer<Session>, _ refusal: Refusal, _ more: String = "",
        receipt: UnsafeRawBufferPointer?
    ) {
        // Other workers may refuse several of a client's frames. It hears of the first.
        guard session.pointee.state.isOpen else { return }
        if let limit = refusal.limit { counters.limits.count(limit) }
        let explanation = refusal.explanation(limits)
        if refusal.isOfDestinations { notice(.tooManyDestinations, session: session.pointee.index, explanation) }
        fail(session, refusal.message, explanation + more, receipt: receipt)
    }
}
