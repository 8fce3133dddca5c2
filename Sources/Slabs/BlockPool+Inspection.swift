extension BlockPool {
    /// Bytes of freed large blocks and spare arenas that the pool keeps. For tests.
    package var keptByteCount: Int { largeCache.byteCount + spareArenaCount * Self.arenaByteCount }
}
