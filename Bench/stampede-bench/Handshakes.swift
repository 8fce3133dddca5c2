import ArgumentParser
import CProcess
import Foundation
import Glibc
import Load

extension BenchCertificate.Key: ExpressibleByArgument {}

/// `stampede-bench handshakes`: how many handshakes of TLS a core does, beside nginx.
struct Handshakes: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure handshakes of TLS with the broker and with nginx, on the same core.",
        discussion: """
            Broker and nginx have one worker each, on the same CPU, with the same certificate, ciphers and groups. Client \
            threads on another CPU connect, shake hands (TLS 1.3), say close_notify, and wait until the server has closed. \
            First all handshakes are full ones, then each resumes a session by a ticket. nginx is told to send no tickets \
            after full handshakes, as the broker, which sends them before its first data.
            Where clients take longer for a handshake than the server does, the rate is theirs, and a server is not busy: \
            then the bound is judged by the server's CPU time per handshake, else by the rate. The exit code is 1 if the broker \
            does less than 0.9 times what nginx does.
            """)

    @Option(help: "The broker's driver: uring or epoll. Default: uring where it works.")
    var driver: LoadDriver?

    @Option(help: "The key of the certificate: ecdsa-p256 or rsa-2048. Can be repeated.")
    var key: [BenchCertificate.Key] = [.ecdsa]

    @Option(help: "Client threads.")
    var threads = 16

    @Option(help: "Rounds; the report has their medians.")
    var rounds = 3

    @Option(help: "Seconds to measure.")
    var seconds = 2.0

    @Option(help: "Seconds to warm up.")
    var warmUp = 0.5

    @Option(help: "A setting of the broker. Can be repeated.")
    var set: [String] = []

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(parsing: .unconditional, help: "The CPU to bind the servers to; -1: none.")
    var serverCPU: Int32 = 0

    @Option(parsing: .unconditional, help: "The CPU to bind the client threads to; -1: none.")
    var cpu: Int32 = 1

    @Option(help: "Write the report to this file (Markdown).")
    var output: String?

    @Option(help: "Write every result to this file as JSON.")
    var json: String?

    func validate() throws {
        guard 1...1000 ~= rounds else { throw ValidationError("--rounds: 1 to 1,000") }
        guard 1...1000 ~= threads else { throw ValidationError("--threads: 1 to 1,000") }
    }

    func run() throws {
        guard cpu < 0 || process_bind(cpu) == 0 else { throw ValidationError("--cpu \(cpu): no such CPU") }
        for path in [json, output].compactMap({ $0 }) { try makeFolder(of: path) }
        if !ServerKind.hasNginx { warn("nginx is not installed (apt-get install nginx): the broker alone is measured") }
        var outcomes: [HandshakeOutcome] = []
        for key in key {
            for resumes in [false, true] { outcomes += try measure(key, resumes: resumes) }
        }
        let comparison = HandshakeComparison(outcomes: outcomes)
        let cipher = outcomes.compactMap(\.cipher).first ?? "TLS"
        print("\nHandshakes, \(cipher), \(threads) client threads\n\n\(comparison.section.table)")
        if let json { try writeJSON(outcomes, to: json) }
        if let output { try report(comparison, cipher).write(to: output) }
        if !comparison.isPassed { throw ExitCode(1) }
    }

    private func report(_ comparison: HandshakeComparison, _ cipher: String) -> Report {
        let machine = Machine()
        return Report(
            title: "Handshakes of TLS, \(machine.date)",
            preface: """
                \(machine.text)

                \(cipher). \(threads) client threads on a CPU of their own, each server on the other; medians of \(rounds) rounds, \
                \(seconds.formatted) s each. Where a server is not busy, its CPU time per handshake counts.
                """, sections: [comparison.section])
    }

    private func measure(_ key: BenchCertificate.Key, resumes: Bool) throws -> [HandshakeOutcome] {
        let folder = try TemporaryFolders.make()
        defer { TemporaryFolders.remove(folder) }
        try BenchCertificate.make(key, in: folder)
        let driver = driver ?? TargetOptions.bestDriver
        var broker = ServerKind.stampede(
            driver: driver, path: stampede ?? ServerKind.besideUs, settings: set, transport: .tls)
        broker.prepare = { try BenchCertificate.copy(from: folder, to: $0) }
        let kinds = [broker] + (ServerKind.hasNginx ? [.nginx(certificate: folder, ticketCount: resumes ? 1 : 0)] : [])
        let servers = try kinds.map { try RunningServer($0, cpu: serverCPU < 0 ? nil : serverCPU) }
        defer { for server in servers { server.end() } }
        var outcomes: [HandshakeOutcome] = []
        let row = "\(key.rawValue), \(resumes ? "resumed" : "full")"
        for round in 0..<rounds {
            for server in round.isMultiple(of: 2) ? servers : servers.reversed() {
                var outcome = try measure(server, resumes: resumes)
                outcome.row = row
                if let failure = outcome.failure { warn("\(row), \(outcome.server): \(failure)") }
                outcomes.append(outcome)
            }
        }
        return outcomes
    }

    private func measure(_ server: RunningServer, resumes: Bool) throws -> HandshakeOutcome {
        var plan = HandshakeLoad.Plan(port: server.port)
        plan.threadCount = threads
        plan.resumes = resumes
        plan.isHTTP = server.kind.name == ServerKind.nginxName
        let load = try HandshakeLoad(plan)
        load.start()
        defer { load.stop() }
        var outcome = HandshakeOutcome(server: server.kind.name)
        Self.pause(10) { load.isReady || load.failure != nil }
        Self.pause(warmUp) { load.failure != nil }
        let before = (load.count, ServerProcess.current.times.running)
        let watch = Stopwatch(server.process)
        Self.pause(seconds) { load.failure != nil }
        let (wall, serverSeconds) = watch.seconds
        outcome.count = load.count - before.0
        outcome.seconds = wall
        outcome.serverSeconds = serverSeconds
        outcome.loadSeconds = Double(ServerProcess.current.times.running - before.1) / 1e9
        outcome.failure = load.failure
        outcome.cipher = load.cipher
        return outcome
    }

    /// Waits, at most until `isOver`.
    private static func pause(_ seconds: Double, until isOver: () -> Bool) {
        let stepMicroseconds: UInt32 = 10_000
        let watch = Stopwatch(nil)
        while watch.wallSeconds < seconds, !isOver() {
            usleep(min(stepMicroseconds, UInt32(max(seconds - watch.wallSeconds, 0) * 1e6) + 1))
        }
    }
}

