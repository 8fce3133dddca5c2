import Journal
import JournalFixtures

/// Reads octets as two segments of a log. Their checksums would keep the fuzzer out, so what looks like a record gets the
/// right one.
enum SegmentFuzzer {
    static func check(_ octets: UnsafeRawBufferPointer) -> String? {
        var bytes = [UInt8](octets)
        let half = bytes.count / 2 & ~63
        let names = [
            SegmentName(life: 1, worker: 0, sequence: 0),
            SegmentName(life: 1, worker: 0, sequence: 1 + UInt32((bytes.last ?? 0) % 3)),
        ]
        for offset in stride(from: 0, to: bytes.count - 63, by: 64) { Checksum.mend(&bytes, at: offset) }
        return RecoveryCheck.fault(of: [names[0]: Array(bytes[..<half]), names[1]: Array(bytes[half...])])
    }
}

/// The checksum of the record at an offset, as it should be.
enum Checksum {
    static func mend(_ bytes: inout [UInt8], at offset: Int) {
        bytes.withUnsafeMutableBytes { all in
            guard all[offset..<offset + 4].elementsEqual("JREC".utf8) else { return }
            let byteCount = RecordReader.byteCount(ofRecordAt: UnsafeRawPointer(all.baseAddress! + offset))
            guard byteCount <= all.count - offset else { return }
            let checksum = value(UnsafeRawBufferPointer(rebasing: all[offset + 8..<offset + byteCount]))
            all.storeBytes(of: checksum.littleEndian, toByteOffset: offset + 4, as: UInt32.self)
        }
    }

    /// Bit by bit, apart from the code under test.
    static func value(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var state = ~UInt32(0)
        for byte in bytes {
            state ^= UInt32(byte)
            for _ in 0..<8 { state = state & 1 == 1 ? state >> 1 ^ 0x82F6_3B78 : state >> 1 }
        }
        return ~state
    }
}

/// What is true of any directory.
enum RecoveryCheck {
    static func fault(of files: Files) -> String? {
        let state = recover(files)
        if let fault = fault(of: state, files) { return fault }
        return faultOfScans(files) ?? faultOfRepair(files)
    }

    static func fault(of state: RecoveredState, _ files: Files) -> String? {
        guard state.segments.map(\.name) == files.keys.sorted() else { return "segments are missing in the state" }
        guard state.segments.reduce(0, { $0 + $1.liveMessageCount }) == state.messages.count else {
            return "the segments' counts are not those of the messages"
        }
        guard state.queues.reduce(0, { $0 + $1.messageCount }) == state.messages.count else {
            return "the queues' counts are not those of the messages"
        }
        for (earlier, later) in zip(state.messages, state.messages.dropFirst())
        where earlier.orderKey > later.orderKey {
            return "messages are not in order"
        }
        for message in state.messages {
            let segment = state.segments[Int(message.segment)]
            let record = files[segment.name]!.withUnsafeBytes { bytes in
                (try? RecordReader.read(
                    bytes, at: segment.offset(of: message.position), position: message.position,
                    worker: message.worker, magic: segment.recordMagic)).map {
                        ($0.type, [UInt8]($0.message.queueName))
                    }
            }
            guard let record, record.0 == .message else { return "a message that lives cannot be read" }
            guard record.1 == state.queues[Int(message.queue)].name else { return "a message is in a wrong queue" }
        }
        return nil
    }

    private static func faultOfScans(_ files: Files) -> String? {
        for (name, bytes) in files {
            let isWhole = bytes.withUnsafeBytes { bytes in
                var scan = SegmentScan(name, bytes)
                var end = 0
                while let item = scan.next() {
                    switch item {
                    case .record(let record, let offset):
                        guard offset == end else { return false }
                        end += record.byteCount
                    case .other(let range, _):
                        guard range.lowerBound == end, !range.isEmpty else { return false }
                        end = range.upperBound
                    }
                }
                return end <= bytes.count
            }
            if !isWhole { return "a scan of \(name) has gaps" }
        }
        return nil
    }

    private static func faultOfRepair(_ files: Files) -> String? {
        var files = files
        let sequences = files.values.reduce(0) { $0 + $1.count } / 64 + 64
        for _ in 0..<sequences {
            guard let finding = recover(files).findings.first(where: \.isFatal) else { return nil }
            let steps = (files[finding.segment] ?? []).withUnsafeBytes { Repair.steps(for: finding, $0) }
            // What the sizes of the octets do not allow, or a newer format.
            if steps.isEmpty { return nil }
            // Files of a GiB are nothing for the fuzzer.
            if steps.contains(where: { $0.segmentByteCount > 1 << 20 }) || steps.count > 64 { return nil }
            for step in steps {
                var bytes = files[step.segment] ?? []
                bytes += [UInt8](repeating: 0, count: max(0, step.segmentByteCount - bytes.count))
                bytes.replaceSubrange(step.offset..<step.offset + step.bytes.count, with: step.bytes)
                files[step.segment] = bytes
            }
        }
        return "repair does not end"
    }
}
