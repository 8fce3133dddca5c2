import Broker
import IO
import Journal

/// A message that recovery found on the disk.
struct FoundMessage {
    /// Of `Oracle.messages`; -1: it has none.
    var number: Int
    var queue: String
    var isRedelivered: Bool
    /// It waits for its time.
    var isDelayed = false
}

// What the server does before the first turn of its shards: it reads what earlier lives left, and hands it over.
extension Simulation {
    /// Reads the disk, judges what is there, and makes the shards of the next life with it.
    func beginLife() {
        guard let disk, let storage = scenario.storage else { return makeShards(scenario.optionsOfBroker(canary)) }
        let directory = StorageScenario.directory
        // What is read now is relied on from now on, so it has to outlive the next crash, too.
        if canary != .recoverUnsynced { disk.syncEverything() }
        if canary == .believeOldRecords { plantOldRecord() }
        var names = disk.names(in: directory).compactMap(SegmentName.init(fileName:)).sorted()
        if canary == .loseSegment, names.count > 1, strikesCanary(oneIn: 2) { names.removeLast() }
        var recovery = Recovery(idsSince: 0)
        if log != nil { for name in names { logRecords(of: name) } }
        for name in names { disk.withBytes(of: name.description, in: directory) { recovery.read(name, $0) } }
        var state = recovery.finish()
        if let finding = state.findings.first(where: \.isFatal) {
            return oracle.violate("the broker does not start: \(finding.description)")
        }
        flipBits(of: names, state)
        if lifeBegun > state.lifeMax {
            // A life has begun, and may have delivered what it was given, that came to no log of its own.
            state.live.redeliveredLifeMax = lifeBegun
        }
        lifeBegun = max(lifeBegun, state.lifeMax) + 1
        let all = state.messages.filter { !$0.isRetained }.map { found($0, state) }
        oracle.recovered(all.filter { !$0.queue.hasPrefix("/dsub/") })
        if scenario.hasDurables {
            let names = state.queues.filter(\.isDurableSubscription).map { String(decoding: $0.name, as: UTF8.self) }
            oracle.recovered(Set(names), all, of: durables)
        }
        if let log { log("\(moment) life \(lifeBegun) begins with \(state.liveMessageCount) messages") }
        if hasFailed { return }
        var options = scenario.optionsOfBroker(canary)
        // Names of temporary destinations differ from life to life.
        options.seed ^= random.next()
        options.storage = storage.options(life: lifeBegun, state)
        makeShards(options)
        restore(state)
    }

    private func restore(_ state: RecoveredState) {
        for queue in state.queues where queue.isDurableSubscription {
            let owner = owner(of: queue.name)
            for index in 0..<scenario.shardCount {
                if canary == .forgetInterest, index != owner, strikesCanary(oneIn: 2) { continue }
                queue.withSubscription {
                    let outcome = shards[index].restore($0)
                    if outcome != .restored { oracle.violate("shard \(index) restores no subscription: \(outcome)") }
                }
            }
        }
        for queue in state.queues where queue.isMade {
            let owner = owner(of: queue.name)
            queue.withRecord {
                let outcome = shards[owner].restore($0)
                if outcome != .restored { oracle.violate("shard \(owner) does not restore a queue: \(outcome)") }
            }
        }
        for topic in state.queues {
            guard let end = topic.offsetEnd, canary != .reuseOffsets || !strikesCanary(oneIn: 2) else { continue }
            let owner = owner(of: topic.name)
            let outcome = topic.name.withUnsafeBytes { shards[owner].restore(topicName: $0, offsetEnd: end) }
            if outcome != .restored { oracle.violate("shard \(owner) does not restore a log: \(outcome)") }
        }
        for id in state.ids.sorted(by: { $0.acceptedAt < $1.acceptedAt }) where canary != .forgetIDs {
            shards[owner(of: id.destination)].restore(id)
        }
        for message in inOrder(state) {
            let name = state.queues[Int(message.queue)].name
            let owner = owner(of: name)
            if canary == .forgetCold, hasCold(name, owner), strikesCanary(oneIn: 4) { continue }
            if let outcome = name.withUnsafeBytes({ shards[owner].restoreCold(message, queueName: $0) }) {
                disk?.count(.messageRestoredCold)
                if outcome != .restored { oracle.violate("shard \(owner) leaves no message on the disk: \(outcome)") }
                continue
            }
            withRecord(of: message, state) { record in
                if canary == .loseDelayed, record.flags.contains(.isDelayed) { return }
                for index in 0..<scenario.shardCount where index == owner || message.isRetained {
                    let outcome = shards[index].restore(RecoveredMessage(reference: message.reference, record: record))
                    if outcome != .restored { oracle.violate("shard \(index) does not restore a message: \(outcome)") }
                }
            }
        }
        shards[0].restore(transactions: state.unsealedTransactions)
    }

