public import IO

/// Where a listener accepts clients, and how their frames travel.
///
///     stomp://127.0.0.1:61613             TCP; also written 127.0.0.1:61613
///     stomps://[::]:61614                 TLS
///     ws://127.0.0.1:15674                WebSocket; clients may ask for the paths /ws, /stomp and /
///     wss://0.0.0.0:15673/chat            WebSocket over TLS, only on the path /chat
///     unix:/run/stampede.sock             a Unix socket; also unix:///run/stampede.sock
///     ws+unix:/run/stampede-web.sock      WebSocket on a Unix socket, for a proxy on this machine
///
/// A TCP address without a port has the default port of its scheme. The path of a Unix socket is taken literally, up to
/// a question mark; after it `mode`, `owner` and `group` may follow: `unix:/run/stampede.sock?mode=0666`.
public struct ListenerURL: Sendable, Hashable, CustomStringConvertible {
    public enum Place: Sendable, Hashable {
        case network(ListenAddress)
        /// The absolute path of a Unix socket.
        case unix(path: String)
    }

    /// Why a text is not the URL of a listener. It completes "found ...; ".
    struct Fault: Error, Equatable {
        let reason: String

        init(_ reason: String) { self.reason = reason }
    }

    public let transport: TransportKind
    public let place: Place
    /// The path of the WebSocket handshake, if the URL names one.
    public let path: String?

    /// The accepted forms of text, for messages to the operator.
    static let allowed =
        "IPV4:PORT, \"[IPV6]:PORT\", localhost:PORT, or a URL: stomp://, stomps://, ws:// or wss:// and such an "
        + "address, or unix:/PATH"

    /// - Parameter text: without a query.
    init(_ text: String) throws(Fault) {
        if let (transport, path) = try Self.unixPath(of: text) {
            self.transport = transport
            place = .unix(path: path)
            self.path = nil
            return
        }
        guard let (scheme, rest) = Self.split(text) else {
            guard let address = ListenAddress(text) else {
                let fault = "allowed: one or several of \(Self.allowed)"
                throw Fault(fault)
            }
            transport = .stomp
            place = .network(address)
            path = nil
            return
        }
        guard let kind = TransportKind(scheme: String(scheme)) else {
            let known = "stomp://, stomps://, ws://, wss://, unix:/"
            throw Fault("unknown scheme \(excerpt(String(scheme))); allowed: \(known)")
        }
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        transport = kind
        place = .network(try Self.address(authority, scheme: kind))
        path = try Self.path(rest.dropFirst(authority.count), of: kind)
    }

    /// As the operator may write it. A plain TCP address has no scheme.
    public var description: String {
        switch place {
        case .network(let address): text(boundTo: address.description) + (path ?? "")
        case .unix(let path): text(boundTo: "unix:\(path)")
        }
    }

    /// The text for the address that the listener is bound to, for the log: "ws://127.0.0.1:15674" for
    /// "127.0.0.1:15674".
    public func text(boundTo address: String) -> String {
        switch (transport, place) {
        case (.stomp, _): address
        case (_, .network): "\(transport.scheme)://\(address)"
        case (_, .unix): "\(transport.scheme)+\(address)"
        }
    }

    // MARK: Parts

    /// "ws" and "127.0.0.1:1/path" of "ws://127.0.0.1:1/path". nil: there is no scheme.
    private static func split(_ text: String) -> (scheme: Substring, rest: Substring)? {
        guard let mark = text.firstRange(of: "://") else { return nil }
        return (text[..<mark.lowerBound], text[mark.upperBound...])
    }

    private static func address(_ authority: Substring, scheme: TransportKind) throws(Fault) -> ListenAddress {
        let example = "\(scheme.scheme)://127.0.0.1:\(scheme.defaultPort)"
        guard !authority.contains("@") else { throw Fault("a listener has no user; allowed: \(example)") }
        if let address = ListenAddress(String(authority), defaultPort: scheme.defaultPort) { return address }
        throw Fault(
            "\(excerpt(String(authority))) is no address to listen on; allowed: IPV4, \"[IPV6]\" or localhost, each "
                + "with :PORT or without, as in \(example)")
    }

    /// RFC 3986, section 3.3: the path of the request that opens a WebSocket.
    private static func path(_ text: Substring, of kind: TransportKind) throws(Fault) -> String? {
        if text.isEmpty { return nil }
        guard kind.usesWebSocket else {
            if text == "/" { return nil }
            throw Fault("\(excerpt(String(text))) is too much: only ws:// and wss:// have a path")
        }
        guard acceptsPath(String(text)) else {
            throw Fault("\(excerpt(String(text))) is no path; allowed: one like /ws, without ?, # and spaces")
        }
        return String(text)
    }

    static func acceptsPath(_ text: String) -> Bool {
        text.hasPrefix("/") && text.utf8.count <= 256
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
    }

    /// unix(7): the path has at most 107 bytes, because `sun_path` has 108 and ends with a NUL.
    static let unixPathByteCountMax = 107

    /// nil: it is not the URL of a Unix socket.
    private static func unixPath(of text: String) throws(Fault) -> (TransportKind, String)? {
        var rest = Substring(text)
        var transport = TransportKind.stomp
        if rest.hasPrefix("ws+unix:") {
            transport = .ws
            rest = rest.dropFirst(3)
        }
        guard rest.hasPrefix("unix:") else { return nil }
        rest = rest.dropFirst(5)
        if rest.hasPrefix("///") { rest = rest.dropFirst(2) }
        guard rest.hasPrefix("/"), !rest.hasPrefix("//"), !rest.hasSuffix("/") else {
            throw Fault("a Unix socket has an absolute path; allowed: unix:/run/stampede.sock")
        }
        guard rest.utf8.count <= unixPathByteCountMax else {
            throw Fault("the path of a Unix socket has at most \(unixPathByteCountMax) bytes")
        }
        guard !rest.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw Fault("the path of a Unix socket has no control characters")
        }
        return (transport, String(rest))
    }
}
