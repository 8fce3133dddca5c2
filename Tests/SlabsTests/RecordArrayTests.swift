import Testing

@testable import Slabs

@Suite struct RecordArrayTests {
    private struct Element: BitwiseCopyable, Equatable {
        var number: UInt32
        var complement: UInt32
    }

    private static func element(_ number: Int) -> Element {
        Element(number: UInt32(number), complement: ~UInt32(number))
    }

    @Test func `the last element takes the place of one that leaves`() {
        var array = RecordArray<Element>()
        let positions = (0..<4).map { array.append(Self.element($0)) }
        #expect(positions == [0, 1, 2, 3])
        let moved = [array.swapRemove(at: 1), array.swapRemove(at: 2)]
        #expect(moved == [Self.element(3), nil], "the second was the last itself")
        #expect(array.count == 2)
        #expect(array[0] == Self.element(0) && array[1] == Self.element(3))
        array.deallocate()
        #expect(array.isEmpty && array.capacity == 0)
    }

    @Test func `memory grows by half, shrinks below a quarter and goes with the last element`() {
        var array = RecordArray<Element>()
        _ = array.append(Self.element(0))
        #expect(array.capacity == 4)
        for number in 1..<100_000 { _ = array.append(Self.element(number)) }
        #expect(array.capacity >= 100_000 && array.capacity < 150_001)
        while array.count > 0 {
            _ = array.swapRemove(at: array.count / 2)
            if array.capacity >= 8 { #expect(array.count >= array.capacity / 4) }
        }
        #expect(array.capacity == 0)
    }

    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `random operations agree with an array`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var array = RecordArray<Element>()
        var model: [Element] = []
        for step in 0..<30_000 {
            if model.isEmpty || generator.below(10) < (step / 10_000 % 2 == 0 ? 7 : 3) {
                let position = array.append(Self.element(step))
                try #require(position == UInt32(model.count))
                model.append(Self.element(step))
            } else {
                let position = generator.below(model.count)
                let isLast = position == model.count - 1
                model.swapAt(position, model.count - 1)
                model.removeLast()
                let moved = array.swapRemove(at: UInt32(position))
                try #require(moved == (isLast ? nil : model[position]))
            }
            try #require(Int(array.count) == model.count)
        }
        for position in 0..<model.count { try #require(array[UInt32(position)] == model[position]) }
        array.deallocate()
    }
}
