import Broker
import Glibc
import IO
import Slabs

// The kernel's part: carries submissions out, strictly, and makes completions, with faults.
extension Simulation {
    // MARK: Submissions

    func carryOut(_ index: Int) {
        workers[index].exchangeCount += 1
        let exchange = workers[index].exchangeCount
        workers[index].answers.removeAll(keepingCapacity: true)
        let count = shards[index].submissions.count
        for position in 0..<count {
            let submission = shards[index].submissions[position]
            trace(submission)
            carryOut(submission, index, exchange)
            if hasFailed { return }
        }
        if !workers[index].offered.isEmpty {
            oracle.violate("shard \(index) did not answer for an accepted connection")
        }
    }

    private func carryOut(_ submission: Submission, _ index: Int, _ exchange: Int) {
        switch submission.kind {
        case .adopt:
            guard let peer = takeOffered(submission, index) else { return }
            if workers[index].peers.contains(where: { $0.slot.index == submission.connection.index }) {
                return oracle.violate("slot \(submission.connection.index) was reused before .closed")
            }
            peer.stage = .adopted
            peer.shard = index
            peer.slot = submission.connection
            peer.isReceiving = true
            workers[index].peers.append(peer)
        case .refuse:
            guard let peer = takeOffered(submission, index) else { return }
            drop(peer)
        case .handOff:
            guard let peer = takeOffered(submission, index) else { return }
            let target = Int(submission.peer)
            guard target != index, target < scenario.shardCount else {
                return oracle.violate("handed off to worker \(target)")
            }
            if workers[target].isDrained || strikes(.handOffFailed) { return drop(peer) }
            peer.stage = .waiting
            workers[target].handedOn.append(peer)
            workers[target].isWoken = true
        case .wake:
            let target = Int(submission.peer)
            guard target != index, target < scenario.shardCount else { return oracle.violate("woke worker \(target)") }
            if canary == .loseWake, strikesCanary(oneIn: 30) { return }
            workers[target].isWoken = true
        case .stopAccepting:
            workers[index].isListening = false
            for peer in workers[index].backlog { drop(peer) }
            workers[index].backlog.removeAll()
        case .resumeAccepting: workers[index].isAccepting = true
        case .connect: oracle.violate("the broker opens no connections")
        case .send, .sendVector, .sendZeroCopy, .awaitWritable, .pauseReceive, .resumeReceive, .shutdownWrite, .close:
            guard let peer = find(submission.connection, index) else {
                return oracle.violate("\(submission.kind) for a connection that does not exist")
            }
            guard peer.stage == .adopted else { return oracle.violate("\(submission.kind) after .close") }
            carryOut(submission, for: peer, index, exchange)
        }
    }

    private func carryOut(_ submission: Submission, for peer: Peer, _ index: Int, _ exchange: Int) {
        switch submission.kind {
        case .send, .sendVector, .sendZeroCopy: send(submission, peer, index, exchange)
        case .awaitWritable:
            if peer.awaitsWritable { oracle.violate("awaitWritable twice") }
            peer.awaitsWritable = true
        case .pauseReceive: peer.isReceiving = false
        case .resumeReceive: peer.isReceiving = true
        case .shutdownWrite:
            if peer.isShutDown { oracle.violate("shutdownWrite twice") }
            if !peer.decoder.isBetweenFrames { oracle.violate("client \(peer.id): shut down within a frame") }
            endedByBroker(peer, wasFlushed: true)
            peer.isShutDown = true
        case .close:
            endedByBroker(peer, wasFlushed: peer.isShutDown)
            peer.stage = .closing
            peer.wasReset = submission.value == 1
        case .adopt, .refuse, .handOff, .wake, .stopAccepting, .resumeAccepting, .connect:
            break  // carried out above
        }
    }

    private func endedByBroker(_ peer: Peer, wasFlushed: Bool) {
        if !peer.isLeaving, peer.phase != .ended, !mayBeCut(peer) {
            oracle.violate("honest client \(peer.id) was cut without an ERROR")
        }
        if !peer.isLeaving { peer.wasCut = true }
        if peer.phase != .ended { oracle.ended(peer, wasFlushed: wasFlushed) }
        peer.phase = .ended
    }

