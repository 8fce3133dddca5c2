// What clients may rely on of durable subscriptions.
extension Oracle {
    // MARK: Written and confirmed

    func wroteSubscribe(to model: DurableModel) {
        if model.firstIssuedStep == 0 { model.firstIssuedStep = step }
    }

    func confirmedSubscribe(to model: DurableModel, _ subscription: Subscription) {
        // An end that is under way may come behind it.
        guard model.openEnds == 0, subscription.issuedStep > model.lastEndStep else { return }
        model.since = min(model.since, step)
    }

    /// An UNSUBSCRIBE was processed, or refused.
    func answered(_ durable: DurableStep) {
        guard case .end(let model) = durable else { return }
        model.openEnds -= 1
        model.lastEndStep = step
    }

    /// What was under way is gone with the broker.
    func forgetOpenEnds(_ models: [DurableModel]) {
        for model in models {
            model.openEnds = 0
            model.lastEndStep = step
        }
    }

    func wrote(_ durable: DurableStep) {
        switch durable {
        case .settle(let model, let numbers): for number in numbers { model[number].ackIsIssued = true }
        case .end(let model):
            model.since = .max
            model.openEnds += 1
        }
    }

    /// A RECEIPT names the frame: what it did outlives every crash.
    func promise(_ durable: DurableStep) {
        guard case .settle(let model, let numbers) = durable else { return }
        for number in numbers { model[number].ackIsPromised = true }
    }

    // MARK: Delivered

    func durableMessage(
        _ frame: ServerFrame, _ message: Message, _ subscription: Subscription, of model: DurableModel, _ peer: Peer
    ) {
        let number = message.number
        let isRedelivered = frame.value("redelivered") == "true"
        let text = "message \(number) for durable '\(model.name)'"
        if frame.value("destination") != message.written {
            violate("\(text) came as \(frame.value("destination") ?? "")")
        }
        if !model.matches(message) { violate("\(text) does not match \(model.destination)") }
        if message.state == .kept { violate("\(text) was delivered before its COMMIT") }
        if message.state == .refused, scenario.storage == nil {
            violate("\(text) was delivered although it was refused")
        }
        // A log publishes the message when its offset is reserved, and nobody has to wait for that if it is not stored.
        let isPublishedLater = message.delay != nil || isLogged(message.destination) && !message.isPersistent
        if message.confirmedStep > 0, message.confirmedStep < model.firstIssuedStep, !isPublishedLater {
            violate("\(text) is older than the subscription")
        }
        if wall < message.dueEarliest {
            violate("\(text) came \(message.dueEarliest - wall) ms before it was due")
        }
        // What waited in the output of a connection that leaves may go to another first.
        if !subscription.hasLetGo {
            if model[number].ackIsPromised { suspect("\(text) came although its ACK was confirmed", subscription) }
            if model[number].deliveries > 0, !isRedelivered {
                suspect("\(text) came again without redelivered:true", subscription)
            }
        }
        if message.brokerLife < life {
            if !message.isPersistent { violate("\(text) came in a later life, and was not stored") }
            if !isRedelivered, message.wasInCrash, message.delay == nil {
                violate("\(text) came in a later life without redelivered:true")
            }
        }
        if model.isSingle, message.delay == nil {
            let key = message.publisher << 20 | destinationKey(message)
            let last = subscription.lastSequence[key, default: 0]
            if message.sequence < last {
                violate("\(text) came after a later one of the same publisher and destination")
            }
            subscription.lastSequence[key] = max(last, message.sequence)
        }
        model[number].deliveries += 1
        message.deliveries += 1
        subscription.outstanding.append(
            Subscription.Outstanding(
                message: message, name: frame.value("ack") ?? frame.value("message-id") ?? "",
                end: peer.decodedEnd, transaction: nil))
        if subscription.outstanding.count > subscription.prefetch {
            violate("client \(peer.id): \(subscription.outstanding.count) unacknowledged of durable '\(model.name)'")
        }
    }

    // MARK: Recovered

    /// What recovery found of durable subscriptions: their names, and messages by queue.
    func recovered(_ names: Set<String>, _ found: [FoundMessage], of models: [DurableModel]) {
        for model in models {
            if model.isPromised, !names.contains(model.queueName) {
                violate("durable '\(model.name)' was promised and is lost in life \(life)")
            }
            let numbers = found.filter { $0.queue == model.queueName }.map(\.number)
            if Set(numbers).count != numbers.count { violate("durable '\(model.name)' has a message twice") }
            for number in numbers {
                guard messages.indices.contains(number) else {
                    violate("durable '\(model.name)' has a message that nobody sent")
                    continue
                }
                if !messages[number].isPersistent { violate("durable '\(model.name)' stored message \(number)") }
                if model[number].ackIsPromised {
                    violate("durable '\(model.name)' has message \(number) although its ACK was confirmed")
                }
                if messages[number].state == .kept {
                    violate("durable '\(model.name)' has message \(number) of a transaction without COMMIT")
                }
            }
            let there = Set(numbers)
            let delayed = Set(found.filter(\.isDelayed).map(\.number))
            for message in messages where mustHave(model, message) && message.brokerLife < life {
                if !there.contains(message.number), !delayed.contains(message.number) {
                    violate(
                        "message \(message.number) was promised to durable '\(model.name)' and is lost in life \(life)")
                }
            }
            checkTransactions(model, there)
        }
    }

    /// A transaction whose COMMIT was written before a crash, and not confirmed, is there as a whole or not at all.
    private func checkTransactions(_ model: DurableModel, _ there: Set<Int>) {
        // What topics with logs publish is no part of a transaction, nor is what is delayed.
        guard model.isPromised, scenario.logs == nil else { return }
        for transaction in transactions where transaction.state == .commitIssued && isOld(transaction) {
            let kept = transaction.messages.filter {
                $0.isPersistent && model.matches($0) && $0.issuedStep > model.since && !mayBeExpired($0)
                    && !model[$0.number].ackIsIssued
            }
            let present = kept.count { there.contains($0.number) }
            if present > 0, present < kept.count {
                violate(
                    "transaction '\(transaction.name)': \(present) of its \(kept.count) messages are on the disk for durable "
                        + "'\(model.name)'")
            }
        }
    }

    private func mayBeExpired(_ message: Message) -> Bool { message.expiryEarliest <= wall }

    /// The subscription has to have the message, or to have had it.
    private func mustHave(_ model: DurableModel, _ message: Message) -> Bool {
        guard model.isPromised, message.issuedStep > model.since, model.matches(message), !mayBeExpired(message) else {
            return false
        }
        if model[message.number].ackIsIssued { return false }
        return message.brokerLife == life ? message.state == .confirmed : message.isPersistent && message.isPromised
    }

    /// Consumers have taken all that there was.
    func judgeDurables(_ models: [DurableModel]) {
        for model in models {
            for message in messages where mustHave(model, message) {
                violate(
                    "message \(message.number) for \(message.destination) never reached durable '\(model.name)' to "
                        + model.destination)
            }
        }
    }
}
