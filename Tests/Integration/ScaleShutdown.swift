import Glibc
import TestSupport
import Testing

extension Scale {
    @Test(
        "SIGTERM under load: every receipted message was delivered or is reported, and the broker exits with 0",
        arguments: DriverUnderTest.available, workerCounts)
    func shutdownUnderLoad(driver: DriverUnderTest, workers: Int) throws {
        // One of the consumers never acknowledges, so the drain takes all of its time.
        let settings = BrokerProcess.Settings(
            driver, workers: workers, ["limits.drain-timeout-ms": "1s"], logFormat: "json")
        let broker = try BrokerProcess(settings)
        let traffic = try ShutdownTraffic(broker.port)
        try traffic.flow(untilReceipts: 20_000)
        broker.process.signal(SIGTERM)
        try traffic.flowToTheEnd()
        #expect(try broker.process.waitForExit() == .exited(0))
        try traffic.judge(reported: try reportedCounts(broker.process.errorLines))
    }

    /// For each queue the messages that the log says are lost.
    private func reportedCounts(_ lines: [String]) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for line in lines where line.contains(#""message":"undelivered messages are lost""#) {
            let queue = try #require(line.firstMatch(of: /"queue":"([^"]+)"/))
            let count = try #require(line.firstMatch(of: /"messages":(\d+)/).flatMap { Int($0.1) })
            try #require(counts.updateValue(count, forKey: String(queue.1)) == nil, "reported twice: \(line)")
        }
        return counts
    }
}

/// Publishers that want a receipt for each message, and consumers of all kinds.
private final class ShutdownTraffic {
    private enum Consumption {
        case automatic
        case acknowledged
        /// Takes what its prefetch window allows and keeps it unacknowledged.
        case kept
    }

    private struct Destination {
        var name: String
        var consumption: Consumption
        var consumerCount: Int
        var isTopic: Bool { name.hasPrefix("/topic/") }
    }

    private struct Publisher {
        var connection: Int
        var destination: Int
        var sentCount = 0
        var receiptedCount = 0
    }

    private struct Consumer {
        var destination: Int
        var isReady = false
        /// For each publisher the messages that came, by number.
        var deliveries: [[Int]]
    }

    private static let destinations = [
        Destination(name: "/queue/busy", consumption: .automatic, consumerCount: 2),
        Destination(name: "/queue/acknowledged", consumption: .acknowledged, consumerCount: 2),
        Destination(name: "/queue/kept", consumption: .kept, consumerCount: 1),
        Destination(name: "/queue/forgotten", consumption: .automatic, consumerCount: 0),
        Destination(name: "/topic/news", consumption: .automatic, consumerCount: 4),
        Destination(name: "/topic/sport", consumption: .automatic, consumerCount: 4),
    ]
    private static let publishersPerDestination = 2
    private static let window = 32

    private let client: LoadClient
    private var publishers: [Publisher] = []
    private var publisherOfConnection: [Int: Int] = [:]
    private var consumers: [Int: Consumer] = [:]
    private var receiptCount = 0
    private var isShuttingDown = false

    init(_ port: UInt16) throws {
        client = LoadClient(port: port)
        let publisherCount = Self.destinations.count * Self.publishersPerDestination
        for (index, destination) in Self.destinations.enumerated() {
            let ack = destination.consumption == .automatic ? "auto" : "client-individual"
            for _ in 0..<destination.consumerCount {
                let connection = try client.open()
                consumers[connection] = Consumer(
                    destination: index, deliveries: Array(repeating: [], count: publisherCount))
                client.enqueue(
                    "SUBSCRIBE\nid:0\ndestination:\(destination.name)\nack:\(ack)\nreceipt:0\n\n\0", on: connection)
            }
        }
        try client.run(until: { consumers.values.allSatisfy { $0.isReady } }) { try take($1, $0) }
        for index in 0..<publisherCount {
            let connection = try client.open()
            publisherOfConnection[connection] = index
            publishers.append(Publisher(connection: connection, destination: index % Self.destinations.count))
            for _ in 0..<Self.window { publishNext(index) }
        }
    }

    func flow(untilReceipts count: Int) throws {
        try client.run(until: { receiptCount >= count }) { try take($1, $0) }
    }

    /// Goes on publishing and consuming until the broker has closed all connections.
    func flowToTheEnd() throws {
        isShuttingDown = true
        client.toleratesEnds = true
        try client.run(until: { client.openCount == 0 }) { try take($1, $0) }
    }

    /// - Parameter reported: For each queue how many messages the broker says are lost.
    func judge(reported: [String: Int]) throws {
        for (index, publisher) in publishers.enumerated() where Self.destinations[publisher.destination].isTopic {
            for consumer in consumers.values where consumer.destination == publisher.destination {
                let deliveries = consumer.deliveries[index]
                let isGapless = deliveries.elementsEqual(0..<deliveries.count)
                #expect(isGapless, "a message is missing, doubled or out of order")
                #expect(deliveries.count >= publisher.receiptedCount, "a subscriber lacks receipted messages")
            }
        }
        for (index, destination) in Self.destinations.enumerated() where !destination.isTopic {
            var missingCount = 0
            var sentCount = 0
            for (number, publisher) in publishers.enumerated() where publisher.destination == index {
                let deliveries = consumers.values.flatMap { $0.deliveries[number] }
                let distinct = Set(deliveries)
                #expect(distinct.count == deliveries.count, "\(destination.name) delivered a message twice")
                missingCount += (0..<publisher.receiptedCount).count { !distinct.contains($0) }
                sentCount += publisher.sentCount
            }
            let reportedCount = reported[destination.name, default: 0]
            #expect(missingCount <= reportedCount, "\(destination.name): fewer are reported than are missing")
            #expect(reportedCount <= sentCount)
            if destination.consumerCount == 0 { #expect(missingCount > 0, "nothing was lost: the test is void") }
        }
    }

    private func publishNext(_ index: Int) {
        let publisher = publishers[index]
        client.enqueue(
            """
            SEND
            destination:\(Self.destinations[publisher.destination].name)
            receipt:\(publisher.sentCount)

            \(index * Self.messagesPerPublisherMax + publisher.sentCount)\0
            """, on: publisher.connection)
        publishers[index].sentCount += 1
    }

    /// A body is its publisher's index times this, plus the message's number.
    private static let messagesPerPublisherMax = 1_000_000

    private func take(_ frame: LoadFrame, _ connection: Int) throws {
        switch frame.kind {
        case .connected: break
        case .receipt:
            guard let index = publisherOfConnection[connection] else {
                consumers[connection]?.isReady = true
                return
            }
            let number = try #require(frame.number(in: "receipt-id"))
            try #require(number == publishers[index].receiptedCount, "receipts come in the order of their frames")
            publishers[index].receiptedCount += 1
            receiptCount += 1
            publishNext(index)
        case .message:
            let body = try #require(LoadFrame.decimal(frame.body))
            let (index, number) = body.quotientAndRemainder(dividingBy: Self.messagesPerPublisherMax)
            consumers[connection]!.deliveries[index].append(number)
            guard Self.destinations[consumers[connection]!.destination].consumption == .acknowledged else { return }
            client.enqueue("ACK\nid:", on: connection)
            client.enqueue(try #require(frame.header("ack")), on: connection)
            client.enqueue("\n\n\0", on: connection)
        case .error:
            // A publisher is told why its connection ends.
            guard isShuttingDown, publisherOfConnection[connection] != nil else {
                throw Failure(frame.text, at: Place(#fileID, #line))
            }
        }
    }
}
