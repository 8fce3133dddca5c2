import Glibc

/// A batch of peer messages: several messages from one worker to another, as bytes, posted together.
///
/// One party owns a batch at a time: the sender until it posts the batch, the mailbox until the receiver takes it, then
/// the receiver, who frees it.
public typealias PeerBatch = UnsafeMutablePointer<PeerBatchHeader>

/// The fixed part of a batch, in front of the messages.
///
///     0        8           12         16       20             32
///     | next   | byteCount | capacity | sender | messageCount | bytes of the messages, 16-byte aligned ...
///
/// Bytes 24 to 31 are padding.
@frozen
public struct PeerBatchHeader: BitwiseCopyable {
    /// The next batch of a chain. The sender may use it before posting, the receiver after taking.
    public var next: PeerBatch?
    /// Bytes of messages written so far.
    public var byteCount: UInt32
    /// Bytes of messages that there is room for.
    public var capacity: UInt32
    /// The index of the worker that posts the batch.
    public var sender: UInt32
    /// Messages written so far. Only the sender uses it.
    public var messageCount: UInt32
}

/// Allocates and frees batches. Any thread may call it: a batch is freed by another thread than the one that allocated
/// it.
public enum PeerBatches {
    /// Bytes from the start of a batch to its first message.
    @inlinable public static var headerByteCount: Int { 32 }

    /// Returns an empty batch with room for `capacity` bytes of messages (less than 2^32). Its sender is 0.
    public static func allocate(capacity: Int) -> PeerBatch {
        invariant(capacity >= 0 && capacity <= Int(UInt32.max), "the size of a batch needs more than 32 bits")
        guard let memory = malloc(headerByteCount + capacity) else { fatalError("out of memory for peer messages") }
        let batch = memory.bindMemory(to: PeerBatchHeader.self, capacity: 1)
        batch.initialize(
            to: PeerBatchHeader(next: nil, byteCount: 0, capacity: UInt32(capacity), sender: 0, messageCount: 0))
        return batch
    }

    /// Frees one batch that is in no mailbox. The batches that it links to are not freed.
    public static func free(_ batch: PeerBatch) { Glibc.free(batch) }

    /// The address of the first message, 16-byte aligned.
    @inlinable @inline(__always)
    public static func bytes(of batch: PeerBatch) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(batch) + headerByteCount
    }
}
