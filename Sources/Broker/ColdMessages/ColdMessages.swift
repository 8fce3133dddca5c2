import IO
import Journal
import Slabs

/// Messages of queues that are in the log alone: of each, this knows where its record is, in 8 bytes, and the order.
///
///     ColdQueue --> ColdChunk (510 places) --> ColdChunk --> ...
///
/// A queue has such messages when the memory for messages is half full and more come than are taken: see
/// `Shard+ColdMessages`. They are read back (`ColdReads`), the first ones first, before consumers have taken all that is
/// in memory.
///
/// It knows neither the queues nor the log: places mean something to `MessageStore`. Its owner calls `list` for a queue
/// that has work to be done in this turn, and `block` for one whose work has to wait for memory or for another's read.
struct ColdMessages: ~Copyable {
    // Of this folder's files only: see HouseRulesTests.
    var coldQueueRecords: Slab<ColdQueue>
    var chunkRecords: Slab<ColdChunk>
    var reads: ColdReads
    /// Queues that have work to be done now, and such as wait for memory, for time or for a read of another.
    private var listed = Batch<Handle<ColdQueue>>(capacity: 16)
    private var blocked = Batch<Handle<ColdQueue>>(capacity: 16)
    /// All messages.
    private(set) var messageCount = 0
    /// What is known of few messages of earlier lives, by `ColdPlace.bits`: how often each was refused or failed with.
    /// They may have been delivered.
    var failures: [UInt64: UInt16] = [:]
    /// Places that were replaced.
    var copiedCount = 0
    /// How far the messages have been looked through for those that are to be written again. nil: they are not.
    var compaction: ColdCompaction?

    /// - Parameter messageCountMax: 0: there will be none.
    init(queueCountMax: Int, messageCountMax: Int) throws(SlabError) {
        let isUsed = messageCountMax > 0
        let chunkCount = isUsed ? messageCountMax / ColdChunk.placeCount + 1 : 0
        let queues = try Slab<ColdQueue>(recordCountMax: isUsed ? queueCountMax : 0)
        let chunks = try Slab<ColdChunk>(recordCountMax: chunkCount)
        coldQueueRecords = queues
        chunkRecords = chunks
        reads = ColdReads()
    }

    subscript(_ index: Index<ColdQueue>) -> UnsafePointer<ColdQueue> {
        @inline(__always) get { UnsafePointer(coldQueueRecords[index]) }
    }

    var queueCount: Int { coldQueueRecords.liveCount }
    func handle(_ index: Index<ColdQueue>) -> Handle<ColdQueue> { coldQueueRecords.handle(index) }
    func isLive(_ handle: Handle<ColdQueue>) -> Bool { coldQueueRecords.isLive(handle) }
    func nextLive(after index: Index<ColdQueue>) -> Index<ColdQueue> { coldQueueRecords.nextLive(after: index) }

    // MARK: Queues

    /// None: there are as many as there may be.
    mutating func begin(_ queue: Index<Queue>, nameByteCount: Int) -> Index<ColdQueue> {
        let index: Index<ColdQueue> = coldQueueRecords.allocate().index
        if index.isNone { return .none }
        coldQueueRecords[index].pointee.queue = queue
        coldQueueRecords[index].pointee.queueNameByteCount = UInt16(clamping: nameByteCount)
        return index
    }

    /// The queue has no such message any more.
    mutating func end(_ index: Index<ColdQueue>) {
        invariant(coldQueueRecords[index].pointee.count == 0, "a queue whose messages are all in memory has no places")
        coldQueueRecords.free(index)
        if queueCount == 0 {
            reads.trim()
            chunkRecords.trim()
            coldQueueRecords.trim()
            failures = [:]
        }
    }

    // MARK: Messages

    /// What a message counts as against the queue's limit of bytes: up to 63 bytes more than it does in memory.
    @inline(__always)
    func byteCount(of place: ColdPlace, in index: Index<ColdQueue>) -> Int {
        ColdQueue.byteCount(of: place, queueNameByteCount: Int(coldQueueRecords[index].pointee.queueNameByteCount))
    }

    @inline(__always)
    func hasRoom(_ index: Index<ColdQueue>) -> Bool {
        let last = coldQueueRecords[index].pointee.lastChunk
        return !last.isNone && Int(chunkRecords[last].pointee.end) < ColdChunk.placeCount
            || chunkRecords.liveCount < chunkRecords.recordCountMax
    }

    /// Puts a message behind the others. There has to be room.
    mutating func append(_ place: ColdPlace, to index: Index<ColdQueue>, isTransient: Bool) {
        let queue = coldQueueRecords[index]
        var last = queue.pointee.lastChunk
        if last.isNone || Int(chunkRecords[last].pointee.end) == ColdChunk.placeCount {
            let chunk: Handle<ColdChunk> = chunkRecords.allocate()
            invariant(!chunk.isNone, "there is room for a place")
            if last.isNone {
                queue.pointee.firstChunk = chunk.index
            } else {
                chunkRecords[last].pointee.next = chunk.index
            }
            last = chunk.index
            queue.pointee.lastChunk = last
        }
        let chunk = chunkRecords[last]
        chunk.pointee.places[Int(chunk.pointee.end)] = place.bits
        chunk.pointee.end += 1
        queue.pointee.count += 1
        if isTransient { queue.pointee.transientCount += 1 }
        queue.pointee.byteCount += UInt64(byteCount(of: place, in: index))
        messageCount += 1
    }

