/// What a MESSAGE must and must not be.
extension Oracle {
    func message(_ frame: ServerFrame, _ peer: Peer, _ encodedSince: UInt64) {
        messagesSeen += 1
        let id = frame.value("subscription")
        guard let identity = frame.value("message-id"), let destination = frame.value("destination"),
            let length = frame.value("content-length")
        else { return violate("MESSAGE lacks a header that it always has") }
        guard Int(length) == frame.body.count else {
            return violate("content-length:\(length), \(frame.body.count) bytes")
        }
        let named = peer.subscriptions.last { $0.state != .ended && ($0.isNamed ? $0.id == id : id == nil) }
        guard let subscription = named else {
            return violate(
                "client \(peer.id): MESSAGE for subscription '\(id ?? "(none)")', which has ended or never began")
        }
        if subscription.state == .issued, subscription.wantsReceipt {
            return violate("client \(peer.id): MESSAGE before the RECEIPT of its SUBSCRIBE")
        }
        guard let text = frame.value("x-number"), let number = Int(text), number >= 0, number < messages.count else {
            return violate("a message that nobody sent: \(frame.value("x-number") ?? "no number")")
        }
        let message = messages[number]
        checkContent(frame, of: message, peer)
        if let model = subscription.durable { return durableMessage(frame, message, subscription, of: model, peer) }
        checkDestination(frame, destination, of: message, subscription)
        checkAccess(message, destination == message.written ? message.destination : destination, subscription, peer)
        switch message.state {
        case .kept: violate("message \(number) was delivered before its COMMIT")
        case .refused where scenario.hasDurables && !message.isQueue && scenario.storage != nil: break
        case .refused: violate("message \(number) was delivered although it was refused or aborted")
        case .issued, .confirmed: break
        }
        if encodedSince >= message.expiryLatest, destination == message.written {
            violate("message \(number) was delivered \(encodedSince - message.expiryLatest) ms after its expiry")
        }
        if wall < message.dueEarliest {
            violate("message \(number) was delivered \(message.dueEarliest - wall) ms before it was due")
        }
        let acknowledges = subscription.ackMode != .auto
        let ack = frame.value("ack")
        if (ack != nil) != (acknowledges && peer.version == 12) {
            violate("an ack header where none may be, or none where one must")
        }
        let isRedelivered = frame.value("redelivered") == "true"
        let isDeadLetter = destination != message.written
        if scenario.logs != nil { checkLog(frame, of: message, subscription) }
        if message.brokerLife < life, subscription.position == nil, frame.value("retained") == nil {
            checkRecovered(message, isRedelivered: isRedelivered, isDeadLetter: isDeadLetter, subscription)
        }
        if subscription.isQueue {
            checkQueue(message, isRedelivered, isDeadLetter, subscription)
            checkDeliveryCount(frame, message, isRedelivered, isDeadLetter, subscription)
            checkFailures(frame, message, isDeadLetter, subscription)
        } else {
            if isRedelivered { violate("message \(number): redelivered by a topic") }
            if subscription.hasSeen(number) { violate("message \(number) came twice to one topic subscription") }
        }
        let key = message.publisher << 20 | destinationKey(message)
        let last = subscription.lastSequence[key, default: 0]
        // What a crash did not take keeps its place, though all of it says that it may have been delivered before.
        let isFirstOfLife = message.brokerLife < life && message.lifeOfDelivery < life
        if !isRedelivered || isFirstOfLife, !isDeadLetter, message.delay == nil {
            if message.sequence < last {
                let text = "message \(number) after a later one of the same publisher and destination"
                if subscription.isQueue { disorders.append((step, text, message.destination)) } else { violate(text) }
            }
            subscription.lastSequence[key] = max(last, message.sequence)
        }
        message.lifeOfDelivery = life
        message.deliveries += 1
        message.lastTaker = peer
        if isDeadLetter { message.deliveriesOfDeadLetter += 1 }
        subscription.see(number)
        if acknowledges {
            message.holder = subscription.isQueue ? subscription : message.holder
            let heldByteCount = subscription.outstanding.reduce(0) { $0 + $1.message.bodyByteCount }
            if heldByteCount >= subscription.window, heldByteCount > 0 {
                let held = "\(heldByteCount) bytes unacknowledged, and more"
                violate("client \(peer.id): \(held); its window is \(subscription.window)")
            }
            subscription.outstanding.append(
                Subscription.Outstanding(
                    message: message, name: ack ?? identity, end: peer.decodedEnd, transaction: nil))
            if subscription.outstanding.count > subscription.prefetch {
                violate(
                    "client \(peer.id): \(subscription.outstanding.count) unacknowledged, prefetch is \(subscription.prefetch)"
                )
            }
        } else if subscription.isQueue {
            message.wasTakenAutomatically = true
        }
    }

