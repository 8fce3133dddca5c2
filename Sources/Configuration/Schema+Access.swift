public import Access

extension Schema {
    /// The keys of the section `access`: every field of `AccessSettings`.
    static let access: [Setting<Settings>] = users + sharedSecretTokens + webTokens + connections + service

    private static let users: [Setting<Settings>] = [
        .file(
            "access.users", \.access.usersFile,
            "The users file: names, password hashes, roles (`stampede user` edits it). SIGHUP reads it again."),
        .names(
            "access.anonymous-roles", \.access.anonymousRoles,
            "What clients without a login may do: roles of the users file. \"\": they need a login."),
        .count(
            "access.threads", \.access.threadCount, 1...64,
            "Threads that check logins: a hash takes ms, and 16 MiB. One more is for addresses that flood."),
        .milliseconds(
            "access.remember-ms", \.access.rememberMilliseconds, 1000...86_400_000, zero: "not at all",
            "How long a password that was right is remembered, so that reconnecting clients cost no hash."),
        .milliseconds(
            "access.failure-delay-ms", \.access.failureDelayMilliseconds, 1...10_000, zero: "no delay",
            "How long the answer to a wrong login waits; it doubles with each of an address, up to 2 s."),
    ]

    private static let sharedSecretTokens: [Setting<Settings>] = [
        .file(
            "access.token.secret-file", \.access.tokenSecretFile,
            "A shared secret of 16 bytes or more: takes logins \"USER EPOCH NONCE\" whose passcode proves it."),
        .choice(
            "access.token.algorithm", \.access.tokenAlgorithm, AccessSettings.tokenAlgorithms.map { ($0, $0) },
            "The passcode is base64: sha1 of login and secret (xtomp's clients), or hmac-sha256 of the login."),
        .milliseconds(
            "access.token.timeout-ms", \.access.tokenMilliseconds, 1000...86_400_000,
            "How far EPOCH, in seconds, may be from the broker's clock. Until then it can be used again."),
        .names(
            "access.token.roles", \.access.tokenRoles,
            "Roles of those whom the users file does not name."),
    ]

    private static let webTokens: [Setting<Settings>] = [
        .file(
            "access.jwt.key-file", \.access.jwtKeyFile,
            "A public key in PEM (RS256, ES256 or EdDSA by its kind): takes JSON Web Tokens as passcodes."),
        .file(
            "access.jwt.secret-file", \.access.jwtSecretFile,
            "A shared secret of 32 bytes or more, for tokens signed with HS256."),
        .file(
            "access.jwt.jwks-file", \.access.jwtKeySetFile,
            "A key set (RFC 7517), for tokens that name their key by `kid`."),
        .words(
            "access.jwt.issuer", \.access.jwtIssuer, "any",
            "What `iss` of a token must be."),
        .words(
            "access.jwt.audience", \.access.jwtAudience, "tokens with `aud` are refused",
            "What `aud` of a token must be, or contain."),
        .words(
            "access.jwt.claim", \.access.jwtClaim, nil,
            "The claim that says what a token allows: names of roles, or an object of roles and patterns."),
        .names(
            "access.jwt.roles", \.access.jwtRoles,
            "Roles of tokens without that claim."),
    ]

    private static let connections: [Setting<Settings>] = [
        .choice(
            "access.certificate.user-from", \.access.certificateField,
            "Clients' certificates are logins: what in them is the user (san-: the first of the kind; dn: RFC 2253)."),
        .names(
            "access.certificate.roles", \.access.certificateRoles,
            "Roles of those whom the users file does not name. \"\": they are refused."),
        .names(
            "access.uid.roles", \.access.systemUserRoles,
            "Roles, on Unix sockets, of system users whom no `system-users` of the users file names. \"\": refused."),
    ]
}

extension Schema {
    private static let service: [Setting<Settings>] = [
        .text(
            "access.http.user-path", \.access.serviceUserURL, allowed: serviceAllowed,
            "A service that decides about logins nobody else knows, by RabbitMQ's HTTP protocol.",
            accepts: acceptsService),
        .text(
            "access.http.vhost-path", \.access.serviceVirtualHostURL, allowed: serviceAllowed,
            "Is asked too, about user, address and virtual host (\"/\" without hosts).",
            accepts: acceptsService),
        .choice(
            "access.http.method", \.access.serviceMethod, AccessSettings.serviceMethods.map { ($0, $0) },
            "get: passwords are in the URL, as RabbitMQ has it by default, and so in the service's log."),
        .file(
            "access.http.ca", \.access.serviceAuthoritiesFile,
            "The issuers of the service's certificate, with https://. \"\": those that the system trusts."),
        .names(
            "access.http.roles", \.access.serviceRoles,
            "Roles of users without tags that are names of roles. \"\": they are refused."),
        .milliseconds(
            "access.http.timeout-ms", \.access.serviceMilliseconds, 10...60_000,
            "How long an answer of the service may take. Then the login is refused."),
        .count(
            "access.http.connections-max", \.access.serviceConnectionCountMax, 1...64,
            "Connections to the service, and questions at a time. Other logins of the service wait for their turn."),
        .milliseconds(
            "access.http.remember-ms", \.access.serviceRememberMilliseconds, 1000...86_400_000, zero: "not at all",
            "How long it is remembered that the service has allowed a login and passcode."),
    ]

