import ArgumentParser
import CProcess
import Drivers
import Glibc
import Load

/// The server under load: one that already runs, or one that is started.
struct TargetOptions: ParsableArguments {
    @Option(help: "IPv4 address of a running server.")
    var host = "127.0.0.1"

    @Option(help: "Port of a running server.")
    var port: UInt16 = 61613

    @Option(help: "The running server's process id. Default: that of the process that listens on the port.")
    var pid: Int32?

    @Option(
        help: ArgumentHelp(
            """
            Start a server: uring or epoll (this broker with that driver), nats, beanstalkd, valkey, rabbitmq, \
            activemq, mosquitto, or the path of a floor.
            """,
            valueName: "server"))
    var start: String?

    @Option(help: "A setting of the broker that --start starts, as in io.uring.sq-entries=8192. Can be repeated.")
    var set: [String] = []

    @Option(help: "A configuration file for the broker that --start starts; it also sets the number of workers.")
    var config: String?

    @Option(help: "The broker's program. Default: the one beside this program.")
    var stampede: String?

    @Option(
        parsing: .unconditional,
        help: "The CPU to bind a started server to; -1: none. Default: 0, and none for conns with several threads.")
    var serverCPU: Int32?

    @Option(
        parsing: .unconditional,
        help: "The CPU to bind the load generator to; -1: none. Default: 1 with --start, none for many threads.")
    var cpu: Int32?

    @Option(help: "How the load travels: tcp, ws (WebSocket, on the path /ws), tls, or wss (WebSocket in TLS).")
    var transport = ClientTransport.tcp

    @Option(help: "TLS 1.3: the only cipher that clients offer: aes-128-gcm, aes-256-gcm or chacha20-poly1305.")
    var cipher = CipherSuite.aes128

    @Option(help: "STOMP: the login of every client.")
    var login = Load.Credentials().login

    @Option(help: "STOMP: the passcode of every client.")
    var passcode = Load.Credentials().passcode

    @Option(help: "The load generator's own driver: uring or epoll. Default: uring where it works.")
    var driver: LoadDriver?

    /// A running server, and how to connect to it.
    struct Reached {
        var name: String
        var load: Load.Target
        var process: ServerProcess?
        /// nil: it already ran.
        var running: RunningServer?
    }

    /// Binds the calling thread, and starts the server if that is asked for.
    ///
    /// - Parameter binds: unless an option says otherwise, the server gets CPU 0 and the load generator CPU 1. If
    ///   false, the scheduler decides, as in normal use.
    func reach(
        workers: Int = 1, host startHost: String = "127.0.0.1", binds: Bool = true,
        _ adapt: (ServerKind) -> ServerKind = { $0 }
    ) throws -> Reached {
        let cpu = cpu ?? (start == nil || !binds ? -1 : 1)
        let serverCPU = serverCPU ?? (binds ? 0 : -1)
        if cpu >= 0, process_bind(cpu) != 0 { throw ValidationError("--cpu \(cpu): no such CPU") }
        guard let start else {
            try requireServer()
            let process = pid.map { ServerProcess(identifier: $0) } ?? ServerProcess(listeningOn: port)
            if process == nil { warn("found no process that listens on port \(port): no figures of the server") }
            return Reached(name: "port \(port)", load: try load(host: host, port: port), process: process, running: nil)
        }
        let server = try RunningServer(
            adapt(try kind(start, workers, startHost)), cpu: serverCPU >= 0 ? serverCPU : nil)
        return Reached(
            name: server.kind.name, load: try load(host: "127.0.0.1", port: server.port), process: server.process,
            running: server)
    }

    /// Ends the command if no server answers. Without this check, a run without a server would report no losses.
    private func requireServer() throws {
        guard let reason = Self.refusal(host: host, port: port) else { return }
        warn("no server answers on \(host):\(port) (\(reason)): start one, or use --start, as in --start uring")
        throw ExitCode(1)
    }

    /// Why a connection is not possible. nil: it is possible.
    private static func refusal(host: String, port: UInt16) -> String? {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        // A malformed host is reported elsewhere.
        guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { return nil }
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return String(cString: strerror(errno)) }
        defer { close(fd) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return result == 0 ? nil : String(cString: strerror(errno))
    }

    /// The protocol that --start implies.
    var dialect: Plan.Dialect? { start.map { Peer(rawValue: $0)?.dialect ?? .stomp } }

    private func kind(_ start: String, _ workers: Int, _ host: String) throws -> ServerKind {
        if let driver = LoadDriver(rawValue: start) {
            return .stampede(
                driver: driver, path: stampede ?? ServerKind.besideUs, workers: config == nil ? workers : nil,
                host: host,
                config: config, settings: set, transport: transport)
        }
        guard transport == .tcp else {
            throw ValidationError(
                "--transport \(transport.rawValue): --start uring and --start epoll have it; --start \(start) has not")
        }
        guard let peer = Peer(rawValue: start) else { return .floor(path: start) }
        guard let kind = try peer.kind() else { throw ExitCode(1) }
        return kind
    }

    private func load(host: String, port: UInt16) throws -> Load.Target {
        guard var target = Load.Target(host: host, port: port) else {
            throw ValidationError("--host \(host): an IPv4 address is expected")
        }
        target.driver = driver ?? Self.bestDriver
        target.webSocketPath = transport.webSocketPath
        target.tls = transport.tls(cipher)
        target.credentials = Load.Credentials(login: login, passcode: passcode)
        return target
    }

    static let bestDriver: LoadDriver = {
        guard let choice = try? DriverChoice.auto.choose(), choice.kind == .uring else { return .epoll }
        return .uring
    }()
}

/// How long to measure.
struct ScheduleOptions: ParsableArguments {
    @Option(help: "Seconds to measure.")
    var seconds = 3.0

    @Option(help: "Seconds to warm up.")
    var warmUp = 1.0

    @Option(help: "Where a subscriber stalls: seconds to go on afterwards, so that limits of time can cut it too.")
    var stall = Schedule.stallSecondsDefault

    var schedule: Schedule { Schedule(warmUpSeconds: warmUp, seconds: seconds, stallSeconds: stall) }
}

extension Schedule {
    /// Longer than the ten seconds without progress that brokers commonly allow.
    static let stallSecondsDefault = 13.0
}
