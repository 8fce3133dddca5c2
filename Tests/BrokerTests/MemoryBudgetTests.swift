import Slabs
import Testing

@testable import Broker

/// How the memory of a worker is shared out, without a worker.
@Suite("Memory budget")
struct MemoryBudgetTests {
    private static let mebibyte = 1 << 20

    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Budget {
        var budget: MemoryBudget
        init(_ budget: consuming MemoryBudget) { self.budget = budget }

        var inUse: Int { budget.blocks.byteCountInUse }
        var deliversSparingly: Bool { budget.deliversSparingly }
        var inputIsTight: Bool { budget.inputIsTight }
        var inputByteCount: Int { budget.inputByteCount }
        func messagesFill(percent: Int, queuedCount: Int, segmentCount: Int) -> Bool {
            budget.messagesFill(percent: percent, queuedCount: queuedCount, segmentCount: segmentCount)
        }
        func hasBulk(_ count: Int) -> Bool { budget.hasBulk(count) }
        func hasStore(_ count: Int) -> Bool { budget.hasStore(count) }
        func admitsInput(_ count: Int) -> Bool { budget.admitsInput(count) }
        func allocate(_ count: Int) -> BlockIndex { budget.blocks.allocate(byteCount: count) }
        func allocateBulk(byteCount: Int) -> BlockIndex { budget.allocateBulk(byteCount: byteCount) }
        func allocateInput(byteCount: Int) -> BlockIndex { budget.allocateInput(byteCount: byteCount) }
        func extendInput(_ block: BlockIndex, byteCount: Int) -> Bool {
            budget.extendInput(block, byteCount: byteCount)
        }
        func releaseInput(_ block: BlockIndex) { budget.releaseInput(block) }
    }

    private func budget(queuedMax: Int = 1_000) throws -> Budget {
        var limits = Limits()
        limits.messageMemoryByteCountMax = 8 * Self.mebibyte
        limits.queuedMessageCountMax = queuedMax
        return Budget(try MemoryBudget(limits))
    }

    /// Takes so many hundredths of the limit, in blocks of 64 KiB at most.
    private func take(_ budget: Budget, percent: Int) -> [BlockIndex] {
        var blocks: [BlockIndex] = []
        while budget.inUse < 8 * Self.mebibyte / 100 * percent {
            let block = budget.allocate(32 * 1024)
            if block == 0 { break }
            blocks.append(block)
        }
        return blocks
    }

    @Test("Messages fill it only while one is queued or waits to be sent")
    func messages() throws {
        let budget = try budget()
        _ = take(budget, percent: 101)
        #expect(!budget.messagesFill(percent: 100, queuedCount: 0, segmentCount: 0))
        #expect(budget.messagesFill(percent: 100, queuedCount: 1, segmentCount: 0))
        #expect(budget.messagesFill(percent: 100, queuedCount: 0, segmentCount: 1))
        #expect(!budget.messagesFill(percent: MemoryBudget.topicPercentMax, queuedCount: 1, segmentCount: 1))
        #expect(budget.deliversSparingly)
        _ = take(budget, percent: 114)
        #expect(budget.messagesFill(percent: MemoryBudget.topicPercentMax, queuedCount: 1, segmentCount: 1))
    }

    @Test("The number of queued messages counts as bytes do, up to 100 %")
    func numbers() throws {
        let budget = try budget(queuedMax: 1_000)
        #expect(!budget.messagesFill(percent: 100, queuedCount: 999, segmentCount: 0))
        #expect(budget.messagesFill(percent: 100, queuedCount: 1_000, segmentCount: 0))
        #expect(budget.messagesFill(percent: 95, queuedCount: 950, segmentCount: 0))
        #expect(!budget.messagesFill(percent: MemoryBudget.topicPercentMax, queuedCount: 2_000, segmentCount: 0))
        #expect(!budget.deliversSparingly)
    }

    @Test("Above 125 % nothing is taken in bulk, above 137.5 % nothing is stored, and at 150 % the pool ends")
    func ends() throws {
        let budget = try budget()
        _ = take(budget, percent: 120)
        #expect(budget.hasBulk(0) && budget.hasStore(0))
        let bulk = budget.allocateBulk(byteCount: 100)
        #expect(bulk != 0)
        _ = take(budget, percent: 127)
        #expect(!budget.hasBulk(0) && budget.hasStore(0))
        #expect(budget.allocateBulk(byteCount: 100) == 0)
        _ = take(budget, percent: 139)
        #expect(!budget.hasStore(0))
        _ = take(budget, percent: 200)
        #expect(budget.inUse <= 12 * Self.mebibyte)
        #expect(budget.allocate(64 * 1024) == 0)
    }

    @Test("Frames cut short have half of it, and the first bytes of one always")
    func input() throws {
        let budget = try budget()
        var blocks: [BlockIndex] = []
        #expect(!budget.inputIsTight)
        while case let block = budget.allocateInput(byteCount: 100_000), block != 0 { blocks.append(block) }
        #expect(budget.inputIsTight)
        #expect(budget.inputByteCount <= 4 * Self.mebibyte && budget.inputByteCount > 3 * Self.mebibyte)
        // They are no messages.
        #expect(!budget.messagesFill(percent: 1, queuedCount: 1, segmentCount: 1))
        let first = budget.allocateInput(byteCount: MemoryBudget.consumerFrameByteCountMax)
        #expect(first != 0)
        #expect(!budget.admitsInput(0))
        let isExtended = budget.extendInput(blocks[0], byteCount: 4 * Self.mebibyte)
        #expect(!isExtended)
        for block in blocks { budget.releaseInput(block) }
        budget.releaseInput(first)
        #expect(budget.inputByteCount == 0 && budget.inUse == 0)
        #expect(budget.admitsInput(2 * Self.mebibyte) && !budget.admitsInput(2 * Self.mebibyte + 1))
    }
}
