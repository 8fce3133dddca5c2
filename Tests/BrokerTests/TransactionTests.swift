import Broker
import STOMP
import Testing

@Suite("Transactions")
struct TransactionTests {
    @Test(
        "COMMIT applies everything, ABORT and the end of the connection nothing", arguments: [1, 2, 8], Version.allCases
    )
    func allOrNothing(shards: Int, version: Version) {
        withBroker(shards: shards) { broker in
            let reader = broker.connect(version, on: shards - 1)
            for shard in 0..<4 { reader.subscribe("/queue/q\(shard)", id: "\(shard)") }
            reader.subscribe("/topic/t", id: "t")
            broker.run()
            let client = broker.connect(version, on: 0)
            for end in ["COMMIT", "ABORT", "DISCONNECT", "reset"] {
                let client = end == "COMMIT" || end == "ABORT" ? client : broker.connect(version, on: 0)
                client.send(.begin, [("transaction", "tx")])
                for index in 0..<8 {
                    client.send(
                        .send,
                        [
                            ("destination", index % 2 == 0 ? "/queue/q\(index / 2)" : "/topic/t"),
                            ("transaction", "tx"), ("receipt", "\(index)"),
                        ],
                        "\(index)")
                }
                broker.run()
                #expect(client.takeFrames().map { $0["receipt-id"] } == (0..<8).map(String.init))
                #expect(reader.bodies() == [])
                switch end {
                case "COMMIT": client.confirmed(.commit, [("transaction", "tx")])
                case "ABORT": client.confirmed(.abort, [("transaction", "tx")])
                case "DISCONNECT": client.confirmed(.disconnect)
                default: client.reset()
                }
                let messages = reader.messages()
                #expect(Set(messages.map(\.text)) == (end == "COMMIT" ? Set((0..<8).map(String.init)) : []))
                #expect(
                    messages.filter { $0["subscription"] == "t" }.map(\.text)
                        == (end == "COMMIT" ? ["1", "3", "5", "7"] : []))
                #expect(messages.allSatisfy { $0["transaction"] == nil && $0["receipt"] == nil })
            }
        }
    }

    @Test("A COMMIT without room somewhere applies nothing anywhere", arguments: [1, 2, 8], OverflowPolicy.allCases)
    func noRoom(shards: Int, overflow: OverflowPolicy) {
        let options = QueueTests.options("/queue/full") {
            $0.queueMessageCountMax = 2
            $0.overflow = overflow
        }
        withBroker(shards: shards, options) { broker in
            let reader = broker.connect(on: shards - 1)
            for shard in 0..<4 { reader.subscribe("/queue/q\(shard)", id: "\(shard)") }
            broker.run()
            let filler = broker.connect(on: 0)
            filler.publish("/queue/full", "old")
            broker.run()
            let client = broker.connect(on: 0)
            client.send(.begin, [("transaction", "tx")])
            for shard in 0..<4 { client.publish("/queue/q\(shard)", "\(shard)", [("transaction", "tx")]) }
            client.publish("/queue/full", "one", [("transaction", "tx")])
            client.publish("/queue/full", "two", [("transaction", "tx")])
            client.send(.commit, [("transaction", "tx"), ("receipt", "r")])
            if overflow == .dropOldest {
                broker.run()
                #expect(client.frame()?["receipt-id"] == "r")
                #expect(reader.messages().count == 4)
            } else {
                client.expectError("Queue full", receipt: "r")
                #expect(reader.bodies() == [])
            }
            // What was reserved has been given back.
            let second = broker.connect(on: 0)
            if overflow != .dropOldest { second.confirmed(.send, [("destination", "/queue/full")], "new") }
            second.subscribe("/queue/full")
            second.subscribe("/queue/DLQ", id: "dead")
            #expect(Set(second.bodies()) == (overflow == .dropOldest ? ["old", "one", "two"] : ["old", "new"]))
        }
    }

    @Test("A transaction's frames may need more room than they took as they came", arguments: [1, 2])
    func transcodedFrames(shards: Int) {
        let options = QueueTests.options("/queue/full") { $0.queueByteCountMax = 10_000 }
        withBroker(shards: shards, options) { broker in
            let reader = broker.connect(on: 0)
            reader.subscribe("/queue/other")
            broker.run()
            let client = broker.connect(on: 0)
            client.send(.begin, [("transaction", "tx")])
            client.publish("/queue/other", "x", [("transaction", "tx")])
            // Raw colons are accepted, and take twice the bytes when they are stored.
            client.write(
                "SEND\ndestination:/queue/full\ntransaction:tx\nkey:\(String(repeating: ":", count: 6000))\n\nbody\0")
            client.send(.commit, [("transaction", "tx")])
            client.expectError("Queue full")
            #expect(reader.bodies() == [])
        }
    }

    @Test("What could fail at COMMIT is an ERROR when it comes")
    func checkedEarly() {
        withBroker { broker in
            let headers: [[(String, String)]] = [
                [("destination", "/foo")], [("destination", "/queue/q"), ("expires", "soon")],
                [("destination", "/queue/q"), ("reply-to", "/temp-queue/\u{1}")],
            ]
            for (index, headers) in headers.enumerated() {
                let client = broker.connect()
                client.send(.begin, [("transaction", "tx")])
                client.send(.send, headers + [("transaction", "tx"), ("receipt", "r")])
                client.expectError(["Unknown destination", "Bad expiry", "Invalid destination"][index], receipt: "r")
            }
        }
    }

    @Test("NACK's requeue is checked when it comes, not at COMMIT")
    func requeueCheckedEarly() {
        withBroker { broker in
            let client = broker.connect()
            client.subscribe("/queue/q", ack: "client-individual")
            client.publish("/queue/q", "x")
            let message = client.messages()[0]
            client.send(.begin, [("transaction", "tx")])
            client.ack(message, [("requeue", "no"), ("transaction", "tx"), ("receipt", "r")], nack: true)
            #expect(client.expectError("Invalid header", receipt: "r")?.text.contains("requeue") == true)
            let next = broker.connect()
            next.subscribe("/queue/q", ack: "client-individual")
            let again = next.messages()[0]
            next.send(.begin, [("transaction", "tx")])
            next.ack(again, [("requeue", "False"), ("transaction", "tx")], nack: true)
            next.confirmed(.commit, [("transaction", "tx")])
            next.subscribe("/queue/DLQ", id: "dead")
            #expect(next.messages().map { $0["subscription"] } == ["dead"])
        }
    }

    @Test(
        "A COMMIT whose temporary destinations make room for each other is applied as a whole", arguments: [1, 2])
    func temporaryDestinationsAtLimit(shards: Int) {
        let options = TestBroker.options { $0.limits.subscriptionsPerConnectionMax = 1 }
        withBroker(shards: shards, options) { broker in
            let service = broker.connect(on: shards - 1)
            service.subscribe("/queue/service")
            let client = broker.connect(on: 0)
            client.send(.begin, [("transaction", "tx")])
            for (destination, reply) in [("/queue/service", "a"), ("/temp-queue/t", ""), ("/queue/service", "b")] {
                let headers = reply.isEmpty ? [] : [("reply-to", "/temp-topic/" + reply)]
                client.publish(destination, reply, headers + [("transaction", "tx")])
            }
            // What the second SEND takes room in stays, and the third has none.
            client.send(.commit, [("transaction", "tx"), ("receipt", "c")])
            client.expectError("Too many destinations", receipt: "c")
            #expect(service.bodies() == [])
            let other = broker.connect(on: 0)
            other.send(.begin, [("transaction", "tx")])
            for (destination, reply) in [("/queue/service", "a"), ("/queue/service", "b"), ("/temp-queue/t", "")] {
                let headers = reply.isEmpty ? [] : [("reply-to", "/temp-topic/" + reply)]
                other.publish(destination, reply, headers + [("transaction", "tx")])
            }
            other.confirmed(.commit, [("transaction", "tx")])
            #expect(service.bodies() == ["a", "b"])
            other.subscribe("/temp-queue/t")
            #expect(other.bodies() == [""])
        }
    }

    @Test("A COMMIT that was checked goes beyond the limit of destinations rather than be applied by half")
    func temporaryDestinationsBeyondLimit() {
        let options = TestBroker.options {
            $0.limits.subscriptionsPerConnectionMax = 1
            $0.limits.destinationCountMax = 4
        }
        withBroker(options) { broker in
            // One place is left beside these.
            for index in 0..<3 { broker.connect(on: 0).subscribe("/topic/\(index)") }
            let client = broker.connect(on: 0)
            client.send(.begin, [("transaction", "tx")])
            client.publish("/queue/a", "whole", [("transaction", "tx")])
            client.publish("/temp-topic/two", "", [("reply-to", "/temp-topic/one"), ("transaction", "tx")])
            client.confirmed(.commit, [("transaction", "tx")])
            let consumer = broker.connect(on: 0)
            consumer.subscribe("/queue/a")
            #expect(consumer.bodies() == ["whole"])
        }
    }

    @Test(
        "ACK and NACK in a transaction count at COMMIT, and are forgotten by ABORT", arguments: [1, 2], Version.allCases
    )
    func acknowledgements(shards: Int, version: Version) {
        withBroker(shards: shards) { broker in
            let client = broker.connect(version, on: shards - 1)
            client.subscribe("/queue/q", ack: "client", [("prefetch-count", "3")])
            for index in 0..<6 { client.publish("/queue/q", "\(index)") }
            var messages = client.messages()
            #expect(messages.map(\.text) == ["0", "1", "2"])
            client.send(.begin, [("transaction", "tx")])
            client.ack(messages[1], [("transaction", "tx")])
            #expect(client.bodies() == [])
            client.send(.abort, [("transaction", "tx")])
            #expect(client.bodies() == [])
            client.send(.begin, [("transaction", "tx")])
            client.ack(messages[1], [("transaction", "tx")])
            client.confirmed(.commit, [("transaction", "tx")])
            messages += client.messages()
            #expect(messages.map(\.text) == ["0", "1", "2", "3", "4"])
            client.send(.begin, [("transaction", "tx")])
            client.ack(messages[3], [("transaction", "tx")])
            client.ack(messages[2], [("transaction", "tx"), ("receipt", "r")])
            client.expectError("Message not found", receipt: "r")
            let other = broker.connect(on: 0)
            other.subscribe("/queue/q")
            #expect(other.bodies() == ["2", "3", "4", "5"])
        }
    }

    @Test("Unknown and repeated transactions, and too many, too large or too old ones, are ERRORs")
    func limits() {
        let options = TestBroker.options {
            $0.limits.transactionsPerConnectionMax = 2
            $0.limits.framesPerTransactionMax = 3
            $0.limits.transactionByteCountMax = 10_000
            $0.limits.transactionMillisecondsMax = 1_000
        }
        withBroker(options) { broker in
            for command in [Command.commit, .abort, .send, .ack] {
                let client = broker.connect()
                client.send(
                    command, [("transaction", "none"), ("destination", "/queue/q"), ("id", "0"), ("receipt", "r")])
                client.expectError(command == .ack ? "Message not found" : "Unknown transaction", receipt: "r")
            }
            for command in [Command.begin, .commit, .abort] {
                let client = broker.connect()
                client.send(command, [("receipt", "r")])
                client.expectError("Missing header", receipt: "r")
            }
            func client() -> Client {
                let client = broker.connect()
                client.confirmed(.begin, [("transaction", "1")])
                return client
            }
            let twice = client()
            twice.send(.begin, [("transaction", "1")])
            twice.expectError("Transaction already started")
            let many = client()
            for name in ["2", "3"] { many.send(.begin, [("transaction", name)]) }
            many.expectError("Too many transactions")
            let frames = client()
            for _ in 0..<4 { frames.publish("/queue/q", "x", [("transaction", "1")]) }
            frames.expectError("Transaction too large")
            let bytes = client()
            bytes.publish("/queue/q", String(repeating: "x", count: 10_000), [("transaction", "1")])
            bytes.expectError("Transaction too large")
            let old = client()
            broker.advance(milliseconds: 1_100)
            old.expectError("Transaction too old")
            let again = client()
            again.confirmed(.commit, [("transaction", "1")])
            again.confirmed(.begin, [("transaction", "1")])
        }
    }

    @Test("A COMMIT that only acknowledges does not wait for the room that it makes", arguments: [1, 2])
    func acknowledgesWhileFull(shards: Int) {
        let options = TestBroker.options { $0.limits.queuedMessageCountMax = 10 }
        withBroker(shards: shards, options) { broker in
            let name = broker.queueNames(ownedBy: shards - 1)[0]
            let publisher = broker.connect(on: shards - 1)
            for index in 0..<20 { publisher.publish(name, "\(index)") }
            broker.run()
            #expect(publisher.socket.isReceivePaused)
            let consumer = broker.connect(on: 0)
            consumer.subscribe(name, ack: "client-individual", [("prefetch-count", "5")])
            var bodies: [String] = []
            for round in 0..<4 {
                let messages = consumer.messages()
                bodies += messages.map(\.text)
                consumer.send(.begin, [("transaction", "\(round)")])
                for message in messages { consumer.ack(message, [("transaction", "\(round)")]) }
                consumer.confirmed(.commit, [("transaction", "\(round)")])
                broker.advance(milliseconds: 20)
            }
            #expect(bodies == (0..<20).map(String.init))
            #expect(!publisher.socket.isReceivePaused)
        }
    }

    @Test(
        "Frames behind a COMMIT that had to wait are processed, also when the client has hung up", arguments: [1, 2, 8])
    func behindCommit(shards: Int) {
        withBroker(shards: shards) { broker in
            let reader = broker.connect(on: 0)
            for shard in 0..<4 { reader.subscribe("/queue/q\(shard)", id: "\(shard)") }
            broker.run()
            let client = broker.connect(on: shards - 1)
            for shard in 0..<4 {
                client.subscribe("/queue/mine\(shard)", id: "\(shard)")
                client.send(.begin, [("transaction", "tx")])
                client.publish("/queue/q\(shard)", "in", [("transaction", "tx")])
                client.send(.commit, [("transaction", "tx"), ("receipt", "\(shard)")])
                client.publish("/queue/q\(shard)", "behind")
            }
            client.hangUp()
            #expect(reader.messages().filter { $0.text == "behind" }.count == 4)
            #expect(client.takeFrames().map { $0["receipt-id"] } == (0..<4).map(String.init))
        }
    }

    @Test("A COMMIT of a connection that dies while others are asked leaves no reservation", arguments: 1...6)
    func diesWhileAsking(turns: Int) {
        let options = QueueTests.options { $0.queueMessageCountMax = 2 }
        withBroker(shards: 4, options) { broker in
            let client = broker.connect(on: 0)
            client.send(.begin, [("transaction", "tx")])
            for queue in 0..<8 {
                for _ in 0..<2 { client.publish("/queue/q\(queue)", "x", [("transaction", "tx")]) }
            }
            broker.run()
            client.send(.commit, [("transaction", "tx")])
            for turn in 0..<turns { broker.turn(turn % 4) }
            client.reset()
            broker.run()
            let other = broker.connect(on: 1)
            for queue in 0..<8 { other.subscribe("/queue/q\(queue)", id: "\(queue)") }
            // All or nothing, and then there is room for others.
            let count = other.bodies().count
            #expect(count == 0 || count == 16)
            for queue in 0..<8 {
                for _ in 0..<2 { other.publish("/queue/q\(queue)", "mine") }
            }
            #expect(other.bodies() == Array(repeating: "mine", count: 16))
        }
    }
}
