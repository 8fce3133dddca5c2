import Broker

// Faults stop; everything that should progress does; everyone leaves; nothing is left.
extension Simulation {
    func rest() {
        isAtRest = true
        judgeHostStorage()
        scenario.faults = scenario.faults.map { _ in 0 }
        toyLibrary?.failureChance = 0
        if disk != nil { endLivesThatFail() }
        if hasFailed { return }
        for peer in peers where peer.stage != .closed && !peer.clientIsGone {
            if peer.misbehaved || peer.readsNever || peer.doesNotConnect || peer.phase == .fresh { leave(peer) }
        }
        if isDraining { return restByDraining() }
        if scenario.hasDurables { leaveDurables() }
        if scenario.connectionsAreTight { makeWay() }
        if hasFailed { return }
        drainer = makeDrainer()
        settle("the disorder's traces")
        if hasFailed { return }
        finishTransactions()
        settle("open transactions")
        if hasFailed { return }
        drainDurables()
        if hasFailed { return }
        didDrain =
            drainer.map { last in ([last] + helpers).allSatisfy { $0.phase == .connected && $0.error == nil } } ?? false
        oracle.judgeSuspicions()
        oracle.judgeTransactions(counters, hasDrained: didDrain)
        oracle.judgeTopics(counters)
        oracle.judgeLogs()
        if didDrain {
            oracle.judgeQueues(counters)
        }
        oracle.judgeTemporaryQueues(counters)
        judgePongs()
        watchHeartBeats()
        if hasFailed { return }
        depart()
        if !hasFailed { judgeLeaks() }
    }

    private var counters: Counters {
        var sum = Counters()
        for index in 0..<scenario.shardCount { sum.add(shards[index].counters) }
        return sum
    }

    /// Runs until nothing happens any more and no client waits for anything.
    func settle(_ what: String) {
        let start = now
        var quietRounds = 0
        var patienceEnds = now + 14_000_000_000
        var pause: UInt64 = 5_000_000
        while quietRounds < 30 {
            wasActive = false
            oracle.step += 1
            for peer in peers where peer.stage != .closed && !peer.clientIsGone {
                read(peer)
                beat(peer)
                acknowledgeAll(peer)
            }
            for index in 0..<scenario.shardCount {
                for _ in 0..<2 {
                    step(index)
                    if hasFailed { return }
                }
            }
            if let last = drainer, last.phase == .ended || last.phase == .failed, drainerCount < Self.drainerCountMax {
                // It was cut for want of memory; what it has taken since made room for the next.
                drainer = makeDrainer()
            }
            let isAwaited = hasDelayedMessages || peers.contains { waits($0) || $0.isEnding }
            quietRounds = wasActive || isAwaited ? 0 : quietRounds + 1
            if wasActive {
                now += 100_000
                pause = 5_000_000
            } else {
                // Long waits pass quickly, but heart-beats have to be sent.
                now += pause
                if isAwaited { pause = min(pause * 2, scenario.heartBeats ? 20_000_000 : 500_000_000) }
            }
            if now > patienceEnds, isAwaited {
                // Someone who publishes and consumes on one connection may wait for himself.
                guard mayWaitForever else { break }
                // So long a wait ends transactions and lingering connections, too.
                oracle.hasJumped = true
                patienceEnds = now + 14_000_000_000
                for peer in peers where waits(peer) || peer.isEnding {
                    peer.clientReset = true
                    leave(peer)
                }
            }
            if now - start > 100_000_000_000 { break }
        }
        if quietRounds < 30 {
            let waiting = peers.filter { waits($0) || $0.isEnding }.map { "\($0.id) \($0.stage) \($0.phase)" }
            oracle.violate(
                "no end to \(what): these clients wait: \(waiting); "
                    + (0..<scenario.shardCount).map { "\(shards[$0].audit())" }.joined(separator: ", "))
        }
    }

