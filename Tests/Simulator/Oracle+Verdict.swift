import Broker

/// What must be true when everything has come to rest.
extension Oracle {
    /// Every message that was confirmed after a topic subscription was has reached it.
    func judgeTopics(_ counters: Counters) {
        var lost = 0
        var example = ""
        for subscription in subscriptions where !subscription.isQueue && subscription.confirmedStep > 0 {
            guard subscription.state == .confirmed, !subscription.peer.isLeaving,
                !subscription.destination.hasPrefix("/temp-queue/")
            else { continue }
            var matching: [String: Bool] = [:]
            for message in messages where message.state == .confirmed && !message.isQueue && !message.expires {
                guard message.issuedStep > subscription.confirmedStep, !subscription.hasSeen(message.number) else {
                    continue
                }
                let matches =
                    matching[message.destination] ?? TopicName.matches(subscription.destination, message.destination)
                matching[message.destination] = matches
                if matches {
                    lost += 1
                    example =
                        "message \(message.number) for \(message.destination) never reached client "
                        + "\(subscription.peer.id)'s '\(subscription.id)' to \(subscription.destination)"
                }
            }
        }
        if lost > (scenario.memoryIsTight ? Int(counters.messagesDropped) : 0) {
            violate("\(lost) lost by topics: \(example)")
        }
    }

    /// Every confirmed message of a queue was consumed (a client drained what was left), unless a policy took it.
    func judgeQueues(_ counters: Counters) {
        var lost = 0
        var example = ""
        for message in messages where message.state == .confirmed && message.isQueue {
            if message.ackIsIssued || message.wasTakenAutomatically || mayBeLost(message) { continue }
            lost += 1
            example = "message \(message.number) for \(message.destination)"
        }
        if lost > (scenario.memoryIsTight ? Int(counters.messagesDropped) : 0) {
            violate("\(lost) lost by queues: \(example)")
        }
    }

    func mayBeLost(_ message: Message) -> Bool {
        if message.expires || excusedQueues.contains(message.destination) { return true }
        if !scenario.queues.contains(message.destination) { return true }  // a temporary queue ends with its connection
        let hasNoLastResort = scenario.deadLetters == nil || excusedQueues.contains(scenario.deadLetters!)
        if message.wasRejected { return true }
        if hasNoLastResort {
            if scenario.queuesAreTight, scenario.overflow == .dropOldest { return true }
            if scenario.deliveryCountMax > 0 { return true }
        }
        return scenario.options.destinationPolicies.contains { $0.messageMillisecondsMax > 0 }
    }

    /// A transaction whose COMMIT was written took effect as a whole or not at all.
    func judgeTransactions() {
        guard !scenario.memoryIsTight else { return }
        for transaction in transactions where transaction.state == .commitIssued {
            let queued = transaction.messages.filter { $0.isQueue && !mayBeLost($0) }
            let appeared = queued.count { $0.deliveries > 0 }
            if appeared != 0, appeared != queued.count {
                violate("transaction '\(transaction.name)': \(appeared) of \(queued.count) messages appeared")
            }
        }
    }
}
