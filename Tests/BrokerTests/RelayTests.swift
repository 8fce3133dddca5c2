import Broker
import FakeKernel
import Glibc
import STOMP
import Testing

/// Messages that one worker publishes and another stores for a durable subscription: what a RECEIPT waits for, and what a power
/// cut leaves at each moment.
@Suite("Messages that are passed on to durable subscriptions")
struct RelayTests {
    /// What makes a topic's owner publish a message.
    enum Kind: CaseIterable {
        case log, firstOfLog, retained, delayed, delayedInLog, delayedFirstOfLog

        var topic: String {
            switch self {
            case .log, .firstOfLog, .delayedInLog, .delayedFirstOfLog: "/topic/log.a"
            case .retained, .delayed: "/topic/a"
            }
        }
        var headers: [(String, String)] {
            switch self {
            case .log, .firstOfLog: [("persistent", "true")]
            case .retained: [("persistent", "true"), ("retain", "set")]
            case .delayed, .delayedInLog, .delayedFirstOfLog: [("persistent", "true"), ("x-delay", "1000")]
            }
        }
        var isDelayed: Bool { self == .delayed || self == .delayedInLog || self == .delayedFirstOfLog }
    }

    private static let durable = [("durable", "true")]

    private static func start(_ disk: FakeDisk, shards: Int) -> TestBroker {
        let broker = StoreFixture.start(disk, shards: shards) { options in
            options.destinationPolicies =
                TopicLogTests.options(messages: 1_000, bytes: 8 << 20, storage: .byHeader).destinationPolicies
        }
        // A worker begins with a turn, whether anything happens or not.
        for index in 0..<shards { broker.turn(index) }
        return broker
    }

    private func receipts(_ client: Client) -> [String] { client.takeFrames().compactMap { $0["receipt-id"] } }

    private func subscribe(_ client: Client, _ topic: String, id: String, ack: String = "client") {
        client.confirmed(.subscribe, [("destination", topic), ("id", id), ("ack", ack)] + Self.durable)
    }

    /// An id whose subscription to the topic this worker holds.
    private func id(_ broker: TestBroker, _ topic: String, heldBy worker: Int) -> String {
        (0...).lazy.map { "s\($0)" }.first { broker.owner(ofQueue: "/dsub/id/\($0)" + topic) == worker }!
    }

    /// A broker with a durable subscription, held by another worker than the topic's owner unless there is one worker alone, and
    /// a publisher with a third one, or with the owner.
    private func prepare(
        _ kind: Kind, shards: Int, publisherIsWithOwner: Bool
    ) -> (broker: TestBroker, id: String, owner: Int, publisher: Client) {
        let broker = Self.start(FakeDisk(), shards: shards)
        let owner = broker.owner(ofQueue: kind.topic)
        let holder = (owner + 1) % shards
        let id = id(broker, kind.topic, heldBy: holder)
        let client = broker.connect()
        subscribe(client, kind.topic, id: id)
        if kind == .log || kind == .delayedInLog {
            // Its offsets are reserved.
            client.confirmed(.send, [("destination", kind.topic)], "before")
            broker.settle()
            for message in client.messages() { client.confirmed(.ack, [("id", message["ack"] ?? "")]) }
        }
        client.confirmed(.disconnect)
        let publisher = broker.connect(on: publisherIsWithOwner ? owner : (owner + 2) % shards)
        broker.holdDisk()
        return (broker, id, owner, publisher)
    }

    @Test(
        "What was confirmed is there after a power cut at any moment, and once", arguments: Kind.allCases, [1, 3])
    func powerCut(kind: Kind, shards: Int) {
        for publisherIsWithOwner in [true, false] {
            for stalled in [nil, 0, 1] {
                var isPromised = false
                var stepCount = 0
                while !isPromised || stepCount < 8, stepCount < 60 {
                    let (broker, id, owner, publisher) = prepare(
                        kind, shards: shards, publisherIsWithOwner: publisherIsWithOwner)
                    // One of the two disks is slow.
                    broker.disk.stalledShard = stalled.map { (owner + $0) % shards }
                    publisher.publish(kind.topic, "m", kind.headers + [("receipt", "r")])
                    broker.run()
                    var isOver = step(broker, stepCount)
                    if isOver { broker.disk.stalledShard = nil }
                    isOver = isOver && step(broker, 60)
                    isPromised = receipts(publisher) == ["r"]
                    if kind.isDelayed, isPromised {
                        broker.advance(milliseconds: 1000)
                        _ = step(broker, stepCount % 12)
                    }
                    check(broker, kind, id, isPromised: isPromised, "\(stepCount) steps, stalled \(stalled ?? -1)")
                    stepCount += 1
                }
                #expect(isPromised)
            }
        }
    }

