import Access
import IO
public import Transports

/// The rules between the keys of `tls`, and between them and the listeners.
extension EffectiveSettings {
    mutating func checkTLS() {
        let tls = settings.tls
        let usesTLS = settings.listeners.contains { $0.transport.usesTLS }
        if usesTLS && tls.certificateFile.isEmpty {
            let listener = settings.listeners.first { $0.transport.usesTLS }!
            report(
                origin(of: "tls.certificate"), "tls.certificate",
                "found none, but \(listener.url) needs one; allowed: the path of a PEM file")
        }
        if !usesTLS {
            let defaults = Settings()
            for setting in Schema.tls where setting.get(settings) != setting.get(defaults) {
                report(
                    origin(of: setting.path), setting.path,
                    "has no effect: no listener has TLS; allowed: only with a listener stomps:// or wss://")
            }
            return
        }
        let isVerifying = tls.clientCertificates != .none
        if isVerifying && tls.clientAuthoritiesFile.isEmpty {
            report(
                origin(of: "tls.client-certificates"), "tls.client-certificates",
                "found \(tls.clientCertificates.rawValue), but tls.client-ca names no issuers; allowed: both, or none")
        }
        if !isVerifying && !tls.clientAuthoritiesFile.isEmpty {
            report(
                origin(of: "tls.client-ca"), "tls.client-ca",
                "has no effect: tls.client-certificates is none; allowed: with optional or required")
        }
    }

    /// Reads the files of TLS as the broker would do. They are not part of the configuration, so `load` does not read
    /// them.
    ///
    /// - Throws: what is wrong with a file, at the key that names it.
    public func checkCertificates(nowSeconds: Int64) throws(ConfigurationError) {
        do throws(TLSProblem) {
            _ = try settings.serviceContext(nowSeconds: nowSeconds)
        } catch {
            let path = "access.http.ca"
            throw ConfigurationError(problems: [
                ConfigurationProblem(place: origin(of: path).place, path: path, text: error.description)
            ])
        }
        guard settings.usesTLS else { return }
        do throws(TLSProblem) {
            _ = try settings.tlsContexts(tickets: nil, nowSeconds: nowSeconds)
        } catch {
            let path = settings.tls.path(of: error.role)
            let key = String(path.prefix { $0 != "[" })
            throw ConfigurationError(problems: [
                ConfigurationProblem(
                    place: origin(of: key).place, path: path, text: settings.tls.explanation(of: error))
            ])
        }
    }
}

extension EffectiveSettings {
    /// Warnings of private keys that others than the broker can read.
    public var exposedKeys: [String] {
        guard settings.usesTLS else { return [] }
        let files = settings.tls.options.certificates.map(\.keyFile)
        return files.compactMap { file in KeyFile.exposure(of: file).map { "\(file): \($0)" } }
    }
}

extension Settings {
    /// Whom to trust where the login service has TLS. nil: it has none.
    public func serviceContext(nowSeconds: Int64) throws(TLSProblem) -> TLSContext? {
        guard access.serviceUsesTLS else { return nil }
        let file = access.serviceAuthoritiesFile
        return try TLSContext(client: .http, authoritiesFile: file.isEmpty ? nil : file, nowSeconds: nowSeconds)
    }

    public var usesTLS: Bool { listeners.contains { $0.transport.usesTLS } }

    /// Reads the files of TLS, once for each protocol that listeners speak in it.
    ///
    /// - Parameter tickets: the keys of session tickets. nil: new ones, for a check.
    public func tlsContexts(
        tickets: TLSTicketKeys?, nowSeconds: Int64
    ) throws(TLSProblem) -> [TLSProtocol: TLSContext] {
        guard let tickets = tickets ?? TLSTicketKeys(nowSeconds: nowSeconds) else {
            throw TLSProblem(role: .library, file: "", text: "the system has no random bytes for the keys of tickets")
        }
        var contexts: [TLSProtocol: TLSContext] = [:]
        for listener in listeners where listener.transport.usesTLS {
            let name: TLSProtocol = listener.transport.usesWebSocket ? .http : .stomp
            if contexts[name] != nil { continue }
            contexts[name] = try TLSContext(
                server: tls.options, protocol: name, tickets: tickets, nowSeconds: nowSeconds)
        }
        return contexts
    }
}
