import Testing

@testable import Slabs

/// A record that may be in one list of either kind.
struct LinkedRecord: SlabRecord {
    var generation: UInt32
    var value: UInt32
    var order: DoubleLink<LinkedRecord>
    var turn: SingleLink<LinkedRecord>

    enum OrderLink: DoublyLinked {
        static func link(of record: UnsafeMutablePointer<LinkedRecord>) -> DoubleLink<LinkedRecord> {
            record.pointee.order
        }
        static func setLink(_ link: DoubleLink<LinkedRecord>, of record: UnsafeMutablePointer<LinkedRecord>) {
            record.pointee.order = link
        }
    }

    enum TurnLink: SinglyLinked {
        static func link(of record: UnsafeMutablePointer<LinkedRecord>) -> SingleLink<LinkedRecord> {
            record.pointee.turn
        }
        static func setLink(_ link: SingleLink<LinkedRecord>, of record: UnsafeMutablePointer<LinkedRecord>) {
            record.pointee.turn = link
        }
    }
}

typealias LinkedIndex = Index<LinkedRecord>
typealias OrderList = List<LinkedRecord.OrderLink>
typealias OrderChain = Chain<LinkedRecord.OrderLink>

/// A slab full of records, whose indices count from 1.
func makeSlab(_ count: Int) throws -> Slab<LinkedRecord> {
    var slab = try Slab<LinkedRecord>(recordCountMax: count)
    for _ in 0..<count {
        let _: Handle<LinkedRecord> = slab.allocate()
    }
    return slab
}

func makeIndices(_ count: Int) -> [LinkedIndex] { (0..<count).map { LinkedIndex(UInt32($0 + 1)) } }

@Suite struct ListTests {
    private static func contents(_ list: OrderList, _ slab: borrowing Slab<LinkedRecord>) -> [LinkedIndex] {
        var indices: [LinkedIndex] = []
        var index = list.first
        while !index.isNone {
            indices.append(index)
            index = OrderList.next(after: index, in: slab)
        }
        return indices
    }

    private static func reversed(_ list: OrderList, _ slab: borrowing Slab<LinkedRecord>) -> [LinkedIndex] {
        var indices: [LinkedIndex] = []
        var index = list.last
        while !index.isNone {
            indices.append(index)
            index = OrderList.previous(before: index, in: slab)
        }
        return indices
    }

    @Test func `records join at both ends and beside others`() throws {
        let slab = try makeSlab(6)
        let records = makeIndices(6)
        var list = OrderList()
        #expect(list.isEmpty && list.first.isNone && list.last.isNone)
        list.append(records[1], in: slab)
        list.append(records[2], in: slab)
        list.prepend(records[0], in: slab)
        list.insert(records[3], after: records[2], in: slab)
        list.insert(records[4], before: records[0], in: slab)
        list.insert(records[5], after: records[0], in: slab)
        let order = [4, 0, 5, 1, 2, 3].map { records[$0] }
        let contents = Self.contents(list, slab)
        let reversed = Self.reversed(list, slab)
        #expect(contents == order)
        #expect(reversed == order.reversed())
        #expect(!list.isEmpty && list.first == records[4] && list.last == records[3])
    }

    @Test func `records leave from either end, from the middle, and as the only one`() throws {
        let slab = try makeSlab(4)
        let records = makeIndices(4)
        var list = OrderList()
        for record in records { list.append(record, in: slab) }
        list.remove(records[1], in: slab)
        list.remove(records[3], in: slab)
        let afterMiddleAndLast = Self.contents(list, slab)
        #expect(afterMiddleAndLast == [records[0], records[2]])
        let popped = [list.popFirst(in: slab), list.popFirst(in: slab), list.popFirst(in: slab)]
        #expect(popped == [records[0], records[2], .none])
        #expect(list.isEmpty && list.last.isNone)
        list.prepend(records[1], in: slab)
        #expect(list.first == records[1] && list.last == records[1])
    }

