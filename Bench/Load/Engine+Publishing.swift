import Drivers
import Glibc
import IO
import Slabs

/// The clock of an open loop. Message `k` of all publishers together is due at `start + k * interval`.
struct Pace {
    private var start: UInt64 = 0
    private var interval = 0.0
    private(set) var sentCount = 0

    mutating func begin(now: UInt64, messagesPerSecond: Double) {
        start = now
        interval = 1e9 / messagesPerSecond
    }

    mutating func stop() { interval = 0 }

    /// The time at which the next message is due. `.max`: none.
    var deadline: UInt64 { interval == 0 ? .max : start + UInt64(Double(sentCount) * interval) }

    mutating func advance() { sentCount += 1 }
}

extension Engine where D: ~Copyable {
    mutating func startPublishing() {
        switch plan.flow {
        case .closed: for publisher in share.publishers { allowPublishing(publisher) }
        case .paced(let rate):
            if !share.publishers.isEmpty {
                pace.begin(now: monotonicNanoseconds(), messagesPerSecond: rate * Double(share.publishers.count))
            }
        case .broadcast: break
        }
    }

    mutating func allowPublishing(_ publisher: Int) {
        guard plan.flow == .closed, !publishers[publisher].isListed else { return }
        publishers[publisher].isListed = true
        mayPublish.append(UInt32(publisher))
    }

    mutating func publish() {
        guard phase == .warmUp || phase == .measure else { return }
        switch plan.flow {
        case .closed: if plan.isConfirmed { publishConfirmed() } else { publishWindows() }
        case .paced: publishDue()
        case .broadcast:
            guard !share.publishers.isEmpty else { return }
            while broadcastCount < control.broadcastCount {
                broadcastCount += 1
                write(0, count: 1, stamp: monotonicNanoseconds(), isLast: false)
            }
        }
    }

    private mutating func publishWindows() {
        guard !mayPublish.isEmpty else { return }
        let stamp = monotonicNanoseconds()
        let segment = UInt64(plan.segment)
        for position in 0..<mayPublish.count {
            let index = Int(mayPublish[position])
            let publisher = publishers + index
            publisher.pointee.isListed = false
            // Bytes that the socket has not taken yet are sent first. Then this publisher is listed again.
            let client = clients[Int(publisher.pointee.client)]
            guard client.outbox == 0, client.phase == .ready else { continue }
            while publisher.pointee.next - publisher.pointee.completed + segment <= UInt64(plan.window),
                plan.backlog == 0 || publisher.pointee.next < plan.backlog
            {
                write(index, count: Int(segment), stamp: stamp, isLast: plan.usesReceipts)
            }
        }
        mayPublish.removeAll()
    }

    private mutating func publishDue() {
        now = monotonicNanoseconds()
        while pace.deadline <= now {
            let stamp = pace.deadline
            write(pace.sentCount % share.publishers.count, count: 1, stamp: stamp, isLast: plan.usesReceipts)
            pace.advance()
        }
    }

    /// Appends `count` messages to the outbox of the publisher. With `isLast`, the last message asks for a receipt.
    private mutating func write(_ index: Int, count: Int, stamp: UInt64, isLast: Bool) {
        let publisher = publishers + index
        let head = requests.sendHead[Int(publisher.pointee.destination)]
        let tail = requests.sendTail
        let place = Int(publisher.pointee.client)
        guard clients[place].phase == .ready else { return }
        let frameByteCount = head.byteCount + plan.bodyByteCount + tail.byteCount
        let outbox = outbox(of: place, (frameByteCount + Self.receiptByteCountMax) * count)
        var next = outbox.pointee.bytes + outbox.pointee.end
        for position in 0..<count {
            let sequence = publisher.pointee.next
            publisher.pointee.next += 1
            if isLast, position == count - 1, plan.dialect == .stomp {
                next = writeReceipt(next, sequence: sequence)
                memcpy(next, head.base + Requests.sendCommandByteCount, head.byteCount - Requests.sendCommandByteCount)
                next += head.byteCount - Requests.sendCommandByteCount
            } else {
                memcpy(next, head.base, head.byteCount)
                next += head.byteCount
            }
            body.write(to: next, publisher: index, sequence: sequence, stamp: stamp)
            next += plan.bodyByteCount
            memcpy(next, tail.base, tail.byteCount)
            next += tail.byteCount
        }
        outbox.pointee.end = next - outbox.pointee.bytes
        report.counts.published += count
        report.counts.outstanding += count * max(plan.fanOut, 1)
        if isLast, plan.dialect != .stomp { say(requests.ping, place) }
    }

