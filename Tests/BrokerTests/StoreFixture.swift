import Broker
import FakeKernel
import Journal
import Testing

/// A broker with a store, and what is left of it.
struct StoreFixture {
    /// Small, so that a test goes through several.
    static let segmentByteCount = 1 << 16

    /// Starts a broker on a disk: the next life, with what the last one left.
    ///
    /// - Parameter judge: told what became of each message.
    static func start(
        _ disk: FakeDisk, shards: Int = 1, sourceLocation: SourceLocation = #_sourceLocation,
        _ change: (inout BrokerOptions) -> Void = { _ in },
        judge: (RestoreOutcome) -> Void = { #expect($0 == .restored) }
    ) -> TestBroker {
        let contents = disk.contents(afterPowerCut: false)
        let state = recover(contents, sourceLocation)
        let options = TestBroker.options {
            var storage = StorageOptions(directory: Array("/store".utf8), life: state.lifeMax + 1)
            storage.segmentByteCount = segmentByteCount
            storage.recordMagic = JournalFormat.magic
            storage.earlier = EarlierSegments(
                state.segments, redeliveredLifeMax: state.live.redeliveredLifeMax)
            $0.storage = storage
            change(&$0)
        }
        let broker = TestBroker(shards: shards, disk: disk, options)
        restore(state, contents, to: broker, judge)
        return broker
    }

    private static func restore(
        _ state: RecoveredState, _ contents: [String: [UInt8]], to broker: TestBroker, _ judge: (RestoreOutcome) -> Void
    ) {
        let shardCount = broker.kernel.shardCount
        let owners = state.queues.map { queue in
            queue.name.withUnsafeBytes { Shard.owner(ofQueue: $0, shardCount: shardCount) }
        }
        for queue in state.queues {
            queue.withSubscription { record in
                for index in 0..<shardCount {
                    let outcome = broker.shard(index).pointee.restore(record)
                    #expect(outcome == .restored)
                }
            }
        }
        for (queue, owner) in zip(state.queues, owners) {
            queue.withRecord {
                let outcome = broker.shard(owner).pointee.restore($0)
                #expect(outcome == .restored)
            }
            if let end = queue.offsetEnd {
                let outcome = queue.name.withUnsafeBytes {
                    broker.shard(owner).pointee.restore(topicName: $0, offsetEnd: end)
                }
                #expect(outcome == .restored)
            }
        }
        state.live.forEach { message in
            let name = state.queues[Int(message.queue)].name
            let shard = broker.shard(owners[Int(message.queue)])
            if let outcome = name.withUnsafeBytes({ shard.pointee.restoreCold(message, queueName: $0) }) {
                #expect(outcome == .restored)
                return
            }
            withRecord(of: message, state, contents) {
                let owner = owners[Int(message.queue)]
                for index in 0..<shardCount where index == owner || message.isRetained {
                    judge(
                        broker.shard(index).pointee.restore(
                            RecoveredMessage(reference: message.reference, record: $0)))
                }
            }
        }
        for id in state.ids.sorted(by: { $0.acceptedAt < $1.acceptedAt }) {
            let owner = id.destination.withUnsafeBytes { Shard.owner(ofQueue: $0, shardCount: shardCount) }
            broker.shard(owner).pointee.restore(id)
        }
        broker.shard(0).pointee.restore(transactions: state.unsealedTransactions)
    }

    private static func withRecord(
        of message: LiveMessage, _ state: RecoveredState, _ contents: [String: [UInt8]],
        _ body: (MessageRecord) -> Void
    ) {
        let name = state.segments[Int(message.segment)].name
        contents["\(name)"]!.withUnsafeBytes { bytes in
            let offset = JournalFormat.offset(of: message.position) - Int(name.sequence) * segmentByteCount
            guard
                let found = try? RecordReader.read(
                    bytes, at: offset, position: message.position, worker: message.worker)
            else {
                Issue.record("a message that lives is not where it was found")
                return
            }
            var record = found.message
            record.failureCount = message.failureCount
            record.orderKey = message.orderKey
            if message.isRedelivered { record.flags.insert(.isRedelivered) }
            body(record)
        }
    }

    /// What recovery makes of the files.
    static func recover(_ contents: [String: [UInt8]], _ sourceLocation: SourceLocation) -> RecoveredState {
        let state = read(contents)
        for finding in state.findings where finding.isFatal {
            Issue.record("\(finding)", sourceLocation: sourceLocation)
        }
        return state
    }

    static func findings(_ contents: [String: [UInt8]]) -> [RecoveryFinding] { read(contents).findings }

    private static func read(_ contents: [String: [UInt8]]) -> RecoveredState {
        var recovery = Recovery(idsSince: 0)
        for (name, text) in contents.keys.compactMap({ text in SegmentName(fileName: text).map { ($0, text) } }).sorted(
            by: { $0.0 < $1.0 })
        {
            contents[text]!.withUnsafeBytes { recovery.read(name, $0) }
        }
        return recovery.finish()
    }

    /// Bodies of the messages that live in a queue, in order, as a broker that starts on these files would have them.
    static func bodies(
        _ queue: String, in contents: [String: [UInt8]], sourceLocation: SourceLocation = #_sourceLocation
    ) -> [String] {
        let state = recover(contents, sourceLocation)
        var bodies: [String] = []
        for message in state.messages where state.queues[Int(message.queue)].name == Array(queue.utf8) {
            withRecord(of: message, state, contents) { record in
                let body = UnsafeRawBufferPointer(
                    start: record.content + record.headersByteCount + 1, count: record.bodyByteCount)
                bodies.append(String(decoding: body, as: UTF8.self))
            }
        }
        return bodies
    }
}

extension TestBroker {
    var disk: FakeDisk { kernel.disk! }

    /// Carries out the next file operation and runs. False: there is none.
    func stepDisk(sourceLocation: SourceLocation = #_sourceLocation) -> Bool {
        guard kernel.stepDisk() else { return false }
        run(sourceLocation: sourceLocation)
        return true
    }

    /// What nobody waits for is on the disk, too.
    func settle(sourceLocation: SourceLocation = #_sourceLocation) {
        advance(milliseconds: 10, sourceLocation: sourceLocation)
    }

    /// From now on file operations wait for `stepDisk`.
    func holdDisk() {
        run()
        disk.isHeld = true
    }
}
