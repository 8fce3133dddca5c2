import CProcess
import Foundation
import Glibc
import Load

/// A server that can be started: the broker with either driver, a floor, or a peer.
struct ServerKind: Sendable {
    var name: String
    var path: String
    var dialect = Plan.Dialect.stomp
    /// The command line. PORT stands for the port, OTHER_PORT for another one, FOLDER for a temporary folder.
    var arguments: [String]
    /// It already runs, and is neither started nor ended here.
    var port: UInt16?
    /// It is slow to start. So it is started only once, even if other servers are started for each measurement, and is
    /// paused between measurements.
    var isKept = false
    var startSeconds = 10.0
    /// The text of the file `configuration.yaml` in its folder. PORT, OTHER_PORT and FOLDER stand for the same as in the
    /// arguments.
    var configuration: String?
    /// Makes other files in its folder.
    var prepare: (@Sendable (_ folder: String) throws -> Void)?
    var workers = 1
    /// Where its folder is made. nil: where temporary files are, which may be memory.
    var folderParent: String?
    var transport = ClientTransport.tcp

    /// The broker of this package.
    ///
    /// - Parameter workers: nil: as in `config`, the path of a configuration file.
    static func stampede(
        driver: LoadDriver, path: String, workers: Int? = 1, host: String = "127.0.0.1", config: String? = nil,
        settings: [String] = [], transport: ClientTransport = .tcp
    ) -> ServerKind {
        var values = ["listeners=\(transport.scheme)\(host):PORT", "io.driver=\(driver.rawValue)", "log.level=warning"]
        if let workers { values.append("io.workers=\(workers)") }
        if transport.usesTLS { values += BenchCertificate.settings }
        values += settings
        let file = config.map { ["--config", $0] } ?? []
        var kind = ServerKind(
            name: driver.rawValue + transport.suffix, path: path,
            arguments: ["serve"] + file + values.flatMap { ["--set", $0] }, workers: workers ?? 1, transport: transport)
        if transport.usesTLS { kind.prepare = { try BenchCertificate.make(in: $0) } }
        return kind
    }

    /// With larger queues than by default, which only a file can configure.
    func holdingBacklogs() -> ServerKind {
        guard arguments.first == "serve" else { return self }
        var kind = self
        kind.arguments += ["--config", "FOLDER/configuration.yaml"]
        kind.configuration = """
            destinations:
              - match: "/queue/#"
                messages-max: 1000000000
                bytes-max: 1024GiB

            """
        return kind
    }

    static func floor(path: String) -> ServerKind {
        ServerKind(name: (path as NSString).lastPathComponent, path: path, arguments: ["PORT"])
    }

    static func running(name: String, port: UInt16) -> ServerKind {
        ServerKind(name: name, path: "", arguments: [], port: port)
    }

    /// The `stampede` that was built beside this program.
    static var besideUs: String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (own as NSString).deletingLastPathComponent + "/stampede"
    }
}

/// A server that was started here. `end` or the deinit ends it.
final class RunningServer {
    struct StartError: Error, CustomStringConvertible { var description: String }

    let kind: ServerKind
    let port: UInt16
    /// OTHER_PORT. 0: it already ran.
    let otherPort: UInt16
    let process: ServerProcess
    /// The descriptor of its output. -1: it already ran.
    private var log: Int32 = -1
    private var hasEnded = false
    /// Its folder. Empty: none.
    private let folder: String
    private static let endSeconds = 10.0

