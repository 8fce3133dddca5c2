import Foundation
import Testing

@testable import Load
@testable import stampede_bench

/// Confirmed loads on servers that run: the floor, the broker, and peers that are installed.
@Suite(.serialized)
struct DurableTests {
    private static func beside(_ name: String) throws -> String {
        try (BrokerLoadTests.broker() as NSString).deletingLastPathComponent + "/\(name)"
    }

    /// Measures a short run and expects that nothing is missing.
    private static func measure(_ load: DurableLoad, _ kind: ServerKind, _ driver: LoadDriver = .epoll) throws
        -> Outcome
    {
        let server = try RunningServer(kind, cpu: nil)
        defer { server.end() }
        var target = try #require(Load.Target(host: "127.0.0.1", port: server.port))
        target.driver = driver
        let outcome = try Measurement(
            load.plan(kind.dialect), target: target, server: server.process,
            schedule: Schedule(warmUpSeconds: 0.05, seconds: 0.2)
        ).run()
        #expect(outcome.failure == nil)
        #expect(outcome.anomalies == Anomalies())
        let confirmation = try #require(outcome.confirmation)
        #expect(confirmation.messages > 0)
        #expect(confirmation.isPersistent == load.isPersistent)
        #expect(confirmation.latency.p50 > 0)
        #expect(confirmation.serverMicrosecondsPerMessage > 0)
        return outcome
    }

    private static let loads = [
        DurableLoad(publishers: 1, window: 1, body: 64), DurableLoad(publishers: 3, window: 64, body: 64),
        DurableLoad(publishers: 2, window: 1024, body: 5000),
    ]

    @Test(arguments: loads, ["uring", "thread"])
    func `the floor writes what it confirms`(_ load: DurableLoad, _ mode: String) throws {
        guard mode != "uring" || TargetOptions.bestDriver == .uring else { return }
        var kind = ServerKind.durableFloor(try Self.beside("floor_log"))
        kind.arguments.append(mode)
        let stored = try Self.measure(load, kind)
        let written = try #require(stored.confirmation?.writtenBytesPerMessage)
        // The server writes each message; what was written and what was confirmed are read one after the other.
        #expect(written > Double(load.body) * 0.9)
    }

    @Test func `the floor confirms at once what is not persistent, and writes nothing`() throws {
        let kind = ServerKind.durableFloor(try Self.beside("floor_log"))
        let outcome = try Self.measure(Self.loads[1].inMemory, kind)
        #expect(outcome.confirmation?.writtenBytesPerMessage == 0)
    }

    @Test(arguments: LoadDriver.available)
    func `the broker confirms each message once and delivers each in order`(_ driver: LoadDriver) throws {
        let kind = ServerKind.stampede(driver: driver, path: try BrokerLoadTests.broker())
        for load in Self.loads { _ = try Self.measure(load, kind, driver) }
    }

    @Test(arguments: Peer.durable.filter { !$0.startsSlowly && $0.isInstalled })
    func `peers that store confirm in their own protocol`(_ peer: Peer) throws {
        let kind = try #require(try peer.durableKind())
        let outcome = try Self.measure(DurableLoad(publishers: 2, window: 4, body: 64), kind)
        #expect(outcome.confirmation?.writtenBytesPerMessage ?? 0 > 64)
        guard peer == .nats else { return }
        _ = try Self.measure(DurableLoad(publishers: 2, window: 64, body: 64).inMemory, kind)
    }

    @Test func `JetStream that is not enabled is a failure, not a wait`() throws {
        guard Peer.nats.isInstalled else { return }
        let server = try RunningServer(try #require(try Peer.nats.kind()), cpu: nil)
        defer { server.end() }
        let target = try #require(Load.Target(host: "127.0.0.1", port: server.port))
        let plan = try DurableLoad(publishers: 1, window: 1, body: 64).plan(.nats)
        #expect(JetStream.make(plan, target: target) != nil)
    }

    @Test func `a queue is filled by one load and emptied in order by another`() throws {
        let plan = try ScenarioOptions(publishers: 2, subscribers: 1, body: 100).backlog(5000, dialect: .stomp)
        let store = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(store) }
        let kind = ServerKind.stampede(driver: .epoll, path: try BrokerLoadTests.broker()).holdingBacklogs()
        var report = DepthReport(plan)
        let options = try DepthOptions.parse(["--depth", "5000"])
        try report.measure(plan, kind, store: store, cpu: nil, options, ProgressLine())
        #expect(report.isClean)
        #expect(report.fill.seconds > 0 && report.empty.seconds > 0)
        #expect(report.fill.residentBytesMax > 0)
        #expect(report.readySeconds == nil)
    }

    @Test(arguments: LoadDriver.available, [[], ["--kill"]])
    func `a stored queue is there after a restart, in order`(_ driver: LoadDriver, _ how: [String]) throws {
        let plan = try ScenarioOptions(publishers: 2, subscribers: 1, body: 1000).backlog(3000, dialect: .stomp)
        let parent = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(parent) }
        guard !StorageFolder.isMemory(parent) else { return }
        let kind = ServerKind.stampede(driver: driver, path: try BrokerLoadTests.broker()).holdingBacklogs()
            .storing(in: try StorageFolder(parent), store: "\(parent)/store")
        var report = DepthReport(plan)
        let options = try DepthOptions.parse(["--depth", "3000", "--restart"] + how)
        try report.measure(plan, kind, store: "\(parent)/store", cpu: nil, options, ProgressLine())
        #expect(report.failure == nil)
        #expect(report.anomalies == Anomalies())
        #expect(report.readySeconds ?? 0 > 0)
        #expect(report.fill.storedBytes > 3000 * 1000)
        #expect(report.fill.writtenBytes > 3000 * 1000)
    }

    @Test(arguments: LoadDriver.available)
    func `a broker that stores writes what it confirms`(_ driver: LoadDriver) throws {
        let parent = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(parent) }
        guard !StorageFolder.isMemory(parent) else { return }
        let kind = ServerKind.stampede(driver: driver, path: try BrokerLoadTests.broker())
            .storing(in: try StorageFolder(parent))
        let load = Self.loads[1]
        let stored = try Self.measure(load, kind, driver)
        #expect(stored.confirmation?.writtenBytesPerMessage ?? 0 > Double(load.body) * 0.9)
    }

    @Test func `what a restart loses is found out`() throws {
        let plan = try ScenarioOptions(publishers: 1, subscribers: 1, body: 100).backlog(1000, dialect: .stomp)
        let store = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(store) }
        // It stores nothing.
        let kind = ServerKind.stampede(driver: .epoll, path: try BrokerLoadTests.broker()).holdingBacklogs()
        var report = DepthReport(plan)
        report.patienceSeconds = 1
        let options = try DepthOptions.parse(["--depth", "1000", "--restart", "--kill"])
        try report.measure(plan, kind, store: store, cpu: nil, options, ProgressLine())
        #expect(!report.isClean)
        #expect(report.readySeconds ?? 0 > 0)
        #expect(report.anomalies.lost == report.messages)
    }
}