    private static var receiptByteCountMax: Int { 40 }

    /// The id of a receipt is the number of messages that it confirms.
    private func writeReceipt(_ bytes: UnsafeMutableRawPointer, sequence: UInt64) -> UnsafeMutableRawPointer {
        let start = Requests.receiptStart
        memcpy(bytes, start.base, start.byteCount)
        var next = bytes + start.byteCount
        next = writeDecimal(next, sequence + 1)
        next.storeBytes(of: UInt8(ascii: "\n"), as: UInt8.self)
        return next + 1
    }

    func writeDecimal(_ bytes: UnsafeMutableRawPointer, _ value: UInt64) -> UnsafeMutableRawPointer {
        var digitCount = 1
        var bound: UInt64 = 10
        while value >= bound {
            digitCount += 1
            bound *= 10
        }
        var rest = value
        for place in stride(from: digitCount - 1, through: 0, by: -1) {
            bytes.storeBytes(of: UInt8(48 + rest % 10), toByteOffset: place, as: UInt8.self)
            rest /= 10
        }
        return bytes + digitCount
    }
}

// MARK: - Heart-beats

/// Spreads the heart-beats of all clients evenly over the interval.
struct Beat {
    private(set) var deadline = UInt64.max
    private(set) var nextPlace = 1
    static let stepNanoseconds: UInt64 = 100_000_000

    mutating func begin(now: UInt64) { deadline = now + Self.stepNanoseconds }

    /// The indices of the clients that send a heart-beat now, of `count` clients that send one in each `interval`.
    mutating func step(count: Int, interval: UInt64) -> Range<Int> {
        deadline += Self.stepNanoseconds
        let stepsPerInterval = max(1, Int(interval / Self.stepNanoseconds))
        let from = nextPlace
        let to = min(count + 1, from + (count + stepsPerInterval - 1) / stepsPerInterval)
        nextPlace = to > count ? 1 : to
        return from..<to
    }
}

extension Engine where D: ~Copyable {
    /// Clients send a heart-beat after nine tenths of the interval that they promised.
    mutating func keepAlive() {
        guard plan.heartBeatMilliseconds > 0, phase != .close else { return }
        if beat.deadline == .max { beat.begin(now: now) }
        while beat.deadline <= now {
            let interval = UInt64(plan.heartBeatMilliseconds) * 1_000_000 / 10 * 9
            for place in beat.step(count: clientCount, interval: interval)
            where clients[place].phase == .ready && clients[place].outbox == 0 {
                say(requests.heartBeat, place)
                report.silences.sent += 1
            }
        }
    }

    /// Bytes arrived: a heart-beat, or a frame, which counts as one.
    mutating func heard(_ place: Int) {
        if clients[place].phase == .ready { countSilence(place) }
        clients[place].heardAt = nowMilliseconds
    }

    mutating func countLastSilences() {
        guard plan.heartBeatMilliseconds > 0 else { return }
        for place in 1..<(clientCount + 1) where clients[place].phase == .ready { countSilence(place) }
    }

    private mutating func countSilence(_ place: Int) {
        report.silences.count(
            milliseconds: Int(nowMilliseconds &- clients[place].heardAt), interval: plan.heartBeatMilliseconds)
    }

    /// It wraps after 49 days.
    private var nowMilliseconds: UInt32 { UInt32(truncatingIfNeeded: now / 1_000_000) }
}
