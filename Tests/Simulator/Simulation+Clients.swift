import Broker

// The clients' part: they connect, do what they are for, and misbehave.
extension Simulation {
    /// One client does something.
    func act() {
        var living = 0
        for peer in peers where peer.stage != .closed && !peer.clientIsGone { living += 1 }
        if living == 0 || (living < scenario.peerCountMax && random.chance(150)) {
            if peers.count < scenario.peersInAllMax { return connect(makePeer()) }
        }
        guard let peer = pickLiving() else { return }
        if strikes(.reset) {
            peer.clientReset = true
            return clientLeft(peer)
        }
        if strikes(.halfClose) {
            peer.clientEnded = true
            return
        }
        if strikes(.closeUnread) { return leave(peer) }
        if strikes(.neverReads) { peer.readsNever = true }
        read(peer)
        guard peer.canWrite, peer.phase == .connected || (peer.phase == .connecting && random.chance(500)) else {
            return
        }
        guard peer.unreadIncoming < 32_768 else { return }
        beat(peer)
        for _ in 0..<random.range(1...scenario.burst)
        where peer.canWrite && !peer.disconnectIsIssued && !peer.misbehaved {
            if strikes(.garbage) { return writeGarbage(peer) }
            if strikes(.unfinishedFrame) { return writeUnfinished(peer) }
            if strikes(.wrongFrame) { return writeWrong(peer) }
            perform(draw(), peer)
        }
    }

    private func pickLiving() -> Peer? {
        guard !peers.isEmpty else { return nil }
        for _ in 0..<4 {
            let peer = peers[random.below(peers.count)]
            if peer.stage != .closed, !peer.clientIsGone { return peer }
        }
        return nil
    }

    private func draw() -> Scenario.Deed {
        let total = scenario.deeds.reduce(0, +)
        var left = random.below(total)
        for deed in Scenario.Deed.allCases {
            left -= scenario.deeds[deed.rawValue]
            if left < 0 { return deed }
        }
        return .idle
    }

    // MARK: Connecting, reading, leaving

    func makePeer() -> Peer {
        let peer = Peer(id: peers.count + 1, shard: random.below(scenario.shardCount))
        peers.append(peer)
        peer.socketByteCountMax = random.range(scenario.socketByteCounts)
        // Where publishers may be made to wait, one who waits must not be the one who makes room.
        if scenario.overflow == .block, scenario.queuesAreTight {
            peer.canPublish = peer.id % 2 == 0
            peer.canConsume = !peer.canPublish
        }
        peer.lastBeat = now
        peer.lastWire = now
        if !workers[peer.shard].isListening {
            peer.stage = .closed
            peer.phase = .ended
        } else {
            workers[peer.shard].backlog.append(peer)
        }
        return peer
    }

    func connect(_ peer: Peer) {
        guard peer.stage != .closed else { return }
        if !peer.isDrainer, strikes(.neverConnects) {
            peer.doesNotConnect = true
            return
        }
        peer.version = random.pick([10, 11, 12, 12])
        peer.phase = .connecting
        var frame = FrameText(random.chance(500) ? "CONNECT" : "STOMP")
        switch peer.version {
        case 10: if random.chance(300) { frame.add("accept-version", "1.0") }
        case 11: frame.add("accept-version", random.pick(["1.1", "1.0,1.1", "1.1,1.0,9.9"]))
        default: frame.add("accept-version", random.pick(["1.2", "1.0,1.1,1.2", "1.2,1.1"]))
        }
        if random.chance(500) { frame.add("host", "simulated") }
        if scenario.heartBeats, random.chance(500), !peer.isDrainer {
            let sends = random.pick([0, 50, 200, 1000])
            let wants = random.pick([0, 50, 200, 1000])
            frame.add("heart-beat", "\(sends),\(wants)")
            let limits = scenario.options.limits
            let offer = limits.heartBeatSendMilliseconds
            let wish = limits.heartBeatReceiveMilliseconds
            peer.receiveInterval = offer == 0 || wants == 0 ? 0 : max(offer, wants)
            peer.sendInterval = wish == 0 || sends == 0 ? 0 : max(sends, wish)
        }
        put(frame.finished(), peer)
    }

