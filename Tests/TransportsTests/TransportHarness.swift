import Glibc
import IO
import Slabs

@testable import Transports

/// One connection, as the fake driver and the fake core see it.
final class FakeConnection {
    let slot: Slot
    let descriptor: Int32

    // The peer
    /// Pieces that arrive in the next poll.
    var arriving: [[UInt8]] = []
    var peerEnds = false
    /// Bytes that the socket takes before it is full.
    var room = Int.max
    /// The errno of the next send. 0: none.
    var sendFailure: Int32 = 0
    /// All that the peer has received.
    var wire: [UInt8] = []

    // The driver
    var isReceiving = true
    var awaitsWritable = false
    var isShutDown = false
    var wasClosed = false
    var wasReset = false
    var sendCount = 0
    fileprivate var lastSendPoll = 0
    fileprivate var endWasReported = false

    // The core
    /// What the core has to send, in runs.
    var output: [[UInt8]] = []
    var usesZeroCopy = false
    var received: [UInt8] = []
    var receiveEndCount = 0
    var failure: Int32 = 0
    var coreAwaitsWritable = false
    var zeroCopyInFlight = false
    /// The core flushes and closes when its input has ended.
    var closesAtEnd = true
    /// The core flushes, shuts its side down and waits for the peer's end.
    var ends = false
    var hasShutDown = false
    var hasClosed = false
    var closedIsReported = false
    var versionBits: UInt8 = 0
    var origin: ConnectionOrigin?
    /// Bytes of the core that are with the kernel.
    var sentByteCount = 0
    fileprivate var sending = 0

    init(_ slot: Slot, _ descriptor: Int32) {
        self.slot = slot
        self.descriptor = descriptor
    }

    var outputByteCount: Int { output.reduce(0) { $0 + $1.count } }

    func write(_ bytes: [UInt8]) { arriving.append(bytes) }
    func write(_ frames: WireFrame...) { arriving.append(frames.flatMap { $0.masked() }) }

    fileprivate func dropOutput(_ count: Int) {
        var left = count
        while left > 0 {
            let taken = min(left, output[0].count)
            left -= taken
            if taken == output[0].count { output.removeFirst() } else { output[0].removeFirst(taken) }
        }
        sentByteCount += count
    }
}

/// The layer between a driver and a core that keep to the contract of `Submission.Kind` and check that it does.
final class TransportHarness {
    var layer: TransportLayer
    var now: UInt64 = 10_000_000_000
    var connections: [FakeConnection] = []
    var violations: [String] = []
    /// What the last `lower` has answered.
    var deadline: UInt64 = 0
    /// Submissions of the core besides its sends.
    var submissions = Batch<Submission>(capacity: 16)
    private var completions = Batch<Completion>(capacity: 16)
    private var pollCount = 0
    private var memory: [UnsafeMutableRawPointer] = []
    /// Runs of the same bytes lie at the same place within a turn, as those of a message to many subscribers do.
    var sharesRuns = false
    private var shared: [[UInt8]: UnsafeMutableRawPointer] = [:]

    init(_ listeners: [ListenerTransport]) {
        layer = try! TransportLayer(listeners: listeners, connectionCountMax: 64, now: now)
    }

    static func webSocket(_ change: (inout ListenerTransport) -> Void = { _ in }) -> TransportHarness {
        var listener = HTTPUpgradeTests.listener
        change(&listener)
        return TransportHarness([listener])
    }

    // MARK: Connections

    /// A connection is accepted and adopted.
    func accept(listener: UInt8 = 0, address: String? = nil) -> FakeConnection {
        let index = UInt32(connections.count + 1)
        let connection = FakeConnection(Slot(index: index, generation: 7 + index), Int32(100 + index))
        connections.append(connection)
        let origin = ConnectionOrigin(listener: ListenerID(rawValue: listener), address: 0xC000_0201)
        completions.append(Completion(accepted: connection.descriptor, from: origin))
        layer.raise(&completions)
        connection.origin = completions[0].origin
        completions.removeAll()
        while layer.nextUnverified() != nil { layer.verify(address) }
        submissions.append(Submission(.adopt, connection: connection.slot, value: connection.descriptor))
        turn()
        return connection
    }