    /// False: there were not so many steps.
    private func step(_ broker: TestBroker, _ count: Int) -> Bool {
        for _ in 0..<count where !broker.stepDisk() { return true }
        return false
    }

    private func check(_ broker: TestBroker, _ kind: Kind, _ id: String, isPromised: Bool, _ text: String) {
        let next = Self.start(broker.disk.restarted(afterPowerCut: true), shards: 2)
        let client = next.connect()
        subscribe(client, kind.topic, id: id)
        next.advance(milliseconds: 2000)
        next.settle()
        let bodies = client.bodies()
        #expect(bodies == ["m"] || !isPromised && bodies.isEmpty, "\(kind): \(bodies) after \(text)")
    }

    @Test(
        "The RECEIPT of an ACK says that a delayed message does not come again",
        arguments: [Kind.delayed, .delayedInLog])
    func acknowledged(kind: Kind) {
        var confirmedCount = 0
        for stepCount in 0..<24 {
            let (broker, id, owner, publisher) = prepare(kind, shards: 2, publisherIsWithOwner: false)
            broker.disk.isHeld = false
            publisher.confirmed(.send, [("destination", kind.topic)] + kind.headers, "m")
            let consumer = broker.connect()
            subscribe(consumer, kind.topic, id: id)
            broker.settle()
            broker.advance(milliseconds: 500)
            broker.holdDisk()
            broker.disk.stalledShard = owner
            broker.advance(milliseconds: 1000)
            let messages = consumer.messages()
            for message in messages { consumer.ack(message, [("receipt", "a")]) }
            broker.run()
            _ = step(broker, stepCount)
            if stepCount > 12 {
                broker.disk.stalledShard = nil
                _ = step(broker, stepCount)
            }
            let isConfirmed = receipts(consumer) == ["a"]
            if isConfirmed { confirmedCount += 1 }
            let next = Self.start(broker.disk.restarted(afterPowerCut: true), shards: 2)
            let client = next.connect()
            subscribe(client, kind.topic, id: id)
            next.advance(milliseconds: 2000)
            let bodies = client.bodies()
            #expect(bodies == ["m"] && !isConfirmed || bodies.isEmpty, "\(bodies) after \(stepCount) steps")
        }
        #expect(confirmedCount > 0)
    }

