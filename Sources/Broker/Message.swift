import Glibc
import STOMP
import Slabs

/// A message on its way: points into the receive buffer, a message of another worker, or a stored block; valid while these are.
struct Message {
    /// Header lines that pass through to MESSAGE, each ended by LF; escaped as STOMP 1.2 has it unless `isPlain`.
    var headers: UnsafeRawPointer
    var headersByteCount: Int
    var body: UnsafeRawPointer
    var bodyByteCount: Int
    var marks: MessageMarks
    var identity: UInt64
    /// Wall-clock milliseconds; 0: never.
    var expiresAt: UInt64

    init(
        headers: UnsafeRawPointer, headersByteCount: Int, body: UnsafeRawPointer, bodyByteCount: Int,
        marks: MessageMarks, identity: UInt64, expiresAt: UInt64
    ) {
        self.headers = headers
        self.headersByteCount = headersByteCount
        self.body = body
        self.bodyByteCount = bodyByteCount
        self.marks = marks
        self.identity = identity
        self.expiresAt = expiresAt
    }

    init(
        headers: UnsafeRawPointer, headersByteCount: Int, body: UnsafeRawPointer, bodyByteCount: Int, isPlain: Bool,
        carriesDestination: Bool = false, isPersistent: Bool = false, options: MessageOptions = [], identity: UInt64,
        expiresAt: UInt64
    ) {
        self.init(
            headers: headers, headersByteCount: headersByteCount, body: body, bodyByteCount: bodyByteCount,
            marks: MessageMarks(isPlain: isPlain, carriesDestination: carriesDestination, isPersistent: isPersistent),
            identity: identity, expiresAt: expiresAt)
        self.options = options
    }

    /// The header lines' bytes are the same in all versions.
    @inline(__always) var isPlain: Bool {
        get { marks.contains(.isPlain) }
        set { marks.set(.isPlain, newValue) }
    }
    /// The header lines begin with `destination`, because it is not the canonical name: an alias, as the SEND wrote it,
    /// or a topic's name on its way to the subscriber of a pattern.
    @inline(__always) var carriesDestination: Bool {
        get { marks.contains(.carriesDestination) }
        set { marks.set(.carriesDestination, newValue) }
    }
    /// Its SEND says `persistent:true`; of one in a queue: it is stored.
    @inline(__always) var isPersistent: Bool {
        get { marks.contains(.isPersistent) }
        set { marks.set(.isPersistent, newValue) }
    }
    /// What few messages have.
    @inline(__always) var options: MessageOptions {
        get { marks.options }
        set { marks.options = newValue }
    }

    /// Drops the line that `carriesDestination` speaks of.
    mutating func removeDestination() {
        guard carriesDestination, let lineEnd = memchr(headers, 10, headersByteCount) else { return }
        let lineByteCount = UnsafeRawPointer(lineEnd) + 1 - headers
        headers += lineByteCount
        headersByteCount -= lineByteCount
        carriesDestination = false
    }

    /// Header lines, LF, body, NUL, LF.
    var contentByteCount: Int { headersByteCount &+ bodyByteCount &+ 3 }

    /// Writes header lines, the empty line, body, NUL and LF for a receiver of `version`.
    ///
    /// The room must hold `contentByteCountMax`.
    @inline(__always)
    func writeContent(_ writer: inout FrameWriter, version: Version) {
        if isPlain || version == .v1_2 {
            writer.write(headers, headersByteCount)
        } else {
            transcode(&writer, version: version)
        }
        writer.write(UInt8(ascii: "\n"))
        writer.write(body, bodyByteCount)
        writer.write(UInt8(0))
        writer.write(UInt8(ascii: "\n"))
    }

    /// A receiver's version escapes no more than 1.2 does, so transcoding never lengthens.
    var contentByteCountMax: Int { contentByteCount }

    /// Header lines in the escapes of 1.2 become those of 1.0 or 1.1.
    private func transcode(_ writer: inout FrameWriter, version: Version) {
        var position = 0
        var isInName = true
        while position < headersByteCount {
            let byte = headers.load(fromByteOffset: position, as: UInt8.self)
            position += 1
            guard byte == UInt8(ascii: "\\"), position < headersByteCount else {
                if byte == UInt8(ascii: ":") { isInName = false }
                if byte == UInt8(ascii: "\n") { isInName = true }
                writer.write(byte)
                continue
            }
            let escaped = headers.load(fromByteOffset: position, as: UInt8.self)
            position += 1
            switch (escaped, version) {
            case (UInt8(ascii: "r"), .v1_1), (UInt8(ascii: "r"), .v1_0):
                // 1.1 has no escape for CR and 1.0 none at all, but both carry it as it is.
                writer.write(UInt8(ascii: "\r"))
            case (UInt8(ascii: "c"), .v1_0) where !isInName: writer.write(UInt8(ascii: ":"))
            case (UInt8(ascii: "\\"), .v1_0): writer.write(UInt8(ascii: "\\"))
            default:
                // 1.0 has no line feed in headers and no colon in names: their escapes stay as they are, and no header
                // can be smuggled in.
                writer.write(UInt8(ascii: "\\"))
                writer.write(escaped)
            }
        }
    }
}