    /// Reasons to end an honest connection without a word: it reads too slowly, memory is out, it connects too slowly.
    private func mayBeCut(_ peer: Peer) -> Bool {
        if scenario.outputIsTight || scenario.memoryIsTight || isDraining || peer.readsNever || peer.doesNotConnect {
            return true
        }
        return oracle.hasJumped
    }

    private func drop(_ peer: Peer) {
        peer.stage = .closed
        peer.clientIsGone = true
        if peer.phase != .ended { oracle.ended(peer, wasFlushed: true) }
        peer.phase = .ended
    }

    private func takeOffered(_ submission: Submission, _ index: Int) -> Peer? {
        guard let position = workers[index].offered.firstIndex(where: { $0.id == Int(submission.value) }) else {
            oracle.violate("\(submission.kind) of a descriptor that was not offered")
            return nil
        }
        return workers[index].offered.remove(at: position)
    }

    private func find(_ slot: Slot, _ index: Int) -> Peer? {
        for peer in workers[index].peers where peer.slot == slot { return peer }
        return nil
    }

    // MARK: Sends

    private func send(_ submission: Submission, _ peer: Peer, _ index: Int, _ exchange: Int) {
        if peer.lastExchange == exchange { return oracle.violate("two sends of one connection in one exchange") }
        peer.lastExchange = exchange
        if peer.awaitsWritable { return oracle.violate("a send before .writable") }
        if peer.zeroCopy != nil { return oracle.violate("a send while a zero-copy send is under way") }
        if peer.isShutDown { return oracle.violate("a send after shutdownWrite") }
        if submission.kind == .sendZeroCopy {
            guard submission.byteCount > 0 else { return oracle.violate("an empty send") }
            peer.zeroCopy = (submission.pointer!, submission.byteCount)
            return
        }
        var total = submission.byteCount
        if submission.kind == .sendVector {
            guard submission.byteCount >= 1, submission.byteCount <= 64 else {
                return oracle.violate("a vector of \(submission.byteCount)")
            }
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            total = (0..<submission.byteCount).reduce(0) { $0 + vectors[$1].iov_len }
            if total != Int(submission.value) { return oracle.violate("a vector's sum is wrong") }
        }
        guard total > 0 else { return oracle.violate("an empty send") }
        let taken = bytesTaken(peer, of: total)
        if taken < 0 {
            workers[index].answers.append(Completion(.sendIncomplete, connection: peer.slot, value: Int32(taken)))
            return
        }
        if submission.kind == .sendVector {
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            var left = taken
            for position in 0..<submission.byteCount where left > 0 {
                let count = min(left, vectors[position].iov_len)
                take(UnsafeRawBufferPointer(start: vectors[position].iov_base, count: count), peer)
                left -= count
            }
        } else {
            take(UnsafeRawBufferPointer(start: submission.pointer, count: taken), peer)
        }
        if taken < total {
            workers[index].answers.append(Completion(.sendIncomplete, connection: peer.slot, value: Int32(taken)))
        }
        if canary == .doubleSend, strikesCanary(oneIn: 50) { send(submission, peer, index, exchange) }
    }

    /// How many of `total` bytes the socket takes, or -errno.
    private func bytesTaken(_ peer: Peer, of total: Int) -> Int {
        if peer.clientReset { return -Int(random.chance(500) ? ECONNRESET : EPIPE) }
        if peer.clientIsGone, random.chance(500) {
            peer.clientReset = true
            return -Int(EPIPE)
        }
        if strikes(.sendFailed) {
            peer.clientReset = true
            clientLeft(peer)
            return -Int(random.pick([EPIPE, ETIMEDOUT, ECONNRESET, EHOSTUNREACH]))
        }
        if strikes(.sendWouldBlock) { return 0 }
        var taken = peer.clientIsGone ? total : min(total, max(peer.space, 0))
        if taken > 0, strikes(.shortSend) { taken = random.below(taken) + (random.chance(100) ? 0 : 1) }
        return min(taken, total)
    }

