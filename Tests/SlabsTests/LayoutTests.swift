import Testing

@testable import Slabs

@Suite struct LayoutTests {
    @Test func `records have the sizes that memory budgets count on`() {
        #expect(MemoryLayout<Slot>.stride == 8)
        #expect(MemoryLayout<SlabChunk>.stride == 16)
        #expect(MemoryLayout<BlockRecord>.stride == 24)
        #expect(MemoryLayout<Arena>.stride == 40)
        #expect(MemoryLayout<TimerRecord>.stride == 32)
        #expect(MemoryLayout<NameTable.Entry>.stride == 24)
        #expect(MemoryLayout<RecordArray<UInt64>>.stride == 16)
        #expect(MemoryLayout<Index<SmallRecord>>.stride == 4)
        #expect(MemoryLayout<Handle<SmallRecord>>.stride == 8 && MemoryLayout<Handle<SmallRecord>>.alignment == 4)
        #expect(MemoryLayout<DoubleLink<SmallRecord>>.stride == 8)
        #expect(MemoryLayout<SingleLink<SmallRecord>>.stride == 4)
        #expect(MemoryLayout<List<LinkedRecord.OrderLink>>.stride == 8)
        #expect(MemoryLayout<Chain<LinkedRecord.OrderLink>>.stride == 4)
        #expect(MemoryLayout<Fifo<LinkedRecord.TurnLink>>.stride == 8)
        #expect(MemoryLayout<Stack<LinkedRecord.TurnLink>>.stride == 4)
        #expect(MemoryLayout<PeerBatchHeader>.stride <= PeerBatches.headerByteCount)
    }
}
