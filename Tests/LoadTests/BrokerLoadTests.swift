import Foundation
import Testing

@testable import Load
@testable import stampede_bench

/// Loads on a real broker: what is sent arrives, and what is counted is what arrived.
@Suite(.serialized)
struct BrokerLoadTests {
    static let plans: [Plan] = {
        var fanOut = Plan("fan-out")
        fanOut.publishersPerDestination = 3
        fanOut.subscribersPerDestination = 5
        var pairs = Plan("pairs")
        pairs.destinationCount = 10
        var queue = Plan("queue")
        queue.delivery = .queue
        queue.publishersPerDestination = 2
        queue.subscribersPerDestination = 3
        queue.acknowledgement = .clientIndividual
        var cumulative = queue
        cumulative.name = "queue, cumulative"
        cumulative.acknowledgement = .client
        var reply = Plan("reply")
        reply.delivery = .reply
        reply.publishersPerDestination = 4
        var paced = Plan("paced")
        paced.flow = .paced(messagesPerSecond: 100_000)
        var large = Plan("large")
        large.bodyByteCount = 200_000
        large.window = 16
        return [fanOut, pairs, queue, cumulative, reply, paced, large]
    }()

    @Test(arguments: plans.indices, LoadDriver.available)
    func `every message arrives`(_ index: Int, _ driver: LoadDriver) throws {
        try expectAllArrive(Self.plans[index], driver, .tcp)
    }

    @Test(arguments: plans.indices, LoadDriver.available)
    func `every message arrives over WebSocket`(_ index: Int, _ driver: LoadDriver) throws {
        try expectAllArrive(Self.plans[index], driver, .ws)
    }

    @Test(arguments: plans.indices, LoadDriver.available)
    func `every message arrives over TLS`(_ index: Int, _ driver: LoadDriver) throws {
        try expectAllArrive(Self.plans[index], driver, .tls)
    }

    @Test(arguments: plans.indices, LoadDriver.available)
    func `every message arrives over WebSocket in TLS`(_ index: Int, _ driver: LoadDriver) throws {
        try expectAllArrive(Self.plans[index], driver, .wss)
    }

    private func expectAllArrive(_ plan: Plan, _ driver: LoadDriver, _ transport: ClientTransport) throws {
        let server = try RunningServer(
            .stampede(driver: driver, path: Self.broker(), transport: transport), cpu: nil)
        defer { server.end() }
        var target = try #require(Load.Target(host: "127.0.0.1", port: server.port))
        target.driver = driver
        target.webSocketPath = transport.webSocketPath
        target.tls = transport.tls(.aes128)
        let load = try Load(plan, target: target)
        #expect(load.awaitReady())
        load.phase = .measure
        let wanted = plan.bodyByteCount > 1000 ? 100 : 5000
        #expect(
            load.wait(seconds: 10) { _ in
            } until: {
                $0.delivered >= wanted
            } measure: {
                $0.delivered
            })
        #expect(load.drain())
        let report = load.end()
        #expect(load.control.failure == nil)
        #expect(report.anomalies == Anomalies())
        #expect(report.counts.outstanding == 0)
        // The responder's deliveries count too.
        let perMessage = plan.delivery == .reply ? 2 : plan.fanOut
        #expect(report.counts.delivered == report.counts.published * perMessage)
        #expect(report.latency.p50 > 0)
        #expect(report.cipher == (transport.usesTLS ? "TLSv1.3 TLS_AES_128_GCM_SHA256" : nil))
        let encrypted = report.counts.encrypted
        #expect(transport.usesTLS == (encrypted.receivedBytes > report.counts.delivered * plan.bodyByteCount))
        #expect(transport.usesTLS == (encrypted.sentBytes > report.counts.published * plan.bodyByteCount))
        #expect(transport.usesTLS == (encrypted.sends > 0))
    }

    @Test(arguments: LoadDriver.available, [false, true])
    func `a broadcast reaches a crowd on several threads`(_ driver: LoadDriver, isPipelined: Bool) throws {
        let server = try RunningServer(.stampede(driver: driver, path: Self.broker()), cpu: nil)
        defer { server.end() }
        var target = try #require(Load.Target(host: "127.0.0.1", port: server.port))
        target.driver = driver
        var plan = Plan.crowd(300)
        plan.isPipelined = isPipelined
        let load = try Load(plan, target: target, threadCount: 3)
        #expect(load.awaitReady())
        load.phase = .measure
        load.broadcast()
        load.broadcast()
        #expect(
            load.wait(seconds: 10) { _ in
            } until: {
                $0.delivered == 600
            } measure: {
                $0.delivered
            })
        let report = load.end()
        #expect(report.anomalies == Anomalies())
    }

    @Test(arguments: LoadDriver.available)
    func `a server that is not there is a failure, not a wait`(_ driver: LoadDriver) throws {
        let server = try RunningServer(.stampede(driver: .epoll, path: Self.broker()), cpu: nil)
        server.end()
        var target = try #require(Load.Target(host: "127.0.0.1", port: server.port))
        target.driver = driver
        let load = try Load(Plan("nobody"), target: target)
        #expect(!load.awaitReady())
        let report = load.end()
        #expect(load.control.failure != nil)
        #expect(report.anomalies.ended > 0)
    }

    /// The broker is built beside the tests.
    static func broker() throws -> String {
        let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let directories = [
            URL(filePath: bundle).deletingLastPathComponent(), Bundle.main.bundleURL,
            URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent(),
        ]
        let candidates = directories.map { $0.appending(path: "stampede").path }
        return try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0) })
    }
}

extension LoadDriver {
    static var available: [LoadDriver] { TargetOptions.bestDriver == .uring ? [.uring, .epoll] : [.epoll] }
}
