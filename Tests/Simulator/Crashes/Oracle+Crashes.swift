import Broker

// What a crash of the broker may take, and what it must not.
extension Oracle {
    /// The broker has ended. Its connections are lost, and what it kept in memory.
    ///
    /// - Parameters:
    ///   - isOrderly: it had the time to say what became of its messages.
    ///   - hasStored: it had the time to store all that it had taken, and a disk that works.
    func brokerEnded(_ peers: [Peer], isOrderly: Bool, hasStored: Bool) {
        life += 1
        // Whoever may have been about to be told of an ERROR never is: what was suspected cannot be judged any more.
        suspicions.removeAll()
        disorders.removeAll()
        earlyRedeliveries.removeAll()
        worn.removeAll()
        var excused = excusedQueues
        for subscription in subscriptions where subscription.state != .ended {
            if subscription.isQueue, subscription.ackMode == .auto { excused.insert(subscription.destination) }
            subscription.state = .ended
        }
        // A dead letter that was lost so may have been anybody's.
        let isExcused = scenario.deadLetters.map(excused.contains) ?? false
        for transaction in transactions where transaction.state == .open { abandon(transaction) }
        for message in messages where message.brokerLife > 0 && message.brokerLife < life {
            // Nobody takes a message out of a log.
            if isExcused || excused.contains(message.destination) || isGone(message), !isLogged(message.destination) {
                message.mayBeGone = true
            }
            if hasStored {
                if message.state == .confirmed { message.isPromised = true }
                if message.ackIsConfirmed { message.ackIsPromised = true }
            }
            if !isOrderly, message.brokerLife == life - 1 { message.wasInCrash = true }
            message.endLife()
        }
        excusedQueues.removeAll()
        disorderedQueues.removeAll()
        replyOwners.removeAll()
        for peer in peers {
            peer.stage = .closed
            peer.clientIsGone = true
            peer.phase = .ended
        }
    }

    /// Another broker has begun, on what the last one left.
    func brokerBegan(shardCount: Int) {
        scenario.shardCount = shardCount
        durablePositions = [LogPosition](repeating: 0, count: shardCount)
        turnCounts = [Int](repeating: 0, count: shardCount)
    }

    /// A RECEIPT promises that what this frame did outlives every crash.
    func promise(_ kind: Expectation.Kind) {
        switch kind {
        case .send(let message): message.isPromised = true
        case .settle(let messages): for message in messages { message.ackIsPromised = true }
        case .commit(let transaction, let acknowledged):
            for message in transaction.messages { message.isPromised = true }
            for message in acknowledged { message.ackIsPromised = true }
        case .durable(let durable): promise(durable)
        case .plain, .subscribe, .unsubscribe, .disconnect: break
        }
    }

    /// Whether the broker stores the message, if it is told to be persistent.
    func isStored(_ message: Message) -> Bool {
        message.isPersistent
            && (scenario.queues.contains(message.destination)
                || isLogged(message.destination) && scenario.logs?.isTight == false || isDelayedByTopic(message))
    }

    /// It waits for its time, and is stored as one that does.
    private func isDelayedByTopic(_ message: Message) -> Bool { message.delay != nil && !message.isQueue }

    // MARK: What the next life finds on the disk

    /// In the order of their queues.
    func recovered(_ found: [FoundMessage]) {
        var places: [Int: String] = [:]
        var last: [String: Int] = [:]
        for one in found {
            guard messages.indices.contains(one.number) else {
                return violate("recovery found a message that nobody sent, in \(one.queue)")
            }
            if isLogged(one.queue), scenario.logs?.isTight == true, !one.isDelayed { continue }
            let message = messages[one.number]
            if let other = places.updateValue(one.queue, forKey: one.number) {
                violate("recovery found message \(one.number) in \(other) and in \(one.queue)")
            }
            checkFound(message, one)
            guard one.queue == message.destination, message.delay == nil else { continue }
            let key = "\(message.publisher) \(one.queue)"
            if message.sequence < last[key, default: 0] {
                violate("recovery found message \(one.number) behind a later one of the same publisher and queue")
            }
            last[key] = message.sequence
        }
        for message in messages where message.brokerLife > 0 && isStored(message) {
            if places[message.number] != nil {
                message.mayBeGone = false
                continue
            }
            if message.isPromised, !message.mayBeGone, !mayBeMissing(message) {
                let text = "was promised in life \(message.brokerLife) and is lost in life \(life)"
                violate("message \(message.number) \(text)")
            }
            message.isLost = true
        }
        for transaction in transactions where transaction.state == .commitIssued && isOld(transaction) {
            checkFound(transaction, places)
        }
    }

