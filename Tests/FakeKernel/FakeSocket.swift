internal import Glibc
public import IO
public import Slabs

/// A connection: the broker's side, as its driver reports it, and the client's side.
///
/// A test writes to it, takes the bytes that the broker sent, and sets faults: a full socket, failing sends, pauses and
/// closes that take effect late, zero-copy sends whose bytes the kernel keeps.
public final class FakeSocket {
    public enum Stage: Sendable {
        /// The next turn reports it to the shard.
        case waiting
        /// It was reported to the shard, which must answer in its next submissions.
        case offered
        case adopted
        /// The shard submitted `.close` and waits for `.closed`.
        case closing
        /// Closed, refused, or handed off to a worker that has ended.
        case closed
    }

    public let descriptor: Int32
    /// Its origin, as in `Completion.Kind.accepted`.
    public internal(set) var origin: ConnectionOrigin
    public internal(set) var stage = Stage.waiting
    /// The shard that has the connection, or to which it will be reported.
    public internal(set) var shard: Int
    /// The slot of the connection, after it was adopted.
    public internal(set) var connection = Slot.none

    // To the broker
    private var arriving = ArrivingPieces()
    /// The most bytes received in a turn, in one piece. 0: as many pieces as fit the receive buffers of a driver.
    public var receiveByteCountMax = 0
    /// A pause takes effect only after one more receive.
    public var pausesLate = false
    private var hasEnded = false
    private var endIsReported = false
    /// The errno of the connection's failure. 0: none.
    private var failure: Int32 = 0
    private var failureIsReported = false
    private var isReceiving = true

    // To the client
    /// Bytes that reached the client and were not read yet.
    public private(set) var received: [UInt8] = []
    /// Bytes that the socket takes before it is full.
    public var room = Int.max
    /// The errno of the next send. 0: none.
    public var sendFailure: Int32 = 0
    /// Only `releaseZeroCopy` and `.close` release the bytes of zero-copy sends.
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

    /// Makes a connection without a `FakeKernel`. `FakeKernel.accept` makes connections of a kernel.
    public init(descriptor: Int32, shard: Int, origin: ConnectionOrigin = ConnectionOrigin(packed: 0)) {
        self.descriptor = descriptor
        self.shard = shard
        self.origin = origin
    }

    /// The bytes received in one turn, limited as by the buffers of a driver.
    private static var receiveByteCountPerTurnMax: Int { 64 * 1024 }
    /// `Submission.Kind.sendVector`.
    private static var vectorCountMax: Int { 64 }
}

// MARK: - The client's end

extension FakeSocket {
    public var isClosed: Bool { stage == .closed }
    /// Whether the broker has paused receiving.
    public var isReceivePaused: Bool { !isReceiving }
    /// The kernel still reads the bytes of a zero-copy send.
    public var holdsBytes: Bool { zeroCopy != nil }

    /// Writes bytes for the broker, which receives them in one piece.
    public func write(_ bytes: some Collection<UInt8>) { if !hasEnded { arriving.append(bytes) } }

    /// Writes bytes for the broker, which receives them in one piece with earlier bytes that it has not received yet.
    public func writeOn(_ bytes: some Collection<UInt8>) { if !hasEnded { arriving.extend(bytes) } }

    /// Ends the client's sending side, after the written bytes.
    public func endSending() { hasEnded = true }

    /// The connection fails. Written bytes that were not received are lost.
    public func fail(errno: Int32) { failure = errno }

    public func takeReceived() -> [UInt8] {
        defer { received.removeAll() }
        return received
    }

    /// Releases the bytes of a zero-copy send. The client has received them.
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

    /// Takes as many bytes as there is room for. Returns their count.
    private func take(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = min(bytes.count, room)
        if room != .max { room -= count }
        received += bytes.prefix(count)
        return count
    }
}

// MARK: - What the kernel reports

extension FakeSocket {
    /// Whether there are events to report to the shard.
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

    /// Whether a failure of the paused connection must be reported. It is, even after the end.
    private var reportsFailure: Bool { failure != 0 && (isReceiving ? !endIsReported : !failureIsReported) }

    /// The connection failed after its end. No receive reports that; the next send does.
    private var isBroken: Bool { failure != 0 && endIsReported }

    /// Appends the events. Received bytes are in `lent`, which the caller owns.
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

/// Bytes under way, and the ends of the pieces in which they were written.
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

    /// Removes the next piece, or this many bytes of it, and returns them in new memory, so that a use after the turn
    /// is detected.
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