/// What there is to say about a message with yes or no: a bit each, so that all of it takes one register.
struct MessageMarks: OptionSet, BitwiseCopyable {
    private(set) var rawValue: UInt8
    static let isPlain = MessageMarks(rawValue: 1 << 0)
    static let carriesDestination = MessageMarks(rawValue: 1 << 1)
    static let isPersistent = MessageMarks(rawValue: 1 << 2)

    @inline(__always) init(rawValue: UInt8) { self.rawValue = rawValue }

    @inline(__always)
    init(isPlain: Bool, carriesDestination: Bool, isPersistent: Bool) {
        rawValue = (isPlain ? 1 : 0) | (carriesDestination ? 2 : 0) | (isPersistent ? 4 : 0)
    }

    @inline(__always)
    mutating func set(_ mark: MessageMarks, _ isSet: Bool) { if isSet { insert(mark) } else { remove(mark) } }

    @inline(__always) var options: MessageOptions {
        get { MessageOptions(rawValue: rawValue & MessageOptions.bits) }
        set { rawValue = rawValue & ~MessageOptions.bits | newValue.rawValue }
    }
}

/// What its SEND asks for beside delivery. Bits of `MessageMarks`.
struct MessageOptions: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// It waits for its time: the header lines begin with a `ScheduleLine`.
    static let isDelayed = MessageOptions(rawValue: 1 << 3)
    /// It has an `x-deduplication-id`: another with the same id is not taken for a while.
    static let isDeduplicated = MessageOptions(rawValue: 1 << 4)
    /// It was delayed, and an earlier life may have given it out when it was due.
    static let mayHaveBeenDelivered = MessageOptions(rawValue: 1 << 5)
    @inline(__always) static var bits: UInt8 { 0b11_1000 }
}

extension MemoryBudget {
    /// Copies a message to a block of its own: `StoredMessage`, then the content. 0: no memory.
    ///
    /// `extra` are header lines that go in front of the message's own; they must be plain.
    mutating func store(_ message: Message, extra: UnsafeRawBufferPointer = .init(start: nil, count: 0)) -> BlockIndex {
        let byteCount = StoredMessage.byteCount + extra.count + message.contentByteCount
        guard hasStore(byteCount) else { return 0 }
        let block = blocks.allocate(byteCount: byteCount)
        if block == 0 { return 0 }
        write(message, extra: extra, isStored: false, to: block)
        return block
    }

    /// The same of one that goes to the log: its `StoredPlace` is behind the content.
    @inline(never)
    mutating func storeForLog(
        _ message: Message, extra: UnsafeRawBufferPointer = .init(start: nil, count: 0)
    ) -> BlockIndex {
        let contentByteCount = extra.count + message.contentByteCount
        let byteCount = StoredMessage.placeOffset(contentByteCount: contentByteCount) + StoredPlace.byteCount
        guard hasStore(byteCount) else { return 0 }
        let block = blocks.allocate(byteCount: byteCount)
        if block == 0 { return 0 }
        write(message, extra: extra, isStored: true, to: block)
        place(of: block).initialize(to: .new)
        return block
    }

    /// Fills a block: its head, then the content.
    @inline(__always)
    private func write(_ message: Message, extra: UnsafeRawBufferPointer, isStored: Bool, to block: BlockIndex) {
        let base = blocks.base(block)
        base.assumingMemoryBound(to: StoredMessage.self).initialize(
            to: StoredMessage(
                headersByteCount: UInt32(extra.count + message.headersByteCount),
                bodyByteCount: UInt32(message.bodyByteCount),
                marks: isStored ? message.marks.union(.isPersistent) : message.marks.subtracting(.isPersistent)))
        var writer = FrameWriter(at: base + StoredMessage.byteCount)
        if extra.count > 0 { writer.write(extra.baseAddress!, extra.count) }
        message.writeContent(&writer, version: .v1_2)
    }

    /// The block has a `StoredPlace`.
    func isStored(_ block: BlockIndex) -> Bool {
        blocks.base(block).assumingMemoryBound(to: StoredMessage.self).pointee.isStored
    }

    /// Where a stored message is in the log.
    @inline(__always)
    func place(of block: BlockIndex) -> UnsafeMutablePointer<StoredPlace> {
        let base = blocks.base(block)
        let head = base.assumingMemoryBound(to: StoredMessage.self)
        assert(head.pointee.isStored, "the message is stored")
        let offset = StoredMessage.placeOffset(contentByteCount: head.pointee.contentByteCount)
        return (base + offset).assumingMemoryBound(to: StoredPlace.self)
    }

    func stored(_ block: BlockIndex, identity: UInt64, expiresAt: UInt64) -> Message {
        let base = UnsafeRawPointer(blocks.base(block))
        let head = base.assumingMemoryBound(to: StoredMessage.self).pointee
        let headers = base + StoredMessage.byteCount
        return Message(
            headers: headers, headersByteCount: Int(head.headersByteCount),
            body: headers + Int(head.headersByteCount) + 1, bodyByteCount: Int(head.bodyByteCount),
            marks: head.marks, identity: identity, expiresAt: expiresAt)
    }
}
