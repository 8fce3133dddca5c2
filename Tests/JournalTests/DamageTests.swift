import Journal
import JournalFixtures
import Testing

/// Bytes that are not as they were written: each has a decided outcome, and none loses or makes up a message in silence.
struct DamageTests {
    /// A log of one segment, what lived after each of its appends, and where each append began.
    private struct Sample {
        var files: Files
        var name: SegmentName
        /// What lives if the log is cut in front of append `i`; the last: whole.
        var states: [[String]]
        var ends: [Int]
    }

    private static func sample(cleanly: Bool = false, background: [UInt8] = []) -> Sample {
        let log = TestLog(life: 2, background: background, recordMagic: 0x1234_5678)
        var states = [live(log.files)]
        var ends = [log.offset]
        func didAppend() {
            states.append(live(log.files))
            ends.append(log.offset)
        }
        let first = log.send("first")
        didAppend()
        log.append { writer in
            writer.message("second")
            writer.message("third", to: "/queue/b")
        }
        didAppend()
        log.acknowledge(first)
        didAppend()
        log.append { writer in
            writer.beginPart(transaction: 1, partCount: 1)
            writer.message("fourth")
            writer.message("fifth")
            writer.endPart()
        }
        didAppend()
        let sixth = log.send("sixth")
        didAppend()
        log.append { $0.write(failureCount: 2, of: sixth) }
        didAppend()
        if cleanly {
            log.endCleanly()
            didAppend()
        }
        return Sample(files: log.files, name: log.names[0], states: states, ends: ends)
    }

    @Test(arguments: [false, true])
    func `any bit of a segment flipped is found, or is of no use`(_ cleanly: Bool) {
        let sample = Self.sample(cleanly: cleanly)
        let end = sample.ends.last!
        for bit in 0..<4096 * 8 where bit < end * 8 + 1024 || bit % 61 == 0 {
            var files = sample.files
            files[sample.name]![bit / 8] ^= 1 << UInt8(bit % 8)
            let state = recover(files)
            let append = sample.ends.firstIndex { bit / 8 < $0 }
            if let append, append < sample.ends.count - 1 {
                // An append behind says that this had been on stable storage.
                #expect(state.findings.map(\.kind) == [.hole], "bit \(bit)")
                #expect(state.findings.first?.isFatal == true)
                let place = state.findings.first?.damagedOffset ?? -1
                #expect(place <= bit / 8 && bit / 8 < place + 256, "bit \(bit): \(place)")
            } else if append != nil {
                // The last append: nobody can tell whether it was complete. It is cut as a whole, and told of.
                #expect(state.findings.map(\.kind) == [.tornTail], "bit \(bit)")
                #expect(state.live(files) == sample.states[sample.states.count - 2], "bit \(bit)")
            } else {
                #expect(state.findings.allSatisfy { !$0.isFatal }, "bit \(bit) behind \(end)")
                #expect(state.live(files) == sample.states.last!, "bit \(bit)")
            }
        }
    }

    @Test func `a file cut at any length is found`() {
        let sample = Self.sample()
        for count in 0...4096 {
            var files = sample.files
            files[sample.name]!.removeLast(4096 - count)
            let state = recover(files)
            if count == 4096 {
                #expect(state.findings == [])
            } else if count >= 64 {
                #expect(state.findings.map(\.kind) == [.hole], "\(count) bytes")
                #expect(state.findings.first?.damage == .truncated)
            } else {
                #expect(state.findings.map(\.damage) == [.unfinished], "\(count) bytes")
            }
        }
    }

    @Test func `the last append torn at any unit, in any pattern, is cut as a whole`() {
        let sample = Self.sample()
        for last in 1..<sample.ends.count {
            let range = sample.ends[last - 1]..<sample.ends[last]
            let units = range.count / 64
            for pattern in 0..<(1 << units) - 1 {
                var files = sample.files
                files[sample.name]!.replaceSubrange(
                    range.upperBound..., with: [UInt8](repeating: 0, count: 4096 - range.upperBound))
                for unit in 0..<units where pattern & 1 << unit == 0 {
                    let start = range.lowerBound + 64 * unit
                    files[sample.name]!.replaceSubrange(start..<start + 64, with: [UInt8](repeating: 0, count: 64))
                }
                let state = recover(files)
                #expect(state.findings.allSatisfy { $0.kind == .tornTail }, "append \(last), pattern \(pattern)")
                if pattern == 0 { #expect(state.findings.isEmpty) }
                // Intact records at the front of it count: they were written, though nobody was promised that.
                let lived = state.live(files)
                #expect(
                    lived == sample.states[last - 1] || lived == sample.states[last]
                        || lived == sample.states[last - 1] + ["a: second"], "append \(last), pattern \(pattern)")
            }
        }
    }

    @Test func `zeros in place of what was on stable storage are a hole`() {
        let sample = Self.sample()
        for unit in 0..<sample.ends[sample.ends.count - 2] / 64 {
            var files = sample.files
            files[sample.name]!.replaceSubrange(64 * unit..<64 * unit + 64, with: [UInt8](repeating: 0, count: 64))
            let state = recover(files)
            #expect(state.findings.map(\.kind) == [.hole], "unit \(unit)")
        }
    }

