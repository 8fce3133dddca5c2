// What clients do as their protocol has it.
extension Simulation {
    func perform(_ deed: Scenario.Deed, _ peer: Peer) {
        switch deed {
        case .publish: publish(peer, to: random.pick(own(scenario.topics, peer)), isQueue: false)
        case .publishToQueue: publish(peer, to: random.pick(own(scenario.queues, peer)), isQueue: true)
        case .subscribe: subscribe(peer)
        case .unsubscribe: unsubscribe(peer)
        case .acknowledge: acknowledge(peer, accepts: true)
        case .refuse: acknowledge(peer, accepts: false)
        case .begin: begin(peer)
        case .commit: if let transaction = openTransaction(peer) { commit(peer, transaction) }
        case .abort: if let transaction = openTransaction(peer) { abort(peer, transaction) }
        case .disconnect: disconnect(peer)
        case .request: publish(peer, to: random.pick(own(scenario.queues, peer)), isQueue: true, asks: true)
        case .reply:
            guard !peer.replyNames.isEmpty else { return }
            let name = random.pick(peer.replyNames)
            publish(peer, to: name, isQueue: name.hasPrefix("/reply-queue/"))
        case .subscribeTemporary: subscribeToTemporary(peer)
        case .publishToTemporary:
            let own = peer.subscriptions.filter { $0.isTemporary }
            guard !own.isEmpty else { return }
            let destination = random.pick(own).destination
            publish(peer, to: destination, isQueue: destination.hasPrefix("/temp-queue/"))
        case .idle: break
        }
    }

    private func openTransaction(_ peer: Peer) -> Transaction? {
        let open = peer.transactions.filter { $0.state == .open }
        return open.isEmpty ? nil : random.pick(open)
    }

    func send(_ peer: Peer, _ frame: consuming FrameText, _ kind: Expectation.Kind, receipt: Int = 500) {
        let wants = random.chance(receipt)
        var frame = frame
        let index = oracle.wrote(peer, kind, receipt: wants)
        if wants { frame.add("receipt", "\(index)") }
        put(frame.finished(), peer)
    }

