import Glibc
import Slabs

/// The open transactions of all sessions, and the frames that they keep until COMMIT.
///
/// A frame is kept as it came, behind a head (`KeptFrame`) that says what its check has found and, while COMMIT waits for
/// other workers, which room is kept for it. The frames of a transaction lie one behind the other in blocks that grow with
/// it:
///
///     block:  | next block | KeptFrame | bytes | KeptFrame | bytes | ... |
///
/// What holds: names differ within a session; a session has no more transactions, and a transaction no more frames and
/// bytes, than the limits say; frames stay where they are until the transaction ends, so that `KeptCursor.frame` names one.
///
/// Called by `Shard+Transactions` (BEGIN, ABORT, frames), `Shard+Commit` and `Shard+PeerRoom`. Of a session it keeps
/// `transactions` and `transactionCount`. It does not know what the frames mean, and timers are the caller's.
struct TransactionTable: ~Copyable {
    private var transactions: Slab<Transaction>
    private let countPerSessionMax: Int
    private let frameCountMax: Int
    private let byteCountMax: Int

    init(recordCountMax: Int, _ limits: Limits) throws(SlabError) {
        invariant(MemoryLayout<KeptFrame>.size <= KeptFrame.headByteCount, "the head of a kept frame has its place")
        transactions = try Slab(recordCountMax: recordCountMax)
        countPerSessionMax = limits.transactionsPerConnectionMax
        frameCountMax = limits.framesPerTransactionMax
        byteCountMax = limits.transactionByteCountMax
    }

    subscript(_ index: Index<Transaction>) -> UnsafePointer<Transaction> {
        @inline(__always) get { UnsafePointer(transactions[index]) }
    }

    var liveCount: Int { transactions.liveCount }

    mutating func trim() { transactions.trim() }

    // MARK: Begin and end

    enum Beginning {
        case begun(Handle<Transaction>)
        case exists
        /// The session has as many as it may.
        case tooMany
        case noMemory
    }

    mutating func begin(
        _ session: UnsafeMutablePointer<Session>, named name: UnsafeRawBufferPointer, _ memory: inout MemoryBudget
    ) -> Beginning {
        if !find(name, of: session, memory).isNone { return .exists }
        if Int(session.pointee.transactionCount) >= countPerSessionMax { return .tooMany }
        let handle: Handle<Transaction> = transactions.allocate()
        if handle.isNone { return .noMemory }
        let block = memory.blocks.allocate(byteCount: name.count)
        guard block != 0 else {
            transactions.free(handle.index)
            return .noMemory
        }
        memcpy(memory.blocks.base(block), name.baseAddress!, name.count)
        let transaction = transactions[handle.index]
        transaction.pointee.session = session.pointee.index
        transaction.pointee.name = block
        transaction.pointee.nameByteCount = UInt32(name.count)
        session.pointee.transactions.push(handle.index, in: transactions)
        session.pointee.transactionCount += 1
        return .begun(handle)
    }

    /// The session's open transaction of that name; none where there is none.
    @inline(__always)
    func find(
        _ name: UnsafeRawBufferPointer, of session: UnsafeMutablePointer<Session>, _ memory: borrowing MemoryBudget
    ) -> Index<Transaction> {
        var index = session.pointee.transactions.first
        while !index.isNone {
            let transaction = transactions[index]
            if Int(transaction.pointee.nameByteCount) == name.count,
                memcmp(memory.blocks.base(transaction.pointee.name), name.baseAddress!, name.count) == 0
            {
                return index
            }
            index = TransactionStack.next(after: index, in: transactions)
        }
        return .none
    }

    /// The timer that ends the transaction if it stays open for too long.
    func setTimer(_ timer: UInt32, of index: Index<Transaction>) { transactions[index].pointee.timer = timer }

    /// Its timer has fired. Returns whose transaction it is; nil where it has ended.
    func timerFired(_ handle: Handle<Transaction>) -> Index<Session>? {
        guard let transaction = transactions.find(handle) else { return nil }
        transaction.pointee.timer = 0
        return transaction.pointee.session
    }

    /// Takes a transaction off its session, whose end does not abort it any more. Returns its timer, to be cancelled.
    mutating func close(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>) -> UInt32 {
        let wasOpen = session.pointee.transactions.remove(index, in: transactions)
        invariant(wasOpen, "a transaction is among those of its session")
        session.pointee.transactionCount -= 1
        defer { transactions[index].pointee.timer = 0 }
        return transactions[index].pointee.timer
    }

    /// Forgets a transaction that was closed, and its frames.
    mutating func free(_ index: Index<Transaction>, _ memory: inout MemoryBudget) {
        memory.blocks.release(transactions[index].pointee.name)
        var block = transactions[index].pointee.frames
        while block != 0 {
            let next = Self.next(after: block, memory).pointee
            memory.blocks.release(block)
            block = next
        }
        transactions.free(index)
    }

    // MARK: Keeping frames

