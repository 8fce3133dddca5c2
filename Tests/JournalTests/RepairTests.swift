import Journal
import JournalFixtures
import Testing

/// A hole is mended by giving up what is damaged and nothing else.
struct RepairTests {
    /// Mends until nothing fatal is found.
    private static func repair(_ files: Files) -> (files: Files, givenUp: Int) {
        var files = files
        var givenUp = 0
        for _ in 0..<50 {
            guard let finding = recover(files).findings.first(where: \.isFatal) else { return (files, givenUp) }
            let steps = (files[finding.segment] ?? []).withUnsafeBytes { Repair.steps(for: finding, $0) }
            #expect(!steps.isEmpty)
            if steps.isEmpty { return (files, givenUp) }
            for step in steps {
                var bytes = files[step.segment] ?? []
                if bytes.count < step.segmentByteCount {
                    bytes += [UInt8](repeating: 0, count: step.segmentByteCount - bytes.count)
                }
                bytes.replaceSubrange(step.offset..<step.offset + step.bytes.count, with: step.bytes)
                files[step.segment] = bytes
                givenUp += step.givenUp.count
            }
        }
        Issue.record("mending does not end")
        return (files, givenUp)
    }

    private static func log() -> TestLog {
        let log = TestLog(life: 3, worker: 2, workerCount: 4, recordMagic: 0x8765_4321)
        for number in 0..<60 { log.send("\(number)") }
        return log
    }

    @Test func `each unit of a log damaged costs at most the one message that is there`() {
        let log = Self.log()
        let all = live(log.files)
        for name in log.names.dropLast() {
            for offset in stride(from: 8, to: 4096, by: 64) {
                var files = log.files
                files[name]![offset] ^= 0x10
                let wasFatal = recover(files).findings.contains(where: \.isFatal)
                let (mended, givenUp) = Self.repair(files)
                let lived = live(mended)
                #expect(Set(all).subtracting(lived).count <= 1, "\(name), byte \(offset)")
                #expect(lived == all.filter(Set(lived).contains), "in order")
                #expect((givenUp > 0) == wasFatal)
            }
        }
    }

    @Test func `segments that are missing, empty or cut are made again`() {
        let log = Self.log()
        let names = log.names
        #expect(names.count > 3)
        var files = log.files
        files[names[0]] = nil
        files[names[1]]!.removeLast(3000)
        let lost = recover([names[1]: log.files[names[1]]!]).messages.count
        #expect(lost > 3)
        let (mended, _) = Self.repair(files)
        let lived = live(mended)
        #expect(lived.last == "a: 59")
        #expect(recover(mended).findings == [])
        #expect(mended[names[0]]!.count == 4096)
        files = log.files
        files[names[1]] = []
        #expect(recover(Self.repair(files).files).findings == [])
        files[names[1]] = nil
        #expect(live(Self.repair(files).files) == live(Self.repair(files).files))
    }

    @Test func `a part of a transaction with damage in it is given up as a whole`() {
        let log = TestLog()
        log.send("before")
        let start = log.offset
        log.append {
            $0.beginPart(transaction: 1, partCount: 1)
            for number in 0..<3 { $0.message("\(number)") }
            $0.endPart()
        }
        let end = log.offset
        log.send("behind")
        // The mark and the head come first.
        for offset in stride(from: start + 128, to: end, by: 64) {
            var files = log.files
            files[log.names[0]]![offset + 5] ^= 1
            #expect(live(Self.repair(files).files) == ["a: before", "a: behind"])
        }
    }

    @Test func `a newer format is not mended`() {
        let finding = RecoveryFinding(
            kind: .newerFormat, segment: SegmentName(life: 1, worker: 0, sequence: 0), offset: 0, damagedOffset: 0,
            damage: .vacant)
        #expect(Repair.steps(for: finding, UnsafeRawBufferPointer(start: nil, count: 0)).isEmpty)
    }

    @Test func `a scan shows each record and each damaged place`() {
        let log = Self.log()
        var bytes = log.files[log.names[0]]!
        bytes[64 * 4] ^= 1
        let pieces: [String] = bytes.withUnsafeBytes {
            var scan = SegmentScan(log.names[0], $0)
            var pieces: [String] = []
            var end = 0
            while let item = scan.next() {
                switch item {
                case .record(let record, let offset):
                    #expect(offset == end)
                    end += record.byteCount
                    pieces.append("\(record.type)")
                case .other(let range, let damage):
                    #expect(range.lowerBound == end)
                    end = range.upperBound
                    pieces.append("\(damage)")
                }
            }
            #expect(end == 4096)
            return pieces
        }
        #expect(pieces.prefix(4) == ["segmentHeader", "mark", "message", RecordDamage.checksum.description])
        #expect(pieces.contains("segmentEnd"))
    }
}
