/// The files and rules of TLS, as the configuration names them.
public struct TLSOptions: Sendable, Equatable {
    /// A certificate and its private key, both PEM. The chain begins with the server's own certificate. Both may be the
    /// same file.
    public struct Certificate: Sendable, Equatable {
        public var chainFile: String
        public var keyFile: String

        public init(chainFile: String, keyFile: String) {
            self.chainFile = chainFile
            self.keyFile = keyFile
        }
    }

    /// Whether clients prove who they are with certificates of their own.
    public enum ClientCertificates: String, Sendable, CaseIterable {
        /// They are not asked.
        case none
        /// They may. A certificate that cannot be verified is refused all the same.
        case optional
        /// A client without a certificate is refused in the handshake.
        case required
    }

    /// The oldest version of the protocol. TLS 1.0 and 1.1 are not supported (RFC 8996).
    public enum VersionMin: String, Sendable, CaseIterable {
        case tls12 = "1.2"
        case tls13 = "1.3"
    }

    /// The first is the default: clients get it that ask for no name, or for a name that no certificate has. Each of the
    /// others serves the names that it holds, also with a wildcard for the first label (RFC 6066, section 3).
    public var certificates: [Certificate] = []
    public var clientCertificates = ClientCertificates.none
    /// The issuers of clients' certificates, PEM. Empty: none.
    public var clientAuthoritiesFile = ""
    public var versionMin = VersionMin.tls12

    public init() {}
}

/// What is spoken inside of TLS, as ALPN names it (RFC 7301). A client that does not use ALPN is accepted, and one that
/// offers only other protocols is refused.
public enum TLSProtocol: String, Sendable, CaseIterable {
    case stomp
    /// The HTTP request that becomes a WebSocket.
    case http = "http/1.1"
}

/// A problem with a file of TLS, or with what is in it.
public struct TLSProblem: Error, Sendable, Equatable, CustomStringConvertible {
    /// The option to which the file belongs.
    public enum Role: Sendable, Equatable {
        /// The chain of certificate number `index`.
        case certificate(index: Int)
        case key(index: Int)
        case authorities
        /// OpenSSL itself fails.
        case library
    }

    public let role: Role
    /// The path. Empty: no file is to blame.
    public let file: String
    /// What is wrong, and what would be right.
    public let text: String

    public init(role: Role, file: String, text: String) {
        self.role = role
        self.file = file
        self.text = text
    }

    public var description: String { file.isEmpty ? text : "\(file): \(text)" }

    /// The file of a certificate holds a key instead, or that of a key a certificate.
    public var isExchange: Bool { text.hasSuffix(Self.exchangeAdvice) }
    static let exchangeAdvice = "are certificate and key exchanged?"
}
