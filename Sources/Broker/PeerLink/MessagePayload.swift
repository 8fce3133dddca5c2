import Glibc

/// A payload that carries a message: this head, then the destination's name, the receipt that was asked for, header lines,
/// body.
struct MessagePayloadHead: BitwiseCopyable {
    var nameByteCount: UInt32
    var receiptByteCount: UInt32
    var headersByteCount: UInt32
    var bodyByteCount: UInt32
    var expiresAt: UInt64
    var identity: UInt64
    var marks: MessageMarks

    static var byteCount: Int { 40 }
}

/// A message with its destination's name, as it travels from worker to worker. Points into a batch, or to where the message
/// is before it is written there.
struct MessagePayload {
    var name: UnsafeRawBufferPointer
    /// Empty: none was asked for.
    var receipt: UnsafeRawBufferPointer
    var message: Message

    init(name: UnsafeRawBufferPointer, receipt: UnsafeRawBufferPointer?, _ message: Message) {
        self.name = name
        self.receipt = receipt ?? UnsafeRawBufferPointer(start: nil, count: 0)
        self.message = message
    }

    /// Reads it from where it was written.
    init(_ payload: UnsafeRawBufferPointer) {
        let start = payload.baseAddress!
        let head = start.load(as: MessagePayloadHead.self)
        let nameStart = start + MessagePayloadHead.byteCount
        let receiptStart = nameStart + Int(head.nameByteCount)
        let headers = receiptStart + Int(head.receiptByteCount)
        name = UnsafeRawBufferPointer(start: nameStart, count: Int(head.nameByteCount))
        receipt = UnsafeRawBufferPointer(start: receiptStart, count: Int(head.receiptByteCount))
        message = Message(
            headers: headers, headersByteCount: Int(head.headersByteCount),
            body: headers + Int(head.headersByteCount), bodyByteCount: Int(head.bodyByteCount),
            marks: head.marks, identity: head.identity, expiresAt: head.expiresAt)
    }

    var byteCount: Int {
        MessagePayloadHead.byteCount + name.count + receipt.count + message.headersByteCount + message.bodyByteCount
    }

    /// Writes `byteCount` bytes to `place`.
    func write(to place: UnsafeMutableRawPointer) {
        place.storeBytes(
            of: MessagePayloadHead(
                nameByteCount: UInt32(name.count), receiptByteCount: UInt32(receipt.count),
                headersByteCount: UInt32(message.headersByteCount), bodyByteCount: UInt32(message.bodyByteCount),
                expiresAt: message.expiresAt, identity: message.identity, marks: message.marks),
            as: MessagePayloadHead.self)
        var cursor = place + MessagePayloadHead.byteCount
        if name.count > 0 { memcpy(cursor, name.baseAddress!, name.count) }
        cursor += name.count
        if receipt.count > 0 { memcpy(cursor, receipt.baseAddress!, receipt.count) }
        cursor += receipt.count
        memcpy(cursor, message.headers, message.headersByteCount)
        memcpy(cursor + message.headersByteCount, message.body, message.bodyByteCount)
    }
}
