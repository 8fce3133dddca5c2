import Broker
import Glibc
import IO
import Slabs

// What the kernel takes of the broker's sends, and who hears of it.
extension Simulation {
    func send(_ submission: Submission, _ peer: Peer, _ index: Int, _ exchange: Int) {
        if peer.lastExchange == exchange { return oracle.violate("two sends of one connection in one poll") }
        peer.lastExchange = exchange
        if peer.awaitsWritable { return oracle.violate("a send before .writable") }
        if peer.zeroCopy != nil { return oracle.violate("a send while a zero-copy send is under way") }
        if peer.isShutDown { return oracle.violate("a send after shutdownWrite") }
        // Behind a cipher there may be some that waited.
        let isCaughtUp = peer.isCaughtUp && peer.transport?.cipher == nil
        let encodedSince = isCaughtUp ? workers[index].turnWall : 0
        peer.isCaughtUp = false
        if submission.kind == .sendZeroCopy {
            guard submission.byteCount > 0 else { return oracle.violate("an empty send") }
            peer.zeroCopy = (submission.pointer!, submission.byteCount, encodedSince)
            return
        }
        var total = submission.byteCount
        if submission.kind == .sendVector {
            guard submission.byteCount >= 1, submission.byteCount <= (peer.transport == nil ? 64 : 96) else {
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
                take(UnsafeRawBufferPointer(start: vectors[position].iov_base, count: count), peer, encodedSince)
                left -= count
            }
        } else {
            take(UnsafeRawBufferPointer(start: submission.pointer, count: taken), peer, encodedSince)
        }
        // A send of many pieces or bytes may have left some for the next.
        peer.isCaughtUp = taken == total && total < 16_384 && (submission.kind == .send || submission.byteCount < 64)
        if let transport = peer.transport {
            transport.lastSendFellShort = taken < total
            if taken > 0, taken < total { count(.partialSend) }
        }
        if taken < total {
            let isPlanted = canary == .dropAtCut && taken + 1 < total && strikesCanary(oneIn: 20)
            let told = isPlanted ? taken + 1 : taken
            workers[index].answers.append(Completion(.sendIncomplete, connection: peer.slot, value: Int32(told)))
        }
        if canary == .doubleSend, strikesCanary(oneIn: 50) { send(submission, peer, index, exchange) }
    }

    /// How many of `total` bytes the socket takes, or -errno.
    func bytesTaken(_ peer: Peer, of total: Int) -> Int {
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
    func take(_ bytes: UnsafeRawBufferPointer, _ peer: Peer, _ encodedSince: UInt64) {
        peer.takenByteCount += bytes.count
        if let transport = peer.transport { return takeTransported(bytes, peer, transport, encodedSince) }
        wasActive = wasActive || bytes.count > 1
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
        decode(peer, encodedSince)
    }

    /// The frames that are whole are the oracle's.
    func decode(_ peer: Peer, _ encodedSince: UInt64) {
        // What a send takes after the broker has given the connection up is nobody's any more.
        if peer.phase == .ended { return }
        // What comes from another worker has been on its way for some time.
        let since = scenario.shardCount == 1 ? encodedSince : 0
        while var frame = peer.decoder.next() {
            if let canary, altered(&frame, peer, canary) { continue }
            addHost(of: peer, to: &frame)
            oracle.received(frame, by: peer, encodedSince: since)
        }
        if let failure = peer.decoder.failure { oracle.violate("client \(peer.id): \(failure)") }
    }

    /// Planted bugs that lose, double, swap or falsify frames.
    private func altered(_ frame: inout ServerFrame, _ peer: Peer, _ canary: Canary) -> Bool {
        switch (canary, frame.command) {
        case (.loseMessage, .message), (.loseReceipt, .receipt): return strikesCanary(oneIn: 30)
        case (.duplicateMessage, .message):
            if strikesCanary(oneIn: 30) { oracle.received(frame, by: peer) }
            return false
        case (.swapFrames, .message), (.swapFrames, .receipt):
            guard strikesCanary(oneIn: 10), let next = peer.decoder.next() else { return false }
            oracle.received(next, by: peer)
            return false
        case (.falseRedelivery, .message):
            if frame.value("redelivered") == nil, frame.value("ack") != nil, strikesCanary(oneIn: 10) {
                frame.headers += [("redelivered", "true"), ("delivery-count", "2")]
            }
            return false
        case (.wrongDeliveryCount, .message):
            guard let place = frame.headers.firstIndex(where: { $0.name == "delivery-count" }) else { return false }
            if strikesCanary(oneIn: 2) { frame.headers[place].value = "1" }
            return false
        case (.skipOffset, .message): return frame.value("x-stream-offset") != nil && strikesCanary(oneIn: 30)
        case (.loseRetained, .message): return frame.value("retained") != nil && strikesCanary(oneIn: 2)
        case (.loseReply, .message):
            return frame.value("subscription")?.hasPrefix("/temp-queue/") == true && strikesCanary(oneIn: 2)
        case (.splitCommit, .message):
            guard let text = frame.value("x-number"), let number = Int(text),
                let transaction = oracle.messages[number].transaction
            else { return false }
            return transaction.state == .commitIssued && !transaction.wantsReceipt && strikesCanary(oneIn: 2)
        default: return false
        }
    }
}
