import Broker
import Glibc
import IO
import STOMP
import Testing

/// What one client may take of a turn.
@Suite("Turns")
struct TurnTests {
    @Test("Who sends a thousand SUBSCRIBEs at once gets its turns, and others theirs between")
    func costlyFrames() {
        withBroker { broker in
            let honest = broker.connect()
            honest.confirmed(.subscribe, [("destination", "/topic/a"), ("id", "1")])
            let eager = broker.connect()
            eager.write((0..<999).map { "SUBSCRIBE\nid:\($0)\ndestination:/topic/b\n\n\0" }.joined())
            broker.turn(0)
            #expect((1..<100).contains(broker.audit().subscriptions - 1))
            honest.publish("/topic/a", "now")
            broker.turn(0)
            broker.turn(0)
            #expect(honest.takeFrames().map(\.text) == ["now"])
            #expect(broker.audit().subscriptions < 999)
            // In order and in full: the receipt of the last comes behind all of them.
            eager.confirmed(.subscribe, [("destination", "/topic/b"), ("id", "last")])
            #expect(broker.audit().subscriptions == 1001)
        }
    }

    @Test("A client that ends its side behind many SUBSCRIBEs has all of them processed")
    func costlyFramesBeforeTheEnd() {
        withBroker { broker in
            let eager = broker.connect()
            eager.write(
                (0..<200).map { "BEGIN\ntransaction:\($0)\n\n\0ABORT\ntransaction:\($0)\n\n\0" }.joined()
                    + "SEND\ndestination:/topic/a\nreceipt:r\n\n\0")
            eager.hangUp()
            broker.run()
            #expect(eager.takeFrames().map { $0["receipt-id"] } == ["r"])
            #expect(eager.socket.isClosed)
        }
    }

    @Test("Clients with many subscriptions that leave at once are taken apart one after the other")
    func manyLeave() {
        withBroker { broker in
            let crowds = (0..<4).map { broker.connect(name: "crowd \($0)") }
            for (number, crowd) in crowds.enumerated() {
                for id in 0..<300 { crowd.subscribe("/topic/\(number).\(id)", id: "\(id)") }
                broker.run()
            }
            #expect(broker.audit().subscriptions == 1200)
            for crowd in crowds { crowd.reset() }
            broker.turn(0)
            #expect((600..<1200).contains(broker.audit().subscriptions))
            broker.run()
            #expect(broker.audit().subscriptions == 0)
            #expect(broker.audit().sessions == 0)
        }
    }

    @Test("A connection that failed, and is taken apart later, may have a send under way that goes whole")
    func sendsToTheFailed() {
        withBroker(shards: 2) { broker in
            let crowds = (0..<3).map { broker.connect(name: "crowd \($0)") }
            for crowd in crowds {
                for id in 0..<300 { crowd.subscribe("/topic/\(crowd.socket.connection.index).\(id)", id: "\(id)") }
                crowd.subscribe("/topic/all", id: "all")
                broker.run()
            }
            let publisher = broker.connect(on: 1, name: "publisher")
            publisher.publish("/topic/all", "x")
            broker.turn(1)
            // What another worker sent is routed first.
            for crowd in crowds {
                broker.kernel.post(
                    Completion(.receiveFailed, connection: crowd.socket.connection, value: -ENOMEM), to: 0)
            }
            broker.turn(0)
            #expect(crowds.map(\.socket.isClosed) == [false, false, false])
            broker.run()
            #expect(crowds.map(\.socket.isClosed) == [true, true, true])
            #expect(broker.audit().segments == 0)
            #expect(broker.audit().sessions == 0)
        }
    }

    @Test("Subscribers that all stopped reading are cut a few at a time, and get nothing more meanwhile")
    func manyAreCut() {
        let options = TestBroker.options { $0.limits.outputByteCountMax = 100_000 }
        withBroker(options) { broker in
            let sleepers = (0..<20).map { broker.connect(name: "sleeper \($0)") }
            for sleeper in sleepers {
                sleeper.subscribe("/topic/a")
                broker.run()
                sleeper.socket.room = 0
            }
            let publisher = broker.connect(name: "publisher")
            let body = String(repeating: "x", count: 30_000)
            func closedCount() -> Int { sleepers.count { $0.socket.isClosed } }
            var counts = [0]
            for _ in 0..<100 where counts.last! < sleepers.count {
                publisher.publish("/topic/a", body)
                broker.turn(0)
                counts.append(closedCount())
                #expect(broker.shard(0).pointee.outputByteCounts.allSatisfy { $0 < 200_000 })
            }
            #expect(counts.last == sleepers.count)
            #expect(zip(counts, counts.dropFirst()).allSatisfy { $1 - $0 <= 4 }, "\(counts)")
            #expect(!publisher.socket.isClosed)
            broker.run()
        }
    }

    @Test("A subscription is found by its id among many, and another connection's is not")
    func findsAmongMany() {
        withBroker { broker in
            let client = broker.connect()
            let other = broker.connect()
            for id in 0..<100 {
                client.subscribe("/topic/a", id: "\(id)")
                other.subscribe("/topic/a", id: "other \(id)")
            }
            broker.run()
            for id in stride(from: 0, to: 100, by: 2) { client.confirmed(.unsubscribe, [("id", "\(id)")]) }
            #expect(broker.audit().subscriptions == 150)
            client.send(.unsubscribe, [("id", "other 1")])
            broker.run()
            #expect(client.frame()?["message"] == "Subscription not found")
            #expect(broker.audit().subscriptions == 100)
            #expect(broker.shard(0).pointee.indexedSubscriptionCount == 100)
        }
    }
}
