public import Journal

/// A worker's log of one life, as the broker would write it: each append with its mark, one after the other.
public final class TestLog {
    public let life: UInt32
    public let worker: UInt16
    public let workerCount: UInt16
    public let segmentByteCount: Int
    public let recordMagic: UInt32
    /// What a segment holds before it is used.
    public var background: [UInt8]
    public private(set) var names: [SegmentName] = []
    private var memories: [UnsafeMutableRawBufferPointer] = []
    private var used = 0
    /// What the next mark says. It follows each append, unless `isSlow`.
    public var durable: UInt64 = 0
    public var isSlow = false
    public var firstSequence: UInt32 = 0
    private var writer: RecordWriter

    public init(
        life: UInt32 = 1, worker: UInt16 = 0, workerCount: UInt16 = 1, segmentByteCount: Int = 4096,
        background: [UInt8] = [], recordMagic: UInt32 = JournalFormat.magic
    ) {
        self.life = life
        self.worker = worker
        self.workerCount = workerCount
        self.segmentByteCount = segmentByteCount
        self.background = background
        self.recordMagic = recordMagic
        let none = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)
        writer = RecordWriter(at: none, byteCountMax: 0, position: 0, worker: worker)
        none.deallocate()
        beginSegment()
    }

    deinit { for memory in memories { memory.deallocate() } }

    /// The bytes of all segments.
    public var files: [SegmentName: [UInt8]] {
        Dictionary(uniqueKeysWithValues: zip(names, memories.map { [UInt8]($0) }))
    }

    /// Where the next append begins, in its segment.
    public var offset: Int { used }
    public var position: UInt64 {
        JournalFormat.position(life: life, offset: Int(names.last!.sequence) * segmentByteCount + used)
    }

    /// Begins the next segment; the one before is ended where it has room.
    public func beginSegment() {
        if !names.isEmpty, used < segmentByteCount {
            open { $0.writeSegmentEnd() }
        }
        let name = SegmentName(life: life, worker: worker, sequence: UInt32(names.count))
        names.append(name)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: segmentByteCount, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        memory.copyBytes(from: background.prefix(segmentByteCount))
        memories.append(memory)
        used = 0
        open {
            $0.write(
                SegmentHeader(
                    life: self.life, worker: self.worker, workerCount: self.workerCount, sequence: name.sequence,
                    segmentByteCount: self.segmentByteCount, milliseconds: 1_700_000_000_000,
                    recordMagic: self.recordMagic))
        }
    }

    private func open<Result>(_ body: (inout RecordWriter) -> Result) -> Result {
        var writer = RecordWriter(
            at: memories.last!.baseAddress! + used, byteCountMax: segmentByteCount - used, position: position,
            worker: worker, magic: recordMagic)
        let result = body(&writer)
        used += writer.byteCount
        if !isSlow { durable = position }
        return result
    }

    /// One append, of at most so many bytes, with its mark.
    @discardableResult
    public func append<Result>(atMost byteCount: Int = 1024, _ body: (inout RecordWriter) -> Result) -> Result {
        if used + byteCount + RecordWriter.markByteCount + RecordWriter.emptyByteCount > segmentByteCount {
            beginSegment()
        }
        return open { writer in
            let mark = writer.reserveMark()
            let result = body(&writer)
            writer.writeMark(at: mark, durable: self.durable, firstSequence: self.firstSequence)
            return result
        }
    }

    @discardableResult
    public func send(_ body: String, to queue: String = "/queue/a") -> MessageReference {
        append { $0.message(body, to: queue) }
    }

    public func acknowledge(_ references: MessageReference...) {
        append { writer in references.withUnsafeBufferPointer { writer.write(acknowledged: $0) } }
    }

    public func endCleanly() {
        append { $0.writeCleanEnd(durable: self.durable) }
    }
}

extension RecordWriter {
    /// A message with the header line `k:v` and that body.
    @discardableResult
    public mutating func message(
        _ body: String, to queue: String = "/queue/a", _ change: (inout MessageRecord) -> Void = { _ in }
    ) -> MessageReference {
        let content = Array("k:v\n\n\(body)\0\n".utf8)
        return content.withUnsafeBytes { content in
            Array(queue.utf8).withUnsafeBytes { name in
                var record = MessageRecord(
                    queueName: name, identity: 7, expiresAt: 0, flags: .isPlain, content: content.baseAddress!,
                    headersByteCount: 4, bodyByteCount: body.utf8.count)
                change(&record)
                return write(record)
            }
        }
    }
}

/// What is in a directory.
public typealias Files = [SegmentName: [UInt8]]

public func + (left: Files, right: Files) -> Files { left.merging(right) { $1 } }

public func recover(_ files: Files) -> RecoveredState {
    var recovery = Recovery()
    for name in files.keys.sorted() { files[name]!.withUnsafeBytes { recovery.read(name, $0) } }
    return recovery.finish()
}

extension RecoveredState {
    /// "queue: body" of each message that lives, in order.
    public func live(_ files: Files) -> [String] {
        messages.map { message in
            let segment = segments[Int(message.segment)]
            return files[segment.name]!.withUnsafeBytes { bytes in
                let record = try! RecordReader.read(
                    bytes, at: segment.offset(of: message.position), position: message.position,
                    worker: message.worker, magic: segment.recordMagic)
                let text = record.message
                let body = UnsafeRawBufferPointer(
                    start: text.content + text.headersByteCount + 1, count: text.bodyByteCount)
                #if DEBUG
                    precondition(queues[Int(message.queue)].name.elementsEqual(text.queueName))
                #endif
                return "\(String(decoding: text.queueName.dropFirst(7), as: UTF8.self)): "
                    + String(decoding: body, as: UTF8.self)
            }
        }
    }
}

public func live(_ files: Files) -> [String] { recover(files).live(files) }
