internal import Glibc
internal import IO
internal import Slabs

// Ciphertext that waits for the kernel.
extension TLSLayer {
    /// The most buffers of a send (`Submission.Kind.sendVector`).
    private static var vectorsPerSend: Int { 64 }
    /// Blocks for more plaintext than a record holds. One record and most of another fit.
    private static var longBlockByteCount: Int { 32 << 10 }

    func header(_ block: BlockIndex) -> UnsafeMutablePointer<CiphertextHeader> {
        blocks.base(block).assumingMemoryBound(to: CiphertextHeader.self)
    }

    /// The room at the end of a block.
    private func output(_ block: BlockIndex) -> TLSOutput {
        TLSOutput(base: blocks.base(block), capacity: blocks.capacity(block), count: Int(header(block).pointee.end))
    }

    /// Appends a new block with room for at least `byteCount` bytes. False: there is no memory.
    private mutating func appendBlock(_ record: UnsafeMutablePointer<TLSRecord>, _ byteCount: Int) -> Bool {
        let block = blocks.allocate(byteCount: byteCount + CiphertextHeader.byteCount)
        guard block != 0 else { return false }
        let start = UInt32(CiphertextHeader.byteCount)
        header(block).initialize(to: CiphertextHeader(next: 0, end: start, start: start, plaintextByteCount: 0))
        if record.pointee.lastBlock == 0 {
            record.pointee.firstBlock = block
        } else {
            header(record.pointee.lastBlock).pointee.next = block
        }
        record.pointee.lastBlock = block
        return true
    }

    /// The last block took what an engine has written to `output`.
    private func commit(
        _ record: UnsafeMutablePointer<TLSRecord>, _ output: TLSOutput, plaintextByteCount: Int
    ) {
        let last = header(record.pointee.lastBlock)
        record.pointee.pendingByteCount += UInt32(output.count) - last.pointee.end
        last.pointee.end = UInt32(output.count)
        last.pointee.plaintextByteCount += UInt32(plaintextByteCount)
    }

    /// Appends what an engine has said besides its answer. False: there is no memory.
    mutating func append(_ record: UnsafeMutablePointer<TLSRecord>, _ bytes: UnsafeRawBufferPointer) -> Bool {
        if record.pointee.lastBlock == 0 || output(record.pointee.lastBlock).room < bytes.count {
            guard appendBlock(record, bytes.count) else { return false }
        }
        var output = output(record.pointee.lastBlock)
        (output.base + output.count).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        output.count += bytes.count
        commit(record, output, plaintextByteCount: 0)
        return true
    }

    /// Encrypts the core's bytes behind the first `skipped` ones, as far as the window and the memory allow. False: the
    /// connection has failed.
    mutating func encrypt(
        _ record: UnsafeMutablePointer<TLSRecord>, _ vectors: UnsafeBufferPointer<iovec>, skipping skipped: Int
    ) -> Bool {
        var pieces = PlaintextPieces(vectors, skipping: skipped)
        let isFramedAbove = facts[record.pointee.listener].isFramedAbove
        let window = isFramedAbove ? Self.framedPendingByteCountMax : Self.pendingByteCountMax
        while pieces.byteCount > 0, record.pointee.pendingByteCount < window {
            let room = record.pointee.lastBlock == 0 ? 0 : output(record.pointee.lastBlock).room
            var count = record.pointee.engine!.recordByteCount(pieces.byteCount, room: room)
            if count == 0 {
                let isLong = pieces.byteCount > TLSWire.recordByteCountMax
                let needed = isLong ? Self.longBlockByteCount : pieces.byteCount + TLSWire.recordOverhead
                guard appendBlock(record, needed) else {
                    if record.pointee.pendingByteCount == 0 { record.pointee.flags.insert(.isStarved) }
                    return true
                }
                count = record.pointee.engine!.recordByteCount(
                    pieces.byteCount, room: output(record.pointee.lastBlock).room)
            }
            let bytes = pieces.next(count, gatheredIn: wire.gatherBase)
            var output = output(record.pointee.lastBlock)
            guard record.pointee.engine!.write(record: bytes, count, &output, wire) else { return false }
            commit(record, output, plaintextByteCount: isFramedAbove ? 0 : count)
            record.pointee.aheadByteCount += UInt32(count)
            if isFramedAbove { record.pointee.sentByteCount += UInt32(count) }
        }
        return true
    }

