import Capacity
import Foundation
import Testing

@testable import Configuration

/// The files of Config that are for very many connections.
@Suite("Config for a million connections")
struct ProfileTests {
    private static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Config")
    private static let million = directory.appending(path: "million.yaml").path

    /// Names and values of 60-stampede.conf.
    private static func sysctls() throws -> [(name: String, value: String)] {
        let text = try String(contentsOf: directory.appending(path: "sysctl.d/60-stampede.conf"), encoding: .utf8)
        return try text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
            let sides = line.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            try #require(sides.count == 2, "\(line)")
            return (sides[0], sides[1])
        }
    }

    /// The machine it is made for, with those values in force.
    private static func machine() throws -> MachineSnapshot {
        var files = ["/proc/sys/kernel/osrelease": "6.18.0\n", "/proc/sys/net/ipv4/tcp_syncookies": "1\n"]
        for (name, value) in try sysctls() {
            files["/proc/sys/" + name.replacingOccurrences(of: ".", with: "/")] = value + "\n"
        }
        files["/proc/meminfo"] = "MemAvailable: 23847044 kB\n"
        files["/proc/sys/vm/overcommit_memory"] = "0\n"
        var machine = MachineSnapshot { files[$0] }
        machine.descriptors = ResourceLimit(soft: 20_000, hard: 20_000)
        machine.lockedBytes = ResourceLimit(soft: 64 << 20, hard: 64 << 20)
        return machine
    }

    @Test("million.yaml and 60-stampede.conf together hold a million connections, clients and all")
    func holds() throws {
        let settings = try EffectiveSettings.load(file: Self.million).settings
        let machine = try Self.machine()
        let broker = settings.party(connectionCount: 1_000_000, ringIsAvailable: true, availableCPUCount: 2)
        let clients = Party.loadGenerator(connectionCount: 1_000_000, usesRing: true, descriptorMax: 20_000)
        let report = CapacityCheck([broker, clients], on: machine).report
        #expect(report.isMet, "\(report.complaints)")
        #expect(report.findings.filter { $0.verdict == .advice }.isEmpty, "\(report.lines)")
    }

    @Test("million.yaml's rings and buffers are small beside a million records")
    func isSmall() throws {
        let settings = try EffectiveSettings.load(file: Self.million).settings
        let party = settings.party(connectionCount: 1_000_000, ringIsAvailable: true, availableCPUCount: 2)
        let buffers =
            party.ring.buffers * party.ring.bufferBytes + party.ring.largeBuffers * party.ring.largeBufferBytes
        #expect(party.workerCount * buffers <= 16 << 20)
    }

    @Test("Keys that limit connections count, those of listeners, hosts and addresses too")
    func ownLimits() throws {
        func limits(_ yaml: String, hasLocalClients: Bool = false) throws -> [String] {
            let settings = try EffectiveSettings.load(yaml: "io: {workers: 2}\n" + yaml).settings
            let party = settings.party(
                connectionCount: 1000, ringIsAvailable: true, availableCPUCount: 2, hasLocalClients: hasLocalClients)
            #expect(party.connectionsPerWorkerMax == 0)
            return party.ownLimits.dropFirst().map { "\($0.name) \($0.total)\($0.isPartial ? " of some" : "")" }
        }
        #expect(try limits("") == [])
        #expect(try limits("limits: {connections-max: 10}") == ["limits.connections-max 20"])
        #expect(try limits("limits: {connections-per-address-max: 10}") == [])
        #expect(
            try limits("limits: {connections-per-address-max: 10}", hasLocalClients: true)
                == ["limits.connections-per-address-max 20"])
        let one = "{url: \"127.0.0.1:1\", connections-max: 10}"
        #expect(try limits("listeners: [\(one)]") == ["listeners[0].connections-max 10"])
        #expect(try limits("listeners: [\(one), \"127.0.0.1:2\"]") == ["listeners[0].connections-max 10 of some"])
        let two = "{url: \"127.0.0.1:2\", connections-max: 5}"
        #expect(try limits("listeners: [\(one), \(two)]") == ["listeners[].connections-max 15"])
        #expect(try limits("hosts: [{name: a, connections-max: 7}]") == ["hosts[0].connections-max 7 of some"])
        #expect(
            try limits("hosts: [{name: /, connections-max: 7, subscriptions-max: 8}]")
                == ["hosts[0].connections-max 7", "hosts[0].subscriptions-max 8"])
    }

    @Test("stampede config accepts million.yaml")
    func accepted() throws {
        let outcome = try Executable().run(["config", "--config", Self.million])
        #expect(outcome.exitCode == 0 && outcome.error == "")
    }

    @Test("Every value of 60-stampede.conf has the form of the one that is in force")
    func sysctlNames() throws {
        let sysctls = try Self.sysctls()
        #expect(Set(sysctls.map(\.name)).count == sysctls.count)
        for (name, value) in sysctls {
            let numbers = value.split(separator: " ").map { Int($0) }
            #expect(!numbers.contains(nil), "\(name)")
            // In a container some belong to the host and cannot be seen.
            let path = "/proc/sys/" + name.replacingOccurrences(of: ".", with: "/")
            guard let inForce = MachineSnapshot.contents(path) else { continue }
            #expect(inForce.split(whereSeparator: \.isWhitespace).count == numbers.count, "\(name)")
        }
    }

    @Test("probe --connections tells what a few connections take, as text and as JSON")
    func probe() throws {
        let stampede = try Executable()
        let text = try stampede.run(["probe", "--connections", "100", "--local-clients"])
        #expect(text.exitCode == 0, "\(text.output)")
        #expect(text.output.hasPrefix("100 connections on Linux "))
        #expect(text.output.hasSuffix("all checks passed\n"))
        let json = try stampede.run(["probe", "--connections", "100", "--json"])
        let report = try JSONDecoder().decode(CapacityReport.self, from: Data(json.outputBytes))
        #expect(report.connections == 100 && report.isMet)
    }

    @Test("probe --connections exits with 1 where something is missing")
    func probeMissing() throws {
        let outcome = try Executable().run(
            ["probe", "--connections", "100000000", "--driver", "epoll", "--workers", "1"])
        #expect(outcome.exitCode == 1 && outcome.error == "")
        #expect(outcome.output.contains("\nMISSING  RLIMIT_NOFILE"), "\(outcome.output)")
        #expect(try Executable().run(["probe", "--json"]).exitCode == 2)
        #expect(try Executable().run(["probe", "--connections", "0"]).exitCode == 2)
    }
}