    private func checkContent(_ frame: ServerFrame, of message: Message, _ peer: Peer) {
        guard frame.body.count == message.bodyByteCount else {
            return violate("message \(message.number): \(frame.body.count) bytes, \(message.bodyByteCount) were sent")
        }
        var position = 0
        for byte in frame.body {
            if byte != message.byte(position) { return violate("message \(message.number): byte \(position) is wrong") }
            position += 1
        }
        let text = frame.value("x-text")
        // A line feed cannot be said in 1.0: its escape stays.
        let expected = peer.version == 10 ? message.text?.replacing("\n", with: "\\n") : message.text
        if text != expected {
            violate("message \(message.number): x-text is \(text ?? "absent"), not \(expected ?? "absent")")
        }
        checkReply(frame.value("reply-to"), of: message, peer)
        for name in ["receipt", "transaction", "ttl-invented", "x-delay", "AMQ_SCHEDULED_DELAY", "schedule"]
        where frame.value(name) != nil {
            violate("\(name) got through")
        }
    }

    private func checkReply(_ reply: String?, of message: Message, _ peer: Peer) {
        guard let asked = message.askedReply, let reply else {
            if message.askedReply != nil || reply != nil {
                violate("message \(message.number): reply-to appears or vanishes")
            }
            return
        }
        if let known = replyOwners[reply] {
            if known != message.publisher { violate("reply-to \(reply) names another connection") }
        } else {
            let prefix = asked.hasPrefix("/temp-queue/") ? "/reply-queue/" : "/reply-topic/"
            let isRewritten = reply.hasPrefix(prefix) && reply.hasSuffix("-" + asked.dropFirst(12))
            if !isRewritten { violate("reply-to \(asked) was rewritten as \(reply)") }
            replyOwners[reply] = message.publisher
        }
        if let first = message.replyName, first != reply { violate("reply-to was \(first) and is \(reply)") }
        message.replyName = reply
        if !peer.replyNames.contains(reply) { peer.replyNames.append(reply) }
    }

    /// Whether a temporary destination's subscription is the one that takes the message: its owner sent to it by its own
    /// name for it, or somebody by the name that receivers of `reply-to` see.
    func reaches(_ subscription: Subscription, _ message: Message) -> Bool {
        guard subscription.isTemporary else { return TopicName.matches(subscription.destination, message.destination) }
        if message.destination == subscription.destination { return message.publisher == subscription.peer.id }
        let isOfKind = message.destination.hasPrefix(
            subscription.destination.hasPrefix("/temp-queue/") ? "/reply-queue/" : "/reply-topic/")
        return isOfKind && replyOwners[message.destination] == subscription.peer.id
            && message.destination.hasSuffix("-" + subscription.destination.dropFirst(12))
    }

    private func checkDestination(
        _ frame: ServerFrame, _ destination: String, of message: Message, _ subscription: Subscription
    ) {
        if frame.headers.count(where: { $0.name == "destination" }) > 1 { violate("two destinations in a MESSAGE") }
        var canonical = message.destination
        if destination != message.written {
            canonical = destination
            guard destination == scenario.deadLetters, frame.value("original-destination") == message.destination else {
                return violate("message \(message.number) for \(message.destination) came as \(destination)")
            }
        }
        if subscription.isTemporary {
            guard reaches(subscription, message) else {
                return violate("message \(message.number) for \(destination) came to another's temporary destination")
            }
        } else if !TopicName.matches(subscription.destination, canonical) {
            violate("message \(message.number) for \(destination) came to a subscriber of \(subscription.destination)")
        }
    }

    private func checkQueue(
        _ message: Message, _ isRedelivered: Bool, _ isDeadLetter: Bool, _ subscription: Subscription
    ) {
        let number = message.number
        // What waited in the output of a connection that leaves may go to another first.
        if subscription.hasLetGo { return }
        let deliveries = isDeadLetter ? message.deliveriesOfDeadLetter : message.deliveries
        if message.countsAreOff {
            // As with a network that loses the last of what was sent, the other way round.
        } else if message.wasTakenAutomatically {
            suspect("message \(number) was delivered again after an auto subscriber had it", subscription)
        } else if deliveries > 0, !isRedelivered {
            suspect("message \(number) was delivered again without redelivered:true", subscription)
        }
        if message.ackIsConfirmed {
            suspect("message \(number) was delivered after its ACK was confirmed", subscription)
        }
        if let holder = message.holder, !holder.hasLetGo {
            suspect("message \(number) was delivered while client \(holder.peer.id) has it", subscription, holder)
        }
    }