    /// A WebSocket that is open.
    func open(adding lines: [String] = []) -> FakeConnection {
        let connection = accept()
        connection.write(HTTPUpgradeTests.request(adding: lines))
        turn()
        turn()
        if !connection.wire.starts(with: "HTTP/1.1 101 ".utf8) { violations.append("the handshake failed") }
        connection.wire = []
        return connection
    }

    // MARK: Turns

    /// One poll and one turn of the core.
    func turn() {
        pollCount += 1
        buildSends()
        deadline = layer.lower(&submissions, now: now)
        for place in 0..<submissions.count { carryOut(submissions[place]) }
        submissions.removeAll()
        report()
        let waits = completions.isEmpty && deadline > now
        layer.raise(&completions)
        if waits, !completions.isEmpty { violations.append("a driver that waits keeps this from the core") }
        for place in 0..<completions.count { apply(completions[place]) }
        completions.removeAll()
        endTurn()
        for pointer in memory { pointer.deallocate() }
        memory.removeAll()
        shared.removeAll()
    }

    func turns(_ count: Int) { for _ in 0..<count { turn() } }

    // MARK: The core

    private func copy(_ bytes: [UInt8]) -> UnsafeMutableRawPointer {
        if sharesRuns, let pointer = shared[bytes] { return pointer }
        let pointer = UnsafeMutableRawPointer.allocate(byteCount: max(bytes.count, 1), alignment: 1)
        if sharesRuns { shared[bytes] = pointer }
        bytes.withUnsafeBytes { pointer.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
        memory.append(pointer)
        return pointer
    }

    private func buildSends() {
        for connection in connections
        where !connection.output.isEmpty && !connection.coreAwaitsWritable && !connection.hasClosed
            && !connection.hasShutDown
        {
            let runs = connection.output.prefix(64)
            connection.sending = runs.reduce(0) { $0 + $1.count }
            if runs.count == 1 {
                connection.zeroCopyInFlight = connection.usesZeroCopy
                submissions.append(
                    Submission(
                        connection.usesZeroCopy ? .sendZeroCopy : .send, connection: connection.slot,
                        pointer: UnsafeRawPointer(copy(runs[0])), byteCount: runs[0].count))
                continue
            }
            let vector = UnsafeMutablePointer<iovec>.allocate(capacity: runs.count)
            memory.append(UnsafeMutableRawPointer(vector))
            for (place, run) in runs.enumerated() { vector[place] = iovec(iov_base: copy(run), iov_len: run.count) }
            submissions.append(
                Submission(
                    .sendVector, connection: connection.slot, value: Int32(connection.sending),
                    pointer: UnsafeRawPointer(vector), byteCount: runs.count))
        }
    }

    private func apply(_ completion: Completion) {
        guard let connection = connections.first(where: { $0.slot == completion.connection }) else {
            violations.append("a completion of nobody: \(completion.kind)")
            return
        }
        if connection.closedIsReported { violations.append("\(completion.kind) after .closed") }
        switch completion.kind {
        case .received:
            if connection.receiveEndCount > 0 { violations.append("bytes after the end") }
            if completion.value <= 0 { violations.append("a receive of \(completion.value)") }
            connection.received += UnsafeRawBufferPointer(start: completion.pointer, count: Int(completion.value))
        case .receiveEnded: connection.receiveEndCount += 1
        case .receiveFailed: connection.failure = completion.value
        case .sendIncomplete:
            if completion.value < 0 {
                connection.failure = completion.value
                connection.sending = 0
            } else {
                if Int(completion.value) >= connection.sending { violations.append("all was taken, or more") }
                fallShort(connection, Int(completion.value))
            }
        case .sendReleased:
            if !connection.zeroCopyInFlight { violations.append("a release of nothing") }
            connection.zeroCopyInFlight = false
            if Int(completion.value) < connection.sending { fallShort(connection, Int(completion.value)) }
        case .writable:
            if !connection.coreAwaitsWritable { violations.append(".writable that nobody waits for") }
            connection.coreAwaitsWritable = false
        case .closed: connection.closedIsReported = true
        case .identified:
            if completion.value != 0 { connection.versionBits = UInt8(completion.value) }
            if completion.address != 0 { connection.origin = completion.origin }
        default: violations.append("\(completion.kind)")
        }
    }

    private func fallShort(_ connection: FakeConnection, _ count: Int) {
        connection.dropOutput(count)
        connection.sending = 0
        connection.coreAwaitsWritable = true
        submissions.append(Submission(.awaitWritable, connection: connection.slot))
    }

    private func endTurn() {
        for connection in connections {
            if connection.sending > 0 {
                if connection.zeroCopyInFlight { violations.append("no release of a zero-copy send") }
                connection.dropOutput(connection.sending)
                connection.sending = 0
            }
            guard !connection.hasClosed, connection.closesAtEnd else { continue }
            if connection.ends, !connection.hasShutDown, connection.output.isEmpty, connection.receiveEndCount == 0 {
                connection.hasShutDown = true
                submissions.append(Submission(.shutdownWrite, connection: connection.slot))
                continue
            }
            if connection.failure != 0 || connection.receiveEndCount > 0 && connection.output.isEmpty {
                connection.output = []
                close(connection)
            }
        }
    }

    func close(_ connection: FakeConnection, reset: Bool = false) {
        connection.hasClosed = true
        submissions.append(Submission(.close, connection: connection.slot, value: reset ? 1 : 0))
    }

    // MARK: The driver

    private func carryOut(_ submission: Submission) {
        if submission.kind == .refuse || submission.kind == .handOff { return }
        guard let connection = connections.first(where: { $0.slot == submission.connection }) else {
            return violations.append("\(submission.kind) of nobody")
        }
        if connection.wasClosed { violations.append("\(submission.kind) after .close") }
        switch submission.kind {
        case .adopt: break
        case .send, .sendVector: send(submission, connection)
        case .awaitWritable:
            if connection.awaitsWritable { violations.append("awaitWritable twice") }
            connection.awaitsWritable = true
        case .pauseReceive: connection.isReceiving = false
        case .resumeReceive: connection.isReceiving = true
        case .shutdownWrite:
            if connection.isShutDown { violations.append("shutdownWrite twice") }
            connection.isShutDown = true
        case .close:
            connection.wasClosed = true
            connection.wasReset = submission.value == 1
        default: violations.append("\(submission.kind)")
        }
    }

    private func send(_ submission: Submission, _ connection: FakeConnection) {
        if connection.lastSendPoll == pollCount { violations.append("two sends in one poll") }
        if connection.awaitsWritable { violations.append("a send before .writable") }
        if connection.isShutDown { violations.append("a send after shutdownWrite") }
        connection.lastSendPoll = pollCount
        connection.sendCount += 1
        var bytes: [UInt8] = []
        if submission.kind == .sendVector {
            if !(1...96).contains(submission.byteCount) { violations.append("\(submission.byteCount) vectors") }
            let vectors = submission.pointer!.assumingMemoryBound(to: iovec.self)
            for place in 0..<submission.byteCount {
                if vectors[place].iov_len == 0 { violations.append("an empty vector") }
                bytes += UnsafeRawBufferPointer(start: vectors[place].iov_base, count: vectors[place].iov_len)
            }
            if bytes.count != Int(submission.value) { violations.append("a vector's sum is wrong") }
        } else {
            bytes += UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount)
        }
        if bytes.isEmpty { violations.append("an empty send") }
        if connection.sendFailure != 0 {
            completions.append(
                Completion(.sendIncomplete, connection: connection.slot, value: -connection.sendFailure))
            connection.sendFailure = 0
            return
        }
        let taken = min(bytes.count, connection.room)
        if connection.room != .max { connection.room -= taken }
        connection.wire += bytes[..<taken]
        if taken < bytes.count {
            completions.append(Completion(.sendIncomplete, connection: connection.slot, value: Int32(taken)))
        }
    }

    private func report() {
        for connection in connections where !connection.closedIsReported {
            if connection.wasClosed {
                completions.append(Completion(.closed, connection: connection.slot))
                continue
            }
            if connection.awaitsWritable, connection.room > 0 {
                connection.awaitsWritable = false
                completions.append(Completion(.writable, connection: connection.slot))
            }
            guard connection.isReceiving, !connection.endWasReported else { continue }
            for piece in connection.arriving where !piece.isEmpty {
                completions.append(
                    Completion(
                        .received, connection: connection.slot, value: Int32(piece.count),
                        pointer: UnsafeRawPointer(copy(piece))))
            }
            connection.arriving = []
            if connection.peerEnds {
                connection.endWasReported = true
                completions.append(Completion(.receiveEnded, connection: connection.slot))
            }
        }
    }
}
