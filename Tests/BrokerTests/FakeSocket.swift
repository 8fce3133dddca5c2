import Glibc
import IO
import Slabs
import Testing

/// A connection as the broker's driver and the client's kernel see it.
final class FakeSocket {
    let descriptor: Int32
    var shard: Int
    var connection = Slot.none

    /// Bytes under way to the broker, in the pieces they arrive in.
    private var arriving: [[UInt8]] = []
    private var hasEnded = false
    private var failure: Int32 = 0
    private(set) var isReceivePaused = false

    /// Bytes that reached the client.
    private(set) var received: [UInt8] = []
    /// Bytes that the socket takes before it is full.
    var room = Int.max
    /// The errno of the next send. 0: none.
    var sendFailure: Int32 = 0
    private var awaitsWritable = false
    /// Zero-copy sends are released only when the test says so.
    var holdsZeroCopy = false
    private var heldZeroCopy: (bytes: UnsafeRawPointer, count: Int)?
    private var releases: Int32?

    private(set) var isWriteShutDown = false
    private(set) var wasReset = false
    var isClosed = false
    private(set) var sendCount = 0
    private(set) var vectorCountMax = 0

    init(descriptor: Int32, shard: Int) {
        self.descriptor = descriptor
        self.shard = shard
    }

    // MARK: The client's side

    func write(_ bytes: [UInt8]) { if !bytes.isEmpty { arriving.append(bytes) } }
    func endSending() { hasEnded = true }
    func fail(errno: Int32) { failure = errno }

    func takeReceived() -> [UInt8] {
        defer { received.removeAll() }
        return received
    }

    /// The kernel is done with the bytes of a zero-copy send.
    func releaseZeroCopy() {
        guard let held = heldZeroCopy else { return }
        received += UnsafeRawBufferPointer(start: held.bytes, count: held.count)
        heldZeroCopy = nil
        releases = Int32(held.count)
    }

    var holdsBytes: Bool { heldZeroCopy != nil }

    // MARK: The driver's side

    var hasEvents: Bool {
        if connection.isNone || isClosed { return false }
        if releases != nil || failure != 0 || (awaitsWritable && room > 0) { return true }
        return !isReceivePaused && (!arriving.isEmpty || hasEnded && !hasToldEnd)
    }
    private var hasToldEnd = false

    func takeEvents(_ completions: inout Batch<Completion>, _ lent: inout [UnsafeMutableRawBufferPointer]) {
        if connection.isNone || isClosed { return }
        if let count = releases {
            releases = nil
            completions.append(Completion(.sendReleased, connection: connection, value: count))
        }
        if awaitsWritable, room > 0 {
            awaitsWritable = false
            completions.append(Completion(.writable, connection: connection))
        }
        if failure != 0 {
            completions.append(Completion(.receiveFailed, connection: connection, value: -failure))
            failure = 0
            arriving.removeAll()
            hasToldEnd = true
            return
        }
        if isReceivePaused { return }
        // As much as a driver's receive buffers hold, and the rest in the next turn.
        var byteCount = 0
        while !arriving.isEmpty, byteCount < 64 * 1024 {
            let piece = arriving.removeFirst()
            byteCount += piece.count
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 16)
            buffer.copyBytes(from: piece)
            lent.append(buffer)
            completions.append(
                Completion(
                    .received, connection: connection, value: Int32(piece.count),
                    pointer: UnsafeRawPointer(buffer.baseAddress!)))
        }
        if hasEnded, !hasToldEnd, arriving.isEmpty {
            hasToldEnd = true
            completions.append(Completion(.receiveEnded, connection: connection))
        }
    }

    func carryOut(_ submission: Submission, _ completions: inout Batch<Completion>) {
        #expect(!isClosed, "nothing is submitted for a closed connection")
        switch submission.kind {
        case .send: send([UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount)], &completions)
        case .sendVector:
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            let pieces = (0..<submission.byteCount).map {
                UnsafeRawBufferPointer(start: vectors[$0].iov_base, count: vectors[$0].iov_len)
            }
            vectorCountMax = max(vectorCountMax, pieces.count)
            #expect(pieces.count <= 64 && pieces.reduce(0) { $0 + $1.count } == Int(submission.value))
            send(pieces, &completions)
        case .sendZeroCopy:
            #expect(heldZeroCopy == nil, "one zero-copy send at a time")
            sendCount += 1
            if sendFailure != 0 {
                releases = -sendFailure
                sendFailure = 0
                return
            }
            let count = min(submission.byteCount, room)
            if room != .max { room -= count }
            heldZeroCopy = (submission.pointer!, count)
            if !holdsZeroCopy { releaseZeroCopy() }
        case .awaitWritable:
            awaitsWritable = true
        case .pauseReceive: isReceivePaused = true
        case .resumeReceive: isReceivePaused = false
        case .shutdownWrite: isWriteShutDown = true
        case .close:
            releaseZeroCopy()
            if let count = releases {
                releases = nil
                completions.append(Completion(.sendReleased, connection: connection, value: count))
            }
            wasReset = submission.value == 1
            isClosed = true
            completions.append(Completion(.closed, connection: connection))
        case .adopt, .refuse, .handOff, .wake, .stopAccepting, .resumeAccepting, .connect:
            Issue.record("not a connection's submission")
        }
    }

    private func send(_ pieces: [UnsafeRawBufferPointer], _ completions: inout Batch<Completion>) {
        #expect(!isWriteShutDown, "nothing is sent behind the end")
        #expect(heldZeroCopy == nil, "nothing overtakes a zero-copy send")
        sendCount += 1
        let total = pieces.reduce(0) { $0 + $1.count }
        #expect(total > 0, "a send has bytes")
        if sendFailure != 0 {
            completions.append(Completion(.sendIncomplete, connection: connection, value: -sendFailure))
            sendFailure = 0
            return
        }
        var left = min(total, room)
        let taken = left
        if room != .max { room -= taken }
        for piece in pieces {
            let count = min(left, piece.count)
            received += piece.prefix(count)
            left -= count
        }
        if taken < total {
            completions.append(Completion(.sendIncomplete, connection: connection, value: Int32(taken)))
        }
    }
}