    /// Submits the ciphertext that waits, as much of it as a send can hold.
    ///
    /// - Parameter coreByteCount: what the core has submitted. 0: nothing.
    mutating func submit(_ record: UnsafeMutablePointer<TLSRecord>, coreByteCount: Int, isZeroCopy: Bool) {
        var byteCount = 0
        var vectorCount = 0
        let vectors = arena.vectors + arena.vectorCount
        // A socket that is full is sent nothing before it says that it takes bytes again.
        var block = record.pointee.flags.contains(.isFull) ? 0 : record.pointee.firstBlock
        while block != 0, vectorCount < Self.vectorsPerSend, arena.hasRoom(vectorCount: 1, headerCount: 0) {
            let header = header(block)
            let count = Int(header.pointee.end - header.pointee.start)
            arena.append(blocks.base(block) + Int(header.pointee.start), count)
            byteCount += count
            vectorCount += 1
            block = header.pointee.next
        }
        if isZeroCopy || byteCount < Int(record.pointee.pendingByteCount)
            || Int(record.pointee.aheadByteCount) < coreByteCount
            || !record.pointee.flags.isDisjoint(with: [.shutdownIsDue, .closeIsDue, .coreAwaitsWritable])
        {
            settlesAtOnce = true
        }
        sends.append(
            LoweredTLSSend(
                record: handle(record), ciphertextByteCount: UInt32(byteCount), coreByteCount: UInt32(coreByteCount),
                isZeroCopy: isZeroCopy))
        guard byteCount > 0 else { return }
        partByteCount += byteCount
        record.pointee.flags.insert(.isSending)
        lowered.append(
            vectorCount == 1
                ? Submission(
                    .send, connection: record.pointee.connection, pointer: UnsafeRawPointer(vectors[0].iov_base),
                    byteCount: byteCount)
                : Submission(
                    .sendVector, connection: record.pointee.connection, value: Int32(byteCount),
                    pointer: UnsafeRawPointer(vectors), byteCount: vectorCount))
    }

    /// The kernel has taken so many bytes of ciphertext. Returns how many of the core's bytes it has taken with them.
    mutating func consume(_ record: UnsafeMutablePointer<TLSRecord>, _ byteCount: Int) -> UInt32 {
        var left = UInt32(byteCount)
        var plaintextByteCount: UInt32 = 0
        record.pointee.pendingByteCount -= left
        while record.pointee.firstBlock != 0 {
            let block = record.pointee.firstBlock
            let header = header(block)
            let count = header.pointee.end - header.pointee.start
            if count > left {
                header.pointee.start += left
                break
            }
            left -= count
            plaintextByteCount += header.pointee.plaintextByteCount
            record.pointee.firstBlock = header.pointee.next
            if record.pointee.firstBlock == 0 { record.pointee.lastBlock = 0 }
            blocks.release(block)
        }
        return plaintextByteCount
    }

    mutating func dropCiphertext(_ record: UnsafeMutablePointer<TLSRecord>) {
        while record.pointee.firstBlock != 0 {
            let block = record.pointee.firstBlock
            record.pointee.firstBlock = header(block).pointee.next
            blocks.release(block)
        }
        record.pointee.lastBlock = 0
        record.pointee.pendingByteCount = 0
    }
}

/// What a send of the core still holds: buffers, of which some were skipped or are encrypted.
struct PlaintextPieces {
    private var vectors: UnsafeBufferPointer<iovec>.SubSequence
    /// Bytes of the first vector that are done.
    private var offset = 0
    private(set) var byteCount: Int

    init(_ vectors: UnsafeBufferPointer<iovec>, skipping skipped: Int) {
        self.vectors = vectors[...]
        byteCount = vectors.reduce(0) { $0 + $1.iov_len }
        skip(skipped)
    }

    private mutating func skip(_ count: Int) {
        byteCount -= count
        var left = count
        while let first = vectors.first, first.iov_len - offset <= left {
            left -= first.iov_len - offset
            offset = 0
            vectors = vectors.dropFirst()
        }
        offset += left
    }

    /// The next `count` bytes: where they are, or gathered.
    mutating func next(_ count: Int, gatheredIn gatherBase: UnsafeMutableRawPointer) -> UnsafeRawPointer {
        let first = vectors.first!
        if first.iov_len - offset >= count {
            let bytes = UnsafeRawPointer(first.iov_base!) + offset
            skip(count)
            return bytes
        }
        var gathered = 0
        while gathered < count {
            let piece = vectors.first!
            let part = min(piece.iov_len - offset, count - gathered)
            (gatherBase + gathered).copyMemory(from: piece.iov_base! + offset, byteCount: part)
            gathered += part
            skip(part)
        }
        return UnsafeRawPointer(gatherBase)
    }
}