    /// `redelivered:true` and `delivery-count:N` come together, from the second delivery on, and N counts them all.
    private func checkDeliveryCount(
        _ frame: ServerFrame, _ message: Message, _ isRedelivered: Bool, _ isDeadLetter: Bool,
        _ subscription: Subscription
    ) {
        let count = frame.value("delivery-count").map { Int($0) ?? 0 }
        guard let count, isRedelivered else {
            if count != nil || isRedelivered { violate("delivery-count without redelivered, or the reverse") }
            return
        }
        if message.countsAreOff { return }
        if message.brokerLife < life {
            // How often it was delivered before may be lost.
            if count < 2 { violate("message \(message.number) of an earlier life: delivery-count:\(count)") }
            return
        }
        let seen = isDeadLetter ? message.deliveriesOfDeadLetter : message.deliveries - message.deliveriesOfDeadLetter
        if !subscription.hasLetGo, !message.wasTakenAutomatically, count < max(seen + 1, 2) {
            let text = "message \(message.number): delivery-count:\(count) when it was delivered \(seen) times before"
            suspect(text, subscription)
        }
        if seen == 0 {
            let text = "message \(message.number) came as redelivered for the first time"
            earlyRedeliveries.append((step, text, isDeadLetter ? scenario.deadLetters ?? "" : message.destination))
        }
    }

    /// A message is a dead letter for its delivery count if consumers failed with it or refused it so often, and then it is
    /// not delivered again, unless no dead-letter destination takes it.
    private func checkFailures(
        _ frame: ServerFrame, _ message: Message, _ isDeadLetter: Bool, _ subscription: Subscription
    ) {
        if isDeadLetter {
            if frame.value("dead-letter-reason") == "delivery-limit" { worn.append((step, message)) }
            return
        }
        // It may have waited in the output since before it was refused.
        if subscription.state == .unsubscribed { return }
        // While its refuser is there, the message can have returned by the NACK alone.
        if let refuser = message.refuser, refuser === subscription || !refuser.hasLetGo {
            message.certainRefusers.append(Message.Refuser(subscription: refuser))
        }
        message.refuser = nil
        let limit = scenario.queues.contains(message.destination) ? scenario.deliveryCountMax : 0
        // A client whose durable subscription is in use elsewhere is ended, and does not know it when it writes NACK.
        guard limit > 0, scenario.takesDeadLetters, !scenario.hasDurables, !message.countsAreOff,
            message.certainRefusers.count >= limit
        else {
            return
        }
        let failures = "failed \(message.certainRefusers.count) times, the limit is \(limit)"
        // A refuser may have been ended before its NACK was read, and not know it yet.
        suspect("message \(message.number) \(failures), and came again", message.certainRefusers.map(\.subscription))
    }

    /// A fault, unless the broker is about to end one of these connections and its ERROR is not sent yet.
    func suspect(_ text: String, _ subscriptions: Subscription...) { suspect(text, subscriptions) }

    func suspect(_ text: String, _ subscriptions: [Subscription]) {
        suspicions.append((step, text, subscriptions.map(\.peer)))
    }

    func judgeSuspicions() {
        for disorder in disorders
        where !excusedQueues.contains(disorder.queue) && !disorderedQueues.contains(disorder.queue) {
            violate("\(disorder.text), at step \(disorder.step)")
        }
        for suspicion in suspicions where !suspicion.peers.contains(where: \.wasEndedByBroker) {
            violate("\(suspicion.text), at step \(suspicion.step)")
        }
        // Behind cipher and WebSocket the broker counts as delivered what is encrypted, and may be lost with the connection.
        let isSure = scenario.transports == nil
        let sure = worn.filter {
            isSure || !$0.message.countsAreOff && !disorderedQueues.contains($0.message.destination)
        }
        for (step, message) in sure where message.failuresPossible < max(scenario.deliveryCountMax, 1) {
            let most = "\(message.failuresPossible) failures at most"
            violate(
                "message \(message.number) is a dead letter after \(most), the limit is \(scenario.deliveryCountMax), at step \(step)"
            )
        }
        for early in earlyRedeliveries {
            let wasLetGo = subscriptions.contains {
                $0.isQueue && $0.destination == early.queue && $0.issuedStep < early.step
                    && ($0.hasLetGo || $0.peer.wasEndedByBroker)
            }
            if !wasLetGo { violate("\(early.text), at step \(early.step)") }
        }
    }

    func destinationKey(_ message: Message) -> Int {
        if let place = scenario.topics.firstIndex(of: message.destination) { return place }
        if let place = scenario.queues.firstIndex(of: message.destination) { return 100 + place }
        return 1000 + (message.destination.utf8.reduce(7) { ($0 &* 31 &+ Int($1)) & 0xFFFF })
    }
}
