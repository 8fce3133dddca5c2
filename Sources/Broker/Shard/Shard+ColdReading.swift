import IO
import Journal
import STOMP
import Slabs

// Messages that come back to memory: the first cold ones of a queue are read before consumers have taken all that is ready.
//
// A queue with few ready messages is listed, and looked at before the end of the turn. What is not in its file yet is taken
// from the end of the log in memory; the rest is read, some hundred messages at once. Each queue has one read under way,
// and queues take turns. A record is checked like one that recovery reads: what is damaged is never delivered, and what is
// behind it waits.
extension Shard {
    /// Messages of the queue are to be read back, if few are left.
    @inline(__always)
    mutating func readBackIfFew(_ index: Index<Queue>) {
        if queues[index].pointee.ready.count < queues[index].pointee.readyCountMin {
            cold.list(queues[index].pointee.cold)
        }
    }

    /// Before the end of the turn.
    @inline(never)
    mutating func advanceCold() {
        let count = cold.listedCount
        for place in 0..<count {
            let coldIndex = cold.takeListed(place)
            if !coldIndex.isNone { advance(coldIndex) }
        }
        cold.forgetListed(count)
        if cold.compaction != nil { compactCold() }
        if cold.blockedCount > 0 { armRoom() }
    }

    /// Something that cold messages may wait for has come.
    mutating func resumeCold() {
        if cold.blockedCount > 0 { cold.unblock() }
    }

    private mutating func advance(_ coldIndex: Index<ColdQueue>) {
        let handle = cold.handle(coldIndex)
        let index = cold[coldIndex].pointee.queue
        let queue = queues[index]
        if !queue.pointee.behind.isEmpty, cold[coldIndex].pointee.count > 0 || !queue.pointee.ready.isEmpty {
            moveBehind(index)
        }
        if cold[coldIndex].pointee.count > 0 {
            let record = cold[coldIndex].pointee
            let count = aheadCount(byteCount: record.byteCount, count: record.count)
            queues.readBack(index, below: UInt32(count))
            readBack(index, coldIndex)
        }
        // What was ready may have gone to consumers, and the queue with it.
        guard cold.isLive(handle), cold[coldIndex].pointee.count == 0 else { return }
        endCold(index)
        if !queues[index].pointee.turns.isEmpty { dispatch(index) }
    }

    /// All queues together read so much of the memory ahead, but each some at least.
    private static var aheadShare: Int { 16 }
    private static var aheadByteCountMin: Int { 64 << 10 }
    private static var aheadCountMax: Int { 4096 }

    /// How many messages are read ahead of a queue whose messages have so many bytes: with fewer ready ones, the next are read.
    mutating func aheadCount(byteCount: UInt64, count: UInt32) -> Int {
        let share = limits.messageMemoryByteCountMax / Self.aheadShare / max(cold.queueCount, 1)
        let ahead = min(max(share, Self.aheadByteCountMin), store.options.cold.aheadByteCountMax)
        let average = Int(byteCount) / max(Int(count), 1)
        return min(max(ahead / max(average, 1), 1), Self.aheadCountMax)
    }

    private mutating func wantsMore(_ index: Index<Queue>) -> Bool {
        let queue = queues[index]
        guard queue.pointee.ready.count < queue.pointee.readyCountMin || isOver(index), !queue.pointee.isClosed else {
            return false
        }
        // Where others fill the memory, no more than what consumers wait for.
        return !messagesFill(percent: Self.fillPercentToReadAhead)
            || queue.pointee.ready.isEmpty && !queue.pointee.turns.isEmpty || isOver(index)
    }

    static var fillPercentToReadAhead: Int { 75 }

    private mutating func readBack(_ index: Index<Queue>, _ coldIndex: Index<ColdQueue>) {
        while wantsMore(index), let place = cold.first(coldIndex) {
            guard let bytes = store.stagedBytes(place) else {
                if !cold[coldIndex].pointee.isReading { startRead(coldIndex, place) }
                break
            }
            let segment = store.segment(place.segment)
            guard warm(index, coldIndex, place, segment, bytes) else { break }
        }
        if !queues[index].pointee.turns.isEmpty { dispatch(index) }
    }

    // MARK: Reads

    private mutating func startRead(_ coldIndex: Index<ColdQueue>, _ place: ColdPlace) {
        let isTooEarly =
            cold[coldIndex].pointee.failedCount > 0 && Int32(bitPattern: clock &- cold[coldIndex].pointee.retryAt) < 0
        guard store.files.isOpen, cold.reads.hasRoom, !isTooEarly else { return cold.block(coldIndex) }
        let byteCountMax = store.options.cold.readByteCountMax
        let run = cold.firstRun(
            coldIndex, byteCountMax: byteCountMax, offsetEnd: store.readableEnd(place.segment))
        cold.setReading(coldIndex, true)
        cold.reads.start(
            run, of: store.segment(place.segment).name, place.segment, for: cold.handle(coldIndex),
            usualByteCount: byteCountMax, &submissions)
    }

