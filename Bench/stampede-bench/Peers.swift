import ArgumentParser
import Foundation
import Glibc
import Load

/// A peer that a script in `Bench/peers` configures and starts.
enum Peer: String, CaseIterable {
    case nats, rabbitmq, activemq, mosquitto, beanstalkd, valkey

    private var program: String {
        switch self {
        case .nats: "nats-server"
        case .rabbitmq: "rabbitmq-server"
        case .activemq: "activemq"
        case .mosquitto: "mosquitto"
        case .beanstalkd: "beanstalkd"
        case .valkey: "valkey-server"
        }
    }

    var dialect: Plan.Dialect {
        switch self {
        case .nats: .nats
        case .rabbitmq, .activemq: .stomp
        case .mosquitto: .mqtt
        case .beanstalkd: .beanstalk
        case .valkey: .resp
        }
    }

    var isInstalled: Bool { Self.programFolders.contains { access("\($0)/\(program)", X_OK) == 0 } }

    /// nil, after a warning: it is not installed.
    func kind() throws -> ServerKind? {
        guard isInstalled else {
            warn("\(rawValue) is left out: \(program) is not installed (see Bench/peers/README.md)")
            return nil
        }
        var kind = ServerKind(
            name: rawValue, path: try Self.script("\(rawValue).sh"), dialect: dialect, arguments: ["PORT", "FOLDER"])
        kind.isKept = startsSlowly
        kind.startSeconds = startsSlowly ? 60 : kind.startSeconds
        return kind
    }

    /// The virtual machines of Erlang and Java start slowly, and compile while they run. So these peers are started once and
    /// paused while other servers are measured.
    var startsSlowly: Bool { self == .rabbitmq || self == .activemq }

    /// Scripts find the servers. Their search path may lack the directories of system programs.
    private static var programFolders: [String] {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return path.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"]
    }

    /// Those whose queues survive a crash, and whose confirmation of a message means that it does.
    static let durable: [Peer] = [.nats, .beanstalkd, .rabbitmq, .activemq]

    /// Storing to disk, with each message confirmed after it is there. nil, after a warning: it is not installed.
    func durableKind() throws -> ServerKind? {
        var kind = try kind()
        // RabbitMQ and ActiveMQ store what is persistent in any case.
        if dialect != .stomp { kind?.path = try Self.script("\(rawValue)-durable.sh") }
        return kind
    }

    /// The folder of the package: above the built program, or the current folder.
    private static func script(_ name: String) throws -> String {
        let starts = [ServerKind.besideUs, FileManager.default.currentDirectoryPath + "/."]
        for start in starts {
            var folder = URL(fileURLWithPath: start).deletingLastPathComponent()
            while folder.path != "/" {
                let script = folder.appendingPathComponent("Bench/peers/\(name)").path
                if access(script, X_OK) == 0 { return script }
                folder.deleteLastPathComponent()
            }
        }
        throw ValidationError("Bench/peers/\(name) was not found: run this in the package's folder")
    }
}

/// The servers of a comparison.
struct ServerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            Separated by commas: nats, beanstalkd, valkey, rabbitmq, activemq, mosquitto (started if they are installed), \
            floors (see --floors), or NAME=PORT for a running STOMP server, which has to be bound to --server-cpu already.
            """, valueName: "peer,..."))
    var peers: String?

    @Option(help: "The folder of the programs floor_epoll and floor_uring. Implies --peers floors.")
    var floors: String?

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(help: "Another build of the broker to compare with.")
    var baseline: String?

    @Option(help: "A setting of the broker, as in io.uring.sq-entries=8192. Can be repeated.")
    var set: [String] = []

    @Flag(help: "Measure the broker over WebSocket too, on each of its drivers.")
    var ws = false

    func kinds() throws -> [ServerKind] {
        let path = stampede ?? ServerKind.besideUs
        let drivers = LoadDriver.allCases.filter { $0 == .epoll || TargetOptions.bestDriver == .uring }
        if drivers.count == 1 { warn("io_uring cannot be used here (stampede probe says why)") }
        var kinds = drivers.map { ServerKind.stampede(driver: $0, path: path, settings: set) }
        if ws { kinds += drivers.map { .stampede(driver: $0, path: path, settings: set, transport: .ws) } }
        if let baseline {
            for driver in drivers {
                var kind = ServerKind.stampede(driver: driver, path: baseline, settings: set)
                kind.name = "baseline \(driver.rawValue)"
                kinds.append(kind)
            }
        }
        let names = peers?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) } ?? []
        if names.contains("floors"), floors == nil { throw ValidationError("--peers floors needs --floors FOLDER") }
        if let floors { kinds += ["floor_epoll", "floor_uring"].map { .floor(path: "\(floors)/\($0)") } }
        for name in names where name != "floors" { kinds += try Self.kind(name).map { [$0] } ?? [] }
        return kinds
    }

    private static func kind(_ name: String) throws -> ServerKind? {
        if let peer = Peer(rawValue: name) { return try peer.kind() }
        let parts = name.split(separator: "=")
        guard parts.count == 2, let port = UInt16(parts[1]) else {
            let known = (Peer.allCases.map(\.rawValue) + ["floors"]).joined(separator: ", ")
            throw ValidationError("--peers: found \(name); allowed: \(known), or NAME=PORT as in artemis=61613")
        }
        return .running(name: String(parts[0]), port: port)
    }
}

/// The servers of a comparison, side by side on one CPU.
final class Fleet {
    private let cpu: Int32?
    private var standing: [String: RunningServer] = [:]

    init(cpu: Int32?) { self.cpu = cpu }

    deinit { for server in standing.values { server.end() } }

    /// Starts all of them, before the first is measured.
    func start(_ kinds: [ServerKind]) throws {
        for kind in kinds { try turn(kind) { _ in } }
    }

    /// Runs the body with the running server. A server that has ended is started again.
    func turn<Result>(_ kind: ServerKind, _ body: (RunningServer) throws -> Result) throws -> Result {
        if let server = standing[kind.name], !server.isRunning { standing[kind.name] = nil }
        let server = try standing[kind.name] ?? RunningServer(kind, cpu: cpu)
        standing[kind.name] = server
        guard kind.isKept else { return try body(server) }
        server.resume()
        defer { server.pause() }
        return try body(server)
    }

    /// Runs the body with a new server, because its memory is measured. Only servers that are slow to start run beside
    /// it.
    func freshTurn<Result>(_ kind: ServerKind, _ body: (RunningServer) throws -> Result) throws -> Result {
        guard !kind.isKept else { return try turn(kind, body) }
        for (name, server) in standing where !server.kind.isKept {
            server.end()
            standing[name] = nil
        }
        let server = try RunningServer(kind, cpu: cpu)
        defer { server.end() }
        return try body(server)
    }
}
