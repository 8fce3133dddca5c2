import Glibc
import TestSupport
import Testing

extension Scale {
    @Test(
        "150,000 messages through a topic, a queue and an acknowledged queue take no heap allocation each",
        arguments: DriverUnderTest.available)
    func allocations(driver: DriverUnderTest) throws {
        #if DEBUG
            // Unoptimised code allocates for literals of option sets and for loops over ranges, of which there are some
            // in each turn of the broker. One allocation for each message of only one of the three flows would be more.
            let countMax = Flow.messageCount * 4 / 5
        #else
            let countMax = Self.allocationCountMax
        #endif
        let count = try allocationCount(of: BuildDirectory.path(of: "stampede"), driver)
        #expect(count <= countMax, "\(count) allocations")
    }

    @Test(
        "150,000 messages take at most 50 heap allocations in the release build",
        .enabled(if: releaseIsCurrent, "needs an up-to-date `swift build -c release`"),
        arguments: DriverUnderTest.available)
    func releaseAllocations(driver: DriverUnderTest) throws {
        let count = try allocationCount(of: Self.release, driver)
        #expect(count <= Self.allocationCountMax, "\(count) allocations")
    }

    /// A table or an array may still double.
    private static let allocationCountMax = 50

    private static let release = BuildDirectory.path(of: "../release/stampede")

    /// The release build is no older than any source: it is of the same broker as the build under test.
    private static var releaseIsCurrent: Bool {
        guard let built = modificationSeconds(release) else { return false }
        var sources = glob_t()
        defer { globfree(&sources) }
        for (index, pattern) in ["*/*.swift", "*/*/*.swift", "*/*.c", "*/include/*.h"].enumerated() {
            glob("\(BuildDirectory.package)/Sources/\(pattern)", index == 0 ? 0 : GLOB_APPEND, nil, &sources)
        }
        return (0..<Int(sources.gl_pathc)).allSatisfy { index in
            modificationSeconds(String(cString: sources.gl_pathv[index]!)).map { $0 <= built } ?? false
        }
    }

    private static func modificationSeconds(_ path: String) -> Int? {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mtim.tv_sec : nil
    }

    private func allocationCount(of program: String, _ driver: DriverUnderTest) throws -> Int {
        let broker = try CountedBroker(program, BrokerProcess.Settings(driver))
        let client = LoadClient(port: broker.port)
        let flows = [
            Flow(destination: "/topic/steady", subscriberCount: 4, ack: "auto"),
            Flow(destination: "/queue/steady", subscriberCount: 1, ack: "auto"),
            Flow(destination: "/queue/acknowledged", subscriberCount: 1, ack: "client-individual"),
        ]
        for flow in flows { try flow.open(client) }
        // Tables grow, buffers are given out and connections find their way of receiving.
        for flow in flows { try flow.carry(10_000, client) }
        let before = try broker.allocationCount()
        for flow in flows { try flow.carry(Flow.messageCount, client) }
        return try broker.allocationCount() - before
    }
}

/// One publisher and its subscribers.
private final class Flow {
    private let destination: String
    private let subscriberCount: Int
    private let ack: String
    private var publisher = 0
    private var readyCount = 0
    private var deliveredCount = 0
    private var acknowledgedCount = 0

    static let messageCount = 50_000
    /// Messages under way at a time: enough to fill the broker's batches, too few for it to slow the publisher.
    private static let window = 256

    init(destination: String, subscriberCount: Int, ack: String) {
        self.destination = destination
        self.subscriberCount = subscriberCount
        self.ack = ack
    }

    private var acknowledges: Bool { ack != "auto" }

    func open(_ client: LoadClient) throws {
        publisher = try client.open()
        for _ in 0..<subscriberCount {
            let subscriber = try client.open()
            client.enqueue(
                "SUBSCRIBE\nid:0\ndestination:\(destination)\nack:\(ack)\nreceipt:ready\n\n\0", on: subscriber)
        }
        try client.run(until: { readyCount == subscriberCount }) { try take($1, $0, client) }
    }

    /// Publishes `count` messages and waits until each has reached everyone, and is acknowledged where it has to be.
    func carry(_ count: Int, _ client: LoadClient) throws {
        let message = "SEND\ndestination:\(destination)\n\nsteady\0"
        deliveredCount = 0
        acknowledgedCount = 0
        var sentCount = 0
        try client.run(until: {
            let settled = acknowledges ? acknowledgedCount : deliveredCount / subscriberCount
            let room = min(count, settled + Self.window) - sentCount
            // In batches, as a publisher's own buffer would.
            if room >= min(Self.window / 2, count - sentCount), room > 0 {
                client.enqueue(String(repeating: message, count: room), on: publisher)
                sentCount += room
            }
            return settled == count
        }) { try take($1, $0, client) }
    }

    private func take(_ frame: LoadFrame, _ connection: Int, _ client: LoadClient) throws {
        switch frame.kind {
        case .connected: break
        case .message:
            deliveredCount += 1
            guard acknowledges else { break }
            let id = try #require(frame.header("ack"))
            client.enqueue("ACK\nid:", on: connection)
            client.enqueue(id, on: connection)
            client.enqueue("\nreceipt:ack\n\n\0", on: connection)
        case .receipt:
            if readyCount < subscriberCount { readyCount += 1 } else { acknowledgedCount += 1 }
        case .error: throw Failure(frame.text, at: Place(#fileID, #line))
        }
    }
}
