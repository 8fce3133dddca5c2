import Testing

@testable import Drivers

struct ReceiveBudgetTests {
    private static let byteCountMax = 512 << 10

    /// A turn that received so many bytes.
    private func turn(_ budget: inout ReceiveBudget, byteCount: Int, nanoseconds: UInt64) {
        budget.turnBegins(byteCount: byteCount)
        if budget.isMeasuring { budget.turnEnds(after: nanoseconds) }
    }

    @Test func `turns that take long leave less and less to the next`() {
        var budget = ReceiveBudget(byteCountMax: Self.byteCountMax)
        #expect(budget.byteCount == Self.byteCountMax && !budget.isTight)
        var last = budget.byteCount
        for _ in 0..<10 {
            turn(&budget, byteCount: budget.byteCount, nanoseconds: ReceiveBudget.nanosecondsMax + 1)
            #expect(budget.byteCount == max(last / 2, ReceiveBudget.leastByteCount))
            last = budget.byteCount
        }
        #expect(last == ReceiveBudget.leastByteCount && budget.isTight)
    }

    @Test func `half of what took too long is what is left, however much was allowed`() {
        var budget = ReceiveBudget(byteCountMax: Self.byteCountMax)
        turn(&budget, byteCount: 150_000, nanoseconds: ReceiveBudget.nanosecondsMax * 2)
        #expect(budget.byteCount == 75_000)
    }

    @Test func `what took several times too long leaves so many times less, up to eight`() {
        for (times, divisor) in [(1, 2), (2, 2), (5, 5), (8, 8), (1000, 8)] as [(UInt64, Int)] {
            var budget = ReceiveBudget(byteCountMax: Self.byteCountMax)
            turn(&budget, byteCount: Self.byteCountMax, nanoseconds: ReceiveBudget.nanosecondsMax * times + 1)
            #expect(budget.byteCount == Self.byteCountMax / divisor)
        }
    }

    @Test func `turns that use it up in little time leave more, up to the most`() {
        var budget = ReceiveBudget(byteCountMax: Self.byteCountMax)
        for _ in 0..<10 { turn(&budget, byteCount: budget.byteCount, nanoseconds: .max) }
        turn(&budget, byteCount: budget.byteCount, nanoseconds: ReceiveBudget.nanosecondsMax / 2)
        #expect(budget.byteCount == ReceiveBudget.leastByteCount, "neither short nor long")
        for _ in 0..<10 { turn(&budget, byteCount: budget.byteCount, nanoseconds: 1) }
        #expect(budget.byteCount == Self.byteCountMax)
    }

    @Test func `floods take turns until the last turn that took too long is long past`() {
        var budget = ReceiveBudget(byteCountMax: Self.byteCountMax)
        turn(&budget, byteCount: budget.byteCount, nanoseconds: .max)
        for _ in 0..<10 { turn(&budget, byteCount: budget.byteCount, nanoseconds: 1) }
        #expect(budget.byteCount == Self.byteCountMax && budget.isTight)
        turn(&budget, byteCount: budget.byteCount, nanoseconds: .max)
        #expect(budget.byteCount < Self.byteCountMax)
        budget.calmAtMilliseconds = 1
        turn(&budget, byteCount: 0, nanoseconds: 1)
        #expect(budget.byteCount == Self.byteCountMax && !budget.isTight)
        turn(&budget, byteCount: budget.byteCount, nanoseconds: 1)
        #expect(budget.byteCount == Self.byteCountMax && !budget.isTight)
    }

    @Test func `turns that receive little are not measured`() {
        var budget = ReceiveBudget(byteCountMax: Self.byteCountMax)
        budget.turnBegins(byteCount: 10_000)
        #expect(!budget.isMeasuring)
        budget.turnBegins(byteCount: Self.byteCountMax)
        #expect(budget.isMeasuring)
        budget.turnEnds()
        #expect(!budget.isMeasuring)
    }

    @Test func `a small arena is used whole`() {
        var budget = ReceiveBudget(byteCountMax: 8192)
        turn(&budget, byteCount: 8192, nanoseconds: .max)
        #expect(budget.byteCount == 8192)
    }
}
