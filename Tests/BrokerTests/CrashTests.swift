import Broker
import FakeKernel
import Glibc
import STOMP
import Testing

/// Crashes after each file operation: what was confirmed is there, and what belongs together is there as a whole or not at
/// all.
@Suite("Crashes")
struct CrashTests {
    private static let persistent = [("persistent", "true")]

    /// What the clients of a broker have been told.
    private final class Promises {
        var receipts: Set<String> = []

        func listen(_ clients: [Client]) {
            for client in clients {
                for frame in client.takeFrames() where frame.command == .receipt {
                    receipts.insert(frame["receipt-id"] ?? "")
                }
            }
        }
    }

    /// Carries out all file operations, one by one, and looks at what a crash would leave after each.
    private func crashAtEachStep(
        _ broker: TestBroker, _ clients: [Client], sourceLocation: SourceLocation = #_sourceLocation,
        _ check: ([String: [UInt8]], Set<String>) -> Void
    ) {
        let promises = Promises()
        broker.run()
        for _ in 0..<500 {
            promises.listen(clients)
            check(broker.disk.contents(afterPowerCut: true), promises.receipts)
            check(broker.disk.contents(afterPowerCut: false), promises.receipts)
            if !broker.stepDisk(sourceLocation: sourceLocation) { return }
        }
        Issue.record("the disk never comes to rest", sourceLocation: sourceLocation)
    }

