import Glibc
import IO
import Slabs

/// What waits to be sent to each session, and the sends of a poll.
///
/// A session's output is a list of segments, each a run of bytes in a block. A run that many get (a topic's) is
/// referenced, small frames and deliveries from queues are written to blocks of the session's own. At the end of the turn
/// each session that gained output gets exactly one send with as many segments as fit, and the next turn begins with what
/// the kernel took of it.
///
/// What holds, whoever calls:
///
/// - a session's `outputByteCount` is the sum of its segments, and each of them owns one reference to its block;
/// - a session that is flagged `dirty` is once on the list of those that gained output;
/// - a session has at most one send, and none while it waits for its socket or the kernel reads from its output;
/// - what the kernel may still read is not let go.
///
/// Called by `Shard+Output`, which carries out what follows elsewhere: who is cut, whose consumers pause or resume, which
/// deliveries have arrived, and which connection ends.
///
/// Of a session it keeps `output`, `outputByteCount`, `outputPosition`, `sendByteCount`, `sendResult` and `lastProgress`,
/// and the flags `dirty`, `awaitsWritable`, `zeroCopyInFlight`, `sendIncomplete` and `tailIsOwn`.
struct Output: ~Copyable {
    private var segments: Slab<Segment>
    private var vectors: VectorArena
    /// Sessions that gained output, or have more to send than the last poll had room for.
    private var dirtySessions: Batch<Handle<Session>>
    /// Of the dirty ones that were offered a send, how many stay so.
    private var keptCount = 0
    /// Sessions with a send in the poll under way.
    private var sentSessions: Batch<Index<Session>>
    private let byteCountMax: Int
    /// Sends of one segment from this size on are zero-copy. 0: none is.
    private let zeroCopyByteCountMin: Int

    /// From this size on a send takes no further segment: what the kernel copies at a time delays everybody else, and
    /// leaves its caches. Not much smaller: a reader as fast as its publishers would fall behind, and be cut.
    static var sendByteCountMax: Int { 1024 * 1024 }
    /// Short sends go before long ones: who waits for a message need not wait for what others are behind with.
    static var shortByteCountMax: UInt32 { 16 * 1024 }
    /// A session that waits for its socket copies runs up to this size: sharing them saves less than their segments take.
    static var copiedByteCountMax: Int { 512 }
    static var ownBlockByteCountMin: Int { 512 }
    static var ownBlockByteCountMax: Int { 64 * 1024 }
    private static var segmentCountMax: Int { 64_000_000 }

    init(_ limits: Limits, zeroCopyByteCountMin: Int, vectorCountMax: Int = VectorArena.capacityMax) throws(SlabError) {
        // Address space only. A session that has fallen behind has a segment for each `copiedByteCountMax` of its output.
        let segmentCount = limits.connectionCountMax * (limits.outputByteCountMax / Self.copiedByteCountMax + 4)
        let segments = try Slab<Segment>(recordCountMax: min(segmentCount, Self.segmentCountMax))
        let vectors = try VectorArena(capacity: vectorCountMax)
        self.segments = segments
        self.vectors = vectors
        dirtySessions = Batch(capacity: 1024)
        sentSessions = Batch(capacity: 1024)
        byteCountMax = limits.outputByteCountMax
        self.zeroCopyByteCountMin = zeroCopyByteCountMin
    }

    /// Segments of all sessions.
    @inline(__always) var segmentCount: Int { segments.liveCount }

    mutating func trim() { segments.trim() }

    /// The session has fallen too far behind.
    @inline(__always)
    func isTooFarBehind(_ session: UnsafeMutablePointer<Session>) -> Bool {
        Int(session.pointee.outputByteCount) > byteCountMax
    }

    // MARK: Appending

    /// Adds a run to the output; takes a reference of its own to `block`, or a copy of the run. False: no memory.
    @inline(__always)
    mutating func append(
        _ session: UnsafeMutablePointer<Session>, _ block: BlockIndex, offset: Int, byteCount: Int, clock: UInt32,
        _ memory: inout MemoryBudget
    ) -> Bool {
        if session.pointee.flags.contains(.awaitsWritable), byteCount <= Self.copiedByteCountMax {
            guard let room = reserve(session, byteCount, clock: clock, &memory) else { return false }
            memcpy(room, memory.blocks.base(block) + offset, byteCount)
            commit(session, byteCount, &memory)
        } else {
            memory.blocks.retain(block)
            guard appendSegment(session, block, offset: offset, byteCount: byteCount, clock: clock, &memory) else {
                return false
            }
            session.pointee.flags.remove(.tailIsOwn)
            didAppend(session, byteCount)
        }
        return true
    }