    init(_ kind: ServerKind, cpu: Int32?) throws {
        if let port = kind.port {
            guard let process = ServerProcess(listeningOn: port) else {
                throw StartError(description: "\(kind.name): no process of ours listens on port \(port)")
            }
            self.kind = kind
            self.port = port
            otherPort = 0
            self.process = process
            folder = ""
            hasEnded = true
            return
        }
        guard access(kind.path, X_OK) == 0 else {
            throw StartError(description: "\(kind.path) cannot be run; build it first")
        }
        self.kind = kind
        let port = try Self.freePort()
        self.port = port
        let needsFolder = kind.arguments.contains { $0.contains("FOLDER") }
        let folder = try needsFolder ? TemporaryFolders.make(in: kind.folderParent) : ""
        self.folder = folder
        let otherPort = try Self.freePort()
        self.otherPort = otherPort
        let fill = { (text: String) in
            text.replacingOccurrences(of: "OTHER_PORT", with: "\(otherPort)")
                .replacingOccurrences(of: "PORT", with: "\(port)").replacingOccurrences(of: "FOLDER", with: folder)
        }
        try kind.configuration.map(fill)?.write(
            toFile: "\(folder)/configuration.yaml", atomically: true, encoding: .utf8)
        try kind.prepare?(folder)
        guard let file = tmpfile() else { throw StartError(description: "no temporary file: errno \(errno)") }
        defer { fclose(file) }
        log = dup(fileno(file))
        let values = kind.arguments.map(fill)
        // A store of the operator's is none of ours. By the environment, which older builds take too; a setting beats it.
        setenv("STAMPEDE_STORAGE_ENABLED", "false", 0)
        var arguments = ([kind.path] + values).map { strdup($0) }
        arguments.append(nil)
        let identifier = process_start(kind.path, arguments, cpu ?? -1, log)
        for argument in arguments { free(argument) }
        guard identifier > 0 else { throw StartError(description: "\(kind.name) did not start: errno \(-identifier)") }
        process = ServerProcess(identifier: identifier)
        try awaitListening(log)
    }

    deinit {
        end()
        if log >= 0 { close(log) }
    }

    /// The output of the server from `offset` on, at most some MiB at a time.
    func output(from offset: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 4 << 20)
        let count = bytes.withUnsafeMutableBytes { pread(log, $0.baseAddress!, $0.count, off_t(offset)) }
        return Array(bytes.prefix(max(count, 0)))
    }

    /// A server that was not started here counts as running.
    var isRunning: Bool {
        guard kind.port == nil, !hasEnded else { return kind.port != nil }
        hasEnded = waitpid(process.identifier, nil, WNOHANG) == process.identifier
        if hasEnded, !folder.isEmpty { TemporaryFolders.remove(folder) }
        return !hasEnded
    }

    /// Pauses it until `resume`.
    func pause() { kill(process.identifier, SIGSTOP) }
    func resume() { kill(process.identifier, SIGCONT) }

    /// Sends a signal, and after a while SIGKILL.
    func end(_ signal: Int32 = SIGTERM) {
        guard !hasEnded else { return }
        hasEnded = true
        defer { if !folder.isEmpty { TemporaryFolders.remove(folder) } }
        kill(process.identifier, signal)
        resume()
        let stepMicroseconds: UInt32 = 5000
        for _ in 0..<Int(max(Self.endSeconds, kind.startSeconds) * 1e6 / Double(stepMicroseconds)) {
            if waitpid(process.identifier, nil, WNOHANG) == process.identifier { return }
            usleep(stepMicroseconds)
        }
        kill(process.identifier, SIGKILL)
        waitpid(process.identifier, nil, 0)
    }

    private func awaitListening(_ log: Int32) throws {
        let stepMicroseconds: UInt32 = 10_000
        for _ in 0..<Int(kind.startSeconds * 1e6 / Double(stepMicroseconds)) {
            if waitpid(process.identifier, nil, WNOHANG) == process.identifier {
                hasEnded = true
                throw StartError(description: "\(kind.name) ended at once: \(Self.text(of: log))")
            }
            if Self.isListening(port) { return }
            usleep(stepMicroseconds)
        }
        throw StartError(
            description: "\(kind.name) does not listen after \(Int(kind.startSeconds)) s: \(Self.text(of: log))")
    }

    private static func text(of log: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 2000)
        let count = bytes.withUnsafeMutableBytes { pread(log, $0.baseAddress!, $0.count, 0) }
        return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    }

    private static func isListening(_ port: UInt16) -> Bool {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        return withLoopback(port) { connect(fd, $0, $1) } == 0
    }

    private static func freePort() throws -> UInt16 {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        guard withLoopback(0, { bind(fd, $0, $1) }) == 0 else { throw StartError(description: "no free port") }
        var address = sockaddr_in()
        var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(fd, $0, &byteCount) }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    private static func withLoopback(_ port: UInt16, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }
}