    private func mayBeMissing(_ message: Message) -> Bool {
        if isDelayedByTopic(message), !isLogged(message.destination) || scenario.logs?.isTight == true {
            return message.dueEarliest <= wall
        }
        return isLogged(message.destination) ? mayHaveExpired(message) : mayBeLost(message)
    }

    private func checkFound(_ message: Message, _ found: FoundMessage) {
        let number = message.number
        guard isStored(message), found.queue == message.destination || found.queue == scenario.deadLetters else {
            return violate("recovery found message \(number), which should not be stored, in \(found.queue)")
        }
        switch message.state {
        case .kept: violate("recovery found message \(number) of a transaction without COMMIT")
        case .refused: violate("recovery found message \(number), which was refused or aborted")
        case .issued, .confirmed: break
        }
        if isLogged(found.queue) { return }
        if message.ackIsPromised { violate("recovery found message \(number) although its ACK was confirmed") }
        if message.isLost { violate("recovery found message \(number), which an earlier recovery did not find") }
        // One that was delayed and not due yet was certainly not delivered.
        let mayHaveBeenDelivered =
            message.wasInCrash && message.delay == nil || message.deliveries > message.deliveriesOfDeadLetter
        if !found.isRedelivered, mayHaveBeenDelivered, found.queue == message.destination {
            violate("recovery found message \(number) and takes it for never delivered")
        }
    }

    /// A transaction whose COMMIT was written before a crash, and not confirmed, is there as a whole or not at all.
    private func checkFound(_ transaction: Transaction, _ places: [Int: String]) {
        let stored = transaction.messages.filter { isStored($0) }
        let one = stored.first { places[$0.number] != nil }
        let other = stored.first { places[$0.number] == nil && !$0.mayBeGone && !mayBeMissing($0) }
        let returned = transaction.acknowledged.first { places[$0.number] != nil }
        guard let one else { return }
        let text = "transaction '\(transaction.name)': message \(one.number) is on the disk"
        if let other { violate("\(text), and \(other.number) is not") }
        if let returned { violate("\(text), and the ACK of \(returned.number) is not") }
    }

    /// A message of an earlier life is delivered.
    func checkRecovered(
        _ message: Message, isRedelivered: Bool, isDeadLetter: Bool, _ subscription: Subscription
    ) {
        let number = message.number
        if !isStored(message) || message.isLost {
            violate("message \(number) of life \(message.brokerLife) came in life \(life), and was not on the disk")
        }
        // As a dead letter it may be a new message of this life. And what waited in the output of a connection that
        // leaves may go to another first.
        // One that was delayed and not due yet was certainly not delivered.
        let mayHaveBeenDelivered = message.wasInCrash && message.delay == nil || message.deliveries > 0
        if message.isQueue, !isRedelivered, !isDeadLetter, !subscription.hasLetGo, mayHaveBeenDelivered {
            violate("message \(number) of life \(message.brokerLife) came in life \(life) without redelivered:true")
        }
        message.mayBeGone = false
    }

    /// A promised message of an earlier life that nobody had must come again; so must what recovery found.
    func mustHaveSurvived(_ message: Message) -> Bool { isStored(message) && !message.mayBeGone && !message.isLost }

    /// Recovery found it, and nobody was seen to have it for good since.
    func isRecovered(_ message: Message) -> Bool {
        message.brokerLife > 0 && message.brokerLife < life && mustHaveSurvived(message)
    }

    func isOld(_ transaction: Transaction) -> Bool { transaction.brokerLife > 0 && transaction.brokerLife < life }
}

extension Message {
    /// The broker that had it is gone. What its consumers did and were not told of may have been lost, too.
    fileprivate func endLife() {
        holder = nil
        refuser = nil
        wasTakenAutomatically = false
        ackIsIssued = false
        ackIsConfirmed = false
        failuresPossible += 1
        certainRefusers = []
        deliveriesOfDeadLetter = 0
    }
}
