import ArgumentParser
import CProcess
import Load

/// `stampede-bench transports`: what WebSocket and TLS cost the broker, and whether that is within bounds.
struct TransportsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "transports",
        abstract: "Measure the broker over TCP, WebSocket, TLS, and WebSocket in TLS.",
        discussion: """
            Four brokers run at the same time on one CPU, one for each transport, and the load generator on another. Each \
            row goes round them, as with compare, so that the figures of a row are taken within seconds.
            Bounds, of server CPU per delivery: WebSocket at most 1.1 times plain TCP. TLS at most plain TCP, and 1.3 times \
            what the cipher alone takes for the same bytes, and 1 us a send. The cipher's speed is that of openssl speed, \
            measured in the same run, on the server's core, with pieces of the size of the records that were sent. Idle: \
            WebSocket at most 64 bytes more than plain, TLS at most 16 KiB. There is no bound for WebSocket in TLS.
            The exit code is 1 if a bound was missed or a message was lost.
            """)

    @Option(help: "The broker's driver: uring or epoll. Default: uring where it works.")
    var driver: LoadDriver?

    @Option(help: "The cipher of TLS: aes-128-gcm, aes-256-gcm or chacha20-poly1305.")
    var cipher = CipherSuite.aes128

    @Option(help: "Rounds; the report has their medians.")
    var rounds = 3

    @Option(help: "Seconds to measure.")
    var seconds = 1.0

    @Option(help: "Seconds to warm up.")
    var warmUp = 0.5

    @Option(help: "Only rows whose name contains this. Can be repeated.")
    var only: [String] = []

    @Option(help: "How many idle connections to measure; 0: none.")
    var idle = 10_000

    @Option(help: "How often a disturbed run is repeated at most.")
    var repeats = 5

    @Option(help: "Repeat no run after this many minutes.")
    var repeatMinutes = 20.0

    @Option(help: "A setting of the broker, as in io.uring.sq-entries=8192. Can be repeated.")
    var set: [String] = []

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(parsing: .unconditional, help: "The CPU to bind the servers to; -1: none.")
    var serverCPU: Int32 = 0

    @Option(parsing: .unconditional, help: "The CPU to bind the load generator to; -1: none.")
    var cpu: Int32 = 1

    @Option(help: "Write the report to this file (Markdown).")
    var output: String?

    @Option(help: "Write every result to this file as JSON.")
    var json: String?

    private static let rowNames = [
        "fan-out S=100 B=64", "fan-out S=1000 B=64", "fan-out S=1000 B=1024", "pairs N=1 B=64", "pairs N=100 B=64",
    ]

    func validate() throws {
        guard 1...1000 ~= rounds else { throw ValidationError("--rounds: 1 to 1,000") }
        guard 0...14_000 ~= idle else { throw ValidationError("--idle: at most 14,000; see conns for more") }
        guard 0...100 ~= repeats else { throw ValidationError("--repeats: at most 100") }
    }

    func run() throws {
        Load.raiseDescriptorLimit()
        guard cpu < 0 || process_bind(cpu) == 0 else { throw ValidationError("--cpu \(cpu): no such CPU") }
        let rows = try chosenRows()
        for path in [json, output].compactMap({ $0 }) { try makeFolder(of: path) }
        let driver = driver ?? TargetOptions.bestDriver
        let kinds = ClientTransport.allCases.map {
            ServerKind.stampede(
                driver: driver, path: stampede ?? ServerKind.besideUs, settings: set, transport: $0)
        }
        let bound = serverCPU < 0 ? nil : serverCPU
        var field = Field(
            kinds: kinds, fleet: Fleet(cpu: bound), calibrator: Calibrator(cpu: bound),
            schedule: Schedule(warmUpSeconds: warmUp, seconds: seconds), rounds: rounds, repeats: repeats,
            repeatSeconds: 60 * repeatMinutes, cipher: cipher)
        let comparison = try field.measure(rows)
        let speed = OpenSSLSpeed(cipher, cpu: bound)
        let results = TransportResults(
            machine: Machine(), driver: driver, comparison: comparison,
            costs: try comparison.transportCosts(driver) { try speed.bytesPerSecond(pieceByteCount: $0) },
            idle: try field.hold(idle))
        for section in results.sections { print("\n\(section.title)\n\n\(section.table)") }
        print("\n\(Comparison.legend)\n\(comparison.thrownAwayText)")
        if let json { try writeJSON(results.everything, to: json) }
        if let output { try results.report(rounds: rounds, seconds: seconds).write(to: output) }
        if !results.isPassed { throw ExitCode(1) }
    }

    private func chosenRows() throws -> [Row] {
        let rows = Row.all.filter { row in
            Self.rowNames.contains(row.name) && (only.isEmpty || only.contains { row.name.contains($0) })
        }
        guard !rows.isEmpty else {
            throw ValidationError("--only: no such row; there are \(Self.rowNames.joined(separator: ", "))")
        }
        return rows
    }
}

