/// Memory for the plaintext that one turn of the core gets. It is used again for the next turn.
struct PlaintextArena: ~Copyable {
    static let chunkByteCount = 256 << 10
    /// Chunks that stay after a burst.
    private static let keptCountMax = 8

    private var chunks: [UnsafeMutableRawPointer] = []
    private var index = 0
    private var offset = 0

    deinit { for chunk in chunks { chunk.deallocate() } }

    /// The turn is over: what it got may be overwritten.
    mutating func removeAll() {
        while chunks.count > Self.keptCountMax { chunks.removeLast().deallocate() }
        index = 0
        offset = 0
    }

    /// Room for at least `byteCount` bytes (up to `chunkByteCount`), and all that is behind it in the chunk.
    mutating func room(_ byteCount: Int) -> UnsafeMutableRawBufferPointer {
        if Self.chunkByteCount - offset < byteCount {
            index += 1
            offset = 0
        }
        if index >= chunks.count { chunks.append(.allocate(byteCount: Self.chunkByteCount, alignment: 64)) }
        return UnsafeMutableRawBufferPointer(start: chunks[index] + offset, count: Self.chunkByteCount - offset)
    }

    /// So many bytes of the room are used.
    mutating func commit(_ byteCount: Int) { offset += byteCount }
}
