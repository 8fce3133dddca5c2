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
        if strikes(.halfClose) { return endWriting(peer) }
        if strikes(.closeUnread) { return leave(peer) }
        if strikes(.neverReads) { peer.readsNever = true }
        read(peer)
        guard peer.canWrite, peer.phase == .connected || (peer.phase == .connecting && random.chance(500)) else {
            return
        }
        guard peer.unreadIncoming < 32_768 else { return }
        beat(peer)
        if actOnTransport(peer) { return }
        for _ in 0..<random.range(1...scenario.burst)
        where peer.canWrite && !peer.disconnectIsIssued && !peer.misbehaved {
            if strikes(.garbage) { return writeGarbage(peer) }
            if strikes(.unfinishedFrame) { return writeUnfinished(peer) }
            if strikes(.wrongFrame) { return writeWrong(peer) }
            if !actDurably(peer) { perform(draw(), peer) }
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

    func makePeer(address: UInt64? = nil) -> Peer {
        let address = address ?? UInt64(scenario.addressesAreTight ? random.below(4) : 0)
        let peer = Peer(id: peers.count + 1, shard: random.below(scenario.shardCount), address: address)
        peers.append(peer)
        peer.socketByteCountMax = random.range(scenario.socketByteCounts)
        // Where publishers may be made to wait, one who waits must not be the one who makes room.
        if scenario.overflow == .block, scenario.queuesAreTight {
            peer.canPublish = peer.id % 2 == 0
            peer.canConsume = !peer.canPublish
        }
        peer.lastBeat = now
        peer.lastWire = now
        openTransport(peer)
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
        peer.version = peer.transport?.version ?? random.pick([10, 11, 12, 12])
        peer.phase = .connecting
        var frame = FrameText(random.chance(500) ? "CONNECT" : "STOMP")
        switch peer.version {
        case 10: if random.chance(300) { frame.add("accept-version", "1.0") }
        case 11: frame.add("accept-version", random.pick(["1.1", "1.0,1.1", "1.1,1.0,9.9"]))
        default: frame.add("accept-version", random.pick(["1.2", "1.0,1.1,1.2", "1.2,1.1"]))
        }
        if scenario.hosts != nil {
            addHost(peer, to: &frame)
        } else if random.chance(500) {
            frame.add("host", "simulated")
        }
        drawUser(peer)
        if !peer.user.isEmpty { frame.add("login", peer.user) }
        if scenario.hasDurables { frame.add("client-id", DurableModel.clientID) }
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
            if waiting > 1, peer.transport == nil { wasActive = true }
            answerTransport(peer)
        }
        // After ERROR or DISCONNECT the broker ends its side, and the client then its own.
        if peer.readByteCount == peer.takenByteCount, peer.isShutDown || peer.stage == .closed { leave(peer) }
    }

    func leave(_ peer: Peer) {
        sayGoodbye(peer)
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
        peer.incoming.append(contentsOf: peer.transport?.write(bytes, &random) ?? bytes)
        if let log {
            bytes.withUnsafeBytes { log("\(moment) client \(peer.id) (1.\(peer.version - 10)) writes \(readable($0))") }
        }
    }
}
