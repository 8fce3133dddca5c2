import Glibc
import TestSupport
import Testing

extension Scale {
    @Test(
        "A queue whose 8 consumers die at random has every message acknowledged exactly once, or still has it",
        arguments: DriverUnderTest.available, workerCounts)
    func dyingConsumers(driver: DriverUnderTest, workers: Int) throws {
        // A message may be delivered to any number of consumers that die.
        let settings = BrokerProcess.Settings(
            driver, workers: workers, file: "destinations: [{match: \"/queue/#\", deliveries-max: 0}]\n")
        let broker = try BrokerProcess(settings)
        let run = try DyingConsumers(broker.port, seed: UInt64(workers))
        try run.work()
        try run.collectTheRest()
        broker.process.signal(SIGTERM)
        try run.readToTheEnd()
        #expect(try broker.process.waitForExit() == .exited(0))
        // The broker knows of no other message.
        #expect(!broker.process.errorLines.contains { $0.contains("undelivered") })
        try run.judge()
    }
}

/// Publishers with receipts, consumers that acknowledge with receipts and die, and a ledger of what became of each
/// message.
private final class DyingConsumers {
    private static let messageCount = 20_000
    private static let publisherCount = 4
    private static let publisherWindow = 50
    private static let consumerCount = 8
    private static let prefetchCount = 16
    /// One of so many deliveries kills its consumer.
    private static let deliveriesPerDeath = 400
    /// When so many are acknowledged, the consumers stop: what they hold then and what they never got is still queued.
    /// Less than can be in doubt or held remains: each death leaves at most a prefetch window in doubt.
    private static let acknowledgedCountMin = 18_000

    private struct Consumer {
        /// Deliveries that are not acknowledged yet.
        var held: [(message: Int, ack: [UInt8])] = []
        /// Messages whose ACK is sent and whose RECEIPT has not come.
        var awaited: Set<Int> = []
    }

    private struct Message {
        var isReceipted = false
        var wasDelivered = false
        var acknowledgedCount = 0
        /// The consumer died before it knew whether its ACK had arrived.
        var isInDoubt = false
        /// The connection that it was delivered to and that did not acknowledge it.
        var holder: Int?
        var collectedCount = 0
    }

    private let client: LoadClient
    private let destination = unique("/queue/dying")
    private var generator: SplitMix
    private var messages = [Message](repeating: Message(), count: messageCount)
    private var publishers: [Int] = []
    private var sentCounts = [Int](repeating: 0, count: publisherCount)
    private var consumers: [Int: Consumer] = [:]
    private var collector: Int?
    private var receiptedCount = 0
    private var acknowledgedCount = 0
    private var deathCount = 0

    init(_ port: UInt16, seed: UInt64) throws {
        client = LoadClient(port: port)
        generator = SplitMix(seed: seed)
        for _ in 0..<Self.consumerCount { try openConsumer() }
        for publisher in 0..<Self.publisherCount {
            publishers.append(try client.open())
            for _ in 0..<Self.publisherWindow { publishNext(publisher) }
        }
    }

    /// Publishes everything while consumers die.
    func work() throws {
        try client.run(until: {
            receiptedCount == Self.messageCount && acknowledgedCount >= Self.acknowledgedCountMin
        }) { try take($1, $0) }
        #expect(deathCount >= Self.acknowledgedCountMin / Self.deliveriesPerDeath / 2, "too few deaths to matter")
    }

