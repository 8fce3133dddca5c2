extension Slab {
    /// Returns the memory of chunks without live records to the kernel. For quiet periods after a burst.
    ///
    /// Complexity: one comparison if there is no such chunk; else linear in the chunks used so far and in the places of
    /// the chunks that are returned.
    public mutating func trim() {
        guard emptyChunkCount > 0 else { return }
        // One system call returns adjacent chunks.
        var runStart = 0
        for chunk in 0..<touchedChunkCount {
            if chunks[chunk].liveCount == 0 {
                retire(chunk)
            } else {
                discard(runStart..<chunk)
                runStart = chunk + 1
            }
        }
        discard(runStart..<touchedChunkCount)
        emptyChunkCount = 0
        touchedChunkCount = runStart
    }

    /// Resets a chunk to its unused state, but keeps the generations that it has used.
    private mutating func retire(_ chunkIndex: Int) {
        let firstPlace = chunkIndex == 0 ? 1 : 0
        var chunk = chunks[chunkIndex]
        let base = Generation.next(chunk.spentGenerations)
        var spentCount: UInt32 = 0
        for place in firstPlace..<Int(chunk.carvedCount) {
            let index = UInt32(chunkIndex << Self.placesPerChunkShift + place)
            let nextGeneration = self.place(index).load(as: UInt32.self) & Generation.max
            spentCount = max(spentCount, Generation.distance(from: base, to: nextGeneration))
        }
        carvedPlaceCount -= Int(chunk.carvedCount) - firstPlace
        chunk.spentGenerations = Generation.advanced(base, by: spentCount + Generation.max - 1)
        chunk.carvedCount = UInt32(firstPlace)
        chunk.firstFree = 0
        chunks[chunkIndex] = chunk
    }

    private func discard(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        Pages.discard(base + range.lowerBound * Self.chunkByteCount, byteCount: range.count * Self.chunkByteCount)
    }
}