    /// The kernel takes bytes: from now on nothing can keep them from a client that reads.
    private func take(_ bytes: UnsafeRawBufferPointer, _ peer: Peer) {
        wasActive = wasActive || bytes.count > 1
        peer.takenByteCount += bytes.count
        peer.lastWire = now
        if canary == .loseHeartBeats, bytes.count == 1, bytes[0] == 10 { peer.lastWire = 0 }
        if let canary, canary == .dropByte || canary == .flipByte, bytes.count > 1, strikesCanary(oneIn: 50) {
            var copy = Array(bytes)
            let place = random.below(copy.count)
            if canary == .dropByte { copy.remove(at: place) } else { copy[place] ^= 0x20 }
            copy.withUnsafeBytes { peer.decoder.append($0) }
        } else {
            peer.decoder.append(bytes)
        }
        // What a send takes after the broker has given the connection up is nobody's any more.
        if peer.phase == .ended { return }
        while let frame = peer.decoder.next() {
            if let canary, altered(frame, peer, canary) { continue }
            oracle.received(frame, by: peer)
        }
        if let failure = peer.decoder.failure { oracle.violate("client \(peer.id): \(failure)") }
    }

    /// Planted bugs that lose, double or swap frames.
    private func altered(_ frame: ServerFrame, _ peer: Peer, _ canary: Canary) -> Bool {
        switch (canary, frame.command) {
        case (.loseMessage, .message), (.loseReceipt, .receipt): return strikesCanary(oneIn: 30)
        case (.duplicateMessage, .message):
            if strikesCanary(oneIn: 30) { oracle.received(frame, by: peer) }
            return false
        case (.swapFrames, .message), (.swapFrames, .receipt):
            guard strikesCanary(oneIn: 10), let next = peer.decoder.next() else { return false }
            oracle.received(next, by: peer)
            return false
        default: return false
        }
    }

    // MARK: Completions

    func collect(_ index: Int) {
        completions.removeAll()
        if workers[index].isWoken {
            workers[index].isWoken = false
            completions.append(Completion(.woken))
            for peer in workers[index].handedOn { offer(peer, index, handedOn: true) }
            workers[index].handedOn.removeAll()
        }
        accept(index)
        for answer in workers[index].answers { completions.append(answer) }
        workers[index].answers.removeAll(keepingCapacity: true)
        if !workers[index].oldSlots.isEmpty, strikes(.staleCompletion) {
            let slot = random.pick(workers[index].oldSlots)
            switch random.below(5) {
            case 0: completions.append(Completion(.receiveEnded, connection: slot))
            case 1: completions.append(Completion(.writable, connection: slot))
            case 2: completions.append(Completion(.receiveFailed, connection: slot, value: -ECONNRESET))
            case 3: completions.append(Completion(.sendReleased, connection: slot, value: 1))
            default: completions.append(Completion(.closed, connection: slot))
            }
        }
        // Connections complete in any order.
        var order = workers[index].peers
        if order.count > 1, strikes(.completionsReordered) {
            for position in stride(from: order.count - 1, to: 0, by: -1) {
                order.swapAt(position, random.below(position + 1))
            }
        }
        for peer in order { complete(peer, index) }
    }

    private func accept(_ index: Int) {
        guard workers[index].isListening, workers[index].isAccepting, !workers[index].backlog.isEmpty else { return }
        if strikes(.acceptFailed) {
            workers[index].isAccepting = false
            let number = random.pick([EMFILE, ENFILE, ENOBUFS, ENOMEM])
            completions.append(Completion(.acceptFailed, value: -number))
            return
        }
        let count = 1 + random.below(workers[index].backlog.count)
        for _ in 0..<count { offer(workers[index].backlog.removeFirst(), index, handedOn: false) }
    }

    private func offer(_ peer: Peer, _ index: Int, handedOn: Bool) {
        peer.stage = .offered
        peer.shard = index
        workers[index].offered.append(peer)
        completions.append(Completion(.accepted, value: Int32(peer.id), peer: handedOn ? .max : 0))
    }

