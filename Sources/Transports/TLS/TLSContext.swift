import CTLS
internal import Slabs

/// A certificate that a context uses, for the log and for the warning before it expires.
public struct TLSCertificate: Sendable, Equatable {
    public let file: String
    /// The end of its validity, in seconds since 1970.
    public let expirySeconds: Int64
    /// It is one of the issuers of clients' certificates.
    public let isAuthority: Bool

    /// Days of validity that are left, rounded down. Negative: it has expired.
    public func remainingDays(nowSeconds: Int64) -> Int {
        let seconds = Int(expirySeconds - nowSeconds)
        return seconds >= 0 ? seconds / 86_400 : -1
    }
}

/// Certificates, keys and rules for the connections of a listener, or of a client. All workers share it.
///
/// It does not change. To change files, make a new one and put it into the `TLSContextSource`. Connections keep the
/// context that they began with, and its memory is freed after the last of them.
public final class TLSContext: @unchecked Sendable {
    let pointer: OpaquePointer
    /// In the order of the options; the issuers of clients' certificates last.
    public private(set) var certificates: [TLSCertificate] = []

    /// A context for a listener. Reads all files.
    ///
    /// - Parameters:
    ///   - tickets: shared by all contexts that replace each other, so that sessions can be resumed after a reload.
    ///   - nowSeconds: the time, in seconds since 1970. A certificate that is not valid now is a problem.
    public init(
        server options: TLSOptions, protocol name: TLSProtocol, tickets: TLSTicketKeys, nowSeconds: Int64
    ) throws(TLSProblem) {
        let created = name.rawValue.withCString { name in
            var rules = tls_server_rules()
            rules.requires_tls13 = options.versionMin == .tls13
            rules.protocol = name
            rules.clients =
                switch options.clientCertificates {
                case .none: TLS_CLIENTS_NONE
                case .optional: TLS_CLIENTS_OPTIONAL
                case .required: TLS_CLIENTS_REQUIRED
                }
            return tls_context_create_server(&rules, tickets.pointer)
        }
        guard let created else { throw Self.libraryProblem }
        pointer = created
        for (index, certificate) in options.certificates.enumerated() {
            try add(certificate, index: index, nowSeconds: nowSeconds)
        }
        var scope = Array("\(name.rawValue) \(options.clientCertificates.rawValue) ".utf8)
        if options.clientCertificates != .none {
            try addAuthorities(options.clientAuthoritiesFile, nowSeconds: nowSeconds) { scope += $0 }
        }
        guard tls_context_set_scope(pointer, scope, scope.count) else { throw Self.libraryProblem }
    }

    /// A context for a client.
    ///
    /// - Parameters:
    ///   - authoritiesFile: the certificates that the server's chain must end in. nil: those that the system trusts.
    ///   - trustsAnyone: the server's certificate is not verified, so anybody in between can read and change everything.
    ///   - certificate: the client's own. nil: none.
    public init(
        client name: TLSProtocol, authoritiesFile: String?, trustsAnyone: Bool = false,
        certificate: TLSOptions.Certificate? = nil, versionMin: TLSOptions.VersionMin = .tls12, nowSeconds: Int64
    ) throws(TLSProblem) {
        guard let created = tls_context_create_client(versionMin == .tls13, name.rawValue) else {
            throw Self.libraryProblem
        }
        pointer = created
        if let certificate { try add(certificate, index: 0, nowSeconds: nowSeconds) }
        if trustsAnyone {
            tls_context_trust_anyone(pointer)
        } else if let authoritiesFile {
            try addAuthorities(authoritiesFile, nowSeconds: nowSeconds) { _ in }
        } else if !tls_context_trust_system(pointer) {
            throw Self.libraryProblem
        }
    }

    deinit { tls_context_release(pointer) }

    private static var libraryProblem: TLSProblem {
        TLSProblem(
            role: .library, file: "",
            text: """
                OpenSSL makes no context: there is no memory, or the system's openssl.cnf forbids what is needed \
                (\(String(cString: tls_library_version())))
                """)
    }

