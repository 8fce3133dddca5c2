import Drivers
import Glibc
import IO
import Slabs

extension Engine where D: ~Copyable {
    mutating func received(_ place: Int, _ bytes: UnsafeRawPointer, _ byteCount: Int) {
        var next = bytes
        let end = bytes + byteCount
        if plan.heartBeatMilliseconds > 0 { heard(place) }
        if clients[place].partial != 0 {
            guard let rest = completePartial(place, next, end) else { return }
            next = rest
        } else if byteCount == 1, next.load(as: UInt8.self) == 10 {
            report.counts.beats += 1
            return
        }
        while true {
            next = skipLineEnds(next, end)
            guard next < end, let frame = scanner.scan(next, end) else { break }
            take(frame, place)
            guard clients[place].phase != .closing else { return }
            next = frame.next
        }
        // This comes before a block is taken for the rest, because the identifier may be in the block that was just
        // freed.
        if pendingAcknowledgement.count > 0 { acknowledgeAll(place) }
        if next < end { keepPartial(place, next, end) }
    }

    /// STOMP heart-beats, and line ends after frames.
    private func skipLineEnds(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> UnsafeRawPointer {
        var next = start
        while next < end {
            let byte = next.load(as: UInt8.self)
            guard byte == 10 || byte == 13 else { break }
            next += 1
        }
        return next
    }

    private mutating func keepPartial(_ place: Int, _ start: UnsafeRawPointer, _ end: UnsafeRawPointer) {
        guard end - start <= partials.byteCount else {
            return fail(place, "a frame longer than any that was asked for")
        }
        let index = partials.take()
        memcpy(partials[index], start, end - start)
        clients[place].partial = index
        clients[place].partialByteCount = UInt32(end - start)
    }

    /// Appends the new bytes to the kept ones. Returns the position in the new bytes at which the frame ended. nil: it
    /// is still incomplete.
    private mutating func completePartial(
        _ place: Int, _ start: UnsafeRawPointer, _ end: UnsafeRawPointer
    ) -> UnsafeRawPointer? {
        let index = clients[place].partial
        let kept = Int(clients[place].partialByteCount)
        let block = partials[index]
        let added = min(end - start, partials.byteCount - kept)
        memcpy(block + kept, start, added)
        guard let frame = scanner.scan(UnsafeRawPointer(block), UnsafeRawPointer(block) + kept + added) else {
            clients[place].partialByteCount = UInt32(kept + added)
            if kept + added == partials.byteCount { fail(place, "a frame longer than any that was asked for") }
            return nil
        }
        clients[place].partial = 0
        let used = frame.next - UnsafeRawPointer(block) - kept
        take(frame, place)
        partials.giveBack(index)
        return clients[place].phase == .closing ? nil : start + used
    }

    @inline(__always)
    private mutating func take(_ frame: FrameScanner.Frame, _ place: Int) {
        if _fastPath(frame.kind == .message) { return delivered(frame, place) }
        takeOther(frame, place)
    }

    private mutating func takeOther(_ frame: FrameScanner.Frame, _ place: Int) {
        switch frame.kind {
        case .message: break
        case .connected: greeted(place)
        case .receipt: receipt(frame, place)
        case .ping: say(requests.pong, place)
        case .error:
            let count = min(frame.next - frame.head, 300)
            let text = String(decoding: UnsafeRawBufferPointer(start: frame.head, count: count), as: UTF8.self)
            fail(place, text.replacing("\n", with: " | ").replacing("\0", with: ""))
        case .other: if plan.dialect == .stomp { fail(place, "an unknown or malformed frame") }
        }
    }

    private mutating func fail(_ place: Int, _ text: String) {
        // An ERROR to a stalled subscriber is expected, and so is the end of its connection.
        if !clients[place].isStalled { control.fail("the server sent \(text)") }
        ended(place, errorNumber: 0)
    }

    private mutating func receipt(_ frame: FrameScanner.Frame, _ place: Int) {
        if clients[place].phase == .subscribing { return subscribed(place) }
        if plan.isConfirmed { return confirmed(frame, place) }
        guard plan.usesReceipts, clients[place].publisher != 0 else { return }
        let publisher = Int(clients[place].publisher) - 1
        var count = publishers[publisher].completed + UInt64(plan.flow == .closed ? plan.segment : 1)
        if plan.dialect == .stomp, let value = FrameScanner.value(of: "receipt-id", in: frame),
            let start = value.baseAddress, let number = FrameScanner.number(start, start + value.count)
        {
            count = UInt64(number)
        }
        guard count > publishers[publisher].completed, count <= publishers[publisher].next else {
            // A receipt for messages that were already confirmed or never sent.
            report.anomalies.duplicated += 1
            return
        }
        report.counts.confirmed += Int(count - publishers[publisher].completed)
        // Without subscribers, a confirmed message counts as arrived. In a backlog for subscribers it does not.
        if plan.backlog == 0 || plan.subscriberCount == 0 {
            report.counts.outstanding -= Int(count - publishers[publisher].completed)
        }
        publishers[publisher].completed = count
        allowPublishing(publisher)
    }

    // MARK: Deliveries

    @inline(__always)
    private mutating func delivered(_ frame: FrameScanner.Frame, _ place: Int) {
        guard frame.bodyByteCount == plan.bodyByteCount, let message = body.read(frame.body) else {
            report.anomalies.corrupt += 1
            return
        }
        // Messages of a stalled subscriber that reads again at the end are not checked.
        if clients[place].isStalled { return }
        let isExpected: Bool
        switch plan.delivery {
        case .topic: isExpected = deliveredByTopic(message.publisher, message.sequence, place)
        case .queue:
            isExpected = deliveredByQueue(message.publisher, message.sequence)
            if plan.acknowledgement != .auto { acknowledge(frame, place) }
        case .reply:
            // The first client answers requests. Its deliveries are half of the work, so they are counted.
            if clients[place].publisher == 0 { return answer(frame, requester: message.publisher, place) }
            isExpected = replied(message.publisher, message.sequence, place)
        }
        // An unexpected message is an anomaly and does not count as progress.
        guard isExpected else { return }
        report.counts.delivered += 1
        report.counts.outstanding -= 1
        if message.stamp == latencyStamp {
            latencyCount += 1
        } else {
            recordLatency()
            latencyStamp = message.stamp
            latencyCount = 1
        }
    }

    /// Records the counted deliveries if the load is in the measured phase.
    mutating func recordLatency() {
        if phase == .measure, latencyCount > 0 {
            let latency = now > latencyStamp ? now - latencyStamp : 0
            _ = report.latencies.record(min(latency, 3_600_000_000_000), count: latencyCount)
        }
        latencyCount = 0
    }

    /// Returns false if it is a duplicate or not for this subscriber.
    @inline(__always)
    private mutating func deliveredByTopic(_ publisher: Int, _ sequence: UInt64, _ place: Int) -> Bool {
        let destination = Int(clients[place].subscription) - 1
        let rank = publisher - destination * plan.publishersPerDestination
        guard rank >= 0, rank < plan.publishersPerDestination else {
            report.anomalies.corrupt += 1
            return false
        }
        guard expect(sequence, expectations + Int(clients[place].expectations) + rank) else { return false }
        if plan.flow == .closed, (sequence + 1) & UInt64(plan.segment - 1) == 0 { segmentArrived(publisher, sequence) }
        return true
    }

    /// Returns true if the message is the expected one or a later one. Messages in between are counted as lost. Returns
    /// false if it is a duplicate, or came too late and was already counted as lost.
    @inline(__always)
    private mutating func expect(_ sequence: UInt64, _ expected: UnsafeMutablePointer<UInt32>) -> Bool {
        let low = UInt32(truncatingIfNeeded: sequence)
        if _slowPath(expected.pointee != low) {
            let distance = Int32(truncatingIfNeeded: Int64(low) - Int64(expected.pointee))
            if distance == -1 { report.anomalies.duplicated += 1 }
            if distance < -1 { report.anomalies.misordered += 1 }
            guard distance > 0 else { return false }
            report.anomalies.lost += Int(distance)
            report.counts.outstanding -= Int(distance)
        }
        expected.pointee = low &+ 1
        return true
    }

    /// A subscriber has received the last message of a segment. When all subscribers have, the window of the publisher
    /// moves.
    private mutating func segmentArrived(_ publisher: Int, _ sequence: UInt64) {
        let segment = Int(sequence) / plan.segment
        let count = publishers[publisher].countSegment(segment)
        guard Int(count) == plan.fanOut else { return }
        publishers[publisher].clearSegment(segment)
        publishers[publisher].completed += UInt64(plan.segment)
        allowPublishing(publisher)
    }

    /// Returns false if more messages have come than were sent. It is not known which ones are duplicates;
    /// `checkConservation` counts them.
    @inline(__always)
    private mutating func deliveredByQueue(_ publisher: Int, _ sequence: UInt64) -> Bool {
        guard publisher < share.publishers.count else {
            report.anomalies.corrupt += 1
            return false
        }
        let state = publishers + publisher
        state.pointee.receivedCount += 1
        state.pointee.receivedSum &+= sequence
        if plan.isOrdered, sequence + 1 != state.pointee.receivedCount { report.anomalies.misordered += 1 }
        // Messages of a backlog, and those that are confirmed one by one, are counted by their receipts.
        if plan.isConfirmed { return report.counts.delivered < report.counts.published }
        guard plan.backlog == 0 else { return state.pointee.receivedCount <= state.pointee.next }
        guard state.pointee.completed < state.pointee.next else { return false }
        state.pointee.completed += 1
        if state.pointee.next - state.pointee.completed + UInt64(plan.segment) <= UInt64(plan.window) {
            allowPublishing(publisher)
        }
        return true
    }

    // MARK: Requests and replies

    private mutating func answer(_ frame: FrameScanner.Frame, requester: Int, _ place: Int) {
        guard requester < share.publishers.count else {
            report.anomalies.corrupt += 1
            return
        }
        report.counts.delivered += 1
        let head = requests.sendHead[requester + 1]
        let tail = requests.sendTail
        let outbox = outbox(of: place, head.byteCount + frame.bodyByteCount + tail.byteCount)
        let bytes = outbox.pointee.bytes + outbox.pointee.end
        memcpy(bytes, head.base, head.byteCount)
        memcpy(bytes + head.byteCount, frame.body, frame.bodyByteCount)
        memcpy(bytes + head.byteCount + frame.bodyByteCount, tail.base, tail.byteCount)
        outbox.pointee.end += head.byteCount + frame.bodyByteCount + tail.byteCount
    }

    private mutating func replied(_ publisher: Int, _ sequence: UInt64, _ place: Int) -> Bool {
        guard publisher + 1 == Int(clients[place].publisher) else {
            report.anomalies.corrupt += 1
            return false
        }
        guard expect(sequence, expectations + Int(clients[place].expectations)) else { return false }
        publishers[publisher].completed += 1
        allowPublishing(publisher)
        return true
    }

    // MARK: Acknowledgements

    private mutating func acknowledge(_ frame: FrameScanner.Frame, _ place: Int) {
        guard let identifier = identifier(of: frame) else {
            report.anomalies.corrupt += 1
            return
        }
        if plan.acknowledgement == .clientIndividual { return sayAcknowledgement(identifier, place) }
        pendingAcknowledgement = identifier
    }

    private func identifier(of frame: FrameScanner.Frame) -> UnsafeRawBufferPointer? {
        switch plan.dialect {
        case .beanstalk: BeanstalkLine.identifier(of: frame)
        case .nats: JetStream.replySubject(of: frame)
        case .stomp, .mqtt, .resp: FrameScanner.value(of: "ack", in: frame)
        }
    }

    /// With cumulative acknowledgements, the last message of a receive acknowledges the others.
    private mutating func acknowledgeAll(_ place: Int) {
        sayAcknowledgement(pendingAcknowledgement, place)
        pendingAcknowledgement = UnsafeRawBufferPointer(start: nil, count: 0)
    }

    private mutating func sayAcknowledgement(_ identifier: UnsafeRawBufferPointer, _ place: Int) {
        let start = requests.acknowledgementStart
        let tail = requests.acknowledgementEnd
        let outbox = outbox(of: place, start.byteCount + identifier.count + tail.byteCount)
        let bytes = outbox.pointee.bytes + outbox.pointee.end
        memcpy(bytes, start.base, start.byteCount)
        memcpy(bytes + start.byteCount, identifier.baseAddress!, identifier.count)
        memcpy(bytes + start.byteCount + identifier.count, tail.base, tail.byteCount)
        outbox.pointee.end += start.byteCount + identifier.count + tail.byteCount
    }

    // MARK: The end

    /// Queues: checks that each message that was sent has arrived once. Missing messages are still outstanding and are
    /// counted as lost, for all threads together.
    mutating func checkConservation() {
        guard plan.delivery == .queue else { return }
        for index in share.publishers {
            let publisher = publishers[index]
            let missing = Int(publisher.next) - Int(publisher.receivedCount)
            let wantedSum = publisher.next * (max(publisher.next, 1) - 1) / 2
            if missing < 0 { report.anomalies.duplicated -= missing }
            if missing == 0, publisher.receivedSum != wantedSum { report.anomalies.corrupt += 1 }
        }
    }
}