/// One measurement of handshakes.
struct HandshakeOutcome: Codable, Sendable {
    var row = ""
    var server: String
    var cipher: String?
    var count = 0
    var seconds = 0.0
    /// CPU time.
    var serverSeconds = 0.0
    var loadSeconds = 0.0
    var failure: String?

    init(server: String) { self.server = server }

    var perSecond: Double { Double(count) / max(seconds, 1e-9) }
    var serverMicroseconds: Double { serverSeconds * 1e6 / Double(max(count, 1)) }
    var serverShare: Double { serverSeconds / max(seconds, 1e-9) }
    var loadShare: Double { loadSeconds / max(seconds, 1e-9) }
}

/// The broker's handshakes beside nginx's.
struct HandshakeComparison {
    let outcomes: [HandshakeOutcome]
    static let ratioMin = 0.9
    /// A server that is busier than this decides the rate.
    static let busyShare = 0.9

    private var rows: [String] {
        outcomes.reduce(into: []) { if !$0.contains($1.row) { $0.append($1.row) } }
    }

    private func median(_ row: String, isNginx: Bool, _ value: (HandshakeOutcome) -> Double) -> Double? {
        let chosen = outcomes.filter { $0.row == row && ($0.server == ServerKind.nginxName) == isNginx && $0.count > 0 }
        return chosen.isEmpty ? nil : Comparison.median(chosen.map(value).sorted())
    }

    struct Ratios: Equatable {
        var rate: Double
        var cost: Double
        /// Both servers had no time left.
        var areBusy: Bool

        var deciding: Double { areBusy ? rate : cost }
        var isMet: Bool { deciding >= HandshakeComparison.ratioMin }
    }

