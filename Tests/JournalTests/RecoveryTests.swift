import Journal
import JournalFixtures
import Testing

/// What lives, by what the logs say.
struct RecoveryTests {
    @Test func `messages without acknowledgement live, in order`() {
        let log = TestLog()
        let first = log.send("1")
        log.send("2")
        log.send("3", to: "/queue/b")
        log.acknowledge(first)
        log.send("4")
        let state = recover(log.files)
        #expect(state.live(log.files) == ["a: 2", "b: 3", "a: 4"])
        #expect(state.findings == [])
        #expect(state.counts.messageCount == 4)
        #expect(state.counts.acknowledgedCount == 1)
        #expect(state.segments.map(\.liveMessageCount) == [3])
        #expect(state.queues.map(\.messageCount).reduce(0, +) == 3)
    }

    @Test func `no files, and files that were never begun, hold nothing`() {
        #expect(recover([:]).messages.isEmpty)
        #expect(recover([:]).lifeMax == 0)
        let name = SegmentName(life: 4, worker: 0, sequence: 0)
        let state = recover([name: [UInt8](repeating: 0, count: 4096)])
        #expect(state.findings == [])
        #expect(state.lifeMax == 4)
    }

    @Test func `a log goes on over many segments`() {
        let log = TestLog()
        var references: [MessageReference] = []
        for number in 0..<200 {
            references.append(log.send("\(number)"))
            if number % 3 == 0 { log.acknowledge(references[number]) }
        }
        #expect(log.names.count > 10)
        let state = recover(log.files)
        #expect(state.findings == [])
        #expect(state.live(log.files) == (0..<200).filter { $0 % 3 != 0 }.map { "a: \($0)" })
        #expect(state.segments.reduce(0) { $0 + $1.liveMessageCount } == state.messages.count)
    }

    @Test func `a segment that is full to its last byte needs no end`() {
        let log = TestLog()
        log.append { _ in }
        while log.offset < 4096 - 128 { log.append(atMost: 0) { _ in } }
        #expect(log.offset == 4096 - 128)
        // A mark, and a message of 64 bytes would be too much: the mark and an end of a transaction.
        log.append(atMost: 0) { $0.write(transactionEnd: 1) }
        #expect(log.offset == 4096)
        log.send("next")
        #expect(log.names.count == 2)
        #expect(live(log.files) == ["a: next"])
        #expect(recover(log.files).findings == [])
    }

    @Test func `a segment's worth of messages that are gone takes no memory, and the rest stays`() {
        let log = TestLog(segmentByteCount: 1 << 20)
        var references: [MessageReference] = []
        for number in 0..<1000 { references.append(log.send("\(number)")) }
        for reference in references.dropLast(2) { log.acknowledge(reference) }
        let state = recover(log.files)
        #expect(state.live(log.files) == ["a: 998", "a: 999"])
        // Twice is once.
        log.acknowledge(references[0], references[998])
        log.acknowledge(references[998])
        #expect(live(log.files) == ["a: 999"])
    }

    @Test func `acknowledgements of a later life and of another worker count, and of freed segments mean nothing`() {
        let old = TestLog(life: 1, worker: 3, workerCount: 4)
        let first = old.send("old 1")
        old.send("old 2")
        let new = TestLog(life: 2, worker: 0)
        new.acknowledge(first)
        new.acknowledge(MessageReference(position: JournalFormat.position(life: 1, offset: 1 << 30), worker: 3))
        new.acknowledge(MessageReference(position: JournalFormat.position(life: 1, offset: 64), worker: 9))
        new.acknowledge(MessageReference(position: .max, worker: .max))
        new.send("new")
        let files = old.files + new.files
        #expect(live(files) == ["a: old 2", "a: new"])
        #expect(recover(files).findings == [])
        // A record of the same place in another life or of another worker is another message.
        let twin = TestLog(life: 1, worker: 2, workerCount: 4)
        twin.send("twin 1")
        #expect(live(files + twin.files) == ["a: twin 1", "a: old 2", "a: new"])
    }

    @Test func `an acknowledgement that is read before its message counts, if both are of one life`() {
        let message = TestLog(worker: 1, workerCount: 2)
        let reference = message.send("x")
        let acknowledgement = TestLog(worker: 0, workerCount: 2)
        acknowledgement.acknowledge(reference)
        #expect(live(message.files + acknowledgement.files) == [])
    }

    @Test func `the order is that of the first records, over lives and workers`() {
        let first = TestLog(life: 1, worker: 1, workerCount: 2)
        for body in ["1", "2", "3"] { first.send(body) }
        let second = TestLog(life: 2, worker: 0)
        for body in ["4", "5"] { second.send(body) }
        let third = TestLog(life: 10, worker: 7, workerCount: 8)
        third.send("6")
        let files = third.files + first.files + second.files
        #expect(live(files) == ["1", "2", "3", "4", "5", "6"].map { "a: \($0)" })
        #expect(recover(files).lifeMax == 10)
    }

