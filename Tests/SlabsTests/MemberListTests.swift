import Testing

@testable import Slabs

@Suite struct MemberListTests {
    private static func member(_ number: Int) -> Member {
        Member(session: UInt32(number), subscription: UInt32(number) ^ 0xFFFF)
    }

    @Test func `the last member takes the place of one that leaves`() {
        var list = MemberList()
        let positions = (0..<4).map { list.append(Self.member($0)) }
        #expect(positions == [0, 1, 2, 3])
        let moved = [list.swapRemove(at: 1), list.swapRemove(at: 2)]
        #expect(moved == [Self.member(3), nil], "the second was the last itself")
        #expect(list.count == 2)
        #expect(list[0] == Self.member(0) && list[1] == Self.member(3))
        list.deallocate()
        #expect(list.isEmpty && list.capacity == 0)
    }

    @Test func `memory grows by half, shrinks below a quarter and goes with the last member`() {
        var list = MemberList()
        _ = list.append(Self.member(0))
        #expect(list.capacity == 4)
        for number in 1..<100_000 { _ = list.append(Self.member(number)) }
        #expect(list.capacity >= 100_000 && list.capacity < 150_001)
        while list.count > 0 {
            _ = list.swapRemove(at: list.count / 2)
            if list.capacity >= 8 { #expect(list.count >= list.capacity / 4) }
        }
        #expect(list.capacity == 0)
    }

    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func `random operations agree with an array`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var list = MemberList()
        var model: [Member] = []
        for step in 0..<30_000 {
            if model.isEmpty || generator.below(10) < (step / 10_000 % 2 == 0 ? 7 : 3) {
                let position = list.append(Self.member(step))
                try #require(position == UInt32(model.count))
                model.append(Self.member(step))
            } else {
                let position = generator.below(model.count)
                let isLast = position == model.count - 1
                model.swapAt(position, model.count - 1)
                model.removeLast()
                let moved = list.swapRemove(at: UInt32(position))
                try #require(moved == (isLast ? nil : model[position]))
            }
            try #require(Int(list.count) == model.count)
        }
        for position in 0..<model.count { try #require(list[UInt32(position)] == model[position]) }
        list.deallocate()
    }
}
