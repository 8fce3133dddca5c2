import Glibc
import IO

/// A broker as a client names it.
///
///     stomp://user@broker.example:61613       TCP
///     stomps://broker.example                 TLS
///     ws://127.0.0.1:15674/ws                 WebSocket
///     wss://broker.example/ws                 WebSocket over TLS
///     unix:/run/stampede/stampede.sock        a Unix socket; also unix:///run/...
struct BrokerURL {
    /// A name or address, and a port.
    struct Host: CustomStringConvertible {
        /// Without brackets.
        let name: String
        let port: UInt16

        /// Parses `host:port`, `[ipv6]:port`, `host` or `[ipv6]`. Port 0 is no port to connect to.
        init?(_ text: some StringProtocol, defaultPort: UInt16) {
            var rest = Substring(text)
            if rest.first == "[" {
                guard let end = rest.firstIndex(of: "]") else { return nil }
                name = String(rest[rest.index(after: rest.startIndex)..<end])
                rest = rest[rest.index(after: end)...]
            } else {
                let name = rest.prefix { $0 != ":" }
                self.name = String(name)
                rest = rest.dropFirst(name.count)
            }
            guard !name.isEmpty else { return nil }
            if rest.isEmpty {
                port = defaultPort
            } else {
                guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
                port = number
            }
        }

        var description: String { name.contains(":") ? "[\(name)]:\(port)" : "\(name):\(port)" }
    }

    enum Place {
        case host(Host)
        case unix(path: String)
    }

    /// Why a text is no URL of a broker. It completes "found ...; ".
    struct Fault: Error {
        let reason: String
    }

    static let forms =
        "stomp:// or stomps://[LOGIN@]HOST[:PORT], ws:// or wss://[LOGIN@]HOST[:PORT][/PATH], or unix:/PATH"

    let transport: TransportKind
    let place: Place
    /// nil: the URL names none.
    let user: String?
    /// Of the WebSocket handshake.
    let path: String

    /// "stomp", "stomps", "ws", "wss" or "unix".
    var scheme: String { if case .unix = place { "unix" } else { transport.scheme } }

    init(_ text: String) throws(Fault) {
        if text.hasPrefix("unix:") {
            var path = text.dropFirst(5)
            if path.hasPrefix("///") { path = path.dropFirst(2) }
            guard path.hasPrefix("/"), !path.hasPrefix("//") else {
                throw Fault(reason: "a Unix socket has an absolute path: unix:/run/stampede/stampede.sock")
            }
            transport = .stomp
            place = .unix(path: String(path))
            user = nil
            self.path = ""
            return
        }
        guard let mark = text.firstRange(of: "://"), let kind = TransportKind(scheme: String(text[..<mark.lowerBound]))
        else { throw Fault(reason: "allowed: \(Self.forms)") }
        var authority = text[mark.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let path = text[authority.endIndex...]
        guard kind.usesWebSocket || path.isEmpty || path == "/" else {
            throw Fault(reason: "\(path) is too much: only ws:// and wss:// have a path")
        }
        guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "#") }) else {
            throw Fault(reason: "\(path) is no path of a URL: other characters are written %XX")
        }
        transport = kind
        // The path that this broker and RabbitMQ have for WebSocket.
        self.path = path.isEmpty ? "/ws" : String(path)
        user = try Self.takeUser(from: &authority)
        guard let host = Host(authority, defaultPort: kind.defaultPort) else {
            throw Fault(reason: "\"\(authority)\" is not HOST, HOST:PORT or [IPV6]:PORT")
        }
        place = .host(host)
    }

    private static func takeUser(from authority: inout Substring) throws(Fault) -> String? {
        guard let at = authority.lastIndex(of: "@") else { return nil }
        let user = authority[..<at]
        authority = authority[authority.index(after: at)...]
        guard !user.contains(":") else {
            throw Fault(
                reason: "a passcode does not belong into a URL, where others can see it; use --passcode-file or the "
                    + "variable STOMP_PASSCODE")
        }
        guard !user.isEmpty, let text = Self.decoded(user) else {
            throw Fault(reason: "the login in it is empty, or its %XX are no UTF-8")
        }
        return text
    }

    /// RFC 3986, section 2.1.
    private static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = rest.prefix(2)
            guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// The `host` header of CONNECT.
    var virtualHost: String {
        switch place {
        case .host(let host): host.name
        case .unix: "localhost"
        }
    }

    /// The `Host` of a request of HTTP.
    var authority: String {
        switch place {
        case .host(let host): host.description
        case .unix: "localhost"
        }
    }

    /// The name that the certificate of the broker must have, or its address.
    var serverName: (text: String, isAddress: Bool) {
        var address = in6_addr()
        let isAddress = [AF_INET, AF_INET6].contains { inet_pton($0, virtualHost, &address) == 1 }
        return (virtualHost, isAddress)
    }

    /// Returns a connected non-blocking socket.
    func connect() throws -> Int32 {
        switch place {
        case .host(let host): try host.connect()
        case .unix(let path): try UnixClient.connect(path)
        }
    }
}

// MARK: - Connecting

extension BrokerURL.Host {
    /// Returns a connected non-blocking socket.
    ///
    /// Tries all addresses of the name, one after the other, each for `secondsMax`.
    func connect(secondsMax: Int32 = 10) throws -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(name, "\(port)", &hints, &list)
        guard result == 0 else {
            throw Failure.operation("cannot find \(name): \(String(cString: gai_strerror(result)))")
        }
        defer { freeaddrinfo(list) }
        var reason = ENOENT
        var candidate = list
        while let address = candidate?.pointee {
            candidate = address.ai_next
            let type = address.ai_socktype | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            let fd = socket(address.ai_family, type, address.ai_protocol)
            guard fd >= 0 else {
                reason = errno
                continue
            }
            reason = Self.finishConnecting(fd, address, secondsMax: secondsMax)
            if reason == 0 { return fd }
            close(fd)
        }
        throw Failure.operation("cannot connect to \(name) port \(port): \(String(cString: strerror(reason)))")
    }

    /// Returns 0 or an errno.
    private static func finishConnecting(_ fd: Int32, _ address: addrinfo, secondsMax: Int32) -> Int32 {
        if Glibc.connect(fd, address.ai_addr, address.ai_addrlen) == 0 { return 0 }
        guard errno == EINPROGRESS else { return errno }
        var wanted = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
        switch poll(&wanted, 1, secondsMax * 1000) {
        case 0: return ETIMEDOUT
        case 1: break
        default: return errno
        }
        var reason: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &size) == 0 else { return errno }
        return reason
    }
}

private enum UnixClient {
    static func connect(_ path: String) throws -> Int32 {
        var address = sockaddr_un()
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw Failure.usage(["--url: the path of a Unix socket has at most 107 bytes"])
        }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw failure(path, errno) }
        // On a Unix socket this waits only while the listener's queue is full.
        let result = withUnsafePointer(to: address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let reason = errno
            close(fd)
            throw failure(path, reason)
        }
        _ = fcntl(fd, F_SETFL, O_NONBLOCK)
        return fd
    }

    private static func failure(_ path: String, _ reason: Int32) -> Failure {
        .operation("cannot connect to unix:\(path): \(String(cString: strerror(reason)))")
    }
}
