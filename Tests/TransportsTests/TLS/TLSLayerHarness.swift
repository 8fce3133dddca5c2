import CTLS
import Glibc
import IO
import Slabs
import Testing

@testable import Transports

/// A layer of TLS between a core that the test plays and a driver that moves bytes to and from clients in memory.
///
/// Listener 0 is plain, listener 1 has TLS, listener 2 expects a proxy's header before TLS, listener 3 has WebSockets in
/// TLS.
final class TLSLayerHarness {
    /// A connection as the driver sees it.
    struct Socket {
        /// Bytes that the socket takes in the next poll.
        var room = Int.max
        /// What the client has not read yet.
        var sent: [UInt8] = []
        var isShutDown = false
        var isClosed = false
        var isReset = false
        /// The errno of the next send. 0: none.
        var sendFailure: Int32 = 0
        var awaitsWritable = false
        var sendCount = 0
    }

    /// A connection as the core sees it.
    struct Session {
        var received: [UInt8] = []
        var endCount = 0
        var failure: Int32 = 0
        /// Output that is not known to be taken.
        var output: [UInt8] = []
        var awaitsWritable = false
        var writableCount = 0
        /// The most bytes of a buffer of its sends.
        var pieceByteCount = 1000
        var wantsShutdown = false
        var submittedByteCount = 0
    }

    var layer: TLSLayer
    var sockets: [UInt32: Socket] = [:]
    var sessions: [UInt32: Session] = [:]
    private var submissions = Batch<Submission>(capacity: 64)
    private var completions = Batch<Completion>(capacity: 64)
    private var memory: [UnsafeMutableRawBufferPointer] = []
    let source: TLSContextSource
    private(set) var turnCount = 0
    var now: UInt64 = 10_000_000_000
    /// The layer has nothing to do until something happens.
    var isQuiet: Bool { !layer.hasWork }
    /// What the layer has answered the last time.
    private(set) var deadline: UInt64 = 0
    /// The most memory that ciphertext took.
    var mostCiphertextByteCount = 0

    init(blockByteCountMax: Int = 64 << 20) throws {
        source = TLSContextSource(try TestContexts.server())
        layer = try TLSLayer(
            listeners: [
                TLSListener(source: nil), TLSListener(source: source),
                TLSListener(source: source, expectsProxyHeader: true),
                TLSListener(source: source, hasWebSockets: true),
            ], tickets: TestContexts.tickets, connectionCountMax: 1000, nowSeconds: TestContexts.now,
            blockByteCountMax: blockByteCountMax, library: tls_library_openssl())
    }

    deinit { freeMemory() }

    private func freeMemory() {
        for buffer in memory {
            // Makes a use after the turn visible.
            memset(buffer.baseAddress!, 0xDD, buffer.count)
            buffer.deallocate()
        }
        memory.removeAll()
    }

