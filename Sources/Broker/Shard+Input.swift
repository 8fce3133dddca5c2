import Slabs

// The memory of frames cut short. It may take half of `limits.message-memory-bytes`; from an eighth of that limit on,
// frames that grow wait for their turn, so many at a time as fit a quarter, and those that are slow make way. So many
// clients that each hold most of a large frame take no memory from messages, nor the chance to send a large frame from
// others.
extension Shard {
    static var consumerFrameByteCountMax: Int { MemoryBudget.consumerFrameByteCountMax }

    var inputIsTight: Bool { memory.inputIsTight }

    func partialInput(_ session: UnsafeMutablePointer<Session>) -> UnsafeMutablePointer<PartialInput> {
        memory.blocks.base(session.pointee.input).assumingMemoryBound(to: PartialInput.self)
    }

    // MARK: Blocks

    /// Makes the session's block larger where it is. False: it has to be copied to another.
    mutating func extendInput(_ session: UnsafeMutablePointer<Session>, byteCount: Int) -> Bool {
        memory.extendInput(session.pointee.input, byteCount: byteCount)
    }

    mutating func releaseInput(_ block: BlockIndex) {
        dismiss(memory.blocks.base(block).assumingMemoryBound(to: PartialInput.self))
        memory.releaseInput(block)
    }

    // MARK: The list of large blocks

    /// Puts a session whose input has grown large at the end of the list.
    mutating func listInput(_ session: UnsafeMutablePointer<Session>) {
        guard memory.blocks.capacity(session.pointee.input) > Self.consumerFrameByteCountMax else { return }
        let input = partialInput(session)
        input.pointee.isListed = true
        input.pointee.next = .none
        input.pointee.previous = inputTail
        if !inputTail.isNone {
            partialInput(sessions[inputTail]).pointee.next = session.pointee.index
        } else {
            inputHead = session.pointee.index
        }
        inputTail = session.pointee.index
        if inputIsTight { armRoom() }
    }

    mutating func unlistInput(_ session: UnsafeMutablePointer<Session>) {
        let input = partialInput(session)
        guard input.pointee.isListed else { return }
        input.pointee.isListed = false
        let (next, previous) = (input.pointee.next, input.pointee.previous)
        if !next.isNone { partialInput(sessions[next]).pointee.previous = previous } else { inputTail = previous }
        if !previous.isNone { partialInput(sessions[previous]).pointee.next = next } else { inputHead = next }
    }

    // MARK: While it is tight

    /// A frame's time and least rate while it is tight, where the configuration allows no less. It is counted as
    /// `limits.frame-timeout-ms`, and does not run while the client is not read.
    private static var tightFrameMillisecondsMax: Int { 1000 }
    private static var tightFrameBytesPerSecondMin: Int { 1 << 20 }
    private static var slowFramesPerLookMax: Int { 64 }

    /// Ends those whose frames are slow, beginning with the most silent one.
    mutating func endSlowFrames() {
        for _ in 0..<Self.slowFramesPerLookMax where !inputHead.isNone && inputIsTight {
            let session = sessions[inputHead]
            let patience = UInt32(
                clamping: min(limits.frameMillisecondsMax, Self.tightFrameMillisecondsMax)
                    + Int(session.pointee.inputByteCount) * 1000
                    / max(limits.frameBytesPerSecondMin, Self.tightFrameBytesPerSecondMin))
            if session.pointee.flags.contains(.suspended) || session.pointee.state != .connected {
                // Not its fault; the next one is looked at.
                unlistInput(session)
                listInput(session)
            } else if clock &- partialInput(session).pointee.since >= patience {
                counters.limits.count(.frameTimeout)
                fail(
                    session, "Frame too slow", "memory is short, and the frame was not complete after \(patience) ms"
                )
            } else {
                return
            }
        }
    }

    /// Whether a session that waits with a large block may go on: as many at a time as can have their largest frames
    /// whole, and one at least.
    mutating func admitInput(_ session: UnsafeMutablePointer<Session>, _ promisedByteCount: inout Int) -> Bool {
        guard session.pointee.input != 0,
            Int(session.pointee.inputByteCount) > Self.consumerFrameByteCountMax, inputIsTight
        else { return true }
        // A block that doubles lies beside the one that it replaces.
        let byteCount = (limits.bodyByteCountMax + limits.headersByteCountMax) * 2
        guard admittedInputCount == 0 || memory.admitsInput(promisedByteCount + byteCount) else { return false }
        promisedByteCount += byteCount
        if !partialInput(session).pointee.isAdmitted {
            partialInput(session).pointee.isAdmitted = true
            admittedInputCount += 1
        }
        return true
    }

    /// The frame that was to be finished is.
    mutating func dismiss(_ input: UnsafeMutablePointer<PartialInput>) {
        guard input.pointee.isAdmitted else { return }
        input.pointee.isAdmitted = false
        admittedInputCount -= 1
    }
}
