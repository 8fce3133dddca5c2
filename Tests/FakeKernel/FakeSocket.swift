internal import Glibc
public import IO
public import Slabs

/// A connection: what the broker's driver makes of it on one side, and the client's end of it on the other.
///
/// A test writes to it, takes what the broker sent, and says what goes wrong: a socket that is full, sends that fail, pauses
/// and closings that take effect late, zero-copy sends that the kernel keeps.
public final class FakeSocket {
    public enum Stage: Sendable {
        /// The shard will be told of it in its next turn.
        case waiting
        /// The shard was told of it, and has to answer in its next submissions.
        case offered
        case adopted
        /// The shard asked for `.close`, and waits for `.closed`.
        case closing
        /// Closed, refused, or handed to a worker that has ended.
        case closed
    }

    public let descriptor: Int32
    /// Where it came from, as `Completion.Kind.accepted` has it.
    public let origin: ConnectionOrigin
    public internal(set) var stage = Stage.waiting
    /// The shard that holds the connection or will be offered it.
    public internal(set) var shard: Int
    /// The shard's name for it, once it is adopted.
    public internal(set) var connection = Slot.none

    // To the broker
    private var arriving = ArrivingPieces()
    /// The most bytes of a turn, which then come in one piece. 0: as many pieces as a driver's receive buffers hold.
    public var receiveByteCountMax = 0
    /// A pause is honoured only after one more receive.
    public var pausesLate = false
    private var hasEnded = false
    private var endIsReported = false
    /// The errno of the connection's failure. 0: none.
    private var failure: Int32 = 0
    private var failureIsReported = false
    private var isReceiving = true

    // To the client
    /// Bytes that reached the client and were not taken yet.
    public private(set) var received: [UInt8] = []
    /// Bytes that the socket takes before it is full.
    public var room = Int.max
    /// The errno of the next send. 0: none.
    public var sendFailure: Int32 = 0
    /// The bytes of zero-copy sends are released by `releaseZeroCopy` and by `.close` alone.
    public var holdsZeroCopy = false
    private var zeroCopy: UnsafeRawBufferPointer?
    /// The value of a `.sendReleased` that is not reported yet.
    private var released: Int32?
    private var awaitsWritable = false
    private var lastSendTurn = 0
    public private(set) var isWriteShutDown = false
    /// `.closed` is not reported while this is true.
    public var closesLate = false
    /// The broker closed the connection by a reset.
    public private(set) var wasReset = false

    /// One that no `FakeKernel` knows; `FakeKernel.accept` makes those that it knows.
    public init(descriptor: Int32, shard: Int, origin: ConnectionOrigin = ConnectionOrigin(packed: 0)) {
        self.descriptor = descriptor
        self.shard = shard
        self.origin = origin
    }

    /// The bytes of receives of one turn, as a driver's buffers bound them.
    private static var receiveByteCountPerTurnMax: Int { 64 * 1024 }
    /// `Submission.Kind.sendVector`.
    private static var vectorCountMax: Int { 64 }
}

// MARK: - The client's end

extension FakeSocket {
    public var isClosed: Bool { stage == .closed }
    /// The broker takes no more of what is written, for now.
    public var isReceivePaused: Bool { !isReceiving }
    /// The kernel still reads the bytes of a zero-copy send.
    public var holdsBytes: Bool { zeroCopy != nil }

    /// Bytes for the broker. It receives them in one piece.
    public func write(_ bytes: some Collection<UInt8>) { if !hasEnded { arriving.append(bytes) } }

    /// Bytes for the broker, in one piece with what was written before and is not received yet.
    public func writeOn(_ bytes: some Collection<UInt8>) { if !hasEnded { arriving.extend(bytes) } }

    /// Ends the client's sending side, behind what was written.
    public func endSending() { hasEnded = true }

    /// The connection fails. What was written and not received is lost.
    public func fail(errno: Int32) { failure = errno }

    public func takeReceived() -> [UInt8] {
        defer { received.removeAll() }
        return received
    }

    /// The kernel is done with the bytes of a zero-copy send, and the client has them.
    public func releaseZeroCopy() {
        guard let bytes = zeroCopy else { return }
        zeroCopy = nil
        if sendFailure != 0 {
            released = -sendFailure
            sendFailure = 0
        } else {
            released = Int32(take(bytes))
        }
    }
}

// MARK: - What the broker asks for

extension FakeSocket {
    /// - Parameter turn: counts polls: there is at most one send in each.
    func send(
        _ pieces: [UnsafeRawBufferPointer], turn: Int, _ completions: inout Batch<Completion>
    ) throws(Violation) {
        try beginSend(turn)
        let byteCount = pieces.reduce(0) { $0 + $1.count }
        guard byteCount > 0 else { throw Violation("a send without bytes") }
        guard pieces.count <= Self.vectorCountMax else { throw Violation("a send of \(pieces.count) pieces") }
        if sendFailure != 0 || isBroken {
            completions.append(
                Completion(.sendIncomplete, connection: connection, value: isBroken ? -failure : -sendFailure))
            sendFailure = 0
            return
        }
        var taken = 0
        for piece in pieces { taken += take(piece) }
        if taken < byteCount {
            completions.append(Completion(.sendIncomplete, connection: connection, value: Int32(taken)))
        }
    }

