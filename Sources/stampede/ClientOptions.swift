import ArgumentParser
import Glibc

/// The connection options of `tap` and `sink`.
struct ClientOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The broker to connect to.", valueName: "host:port"))
    var host = "127.0.0.1:61613"

    @Option(help: "The login to present.")
    var login: String?

    @Option(
        help: "The passcode to present. Other users can see a command's arguments: prefer the variable STOMP_PASSCODE.")
    var passcode: String?

    @Flag(name: .shortAndLong, help: "Report on standard error what the broker has confirmed.")
    var verbose = false

    func validate() throws {
        guard BrokerAddress(host) != nil else {
            throw ValidationError("--host: found \"\(host)\"; allowed: HOST:PORT, [IPV6]:PORT or HOST (port 61613)")
        }
    }

    /// The login and passcode headers of CONNECT.
    var credentials: [(String, String)] {
        let passcode = passcode ?? getenv("STOMP_PASSCODE").map { String(cString: $0) }
        return [("login", login), ("passcode", passcode)].compactMap { name, value in value.map { (name, $0) } }
    }

    /// Warns about a destination without a leading slash, which is seldom what was meant.
    func hint(about destination: String) {
        guard !destination.hasPrefix("/") else { return }
        Console.error(
            "\(destination) has no leading slash, so the broker takes it for a topic (its key bare-names says otherwise): "
                + "write /topic/\(destination) or /queue/\(destination)")
    }

    func report(_ line: String) {
        if verbose { Console.error(line) }
    }

    /// Parses the arguments of `--header NAME:VALUE`. The first colon is the separator.
    static func headers(_ texts: [String]) throws -> [(String, String)] {
        try texts.map { text in
            guard let colon = text.firstIndex(of: ":"), colon != text.startIndex else {
                throw ValidationError("--header: found \"\(text)\"; allowed: NAME:VALUE")
            }
            return (String(text[..<colon]), String(text[text.index(after: colon)...]))
        }
    }
}

/// The host name or address of a broker, and its port.
struct BrokerAddress {
    let host: String
    let port: String

    /// Parses `host:port`, `[ipv6]:port`, `host` or `[ipv6]`. The default port is 61613.
    init?(_ text: String) {
        var rest = Substring(text)
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
        } else {
            let name = rest.prefix { $0 != ":" }
            host = String(name)
            rest = rest.dropFirst(name.count)
        }
        guard !host.isEmpty else { return nil }
        if rest.isEmpty {
            port = "61613"
        } else {
            guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
            port = String(number)
        }
    }

    /// Returns a connected non-blocking socket.
    ///
    /// Tries all addresses of the name, one after the other, each for `secondsMax`.
    func connect(secondsMax: Int32 = 10) throws -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, port, &hints, &list)
        guard result == 0 else {
            throw Failure.operation("cannot find \(host): \(String(cString: gai_strerror(result)))")
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
        throw Failure.operation("cannot connect to \(host) port \(port): \(String(cString: strerror(reason)))")
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