    @Test func `a copy takes the original's place in the order, and the original is of no more use`() {
        let old = TestLog(life: 1)
        let first = old.send("1")
        old.send("2")
        let new = TestLog(life: 2)
        new.send("3")
        let copy = new.append {
            $0.message("1") {
                $0.flags = [.isCopy, .isPlain]
                $0.orderKey = first.position
                $0.original = first
                $0.failureCount = 2
            }
        }
        let files = old.files + new.files
        let state = recover(files)
        #expect(state.live(files) == ["a: 1", "a: 2", "a: 3"])
        #expect(state.messages[0].reference == copy)
        #expect(state.messages[0].failureCount == 2)
        #expect(state.segments.map(\.liveMessageCount) == [1, 2])
        // The first life's segment may go when its second message has gone too.
        #expect(live(new.files) == ["a: 1", "a: 3"])
        new.acknowledge(copy)
        #expect(live(old.files + new.files) == ["a: 2", "a: 3"])
    }

    @Test func `failure counts are those of the last record, and make a message redelivered`() {
        let log = TestLog()
        let first = log.send("1")
        log.send("2")
        log.append {
            $0.write(failureCount: 1, of: first)
            $0.write(failureCount: 4, of: first)
        }
        log.endCleanly()
        let state = recover(log.files)
        #expect(state.messages.map(\.failureCount) == [4, 0])
        #expect(state.messages.map(\.isRedelivered) == [true, false])
    }

    @Test func `after a life that did not end cleanly its messages and those before may have been delivered`() {
        let clean = TestLog(life: 1)
        clean.send("1")
        clean.endCleanly()
        #expect(recover(clean.files).messages.map(\.isRedelivered) == [false])
        let crashed = TestLog(life: 2)
        crashed.send("2")
        let last = TestLog(life: 3)
        last.send("3")
        last.endCleanly()
        #expect(recover(clean.files + crashed.files).messages.map(\.isRedelivered) == [true, true])
        #expect(recover(clean.files + last.files).messages.map(\.isRedelivered) == [false, false])
        let state = recover(clean.files + crashed.files + last.files)
        #expect(state.messages.map(\.isRedelivered) == [true, true, false])
        // One of two workers did not end.
        let other = TestLog(life: 3, worker: 1)
        other.send("4")
        #expect(recover(last.files + other.files).messages.map(\.isRedelivered) == [true, true])
    }

    @Test func `a worker that failed before it had made a segment may have delivered everything`() {
        let first = TestLog(life: 1, worker: 0, workerCount: 2)
        first.send("1")
        first.endCleanly()
        #expect(recover(first.files).messages.map(\.isRedelivered) == [true])
        let second = TestLog(life: 1, worker: 1, workerCount: 2)
        second.endCleanly()
        #expect(recover(first.files + second.files).messages.map(\.isRedelivered) == [false])
        // What an older life left out is marked by the next one, which says so itself.
        let next = TestLog(life: 2)
        next.endCleanly()
        #expect(recover(first.files + next.files).messages.map(\.isRedelivered) == [false])
    }

    @Test func `a life that began and left no segment may have delivered everything`() {
        let log = TestLog(life: 3)
        log.send("1")
        log.endCleanly()
        for (lifeBegun, isRedelivered) in [(UInt32(0), false), (3, false), (4, true)] {
            var recovery = Recovery()
            log.files[log.names[0]]!.withUnsafeBytes { recovery.read(log.names[0], $0) }
            let state = recovery.finish(lifeBegun: lifeBegun)
            #expect(state.messages.map(\.isRedelivered) == [isRedelivered])
            #expect(state.lifeMax == max(3, lifeBegun))
        }
    }

    @Test func `the newest record of a queue counts, and pins its segment`() {
        func made(_ name: String, _ countMax: UInt64) -> (inout RecordWriter) -> Void {
            { writer in
                Array(name.utf8).withUnsafeBytes {
                    var queue = QueueRecord(queueName: $0)
                    queue.messageCountMax = countMax
                    writer.write(queueMade: queue)
                }
            }
        }
        let log = TestLog()
        log.append(made("/queue/a", 1))
        log.append(made("/queue/b", 2))
        log.beginSegment()
        log.append(made("/queue/a", 3))
        log.append { writer in Array("/queue/b".utf8).withUnsafeBytes { writer.write(queueRemoved: $0) } }
        let state = recover(log.files)
        #expect(state.segments.map(\.liveQueueCount) == [0, 1])
        var counts: [String: UInt64] = [:]
        for queue in state.queues {
            queue.withRecord { counts[String(decoding: $0.queueName, as: UTF8.self)] = $0.messageCountMax }
        }
        #expect(counts == ["/queue/a": 3])
    }

