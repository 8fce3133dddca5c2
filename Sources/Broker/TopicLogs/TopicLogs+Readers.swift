import IO
import Slabs

// Readers: with the topic's owner what they are given, and with their sessions' workers what they have read.
extension TopicLogs {
    /// So much of a log is on its way to a subscription, or waits there for its client: enough for a round between workers.
    static var unreadCountMax: UInt32 { 256 }
    static var unreadByteCountMax: UInt64 { 256 << 10 }

    subscript(_ index: Index<LogIntake>) -> UnsafePointer<LogIntake> {
        @inline(__always) get { UnsafePointer(intakeRecords[index]) }
    }

    func find(_ handle: Handle<LogReader>) -> Index<LogReader>? {
        readerRecords.isLive(handle) ? handle.index : nil
    }

    // MARK: With the owner

    /// A reader of a log. None: there are as many as there may be.
    mutating func addReader(
        to index: Index<TopicLog>, from start: LogStart, shard: Int, subscription: Handle<Subscription>
    ) -> Handle<LogReader> {
        let handle: Handle<LogReader> = readerRecords.allocate()
        if handle.isNone { return .none }
        let reader = readerRecords[handle.index]
        reader.pointee.log = index
        reader.pointee.next = offset(of: start, in: index)
        reader.pointee.subscription = subscription
        reader.pointee.shard = UInt16(shard)
        reader.pointee.position = logRecords[index].pointee.readers.append(handle.index)
        markDue(index)
        return handle
    }

    /// The offset at which a reader begins.
    private func offset(of start: LogStart, in index: Index<TopicLog>) -> UInt64 {
        let log = logRecords[index].pointee
        let publishedCount = log.entries.index(atOrBehind: log.published)
        switch start {
        case .next: return log.published
        case .first: return publishedCount == 0 ? log.published : log.entries[0].offset
        case .last: return publishedCount == 0 ? log.published : log.entries[publishedCount - 1].offset
        case .offset(let offset): return min(offset, log.published)
        case .seconds(let seconds):
            let (milliseconds, overflows) = seconds.multipliedReportingOverflow(by: 1000)
            let place = overflows ? publishedCount : log.entries.index(since: milliseconds)
            return place < publishedCount ? log.entries[place].offset : log.published
        }
    }

    mutating func removeReader(_ index: Index<LogReader>) {
        let reader = readerRecords[index].pointee
        let log = logRecords[reader.log]
        if let moved = log.pointee.readers.swapRemove(at: reader.position) {
            readerRecords[moved].pointee.position = reader.position
        }
        readerRecords.free(index)
    }

    /// Takes what a reader is given next. nil: it has read all that is published, or has enough unread.
    ///
    /// - Parameter skippedCount: grows by the offsets that it misses, for they were trimmed before it came to them.
    mutating func next(
        _ index: Index<LogReader>, wallMilliseconds: UInt64, skippedCount: inout UInt64
    ) -> LogEntry? {
        let reader = readerRecords[index]
        let log = logRecords[reader.pointee.log].pointee
        guard reader.pointee.unreadCount < Self.unreadCountMax,
            reader.pointee.unreadByteCount < Self.unreadByteCountMax
        else { return nil }
        var place = log.entries.index(atOrBehind: reader.pointee.next)
        if place == 0, !log.entries.isEmpty { skippedCount += log.entries[0].offset - reader.pointee.next }
        while place < log.entries.count {
            let entry = log.entries[place]
            guard entry.offset < log.published else { return nil }
            reader.pointee.next = entry.offset + 1
            if entry.expiresAt == 0 || entry.expiresAt > wallMilliseconds { return entry }
            place += 1
        }
        return nil
    }

    /// The reader was given a message.
    mutating func gave(_ index: Index<LogReader>, byteCount: Int) {
        readerRecords[index].pointee.unreadCount += 1
        readerRecords[index].pointee.unreadByteCount += UInt64(byteCount)
    }

    /// The reader has read so much of it.
    mutating func read(_ index: Index<LogReader>, count: UInt32, byteCount: UInt64) {
        let reader = readerRecords[index]
        reader.pointee.unreadCount -= count
        reader.pointee.unreadByteCount -= byteCount
        markDue(reader.pointee.log)
    }

    // MARK: With the session's worker

    /// None: there are as many as there may be.
    mutating func makeIntake(owner: Int, _ reader: Handle<LogReader>) -> Index<LogIntake> {
        let handle: Handle<LogIntake> = intakeRecords.allocate()
        if handle.isNone { return .none }
        intakeRecords[handle.index].pointee.owner = UInt16(owner)
        intakeRecords[handle.index].pointee.reader = reader
        return handle.index
    }

    mutating func removeIntake(_ index: Index<LogIntake>) { intakeRecords.free(index) }

    /// A message has left the queue of the subscription. The owner hears of it when half of what it may be given has.
    mutating func tookOne(_ index: Index<LogIntake>, byteCount: Int, isLast: Bool) {
        let intake = intakeRecords[index]
        intake.pointee.readCount += 1
        intake.pointee.readByteCount += UInt64(byteCount)
        guard !intake.pointee.isDue,
            isLast || intake.pointee.readCount >= Self.unreadCountMax / 2
                || intake.pointee.readByteCount >= Self.unreadByteCountMax / 2
        else { return }
        intake.pointee.isDue = true
        dueIntakes.append(intakeRecords.handle(index))
    }

    /// Takes what an intake has read. nil: there is none that has.
    mutating func takeRead() -> LogIntake? {
        while !dueIntakes.isEmpty {
            guard let intake = intakeRecords.find(dueIntakes.removeLast()) else { continue }
            let read = intake.pointee
            intake.pointee.isDue = false
            intake.pointee.readCount = 0
            intake.pointee.readByteCount = 0
            return read
        }
        return nil
    }
}