extension Comparison {
    /// For each row and each transport: its cost, as far as both it and the plain one were measured.
    ///
    /// - Parameter speed: bytes a second of the cipher, with pieces of a size.
    func transportCosts(_ driver: LoadDriver, _ speed: (Double) throws -> Double) rethrows -> [TransportCost] {
        var costs: [TransportCost] = []
        for row in rows {
            guard let plain = cost(row, driver.rawValue) else { continue }
            for transport in ClientTransport.allCases where transport != .tcp {
                let server = driver.rawValue + transport.suffix
                guard let measured = cost(row, server) else { continue }
                costs.append(
                    TransportCost(
                        row: row, transport: transport.rawValue, plain: plain, measured: measured,
                        encrypted: try encrypted(row, server, speed)))
            }
        }
        return costs
    }

    private func encrypted(
        _ row: String, _ server: String, _ speed: (Double) throws -> Double
    ) rethrows -> TransportCost.Encrypted? {
        guard let cipher = outcomes(row, server).compactMap(\.cipher).first else { return nil }
        func each(_ value: (EncryptedCounts) -> Int, of count: (Outcome) -> Int) -> Double {
            median(row, server) { outcome in
                Double(outcome.encrypted.map(value) ?? 0) / Double(max(count(outcome), 1))
            }?.median ?? 0
        }
        let recordBytes = each(\.receivedBytes) { $0.encrypted?.records ?? 0 }
        return TransportCost.Encrypted(
            cipher: cipher, bytes: each({ $0.receivedBytes + $0.sentBytes }, of: \.delivered),
            sends: each(\.sends, of: \.delivered), recordBytes: recordBytes,
            cipherBytesPerSecond: try speed(recordBytes))
    }
}

/// What `transports` has measured.
struct TransportResults {
    let machine: Machine
    let driver: LoadDriver
    let comparison: Comparison
    let costs: [TransportCost]
    let idle: IdleComparison?

    private var memories: [TransportMemory] {
        guard let idle, let plain = idle.memory(driver.rawValue) else { return [] }
        return ClientTransport.allCases.filter { $0 != .tcp }.compactMap { transport in
            idle.memory(driver.rawValue + transport.suffix).map {
                TransportMemory(transport: transport.rawValue, plainBytes: plain, bytes: $0)
            }
        }
    }

    /// Nothing was lost, and all bounds are met.
    var isPassed: Bool {
        comparison.outcomes.allSatisfy(\.isClean) && idle?.isClean ?? true && costs.allSatisfy(\.isMet)
            && memories.allSatisfy(\.isMet)
    }

    var sections: [Section] {
        let cipher = costs.compactMap(\.encrypted?.cipher).first ?? "no TLS"
        var sections = [
            Section(
                title: "Transports",
                text: """
                    Microseconds of server CPU per delivery with \(driver.rawValue), \(cipher). Bounds: WebSocket \
                    \(TransportCost.webSocketRatioMax) of plain; TLS plain + \(TransportCost.cipherRatioMax) times the cipher \
                    alone + \(TransportCost.sendMicrosecondsMax.formatted) us a send.
                    """,
                head: TransportCost.head, lines: costs.map(\.cells)),
            comparison.rateSection, comparison.shares,
        ]
        if let idle {
            sections.append(
                Section(
                    title: "Memory of idle connections",
                    text: "The bounds are meant for 100,000 connections with WebSocket and 20,000 with TLS: see conns.",
                    head: TransportMemory.head, lines: memories.map(\.cells)))
            sections.append(idle.section)
        }
        return sections + [comparison.thrownAway("Runs thrown away")]
    }

    func report(rounds: Int, seconds: Double) -> Report {
        Report(
            title: "Transports, \(machine.date)",
            preface: """
                \(machine.text)

                Medians of \(rounds) interleaved rounds, \(seconds.formatted) s each. Server and load generator each on a CPU of \
                its own; all servers run side by side. \(comparison.thrownAwayText). \(Comparison.legend).
                """, sections: sections)
    }

    struct Everything: Encodable {
        let machine: String
        let date: String
        let driver: String
        let servers: [String]
        let costs: [TransportCost]
        let memories: [TransportMemory]
        let outcomes: [Outcome]
        let idle: [String: [CrowdReport]]
    }

    var everything: Everything {
        Everything(
            machine: machine.text, date: machine.date, driver: driver.rawValue, servers: comparison.servers,
            costs: costs, memories: memories, outcomes: comparison.outcomes, idle: idle?.reports ?? [:])
    }
}
