import Broker

/// What must be true when everything has come to rest.
extension Oracle {
    /// Every message that was confirmed after a topic subscription was has reached it.
    func judgeTopics(_ counters: Counters) {
        var lost = 0
        var example = ""
        for subscription in subscriptions where isJudged(subscription) {
            var matching: [String: Bool] = [:]
            for message in messages where message.state == .confirmed && !message.isQueue && !mayHaveExpired(message) {
                guard message.issuedStep > subscription.confirmedStep, !subscription.hasSeen(message.number) else {
                    continue
                }
                let matches = matching[message.destination] ?? reaches(subscription, message)
                // Whether a temporary destination is meant depends on who sends, too.
                if !subscription.isTemporary { matching[message.destination] = matches }
                if matches {
                    lost += 1
                    example =
                        "message \(message.number) for \(message.destination) never reached client "
                        + "\(subscription.peer.id)'s '\(subscription.id)' to \(subscription.destination)"
                }
            }
        }
        if lost > tolerated(counters) { violate("\(lost) lost by topics: \(example)") }
    }

    /// A topic's subscription that is in force, so that what was confirmed since must have reached it.
    private func isJudged(_ subscription: Subscription) -> Bool {
        // What a reader comes too late for may be trimmed.
        !subscription.isQueue && subscription.confirmedStep > 0 && subscription.state == .confirmed
            && !subscription.peer.isLeaving && !(subscription.position != nil && scenario.logs?.isTight == true)
    }

    /// Messages that may be missing: where memory is tight the broker drops some, and counts them.
    private func tolerated(_ counters: Counters) -> Int {
        scenario.memoryIsTight ? Int(counters.messagesDropped + counters.messagesRefused) : 0
    }

    /// Every confirmed message of a queue was consumed (a client drained what was left), unless a policy took it.
    func judgeQueues(_ counters: Counters) {
        var lost = 0
        var example = ""
        for message in messages where message.isQueue && (message.state == .confirmed || isRecovered(message)) {
            if isGone(message) || mayBeLost(message) { continue }
            if message.brokerLife < life, !mustHaveSurvived(message) { continue }
            lost += 1
            example = "message \(message.number) for \(message.destination)"
        }
        if lost > tolerated(counters) { violate("\(lost) lost by queues: \(example)") }
    }

    /// Every confirmed message of a temporary queue whose owner is there and consumes it has reached the owner.
    func judgeTemporaryQueues(_ counters: Counters) {
        let owned = subscriptions.filter {
            $0.isQueue && $0.isTemporary && $0.state == .confirmed && !$0.peer.isLeaving
        }
        var lost = 0
        var example = ""
        for message in messages where message.state == .confirmed && message.isQueue && !isGone(message) {
            if mayHaveExpired(message) || message.brokerLife < life { continue }
            guard let owner = owned.first(where: { reaches($0, message) }) else { continue }
            lost += 1
            example = "message \(message.number) for \(message.destination) of client \(owner.peer.id)"
        }
        if lost > tolerated(counters) { violate("\(lost) lost by temporary queues: \(example)") }
    }

    /// A consumer has it for good.
    func isGone(_ message: Message) -> Bool { message.ackIsIssued || message.wasTakenAutomatically }

    func mayHaveExpired(_ message: Message) -> Bool { message.expiryEarliest <= wall }

    func mayBeLost(_ message: Message) -> Bool {
        if mayHaveExpired(message) || excusedQueues.contains(message.destination) { return true }
        if !scenario.queues.contains(message.destination) { return true }  // a temporary queue ends with its connection
        // Where destinations are tight there may be none for dead letters.
        let hasNoLastResort =
            scenario.deadLetters == nil || excusedQueues.contains(scenario.deadLetters!)
            || scenario.destinationsAreTight
        if message.wasRejected { return true }
        if hasNoLastResort {
            if scenario.queuesAreTight, scenario.overflow == .dropOldest { return true }
            if scenario.deliveryCountMax > 0, scenario.deadLetters != nil { return true }
        }
        return false
    }

    /// A transaction whose COMMIT was written took effect as a whole or not at all.
    ///
    /// Those whose COMMIT was confirmed are judged message by message; here are the others.
    func judgeTransactions(_ counters: Counters, hasDrained: Bool) {
        for transaction in transactions where transaction.state == .commitIssued && !isOld(transaction) {
            // For want of memory the rest may be impossible, and then the client is told.
            let lost = counters.messagesDropped + counters.messagesRefused
            if scenario.memoryIsTight, lost > 0 || transaction.peer.wasEndedByBroker { continue }
            let all = transaction.messages.filter { !mayHaveExpired($0) }
            let appeared = all.count { $0.deliveries > 0 }
            guard appeared > 0 else { continue }
            var missing = 0
            for message in all {
                if message.isQueue {
                    if hasDrained, message.deliveries == 0, !mayBeLost(message) { missing += 1 }
                } else if subscriptions.contains(where: {
                    isJudged($0) && $0.confirmedStep < message.issuedStep && reaches($0, message)
                        && !$0.hasSeen(message.number)
                }) {
                    missing += 1
                }
            }
            if missing > 0 {
                violate("transaction '\(transaction.name)': \(appeared) of its messages appeared, \(missing) did not")
            }
        }
    }

    /// A drain reports that a queue holds so many messages: no more than may be there.
    func reportedUndelivered(_ count: Int, of queue: String) {
        guard scenario.queues.contains(queue) else { return }
        var most = 0
        for message in messages where message.destination == queue && !message.ackIsConfirmed {
            switch message.state {
            case .kept, .refused: break
            case .issued, .confirmed: most += 1
            }
        }
        if count > most { violate("\(count) messages are reported as undelivered in \(queue), which holds \(most)") }
    }

    /// Everything that was confirmed, and that nobody has, was reported.
    func judgeUndelivered(_ reported: Int) {
        guard !scenario.memoryIsTight else { return }
        let lost = messages.filter {
            $0.isQueue && scenario.queues.contains($0.destination) && $0.state == .confirmed
                && !isGone($0) && !mayBeLost($0)
        }
        guard reported < lost.count else { return }
        let names = lost.map { "\($0.number) for \($0.destination)" }.joined(separator: ", ")
        violate("\(reported) messages are reported as undelivered, and \(lost.count) are: \(names)")
    }
}
