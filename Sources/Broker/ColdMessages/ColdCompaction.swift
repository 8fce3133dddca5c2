import Slabs

/// How far all places have been looked through, queue by queue.
struct ColdCompaction: BitwiseCopyable {
    fileprivate var queue = Index<ColdQueue>.none
    fileprivate var queueHandle = Handle<ColdQueue>.none
    fileprivate var chunk = Handle<ColdChunk>.none
    /// In the chunk.
    fileprivate var next = 0
    /// Those that were read, from `next` on.
    fileprivate(set) var runCount = 0
    var isReading = false
    /// The log had no room for a message of so many bytes.
    var neededByteCount = 0

    mutating func skip() { next += 1 }
}

// Places that are to be replaced.
extension ColdMessages {
    /// The next place. nil: there is no other. Queues that come to have places behind it are looked through, too.
    func next(_ pass: inout ColdCompaction) -> (queue: Index<ColdQueue>, place: ColdPlace)? {
        while true {
            if !pass.chunk.isNone, let chunk = chunkRecords.find(pass.chunk) {
                pass.next = max(pass.next, Int(chunk.pointee.first))
                if pass.next < Int(chunk.pointee.end) {
                    return (pass.queue, ColdPlace(bits: chunk.pointee.places[pass.next]))
                }
                enter(chunk.pointee.next, &pass)
                if !pass.chunk.isNone { continue }
            } else if !pass.chunk.isNone, coldQueueRecords.isLive(pass.queueHandle) {
                // All of the chunk was read back meanwhile: what is left of the queue is looked through from its begin.
                enter(coldQueueRecords[pass.queue].pointee.firstChunk, &pass)
                if !pass.chunk.isNone { continue }
            }
            pass.queue = coldQueueRecords.nextLive(after: pass.queue)
            if pass.queue.isNone { return nil }
            pass.queueHandle = coldQueueRecords.handle(pass.queue)
            enter(coldQueueRecords[pass.queue].pointee.firstChunk, &pass)
        }
    }

    private func enter(_ chunk: Index<ColdChunk>, _ pass: inout ColdCompaction) {
        pass.chunk = chunk.isNone ? .none : chunkRecords.handle(chunk)
        pass.next = 0
    }

    /// What is read at once from the place on that `next` gave: bytes of one segment with the next messages of the chunk.
    func run(_ pass: inout ColdCompaction, byteCountMax: Int) -> Range<Int> {
        let chunk = chunkRecords[pass.chunk.index]
        let first = ColdPlace(bits: chunk.pointee.places[pass.next])
        var end = first.offset + first.byteCount
        pass.runCount = 1
        while pass.next + pass.runCount < Int(chunk.pointee.end) {
            let place = ColdPlace(bits: chunk.pointee.places[pass.next + pass.runCount])
            let placeEnd = place.offset + place.byteCount
            guard place.segment == first.segment, place.offset >= end, placeEnd - first.offset <= byteCountMax else {
                break
            }
            end = placeEnd
            pass.runCount += 1
        }
        return first.offset..<end
    }

    /// The place at which the pass is. nil: the message has been read back.
    func place(_ pass: ColdCompaction) -> ColdPlace? {
        guard let chunk = chunkRecords.find(pass.chunk), pass.next >= Int(chunk.pointee.first),
            pass.next < Int(chunk.pointee.end)
        else { return nil }
        return ColdPlace(bits: chunk.pointee.places[pass.next])
    }

    /// The message at which the pass is has another place now.
    mutating func replace(_ pass: ColdCompaction, _ place: ColdPlace) {
        let chunk = chunkRecords[pass.chunk.index]
        let old = chunk.pointee.places[pass.next]
        chunk.pointee.places[pass.next] = place.bits
        copiedCount += 1
        if !failures.isEmpty { failures[old] = nil }
        let queue = coldQueueRecords[pass.queue]
        let name = Int(queue.pointee.queueNameByteCount)
        invariant(
            ColdQueue.byteCount(of: ColdPlace(bits: old), queueNameByteCount: name)
                == ColdQueue.byteCount(of: place, queueNameByteCount: name), "a copy is as large as the original")
    }
}
