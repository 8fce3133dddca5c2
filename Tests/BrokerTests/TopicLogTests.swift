import Broker
import FakeKernel
import STOMP
import Testing

/// Logs of topics, and the subscriptions that read them.
@Suite("Topic logs")
struct TopicLogTests {
    /// A broker whose topics below /topic/log keep a log.
    static func options(
        messages: Int = 100, bytes: Int = 1 << 20, age: Int = 0, storage: StoragePolicy = .byHeader,
        _ change: (inout BrokerOptions) -> Void = { _ in }
    ) -> BrokerOptions {
        TestBroker.options {
            var policy = DestinationPolicy(pattern: "/topic/log.#")
            policy.logMessageCountMax = messages
            policy.logByteCountMax = bytes
            policy.logMillisecondsMax = age
            policy.storage = storage
            $0.destinationPolicies = [policy]
            change(&$0)
        }
    }

    private func read(
        _ client: Client, _ topic: String, from start: String, id: String = "0", ack: String? = nil,
        _ headers: [(String, String)] = []
    ) {
        client.subscribe(topic, id: id, ack: ack, [("x-stream-offset", start)] + headers)
    }

    @Test(
        "A reader gets what was there and what comes, each once and in order", arguments: [1, 2, 4], Version.allCases)
    func replay(shards: Int, version: Version) {
        withBroker(shards: shards, Self.options()) { broker in
            let publishers = (0..<shards).map { broker.connect(on: $0) }
            for number in 0..<10 {
                publishers[number % shards].confirmed(.send, [("destination", "/topic/log.a")], "\(number)")
            }
            let readers = (0..<shards).map { broker.connect(version, on: $0) }
            for reader in readers { read(reader, "/topic/log.a", from: "first") }
            // While they catch up others publish.
            for number in 10..<20 {
                publishers[0].publish("/topic/log.a", "\(number)")
                for index in 0..<shards { broker.turn(index) }
            }
            for reader in readers {
                let messages = reader.messages()
                #expect(messages.map(\.text) == (0..<20).map(String.init))
                #expect(messages.map { $0["x-stream-offset"] } == (0..<20).map(String.init))
                #expect(messages.allSatisfy { $0["destination"] == "/topic/log.a" && $0["redelivered"] == nil })
            }
        }
    }

    @Test("Each form of x-stream-offset begins where it says", arguments: [1, 3])
    func starts(shards: Int) {
        withBroker(shards: shards, Self.options(messages: 5)) { broker in
            let publisher = broker.connect()
            var seconds: UInt64 = 0
            for number in 0..<8 {
                if number == 6 {
                    broker.advance(milliseconds: 5_000)
                    seconds = broker.kernel.wallMilliseconds / 1000
                }
                publisher.confirmed(.send, [("destination", "/topic/log.a")], "\(number)")
            }
            let expected: [(String, [String])] = [
                ("first", ["3", "4", "5", "6", "7"]), ("last", ["7"]), ("next", []), ("offset=5", ["5", "6", "7"]),
                ("offset=1", ["3", "4", "5", "6", "7"]), ("offset=8", []), ("offset=1000", []),
                ("timestamp=\(seconds)", ["6", "7"]), ("timestamp=0", ["3", "4", "5", "6", "7"]),
                ("timestamp=\(seconds + 100)", []),
            ]
            let readers = expected.map { start, _ in
                let client = broker.connect(on: shards - 1, name: start)
                read(client, "/topic/log.a", from: start)
                return client
            }
            broker.run()
            publisher.confirmed(.send, [("destination", "/topic/log.a")], "8")
            for (reader, (start, bodies)) in zip(readers, expected) {
                #expect(reader.bodies() == bodies + ["8"], "\(start)")
            }
        }
    }

