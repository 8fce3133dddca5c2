import Broker
import FakeKernel
import Journal
import STOMP
import Testing

/// What topics keep, in the store: offsets are given once, whatever the crash.
@Suite("Stored logs of topics")
struct StoredLogTests {
    private static let persistent = [("persistent", "true")]

    private static func start(
        _ disk: FakeDisk, shards: Int = 1, messages: Int = 1_000, storage: StoragePolicy = .byHeader
    ) -> TestBroker {
        StoreFixture.start(disk, shards: shards) { options in
            options.destinationPolicies =
                TopicLogTests.options(messages: messages, bytes: 8 << 20, storage: storage).destinationPolicies
        }
    }

    private func read(_ broker: TestBroker, _ topic: String = "/topic/log.a", on shard: Int = 0) -> [(String, String)] {
        let client = broker.connect(on: shard)
        client.subscribe(topic, [("x-stream-offset", "first")])
        return client.messages().map { ($0["x-stream-offset"] ?? "", $0.text) }
    }

    private func send(_ broker: TestBroker, _ bodies: [String], _ headers: [(String, String)] = persistent) {
        let client = broker.connect()
        for body in bodies { client.confirmed(.send, [("destination", "/topic/log.a")] + headers, body) }
    }

    @Test("After a crash the log is there with its offsets", arguments: [1, 3], [1, 2])
    func restart(before: Int, after: Int) {
        var broker = Self.start(FakeDisk(), shards: before)
        send(broker, ["0", "1", "2"])
        send(broker, ["in memory"], [])
        let client = broker.connect()
        client.confirmed(.send, [("destination", "/topic/state"), ("retain", "set")] + Self.persistent, "old")
        client.confirmed(.send, [("destination", "/topic/state"), ("retain", "set")] + Self.persistent, "new")
        client.confirmed(.send, [("destination", "/topic/other"), ("retain", "set")], "in memory")
        client.confirmed(.send, [("destination", "/topic/gone"), ("retain", "set")] + Self.persistent, "gone")
        client.confirmed(.send, [("destination", "/topic/gone"), ("retain", "remove")], "")
        for _ in 0..<2 {
            broker = Self.start(broker.disk.restarted(afterPowerCut: true), shards: after)
            for shard in 0..<after {
                #expect(read(broker, on: shard).map(\.0) == ["0", "1", "2"])
                #expect(read(broker, on: shard).map(\.1) == ["0", "1", "2"])
                let subscriber = broker.connect(on: shard)
                subscriber.subscribe("/topic/*")
                let messages = subscriber.messages()
                #expect(messages.map(\.text) == ["new"] && messages.first?["retained"] == "true")
                #expect(messages.first?["destination"] == "/topic/state")
            }
        }
        // An offset that was given out, if not stored, is not given again.
        send(broker, ["next"])
        let offsets = read(broker).compactMap { UInt64($0.0) }
        #expect(offsets.count == 4 && offsets.last! > 3)
    }