    @Test("Two owners that pass messages on to each other wait for nobody's RECEIPT")
    func crossing() {
        let broker = Self.start(FakeDisk(), shards: 2)
        let topics = (0..<2).map { worker in
            (0...).lazy.map { "/topic/log.\($0)" }.first { broker.owner(ofQueue: $0) == worker }!
        }
        let clients = topics.enumerated().map { worker, topic in
            let client = broker.connect()
            subscribe(client, topic, id: id(broker, topic, heldBy: 1 - worker), ack: "auto")
            return client
        }
        let publishers = (0..<2).map { broker.connect(on: $0) }
        broker.holdDisk()
        for number in 0..<20 {
            for (place, publisher) in publishers.enumerated() {
                publisher.publish(topics[place], "\(number)", [("persistent", "true"), ("receipt", "\(number)")])
                publisher.publish(topics[1 - place], "\(number)", [("persistent", "true")])
            }
            broker.run()
            if number % 3 == 0 { _ = broker.stepDisk() }
        }
        while broker.stepDisk() {}
        for publisher in publishers { #expect(receipts(publisher) == (0..<20).map(String.init)) }
        for client in clients { #expect(client.bodies().count == 40) }
        for publisher in publishers { publisher.confirmed(.disconnect) }
    }

    @Test("Who has nothing to do with it does not wait for the holder's disk")
    func others() {
        let (broker, _, owner, publisher) = prepare(.log, shards: 3, publisherIsWithOwner: false)
        let other = broker.connect(on: owner)
        broker.disk.stalledShard = (owner + 1) % 3
        publisher.publish("/topic/log.a", "m", [("persistent", "true"), ("receipt", "r")])
        broker.run()
        let queue = broker.queueNames(ownedBy: owner)[0]
        other.publish(queue, "q", [("persistent", "true"), ("receipt", "q")])
        broker.run()
        while broker.stepDisk() {}
        #expect(receipts(other) == ["q"])
        #expect(receipts(publisher) == [])
        broker.disk.stalledShard = nil
        while broker.stepDisk() {}
        #expect(receipts(publisher) == ["r"])
    }

    @Test("A holder whose log fails refuses: the publisher is told, and others are not")
    func failure() {
        let (broker, _, owner, publisher) = prepare(.log, shards: 3, publisherIsWithOwner: false)
        let other = broker.connect(on: (owner + 2) % 3)
        broker.disk.stalledShard = owner
        broker.disk.failures = [FakeDisk.Failure(.appendFile, EIO), FakeDisk.Failure(.appendFileDurably, EIO)]
        publisher.publish("/topic/log.a", "m", [("persistent", "true"), ("receipt", "r")])
        broker.run()
        while broker.stepDisk() {}
        publisher.expectError("Storage failed", receipt: "r")
        broker.disk.failures = []
        broker.disk.stalledShard = nil
        let topic = (0...).lazy.map { "/topic/log.\($0)" }.first { broker.owner(ofQueue: $0) == owner }!
        other.publish(topic, "m", [("persistent", "true"), ("receipt", "o")])
        broker.run()
        while broker.stepDisk() {}
        #expect(receipts(other) == ["o"])
    }

    @Test("A full log of a topic's owner keeps its reserve for acknowledgements, whoever sends to the topic")
    func full() {
        let topic = "/topic/a"
        let broker = StoreFixture.start(FakeDisk(), shards: 2) {
            $0.storage?.byteCountMax = 6 * StoreFixture.segmentByteCount
        }
        let holder = broker.owner(ofQueue: topic)
        let body = String(repeating: "x", count: 4000)
        let subscriber = broker.connect()
        subscribe(subscriber, topic, id: id(broker, topic, heldBy: holder))
        subscriber.confirmed(.disconnect)
        let live = broker.connect(on: holder)
        live.confirmed(.subscribe, [("destination", topic), ("id", "live")])
        // From now on its owner publishes what is sent to the topic.
        broker.connect().confirmed(.send, [("destination", topic), ("retain", "set")], "first")
        let queue = broker.queueNames(ownedBy: holder)[0]
        let filler = broker.connect(on: holder)
        for _ in 0..<200 { filler.publish(queue, body, [("persistent", "true"), ("receipt", "r")]) }
        filler.expectError("Disk full", receipt: "r")

        var publisher = broker.connect(on: 1 - holder)
        for _ in 0..<100 { publisher.publish(topic, body, [("persistent", "true")]) }
        publisher.expectError("Disk full")
        broker.settle()
        #expect(live.bodies().count == 1)
        let consumer = broker.connect(on: holder)
        consumer.confirmed(.subscribe, [("destination", queue), ("id", "0"), ("ack", "client-individual")])
        var messages = consumer.messages()
        consumer.confirmed(.ack, [("id", messages.removeFirst()["ack"]!)])
        publisher = broker.connect(on: 1 - holder)
        publisher.publish(topic, body, [("persistent", "true"), ("receipt", "r")])
        publisher.expectError("Disk full", receipt: "r")

        while !messages.isEmpty {
            for message in messages { consumer.confirmed(.ack, [("id", message["ack"]!)]) }
            messages = consumer.messages()
        }
        broker.advance(milliseconds: 3000)
        publisher = broker.connect(on: 1 - holder)
        publisher.confirmed(.send, [("destination", topic), ("persistent", "true")], "taken")
    }

    @Test("A COMMIT to a topic with a log waits for all who store something", arguments: [1, 2, 3])
    func commit(shards: Int) {
        for stalled in 0..<shards {
            for stepCount in 0..<16 {
                let (broker, id, owner, publisher) = prepare(.log, shards: shards, publisherIsWithOwner: false)
                broker.disk.stalledShard = (owner + stalled) % shards
                publisher.send(.begin, [("transaction", "t")])
                for destination in ["/topic/log.a", "/queue/q", "/queue/r"] {
                    publisher.publish(destination, "m", [("persistent", "true"), ("transaction", "t")])
                }
                publisher.send(.commit, [("transaction", "t"), ("receipt", "r")])
                broker.run()
                if step(broker, stepCount) {
                    broker.disk.stalledShard = nil
                    _ = step(broker, 60)
                }
                guard receipts(publisher) == ["r"] else { continue }
                check(broker, .log, id, isPromised: true, "\(stepCount) steps")
                let contents = broker.disk.contents(afterPowerCut: true)
                for queue in ["/queue/q", "/queue/r"] { #expect(StoreFixture.bodies(queue, in: contents) == ["m"]) }
            }
        }
    }

    @Test("Messages beyond what the first record of offsets reserves are published without another SEND")
    func burst() {
        let broker = Self.start(FakeDisk(), shards: 1)
        let subscriber = broker.connect()
        subscriber.subscribe("/topic/log.a")
        let publisher = broker.connect()
        broker.holdDisk()
        for number in 0..<700 { publisher.publish("/topic/log.a", "\(number)") }
        broker.run()
        #expect(subscriber.bodies() == [])
        while broker.stepDisk() {}
        #expect(subscriber.bodies() == (0..<700).map(String.init))
    }
}
