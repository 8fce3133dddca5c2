import Journal
import JournalFixtures
import Testing

/// One record, or several in a row, in memory of its own.
private final class Page {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64)
    var writer: RecordWriter

    init(position: UInt64 = JournalFormat.position(life: 3, offset: 8192), worker: UInt16 = 5) {
        memory.initializeMemory(as: UInt8.self, repeating: 0xEE)
        writer = RecordWriter(at: memory.baseAddress!, byteCountMax: 4096, position: position, worker: worker)
    }

    deinit { memory.deallocate() }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(memory) }

    func read(at offset: Int = 0) throws(RecordDamage) -> Record {
        try RecordReader.read(
            bytes, at: offset, position: writer.firstPosition + UInt64(offset / 64), worker: writer.worker)
    }
}

struct RecordTests {
    @Test func `positions hold life and offset`() {
        let position = JournalFormat.position(life: 0xFFFFF, offset: 64 * 5)
        #expect(JournalFormat.life(of: position) == JournalFormat.lifeMax)
        #expect(JournalFormat.offset(of: position) == 320)
        let far = (1 << 44 - 1) * 64
        #expect(JournalFormat.offset(of: JournalFormat.position(life: 1, offset: far)) == far)
        #expect(JournalFormat.position(life: 1, offset: far) < JournalFormat.position(life: 2, offset: 0))
    }

