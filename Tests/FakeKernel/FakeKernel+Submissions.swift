internal import Glibc
internal import IO

// How the fake kernel carries out each kind of submission.
extension FakeKernel {
    func carryOut(_ submission: Submission, of index: Int) throws(Violation) {
        switch submission.kind {
        case .adopt: try adopt(submission, index)
        case .refuse: try refuse(submission, index)
        case .handOff: try handOff(submission, index)
        case .send, .sendVector:
            let pieces = try pieces(of: submission)
            try socket(of: submission, index).send(pieces, turn: turnCount, &workers[index].completions.pointee)
        case .sendZeroCopy:
            let bytes = UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount)
            try socket(of: submission, index).sendZeroCopy(bytes, turn: turnCount)
        case .awaitWritable: try socket(of: submission, index).awaitWritable()
        case .pauseReceive: try socket(of: submission, index).pauseReceive()
        case .resumeReceive: try socket(of: submission, index).resumeReceive()
        case .shutdownWrite: try socket(of: submission, index).shutdownWrite()
        case .close: try socket(of: submission, index).close(withReset: submission.value == 1)
        case .wake: post(Completion(.woken), to: try peer(of: submission, index))
        case .stopAccepting: isListening[index] = false
        case .resumeAccepting:
            isAccepting[index] = true
            acceptResumptionCount += 1
        case .connect: throw Violation("the broker opens no connections")
        case .openDirectory, .createFile, .openFile, .appendFile, .appendFileDurably, .readFile, .allocateFile,
            .syncFile, .deleteFile, .renameFile, .closeFile:
            guard let disk else { throw Violation("the broker uses no files") }
            disk.submit(submission, of: index)
        }
    }

    // MARK: Newcomers

    private func adopt(_ submission: Submission, _ index: Int) throws(Violation) {
        let socket = try newcomer(of: submission, index)
        let place = submission.connection.index
        guard adopted[index][place] == nil else { throw Violation("slot \(place) is used again before .closed") }
        adopted[index][place] = socket
        socket.connection = submission.connection
        socket.stage = .adopted
    }

    private func refuse(_ submission: Submission, _ index: Int) throws(Violation) {
        try newcomer(of: submission, index).stage = .closed
        refused.append(submission.value)
    }

    private func handOff(_ submission: Submission, _ index: Int) throws(Violation) {
        let socket = try newcomer(of: submission, index)
        let peer = try peer(of: submission, index)
        // The peers of Unix sockets have no address, and are marked when they are handed off.
        let isMarked = socket.origin.address == 0 && submission.origin.listener == socket.origin.listener
        guard submission.origin == socket.origin || isMarked else {
            throw Violation("a connection is handed off as one of origin \(submission.origin)")
        }
        socket.origin = submission.origin
        handOffs.append((submission.value, peer))
        if shard(peer).pointee.isDrained {
            socket.stage = .closed
        } else {
            socket.shard = peer
            offer(socket)
        }
    }

    /// The accepted connection that the submission is about.
    private func newcomer(of submission: Submission, _ index: Int) throws(Violation) -> FakeSocket {
        guard let socket = newcomers[submission.value], socket.shard == index, socket.stage == .offered else {
            throw Violation("\(submission.kind) of a descriptor that was not offered")
        }
        newcomers[submission.value] = nil
        return socket
    }

    // MARK: Connections and workers

    /// The connection that the submission names.
    private func socket(of submission: Submission, _ index: Int) throws(Violation) -> FakeSocket {
        guard let socket = adopted[index][submission.connection.index], socket.connection == submission.connection
        else { throw Violation("\(submission.kind) for a connection that does not exist") }
        guard socket.stage == .adopted else { throw Violation("\(submission.kind) after .close") }
        return socket
    }

    /// The bytes to send, from one buffer or several.
    private func pieces(of submission: Submission) throws(Violation) -> [UnsafeRawBufferPointer] {
        guard let pointer = submission.pointer else { throw Violation("a send of nothing") }
        guard submission.kind == .sendVector else {
            return [UnsafeRawBufferPointer(start: pointer, count: submission.byteCount)]
        }
        let vectors = pointer.assumingMemoryBound(to: iovec.self)
        let pieces = (0..<submission.byteCount).map {
            UnsafeRawBufferPointer(start: vectors[$0].iov_base, count: vectors[$0].iov_len)
        }
        guard pieces.reduce(0, { $0 + $1.count }) == Int(submission.value) else {
            throw Violation("a vector's sum is wrong")
        }
        return pieces
    }

    private func peer(of submission: Submission, _ index: Int) throws(Violation) -> Int {
        let peer = Int(submission.peer)
        guard peer != index, peer < shardCount else {
            throw Violation("\(submission.kind) to worker \(peer) of \(shardCount)")
        }
        return peer
    }
}
