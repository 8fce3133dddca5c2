import IO
import STOMP
import Slabs

// Messages that this worker publishes and others store for durable subscriptions: those of topics that keep messages, and
// delayed ones. What a RECEIPT waits for then (`Relays`), and what of it happens with the workers that store.
extension Shard {
    // MARK: With the client's worker

    /// The workers that store a message of a topic that keeps messages for durable subscriptions. Empty, at the cost of a look,
    /// where there are none.
    ///
    /// - Parameter isKept: the topic stores the message itself.
    @inline(__always)
    mutating func holders(ofFrame context: FrameContext, in topic: Index<Destination>, isKept: Bool) -> PeerSet {
        guard durables.isUsed, store.isEnabled else { return PeerSet() }
        let isPersistent = isKept || frame.has(.persistent) && asksForPersistence(context.session)
        return storingWorkers(of: topic, isPersistent: isPersistent)
    }

    /// Whether the logs of these workers take a message that the owner of its topic is to pass on to them. Returns what to do
    /// instead of sending it.
    @inline(never)
    mutating func holdBackRelayed(_ context: FrameContext, _ holders: PeerSet, owner: Int) -> FrameOutcome? {
        if owner == index, holders.contains(index) {
            if let outcome = holdBackStored(context) { return outcome }
        } else if case .tooLarge = store.admission(frame.reservedByteCount) {
            counters.messagesRefused &+= 1
            failDestination(context, .tooLargeToStore)
            return .done
        }
        if context.isCommitting { return nil }
        for peer in 0..<shardCount where peer != index && holders.contains(peer) && fabric.storeIsFull(peer) {
            return waitForRoom(context, owner: UInt16(peer), limit: .messageMemory)
        }
        return nil
    }

    /// The session's message is with the owner of its topic, which passes it on, or has done so. The next RECEIPT waits for the
    /// logs of all who store it.
    @inline(never)
    mutating func markRelayed(_ session: UnsafeMutablePointer<Session>, owner: Int, _ holders: PeerSet) {
        session.pointee.flags.insert(owner == index ? .hasStored : .hasStoredElsewhere)
        var others = holders
        others.set(index, false)
        // It is published, and all that is stored of it is in the log of this worker.
        if owner == index, others.isEmpty, topicLogs.oldestDeferral == .max { return }
        pendings.mark(owner, holders: holders, of: session)
    }

    // MARK: With the owner

    /// A message of a topic of this worker is published: other workers may store it.
    @inline(never)
    mutating func passOn(_ message: Message, of topic: Index<Destination>) {
        guard store.isEnabled else { return }
        var holders = storingWorkers(of: topic, isPersistent: message.isPersistent)
        holders.set(index, false)
        relays.pass(to: holders)
    }

    /// A barrier of a client, of this worker or another, for messages that were passed on.
    mutating func relayedBarrierReached(_ pending: Handle<PendingOperation>, _ holders: PeerSet, from asker: Int) {
        let refusal: Refusal? = store.hasFailed ? .storageFailed : relays.refusal(of: holders, now: now)
        relays.wait(
            RelayedBarrier(
                asker: UInt16(asker), pending: pending, holders: holders, position: store.gatheredPosition,
                deferral: topicLogs.oldestDeferral == .max ? 0 : topicLogs.deferralCount, refusal: refusal))
        store.hasWork = true
    }

    mutating func relayAnswered(_ answer: RelayAnswer, from peer: Int) {
        relays.answered(answer.round, from: peer, refusal: answer.refusal, now: now)
        store.hasWork = true
    }

    /// End of turn: asks holders, and answers those who wait no more.
    mutating func advanceRelays() {
        if !store.hasFailed {
            relays.placeGathered(at: store.staging.endPosition)
            relays.undefer(before: topicLogs.oldestDeferral, gathered: store.staging.endPosition)
        }
        if let (round, holders) = relays.beginRound() {
            forEachPeer(low: holders.low, high: holders.high) { shard, peer in
                shard.peers.write(RelayBarrier(round: round), to: peer)
            }
        }
        var cursor = 0
        while let barrier = relays.popReady(&cursor, durable: store.confirmedPosition) {
            let answer = BarrierAnswer(pending: barrier.pending, refusal: barrier.refusal)
            if Int(barrier.asker) == index {
                barrierAnswered(answer)
            } else {
                peers.write(answer, to: Int(barrier.asker))
            }
        }
        answerRelays()
    }

    // MARK: With a holder

    /// A message that the owner of its topic has passed on: it is for all subscribers here, durable ones among them.
    mutating func storePassedOn(_ message: Message, of topic: Index<Destination>, from owner: Int) {
        durables.refusal = nil
        _ = publishHere(topic, message)
        if durables.refusal != nil { relays.lost(from: owner) }
    }

    /// The owner of a topic asks whether what it has passed on is on stable storage.
    mutating func relayBarrierReached(_ barrier: RelayBarrier, from peer: Int) {
        var refusal: Refusal?
        if relays.takeLoss(from: peer) { refusal = .memory }
        if store.hasFailed { refusal = .storageFailed }
        let position = store.staging.endPosition
        guard refusal == nil, position > store.durablePosition else {
            peers.write(RelayAnswer(round: barrier.round, refusal: refusal), to: peer)
            return
        }
        relays.hold(HeldRelay(position: position, peer: UInt16(peer), round: barrier.round))
        store.hasWork = true
    }

    /// - Parameter refusal: what those are told that wait for more. nil: they wait on.
    private mutating func answerRelays(_ refusal: Refusal? = nil) {
        while let relay = relays.popHeld(durable: refusal == nil ? store.durablePosition : .max) {
            let isDurable = relay.position <= store.durablePosition
            peers.write(
                RelayAnswer(round: relay.round, refusal: isDurable ? nil : refusal), to: Int(relay.peer))
        }
    }

    /// The log of this worker is not durable, and will not be soon.
    mutating func failRelays(_ refusal: Refusal) {
        if relays.isIdle { return }
        answerRelays(refusal)
        relays.refuse(beyond: store.confirmedPosition, refusal)
        store.hasWork = true
    }
}
