// Clients with durable subscriptions, who come and go.
extension Simulation {
    static func makeDurables(_ scenario: Scenario) -> [DurableModel] {
        guard scenario.hasDurables else { return [] }
        let destinations =
            scenario.logs == nil
            ? [scenario.topics[0], scenario.topics[1], "/topic/a.*", "/topic/#"]
            : [scenario.topics[0], scenario.topics[2], "/topic/x/*", "/topic/#"]
        return destinations.enumerated().map { place, destination in
            DurableModel(name: "10\(place)", isSingle: place % 2 == 0, destination: destination)
        }
    }

    /// A client does something with a durable subscription. False: it does not.
    func actDurably(_ peer: Peer) -> Bool {
        guard scenario.hasDurables, peer.canConsume, random.chance(300) else { return false }
        switch random.below(10) {
        case 0...5: subscribeDurably(peer, random.pick(durables))
        case 6...8:
            let subscription = peer.subscriptions.first { isDurable($0) && !$0.outstanding.isEmpty }
            guard let subscription else {
                return false
            }
            let read = subscription.outstanding.indices.filter {
                subscription.outstanding[$0].end <= peer.readByteCount
            }
            guard !read.isEmpty else { return false }
            acknowledgeDurably(peer, subscription, at: random.pick(read))
        default:
            guard random.chance(300) else { return false }
            endDurable(peer, random.pick(durables))
        }
        return true
    }

    private func isDurable(_ subscription: Subscription) -> Bool {
        subscription.durable != nil && (subscription.state == .confirmed || subscription.state == .issued)
    }

    func subscribeDurably(_ peer: Peer, _ model: DurableModel) {
        let id = model.isSingle ? "2\(model.name)" : model.name
        if peer.subscriptions.contains(where: { $0.id == id && $0.state != .ended }) { return }
        if peer.version == 10, peer.subscriptions.contains(where: { !$0.isNamed && $0.state != .ended }) { return }
        var frame = FrameText("SUBSCRIBE")
        frame.add("id", id)
        frame.add("destination", model.destination, version: peer.version)
        frame.add("ack", "client-individual")
        if model.isSingle {
            frame.add(random.pick(["activemq.subscriptionName", "durable-subscription-name"]), model.name)
        } else {
            frame.add(random.pick(["durable", "persistent"]), "true")
            if random.chance(500) { frame.add("auto-delete", "false") }
        }
        let subscription = Subscription(
            id: id, peer: peer, destination: model.destination, isQueue: true, ackMode: .individual,
            prefetch: scenario.options.limits.prefetchCountMax)
        subscription.durable = model
        oracle.wroteSubscribe(to: model)
        send(peer, frame, .subscribe(subscription), receipt: isAtRest ? 1000 : 900)
    }

    /// ACK of what the client has been given by a durable subscription.
    func acknowledgeDurably(_ peer: Peer, _ subscription: Subscription, at place: Int) {
        let held = subscription.outstanding.remove(at: place)
        var frame = FrameText("ACK")
        if peer.version == 12 {
            frame.add("id", held.name)
        } else {
            frame.add("message-id", held.name)
            frame.add("subscription", subscription.id)
        }
        send(peer, frame, .durable(.settle(subscription.durable!, [held.message.number])), receipt: 600)
    }

    /// UNSUBSCRIBE with the durable headers: by a client that consumes from it, or another.
    func endDurable(_ peer: Peer, _ model: DurableModel) {
        let own = peer.subscriptions.last { $0.durable === model && $0.state != .ended }
        if let own, own.state != .confirmed { return }
        var frame = FrameText("UNSUBSCRIBE")
        frame.add("id", own?.id ?? (model.isSingle ? "nobody" : model.name))
        if own == nil || random.chance(300) { frame.add("destination", model.destination, version: peer.version) }
        if model.isSingle { frame.add("durable-subscriber-name", model.name) } else { frame.add("durable", "true") }
        own?.state = .unsubscribed
        own?.outstanding = []
        send(peer, frame, .durable(.end(model)), receipt: isAtRest ? 1000 : 900)
    }

    // MARK: Rest

    /// Those who consume leave, so that one client can take all that is left.
    func leaveDurables() {
        for peer in peers where peer.stage != .closed && !peer.clientIsGone {
            if peer.subscriptions.contains(where: { $0.durable != nil && $0.state != .ended }) { leave(peer) }
        }
    }

    /// A client takes what the durable subscriptions hold, and ends them.
    func drainDurables() {
        guard scenario.hasDurables else { return }
        let peer = makePeer(address: Self.drainerAddress + 1)
        peer.canConsume = true
        peer.isDrainer = true
        connect(peer)
        settle("the client of durable subscriptions connects")
        for model in durables { subscribeDurably(peer, model) }
        settle("the last durable subscribers")
        if hasFailed { return }
        if peer.error != nil || peer.isLeaving {
            return oracle.violate("the last durable subscriber is gone: \(peer.error ?? "no ERROR")")
        }
        oracle.judgeDurables(durables)
        for model in durables { endDurable(peer, model) }
        settle("the end of durable subscriptions")
        if peer.error != nil { oracle.violate("durable subscriptions do not end: \(peer.error!)") }
    }
}