    private func publish(_ peer: Peer, to destination: String, isQueue: Bool, asks: Bool = false) {
        guard peer.canPublish else { return }
        if scenario.delays, isQueue, !asks, random.chance(200), resend(peer) { return }
        let isOwn = destination.hasPrefix("/reply-") || destination.hasPrefix("/temp-")
        guard dares(peer, { isOwn || $0.mayPublish(to: destination) }) else { return }
        // The replies to one temporary queue are its owner's; each asker subscribes one by the first request.
        if asks, !mayHaveTemporary(peer) { return }
        var size = random.below(min(scenario.bodyByteCountMax, 64) + 1)
        if scenario.storage?.fillsSegments == true {
            if random.chance(600) { size = random.below(max(scenario.bodyByteCountMax, 3000) + 1) }
        } else if random.chance(200) {
            size = random.below(scenario.bodyByteCountMax + 1)
        }
        if scenario.framesAreTight {
            if size > scenario.options.limits.bodyByteCountMax, !random.chance(100) { size = 10 }
        }
        let texts: [String?] = [nil, nil, "plain", "a:b\\c", "two\nlines", "ümlaut"]
        var text = scenario.framesAreTight ? nil : random.pick(texts)
        if peer.version == 10, text?.contains("\n") == true { text = nil }
        let message = Message(
            number: oracle.messages.count, publisher: peer.id, destination: destination,
            written: written(destination), isQueue: isQueue, bodyByteCount: size, text: text)
        oracle.messages.append(message)
        let transaction = random.chance(700) ? openTransaction(peer) : nil
        var frame = FrameText("SEND")
        frame.add("destination", wire(message.written, peer), version: peer.version)
        frame.add("x-number", "\(message.number)")
        if let text { frame.add("x-text", text, version: peer.version) }
        if let storage = scenario.storage, scenario.queues.contains(destination), !asks {
            message.isPersistent = random.chance(storage.persistentPerThousand)
            if message.isPersistent { frame.add("persistent", "true") }
        } else if scenario.hasDurables, !isQueue, scenario.topics.contains(destination) {
            message.isPersistent = random.chance(700)
            if message.isPersistent { frame.add("persistent", "true") }
        }
        if scenario.logs != nil { addLogHeaders(of: message, to: &frame) }
        if scenario.expires, random.chance(200) {
            let life = random.pick([1, 20, 1000, 600_000])
            message.expiryIsAbsolute = random.chance(300)
            message.life = UInt64(life) + (message.expiryIsAbsolute ? wallMilliseconds : 0)
            frame.add(
                message.expiryIsAbsolute ? "expires" : random.pick(["ttl", "expiration"]), "\(message.life!)")
        }
        if asks, transaction == nil {
            // A topic's subscriber has to subscribe; to a queue the broker subscribes the asker by itself.
            let topic = peer.subscriptions.first { $0.destination == "/temp-topic/t" && $0.state == .confirmed }
            let name = topic != nil && random.chance(500) ? "/temp-topic/t" : "/temp-queue/r"
            message.askedReply = name
            frame.add("reply-to", name, version: peer.version)
            if name == "/temp-queue/r", !peer.subscriptions.contains(where: { $0.id == name }) {
                let own = Subscription(id: name, peer: peer, destination: name, isQueue: true, ackMode: .auto)
                own.state = .confirmed
                peer.subscriptions.append(own)
                oracle.subscriptions.append(own)
            }
        }
        if scenario.delays, !isOwn, !asks, message.retain == nil { addOptions(message, &frame) }
        if let transaction {
            frame.add("transaction", transaction.name)
            message.transaction = transaction
            transaction.messages.append(message)
        }
        frame.body = (0..<size).map(message.byte)
        frame.hasLength = message.bodyHasNULs || random.chance(500)
        send(peer, frame, transaction == nil ? .send(message) : .plain)
    }

    /// The same destination, spelled in another way now and then.
    private func written(_ destination: String) -> String {
        guard random.chance(150) else { return destination }
        if destination.hasPrefix("/queue/") { return "/amq" + destination }
        if destination.hasPrefix("/temp-") || destination.hasPrefix("/reply-") { return destination }
        if destination.hasPrefix("/topic/") {
            return random.pick(["/exchange/amq.topic/", ""]) + String(destination.dropFirst(7))
        }
        return destination
    }

    /// Temporary destinations are limited as subscriptions and destinations are. A 1.0 client's reply names would need
    /// escapes that it cannot say.
    private func mayHaveTemporary(_ peer: Peer) -> Bool {
        peer.canConsume && !scenario.subscriptionsAreTight && !scenario.destinationsAreTight && peer.version > 10
    }

    private func subscribeToTemporary(_ peer: Peer) {
        guard mayHaveTemporary(peer) else { return }
        let destination = random.pick(["/temp-topic/t", "/temp-queue/e"])
        // One subscription each: a temporary queue has one reader, so what reaches it is known.
        guard !peer.subscriptions.contains(where: { $0.destination == destination }) else { return }
        subscribe(peer, to: destination, isQueue: destination == "/temp-queue/e", mode: .auto, receipt: 800)
    }

    private func subscribe(_ peer: Peer) {
        guard peer.canConsume else { return }
        if scenario.logs != nil, subscribesToLog(peer) { return }
        let isQueue = random.chance(450)
        let destination =
            isQueue
            ? random.pick(own(scenario.queues, peer))
            : random.pick(own(random.chance(600) ? scenario.topics : scenario.patterns, peer))
        let permitsAuto = !isQueue || scenario.storage?.permitsAuto ?? true
        let modes: [AckMode] = permitsAuto ? [.auto, .client, .individual] : [.client, .individual]
        subscribe(peer, to: destination, isQueue: isQueue, mode: random.pick(modes), receipt: 800)
    }

