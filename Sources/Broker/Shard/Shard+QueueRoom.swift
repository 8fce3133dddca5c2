import Glibc
import IO
import STOMP
import Slabs

// Publishers that wait for room in a queue (policy `block`).
extension Shard {
    /// The session's SEND waits until the queue has room; its socket is not read meanwhile.
    mutating func block(_ context: FrameContext, on index: Index<Queue>) -> FrameOutcome {
        let session = context.session
        guard let pending = makePending(context, .send, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings.setRoom(
            UInt32(frame.reservedByteCount), in: queues.handle(index), at: UInt16(self.index), of: pending)
        pendings.append(pending, to: &queues.waiting(for: index).pointee)
        suspend(session)
        return .retry
    }

    @inline(__always)
    mutating func take(_ index: Index<Queue>, _ message: Message) -> Bool {
        message.options.isEmpty ? enqueue(index, message) : takeWithOptions(index, message)
    }

    /// Grants room to those who wait, in turn, while there is any; all of them have their answer when the queue ends.
    mutating func unblock(_ queueIndex: Index<Queue>) {
        let queue = queues[queueIndex]
        while case let index = queue.pointee.blocked.first, !index.isNone {
            let pending = pendings[index]
            if queue.pointee.isClosed {
                pendings.setQueue(.none, of: index)
            } else {
                guard queues.hasFreeRoom(queueIndex, byteCount: Int(pending.pointee.byteCount)) else { return }
                queues.reserve(queueIndex, byteCount: Int(pending.pointee.byteCount))
            }
            pendings.remove(index, from: &queues.waiting(for: queueIndex).pointee)
            if pending.pointee.kind == .remoteReservation {
                answerReservation(index)
                pendings.free(index, &memory)
            } else {
                granted(index)
            }
        }
    }

    /// The session of a SEND that waited goes on.
    mutating func granted(_ index: Index<PendingOperation>) {
        let session = sessions[pendings[index].pointee.session]
        pendings.grant(index)
        session.pointee.flags.insert(.hasReservation)
        resumeSoon(session)
    }

    /// What the SEND under the parser was granted, at the end of its session's list: no frame came in between.
    func reservation(_ session: UnsafeMutablePointer<Session>) -> Index<PendingOperation> {
        let index = session.pointee.pendings.last
        invariant(
            !index.isNone && pendings[index].pointee.isGranted, "a reservation is the last thing that was waited for")
        return index
    }

    /// Gives up what a SEND was granted, for it is about to take the room, or will not take it.
    mutating func returnReservation(_ session: UnsafeMutablePointer<Session>) {
        let index = reservation(session)
        session.pointee.flags.remove(.hasReservation)
        returnGranted(index)
        unlinkPending(session, index)
    }

    mutating func returnGranted(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        if pending.queue.isNone { return }
        if Int(pending.peer) == self.index {
            returnRoom(pending.queue, byteCount: UInt64(pending.byteCount))
        } else {
            unreserveAtOwner(Int(pending.peer), pending.queue, byteCount: pending.byteCount)
        }
    }
}