    @Test func `the newest offsets of a topic's log count, and pin their segment`() {
        func offsets(_ name: String, _ end: UInt64) -> (inout RecordWriter) -> Void {
            { writer in Array(name.utf8).withUnsafeBytes { writer.write(topicOffsets: $0, below: end) } }
        }
        let log = TestLog()
        log.append(offsets("/topic/a", 64))
        log.append(offsets("/topic/b", 128))
        log.beginSegment()
        // An orderly end gives back what was not used.
        log.append(offsets("/topic/a", 10))
        let next = TestLog(life: 2)
        next.append(offsets("/topic/b", 256))
        let state = recover(log.files.merging(next.files) { $1 })
        let ends = state.queues.map { (String(decoding: $0.name, as: UTF8.self), $0.offsetEnd) }
        #expect(ends.count == 2 && ends[0] == ("/topic/a", 10) && ends[1] == ("/topic/b", 256))
        #expect(state.segments.map(\.liveQueueCount) == [0, 1, 1])
    }

    @Test func `a message that a topic keeps is found with its flags and its time`() {
        let log = TestLog()
        log.append {
            $0.message("logged", to: "/topic/a") {
                $0.flags = [.isPlain, .isLogged]
                $0.detail = 1_700_000_000_123
            }
        }
        log.append { $0.message("retained", to: "/topic/a") { $0.flags = [.isPlain, .isRetained] } }
        let state = recover(log.files)
        #expect(state.messages.map(\.isRetained) == [false, true])
        log.files[log.names[0]]!.withUnsafeBytes { bytes in
            let offset = JournalFormat.offset(of: state.messages[0].position)
            let record = try? RecordReader.read(bytes, at: offset, position: nil, worker: 0)
            #expect(record?.message.flags == [.isPlain, .isLogged])
            #expect(record?.message.detail == 1_700_000_000_123)
        }
    }

    @Test func `the newest record of a durable subscription counts, and pins its segment`() {
        func made(_ name: String, _ lastUsed: UInt64) -> (inout RecordWriter) -> Void {
            { writer in
                Array(name.utf8).withUnsafeBytes { name in
                    Array("/topic/#".utf8).withUnsafeBytes { topic in
                        writer.write(
                            subscriptionMade: SubscriptionRecord(
                                name: name, topic: topic, dialect: 1, lastUsed: lastUsed))
                    }
                }
            }
        }
        let log = TestLog()
        log.append(made("/dsub/client/c/a", 1))
        log.append(made("/dsub/client/c/b", 2))
        log.beginSegment()
        log.append(made("/dsub/client/c/a", .max))
        log.append { writer in
            Array("/dsub/client/c/b".utf8).withUnsafeBytes { writer.write(subscriptionRemoved: $0) }
        }
        let state = recover(log.files)
        #expect(state.segments.map(\.liveQueueCount) == [0, 1])
        #expect(state.queues.allSatisfy { !$0.isMade })
        var found: [String: UInt64] = [:]
        for queue in state.queues {
            queue.withSubscription {
                #expect($0.topic.elementsEqual("/topic/#".utf8) && $0.dialect == 1)
                found[String(decoding: $0.name, as: UTF8.self)] = $0.lastUsed
            }
        }
        #expect(found == ["/dsub/client/c/a": .max])
    }

    @Test func `many queues without messages are forgotten, and names do not get mixed up`() {
        let log = TestLog(segmentByteCount: 1 << 20)
        var kept: [String] = []
        for number in 0..<10_000 {
            let reference = log.send("\(number)", to: "/queue/q\(number)")
            if number % 1000 == 7 { kept.append("q\(number): \(number)") } else { log.acknowledge(reference) }
        }
        let state = recover(log.files)
        #expect(state.live(log.files) == kept)
        #expect(state.queues.count < 5000)
    }

    @Test func `a newer format is refused`() throws {
        let log = TestLog()
        log.send("1")
        var files = log.files
        files[log.names[0]]!.setVersion(JournalFormat.version + 1, of: log.names[0])
        let state = recover(files)
        #expect(state.findings.map(\.kind) == [.newerFormat])
        #expect(state.findings[0].isFatal)
        #expect(state.messages.isEmpty)
    }
}

extension [UInt8] {
    /// Of a segment of 4,096 bytes: its header, written as a program of another version of the format would.
    mutating func setVersion(_ version: UInt16, of name: SegmentName) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { memory.deallocate() }
        var header = SegmentHeader(
            life: name.life, worker: name.worker, workerCount: 1, sequence: name.sequence, segmentByteCount: 4096,
            milliseconds: 0)
        header.version = version
        var writer = RecordWriter(at: memory, byteCountMax: 64, position: header.position, worker: name.worker)
        writer.write(header)
        replaceSubrange(0..<64, with: UnsafeRawBufferPointer(start: memory, count: 64))
    }
}