    /// Some clients leave, so that one who empties the queues is let in wherever he comes to.
    private func makeWay() {
        for peer in peers where peer.stage != .closed && !peer.clientIsGone {
            let others = peers.count { $0.stage == .adopted && !$0.clientIsGone }
            if others >= scenario.shardCount { leave(peer) }
        }
        settle("those who make way")
    }

    /// Publishers wait for room that nobody makes.
    private var mayWaitForever: Bool {
        scenario.memoryIsTight || (scenario.overflow == .block && scenario.queuesAreTight)
    }

    private func waits(_ peer: Peer) -> Bool {
        peer.stage != .closed && !peer.clientIsGone && (peer.hasExpectations || peer.unreadIncoming > 0)
    }

    private func acknowledgeAll(_ peer: Peer) {
        guard peer.canWrite, !peer.disconnectIsIssued, !peer.misbehaved, peer.phase == .connected else { return }
        for subscription in peer.subscriptions where subscription.state == .confirmed || subscription.state == .issued {
            guard subscription.ackMode != .auto else { continue }
            var place = 0
            while place < subscription.outstanding.count {
                let held = subscription.outstanding[place]
                if held.transaction == nil, held.end <= peer.readByteCount {
                    acknowledge(peer, subscription, at: place, accepts: true)
                    if subscription.ackMode == .client { place = 0 }
                } else {
                    place += 1
                }
            }
        }
    }

    private func finishTransactions() {
        for peer in peers
        where peer.canWrite && !peer.disconnectIsIssued && !peer.misbehaved && peer.phase == .connected {
            for transaction in peer.transactions where transaction.state == .open {
                if random.chance(700) { commit(peer, transaction) } else { abort(peer, transaction) }
            }
        }
    }

    /// A client that takes whatever the queues still hold. nil: it would not be let in, or could not subscribe to all.
    private func makeDrainer() -> Peer? {
        if scenario.destinationsAreTight || scenario.ratesAreTight || scenario.subscriptionsAreTight { return nil }
        drainerCount += 1
        return makeDrainers(makeDrainer(ofHost:))
    }

    private func makeDrainer(ofHost host: String) -> Peer {
        let drainer = makePeer(address: Self.drainerAddress)
        drainer.host = host
        drainer.isDrainer = true
        drainer.canConsume = true
        // It has to get everything.
        if oracle.access != nil { drainer.listener = 0 }
        connect(drainer)
        for queue in own(scenario.queues, drainer) + (scenario.deadLetters.map { [$0] } ?? []) {
            while !drainer.subscriptions.contains(where: { $0.destination == queue }) {
                subscribe(drainer, to: queue, isQueue: true, mode: .individual, receipt: 1000)
            }
        }
        return drainer
    }

    /// When nothing else is sent, heart-beats are, in time.
    private func watchHeartBeats() {
        let watched = peers.filter { $0.receiveInterval > 0 && $0.phase == .connected && !$0.isLeaving }
        guard let longest = watched.map(\.receiveInterval).max() else { return }
        let end = now + UInt64(longest) * 3_000_000
        while now < end, !hasFailed {
            // To the next moment at which a worker or a client has something to do.
            var next = now + 20_000_000
            for index in 0..<scenario.shardCount where !workers[index].isCarriedOut || workers[index].deadline < next {
                next = max(min(next, workers[index].isCarriedOut ? workers[index].deadline : now), now + 500_000)
            }
            for peer in peers where peer.sendInterval > 0 && peer.stage == .adopted && !peer.clientIsGone {
                next = min(next, max(peer.lastBeat + UInt64(peer.sendInterval) * 900_000, now + 500_000))
            }
            now = next
            oracle.step += 1
            for peer in peers where peer.stage != .closed && !peer.clientIsGone {
                read(peer)
                beat(peer)
            }
            for index in 0..<scenario.shardCount {
                step(index)
                step(index)
            }
            for peer in watched
            where peer.phase == .connected && now - min(peer.lastWire, now) > UInt64(peer.receiveInterval) * 1_000_000 {
                oracle.violate("client \(peer.id) heard nothing for more than \(peer.receiveInterval) ms")
            }
        }
        for peer in watched where peer.error != nil && !(peer.error == "Token expired" && peer.expiresAt != 0) {
            oracle.violate("a client that sent its heart-beats was cut: \(peer.error!)")
        }
    }

