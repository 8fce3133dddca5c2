/// Something to write into a segment, so that what is behind a hole is used again.
public struct RepairStep: Equatable, Sendable {
    public var segment: SegmentName
    /// The file has to have this size: it is made, or lengthened with zeros.
    public var segmentByteCount: Int
    /// Where `bytes` go.
    public var offset: Int
    public var bytes: [UInt8]
    /// What is given up, from `offset` on or from a place behind it in `bytes`: `stampede` keeps a copy of it.
    public var givenUp: Range<Int>
}

/// Mends what recovery refuses, by giving up what is damaged and nothing else.
///
/// A `skip` record takes the place of damaged bytes up to the next intact record; a header is written again; a file that is
/// missing is made, and says that nothing is in it. A part of a transaction with damage in it is given up as a whole; where
/// its head is damaged, its records count by themselves.
public enum Repair {
    /// The most segments in a row that are made anew.
    public static let missingCountMax = 1 << 12

    /// What mends a fatal finding. Then the log is read again, for behind the place there may be another.
    ///
    /// - Parameter bytes: of the finding's segment; empty where it is missing.
    /// - Returns: nothing, if it cannot be mended.
    public static func steps(for finding: RecoveryFinding, _ bytes: UnsafeRawBufferPointer) -> [RepairStep] {
        guard finding.kind == .hole else { return [] }
        if finding.damage == .missing { return missingSegments(finding) }
        let segmentByteCount = finding.segmentByteCount == 0 ? bytes.count : finding.segmentByteCount
        guard isUsable(segmentByteCount, finding.segment) else { return [] }
        let base = JournalFormat.position(
            life: finding.segment.life, offset: Int(finding.segment.sequence) * segmentByteCount)
        var end = segmentByteCount
        let intact = RecordReader.next(
            bytes, from: finding.damagedOffset + JournalFormat.unitByteCount, basePosition: base,
            worker: finding.segment.worker, magic: finding.recordMagic)
        if let intact { end = intact.offset }
        if finding.damagedOffset != finding.offset {
            // The head of the part is intact, and says where it ends.
            let head = try? RecordReader.read(
                bytes, at: finding.offset, position: nil, worker: finding.segment.worker, magic: finding.recordMagic)
            if let head { end = min(finding.offset + head.byteCount + Int(clamping: head.detail), segmentByteCount) }
        }
        let hasHeader = finding.offset > 0
        let start = hasHeader ? finding.offset : RecordWriter.segmentHeaderByteCount
        end = max(end, start)
        var finding = finding
        // Where no header tells, the records do.
        if finding.recordMagic == nil, let intact {
            finding.recordMagic = (bytes.baseAddress! + intact.offset).little(0, UInt32.self)
        }
        return [
            step(finding, segmentByteCount, hasHeader: hasHeader, skip: start..<end, givenUp: finding.offset..<end)
        ]
    }

    private static func missingSegments(_ finding: RecoveryFinding) -> [RepairStep] {
        guard let next = finding.nextSegment, isUsable(finding.segmentByteCount, next),
            next.sequence > finding.segment.sequence,
            Int(next.sequence - finding.segment.sequence) <= missingCountMax
        else { return [] }
        return (finding.segment.sequence..<next.sequence).map { sequence in
            var missing = finding
            missing.segment.sequence = sequence
            let start = RecordWriter.segmentHeaderByteCount
            return step(
                missing, finding.segmentByteCount, hasHeader: false, skip: start..<finding.segmentByteCount,
                givenUp: 0..<0)
        }
    }

    private static func isUsable(_ segmentByteCount: Int, _ name: SegmentName) -> Bool {
        segmentByteCount % JournalFormat.unitByteCount == 0
            && JournalFormat.segmentByteCountMin...JournalFormat.segmentByteCountMax ~= segmentByteCount
    }

    private static func step(
        _ finding: RecoveryFinding, _ segmentByteCount: Int, hasHeader: Bool, skip: Range<Int>, givenUp: Range<Int>
    ) -> RepairStep {
        let name = finding.segment
        let offset = hasHeader ? skip.lowerBound : 0
        let magic = finding.recordMagic ?? JournalFormat.magic
        let bytes = withUnsafeTemporaryAllocation(byteCount: 128, alignment: 64) { memory in
            let base = JournalFormat.position(life: name.life, offset: Int(name.sequence) * segmentByteCount)
            var writer = RecordWriter(
                at: memory.baseAddress!, byteCountMax: memory.count,
                position: base + UInt64(offset / JournalFormat.unitByteCount), worker: name.worker, magic: magic)
            if !hasHeader {
                writer.write(
                    SegmentHeader(
                        life: name.life, worker: name.worker, workerCount: finding.workerCount,
                        sequence: name.sequence, segmentByteCount: segmentByteCount, milliseconds: 0,
                        recordMagic: magic))
            }
            if !skip.isEmpty { writer.write(skip: skip.count) }
            return [UInt8](memory.prefix(writer.byteCount))
        }
        return RepairStep(
            segment: name, segmentByteCount: segmentByteCount, offset: offset, bytes: bytes, givenUp: givenUp)
    }
}