    /// The client reads what is there, or a part.
    func read(_ peer: Peer) {
        guard !peer.readsNever, !peer.clientIsGone else { return }
        let waiting = peer.takenByteCount - peer.readByteCount
        if waiting > 0 {
            peer.readByteCount += isAtRest || random.chance(700) ? waiting : 1 + random.below(waiting)
            if waiting > 1 { wasActive = true }
        }
        // After ERROR or DISCONNECT the broker ends its side, and the client then its own.
        if peer.readByteCount == peer.takenByteCount, peer.isShutDown || peer.stage == .closed { leave(peer) }
    }

    func leave(_ peer: Peer) {
        peer.clientEnded = true
        clientLeft(peer)
    }

    func clientLeft(_ peer: Peer) {
        wasActive = true
        peer.clientIsGone = true
        if peer.stage == .waiting, !workers[peer.shard].backlog.contains(where: { $0 === peer }) { return }
    }

    /// Heart-beats are due by the virtual clock.
    func beat(_ peer: Peer) {
        guard peer.sendInterval > 0, peer.canWrite, peer.phase == .connected else { return }
        if now - peer.lastBeat >= UInt64(peer.sendInterval) * 900_000 { put([10], peer) }
    }

    func put(_ bytes: [UInt8], _ peer: Peer) {
        if bytes.count > 1 { wasActive = true }
        peer.lastBeat = now
        peer.incoming.append(contentsOf: bytes)
        if let log {
            bytes.withUnsafeBytes { log("\(moment) client \(peer.id) (1.\(peer.version - 10)) writes \(readable($0))") }
        }
    }

    // MARK: Deeds

    func perform(_ deed: Scenario.Deed, _ peer: Peer) {
        switch deed {
        case .publish: publish(peer, to: random.pick(scenario.topics), isQueue: false)
        case .publishToQueue: publish(peer, to: random.pick(scenario.queues), isQueue: true)
        case .subscribe: subscribe(peer)
        case .unsubscribe: unsubscribe(peer)
        case .acknowledge: acknowledge(peer, accepts: true)
        case .refuse: acknowledge(peer, accepts: false)
        case .begin: begin(peer)
        case .commit: if let transaction = openTransaction(peer) { commit(peer, transaction) }
        case .abort: if let transaction = openTransaction(peer) { abort(peer, transaction) }
        case .disconnect: disconnect(peer)
        case .request: publish(peer, to: random.pick(scenario.queues), isQueue: true, asks: true)
        case .reply:
            guard !peer.replyNames.isEmpty else { return }
            publish(peer, to: random.pick(peer.replyNames), isQueue: true)
        case .idle: break
        }
    }

    private func openTransaction(_ peer: Peer) -> Transaction? {
        let open = peer.transactions.filter { $0.state == .open }
        return open.isEmpty ? nil : random.pick(open)
    }

    private func send(_ peer: Peer, _ frame: consuming FrameText, _ kind: Expectation.Kind, receipt: Int = 500) {
        let wants = random.chance(receipt)
        var frame = frame
        let index = oracle.wrote(peer, kind, receipt: wants)
        if wants { frame.add("receipt", "\(index)") }
        put(frame.finished(), peer)
    }

    private func publish(_ peer: Peer, to destination: String, isQueue: Bool, asks: Bool = false) {
        guard peer.canPublish else { return }
        // The replies to one temporary queue are its owner's; each asker subscribes one by the first request.
        if asks, !peer.canConsume || scenario.subscriptionsAreTight || peer.version == 10 { return }
        var size = random.below(min(scenario.bodyByteCountMax, 64) + 1)
        if random.chance(200) { size = random.below(scenario.bodyByteCountMax + 1) }
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
        frame.add("destination", message.written, version: peer.version)
        frame.add("x-number", "\(message.number)")
        if let text { frame.add("x-text", text, version: peer.version) }
        if scenario.expires, random.chance(200) {
            message.expires = true
            frame.add("ttl", "\(random.pick([1, 20, 1000]))")
        }
        if asks, transaction == nil {
            message.replyName = ""
            frame.add("reply-to", "/temp-queue/r")
            if !peer.subscriptions.contains(where: { $0.id == "/temp-queue/r" }) {
                let own = Subscription(
                    id: "/temp-queue/r", peer: peer, destination: "/temp-queue/r", isQueue: true, ackMode: .auto,
                    prefetch: Int.max)
                own.state = .confirmed
                peer.subscriptions.append(own)
                oracle.subscriptions.append(own)
            }
        }
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
        if destination.hasPrefix("/topic/") {
            return random.pick(["/exchange/amq.topic/", "/dsub/", ""]) + String(destination.dropFirst(7))
        }
        return destination
    }