    private func complete(_ peer: Peer, _ index: Int) {
        if strikes(.completionDelayed) { return }
        let receivesFirst = random.chance(700)
        if receivesFirst { receive(peer, index) }
        if peer.awaitsWritable, peer.space > 0 || peer.clientReset || peer.clientIsGone {
            if peer.stage == .adopted {
                peer.awaitsWritable = false
                completions.append(Completion(.writable, connection: peer.slot))
            }
        }
        if let sent = peer.zeroCopy, !strikes(.releaseLate) {
            peer.zeroCopy = nil
            let taken = bytesTaken(peer, of: sent.byteCount)
            if taken > 0 { take(UnsafeRawBufferPointer(start: sent.pointer, count: taken), peer) }
            let value = taken == 0 && random.chance(500) ? Int(-EAGAIN) : taken
            completions.append(Completion(.sendReleased, connection: peer.slot, value: Int32(value)))
        }
        if !receivesFirst { receive(peer, index) }
        if peer.stage == .closing, peer.zeroCopy == nil, !strikes(.closedLate) {
            if canary == .loseClosed, strikesCanary(oneIn: 5) {
                workers[index].peers.removeAll { $0 === peer }
                peer.stage = .closed
                return
            }
            completions.append(Completion(.closed, connection: peer.slot))
            peer.stage = .closed
            workers[index].oldSlots.append(peer.slot)
            workers[index].peers.removeAll { $0 === peer }
        }
    }

    private func receive(_ peer: Peer, _ index: Int) {
        if peer.endIsReported { return }
        if peer.stage == .closing {
            guard strikes(.completionAfterClose) else { return }
        } else if !peer.isReceiving, !peer.clientReset {
            guard peer.unreadIncoming > 0, strikes(.pauseHonouredLate) else { return }
        }
        if peer.clientReset, peer.unreadIncoming == 0 || random.chance(500) {
            peer.endIsReported = true
            completions.append(Completion(.receiveFailed, connection: peer.slot, value: -ECONNRESET))
            return
        }
        if peer.unreadIncoming > 0 {
            var left = min(peer.unreadIncoming, Self.arenaByteCount - arenaUsed)
            if strikes(.readOfOneByte) {
                left = min(left, 1)
            } else if left > 1, strikes(.readSplit) {
                left = 1 + random.below(left)
            }
            if left == 0 { return }
            let count = min(left, 65536)
            let place = arena + arenaUsed
            _ = peer.incoming.withUnsafeBytes { memcpy(place, $0.baseAddress! + peer.incomingRead, count) }
            arenaUsed += count
            peer.incomingRead += count
            completions.append(Completion(.received, connection: peer.slot, value: Int32(count), pointer: place))
            if canary == .repeatReceived, count > 100, peer.incomingRead == peer.incoming.count, strikesCanary(oneIn: 5)
            {
                peer.incomingRead -= count
            }
            if peer.incomingRead == peer.incoming.count {
                peer.incoming.removeAll(keepingCapacity: true)
                peer.incomingRead = 0
            }
        }
        if peer.clientEnded, peer.unreadIncoming == 0, random.chance(700) {
            peer.endIsReported = true
            completions.append(Completion(.receiveEnded, connection: peer.slot))
        }
    }

    private func trace(_ submission: Submission) {
        trace.add(UInt64(submission.kind.rawValue) << 32 | UInt64(submission.peer))
        trace.add(UInt64(submission.connection.index) << 32 | UInt64(submission.connection.generation))
        trace.add(UInt64(UInt32(bitPattern: submission.value)) << 32 | UInt64(submission.byteCount))
        switch submission.kind {
        case .send, .sendZeroCopy:
            trace.add(UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount))
        case .sendVector:
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            for position in 0..<submission.byteCount {
                trace.add(UnsafeRawBufferPointer(start: vectors[position].iov_base, count: vectors[position].iov_len))
            }
        default: break
        }
        guard let log else { return }
        var text =
            "\(moment) -> \(submission.kind) \(submission.connection.index)/\(submission.connection.generation)"
            + " peer \(submission.peer) value \(submission.value) bytes \(submission.byteCount)"
        switch submission.kind {
        case .send, .sendZeroCopy:
            text += " " + readable(UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount))
        case .sendVector:
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            for position in 0..<submission.byteCount {
                text +=
                    " | "
                    + readable(
                        UnsafeRawBufferPointer(start: vectors[position].iov_base, count: vectors[position].iov_len))
            }
        default: break
        }
        log(text)
    }
}
