import Broker
import CTLS
import IO
import Slabs
import Transports

// The layers of transports between the core and the simulated kernel, called as a worker calls them
// (`Sources/Server/Worker.swift`).
extension Simulation {
    /// The layers of one worker.
    struct Layers: ~Copyable {
        var transports: TransportLayer
        var tls: TLSLayer
    }

    func makeLayers() {
        guard let transports = scenario.transports else { return }
        layers = .allocate(capacity: scenario.shardCount)
        for index in 0..<scenario.shardCount {
            do throws(SlabError) {
                let transportLayer = try TransportLayer(
                    listeners: transports.listeners, connectionCountMax: scenario.connectionsPerShardMax, now: now)
                let tlsLayer = try TLSLayer(
                    listeners: transports.tlsListeners, tickets: TransportScenario.tickets,
                    connectionCountMax: scenario.connectionsPerShardMax, nowSeconds: wallSeconds,
                    blockByteCountMax: 8 << 20, library: toyLibrary!.pointer)
                (layers! + index).initialize(to: Layers(transports: transportLayer, tls: tlsLayer))
            } catch {
                fatalError("no address space for a layer: \(error)")
            }
        }
    }

    func endLayers() {
        guard let layers else { return }
        layers.deinitialize(count: madeCount)
        layers.deallocate()
        self.layers = nil
    }

    private var wallSeconds: Int64 { Int64(wallMilliseconds / 1000) }

    // MARK: A poll

    /// Before a poll: the core's submissions become those for the kernel. Returns when the layers have something to do.
    func lower(_ index: Int) -> UInt64 {
        guard let layers else { return .max }
        let deadline = layers[index].transports.lower(&shards[index].submissions, now: now)
        layers[index].tls.beginLowering(now: now)
        let byteCountMax = scenario.transports!.partByteCountMax
        var part = Batch<Submission>(capacity: 16)
        while layers[index].tls.lowerPart(&shards[index].submissions, &part, byteCountMax: byteCountMax) {
            carryOut(part, index)
            part.removeAll()
            if hasFailed { return 0 }
            settlePart(index)
        }
        return workers[index].early.isEmpty ? min(deadline, layers[index].tls.loweringDeadline()) : 0
    }

    /// The kernel's answers to a part, which the layer sees before the rest.
    private func settlePart(_ index: Int) {
        if !workers[index].answers.isEmpty { count(.earlyAnswer) }
        if canary == .loseEarlyAnswer, strikesCanary(oneIn: 2) { workers[index].answers.removeAll() }
        workers[index].early += workers[index].answers
        workers[index].answers.removeAll(keepingCapacity: true)
        var early = Batch<Completion>(capacity: 16)
        for answer in workers[index].early { early.append(answer) }
        layers![index].tls.settlePart(early)
    }

    /// After a turn: for the core a connection is over when it says so, though the layers still have something to say to
    /// the client. What it held may be with other workers, and with their clients, before the kernel hears of the end.
    func noteEnds(_ index: Int) {
        guard layers != nil else { return }
        for position in 0..<shards[index].submissions.count {
            let submission = shards[index].submissions[position]
            guard submission.kind == .shutdownWrite || submission.kind == .close,
                let peer = find(submission.connection, index), peer.transport != nil
            else { continue }
            peer.coreHasEnded = true
            if submission.kind == .close, !peer.coreHasFlushed {
                peer.coreHasDropped = true
                oracle.droppedOutput(of: peer)
            }
            if submission.kind == .shutdownWrite { peer.coreHasFlushed = true }
        }
    }

    /// After a poll: the kernel's completions become those for the core.
    func raise(_ index: Int) {
        guard let layers else { return }
        if isDraining {
            layers[index].tls.beginDrain()
            layers[index].transports.beginDrain()
        }
        layers[index].tls.raise(&completions, nowSeconds: wallSeconds)
        workers[index].early.removeAll(keepingCapacity: true)
        layers[index].transports.raise(&completions)
        while let descriptor = layers[index].transports.nextUnverified() {
            layers[index].transports.verify(addressOfProxy(Int(descriptor)))
        }
        if layers[index].tls.hasNotices || layers[index].transports.hasNotices {
            for notice in layers[index].tls.takeNotices() + layers[index].transports.takeNotices() {
                trace.add(notice.text)
                if let log { log("\(moment) shard \(index): \(notice.text)") }
            }
        }
        for position in 0..<completions.count { check(position, index) }
    }

