import Broker
import FakeKernel
import Glibc
import IO
import STOMP
import Testing

/// Segments that go, and what keeps them.
@Suite("Space of the log")
struct StorageSpaceTests {
    private static let persistent = [("persistent", "true")]
    private static let large = String(repeating: "x", count: 4000)

    /// Sends until the broker refuses; returns how many were confirmed.
    private static func fill(_ broker: TestBroker, _ queue: String, most: Int = 1000) -> Int {
        let client = broker.connect()
        for number in 0..<most {
            client.publish(queue, large, persistent + [("receipt", "\(number)")])
            broker.run()
            guard client.takeFrames().last?.command == .receipt else { return number }
        }
        return most
    }

    /// Acknowledges everything in a queue, one by one or the last for all.
    private static func consume(_ broker: TestBroker, _ queue: String, count: Int, cumulatively: Bool = false) {
        let client = broker.connect()
        client.subscribe(queue, ack: cumulatively ? "client" : "client-individual")
        let messages = client.messages()
        #expect(messages.count == count)
        for message in cumulatively ? messages.suffix(1) : messages[...] {
            client.confirmed(.ack, [("id", message["ack"]!)])
        }
        client.hangUp()
        broker.advance(milliseconds: 1_000)
    }

    private static func start(
        _ disk: FakeDisk = FakeDisk(), shards: Int = 1, segments: Int = 0
    ) -> TestBroker {
        StoreFixture.start(disk, shards: shards) {
            $0.storage?.byteCountMax = segments * StoreFixture.segmentByteCount
        }
    }

    @Test("What a quiet worker has of an earlier life does not keep the segments of others", arguments: [1, 40])
    func quietWorker(count: Int) {
        var broker = Self.start(shards: 2)
        let pin = broker.queueNames(ownedBy: 0)[0]
        let work = broker.queueNames(ownedBy: 1)[0]
        let first = broker.connect()
        for number in 0..<count { first.confirmed(.send, [("destination", pin)] + Self.persistent, "\(number)") }
        broker = Self.start(broker.disk.restarted(afterPowerCut: true), shards: 2)
        let client = broker.connect(on: 1)
        client.subscribe(work)
        for _ in 0..<500 {
            client.confirmed(.send, [("destination", work)] + Self.persistent, Self.large)
            _ = client.takeFrames()
        }
        broker.settle()
        #expect(broker.disk.fileNames.count <= 14)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true), shards: 2)
        let consumer = broker.connect()
        consumer.subscribe(pin)
        #expect(consumer.bodies() == (0..<count).map { "\($0)" })
    }

    @Test("At the limit acknowledgements go on, and make room", arguments: [true, false])
    func acknowledgementsAtLimit(cumulatively: Bool) {
        let broker = Self.start(segments: 5)
        #expect(Self.fill(broker, "/queue/a", most: 14) == 14)
        let count = Self.fill(broker, "/queue/b")
        #expect(count > 40)
        Self.consume(broker, "/queue/b", count: count, cumulatively: cumulatively)
        #expect(broker.disk.fileNames.count <= 6)
        #expect(Self.fill(broker, "/queue/c", most: 20) == 20)
        #expect(broker.disk.fileNames.count <= 6)
        let notices = broker.notices.filter { $0.kind == .diskFull }
        #expect(notices.last?.text.contains("there is room for the log again") == true)
    }

    @Test("At the limit one old message does not keep the store full")
    func oldMessageAtLimit() {
        let broker = Self.start(segments: 6)
        broker.connect().confirmed(.send, [("destination", "/queue/pin")] + Self.persistent, "pin")
        for _ in 0..<3 {
            let count = Self.fill(broker, "/queue/a")
            #expect(count > 60)
            Self.consume(broker, "/queue/a", count: count)
        }
        #expect(broker.disk.fileNames.count <= 7)
        #expect(StoreFixture.bodies("/queue/pin", in: broker.disk.contents(afterPowerCut: true)) == ["pin"])
    }

    @Test("On a disk that is full one old message does not keep the store full")
    func oldMessageOnFullDisk() {
        let disk = FakeDisk()
        disk.byteCountMax = 6 * StoreFixture.segmentByteCount
        let broker = Self.start(disk)
        broker.connect().confirmed(.send, [("destination", "/queue/pin")] + Self.persistent, "pin")
        for _ in 0..<3 {
            let count = Self.fill(broker, "/queue/a")
            #expect(count > 60)
            Self.consume(broker, "/queue/a", count: count, cumulatively: true)
        }
    }

