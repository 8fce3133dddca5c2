import Transports

extension Schema {
    static let tls: [Setting<Settings>] = [
        .text(
            "tls.certificate", \.tls.certificateFile, allowed: "\"\" (none), or the path of a PEM file",
            "For stomps:// and wss://: the broker's certificate, then its issuers. SIGHUP reads it again.",
            accepts: isPlainText),
        .text(
            "tls.key", \.tls.keyFile, allowed: "\"\" (it is in the file of tls.certificate), or the path of a PEM file",
            "The private key of tls.certificate, not encrypted.",
            accepts: isPlainText),
        Setting(
            path: "tls.certificates",
            form: .list(allowed: TLSSettings.pairAllowed, accepts: { TLSSettings.pair($0) != nil }),
            why: "Certificates for further names, chosen by what the client asks for (SNI); *.example.org too.",
            get: { .list($0.tls.furtherCertificates) },
            set: { settings, value in
                if case .list(let items) = value { settings.tls.furtherCertificates = items }
            },
            mayBeEmpty: true),
        .choice(
            "tls.client-certificates", \.tls.clientCertificates,
            "Whether clients show certificates. optional: they may. required: who has none is refused."),
        .text(
            "tls.client-ca", \.tls.clientAuthoritiesFile, allowed: "\"\" (none), or the path of a PEM file",
            "The issuers of clients' certificates.",
            accepts: isPlainText),
        .choice(
            "tls.version-min", \.tls.versionMin,
            "The oldest version of TLS. 1.3 refuses clients from before 2018."),
    ]
    private static let isPlainText: @Sendable (String) -> Bool = { text in
        !text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }
    }
}
