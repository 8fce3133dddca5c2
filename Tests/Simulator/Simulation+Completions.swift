import Broker
import Glibc
import IO
import Slabs

// What the kernel reports, in time or late.
extension Simulation {
    func collect(_ index: Int) {
        completions.removeAll()
        // As a driver reports them. They stay first until the layers have seen them.
        for answer in workers[index].early { completions.append(answer) }
        workers[index].closedNow = 0
        if workers[index].isWoken {
            workers[index].isWoken = false
            completions.append(Completion(.woken))
            for peer in workers[index].handedOn { offer(peer, index) }
            workers[index].handedOn.removeAll()
        }
        accept(index)
        giveAnswers(index)
        giveReceiptAnswers(index)
        if let disk {
            disk.collect(index, now: now, &completions)
            if let violation = disk.violation { oracle.violate("shard \(index): \(violation)") }
        }
        for answer in workers[index].answers {
            completions.append(answer)
            if find(answer.connection, index)?.stage == .closing { count(.completionAfterClose) }
        }
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
        for peer in order where peer.mayComplete { complete(peer, index) }
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
        for _ in 0..<count { offer(workers[index].backlog.removeFirst(), index) }
    }

    private func offer(_ peer: Peer, _ index: Int) {
        peer.stage = .offered
        peer.shard = index
        workers[index].offered.append(peer)
        completions.append(Completion(accepted: Int32(peer.id), from: peer.origin))
    }

    private func complete(_ peer: Peer, _ index: Int) {
        if strikes(.completionDelayed) { return }
        let receivesFirst = random.chance(700)
        if receivesFirst { receive(peer, index) }
        if peer.awaitsWritable, peer.space > 0 || peer.clientReset || peer.clientIsGone {
            if peer.stage == .adopted || strikes(.completionAfterClose) {
                peer.awaitsWritable = false
                completions.append(Completion(.writable, connection: peer.slot))
            }
        }
        if let sent = peer.zeroCopy, !strikes(.releaseLate) {
            peer.zeroCopy = nil
            if peer.stage == .closing { count(.completionAfterClose) }
            let taken = bytesTaken(peer, of: sent.byteCount)
            if taken > 0 {
                take(UnsafeRawBufferPointer(start: sent.pointer, count: taken), peer, sent.encodedSince)
            }
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
            workers[index].closedNow += 1
        }
    }

    private func receive(_ peer: Peer, _ index: Int) {
        if peer.endIsReported {
            // While receiving is paused, the connection is watched for failure even after the end.
            if peer.stage == .adopted, !peer.isReceiving, peer.clientReset, !peer.failureIsReported {
                peer.failureIsReported = true
                completions.append(Completion(.receiveFailed, connection: peer.slot, value: -ECONNRESET))
                return
            }
            // One that ended its side may reset the connection when what is sent to it finds it gone.
            if peer.stage == .closing, !peer.clientReset, strikes(.completionAfterClose) {
                peer.clientReset = true
                completions.append(Completion(.receiveFailed, connection: peer.slot, value: -ECONNRESET))
            }
            return
        }
        if peer.stage == .closing {
            // What was under way when the core closed.
            guard peer.unreadIncoming > 0 || peer.clientReset || peer.clientEnded, strikes(.completionAfterClose)
            else { return }
        } else if !peer.isReceiving, !peer.clientReset {
            guard peer.unreadIncoming > 0, strikes(.pauseHonouredLate) else { return }
        }
        if peer.clientReset, peer.unreadIncoming == 0 || random.chance(500) {
            peer.endIsReported = true
            peer.failureIsReported = true
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
        if peer.clientEnded, !peer.clientReset, peer.unreadIncoming == 0, random.chance(700) {
            peer.endIsReported = true
            completions.append(Completion(.receiveEnded, connection: peer.slot))
        }
    }
}
