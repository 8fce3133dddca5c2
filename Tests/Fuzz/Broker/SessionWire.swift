import Glibc
import IO
import STOMP
import Slabs

/// A connection: the broker's socket, what is under way, and the client at the other end.
final class SessionWire {
    enum Stage { case offered, adopted, closing, closed }

    let descriptor: Int32
    var stage = Stage.offered
    var shard: Int
    var slot = Slot.none

    // To the broker
    private var arriving: [UInt8] = []
    private var arrivingStart = 0
    /// The most octets of one receive. 0: no bound.
    var receiveByteCountMax = 0
    var hasEnded = false
    var failure: Int32 = 0
    var isReceiving = true
    /// A pause is honoured only after one more receive.
    var pausesLate = false
    private var endIsReported = false
    private var failureIsReported = false

    // To the client
    /// Octets that the socket takes before it is full.
    var room = Int.max
    /// The errno of the next send. 0: none.
    var sendFailure: Int32 = 0
    var awaitsWritable = false
    /// Zero-copy sends are released only when this is false.
    var holdsZeroCopy = false
    private var zeroCopy: (bytes: UnsafeRawPointer, byteCount: Int)?
    private var isShutDown = false
    var closesLate = false
    private var sentInTurn = 0

    // The client
    private var decoder = ClientFrameDecoder(
        limits: FrameLimits(headerByteCountMax: 65_535, headersByteCountMax: 1 << 20, bodyByteCountMax: 1 << 20))
    private(set) var version = Version.v1_2
    /// What ACK and NACK may name: pairs of the id and the subscription.
    private(set) var deliveries: [(id: String, subscription: String)] = []
    /// Addresses that others gave for replies.
    private(set) var replyDestination = "/reply-queue/0-0-0/none"

    init(descriptor: Int32, shard: Int) {
        self.descriptor = descriptor
        self.shard = shard
    }

    func write(_ octets: some Sequence<UInt8>) { if !hasEnded { arriving.append(contentsOf: octets) } }

    var hasEvents: Bool {
        guard stage == .adopted || stage == .closing else { return false }
        if stage == .closing && !closesLate || zeroCopy != nil && !holdsZeroCopy { return true }
        guard stage == .adopted else { return false }
        if awaitsWritable && room > 0 || reportsFailure { return true }
        return isReceiving && !endIsReported && (arrivingStart < arriving.count || hasEnded)
    }

    /// While receiving is paused, the connection is watched for failure even after the end.
    private var reportsFailure: Bool { failure != 0 && (isReceiving ? !endIsReported : !failureIsReported) }

    // MARK: The broker's requests

    /// Carries a request out; says what about it is against the rules.
    func carryOut(_ submission: Submission, turn: Int, _ completions: inout Batch<Completion>) -> String? {
        guard stage == .adopted else { return "\(submission.kind) after .close" }
        switch submission.kind {
        case .send, .sendVector, .sendZeroCopy: return send(submission, turn: turn, &completions)
        case .awaitWritable:
            if awaitsWritable { return "awaitWritable twice" }
            awaitsWritable = true
        case .pauseReceive: isReceiving = false
        case .resumeReceive: isReceiving = true
        case .shutdownWrite:
            if isShutDown { return "shutdownWrite twice" }
            if decoder.pendingByteCount > 0 { return "shut down within a frame" }
            isShutDown = true
        case .close: stage = .closing
        case .adopt, .refuse, .handOff, .wake, .stopAccepting, .resumeAccepting, .connect:
            return "\(submission.kind) is no request for a connection"
        }
        return nil
    }

