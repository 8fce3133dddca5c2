import Configuration
import Drivers
import Glibc
import IO
import Logging
import Transports

/// The certificates of the broker: read at the start, read again by SIGHUP, and watched for their end.
struct Certificates {
    /// Days before its end at which a certificate is warned of, once a day.
    static let warningDays = 30
    static let warningIntervalSeconds = 86_400

    private let settings: Settings
    /// nil: no listener has TLS.
    private let tickets: TLSTicketKeys?
    private let sources: [TLSProtocol: TLSContextSource]

    init(_ settings: Settings) throws(DriverError) {
        self.settings = settings
        guard settings.usesTLS else {
            tickets = nil
            sources = [:]
            return
        }
        let now = Clock.wallSeconds
        let tickets = TLSTicketKeys(nowSeconds: now)
        do throws(TLSProblem) {
            let contexts = try settings.tlsContexts(tickets: tickets, nowSeconds: now)
            self.tickets = tickets
            sources = contexts.mapValues { TLSContextSource($0) }
        } catch {
            throw DriverError(.other, "\(settings.tls.path(of: error.role)): \(settings.tls.explanation(of: error))")
        }
    }

    /// A listener has TLS.
    var areUsed: Bool { tickets != nil }

    /// What the workers' layers need. nil: no listener has TLS.
    var layerOptions: TLSLayerOptions? {
        guard let tickets else { return nil }
        let listeners = settings.listeners.map { listener in
            let kind = listener.transport
            return TLSListener(
                source: kind.usesTLS ? sources[kind.usesWebSocket ? .http : .stomp] : nil,
                expectsProxyHeader: listener.proxies != .none, hasWebSockets: kind.usesWebSocket)
        }
        return TLSLayerOptions(listeners: listeners, tickets: tickets)
    }

    /// Reads all files again. New connections get what they hold. If one cannot be used, nothing changes.
    func reload(_ logger: Logger) {
        guard let tickets else { return }
        do throws(TLSProblem) {
            let contexts = try settings.tlsContexts(tickets: tickets, nowSeconds: Clock.wallSeconds)
            for (name, context) in contexts { sources[name]?.replace(with: context) }
            logger.notice(
                "certificates were read again; new connections get them",
                metadata: ["certificates": .stringConvertible(settings.tls.options.certificates.count)])
            warnOfExpiry(logger)
        } catch {
            logger.error(
                """
                certificates were read again, but those in use are kept: \(settings.tls.path(of: error.role)): \
                \(settings.tls.explanation(of: error))
                """)
        }
    }

    /// Warns of each certificate whose end is near.
    func warnOfExpiry(_ logger: Logger) {
        let now = Clock.wallSeconds
        // The contexts of all protocols have the same certificates.
        guard let context = sources.values.first?.current else { return }
        for certificate in context.certificates {
            let days = certificate.remainingDays(nowSeconds: now)
            guard days < Self.warningDays else { continue }
            let kind = certificate.isAuthority ? "an issuer of clients' certificates" : "the certificate"
            let end = days < 0 ? "has expired" : "expires in \(days) days"
            logger.warning(
                "\(kind) in \(certificate.file) \(end); replace it, and then send SIGHUP",
                metadata: ["days": .stringConvertible(days)])
        }
    }
}

/// What a worker makes its layer of TLS from.
struct TLSLayerOptions: Sendable {
    var listeners: [TLSListener]
    var tickets: TLSTicketKeys
}
