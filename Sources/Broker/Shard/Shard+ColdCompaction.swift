import Journal
import Slabs

// Cold messages in segments that are to go: they are read, and written again at the end of the log. Their order in the queue
// does not change, only where they are.
extension Shard {
    /// So many places are looked at in a turn.
    private static var placesPerTurnMax: Int { 16_384 }

    /// After the messages in memory were looked through.
    mutating func beginColdCompaction() {
        if cold.queueCount > 0 { cold.compaction = ColdCompaction() }
    }

    /// Looks for the next messages that are to be written again, and reads them.
    mutating func compactCold() {
        guard var pass = cold.compaction, !pass.isReading else { return }
        guard !store.hasFailed, !store.hasEnded else { return endCompaction() }
        guard store.files.isOpen, cold.reads.hasRoom, store.mayCopy(pass.neededByteCount) else {
            return armRoom()
        }
        pass.neededByteCount = 0
        for _ in 0..<Self.placesPerTurnMax {
            guard let (coldIndex, place) = cold.next(&pass) else { return endCompaction() }
            guard store.isAtFront(place) else {
                pass.skip()
                continue
            }
            let run = cold.run(&pass, byteCountMax: store.options.cold.readByteCountMax)
            pass.isReading = true
            cold.compaction = pass
            cold.reads.start(
                run, of: store.segment(place.segment).name, place.segment, for: cold.handle(coldIndex),
                isForCompaction: true, usualByteCount: store.options.cold.readByteCountMax, &submissions)
            return
        }
        cold.compaction = pass
        armRoom()
    }

    mutating func endCompaction() { cold.compaction = nil }

    /// Writes the messages that were read again.
    mutating func rewrite(_ read: ColdRead, _ bytes: UnsafeRawBufferPointer) {
        guard var pass = cold.compaction, pass.isReading else { return }
        pass.isReading = false
        defer { cold.compaction = pass }
        guard !store.hasFailed, !store.hasEnded else { return }
        let segment = store.segment(read.segment)
        for _ in 0..<pass.runCount {
            // The queue may have ended, or the message may have been read back.
            guard cold.isLive(read.cold), let place = cold.place(pass), place.segment == read.segment,
                place.offset >= read.offset, place.offset < read.offset + bytes.count
            else {
                pass.skip()
                continue
            }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[(place.offset - read.offset)...])
            // Whoever reads it to give it out tells of damage.
            if let found = try? Self.message(place, segment, rest) {
                // What has no room now is read again when it has.
                guard store.mayCopy(found.byteCount) else {
                    pass.neededByteCount = found.byteCount
                    return store.askForSegment()
                }
                writeAgain(found, pass, place, segment)
            }
            pass.skip()
        }
    }

    private mutating func writeAgain(
        _ found: Record, _ pass: ColdCompaction, _ place: ColdPlace, _ segment: ColdSegment
    ) {
        var record = content(of: found, place, segment)
        record.flags.insert(.isCopy)
        // Of ids the table says what is known.
        record.flags.remove(.isDeduplicated)
        record.detail = 0
        record.original = found.reference
        let reference = store.write(record)
        cold.replace(pass, store.coldPlace(reference.position, byteCount: record.recordByteCount))
        // The copy says that the original is of no more use.
        store.release(
            segment.stored(
                at: place, host: store.hosts.number(of: record.queueName), byteCount: found.byteCount))
    }
}
