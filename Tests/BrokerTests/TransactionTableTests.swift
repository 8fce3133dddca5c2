import Slabs
import Testing

@testable import Broker

/// Transactions and the frames that they keep, without a worker.
@Suite("Transaction table")
struct TransactionTableTests {
    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Table {
        var table: TransactionTable
        var memory: MemoryBudget
        var sessions: Slab<Session>

        init(_ limits: Limits) throws {
            table = try TransactionTable(recordCountMax: 8, limits)
            memory = try MemoryBudget(limits)
            sessions = try Slab(recordCountMax: 4)
        }

        func makeSession() -> UnsafeMutablePointer<Session> {
            let handle: Handle<Session> = sessions.allocate()
            sessions[handle.index].pointee.index = handle.index
            return sessions[handle.index]
        }
        func begin(_ session: UnsafeMutablePointer<Session>, _ name: String) -> TransactionTable.Beginning {
            Array(name.utf8).withUnsafeBytes { table.begin(session, named: $0, &memory) }
        }
        /// The transaction that has begun; none where it has not.
        func begun(_ session: UnsafeMutablePointer<Session>, _ name: String) -> Index<Transaction> {
            if case .begun(let handle) = begin(session, name) { return handle.index }
            return .none
        }
        func find(_ session: UnsafeMutablePointer<Session>, _ name: String) -> Index<Transaction> {
            Array(name.utf8).withUnsafeBytes { table.find($0, of: session, memory) }
        }
        func record(_ index: Index<Transaction>) -> Transaction { table[index].pointee }
        func hasRoom(_ index: Index<Transaction>, _ byteCount: Int) -> Bool {
            table.hasRoom(index, byteCount: byteCount)
        }
        func keep(_ bytes: [UInt8], _ command: CheckedCommand, in index: Index<Transaction>) -> Bool {
            bytes.withUnsafeBytes { table.keep($0, command, in: index, &memory) }
        }
        func frames(_ index: Index<Transaction>) -> [(name: UInt64, kept: KeptFrame, bytes: [UInt8])] {
            var frames: [(UInt64, KeptFrame, [UInt8])] = []
            var cursor = KeptCursor()
            while let kept = table.next(&cursor, in: index, memory) {
                frames.append((cursor.frame, kept.pointee, Array(TransactionTable.bytes(of: kept))))
            }
            return frames
        }
        func keepRoom(_ room: KeptRoom, for frame: UInt64) { table.keepRoom(room, for: frame, memory) }
        func setTimer(_ timer: UInt32, of index: Index<Transaction>) { table.setTimer(timer, of: index) }
        func timerFired(_ handle: Handle<Transaction>) -> Index<Session>? { table.timerFired(handle) }
        func close(_ session: UnsafeMutablePointer<Session>, _ index: Index<Transaction>) -> UInt32 {
            table.close(session, index)
        }
        func free(_ index: Index<Transaction>) { table.free(index, &memory) }
        var liveCount: Int { table.liveCount }
        var byteCountInUse: Int { memory.blocks.byteCountInUse }
    }

    private static func limits() -> Limits {
        var limits = Limits()
        limits.messageMemoryByteCountMax = 8 << 20
        limits.transactionsPerConnectionMax = 2
        limits.framesPerTransactionMax = 1_000
        limits.transactionByteCountMax = 1 << 20
        return limits
    }

    private static let send = CheckedCommand.send(
        CheckedSend(destination: .none, byteCount: 1, asksForMore: false))

    @Test("Names are a session's own, and each is open once")
    func names() throws {
        let table = try Table(Self.limits())
        let (one, other) = (table.makeSession(), table.makeSession())
        let first = table.begun(one, "t")
        let second = table.begun(one, "tt")
        let third = table.begun(other, "t")
        #expect(!first.isNone && !second.isNone && !third.isNone)
        #expect(table.find(one, "t") == first && table.find(one, "tt") == second && table.find(other, "t") == third)
        #expect(table.find(one, "T").isNone && table.find(other, "tt").isNone)
        guard case .exists = table.begin(one, "tt") else {
            Issue.record("a name was taken twice")
            return
        }
        #expect(table.record(third).session == other.pointee.index)
    }

    @Test("A session has no more transactions than it may; one that ends makes room")
    func count() throws {
        let table = try Table(Self.limits())
        let session = table.makeSession()
        let first = table.begun(session, "1")
        _ = table.begun(session, "2")
        guard case .tooMany = table.begin(session, "3") else {
            Issue.record("the limit is 2")
            return
        }
        #expect(table.liveCount == 2 && session.pointee.transactionCount == 2)
        _ = table.close(session, first)
        #expect(table.find(session, "1").isNone)
        // One that COMMIT applies is off the session, and its name is free.
        #expect(!table.begun(session, "1").isNone)
        table.free(first)
        #expect(table.liveCount == 2 && session.pointee.transactionCount == 2)
    }