    @Test func `a hole says where it is and what is behind it`() throws {
        let sample = Self.sample()
        var files = sample.files
        files[sample.name]![sample.ends[1] + 64 + 3] ^= 1
        let finding = try #require(recover(files).findings.first)
        #expect(finding.segment == sample.name)
        #expect(finding.offset == sample.ends[1] + 64)
        #expect(finding.damage == .checksum)
        #expect(finding.behind.messageCount == 4)
        #expect(finding.behind.acknowledgedCount == 1)
        #expect(finding.nextOffset == finding.offset + 192 || finding.nextOffset == finding.offset + 128)
        #expect(finding.description.contains("00000002-0000-00000000.log, byte \(finding.offset)"))
    }

    @Test func `appends under way when the log was torn do not make a hole of it`() {
        let log = TestLog()
        log.send("1")
        log.isSlow = true
        let torn = log.offset
        log.send("2")
        log.send("3")
        var files = log.files
        files[log.names[0]]![torn + 64] ^= 1
        let state = recover(files)
        #expect(state.findings.map(\.kind) == [.tornTail])
        #expect(state.findings[0].behind.messageCount == 1)
        #expect(state.live(files) == ["a: 1"])
    }

    @Test func `what an earlier life left in a segment is not read`() {
        let old = TestLog(life: 1)
        for number in 0..<12 { old.send("old \(number)") }
        let used = old.files[old.names[0]]!
        let sample = Self.sample(background: used)
        let state = recover(sample.files)
        #expect(state.findings == [])
        #expect(state.live(sample.files) == sample.states.last!)
        // The new life's log ends in the midst of an old record.
        for end in sample.ends {
            var files = sample.files
            files[sample.name]!.replaceSubrange(end..., with: used[end...])
            let state = recover(files)
            #expect(state.findings == [], "end \(end)")
            #expect(sample.states.contains(state.live(files)))
        }
    }

    @Test func `what a client wrote as if it were records of this place is taken for none`() {
        let magic: UInt32 = 0x1234_5678
        for guess in [JournalFormat.magic, magic ^ 1, 0, magic] {
            // In a segment that is used again, such bodies are behind the log's end, or where a crash has lost an append.
            let forger = TestLog(life: 2, recordMagic: guess)
            for _ in 0..<12 { forger.send("f") }
            let log = TestLog(life: 2, background: forger.files[forger.names[0]]!, recordMagic: magic)
            log.send("1")
            log.send("2")
            let state = recover(log.files)
            #expect(state.findings.allSatisfy { !$0.isFatal })
            #expect(state.live(log.files).contains("a: f") == (guess == magic))
            #expect(state.live(log.files).prefix(2) == ["a: 1", "a: 2"])
        }
    }

    @Test func `stores of version 1, whose records all begin alike, are read`() {
        let log = TestLog()
        for number in 0..<60 { log.send("\(number)") }
        var files = log.files
        for name in log.names { files[name]!.setVersion(1, of: name) }
        #expect(recover(files).findings == [])
        #expect(live(files) == live(log.files))
    }

    @Test func `a segment that was renamed and not yet begun is empty`() {
        let old = TestLog(life: 1)
        for number in 0..<12 { old.send("old \(number)") }
        let log = TestLog(life: 2)
        log.send("new")
        let next = SegmentName(life: 2, worker: 0, sequence: 1)
        let files = log.files + [next: old.files[old.names[0]]!]
        #expect(recover(files).findings == [])
        #expect(live(files) == ["a: new"])
        // Of the same life too: the file that was sequence 0 is used again as sequence 1.
        let again = log.files + [next: log.files[log.names[0]]!]
        #expect(recover(again).findings == [])
        #expect(live(again) == ["a: new"])
    }

    @Test func `a segment missing in the middle is a hole, at the front it is freed`() {
        let log = TestLog()
        for number in 0..<60 { log.send("\(number)") }
        #expect(log.names.count > 3)
        for missing in log.names {
            var files = log.files
            files[missing] = nil
            let state = recover(files)
            if missing == log.names.first {
                #expect(state.findings.map(\.kind) == [.hole], "the marks say that it is needed")
                #expect(state.findings.first?.damage == .missing)
            } else if missing == log.names.last {
                // Nothing tells this from a log that ended there.
                #expect(state.findings == [])
            } else {
                #expect(state.findings.map(\.kind) == [.hole])
                #expect(state.findings.first?.segment == missing)
                #expect(state.findings.first?.damage == .missing)
            }
        }
        log.firstSequence = 1
        log.send("last")
        var files = log.files
        files[log.names[0]] = nil
        #expect(recover(files).findings == [])
        // Of an older life the front may go, when the newer one has freed it.
        let new = TestLog(life: 2)
        new.send("new")
        files[log.names[1]] = nil
        #expect(recover(files).findings.count == 1)
        #expect(recover(files + new.files).findings == [])
    }

    @Test func `arbitrary bytes lead to some outcome`() {
        var state: UInt64 = 88172645463325252
        func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
        let sample = Self.sample()
        for _ in 0..<300 {
            var files = sample.files
            for _ in 0..<next() % 40 {
                files[sample.name]![Int(next() % 4096)] = UInt8(truncatingIfNeeded: next())
            }
            let other = SegmentName(life: 1 + UInt32(next() % 2), worker: UInt16(next() % 2), sequence: 1)
            files[other] = (0..<Int(next() % 5000)).map { _ in UInt8(truncatingIfNeeded: next()) }
            let lived = live(files)
            #expect(lived.allSatisfy { sample.states.joined().contains($0) })
        }
    }
}