    private func subscribe(_ peer: Peer) {
        guard peer.canConsume else { return }
        let isQueue = random.chance(450)
        let destination =
            isQueue
            ? random.pick(scenario.queues) : random.pick(random.chance(600) ? scenario.topics : scenario.patterns)
        subscribe(
            peer, to: destination, isQueue: isQueue, mode: random.pick([.auto, .client, .individual]), receipt: 800)
    }

    func subscribe(_ peer: Peer, to destination: String, isQueue: Bool, mode: AckMode, receipt: Int) {
        var spelled = destination
        var id = "\(random.below(6))"
        var hasId = true
        if peer.version == 10, random.chance(300) {
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
        frame.add("destination", hasId ? written(spelled) : spelled, version: peer.version)
        if mode != .auto || random.chance(300) { frame.add("ack", mode.rawValue) }
        var prefetch = scenario.options.limits.prefetchCountMax
        if random.chance(300) {
            let wish = random.range(1...4)
            frame.add(random.pick(["prefetch-count", "activemq.prefetchSize"]), "\(wish)")
            prefetch = min(prefetch, wish)
        }
        if random.chance(100) { frame.add("consumer-window-size", "\(random.range(1...3000))") }
        let subscription = Subscription(
            id: id, peer: peer, destination: destination, isQueue: isQueue, ackMode: mode, prefetch: prefetch)
        send(peer, frame, .subscribe(subscription), receipt: receipt)
    }

    private func unsubscribe(_ peer: Peer) {
        let live = peer.subscriptions.filter { subscription in
            (subscription.state == .confirmed || subscription.state == .issued)
                && !subscription.destination.hasPrefix("/temp-queue/")
                && !subscription.outstanding.contains { $0.transaction != nil }
        }
        guard !live.isEmpty else { return }
        let subscription = random.pick(live)
        var frame = FrameText("UNSUBSCRIBE")
        frame.add(
            subscription.id.hasPrefix("/") || Int(subscription.id) == nil ? "destination" : "id", subscription.id,
            version: peer.version)
        send(peer, frame, .unsubscribe(subscription))
    }

    private func begin(_ peer: Peer) {
        guard peer.canPublish, peer.canConsume || scenario.overflow == .block else { return }
        let open = peer.transactions.count { $0.state == .open }
        if open >= (scenario.transactionsAreTight ? scenario.options.limits.transactionsPerConnectionMax : 3) { return }
        peer.transactionCount += 1
        let transaction = Transaction(name: "t\(peer.id).\(peer.transactionCount)")
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
        for subscription in peer.subscriptions {
            for held in subscription.outstanding where held.transaction === transaction {
                if held.message.holder === subscription { held.message.holder = nil }
                if held.accepts {
                    acknowledged.append(held.message)
                } else if held.rejects {
                    held.message.wasRejected = true
                }
            }
            subscription.outstanding.removeAll { $0.transaction === transaction }
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
                subscription.outstanding[place].accepts = true
                subscription.outstanding[place].rejects = false
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
        let transaction = !isAtRest && random.chance(500) ? openTransaction(peer) : nil
        var frame = FrameText(accepts ? "ACK" : "NACK")
        switch peer.version {
        case 12: frame.add("id", subscription.outstanding[place].name)
        case 11:
            frame.add("message-id", subscription.outstanding[place].name)
            frame.add("subscription", subscription.id)
        default:
            frame.add("message-id", subscription.outstanding[place].name)
            // Two subscriptions of a connection may have the same topic message.
            frame.add("subscription", subscription.id)
        }
        let rejects = !accepts && random.chance(300)
        if rejects { frame.add("requeue", "false") }
        if let transaction { frame.add("transaction", transaction.name) }
        var settled: [Message] = []
        let first = subscription.ackMode == .client ? 0 : place
        for position in first...place where subscription.outstanding[position].transaction == nil {
            if let transaction {
                subscription.outstanding[position].transaction = transaction
                subscription.outstanding[position].accepts = accepts
                subscription.outstanding[position].rejects = rejects
                continue
            }
            let message = subscription.outstanding[position].message
            if message.holder === subscription { message.holder = nil }
            if accepts {
                if subscription.isQueue {
                    message.ackIsIssued = true
                    settled.append(message)
                }
            } else if rejects {
                message.wasRejected = true
            }
        }
        if transaction == nil {
            let end = place
            var kept: [Subscription.Outstanding] = []
            for (position, held) in subscription.outstanding.enumerated() {
                if position < first || position > end || held.transaction != nil { kept.append(held) }
            }
            subscription.outstanding = kept
        }
        send(peer, frame, transaction == nil && accepts ? .settle(settled) : .plain)
    }

    func disconnect(_ peer: Peer) {
        for transaction in peer.transactions where transaction.state == .open { oracle.abandon(transaction) }
        send(peer, FrameText("DISCONNECT"), .disconnect, receipt: 800)
    }

    // MARK: Misbehaviour

    private func writeGarbage(_ peer: Peer) {
        peer.misbehaved = true
        switch random.below(6) {
        case 0: put((0..<random.range(1...200)).map { _ in UInt8(random.below(256)) } + [0, 10], peer)
        case 1: put(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8), peer)
        case 2: put(Array("SEND\ndestination:/queue/q0\ncontent-length:99999999999999999999\n\nx\0".utf8), peer)
        case 3: put(Array("SEND\ndestination:/queue/q0\ncontent-length:3\n\nlonger\0".utf8), peer)
        case 4: put(Array("SEND\nno colon\n\n\0".utf8), peer)
        default: put([UInt8](repeating: 65, count: random.range(1...400)), peer)
        }
    }

    private func writeUnfinished(_ peer: Peer) {
        peer.misbehaved = true
        let whole = Array("SEND\ndestination:/topic/a\ncontent-length:500\n\nnever finished".utf8)
        put(Array(whole.prefix(random.range(1...whole.count))), peer)
    }

    private func writeWrong(_ peer: Peer) {
        peer.misbehaved = true
        let frames = [
            "CONNECT\naccept-version:1.2\n\n\0", "MESSAGE\ndestination:/queue/q0\n\nx\0", "SEND\n\nno destination\0",
            "SEND\ndestination:/topic/*\n\nwildcard\0", "SEND\ndestination:/nowhere/x\n\nx\0",
            "SEND\ndestination:/queue/\n\nx\0",
            "SUBSCRIBE\nid:w\ndestination:/queue/q0\nack:maybe\n\n\0", "SUBSCRIBE\ndestination:\nid:w\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/reply-queue/0-1-1/r\n\n\0",
            "SUBSCRIBE\nid:w\ndestination:/queue/q0\nselector:a=1\n\n\0",
            "UNSUBSCRIBE\nid:unknown\n\n\0", "ACK\nid:0\nmessage-id:0\nsubscription:0\n\n\0",
            "NACK\nid:zz\nmessage-id:zz\nsubscription:zz\n\n\0", "ACK\n\n\0", "COMMIT\ntransaction:none\n\n\0",
            "ABORT\ntransaction:none\n\n\0", "BEGIN\n\n\0", "SEND\ndestination:/queue/q0\ntransaction:none\n\nx\0",
            "BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n\0", "DISCONNECT\n\nbody\0",
        ]
        put(Array(random.pick(frames).utf8), peer)
    }
}

/// A client's frame in the making.
struct FrameText {
    private var bytes: [UInt8] = []
    var body: [UInt8] = []
    var hasLength = false

    init(_ command: String) {
        bytes.reserveCapacity(200)
        bytes.append(contentsOf: command.utf8)
        bytes.append(10)
    }

    /// Adds a header whose value needs no escaping, or is escaped as `version` has it.
    mutating func add(_ name: String, _ value: String, version: Int = 10) {
        bytes.append(contentsOf: name.utf8)
        bytes.append(58)
        if version == 10 {
            bytes.append(contentsOf: value.utf8)
        } else {
            for byte in value.utf8 {
                switch byte {
                case 10: bytes.append(contentsOf: "\\n".utf8)
                case 58: bytes.append(contentsOf: "\\c".utf8)
                case 92: bytes.append(contentsOf: "\\\\".utf8)
                default: bytes.append(byte)
                }
            }
        }
        bytes.append(10)
    }

    consuming func finished() -> [UInt8] {
        if hasLength { add("content-length", "\(body.count)") }
        bytes.append(10)
        bytes.append(contentsOf: body)
        bytes.append(0)
        return bytes
    }
}
