import Broker

// Logs of topics: an offset is one message's for ever, and a reader sees all of them from its beginning on; and messages that
// topics retain: a new subscriber is given the last one, or those behind it, and nothing twice.
extension Oracle {
    func isLogged(_ topic: String) -> Bool { scenario.logs?.topics.contains(topic) == true }

    // MARK: MESSAGE

    /// What a MESSAGE says of offsets, and whether it may be the one that its topic retains.
    func checkLog(_ frame: ServerFrame, of message: Message, _ subscription: Subscription) {
        let texts = frame.headers.filter { $0.name == "x-stream-offset" }.map(\.value)
        let isRetained = frame.value("retained") != nil
        if frame.value("retain") != nil { violate("retain got through") }
        if isRetained { checkRetained(message, subscription) }
        if !message.isQueue, !isRetained { subscription.liveTopics.insert(message.destination) }
        guard isLogged(message.destination) else {
            if !texts.isEmpty { violate("message \(message.number) of a topic without a log has an offset") }
            return
        }
        guard texts.count == 1, let offset = Int(texts[0]) else {
            return violate("message \(message.number) of a log has the offsets \(texts)")
        }
        let former = offsets[message.destination, default: [:]].updateValue(message.number, forKey: offset)
        if let former, former != message.number {
            violate("offset \(offset) of \(message.destination) was message \(former) and is \(message.number)")
        }
        if message.offset >= 0, message.offset != offset, !mayBePublishedAgain(message) {
            violate("message \(message.number) had the offset \(message.offset) and has \(offset)")
        }
        message.offset = offset
        if subscription.position != nil { checkReader(message, offset, subscription) }
    }

    private func checkReader(_ message: Message, _ offset: Int, _ subscription: Subscription) {
        guard let position = subscription.position else { return }
        subscription.position?.last = offset
        let client = "client \(subscription.peer.id)"
        if position.last >= offset { return violate("\(client): offset \(offset) behind \(position.last)") }
        var expected = position.last + 1
        if position.last < 0 {
            guard let first = position.first else { return }
            expected = first
            // One that is still to come: then the next message is the first.
            if offset < first, position.knownAtStart >= first {
                return violate("\(client): begins at \(offset), and asked for \(position.start)")
            }
        }
        if expected >= offset { return }
        let known = offsets[message.destination] ?? [:]
        for skipped in expected..<offset {
            guard let number = known[skipped], isInLog(messages[number]) else { continue }
            return violate("\(client) reads \(position.start): offset \(skipped) is missing before \(offset)")
        }
    }

    /// It was due when the broker crashed: what came of that may be gone, and then it is given another offset.
    private func mayBePublishedAgain(_ message: Message) -> Bool { message.delay != nil && message.brokerLife < life }

    /// A reader that comes to the message has to be given it.
    private func isInLog(_ message: Message) -> Bool {
        if mayBePublishedAgain(message) { return false }
        guard let logs = scenario.logs, !logs.isTight, message.expiryEarliest > wall else { return false }
        return message.brokerLife == life || isStored(message) && !message.isLost
    }

    // MARK: Retained

    private func checkRetained(_ message: Message, _ subscription: Subscription) {
        let topic = message.destination
        let text = "client \(subscription.peer.id): message \(message.number) as the one that \(topic) retains"
        if message.retain != .set { return violate("\(text): nobody asked for that") }
        if subscription.position != nil { violate("\(text): to the reader of a log") }
        if !subscription.retainedTopics.insert(topic).inserted { violate("\(text): another one came before") }
        if subscription.liveTopics.contains(topic) { violate("\(text): behind others of the topic") }
        guard message.confirmedStep > 0 else { return }
        let later = messages.first {
            $0.destination == topic && $0.retain != nil && $0.confirmedStep > 0
                && $0.confirmedStep < subscription.issuedStep && $0.issuedStep > message.confirmedStep
                // One that had expired when it came changed nothing.
                && !mayHaveExpired($0)
        }
        if let later { violate("\(text): message \(later.number) has taken its place") }
    }

    // MARK: At rest

    /// Readers from the beginning have seen all that is in the log, and new subscribers what was retained.
    func judgeLogs() {
        guard let logs = scenario.logs else { return }
        for subscription in subscriptions where isInForce(subscription) && !subscription.isTemporary {
            if subscription.position == nil {
                if !scenario.memoryIsTight { judgeRetained(subscription) }
                continue
            }
            guard subscription.position?.first == 0, !logs.isTight else { continue }
            let missing = messages.first {
                $0.destination == subscription.destination && $0.state == .confirmed && isInLog($0)
                    && !subscription.hasSeen($0.number)
            }
            if let missing {
                violate(
                    "client \(subscription.peer.id) reads \(subscription.destination) from the first, and never saw "
                        + "message \(missing.number) (offset \(missing.offset))")
            }
        }
    }

    private func isInForce(_ subscription: Subscription) -> Bool {
        !subscription.isQueue && subscription.confirmedStep > 0 && subscription.state == .confirmed
            && !subscription.peer.isLeaving
    }

    private func judgeRetained(_ subscription: Subscription) {
        for topic in scenario.topics where TopicName.matches(subscription.destination, topic) {
            let changes = messages.filter {
                $0.destination == topic && $0.retain != nil && ($0.state == .issued || $0.state == .confirmed)
                    && $0.issuedStep < subscription.confirmedStep
            }
            let settled = changes.filter { $0.confirmedStep > 0 && $0.confirmedStep < subscription.issuedStep }
            guard let last = settled.max(by: { $0.issuedStep < $1.issuedStep }), last.retain == .set,
                last.brokerLife == life, !mayHaveExpired(last)
            else { continue }
            // Others may have come before it or behind it.
            let isCertain = changes.allSatisfy {
                $0 === last || $0.confirmedStep > 0 && $0.confirmedStep < last.issuedStep
            }
            if isCertain, !subscription.hasSeen(last.number) {
                violate(
                    "client \(subscription.peer.id) subscribed to \(subscription.destination) and was not given message "
                        + "\(last.number), which \(topic) retained")
            }
        }
    }
}
