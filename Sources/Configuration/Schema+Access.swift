import Access

extension Schema {
    /// The keys of the section `access`: every field of `AccessSettings`.
    static let access: [Setting<Settings>] = users + sharedSecretTokens + webTokens

    private static let users: [Setting<Settings>] = [
        .file(
            "access.users", \.access.usersFile,
            "The users file: names, password hashes, roles (`stampede user` edits it). SIGHUP reads it again."),
        .names(
            "access.anonymous-roles", \.access.anonymousRoles,
            "What clients without a login may do: roles of the users file. \"\": they need a login."),
        .count(
            "access.threads", \.access.threadCount, 1...64,
            "Threads that check logins: a password takes milliseconds, and its hash about 16 MiB meanwhile."),
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
            ("access.", access.isOn, "access.users, access.token.secret-file or a key of access.jwt"),
        ]
        for (prefix, isOn, needs) in sections where !isOn {
            let keys = Schema.access.filter { $0.path.hasPrefix(prefix) && origins[$0.path] != nil }
            guard let key = keys.first(where: { $0.get(settings) != $0.get(Settings()) }) else { continue }
            report(
                origin(of: key.path), key.path, "has no effect, because nobody is asked who they are; set \(needs), too"
            )
            return
        }
        let pending = settings.broker.limits.preConnectByteCountMax
        if !access.jwtKeyFile.isEmpty || !access.jwtKeySetFile.isEmpty, pending < Self.tokenByteCountMin {
            report(
                origin(of: "limits.pre-connect-bytes"), "limits.pre-connect-bytes",
                "found \(Unit.bytes.format(pending)), too little for a CONNECT with a token; allowed with access.jwt: at "
                    + "least \(Unit.bytes.format(Self.tokenByteCountMin))")
        }
    }

    private static var tokenByteCountMin: Int { 2048 }
}
