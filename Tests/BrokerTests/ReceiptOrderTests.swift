import Slabs
import Testing

@testable import Broker

/// When receipts may leave, without a worker.
@Suite("Receipt order")
struct ReceiptOrderTests {
    typealias Pending = Index<PendingOperation>

    /// In a class, for what cannot be copied is no argument of `#expect`.
    private final class Order {
        var order: ReceiptOrder
        var memory: MemoryBudget
        var sessions: Slab<Session>

        init(_ conditions: ReceiptConditions = .none) throws {
            var limits = Limits()
            limits.messageMemoryByteCountMax = 1 << 20
            order = try ReceiptOrder(sessionCountMax: 4, conditions)
            memory = try MemoryBudget(limits)
            sessions = try Slab(recordCountMax: 4)
        }

        func makeSession() -> UnsafeMutablePointer<Session> {
            let handle: Handle<Session> = sessions.allocate()
            sessions[handle.index].pointee.index = handle.index
            return sessions[handle.index]
        }
        func append(
            _ session: UnsafeMutablePointer<Session>, _ kind: PendingKind = .receipt, receipt: String? = nil
        ) -> Pending {
            guard let receipt else { return order.append(kind, of: session, receipt: nil, &memory) }
            return Array(receipt.utf8).withUnsafeBytes { order.append(kind, of: session, receipt: $0, &memory) }
        }
        /// A frame that asks for a receipt is carried out; the count of workers that are sent a barrier.
        @discardableResult
        func finish(_ index: Pending, _ session: UnsafeMutablePointer<Session>) -> [Int] {
            let workers = order.finish(index, of: session)
            return (0..<64).filter { workers.low >> UInt64($0) & 1 == 1 }
                + (0..<64).filter { workers.high >> UInt64($0) & 1 == 1 }.map { $0 + 64 }
        }
        func confirm(_ session: UnsafeMutablePointer<Session>, _ receipt: String) -> Pending {
            let index = append(session, receipt: receipt)
            finish(index, session)
            return index
        }
        /// The receipts that may leave now leave.
        func leaving(_ session: UnsafeMutablePointer<Session>) -> [String] {
            var ids: [String] = []
            while case let index = order.firstThatMayLeave(session), !index.isNone {
                if let id = order.receipt(of: index, memory) { ids.append(String(decoding: id, as: UTF8.self)) }
                order.leave(session, &memory)
            }
            return ids
        }
        func mark(_ peer: Int, _ session: UnsafeMutablePointer<Session>) { order.mark(peer, of: session) }
        func answer(_ index: Pending) -> Bool { order.countAnswer(index) }
        func permit(_ index: Pending) { order.permit(index) }
        /// Those that wait for the log no more.
        func makeDurable(upTo position: LogPosition) -> [Pending] {
            var all: [Pending] = []
            while case let index = order.popDurable(upTo: position), !index.isNone { all.append(index) }
            return all
        }
        func record(_ index: Pending) -> PendingOperation { order[index].pointee }
        func isLive(_ handle: Handle<PendingOperation>) -> Bool { order.find(handle) != nil }
        func handle(_ index: Pending) -> Handle<PendingOperation> { order.handle(index) }
        func isClear(_ session: UnsafeMutablePointer<Session>) -> Bool { order.isClear(session) }
        func answersAtOnce(_ session: UnsafeMutablePointer<Session>) -> Bool { order.answersAtOnce(session) }
        func holdsBack(_ session: UnsafeMutablePointer<Session>, asksForReceipt: Bool) -> Bool {
            order.holdsBack(session, asksForReceipt: asksForReceipt)
        }
        /// The session's end.
        func drop(_ session: UnsafeMutablePointer<Session>) {
            while case let index = order.takeFirst(of: session), !index.isNone { order.free(index, &memory) }
            order.forgetMarked(session)
        }
        func remove(_ index: Pending, _ session: UnsafeMutablePointer<Session>) {
            order.remove(index, of: session, &memory)
        }
        func free(_ index: Pending) { order.free(index, &memory) }
        func takeAllMemory() {
            for byteCount in [4096, 64] { while memory.blocks.allocate(byteCount: byteCount) != 0 {} }
        }
        func makeRemoteReservation(
            _ queue: Handle<Queue>, for other: Handle<PendingOperation>
        ) -> Handle<PendingOperation> {
            order.makeRemoteReservation(30, in: queue, for: other, from: 2)
        }
        func wait(_ index: Pending, in list: inout List<WaitLink>) { order.append(index, to: &list) }
        func leave(_ index: Pending, from list: inout List<WaitLink>) { order.remove(index, from: &list) }
        func first(_ list: List<WaitLink>) -> Pending { list.first }
        var liveCount: Int { order.liveCount }
        var isEmpty: Bool { order.liveCount == 0 && order.remoteSetCount == 0 && memory.blocks.byteCountInUse == 0 }
    }