    @Test("The limit counts segments of earlier lives while they are there")
    func earlierSegments() {
        var broker = Self.start()
        #expect(Self.fill(broker, "/queue/a", most: 60) == 60)
        #expect(Self.fill(broker, "/queue/b", most: 60) == 60)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true), segments: 10)
        let before = broker.disk.fileNames.count
        Self.consume(broker, "/queue/a", count: 60)
        broker.settle()
        #expect(broker.disk.fileNames.count <= before - 2)
        _ = Self.fill(broker, "/queue/c")
        #expect(broker.disk.fileNames.count == 10)
    }

    @Test("A queue that is drained as it fills uses its segments again, and what they had is never taken for messages")
    func reuse() {
        var broker = Self.start()
        for round in 0..<16 {
            #expect(Self.fill(broker, "/queue/a", most: 15) == 15)
            Self.consume(broker, "/queue/a", count: 15)
            guard round % 4 == 3 else { continue }
            // In the middle of a segment that has older records behind its end.
            broker.connect().confirmed(.send, [("destination", "/queue/b")] + Self.persistent, "\(round)")
            let contents = broker.disk.contents(afterPowerCut: true)
            #expect(StoreFixture.findings(contents).isEmpty)
            #expect(StoreFixture.bodies("/queue/b", in: contents) == ["\(round)"])
            #expect(StoreFixture.bodies("/queue/a", in: contents) == [])
            if round < 15 { Self.consume(broker, "/queue/b", count: 1) }
        }
        let created = broker.disk.log.count { $0 == .createFile }
        let renamed = broker.disk.log.count { $0 == .renameFile }
        #expect(created <= 5 && renamed > 5)
        broker = Self.start(broker.disk.restarted(afterPowerCut: true))
        let consumer = broker.connect()
        consumer.subscribe("/queue/b")
        #expect(consumer.bodies() == ["15"])
    }

    @Test(
        "A store at its limit that is empty takes messages again after a restart", arguments: [2, 3, 4, 5], [1, 2])
    func restartAtLimit(segments: Int, shards: Int) {
        var broker = Self.start(shards: shards, segments: segments)
        for life in 0..<3 {
            for _ in 0..<5 {
                let count = Self.fill(broker, "/queue/a")
                #expect(count > 0, "life \(life)")
                Self.consume(broker, "/queue/a", count: count)
            }
            broker = Self.start(
                broker.disk.restarted(afterPowerCut: life == 1), shards: shards, segments: segments)
            broker.advance(milliseconds: 1_000)
        }
        #expect(broker.disk.fileNames.count <= segments * shards + 1)
    }

    @Test("A segment that cannot be removed is removed later, and the operator hears of it once")
    func removal() {
        let broker = StoreFixture.start(FakeDisk()) { $0.storage?.reusesSegments = false }
        broker.disk.failures = [.init(.deleteFile, EACCES), .init(.deleteFile, EACCES)]
        for _ in 0..<10 {
            #expect(Self.fill(broker, "/queue/a", most: 15) == 15)
            Self.consume(broker, "/queue/a", count: 15)
        }
        #expect(broker.disk.failures.isEmpty)
        #expect(broker.disk.fileNames.count <= 3)
        #expect(broker.notices.filter { $0.text.contains("cannot be removed") }.count == 1)
    }

    @Test("A log at rest ends in a mark: then damage of its last record is no torn write", arguments: [false, true])
    func mark(rests: Bool) {
        let broker = Self.start()
        broker.connect().confirmed(.send, [("destination", "/queue/a")] + Self.persistent, "text")
        let appendCount = { broker.disk.log.filter { $0 == .appendFileDurably }.count }
        let before = appendCount()
        if rests { broker.advance(milliseconds: 60_000) }
        #expect(appendCount() == before + (rests ? 1 : 0))
        let name = broker.disk.fileNames[0]
        let bytes = broker.disk.contents(afterPowerCut: true)[name]!
        let body = Array("text".utf8)
        let place = (0..<bytes.count - 4).first { Array(bytes[$0..<$0 + 4]) == body }!
        broker.disk.corrupt(name, at: place)
        let findings = StoreFixture.findings(broker.disk.contents(afterPowerCut: false))
        #expect(findings.contains { $0.isFatal } == rests)
    }
}
