import STOMP
import Slabs

// Room in queues of other workers: asked for before a COMMIT is applied, and before a SEND that waits is sent.
extension Shard {
    /// A SEND to a queue whose policy is to make publishers wait: it is parsed again when it has room.
    mutating func reserveForSend(
        _ context: FrameContext, _ target: SendTarget
    ) -> FrameOutcome {
        let index = target.destination
        let session = context.session
        guard let pending = makePending(context, .send, receipt: frame.rawValue(.receipt)) else { return .done }
        pendings.setRoom(
            UInt32(frame.reservedByteCount), in: .none, at: destinations[index].pointee.owner, of: pending)
        suspend(session)
        let send = CheckedSend(
            destination: destinations.handle(index), byteCount: UInt32(frame.reservedByteCount), asksForMore: false,
            isPersistent: frame.has(.persistent) && store.isEnabled && asksForPersistence(session))
        requestRoom(session, index, pending, of: Int(destinations[index].pointee.owner), for: send, frame: 0)
        return .retry
    }

    /// Asks the owner for what a SEND needs there.
    ///
    /// - Parameter place: where a frame of a COMMIT is kept (`KeptCursor.frame`). 0: a SEND of its own.
    mutating func requestRoom(
        _ session: UnsafeMutablePointer<Session>, _ index: Index<Destination>, _ pending: Index<PendingOperation>,
        of owner: Int, for send: CheckedSend, frame place: UInt64
    ) {
        let request = RoomRequest(
            session: session.pointee.handle, pending: pendings.handle(pending), byteCount: send.byteCount,
            address: addressOfHolder(session), keptFrame: place, isPersistent: send.isPersistent, needs: send.needs)
        peers.write(request, to: owner, name: nameOf(index))
    }

    /// The publisher has gone. Its request waits with the owner, or the answer is on its way and will find nobody.
    mutating func cancelReservation(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        guard !pending.counterpart.isNone else { return }
        peers.write(RoomCancellation(reservation: pending.counterpart), to: Int(pending.peer))
    }

    mutating func unreserveAtOwner(_ owner: Int, _ queue: Handle<Queue>, byteCount: UInt32) {
        peers.write(RoomReturn(queue: queue, byteCount: byteCount), to: owner)
    }

    /// Answers another worker's request for room: granted where the queue is there, and else to be sent and dropped.
    mutating func answerReservation(_ index: Index<PendingOperation>) {
        let pending = pendings[index].pointee
        peers.write(
            RoomAnswer(
                queue: pending.queue, pending: pending.counterpart, keptFrame: 0, byteCount: pending.byteCount,
                refusal: nil),
            to: Int(pending.peer))
    }

    // MARK: At the owner

    mutating func reserveForElsewhere(
        _ request: RoomRequest, _ name: UnsafeRawBufferPointer, from peer: Int
    ) {
        if isTopic(name) {
            let refusal = refusalAtTopic(name, request)
            peers.write(RoomAnswer(to: request, refusal), to: peer)
            return
        }
        let index = queueForElsewhere(name)
        let queueIndex = index.isNone ? Index<Queue>.none : destinations[index].pointee.queue
        let byteCount = UInt64(request.byteCount)
        var answer = RoomAnswer(to: request, .queue)
        let holder = QueueHolder(session: request.session, address: request.address, shard: UInt16(peer))
        if !queueIndex.isNone, destinations[index].pointee.isIdle,
            let refusal = queues.refusal(of: holder, limits)
        {
            answer.refusal = refusal
        } else if !queueIndex.isNone, let refusal = refusalToTake(request, in: queueIndex) {
            answer.refusal = refusal
        } else if !queueIndex.isNone {
            let queue = queues[queueIndex]
            if canReserve(queueIndex, byteCount: Int(byteCount)) {
                queues.reserve(queueIndex, byteCount: Int(byteCount))
                updateIdle(index)
                if queue.pointee.messageCount == 1 { hold(queues.handle(queueIndex), holder) }
                answer.queue = queues.handle(queueIndex)
                answer.refusal = nil
            } else if request.mayWait, queue.pointee.overflow == .block, byteCount <= queue.pointee.byteCountMax {
                let handle = pendings.makeRemoteReservation(
                    request.byteCount, in: queues.handle(queueIndex), for: request.pending, from: peer)
                if !handle.isNone {
                    pendings.append(handle.index, to: &queues.waiting(for: queueIndex).pointee)
                    peers.write(RoomWait(reservation: handle, pending: request.pending), to: peer)
                    return
                }
            }
        } else if !index.isNone || begins(visible(name), with: "/reply-queue/") {
            // The temporary queue is gone; what is sent to it is dropped when it comes.
            answer.refusal = nil
        } else {
            answer.refusal = refusalOfDestination()
        }
        peers.write(answer, to: peer)
    }

    /// Why the message is not taken though its queue may have room. nil: it is.
    private mutating func refusalToTake(_ request: RoomRequest, in queue: Index<Queue>) -> Refusal? {
        let name = nameOf(queues[queue].pointee.destination)
        if let refusal = refusalOfOptions(request.needs, Int(request.byteCount), of: name) { return refusal }
        return stores(queue, isPersistent: request.isPersistent)
            ? refusalToStore(Int(request.byteCount), at: name) : nil
    }

    /// The publisher's worker hears that it has to wait, and where.
    mutating func reservationWaits(_ wait: RoomWait, from peer: Int) {
        guard pendings.find(wait.pending) != nil else {
            // It has left meanwhile.
            peers.write(RoomCancellation(reservation: wait.reservation), to: peer)
            return
        }
        pendings.setCounterpart(wait.reservation, of: wait.pending.index)
    }

    /// The publisher left before it was granted room. If it was, the answer finds nobody and the room comes back.
    mutating func cancelRemoteReservation(_ handle: Handle<PendingOperation>) {
        guard let pending = pendings.find(handle) else { return }
        let queue = pending.pointee.queue
        if queues.isLive(queue) { pendings.remove(handle.index, from: &queues.waiting(for: queue.index).pointee) }
        pendings.free(handle.index, &memory)
        // Who waited behind it may need less.
        roomIsFree(queue)
    }

    mutating func reserveAnswered(_ answer: RoomAnswer, from peer: Int) {
        guard let pending = pendings.find(answer.pending) else {
            if answer.refusal == nil, !answer.queue.isNone {
                unreserveAtOwner(peer, answer.queue, byteCount: answer.byteCount)
            }
            return
        }
        let session = sessions[pending.pointee.session]
        if pending.pointee.kind == .send {
            if let refusal = answer.refusal {
                return failRefused(session, refusal, receipt: receiptOfPending(answer.pending.index))
            }
            pendings.setQueue(answer.queue, of: answer.pending.index)
            return granted(answer.pending.index)
        }
        if let refusal = answer.refusal {
            pendings.setRefusal(refusal, of: answer.pending.index)
        } else if !answer.queue.isNone {
            // Remembered with the frame, should another be refused.
            let room = KeptRoom(queue: answer.queue, owner: UInt16(peer))
            transactions.keepRoom(room, for: answer.keptFrame, memory)
        }
        guard pendings.countAnswer(answer.pending.index) else { return }
        if let refusal = Refusal(rawValue: pending.pointee.refusal) {
            return failRefused(
                session, refusal, "; none of the transaction was applied",
                receipt: receiptOfPending(answer.pending.index))
        }
        applyCommit(session, answer.pending.index)
        if session.pointee.state == .connected { resumeSoon(session) }
    }
}