    func subscribe(
        _ peer: Peer, to destination: String, isQueue: Bool, mode: AckMode, receipt: Int, position: ReadPosition? = nil
    ) {
        let isOwn = destination.hasPrefix("/temp-")
        guard dares(peer, { isOwn || $0.certainlyMaySubscribe(to: destination) }) else { return }
        var spelled = destination
        var id = "\(random.below(6))"
        var hasId = true
        // Its MESSAGEs do not say which subscription they are for, so there is one such at a time.
        if peer.version == 10, random.chance(300),
            !peer.subscriptions.contains(where: { !$0.isNamed && $0.state != .ended })
        {
            hasId = false
            spelled = written(destination)
            id = spelled
        }
        // An id may come again when the last one's end is certain.
        if peer.subscriptions.contains(where: { $0.id == id && $0.state != .ended }) { return }
        let live = peer.subscriptions.count { $0.state != .ended }
        if scenario.subscriptionsAreTight, live >= scenario.options.limits.subscriptionsPerConnectionMax { return }
        var frame = FrameText("SUBSCRIBE")
        if hasId { frame.add("id", id) }
        frame.add("destination", wire(hasId ? written(spelled) : spelled, peer), version: peer.version)
        if mode != .auto || random.chance(300) { frame.add("ack", mode.rawValue) }
        var prefetch = scenario.options.limits.prefetchCountMax
        if random.chance(300) {
            let wish = random.range(1...4)
            frame.add(random.pick(["prefetch-count", "activemq.prefetchSize"]), "\(wish)")
            prefetch = min(prefetch, wish)
        }
        var window = scenario.options.limits.prefetchByteCountMax
        if random.chance(150) {
            let wish = random.range(1...random.pick([100, 3000]))
            if canary != .ignoreWindow { frame.add("consumer-window-size", "\(wish)") }
            window = min(window, wish)
        }
        let subscription = Subscription(
            id: id, isNamed: hasId, peer: peer, destination: destination, isQueue: isQueue, ackMode: mode,
            prefetch: prefetch, window: window)
        subscription.position = position
        if let position { frame.add("x-stream-offset", position.start) }
        send(peer, frame, .subscribe(subscription), receipt: receipt)
    }

    private func unsubscribe(_ peer: Peer) {
        let live = peer.subscriptions.filter { subscription in
            (subscription.state == .confirmed || subscription.state == .issued)
                && !subscription.isTemporary
                && !subscription.outstanding.contains { $0.transaction != nil }
        }
        guard !live.isEmpty else { return }
        let subscription = random.pick(live)
        var frame = FrameText("UNSUBSCRIBE")
        frame.add(
            subscription.id.hasPrefix("/") || Int(subscription.id) == nil ? "destination" : "id",
            wire(subscription.id, peer), version: peer.version)
        send(peer, frame, .unsubscribe(subscription))
    }

    private func begin(_ peer: Peer) {
        guard peer.canPublish, peer.canConsume || scenario.overflow == .block else { return }
        let open = peer.transactions.count { $0.state == .open }
        if open >= (scenario.transactionsAreTight ? scenario.options.limits.transactionsPerConnectionMax : 3) { return }
        peer.transactionCount += 1
        let transaction = Transaction(name: "t\(peer.id).\(peer.transactionCount)", peer: peer)
        peer.transactions.append(transaction)
        oracle.transactions.append(transaction)
        var frame = FrameText("BEGIN")
        frame.add("transaction", transaction.name)
        send(peer, frame, .plain, receipt: 200)
    }

    func commit(_ peer: Peer, _ transaction: Transaction) {
        var frame = FrameText("COMMIT")
        frame.add("transaction", transaction.name)
        var acknowledged: [Message] = []
        for settlement in transaction.settlements {
            let subscription = settlement.subscription
            let place = subscription.outstanding.firstIndex {
                $0.message === settlement.message && $0.transaction === transaction
            }
            guard let place else { continue }
            acknowledged += apply(
                settlement.kind, subscription.settle(upTo: place, for: transaction), of: subscription)
        }
        send(peer, frame, .commit(transaction, acknowledged: acknowledged), receipt: 700)
    }