    /// As the driver finds the peer's address. nil: the peer has reset the connection.
    private func addressOfProxy(_ id: Int) -> String? {
        let peer = peers[id - 1]
        if peer.clientReset { return nil }
        return peer.transport?.wrong == .stranger
            ? TransportScenario.strangerAddress : TransportScenario.proxyAddress
    }

    /// What the core is told of a client that a proxy has named.
    private func check(_ position: Int, _ index: Int) {
        let completion = completions[position]
        switch completion.kind {
        case .identified where completion.origin.address != 0:
            if canary == .forgeAddress, strikesCanary(oneIn: 3) { completions[position].address ^= 1 }
            guard let peer = find(completion.connection, index), let transport = peer.transport else { return }
            if completions[position].origin.address != transport.namedAddress {
                return oracle.violate("client \(peer.id): the core is told another address than its proxy has named")
            }
            identify(peer, transport, index)
        case .received:
            guard let peer = find(completion.connection, index), let transport = peer.transport else { return }
            if transport.namedAddress != 0, !transport.isNamed {
                oracle.violate("client \(peer.id): the core gets octets before the address that its proxy has named")
            }
            if transport.wrong != .nothing {
                oracle.violate("client \(peer.id): the core gets octets in spite of its wrong \(transport.wrong)")
            }
        default: break
        }
    }

    /// From now on the client counts as one of its address.
    private func identify(_ peer: Peer, _ transport: ClientTransport, _ index: Int) {
        if transport.isNamed { return oracle.violate("client \(peer.id) is identified twice") }
        let most = scenario.options.limits.connectionsPerAddressMax
        if most > 0 {
            let count = countOfAddress(peer.address, index)
            transport.mustExceed = count >= most && workers[index].closedNow == 0
            let offered = workers[index].offered.count { $0.address == peer.address }
            let others = workers[index].closedNow + offered
            let countMax = countOfAddress(peer.address, index, withExceeding: true) + others
            transport.mayExceed = countMax >= most
        }
        transport.isNamed = true
    }

    // MARK: Clients

    /// The client comes in by a listener of any kind.
    func openTransport(_ peer: Peer) {
        guard let transports = scenario.transports else { return }
        let isHonest = isAtRest || peer.address == Self.drainerAddress
        peer.listener = random.below(transports.listeners.count)
        let listener = transports.listeners[peer.listener]
        var wrong = ClientTransport.Wrong.nothing
        if !isHonest, random.chance(transports.wrongChance) {
            var kinds: [ClientTransport.Wrong] = []
            if !listener.proxies.isEmpty { kinds.append(.stranger) }
            if listener.expectsProxyHeader { kinds.append(.header) }
            if listener.kind.usesWebSocket { kinds.append(.request) }
            if listener.kind.usesTLS { kinds.append(.proof) }
            if !kinds.isEmpty { wrong = random.pick(kinds) }
        }
        let stalls = !isHonest && random.chance(transports.wrongChance / 4) && !listener.kind.isPlain
        let transport = ClientTransport(
            listener, peer: peer.id, address: peer.address, wrong: wrong, stalls: stalls, &random)
        peer.transport = transport
        if wrong != .nothing { peer.misbehaved = true }
        if stalls { peer.doesNotConnect = true }
        peer.incoming += transport.begin(&random)
        count(listener, transport)
    }

    private func count(_ listener: ListenerTransport, _ transport: ClientTransport) {
        if listener.expectsProxyHeader { count(.proxyHeader) }
        switch listener.kind {
        case .stomp: break
        case .stomps: count(.cipher)
        case .ws: count(.webSocket)
        case .wss: count(.cipherWithWebSocket)
        }
        if transport.isEager, listener.kind.usesWebSocket { count(.eagerFrames) }
        if transport.stalls { count(.stalledHandshake) }
        switch transport.wrong {
        case .nothing: break
        case .stranger: count(.stranger)
        case .header: count(.wrongHeader)
        case .request: count(.wrongRequest)
        case .proof: count(.wrongProof)
        }
    }

    /// Those of the engines too.
    var countedTransports: [Int] {
        var counts = transportCounts
        counts[TransportEvent.secondHello.rawValue] += toyLibrary?.retryCount ?? 0
        counts[TransportEvent.failedHandshake.rawValue] += toyLibrary?.failed.count ?? 0
        return counts
    }

    func count(_ event: TransportEvent) { transportCounts[event.rawValue] += 1 }

