import ArgumentParser
import Load

/// How the bytes of the load travel.
enum ClientTransport: String, CaseIterable, ExpressibleByArgument {
    case tcp, ws, tls, wss

    /// The beginning of the broker's listener.
    var scheme: String {
        switch self {
        case .tcp: ""
        case .ws: "ws://"
        case .tls: "stomps://"
        case .wss: "wss://"
        }
    }

    /// The end of a server's name in tables.
    var suffix: String { self == .tcp ? "" : " \(rawValue)" }

    /// The path of the WebSocket. nil: none.
    var webSocketPath: String? { self == .ws || self == .wss ? "/ws" : nil }

    var usesTLS: Bool { self == .tls || self == .wss }

    /// The clients' TLS. nil: none.
    func tls(_ suite: CipherSuite) -> Load.TLS? { usesTLS ? Load.TLS(suites: suite.name) : nil }
}

/// A cipher suite of TLS 1.3, by the name that `openssl speed -evp` has for its cipher.
enum CipherSuite: String, CaseIterable, ExpressibleByArgument {
    case aes128 = "aes-128-gcm"
    case aes256 = "aes-256-gcm"
    case chacha20 = "chacha20-poly1305"

    /// RFC 8446, appendix B.4.
    var name: String {
        switch self {
        case .aes128: "TLS_AES_128_GCM_SHA256"
        case .aes256: "TLS_AES_256_GCM_SHA384"
        case .chacha20: "TLS_CHACHA20_POLY1305_SHA256"
        }
    }
}