    @Test("Receipts leave in the order of their frames, however these are finished")
    func order() throws {
        let order = try Order()
        let session = order.makeSession()
        #expect(order.answersAtOnce(session))
        let first = order.append(session, receipt: "1")
        let second = order.append(session, receipt: "2")
        let silent = order.append(session)
        let last = order.append(session, receipt: "")
        #expect(!order.isClear(session) && !order.answersAtOnce(session))
        order.finish(last, session)
        order.finish(second, session)
        #expect(order.leaving(session) == [])
        order.finish(first, session)
        #expect(order.leaving(session) == ["1", "2"])
        #expect(!order.isClear(session))
        order.finish(silent, session)
        #expect(order.leaving(session) == [""])
        #expect(order.isClear(session) && order.isEmpty)
    }

    @Test("A receipt waits for all workers that its session has written to, and each is asked once")
    func workers() throws {
        let order = try Order()
        let session = order.makeSession()
        let other = order.makeSession()
        for peer in [1, 63, 64, 127, 1] { order.mark(peer, session) }
        #expect(!order.isClear(session) && order.isClear(other))
        let first = order.append(session, receipt: "1")
        #expect(order.finish(first, session) == [1, 63, 64, 127])
        // What was written before the first is confirmed with it.
        let second = order.append(session, receipt: "2")
        #expect(order.finish(second, session) == [])
        order.mark(5, session)
        let third = order.append(session, receipt: "3")
        #expect(order.finish(third, session) == [5])
        #expect(order.answer(third))
        for _ in 0..<3 { #expect(!order.answer(first)) }
        #expect(order.leaving(session) == [])
        #expect(order.answer(first))
        #expect(order.leaving(session) == ["1", "2", "3"])
        #expect(order.isEmpty)
    }

    @Test("A receipt leaves when all three conditions are true, whichever comes last", arguments: 0..<3)
    func conditions(last: Int) throws {
        let order = try Order(.external)
        let session = order.makeSession()
        #expect(!order.answersAtOnce(session))
        order.mark(1, session)
        let index = order.append(session, receipt: "1")
        order.finish(index, session)
        #expect(order.record(index).position == 1 && order.record(index).awaitsPermission)
        for condition in [(last + 1) % 3, (last + 2) % 3, last] {
            #expect(order.leaving(session) == [])
            switch condition {
            case 0: #expect(order.answer(index))
            case 1: #expect(order.makeDurable(upTo: 1) == [index])
            default: order.permit(index)
            }
        }
        #expect(order.leaving(session) == ["1"])
        #expect(order.isEmpty)
    }

    @Test("Without conditions nothing but other workers is waited for")
    func noConditions() throws {
        let order = try Order()
        let session = order.makeSession()
        let index = order.append(session, receipt: "1")
        order.finish(index, session)
        #expect(order.record(index).position == 0 && !order.record(index).awaitsPermission)
        #expect(order.makeDurable(upTo: 10) == [])
        #expect(!order.holdsBack(order.makeSession(), asksForReceipt: true))
        #expect(order.leaving(session) == ["1"])
    }

    @Test("Log positions grow over all sessions, and those that become durable come in their order")
    func positions() throws {
        let order = try Order(.external)
        let (one, other) = (order.makeSession(), order.makeSession())
        let receipts = (0..<6).map { order.confirm($0 % 2 == 0 ? one : other, "\($0)") }
        #expect(receipts.map { order.record($0).position } == [1, 2, 3, 4, 5, 6])
        for receipt in receipts { order.permit(receipt) }
        #expect(order.makeDurable(upTo: 0) == [])
        #expect(order.makeDurable(upTo: 3) == Array(receipts[..<3]))
        #expect(order.leaving(one) == ["0", "2"] && order.leaving(other) == ["1"])
        // What is durable stays durable.
        #expect(order.makeDurable(upTo: 2) == [])
        #expect(order.makeDurable(upTo: 6) == Array(receipts[3...]))
        #expect(order.leaving(one) == ["4"] && order.leaving(other) == ["3", "5"])
        #expect(order.isEmpty)
    }

    @Test("A position that is durable already is not waited for")
    func durableBefore() throws {
        let order = try Order(.external)
        let session = order.makeSession()
        #expect(order.makeDurable(upTo: 5) == [])
        let index = order.confirm(session, "1")
        order.permit(index)
        #expect(order.leaving(session) == ["1"])
        #expect(order.isEmpty)
    }

    @Test("The first that may not leave holds back those behind it, and no other session")
    func holding() throws {
        let order = try Order(.external)
        let (one, other) = (order.makeSession(), order.makeSession())
        let first = order.confirm(one, "1")
        let second = order.confirm(one, "2")
        let third = order.confirm(other, "3")
        _ = order.makeDurable(upTo: 3)
        order.permit(second)
        order.permit(third)
        #expect(order.leaving(one) == [] && order.leaving(other) == ["3"])
        order.permit(first)
        #expect(order.leaving(one) == ["1", "2"])
    }

    @Test("A frame without a receipt has no conditions of its own")
    func silent() throws {
        let order = try Order(.external)
        let session = order.makeSession()
        let silent = order.append(session)
        order.finish(silent, session)
        #expect(order.record(silent).position == 0 && !order.record(silent).awaitsPermission)
        #expect(!order.holdsBack(order.makeSession(), asksForReceipt: false))
        #expect(order.leaving(session) == [] && order.isClear(session))
    }

    @Test("A gate lets its frame pass once, whose receipt waits no more")
    func gate() throws {
        let order = try Order(.external)
        let session = order.makeSession()
        #expect(order.holdsBack(session, asksForReceipt: true))
        let gate = order.append(session, .gate, receipt: "1")
        order.finish(gate, session)
        #expect(order.record(gate).kind == .gate)
        order.permit(gate)
        #expect(order.makeDurable(upTo: 1) == [gate])
        _ = order.leaving(session)
        #expect(!order.holdsBack(session, asksForReceipt: true))
        let receipt = order.confirm(session, "1")
        #expect(order.record(receipt).position == 0)
        #expect(order.leaving(session) == ["1"])
        // The next one has to wait again.
        #expect(order.holdsBack(session, asksForReceipt: true))
        #expect(order.isEmpty)
    }

    @Test("A session that ends leaves nothing, and what comes for it later finds nobody")
    func end() throws {
        let order = try Order(.external)
        let (one, other) = (order.makeSession(), order.makeSession())
        let receipts = [order.confirm(one, "1"), order.confirm(other, "2"), order.confirm(one, "3")]
        let handles = receipts.map { order.handle($0) }
        order.mark(7, one)
        let granted = order.append(one, .send, receipt: "4")
        order.remove(granted, one)
        order.remove(granted, other)
        order.drop(one)
        #expect(order.isClear(one))
        #expect(handles.map { order.isLive($0) } == [false, true, false])
        #expect(order.makeDurable(upTo: 3) == [receipts[1]])
        order.drop(other)
        #expect(order.isEmpty)
    }

    @Test("Another worker's request for room waits in a queue's list, and in no session's")
    func room() throws {
        let order = try Order()
        let session = order.makeSession()
        let queue = Handle<Queue>(Slot(index: 4, generation: 1))
        let asker = Handle<PendingOperation>(Slot(index: 9, generation: 5))
        var list = List<WaitLink>()
        let remote = order.makeRemoteReservation(queue, for: asker)
        let own = order.append(session, .send, receipt: "1")
        order.wait(remote.index, in: &list)
        order.wait(own, in: &list)
        let record = order.record(remote.index)
        #expect(record.kind == .remoteReservation && record.counterpart == asker && record.queue == queue)
        #expect(record.byteCount == 30 && record.peer == 2 && record.session.isNone)
        #expect(order.first(list) == remote.index)
        order.leave(remote.index, from: &list)
        order.free(remote.index)
        #expect(!order.isLive(remote) && order.first(list) == own)
        order.leave(own, from: &list)
        order.drop(session)
        #expect(order.isEmpty)
    }

    @Test("Without memory for the receipt's id nothing is kept")
    func noMemory() throws {
        let order = try Order()
        let session = order.makeSession()
        order.takeAllMemory()
        #expect(order.append(session, receipt: "1").isNone)
        #expect(order.isClear(session) && order.liveCount == 0)
        #expect(!order.append(session).isNone)
    }
}
