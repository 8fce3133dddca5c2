import Slabs

// Messages that topics retain.
extension TopicLogs {
    subscript(_ index: Index<RetainedMessage>) -> UnsafePointer<RetainedMessage> {
        @inline(__always) get { UnsafePointer(retainedRecords[index]) }
    }

    func nextRetained(after index: Index<RetainedMessage>) -> Index<RetainedMessage> {
        retainedRecords.nextLive(after: index)
    }

    /// Another topic may retain a message.
    var hasRoomToRetain: Bool { retainedRecords.liveCount < retainedCountMax }

    /// `retain` will find a record: owners that reach the limit at once go beyond it.
    var hasRecordToRetain: Bool { retainedRecords.liveCount < retainedRecordCountMax }

    /// The same for a message of a COMMIT that was admitted.
    var hasRecordToCommit: Bool { retainedRecords.liveCount < retainedRecords.recordCountMax }

    /// None: there are as many as there may be.
    mutating func retain(_ message: RetainedMessage) -> Index<RetainedMessage> {
        let handle: Handle<RetainedMessage> = retainedRecords.allocate()
        if handle.isNone { return .none }
        let record = retainedRecords[handle.index]
        record.pointee = message
        record.pointee.generation = handle.generation
        return handle.index
    }

    /// Puts another message in its place; returns the one that it was.
    mutating func replace(_ index: Index<RetainedMessage>, _ message: RetainedMessage) -> RetainedMessage {
        let record = retainedRecords[index]
        let former = record.pointee
        record.pointee = message
        record.pointee.generation = former.generation
        return former
    }

    /// Its record has been acknowledged.
    mutating func setAcknowledged(_ index: Index<RetainedMessage>) { retainedRecords[index].pointee.isStored = false }

    mutating func forget(_ index: Index<RetainedMessage>) -> RetainedMessage {
        let former = retainedRecords[index].pointee
        retainedRecords.free(index)
        return former
    }
}

/// How far messages that topics keep were looked through, to write again those of the segments at the front.
struct LogCompaction: BitwiseCopyable {
    /// None: logs are done, and retained messages follow.
    var log: Index<TopicLog>
    /// Of the first entry of it that was not looked at.
    var offset: UInt64 = 0
    /// The last one that was looked at.
    var retained = Index<RetainedMessage>.none
}