    /// Takes over the caller's reference to `block`. False: there are as many segments as there may be.
    @inline(__always)
    private mutating func appendSegment(
        _ session: UnsafeMutablePointer<Session>, _ block: BlockIndex, offset: Int, byteCount: Int, clock: UInt32,
        _ memory: inout MemoryBudget
    ) -> Bool {
        let index: Index<Segment> = segments.allocate().index
        guard !index.isNone else {
            memory.blocks.release(block)
            return false
        }
        let segment = segments[index]
        segment.pointee.block = block
        segment.pointee.offset = UInt32(offset)
        segment.pointee.byteCount = UInt32(byteCount)
        if session.pointee.output.last.isNone { session.pointee.lastProgress = clock }
        session.pointee.output.append(index, in: segments)
        return true
    }

    @inline(__always)
    private mutating func didAppend(_ session: UnsafeMutablePointer<Session>, _ byteCount: Int) {
        session.pointee.outputByteCount &+= UInt32(byteCount)
        session.pointee.outputPosition &+= UInt64(byteCount)
        markDirty(session)
    }

    /// The session is to be looked at when sends are built.
    @inline(__always)
    mutating func markDirty(_ session: UnsafeMutablePointer<Session>) {
        if session.pointee.flags.contains(.dirty) { return }
        session.pointee.flags.insert(.dirty)
        dirtySessions.append(session.pointee.handle)
    }

    /// Room for at most `byteCountMax` bytes of the session's own at the end of its output; nil: no memory. `commit` says
    /// how many were written.
    mutating func reserve(
        _ session: UnsafeMutablePointer<Session>, _ byteCountMax: Int, clock: UInt32, _ memory: inout MemoryBudget
    ) -> UnsafeMutableRawPointer? {
        let tail = session.pointee.output.last
        var expected = Self.ownBlockByteCountMin
        if !tail.isNone, session.pointee.flags.contains(.tailIsOwn) {
            let block = segments[tail].pointee.block
            let used = memory.blocks.used(block)
            let capacity = memory.blocks.capacity(block)
            if capacity - used >= byteCountMax { return memory.blocks.base(block) + used }
            expected = memory.deliversSparingly ? expected : min(capacity * 4, Self.ownBlockByteCountMax)
        }
        let block = memory.blocks.allocate(byteCount: max(byteCountMax, expected))
        if block == 0 { return nil }
        memory.blocks.setUsed(block, 0)
        guard appendSegment(session, block, offset: 0, byteCount: 0, clock: clock, &memory) else { return nil }
        session.pointee.flags.insert(.tailIsOwn)
        return memory.blocks.base(block)
    }

    /// Whether `reserve` has memory for so many bytes, as far as that can be told beforehand.
    static func hasMemory(_ byteCount: Int, _ memory: borrowing MemoryBudget) -> Bool {
        memory.blocks.byteCountMax - memory.blocks.byteCountInUse >= max(byteCount, ownBlockByteCountMax) * 2
    }

    /// `byteCount` bytes were written to the room that `reserve` gave.
    @inline(__always)
    mutating func commit(
        _ session: UnsafeMutablePointer<Session>, _ byteCount: Int, _ memory: inout MemoryBudget
    ) {
        let segment = segments[session.pointee.output.last]
        segment.pointee.byteCount += UInt32(byteCount)
        memory.blocks.setUsed(segment.pointee.block, memory.blocks.used(segment.pointee.block) + byteCount)
        didAppend(session, byteCount)
    }

    // MARK: Building sends

    /// The sends of the last poll are over; those of the next one are built.
    mutating func beginSends() {
        sentSessions.removeAll()
        vectors.removeAll()
    }

    /// Sessions that may have output to send: the bound of the argument of `dirtySession(at:)`.
    @inline(__always) var dirtyCount: Int { dirtySessions.count }

    /// May be gone.
    @inline(__always)
    func dirtySession(at place: Int) -> Handle<Session> { dirtySessions[place] }

