import Permissions

/// The address of a service that decides about logins: "https://auth.example.org:8443/auth/user".
public struct ServiceURL: Sendable, Hashable, CustomStringConvertible {
    public let isTLS: Bool
    /// A name, or an address without brackets.
    public let host: String
    public let port: UInt16
    /// With the query, if there is one.
    public let target: String
    private let isIPv6: Bool

    public static let allowed = "http:// (to this machine) or https://, HOST[:PORT] and a path"

    /// nil: the text is no such URL.
    public init?(_ text: String) {
        guard text.utf8.count <= 1024, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "#") })
        else { return nil }
        if text.hasPrefix("http://") {
            isTLS = false
        } else if text.hasPrefix("https://") {
            isTLS = true
        } else {
            return nil
        }
        let rest = text.dropFirst(isTLS ? 8 : 7)
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        guard !authority.contains("@") else { return nil }
        var host = authority
        var port: UInt16 = isTLS ? 443 : 80
        let bracket = host.lastIndex(of: "]")
        if let colon = host.lastIndex(of: ":"), bracket == nil || colon > bracket! {
            let digits = host[host.index(after: colon)...]
            guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(digits),
                number > 0
            else { return nil }
            port = number
            host = host[..<colon]
        }
        isIPv6 = host.hasPrefix("[") && host.hasSuffix("]")
        if isIPv6 { host = host.dropFirst().dropLast() }
        let isName = host.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || "-._".utf8.contains(byte)
        }
        let isAddress = host.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20) || ":.".utf8.contains(byte)
        }
        guard !host.isEmpty, host.utf8.count <= 253, isIPv6 ? isAddress : isName else { return nil }
        self.host = String(host)
        self.port = port
        let target = rest.dropFirst(authority.count)
        self.target = target.hasPrefix("/") ? String(target) : "/\(target)"
    }

    /// "auth.example.org:8443".
    public var authority: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

    public var description: String { "\(isTLS ? "https" : "http")://\(authority)\(target)" }

    /// It is an address, not a name, as certificates distinguish them.
    public var isAddress: Bool {
        isIPv6 || host.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }
    }

    /// Only this machine can hear what is said there.
    public var isLoopback: Bool { isIPv6 ? host == "::1" : host == "localhost" || isAddress && host.hasPrefix("127.") }
}

/// A service that decides about logins, by the protocol of RabbitMQ's plugin `rabbitmq_auth_backend_http`:
///
///     POST /auth/user HTTP/1.1            username=alice&password=secret
///     200 OK                              allow administrator monitoring
///
///     POST /auth/vhost HTTP/1.1           username=alice&vhost=shop&ip=192.0.2.1&tags=administrator%20monitoring
///     200 OK                              allow
///
/// The words behind `allow` are the user's tags: those that are names of roles are its roles here. A body that begins with
/// `deny` refuses. Source: the plugin's README and rabbit_auth_backend_http.erl.
package struct LoginService: Sendable {
    package enum Method: String, Sendable, CaseIterable {
        case post = "post"
        case get = "get"
    }

    package let user: ServiceURL
    /// nil: it is not asked.
    package let virtualHost: ServiceURL?
    package let method: Method

    package init(user: ServiceURL, virtualHost: ServiceURL?, method: Method) {
        self.user = user
        self.virtualHost = virtualHost
        self.method = method
    }

    /// The bytes that ask whether a login is right. They hold a secret.
    package func userRequest(_ credentials: Credentials) -> [UInt8] {
        request(user, [("username", credentials.login), ("password", credentials.passcode)])
    }

    /// The bytes that ask whether the user may come in from there.
    ///
    /// - Parameters:
    ///   - address: nil: it is not known.
    ///   - host: the virtual host.
    package func virtualHostRequest(
        _ url: ServiceURL, login: [UInt8], address: String?, tags: [String], host: String = "/"
    ) -> [UInt8] {
        request(
            url,
            [
                ("username", login), ("vhost", Array(host.utf8)), ("ip", Array((address ?? "unknown").utf8)),
                ("tags", Array(tags.joined(separator: " ").utf8)),
            ])
    }

    private func request(_ url: ServiceURL, _ fields: [(String, [UInt8])]) -> [UInt8] {
        let form = fields.map { "\($0)=\(Self.encoded($1))" }.joined(separator: "&")
        var text: String
        switch method {
        case .post:
            text = "POST \(url.target) HTTP/1.1\r\n"
        case .get:
            text = "GET \(url.target)\(url.target.contains("?") ? "&" : "?")\(form) HTTP/1.1\r\n"
        }
        text += "Host: \(url.authority)\r\nUser-Agent: stampede\r\nAccept: text/plain, */*\r\n"
        if method == .post {
            text += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: \(form.utf8.count)\r\n"
        }
        return Array((text + "\r\n" + (method == .post ? form : "")).utf8)
    }

    /// RFC 3986, section 2.3: all but the unreserved characters as %XX.
    static func encoded(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var text: [UInt8] = []
        for byte in bytes {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                text.append(byte)
            default: text += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// What a service has said.
    package enum Verdict: Sendable, Equatable {
        case allowed(tags: [String])
        /// With what it says of the reason, for the log.
        case denied(reason: String)
    }

    /// Reads an answer.
    ///
    /// - Throws: what is wrong with it.
    package static func verdict(_ response: HTTPResponse) throws(HTTPResponse.Failure) -> Verdict {
        guard response.status == 200 || response.status == 201 else {
            throw HTTPResponse.Failure(reason: "the status is \(response.status); allowed: 200")
        }
        guard let text = String(validating: response.body, as: UTF8.self) else {
            throw HTTPResponse.Failure(reason: "the body is not UTF-8 text")
        }
        let words = text.split { $0 == " " || $0.isNewline || $0 == "\t" }.map(String.init)
        switch words.first?.lowercased() {
        case "allow": return .allowed(tags: Array(words.dropFirst()))
        case "deny": return .denied(reason: words.dropFirst().joined(separator: " "))
        default: throw HTTPResponse.Failure(reason: "the body is \(quoted(text)); allowed: allow, or deny")
        }
    }
}
