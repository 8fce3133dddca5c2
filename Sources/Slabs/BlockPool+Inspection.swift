extension BlockPool {
    /// Bytes of large blocks and arenas that were freed and are kept. For tests.
    package var keptByteCount: Int { largeCache.byteCount + spareArenaCount * Self.arenaByteCount }
}