    /// The kernel takes octets for a client: the client's transport tells what they are.
    func takeTransported(
        _ bytes: UnsafeRawBufferPointer, _ peer: Peer, _ transport: ClientTransport, _ encodedSince: UInt64
    ) {
        let isMute = canary == .losePong && strikesCanary(oneIn: 3)
        let stomp = transport.receive(bytes, end: peer.takenByteCount, isMute: isMute)
        if let failure = transport.failure { return oracle.violate("client \(peer.id): \(failure)") }
        if let fault = transport.faultOfCode(isDraining: isDraining) {
            return oracle.violate("client \(peer.id): \(fault)")
        }
        if stomp.isEmpty ? !transport.isReady || transport.isWithinRecord : stomp != [10] { wasActive = true }
        if stomp.isEmpty { return }
        peer.lastWire = now
        stomp.withUnsafeBytes { peer.decoder.append($0) }
        decode(peer, encodedSince)
    }

    /// The client has read: it goes on with its handshakes, and answers close frames.
    func answerTransport(_ peer: Peer) {
        guard let transport = peer.transport, !peer.clientEnded, !peer.clientReset else { return }
        let octets = transport.didRead(peer.readByteCount, &random)
        if octets.isEmpty { return }
        wasActive = true
        peer.incoming += octets
    }

    /// The client's sending side ends: in order, or by a bare FIN.
    func endWriting(_ peer: Peer) {
        guard let transport = peer.transport else {
            peer.clientEnded = true
            return
        }
        if !peer.clientEnded, random.chance(700), let end = transport.sayEnd(&random) {
            count(end.event)
            peer.incoming += end.octets
            // It waits for the server's end, as RFC 6455 has it, or ends at once.
            if random.chance(600) { return }
        } else {
            count(.bareEnd)
        }
        peer.clientEnded = true
    }

    /// The client leaves: it may say so.
    func sayGoodbye(_ peer: Peer) {
        guard let transport = peer.transport, !peer.clientEnded, !peer.clientReset, random.chance(500),
            let end = transport.sayEnd(&random)
        else { return }
        count(end.event)
        peer.incoming += end.octets
    }

    /// Something that only a transport knows. True: the client does nothing more.
    func actOnTransport(_ peer: Peer) -> Bool {
        guard let transport = peer.transport, let transports = scenario.transports else { return false }
        if random.chance(transports.pingChance) {
            let octets = transport.ping(&random)
            if !octets.isEmpty { count(.ping) }
            peer.incoming += octets
        }
        guard random.chance(transports.wrongChance / 10) else { return false }
        let octets = transport.garbage(&random)
        if octets.isEmpty { return false }
        count(.brokenRules)
        peer.misbehaved = true
        peer.incoming += octets
        return true
    }

    // MARK: What has to be true

    /// The kernel is asked to end or close the stream.
    func judgeEnd(_ submission: Submission, _ peer: Peer) {
        guard let transport = peer.transport else { return }
        if submission.kind == .shutdownWrite {
            if let fault = transport.faultAtEnd { oracle.violate("client \(peer.id): \(fault)") }
            return
        }
        // Whoever says that it ends, and waits, is answered, unless nothing more could be said to it.
        guard transport.hasSaidEnd, !peer.isShutDown, !peer.misbehaved, !peer.clientEnded, !peer.clientReset,
            submission.value == 0, !transport.lastSendFellShort, !isDraining, peer.space > 0,
            let socket = transport.socket, socket.isOpen, socket.closeCode == nil
        else { return }
        oracle.violate("client \(peer.id): its close frame is not answered")
    }

    /// Each ping was answered by its pong, or by a later one's, once all is read.
    func judgePongs() {
        for peer in peers where peer.phase == .connected && !peer.isLeaving && peer.unreadIncoming == 0 {
            guard let socket = peer.transport?.socket, let ping = socket.pings.last, peer.stage == .adopted,
                peer.readByteCount == peer.takenByteCount, !peer.readsNever
            else { continue }
            oracle.violate("client \(peer.id) got no pong for its ping '\(String(decoding: ping, as: UTF8.self))'")
        }
    }

    func judgeLayers() {
        guard let layers else { return }
        for index in 0..<scenario.shardCount {
            let count = layers[index].transports.connectionCount + layers[index].tls.connectionCount
            if count > 0 { oracle.violate("shard \(index): \(count) records of transports are left") }
            let held = layers[index].transports.heldByteCount() + layers[index].tls.heldByteCount()
            if held > 0 { oracle.violate("shard \(index): the layers hold \(held) bytes") }
        }
        if toyLibrary!.liveCount > 0 { oracle.violate("\(toyLibrary!.liveCount) engines are left") }
    }
}