    @Test("Subscribers without the header see the offsets, by pattern and with acknowledgements too")
    func ordinary() {
        withBroker(shards: 2, Self.options()) { broker in
            let clients = (0..<3).map { broker.connect(on: $0 % 2) }
            clients[0].subscribe("/topic/log.a")
            clients[1].subscribe("/topic/log.*")
            clients[2].subscribe("/topic/log.a", ack: "client")
            broker.run()
            let publisher = broker.connect()
            for number in 0..<3 { publisher.publish("/topic/log.a", "\(number)", [("x-stream-offset", "77")]) }
            for client in clients {
                let messages = client.messages()
                #expect(messages.map(\.text) == ["0", "1", "2"])
                #expect(
                    messages.map { $0.headers.filter { $0.name == "x-stream-offset" }.map(\.value) } == [
                        ["0"], ["1"], ["2"],
                    ])
            }
        }
    }

    @Test("A SEND by another name keeps the destination as it was written", arguments: [1, 2])
    func alias(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            let publisher = broker.connect(on: shards - 1)
            publisher.confirmed(.send, [("destination", "log.a")], "bare")
            let reader = broker.connect()
            read(reader, "/topic/log.a", from: "first")
            let message = reader.messages().first
            #expect(message?["destination"] == "log.a" && message?["x-stream-offset"] == "0" && message?.text == "bare")
        }
    }

    @Test(
        "A reader gets no more than its prefetch before it acknowledges", arguments: [1, 2],
        ["client", "client-individual"])
    func prefetch(shards: Int, ack: String) {
        withBroker(shards: shards, Self.options(messages: 1000)) { broker in
            let publisher = broker.connect()
            for number in 0..<700 { publisher.publish("/topic/log.a", "\(number)") }
            broker.run()
            let reader = broker.connect(on: shards - 1)
            read(reader, "/topic/log.a", from: "first", ack: ack, [("prefetch-count", "10")])
            var got: [String] = []
            for _ in 0..<70 {
                let messages = reader.messages()
                #expect(messages.count == 10)
                got += messages.map(\.text)
                // A refusal moves the window, too.
                for message in messages { reader.ack(message, nack: got.count % 20 == 0) }
            }
            #expect(got == (0..<700).map(String.init))
            #expect(reader.messages().isEmpty)
            #expect(broker.counters.messagesDropped == 0)
        }
    }

    @Test("A reader that does not read holds up nobody and goes on with what is left", arguments: [1, 2])
    func slow(shards: Int) {
        withBroker(shards: shards, Self.options(messages: 300, bytes: 64 << 20)) { broker in
            let reader = broker.connect(on: shards - 1)
            read(reader, "/topic/log.a", from: "next", ack: "client", [("prefetch-count", "1")])
            broker.run()
            let publisher = broker.connect()
            for number in 0..<2_000 { publisher.publish("/topic/log.a", "\(number)") }
            var got: [Int] = []
            while case let messages = reader.messages(), let last = messages.last {
                got += messages.map { Int($0.text)! }
                reader.ack(last)
            }
            #expect(got == got.sorted() && Set(got).count == got.count)
            #expect(got.first == 0 && got.last == 1_999)
            #expect(Array(got.suffix(300)) == Array(1_700..<2_000))
            #expect(broker.counters.logOffsetsMissed == UInt64(2_000 - got.count))
        }
    }

    @Test("A log is trimmed by number, bytes and age")
    func trims() {
        withBroker(Self.options(messages: 10, bytes: 4096, age: 10_000)) { broker in
            let publisher = broker.connect()
            for number in 0..<12 { publisher.confirmed(.send, [("destination", "/topic/log.a")], "\(number)") }
            let reader = broker.connect()
            read(reader, "/topic/log.a", from: "first", id: "count")
            #expect(reader.bodies() == (2..<12).map(String.init))
            for number in 0..<4 {
                publisher.confirmed(
                    .send, [("destination", "/topic/log.b")], String(repeating: "\(number)", count: 1_500))
            }
            read(reader, "/topic/log.b", from: "first", id: "bytes")
            #expect(reader.messages().compactMap { $0["x-stream-offset"] } == ["2", "3"])
            broker.advance(milliseconds: 12_000)
            read(reader, "/topic/log.a", from: "first", id: "age")
            #expect(reader.messages().isEmpty)
            publisher.confirmed(.send, [("destination", "/topic/log.a")], "behind")
            #expect(reader.messages().allSatisfy { $0["x-stream-offset"] == "12" })
        }
    }

    @Test("What has expired is not replayed")
    func expiry() {
        withBroker(shards: 2, Self.options()) { broker in
            let publisher = broker.connect()
            publisher.confirmed(.send, [("destination", "/topic/log.a"), ("ttl", "1000")], "0")
            publisher.confirmed(.send, [("destination", "/topic/log.a")], "1")
            broker.advance(milliseconds: 2_000)
            for shard in 0..<2 {
                let reader = broker.connect(on: shard)
                read(reader, "/topic/log.a", from: "first")
                #expect(reader.bodies() == ["1"])
            }
        }
    }

    @Test("Logs leave half of the memory to others")
    func memory() {
        let options = Self.options(messages: 1_000_000, bytes: 1 << 30) {
            $0.limits.messageMemoryByteCountMax = 8 << 20
        }
        withBroker(options) { broker in
            let publisher = broker.connect()
            let body = String(repeating: "x", count: 4_000)
            for number in 0..<4_000 {
                publisher.publish("/topic/log.\(number % 3)", body)
                if number % 50 == 0 { broker.run() }
            }
            publisher.confirmed(.send, [("destination", "/queue/q")], "still taken")
            #expect(broker.shard(0).pointee.blockByteCount < 6 << 20)
            #expect(broker.counters.logMessagesTrimmed > 1_000)
            let consumer = broker.connect()
            consumer.subscribe("/queue/q")
            #expect(consumer.bodies() == ["still taken"])
        }
    }

    @Test(
        "What cannot be read is refused with a reason",
        arguments: [
            ("/topic/plain", "first", "Unsupported header"), ("/topic/log.*", "first", "Unsupported header"),
            ("/queue/log.a", "next", "Unsupported header"), ("/topic/log.a", "offset=-1", "Invalid x-stream-offset"),
            ("/topic/log.a", "offset=", "Invalid x-stream-offset"), ("/topic/log.a", "", "Invalid x-stream-offset"),
            ("/topic/log.a", "5", "Invalid x-stream-offset"), ("/topic/log.a", "First", "Invalid x-stream-offset"),
            ("/topic/log.a", "timestamp=yesterday", "Invalid x-stream-offset"),
            ("/temp-topic/a", "first", "Unsupported header"),
        ])
    func refusals(destination: String, start: String, message: String) {
        withBroker(shards: 2, Self.options()) { broker in
            let client = broker.connect()
            client.send(
                .subscribe, [("destination", destination), ("id", "0"), ("x-stream-offset", start), ("receipt", "r")])
            client.expectError(message, receipt: "r")
        }
    }

    @Test("Its RECEIPT precedes what a reader is given; UNSUBSCRIBE ends it", arguments: [1, 2, 4])
    func life(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            let publisher = broker.connect()
            for number in 0..<600 { publisher.publish("/topic/log.a", "\(number)") }
            broker.run()
            for shard in 0..<shards {
                let reader = broker.connect(on: shard)
                read(reader, "/topic/log.a", from: "first", [("receipt", "s")])
                broker.run()
                let frames = reader.takeFrames()
                #expect(frames.first?.command == .receipt && frames.count == 101)
                reader.confirmed(.unsubscribe, [("id", "0")])
                publisher.confirmed(.send, [("destination", "/topic/log.a")], "late")
                #expect(reader.messages().isEmpty)
                // And one that ends while the owner is asked.
                let hasty = broker.connect(on: shard)
                read(hasty, "/topic/log.a", from: "first")
                hasty.reset()
                broker.run()
            }
        }
    }

    @Test("A transaction's messages have consecutive offsets, and one that is aborted has none", arguments: [1, 3])
    func transactions(shards: Int) {
        withBroker(shards: shards, Self.options()) { broker in
            let client = broker.connect(on: shards - 1)
            for (name, end) in [("a", Command.abort), ("b", Command.commit)] {
                client.confirmed(.begin, [("transaction", name)])
                for number in 0..<3 {
                    client.confirmed(
                        .send, [("destination", "/topic/log.a"), ("transaction", name)], "\(name)\(number)")
                }
                client.confirmed(end, [("transaction", name)])
            }
            let reader = broker.connect()
            read(reader, "/topic/log.a", from: "first")
            let messages = reader.messages()
            #expect(messages.map(\.text) == ["b0", "b1", "b2"])
            #expect(messages.map { $0["x-stream-offset"] } == ["0", "1", "2"])
        }
    }

    @Test("A dead letter is sequenced like any other message", arguments: [1, 3])
    func deadLetters(shards: Int) {
        let options = Self.options {
            var policy = DestinationPolicy(pattern: "/queue/#")
            policy.deadLetterDestination = "/topic/log.dead"
            $0.destinationPolicies.append(policy)
        }
        withBroker(shards: shards, options) { broker in
            let client = broker.connect()
            for number in 0..<6 { client.confirmed(.send, [("destination", "/queue/q\(number)")], "\(number)") }
            for number in 0..<6 {
                client.subscribe("/queue/q\(number)", id: "\(number)", ack: "client-individual")
                let message = client.messages().first
                if let message { client.ack(message, [("requeue", "false")], nack: true) }
            }
            broker.run()
            let reader = broker.connect(on: shards - 1)
            read(reader, "/topic/log.dead", from: "first")
            let messages = reader.messages()
            #expect(messages.map(\.text) == (0..<6).map(String.init))
            #expect(messages.map { $0["x-stream-offset"] } == (0..<6).map(String.init))
            #expect(messages.first?["original-destination"] == "/queue/q0")
        }
    }
}
