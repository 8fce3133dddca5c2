import Broker
import Glibc
import IO
import Slabs

// The kernel carries submissions out, strictly.
//
// It is not `FakeKernel`, though it does the same: here everything that may differ between two runs of a kernel is drawn
// from the seed, in an order that the trace's hash depends on; a connection is also the oracle's record of its client; and
// bytes lie in one arena, for a campaign plays 10^5 seeds. A new kind of submission has to be added here as well.
extension Simulation {
    /// - Parameter countMax: of the submissions, when the broker ends in the middle of them.
    func carryOut(_ index: Int, countMax: Int = .max) {
        carryOut(shards[index].submissions, index, countMax: countMax)
        if hasFailed { return }
        if !workers[index].offered.isEmpty, countMax == .max {
            oracle.violate("shard \(index) did not answer for an accepted connection")
        }
    }

    func carryOut(_ submissions: borrowing Batch<Submission>, _ index: Int, countMax: Int = .max) {
        workers[index].exchangeCount += 1
        let exchange = workers[index].exchangeCount
        workers[index].answers.removeAll(keepingCapacity: true)
        for position in 0..<min(submissions.count, countMax) {
            let submission = submissions[position]
            trace(submission)
            carryOut(submission, index, exchange)
            if hasFailed { return }
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
            let most = scenario.options.limits.connectionsPerAddressMax
            if most > 0, countOfAddress(peer.address, index) > most {
                oracle.violate("shard \(index) holds more than \(most) connections of address \(peer.address)")
            }
        case .refuse:
            guard let peer = takeOffered(submission, index) else { return }
            if !mayBeRefused(peer, index) { oracle.violate("client \(peer.id) was refused for no reason") }
            drop(peer)
        case .handOff:
            guard let peer = takeOffered(submission, index) else { return }
            let target = Int(submission.peer)
            guard target != index, target < scenario.shardCount else {
                return oracle.violate("handed off to worker \(target)")
            }
            if submission.origin != peer.originForCore {
                oracle.violate("client \(peer.id) was handed off as one of origin \(submission.origin)")
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
        case .openDirectory, .createFile, .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile,
            .syncFile, .deleteFile, .renameFile, .closeFile:
            guard let disk else { return oracle.violate("the broker uses no files") }
            disk.submit(submission, of: index, now: now)
            if let violation = disk.violation { oracle.violate("shard \(index): \(violation)") }
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
            judgeEnd(submission, peer)
            if !peer.decoder.isBetweenFrames { oracle.violate("client \(peer.id): shut down within a frame") }
            endedByBroker(peer, wasFlushed: !peer.coreHasDropped)
            peer.isShutDown = true
        case .close:
            judgeEnd(submission, peer)
            endedByBroker(peer, wasFlushed: peer.isShutDown)
            peer.stage = .closing
            peer.wasReset = submission.value == 1
        case .adopt, .refuse, .handOff, .wake, .stopAccepting, .resumeAccepting, .connect, .openDirectory, .createFile,
            .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile, .syncFile, .deleteFile, .renameFile,
            .closeFile:
            break  // carried out above
        }
    }

    private func endedByBroker(_ peer: Peer, wasFlushed: Bool) {
        if !peer.isLeavingByItself, peer.phase != .ended, !mayBeCut(peer) {
            oracle.violate("honest client \(peer.id) was cut without an ERROR")
        }
        if !peer.isLeavingByItself { peer.wasCut = true }
        if peer.phase != .ended { oracle.ended(peer, wasFlushed: wasFlushed) }
        peer.phase = .ended
    }

    /// Reasons to end an honest connection without a word: it reads too slowly, memory is out, it connects too slowly.
    private func mayBeCut(_ peer: Peer) -> Bool {
        if scenario.outputIsTight || scenario.memoryIsTight || isDraining || peer.readsNever || peer.doesNotConnect {
            return true
        }
        if let transport = peer.transport, transport.mayExceed || toyLibrary!.failed.contains(peer.id) { return true }
        return oracle.hasJumped
    }

    /// Connections of an address that the broker is not done with. Address 0 is not known, and no one's.
    ///
    /// - Parameter withExceeding: also those that the broker may be about to refuse.
    func countOfAddress(_ address: UInt64, _ index: Int, withExceeding: Bool = false) -> Int {
        if address == 0 { return 0 }
        return workers[index].peers.count {
            $0.address == address && $0.hasKnownAddress && (withExceeding || $0.transport?.mayExceed != true)
        }
    }

    private func mayBeRefused(_ peer: Peer, _ index: Int) -> Bool {
        if isDraining || scenario.connectionsAreTight || scenario.ratesAreTight { return true }
        let most = scenario.options.limits.connectionsPerAddressMax
        // Those that close in this poll count, too.
        return most > 0 && peer.address != 0
            && countOfAddress(peer.address, index, withExceeding: true) + workers[index].closedNow >= most
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

    func find(_ slot: Slot, _ index: Int) -> Peer? {
        for peer in workers[index].peers where peer.slot == slot { return peer }
        return nil
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
        case .appendFile, .appendFileDurably:
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            for position in 0..<Int(submission.peer) {
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