    /// The broker's handshakes a second, and those in a second of CPU time, by nginx's. nil: one of them did none.
    func ratios(_ row: String) -> Ratios? {
        func both(_ value: (HandshakeOutcome) -> Double) -> (ours: Double, theirs: Double)? {
            guard let ours = median(row, isNginx: false, value), let theirs = median(row, isNginx: true, value) else {
                return nil
            }
            return (ours, theirs)
        }
        guard let rate = both(\.perSecond), let cost = both(\.serverMicroseconds), let share = both(\.serverShare)
        else {
            return nil
        }
        return Ratios(
            rate: rate.ours / max(rate.theirs, 1e-9), cost: cost.theirs / max(cost.ours, 1e-9),
            areBusy: min(share.ours, share.theirs) >= Self.busyShare)
    }

    var isPassed: Bool {
        outcomes.allSatisfy { $0.failure == nil && $0.count > 0 } && rows.allSatisfy { ratios($0)?.isMet ?? true }
    }

    var section: Section {
        let lines = rows.flatMap { row -> [[String]] in
            var lines: [[String]] = []
            for isNginx in [false, true] {
                guard let rate = median(row, isNginx: isNginx, \.perSecond) else { continue }
                let server = outcomes.first { $0.row == row && ($0.server == ServerKind.nginxName) == isNginx }!.server
                let ratios = isNginx ? nil : ratios(row)
                lines.append([
                    "\(row), \(server)", OutcomeTable.grouped(rate),
                    OutcomeTable.decimals(median(row, isNginx: isNginx, \.serverMicroseconds) ?? 0, 1),
                    OutcomeTable.percent(median(row, isNginx: isNginx, \.serverShare) ?? 0),
                    OutcomeTable.percent(median(row, isNginx: isNginx, \.loadShare) ?? 0),
                    ratios.map { OutcomeTable.decimals($0.rate, 2) } ?? "-",
                    ratios.map { OutcomeTable.decimals($0.cost, 2) } ?? "-",
                    ratios.map { "\($0.isMet ? "met" : "MISSED") (\($0.areBusy ? "rate" : "CPU"))" } ?? "-",
                ])
            }
            return lines
        }
        return Section(
            title: "Handshakes",
            head: [
                "", "handshakes/s", "us of server CPU", "server", "load", "rate/nginx", "by CPU/nginx",
                "at least \(Self.ratioMin)",
            ], lines: lines)
    }
}

extension ServerKind {
    static let nginxName = "nginx"
    private static let nginxPath = "/usr/sbin/nginx"

    static var hasNginx: Bool { access(nginxPath, X_OK) == 0 }

    /// nginx as one process, which answers every request with a word.
    ///
    /// - Parameters:
    ///   - certificate: the folder of the certificate's files.
    ///   - ticketCount: tickets after a handshake of TLS 1.3.
    static func nginx(certificate: String, ticketCount: Int) -> ServerKind {
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        let configuration = """
            daemon off;
            master_process off;
            worker_processes 1;
            pid FOLDER/nginx.pid;
            error_log stderr crit;
            events { worker_connections 4096; }
            http {
              access_log off;
              \(folders.map { "\($0)_temp_path FOLDER/\($0);" }.joined(separator: " "))
              server {
                listen 127.0.0.1:PORT ssl backlog=4096;
                ssl_certificate FOLDER/\(BenchCertificate.chainName);
                ssl_certificate_key FOLDER/\(BenchCertificate.keyName);
                ssl_protocols TLSv1.2 TLSv1.3;
                ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
                ssl_ecdh_curve X25519:prime256v1:secp384r1;
                ssl_prefer_server_ciphers on;
                ssl_session_cache off;
                ssl_session_tickets on;
                ssl_session_timeout 1h;
                ssl_conf_command NumTickets \(ticketCount);
                return 200 "yes";
              }
            }

            """
        var kind = ServerKind(
            name: nginxName, path: nginxPath,
            arguments: ["-e", "stderr", "-p", "FOLDER", "-c", "FOLDER/configuration.yaml"])
        kind.configuration = configuration
        kind.prepare = { try BenchCertificate.copy(from: certificate, to: $0) }
        return kind
    }
}