    @Test("What was confirmed is there, in order, whatever the crash", arguments: [1, 2])
    func sends(shards: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: shards)
        let client = broker.connect()
        broker.disk.isHeld = true
        var sent: [String] = []
        for number in 0..<20 {
            // Some of a turn, then a step of the disk.
            sent.append("\(number)-" + String(repeating: "x", count: number * 300))
            client.publish("/queue/a", sent[number], Self.persistent + [("receipt", "\(number)")])
            broker.run()
            if number % 3 == 0 { _ = broker.stepDisk() }
        }
        crashAtEachStep(broker, [client]) { contents, receipts in
            let bodies = StoreFixture.bodies("/queue/a", in: contents)
            #expect(bodies == Array(sent.prefix(bodies.count)))
            let confirmed = (receipts.compactMap(Int.init).max() ?? -1) + 1
            #expect(bodies.count >= confirmed)
        }
    }

    @Test("What was confirmed as acknowledged is gone, whatever the crash", arguments: [1, 2])
    func acknowledgements(shards: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: shards)
        let client = broker.connect()
        for number in 0..<10 { client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "\(number)") }
        client.subscribe("/queue/a", ack: "client-individual", [("receipt", "s")])
        broker.run()
        let messages = client.takeFrames().filter { $0.command == .message }
        #expect(messages.count == 10)
        broker.holdDisk()
        for number in 0..<10 {
            client.send(.ack, [("id", messages[number]["ack"]!), ("receipt", "\(number)")])
            if number % 4 == 0 { broker.run() }
        }
        crashAtEachStep(broker, [client]) { contents, receipts in
            let bodies = Set(StoreFixture.bodies("/queue/a", in: contents))
            for receipt in receipts where receipt != "s" { #expect(!bodies.contains(receipt)) }
        }
        #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == [])
    }

    @Test("A transaction is there as a whole or not at all, over any number of workers", arguments: [1, 2, 4])
    func transactions(shards: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: shards)
        let queues = (0..<6).map { "/queue/t\($0)" }
        let client = broker.connect()
        for queue in queues.prefix(3) {
            client.confirmed(.send, [("destination", queue)] + Self.persistent, "before")
            client.confirmed(.subscribe, [("destination", queue), ("id", queue), ("ack", "client-individual")])
        }
        broker.run()
        let messages = client.takeFrames().filter { $0.command == .message }
        #expect(messages.count == 3)
        broker.holdDisk()
        client.send(.begin, [("transaction", "t")])
        for message in messages { client.send(.ack, [("id", message["ack"]!), ("transaction", "t")]) }
        for queue in queues { client.publish(queue, "after", Self.persistent + [("transaction", "t")]) }
        client.send(.commit, [("transaction", "t"), ("receipt", "t")])
        crashAtEachStep(broker, [client]) { contents, receipts in
            let bodies = queues.map { StoreFixture.bodies($0, in: contents) }
            let none = [["before"], ["before"], ["before"], [], [], []]
            let all = Array(repeating: ["after"], count: 6)
            #expect(bodies == all || !receipts.contains("t") && bodies == none, "\(bodies)")
        }
        broker.disk.isHeld = false
        broker.run()
        let final = broker.disk.contents(afterPowerCut: true)
        #expect(queues.allSatisfy { StoreFixture.bodies($0, in: final) == ["after"] })
    }

    @Test("A dead letter is in one place or the other, never in none and never in both", arguments: [1, 2, 3])
    func deadLetters(shards: Int) {
        let broker = StoreFixture.start(FakeDisk(), shards: shards)
        let client = broker.connect()
        let names = (0..<4).map { "/queue/d\($0)" }
        for name in names {
            client.confirmed(.send, [("destination", name)] + Self.persistent, name)
            client.confirmed(.subscribe, [("destination", name), ("id", name), ("ack", "client-individual")])
        }
        broker.run()
        let messages = client.takeFrames().filter { $0.command == .message }
        broker.holdDisk()
        for message in messages {
            client.send(.nack, [("id", message["ack"]!), ("requeue", "false"), ("receipt", message.text)])
        }
        crashAtEachStep(broker, [client]) { contents, receipts in
            let dead = StoreFixture.bodies("/queue/DLQ", in: contents)
            for name in names {
                let isThere = StoreFixture.bodies(name, in: contents) == [name]
                #expect(isThere != dead.contains(name), "\(name)")
                if receipts.contains(name) { #expect(!isThere) }
            }
        }
        broker.disk.isHeld = false
        broker.run()
        #expect(Set(StoreFixture.bodies("/queue/DLQ", in: broker.disk.contents(afterPowerCut: true))) == Set(names))
    }

    /// What a consumer does with a message before the COMMIT that brought it is on the disk of all workers, or within a
    /// COMMIT that is not yet.
    enum Refusal: CaseIterable { case nack, nackInTransaction }

    @Test(
        "A message of a transaction that moves to a dead-letter queue is there only if the rest of the transaction is",
        arguments: [0, 1, 2], Refusal.allCases)
    func deadLettersOfTransactions(owner: Int, refusal: Refusal) {
        let broker = StoreFixture.start(FakeDisk(), shards: 3)
        let source = broker.queueNames(ownedBy: owner)[0]
        let deadLetters = Array("/queue/DLQ".utf8).withUnsafeBytes { Shard.owner(ofQueue: $0, shardCount: 3) }
        let stalled = (0..<3).first { $0 != owner && $0 != deadLetters }!
        let other = broker.queueNames(ownedBy: stalled)[0]
        let (publisher, consumer) = (broker.connect(), broker.connect())
        publisher.confirmed(.send, [("destination", other)] + Self.persistent, "before")
        consumer.confirmed(.subscribe, [("destination", source), ("id", "0"), ("ack", "client-individual")])
        let isInTransaction = refusal == .nackInTransaction
        if isInTransaction { publisher.confirmed(.send, [("destination", source)] + Self.persistent, "moved") }
        broker.holdDisk()
        broker.disk.stalledShard = stalled
        let committer = isInTransaction ? consumer : publisher
        committer.send(.begin, [("transaction", "t")])
        if isInTransaction {
            let id = consumer.messages()[0]["ack"]!
            consumer.send(.nack, [("id", id), ("requeue", "false"), ("transaction", "t")])
        } else {
            publisher.publish(source, "moved", Self.persistent + [("transaction", "t")])
        }
        committer.publish(other, "other", Self.persistent + [("transaction", "t")])
        committer.send(.commit, [("transaction", "t"), ("receipt", "t")])
        broker.run()
        if !isInTransaction {
            let id = consumer.messages()[0]["ack"]!
            consumer.send(.nack, [("id", id), ("requeue", "false"), ("receipt", "n")])
            broker.run()
        }
        let promises = Promises()
        func check() {
            promises.listen([publisher, consumer])
            for afterPowerCut in [true, false] {
                let contents = broker.disk.contents(afterPowerCut: afterPowerCut)
                let isDead = StoreFixture.bodies("/queue/DLQ", in: contents) == ["moved"]
                let isThere = StoreFixture.bodies(source, in: contents) == ["moved"]
                let isComplete = StoreFixture.bodies(other, in: contents).contains("other")
                #expect(!(isDead && isThere))
                #expect(isInTransaction ? isThere != isDead && isDead == isComplete : (isDead || isThere) == isComplete)
                if promises.receipts.contains("t") { #expect(isComplete) }
                if promises.receipts.contains("n") { #expect(isDead) }
            }
        }
        check()
        while broker.stepDisk() { check() }
        #expect(promises.receipts.isEmpty)
        broker.disk.stalledShard = nil
        while broker.stepDisk() { check() }
        #expect(promises.receipts == (isInTransaction ? ["t"] : ["t", "n"]))
        broker.disk.isHeld = false
        broker.run()
        #expect(StoreFixture.bodies("/queue/DLQ", in: broker.disk.contents(afterPowerCut: true)) == ["moved"])
    }

    @Test("Segments in which nothing lives are removed, and a crash meanwhile brings nothing back", arguments: [1, 2])
    func segments(shards: Int) {
        var broker = StoreFixture.start(FakeDisk(), shards: shards)
        var client = broker.connect()
        var expected: [String] = []
        for life in 0..<3 {
            for number in 0..<60 {
                let body = "\(life)-\(number)-" + String(repeating: "x", count: 3000)
                client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, body)
                expected.append(body)
            }
            #expect(broker.disk.fileNames.count > 3)
            client.confirmed(.subscribe, [("destination", "/queue/a"), ("id", "0"), ("ack", "client-individual")])
            broker.run()
            let messages = client.takeFrames().filter { $0.command == .message }
            #expect(messages.map(\.text) == expected)
            broker.disk.isHeld = true
            for message in messages.dropLast(2) {
                client.send(.ack, [("id", message["ack"]!), ("receipt", String(message.text.prefix(6)))])
                broker.run()
                _ = broker.stepDisk()
            }
            expected = Array(expected.suffix(2))
            crashAtEachStep(broker, [client]) { contents, receipts in
                let bodies = StoreFixture.bodies("/queue/a", in: contents)
                #expect(Array(bodies.suffix(2)) == expected)
                for body in bodies { #expect(!receipts.contains(String(body.prefix(6)))) }
            }
            broker.disk.isHeld = false
            broker.run()
            #expect(StoreFixture.bodies("/queue/a", in: broker.disk.contents(afterPowerCut: true)) == expected)
            broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true), shards: shards)
            broker.run()
            client = broker.connect()
        }
        client.subscribe("/queue/a")
        #expect(client.bodies() == expected)
        broker.settle()
        // Of each worker the segment that it writes and the one ahead, at most.
        #expect(broker.disk.fileNames.count <= 2 * shards)
    }
}