    /// Gives a dirty session its send, with all that waits or as much as fits. Who has more to send, and for whom this
    /// poll has no room, stays dirty. To be called for each that is not gone, in order, and then `endBuilding`.
    ///
    /// - Parameter byteCountMax: who has more waiting stays dirty and gets no send yet.
    @inline(__always)
    mutating func buildSend(
        _ session: UnsafeMutablePointer<Session>, upTo byteCountMax: UInt32, clock: UInt32,
        _ memory: borrowing MemoryBudget, _ submissions: inout Batch<Submission>
    ) -> SendOutcome {
        guard session.pointee.flags.contains(.dirty) else { return .waits }
        if session.pointee.state == .closing {
            session.pointee.flags.remove(.dirty)
            return .waits
        }
        guard session.pointee.outputByteCount <= byteCountMax else { return keepDirty(session) }
        let flags = session.pointee.flags
        let isBusy = flags.contains(.awaitsWritable) || flags.contains(.zeroCopyInFlight)
        if isBusy || session.pointee.output.isEmpty {
            session.pointee.flags.remove(.dirty)
            return isBusy ? .waits : .isEmpty
        }
        if session.pointee.output.first == session.pointee.output.last {
            sendOne(session, memory, &submissions)
        } else if !sendSeveral(session, memory, &submissions) {
            return keepDirty(session)
        }
        session.pointee.flags.remove(.dirty)
        session.pointee.lastSent = clock
        return .sent
    }

    @inline(__always)
    private mutating func keepDirty(_ session: UnsafeMutablePointer<Session>) -> SendOutcome {
        dirtySessions[keptCount] = session.pointee.handle
        keptCount += 1
        return .waits
    }

    /// The first `count` of the dirty sessions were offered a send: only those that stayed dirty are left, and those that
    /// came to them meanwhile.
    mutating func endBuilding(of count: Int) {
        for place in count..<dirtySessions.count {
            dirtySessions[keptCount] = dirtySessions[place]
            keptCount += 1
        }
        dirtySessions.keepFirst(keptCount)
        keptCount = 0
    }

    @inline(__always)
    private mutating func sendOne(
        _ session: UnsafeMutablePointer<Session>, _ memory: borrowing MemoryBudget,
        _ submissions: inout Batch<Submission>
    ) {
        let segment = segments[session.pointee.output.first]
        let byteCount = Int(segment.pointee.byteCount)
        let isZeroCopy =
            zeroCopyByteCountMin > 0 && byteCount >= zeroCopyByteCountMin
            && !session.pointee.flags.contains(.copiesSends)
        submissions.append(
            Submission(
                isZeroCopy ? .sendZeroCopy : .send, connection: session.pointee.slot,
                pointer: memory.blocks.base(segment.pointee.block) + Int(segment.pointee.offset), byteCount: byteCount))
        session.pointee.sendByteCount = UInt32(byteCount)
        if isZeroCopy {
            session.pointee.flags.insert(.zeroCopyInFlight)
        } else {
            sentSessions.append(session.pointee.index)
        }
    }

    /// False: this poll has no vectors left.
    @inline(__always)
    private mutating func sendSeveral(
        _ session: UnsafeMutablePointer<Session>, _ memory: borrowing MemoryBudget,
        _ submissions: inout Batch<Submission>
    ) -> Bool {
        guard let vector = vectors.reserve() else { return false }
        var count = 0
        var total = 0
        var index = session.pointee.output.first
        while !index.isNone, count < VectorArena.perSendMax, total < Self.sendByteCountMax {
            let segment = segments[index]
            vector[count] = iovec(
                iov_base: memory.blocks.base(segment.pointee.block) + Int(segment.pointee.offset),
                iov_len: Int(segment.pointee.byteCount))
            total += Int(segment.pointee.byteCount)
            count += 1
            index = SegmentFifo.next(after: index, in: segments)
        }
        vectors.commit(count)
        submissions.append(
            Submission(
                .sendVector, connection: session.pointee.slot, value: Int32(total), pointer: UnsafeRawPointer(vector),
                byteCount: count))
        session.pointee.sendByteCount = UInt32(total)
        sentSessions.append(session.pointee.index)
        return true
    }

    // MARK: Settling sends

    /// Sessions with a send in the poll that is over: the bound of the argument of `sentSession(at:)`.
    @inline(__always) var sentCount: Int { sentSessions.count }

    @inline(__always)
    func sentSession(at place: Int) -> Index<Session> { sentSessions[place] }

    /// All of them are over.
    mutating func forgetSent() { sentSessions.removeAll() }

