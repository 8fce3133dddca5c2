import Journal
import JournalFixtures

/// Reads octets as what happens to a broker on a directory: messages, acknowledgements, transactions, new runs with another
/// number of workers; then, perhaps, what happens to its files. Without damage, recovery has to find what a model knows; with
/// it, nothing that was never there, and nothing that a repair could not end.
enum JournalFuzzer {
    static func check(_ octets: UnsafeRawBufferPointer) -> String? {
        var story = Story(octets)
        story.tell()
        var files = story.files
        let state = recover(files)
        if let fault = RecoveryCheck.fault(of: state, files) ?? story.fault(of: state) { return fault }
        guard story.damage(&files) else { return RecoveryCheck.fault(of: files) }
        let damaged = recover(files)
        for message in damaged.messages where !story.everWritten.contains(message.reference) {
            return "a message that nobody wrote"
        }
        return RecoveryCheck.fault(of: files)
    }
}

/// Octets as decisions.
struct Decisions {
    private var octets: UnsafeRawBufferPointer.SubSequence

    init(_ octets: UnsafeRawBufferPointer) { self.octets = octets[...] }

    var areOver: Bool { octets.isEmpty }

    /// 0 when there are none any more.
    mutating func next(_ count: Int) -> Int { octets.isEmpty ? 0 : Int(octets.removeFirst()) % count }
}

struct Story {
    private var decisions: Decisions
    private var logs: [TestLog] = []
    private var current: [TestLog] = []
    private var life: UInt32 = 0
    private var transactionCount: UInt64 = 0
    /// What lives, by the model.
    private var live: [MessageReference: Model] = [:]
    /// Of the logs of topics, below which number offsets may have been given out.
    private var offsetEnds: [String: UInt64] = [:]
    private(set) var everWritten: Set<MessageReference> = []
    private var all: [MessageReference] = []
    /// When each durable subscription that there is was used last.
    private var subscriptions: [String: UInt64] = [:]

    struct Model: Equatable {
        var queue: String
        var orderKey: UInt64
        var failureCount: UInt16
    }

    init(_ octets: UnsafeRawBufferPointer) { decisions = Decisions(octets) }

    var files: Files { logs.reduce(into: [:]) { $0.merge($1.files) { $1 } } }

    mutating func tell() {
        beginLife()
        for _ in 0..<400 where !decisions.areOver {
            switch decisions.next(13) {
            case 0, 1, 2, 3: send()
            case 4, 5: acknowledge()
            case 6: countFailure()
            case 7, 8: commit()
            case 9: copy()
            case 10: if decisions.next(3) == 2 { reserveOffsets() } else { log.beginSegment() }
            case 12: changeSubscription()
            default:
                if decisions.next(4) == 0 { beginLife() } else { return }
            }
        }
    }

    private mutating func beginLife() {
        if decisions.next(2) == 1 { for log in current { log.endCleanly() } }
        life += UInt32(1 + decisions.next(3))
        let count = 1 + decisions.next(3)
        current = (0..<count).map {
            TestLog(
                life: life, worker: UInt16($0), workerCount: UInt16(count),
                segmentByteCount: 4096 << (life % 2))
        }
        logs += current
    }

    private var log: TestLog { current[0] }

    private func owner(of queue: Int) -> TestLog { current[queue % current.count] }

    private mutating func number() -> Int { decisions.next(5) }

    private mutating func send() {
        let queue = number()
        let size = decisions.next(200)
        let reference = owner(of: queue).append {
            $0.message(String(repeating: "b", count: size), to: "/queue/\(queue)")
        }
        didWrite(reference, queue)
    }

    private mutating func didWrite(_ reference: MessageReference, _ queue: Int) {
        everWritten.insert(reference)
        all.append(reference)
        live[reference] = Model(queue: "/queue/\(queue)", orderKey: reference.position, failureCount: 0)
    }

    /// Some message that was written, perhaps gone.
    private mutating func some() -> (reference: MessageReference, log: TestLog)? {
        guard !all.isEmpty else { return nil }
        let reference = all[(decisions.next(256) * 3 + decisions.next(3)) % all.count]
        let queue = live[reference].flatMap { Int($0.queue.dropFirst(7)) } ?? 0
        return (reference, owner(of: queue))
    }

    private mutating func acknowledge() {
        guard let (reference, log) = some(), live[reference] != nil else { return }
        log.acknowledge(reference)
        live[reference] = nil
    }

    private mutating func reserveOffsets() {
        let topic = number()
        let end = UInt64(decisions.next(256))
        let name = "/topic/\(topic)"
        owner(of: topic).append { writer in
            Array(name.utf8).withUnsafeBytes { writer.write(topicOffsets: $0, below: end) }
        }
        offsetEnds[name] = end
    }

    private mutating func countFailure() {
        guard let (reference, log) = some(), live[reference] != nil else { return }
        let count = UInt16(decisions.next(256))
        log.append { $0.write(failureCount: count, of: reference) }
        live[reference]!.failureCount = count
    }

