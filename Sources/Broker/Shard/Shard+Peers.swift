import IO
import STOMP
import Slabs

// Messages of other workers: what each kind does here. What this worker writes to others is beside it, by subject:
// `Shard+PeerTopics`, `Shard+PeerQueues`, `Shard+PeerRoom`.
extension Shard {
    /// End of turn: posts what was written, one wake-up for each worker that may sleep.
    mutating func postBatches() {
        if shardCount == 1 { return }
        peers.post { submissions.append(Submission(.wake, peer: UInt16($0))) }
        counters.peerMessagesSent = peers.sentCount
        counters.peerMessagesReceived = peers.receivedCount
    }

    /// What was sent to the peer on behalf of the session is not known to be applied.
    mutating func markRemote(_ session: UnsafeMutablePointer<Session>, _ peer: Int) {
        pendings.mark(peer, of: session)
    }

    /// - Parameter holders: see `Barrier.holders`. If there are any, `peer` may be this worker.
    mutating func sendBarrier(to peer: Int, _ pending: Index<PendingOperation>, isStored: Bool, holders: PeerSet) {
        if peer == index { return relayedBarrierReached(pendings.handle(pending), holders, from: peer) }
        peers.write(Barrier(pending: pendings.handle(pending), isStored: isStored, holders: holders), to: peer)
    }

    mutating func readPeers() {
        if shardCount == 1 { return }
        var next = peers.takeAll()
        while let batch = next {
            next = batch.pointee.next
            let sender = Int(batch.pointee.sender)
            let start = UnsafeRawPointer(PeerBatches.bytes(of: batch))
            var offset = 0
            while offset < Int(batch.pointee.byteCount) {
                let message = ReceivedPeerMessage(start + offset)
                peers.countReceived()
                apply(message, from: sender)
                offset += message.byteCount
            }
            PeerBatches.free(batch)
        }
    }

    private mutating func apply(_ message: ReceivedPeerMessage, from peer: Int) {
        switch message.head.kind {
        case .interestRequest: addRemoteInterest(message.fields(), message.payload, from: peer)
        case .interestAnswer: interestAnswered(message.fields())
        case .interestWithdrawal: removeRemoteInterest(message.payload, from: peer)
        case .topicPublication:
            publishFromElsewhere(message.fields(), MessagePayload(message.payload), from: peer)
        case .queuePublication: sendFromElsewhere(message.fields(), MessagePayload(message.payload), from: peer)
        case .publicationRefusal: sendRefused(message.fields(), message.payload)
        case .queueProperties: queueRequested(message.payload)
        case .consumerRequest: addRemoteConsumer(message.fields(), message.payload, from: peer)
        case .consumerAnswer: consumerAnswered(message.fields(), from: peer)
        case .consumerRemoval: removeConsumer(message.fields())
        case .consumerPause: pauseConsumer(message.fields())
        case .durableRequest: durableRequested(message.fields(), message.payload, from: peer)
        case .durableRemoval: durableRemoved(message.fields(), message.payload, from: peer)
        case .queueDelivery: deliverFromElsewhere(message.fields(), MessagePayload(message.payload).message)
        case .entrySettlement:
            let settlement = message.fields(EntrySettlement.self)
            settle(settlement.entry, consumer: settlement.consumer, settlement.settlement)
        case .barrier: barrierReached(message.fields(), from: peer)
        case .barrierAnswer: barrierAnswered(message.fields())
        case .relayBarrier: relayBarrierReached(message.fields(), from: peer)
        case .relayAnswer: relayAnswered(message.fields(), from: peer)
        case .roomRequest: reserveForElsewhere(message.fields(), message.payload, from: peer)
        case .roomWait: reservationWaits(message.fields(), from: peer)
        case .roomAnswer: reserveAnswered(message.fields(), from: peer)
        case .roomCancellation: cancelRemoteReservation(message.fields(RoomCancellation.self).reservation)
        case .roomReturn:
            let room = message.fields(RoomReturn.self)
            returnRoom(room.queue, byteCount: UInt64(room.byteCount))
            roomIsFree(room.queue)
        case .transactionPart: transactionPart(message.fields(), from: peer)
        case .transactionStep: transactionStep(message.fields())
        case .sequencing: sequenceFromElsewhere(message.fields(), MessagePayload(message.payload), from: peer)
        case .retainedChange: retainedElsewhere(message.fields(), MessagePayload(message.payload), from: peer)
        case .readerRequest: addRemoteReader(message.fields(), message.payload, from: peer)
        case .readerAnswer: readerAnswered(message.fields(), from: peer)
        case .readerRemoval: removeReader(message.fields(ReaderRemoval.self).reader)
        case .readerCredit: readerHasRead(message.fields())
        case .deadLetterRequest: deadLetterRequested(message.fields(), message.payload, from: peer)
        case .deadLetterAnswer: deadLetterAnswered(message.fields(), from: peer)
        case .logDelivery: giveFromElsewhere(message.fields(), MessagePayload(message.payload).message)
        }
    }
}
