import IO
import Slabs

// Which offsets may be given out: what stable storage says of them.
extension TopicLogs {
    /// A record of offsets reserves so many at first. Each one reserves twice as many as the last, so that a topic of a few
    /// messages loses few numbers in a crash, and a busy one does not wait for the disk.
    static var stepMin: UInt64 { 64 }
    private static var stepMax: UInt64 { 1 << 17 }

    /// Whether a record is due that reserves offsets: half of what the last one reserved is used, or all of what the one under
    /// way reserves. So each message in the log has its offset in a record in front of it. Returns what it is to say.
    mutating func offsetsToReserve(_ index: Index<TopicLog>) -> UInt64? {
        let log = logRecords[index]
        guard log.pointee.reserved != .max else { return nil }
        if log.pointee.reserving != 0 {
            guard log.pointee.next >= log.pointee.reserving else { return nil }
        } else {
            guard log.pointee.next + log.pointee.step / 2 >= log.pointee.reserved else { return nil }
        }
        log.pointee.step = min(log.pointee.step * 2, Self.stepMax)
        return log.pointee.next + log.pointee.step
    }

    /// The record is written, and counts when the log of the worker is durable up to `position`. Returns the segment that the
    /// one before it has pinned, if there was one.
    mutating func reserve(
        _ index: Index<TopicLog>, below offset: UInt64, at position: LogPosition, segment: UInt32
    ) -> UInt32? {
        let log = logRecords[index]
        if log.pointee.reserving == 0 { reservingLogs.append(index) }
        log.pointee.reserving = offset
        log.pointee.reservingAt = position
        return moveRecord(index, to: segment)
    }

    /// The newest record of offsets is in another segment. Returns the one that it has pinned, if there was one.
    mutating func moveRecord(_ index: Index<TopicLog>, to segment: UInt32) -> UInt32? {
        let log = logRecords[index]
        let former = log.pointee.hasRecord ? log.pointee.segment : nil
        log.pointee.segment = segment
        log.pointee.hasRecord = true
        return former
    }

    /// Of the deferrals that last, the one that began first. `.max`: no message waits for its offset to be reserved.
    var oldestDeferral: UInt64 {
        var oldest = UInt64.max
        for place in 0..<reservingLogs.count {
            let since = logRecords[reservingLogs[place]].pointee.deferredSince
            if since != 0 { oldest = min(oldest, since) }
        }
        return oldest
    }

    /// The next message would be published at once.
    func publishesNext(_ index: Index<TopicLog>) -> Bool {
        logRecords[index].pointee.next < logRecords[index].pointee.reserved
    }

    /// What the newest record says, or would.
    func offsetEnd(_ index: Index<TopicLog>) -> UInt64 {
        let log = logRecords[index].pointee
        return log.reserving != 0 ? log.reserving : max(log.reserved, log.next)
    }

    /// Takes a log whose record has become durable: more of it may be published. None: there is none.
    mutating func takeReserved(durable position: LogPosition) -> Index<TopicLog> {
        for place in 0..<reservingLogs.count {
            let index = reservingLogs[place]
            let log = logRecords[index]
            guard log.pointee.reservingAt <= position else { continue }
            log.pointee.reserved = log.pointee.reserving
            log.pointee.reserving = 0
            log.pointee.deferredSince = 0
            reservingLogs[place] = reservingLogs[reservingLogs.count - 1]
            _ = reservingLogs.removeLast()
            return index
        }
        if reservingLogs.isEmpty { awaitsReservation = false }
        return .none
    }
}
