import TestSupport
import Testing

@testable import Transports

@Suite("TLS: certificates and rules")
struct TLSContextTests {
    private static var files: TestCertificates { .shared }

    private static func connect(
        _ clientContext: TLSContext, _ serverContext: TLSContext, name: String = "localhost", isAddress: Bool = false,
        check: (inout TLSPeer, inout TLSPeer) throws -> Void
    ) throws {
        var client = TLSPeer(client: clientContext, name: name, isAddress: isAddress)
        var server = TLSPeer(server: serverContext)
        handshake(&client, &server)
        try check(&client, &server)
    }

    // MARK: Names

    @Test("The name that the client asks for chooses the certificate: exactly, by a wildcard, or the first one")
    func serverNames() throws {
        let context = try TestContexts.server(TestContexts.options("server", "wild", "web"))
        let expected = [
            "localhost": "server", "broker.example.org": "server", "BROKER.Example.ORG": "server",
            "web.example.org": "web", "a.web.example.org": "web", "other.example.org": "wild",
        ]
        for (name, certificate) in expected {
            try Self.connect(try TestContexts.client(), context, name: name) { client, server in
                let peer = client.engine.identity.peer
                #expect(peer?.commonName == certificate, "\(name): \(client.failure)")
                let serverName = server.engine.identity.serverName
                #expect(serverName == name)
            }
        }
        // A wildcard is one label; the first certificate answers for names that none has. The client refuses it.
        for name in ["example.org", "a.b.example.org", "unknown.test"] {
            try Self.connect(try TestContexts.client(), context, name: name) { client, server in
                #expect(client.failure.description.contains("hostname mismatch"), "\(client.failure)")
                #expect(server.failure.kind == .alert)
            }
        }
        #expect(context.serves("localhost."))
        #expect(context.serves("x.web.example.org"))
        #expect(!context.serves("example.org"))
        #expect(!context.serves(String(repeating: "a", count: 300)))
        #expect(!context.serves(""))
    }

    @Test("A client checks the address of a server in its certificate")
    func address() throws {
        let context = try TestContexts.server()
        try Self.connect(try TestContexts.client(), context, name: "127.0.0.1", isAddress: true) { client, server in
            let isEstablished = client.engine.isEstablished
            #expect(isEstablished)
            #expect(server.engine.identity.serverName == nil)
        }
        try Self.connect(try TestContexts.client(), context, name: "127.0.0.2", isAddress: true) { client, _ in
            #expect(client.failure.description.contains("IP address mismatch"))
        }
    }

    @Test("A client that trusts others refuses the server, and the server's log can say so")
    func unknownAuthority() throws {
        try Self.connect(try TestContexts.client(authority: "other-ca"), try TestContexts.server()) { client, server in
            #expect(client.failure.kind == .verification)
            // unknown_ca: RFC 8446, section 6.2.
            #expect(server.failure.description.contains("alert 48"), "\(server.failure)")
        }
    }

    @Test("A client that offers only other protocols is refused; one that offers none is not")
    func protocols() throws {
        let server = try TestContexts.server()
        try Self.connect(try TestContexts.client(protocol: .http), server) { client, server in
            let isEstablished = server.engine.isEstablished
            #expect(!isEstablished)
            // no_application_protocol: RFC 7301, section 3.2.
            #expect(client.failure.description.contains("alert 120"), "\(client.failure)")
        }
        try Self.connect(try TestContexts.client(), server) { client, _ in
            #expect(client.engine.identity.applicationProtocol == "stomp")
        }
        let web = try TestContexts.server(TestContexts.options("server"), protocol: .http)
        try Self.connect(try TestContexts.client(protocol: .http), web) { client, _ in
            #expect(client.engine.identity.applicationProtocol == "http/1.1")
        }
    }

    @Test("TLS 1.2 is refused if 1.3 is the least")
    func versions() throws {
        let context = try TestContexts.server(TestContexts.options("server", versionMin: .tls13))
        let old = try TestContexts.client()
        #expect(old.limitToVersion12())
        try Self.connect(old, context) { client, server in
            // protocol_version
            #expect(client.failure.description.contains("alert 70"), "\(client.failure)")
            #expect(server.failure.description.contains("unsupported protocol"), "\(server.failure)")
        }
    }