    @Test(arguments: 1...5 as ClosedRange<UInt64>)
    func `random operations agree with an array`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let slab = try makeSlab(40)
        let records = makeIndices(40)
        var list = OrderList()
        var model: [LinkedIndex] = []
        var outside = records
        for _ in 0..<5_000 {
            if !outside.isEmpty, model.isEmpty || generator.below(2) == 0 {
                let record = outside.remove(at: generator.below(outside.count))
                let place = generator.below(model.count + 1)
                switch generator.below(4) {
                case 0 where place < model.count:
                    list.insert(record, before: model[place], in: slab)
                    model.insert(record, at: place)
                case 1 where place > 0:
                    list.insert(record, after: model[place - 1], in: slab)
                    model.insert(record, at: place)
                case 2:
                    list.prepend(record, in: slab)
                    model.insert(record, at: 0)
                default:
                    list.append(record, in: slab)
                    model.append(record)
                }
            } else if generator.below(4) == 0 {
                outside.append(model.removeFirst())
                let popped = list.popFirst(in: slab)
                try #require(popped == outside.last)
            } else {
                let record = model.remove(at: generator.below(model.count))
                list.remove(record, in: slab)
                outside.append(record)
            }
            let contents = Self.contents(list, slab)
            let reversed = Self.reversed(list, slab)
            try #require(contents == model && reversed == model.reversed())
        }
    }

    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `a chain agrees with an array`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let slab = try makeSlab(20)
        let records = makeIndices(20)
        var chain = OrderChain()
        var model: [LinkedIndex] = []
        var outside = records
        for _ in 0..<3_000 {
            if !outside.isEmpty, model.isEmpty || generator.below(2) == 0 {
                let record = outside.remove(at: generator.below(outside.count))
                chain.prepend(record, in: slab)
                model.insert(record, at: 0)
            } else {
                let place = generator.below(model.count)
                let record = model.remove(at: place)
                if generator.below(2) == 0 {
                    let wasRemoved = OrderChain.removeUnlessFirst(record, in: slab)
                    try #require(wasRemoved == (place > 0))
                    if !wasRemoved { chain.remove(record, in: slab) }
                } else {
                    chain.remove(record, in: slab)
                }
                outside.append(record)
            }
            var contents: [LinkedIndex] = []
            var index = chain.first
            while !index.isNone {
                contents.append(index)
                index = OrderChain.next(after: index, in: slab)
            }
            try #require(contents == model && chain.isEmpty == model.isEmpty)
        }
    }

    @Test func `zeros are an empty list, and a freed record comes back in none`() throws {
        var slab = try makeSlab(2)
        let records = makeIndices(2)
        var list = OrderList()
        list.append(records[0], in: slab)
        list.append(records[1], in: slab)
        list.remove(records[0], in: slab)
        slab.free(records[0])
        let again: Handle<LinkedRecord> = slab.allocate()
        #expect(again.index == records[0])
        list.append(again.index, in: slab)
        let contents = Self.contents(list, slab)
        #expect(contents == [records[1], records[0]])
        let zeros = withUnsafeBytes(of: OrderList()) { bytes in bytes.allSatisfy { $0 == 0 } }
        #expect(zeros)
    }

    #if DEBUG
        // MARK: Audits

        @Test func `a record put into two lists stops a debug build, even where it is the only one of the first`() async
        {
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(1)
                let records = makeIndices(1)
                var list = OrderList()
                var other = OrderList()
                list.append(records[0], in: slab)
                other.append(records[0], in: slab)
            }
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(1)
                let records = makeIndices(1)
                var list = OrderList()
                var chain = OrderChain()
                list.append(records[0], in: slab)
                chain.prepend(records[0], in: slab)
            }
        }

        @Test func `a record that is removed twice, or from no list, stops a debug build`() async {
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(2)
                let records = makeIndices(2)
                var list = OrderList()
                for record in records { list.append(record, in: slab) }
                list.remove(records[0], in: slab)
                list.remove(records[0], in: slab)
            }
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(1)
                let records = makeIndices(1)
                var chain = OrderChain()
                chain.remove(records[0], in: slab)
            }
        }

        @Test func `a first record that is removed from another list stops a debug build`() async {
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(2)
                let records = makeIndices(2)
                var list = OrderList()
                var other = OrderList()
                list.append(records[0], in: slab)
                other.append(records[1], in: slab)
                other.remove(records[0], in: slab)
            }
        }

        @Test func `a neighbour that does not link back stops a debug build`() async {
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(3)
                let records = makeIndices(3)
                var list = OrderList()
                for record in records { list.append(record, in: slab) }
                slab[records[2]].pointee.order.previous = records[0]
                list.remove(records[1], in: slab)
            }
            await #expect(processExitsWith: .failure) {
                let slab = try makeSlab(3)
                let records = makeIndices(3)
                var list = OrderList()
                for record in records { list.append(record, in: slab) }
                slab[records[0]].pointee.order.next = records[2]
                list.remove(records[1], in: slab)
            }
        }
    #endif
}
