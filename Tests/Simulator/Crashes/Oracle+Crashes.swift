import Broker

// What a crash of the broker may take, and what it must not.
extension Oracle {
    /// The broker has ended without a word. Its connections are lost, and what it kept in memory.
    func brokerCrashed(_ peers: [Peer]) {
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
        for message in messages where message.life > 0 && message.life < life {
            if isExcused || excused.contains(message.destination) || isGone(message) { message.mayBeGone = true }
            message.crash()
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
        case .plain, .subscribe, .unsubscribe, .disconnect: break
        }
    }

    /// Whether the broker stores the message, if it is told to be persistent.
    func isStored(_ message: Message) -> Bool { message.isPersistent && scenario.queues.contains(message.destination) }

    /// A message of an earlier life is delivered.
    func checkRecovered(_ message: Message, isRedelivered: Bool, isDeadLetter: Bool) {
        let number = message.number
        guard isStored(message) else {
            return violate("message \(number) was delivered in life \(life), and only memory of life \(message.life) had it")
        }
        if message.ackIsPromised {
            violate("message \(number) was delivered in life \(life) although its ACK was confirmed before")
        }
        // As a dead letter it may be a new message of this life.
        if !isRedelivered, !isDeadLetter {
            violate("message \(number) of life \(message.life) was delivered in life \(life) without redelivered:true")
        }
        message.mayBeGone = false
    }

    /// A promised message of an earlier life that nobody had must have come again.
    func mustHaveSurvived(_ message: Message) -> Bool { message.isPromised && isStored(message) && !message.mayBeGone }

    /// A transaction whose COMMIT was written before a crash, and not confirmed, is there as a whole or not at all.
    func judgeOldTransactions() {
        for transaction in transactions where transaction.state == .commitIssued && isOld(transaction) {
            let stored = transaction.messages.filter { isStored($0) && !mayBeLost($0) }
            let came = stored.filter { $0.lifeOfDelivery > $0.life }
            let isMissing = stored.filter { $0.lifeOfDelivery <= $0.life && !$0.mayBeGone }
            if let one = came.first, let other = isMissing.first {
                violate("transaction '\(transaction.name)': message \(one.number) survived a crash, \(other.number) did not")
            }
            let returned = transaction.acknowledged.first { $0.lifeOfDelivery > transaction.life }
            if let one = came.first, let returned {
                let text = "message \(one.number) survived a crash, the ACK of \(returned.number) did not"
                violate("transaction '\(transaction.name)': \(text)")
            }
        }
    }

    func isOld(_ transaction: Transaction) -> Bool { transaction.life > 0 && transaction.life < life }
}

extension Message {
    /// The broker that had it is gone. What its consumers did and were not told of may have been lost, too.
    fileprivate func crash() {
        holder = nil
        refuser = nil
        wasTakenAutomatically = false
        ackIsIssued = false
        ackIsConfirmed = false
        failuresPossible += 1
        failuresCertain = 0
        deliveriesOfDeadLetter = 0
    }
}