    /// Everyone leaves, the drainer last: what others gave back on their way out is taken too.
    private func depart() {
        let others = peers[firstOfLife...].filter { peer in peer !== drainer && !helpers.contains { $0 === peer } }
        depart(others)
        guard !hasFailed, let drainer else { return }
        settle("the last deliveries")
        if !hasFailed { depart(helpers + [drainer]) }
    }

    private func depart(_ leaving: [Peer]) {
        for peer in leaving where peer.stage != .closed && !peer.clientIsGone {
            if peer.canWrite, !peer.disconnectIsIssued, peer.phase == .connected {
                disconnect(peer)
            } else {
                leave(peer)
            }
        }
        let start = now
        var hasGivenUp = false
        while leaving.contains(where: { $0.stage != .closed }) {
            oracle.step += 1
            for peer in peers where peer.stage != .closed && !peer.clientIsGone {
                read(peer)
                acknowledgeAll(peer)
            }
            for index in 0..<scenario.shardCount {
                step(index)
                if hasFailed { return }
            }
            now += 2_000_000
            if now - start > 10_000_000_000, !hasGivenUp, mayWaitForever {
                hasGivenUp = true
                for peer in leaving where peer.stage != .closed {
                    peer.clientReset = true
                    leave(peer)
                }
            }
            if now - start > 30_000_000_000 {
                let left = leaving.filter { $0.stage != .closed }.map { "\($0.id) \($0.stage) \($0.phase)" }
                return oracle.violate("these clients do not come to an end: \(left)")
            }
        }
        for peer in leaving where peer.isShutDown && peer.disconnectIsIssued && !peer.misbehaved {
            let isRefused = peer.transport?.mayExceed == true
            if peer.hasExpectations, peer.error == nil, !oracle.hasJumped, !hasGivenUp, !isRefused {
                oracle.violate("client \(peer.id) got no RECEIPT for its DISCONNECT")
            }
        }
    }

    /// Time for peer messages and timers under way; then only idle destinations remain.
    private func judgeLeaks() {
        for _ in 0..<200 {
            oracle.step += 1
            for index in 0..<scenario.shardCount { step(index) }
            now += 5_000_000
            if hasFailed { return }
        }
        for index in 0..<scenario.shardCount {
            let audit = shards[index].audit()
            // Messages that nobody took stay, with their expiry timers.
            let expected = didDrain ? ShardAudit() : shards[index].auditOfReadyMessages()
            let counts = shards[index].accessCounts
            if counts.sessions > 0 || counts.sets > 0 { oracle.violate("shard \(index) leaks permissions: \(counts)") }
            if audit != expected { oracle.violate("shard \(index) leaks: \(audit), expected \(expected)") }
        }
        if didDrain { judgeHostStorageAtEnd() }
        judgeLayers()
    }

    /// The operator ends the broker: within the time that is configured all shards are done.
    private func restByDraining() {
        for index in 0..<scenario.shardCount {
            shards[index].beginDrain()
            workers[index].isWoken = true
        }
        let limits = scenario.options.limits
        let patience = UInt64(limits.drainMillisecondsMax + limits.lingerMillisecondsMax + 500) * 1_000_000
        let start = now
        while (0..<scenario.shardCount).contains(where: { !workers[$0].isDrained }) {
            oracle.step += 1
            for peer in peers where peer.stage != .closed && !peer.clientIsGone {
                read(peer)
                beat(peer)
                acknowledgeAll(peer)
            }
            for index in 0..<scenario.shardCount {
                step(index)
                if hasFailed { return }
            }
            now += 1_000_000
            if now - start > patience {
                let left = (0..<scenario.shardCount).filter { !workers[$0].isDrained }
                return oracle.violate("shards \(left) do not end although they drain")
            }
        }
        oracle.judgeUndelivered(undelivered)
    }
}