    /// All records of a segment, up to the first place where none is.
    private func logRecords(of name: SegmentName) {
        disk!.withBytes(of: name.description, in: StorageScenario.directory) { bytes in
            var end = 0
            while let record = try? RecordReader.read(bytes, at: end, position: nil, worker: name.worker, magic: nil) {
                var text = "\(name) \(end) \(record.type)"
                switch record.type {
                case .message:
                    let content = UnsafeRawBufferPointer(
                        start: record.message.content, count: record.message.headersByteCount)
                    text += " \(record.position) \(readable(record.message.queueName)) \(readable(content))"
                case .acknowledgement:
                    for place in 0..<record.referenceCount {
                        let one = record.reference(at: place)
                        text += " \(one.position)/\(one.worker)"
                    }
                case .transactionPart: text += " \(record.transaction) of \(record.partCount), \(record.detail) bytes"
                case .mark: text += " durable \(record.detail) first \(record.firstSequence)"
                default: text += " \(record.detail)"
                }
                log?(text)
                end += record.byteCount
            }
        }
    }

    /// What the oracle calls it.
    private func modelName(_ name: [UInt8]) -> String {
        let text = String(decoding: name, as: UTF8.self)
        return scenario.hosts == nil ? text : HostScenario.name(ofCanonical: text)
    }

    private func owner(of queue: [UInt8]) -> Int {
        queue.withUnsafeBytes { Shard.owner(ofQueue: $0, shardCount: scenario.shardCount) }
    }

    /// The record of a message that lives, as recovery has it.
    private func withRecord(of message: LiveMessage, _ state: RecoveredState, _ body: (MessageRecord) -> Void) {
        let segment = state.segments[Int(message.segment)]
        disk!.withBytes(of: segment.name.description, in: StorageScenario.directory) { bytes in
            let offset = JournalFormat.offset(of: message.position) - Int(segment.name.sequence) * segment.byteCount
            guard
                let record = try? RecordReader.read(
                    bytes, at: offset, position: message.position, worker: message.worker, magic: segment.recordMagic)
            else { return oracle.violate("recovery found a message at \(offset) of \(segment.name), where none is") }
            var content = record.message
            content.orderKey = message.orderKey
            content.failureCount = message.failureCount
            if message.isRedelivered { content.flags.insert(.isRedelivered) }
            body(content)
        }
    }

    private func found(_ message: LiveMessage, _ state: RecoveredState) -> FoundMessage {
        var found = FoundMessage(
            number: -1, queue: modelName(state.queues[Int(message.queue)].name),
            isRedelivered: message.isRedelivered)
        withRecord(of: message, state) { record in
            found.isDelayed = record.flags.contains(.isDelayed)
            let headers = UnsafeRawBufferPointer(start: record.content, count: record.headersByteCount)
            for line in headers.split(separator: 10) where line.starts(with: "x-number:".utf8) {
                found.number = Int(String(decoding: line.dropFirst(9), as: UTF8.self)) ?? -1
            }
        }
        return found
    }
}

// MARK: - Planted bugs

extension Simulation {
    private func hasCold(_ queue: [UInt8], _ owner: Int) -> Bool {
        shards[owner].coldCounts(ofQueue: String(decoding: queue, as: UTF8.self)).cold > 0
    }

    /// What lives, in the order of queues; or not.
    private func inOrder(_ state: RecoveredState) -> [LiveMessage] {
        var messages: [LiveMessage] = []
        state.live.forEach { messages.append($0) }
        guard canary == .disorderCold else { return messages }
        for place in messages.indices.dropFirst()
        where messages[place].queue == messages[place - 1].queue && strikesCanary(oneIn: 3) {
            messages.swapAt(place, place - 1)
        }
        return messages
    }

    /// Behind the end of a log an old message follows, as if it had been written there in this life.
    private func plantOldRecord() {
        let directory = StorageScenario.directory
        let names = disk!.names(in: directory).compactMap(SegmentName.init(fileName:)).sorted()
        guard let name = names.last, strikesCanary(oneIn: 2) else { return }
        let base = JournalFormat.position(
            life: name.life, offset: Int(name.sequence) * scenario.storage!.segmentByteCount)
        var planted: [UInt8] = []
        var end = 0
        disk!.withBytes(of: name.description, in: directory) { bytes in
            var old: MessageRecord?
            var magic = JournalFormat.magic
            var position: UInt64 { base + UInt64(end / JournalFormat.unitByteCount) }
            while let record = try? RecordReader.read(
                bytes, at: end, position: position, worker: name.worker, magic: magic)
            {
                if record.type == .segmentHeader { magic = record.segmentHeader.recordMagic }
                if record.type == .message { old = old ?? record.message }
                end += record.byteCount
            }
            guard let old, end + old.recordByteCount <= bytes.count else { return }
            planted = [UInt8](repeating: 0, count: old.recordByteCount)
            planted.withUnsafeMutableBytes { target in
                var writer = RecordWriter(
                    at: target.baseAddress!, byteCountMax: target.count, position: position, worker: name.worker,
                    magic: magic)
                _ = writer.write(old)
            }
        }
        if !planted.isEmpty { disk!.overwrite(name.description, in: directory, with: planted, at: end) }
    }
}

extension StorageScenario {
    func options(life: UInt32, _ state: RecoveredState) -> StorageOptions {
        var options = StorageOptions(directory: Array(Self.directory.utf8), life: life)
        options.segmentByteCount = segmentByteCount
        options.earlier = EarlierSegments(state.segments, redeliveredLifeMax: state.live.redeliveredLifeMax)
        options.cold = cold
        options.commit = commit
        options.blockByteCount = blockByteCount
        options.onError = onError
        options.reusesSegments = reusesSegments
        options.recordMagic = 0x9E37_79B9 &* life
        return options
    }
}