    mutating func coldReadAnswered(_ completion: Completion) {
        switch cold.reads.answered(completion, &submissions) {
        case .nothing: break
        case .closed: resumeCold()
        case .read(let number, let byteCount):
            let read = cold.reads[number]
            let bytes = UnsafeRawBufferPointer(start: read.buffer, count: byteCount)
            if read.isForCompaction { rewrite(read, bytes) } else { take(read, bytes) }
            cold.reads.finish(number, usualByteCount: store.options.cold.readByteCountMax)
        case .failed(let number, let errorNumber):
            let read = cold.reads[number]
            cold.reads.finish(number, usualByteCount: store.options.cold.readByteCountMax)
            if read.isForCompaction {
                store.compactAgain(now)
                return endCompaction()
            }
            guard cold.isLive(read.cold) else { return }
            cold.setReading(read.cold.index, false)
            if let place = cold.first(read.cold.index), place.segment == read.segment, place.offset == read.offset {
                readFailed(read.cold.index, read.segment, read.offset, errorText(errorNumber))
            } else {
                // It was written again meanwhile, and the segment may be gone.
                cold.list(read.cold.index)
            }
            resumeCold()
        }
    }

    /// Messages that were read come back to memory, as far as they are the next ones still, and there is room.
    private mutating func take(_ read: ColdRead, _ bytes: UnsafeRawBufferPointer) {
        // The queue may have ended, or its messages may have been dropped.
        guard cold.isLive(read.cold) else { return }
        let coldIndex = read.cold.index
        let index = cold[coldIndex].pointee.queue
        cold.setReading(coldIndex, false)
        let segment = store.segment(read.segment)
        while let place = cold.first(coldIndex), place.segment == read.segment, place.offset >= read.offset,
            place.offset < read.offset + read.byteCount
        {
            let start = min(place.offset - read.offset, bytes.count)
            let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
            guard warm(index, coldIndex, place, segment, rest) else { break }
        }
        cold.list(coldIndex)
        if !queues[index].pointee.turns.isEmpty { dispatch(index) }
    }

    /// Makes the first of the cold messages the last of the ready ones. False: there is no room, or the record is damaged.
    ///
    /// - Parameter bytes: from its record on.
    private mutating func warm(
        _ index: Index<Queue>, _ coldIndex: Index<ColdQueue>, _ place: ColdPlace, _ segment: ColdSegment,
        _ bytes: UnsafeRawBufferPointer
    ) -> Bool {
        let found: Record
        do throws(RecordDamage) {
            found = try Self.message(place, segment, bytes)
        } catch {
            readFailed(coldIndex, place.segment, place.offset, error.description)
            return false
        }
        cold.readSucceeded(coldIndex)
        let record = content(of: found, place, segment)
        let isTransient = record.flags.contains(.isTransient)
        let stored = segment.stored(
            at: place, host: store.hosts.number(of: record.queueName), orderKey: record.orderKey,
            byteCount: found.byteCount)
        let byteCount = cold.byteCount(of: place, in: coldIndex)
        guard
            let entry = queues.warm(
                index, record, isTransient ? nil : stored, coldByteCount: byteCount, &memory, &timers, at: moment)
        else {
            cold.block(coldIndex)
            return false
        }
        cold.removeFirst(coldIndex, isTransient: isTransient)
        // Its record is of no more use.
        if isTransient { store.release(stored) }
        counters.messagesWarmed &+= 1
        if record.expiresAt != 0, record.expiresAt <= wallMilliseconds { expire(entry) }
        if isOver(index) { dropSurplus(index) }
        return true
    }

    /// The record of a message, as it was written.
    static func message(
        _ place: ColdPlace, _ segment: ColdSegment, _ bytes: UnsafeRawBufferPointer
    ) throws(RecordDamage) -> Record {
        guard bytes.count >= JournalFormat.unitByteCount else { throw .truncated }
        let record = try RecordReader.read(
            bytes, at: 0, position: segment.position + UInt64(place.unit), worker: segment.name.worker,
            magic: segment.recordMagic)
        guard record.type == .message else { throw .type }
        return record
    }

    /// What a record says, with what is known beside it.
    mutating func content(of found: Record, _ place: ColdPlace, _ segment: ColdSegment) -> MessageRecord {
        var record = found.message
        if segment.isRedelivered { record.flags.insert(.isRedelivered) }
        if !cold.failures.isEmpty, let count = cold.failures[place.bits] {
            record.failureCount = max(record.failureCount, count)
            record.flags.insert(.isRedelivered)
        }
        return record
    }

    // MARK: Failure

    /// So many reads in a row fail before the operator is told.
    private static var failedCountToTell: Int { 5 }
    private static var retryMilliseconds: UInt32 { 200 }

    /// A message could not be read, or its record is not as it was written. Nothing of its queue is given out before it can
    /// be: neither is it lost in silence, nor does what is behind it come first.
    private mutating func readFailed(
        _ coldIndex: Index<ColdQueue>, _ segment: UInt32, _ offset: Int, _ reason: String
    ) {
        let count = cold.readFailed(coldIndex, retryAt: clock &+ Self.retryMilliseconds)
        cold.block(coldIndex)
        guard count == Self.failedCountToTell else { return }
        let destination = queues[cold[coldIndex].pointee.queue].pointee.destination
        let directory = String(decoding: store.options.directory, as: UTF8.self)
        notice(
            .storageFailed,
            "\(directory)/\(store.segment(segment).name), byte \(offset): \(reason). The next message of "
                + "\(destinationText(destination)) is there, and it gives out nothing more until that can be read "
                + "(stampede storage verify; storage.on-error)")
        hasStorageFailed = true
    }
}
