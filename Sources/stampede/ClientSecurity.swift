import ArgumentParser
import Glibc
import IO
import Transports

/// The options of TLS of `tap` and `sink`: whom to trust, and with what to prove who the client is.
struct ClientSecurity: ParsableArguments {
    @Option(
        help: ArgumentHelp("TLS: trust the issuers in FILE (PEM) instead of those of the system.", valueName: "file"))
    var ca: String?

    @Option(help: ArgumentHelp("TLS: the client's own certificate and its chain (PEM).", valueName: "file"))
    var certificate: String?

    @Option(
        help: ArgumentHelp("TLS: the private key of --certificate. Default: it is in the same file.", valueName: "file")
    )
    var key: String?

    @Flag(help: "TLS: accept any certificate of the broker. Whoever is in between can read everything.")
    var insecure = false

    func validate() throws {
        if key != nil && certificate == nil { throw ValidationError("--key: allowed: only with --certificate") }
        if insecure && ca != nil { throw ValidationError("--insecure and --ca: allowed: one of both") }
    }

    /// Refuses options that would have no effect.
    func check(for broker: BrokerURL) throws {
        guard !broker.transport.usesTLS else { return }
        let given = [("--ca", ca != nil), ("--certificate", certificate != nil), ("--insecure", insecure)].first {
            $0.1
        }
        if let given { throw ValidationError("\(given.0): allowed: only with --url stomps:// or wss://") }
    }

    /// Begins TLS with the broker. nil: its transport has none.
    func stream(to broker: BrokerURL) throws -> TLSClientStream? {
        guard broker.transport.usesTLS, case .host(let host) = broker.place else { return nil }
        do throws(TLSProblem) {
            let own = certificate.map { TLSOptions.Certificate(chainFile: $0, keyFile: key ?? $0) }
            let context = try TLSContext(
                client: broker.transport.usesWebSocket ? .http : .stomp, authoritiesFile: ca, trustsAnyone: insecure,
                certificate: own, nowSeconds: Int64(time(nil)))
            return try TLSClientStream(context, serverName: host.name, isAddress: host.isAddress)
        } catch {
            let option =
                switch error.role {
                case .certificate: "--certificate: "
                case .key: key == nil ? "--certificate: " : "--key: "
                case .authorities: "--ca: "
                case .library: ""
                }
            throw error.role == .library
                ? Failure.operation("TLS: \(error)") : Failure.usage(["\(option)\(error)"])
        }
    }

    /// The text of a failure, with what helps.
    static func explain(_ failure: TLSFailure) -> Failure {
        let remedy =
            failure.kind == .verification
            ? "; name its issuer by --ca, or accept any certificate by --insecure" : ""
        return .operation("TLS: \(failure)\(remedy)")
    }
}

extension BrokerURL.Host {
    /// Whether it is an IP address, not a name.
    fileprivate var isAddress: Bool {
        var bytes = in6_addr()
        return inet_pton(AF_INET, name, &bytes) == 1 || inet_pton(AF_INET6, name, &bytes) == 1
    }
}