    private func send(_ submission: Submission, turn: Int, _ completions: inout Batch<Completion>) -> String? {
        if sentInTurn == turn { return "two sends of one connection in one exchange" }
        sentInTurn = turn
        if awaitsWritable { return "a send before .writable" }
        if zeroCopy != nil { return "a send while a zero-copy send is under way" }
        if isShutDown { return "a send after shutdownWrite" }
        guard let pointer = submission.pointer else { return "a send of nothing" }
        if submission.kind == .sendZeroCopy {
            zeroCopy = (pointer, submission.byteCount)
            return submission.byteCount > 0 ? nil : "an empty send"
        }
        var pieces = [UnsafeRawBufferPointer(start: pointer, count: submission.byteCount)]
        if submission.kind == .sendVector {
            let vectors = pointer.assumingMemoryBound(to: iovec.self)
            pieces = (0..<submission.byteCount).map {
                UnsafeRawBufferPointer(start: vectors[$0].iov_base, count: vectors[$0].iov_len)
            }
        }
        let total = pieces.reduce(0) { $0 + $1.count }
        if total == 0 || pieces.count > 64 { return "a send of \(pieces.count) pieces and \(total) octets" }
        if submission.kind == .sendVector, total != Int(submission.value) { return "a vector's sum is wrong" }
        if sendFailure != 0 {
            completions.append(Completion(.sendIncomplete, connection: slot, value: -sendFailure))
            sendFailure = 0
            return nil
        }
        let taken = min(total, room)
        var left = taken
        for piece in pieces where left > 0 {
            if let fault = take(UnsafeRawBufferPointer(rebasing: piece.prefix(left))) { return fault }
            left -= min(left, piece.count)
        }
        if taken < total { completions.append(Completion(.sendIncomplete, connection: slot, value: Int32(taken))) }
        return nil
    }

    /// The socket takes octets, and the client reads whole frames.
    private func take(_ octets: UnsafeRawBufferPointer) -> String? {
        if room != .max { room -= octets.count }
        decoder.push(octets)
        do throws(FrameError) {
            while let frame = try decoder.pop() { read(frame) }
            return nil
        } catch {
            return "a client got what is no frame: \(error.code) at \(error.offset)"
        }
    }

    private func read(_ frame: ClientFrame) {
        if frame.command == .connected { version = decoder.version }
        guard frame.command == .message else { return }
        if let reply = frame["reply-to"] { replyDestination = reply }
        let id = version == .v1_2 ? frame["ack"] : frame["message-id"]
        deliveries.append((id ?? "", frame["subscription"] ?? ""))
        if deliveries.count > 16 { deliveries.removeFirst() }
    }

    // MARK: What the kernel reports

    func report(_ completions: inout Batch<Completion>, lent: inout [UnsafeMutableRawBufferPointer]) -> String? {
        if stage == .adopted { receive(&completions, lent: &lent) }
        if stage == .adopted, awaitsWritable, room > 0 {
            awaitsWritable = false
            completions.append(Completion(.writable, connection: slot))
        }
        if let sent = zeroCopy, !holdsZeroCopy || stage == .closing {
            zeroCopy = nil
            var value = Int32(min(sent.byteCount, room))
            if sendFailure != 0 {
                value = -sendFailure
                sendFailure = 0
            } else if let fault = take(UnsafeRawBufferPointer(start: sent.bytes, count: Int(value))) {
                return fault
            }
            completions.append(Completion(.sendReleased, connection: slot, value: value))
        }
        if stage == .closing, !closesLate {
            stage = .closed
            completions.append(Completion(.closed, connection: slot))
        }
        return nil
    }

    private func receive(_ completions: inout Batch<Completion>, lent: inout [UnsafeMutableRawBufferPointer]) {
        if reportsFailure {
            endIsReported = true
            failureIsReported = true
            completions.append(Completion(.receiveFailed, connection: slot, value: -failure))
            return
        }
        if endIsReported { return }
        if !isReceiving {
            guard pausesLate else { return }
            pausesLate = false
        }
        var count = min(arriving.count - arrivingStart, 65_536)
        if receiveByteCountMax > 0 { count = min(count, receiveByteCountMax) }
        if count > 0 {
            // Memory of its own, freed after the turn: whoever still reads it then is found.
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
            buffer.copyBytes(from: arriving[arrivingStart..<(arrivingStart + count)])
            arrivingStart += count
            lent.append(buffer)
            completions.append(
                Completion(
                    .received, connection: slot, value: Int32(count), pointer: UnsafeRawPointer(buffer.baseAddress!)))
        }
        if hasEnded, arrivingStart == arriving.count {
            endIsReported = true
            completions.append(Completion(.receiveEnded, connection: slot))
        }
    }
}
