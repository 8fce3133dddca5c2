/// The reference: what clients may rely on, checked against what they see, frame by frame and at the end.
///
/// It knows nothing of how the broker works. It hears of frames when clients write them and when their last byte is with
/// the kernel (`step` orders both over all connections), and keeps a model of each message and subscription.
final class Oracle {
    let scenario: Scenario
    var step = 1
    private(set) var violation: String?
    var messages: [Message] = []
    var subscriptions: [Subscription] = []
    var transactions: [Transaction] = []
    /// Queues with a subscriber whose unacknowledged (`auto`) messages ended with its connection, seen or not.
    var excusedQueues: Set<String> = []
    /// Names of temporary destinations as others see them, with their connection.
    var replyOwners: [String: Int] = [:]
    var hasJumped = false
    private var disorders: [(step: Int, text: String, queue: String)] = []
    private var suspicions: [(step: Int, text: String, peers: [Peer])] = []
    var framesSeen = 0
    var messagesSeen = 0

    init(_ scenario: Scenario) { self.scenario = scenario }

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
        case .unsubscribe(let subscription): subscription.state = .unsubscribed
        case .commit(let transaction, let acknowledged):
            transaction.state = .commitIssued
            for message in transaction.messages { issue(message, by: peer) }
            for message in acknowledged { message.ackIsIssued = true }
        case .settle, .plain: break
        case .disconnect: peer.disconnectIsIssued = true
        }
        return index
    }

    private func issue(_ message: Message, by peer: Peer) {
        message.state = .issued
        message.issuedStep = step
        let sequence = peer.sequences[message.destination, default: 0] + 1
        peer.sequences[message.destination] = sequence
        message.sequence = sequence
    }

    // MARK: Sent by the broker

    func received(_ frame: ServerFrame, by peer: Peer) {
        framesSeen += 1
        guard peer.error == nil else { return violate("client \(peer.id): a frame behind ERROR") }
        guard !peer.disconnectIsConfirmed else {
            return violate("client \(peer.id): a frame behind DISCONNECT's RECEIPT")
        }
        switch frame.command {
        case .connected: connected(frame, peer)
        case .message: message(frame, peer)
        case .receipt: receipt(frame, peer)
        case .error: error(frame, peer)
        }
    }

    private func connected(_ frame: ServerFrame, _ peer: Peer) {
        guard peer.phase == .connecting else { return violate("client \(peer.id): CONNECTED out of turn") }
        peer.phase = .connected
        peer.connectedEnd = peer.decoder.decodedByteCount
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
            if expectation.index == index { return }
        }
        violate("client \(peer.id): RECEIPT \(index) twice or for nothing")
    }

    private func confirm(_ kind: Expectation.Kind, _ peer: Peer) {
        switch kind {
        case .plain: break
        case .send(let message): if message.state == .issued { message.state = .confirmed }
        case .subscribe(let subscription):
            if subscription.state == .issued { subscription.state = .confirmed }
            subscription.confirmedStep = step
        case .unsubscribe(let subscription): subscription.state = .ended
        case .settle(let acknowledged): for message in acknowledged { message.ackIsConfirmed = true }
        case .commit(let transaction, let acknowledged):
            transaction.state = .committed
            for message in transaction.messages { message.state = .confirmed }
            for message in acknowledged { message.ackIsConfirmed = true }
        case .disconnect: peer.disconnectIsConfirmed = true
        }
    }

    private func error(_ frame: ServerFrame, _ peer: Peer) {
        let text = frame.value("message") ?? ""
        peer.error = text
        peer.phase = .failed
        if text.isEmpty { violate("ERROR without message") }
        if !peer.misbehaved, !scenario.permits(error: text, hasJumped: hasJumped) {
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
        // For want of memory a frame may be applied and its RECEIPT impossible.
        guard !scenario.memoryIsTight else { return }
        switch peer.expectations[position].kind {
        case .send(let message): refuse(message)
        case .commit(let transaction, let acknowledged):
            transaction.state = .aborted
            for message in transaction.messages { refuse(message) }
            for message in acknowledged { message.ackIsIssued = false }
        case .plain, .subscribe, .unsubscribe, .settle, .disconnect: break
        }
    }

    private func refuse(_ message: Message) {
        message.state = .refused
        if message.deliveries > 0 { violate("message \(message.number) was delivered and then refused") }
    }

    // MARK: MESSAGE

    private func message(_ frame: ServerFrame, _ peer: Peer) {
        messagesSeen += 1
        guard let id = frame.value("subscription"), let identity = frame.value("message-id"),
            let destination = frame.value("destination"), let length = frame.value("content-length")
        else { return violate("MESSAGE lacks a header that it always has") }
        guard Int(length) == frame.body.count else {
            return violate("content-length:\(length), \(frame.body.count) bytes")
        }
        guard let subscription = peer.subscriptions.last(where: { $0.id == id && $0.state != .ended }) else {
            return violate("client \(peer.id): MESSAGE for subscription '\(id)', which has ended or never began")
        }
        if subscription.state == .issued, subscription.wantsReceipt {
            return violate("client \(peer.id): MESSAGE before the RECEIPT of its SUBSCRIBE")
        }
        guard let text = frame.value("x-number"), let number = Int(text), number >= 0, number < messages.count else {
            return violate("a message that nobody sent: \(frame.value("x-number") ?? "no number")")
        }
        let message = messages[number]
        checkContent(frame, of: message, peer)
        checkDestination(frame, destination, of: message, subscription)
        switch message.state {
        case .kept: violate("message \(number) was delivered before its COMMIT")
        case .refused: violate("message \(number) was delivered although it was refused or aborted")
        case .issued, .confirmed: break
        }
        let acknowledges = subscription.ackMode != .auto
        let ack = frame.value("ack")
        if (ack != nil) != (acknowledges && peer.version == 12) {
            violate("an ack header where none may be, or none where one must")
        }
        let isRedelivered = frame.value("redelivered") == "true"
        let isDeadLetter = destination != message.written
        if subscription.isQueue {
            checkQueue(message, isRedelivered, isDeadLetter, subscription)
        } else {
            if isRedelivered { violate("message \(number): redelivered by a topic") }
            if subscription.hasSeen(number) { violate("message \(number) came twice to one topic subscription") }
        }
        let key = message.publisher << 20 | destinationKey(message)
        let last = subscription.lastSequence[key, default: 0]
        if !isRedelivered, !isDeadLetter {
            if message.sequence < last {
                let text = "message \(number) after a later one of the same publisher and destination"
                if subscription.isQueue { disorders.append((step, text, message.destination)) } else { violate(text) }
            }
            subscription.lastSequence[key] = max(last, message.sequence)
        }
        message.deliveries += 1
        if isDeadLetter { message.deliveriesOfDeadLetter += 1 }
        subscription.see(number)
        if acknowledges {
            message.holder = subscription.isQueue ? subscription : message.holder
            subscription.outstanding.append(
                Subscription.Outstanding(
                    message: message, name: ack ?? identity, end: peer.decoder.decodedByteCount, transaction: nil))
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
        if (frame.value("reply-to") == nil) != (message.replyName == nil) {
            violate("message \(message.number): reply-to appears or vanishes")
        }
        if let reply = frame.value("reply-to") {
            if let known = replyOwners[reply] {
                if known != message.publisher { violate("reply-to \(reply) names another connection") }
            } else {
                if !reply.hasPrefix("/reply-queue/") { violate("reply-to \(reply) was not rewritten") }
                replyOwners[reply] = message.publisher
            }
            if message.replyName == "" { message.replyName = reply }
            if !peer.replyNames.contains(reply) { peer.replyNames.append(reply) }
        }
        for name in ["receipt", "transaction", "ttl-invented"] where frame.value(name) != nil {
            violate("\(name) got through")
        }
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
        if subscription.destination.hasPrefix("/temp-queue/") {
            guard let owner = replyOwners[canonical], owner == subscription.peer.id else {
                return violate("message \(message.number) for \(destination) came to another's temporary queue")
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
        if message.wasTakenAutomatically {
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

    /// A fault, unless the broker is about to end one of these connections and its ERROR is not sent yet.
    private func suspect(_ text: String, _ subscriptions: Subscription...) {
        suspicions.append((step, text, subscriptions.map(\.peer)))
    }

    func judgeSuspicions() {
        // What a broken connection had in its output was not seen, and comes again as if for the first time.
        for disorder in disorders where !excusedQueues.contains(disorder.queue) {
            violate("\(disorder.text), at step \(disorder.step)")
        }
        for suspicion in suspicions where !suspicion.peers.contains(where: \.wasEndedByBroker) {
            violate("\(suspicion.text), at step \(suspicion.step)")
        }
    }

    private func destinationKey(_ message: Message) -> Int {
        if let place = scenario.topics.firstIndex(of: message.destination) { return place }
        if let place = scenario.queues.firstIndex(of: message.destination) { return 100 + place }
        return 1000 + (message.destination.utf8.reduce(7) { ($0 &* 31 &+ Int($1)) & 0xFFFF })
    }

    // MARK: The connection's end

    /// The connection is over, whichever side ended it. `wasFlushed`: the broker had nothing left to send.
    func ended(_ peer: Peer, wasFlushed: Bool) {
        for subscription in peer.subscriptions {
            if subscription.isQueue, subscription.ackMode == .auto, !wasFlushed {
                excusedQueues.insert(subscription.destination)
            }
            subscription.state = .ended
        }
        for transaction in peer.transactions where transaction.state == .open { abandon(transaction) }
    }

    func abandon(_ transaction: Transaction) {
        transaction.state = .aborted
        for message in transaction.messages { message.state = .refused }
    }
}

/// Wildcards, once more and simply: by recursion over levels.
enum TopicName {
    static func matches(_ pattern: String, _ name: String) -> Bool {
        if pattern == name { return true }
        guard pattern.hasPrefix("/topic/"), name.hasPrefix("/topic/") else { return false }
        func levels(_ text: String) -> [Substring] {
            text.dropFirst(7).split(omittingEmptySubsequences: false) { $0 == "." || $0 == "/" }
        }
        return matches(levels(pattern)[...], levels(name)[...])
    }

    private static func matches(_ pattern: ArraySlice<Substring>, _ name: ArraySlice<Substring>) -> Bool {
        guard let first = pattern.first else { return name.isEmpty }
        if first == "#" || first == ">" || first == "**" {
            return matches(pattern.dropFirst(), name) || (!name.isEmpty && matches(pattern, name.dropFirst()))
        }
        guard let level = name.first, first == "*" || first == level else { return false }
        return matches(pattern.dropFirst(), name.dropFirst())
    }
}