    /// The driver reports that a send was not taken whole; `finish` tells what follows.
    ///
    /// - Parameter result: the bytes that were taken, or -errno.
    func noteIncomplete(_ session: UnsafeMutablePointer<Session>, _ result: Int32) {
        session.pointee.flags.insert(.sendIncomplete)
        session.pointee.sendResult = result
    }

    /// The session's send is over. What was not reported as incomplete went whole.
    @inline(__always)
    mutating func finish(
        _ session: UnsafeMutablePointer<Session>, clock: UInt32, _ memory: inout MemoryBudget
    ) -> SendEnd {
        guard session.pointee.flags.contains(.sendIncomplete) else {
            let byteCount = Int(session.pointee.sendByteCount)
            consume(session, byteCount, clock: clock, &memory)
            return .whole(byteCount: byteCount)
        }
        session.pointee.flags.remove(.sendIncomplete)
        if session.pointee.sendResult < 0 { return .failed }
        // None of what was dropped meanwhile.
        let byteCount = Int(min(UInt32(session.pointee.sendResult), session.pointee.sendByteCount))
        consume(session, byteCount, clock: clock, &memory)
        return .fellShort(byteCount: byteCount)
    }

    /// A zero-copy send is over and the kernel reads from the output no more.
    ///
    /// - Parameter result: the bytes that were taken, or -errno.
    mutating func finishZeroCopy(
        _ session: UnsafeMutablePointer<Session>, _ result: Int32, clock: UInt32, _ memory: inout MemoryBudget
    ) -> SendEnd {
        session.pointee.flags.remove(.zeroCopyInFlight)
        if result < 0, result != -EAGAIN { return .failed }
        let byteCount = max(Int(result), 0)
        consume(session, byteCount, clock: clock, &memory)
        let isWhole = byteCount == Int(session.pointee.sendByteCount)
        return isWhole ? .whole(byteCount: byteCount) : .fellShort(byteCount: byteCount)
    }

    /// `byteCount` bytes are with the kernel: releases their blocks.
    @inline(__always)
    private mutating func consume(
        _ session: UnsafeMutablePointer<Session>, _ byteCount: Int, clock: UInt32, _ memory: inout MemoryBudget
    ) {
        var left = byteCount
        if left > 0 { session.pointee.lastProgress = clock }
        session.pointee.outputByteCount &-= UInt32(byteCount)
        while left > 0 {
            let index = session.pointee.output.first
            let segment = segments[index]
            let count = Int(segment.pointee.byteCount)
            if count > left {
                segment.pointee.offset += UInt32(left)
                segment.pointee.byteCount -= UInt32(left)
                break
            }
            left -= count
            session.pointee.output.removeFirst(in: segments)
            if session.pointee.output.isEmpty { session.pointee.flags.remove(.tailIsOwn) }
            memory.blocks.release(segment.pointee.block)
            segments.free(index)
        }
    }

    /// The session gets no send until its socket takes bytes again: the driver is asked to say when.
    func awaitWritable(_ session: UnsafeMutablePointer<Session>, _ submissions: inout Batch<Submission>) {
        session.pointee.flags.insert(.awaitsWritable)
        submissions.append(Submission(.awaitWritable, connection: session.pointee.slot))
    }

    /// The socket takes bytes again.
    mutating func writable(_ session: UnsafeMutablePointer<Session>) {
        session.pointee.flags.remove(.awaitsWritable)
        markDirty(session)
    }

    // MARK: Dropping

    /// Throws the output away, unless the kernel still reads from it. Returns how many segments are gone.
    ///
    /// - Parameter isReleased: the kernel has reported that it does not read any more.
    mutating func drop(
        _ session: UnsafeMutablePointer<Session>, isReleased: Bool = false, _ memory: inout MemoryBudget
    ) -> Int {
        if isReleased { session.pointee.flags.remove(.zeroCopyInFlight) }
        if session.pointee.flags.contains(.zeroCopyInFlight) { return 0 }
        var count = 0
        while case let index = session.pointee.output.popFirst(in: segments), !index.isNone {
            count += 1
            memory.blocks.release(segments[index].pointee.block)
            segments.free(index)
        }
        session.pointee.outputByteCount = 0
        // Of a send under way nothing is left to be taken.
        session.pointee.sendByteCount = 0
        session.pointee.flags.remove(.tailIsOwn)
        return count
    }
}
