import Broker

/// The reference: what clients may rely on, checked against what they see, frame by frame and at the end.
///
/// It knows nothing of how the broker works. It hears of frames when clients write them and when their last byte is with
/// the kernel (`step` orders both over all connections), and keeps a model of each message and subscription.
final class Oracle {
    var scenario: Scenario
    var step = 1
    /// Of the broker: one more than it has crashed.
    var life = 1
    private(set) var violation: String?
    var messages: [Message] = []
    var subscriptions: [Subscription] = []
    var transactions: [Transaction] = []
    /// Queues with a subscriber whose unacknowledged (`auto`) messages ended with its connection, seen or not.
    var excusedQueues: Set<String> = []
    /// Queues to which messages may have returned that their consumer had not seen: they come again as if for the first
    /// time, behind later ones.
    var disorderedQueues: Set<String> = []
    /// Names of temporary destinations as others see them, with their connection.
    var replyOwners: [String: Int] = [:]
    var hasJumped = false
    /// Who may do what; nil: everybody anything.
    var access: AccessHistory?
    /// The messages of each log, by offset, as far as anybody has seen them.
    var offsets: [String: [Int: Int]] = [:]
    /// The name of each client.
    var users: [Int: String] = [:]
    /// And its listener.
    var listeners: [Int: Int] = [:]
    /// Wall-clock milliseconds.
    var wall: UInt64 = 0
    /// Of each worker: how far its log is durable, and the turns that it has had.
    var durablePositions: [LogPosition]
    var turnCounts: [Int]
    var disorders: [(step: Int, text: String, queue: String)] = []
    var suspicions: [(step: Int, text: String, peers: [Peer])] = []
    /// First deliveries that said `redelivered:true`: right if somebody let go of the message before, unseen.
    var earlyRedeliveries: [(step: Int, text: String, queue: String)] = []
    /// Messages that came as dead letters because they had been delivered too often.
    var worn: [(step: Int, message: Message)] = []
    var framesSeen = 0
    var messagesSeen = 0

    init(_ scenario: Scenario) {
        self.scenario = scenario
        access = scenario.access.map { AccessHistory($0) }
        durablePositions = [LogPosition](repeating: 0, count: scenario.shardCount)
        turnCounts = [Int](repeating: 0, count: scenario.shardCount)
    }

    func violate(_ text: @autoclosure () -> String) {
        if violation == nil { violation = "step \(step): \(text())" }
    }

    // MARK: Written by clients

    func wrote(_ peer: Peer, _ kind: Expectation.Kind, receipt: Bool) -> Int {
        let index = peer.nextIndex
        peer.nextIndex += 1
        peer.expectations.append(Expectation(index: index, wantsReceipt: receipt, kind: kind))
        switch kind {
        case .send(let message): issue(message, by: peer)
        case .subscribe(let subscription):
            subscription.issuedStep = step
            subscription.wantsReceipt = receipt
            peer.subscriptions.append(subscription)
            subscriptions.append(subscription)
        case .unsubscribe(let subscription):
            subscription.state = .unsubscribed
            // Messages may be on their way from the queue's worker. And what an earlier life left may be with the client,
            // which has not read it yet: it returns, and says redelivered:true as all of it does.
            if scenario.shardCount > 1 || life > 1 { disorderedQueues.insert(subscription.destination) }
        case .commit(let transaction, let acknowledged):
            transaction.state = .commitIssued
            transaction.wantsReceipt = receipt
            transaction.brokerLife = life
            transaction.acknowledged = acknowledged
            for message in transaction.messages { issue(message, by: peer) }
            for message in acknowledged { wroteACK(message, by: peer) }
        case .settle, .plain: break
        case .durable(let durable): wrote(durable)
        case .disconnect: peer.disconnectIsIssued = true
        }
        return index
    }

    func wroteACK(_ message: Message, by peer: Peer) {
        message.ackIsIssued = true
        message.acknowledger = peer.id
    }

    private func issue(_ message: Message, by peer: Peer) {
        message.state = .issued
        message.issuedStep = step
        message.brokerLife = life
        if let delay = message.delay, !message.delayIsAbsolute { message.dueEarliest = wall + delay }
        if let life = message.life {
            message.expiryEarliest = message.expiryIsAbsolute ? life : wall + life
            if message.expiryIsAbsolute { message.expiryLatest = life }
        }
        let policy = scenario.messageMillisecondsMax
        if message.isQueue, policy > 0, scenario.queues.contains(message.destination) {
            message.expiryEarliest = min(message.expiryEarliest, wall + policy)
        }
        let idle = scenario.idleWithMessagesMilliseconds
        if message.isQueue, idle > 0, scenario.queues.contains(message.destination) {
            // The SEND is a use of the queue. If it is the last for so long, the queue goes.
            message.expiryEarliest = min(message.expiryEarliest, wall + idle)
        }
        let sequence = peer.sequences[message.destination, default: 0] + 1
        peer.sequences[message.destination] = sequence
        message.sequence = sequence
    }

    // MARK: Sent by the broker

