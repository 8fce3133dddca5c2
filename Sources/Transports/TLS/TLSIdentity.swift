import CTLS

/// What the handshake has found out about a connection. Made when somebody asks, for example when CONNECT is
/// authenticated.
public struct TLSIdentity: Sendable, Equatable {
    /// The name of the server that the client asked for (SNI, RFC 6066, section 3). Chosen by the client.
    public let serverName: String?
    /// The protocol that ALPN chose. nil: the client did not use ALPN.
    public let applicationProtocol: String?
    /// "TLSv1.3".
    public let version: String
    /// "TLS_AES_256_GCM_SHA384".
    public let cipher: String
    /// The session of an earlier connection was resumed. Then the peer's certificate was verified there.
    public let isResumed: Bool
    /// The peer's certificate. nil: it has shown none. It is always verified: a handshake with any other fails.
    public let peer: Peer?

    public struct Peer: Sendable, Equatable {
        /// The common name. nil: there is none, or several, or it holds control characters.
        public let commonName: String?
        /// The whole subject as RFC 2253 writes it: "CN=alice,O=Example". nil: it is empty.
        public let subject: String?
        /// Names of kind dNSName, rfc822Name and URI among the alternative names of the subject.
        public let dnsNames: [String]
        public let emails: [String]
        public let uris: [String]
    }

    /// The most names of each kind that are looked at, and the most bytes of a name.
    static let nameCountMax = 64
    static let nameByteCountMax = 1024

    init(_ connection: OpaquePointer, isServer: Bool) {
        serverName = tls_server_name(connection).map { String(cString: $0) }
        let name = Self.text { tls_protocol_copy(connection, $0, $1) }
        applicationProtocol = name.isEmpty ? nil : name
        version = String(cString: tls_version_name(connection))
        cipher = String(cString: tls_cipher_name(connection))
        isResumed = tls_is_resumed(connection)
        peer = tls_peer_is_verified(connection) ? Peer(connection) : nil
    }

    private static func text(_ copy: (UnsafeMutablePointer<CChar>, Int) -> Int) -> String {
        String(unsafeUninitializedCapacity: nameByteCountMax) { buffer in
            buffer.withMemoryRebound(to: CChar.self) { copy($0.baseAddress!, $0.count) }
        }
    }
}

extension TLSIdentity.Peer {
    init(_ connection: OpaquePointer) {
        commonName = Self.name(connection, TLS_PEER_COMMON_NAME, 0)
        subject = Self.name(connection, TLS_PEER_SUBJECT, 0)
        dnsNames = Self.names(connection, TLS_PEER_DNS_NAME)
        emails = Self.names(connection, TLS_PEER_EMAIL)
        uris = Self.names(connection, TLS_PEER_URI)
    }

    private static func names(_ connection: OpaquePointer, _ kind: tls_peer_name) -> [String] {
        var names: [String] = []
        while names.count < TLSIdentity.nameCountMax, let name = name(connection, kind, names.count) {
            names.append(name)
        }
        return names
    }

    private static func name(_ connection: OpaquePointer, _ kind: tls_peer_name, _ index: Int) -> String? {
        let byteCountMax = TLSIdentity.nameByteCountMax
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: byteCountMax) { buffer in
            let count = tls_peer_name_copy(connection, kind, index, buffer.baseAddress!, byteCountMax)
            guard count > 0 else { return nil }
            return String(validating: UnsafeRawBufferPointer(buffer)[..<count], as: UTF8.self)
        }
    }
}