    /// Lets all consumers die and reads from the queue until each message has come that must still be there.
    func collectTheRest() throws {
        for consumer in consumers.keys { die(consumer) }
        let connection = try client.open()
        collector = connection
        client.enqueue("SUBSCRIBE\nid:0\ndestination:\(destination)\n\n\0", on: connection)
        do {
            try client.run(until: { missingCount == 0 }) { try take($1, $0) }
        } catch {
            throw Failure("\(missingCount) messages are missing: \(error)", at: Place(#fileID, #line))
        }
    }

    /// Reads what comes until the broker has closed all connections.
    func readToTheEnd() throws {
        client.toleratesEnds = true
        try client.run(until: { client.openCount == 0 }) { try take($1, $0) }
    }

    func judge() throws {
        for (number, message) in messages.enumerated() {
            #expect(message.acknowledgedCount <= 1, "message \(number) was acknowledged twice")
            switch message.collectedCount {
            case 0: #expect(!mustBeQueued(message), "message \(number) is lost")
            case 1: #expect(message.acknowledgedCount == 0, "message \(number) was acknowledged and is still queued")
            default: #expect(Bool(false), "message \(number) was queued \(message.collectedCount) times")
            }
        }
    }

    private var missingCount: Int { messages.count { mustBeQueued($0) && $0.collectedCount == 0 } }

    private func mustBeQueued(_ message: Message) -> Bool { message.acknowledgedCount == 0 && !message.isInDoubt }

    // MARK: What arrives

    private func take(_ frame: LoadFrame, _ connection: Int) throws {
        switch frame.kind {
        case .connected: break
        case .message: try takeMessage(frame, connection)
        case .receipt: try takeReceipt(frame, connection)
        case .error: throw Failure(frame.text, at: Place(#fileID, #line))
        }
    }

    private func takeReceipt(_ frame: LoadFrame, _ connection: Int) throws {
        let number = try #require(frame.number(in: "receipt-id"))
        if let publisher = publishers.firstIndex(of: connection) {
            #expect(!messages[number].isReceipted)
            messages[number].isReceipted = true
            receiptedCount += 1
            publishNext(publisher)
        } else {
            #expect(consumers[connection]?.awaited.remove(number) != nil)
            messages[number].acknowledgedCount += 1
            messages[number].holder = nil
            acknowledgedCount += 1
        }
    }

    private func takeMessage(_ frame: LoadFrame, _ connection: Int) throws {
        let number = try #require(LoadFrame.decimal(frame.body))
        let message = messages[number]
        try #require(message.acknowledgedCount == 0, "message \(number) came after the RECEIPT of its ACK")
        try #require(message.holder == nil, "message \(number) is at \(connection) while \(message.holder ?? 0) has it")
        let isRedelivered = frame.header("redelivered")?.elementsEqual("true".utf8) ?? false
        try #require(!message.wasDelivered || isRedelivered, "message \(number) came again and does not say so")
        messages[number].wasDelivered = true
        if connection == collector {
            messages[number].collectedCount += 1
            return
        }
        messages[number].holder = connection
        let ack = Array(try #require(frame.header("ack")))
        consumers[connection]!.held.append((number, ack))
        if Int.random(in: 0..<Self.deliveriesPerDeath, using: &generator) == 0 {
            die(connection)
            deathCount += 1
            return try openConsumer()
        }
        // In any order, and some of them late.
        let keptCount = Int.random(in: 0..<Self.prefetchCount / 2, using: &generator)
        while consumers[connection]!.held.count > keptCount { acknowledgeAny(connection) }
    }

    // MARK: What is sent

    private func publishNext(_ publisher: Int) {
        let number = sentCounts[publisher] * Self.publisherCount + publisher
        guard number < Self.messageCount else { return }
        sentCounts[publisher] += 1
        client.enqueue("SEND\ndestination:\(destination)\nreceipt:\(number)\n\n\(number)\0", on: publishers[publisher])
    }

    private func openConsumer() throws {
        let connection = try client.open()
        consumers[connection] = Consumer()
        client.enqueue(
            """
            SUBSCRIBE
            id:0
            destination:\(destination)
            ack:client-individual
            prefetch-count:\(Self.prefetchCount)

            \0
            """, on: connection)
    }

    private func acknowledgeAny(_ connection: Int) {
        let index = Int.random(in: 0..<consumers[connection]!.held.count, using: &generator)
        let (number, ack) = consumers[connection]!.held.remove(at: index)
        consumers[connection]!.awaited.insert(number)
        client.enqueue("ACK\nid:\(String(decoding: ack, as: UTF8.self))\nreceipt:\(number)\n\n\0", on: connection)
    }

    private func die(_ connection: Int) {
        client.abandon(connection)
        let consumer = consumers.removeValue(forKey: connection)!
        for (number, _) in consumer.held { messages[number].holder = nil }
        for number in consumer.awaited {
            messages[number].holder = nil
            messages[number].isInDoubt = true
        }
    }
}

/// A generator with a seed: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
private struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
