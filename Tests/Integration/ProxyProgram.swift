import Glibc
import TestSupport
import Testing

/// A port of 127.0.0.1 that nobody uses, for programs that cannot say which one the kernel has given them.
func freePort() throws -> UInt16 {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(fd) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
    var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(fd, $0, byteCount) == 0 ? getsockname(fd, $0, &byteCount) : -1
        }
    }
    try #require(result == 0, "errno \(errno)")
    return UInt16(bigEndian: address.sin_port)
}

/// A proxy in front of a broker: nginx or haproxy, with a configuration of the test, in one process that ends with its
/// owner.
final class ProxyProgram {
    enum Kind: String {
        case nginx, haproxy

        /// Debian's, which are not in everybody's path.
        var path: String { "/usr/sbin/\(rawValue)" }
        var isInstalled: Bool { access(path, X_OK) == 0 }
    }

    let process: ChildProcess
    private let folder: TemporaryFolder

    /// Returns when it accepts connections on `ports`.
    ///
    /// - Parameter configuration: FOLDER stands for a directory of its own.
    init(_ kind: Kind, _ configuration: String, ports: [UInt16]) throws {
        folder = try TemporaryFolder()
        let path = "\(folder.path)/proxy.conf"
        let text = configuration.replacing("FOLDER", with: folder.path)
        let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(file) }
        try #require(write(file, text, text.utf8.count) == text.utf8.count)
        let arguments =
            switch kind {
            case .nginx: ["-p", folder.path, "-c", path, "-e", "stderr"]
            case .haproxy: ["-db", "-f", path]
            }
        process = try ChildProcess(kind.path, arguments)
        let deadline = Deadline()
        for port in ports {
            while !Self.accepts(port) {
                try #require(process.status == nil, "\(kind) ended: \(process.errorLines)")
                try #require(!deadline.isOver, "\(kind) does not listen: \(process.errorLines)")
                // Neither of them says when it listens.
                poll(nil, 0, 10)
            }
        }
    }

    private static func accepts(_ port: UInt16) -> Bool {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(fd) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
