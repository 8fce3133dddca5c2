import Testing

@testable import Slabs

private typealias TurnFifo = Fifo<LinkedRecord.TurnLink>
private typealias TurnStack = Stack<LinkedRecord.TurnLink>

@Suite struct FifoTests {
    private static func contents(_ fifo: TurnFifo, _ slab: borrowing Slab<LinkedRecord>) -> [LinkedIndex] {
        var indices: [LinkedIndex] = []
        var index = fifo.first
        while !index.isNone {
            indices.append(index)
            index = TurnFifo.next(after: index, in: slab)
        }
        return indices
    }

    /// Ends a record's life, and begins another at its place.
    private static func renew(_ record: LinkedIndex, in slab: inout Slab<LinkedRecord>) -> LinkedIndex {
        slab.free(record)
        let handle: Handle<LinkedRecord> = slab.allocate()
        return handle.index
    }

    @Test func `records leave in the order in which they came`() throws {
        let slab = try makeSlab(3)
        let records = makeIndices(3)
        var fifo = TurnFifo()
        #expect(fifo.isEmpty && fifo.first.isNone && fifo.last.isNone)
        for record in records { fifo.append(record, in: slab) }
        #expect(fifo.first == records[0] && fifo.last == records[2])
        let popped = (0..<4).map { _ in fifo.popFirst(in: slab) }
        #expect(popped == records + [.none])
        #expect(fifo.isEmpty && fifo.last.isNone)
    }

    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `random operations agree with an array`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var slab = try makeSlab(20)
        let records = makeIndices(20)
        var fifo = TurnFifo()
        var model: [LinkedIndex] = []
        var outside = records
        for _ in 0..<3_000 {
            switch generator.below(4) {
            case 0, 1:
                guard !outside.isEmpty else { continue }
                model.append(outside.remove(at: generator.below(outside.count)))
                fifo.append(model.last!, in: slab)
            case 2:
                let popped = fifo.popFirst(in: slab)
                try #require(popped == model.first ?? LinkedIndex.none)
                if !model.isEmpty { outside.append(Self.renew(model.removeFirst(), in: &slab)) }
            default:
                let record = records[generator.below(records.count)]
                let wasIn = fifo.remove(record, in: slab)
                try #require(wasIn == model.contains(record))
                if wasIn {
                    model.removeAll { $0 == record }
                    outside.append(Self.renew(record, in: &slab))
                }
            }
            let contents = Self.contents(fifo, slab)
            try #require(contents == model)
            try #require(fifo.last == model.last ?? LinkedIndex.none)
        }
    }

    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `a stack agrees with an array`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let slab = try makeSlab(20)
        let records = makeIndices(20)
        var stack = TurnStack()
        var model: [LinkedIndex] = []
        var outside = records
        for _ in 0..<3_000 {
            switch generator.below(4) {
            case 0, 1:
                guard !outside.isEmpty else { continue }
                model.insert(outside.remove(at: generator.below(outside.count)), at: 0)
                stack.push(model[0], in: slab)
            case 2:
                let popped = stack.pop(in: slab)
                try #require(popped == model.first ?? LinkedIndex.none)
                if !model.isEmpty { outside.append(model.removeFirst()) }
            default:
                let record = records[generator.below(records.count)]
                let wasIn = stack.remove(record, in: slab)
                try #require(wasIn == model.contains(record))
                if wasIn {
                    model.removeAll { $0 == record }
                    outside.append(record)
                }
            }
            var contents: [LinkedIndex] = []
            var index = stack.first
            while !index.isNone {
                contents.append(index)
                index = TurnStack.next(after: index, in: slab)
            }
            try #require(contents == model && stack.isEmpty == model.isEmpty)
        }
    }

    @Test func `none is in no queue and in no stack`() throws {
        let slab = try makeSlab(1)
        let records = makeIndices(1)
        var fifo = TurnFifo()
        var stack = TurnStack()
        let wasInEmpty = [fifo.remove(.none, in: slab), stack.remove(.none, in: slab)]
        #expect(wasInEmpty == [false, false])
        fifo.append(records[0], in: slab)
        let wasIn = fifo.remove(.none, in: slab)
        #expect(!wasIn)
    }

    #if DEBUG
        // MARK: Audits

        @Test func `a record that joins a queue twice in its life stops a debug build`() async {
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(1)
                let records = makeIndices(1)
                var fifo = Fifo<LinkedRecord.TurnLink>()
                fifo.append(records[0], in: slab)
                _ = fifo.popFirst(in: slab)
                fifo.append(records[0], in: slab)
            }
        }

        @Test func `a record put into two queues stops a debug build`() async {
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(1)
                let records = makeIndices(1)
                var fifo = Fifo<LinkedRecord.TurnLink>()
                var stack = Stack<LinkedRecord.TurnLink>()
                fifo.append(records[0], in: slab)
                stack.push(records[0], in: slab)
            }
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(1)
                let records = makeIndices(1)
                var stack = Stack<LinkedRecord.TurnLink>()
                stack.push(records[0], in: slab)
                stack.push(records[0], in: slab)
            }
        }
    #endif
}