    @Test("Without a record or a block left nothing is begun, and nothing stays behind")
    func noMemory() throws {
        var limits = Self.limits()
        limits.transactionsPerConnectionMax = 100
        let table = try Table(limits)
        let session = table.makeSession()
        for number in 0..<8 { #expect(!table.begun(session, "\(number)").isNone) }
        guard case .noMemory = table.begin(session, "8") else {
            Issue.record("there are 8 records")
            return
        }
        _ = table.close(session, table.find(session, "0"))
        #expect(table.liveCount == 8 && session.pointee.transactionCount == 7)

        let small = try Table(limits)
        let other = small.makeSession()
        while small.memory.blocks.allocate(byteCount: 1 << 20) != 0 {}
        while small.memory.blocks.allocate(byteCount: 64) != 0 {}
        guard case .noMemory = small.begin(other, "t") else {
            Issue.record("there is no block")
            return
        }
        #expect(small.liveCount == 0 && other.pointee.transactionCount == 0 && other.pointee.transactions.isEmpty)
    }

    @Test("Frames come back in order with what their check found, whatever their sizes")
    func frames() throws {
        let table = try Table(Self.limits())
        let session = table.makeSession()
        let index = table.begun(session, "t")
        #expect(table.frames(index).isEmpty)
        var expected: [[UInt8]] = []
        for number in 0..<300 {
            // Among them one that is larger than any block so far.
            let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: number == 200 ? 100_000 : number)
            let delivery = Handle<Delivery>(Slot(index: UInt32(number), generation: 7))
            let command =
                number % 3 == 0
                ? CheckedCommand.settlement(delivery, .rejected)
                : .send(
                    CheckedSend(
                        destination: Handle(Slot(index: 1, generation: UInt32(number))), byteCount: UInt32(number),
                        asksForMore: number % 2 == 0))
            #expect(table.keep(bytes, command, in: index))
            expected.append(bytes)
        }
        let frames = table.frames(index)
        #expect(frames.map(\.bytes) == expected)
        #expect(Set(frames.map(\.name)).count == 300)
        for (number, frame) in frames.enumerated() {
            #expect(frame.kept.room.queue.isNone)
            switch frame.kept.command {
            case .settlement(let delivery, let settlement):
                #expect(number % 3 == 0 && delivery.index.rawValue == UInt32(number) && settlement == .rejected)
            case .send(let send):
                #expect(number % 3 != 0 && send.byteCount == UInt32(number) && send.asksForMore == (number % 2 == 0))
                #expect(send.destination.generation == UInt32(number))
            }
        }
        #expect(table.record(index).frameCount == 300 && table.record(index).settlementCount == 100)
    }

    @Test("Room is remembered with the frame that it is kept for")
    func room() throws {
        let table = try Table(Self.limits())
        let index = table.begun(table.makeSession(), "t")
        for byte in 0..<100 as Range<UInt8> { #expect(table.keep([byte], Self.send, in: index)) }
        let queue = Handle<Queue>(Slot(index: 9, generation: 3))
        table.keepRoom(KeptRoom(queue: queue, owner: 5), for: table.frames(index)[71].name)
        let frames = table.frames(index)
        #expect(frames.filter { !$0.kept.room.queue.isNone }.map(\.bytes) == [[71]])
        #expect(frames[71].kept.room.queue == queue && frames[71].kept.room.owner == 5)
    }

    @Test("A transaction holds as many frames and bytes as the limits say")
    func size() throws {
        var limits = Self.limits()
        limits.framesPerTransactionMax = 3
        limits.transactionByteCountMax = 1_000
        let table = try Table(limits)
        let session = table.makeSession()
        let many = table.begun(session, "many")
        for _ in 0..<3 {
            #expect(table.hasRoom(many, 10))
            #expect(table.keep([1], Self.send, in: many))
        }
        #expect(!table.hasRoom(many, 0))
        let large = table.begun(session, "large")
        #expect(table.hasRoom(large, 1_000) && !table.hasRoom(large, 1_001))
        #expect(table.keep([UInt8](repeating: 0, count: 500), Self.send, in: large))
        // The head counts, too.
        let left = 1_000 - KeptFrame.stride(500)
        #expect(table.hasRoom(large, left) && !table.hasRoom(large, left + 1))
    }

    @Test("Frames take no memory that is for output, and give all of theirs back")
    func memory() throws {
        let table = try Table(Self.limits())
        let session = table.makeSession()
        let index = table.begun(session, "t")
        var count: UInt32 = 0
        while table.keep([UInt8](repeating: 1, count: 50_000), Self.send, in: index) { count += 1 }
        #expect(count > 100 && table.record(index).frameCount == count)
        // 125 % of the memory, and no more.
        #expect(table.byteCountInUse <= 10 << 20)
        #expect(table.begun(session, "other") != .none)
        _ = table.close(session, index)
        table.free(index)
        let other = table.find(session, "other")
        _ = table.close(session, other)
        table.free(other)
        #expect(table.byteCountInUse == 0 && table.liveCount == 0)
        #expect(session.pointee.transactions.isEmpty && session.pointee.transactionCount == 0)
    }

    @Test("A timer is the transaction's until it fires or the transaction is closed")
    func timers() throws {
        let table = try Table(Self.limits())
        let session = table.makeSession()
        guard case .begun(let handle) = table.begin(session, "t") else {
            Issue.record("it has not begun")
            return
        }
        table.setTimer(17, of: handle.index)
        #expect(table.close(session, handle.index) == 17)
        #expect(table.record(handle.index).timer == 0)
        #expect(table.timerFired(handle) == session.pointee.index)
        table.free(handle.index)
        #expect(table.timerFired(handle) == nil)
    }
}