    @inline(__always)
    func first(_ index: Index<ColdQueue>) -> ColdPlace? {
        let chunk = coldQueueRecords[index].pointee.firstChunk
        if chunk.isNone { return nil }
        return place(chunk, Int(chunkRecords[chunk].pointee.first))
    }

    @inline(__always)
    private func place(_ chunk: Index<ColdChunk>, _ place: Int) -> ColdPlace {
        ColdPlace(bits: chunkRecords[chunk].pointee.places[place])
    }

    /// - Parameter isTransient: nil: nobody knows, for it was not read.
    mutating func removeFirst(_ index: Index<ColdQueue>, isTransient: Bool?) {
        let queue = coldQueueRecords[index]
        let chunk = chunkRecords[queue.pointee.firstChunk]
        let place = ColdPlace(bits: chunk.pointee.places[Int(chunk.pointee.first)])
        queue.pointee.byteCount -= UInt64(byteCount(of: place, in: index))
        if !failures.isEmpty { failures[place.bits] = nil }
        chunk.pointee.first += 1
        queue.pointee.count -= 1
        messageCount -= 1
        if isTransient == true { queue.pointee.transientCount -= 1 }
        queue.pointee.transientCount = min(queue.pointee.transientCount, queue.pointee.count)
        guard chunk.pointee.first == chunk.pointee.end else { return }
        let next = chunk.pointee.next
        chunkRecords.free(queue.pointee.firstChunk)
        queue.pointee.firstChunk = next
        if next.isNone { queue.pointee.lastChunk = .none }
    }

    // MARK: Reading back

    /// What is read at once from the first message on: bytes of one segment in which the next messages are, close to each
    /// other.
    ///
    /// - Parameters:
    ///   - byteCountMax: unless the first message is larger.
    ///   - offsetEnd: the segment's file has no bytes from here on.
    func firstRun(_ index: Index<ColdQueue>, byteCountMax: Int, offsetEnd: Int) -> Range<Int> {
        let queue = coldQueueRecords[index]
        var chunk = queue.pointee.firstChunk
        var next = Int(chunkRecords[chunk].pointee.first)
        let first = place(chunk, next)
        var end = first.offset + first.byteCount
        while true {
            next += 1
            if next == Int(chunkRecords[chunk].pointee.end) {
                chunk = chunkRecords[chunk].pointee.next
                if chunk.isNone { break }
                next = Int(chunkRecords[chunk].pointee.first)
            }
            let place = place(chunk, next)
            let placeEnd = place.offset + place.byteCount
            guard place.segment == first.segment, place.offset >= end, place.offset - end <= Self.gapByteCountMax,
                placeEnd - first.offset <= byteCountMax, placeEnd <= offsetEnd
            else { break }
            end = placeEnd
        }
        return first.offset..<end
    }

    /// So many bytes of others' records are read rather than that another read is begun.
    private static var gapByteCountMax: Int { 16 << 10 }

    mutating func setReading(_ index: Index<ColdQueue>, _ isReading: Bool) {
        coldQueueRecords[index].pointee.isReading = isReading
    }

    /// A read has failed. Returns how many have in a row.
    mutating func readFailed(_ index: Index<ColdQueue>, retryAt: UInt32) -> Int {
        let queue = coldQueueRecords[index]
        if queue.pointee.failedCount < .max { queue.pointee.failedCount += 1 }
        queue.pointee.retryAt = retryAt
        return Int(queue.pointee.failedCount)
    }

    mutating func readSucceeded(_ index: Index<ColdQueue>) { coldQueueRecords[index].pointee.failedCount = 0 }

    // MARK: Work

    @inline(__always) var hasWork: Bool { listed.count | blocked.count != 0 || compaction != nil }
    /// The next turn is to come at once.
    @inline(__always) var wantsTurn: Bool { !listed.isEmpty }
    var listedCount: Int { listed.count }
    var blockedCount: Int { blocked.count }

    /// The queue has work to be done before the end of the turn. If it waits for something, it is listed when that has come.
    mutating func list(_ index: Index<ColdQueue>) {
        let queue = coldQueueRecords[index]
        if queue.pointee.isListed || queue.pointee.isReading || queue.pointee.isBlocked { return }
        queue.pointee.isListed = true
        listed.append(coldQueueRecords.handle(index))
    }

    /// It waits until `unblock`.
    mutating func block(_ index: Index<ColdQueue>) {
        let queue = coldQueueRecords[index]
        if queue.pointee.isBlocked { return }
        queue.pointee.isBlocked = true
        blocked.append(coldQueueRecords.handle(index))
    }

    /// Those that waited have work again.
    mutating func unblock() {
        for place in 0..<blocked.count where coldQueueRecords.isLive(blocked[place]) {
            coldQueueRecords[blocked[place].index].pointee.isBlocked = false
            list(blocked[place].index)
        }
        blocked.removeAll()
    }

    /// A queue that was listed at `place`, which is listed no more. None: it has ended.
    mutating func takeListed(_ place: Int) -> Index<ColdQueue> {
        let handle = listed[place]
        guard coldQueueRecords.isLive(handle) else { return .none }
        coldQueueRecords[handle.index].pointee.isListed = false
        return handle.index
    }

    mutating func forgetListed(_ count: Int) { listed.removeFirst(count) }
}

extension ColdQueue {
    static func byteCount(of place: ColdPlace, queueNameByteCount: Int) -> Int {
        max(
            MessageRecord.contentByteCountMax(
                recordByteCount: place.byteCount, queueNameByteCount: queueNameByteCount), 3)
    }
}