    private mutating func copy() {
        guard let (reference, log) = some(), let model = live[reference] else { return }
        let copy = log.append { writer in
            writer.message("copy", to: model.queue) {
                $0.flags = [.isCopy, .isPlain]
                $0.original = reference
                $0.orderKey = model.orderKey
                $0.failureCount = model.failureCount
            }
        }
        everWritten.insert(copy)
        all.append(copy)
        live[reference] = nil
        live[copy] = model
    }

    /// A durable subscription is made, used, or ended.
    private mutating func changeSubscription() {
        let number = number()
        let name = "/dsub/id/\(number)/topic/t"
        let lastUsed = decisions.next(4) == 0 ? nil : UInt64(decisions.next(256))
        owner(of: number).append { writer in
            Array(name.utf8).withUnsafeBytes { bytes in
                guard let lastUsed else { return writer.write(subscriptionRemoved: bytes) }
                let topic = UnsafeRawBufferPointer(rebasing: bytes.suffix(8))
                writer.write(
                    subscriptionMade: SubscriptionRecord(name: bytes, topic: topic, dialect: 0, lastUsed: lastUsed))
            }
        }
        subscriptions[name] = lastUsed
    }

    /// A transaction that sends to several queues and acknowledges a message; perhaps some of its parts never came.
    private mutating func commit() {
        transactionCount += 1
        let transaction = UInt64(life) << 44 | transactionCount
        let queues = Set((0..<1 + decisions.next(4)).map { _ in number() }).sorted()
        let owners = Set(queues.map { $0 % current.count }).sorted()
        let isComplete = owners.count == 1 || decisions.next(3) != 0
        let acknowledged = some()
        var written: [(MessageReference, Int)] = []
        for owner in owners.dropLast(isComplete ? 0 : 1) {
            let log = current[owner]
            written += log.append {
                $0.beginPart(transaction: transaction, partCount: UInt16(owners.count))
                var parts: [(MessageReference, Int)] = []
                for queue in queues where queue % current.count == owner {
                    parts.append(($0.message("transaction", to: "/queue/\(queue)"), queue))
                }
                if let acknowledged, acknowledged.log === log { $0.write(acknowledged: acknowledged.reference) }
                $0.endPart()
                return parts
            }
            if isComplete, let acknowledged, acknowledged.log === log { live[acknowledged.reference] = nil }
        }
        everWritten.formUnion(written.map(\.0))
        guard isComplete else { return }
        for (reference, queue) in written { didWrite(reference, queue) }
        guard owners.count > 1 else { return }
        for owner in owners where decisions.next(2) == 0 {
            current[owner].append { $0.write(transactionEnd: transaction) }
        }
    }

    // MARK: The end

    func fault(of state: RecoveredState) -> String? {
        if let finding = state.findings.first { return "damage where there is none: \(finding.description)" }
        var found: [MessageReference: Model] = [:]
        for message in state.messages {
            found[message.reference] = Model(
                queue: String(decoding: state.queues[Int(message.queue)].name, as: UTF8.self),
                orderKey: message.orderKey, failureCount: message.failureCount)
        }
        let ends = state.queues.compactMap { queue in
            queue.offsetEnd.map { (String(decoding: queue.name, as: UTF8.self), $0) }
        }
        if Dictionary(uniqueKeysWithValues: ends) != offsetEnds { return "offsets are \(ends), not \(offsetEnds)" }
        var used: [String: UInt64] = [:]
        for queue in state.queues {
            queue.withSubscription { used[String(decoding: $0.name, as: UTF8.self)] = $0.lastUsed }
        }
        if used != subscriptions { return "durable subscriptions \(used) instead of \(subscriptions)" }
        guard found != live else { return nil }
        let lost = Set(live.keys).subtracting(found.keys)
        let added = Set(found.keys).subtracting(live.keys)
        return "lost \(lost.count), made up \(added.count), of \(live.count)"
    }

    /// Returns false if nothing was damaged.
    mutating func damage(_ files: inout Files) -> Bool {
        let names = files.keys.sorted()
        var isDamaged = false
        while !decisions.areOver {
            let name = names[decisions.next(names.count)]
            guard let count = files[name]?.count, count > 0 else { continue }
            let offset = (decisions.next(256) << 8 | decisions.next(256)) % count
            isDamaged = true
            switch decisions.next(8) {
            case 0: files[name]!.removeLast(count - offset)
            case 1: files[name] = nil
            case 2:
                let start = offset & ~63
                files[name]!.replaceSubrange(start..., with: [UInt8](repeating: 0, count: count - start))
            case 3: files[name] = files[names[decisions.next(names.count)]] ?? []
            default: files[name]![offset] ^= UInt8(1 + decisions.next(255))
            }
        }
        return isDamaged
    }
}