    /// `encodedSince`: wall-clock milliseconds before which the broker cannot have written the frame; 0: not known.
    func received(_ frame: ServerFrame, by peer: Peer, encodedSince: UInt64 = 0) {
        framesSeen += 1
        guard peer.error == nil else { return violate("client \(peer.id): a frame behind ERROR") }
        guard !peer.disconnectIsConfirmed else {
            return violate("client \(peer.id): a frame behind DISCONNECT's RECEIPT")
        }
        switch frame.command {
        case .connected: connected(frame, peer)
        case .message: message(frame, peer, encodedSince)
        case .receipt: receipt(frame, peer)
        case .error: error(frame, peer)
        }
    }

    private func connected(_ frame: ServerFrame, _ peer: Peer) {
        guard peer.phase == .connecting else { return violate("client \(peer.id): CONNECTED out of turn") }
        if scenario.authenticates, peer.isAllowed != true {
            return violate("client \(peer.id): CONNECTED before it was allowed")
        }
        if peer.transport?.mustFail == true { return violate("client \(peer.id): CONNECTED in spite of its transport") }
        peer.phase = .connected
        peer.connectedEnd = peer.decodedEnd
        let version = "\(peer.version / 10).\(peer.version % 10)"
        if frame.value("version") != version {
            violate("version:\(frame.value("version") ?? "") instead of \(version)")
        }
        for name in ["session", "server", "heart-beat"] where frame.value(name) == nil {
            violate("CONNECTED without \(name)")
        }
        peer.decoder.version = peer.version
    }

    private func receipt(_ frame: ServerFrame, _ peer: Peer) {
        guard let text = frame.value("receipt-id"), let index = Int(text) else {
            return violate("RECEIPT without its id")
        }
        checkConditions(ofReceipt: index, peer)
        // Frames before this one are processed too; those that asked for a RECEIPT have had it.
        while peer.expectationHead < peer.expectations.count {
            let expectation = peer.expectations[peer.expectationHead]
            guard expectation.index <= index else { break }
            peer.expectationHead += 1
            if expectation.index == index, !expectation.wantsReceipt {
                return violate("client \(peer.id): RECEIPT \(index) that nobody asked for")
            }
            if expectation.index < index, expectation.wantsReceipt {
                return violate("client \(peer.id): RECEIPT \(index) before \(expectation.index)")
            }
            confirm(expectation.kind, peer)
            if expectation.index == index { return promise(expectation.kind) }
        }
        violate("client \(peer.id): RECEIPT \(index) twice or for nothing")
    }

    /// A worker learns of patterns from others, too, beyond its limit; alone it never holds more.
    private func checkPatternCount() {
        guard scenario.patternsAreTight, scenario.shardCount == 1 else { return }
        let live = subscriptions.filter {
            $0.state == .confirmed && !$0.hasLetGo && scenario.patterns.contains($0.destination)
        }
        let count = Set(live.map(\.destination)).count
        let most = scenario.options.limits.patternCountMax
        // One that is about to be ended has made way already.
        if count > most {
            suspicions.append((step, "\(count) different patterns, the limit is \(most)", live.map(\.peer)))
        }
    }

    private func confirm(_ message: Message) {
        message.state = .confirmed
        message.confirmedStep = step
        // It was processed by now; its life began then.
        if let life = message.life, !message.expiryIsAbsolute { message.expiryLatest = wall + life }
        let policy = scenario.messageMillisecondsMax
        if message.isQueue, policy > 0, scenario.queues.contains(message.destination), message.delay == nil {
            message.expiryLatest = min(message.expiryLatest, wall + policy)
        }
        checkFilledQueues(of: message)
    }

    /// The message's publisher fills no more queues than it may: those that it was the first to send to, and that nobody has
    /// ever subscribed to. Each worker counts its own.
    private func checkFilledQueues(of message: Message) {
        guard message.isQueue, scenario.holdersAreTight, scenario.shardCount == 1, !scenario.queuesAreTight else {
            return
        }
        let filled = scenario.queues.filter { queue in
            guard !subscriptions.contains(where: { $0.destination == queue }) else { return false }
            let sent = messages.filter { $0.destination == queue && $0.state != .kept && $0.state != .refused }
            guard
                let first = sent.first(where: {
                    $0.publisher == message.publisher && $0.state == .confirmed && !mayBeLost($0)
                })
            else { return false }
            return sent.allSatisfy { $0.publisher == message.publisher || $0.issuedStep > first.confirmedStep }
        }
        let most = scenario.options.limits.destinationsPerConnectionMax
        if filled.count > most {
            violate(
                "client \(message.publisher) fills \(filled.count) queues that nobody subscribes to, the limit is \(most)"
            )
        }
    }

    private func confirm(_ kind: Expectation.Kind, _ peer: Peer) {
        switch kind {
        case .plain: break
        case .durable(let durable): answered(durable)
        case .send(let message): if message.state == .issued { confirm(message) }
        case .subscribe(let subscription):
            if subscription.state == .issued { subscription.state = .confirmed }
            subscription.confirmedStep = step
            if let model = subscription.durable { confirmedSubscribe(to: model, subscription) }
            checkPatternCount()
        case .unsubscribe(let subscription): subscription.state = .ended
        case .settle(let acknowledged): for message in acknowledged { message.ackIsConfirmed = true }
        case .commit(let transaction, let acknowledged):
            transaction.state = .committed
            for message in transaction.messages { confirm(message) }
            for message in acknowledged { message.ackIsConfirmed = true }
        case .disconnect: peer.disconnectIsConfirmed = true
        }
    }

