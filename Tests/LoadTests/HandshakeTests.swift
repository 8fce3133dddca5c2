import ArgumentParser
import Foundation
import Glibc
import Testing

@testable import Load
@testable import stampede_bench

/// Handshakes as a load, beside nginx where it is installed.
@Suite(.serialized)
struct HandshakeTests {
    private static func awaitCount(_ count: Int, _ load: HandshakeLoad) {
        let stepsMax = 2000
        for _ in 0..<stepsMax where load.count < count && load.failure == nil { usleep(5000) }
    }

    @Test(arguments: LoadDriver.available, [false, true])
    func `the broker shakes hands with all threads`(_ driver: LoadDriver, resumes: Bool) throws {
        let server = try RunningServer(
            .stampede(driver: driver, path: BrokerLoadTests.broker(), transport: .tls), cpu: nil)
        defer { server.end() }
        var plan = HandshakeLoad.Plan(port: server.port)
        plan.threadCount = 3
        plan.resumes = resumes
        let load = try HandshakeLoad(plan)
        load.start()
        Self.awaitCount(30, load)
        load.stop()
        #expect(load.failure == nil)
        #expect(load.count >= 30)
        #expect(load.isReady)
        #expect(load.cipher == "TLSv1.3 TLS_AES_128_GCM_SHA256")
    }

    @Test func `a server without TLS is a failure, not a wait`() throws {
        let server = try RunningServer(.stampede(driver: .epoll, path: BrokerLoadTests.broker()), cpu: nil)
        defer { server.end() }
        let load = try HandshakeLoad(HandshakeLoad.Plan(port: server.port))
        load.start()
        Self.awaitCount(1, load)
        load.stop()
        #expect(load.failure != nil)
        #expect(load.count == 0)
    }

    @Test func `a suite that OpenSSL does not have is a failure`() {
        var plan = HandshakeLoad.Plan(port: 1)
        plan.tls = Load.TLS(suites: "TLS_NONE")
        #expect(throws: (any Error).self) { try HandshakeLoad(plan) }
    }

    private static let keys = ServerKind.hasNginx ? BenchCertificate.Key.allCases : []

    @Test(arguments: keys)
    func `broker and nginx are measured in turn`(_ key: BenchCertificate.Key) throws {
        let folder = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(folder) }
        let arguments = [
            "--rounds", "1", "--seconds", "0.2", "--warm-up", "0.05", "--threads", "2", "--key", key.rawValue,
            "--cpu", "-1", "--server-cpu", "-1", "--stampede", try BrokerLoadTests.broker(),
            "--json", "\(folder)/h.json",
        ]
        // Whether the bound is met says nothing in a build for tests.
        do { try Handshakes.parse(arguments).run() } catch let code as ExitCode { #expect(code.rawValue == 1) }
        let json = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/h.json"))
        let outcomes = try JSONDecoder().decode([HandshakeOutcome].self, from: json)
        #expect(outcomes.map(\.row) == ["full", "full", "resumed", "resumed"].map { "\(key.rawValue), \($0)" })
        #expect(outcomes.allSatisfy { $0.failure == nil && $0.count > 0 && $0.serverSeconds > 0 })
    }

    private static func outcome(_ server: String, count: Int, cpu: Double) -> HandshakeOutcome {
        var outcome = HandshakeOutcome(server: server)
        outcome.row = "row"
        outcome.count = count
        outcome.seconds = 1
        outcome.serverSeconds = cpu
        return outcome
    }

    @Test func `the rate decides where both servers are busy, else their CPU time`() throws {
        let busy = HandshakeComparison(outcomes: [
            Self.outcome("uring tls", count: 800, cpu: 0.95), Self.outcome("nginx", count: 1000, cpu: 0.99),
        ])
        let ratios = try #require(busy.ratios("row"))
        #expect(ratios.areBusy)
        #expect(ratios.deciding == 0.8)
        #expect(!busy.isPassed)
        let idle = HandshakeComparison(outcomes: [
            Self.outcome("uring tls", count: 800, cpu: 0.4), Self.outcome("nginx", count: 1000, cpu: 0.5),
        ])
        #expect(abs(try #require(idle.ratios("row")).deciding - 1) < 1e-9)
        #expect(idle.isPassed)
        #expect(idle.section.lines.count == 2)
        #expect(idle.section.lines.allSatisfy { $0.count == idle.section.head.count })
        #expect(HandshakeComparison(outcomes: [Self.outcome("uring tls", count: 800, cpu: 0.4)]).ratios("row") == nil)
    }
}
