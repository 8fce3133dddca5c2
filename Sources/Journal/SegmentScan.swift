/// What is in a segment, piece by piece, without asking what it means: for `stampede storage dump`.
///
///     var scan = SegmentScan(name, bytes)
///     while let item = scan.next() { … }
public struct SegmentScan {
    public enum Item {
        case record(Record, offset: Int)
        /// Bytes up to the next intact record, or to the end.
        case other(Range<Int>, RecordDamage)
    }

    private let bytes: UnsafeRawBufferPointer
    private let worker: UInt16
    private let basePosition: UInt64
    /// nil: the header does not tell.
    private let recordMagic: UInt32?
    private var offset = 0

    /// - Parameter bytes: the file's, valid as long as this value is used.
    public init(_ name: SegmentName, _ bytes: UnsafeRawBufferPointer) {
        worker = name.worker
        let header = try? Recovery.header(of: bytes, name, segmentByteCount: 0)
        let isKnown = header.map { $0.version <= JournalFormat.version } ?? false
        recordMagic = isKnown ? header!.recordMagic : nil
        let byteCount = isKnown ? header!.segmentByteCount : bytes.count
        self.bytes = UnsafeRawBufferPointer(rebasing: bytes.prefix(byteCount))
        basePosition = JournalFormat.position(life: name.life, offset: Int(name.sequence) &* byteCount)
    }

    public mutating func next() -> Item? {
        guard offset < bytes.count else { return nil }
        let position = basePosition &+ UInt64(offset / JournalFormat.unitByteCount)
        let damage: RecordDamage
        do throws(RecordDamage) {
            let magic = offset == 0 ? JournalFormat.magic : recordMagic
            let record = try RecordReader.read(bytes, at: offset, position: position, worker: worker, magic: magic)
            defer { offset += record.byteCount }
            return .record(record, offset: offset)
        } catch { damage = error }
        let start = offset
        let next = RecordReader.next(
            bytes, from: start + JournalFormat.unitByteCount, basePosition: basePosition, worker: worker,
            magic: recordMagic)
        offset = next?.offset ?? bytes.count
        return .other(start..<offset, damage)
    }
}
