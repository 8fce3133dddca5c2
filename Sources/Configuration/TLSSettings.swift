public import Transports

/// The keys of `tls`.
public struct TLSSettings: Sendable, Equatable {
    /// Files of the first certificate: its chain, and its key. An empty `keyFile`: the key is in the file of the chain.
    public var certificateFile = ""
    public var keyFile = ""
    /// Further certificates, each "CHAIN:KEY", or one file that holds both.
    public var furtherCertificates: [String] = []
    public var clientCertificates = TLSOptions.ClientCertificates.none
    public var clientAuthoritiesFile = ""
    public var versionMin = TLSOptions.VersionMin.tls12

    public init() {}

    static let pairAllowed = "CHAIN:KEY, two files, or one file that holds both; paths without a colon"

    /// The files of "CHAIN:KEY" or "FILE". nil: it is neither.
    static func pair(_ text: String) -> TLSOptions.Certificate? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        return TLSOptions.Certificate(chainFile: parts[0], keyFile: parts.last!)
    }

    /// What the transports need. Without a first certificate there is none.
    public var options: TLSOptions {
        var options = TLSOptions()
        if !certificateFile.isEmpty {
            options.certificates.append(
                TLSOptions.Certificate(chainFile: certificateFile, keyFile: keyFile.isEmpty ? certificateFile : keyFile)
            )
        }
        options.certificates += furtherCertificates.compactMap { Self.pair($0) }
        options.clientCertificates = clientCertificates
        options.clientAuthoritiesFile = clientAuthoritiesFile
        options.versionMin = versionMin
        return options
    }

    /// What is wrong. Where no key is named, its file is that of the certificate, and nothing was exchanged.
    public func explanation(of problem: TLSProblem) -> String {
        guard problem.isExchange else { return problem.description }
        let key: String
        switch problem.role {
        case .key(index: 0) where keyFile.isEmpty: key = "tls.key"
        case .key(let index) where index > 0 && options.certificates[index].namesOneFile: key = "CHAIN:KEY"
        default: return problem.description
        }
        return "\(problem.file): holds no private key; set \(key), or put the key into this file"
    }

    /// The key that names the file of a problem.
    public func path(of role: TLSProblem.Role) -> String {
        switch role {
        case .certificate(index: 0): "tls.certificate"
        case .key(index: 0): keyFile.isEmpty ? "tls.certificate" : "tls.key"
        case .certificate(let index), .key(let index): "tls.certificates[\(index - 1)]"
        case .authorities: "tls.client-ca"
        case .library: "tls"
        }
    }
}

extension TLSOptions.Certificate {
    fileprivate var namesOneFile: Bool { chainFile == keyFile }
}
