import ArgumentParser
import Foundation
import Testing

@testable import Load
@testable import stampede_bench

/// The commands of `stampede-bench`, with tiny counts, on a broker that runs.
@Suite(.serialized)
struct CommandTests {
    /// Runs `body` with a folder that is removed afterwards.
    private func inFolder(_ body: (String) throws -> Void) throws {
        let folder = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(folder) }
        try body(folder)
    }

    private static func decoded<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }

    @Test func `compare leaves a report, its charts and all outcomes`() throws {
        try inFolder { folder in
            let arguments = [
                "--only", "fan-out S=1 B=64", "--rounds", "1", "--seconds", "0.05", "--warm-up", "0.01",
                "--repeats", "0", "--latency", "--idle", "20", "--backlog", "2000", "--cpu", "-1", "--server-cpu", "0",
                "--stampede", try BrokerLoadTests.broker(), "--output", "\(folder)/r.md", "--json", "\(folder)/r.json",
            ]
            try Compare.parse(arguments).run()
            let report = try String(contentsOfFile: "\(folder)/r.md", encoding: .utf8)
            for heading in ["Cost", "Deliveries per second", "Latency at half", "20 idle connections", "A queue is"] {
                #expect(report.contains("## \(heading)"))
            }
            #expect(report.contains("## Runs thrown away\n\n0 of "))
            for chart in ["cost", "rate", "latency", "idle"] {
                #expect(report.contains("(r-\(chart).svg)"))
                #expect(FileManager.default.fileExists(atPath: "\(folder)/r-\(chart).svg"))
            }
            struct Everything: Decodable {
                var servers: [String]
                var fastestCalibration: Double
                var runs: Int
                var thrownAway: Int
                var outcomes: [Outcome]
                var latencyOutcomes: [Outcome]
                var backlog: [BacklogReport]
            }
            let everything = try Self.decoded(Everything.self, "\(folder)/r.json")
            let count = LoadDriver.available.count
            #expect(everything.servers.count == count)
            #expect(everything.fastestCalibration > 0)
            #expect(everything.runs == 2 * count)
            #expect(everything.thrownAway == 0)
            #expect(everything.outcomes.allSatisfy { $0.calibrations.count == 2 })
            #expect(everything.outcomes.count == count)
            #expect(everything.outcomes.allSatisfy { $0.isClean && $0.delivered > 0 })
            #expect(everything.latencyOutcomes.count == count)
            #expect(everything.backlog.count == count)
        }
    }

    @Test(arguments: LoadDriver.available)
    func `a backlog comes back exactly once`(_ driver: LoadDriver) throws {
        let mode = driver == .uring ? Plan.Acknowledgement.clientIndividual : .client
        try inFolder { folder in
            try Backlog.parse([
                "--messages", "3000", "-p", "2", "-s", "3", "--ack", mode.rawValue, "--start", driver.rawValue,
                "--cpu", "-1", "--server-cpu", "-1", "--stampede", try BrokerLoadTests.broker(),
                "--json", "\(folder)/b.json",
            ]).run()
            let report = try Self.decoded(BacklogReport.self, "\(folder)/b.json")
            #expect(report.messages >= 3000)
            #expect(report.isClean)
            #expect(report.fillSeconds > 0 && report.emptySeconds > 0)
        }
    }

    @Test(arguments: LoadDriver.available)
    func `a crowd beats, is told something, and comes back after a storm`(_ driver: LoadDriver) throws {
        try inFolder { folder in
            try Connections.parse([
                "50", "--heart-beat", "5", "--hold", "0.3", "--storms", "1", "--start", driver.rawValue,
                "--cpu", "-1", "--server-cpu", "-1", "--stampede", try BrokerLoadTests.broker(),
                "--json", "\(folder)/c.json",
            ]).run()
            let reports = try Self.decoded([CrowdReport].self, "\(folder)/c.json")
            #expect(reports.count == 2)
            let silences = try #require(reports.first?.silences)
            #expect(silences.sent > 0)
            #expect(silences.missed == 0)
            #expect(reports.allSatisfy { $0.broadcasts.map(\.delivered) == [50] })
        }
    }

    @Test func `transports are compared with plain TCP, and judged`() throws {
        try inFolder { folder in
            let arguments = [
                "--only", "pairs N=1 ", "--rounds", "1", "--seconds", "0.05", "--warm-up", "0.01", "--repeats", "0",
                "--idle", "10", "--cpu", "-1", "--server-cpu", "-1", "--stampede", try BrokerLoadTests.broker(),
                "--output", "\(folder)/t.md", "--json", "\(folder)/t.json",
            ]
            // Whether the bounds are met says nothing in a build for tests.
            do {
                try TransportsCommand.parse(arguments).run()
            } catch let code as ExitCode {
                #expect(code.rawValue == 1)
            }
            struct Everything: Decodable {
                var costs: [TransportCost]
                var memories: [TransportMemory]
                var outcomes: [Outcome]
            }
            let everything = try Self.decoded(Everything.self, "\(folder)/t.json")
            #expect(everything.outcomes.count == ClientTransport.allCases.count)
            #expect(everything.outcomes.allSatisfy { $0.isClean && $0.delivered > 0 })
            #expect(everything.costs.map(\.transport) == ["ws", "tls", "wss"])
            #expect(everything.memories.map(\.transport) == ["ws", "tls", "wss"])
            for cost in everything.costs where cost.transport != "ws" {
                let encrypted = try #require(cost.encrypted)
                #expect(encrypted.cipher == "TLSv1.3 TLS_AES_128_GCM_SHA256")
                #expect(encrypted.bytes > 64 && encrypted.recordBytes > 64 && encrypted.sends > 0)
                #expect(encrypted.cipherBytesPerSecond > 0)
            }
            let report = try String(contentsOfFile: "\(folder)/t.md", encoding: .utf8)
            #expect(report.contains("| pairs N=1 B=64, tls |"))
        }
    }

    private static let quickPeers = [Peer.nats, .mosquitto, .beanstalkd, .valkey].filter(\.isInstalled)

    @Test(arguments: quickPeers, [Scenario.queue, .fanout, .unsubscribed])
    func `peers that are installed are spoken to in their own protocol`(_ peer: Peer, _ scenario: Scenario) throws {
        guard peer.dialect.knows(scenario.delivery) else { return }
        let kind = try #require(try peer.kind())
        let server = try RunningServer(kind, cpu: nil)
        defer { server.end() }
        var target = try #require(Load.Target(host: "127.0.0.1", port: server.port))
        // It is there in every build.
        target.driver = .epoll
        let plan = try ScenarioOptions(subscribers: 2).plan(scenario, dialect: kind.dialect)
        let measurement = Measurement(
            plan, target: target, server: server.process, schedule: Schedule(warmUpSeconds: 0.01, seconds: 0.1))
        let outcome = try measurement.run()
        #expect(outcome.failure == nil)
        #expect(outcome.anomalies == Anomalies())
        #expect(outcome.delivered > 0)
    }
}
