import Drivers
import IO
import Slabs
import Testing

@testable import Load

/// A server that delivers twice is found out, and stops no load.
struct DuplicateTests {
    private static func plan(_ name: String, _ delivery: Plan.Delivery) -> Plan {
        var plan = Plan(name)
        plan.delivery = delivery
        plan.window = 8
        return plan
    }

    static let plans: [Plan] = {
        var queue = plan("queue", .queue)
        queue.acknowledgement = .clientIndividual
        var pacedQueue = plan("paced queue", .queue)
        pacedQueue.flow = .paced(messagesPerSecond: 1_000_000)
        var confirmed = queue
        confirmed.name = "confirmed queue"
        confirmed.isConfirmed = true
        return [plan("topic", .topic), queue, pacedQueue, plan("reply", .reply), confirmed]
    }()

    @Test(arguments: plans.indices)
    func `what comes twice is counted as duplicated`(_ index: Int) throws {
        let report = try Self.play(Self.plans[index], copies: 2)
        #expect(report.anomalies.duplicated > 0)
        #expect(report.anomalies.lost == 0)
        #expect(report.counts.outstanding == 0, "what came twice does not stand for what did not come")
        #expect(report.counts.delivered >= EchoingDriver.sendsMax)
    }

    @Test(arguments: plans.indices)
    func `what comes once is no anomaly`(_ index: Int) throws {
        let report = try Self.play(Self.plans[index], copies: 1)
        #expect(report.anomalies == Anomalies())
        #expect(report.counts.outstanding == 0)
    }

    @Test func `a receipt that comes twice is counted as duplicated`() throws {
        var plan = Self.plan("unsubscribed", .topic)
        plan.subscribersPerDestination = 0
        let report = try Self.play(plan, copies: 2)
        #expect(report.anomalies.duplicated > 0)
        #expect(report.counts.outstanding == 0)
        #expect(report.counts.confirmed == report.counts.published)
    }

    /// One thread's load on a driver that is its server too.
    private static func play(_ plan: Plan, copies: Int) throws -> ThreadReport {
        let control = Control(threadCount: 1)
        let peers = try WakeDirectory(workerCount: 1)
        let setup = ThreadSetup(
            plan: plan, share: Share.of(plan, threadCount: 1)[0], requests: Requests(plan), control: control, thread: 0,
            addresses: Addresses(address: 0x7F00_0001, port: 1, clientCount: plan.clientCount), connectingCountMax: 16,
            driver: .epoll, options: DriverOptions(), peers: peers)
        var engine = Engine(setup, driver: EchoingDriver(control, clientCount: plan.clientCount, copies: copies))
        engine.run()
        return engine.finish()
    }
}

/// Plays a STOMP server of one destination for each name, and tells the load when to begin and to end: after so many
/// messages, or so many polls.
private struct EchoingDriver: ~Copyable, Driver {
    static let sendsMax = 64
    private static let pollsMax = 10_000

    let connectionCountMax = 1024
    let level = "none"
    let counters = DriverCounters()
    private let control: Control
    private let clientCount: Int
    private let copies: Int
    private var subscribers: [String: Slot] = [:]
    private var sendCount = 0
    private var pollCount = 0
    /// What this poll hands out; valid until the next.
    private var handedOut: [UnsafeMutableRawBufferPointer] = []

    init(_ control: Control, clientCount: Int, copies: Int) {
        self.control = control
        self.clientCount = clientCount
        self.copies = copies
    }

    init(
        options: DriverOptions, listeners: [Int32], wake: WakeHandle, peers: WakeDirectory
    ) throws(DriverError) {
        throw DriverError(.notSupported, "it is made by its test")
    }

    deinit { for bytes in handedOut { bytes.deallocate() } }

    mutating func peerAddress(of connection: Slot) -> String? { nil }
    mutating func peerAddress(ofAccepted descriptor: Int32) -> String? { nil }
    mutating func peerCredentials(of connection: Slot) -> PeerCredentials? { nil }
    mutating func peerCredentials(ofAccepted descriptor: Int32) -> PeerCredentials? { nil }
    consuming func shutDown() {}

    mutating func poll(
        _ submissions: borrowing Batch<Submission>, deadline: UInt64, completions: inout Batch<Completion>
    ) {
        for bytes in handedOut { bytes.deallocate() }
        handedOut.removeAll()
        pollCount += 1
        for position in 0..<submissions.count {
            let submission = submissions[position]
            switch submission.kind {
            case .connect: completions.append(Completion(.writable, connection: submission.connection))
            case .close: completions.append(Completion(.closed, connection: submission.connection))
            case .send:
                let bytes = UnsafeRawBufferPointer(start: submission.pointer, count: submission.byteCount)
                for frame in bytes.split(separator: 0) { answer(Array(frame), of: submission.connection, &completions) }
            default: break
            }
        }
        if control.phase == .connect, control.counts.ready == clientCount { control.phase = .measure }
        if control.phase == .measure, sendCount >= Self.sendsMax { control.phase = .drain }
        // What was under way at the beginning of the drain has been answered by now.
        if control.phase == .drain, control.isEntered(.drain), completions.isEmpty { control.phase = .close }
        if pollCount == Self.pollsMax { control.phase = .close }
    }

    /// The load carries nothing out ahead of a poll.
    mutating func carryOut(_ submissions: borrowing Batch<Submission>, completions: inout Batch<Completion>) {
        Issue.record("submissions ahead of a poll")
    }

    private mutating func answer(_ frame: [UInt8], of client: Slot, _ completions: inout Batch<Completion>) {
        // The body is no text; it has no line feed.
        let lines = frame.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let body = lines.last ?? []
        let head = lines.dropLast().map { String(decoding: $0, as: UTF8.self) }
        func header(_ name: String) -> String? {
            head.first { $0.hasPrefix("\(name):") }.map { String($0.dropFirst(name.count + 1)) }
        }
        switch head.first {
        case "CONNECT": say("CONNECTED\nversion:1.2\n\n", client, &completions)
        case "SUBSCRIBE":
            subscribers[header("destination") ?? ""] = client
            say("RECEIPT\nreceipt-id:s\n\n", client, &completions)
        case "SEND":
            sendCount += 1
            for _ in 0..<copies {
                if let receipt = header("receipt") {
                    say("RECEIPT\nreceipt-id:\(receipt)\n\n", client, &completions)
                }
                guard let subscriber = subscribers[header("destination") ?? ""] else { continue }
                say(
                    "MESSAGE\nsubscription:1\nmessage-id:1\nack:1\ndestination:d\ncontent-length:\(body.count)\n\n",
                    body: body, subscriber, &completions)
            }
        default: break
        }
    }

    private mutating func say(
        _ head: String, body: some Collection<UInt8> = [], _ client: Slot, _ completions: inout Batch<Completion>
    ) {
        let frame = Array(head.utf8) + body + [0]
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: frame.count, alignment: 1)
        bytes.copyBytes(from: frame)
        handedOut.append(bytes)
        completions.append(
            Completion(
                .received, connection: client, value: Int32(bytes.count), pointer: UnsafeRawPointer(bytes.baseAddress)))
    }
}
