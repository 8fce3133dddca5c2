import Journal
import Slabs

/// A segment in which messages are that are in the log alone.
struct ColdSegment: BitwiseCopyable {
    var name: SegmentName
    /// Where it begins in its log.
    var position: LogPosition
    /// Among the segments of earlier lives. -1: it is of this life.
    var earlierSegment: Int32
    var isRedelivered: Bool
    /// With which its records begin.
    var recordMagic: UInt32

    /// Where a record is, as memory has it.
    ///
    /// - Parameters:
    ///   - host: whose it is: a number of `HostStorage`.
    ///   - orderKey: 0: its position.
    ///   - byteCount: of the record.
    @inline(__always)
    func stored(
        at place: ColdPlace, host: UInt16, orderKey: LogPosition = 0, byteCount: Int? = nil
    ) -> StoredPlace {
        let position = position + UInt64(place.unit)
        return StoredPlace(
            position: position, orderKey: orderKey == 0 ? position : orderKey, worker: name.worker,
            host: host, byteCount: UInt32(clamping: byteCount ?? place.byteCount), earlierSegment: earlierSegment)
    }
}

// Messages that are in the log alone. Segments have numbers: those of earlier lives come first, and those of this life are
// counted behind them and begin anew when the numbers are used up. Which one is meant is clear, for less than a round of
// them is needed at a time.
extension MessageStore {
    @inline(__always)
    private var earlierCount: UInt32 { UInt32(clamping: options.earlier?.segments.count ?? 0) }
    @inline(__always)
    private var ownCount: UInt32 { ColdPlace.segmentCountMax - earlierCount }

    /// There are numbers for the segments.
    @inline(__always)
    var hasSegmentNumbers: Bool { earlierCount <= ColdPlace.segmentCountMax / 2 }

    @inline(__always)
    private func coldSegment(own sequence: UInt32) -> UInt32 { earlierCount + sequence % ownCount }

    /// The segment with that number. It is needed.
    @inline(__always)
    func segment(_ number: UInt32) -> ColdSegment {
        if number < earlierCount, let earlier = options.earlier {
            let segment = earlier.segments[Int(number)]
            return ColdSegment(
                name: segment.name, position: segment.position, earlierSegment: Int32(number),
                isRedelivered: segment.name.life <= earlier.redeliveredLifeMax, recordMagic: segment.recordMagic)
        }
        let sequence = sequence(ofOwn: number)
        return ColdSegment(
            name: SegmentName(life: options.life, worker: UInt16(worker), sequence: sequence),
            position: JournalFormat.position(life: options.life, offset: Int(sequence) * options.segmentByteCount),
            earlierSegment: -1, isRedelivered: false, recordMagic: options.recordMagic)
    }

    @inline(__always)
    private func sequence(ofOwn number: UInt32) -> UInt32 {
        let place = number - earlierCount
        let first = firstNeeded % ownCount
        return firstNeeded + (place >= first ? place - first : place + ownCount - first)
    }

    /// Where a record of this life is.
    @inline(__always)
    func coldPlace(_ position: LogPosition, byteCount: Int) -> ColdPlace {
        let offset = JournalFormat.offset(of: position)
        return ColdPlace(
            segment: coldSegment(own: UInt32(offset / options.segmentByteCount)),
            unit: UInt32(offset % options.segmentByteCount / JournalFormat.unitByteCount),
            size: RecordSize(byteCount: byteCount))
    }

    /// Where a record is that is in the log.
    @inline(__always)
    func coldPlace(_ place: StoredPlace) -> ColdPlace {
        guard place.earlierSegment >= 0, let earlier = options.earlier else {
            return coldPlace(place.position, byteCount: Int(place.byteCount))
        }
        let size = RecordSize(byteCount: Int(place.byteCount))
        return coldPlace(place.position, in: Int(place.earlierSegment), earlier, size)
    }

    @inline(__always)
    func coldPlace(
        _ position: LogPosition, in segment: Int, _ earlier: EarlierSegments, _ size: RecordSize
    ) -> ColdPlace {
        ColdPlace(
            segment: UInt32(segment), unit: UInt32(position - earlier.segments[segment].position), size: size)
    }

    /// From here on the segment's records are not in its file yet.
    @inline(__always)
    func readableEnd(_ number: UInt32) -> Int {
        number < earlierCount ? .max : staging.firstOffset(in: sequence(ofOwn: number))
    }

    /// The bytes from the record on, if it is not in its file yet, and never will be after a failure.
    @inline(__always)
    func stagedBytes(_ place: ColdPlace) -> UnsafeRawBufferPointer? {
        if place.segment < earlierCount || staging.isEmpty { return nil }
        return staging.bytes(sequence(ofOwn: place.segment), place.offset)
    }

    /// The segment is what the pass is about, as with `StoredPlace`: what is in it is written again.
    @inline(__always)
    func isAtFront(_ place: ColdPlace) -> Bool {
        place.segment < earlierCount || Int(sequence(ofOwn: place.segment)) == compactedFront
    }

    /// Writes a message whose content is not in one piece: see `RecordWriter`.
    mutating func write(
        _ message: MessageRecord, extra: UnsafeRawBufferPointer, headers: UnsafeRawPointer, body: UnsafeRawPointer
    ) -> MessageReference {
        let reference = staging.room(message.recordByteCount, milliseconds).pointee.write(
            message, extra: extra, headers: headers, body: body)
        didWrite()
        count(staging.sequence)
        countStored(message)
        return reference
    }
}