    // MARK: Certificates of clients

    @Test("A client's certificate is verified, and its names are known", arguments: [false, true])
    func clientCertificate(isVersion12: Bool) throws {
        let context = try TestContexts.server(TestContexts.options("server", clients: .required))
        let alice = try TestContexts.client(certificate: "alice")
        if isVersion12 { #expect(alice.limitToVersion12()) }
        try Self.connect(alice, context) { client, server in
            let isEstablished = server.engine.isEstablished
            try #require(isEstablished, "\(server.failure)")
            let peer = try #require(server.engine.identity.peer)
            #expect(peer.commonName == "alice")
            #expect(peer.subject == "CN=alice,O=Example")
            #expect(peer.emails == ["alice@example.org"])
            #expect(peer.uris == ["urn:user:alice"])
            #expect(peer.dnsNames == ["a.example.org"])
        }
        try Self.connect(try TestContexts.client(certificate: "unnamed"), context) { _, server in
            let peer = try #require(server.engine.identity.peer)
            #expect(peer.commonName == nil)
            #expect(peer.subject == "O=Example")
        }
    }

    @Test("Certificates of clients: none is asked for, one is optional, one is required")
    func clientRules() throws {
        let anonymous = try TestContexts.client()
        let alice = try TestContexts.client(certificate: "alice")
        let stranger = try TestContexts.client(certificate: "stranger")
        try Self.connect(alice, try TestContexts.server()) { _, server in
            #expect(server.engine.identity.peer == nil)
            let isEstablished = server.engine.isEstablished
            #expect(isEstablished)
        }
        let optional = try TestContexts.server(TestContexts.options("server", clients: .optional))
        try Self.connect(anonymous, optional) { _, server in
            #expect(server.engine.identity.peer == nil)
            let isEstablished = server.engine.isEstablished
            #expect(isEstablished)
        }
        let required = try TestContexts.server(TestContexts.options("server", clients: .required))
        try Self.connect(anonymous, required) { client, server in
            #expect(server.failure.description.contains("did not return a certificate"), "\(server.failure)")
            // certificate_required
            #expect(client.failure.description.contains("alert 116"), "\(client.failure)")
        }
        for context in [optional, required] {
            try Self.connect(stranger, context) { client, server in
                #expect(server.failure.kind == .verification, "\(server.failure)")
                #expect(client.failure.description.contains("alert 48"), "\(client.failure)")
            }
        }
    }

    // MARK: Reload and tickets

    /// Connects and takes the session that the server gives.
    private static func session(_ clientContext: TLSContext, _ serverContext: TLSContext) throws -> [UInt8] {
        var session: [UInt8] = []
        try connect(clientContext, serverContext) { client, server in
            let isEstablished = client.engine.isEstablished
            try #require(isEstablished, "\(client.failure) \(server.failure)")
            server.sendTicket()
            exchange(&client, &server)
            session = client.engine.session()
        }
        try #require(!session.isEmpty)
        return session
    }

    private static func isResumed(
        _ session: [UInt8], _ clientContext: TLSContext, _ serverContext: TLSContext
    ) throws -> Bool {
        var client = TLSPeer(client: clientContext)
        var server = TLSPeer(server: serverContext)
        let isOffered = client.engine.resume(session)
        #expect(isOffered)
        handshake(&client, &server)
        let isEstablished = client.engine.isEstablished && server.engine.isEstablished
        try #require(isEstablished, "\(client.failure) \(server.failure)")
        let identity = server.engine.identity
        #expect(identity.isResumed == client.engine.identity.isResumed)
        return identity.isResumed
    }

    @Test("A session is resumed with its ticket, also after a reload", arguments: [false, true])
    func resumption(isVersion12: Bool) throws {
        let clientContext = try TestContexts.client()
        if isVersion12 { #expect(clientContext.limitToVersion12()) }
        let session = try Self.session(clientContext, try TestContexts.server())
        #expect(try Self.isResumed(session, clientContext, try TestContexts.server()))
        let otherKeys = try #require(TLSTicketKeys(nowSeconds: TestContexts.now))
        #expect(!(try Self.isResumed(session, clientContext, try TestContexts.server(tickets: otherKeys))))
    }

    @Test("A ticket is accepted for as long as its key, and for one period more")
    func ticketKeys() throws {
        let clientContext = try TestContexts.client()
        let keys = try #require(TLSTicketKeys(nowSeconds: 1000, periodSeconds: 100))
        let server = try TestContexts.server(tickets: keys)
        let session = try Self.session(clientContext, server)
        #expect(!keys.renew(nowSeconds: 1099))
        #expect(try Self.isResumed(session, clientContext, server))
        #expect(keys.renew(nowSeconds: 1100))
        #expect(!keys.renew(nowSeconds: 1100))
        #expect(try Self.isResumed(session, clientContext, server))
        #expect(keys.renew(nowSeconds: 1200))
        #expect(!(try Self.isResumed(session, clientContext, server)))

        // After a long silence both keys are too old.
        let late = try Self.session(clientContext, server)
        #expect(keys.renew(nowSeconds: 5000))
        #expect(!(try Self.isResumed(late, clientContext, server)))
    }

    @Test("A resumed session knows the client's certificate; a change of the rules ends that")
    func resumedClient() throws {
        let alice = try TestContexts.client(certificate: "alice")
        let required = try TestContexts.server(TestContexts.options("server", clients: .required))
        let session = try Self.session(alice, required)
        var client = TLSPeer(client: alice)
        var server = TLSPeer(server: required)
        #expect(client.engine.resume(session))
        handshake(&client, &server)
        let identity = server.engine.identity
        #expect(identity.isResumed)
        #expect(identity.peer?.commonName == "alice")

        #expect(!(try Self.isResumed(session, alice, try TestContexts.server())))
        var options = TestContexts.options("server", clients: .required)
        options.clientAuthoritiesFile = Self.files.file("both-ca.pem")
        Self.files.write(Self.files.text(of: "ca.pem") + Self.files.text(of: "other-ca.pem"), to: "both-ca.pem")
        #expect(!(try Self.isResumed(session, alice, try TestContexts.server(options))))
    }

    @Test("New connections get the new context, old ones keep theirs")
    func reload() throws {
        let source = TLSContextSource(try TestContexts.server())
        let clientContext = try TestContexts.client()
        var oldClient = TLSPeer(client: clientContext)
        var oldServer = TLSPeer(server: source.current)
        var waitingClient = TLSPeer(client: clientContext)
        var waitingServer = TLSPeer(server: source.current)
        handshake(&oldClient, &oldServer)
        waitingClient.receive()

        source.replace(with: try TestContexts.server(TestContexts.options("wild")))
        // The first context lives on in its connections alone.
        exchange(&waitingClient, &waitingServer)
        let isEstablished = waitingClient.engine.isEstablished
        #expect(isEstablished)
        oldServer.send([1, 2, 3])
        exchange(&oldClient, &oldServer)
        #expect(oldClient.plaintext == [1, 2, 3])
        try Self.connect(clientContext, source.current, name: "a.example.org") { client, _ in
            #expect(client.engine.identity.peer?.commonName == "wild")
        }
    }

    @Test("The end of validity is known")
    func expiry() throws {
        let context = try TestContexts.server(TestContexts.options("server", "web", clients: .optional))
        let names = context.certificates.map(\.file)
        #expect(names == ["server.pem", "web.pem", "ca.pem"].map(Self.files.file))
        #expect(context.certificates.map(\.isAuthority) == [false, false, true])
        for certificate in context.certificates {
            #expect((29...30).contains(certificate.remainingDays(nowSeconds: TestContexts.now)))
            #expect(certificate.remainingDays(nowSeconds: TestContexts.now + 31 * 86_400) == -1)
        }
    }
}