    private func error(_ frame: ServerFrame, _ peer: Peer) {
        let text = frame.value("message") ?? ""
        peer.error = text
        peer.phase = .failed
        if text.isEmpty { violate("ERROR without message") }
        let isForbidden = text == "Access refused" && isForbidden(frame.value("receipt-id"), peer)
        let isRefusal =
            isForbidden || text == "Access refused" && (peer.isAllowed == false || peer.mayBeRefused)
            || text == "Token expired" && peer.expiresAt != 0 && peer.expiresAt <= wall
            || text == "Not connected in time" && scenario.authenticates && peer.connectedEnd == .max
        if !peer.misbehaved, !isRefusal, !scenario.permits(error: text, hasJumped: hasJumped) {
            violate("honest client \(peer.id): ERROR \(text): \(String(decoding: frame.body, as: UTF8.self))")
        }
        guard let receipt = frame.value("receipt-id") else { return }
        guard let index = Int(receipt) else { return violate("ERROR with receipt-id:\(receipt)") }
        var position = peer.expectationHead
        while position < peer.expectations.count, peer.expectations[position].index != index { position += 1 }
        guard position < peer.expectations.count, peer.expectations[position].wantsReceipt else {
            if !peer.misbehaved { violate("client \(peer.id): ERROR names frame \(index), which asked for no RECEIPT") }
            return
        }
        // For want of memory a frame may be applied and its RECEIPT impossible; who is not permitted hears it afterwards.
        guard !scenario.memoryIsTight, !isForbidden else { return }
        // The disk failed when the frame had been applied: nobody knows whether it will have been.
        if text == "Storage failed" || text == "Disk full, not confirmed" { return }
        switch peer.expectations[position].kind {
        case .send(let message): refuse(message)
        case .commit(let transaction, let acknowledged):
            transaction.state = .aborted
            for message in transaction.messages { refuse(message) }
            // Another may have it, and have acknowledged it, since.
            for message in acknowledged where message.acknowledger == peer.id { message.ackIsIssued = false }
        case .durable(let durable): answered(durable)
        case .plain, .subscribe, .unsubscribe, .settle, .disconnect: break
        }
    }

    private func refuse(_ message: Message) {
        message.state = .refused
        // Of a topic's subscribers some may have it when a log has no room for it.
        if message.deliveries > 0, !scenario.hasDurables || message.isQueue {
            violate("message \(message.number) was delivered and then refused")
        }
    }

    // MARK: The connection's end

    /// The connection is over, whichever side ended it. `wasFlushed`: the broker had nothing left to send.
    func ended(_ peer: Peer, wasFlushed: Bool) {
        countFailures(of: peer)
        if !wasFlushed { droppedOutput(of: peer) }
        for subscription in peer.subscriptions {
            if subscription.isQueue, subscription.ackMode == .auto, !wasFlushed {
                excusedQueues.insert(subscription.destination)
            }
            if subscription.isQueue, !wasFlushed || scenario.shardCount > 1 {
                disorderedQueues.insert(subscription.destination)
            }
            subscription.state = .ended
        }
        for transaction in peer.transactions where transaction.state == .open { abandon(transaction) }
    }

    /// The broker has given up a connection with output that was not sent, as far as the core knows: a layer that encrypts
    /// tells the core of whole blocks of records, and a client reads each.
    func droppedOutput(of peer: Peer) {
        guard peer.transport?.cipher != nil else { return }
        for message in messages where message.lastTaker === peer { message.countsAreOff = true }
    }

    /// The consumers of a connection that is lost fail with the oldest message that each has not acknowledged: as the
    /// client knows it, or one whose acknowledgement was written and may not have been read.
    private func countFailures(of peer: Peer) {
        guard !peer.disconnectIsConfirmed else { return }
        for subscription in peer.subscriptions where subscription.isQueue && subscription.state != .ended {
            if let oldest = subscription.outstanding.first { countFailure(oldest.message, subscription.destination) }
        }
        for expectation in peer.expectations[peer.expectationHead...] {
            switch expectation.kind {
            case .settle(let messages), .commit(_, let messages):
                for message in messages { message.failuresPossible += 1 }
            case .plain, .send, .subscribe, .unsubscribe, .durable, .disconnect: break
            }
        }
    }

    /// A dead letter that fails has done so in another queue.
    func countFailure(_ message: Message, _ queue: String) {
        if queue == message.destination { message.failuresPossible += 1 }
    }

    /// NACK was written (and its transaction, if any, committed).
    func wroteNACK(_ message: Message, of subscription: Subscription) {
        countFailure(message, subscription.destination)
        if subscription.destination == message.destination { message.refuser = subscription }
    }

    func abandon(_ transaction: Transaction) {
        transaction.state = .aborted
        for message in transaction.messages { message.state = .refused }
    }
}
