internal import CURing
import Glibc
public import IO

/// The listening sockets of one configured address: one for each worker. Those of a TCP address share the port with
/// SO_REUSEPORT. Those of a Unix socket are descriptors of one socket, because SO_REUSEPORT does not distribute the
/// connections of Unix sockets.
public struct ListenerGroup: ~Copyable {
    /// The bound address: "127.0.0.1:61613", "[::1]:61613", "unix:/run/stampede.sock".
    public let boundAddress: String
    /// 0: a Unix socket.
    public let port: UInt16
    private var fds: [Int32]

    /// Binds and listens for `workerCount` workers.
    ///
    /// A first bind without SO_REUSEPORT detects another process on the port. With SO_REUSEPORT alone, a second broker
    /// of the same user would silently get half of the connections. A busy port is tried again for
    /// `patienceMilliseconds`, because the kernel may hold the listener of a broker that has just ended for a moment.
    ///
    /// - Parameters:
    ///   - address: "HOST:PORT" or "[HOST]:PORT". HOST is an IPv4 or IPv6 address, a name, or empty for all addresses.
    ///     Port 0: a free port, the same for every worker.
    ///   - options: for `keepaliveMilliseconds`, `userTimeoutMilliseconds` and `unsentByteCountMax`.
    public init(
        address: String, workerCount: Int, options: DriverOptions = DriverOptions(), patienceMilliseconds: Int = 2_000
    ) throws(DriverError) {
        var endpoint = try Endpoint(address)
        let exclusive = try Self.bindPatiently(endpoint, patienceMilliseconds: patienceMilliseconds)
        endpoint = Endpoint(boundTo: exclusive, named: address)
        // A socket without SO_REUSEPORT does not share the port, so it is closed before the shared ones are bound. If
        // another process takes the port in between, the bind below fails.
        close(exclusive)
        var bound: [Int32] = []
        do throws(DriverError) {
            for _ in 0..<workerCount {
                bound.append(try endpoint.listen(options))
            }
        } catch {
            for fd in bound { close(fd) }
            throw error
        }
        fds = bound
        boundAddress = endpoint.text
        port = endpoint.port
    }

    /// Listens on a Unix socket for `workerCount` workers.
    ///
    /// The file disappears with `file`, which therefore lives as long as the broker.
    public init(unix file: UnixSocketFile, workerCount: Int) throws(DriverError) {
        boundAddress = "unix:\(file.options.path)"
        port = 0
        fds = try file.listeners(count: workerCount)
    }

    deinit { for fd in fds where fd >= 0 { close(fd) } }

    /// Returns the listener of one worker. The caller owns it.
    public mutating func take(worker: Int) -> Int32 {
        defer { fds[worker] = -1 }
        return fds[worker]
    }

    private static func bindPatiently(_ endpoint: Endpoint, patienceMilliseconds: Int) throws(DriverError) -> Int32 {
        let pauseMilliseconds = 20
        var remaining = patienceMilliseconds / pauseMilliseconds
        while true {
            do throws(DriverError) {
                return try endpoint.bind(sharesPort: false)
            } catch {
                guard error.reason == .portTaken, remaining > 0 else { throw error }
                remaining -= 1
                usleep(UInt32(pauseMilliseconds * 1000))
            }
        }
    }
}

/// One address to bind.
struct Endpoint {
    var storage = sockaddr_storage()
    var byteCount: socklen_t = 0
    /// The address as the operator wrote it, for error texts.
    var name: String

