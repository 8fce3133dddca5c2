import Broker
import FakeKernel
import STOMP
import Testing

/// What the stored messages of a host may take of the log.
@Suite("Virtual hosts: storage")
struct HostStorageTests {
    private static let persistent = [("persistent", "true")]

    /// The standard host, one with a limit, and one more.
    private static func start(
        _ disk: FakeDisk = FakeDisk(), shards: Int = 1, most: Int = 40_000,
        _ change: (inout BrokerOptions) -> Void = { _ in }
    ) -> TestBroker {
        StoreFixture.start(disk, shards: shards) {
            $0.hosts = ["/", "shop", "blog"].map { HostOptions(name: $0) }
            $0.hosts[1].storedByteCountMax = most
            var log = DestinationPolicy(pattern: "/topic/log.#")
            log.logMessageCountMax = 5
            $0.destinationPolicies = [log]
            change(&$0)
        }
    }

    private func connect(_ broker: TestBroker, _ host: String = "shop", on shard: Int = 0) -> Client {
        HostTests.connect(broker, to: host, on: shard)
    }

    private func stored(_ broker: TestBroker) -> [Int] {
        broker.settle()
        return broker.shard(0).pointee.hostFigures().map(\.storedByteCount)
    }

    private func drain(_ broker: TestBroker, _ queue: String = "/queue/a", host: String = "shop") -> [String] {
        let client = connect(broker, host)
        client.subscribe(queue, ack: "client-individual")
        var bodies: [String] = []
        while case let messages = client.messages(), !messages.isEmpty {
            for message in messages {
                bodies.append(message.text)
                client.ack(message)
            }
        }
        client.confirmed(.disconnect)
        return bodies
    }

    @Test("A host that has stored what it may is refused more, others are not; consumers make room", arguments: [1, 3])
    func limit(shards: Int) throws {
        let broker = Self.start(shards: shards)
        let body = String(repeating: "x", count: 3900)
        var receipts = 0
        var refusal: ClientFrame?
        // Whichever worker the client and the queue are with.
        for number in 0..<20 where refusal == nil {
            let client = connect(broker, on: number % shards)
            client.publish("/queue/a", body, Self.persistent + [("receipt", "\(number)")])
            broker.settle()
            for frame in client.takeFrames() {
                if frame.command == .receipt { receipts += 1 } else { refusal = frame }
            }
        }
        #expect(receipts == 9)
        let error = try #require(refusal)
        #expect(error["message"] == "Storage of the virtual host full" && error["receipt-id"] == "9")
        #expect(error.text.contains("storage-bytes-max"))
        #expect(broker.counters.limits[.hostStorage] == 1)
        connect(broker).confirmed(.send, [("destination", "/queue/m")], "in memory")
        for host in ["/", "blog"] {
            let client = connect(broker, host)
            for _ in 0..<20 { client.confirmed(.send, [("destination", "/queue/a")] + Self.persistent, body) }
        }
        let figures = stored(broker)
        #expect((36_000...40_000).contains(figures[1]) && figures[0] > 80_000 && figures[2] == figures[0])
        #expect(drain(broker).count == 9)
        #expect(stored(broker)[1] == 0)
        connect(broker).confirmed(.send, [("destination", "/queue/a")] + Self.persistent, body)
        #expect(drain(broker) == [body])
    }

    @Test("A transaction that has no room is refused whole", arguments: [1, 3])
    func transaction(shards: Int) throws {
        let broker = Self.start(shards: shards, most: 3000)
        let body = String(repeating: "x", count: 2000)
        connect(broker).confirmed(.send, [("destination", "/queue/a")] + Self.persistent, body)
        let client = connect(broker, on: shards - 1)
        client.send(.begin, [("transaction", "t")])
        for queue in ["/queue/a", "/queue/b", "/queue/c"] {
            client.publish(queue, body, Self.persistent + [("transaction", "t")])
        }
        client.send(.commit, [("transaction", "t"), ("receipt", "c")])
        broker.settle()
        let error = try #require(client.takeFrames().last)
        #expect(error["message"] == "Storage of the virtual host full" && error["receipt-id"] == "c")
        for (queue, count) in [("/queue/a", 1), ("/queue/b", 0), ("/queue/c", 0)] {
            #expect(drain(broker, queue).count == count)
        }
        #expect(stored(broker) == [0, 0, 0])
    }

    @Test(
        "Whatever is stored counts with its host while it lives, also in the next life",
        arguments: [1, 3], ["queue", "durable", "log", "retained", "delayed", "cold"])
    func kinds(shards: Int, kind: String) {
        let change: (inout BrokerOptions) -> Void = {
            if kind == "cold" {
                $0.storage?.cold.fillPercent = 0
                $0.storage?.cold.readyCountMin = 2
            }
        }
        var broker = Self.start(shards: shards, most: 1 << 20, change)
        let durable = [("destination", "/topic/d"), ("id", "s"), ("durable", "true"), ("ack", "client")]
        if kind == "durable" {
            let subscriber = connect(broker)
            subscriber.confirmed(.subscribe, durable)
            subscriber.confirmed(.disconnect)
        }
        let publisher = connect(broker)
        for number in 0..<12 { send(kind, number, publisher) }
        publisher.confirmed(.disconnect)
        let first = stored(broker)
        #expect(first[1] > 0 && first[0] == 0 && first[2] == 0)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true), shards: shards, most: 1 << 20, change)
        #expect(stored(broker) == first)
        let client = connect(broker)
        switch kind {
        case "durable":
            client.confirmed(.subscribe, durable)
            for message in client.messages() { client.ack(message) }
            client.confirmed(.unsubscribe, durable)
        case "log": client.confirmed(.send, [("destination", "/topic/other")], "")
        case "retained":
            client.confirmed(
                .send, [("destination", "/topic/r"), ("retain", "remove")] + Self.persistent, "")
        case "delayed":
            broker.advance(milliseconds: 100_000)
            #expect(drain(broker).count == 12)
        default: #expect(drain(broker).count == 12)
        }
        // A log keeps five, whoever has read them.
        #expect(stored(broker)[1] == (kind == "log" ? first[1] : 0))
    }

    private func send(_ kind: String, _ number: Int, _ client: Client) {
        var headers = Self.persistent
        switch kind {
        case "durable": headers.append(("destination", "/topic/d"))
        case "log": headers.append(("destination", "/topic/log.a"))
        case "retained": headers += [("destination", "/topic/r"), ("retain", "set")]
        case "delayed": headers += [("destination", "/queue/a"), ("x-delay", "60000")]
        default: headers.append(("destination", "/queue/a"))
        }
        client.confirmed(.send, headers, "\(number)")
    }

    @Test("What a host left that is there no more counts with none of the others, and is back when the host is")
    func removed() {
        var broker = Self.start()
        connect(broker).confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "x")
        let before = stored(broker)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true)) { $0.hosts.remove(at: 1) }
        #expect(stored(broker) == [0, 0])
        broker = Self.start(broker.disk.restarted(afterPowerCut: true))
        #expect(stored(broker) == before)
        #expect(drain(broker) == ["x"])
    }
}
