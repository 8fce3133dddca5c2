import Drivers
import Glibc
import IO
import Slabs

// Messages that are confirmed one by one: what a publisher does that wants each of them to be safe.
extension Engine where D: ~Copyable {
    /// Fills the windows of the publishers that may send. A server that confirms many messages at a time gets as many at
    /// a time.
    mutating func publishConfirmed() {
        guard !mayPublish.isEmpty, report.counts.outstanding <= plan.unconsumedMax else { return }
        let stamp = monotonicNanoseconds()
        for position in 0..<mayPublish.count {
            let index = Int(mayPublish[position])
            let publisher = publishers + index
            publisher.pointee.isListed = false
            // Bytes that the socket has not taken yet are sent first. Then this publisher is listed again.
            let client = clients[Int(publisher.pointee.client)]
            guard client.outbox == 0, client.phase == .ready else { continue }
            let count = plan.window - Int(publisher.pointee.next - publisher.pointee.completed)
            if count > 0 { writeConfirmed(index, count: count, stamp: stamp) }
        }
        mayPublish.removeAll()
    }

    private mutating func writeConfirmed(_ index: Int, count: Int, stamp: UInt64) {
        guard let requests = requests.confirmed else { return }
        let publisher = publishers + index
        let before = requests.before[index]
        let after = requests.after[Int(publisher.pointee.destination)]
        let frameByteCount =
            before.byteCount + ConfirmedRequests.digitCountMax + after.byteCount + plan.bodyByteCount
            + requests.tail.byteCount
        let outbox = outbox(of: Int(publisher.pointee.client), frameByteCount * count)
        var next = outbox.pointee.bytes + outbox.pointee.end
        func append(_ text: Text) {
            memcpy(next, text.base, text.byteCount)
            next += text.byteCount
        }
        for _ in 0..<count {
            let sequence = publisher.pointee.next
            publisher.pointee.next += 1
            unconfirmed[place(index, sequence)] = stamp
            append(before)
            if requests.isNumbered { next = writeDecimal(next, sequence) }
            append(after)
            body.write(to: next, publisher: index, sequence: sequence, stamp: stamp)
            next += plan.bodyByteCount
            append(requests.tail)
        }
        outbox.pointee.end = next - outbox.pointee.bytes
        report.counts.published += count
        report.counts.outstanding += count
    }

    private func place(_ publisher: Int, _ sequence: UInt64) -> Int {
        publisher * plan.window + Int(sequence & UInt64(plan.window - 1))
    }

    /// A confirmation. Any order will do, but each message has only one.
    mutating func confirmed(_ frame: FrameScanner.Frame, _ place: Int) {
        guard clients[place].publisher != 0 else { return }
        let index = Int(clients[place].publisher) - 1
        let publisher = publishers + index
        guard let sequence = confirmedSequence(frame, oldest: publisher.pointee.completed),
            sequence >= publisher.pointee.completed, sequence < publisher.pointee.next,
            unconfirmed[self.place(index, sequence)] != 0
        else {
            report.anomalies.duplicated += 1
            return
        }
        recordConfirmation(stamp: unconfirmed[self.place(index, sequence)])
        unconfirmed[self.place(index, sequence)] = 0
        report.counts.confirmed += 1
        while publisher.pointee.completed < publisher.pointee.next,
            unconfirmed[self.place(index, publisher.pointee.completed)] == 0
        {
            publisher.pointee.completed += 1
        }
        allowPublishing(index)
    }

    /// The sequence of the message that a frame confirms. beanstalkd answers in order and does not say which one.
    private func confirmedSequence(_ frame: FrameScanner.Frame, oldest: UInt64) -> UInt64? {
        let digits: UnsafeRawBufferPointer?
        switch plan.dialect {
        case .beanstalk: return oldest
        case .nats: digits = JetStream.confirmedNumber(of: frame)
        case .stomp, .mqtt, .resp: digits = FrameScanner.value(of: "receipt-id", in: frame)
        }
        guard let digits, let start = digits.baseAddress,
            let number = FrameScanner.number(start, start + digits.count)
        else { return nil }
        return UInt64(number)
    }

    private mutating func recordConfirmation(stamp: UInt64) {
        if stamp != confirmationStamp {
            recordConfirmations()
            confirmationStamp = stamp
        }
        confirmationCount += 1
    }

    /// Records the counted confirmations if the load is in the measured phase.
    mutating func recordConfirmations() {
        if phase == .measure, confirmationCount > 0 {
            let latency = now > confirmationStamp ? now - confirmationStamp : 0
            _ = report.confirmationLatencies.record(min(latency, 3_600_000_000_000), count: confirmationCount)
        }
        confirmationCount = 0
    }

    /// Another load has queued the messages of all publishers.
    mutating func countFilled() {
        for index in share.publishers {
            publishers[index].next = UInt64(plan.backlog)
            publishers[index].completed = UInt64(plan.backlog)
            report.counts.published += plan.backlog
            report.counts.confirmed += plan.backlog
            report.counts.outstanding += plan.backlog
        }
    }
}