    init(_ address: String) throws(DriverError) {
        name = address
        guard let colon = address.utf8.lastIndex(of: UInt8(ascii: ":")) else { throw Self.malformed(address) }
        var host = address[..<colon]
        let port = address[address.index(after: colon)...]
        guard let number = UInt16(port), port.utf8.allSatisfy({ (48...57).contains($0) }) else {
            throw Self.malformed(address)
        }
        if host.first == "[" {
            guard host.last == "]", host.count > 2 else { throw Self.malformed(address) }
            host = host.dropFirst().dropLast()
        } else if host.utf8.contains(UInt8(ascii: ":")) {
            throw Self.malformed(address)
        }
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let isAny = host.isEmpty || host == "*"
        let result =
            isAny
            ? getaddrinfo("0.0.0.0", String(number), &hints, &found)
            : getaddrinfo(String(host), String(number), &hints, &found)
        guard result == 0, let found else {
            throw DriverError(
                .addressMalformed,
                "cannot listen on \(address): \(String(cString: gai_strerror(result))); give an address of this machine"
            )
        }
        defer { freeaddrinfo(found) }
        byteCount = found.pointee.ai_addrlen
        withUnsafeMutableBytes(of: &storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: found.pointee.ai_addr, count: Int(byteCount)))
        }
    }

    /// The address that `fd` is bound to.
    init(boundTo fd: Int32, named name: String) {
        self.name = name
        byteCount = socklen_t(MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(fd, $0, &byteCount) }
        }
    }

    /// The address of the peer that `fd` is connected to.
    init?(peerOf fd: Int32) {
        name = ""
        byteCount = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(fd, $0, &byteCount) }
        }
        guard result == 0 else { return nil }
    }

    init(_ storage: sockaddr_storage, byteCount: Int) {
        name = ""
        self.storage = storage
        self.byteCount = socklen_t(byteCount)
    }

    /// Whether it is an address of IPv4 or IPv6.
    var isInternet: Bool { [AF_INET, AF_INET6].contains(Int32(storage.ss_family)) }

    var isVersion6: Bool { Int32(storage.ss_family) == AF_INET6 }

    var port: UInt16 {
        // sin_port and sin6_port have the same offset: they follow the two bytes of the family, in network order.
        withUnsafeBytes(of: storage) { UInt16($0[2]) << 8 | UInt16($0[3]) }
    }

    var text: String {
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        withUnsafePointer(to: storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = getnameinfo($0, byteCount, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
            }
        }
        let digits = String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return isVersion6 ? "[\(digits)]:\(port)" : "\(digits):\(port)"
    }

    /// Returns a bound socket. SO_REUSEADDR lets a restarted broker bind while connections of the previous process are
    /// in TIME_WAIT.
    func bind(sharesPort: Bool) throws(DriverError) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = socket(Int32(storage.ss_family), kind, 0)
        guard fd >= 0 else { throw error(errno) }
        _ = socket_set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
        if sharesPort { _ = socket_set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) }
        if isVersion6 { _ = socket_set_int(fd, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        let result = withUnsafePointer(to: storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(fd, $0, byteCount) }
        }
        guard result == 0 else {
            let errorNumber = errno
            close(fd)
            throw error(errorNumber)
        }
        return fd
    }

    /// Returns a listening socket. Accepted sockets inherit its options: TCP_NODELAY; keepalive and TCP_USER_TIMEOUT,
    /// which detect a vanished peer even without heart-beats; and TCP_NOTSENT_LOWAT.
    func listen(_ options: DriverOptions) throws(DriverError) -> Int32 {
        let fd = try bind(sharesPort: true)
        let tcp = Int32(IPPROTO_TCP)
        _ = socket_set_int(fd, tcp, TCP_NODELAY, 1)
        if options.keepaliveMilliseconds > 0 {
            let interval = DriverOptions.keepaliveIntervalMilliseconds
            _ = socket_set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
            _ = socket_set_int(fd, tcp, TCP_KEEPIDLE, Int32(clamping: max(options.keepaliveMilliseconds / 1000, 1)))
            _ = socket_set_int(fd, tcp, TCP_KEEPINTVL, Int32(clamping: interval / 1000))
        }
        // TCP_USER_TIMEOUT replaces TCP_KEEPCNT: the kernel limits the time instead of the number of probes.
        _ = socket_set_int(fd, tcp, TCP_USER_TIMEOUT, Int32(clamping: options.userTimeoutMilliseconds))
        if options.unsentByteCountMax > 0 {
            _ = socket_set_int(fd, tcp, TCP_NOTSENT_LOWAT, Int32(clamping: options.unsentByteCountMax))
        }
        try startListening(fd)
        return fd
    }

    /// Starts to listen on a bound socket. Closes `fd` if that fails.
    func startListening(_ fd: Int32) throws(DriverError) {
        guard Glibc.listen(fd, Self.backlog) == 0 else {
            let errorNumber = errno
            close(fd)
            throw error(errorNumber)
        }
    }

    /// Connections that may wait to be accepted. The kernel lowers it to net.core.somaxconn (4096 by default).
    static let backlog: Int32 = 4096

    func error(_ errorNumber: Int32) -> DriverError {
        switch errorNumber {
        case EADDRINUSE:
            DriverError(
                .portTaken, errorNumber: errorNumber,
                "cannot listen on \(name): the port is taken by another process; stop it (see `ss -ltnp`) or "
                    + "choose another port"
            )
        case EACCES:
            DriverError(
                .noPermission, errorNumber: errorNumber,
                "cannot listen on \(name): no permission; ports below 1024 need CAP_NET_BIND_SERVICE; choose another "
                    + "port or grant it"
            )
        case EADDRNOTAVAIL:
            DriverError(
                .addressNotAvailable, errorNumber: errorNumber,
                "cannot listen on \(name): this machine has no such address; see `ip address`")
        case EAFNOSUPPORT:
            DriverError(
                .addressNotAvailable, errorNumber: errorNumber,
                "cannot listen on \(name): the kernel does not support this kind of address; is IPv6 switched off?")
        case EMFILE, ENFILE:
            DriverError(
                .noDescriptors, errorNumber: errorNumber,
                "cannot listen on \(name): the process has no descriptors left; raise `ulimit -n`")
        default:
            DriverError(.other, errorNumber: errorNumber, "cannot listen on \(name): \(errorText(errorNumber))")
        }
    }

    private static func malformed(_ address: String) -> DriverError {
        DriverError(
            .addressMalformed,
            "\"\(address)\" is not an address to listen on: HOST:PORT is expected, such as 127.0.0.1:61613 or "
                + "[::1]:61613"
        )
    }
}