    @Test("After an orderly end the next offset is the next number")
    func orderly() {
        var broker = Self.start(FakeDisk(), shards: 2)
        send(broker, ["0", "1"])
        send(broker, ["2"], [])
        for shard in 0..<2 { broker.shard(shard).pointee.beginDrain() }
        broker.advance(milliseconds: 20_000)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true), shards: 2)
        send(broker, ["3"])
        #expect(read(broker).map(\.0) == ["0", "1", "3"])
    }

    @Test("A message is published when its offset is reserved, and no later one waits", arguments: [1, 2])
    func reservation(shards: Int) {
        let broker = Self.start(FakeDisk(), shards: shards)
        let subscriber = broker.connect(on: shards - 1)
        subscriber.subscribe("/topic/log.a")
        let publisher = broker.connect()
        broker.holdDisk()
        publisher.publish("/topic/log.a", "0")
        publisher.publish("/topic/log.a", "1", [("retain", "set")])
        #expect(subscriber.bodies() == [])
        while broker.stepDisk() {}
        #expect(subscriber.bodies() == ["0", "1"])
        for number in 2..<40 { publisher.publish("/topic/log.a", "\(number)") }
        #expect(subscriber.bodies() == (2..<40).map(String.init))
    }

    @Test("No offset that a client has seen is given to another message, whatever the crash", arguments: [1, 2])
    func offsets(shards: Int) {
        var broker = Self.start(FakeDisk(), shards: shards)
        var seen: [UInt64: String] = [:]
        for life in 0..<30 {
            let subscriber = broker.connect(on: shards - 1)
            subscriber.subscribe("/topic/log.a")
            let publisher = broker.connect()
            broker.holdDisk()
            for number in 0..<(life * 7 % 50) {
                publisher.publish("/topic/log.a", "\(life)-\(number)", number % 3 == 0 ? Self.persistent : [])
                broker.run()
                if number % 4 == life % 4 { _ = broker.stepDisk() }
            }
            for message in subscriber.messages() {
                let offset = UInt64(message["x-stream-offset"] ?? "")!
                #expect(seen.updateValue(message.text, forKey: offset) == nil)
            }
            broker = Self.start(broker.disk.restarted(afterPowerCut: life % 2 == 0), shards: shards)
            for (offset, body) in read(broker) {
                let former = seen.updateValue(body, forKey: UInt64(offset)!)
                #expect(former == nil || former == body)
            }
        }
        #expect(seen.count > 300)
    }

    @Test("What was confirmed is there, in order, whatever the crash", arguments: [1, 2])
    func promises(shards: Int) {
        let broker = Self.start(FakeDisk(), shards: shards)
        let client = broker.connect()
        broker.disk.isHeld = true
        var sent: [String] = []
        for number in 0..<20 {
            sent.append("\(number)-" + String(repeating: "x", count: number * 300))
            client.publish("/topic/log.a", sent[number], Self.persistent + [("receipt", "\(number)")])
            broker.run()
            if number % 3 == 0 { _ = broker.stepDisk() }
        }
        var confirmed = 0
        repeat {
            confirmed += client.takeFrames().count { $0.command == .receipt }
            for afterPowerCut in [true, false] {
                let bodies = StoreFixture.bodies(
                    "/topic/log.a", in: broker.disk.contents(afterPowerCut: afterPowerCut))
                #expect(bodies == Array(sent.prefix(bodies.count)) && bodies.count >= confirmed)
            }
        } while broker.stepDisk()
        #expect(confirmed + client.takeFrames().count { $0.command == .receipt } == 20)
    }

    @Test("A transaction over queues and logs is there as a whole or not at all", arguments: [1, 3])
    func transactions(shards: Int) {
        let broker = Self.start(FakeDisk(), shards: shards)
        let client = broker.connect()
        client.confirmed(.begin, [("transaction", "t")])
        let destinations = ["/queue/a", "/queue/b", "/topic/log.a", "/topic/log.b", "/topic/log.a", "/topic/kept"]
        for (number, destination) in destinations.enumerated() {
            client.confirmed(
                .send,
                [("destination", destination), ("transaction", "t")] + Self.persistent
                    + (destination == "/topic/kept" ? [("retain", "set")] : []), "\(number)")
        }
        broker.holdDisk()
        client.send(.commit, [("transaction", "t"), ("receipt", "c")])
        broker.run()
        var isConfirmed = false
        repeat {
            isConfirmed = isConfirmed || client.takeFrames().contains { $0.command == .receipt }
            let contents = broker.disk.contents(afterPowerCut: true)
            let count = Set(destinations).reduce(0) { $0 + StoreFixture.bodies($1, in: contents).count }
            #expect(count == 6 || count == 0 && !isConfirmed)
        } while broker.stepDisk()
        #expect(isConfirmed || client.takeFrames().contains { $0.command == .receipt })
    }

    @Test(
        "What has taken the place of a retained message and is confirmed does not give it back after a crash",
        arguments: [[("retain", "remove")] + persistent, [("retain", "remove")], [("retain", "set")]], [false, true])
    func replaced(headers: [(String, String)], hasAnotherBefore: Bool) {
        let topic = "/topic/log.state"
        var broker = Self.start(FakeDisk())
        broker.connect().confirmed(.send, [("destination", topic), ("retain", "set")] + Self.persistent, "old")
        // Offsets of the life before are not given again: the message waits until others are reserved.
        broker = Self.start(broker.disk.restarted(afterPowerCut: true))
        let client = broker.connect()
        broker.holdDisk()
        if hasAnotherBefore { client.publish(topic, "newer", [("retain", "set")] + Self.persistent) }
        client.publish(topic, "new", headers + [("receipt", "r")])
        broker.run()
        while client.frame()?["receipt-id"] != "r", broker.stepDisk() {}
        broker = Self.start(broker.disk.restarted(afterPowerCut: true))
        let subscriber = broker.connect()
        subscriber.subscribe(topic)
        #expect(subscriber.bodies() == [])
    }

    @Test("What is trimmed leaves the disk, and what stays is written again, so that segments go", arguments: [1, 2])
    func space(shards: Int) {
        var broker = Self.start(FakeDisk(), shards: shards, messages: 5, storage: .always)
        send(broker, ["first"])
        let client = broker.connect()
        client.confirmed(.send, [("destination", "/topic/state"), ("retain", "set")] + Self.persistent, "kept")
        let body = String(repeating: "x", count: 4_000)
        for number in 0..<400 {
            client.publish("/topic/log.busy", "\(number) \(body)")
            client.publish("/topic/log.state", "\(number)", [("retain", "set")])
            if number % 20 == 0 { broker.run() }
        }
        broker.advance(milliseconds: 2_000)
        #expect(broker.disk.contents(afterPowerCut: false).keys.count < 6 * shards + 4)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true), shards: shards, messages: 5, storage: .always)
        #expect(read(broker).map(\.1) == ["first"])
        #expect(read(broker, "/topic/log.busy").map(\.0) == (395..<400).map(String.init))
        let subscriber = broker.connect()
        subscriber.subscribe("/topic/state")
        #expect(subscriber.bodies() == ["kept"])
        subscriber.subscribe("/topic/log.state", id: "log")
        #expect(subscriber.bodies() == ["399"])
    }

    @Test("A log whose policy is gone is forgotten")
    func policyIsGone() {
        var broker = Self.start(FakeDisk())
        send(broker, ["0", "1"])
        broker = StoreFixture.start(broker.disk.restarted(afterPowerCut: true))
        _ = broker.connect()
        broker.advance(milliseconds: 100)
        #expect(StoreFixture.bodies("/topic/log.a", in: broker.disk.contents(afterPowerCut: true)) == [])
    }

    @Test("A store that fails publishes no offset that is not reserved")
    func failure() {
        let broker = Self.start(FakeDisk())
        let client = broker.connect()
        broker.disk.failures = [FakeDisk.Failure(.appendFileDurably, 5)]
        client.publish("/topic/log.a", "0", [("receipt", "r")])
        broker.run()
        let other = broker.connect()
        other.send(.send, [("destination", "/topic/log.a"), ("receipt", "s")], "1")
        other.expectError("Storage failed", receipt: "s")
    }
}
