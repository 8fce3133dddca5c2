import Slabs

/// The memory of one worker's messages and buffers: its blocks, and how `limits.message-memory-bytes` (100 %) is shared out.
///
///     12.5 %    frames cut short, beside the messages: they wait for each other, and slow ones end
///     50 %      frames cut short: ERROR; the logs of topics: the largest is trimmed
///     100 %     messages alone, or their number: publishers wait whose messages would stay; deliveries are made small, and few at
///               a time to each consumer
///     112 %     publishers to topics wait too: what nobody takes out of queues must not stop them
///     125 %     both together: topics' messages are dropped
///     137.5 %   a message on its way from input to queue, which frees its input, is refused
///     150 %     the end of the pool; what is left above is for output, and for the records of new consumers
///
/// It knows bytes, not what they are for: how many messages are queued and how many segments wait is told by the caller.
struct MemoryBudget: ~Copyable {
    /// Publishers to topics wait at this percentage.
    static var topicPercentMax: Int { 112 }
    /// Acknowledgements and other frames of consumers are smaller: whatever else waits, these are taken.
    static var consumerFrameByteCountMax: Int { 4096 }

    var blocks: BlockPool
    /// 100 %.
    private let byteCountMax: Int
    private let queuedMessageCountMax: Int
    // Shares of it, which are asked for with each message: divisions and overflow checks made 30 of its instructions.
    /// 1 %, and 100 times as much.
    private let percentByteCount: Int
    private let fullByteCount: Int
    /// 125 % and 137.5 %.
    private let bulkByteCountMax: Int
    private let storeByteCountMax: Int
    /// Bytes of the blocks that hold frames cut short.
    private(set) var inputByteCount = 0

    /// Reserves address space for 150 %.
    init(_ limits: Limits) throws(SlabError) {
        byteCountMax = limits.messageMemoryByteCountMax
        queuedMessageCountMax = limits.queuedMessageCountMax
        percentByteCount = limits.messageMemoryByteCountMax / 100
        fullByteCount = percentByteCount * 100
        bulkByteCountMax = limits.messageMemoryByteCountMax / 4 * 5
        storeByteCountMax = limits.messageMemoryByteCountMax / 8 * 11
        blocks = try BlockPool(byteCountMax: limits.messageMemoryByteCountMax / 2 * 3)
    }

    // MARK: Messages

    /// Messages fill so much of the memory, or (up to 100 %) so many are queued. While none is queued and none waits to be
    /// sent, nobody could make room, and nobody waits.
    @inline(__always)
    func messagesFill(percent: Int, queuedCount: Int, segmentCount: Int) -> Bool {
        let byteCount = percent == 100 ? fullByteCount : percentByteCount &* percent
        return blocks.byteCountInUse &- inputByteCount > byteCount && (queuedCount > 0 || segmentCount > 0)
            || percent <= 100 && queuesFill(percent: percent, queuedCount: queuedCount)
    }

    /// So many messages are in queues that publishers wait.
    @inline(__always)
    func queuesFill(percent: Int, queuedCount: Int) -> Bool {
        percent == 100
            ? queuedCount >= queuedMessageCountMax : queuedCount &* 100 >= queuedMessageCountMax &* percent
    }

    /// So many bytes may be taken for what is not on its way out.
    @inline(__always)
    func hasBulk(_ byteCount: Int) -> Bool { blocks.byteCountInUse &+ byteCount <= bulkByteCountMax }

    /// The logs of topics may take so much: what is in them does not make room by being delivered.
    var logByteCountMax: Int { byteCountMax / 2 }

    /// So many bytes may be taken for a message that is to be stored.
    @inline(__always)
    func hasStore(_ byteCount: Int) -> Bool { blocks.byteCountInUse &+ byteCount <= storeByteCountMax }

    /// A block for what is not on its way out. 0: no memory.
    mutating func allocateBulk(byteCount: Int) -> BlockIndex {
        hasBulk(byteCount) ? blocks.allocate(byteCount: byteCount) : 0
    }

    /// Memory is short: the way out is to deliver, and deliveries must not take the rest.
    @inline(__always)
    var deliversSparingly: Bool { blocks.byteCountInUse > byteCountMax }

    // MARK: Frames cut short

    private var inputByteCountMax: Int { byteCountMax / 2 }

    /// Frames cut short have taken so much that they wait for each other.
    @inline(__always)
    var inputIsTight: Bool { inputByteCount > inputByteCountMax / 4 }

    /// While it is tight, frames that need so many bytes more may go on.
    func admitsInput(_ byteCount: Int) -> Bool { inputByteCount + byteCount <= inputByteCountMax / 2 }

    /// A block for a frame cut short. The first bytes of one may take of what is kept for output: consumers have to
    /// acknowledge. 0: no memory.
    mutating func allocateInput(byteCount: Int) -> BlockIndex {
        guard
            byteCount <= Self.consumerFrameByteCountMax
                || inputByteCount + byteCount <= inputByteCountMax && hasBulk(byteCount)
        else { return 0 }
        let block = blocks.allocate(byteCount: byteCount)
        if block != 0 { inputByteCount += blocks.capacity(block) }
        return block
    }

    /// Doubles a large block where it is, or moves its pages: to copy them would take a millisecond for each megabyte.
    /// False: it has to be copied to another.
    mutating func extendInput(_ block: BlockIndex, byteCount: Int) -> Bool {
        let before = blocks.capacity(block)
        let wanted = max(byteCount, before * 2)
        guard inputByteCount + wanted - before <= inputByteCountMax, hasBulk(wanted - before),
            blocks.extend(block, byteCount: wanted)
        else { return false }
        inputByteCount += blocks.capacity(block) - before
        return true
    }

    mutating func releaseInput(_ block: BlockIndex) {
        inputByteCount -= blocks.capacity(block)
        blocks.release(block)
    }
}