    func sendZeroCopy(_ bytes: UnsafeRawBufferPointer, turn: Int) throws(Violation) {
        try beginSend(turn)
        guard !bytes.isEmpty else { throw Violation("a send without bytes") }
        zeroCopy = bytes
    }

    private func beginSend(_ turn: Int) throws(Violation) {
        guard lastSendTurn != turn else { throw Violation("two sends of one connection in one poll") }
        lastSendTurn = turn
        guard !awaitsWritable else { throw Violation("a send before .writable") }
        guard zeroCopy == nil, released == nil else { throw Violation("a send during a zero-copy send") }
        guard !isWriteShutDown else { throw Violation("a send after shutdownWrite") }
    }

    func awaitWritable() throws(Violation) {
        guard !awaitsWritable else { throw Violation("awaitWritable twice") }
        awaitsWritable = true
    }

    func pauseReceive() { isReceiving = false }
    func resumeReceive() { isReceiving = true }

    func shutdownWrite() throws(Violation) {
        guard !isWriteShutDown else { throw Violation("shutdownWrite twice") }
        isWriteShutDown = true
    }

    func close(withReset: Bool) {
        wasReset = withReset
        stage = .closing
    }

    /// The socket takes what it has room for. Returns the count of bytes.
    private func take(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = min(bytes.count, room)
        if room != .max { room -= count }
        received += bytes.prefix(count)
        return count
    }
}

// MARK: - What the kernel reports

extension FakeSocket {
    /// There is something to report to the shard.
    public var hasEvents: Bool {
        switch stage {
        case .waiting, .offered, .closed: return false
        case .closing: return !closesLate || zeroCopy != nil || released != nil
        case .adopted:
            if released != nil || zeroCopy != nil && !holdsZeroCopy { return true }
            if awaitsWritable && (room > 0 || isBroken) || reportsFailure { return true }
            return isReceiving && !endIsReported && (!arriving.isEmpty || hasEnded)
        }
    }

    /// While receiving is paused the connection is watched for failure, even after its end.
    private var reportsFailure: Bool { failure != 0 && (isReceiving ? !endIsReported : !failureIsReported) }

    /// It failed after its end, when nothing is received that could tell: the next send will.
    private var isBroken: Bool { failure != 0 && endIsReported }

    /// Appends what there is to report. Received bytes lie in `lent`, and belong to the caller.
    func report(_ completions: inout Batch<Completion>, lent: inout [UnsafeMutableRawBufferPointer]) {
        if !holdsZeroCopy || stage == .closing { releaseZeroCopy() }
        if let count = released {
            released = nil
            completions.append(Completion(.sendReleased, connection: connection, value: count))
        }
        if stage == .adopted {
            if awaitsWritable, room > 0 || isBroken {
                awaitsWritable = false
                completions.append(Completion(.writable, connection: connection))
            }
            receive(&completions, lent: &lent)
        }
        if stage == .closing, !closesLate {
            stage = .closed
            completions.append(Completion(.closed, connection: connection))
        }
    }

    private func receive(_ completions: inout Batch<Completion>, lent: inout [UnsafeMutableRawBufferPointer]) {
        if reportsFailure {
            endIsReported = true
            failureIsReported = true
            completions.append(
                Completion(.receiveFailed, connection: connection, value: isReceiving ? -failure : -ECONNRESET))
            return
        }
        if endIsReported { return }
        if !isReceiving {
            guard pausesLate else { return }
            pausesLate = false
        }
        var byteCount = 0
        while !arriving.isEmpty, byteCount < Self.receiveByteCountPerTurnMax {
            let buffer = arriving.take(receiveByteCountMax > 0 ? receiveByteCountMax : .max)
            byteCount += buffer.count
            lent.append(buffer)
            completions.append(
                Completion(
                    .received, connection: connection, value: Int32(buffer.count),
                    pointer: UnsafeRawPointer(buffer.baseAddress)))
            if receiveByteCountMax > 0 { break }
        }
        if hasEnded, arriving.isEmpty {
            endIsReported = true
            completions.append(Completion(.receiveEnded, connection: connection))
        }
    }
}

/// Bytes under way, and where the pieces end in which they were written.
private struct ArrivingPieces {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var takenByteCount = 0
    private var takenPieceCount = 0

    var isEmpty: Bool { takenByteCount == bytes.count }

    mutating func append(_ piece: some Collection<UInt8>) {
        if piece.isEmpty { return }
        bytes += piece
        ends.append(bytes.count)
    }

    mutating func extend(_ piece: some Collection<UInt8>) {
        if isEmpty { return append(piece) }
        bytes += piece
        ends[ends.count - 1] = bytes.count
    }

    /// The next piece, or so many bytes of it, in memory of their own: whoever reads them after the turn is found.
    mutating func take(_ byteCountMax: Int) -> UnsafeMutableRawBufferPointer {
        let end = ends[takenPieceCount]
        let count = min(end - takenByteCount, byteCountMax)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        buffer.copyBytes(from: bytes[takenByteCount..<takenByteCount + count])
        takenByteCount += count
        if takenByteCount == end { takenPieceCount += 1 }
        if isEmpty { self = ArrivingPieces() }
        return buffer
    }
}
