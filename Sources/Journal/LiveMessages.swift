/// A message that lives. What it says is in its record.
public struct LiveMessage: BitwiseCopyable, Sendable {
    public var position: UInt64
    /// Where it stands in its queue.
    public var orderKey: UInt64
    /// Of `RecoveredState.queues`.
    public var queue: UInt32
    /// Of `RecoveredState.segments`.
    public var segment: UInt32
    /// Of its record, which is rounded up where it is very large.
    public var size: RecordSize
    public var worker: UInt16
    public var failureCount: UInt16
    /// It may have been delivered before.
    public var isRedelivered: Bool
    /// A record says so, or how often it failed, that is not its own.
    public var isMarked: Bool
    /// It is in no queue: a topic keeps it, or it waits for its time. So it is in memory, always.
    public var isSpecial: Bool
    /// A topic retains it: every shard gets it, and not only the one that owns the topic.
    public var isRetained: Bool

    public var reference: MessageReference { MessageReference(position: position, worker: worker) }
}

/// The messages that live, in 8 bytes each, and 24 more for each that was copied forward.
public struct LiveMessages: Sendable {
    /// Where a segment's messages are, and what holds for all of them.
    private struct Segment {
        var entries: [LiveEntry]
        /// The copies among them.
        var copyUnits: [UInt32]
        var position: UInt64
        var worker: UInt16
    }

    /// A message that stands elsewhere in its queue than where its record is.
    private struct Copy {
        var orderKey: UInt64
        var entry: LiveEntry
        var queue: UInt32
        var segment: UInt32
    }

    private var segments: [Segment] = []
    /// By queue and order key.
    private var copies: [Copy] = []
    private let failures: [UInt64: UInt16]
    private let queueNumbers: [UInt64: UInt32]
    public private(set) var count = 0
    /// What is of this life or an earlier one may have been delivered before: these did not end in order.
    public var redeliveredLifeMax: UInt32

    /// What names a message in a table.
    static func key(segment: Int, unit: UInt32) -> UInt64 { UInt64(segment) << 24 | UInt64(unit) }

    init(
        _ contents: [SegmentContents], at places: [RecoveredSegment], failures: [UInt64: UInt16],
        queueNumbers: [UInt64: UInt32], redeliveredLifeMax: UInt32
    ) {
        self.failures = failures
        self.queueNumbers = queueNumbers
        self.redeliveredLifeMax = redeliveredLifeMax
        segments.reserveCapacity(contents.count)
        for (index, content) in contents.enumerated() {
            count += content.liveMessageCount
            segments.append(
                Segment(
                    entries: content.entries, copyUnits: content.copyUnits, position: places[index].position,
                    worker: content.name.worker))
            addCopies(of: content, index)
        }
        if !copies.isEmpty { copies.sort { ($0.queue, $0.orderKey) < ($1.queue, $1.orderKey) } }
    }

    private mutating func addCopies(of content: SegmentContents, _ index: Int) {
        guard !content.copyUnits.isEmpty else { return }
        var place = 0
        for entry in content.entries where place < content.copyUnits.count {
            // Of some copies there is no entry left.
            while place < content.copyUnits.count, content.copyUnits[place] < entry.unit { place += 1 }
            guard place < content.copyUnits.count, content.copyUnits[place] == entry.unit else { continue }
            if entry.isLive {
                copies.append(
                    Copy(
                        orderKey: content.copyKeys[place], entry: entry, queue: queue(of: entry, index),
                        segment: UInt32(index)))
            }
            place += 1
        }
    }

    /// The queue of a message, and what is special about it: the upper bits.
    private static let specialBit: UInt32 = 1 << 31
    private static let retainedBit: UInt32 = 1 << 30

    /// What `queueNumbers` has of a message.
    static func place(queue: UInt32, _ flags: RecordFlags) -> UInt32 {
        guard !flags.isDisjoint(with: [.isLogged, .isRetained, .isDelayed]) else { return queue }
        return queue | specialBit | (flags.contains(.isRetained) ? retainedBit : 0)
    }

    static func queue(of place: UInt32) -> UInt32 { place & ~(specialBit | retainedBit) }

    private func place(of entry: LiveEntry, _ segment: Int) -> UInt32 {
        guard entry.queue == LiveEntry.queueMax else { return entry.queue }
        return queueNumbers[Self.key(segment: segment, unit: entry.unit)] ?? entry.queue
    }

    private func queue(of entry: LiveEntry, _ segment: Int) -> UInt32 { Self.queue(of: place(of: entry, segment)) }

    /// - Parameter orderKey: nil: it stands where its record is.
    private func message(_ entry: LiveEntry, _ index: Int, orderKey: UInt64?) -> LiveMessage {
        let position = segments[index].position &+ UInt64(entry.unit)
        let place = place(of: entry, index)
        let mark = failures.isEmpty ? nil : failures[Self.key(segment: index, unit: entry.unit)]
        return LiveMessage(
            position: position, orderKey: orderKey ?? position, queue: Self.queue(of: place),
            segment: UInt32(index), size: entry.size, worker: segments[index].worker, failureCount: mark ?? 0,
            isRedelivered: entry.isRedelivered || mark != nil
                || JournalFormat.life(of: position) <= redeliveredLifeMax,
            isMarked: mark != nil, isSpecial: place & Self.specialBit != 0,
            isRetained: place & Self.retainedBit != 0)
    }

    /// Calls `body` for each message: those of a queue in the queue's order. Queues are mixed as they are in the logs.
    ///
    /// In one life a queue's messages are all in one log, so they come in order where nothing was copied. Copies come
    /// where they belong: before the first message of their queue that is behind them.
    public func forEach<Failure: Error>(
        _ body: (LiveMessage) throws(Failure) -> Void
    ) throws(Failure) {
        var pending = copyRanges()
        for index in segments.indices {
            let copyUnits = segments[index].copyUnits
            var place = 0
            for entry in segments[index].entries where entry.isLive {
                if !copyUnits.isEmpty {
                    while place < copyUnits.count, copyUnits[place] < entry.unit { place += 1 }
                    if place < copyUnits.count, copyUnits[place] == entry.unit { continue }
                }
                let message = message(entry, index, orderKey: nil)
                if !pending.isEmpty, var range = pending[message.queue] {
                    while !range.isEmpty, copies[range.lowerBound].orderKey < message.orderKey {
                        try body(self.message(copies[range.lowerBound]))
                        range = range.lowerBound + 1..<range.upperBound
                    }
                    pending[message.queue] = range.isEmpty ? nil : range
                }
                try body(message)
            }
        }
        for queue in pending.keys.sorted() {
            for place in pending[queue]! { try body(message(copies[place])) }
        }
    }

    private func message(_ copy: Copy) -> LiveMessage {
        message(copy.entry, Int(copy.segment), orderKey: copy.orderKey)
    }

    /// Where each queue's copies are.
    private func copyRanges() -> [UInt32: Range<Int>] {
        var ranges: [UInt32: Range<Int>] = [:]
        var start = 0
        while start < copies.count {
            var end = start
            while end < copies.count, copies[end].queue == copies[start].queue { end += 1 }
            ranges[copies[start].queue] = start..<end
            start = end
        }
        return ranges
    }

    /// All of them, by order key.
    var sorted: [LiveMessage] {
        var messages: [LiveMessage] = []
        messages.reserveCapacity(count)
        forEach { messages.append($0) }
        messages.sort { ($0.orderKey, $0.position, $0.worker) < ($1.orderKey, $1.position, $1.worker) }
        return messages
    }
}
