import Slabs

/// What one worker can tell another, each with its fields in a type of its own (`PeerMessages.swift`).
enum PeerMessageKind: UInt8, BitwiseCopyable {
    case interestRequest, interestAnswer, interestWithdrawal
    case topicPublication
    case queuePublication, publicationRefusal
    case queueProperties
    case consumerRequest, consumerAnswer, consumerRemoval, consumerPause
    case durableRequest, durableRemoval
    case queueDelivery, entrySettlement
    case barrier, barrierAnswer
    case roomRequest, roomWait, roomAnswer, roomCancellation, roomReturn
    case transactionPart, transactionStep
    case sequencing, retainedChange
    case readerRequest, readerAnswer, readerRemoval, readerCredit, logDelivery
    case relayBarrier, relayAnswer
    case deadLetterRequest, deadLetterAnswer
}

/// The fields of one kind of message between workers, at most `PeerMessageHead.fieldsByteCount` bytes.
///
/// Messages from one worker to another arrive in the order in which they were written.
protocol PeerMessage: BitwiseCopyable {
    static var kind: PeerMessageKind { get }
}

/// Begins each message between workers. In native byte order, for they stay in the process:
///
///      0   kind              1 byte, then 3 unused
///      4   payloadByteCount  4 bytes
///      8   fields            32 bytes, as the type of this kind lays them out
///     40   payload           padded to 8 bytes
struct PeerMessageHead: BitwiseCopyable {
    var kind: PeerMessageKind
    var payloadByteCount: UInt32

    static var byteCount: Int { 8 }
    static var fieldsByteCount: Int { 32 }
    static var payloadOffset: Int { byteCount + fieldsByteCount }

    /// Bytes from the begin of a message to the next one.
    static func stride(_ payloadByteCount: Int) -> Int { payloadOffset + (payloadByteCount + 7) & ~7 }
}

/// A message of another worker where it was written: valid until its batch is freed.
struct ReceivedPeerMessage {
    let start: UnsafeRawPointer
    let head: PeerMessageHead

    init(_ start: UnsafeRawPointer) {
        self.start = start
        head = start.load(as: PeerMessageHead.self)
    }

    /// The fields, as those of the kind that they are.
    func fields<Fields: PeerMessage>(_ type: Fields.Type = Fields.self) -> Fields {
        invariant(head.kind == Fields.kind, "a message is read as what it was written as")
        return (start + PeerMessageHead.byteCount).load(as: Fields.self)
    }

    /// A name in most of them.
    var payload: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: start + PeerMessageHead.payloadOffset, count: Int(head.payloadByteCount))
    }

    var byteCount: Int { PeerMessageHead.stride(Int(head.payloadByteCount)) }
}
