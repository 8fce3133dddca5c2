import STOMP
import Slabs

// Topics that other workers hear of, and those that this one hears of from them.
extension Shard {
    mutating func announceInterest(_ index: Index<Destination>) {
        let destination = destinations[index]
        let request = InterestRequest(
            destination: destinations.handle(index), epoch: destination.pointee.interestEpoch,
            isPattern: destination.pointee.kind == .pattern,
            durableCount: durables.count(of: index, with: self.index))
        for peer in 0..<shardCount where peer != self.index { peers.write(request, to: peer, name: nameOf(index)) }
    }

    mutating func announceWithdrawal(_ index: Index<Destination>) {
        for peer in 0..<shardCount where peer != self.index {
            peers.write(InterestWithdrawal(), to: peer, name: nameOf(index))
        }
    }

    mutating func publishElsewhere(_ index: Index<Destination>, _ message: Message) -> Bool {
        let hearers = destinations.peers(of: index)
        if hearers.isEmpty { return false }
        if let context = durables.publication {
            publishElsewhere(index, message, to: hearers, of: context)
            return true
        }
        forEachPeer(low: hearers.low, high: hearers.high) { shard, peer in
            shard.peers.write(
                TopicPublication(), to: peer, MessagePayload(name: shard.nameOf(index), receipt: nil, message))
        }
        return true
    }

    // MARK: Of other workers

    mutating func addRemoteInterest(_ request: InterestRequest, _ name: UnsafeRawBufferPointer, from peer: Int) {
        var index = findDestination(name)
        if index.isNone, makeRoomForMatches() { index = makeTopic(name, isPattern: request.isPattern) }
        if !index.isNone {
            destinations.setRemote(true, of: peer, to: index)
            if request.durableCount != durables.count(of: index, with: peer) {
                setDurableCount(request.durableCount, of: index, with: peer)
            }
            updateIdle(index)
        }
        peers.write(
            InterestAnswer(destination: request.destination, epoch: request.epoch, isRefused: index.isNone), to: peer)
    }

    mutating func removeRemoteInterest(_ name: UnsafeRawBufferPointer, from peer: Int) {
        let index = findDestination(name)
        if index.isNone { return }
        destinations.setRemote(false, of: peer, to: index)
        if durables.count(of: index, with: peer) > 0 { setDurableCount(0, of: index, with: peer) }
        updateIdle(index)
    }

    mutating func publishFromElsewhere(
        _ publication: TopicPublication, _ payload: MessagePayload, from peer: Int
    ) {
        let name = payload.name
        var index = findDestination(name)
        if index.isNone {
            // Known here by a pattern only: the topic's record remembers which patterns match.
            if destinations.patternCount == 0 { return }
            _ = makeRoomForOther(isUnused: true)
            _ = makeRoomForMatches()
            index = makeTopic(name, isPattern: false)
            guard !index.isNone else {
                counters.messagesDropped &+= 1
                notice(.memoryLimit, "no memory for a message to \(nameText(name)): it is dropped")
                if !publication.sender.isNone { return refuse(publication, .memory, payload, to: peer) }
                if durables.isUsed { relays.lost(from: peer) }
                return
            }
        }
        if !publication.sender.isNone { return publishToDurables(index, publication, payload, from: peer) }
        if durables.isUsed { return storePassedOn(payload.message, of: index, from: peer) }
        _ = publishHere(index, payload.message)
    }
}