    private func lend(_ bytes: some Collection<UInt8>) -> UnsafeMutableRawBufferPointer {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 16)
        buffer.copyBytes(from: bytes)
        memory.append(buffer)
        return UnsafeMutableRawBufferPointer(rebasing: buffer[..<bytes.count])
    }

    func slot(_ index: UInt32) -> Slot { Slot(index: index, generation: 1) }

    // MARK: The core

    func adopt(_ index: UInt32, listener: UInt16 = 1) {
        sockets[index] = Socket()
        sessions[index] = Session()
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: UInt8(listener)), address: 0)
        var accepted = Batch<Completion>(capacity: 1)
        accepted.append(Completion(accepted: Int32(index), from: origin))
        layer.raise(&accepted, nowSeconds: TestContexts.now)
        #expect(accepted.count == 1 && accepted[0].kind == .accepted)
        submit(Submission(.adopt, connection: slot(index), value: Int32(index)))
    }

    func submit(_ submission: Submission) { submissions.append(submission) }

    func close(_ index: UInt32, reset: Bool = false) {
        submit(Submission(.close, connection: slot(index), value: reset ? 1 : 0))
    }

    /// Submits what the sessions have to send, as the broker's core does: one send each, all that waits.
    private func submitOutput() {
        for index in sessions.keys.sorted() {
            guard var session = sessions[index], !session.awaitsWritable, session.failure == 0 else { continue }
            if session.output.isEmpty {
                if session.wantsShutdown { submit(Submission(.shutdownWrite, connection: slot(index))) }
                session.wantsShutdown = false
                sessions[index] = session
                continue
            }
            let bytes = lend(session.output.prefix(64 * session.pieceByteCount))
            session.submittedByteCount = bytes.count
            sessions[index] = session
            if bytes.count <= session.pieceByteCount {
                submit(
                    Submission(
                        .send, connection: slot(index), pointer: UnsafeRawPointer(bytes.baseAddress!),
                        byteCount: bytes.count))
                continue
            }
            var vectors: [iovec] = []
            for start in stride(from: 0, to: bytes.count, by: session.pieceByteCount) {
                vectors.append(
                    iovec(
                        iov_base: bytes.baseAddress! + start,
                        iov_len: min(session.pieceByteCount, bytes.count - start)))
            }
            let array = vectors.withUnsafeBytes { lend($0) }
            submit(
                Submission(
                    .sendVector, connection: slot(index), value: Int32(bytes.count),
                    pointer: UnsafeRawPointer(array.baseAddress!), byteCount: vectors.count))
        }
    }

    private func settle(_ completion: Completion) {
        guard completion.kind == .sendIncomplete else { return }
        let index = completion.connection.index
        #expect(completion.value < Int32(sessions[index]!.submittedByteCount))
        sessions[index]!.output.removeFirst(Int(max(completion.value, 0)))
        sessions[index]!.submittedByteCount = 0
        sessions[index]!.awaitsWritable = true
        submit(Submission(.awaitWritable, connection: slot(index)))
    }

    private func take(_ completion: Completion) {
        let index = completion.connection.index
        switch completion.kind {
        case .received:
            let bytes = UnsafeRawBufferPointer(start: completion.pointer, count: Int(completion.value))
            #expect(sessions[index]!.endCount == 0)
            sessions[index]!.received += bytes
        case .receiveEnded: sessions[index]!.endCount += 1
        case .receiveFailed:
            sessions[index]!.endCount += 1
            sessions[index]!.failure = completion.value
        case .writable:
            #expect(sessions[index]!.awaitsWritable)
            sessions[index]!.awaitsWritable = false
            sessions[index]!.writableCount += 1
        case .sendIncomplete: break
        case .closed: sockets[index]!.isClosed = true
        default: Issue.record("unexpected \(completion.kind)")
        }
    }

    // MARK: The driver

    /// The client's bytes come with the next turn.
    func receive(_ index: UInt32, _ bytes: [UInt8]) {
        if bytes.isEmpty { return }
        let buffer = lend(bytes)
        completions.append(
            Completion(
                .received, connection: slot(index), value: Int32(bytes.count),
                pointer: UnsafeRawPointer(buffer.baseAddress!)))
    }

    func report(_ kind: Completion.Kind, _ index: UInt32, value: Int32 = 0) {
        completions.append(Completion(kind, connection: slot(index), value: value))
    }

    private func carryOut(_ submission: Submission, _ answers: inout [Completion], _ closed: inout [UInt32]) {
        let index = submission.connection.index
        switch submission.kind {
        case .send, .sendVector:
            let bytes = Self.bytes(submission)
            var socket = sockets[index]!
            socket.sendCount += 1
            #expect(socket.sendCount == 1, "one send in a poll")
            #expect(!socket.isShutDown && !socket.awaitsWritable && !bytes.isEmpty)
            if socket.sendFailure != 0 {
                answers.append(
                    Completion(.sendIncomplete, connection: submission.connection, value: -socket.sendFailure))
                socket.sendFailure = 0
                sockets[index] = socket
                return
            }
            let taken = min(bytes.count, socket.room)
            socket.sent += bytes[..<taken]
            if socket.room != .max { socket.room -= taken }
            if taken < bytes.count {
                answers.append(Completion(.sendIncomplete, connection: submission.connection, value: Int32(taken)))
            }
            sockets[index] = socket
        case .awaitWritable:
            #expect(!sockets[index]!.awaitsWritable, "asked twice")
            sockets[index]!.awaitsWritable = true
        case .shutdownWrite: sockets[index]!.isShutDown = true
        case .close:
            sockets[index]!.isReset = submission.value == 1
            closed.append(index)
        case .adopt, .pauseReceive, .resumeReceive: break
        default: Issue.record("unexpected \(submission.kind)")
        }
    }

    private static func bytes(_ submission: Submission) -> [UInt8] {
        guard submission.kind == .sendVector else {
            return Array(UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount))
        }
        let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
        #expect((1...64).contains(submission.byteCount))
        var bytes: [UInt8] = []
        for place in 0..<submission.byteCount {
            bytes += UnsafeRawBufferPointer(start: vectors[place].iov_base, count: vectors[place].iov_len)
        }
        #expect(bytes.count == Int(submission.value))
        return bytes
    }

    // MARK: Turns

    /// One poll and one turn of the core.
    func turn() {
        turnCount += 1
        submitOutput()
        var all = Batch<Completion>(capacity: 64)
        var closed: [UInt32] = []
        layer.beginLowering(now: now)
        // Every other turn each send is a part of its own.
        let byteCountMax = turnCount.isMultiple(of: 2) ? 1 : TLSLayer.partByteCountMax
        var part = Batch<Submission>(capacity: 16)
        while layer.lowerPart(&submissions, &part, byteCountMax: byteCountMax) {
            carryOut(part, &all, &closed)
            part.removeAll()
            layer.settlePart(all)
        }
        deadline = all.isEmpty ? layer.loweringDeadline() : 0
        carryOut(submissions, &all, &closed)
        submissions.removeAll()
        for index in sockets.keys.sorted()
        where sockets[index]!.awaitsWritable && sockets[index]!.room > 0 && !sockets[index]!.isClosed {
            sockets[index]!.awaitsWritable = false
            all.append(Completion(.writable, connection: slot(index)))
        }
        for index in closed { all.append(Completion(.closed, connection: slot(index))) }
        for place in 0..<completions.count { all.append(completions[place]) }
        completions.removeAll()
        let waits = all.isEmpty && deadline > now
        layer.raise(&all, nowSeconds: TestContexts.now)
        let hasNothing = all.isEmpty && isQuiet
        #expect(!waits || hasNothing, "a driver that waits keeps this from the core")
        settleSends(all)
        for place in 0..<all.count { take(all[place]) }
        freeMemory()
        #expect(!tls_has_errors())
    }

    private func carryOut(
        _ submissions: borrowing Batch<Submission>, _ all: inout Batch<Completion>, _ closed: inout [UInt32]
    ) {
        for index in sockets.keys { sockets[index]!.sendCount = 0 }
        mostCiphertextByteCount = max(mostCiphertextByteCount, layer.blocks.byteCountInUse)
        var answers: [Completion] = []
        for place in 0..<submissions.count { carryOut(submissions[place], &answers, &closed) }
        for answer in answers { all.append(answer) }
    }

    /// What was not reported as incomplete is taken.
    private func settleSends(_ completions: borrowing Batch<Completion>) {
        for place in 0..<completions.count { settle(completions[place]) }
        for index in sessions.keys {
            sessions[index]!.output.removeFirst(sessions[index]!.submittedByteCount)
            sessions[index]!.submittedByteCount = 0
        }
    }

    func takeSent(_ index: UInt32) -> [UInt8] {
        defer { sockets[index]!.sent = [] }
        return sockets[index]!.sent
    }

    /// Turns in which the client and the connection exchange what they have, until neither has anything.
    func exchange(_ index: UInt32, _ client: inout TLSPeer) {
        var isQuiet = false
        while !isQuiet {
            receive(index, client.takeOutput())
            turn()
            let bytes = takeSent(index)
            if !bytes.isEmpty { client.receive(bytes) }
            let session = sessions[index]!
            let coreIsQuiet = submissions.isEmpty && (session.output.isEmpty || session.awaitsWritable)
            isQuiet = bytes.isEmpty && client.output.isEmpty && self.isQuiet && coreIsQuiet
        }
    }

    /// A connection whose handshake is done.
    func connect(_ index: UInt32, listener: UInt16 = 1) throws -> TLSPeer {
        var client = TLSPeer(client: try TestContexts.client())
        adopt(index, listener: listener)
        client.receive()
        exchange(index, &client)
        let isEstablished = client.engine.isEstablished
        try #require(isEstablished, "\(client.failure)")
        return client
    }
}
