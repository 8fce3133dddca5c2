extension Attack {
    /// The listener that an attack goes to, beside the one of the honest clients, and what the broker needs for it.
    public enum Door: Sendable {
        /// That of the honest clients.
        case front
        case tls
        case webSocket
        /// The same with compression, and with memory for few messages of which a part has come.
        case compressedWebSocket
        /// Clients come through a proxy of another network.
        case otherProxies
        /// Clients come through any proxy.
        case anyProxy
        /// That of the honest clients, who need a login.
        case login

        /// Its entry in the list `listeners`. nil: it is the front door.
        public func listener(_ address: String) -> String? {
            switch self {
            case .front, .login: nil
            case .tls: "\"stomps://\(address)\""
            case .webSocket: "\"ws://\(address)\""
            case .compressedWebSocket:
                "{url: \"ws://\(address)\", compression: true, compression-memory-bytes: 1MiB}"
            case .otherProxies: "{url: \"\(address)\", proxy-protocol: 192.0.2.0/24}"
            case .anyProxy: "{url: \"\(address)\", proxy-protocol: true}"
            }
        }

        /// Configuration keys.
        ///
        /// - Parameter folder: where `server.pem` and `server.key` are, and what `files` are written.
        public func settings(folder: String) -> [String: String] {
            switch self {
            case .front, .webSocket, .compressedWebSocket, .otherProxies, .anyProxy: [:]
            case .tls: ["tls.certificate": "\(folder)/server.pem", "tls.key": "\(folder)/server.key"]
            case .login:
                [
                    "access.users": "\(folder)/attack-users.yaml",
                    "access.jwt.secret-file": "\(folder)/attack-secret", "access.jwt.audience": "stampede",
                    "access.failure-delay-ms": "50",
                ]
            }
        }

        /// Names and texts of files. The honest clients' login is guest, with the passcode guest.
        public var files: [(name: String, text: String)] {
            guard self == .login else { return [] }
            return [("attack-users.yaml", Self.users), ("attack-secret", Self.tokenSecret)]
        }

        private static let users = """
            users:
              guest:
                hash: "$rabbitmq$AQIDBEMMOXwY6PKx/JKP9PAqfsb4ozuD0Ta3pxxa9gEYBMmD"
                roles: [anything]
            roles:
              anything:
                publish: "#"
                subscribe: "#"

            """
        static let tokenSecret = "stampede-attacks-shared-secret-of-48-bytes-xxxxx"
    }

    public var door: Door {
        switch self {
        case .handshakes, .halfHandshakes, .tinyRecords: .tls
        case .requests, .slowRequests, .origins, .pings, .unmasked, .fragments, .frameLengths, .compression: .webSocket
        case .inflation, .halfMessages: .compressedWebSocket
        case .forgedProxies: .otherProxies
        case .brokenProxies: .anyProxy
        case .wrongLogins, .badTokens: .login
        case .trickle, .silence, .headerFlood, .endlessHeaders, .endlessBodies, .heldBodies, .hugeLengths,
            .subscriptions, .patterns, .longIdentifiers, .transactions, .sleepers, .silentReceivers, .fullQueue,
            .manyQueues, .destinations, .hoarders, .logFlood:
            .front
        }
    }
}
