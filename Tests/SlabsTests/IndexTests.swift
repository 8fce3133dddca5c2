import Testing

@testable import Slabs

@Suite struct IndexTests {
    @Test func `a handle is found in its life only`() throws {
        var slab = try Slab<LinkedRecord>(recordCountMax: 10)
        let first: Handle<LinkedRecord> = slab.allocate()
        slab[first.index].pointee.value = 7
        let value = slab.find(first)?.pointee.value
        let handle = slab.handle(first.index)
        #expect(value == 7 && handle == first)
        slab.free(first.index)
        let second: Handle<LinkedRecord> = slab.allocate()
        #expect(second.index == first.index && second != first)
        let lives = [slab.isLive(first), slab.isLive(second), slab.isLive(.none as Handle<LinkedRecord>)]
        #expect(lives == [false, true, false])
        let stale = slab.find(first)
        #expect(stale == nil)
    }

    @Test func `a handle travels as a slot and comes back`() throws {
        var slab = try Slab<LinkedRecord>(recordCountMax: 10)
        let handle: Handle<LinkedRecord> = slab.allocate()
        #expect(handle.slot == Slot(index: 1, generation: 1))
        #expect(Handle<LinkedRecord>(handle.slot) == handle)
        #expect(Handle<LinkedRecord>(Slot.none).isNone && Handle<LinkedRecord>.none.slot == .none)
        #expect(Set([handle, handle, .none]).count == 2)
    }

    @Test func `a walk by indices visits every live record`() throws {
        var slab = try makeSlab(9)
        let records = makeIndices(9)
        for record in records where record.rawValue % 2 == 0 { slab.free(record) }
        var visited: [LinkedIndex] = []
        var index = slab.nextLive(after: LinkedIndex.none)
        while !index.isNone {
            visited.append(index)
            index = slab.nextLive(after: index)
        }
        #expect(visited == records.filter { $0.rawValue % 2 == 1 })
    }

    @Test func `a full slab gives no handle`() throws {
        var slab = try makeSlab(3)
        let handle: Handle<LinkedRecord> = slab.allocate()
        #expect(handle.isNone && handle == .none)
    }
}
