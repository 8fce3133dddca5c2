import ArgumentParser
import Attacks
import Foundation
import Glibc
import Testing

@testable import Load
@testable import stampede_bench

/// Honest logins beside wrong ones.
@Suite(.serialized)
struct LoginLoadTests {
    @Test func `both are measured, and what is wrong is refused`() throws {
        let folder = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(folder) }
        let arguments = [
            "--rounds", "1", "--seconds", "1", "--warm-up", "0.2", "--wrong", "50", "--honest", "10", "--cpu", "-1",
            "--server-cpu", "-1", "--stampede", try BrokerLoadTests.broker(), "--json", "\(folder)/l.json",
        ]
        // Whether the bound is met says nothing in a build for tests.
        do { try Logins.parse(arguments).run() } catch let code as ExitCode { #expect(code.rawValue == 1) }
        let json = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/l.json"))
        let outcomes = try JSONDecoder().decode([LoginOutcome].self, from: json)
        #expect(outcomes.map(\.row) == ["remembered", "hashed"])
        for outcome in outcomes {
            #expect(outcome.failure == nil)
            #expect(outcome.sentPerSecond > 10)
            #expect(outcome.beforeCount > 0 && outcome.duringCount > 0)
            #expect(outcome.before.p50 > 0 && outcome.during.p99 >= outcome.during.p50)
        }
        #expect(LoginOutcome.section(outcomes).lines.allSatisfy { $0.count == LoginOutcome.section([]).head.count })
    }

    @Test func `an honest client that is refused is a failure`() throws {
        let kind = ServerKind.stampede(driver: .epoll, path: try BrokerLoadTests.broker()).opening(.login)
        let server = try RunningServer(kind, cpu: nil)
        defer { server.end() }
        var plan = HonestLogins.Plan(port: server.port)
        plan.credentials.passcode = "wrong"
        plan.isUrgent = false
        let clients = HonestLogins(plan)
        clients.start()
        let stepsMax = 2000
        for _ in 0..<stepsMax where clients.failure == nil { usleep(5000) }
        clients.stop()
        #expect(clients.failure?.contains("Access refused") == true)
        #expect(clients.latency.count == 0)
    }

    @Test func `a p99 passes up to twice, and as long as it is below the floor`() {
        var outcome = LoginOutcome(row: "r", driver: "uring", floor: 1000, wanted: 100)
        outcome.beforeCount = 1
        outcome.duringCount = 1
        outcome.sentPerSecond = 100
        for (before, during, isPassed) in [
            (100.0, 2000.0, true), (100, 2001, false), (5000, 10_000, true), (5000, 10_001, false),
        ] {
            outcome.before.p99 = before
            outcome.during.p99 = during
            #expect(outcome.isPassed == isPassed)
        }
        outcome.during.p99 = 0
        #expect(outcome.isPassed)
        outcome.sentPerSecond = 94
        #expect(!outcome.isPassed)
        #expect(outcome.complaint?.contains("only 94 of 100") == true)
    }

    @Test func `a flood's rate is that of all rounds`() {
        var outcome = LoginOutcome(row: "r", driver: "uring", floor: 1000, wanted: 100)
        var tally = LoginFlood.Tally()
        tally.sent = 100
        tally.answered = 50
        outcome.note(LoginFlood.Tally(), tally, seconds: 1)
        outcome.note(tally, tally, seconds: 1)
        #expect(outcome.sentPerSecond == 50)
        #expect(outcome.answeredPerSecond == 25)
    }
}