    @Test func `segment names are written and read`() {
        let name = SegmentName(life: 0xFACE, worker: 11, sequence: 0xDEAD_BEEF)
        #expect(name.description == "0000face-000b-deadbeef.log")
        #expect(SegmentName(fileName: name.description) == name)
        for text in [
            "", "lock", "0000face-000b-deadbeef.lo", "0000FACE-000b-deadbeef.log", "0000face_000b-deadbeef.log",
            "0000face-000b-deadbeef.log.new", "fffffffe-0000-00000000.log", "0000face-000g-deadbeef.log",
        ] { #expect(SegmentName(fileName: text) == nil, "\(text)") }
    }

    @Test func `a message is read as it was written`() throws {
        let page = Page()
        let original = MessageReference(position: 12345, worker: 77)
        let reference = page.writer.message("body", to: "/queue/q") {
            $0.identity = 0x0102_0304_0506_0708
            $0.expiresAt = 99
            $0.flags = [.isPlain, .isCopy, .isRedelivered, RecordFlags(rawValue: 1 << 9)]
            $0.failureCount = 3
            $0.orderKey = 42
            $0.original = original
        }
        let record = try page.read()
        #expect(record.type == .message)
        #expect(record.reference == reference)
        #expect(record.byteCount == page.writer.byteCount)
        let message = record.message
        #expect(message.identity == 0x0102_0304_0506_0708)
        #expect(message.expiresAt == 99)
        #expect(message.flags == [.isPlain, .isCopy, .isRedelivered, RecordFlags(rawValue: 1 << 9)])
        #expect(message.failureCount == 3)
        #expect(message.orderKey == 42)
        #expect(message.original == original)
        #expect(message.headersByteCount == 4)
        #expect(message.bodyByteCount == 4)
        #expect(message.recordByteCount == record.byteCount)
        #expect(String(decoding: message.queueName, as: UTF8.self) == "/queue/q")
        let content = UnsafeRawBufferPointer(start: message.content, count: message.contentByteCount)
        #expect(content.elementsEqual(Array("k:v\n\nbody\0\n".utf8)))
    }

    @Test func `a message that is no copy has its own position as order key and no original`() throws {
        let page = Page()
        let reference = page.writer.message("") { $0.original.position = 9 }
        #expect(try page.read().message.orderKey == reference.position)
        #expect(try page.read().message.original.position == 0)
    }

    @Test(arguments: [1, 2, 3, 4, 100])
    func `acknowledgements are read as they were written`(_ count: Int) throws {
        let page = Page()
        let references = (0..<count).map { MessageReference(position: UInt64($0) << 33 | 1, worker: UInt16($0 * 300)) }
        references.withUnsafeBufferPointer { page.writer.write(acknowledged: $0) }
        #expect(page.writer.byteCount == RecordWriter.acknowledgementByteCount(count))
        let record = try page.read()
        #expect(record.type == .acknowledgement)
        #expect((0..<record.referenceCount).map { record.reference(at: $0) } == references)
    }

    @Test func `failure counts, queues and transactions are read as they were written`() throws {
        let page = Page()
        let reference = MessageReference(position: 8, worker: 2)
        page.writer.write(failureCount: 513, of: reference)
        var offset = page.writer.byteCount
        #expect(try page.read().type == .failureCount)
        #expect(try page.read().detail == 513)
        #expect(try page.read().reference(at: 0) == reference)

        Array("/queue/made".utf8).withUnsafeBytes { name in
            Array("/queue/DLQ".utf8).withUnsafeBytes { dead in
                var queue = QueueRecord(queueName: name)
                queue.messageCountMax = 10
                queue.byteCountMax = 20
                queue.messageMillisecondsMax = 30
                queue.overflow = 2
                queue.deadLetterName = dead
                page.writer.write(queueMade: queue)
            }
        }
        let queue = try page.read(at: offset).queue
        #expect((queue.messageCountMax, queue.byteCountMax, queue.messageMillisecondsMax) == (10, 20, 30))
        #expect(queue.overflow == 2)
        #expect(queue.queueName.elementsEqual(Array("/queue/made".utf8)))
        #expect(queue.deadLetterName.elementsEqual(Array("/queue/DLQ".utf8)))
        #expect(queue.recordByteCount == page.writer.byteCount - offset)

        offset = page.writer.byteCount
        Array("/queue/gone".utf8).withUnsafeBytes { page.writer.write(queueRemoved: $0) }
        #expect(try page.read(at: offset).type == .queueRemoved)
        #expect(try page.read(at: offset).payload.elementsEqual(Array("/queue/gone".utf8)))

        offset = page.writer.byteCount
        Array("/topic/log".utf8).withUnsafeBytes { page.writer.write(topicOffsets: $0, below: 1 << 50) }
        #expect(try page.read(at: offset).type == .topicOffsets)
        #expect(try page.read(at: offset).detail == 1 << 50)
        #expect(try page.read(at: offset).payload.elementsEqual(Array("/topic/log".utf8)))

        offset = page.writer.byteCount
        page.writer.beginPart(transaction: 1 << 60, partCount: 3)
        page.writer.message("x")
        page.writer.endPart()
        let part = try page.read(at: offset)
        #expect(part.type == .transactionPart)
        #expect((part.transaction, part.partCount) == (1 << 60, 3))
        #expect(part.conditions.isEmpty)
        #expect(Int(part.detail) == page.writer.byteCount - offset - part.byteCount)
        #expect(try page.read(at: offset + part.byteCount).type == .message)

        offset = page.writer.byteCount
        page.writer.write(transactionEnd: 1 << 60)
        #expect(try page.read(at: offset).type == .transactionEnd)
        #expect(try page.read(at: offset).detail == 1 << 60)
    }

    @Test func `headers, marks and ends are read as they were written`() throws {
        let page = Page()
        var header = SegmentHeader(
            life: 3, worker: 5, workerCount: 8, sequence: 2, segmentByteCount: 4096, milliseconds: 1 << 41)
        page.writer.write(header)
        #expect(try page.read().segmentHeader == header)
        header.sequence = 3
        #expect(header.position == page.writer.firstPosition + 64)
        let mark = page.writer.reserveMark()
        page.writer.writeSegmentEnd()
        let end = page.writer.byteCount
        page.writer.writeCleanEnd(durable: 1)
        page.writer.writeMark(at: mark, durable: 0x55, firstSequence: 9)
        #expect(page.writer.byteCount == end + 64)
        #expect(try page.read(at: mark).type == .mark)
        #expect(try page.read(at: mark).durable == 0x55)
        #expect(try page.read(at: mark).firstSequence == 9)
        #expect(try page.read(at: mark + 64).type == .segmentEnd)
        #expect(try page.read(at: end).durable == 1)
    }

    /// A record of each type.
    private static func all() -> Page {
        let page = Page()
        page.writer.write(
            SegmentHeader(life: 3, worker: 5, workerCount: 8, sequence: 2, segmentByteCount: 4096, milliseconds: 1))
        let mark = page.writer.reserveMark()
        page.writer.writeMark(at: mark, durable: 5, firstSequence: 1)
        page.writer.message("a body")
        page.writer.write(acknowledged: MessageReference(position: 1, worker: 2))
        page.writer.write(failureCount: 1, of: MessageReference(position: 1, worker: 2))
        Array("/queue/n".utf8).withUnsafeBytes {
            page.writer.write(queueMade: QueueRecord(queueName: $0))
            page.writer.write(queueRemoved: $0)
            page.writer.write(topicOffsets: $0, below: 7)
            page.writer.write(DeduplicationRecord(destination: $0, id: $0, acceptedAt: 7))
            page.writer.write(
                subscriptionMade: SubscriptionRecord(name: $0, topic: $0, dialect: 1, lastUsed: 7))
            page.writer.write(subscriptionRemoved: $0)
        }
        page.writer.beginPart(transaction: 4, partCount: 1)
        page.writer.endPart()
        page.writer.write(transactionEnd: 5)
        page.writer.writeCleanEnd(durable: 6)
        page.writer.writeSegmentEnd()
        return page
    }

    @Test func `a record of each type with any bit flipped is none`() throws {
        let page = Self.all()
        var offset = 0
        var types: Set<RecordType> = []
        while offset < page.writer.byteCount {
            let record = try page.read(at: offset)
            types.insert(record.type)
            for bit in 0..<record.byteCount * 8 {
                page.memory[offset + bit / 8] ^= 1 << UInt8(bit % 8)
                let damage: RecordDamage?
                do throws(RecordDamage) { _ = try page.read(at: offset); damage = nil } catch { damage = error }
                page.memory[offset + bit / 8] ^= 1 << UInt8(bit % 8)
                // It is never taken for a place where nothing was written.
                #expect(damage == .checksum || damage == .length, "\(record.type), bit \(bit)")
            }
            offset += record.byteCount
        }
        #expect(types.count == RecordType.allCases.count - 1, "all but skip")
    }

    @Test func `bytes that end anywhere are read without a fault`() {
        let page = Self.all()
        for count in 0...page.writer.byteCount {
            for offset in stride(from: 0, to: page.writer.byteCount, by: 64) {
                let bytes = UnsafeRawBufferPointer(rebasing: page.bytes.prefix(count))
                _ = try? RecordReader.read(bytes, at: offset, position: nil, worker: 5)
            }
        }
    }

    @Test func `a record of another place, life or worker is nothing that was written here`() {
        let page = Page()
        page.writer.message("x")
        let position = page.writer.firstPosition
        let others: [(UInt64, UInt16)] = [(position + 1, 5), (position + 1 << 44, 5), (position, 6)]
        for (position, worker) in others {
            #expect(throws: RecordDamage.vacant) {
                try RecordReader.read(page.bytes, at: 0, position: position, worker: worker)
            }
        }
    }
}