    /// Whether the limits allow another frame of so many bytes.
    func hasRoom(_ index: Index<Transaction>, byteCount: Int) -> Bool {
        let transaction = transactions[index]
        return Int(transaction.pointee.frameCount) < frameCountMax
            && Int(transaction.pointee.framesByteCount) + byteCount <= byteCountMax
    }

    /// Keeps a frame behind the others. False: no memory.
    mutating func keep(
        _ bytes: UnsafeRawBufferPointer, _ command: CheckedCommand, in index: Index<Transaction>,
        _ memory: inout MemoryBudget
    ) -> Bool {
        let stride = KeptFrame.stride(bytes.count)
        guard let place = room(in: index, byteCount: stride, &memory) else { return false }
        place.assumingMemoryBound(to: KeptFrame.self).initialize(
            to: KeptFrame(byteCount: UInt32(bytes.count), command: command))
        memcpy(place + KeptFrame.headByteCount, bytes.baseAddress!, bytes.count)
        let transaction = transactions[index]
        transaction.pointee.framesByteCount += UInt32(stride)
        transaction.pointee.frameCount += 1
        if case .settlement = command { transaction.pointee.settlementCount += 1 }
        return true
    }

    private static var blockByteCountMin: Int { 1024 }
    /// Larger blocks are mapped one by one: to grow by these costs page faults for megabytes at a time.
    private static var blockByteCountMax: Int { 64 * 1024 }

    /// Room behind the last frame of a transaction. Nil: no memory.
    private func room(
        in index: Index<Transaction>, byteCount: Int, _ memory: inout MemoryBudget
    ) -> UnsafeMutableRawPointer? {
        let transaction = transactions[index]
        let last = transaction.pointee.lastFrames
        if last != 0, memory.blocks.used(last) + byteCount <= memory.blocks.capacity(last) {
            defer { memory.blocks.setUsed(last, memory.blocks.used(last) + byteCount) }
            return memory.blocks.base(last) + memory.blocks.used(last)
        }
        let wanted = min(
            max(Int(transaction.pointee.framesByteCount), Self.blockByteCountMin), Self.blockByteCountMax)
        let block = memory.allocateBulk(byteCount: max(KeptCursor.start + byteCount, wanted))
        guard block != 0 else { return nil }
        Self.next(after: block, memory).initialize(to: 0)
        memory.blocks.setUsed(block, KeptCursor.start + byteCount)
        if last != 0 {
            Self.next(after: last, memory).pointee = block
        } else {
            transaction.pointee.frames = block
        }
        transaction.pointee.lastFrames = block
        return memory.blocks.base(block) + KeptCursor.start
    }

    private static func next(
        after block: BlockIndex, _ memory: borrowing MemoryBudget
    ) -> UnsafeMutablePointer<BlockIndex> {
        memory.blocks.base(block).assumingMemoryBound(to: BlockIndex.self)
    }

    // MARK: Going through frames

    /// The session's transaction that was opened before `index`; none after the first.
    func next(after index: Index<Transaction>) -> Index<Transaction> {
        TransactionStack.next(after: index, in: transactions)
    }

    /// The frame behind the cursor, which moves on to it. Nil: there is none.
    func next(
        _ cursor: inout KeptCursor, in index: Index<Transaction>, _ memory: borrowing MemoryBudget
    ) -> UnsafePointer<KeptFrame>? {
        if cursor.block == 0 {
            cursor.block = transactions[index].pointee.frames
            cursor.next = KeptCursor.start
        } else if cursor.next == memory.blocks.used(cursor.block) {
            cursor.block = Self.next(after: cursor.block, memory).pointee
            cursor.next = KeptCursor.start
        }
        guard cursor.block != 0 else { return nil }
        cursor.offset = cursor.next
        let kept = Self.frame(cursor.frame, memory)
        cursor.next += KeptFrame.stride(Int(kept.pointee.byteCount))
        return UnsafePointer(kept)
    }

    /// The bytes of a frame.
    static func bytes(of kept: UnsafePointer<KeptFrame>) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: UnsafeRawPointer(kept) + KeptFrame.headByteCount, count: Int(kept.pointee.byteCount))
    }

    /// Room is kept for the frame that a cursor's `frame` names.
    func keepRoom(_ room: KeptRoom, for frame: UInt64, _ memory: borrowing MemoryBudget) {
        Self.frame(frame, memory).pointee.room = room
    }

    /// The destination of the frame, which was made again: others may have made it forgotten since the frame was checked.
    func setDestination(_ destination: Handle<Destination>, of frame: UInt64, _ memory: borrowing MemoryBudget) {
        let kept = Self.frame(frame, memory)
        guard case .send(var send) = kept.pointee.command else { return }
        send.destination = destination
        kept.pointee.command = .send(send)
    }

    private static func frame(
        _ frame: UInt64, _ memory: borrowing MemoryBudget
    ) -> UnsafeMutablePointer<KeptFrame> {
        (memory.blocks.base(BlockIndex(frame >> 32)) + Int(frame & 0xFFFF_FFFF)).assumingMemoryBound(to: KeptFrame.self)
    }
}
