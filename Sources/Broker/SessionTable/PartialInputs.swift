import Glibc
import STOMP
import Slabs

/// Heads the block of a frame cut short; the bytes follow.
struct PartialInput: BitwiseCopyable {
    var parser: ParserState
    /// When the frame's first byte arrived, in milliseconds of the shard's clock.
    var since: UInt32
    /// It may grow though such blocks have taken their share of the memory: it has waited for its turn.
    var isAdmitted = false
    /// Its record on the list of large blocks. None: it is not on the list.
    var large = Index<LargeInput>.none

    /// The bytes begin here, on a 16-byte boundary.
    static var byteCount: Int { (MemoryLayout<PartialInput>.size + 15) & ~15 }
}

/// A session with a large block, on the list of these.
///
/// A record of its own rather than links in the block: a `List` links records of a slab, and a block moves when it grows.
/// Nor are they in the session, for there they would take 8 bytes of each connection, and hardly any has such a block.
struct LargeInput: SlabRecord {
    var generation: UInt32
    var session: Index<Session>
    var link: DoubleLink<LargeInput>
}

/// What became of bytes that were to be kept.
enum InputOutcome: BitwiseCopyable {
    case kept
    /// They are kept, in a large block that has come to the list.
    case listed
    /// Nothing has changed.
    case noMemory
}

/// Input that is taken from its session while the frames in it are applied.
struct InputInHand: BitwiseCopyable {
    var block: BlockIndex
    var bytes: UnsafeMutableRawPointer
    var byteCount: Int
    var parser: ParserState
}

/// The memory of frames cut short.
///
/// It may take half of `limits.message-memory-bytes`; from an eighth of that limit on, frames that grow wait for their turn,
/// so many at a time as fit a quarter, and those that are slow make way. So many clients that each hold most of a large
/// frame take no memory from messages, nor the chance to send a large frame from others.
///
/// A session has at most one block, which belongs to it alone. It is on the list while it is larger than what the frames of
/// consumers need, in the order in which the blocks have grown so large. `admittedCount` is the number of blocks that may grow.
struct PartialInputs: ~Copyable {
    private var large: Slab<LargeInput>
    /// From the one that has been silent longest.
    private var silent = LargeInputList()
    private(set) var admittedCount = 0
    /// What is promised to one that may grow: a block that doubles lies beside the one that it replaces.
    private let promisedByteCount: Int
    private let tightMilliseconds: Int
    private let tightBytesPerSecond: Int

    /// A frame's time and least rate while it is tight, where the configuration allows no less. It is counted as
    /// `limits.frame-timeout-ms`, and does not run while the client is not read.
    private static var tightFrameMillisecondsMax: Int { 1000 }
    private static var tightFrameBytesPerSecondMin: Int { 1 << 20 }

    init(sessionCountMax: Int, _ limits: Limits) throws(SlabError) {
        large = try Slab(recordCountMax: sessionCountMax)
        promisedByteCount = (limits.bodyByteCountMax + limits.headersByteCountMax) * 2
        tightMilliseconds = min(limits.frameMillisecondsMax, Self.tightFrameMillisecondsMax)
        tightBytesPerSecond = max(limits.frameBytesPerSecondMin, Self.tightFrameBytesPerSecondMin)
    }

    /// Sessions on the list.
    var largeCount: Int { large.liveCount }

    mutating func trim() { large.trim() }

    // MARK: Blocks

    /// Borrows a block for a frame cut short, for a session without one; `bytes` are the driver's and go back to it.
    mutating func keep(
        _ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int, _ parser: ParserState,
        clock: UInt32, memory: inout MemoryBudget
    ) -> InputOutcome {
        invariant(session.pointee.input == 0, "a session has one block of input")
        let block = memory.allocateInput(byteCount: PartialInput.byteCount + count + 64)
        guard block != 0 else { return .noMemory }
        let input = head(of: block, in: memory)
        input.initialize(to: PartialInput(parser: parser, since: clock))
        memcpy(bytesOf(input), bytes, count)
        session.pointee.input = block
        session.pointee.inputByteCount = UInt32(count)
        return list(session, in: memory)
    }

    /// Appends to the session's block, which grows by doubling as bytes arrive, never from a content-length.
    mutating func append(
        _ session: UnsafeMutablePointer<Session>, _ bytes: UnsafeRawPointer, _ count: Int, memory: inout MemoryBudget
    ) -> InputOutcome {
        let held = Int(session.pointee.inputByteCount)
        let needed = PartialInput.byteCount + held + count
        var outcome = InputOutcome.kept
        if needed > memory.blocks.capacity(session.pointee.input),
            !memory.extendInput(session.pointee.input, byteCount: needed)
        {
            outcome = move(session, needed: needed, memory: &memory)
            if case .noMemory = outcome { return outcome }
        }
        memcpy(bytesOf(head(of: session.pointee.input, in: memory)) + held, bytes, count)
        session.pointee.inputByteCount = UInt32(held + count)
        return outcome
    }

    /// Copies what is held to a larger block.
    private mutating func move(
        _ session: UnsafeMutablePointer<Session>, needed: Int, memory: inout MemoryBudget
    ) -> InputOutcome {
        let usedByteCount = PartialInput.byteCount + Int(session.pointee.inputByteCount)
        let larger = memory.allocateInput(byteCount: max(needed, usedByteCount * 2))
        guard larger != 0 else { return .noMemory }
        memcpy(memory.blocks.base(larger), memory.blocks.base(session.pointee.input), usedByteCount)
        memory.releaseInput(session.pointee.input)
        session.pointee.input = larger
        return head(of: larger, in: memory).pointee.large.isNone ? list(session, in: memory) : .kept
    }

