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
        #expect(MemoryLayout<Member>.stride == 8)
        #expect(MemoryLayout<MemberList>.stride == 16)
        #expect(MemoryLayout<ParcelHeader>.stride <= Parcels.headerByteCount)
    }
}