    private func add(
        _ certificate: TLSOptions.Certificate, index: Int, nowSeconds: Int64
    ) throws(TLSProblem) {
        let (chainFile, keyFile) = (certificate.chainFile, certificate.keyFile)
        let facts = try TLSFiles.withBytes(of: chainFile, role: .certificate(index: index)) {
            (chain) throws(TLSProblem) in
            try TLSFiles.withBytes(of: keyFile, role: .key(index: index)) { (key) throws(TLSProblem) in
                var facts = tls_certificate_facts()
                let result = tls_context_add_certificate(
                    pointer, chain.baseAddress, chain.count, key.baseAddress, key.count, &facts)
                let isKeyToBlame =
                    result == TLS_FILE_NO_KEY || result == TLS_FILE_BAD_KEY || result == TLS_FILE_KEY_ENCRYPTED
                    || result == TLS_FILE_KEY_MISMATCH
                let problem = TLSFiles.problem(
                    result, isKeyToBlame ? .key(index: index) : .certificate(index: index),
                    isKeyToBlame ? keyFile : chainFile, certificate: chainFile, reason: facts.reasonText,
                    bytes: isKeyToBlame ? key : chain)
                if let problem { throw problem }
                return facts
            }
        }
        try checkValidity(
            facts.not_before, facts.not_after, nowSeconds, role: .certificate(index: index), file: chainFile)
        certificates.append(TLSCertificate(file: chainFile, expirySeconds: facts.not_after, isAuthority: false))
    }

    /// - Parameter keep: gets the bytes of the file.
    private func addAuthorities(
        _ file: String, nowSeconds: Int64, keep: (UnsafeRawBufferPointer) -> Void
    ) throws(TLSProblem) {
        let facts = try TLSFiles.withBytes(of: file, role: .authorities) { (bytes) throws(TLSProblem) in
            keep(bytes)
            var facts = tls_certificate_facts()
            let result = tls_context_add_authorities(pointer, bytes.baseAddress, bytes.count, &facts)
            let problem = TLSFiles.problem(result, .authorities, file, reason: facts.reasonText, bytes: bytes)
            if let problem { throw problem }
            return facts
        }
        // Bundles hold expired authorities beside valid ones, so that is no problem; the warning tells.
        certificates.append(TLSCertificate(file: file, expirySeconds: facts.not_after, isAuthority: true))
    }

    private func checkValidity(
        _ notBefore: Int64, _ notAfter: Int64, _ nowSeconds: Int64, role: TLSProblem.Role, file: String
    ) throws(TLSProblem) {
        if notAfter <= nowSeconds {
            throw TLSProblem(
                role: role, file: file,
                text: "the certificate expired on \(UTCDate(notAfter)); install its successor, or set the clock")
        }
        if notBefore > nowSeconds {
            throw TLSProblem(
                role: role, file: file,
                text: "the certificate is not valid before \(UTCDate(notBefore)); wait, or set the clock")
        }
    }

    /// Connections of TLS 1.3 use these cipher suites only: names of RFC 8446, separated by colons. To be called before the
    /// first connection. False: OpenSSL knows none of that name.
    package func setSuites(_ suites: String) -> Bool { tls_context_set_suites(pointer, suites) }

    /// For tests.
    func limitToVersion12() -> Bool { tls_context_limit_to_tls12(pointer) }

    /// Whether one of the certificates serves this name, exactly or by a wildcard.
    func serves(_ name: String) -> Bool { tls_context_serves(pointer, name) }
}

extension tls_certificate_facts {
    fileprivate var reasonText: String {
        withUnsafeBytes(of: reason) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

/// The context of a listener, which a reload replaces for new connections. Thread-safe.
public final class TLSContextSource: Sendable {
    private let context: Guarded<TLSContext>

    public init(_ context: TLSContext) { self.context = Guarded(context) }

    public var current: TLSContext { context.withLock { $0 } }

    public func replace(with newContext: TLSContext) {
        // The old context is released outside of the lock. It may be the last reference.
        let old = context.withLock { context in
            let old = context
            context = newContext
            return old
        }
        _ = consume old
    }
}

/// The keys that encrypt session tickets: stateless resumption (RFC 8446, section 2.2; RFC 5077). All workers share
/// them, and a reload keeps them. Thread-safe.
///
/// A ticket holds what is needed to decrypt the resumed connection. So a key is used for a limited time, and then only
/// accepted for as long again. Both are forgotten when the process ends.
public final class TLSTicketKeys: @unchecked Sendable {
    let pointer: OpaquePointer
    public static let periodSeconds: Int64 = 3600

    /// nil: there is no memory, or the system has no random bytes.
    public init?(nowSeconds: Int64, periodSeconds: Int64 = TLSTicketKeys.periodSeconds) {
        let pointer = tls_ticket_keys_create(UInt64(max(nowSeconds, 0)), UInt64(periodSeconds))
        guard let pointer else { return nil }
        self.pointer = pointer
    }

    deinit { tls_ticket_keys_release(pointer) }

    /// Makes a new key if the current one is a period old. One comparison if it is not.
    @discardableResult
    public func renew(nowSeconds: Int64) -> Bool { tls_ticket_keys_renew(pointer, UInt64(max(nowSeconds, 0))) }
}