    /// Takes what is kept from the session, so that its end does not free it while frames in it are applied. The caller
    /// gives it back or releases it. nil: there is none.
    @inline(__always)
    mutating func take(
        _ session: UnsafeMutablePointer<Session>, in memory: borrowing MemoryBudget
    ) -> InputInHand? {
        let block = session.pointee.input
        if block == 0 { return nil }
        let input = head(of: block, in: memory)
        unlist(input)
        let taken = InputInHand(
            block: block, bytes: bytesOf(input), byteCount: Int(session.pointee.inputByteCount),
            parser: input.pointee.parser)
        session.pointee.input = 0
        session.pointee.inputByteCount = 0
        return taken
    }

    /// Gives the session what is left behind the first `consumed` bytes.
    mutating func giveBack(
        _ taken: InputInHand, behind consumed: Int, to session: UnsafeMutablePointer<Session>, _ parser: ParserState,
        clock: UInt32, in memory: borrowing MemoryBudget
    ) -> InputOutcome {
        invariant(session.pointee.input == 0, "a session has one block of input")
        let input = head(of: taken.block, in: memory)
        if consumed > 0 {
            input.pointee.since = clock
            dismiss(input)
            memmove(taken.bytes, taken.bytes + consumed, taken.byteCount - consumed)
        }
        input.pointee.parser = parser
        session.pointee.input = taken.block
        session.pointee.inputByteCount = UInt32(taken.byteCount - consumed)
        return list(session, in: memory)
    }

    mutating func release(_ taken: InputInHand, memory: inout MemoryBudget) {
        dismiss(head(of: taken.block, in: memory))
        memory.releaseInput(taken.block)
    }

    /// Forgets what is kept of the session.
    mutating func drop(_ session: UnsafeMutablePointer<Session>, memory: inout MemoryBudget) {
        guard let taken = take(session, in: memory) else { return }
        release(taken, memory: &memory)
    }

    private func head(
        of block: BlockIndex, in memory: borrowing MemoryBudget
    ) -> UnsafeMutablePointer<PartialInput> {
        memory.blocks.base(block).assumingMemoryBound(to: PartialInput.self)
    }

    private func bytesOf(_ input: UnsafeMutablePointer<PartialInput>) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(input) + PartialInput.byteCount
    }

    // MARK: Time

    /// When the first byte of what is kept of the session arrived.
    func since(_ session: UnsafeMutablePointer<Session>, in memory: borrowing MemoryBudget) -> UInt32 {
        head(of: session.pointee.input, in: memory).pointee.since
    }

    /// The frame's time begins now: its client was not read before.
    func restart(_ session: UnsafeMutablePointer<Session>, clock: UInt32, in memory: borrowing MemoryBudget) {
        if session.pointee.input == 0 { return }
        head(of: session.pointee.input, in: memory).pointee.since = clock
    }

    // MARK: The list of large blocks

    /// The session whose large block has been on the list longest. None: there is none.
    var mostSilent: Index<Session> { silent.isEmpty ? .none : large[silent.first].pointee.session }

    /// The most silent is looked at last.
    mutating func passOverMostSilent() { silent.append(silent.popFirst(in: large), in: large) }

    /// The time that the session's frame has while memory is short for those that are large.
    func patienceWhileTight(_ session: UnsafeMutablePointer<Session>) -> UInt32 {
        UInt32(clamping: tightMilliseconds + Int(session.pointee.inputByteCount) * 1000 / tightBytesPerSecond)
    }

    /// Puts a session whose block has grown large at the end of the list.
    @inline(__always)
    private mutating func list(
        _ session: UnsafeMutablePointer<Session>, in memory: borrowing MemoryBudget
    ) -> InputOutcome {
        guard memory.blocks.capacity(session.pointee.input) > MemoryBudget.consumerFrameByteCountMax else {
            return .kept
        }
        let handle: Handle<LargeInput> = large.allocate()
        invariant(!handle.isNone, "there is a record for each session")
        large[handle.index].pointee.session = session.pointee.index
        head(of: session.pointee.input, in: memory).pointee.large = handle.index
        silent.append(handle.index, in: large)
        return .listed
    }

    private mutating func unlist(_ input: UnsafeMutablePointer<PartialInput>) {
        let index = input.pointee.large
        if index.isNone { return }
        input.pointee.large = .none
        silent.remove(index, in: large)
        large.free(index)
    }

    // MARK: While it is tight

    func isAdmitted(_ session: UnsafeMutablePointer<Session>, in memory: borrowing MemoryBudget) -> Bool {
        head(of: session.pointee.input, in: memory).pointee.isAdmitted
    }

    /// Whether a session that waits with a large block may go on: as many at a time as can have their largest frames
    /// whole, and one at least.
    ///
    /// - Parameter promised: bytes that were promised to others at the same time.
    mutating func admit(
        _ session: UnsafeMutablePointer<Session>, promised: inout Int, in memory: borrowing MemoryBudget
    ) -> Bool {
        guard session.pointee.input != 0,
            Int(session.pointee.inputByteCount) > MemoryBudget.consumerFrameByteCountMax, memory.inputIsTight
        else { return true }
        guard admittedCount == 0 || memory.admitsInput(promised + promisedByteCount) else { return false }
        promised += promisedByteCount
        let input = head(of: session.pointee.input, in: memory)
        if !input.pointee.isAdmitted {
            input.pointee.isAdmitted = true
            admittedCount += 1
        }
        return true
    }

    /// The frame that was to be finished is.
    private mutating func dismiss(_ input: UnsafeMutablePointer<PartialInput>) {
        guard input.pointee.isAdmitted else { return }
        input.pointee.isAdmitted = false
        admittedCount -= 1
    }
}
