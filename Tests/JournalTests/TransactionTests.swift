import Journal
import JournalFixtures
import Testing

/// Transactions with parts in several workers' logs.
struct TransactionTests {
    private let first = TestLog(worker: 0, workerCount: 3)
    private let second = TestLog(worker: 1, workerCount: 3)
    private let third = TestLog(worker: 2, workerCount: 3)

    private var files: Files { first.files + second.files + third.files }

    private func part(
        _ log: TestLog, of transaction: UInt64 = 9, _ partCount: UInt16 = 2,
        if conditions: PartConditions = PartConditions(), _ body: (inout RecordWriter) -> Void
    ) {
        log.append { writer in
            writer.beginPart(transaction: transaction, partCount: partCount, conditions: conditions)
            body(&writer)
            writer.endPart()
        }
    }

    @Test func `parts count when all are there, in whatever order they are read`() {
        let source = second.send("source", to: "/queue/source")
        part(first) { $0.message("dead", to: "/queue/DLQ") }
        #expect(live(files) == ["source: source"])
        part(second) { $0.write(acknowledged: source) }
        #expect(live(files) == ["DLQ: dead"])
        #expect(recover(files).unsealedTransactions == [9])
    }

    @Test func `a part whose others are missing counts for nothing, and what is behind it does`() {
        let source = first.send("source")
        part(first, 3) {
            $0.message("never")
            $0.write(acknowledged: source)
            $0.write(failureCount: 9, of: source)
        }
        first.send("behind")
        part(second, 3) { $0.message("never", to: "/queue/b") }
        let state = recover(files)
        #expect(state.live(files) == ["a: source", "a: behind"])
        #expect(state.messages[0].failureCount == 0)
        #expect(state.unsealedTransactions == [])
        #expect(state.segments.map(\.liveMessageCount) == [2, 0, 0])
        part(third, 3) { $0.message("now", to: "/queue/c") }
        #expect(live(files).sorted() == ["a: behind", "a: never", "b: never", "c: now"])
    }

    @Test func `a part counts by the end in its own log when the other part's segment is freed`() {
        part(first) { $0.message("1") }
        part(second) { $0.message("2", to: "/queue/b") }
        first.append { $0.write(transactionEnd: 9) }
        second.append { $0.write(transactionEnd: 9) }
        #expect(recover(files).unsealedTransactions == [])
        #expect(live(first.files) == ["a: 1"])
        #expect(live(second.files) == ["b: 2"])
        #expect(recover(first.files).unsealedTransactions == [])
    }

    @Test func `an end in one log alone leaves the other part unsealed, and an end in a later life seals both`() {
        part(first) { $0.message("1") }
        part(second) { $0.message("2", to: "/queue/b") }
        second.append { $0.write(transactionEnd: 9) }
        #expect(recover(files).unsealedTransactions == [9])
        #expect(live(files) == ["a: 1", "b: 2"])
        let later = TestLog(life: 2)
        later.append { $0.write(transactionEnd: 9) }
        #expect(recover(files + later.files).unsealedTransactions == [])
        #expect(live(first.files + later.files) == ["a: 1"])
        #expect(live(second.files + later.files) == ["b: 2"])
    }

    @Test func `messages of a part may be acknowledged before the other part is read`() {
        var inPart: MessageReference?
        part(first) { inPart = $0.message("1") }
        first.acknowledge(inPart!)
        part(second) { $0.message("2", to: "/queue/b") }
        #expect(live(files) == ["b: 2"])
        #expect(live(first.files) == [])
    }

    @Test func `a torn part is cut with its whole transaction`() {
        let log = second
        let source = log.send("source")
        part(first) { $0.message("new", to: "/queue/b") }
        let start = log.offset
        part(log) { $0.write(acknowledged: source) }
        for offset in stride(from: start, to: log.offset, by: 64) {
            var files = files
            files[log.names[0]]![offset + 40] ^= 4
            let state = recover(files)
            #expect(state.findings.map(\.kind) == [.tornTail])
            #expect(state.live(files) == ["a: source"])
        }
    }

    @Test(arguments: [false, true])
    func `a move counts only if the transaction that brought the message does`(_ toOtherLog: Bool) {
        var moved = MessageReference(position: 0, worker: 0)
        part(first, of: 1) { moved = $0.message("moved") }
        if toOtherLog {
            part(second, of: 2) { $0.message("moved", to: "/queue/DLQ") }
            part(first, of: 2, if: PartConditions(1)) { $0.write(acknowledged: moved) }
        } else {
            part(first, of: 2, 1, if: PartConditions(1)) {
                $0.message("moved", to: "/queue/DLQ")
                $0.write(acknowledged: moved)
            }
        }
        #expect(live(files) == [])
        #expect(recover(files).unsealedTransactions == [])
        part(third, of: 1) { $0.message("other", to: "/queue/b") }
        #expect(live(files).sorted() == ["DLQ: moved", "b: other"])
        #expect(recover(files).unsealedTransactions == [1, 2])
        // The broker writes the move's end when it knows that of the first: then it counts by itself.
        first.append { $0.write(transactionEnd: 1) }
        #expect(live(files).sorted() == ["DLQ: moved", "b: other"])
        for log in [first, second] { log.append { $0.write(transactionEnd: 2) } }
        #expect(live(toOtherLog ? second.files : first.files) == ["DLQ: moved"])
    }

    @Test func `a chain of moves, and one with two conditions, counts when all before it does`() {
        part(first, of: 1) { $0.message("1") }
        part(first, of: 2) { $0.message("2") }
        part(first, of: 3, 1, if: PartConditions(1, 2)) { $0.message("both", to: "/queue/c") }
        part(first, of: 4, 1, if: PartConditions(3)) { $0.message("chain", to: "/queue/d") }
        part(second, of: 1) { $0.message("1", to: "/queue/b") }
        #expect(live(files).sorted() == ["a: 1", "b: 1"])
        part(second, of: 2) { $0.message("2", to: "/queue/b") }
        #expect(live(files).sorted() == ["a: 1", "a: 2", "b: 1", "b: 2", "c: both", "d: chain"])
        #expect(recover(files).unsealedTransactions == [1, 2, 3, 4])
        // In a later life, which took it for incomplete, the condition's part is gone: nothing comes back.
        #expect(live(second.files) == [])
    }

    @Test func `a record that does not belong in a part is damage`() {
        part(first, 1) { $0.write(transactionEnd: 1) }
        first.send("behind")
        let state = recover(files)
        #expect(state.findings.map(\.damage) == [.type])
        #expect(state.findings.map(\.kind) == [.hole])
    }
}