    private static let serviceAllowed = "\"\" (none), or a URL: \(ServiceURL.allowed)"

    private static let acceptsService: @Sendable (String) -> Bool = { $0.isEmpty || ServiceURL($0) != nil }
}

extension Setting where Root == Settings {
    /// Text without control characters; `empty` says what an empty one means. nil: it may not be empty.
    fileprivate static func words(
        _ path: String, _ field: Field<String>, _ empty: String?, _ why: String
    ) -> Setting {
        text(
            path, field, allowed: "text without control characters" + (empty.map { ", or \"\" (\($0))" } ?? ""), why,
            accepts: { text in
                (empty != nil || !text.isEmpty)
                    && !text.unicodeScalars.contains { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) }
            })
    }

    fileprivate static func file(_ path: String, _ field: Field<String>, _ why: String) -> Setting {
        text(
            path, field, allowed: "the name of a file, or \"\" (none)", why,
            accepts: { !$0.unicodeScalars.contains { $0.value < 0x20 } })
    }

    fileprivate static func names(_ path: String, _ field: Field<String>, _ why: String) -> Setting {
        text(
            path, field, allowed: "names of roles, separated by commas, or \"\" (none)", why,
            accepts: { !$0.unicodeScalars.contains { $0.value < 0x20 } })
    }
}

extension EffectiveSettings {
    /// A key without the one that it depends on would have no effect, and somebody would believe that it has one.
    mutating func checkAccess() {
        let access = settings.access
        let sections: [(prefix: String, isOn: Bool, needs: String)] = [
            ("access.token.", !access.tokenSecretFile.isEmpty, "access.token.secret-file"),
            (
                "access.jwt.",
                !access.jwtKeyFile.isEmpty || !access.jwtSecretFile.isEmpty || !access.jwtKeySetFile.isEmpty,
                "access.jwt.key-file, access.jwt.secret-file or access.jwt.jwks-file"
            ),
            ("access.http.", access.usesService, "access.http.user-path"),
            ("access.certificate.", access.usesCertificates, "access.certificate.user-from"),
            (
                "access.", access.isOn,
                "access.users, access.token.secret-file, access.certificate.user-from, access.http.user-path or a key "
                    + "of access.jwt"
            ),
        ]
        for (prefix, isOn, needs) in sections where !isOn {
            let keys = Schema.access.filter { $0.path.hasPrefix(prefix) && origins[$0.path] != nil }
            guard let key = keys.first(where: { $0.get(settings) != $0.get(Settings()) }) else { continue }
            report(
                origin(of: key.path), key.path, "has no effect, because nobody is asked who they are; set \(needs), too"
            )
            return
        }
        checkCertificateLogins()
        checkService()
        if !access.systemUserRoles.isEmpty, !settings.listeners.contains(where: \.isUnix) {
            report(
                origin(of: "access.uid.roles"), "access.uid.roles",
                "has no effect: no listener is a Unix socket; allowed: with unix:/PATH")
        }
        let pending = settings.broker.limits.preConnectByteCountMax
        if !access.jwtKeyFile.isEmpty || !access.jwtKeySetFile.isEmpty, pending < Self.tokenByteCountMin {
            report(
                origin(of: "limits.pre-connect-bytes"), "limits.pre-connect-bytes",
                "found \(Unit.bytes.format(pending)), too little for a CONNECT with a token; allowed with access.jwt: at "
                    + "least \(Unit.bytes.format(Self.tokenByteCountMin))")
        }
    }

    /// A problem of the files of access in one line, with the place of the key that names the file.
    public func description(of problem: AccessProblem) -> String {
        guard let key = problem.key, let origin = origins[key] else { return problem.description }
        return "\(origin.place): \(problem.description)"
    }

    private static var tokenByteCountMin: Int { 2048 }

    /// Passwords do not leave the machine in clear text.
    private mutating func checkService() {
        let access = settings.access
        for (path, text) in [
            ("access.http.user-path", access.serviceUserURL), ("access.http.vhost-path", access.serviceVirtualHostURL),
        ] {
            guard let url = ServiceURL(text), !url.isTLS, !url.isLoopback else { continue }
            report(
                origin(of: path), path,
                "found \(url), which others on the network could read; allowed: https://, or http:// to 127.0.0.1, [::1] "
                    + "or localhost")
        }
        if !access.serviceAuthoritiesFile.isEmpty, access.usesService, !access.serviceUsesTLS {
            report(
                origin(of: "access.http.ca"), "access.http.ca",
                "has no effect: the service has no TLS; allowed: with https://")
        }
    }

    private mutating func checkCertificateLogins() {
        guard settings.access.usesCertificates else { return }
        let path = "access.certificate.user-from"
        if !settings.usesTLS {
            report(origin(of: path), path, "has no effect: no listener has TLS; allowed: with stomps:// or wss://")
        } else if settings.tls.clientCertificates == .none {
            report(
                origin(of: path), path,
                "has no effect: clients are asked for no certificate; set tls.client-certificates to optional or required, "
                    + "and tls.client-ca")
        }
    }
}