    func abort(_ peer: Peer, _ transaction: Transaction) {
        var frame = FrameText("ABORT")
        frame.add("transaction", transaction.name)
        for subscription in peer.subscriptions {
            for place in subscription.outstanding.indices
            where subscription.outstanding[place].transaction === transaction {
                subscription.outstanding[place].transaction = nil
            }
        }
        oracle.abandon(transaction)
        send(peer, frame, .plain)
    }

    /// ACK or NACK of something the client has read.
    func acknowledge(_ peer: Peer, accepts: Bool) {
        let candidates = peer.subscriptions.filter { subscription in
            (subscription.state == .confirmed || subscription.state == .issued)
                && subscription.outstanding.contains { $0.transaction == nil && $0.end <= peer.readByteCount }
        }
        guard !candidates.isEmpty else { return }
        let subscription = random.pick(candidates)
        var places: [Int] = []
        for (place, held) in subscription.outstanding.enumerated()
        where held.transaction == nil && held.end <= peer.readByteCount {
            places.append(place)
        }
        acknowledge(peer, subscription, at: random.pick(places), accepts: accepts)
    }

    func acknowledge(_ peer: Peer, _ subscription: Subscription, at place: Int, accepts: Bool) {
        if subscription.durable != nil { return acknowledgeDurably(peer, subscription, at: place) }
        let transaction = !isAtRest && random.chance(500) ? openTransaction(peer) : nil
        var frame = FrameText(accepts ? "ACK" : "NACK")
        switch peer.version {
        case 12: frame.add("id", subscription.outstanding[place].name)
        case 11:
            frame.add("message-id", subscription.outstanding[place].name)
            frame.add("subscription", wire(subscription.id, peer))
        default:
            frame.add("message-id", subscription.outstanding[place].name)
            // Two subscriptions of a connection may have the same topic message.
            frame.add("subscription", wire(subscription.id, peer))
        }
        let rejects = !accepts && random.chance(300)
        if rejects { frame.add("requeue", random.pick(["false", "False"])) }
        if let transaction { frame.add("transaction", transaction.name) }
        let kind: Transaction.Settlement.Kind = accepts ? .accepts : rejects ? .rejects : .returns
        if let transaction {
            transaction.settlements.append(
                .init(subscription: subscription, message: subscription.outstanding[place].message, kind: kind))
            let first = subscription.ackMode == .client ? 0 : place
            for position in first...place where subscription.outstanding[position].transaction == nil {
                subscription.outstanding[position].transaction = transaction
            }
            return send(peer, frame, .plain)
        }
        let acknowledged = apply(kind, subscription.settle(upTo: place, for: nil), of: subscription)
        for message in acknowledged { oracle.wroteACK(message, by: peer) }
        send(peer, frame, accepts ? .settle(acknowledged) : .plain)
    }

    /// What became of the messages that ACK or NACK settles; returns those of a queue that it acknowledges.
    private func apply(
        _ kind: Transaction.Settlement.Kind, _ settled: [Message], of subscription: Subscription
    ) -> [Message] {
        switch kind {
        case .accepts: return subscription.isQueue ? settled : []
        case .returns: for message in settled { oracle.wroteNACK(message, of: subscription) }
        case .rejects:
            for message in settled {
                message.wasRejected = true
                // The connection may be lost before it is read.
                oracle.countFailure(message, subscription.destination)
            }
        }
        return []
    }

    func disconnect(_ peer: Peer) {
        for transaction in peer.transactions where transaction.state == .open { oracle.abandon(transaction) }
        send(peer, FrameText("DISCONNECT"), .disconnect, receipt: 800)
    }
}
